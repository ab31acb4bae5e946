// SPDX-License-Identifier: MIT
// Pools grow and shrink.
//
//	hugetlb_resize()	so many persistent pages, of all nodes in turn or of one
//
// Growing first turns surplus pages into persistent ones, then asks the buddy of one node after
// the other. It may fall short: on a node whose free memory is in pieces no block of the size is
// found, compaction or not. Then the next node is asked, and when none has any, the pool stays as
// large as it got; pool->shortfall keeps what memory looked like at that moment. Shrinking frees
// what is free and not promised; for the rest, pages in use become surplus and go when they are
// freed.
//
// Locks: hugetlb->lock for moments; counts are looked at again after each step.
// What can fail: nothing is reported here; pool->max says what there is.
#include "hugetlb/internal.h"

#include "base/mark.h"

// A persistent page of the next node becomes surplus (1), or the other way (-1). H
static bool turn_surplus(struct hugetlb_pool *pool, struct nodemask allowed, long n)
{
	int *turn = n < 0 ? &pool->next_alloc : &pool->next_free;

	for (unsigned left = nodemask_weight(allowed); left; left--) {
		unsigned nid = (unsigned)hugetlb_next_in_turn(turn, allowed);
		unsigned long surplus = hugetlb_read(&pool->surplus_node[nid]);
		unsigned long others = surplus + hugetlb_read(&pool->temporary_node[nid]);

		if (n < 0 ? !surplus : others >= hugetlb_read(&pool->nr_node[nid]))
			continue;
		hugetlb_count_surplus(pool, nid, n);
		return true;
	}
	return false;
}

static unsigned long largest_free_block(struct node *node)
{
	unsigned long nr[NR_PAGE_ORDERS][MIGRATE_TYPES], largest = 0;

	for (unsigned z = 0; z < ZONES_PER_NODE; z++) {
		if (!zone_populated(&node->zone[z]))
			continue;
		zone_free_blocks(&node->zone[z], nr);
		for (unsigned order = 0; order < NR_PAGE_ORDERS; order++)
			for (unsigned type = 0; type < MIGRATE_TYPES; type++)
				if (nr[order][type])
					largest = max(largest, 1ul << order);
	}
	return largest;
}

static void note_shortfall(struct hugetlb *h, struct hugetlb_pool *pool, unsigned long wanted)
{
	struct hugetlb_shortfall now = {.wanted = wanted};
	struct phys *phys = h->mm->phys;

	for (unsigned nid = 0; nid < phys->nr_nodes; nid++) {
		now.free_pages[nid] = node_nr_free(phys->node[nid]);
		now.largest_free[nid] = largest_free_block(phys->node[nid]);
		now.compacted[nid] =
			node_compact_verdict(phys->node[nid], &now.compaction[nid]);
	}
	mutex_lock(&h->lock);
	now.got = hugetlb_persistent(pool);
	pool->shortfall = now;
	mutex_unlock(&h->lock);
}

// One more persistent page, of the next node that can give one.
static bool grow_by_one(struct hugetlb *h, struct hugetlb_pool *pool, struct nodemask allowed)
{
	gfp_t gfp = hugetlb_gfp(pool) | GFP_THISNODE;

	for (unsigned left = nodemask_weight(allowed); left; left--) {
		mutex_lock(&h->lock);
		int nid = hugetlb_next_in_turn(&pool->next_alloc, allowed);
		mutex_unlock(&h->lock);
		struct folio *folio = hugetlb_alloc_fresh(h, pool, gfp, nid, allowed);
		if (!folio)
			continue;
		// Who found it by its frame has a reference for a moment: as good as not found.
		if (!folio_ref_freeze(folio, 1)) {
			mutex_lock(&h->lock);
			hugetlb_make_temporary(pool, folio);
			mutex_unlock(&h->lock);
			folio_put(folio);
			continue;
		}
		mutex_lock(&h->lock);
		hugetlb_count_page(pool, (unsigned)nid, 1);
		hugetlb_put_on_list(pool, folio);
		mutex_unlock(&h->lock);
		return true;
	}
	return false;
}

static void grow(struct hugetlb *h, struct hugetlb_pool *pool, unsigned long count,
	struct nodemask allowed)
{
	bool more = true;

	mutex_lock(&h->lock);
	while (hugetlb_read(&pool->surplus) && count > hugetlb_persistent(pool))
		if (!turn_surplus(pool, allowed, -1))
			break;
	while (more && count > hugetlb_persistent(pool)) {
		mutex_unlock(&h->lock);
		more = grow_by_one(h, pool, allowed);
		mutex_lock(&h->lock);
	}
	mutex_unlock(&h->lock);
	if (!more) {
		MARK(hugetlb_pool_falls_short);
		note_shortfall(h, pool, count);
	}
}

static void shrink(struct hugetlb *h, struct hugetlb_pool *pool, unsigned long count,
	struct nodemask allowed)
{
	struct folio_list gone = {0};
	struct folio *folio;

	mutex_lock(&h->lock);
	unsigned long in_use = hugetlb_read(&pool->nr) - hugetlb_read(&pool->temporary) -
			       hugetlb_read(&pool->nr_free);
	unsigned long least = max(count, hugetlb_read(&pool->reserved) + in_use);
	while (least < hugetlb_persistent(pool)) {
		folio = hugetlb_remove_free(pool, allowed, false);
		if (!folio)
			break;
		folio_list_add(&gone, folio);
	}
	while (count < hugetlb_persistent(pool))
		if (!turn_surplus(pool, allowed, 1))
			break;
	mutex_unlock(&h->lock);
	while ((folio = folio_list_pop(&gone)))
		hugetlb_give_to_buddy(folio);
}

// Of the whole pool, when the node is to have `count`. A pool that shrinks takes any free page of a
// node, which may then have more surplus than pages: the others may have less than none. H
static unsigned long with_other_nodes(
	const struct hugetlb_pool *pool, unsigned nid, unsigned long count)
{
	unsigned long own = hugetlb_read(&pool->nr_node[nid]) -
			    hugetlb_read(&pool->surplus_node[nid]) -
			    hugetlb_read(&pool->temporary_node[nid]);
	long others = (long)(hugetlb_persistent(pool) - own);

	if (others < 0)
		return count - min(count, (unsigned long)-others);
	return count > ~0ul - (unsigned long)others ? ~0ul : count + (unsigned long)others;
}

void hugetlb_resize(struct hugetlb *h, struct hugetlb_pool *pool, unsigned long count,
	struct nodemask allowed, bool of_node)
{
	mutex_lock(&h->lock);
	if (of_node)
		count = with_other_nodes(pool, (unsigned)nodemask_first(allowed), count);
	pool->shortfall = (struct hugetlb_shortfall){.wanted = count, .got = count};
	mutex_unlock(&h->lock);
	grow(h, pool, count, allowed);
	shrink(h, pool, count, allowed);
	mutex_lock(&h->lock);
	atomic_store_explicit(&pool->max, hugetlb_persistent(pool), memory_order_relaxed);
	mutex_unlock(&h->lock);
}

void hugetlb_set_overcommit(struct hugetlb *h, struct hugetlb_pool *pool, unsigned long count)
{
	mutex_lock(&h->lock);
	atomic_store_explicit(&pool->overcommit, count, memory_order_relaxed);
	mutex_unlock(&h->lock);
}
