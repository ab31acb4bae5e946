// SPDX-License-Identifier: MIT
// Where to: a target on one node, as most who ask for moves want it (the kernel's
// alloc_migration_target).
//
// A folio moves to one of its own order. A large one is allocated with the huge-page rules, without
// waking background reclaim; one of a hugetlb pool comes from the pool. Small ones are taken in
// runs of consecutive frames where there are such: then a batch is one copy and one host mapping. A
// source from the movable zone may go to the movable zone.
//
// Called without any lock; may reclaim and compact as its gfp allows.
#include "migrate/migrate.h"
#include "phys/alloc.h"

static gfp_t gfp_for(const struct node_target *t, const struct folio *src)
{
	gfp_t gfp = t->gfp;

	if (folio_large(src)) {
		gfp &= ~GFP_RECLAIM;
		gfp |= GFP_TRANSHUGE;
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

void migrate_target_on_node(struct migrate_target *target, struct node_target *t)
{
	*target = (struct migrate_target){.get = get, .run = run, .arg = t};
}
