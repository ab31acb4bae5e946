// SPDX-License-Identifier: MIT
// mbind(2): a policy for a range, and the pages that do not follow it.
//
//   mbind_range()   virt/mempolicy_calls.h checks and sets the policy; in between it calls back
//                   here, under mmap_lock, to collect the misplaced pages. They are migrated after
//                   mmap_lock is dropped, to where the new policy says
//
// Misplaced: on a node that is not in the mask as the caller gave it. STRICT alone: any such page
// is
// -EIO, and the policy is not set. MOVE, MOVE_ALL: they are migrated; that some stay matters only
// with STRICT (-EIO, the policy stays set). A shared page that MOVE passes over is no failure.
//
// Targets are allocated by the new policy, not on one node; an interleave goes by page offset, so
// that a page goes where a first touch would have put it.
#include "base/mark.h"
#include "migrate/lookup.h"
#include "migrate/move_pages.h"
#include "virt/mempolicy.h"
#include "virt/mempolicy_calls.h"
#include "virt/task.h"

#include <errno.h>

struct mbind {
	struct mbind_request rq;
	struct page_queue queue;
	struct task *task;
	struct migrate_control *control; // the caller's, or NULL
};

static bool keeps_huge(const struct mbind *mb)
{
	return mb->control && mb->control->keep_huge;
}

static struct folio *get_by_policy(struct folio *src, void *arg)
{
	struct mbind *mb = arg;
	struct mm_core *mm = mb->task->mm;
	unsigned order = folio_order(src);
	gfp_t gfp = order ? GFP_TRANSHUGE : GFP_HIGHUSER_MOVABLE | GFP_RETRY_MAYFAIL;
	if (order && keeps_huge(mb))
		gfp |= GFP_RETRY_MAYFAIL;
	uint64_t index = folio_index(src) >> order;

	if (!folio_test_hugetlb(src))
		return folio_alloc_policy(mm, gfp, order, mb->rq.policy, index, mb->task);
	if (!mm->up.hugetlb_target)
		return NULL;
	// A preference binds nobody: a free page elsewhere is as good as one made there.
	struct policy_placement p = mempolicy_place(mm, mb->rq.policy, index, mb->task);
	return mm->up.hugetlb_target(src, p.nid, p.allowed, GFP_HIGHUSER_MOVABLE,
		MR_MEMPOLICY_MBIND);
}

// Under mmap_lock, before the policy is set.
static int queue_misplaced(struct space *space, struct mbind_request *rq)
{
	struct mbind *mb = container_of(rq, struct mbind, rq);
	struct page_queue *q = &mb->queue;

	q->nodes = rq->user;
	q->invert = true;
	q->flags = (unsigned)rq->flags;
	q->stayed = mb->control ? mb->control->stayed : NULL;
	return queue_pages_range(q, space, rq->start, rq->end);
}

static void describe(const struct folio *src, char *buf, size_t size, void *arg)
{
	struct mbind *mb = arg;
	struct phys *phys = mb->task->mm->phys;
	struct nodemask nodes = mb->rq.policy ? mempolicy_nodes(mb->rq.policy) : NODEMASK_NONE;

	migrate_describe_room(phys, nodemask_empty(nodes) ? phys->has_memory : nodes,
		folio_order(src), buf, size);
}

static long migrate_queued(struct mbind *mb)
{
	struct migrate_control own = {0}, *mc = mb->control ? mb->control : &own;

	if (folio_list_empty(&mb->queue.list))
		return 0;
	mc->mm = mb->task->mm;
	mc->mode = MIGRATE_SYNC;
	mc->reason = MR_MEMPOLICY_MBIND;
	mc->target = (struct migrate_target){.get = get_by_policy, .describe = describe, .arg = mb};
	return migrate_pages(&mb->queue.list, mc);
}

long mbind_range(struct task *caller, uint64_t start, uint64_t len, int mode,
	const unsigned long *nmask, unsigned long maxnode, unsigned flags,
	struct migrate_control *control)
{
	struct space *space = task_space_get(caller);
	struct mbind mb = {
		.rq = {.start = start,
			.len = len,
			.mode = mode,
			.nmask = nmask,
			.maxnode = maxnode,
			.flags = flags,
			.queue = queue_misplaced},
		.queue = {.mm = caller->mm},
		.task = caller,
		.control = control,
	};
	long err, stay = 0;

	if (!space)
		return -EINVAL;
	err = mbind_policy(space, caller, &mb.rq);
	if (control) {
		control->nr_shared += mb.queue.nr_shared;
		control->nr_refused += mb.queue.nr_refused;
		control->untried = mb.queue.failed;
	}
	if (!err)
		stay = migrate_queued(&mb);
	if (!err && stay == -ENOMEM && keeps_huge(&mb)) {
		err = -ENOMEM;
	} else if (!err && (stay || mb.queue.nr_failed) && (mb.rq.flags & MBIND_STRICT)) {
		MARK(mbind_strict_failed);
		err = -EIO;
	}
	queue_meet_stayed(&mb.queue, space, mb.rq.start, mb.rq.end);
	putback_movable_pages(caller->mm, &mb.queue.list);
	mempolicy_put(mb.rq.policy);
	space_put(space);
	return err;
}
