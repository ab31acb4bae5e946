// SPDX-License-Identifier: MIT
// Moving huge pages of pools: what the migration layer asks of this one.
//
// A page can be isolated while it is mapped and nobody else has isolated it (HUGETLB_MIGRATABLE). A
// target is, in this order:
//
//	a free page of the pool	that nobody was promised; the source then becomes a free page where
//				it was, and each node has as many pages as before
//	a temporary page	of the buddy, at the target; when the move succeeds the mark passes
//				to the source, which goes to the buddy: the pool moved with the
//				page, and so did a surplus page of the source's node
//
// Gigantic pages are never made for a move. Without any target the whole call ends (-ENOMEM). Off
// the wanted node a page is looked for only by callers who would rather have it anywhere than not
// moved: offlining, memory failure, system calls.
//
// Locks: hugetlb->lock; the callers hold a page-table lock (isolate) or both folios' (moved). What
// can fail: targets, by NULL.
#include "hugetlb/internal.h"

#include "base/mark.h"
#include "base/trace.h"

bool hugetlb_isolate(struct folio *folio)
{
	struct hugetlb *h = folio_phys(folio)->mm->hugetlb;

	mutex_lock(&h->lock);
	bool isolated = folio_test_hugetlb(folio) && folio_test_hugetlb_migratable(folio) &&
			folio_try_get(folio);
	if (isolated)
		folio_clear_hugetlb_migratable(folio);
	mutex_unlock(&h->lock);
	return isolated;
}

void hugetlb_putback(struct folio *folio)
{
	struct hugetlb *h = folio_phys(folio)->mm->hugetlb;

	mutex_lock(&h->lock);
	folio_set_hugetlb_migratable(folio);
	mutex_unlock(&h->lock);
	folio_put(folio);
}

static bool may_leave_node(int reason)
{
	return reason == MR_MEMORY_HOTPLUG || reason == MR_MEMORY_FAILURE || reason == MR_SYSCALL ||
	       reason == MR_MEMPOLICY_MBIND;
}

struct folio *hugetlb_target(struct folio *src, int nid, struct nodemask allowed, gfp_t gfp,
	int reason)
{
	struct hugetlb *h = folio_phys(src)->mm->hugetlb;
	struct hugetlb_pool *pool = hugetlb_pool_of_folio(h, src);
	struct folio *folio = NULL;

	if (nodemask_empty(allowed))
		allowed = NODEMASK_ALL;
	mutex_lock(&h->lock);
	if (hugetlb_available(pool))
		folio = hugetlb_dequeue(h, pool, gfp, nid, allowed);
	mutex_unlock(&h->lock);
	if (folio)
		return folio;
	if (!may_leave_node(reason))
		gfp |= GFP_THISNODE;
	MARK(hugetlb_temporary_target);
	return hugetlb_alloc_temporary(h, pool, gfp, nid, allowed);
}

void hugetlb_moved(struct folio *dst, struct folio *src, int reason maybe_unused)
{
	struct hugetlb *h = folio_phys(src)->mm->hugetlb;
	struct hugetlb_pool *pool = hugetlb_pool_of_folio(h, src);
	unsigned from = folio_nid(src), to = folio_nid(dst);

	mutex_lock(&h->lock);
	if (folio_test_clear_hugetlb_temporary(dst)) {
		folio_set_hugetlb_temporary(src);
		hugetlb_count_temporary(pool, to, -1);
		hugetlb_count_temporary(pool, from, 1);
		if (from != to && hugetlb_read(&pool->surplus_node[from])) {
			hugetlb_count_surplus(pool, from, -1);
			hugetlb_count_surplus(pool, to, 1);
		}
	}
	mutex_unlock(&h->lock);
}
