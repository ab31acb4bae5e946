// SPDX-License-Identifier: MIT
// The making and linking of vmas and regions: what map, split, merge, remap and fork share. All of
// it under the space's mmap_lock for write, unless said otherwise.
#ifndef GODWIT_VIRT_VMA_H
#define GODWIT_VIRT_VMA_H

#include "virt/gather.h"
#include "virt/mm.h"
#include "virt/space.h"

struct folio;

// Reserve the host addresses for [addr, addr + len) of the space; `own`: the address is the host
// pointer itself. *addr 0: any place will do (own only), and is set. The region has no vma yet.
// -ENOMEM, -EEXIST (own: the host has something there).
int region_open(struct space *, uint64_t *addr, uint64_t len, uint64_t align, bool own,
	struct region **ret_region);
// One vma less lies in it (or none was made): the last one gives the region to be closed.
void region_put(struct region *, struct space *);
uintptr_t region_host(const struct region *, uint64_t addr);
// The region whose window holds this host address, or NULL. mmap_lock held.
struct region *region_of_host(struct space *, uintptr_t host);
// Drop mmap_lock, then close what became free under it: an access in flight may need the lock.
void space_write_unlock(struct space *space) RELEASE(&space->mmap_lock);

// A vma of [start, end) that is on no tree yet, with its references to region, object and policy.
// NULL: no memory.
struct vma *vma_create(struct space *, uint64_t start, uint64_t end, unsigned flags,
	struct region *, struct object *, uint64_t pgoff, struct mempolicy *);
// Undo vma_create(): not on a tree any more, no anon_vma.
void vma_free(struct vma *);
void vma_link(struct vma *);   // into space->vmas and the object's i_mmap
void vma_unlink(struct vma *); // out of both, and out of its anon_vmas

// The rmap locks of a vma for write: of its object, then of its anon_vmas' root.
void vma_rmap_lock(struct vma *) NO_THREAD_SAFETY_ANALYSIS;
void vma_rmap_unlock(struct vma *) NO_THREAD_SAFETY_ANALYSIS;

// Every byte of [start, end) lies in a vma.
bool space_range_mapped(struct space *, uint64_t start, uint64_t end);
// Nothing lies in [start, end).
bool space_range_free(struct space *, uint64_t start, uint64_t end);
// Make start and end boundaries of vmas. On failure the vmas are as before.
int space_split_range(struct space *, uint64_t start, uint64_t end);
// Merge what can be merged in [start, end) and with its two neighbours.
void space_merge_range(struct space *, uint64_t start, uint64_t end);
// Unmap [start, end), which begins and ends at vma boundaries. Cannot fail.
void space_remove_range(struct space *, uint64_t start, uint64_t end);

// A huge entry that has addr in its middle becomes a table. mmap_lock held in any way. 0, -ENOMEM.
int vma_split_huge_at(struct vma *, uint64_t addr);

// zap_range() that reports a huge entry it had to leave because it could not be split (-ENOMEM).
int zap_pages(struct vma *, uint64_t start, uint64_t end);

// The counter of a space in which the pages of this folio are counted.
_Atomic long *space_rss(struct space *, const struct folio *);

// The pages of [start, end) get (lose) VM_LOCKED's consequences; the vma has its new flags already.
void mlock_vma_pages(struct vma *, uint64_t start, uint64_t end);
void munlock_vma_pages(struct vma *, uint64_t start, uint64_t end);
// Fault in every page of [start, end) that the vmas allow to be read or, if `write`, written.
// mmap_lock not held. 0, or handle_fault()'s errno; -ENOMEM for a hole.
int space_populate(struct space *, struct task *, uint64_t start, uint64_t end, bool write);

#endif
