// SPDX-License-Identifier: MIT
// Isolation of pageblocks: free memory of a range stays free, so that the range can be emptied.
//
// An isolated pageblock has type ISOLATE. Its free blocks are on lists no request looks at and do
// not count as free, and what is freed into it goes there too, past the per-cpu lists. The range
// cannot be isolated twice at a time, nor while it holds a page that can never move: that page
// would only be found after everything else had been moved away in vain.
//
// Per-cpu lists may still hold blocks of the range; who needs every frame disables them around the
// whole operation (zone_pcp_disable()). Pages that cannot move are judged without reference: the
// answer is a hint, and test_pages_isolated() the verdict.
#include "phys/alloc.h"
#include "base/mark.h"
#include "phys/buddy.h"
#include "phys/pcp.h"

#include <errno.h>

bool frame_unmovable(struct frame *frame)
{
	struct folio *folio = frame_folio(frame);

	if (frame_test_reserved(frame))
		return true;
	if (!folio_ref_count(folio))
		return false; // free, or just being freed or moved
	return !folio_test_lru(folio) && !folio_test_hugetlb(folio) &&
	       !folio_test_movable_type(folio);
}

static bool pageblock_has_unmovable(const struct zone *zone, uint64_t pfn)
{
	uint64_t end = min(pfn + PAGEBLOCK_NR, zone_end_pfn(zone));

	while (pfn < end) {
		struct frame *frame = pfn_frame(pfn_of(pfn));
		if (frame_test_buddy(frame)) {
			pfn += 1ul << min(buddy_order(frame), (unsigned)MAX_PAGE_ORDER);
			continue;
		}
		if (frame_unmovable(frame))
			return true;
		pfn++;
	}
	return false;
}

static int isolate_pageblock(struct zone *zone, uint64_t pfn, enum migratetype type)
{
	enum migratetype old;
	int err = -EBUSY;

	mutex_lock(&zone->lock);
	old = pageblock_type(zone, pfn);
	bool known_movable = type == MIGRATE_CMA && old == MIGRATE_CMA;
	if (old != MIGRATE_ISOLATE && (known_movable || !pageblock_has_unmovable(zone, pfn))) {
		buddy_move_pageblock(zone, pfn, MIGRATE_ISOLATE);
		zone->nr_isolate_pageblock++;
		if (old == MIGRATE_HIGHATOMIC)
			zone->nr_reserved_highatomic -=
				min(zone->nr_reserved_highatomic, PAGEBLOCK_NR);
		err = 0;
	}
	mutex_unlock(&zone->lock);
	return err;
}

static void release_pageblock(struct zone *zone, uint64_t pfn, enum migratetype type)
{
	mutex_lock(&zone->lock);
	if (pageblock_type(zone, pfn) == MIGRATE_ISOLATE) {
		buddy_move_pageblock(zone, pfn, type);
		zone->nr_isolate_pageblock--;
	}
	mutex_unlock(&zone->lock);
}

static bool range_ok(const struct phys *phys, struct pfn start, struct pfn end)
{
	struct zone *first = pfn_zone(start), *last;

	if (end.n <= start.n || !IS_ALIGNED(start.n | end.n, PAGEBLOCK_NR))
		return false;
	last = pfn_zone(pfn_of(end.n - 1));
	return first && last && first->node == last->node && zone_phys(first) == phys;
}

int start_isolate_page_range(
	struct phys *phys, struct pfn start, struct pfn end, enum migratetype type)
{
	if (!range_ok(phys, start, end))
		return -EINVAL;
	for (uint64_t pfn = start.n; pfn < end.n; pfn += PAGEBLOCK_NR) {
		int err = isolate_pageblock(pfn_zone(pfn_of(pfn)), pfn, type);
		if (err) {
			MARK(isolate_page_range_busy);
			if (pfn > start.n)
				undo_isolate_page_range(phys, start, pfn_of(pfn), type);
			return err;
		}
	}
	for (unsigned i = 0; i < ZONES_PER_NODE; i++)
		zone_drain_pcp(&pfn_zone(start)->node->zone[i]);
	return 0;
}

void undo_isolate_page_range(
	struct phys *phys, struct pfn start, struct pfn end, enum migratetype type)
{
	(void)phys;
	for (uint64_t pfn = start.n; pfn < end.n; pfn += PAGEBLOCK_NR)
		release_pageblock(pfn_zone(pfn_of(pfn)), pfn, type);
}

// The first pfn of the range in this zone that is neither free and isolated nor poisoned.
static uint64_t first_not_isolated(struct zone *zone, uint64_t pfn, uint64_t end)
{
	mutex_lock(&zone->lock);
	while (pfn < end) {
		unsigned order;
		struct frame *frame = pfn_frame(pfn_of(pfn));
		struct frame *head = buddy_find(zone, frame, &order);

		if (head && pageblock_type(zone, pfn) == MIGRATE_ISOLATE)
			pfn = frame_pfn(head).n + (1ul << order);
		else if (frame_test_hwpoison(frame) && !folio_ref_count((struct folio *)frame))
			pfn++;
		else
			break;
	}
	mutex_unlock(&zone->lock);
	return pfn;
}

int test_pages_isolated(struct phys *phys, struct pfn start, struct pfn end, struct pfn *ret_fail)
{
	uint64_t pfn = start.n;

	while (pfn < end.n) {
		struct zone *zone = pfn_zone(pfn_of(pfn));
		uint64_t stop = zone ? min(end.n, zone_end_pfn(zone)) : 0;

		if (!zone)
			return -EINVAL;
		pfn = first_not_isolated(zone, pfn, stop);
		if (pfn < stop)
			break;
	}
	trace_event(phys->trace, test_pages_isolated, .start_pfn = start.n, .end_pfn = end.n,
		.fin_pfn = pfn);
	if (pfn >= end.n)
		return 0;
	*ret_fail = pfn_of(pfn);
	return -EBUSY;
}

static int make_cma(struct zone *zone, uint64_t pfn)
{
	int err = -EBUSY;
	unsigned order;

	mutex_lock(&zone->lock);
	if (pageblock_type(zone, pfn) == MIGRATE_MOVABLE &&
		buddy_find(zone, pfn_frame(pfn_of(pfn)), &order) && order >= PAGEBLOCK_ORDER) {
		buddy_move_pageblock(zone, pfn, MIGRATE_CMA);
		err = 0;
	}
	mutex_unlock(&zone->lock);
	return err;
}

int phys_init_cma_range(struct phys *phys, struct pfn start, unsigned long nr)
{
	uint64_t end = start.n + nr;
	int err = 0;

	if (!range_ok(phys, start, pfn_of(end)))
		return -EINVAL;
	drain_all_pages(phys);
	for (uint64_t pfn = start.n; pfn < end; pfn += PAGEBLOCK_NR) {
		err = make_cma(pfn_zone(pfn_of(pfn)), pfn);
		if (!err)
			continue;
		while (pfn > start.n) {
			pfn -= PAGEBLOCK_NR;
			struct zone *zone = pfn_zone(pfn_of(pfn));
			mutex_lock(&zone->lock);
			buddy_move_pageblock(zone, pfn, MIGRATE_MOVABLE);
			mutex_unlock(&zone->lock);
		}
		return err;
	}
	return 0;
}
