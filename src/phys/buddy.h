// SPDX-License-Identifier: MIT
// The buddy: a zone's free blocks of 1, 2, 4 ... 1024 pages, kept by the migratetype of their
// pageblock so that what cannot move stays together. All functions but the statistics want the
// zone's lock held, touch only head frames, never sleep and make no system call.
#ifndef GODWIT_PHYS_BUDDY_H
#define GODWIT_PHYS_BUDDY_H

#include "phys/zone.h"

// The head frame of a block of the order for such a request, off the free areas, or NULL. Falls
// back to other migratetypes by the kernel's rules; flags: ALLOC_CMA, ALLOC_NOFRAGMENT,
// ALLOC_HIGHATOMIC.
struct frame *buddy_alloc(struct zone *zone, unsigned order, enum migratetype type,
	unsigned alloc_flags) REQUIRES(&zone->lock);

// A block comes back; it merges with its free buddies. Its type is its pageblock's.
void buddy_free(struct zone *zone, struct frame *head, unsigned order) REQUIRES(&zone->lock);
// The same, to be used last: its bytes are not backed.
void buddy_free_tail(struct zone *zone, struct frame *head, unsigned order) REQUIRES(&zone->lock);
// A range of freed frames comes back as the largest blocks it holds; to_tail: to be used last.
void buddy_free_range(struct zone *zone, uint64_t pfn, uint64_t nr, bool to_tail)
	REQUIRES(&zone->lock);

// Take this free block out of the areas (it keeps no state); `order` is what buddy_order() says.
void buddy_remove(struct zone *zone, struct frame *head, unsigned order) REQUIRES(&zone->lock);

// The free block that contains the frame, and its order; NULL when the frame is not free.
struct frame *buddy_find(struct zone *zone, struct frame *frame, unsigned *ret_order)
	REQUIRES(&zone->lock);

// As the kernel's __isolate_free_page: take this free block if the zone stays above its min
// watermark + 2^order (blocks of ISOLATE pageblocks always). Whole MOVABLE-compatible pageblocks
// become MOVABLE when order >= 8. 0: refused, else the number of pages.
unsigned long buddy_isolate_block(struct zone *zone, struct frame *head, unsigned order)
	REQUIRES(&zone->lock);

// All free blocks inside [pfn, pfn + 512) move to the lists of `type`, which the pageblock gets.
// Returns how many pages moved.
unsigned long buddy_move_pageblock(struct zone *zone, uint64_t pfn, enum migratetype type)
	REQUIRES(&zone->lock);

// Reserve the pageblock of a frame for HIGHATOMIC requests, up to 1% of the zone; give one such
// block back to `type` when user allocations fail (the last one only when forced). true when one
// was given back.
void buddy_reserve_highatomic(struct zone *zone, struct frame *frame) REQUIRES(&zone->lock);
bool buddy_unreserve_highatomic(struct zone *zone, enum migratetype type, bool force)
	REQUIRES(&zone->lock);

// ---- Between buddy.c and buddy_fallback.c

// The smallest block of the order or above on the type's own lists, split down; or NULL.
struct frame *buddy_take_smallest(struct zone *zone, unsigned order, enum migratetype type)
	REQUIRES(&zone->lock);
// This block of `high` from the lists of `type`, split down to `order`.
struct frame *buddy_take_split(struct zone *zone, struct frame *head, unsigned order, unsigned high,
	enum migratetype type) REQUIRES(&zone->lock);
// From the lists of other types: claim a pageblock, else steal.
struct frame *buddy_alloc_fallback(struct zone *zone, unsigned order, enum migratetype type,
	unsigned alloc_flags) REQUIRES(&zone->lock);

// Order of a free block's head; only meaningful with BUDDY set (zone lock), else a hint to skip by.
static inline unsigned buddy_order(const struct frame *head)
{
	return atomic_load_explicit(&head->index, memory_order_relaxed);
}

#endif
