// SPDX-License-Identifier: MIT
// The making and linking of vmas, and what the system calls on ranges share: map, split, merge,
// protect, remap, advise, lock. All of it under the space's mmap_lock for write, unless said
// otherwise.
#ifndef GODWIT_VIRT_VMA_H
#define GODWIT_VIRT_VMA_H

#include "virt/gather.h"
#include "virt/mm.h"
#include "virt/rss.h"
#include "virt/region.h"
#include "virt/space.h"

// Addresses a space may use.
#define SPACE_START (64ull << 10)
#define SPACE_END (1ull << 47)

// A vma of [start, end) that is on no tree yet, with its references to region, object and policy.
// NULL: no memory.
struct vma *vma_create(struct space *, uint64_t start, uint64_t end, unsigned flags,
	struct region *, struct object *, uint64_t pgoff, struct mempolicy *);
// Undo vma_create(): not on a tree any more, no anon_vma.
void vma_free(struct vma *);
void vma_link(struct vma *);   // into space->vmas and the object's i_mmap
void vma_unlink(struct vma *); // out of both, and out of its anon_vmas

// The rmap locks of a vma for write: of its object, then of its anon_vmas' root.
void vma_rmap_lock(struct vma *);
void vma_rmap_unlock(struct vma *);
// Change a vma's place in its own space's tree to what its start and end say now.
void vma_replace(struct vma *);

static inline uint64_t vma_pages(const struct vma *vma)
{
	return (vma->end - vma->start) >> PAGE_SHIFT;
}

// [addr, addr + len) as whole pages: -EINVAL when addr is not aligned or the end wraps.
int space_range(uint64_t addr, uint64_t len, uint64_t *ret_end);
// Every byte of [start, end) lies in a vma. mmap_lock held.
bool space_range_mapped(struct space *, uint64_t start, uint64_t end);
// Where the first hole begins; `end` when there is none.
uint64_t space_mapped_until(struct space *, uint64_t start, uint64_t end);
// Nothing lies in [start, end). mmap_lock held.
bool space_range_free(struct space *, uint64_t start, uint64_t end);
// Make start and end boundaries of vmas. On failure the vmas are as before.
int space_split_range(struct space *, uint64_t start, uint64_t end);
// The same, but a vma of which changes() is false is not cut; it may reach out of the range then.
int space_split_changing(struct space *, uint64_t start, uint64_t end,
	bool (*changes)(const struct vma *, const void *arg), const void *arg);
// Undo a split there.
void space_unsplit(struct space *, uint64_t addr);
// Unmap [start, end), which begins and ends at vma boundaries. Cannot fail.
void space_remove_range(struct space *, uint64_t start, uint64_t end);
// Free page tables that only [start, end), which has no vma, used.
void space_free_tables(struct space *, uint64_t start, uint64_t end);
// Room for len bytes by number, 0 when there is none.
uint64_t space_find_room(struct space *, uint64_t len, uint64_t align);

// zap_range() that reports a huge entry it had to leave because it could not be split (-ENOMEM).
// mmap_lock held in any way.
int zap_pages(struct vma *, uint64_t start, uint64_t end);

// The pages of [start, end) get (lose) the consequences of VM_LOCKED; the vma has its new flags
// already. mmap_lock held in any way.
void mlock_vma_pages(struct vma *, uint64_t start, uint64_t end);
void munlock_vma_pages(struct vma *, uint64_t start, uint64_t end);
// A locked vma maps the folio no more, to which the caller has a reference: it stays MLOCKED if
// another one does. mmap_lock held in any way, no page-table lock.
void munlock_folio(struct folio *);
// Fault in every page of [start, end): for reading, for writing, or as mlock does (for writing
// where that makes a private page). mmap_lock not held. 0, handle_fault()'s errno, -ENOMEM: a hole.
enum populate { POPULATE_READ, POPULATE_WRITE, POPULATE_LOCK };
int space_populate(struct space *, struct task *, uint64_t start, uint64_t end, enum populate);
// What of [start, end) is private, writable and locked is faulted in as by mlock, as far as it can
// be. mmap_lock not held.
void mlock_populate_private(struct space *, uint64_t start, uint64_t end);
// Every page of [start, end) that KSM shares becomes the task's own again. mmap_lock not held.
// 0, -ENOMEM.
int space_break_ksm(struct space *, uint64_t start, uint64_t end);

// ---- A walk over the entries of a vma

// Called with the table locked (through the gather), for a huge entry (present or not) and for a
// stretch of nr entries of one PTE table, of which some are used. The callback may queue on the
// gather, which is flushed before the lock is dropped.
struct vma_walk {
	void (*huge)(struct vma_walk *, struct page_table *pmd, uint64_t addr);
	void (*pages)(struct vma_walk *, struct page_table *, uint64_t addr, unsigned nr);
	bool keep_huge; // hand over huge entries that reach out of the range, too: no split
	void *arg;
	struct vma *vma; // set by vma_walk()
	struct gather g;
};

// Huge entries that reach out of [start, end) are split first, unless keep_huge; -ENOMEM when that
// fails (the rest is walked nevertheless). mmap_lock held in any way.
int vma_walk(struct vma_walk *, struct vma *, uint64_t start, uint64_t end);
// A huge entry that has addr in its middle becomes a table. mmap_lock held in any way. 0, -ENOMEM,
// -EINVAL (hugetlb).
int vma_split_huge_at(struct vma *, uint64_t addr);

#endif
