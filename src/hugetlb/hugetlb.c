// SPDX-License-Identifier: MIT
// All pools of a machine: set up with their upcalls, found by size, checked and taken down.
//
// The layers below call up through mm->up and phys->up, which are filled here. No lock is needed
// for any of this but the checks' promise that nothing runs. Nothing can fail.
#include "hugetlb/internal.h"

#include "base/assert.h"

static void init_pool(struct hugetlb_pool *pool, unsigned order, struct phys *phys)
{
	pool->order = order;
	pool->next_alloc = pool->next_free = nodemask_first(phys->has_memory);
}

void hugetlb_init(struct hugetlb *h, struct mm_core *mm)
{
	*h = (struct hugetlb){.mm = mm};
	mutex_init(&h->lock, RANK_HUGETLB);
	for (unsigned i = 0; i < HUGETLB_FAULT_LOCKS; i++)
		mutex_init(&h->fault_lock[i], RANK_HUGETLB_FAULT);
	init_pool(&h->pool[HUGETLB_2M], PMD_ORDER, mm->phys);
	init_pool(&h->pool[HUGETLB_1G], PUD_SHIFT - PAGE_SHIFT, mm->phys);
	mm->hugetlb = h;
	mm->up.hugetlb_fault = hugetlb_fault;
	mm->up.hugetlb_split = hugetlb_vma_split;
	mm->up.hugetlb_close = hugetlb_vma_close;
	mm->up.hugetlb_zap = hugetlb_vma_zap;
	mm->up.hugetlb_fork_copy = hugetlb_fork_copy;
	mm->up.hugetlb_isolate = hugetlb_isolate;
	mm->up.hugetlb_putback = hugetlb_putback;
	mm->up.hugetlb_target = hugetlb_target;
	mm->up.hugetlb_moved = hugetlb_moved;
	mm->phys->up.free_hugetlb = hugetlb_free_folio;
}

// Nobody has a page or a promise any more: what is left is free, surplus or not.
static void empty_pool(struct hugetlb *h, struct hugetlb_pool *pool)
{
	struct folio *folio;

	do {
		mutex_lock(&h->lock);
		folio = hugetlb_remove_free(pool, h->mm->phys->has_memory, false);
		mutex_unlock(&h->lock);
		if (folio)
			hugetlb_give_to_buddy(folio);
	} while (folio);
	assert_that(!hugetlb_read(&pool->nr), "%lu pages of order %u are in use",
		hugetlb_read(&pool->nr), pool->order);
}

void hugetlb_destroy(struct hugetlb *h)
{
	if (!h->mm)
		return;
	for (unsigned i = 0; i < HUGETLB_SIZES; i++)
		empty_pool(h, &h->pool[i]);
	for (unsigned i = 0; i < HUGETLB_FAULT_LOCKS; i++)
		mutex_destroy(&h->fault_lock[i]);
	mutex_destroy(&h->lock);
	h->mm->hugetlb = NULL;
	h->mm = NULL;
}

struct hugetlb_pool *hugetlb_pool_of_shift(struct hugetlb *h, unsigned shift)
{
	for (unsigned i = 0; h && i < HUGETLB_SIZES; i++)
		if (h->pool[i].order + PAGE_SHIFT == shift)
			return &h->pool[i];
	return NULL;
}

struct hugetlb_pool *hugetlb_pool_of_vma(struct hugetlb *h, const struct vma *vma)
{
	return &h->pool[vma->flags & VM_HUGETLB_1G ? HUGETLB_1G : HUGETLB_2M];
}

struct hugetlb_pool *hugetlb_pool_of_folio(struct hugetlb *h, const struct folio *folio)
{
	return &h->pool[folio_order(folio) == PMD_ORDER ? HUGETLB_2M : HUGETLB_1G];
}

// ---- The books

void hugetlb_check(struct hugetlb *h)
{
	struct folio *folio;

	for (unsigned i = 0; i < HUGETLB_SIZES; i++) {
		const struct hugetlb_pool *pool = &h->pool[i];
		unsigned long nr = 0, nr_free = 0, surplus = 0, temporary = 0;

		for (unsigned nid = 0; nid < MAX_NODES; nid++) {
			unsigned long listed = 0;

			for_each_folio(folio, &pool->free[nid]) {
				must_hold(folio_test_hugetlb(folio) && !folio_ref_count(folio) &&
						  folio_nid(folio) == nid &&
						  folio_order(folio) == pool->order,
					"pfn %#lx on the list of node %u",
					(unsigned long)folio_pfn(folio).n, nid);
				listed++;
			}
			// As in Linux a node may have more surplus than pages: a pool that shrinks
			// takes any free page of it.
			must_hold(listed == hugetlb_read(&pool->free_node[nid]) &&
					  listed <= hugetlb_read(&pool->nr_node[nid]),
				"node %u: %lu free pages of order %u, counted %lu of %lu", nid,
				listed, pool->order, hugetlb_read(&pool->free_node[nid]),
				hugetlb_read(&pool->nr_node[nid]));
			nr += hugetlb_read(&pool->nr_node[nid]);
			temporary += hugetlb_read(&pool->temporary_node[nid]);
			nr_free += listed;
			surplus += hugetlb_read(&pool->surplus_node[nid]);
		}
		must_hold(nr == hugetlb_read(&pool->nr) &&
				  nr_free == hugetlb_read(&pool->nr_free) &&
				  surplus == hugetlb_read(&pool->surplus) &&
				  temporary == hugetlb_read(&pool->temporary) &&
				  surplus + temporary <= nr &&
				  hugetlb_read(&pool->reserved) <= nr_free,
			"pool of order %u: %lu pages, %lu free, %lu surplus, %lu promised; counted "
			"%lu, %lu, %lu",
			pool->order, nr, nr_free, surplus, hugetlb_read(&pool->reserved),
			hugetlb_read(&pool->nr), hugetlb_read(&pool->nr_free),
			hugetlb_read(&pool->surplus));
	}
}
