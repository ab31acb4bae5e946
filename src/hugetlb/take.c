// SPDX-License-Identifier: MIT
// A page for an address.
//
// What the mapping was promised comes first; who was promised nothing gets what the pool has
// beyond all promises. The policy of the address says from which node on to look, and where: a
// page that is free elsewhere does not help a mapping bound to a node, promised or not, and the
// fault ends in SIGBUS. When no free page fits, a surplus page is made, if there may be one more.
//
// A page that was taken is given back whole when it could not be mapped: promise and all.
//
// Locks: hugetlb->lock inside. What can fail: -EIO; FAULT_AGAIN.
#include "hugetlb/internal.h"

#include "base/mark.h"
#include "base/wait.h"
#include "virt/fault_internal.h"
#include "virt/task.h"

#include <errno.h>

#define LOOK_NS 100000

static struct folio *from_pool(const struct hugetlb_claim *claim, const struct policy_placement *p,
	bool many, struct task *task)
{
	struct folio *folio;

	if (!claim->promised && !hugetlb_available(claim->pool))
		return NULL;
	folio = hugetlb_dequeue(claim->h, claim->pool, 0, p->nid, p->allowed);
	if (!folio && many)
		folio = hugetlb_dequeue(claim->h, claim->pool, 0, p->nid, task_mems_allowed(task));
	return folio;
}

static struct folio *beyond_pool(const struct hugetlb_claim *claim,
	const struct policy_placement *p, bool many, struct task *task)
{
	struct folio *folio =
		hugetlb_alloc_surplus(claim->h, claim->pool, 0, p->nid, p->allowed);

	if (!folio && many)
		folio = hugetlb_alloc_surplus(claim->h, claim->pool, 0, p->nid,
			task_mems_allowed(task));
	return folio;
}

// The promise is kept (or none was needed). H
static void commit(struct hugetlb_claim *claim)
{
	if (claim->promised)
		hugetlb_add(&claim->pool->reserved, -1);
	hugetlb_promise_use(claim);
}

// A promised page that somebody gave up (promise.c, below) may not be back yet: the next look finds
// it, or the one after. Who has it may need the time, but none of the locks that are held here.
static int none_found(const struct hugetlb_pool *pool, bool owed)
{
	if (!owed) {
		MARK(hugetlb_no_page);
		return -EIO;
	}
	MARK(hugetlb_page_on_its_way);
	(void)!wait_until(pool, !hugetlb_is_owed(pool), LOOK_NS);
	return FAULT_AGAIN;
}

int hugetlb_take(struct hugetlb_claim *claim, struct vma *vma, uint64_t addr, struct task *task,
	bool beside, struct folio **ret_folio)
{
	struct hugetlb *h = vma->space->mm->hugetlb;
	bool many;

	*claim = (struct hugetlb_claim){.h = h, .pool = hugetlb_pool_of_vma(h, vma), .vma = vma,
		.addr = addr};
	struct policy_placement p = vma_placement(vma, addr, claim->pool->order, task, &many);
	mutex_lock(&h->lock);
	claim->promised = !beside && hugetlb_is_promised(claim);
	struct folio *folio = from_pool(claim, &p, many, task);
	bool owed = claim->promised && hugetlb_is_owed(claim->pool);
	if (folio)
		commit(claim);
	mutex_unlock(&h->lock);
	if (!folio) {
		folio = beyond_pool(claim, &p, many, task);
		mutex_lock(&h->lock);
		if (folio)
			commit(claim);
		mutex_unlock(&h->lock);
	}
	if (!folio)
		return none_found(claim->pool, owed);
	*ret_folio = folio;
	return 0;
}

void hugetlb_give_back(struct hugetlb_claim *claim, struct folio *folio)
{
	struct hugetlb *h = claim->h;

	// Promised before it is free: not even a surplus page goes to the buddy then, or to others.
	mutex_lock(&h->lock);
	if (claim->promised) {
		hugetlb_add(&claim->pool->reserved, 1);
		hugetlb_promise_unuse(claim);
	}
	mutex_unlock(&h->lock);
	folio_put(folio);
}
