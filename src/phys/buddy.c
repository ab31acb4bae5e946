// SPDX-License-Identifier: MIT
// The buddy allocator of one zone.
//
// A free block of order n is 2^n frames whose first pfn is a multiple of 2^n. Only its head frame
// carries state: flag BUDDY, the order in `index`, and links on free_area[n].list[type], where type
// is the migratetype of its pageblock. Two free blocks of the same order that are halves of one
// block of the next order never both exist: buddy_free() merges until the other half is not free,
// so a wholly free zone is as few blocks as its ends allow. Blocks of different types merge only
// at order 9 and above, and never when one of the types is ISOLATE, CMA or HIGHATOMIC; the merged
// block then takes the type of the one that came.
//
// Numbers: free_area.nr counts blocks by order and type; nr_free counts pages except those in
// ISOLATE pageblocks, which nobody may allocate. Everything is under the zone lock; the numbers are
// atomics only so that watermark checks may read them without it.
#include "phys/buddy.h"
#include "base/assert.h"
#include "base/mark.h"

static bool type_mergeable(enum migratetype type)
{
	return type < MIGRATE_PCPTYPES;
}

static void count_add(_Atomic unsigned long *count, long n) // the zone lock is held
{
	unsigned long old = atomic_load_explicit(count, memory_order_relaxed);

	atomic_store_explicit(count, old + (unsigned long)n, memory_order_relaxed);
}

// Pages of a type become free (or, negative, not).
static void account_free(struct zone *zone, long nr, enum migratetype type)
{
	struct vmstat *stat = zone_phys(zone)->stat;

	if (type == MIGRATE_ISOLATE)
		return;
	count_add(&zone->nr_free, nr);
	vmstat_add(stat, zone->node->nid, VM_NR_FREE_PAGES, nr);
	if (type == MIGRATE_CMA) {
		count_add(&zone->nr_free_cma, nr);
		vmstat_add(stat, zone->node->nid, VM_NR_FREE_CMA, nr);
	} else if (type == MIGRATE_HIGHATOMIC) {
		count_add(&zone->nr_free_highatomic, nr);
	}
}

static void list_block(
	struct zone *zone, struct frame *head, unsigned order, enum migratetype type, bool to_tail)
{
	struct free_area *area = &zone->free_area[order];

	atomic_store_explicit(&head->index, order, memory_order_relaxed);
	atomic_store_explicit(&head->flags, 1u << PG_BUDDY, memory_order_release);
	if (to_tail)
		frame_list_add_tail(&area->list[type], head);
	else
		frame_list_add(&area->list[type], head);
	count_add(&area->nr[type], 1);
}

static void unlist_block(
	struct zone *zone, struct frame *head, unsigned order, enum migratetype type)
{
	struct free_area *area = &zone->free_area[order];

	assert_that(frame_test(head, PG_BUDDY) && buddy_order(head) == order,
		"pfn %#lx is no free block of order %u", (unsigned long)frame_pfn(head).n, order);
	frame_list_del(&area->list[type], head);
	count_add(&area->nr[type], -1);
	atomic_store_explicit(&head->flags, 0, memory_order_relaxed);
	atomic_store_explicit(&head->index, 0, memory_order_relaxed);
}

static bool block_in_zone(const struct zone *zone, uint64_t pfn, unsigned order)
{
	return pfn >= zone->start_pfn && pfn + (1ul << order) <= zone_end_pfn(zone);
}

// The largest order within a pageblock of a block that begins at pfn and has at most nr pages.
static unsigned fitting_order(uint64_t pfn, uint64_t nr)
{
	unsigned order = PAGEBLOCK_ORDER;

	while (!IS_ALIGNED(pfn, 1ul << order) || 1ul << order > nr)
		order--;
	return order;
}

// The other half, if it is a free block that may merge; its type in ret_type.
static struct frame *merge_partner(struct zone *zone, uint64_t pfn, unsigned order,
	enum migratetype type, enum migratetype *ret_type)
{
	uint64_t partner = pfn ^ 1ul << order;
	struct frame *frame = pfn_frame(pfn_of(partner));

	if (!block_in_zone(zone, partner, order) || !frame_test(frame, PG_BUDDY) ||
		buddy_order(frame) != order)
		return NULL;
	*ret_type = order < PAGEBLOCK_ORDER ? type : pageblock_type(zone, partner);
	if (*ret_type != type && !(type_mergeable(type) && type_mergeable(*ret_type)))
		return NULL;
	return frame;
}

static void set_types(struct zone *zone, uint64_t pfn, unsigned order, enum migratetype type)
{
	for (uint64_t p = pfn; p < pfn + (1ul << order); p += PAGEBLOCK_NR)
		pageblock_set_type(zone, p, type);
}

static void free_block(struct zone *zone, struct frame *head, unsigned order, bool to_tail)
	REQUIRES(&zone->lock)
{
	uint64_t pfn = frame_pfn(head).n;
	enum migratetype type = pageblock_type(zone, pfn), other;
	struct frame *partner;

	mutex_assert_held(&zone->lock);
	assert_that(IS_ALIGNED(pfn, 1ul << order) && block_in_zone(zone, pfn, order),
		"pfn %#lx order %u is no block of its zone", (unsigned long)pfn, order);
	assert_that(!frame_flags(head) && !atomic_load(&head->refcount),
		"freed pfn %#lx has flags %#x, %u references", (unsigned long)pfn,
		frame_flags(head), atomic_load(&head->refcount));
	account_free(zone, 1l << order, type);
	while (order < MAX_PAGE_ORDER) {
		partner = merge_partner(zone, pfn, order, type, &other);
		if (!partner)
			break;
		unlist_block(zone, partner, order, other);
		if (other != type) {
			MARK(buddy_merge_types);
			set_types(zone, frame_pfn(partner).n, order, type);
		}
		pfn &= ~(1ul << order);
		order++;
	}
	list_block(zone, pfn_frame(pfn_of(pfn)), order, type, to_tail);
}

// A block larger than a pageblock comes by its pageblocks: their types may differ by now.
static void free_parts(struct zone *zone, struct frame *head, unsigned order, bool to_tail)
	REQUIRES(&zone->lock)
{
	unsigned part = min(order, (unsigned)PAGEBLOCK_ORDER);

	for (unsigned long i = 0; i < 1ul << order; i += 1ul << part)
		free_block(zone, head + i, part, to_tail);
}

void buddy_free(struct zone *zone, struct frame *head, unsigned order)
{
	free_parts(zone, head, order, false);
}

void buddy_free_tail(struct zone *zone, struct frame *head, unsigned order)
{
	free_parts(zone, head, order, true);
}

void buddy_free_range(struct zone *zone, uint64_t pfn, uint64_t nr, bool to_tail)
{
	while (nr) {
		unsigned order = fitting_order(pfn, nr);
		free_block(zone, pfn_frame(pfn_of(pfn)), order, to_tail);
		pfn += 1ul << order;
		nr -= 1ul << order;
	}
}

struct frame *buddy_take_split(
	struct zone *zone, struct frame *head, unsigned order, unsigned high, enum migratetype type)
{
	unlist_block(zone, head, high, type);
	while (high > order) {
		high--;
		list_block(zone, head + (1ul << high), high, type, false);
	}
	account_free(zone, -(1l << order), type);
	return head;
}

struct frame *buddy_take_smallest(struct zone *zone, unsigned order, enum migratetype type)
{
	for (unsigned high = order; high < NR_PAGE_ORDERS; high++) {
		struct frame *head = frame_list_first(&zone->free_area[high].list[type]);
		if (head)
			return buddy_take_split(zone, head, order, high, type);
	}
	return NULL;
}

// Movable requests take CMA first while it is more than half of what is free, so that it is not
// left over when everything else is used.
static bool prefer_cma(const struct zone *zone)
{
	return atomic_load_explicit(&zone->nr_free_cma, memory_order_relaxed) >
	       zone_nr_free(zone) / 2;
}

struct frame *buddy_alloc(
	struct zone *zone, unsigned order, enum migratetype type, unsigned alloc_flags)
{
	struct frame *head = NULL;

	mutex_assert_held(&zone->lock);
	if (alloc_flags & ALLOC_HIGHATOMIC)
		head = buddy_take_smallest(zone, order, MIGRATE_HIGHATOMIC);
	if (!head && alloc_flags & ALLOC_CMA && prefer_cma(zone))
		head = buddy_take_smallest(zone, order, MIGRATE_CMA);
	if (!head)
		head = buddy_take_smallest(zone, order, type);
	if (!head && alloc_flags & ALLOC_CMA)
		head = buddy_take_smallest(zone, order, MIGRATE_CMA);
	if (!head)
		head = buddy_alloc_fallback(zone, order, type, alloc_flags);
	if (!head && alloc_flags & ALLOC_NON_BLOCK)
		head = buddy_take_smallest(zone, order, MIGRATE_HIGHATOMIC);
	return head;
}

void buddy_remove(struct zone *zone, struct frame *head, unsigned order)
{
	enum migratetype type = pageblock_type(zone, frame_pfn(head).n);

	mutex_assert_held(&zone->lock);
	unlist_block(zone, head, order, type);
	account_free(zone, -(1l << order), type);
}

struct frame *buddy_find(struct zone *zone, struct frame *frame, unsigned *ret_order)
{
	uint64_t pfn = frame_pfn(frame).n;

	mutex_assert_held(&zone->lock);
	for (unsigned order = 0; order < NR_PAGE_ORDERS; order++) {
		uint64_t start = ALIGN_DOWN(pfn, 1ul << order);
		struct frame *head = pfn_frame(pfn_of(start));

		if (start < zone->start_pfn)
			return NULL;
		if (!frame_test(head, PG_BUDDY))
			continue;
		if (buddy_order(head) < order)
			return NULL;
		*ret_order = buddy_order(head);
		return head;
	}
	return NULL;
}

unsigned long buddy_isolate_block(struct zone *zone, struct frame *head, unsigned order)
{
	uint64_t pfn = frame_pfn(head).n;
	unsigned long mark = zone_wmark(zone, WMARK_MIN) + (1ul << order);

	mutex_assert_held(&zone->lock);
	if (pageblock_type(zone, pfn) != MIGRATE_ISOLATE &&
		!zone_watermark_ok(zone, 0, mark, ZONE_NORMAL, ALLOC_CMA))
		return 0;
	buddy_remove(zone, head, order);
	if (order < PAGEBLOCK_ORDER - 1)
		return 1ul << order;
	for (uint64_t p = pfn; p < pfn + (1ul << order); p += PAGEBLOCK_NR)
		if (type_mergeable(pageblock_type(zone, p)))
			buddy_move_pageblock(zone, ALIGN_DOWN(p, PAGEBLOCK_NR), MIGRATE_MOVABLE);
	return 1ul << order;
}

// A free block larger than the pageblock at pfn is cut into pageblocks.
static void cut_larger_block(struct zone *zone, uint64_t pfn) REQUIRES(&zone->lock)
{
	unsigned order;
	struct frame *head = buddy_find(zone, pfn_frame(pfn_of(pfn)), &order);

	if (!head || order <= PAGEBLOCK_ORDER)
		return;
	enum migratetype type = pageblock_type(zone, frame_pfn(head).n);
	unlist_block(zone, head, order, type);
	for (unsigned long i = 0; i < 1ul << order; i += PAGEBLOCK_NR)
		list_block(zone, head + i, PAGEBLOCK_ORDER, type, false);
}

unsigned long buddy_move_pageblock(struct zone *zone, uint64_t pfn, enum migratetype type)
{
	enum migratetype old = pageblock_type(zone, pfn);
	uint64_t end = min(pfn + PAGEBLOCK_NR, zone_end_pfn(zone));
	unsigned long moved = 0;

	mutex_assert_held(&zone->lock);
	cut_larger_block(zone, pfn);
	pageblock_set_type(zone, pfn, type);
	for (uint64_t p = max(pfn, zone->start_pfn); p < end;) {
		struct frame *head = pfn_frame(pfn_of(p));
		if (!frame_test(head, PG_BUDDY)) {
			p++;
			continue;
		}
		unsigned order = buddy_order(head);
		unlist_block(zone, head, order, old);
		account_free(zone, -(1l << order), old);
		buddy_free(zone, head, order); // a whole pageblock may merge with its neighbour
		moved += 1ul << order;
		p += 1ul << order;
	}
	return moved;
}

void buddy_reserve_highatomic(struct zone *zone, struct frame *frame)
{
	unsigned long managed = atomic_load_explicit(&zone->nr_managed, memory_order_relaxed);
	uint64_t pfn = ALIGN_DOWN(frame_pfn(frame).n, PAGEBLOCK_NR);

	mutex_assert_held(&zone->lock);
	if (managed / 100 < PAGEBLOCK_NR ||
		zone->nr_reserved_highatomic >= ALIGN_UP(managed / 100, PAGEBLOCK_NR) ||
		!type_mergeable(pageblock_type(zone, pfn)))
		return;
	MARK(highatomic_reserved);
	buddy_move_pageblock(zone, pfn, MIGRATE_HIGHATOMIC);
	zone->nr_reserved_highatomic += PAGEBLOCK_NR;
}

bool buddy_unreserve_highatomic(struct zone *zone, enum migratetype type, bool force)
{
	mutex_assert_held(&zone->lock);
	if (!force && zone->nr_reserved_highatomic <= PAGEBLOCK_NR)
		return false;
	for (unsigned order = 0; order < NR_PAGE_ORDERS; order++) {
		struct frame *head =
			frame_list_first(&zone->free_area[order].list[MIGRATE_HIGHATOMIC]);
		if (!head)
			continue;
		uint64_t pfn = ALIGN_DOWN(frame_pfn(head).n, PAGEBLOCK_NR);
		buddy_move_pageblock(zone, pfn, type);
		zone->nr_reserved_highatomic -=
			min(zone->nr_reserved_highatomic, (unsigned long)PAGEBLOCK_NR);
		MARK(highatomic_unreserved);
		return true;
	}
	return false;
}
