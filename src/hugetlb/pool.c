// SPDX-License-Identifier: MIT
// Pools: the pages themselves.
//
// A pool has pages of one size. Free ones lie on a list for each node, last freed first taken,
// with no reference. What happens when a page loses its last reference is hugetlb_free_folio(): a
// temporary page, and one of a node that has surplus pages, go to the buddy, the others to the
// list. Every page that is not free is counted and nothing more: who maps it knows it.
//
// As long as a page is of the pool its bytes may be on a page of the host's (arena_hugetlb.h).
//
// Locks: hugetlb->lock for lists and counts. Memory is taken from and given to the buddy without
// it. What can fail: allocations, by answering NULL.
#include "hugetlb/internal.h"

#include "base/assert.h"
#include "base/vmstat.h"
#include "phys/alloc.h"
#include "phys/backing.h"

// ---- Counting. H

void hugetlb_count_page(struct hugetlb_pool *pool, unsigned nid, long n)
{
	hugetlb_add(&pool->nr, n);
	hugetlb_add(&pool->nr_node[nid], n);
}

static void count_free(struct hugetlb_pool *pool, unsigned nid, long n)
{
	hugetlb_add(&pool->nr_free, n);
	hugetlb_add(&pool->free_node[nid], n);
}

void hugetlb_count_surplus(struct hugetlb_pool *pool, unsigned nid, long n)
{
	hugetlb_add(&pool->surplus, n);
	hugetlb_add(&pool->surplus_node[nid], n);
}

void hugetlb_count_temporary(struct hugetlb_pool *pool, unsigned nid, long n)
{
	hugetlb_add(&pool->temporary, n);
	hugetlb_add(&pool->temporary_node[nid], n);
}

void hugetlb_make_temporary(struct hugetlb_pool *pool, struct folio *folio)
{
	hugetlb_count_page(pool, folio_nid(folio), 1);
	hugetlb_count_temporary(pool, folio_nid(folio), 1);
	folio_set_hugetlb_temporary(folio);
}

// ---- Pages from the buddy and back

// What was true of its last use. Nobody else has it.
static void forget_use(struct folio *folio)
{
	const uint32_t keep = 1u << PG_HEAD | 1u << PG_HUGETLB | 1u << PG_HUGETLB_TEMPORARY |
			      1u << PG_HWPOISON | FRAME_ORDER_MASK;

	folio_clear_mapping(folio);
	folio_set_index(folio, 0);
	atomic_fetch_and_explicit(&folio->page.flags, keep, memory_order_acq_rel);
}

// It has no reference, and the pool does not count it any more.
void hugetlb_give_to_buddy(struct folio *folio)
{
	backing_leave_hugetlb(folio_pfn(folio), folio_order(folio));
	folio_clear_hugetlb_temporary(folio);
	folio_clear_hugetlb(folio);
	folio_free(folio);
}

// Not counted yet, one reference.
struct folio *hugetlb_alloc_fresh(struct hugetlb *h, struct hugetlb_pool *pool, gfp_t gfp,
	int nid, struct nodemask allowed)
{
	bool gigantic = pool->order > MAX_PAGE_ORDER;
	struct folio *folio;

	gfp |= GFP_COMP | GFP_NOWARN | GFP_RETRY_MAYFAIL;
	folio = folio_alloc(h->mm->phys, gfp, pool->order, nid, &allowed, 0);

	if (!gigantic)
		vm_event(h->mm->stat, folio ? VM_HTLB_BUDDY_ALLOC_SUCCESS
					    : VM_HTLB_BUDDY_ALLOC_FAIL);
	if (!folio)
		return NULL;
	folio_set_hugetlb(folio);
	backing_enter_hugetlb(folio_pfn(folio), pool->order);
	return folio;
}

// ---- Free pages

static bool poisoned(struct folio *folio)
{
	for (unsigned long i = 0; i < folio_nr(folio); i++)
		if (frame_test_hwpoison(folio_frame(folio, i)))
			return true;
	return false;
}

void hugetlb_put_on_list(struct hugetlb_pool *pool, struct folio *folio)
{
	folio_list_add(&pool->free[folio_nid(folio)], folio);
	count_free(pool, folio_nid(folio), 1);
}

struct folio *hugetlb_take_from_list(struct hugetlb_pool *pool, unsigned nid)
{
	struct folio *folio;

	for_each_folio(folio, &pool->free[nid]) {
		if (poisoned(folio))
			continue;
		folio_list_del(&pool->free[nid], folio);
		count_free(pool, nid, -1);
		return folio;
	}
	return NULL;
}

struct folio *hugetlb_dequeue(struct hugetlb *h, struct hugetlb_pool *pool, gfp_t gfp, int nid,
	struct nodemask allowed)
{
	const struct node *node = h->mm->phys->node[nid];
	const struct zonelist *list = gfp & GFP_THISNODE ? &node->nofallback : &node->fallback;

	mutex_assert_held(&h->lock);
	for (unsigned i = 0; i < list->nr; i++) {
		unsigned at = list->zone[i]->node->nid;
		struct folio *folio = NULL;

		if (nodemask_test(allowed, at))
			folio = hugetlb_take_from_list(pool, at);
		if (folio) {
			folio_ref_unfreeze(folio, 1);
			return folio;
		}
	}
	return NULL;
}

void hugetlb_free_folio(void *arg maybe_unused, struct folio *folio)
{
	struct hugetlb *h = folio_phys(folio)->mm->hugetlb;
	struct hugetlb_pool *pool = hugetlb_pool_of_folio(h, folio);
	unsigned nid = folio_nid(folio);
	bool leaves = true;

	forget_use(folio);
	mutex_lock(&h->lock);
	if (folio_test_hugetlb_temporary(folio)) {
		hugetlb_count_page(pool, nid, -1);
		hugetlb_count_temporary(pool, nid, -1);
	} else if (hugetlb_read(&pool->surplus_node[nid]) && !hugetlb_is_owed(pool)) {
		hugetlb_count_page(pool, nid, -1);
		hugetlb_count_surplus(pool, nid, -1);
	} else {
		hugetlb_put_on_list(pool, folio);
		leaves = false;
	}
	mutex_unlock(&h->lock);
	if (leaves)
		hugetlb_give_to_buddy(folio);
}

// ---- Nodes in turn

// The next of `allowed` after what *turn remembers.
int hugetlb_next_in_turn(int *turn, struct nodemask allowed)
{
	int nid = *turn;

	if (nid == NO_NODE || !nodemask_test(allowed, (unsigned)nid))
		nid = nodemask_next_in(allowed, nid);
	*turn = nodemask_next_in(allowed, nid);
	return nid;
}

// A free page leaves its pool, of the next node that has one; `surplus`: one of a node with surplus
// pages, as such. The caller gives it to the buddy. H
struct folio *hugetlb_remove_free(struct hugetlb_pool *pool, struct nodemask allowed, bool surplus)
{
	for (unsigned n = nodemask_weight(allowed); n; n--) {
		unsigned nid = (unsigned)hugetlb_next_in_turn(&pool->next_free, allowed);
		struct folio *folio = NULL;

		if (!surplus || hugetlb_read(&pool->surplus_node[nid]))
			folio = hugetlb_take_from_list(pool, nid);
		if (!folio)
			continue;
		hugetlb_count_page(pool, nid, -1);
		if (surplus)
			hugetlb_count_surplus(pool, nid, -1);
		return folio;
	}
	return NULL;
}
