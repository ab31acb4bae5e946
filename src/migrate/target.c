// SPDX-License-Identifier: MIT
// Where to: a target on one node, as most who ask for moves want it (the kernel's
// alloc_migration_target).
//
// A folio moves to one of its own order. A large one is allocated with the huge-page rules, without
// waking background reclaim; one of a hugetlb pool comes from the pool. Small ones are taken in
// runs of consecutive frames where there are such: then a batch is one copy and one host mapping. A
// source from the movable zone may go to the movable zone.
//
// Who keeps huge pages huge wants a large target at any price: then compaction is tried again and
// again while it gets somewhere.
//
// Called without any lock; may reclaim and compact as its gfp allows.
#include "migrate/migrate.h"
#include "phys/alloc.h"
#include "phys/zone.h"

#include <stdio.h>

static gfp_t gfp_for(const struct node_target *t, const struct folio *src)
{
	gfp_t gfp = t->gfp;

	if (folio_large(src)) {
		gfp &= ~GFP_RECLAIM;
		gfp |= GFP_TRANSHUGE | (t->keep_huge ? GFP_RETRY_MAYFAIL : 0);
	}
	if (frame_zone_type(&src->page) == ZONE_MOVABLE)
		gfp |= GFP_HIGHMEM;
	return gfp;
}

static int nid_for(const struct node_target *t, const struct folio *src)
{
	return t->nid >= 0 ? t->nid : (int)folio_nid(src);
}

static struct folio *get(struct folio *src, void *arg)
{
	struct node_target *t = arg;
	struct mm_core *mm = t->mm;
	const struct nodemask *allowed = nodemask_empty(t->allowed) ? NULL : &t->allowed;
	int nid = nid_for(t, src);

	if (!folio_test_hugetlb(src))
		return folio_alloc(mm->phys, gfp_for(t, src), folio_order(src), nid, allowed,
			t->cpu);
	if (!mm->up.hugetlb_target)
		return NULL;
	return mm->up.hugetlb_target(src, nid, t->allowed, t->gfp, t->reason);
}

static unsigned run(struct folio *first_src, unsigned max_pages, struct folio **ret_dst, void *arg)
{
	struct node_target *t = arg;

	if (t->nid < 0)
		return 0;
	if (!nodemask_empty(t->allowed) &&
		!(t->gfp & GFP_THISNODE && nodemask_test(t->allowed, (unsigned)t->nid)))
		return 0; // a run has one node, and knows no mask
	return folio_alloc_run(t->mm->phys, gfp_for(t, first_src), nid_for(t, first_src),
		max_pages, t->cpu, ret_dst);
}

// ---- Why there was nothing

// Its largest free block that movable memory may take; -1: there is none.
static int largest_free_order(const struct zone *zone)
{
	int order = NR_PAGE_ORDERS - 1;

	for (; order >= 0; order--)
		for (unsigned type = 0; type < MIGRATE_TYPES; type++) {
			bool taken = type < MIGRATE_PCPTYPES || type == MIGRATE_CMA;

			if (taken && atomic_load_explicit(&zone->free_area[order].nr[type],
					     memory_order_relaxed))
				return order;
		}
	return order;
}

// Without what is put by for requests that cannot wait.
static unsigned long usable_free(const struct zone *zone)
{
	unsigned long free = zone_nr_free(zone), reserved = (unsigned long)atomic_load_explicit(
		&zone->nr_free_highatomic, memory_order_relaxed);

	return free - min(free, reserved);
}

static unsigned long must_stay(const struct zone *zone)
{
	return zone_wmark(zone, WMARK_MIN) +
	       atomic_load_explicit(&zone->lowmem_reserve[ZONE_MOVABLE - ZONE_NORMAL],
		       memory_order_relaxed);
}

// What there is of free memory on some nodes, for who wanted a block of an order.
struct room {
	unsigned order;
	unsigned long free; // pages
	int largest;	    // order
	// With such a block: the one with most to give.
	const struct zone *zone;
	long left; // over what must stay in it
	bool now;  // it could be had at this moment
};

static void look_at_zone(struct room *room, const struct zone *zone)
{
	unsigned long mark = zone_wmark(zone, WMARK_MIN);
	long left = (long)usable_free(zone) - (long)must_stay(zone);
	int largest = largest_free_order(zone);

	room->free += usable_free(zone);
	room->largest = max(room->largest, largest);
	if (largest < (int)room->order)
		return;
	room->now |= zone_watermark_ok(zone, room->order, mark, ZONE_MOVABLE, ALLOC_CMA);
	if (room->zone && left <= room->left)
		return;
	room->zone = zone;
	room->left = left;
}

static unsigned long kbytes(unsigned long pages)
{
	return pages << (PAGE_SHIFT - 10);
}

// The zone keeps the block for others, below its watermark. A block that is there after all was
// freed since.
static void describe_block(const struct room *room, char *buf, size_t size)
{
	unsigned nid = room->zone->node->nid;
	unsigned long free = kbytes(usable_free(room->zone));

	if (room->now)
		snprintf(buf, size, "node %u: %lu kB free, room for it came too late", nid, free);
	else
		snprintf(buf, size, "node %u: %lu kB free, %lu kB must stay (watermark)", nid, free,
			kbytes(must_stay(room->zone)));
}

void migrate_describe_room(const struct phys *phys, struct nodemask nodes, unsigned order,
	char *buf, size_t size)
{
	struct room room = {.order = order, .largest = -1};
	char who[16] = "those nodes";
	int nid;

	for_each_node_in(nid, nodes) {
		const struct node *node = phys_node(phys, (unsigned)nid);

		for (unsigned i = 0; node && i < ZONES_PER_NODE; i++)
			if (zone_populated(&node->zone[i]))
				look_at_zone(&room, &node->zone[i]);
	}
	if (room.zone) {
		describe_block(&room, buf, size);
		return;
	}
	if (nodemask_weight(nodes) == 1)
		snprintf(who, sizeof(who), "node %d", nodemask_first(nodes));
	snprintf(buf, size, "%s: %lu kB free, at most %lu kB in a row", who, kbytes(room.free),
		room.largest < 0 ? 0 : kbytes(1ul << room.largest));
}

static void describe(const struct folio *src, char *buf, size_t size, void *arg)
{
	const struct node_target *t = arg;

	migrate_describe_room(t->mm->phys, nodemask_of((unsigned)nid_for(t, src)),
		folio_order(src), buf, size);
}

void migrate_target_on_node(struct migrate_target *target, struct node_target *t)
{
	*target = (struct migrate_target){.get = get, .run = run, .describe = describe, .arg = t};
}
