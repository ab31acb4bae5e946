// SPDX-License-Identifier: MIT
// Regions: the host windows behind a space's addresses. All under the space's mmap_lock for write,
// unless said otherwise.
#ifndef GODWIT_VIRT_REGION_H
#define GODWIT_VIRT_REGION_H

#include "virt/space.h"

// Reserve the host addresses for [*addr, *addr + len) of the space. `own`: the address is the host
// pointer itself, and *addr 0 means anywhere, and is set. The region has no vma yet.
// -ENOMEM, -EEXIST (own: the host has something there).
int region_open(struct space *, uint64_t *addr, uint64_t len, uint64_t align, bool own,
	struct region **ret_region);
// One vma more, one less lies in it. When the last one goes (or none came: region_discard()) its
// window is closed by space_write_unlock().
void region_get(struct region *);
void region_put(struct region *, struct space *);
void region_discard(struct region *, struct space *);
// All of [addr, addr + len) lies inside.
bool region_covers(const struct region *, uint64_t addr, uint64_t len);
uintptr_t region_host(const struct region *, uint64_t addr);
uint64_t region_addr(const struct region *, uintptr_t host);
// Its addresses are host pointers.
bool region_is_own(const struct region *);
// The region whose window holds this host address, or NULL. mmap_lock held.
struct region *region_of_host(struct space *, uintptr_t host);

// An access at this host address is refused, and the host is told so. mmap_lock held.
void space_note_refusal(struct space *, uintptr_t host);
// Accesses to [start, end) of the vma are permitted that were refused before: where nothing is
// mapped, the host asks again.
void vma_forget_refusals(struct vma *, uint64_t start, uint64_t end);

// Drop mmap_lock, then close what became unused under it: an access in flight, which closing may
// wait for, may need the lock itself.
void space_write_unlock(struct space *space) RELEASE(&space->mmap_lock);

#endif
