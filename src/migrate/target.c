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

static bool zone_has_block(const struct zone *zone, unsigned order)
{
	for (unsigned type = 0; type < MIGRATE_TYPES; type++)
		if (atomic_load_explicit(&zone->free_area[order].nr[type], memory_order_relaxed))
			return true;
	return false;
}

static int largest_free_order(const struct node *node)
{
	int order = NR_PAGE_ORDERS - 1;

	for (; order >= 0; order--)
		for (unsigned i = 0; i < ZONES_PER_NODE; i++)
			if (zone_has_block(&node->zone[i], (unsigned)order))
				return order;
	return order;
}

void migrate_describe_room(const struct phys *phys, struct nodemask nodes, char *buf, size_t size)
{
	unsigned long free = 0, row;
	int nid, largest = -1;
	char who[16] = "those nodes";

	for_each_node_in(nid, nodes) {
		const struct node *node = phys_node(phys, (unsigned)nid);

		if (!node)
			continue;
		free += node_nr_free(node);
		largest = max(largest, largest_free_order(node));
	}
	if (nodemask_weight(nodes) == 1)
		snprintf(who, sizeof(who), "node %d", nodemask_first(nodes));
	row = largest < 0 ? 0 : PAGE_SIZE << largest;
	snprintf(buf, size, "%s: %lu kB free, at most %lu kB in a row", who,
		free * PAGE_SIZE >> 10, row >> 10);
}

static void describe(const struct folio *src, char *buf, size_t size, void *arg)
{
	const struct node_target *t = arg;

	if (!folio_test_hugetlb(src))
		migrate_describe_room(t->mm->phys, nodemask_of((unsigned)nid_for(t, src)), buf,
			size);
}

void migrate_target_on_node(struct migrate_target *target, struct node_target *t)
{
	*target = (struct migrate_target){.get = get, .run = run, .describe = describe, .arg = t};
}
