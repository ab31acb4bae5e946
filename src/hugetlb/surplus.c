// SPDX-License-Identifier: MIT
// Pages beyond a pool's size, and promises as numbers.
//
// pool->reserved counts pages that were promised to mappings and not taken yet; never more than
// are free. A promise that the free pages do not cover brings surplus pages at once, as many as
// pool->overcommit allows, and takes back all of it when they cannot be had; they go back to the
// buddy when the promise ends unused. What the caller's cpuset and its binding policy do not let
// it reach is not promised either.
//
// A temporary page is made for one migration. It is of the pool and counted, but not as surplus.
//
// Locks: hugetlb->lock, given up for each allocation; what was counted before is counted again.
// What can fail: -ENOMEM.
#include "hugetlb/internal.h"

#include "base/assert.h"
#include "base/mark.h"
#include "virt/task.h"

#include <errno.h>

static bool may_have_surplus(struct hugetlb *h, struct hugetlb_pool *pool)
{
	mutex_lock(&h->lock);
	bool yes = hugetlb_read(&pool->surplus) < hugetlb_read(&pool->overcommit);
	mutex_unlock(&h->lock);
	return yes && pool->order <= MAX_PAGE_ORDER;
}

struct folio *hugetlb_alloc_surplus(struct hugetlb *h, struct hugetlb_pool *pool, gfp_t gfp,
	int nid, struct nodemask allowed)
{
	if (!may_have_surplus(h, pool))
		return NULL;
	struct folio *folio = hugetlb_alloc_fresh(h, pool, gfp | hugetlb_gfp(pool), nid, allowed);
	if (!folio)
		return NULL;
	mutex_lock(&h->lock);
	bool still = hugetlb_read(&pool->surplus) < hugetlb_read(&pool->overcommit);
	if (still) {
		hugetlb_count_page(pool, folio_nid(folio), 1);
		hugetlb_count_surplus(pool, folio_nid(folio), 1);
	} else {
		hugetlb_make_temporary(pool, folio); // others took what was left: it goes again
	}
	mutex_unlock(&h->lock);
	if (still)
		return folio;
	folio_put(folio);
	return NULL;
}

struct folio *hugetlb_alloc_temporary(struct hugetlb *h, struct hugetlb_pool *pool, gfp_t gfp,
	int nid, struct nodemask allowed)
{
	struct folio *folio = NULL;

	if (pool->order <= MAX_PAGE_ORDER)
		folio = hugetlb_alloc_fresh(h, pool, gfp, nid, allowed);
	if (!folio)
		return NULL;
	mutex_lock(&h->lock);
	hugetlb_make_temporary(pool, folio);
	mutex_unlock(&h->lock);
	return folio;
}

// ---- Promises in numbers

// Nodes whose free pages the task could use: its cpuset, and what its policy binds it to.
static struct nodemask usable_nodes(struct task *task)
{
	struct mempolicy *policy = task_policy_get(task);
	struct nodemask nodes = task_mems_allowed(task);

	if (policy && policy->mode == POLICY_BIND)
		nodes = nodemask_and(nodes, mempolicy_nodes(policy));
	mempolicy_put(policy);
	return nodes;
}

unsigned long hugetlb_free_within(const struct hugetlb_pool *pool, struct nodemask nodes)
{
	unsigned long nr = 0;
	int nid;

	for_each_node_in(nid, nodes)
		nr += hugetlb_read(&pool->free_node[nid]);
	return nr;
}

// Surplus pages until `nr` more can be promised. H, given up meanwhile.
static int gather_surplus(struct hugetlb *h, struct hugetlb_pool *pool, struct nodemask nodes,
	unsigned long nr, struct folio_list *got) REQUIRES(&h->lock)
{
	unsigned long have = 0;
	// Linux 6.12 begins with the first node that is allowed, not with the task's own.
	int nid = max(nodemask_first(nodemask_and(nodes, h->mm->phys->has_memory)), 0);

	while (hugetlb_read(&pool->reserved) + nr > hugetlb_read(&pool->nr_free) + have) {
		mutex_unlock(&h->lock);
		struct folio *folio = hugetlb_alloc_surplus(h, pool, 0, nid, NODEMASK_ALL);
		mutex_lock(&h->lock);
		if (!folio)
			return -ENOMEM;
		folio_list_add(got, folio);
		have++;
	}
	return 0;
}

// What was gathered waits on the free lists; what is not needed (any more), or looked at by
// somebody at this moment, goes. H, given up meanwhile.
static void enqueue_surplus(struct hugetlb *h, struct hugetlb_pool *pool, struct folio_list *got)
	REQUIRES(&h->lock)
{
	struct folio_list over = {0};
	struct folio *folio;

	while ((folio = folio_list_pop(got))) {
		bool needed = hugetlb_read(&pool->reserved) > hugetlb_read(&pool->nr_free);
		if (needed && folio_ref_freeze(folio, 1))
			hugetlb_put_on_list(pool, folio);
		else
			folio_list_add(&over, folio);
	}
	mutex_unlock(&h->lock);
	while ((folio = folio_list_pop(&over)))
		folio_put(folio);
	mutex_lock(&h->lock);
}

int hugetlb_reserve(struct hugetlb *h, struct hugetlb_pool *pool, struct task *task,
	unsigned long nr)
{
	struct nodemask nodes = usable_nodes(task);
	struct folio_list got = {0};
	int err;

	if (!nr)
		return 0;
	mutex_lock(&h->lock);
	err = gather_surplus(h, pool, nodes, nr, &got);
	if (!err)
		hugetlb_add(&pool->reserved, (long)nr);
	enqueue_surplus(h, pool, &got);
	bool uncovered = hugetlb_read(&pool->reserved) > hugetlb_read(&pool->nr_free);
	bool short_of = !err && (uncovered || nr > hugetlb_free_within(pool, nodes));
	mutex_unlock(&h->lock);
	if (short_of) {
		MARK(hugetlb_promise_outside_of_cpuset);
		hugetlb_unreserve(h, pool, nr);
		err = -ENOMEM;
	}
	return err;
}

void hugetlb_unreserve(struct hugetlb *h, struct hugetlb_pool *pool, unsigned long nr)
{
	struct folio_list gone = {0};
	struct folio *folio;

	if (!nr)
		return;
	mutex_lock(&h->lock);
	assert_that(hugetlb_read(&pool->reserved) >= nr, "%lu of %lu promises end", nr,
		hugetlb_read(&pool->reserved));
	hugetlb_add(&pool->reserved, -(long)nr);
	for (unsigned long n = min(nr, hugetlb_read(&pool->surplus)); n; n--) {
		folio = hugetlb_remove_free(pool, h->mm->phys->has_memory, true);
		if (!folio)
			break;
		folio_list_add(&gone, folio);
	}
	mutex_unlock(&h->lock);
	while ((folio = folio_list_pop(&gone)))
		hugetlb_give_to_buddy(folio);
}
