// SPDX-License-Identifier: MIT
// Ranges of frames by their numbers: what contiguous allocators and gigantic pages are made of.
//
// A range can be taken only when all of it is free. Blocks that stick out at its ends are cut, and
// what is outside goes back. Nothing is moved here: who wants a range that is in use isolates its
// pageblocks (isolation.c), migrates what is there, and then takes it.
#include "phys/alloc.h"
#include "base/assert.h"
#include "phys/alloc_context.h"
#include "phys/backing.h"
#include "phys/buddy.h"
#include "phys/pcp.h"

#include <errno.h>

static bool range_is_free(struct zone *zone, uint64_t pfn, uint64_t end) REQUIRES(&zone->lock)
{
	while (pfn < end) {
		unsigned order;
		struct frame *head = buddy_find(zone, pfn_frame(pfn_of(pfn)), &order);
		if (!head)
			return false;
		pfn = frame_pfn(head).n + (1ul << order);
	}
	return true;
}

// Out of the buddy, no state, refcount 0.
static int take_range(struct zone *zone, uint64_t start, uint64_t end)
{
	int err = -EBUSY;

	mutex_lock(&zone->lock);
	if (range_is_free(zone, start, end)) {
		for (uint64_t pfn = start; pfn < end;) {
			unsigned order;
			struct frame *head = buddy_find(zone, pfn_frame(pfn_of(pfn)), &order);
			uint64_t first = frame_pfn(head).n, last = first + (1ul << order);

			buddy_remove(zone, head, order);
			if (first < start)
				buddy_free_range(zone, first, start - first, false);
			if (last > end)
				buddy_free_range(zone, end, last - end, false);
			pfn = last;
		}
		err = 0;
	}
	mutex_unlock(&zone->lock);
	return err;
}

static void return_range(struct zone *zone, uint64_t start, uint64_t end)
{
	mutex_lock(&zone->lock);
	buddy_free_range(zone, start, end - start, false);
	mutex_unlock(&zone->lock);
}

static int take_backed_range(struct zone *zone, uint64_t start, uint64_t end)
{
	int err = take_range(zone, start, end);

	if (err)
		return err;
	if (backing_ensure(zone->node, pfn_of(start), end - start)) {
		return_range(zone, start, end);
		return -ENOMEM;
	}
	return 0;
}

int alloc_free_range(struct phys *phys, struct pfn start, unsigned long nr)
{
	struct zone *zone = pfn_zone(start);
	int err;

	if (!nr || !zone || zone_phys(zone) != phys || start.n + nr > zone_end_pfn(zone))
		return -EINVAL;
	err = take_backed_range(zone, start.n, start.n + nr);
	if (err)
		return err;
	for (unsigned long i = 0; i < nr; i++)
		prep_new_folio(pfn_frame(pfn_add(start, i)), 0, 0);
	count_allocated(phys, zone, nr);
	return 0;
}

void free_contig_range(struct pfn start, unsigned long nr)
{
	for (unsigned long i = 0; i < nr; i++)
		folio_put((struct folio *)pfn_frame(pfn_add(start, i)));
}

// A look without the lock, to pass over ranges that are clearly in use.
static bool range_looks_free(uint64_t pfn, uint64_t end)
{
	while (pfn < end) {
		struct frame *frame = pfn_frame(pfn_of(pfn));
		if (!frame_test_buddy(frame))
			return false;
		pfn += 1ul << min(buddy_order(frame), (unsigned)MAX_PAGE_ORDER);
	}
	return true;
}

static struct folio *gigantic_from_zone(struct alloc_context *ac, struct zone *zone)
{
	unsigned long nr = 1ul << ac->order;
	unsigned long mark = zone_wmark(zone, WMARK_LOW) + nr;
	uint64_t pfn = ALIGN_UP(zone->start_pfn, nr);

	if (!zone_watermark_ok(zone, 0, mark, ac->highest, 0))
		return NULL;
	for (; pfn + nr <= zone_end_pfn(zone); pfn += nr) {
		if (!range_looks_free(pfn, pfn + nr) || take_backed_range(zone, pfn, pfn + nr))
			continue;
		count_numa(ac, zone, 1);
		count_allocated(ac->phys, zone, nr);
		return prep_new_folio(pfn_frame(pfn_of(pfn)), ac->order, ac->gfp);
	}
	return NULL;
}

struct folio *folio_alloc_gigantic(struct alloc_context *ac)
{
	if (ac->order >= 1u << FRAME_ORDER_BITS)
		return NULL;
	for (unsigned i = 0; i < ac->zonelist->nr; i++) {
		struct zone *zone = ac->zonelist->zone[i];
		struct folio *folio;

		if (!zone_allowed(ac, zone) || zone->nr_present >> ac->order == 0)
			continue;
		zone_drain_pcp(zone);
		folio = gigantic_from_zone(ac, zone);
		if (folio)
			return folio;
	}
	return NULL;
}
