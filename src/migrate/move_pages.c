// SPDX-License-Identifier: MIT
// move_pages(2): pages by address to nodes by number, with a status for each.
//
//   move_pages()     checks of the call as a whole, then one of
//     move_all()     consecutive addresses for the same node form a batch, which is migrated when
//                    the node changes, when an address gets its status at once, and at the end
//     ask_pages()    where pages are (nodes NULL; ask_pages.c)
//
// What a caller can rely on, as on Linux: an address that is refused has its errno in status and
// the call goes on; a batch that moved has its node in all its statuses; a batch that did not move
// in full ends the call, and neither its statuses nor later ones are written: the return value then
// counts the folios that stayed and the addresses that were not reached. A caller who wants to know
// more asks for `why`, which is written for every page.
//
// mmap_lock and a page-table lock are held while addresses are looked up, some at a time, and not
// while pages are migrated. The caller's arrays may be managed memory, not to be touched then: they
// are read before, and statuses that come meanwhile are stored after. Fails: see the header.
#include "base/mark.h"
#include "migrate/lookup.h"
#include "migrate/move_pages.h"
#include "phys/alloc.h"
#include "phys/zone.h"
#include "virt/mempolicy_calls.h"
#include "virt/task.h"

#include <errno.h>
#include <string.h>

#define PART_MAX 256

// Some addresses, as the caller's arrays have them.
struct part {
	uint64_t first, nr;
	uint64_t page[PART_MAX];
	int node[PART_MAX];
	int status[PART_MAX]; // where `stored`; not in the caller's array yet
	bool stored[PART_MAX];
};

struct mover {
	struct move_request *rq;
	struct space *space;
	struct nodemask mems; // the task's cpuset
	struct lookup lookup;
	struct part *part;
	struct node_target target;
	// The open batch: addresses [start, end) for `node` (NO_NODE: none is open), whose folios
	// are isolated.
	struct folio_list list;
	struct isolation isolation; // onto it
	int node;
	uint64_t start, end;
	uint32_t *queued;  // [count] the folio queued for an address, by its frame; 0: none
	uint64_t explained; // where in the batch the last one was found
};

static int check_call(struct move_request *rq, struct task **ret_target);
static long move_all(struct mover *mv);

static long with_space(struct move_request *rq, struct task *target)
{
	struct part part; // not zeroed: a third of the time of a page that need not move
	struct mover mv = {.rq = rq, .node = NO_NODE, .part = &part};
	size_t queued_size = rq->why && rq->nodes ? rq->count * sizeof(uint32_t) : 0;
	long ret;

	part.first = part.nr = 0;
	mv.space = task_space_get(target);
	if (!mv.space)
		return -EINVAL;
	mv.mems = task_mems_allowed(target);
	if (queued_size)
		mv.queued = meta_alloc(queued_size);
	if (queued_size && !mv.queued)
		ret = -ENOMEM;
	else
		ret = rq->nodes ? move_all(&mv) : ask_pages(rq, mv.space);
	if (mv.queued)
		meta_free(mv.queued, queued_size);
	space_put(mv.space);
	return ret;
}

long move_pages(struct move_request *rq)
{
	struct task *target;
	int err = check_call(rq, &target);

	for (uint64_t i = 0; rq->why && i < rq->count; i++)
		rq->why[i] = err == -EPERM ? WHY_NO_PERMISSION : WHY_REFUSED;
	if (err)
		return err;
	long ret = with_space(rq, target);
	task_put(target);
	return ret;
}

int find_target_task(struct task *caller, int pid, struct task **ret_target)
{
	struct task *target = caller;

	if (!pid) {
		task_get(caller);
	} else {
		target = task_find(caller->mm, pid);
		if (!target)
			return -ESRCH;
		if (task_may_access(caller, target)) {
			task_put(target);
			return -EPERM;
		}
	}
	*ret_target = target;
	return 0;
}

static int check_call(struct move_request *rq, struct task **ret_target)
{
	if (rq->flags & ~(unsigned)(MBIND_MOVE | MBIND_MOVE_ALL))
		return -EINVAL;
	if ((rq->flags & MBIND_MOVE_ALL) && !rq->caller->cap_sys_nice)
		return -EPERM;
	return find_target_task(rq->caller, rq->pid, ret_target);
}

// ---- What is said of pages

static void set_why(struct mover *mv, uint64_t index, enum migrate_why why)
{
	if (mv->rq->why)
		mv->rq->why[index] = why;
}

// Not while addresses are looked up.
static int store_status(struct mover *mv, uint64_t first, int status, uint64_t nr)
{
	if (!user_array(mv->rq->status))
		return -EFAULT;
	for (uint64_t i = first; i < first + nr; i++)
		mv->rq->status[i] = status;
	return 0;
}

// A folio of the open batch stays. Failures come in about the order of queueing.
static void explain(struct folio *folio, enum migrate_why why, const char *detail, void *arg)
{
	struct mover *mv = arg;
	uint64_t n = mv->end - mv->start;

	for (uint64_t k = 0; k < n; k++) {
		uint64_t i = mv->start + (mv->explained + k) % n;

		if (mv->queued[i] != frame_link(&folio->page))
			continue;
		mv->explained = i - mv->start + 1;
		set_why(mv, i, why);
		if (detail && mv->rq->detail)
			mv->rq->detail(i, why, detail, mv->rq->detail_arg);
		return;
	}
}

// ---- The batch

static int migrate_batch(struct mover *mv)
{
	struct migrate_control *mc = &mv->rq->totals;
	int err;

	mv->target.nid = mv->node;
	migrate_target_on_node(&mc->target, &mv->target);
	mv->explained = 0;
	for (uint64_t i = mv->start; mv->queued && i < mv->end; i++)
		if (mv->queued[i])
			set_why(mv, i, WHY_MOVED);
	err = migrate_pages(&mv->list, mc);
	if (err) {
		MARK(move_pages_batch_failed);
		putback_movable_pages(mc->mm, &mv->list);
	}
	return err;
}

// The batch ends before address i. Positive: folios that stayed, and addresses from i on.
static long flush(struct mover *mv, uint64_t i)
{
	long err;

	isolation_end(&mv->isolation);
	if (folio_list_empty(&mv->list))
		return 0;
	lookup_end(&mv->lookup);
	mv->end = i;
	err = migrate_batch(mv);
	if (err > 0)
		return err + (long)(mv->rq->count - i);
	return err ? err : store_status(mv, mv->start, mv->node, i - mv->start);
}

// ---- One address

static void hold_mmap_lock(struct mover *mv)
{
	if (!mv->lookup.space)
		lookup_begin(&mv->lookup, mv->space);
}

static void give_up_mmap_lock(struct mover *mv)
{
	const struct part *part = mv->part;

	lookup_end(&mv->lookup);
	for (uint64_t k = 0; k < part->nr; k++)
		if (part->stored[k])
			mv->rq->status[part->first + k] = part->status[k];
}

// The address i and those that follow.
static int read_part(struct mover *mv, uint64_t i)
{
	const struct move_request *rq = mv->rq;
	struct part *part = mv->part;

	give_up_mmap_lock(mv);
	if (!user_array(rq->pages) || !user_array(rq->nodes))
		return -EFAULT;
	part->first = i;
	part->nr = min(rq->count - i, (uint64_t)PART_MAX);
	memcpy(part->page, rq->pages + i, part->nr * sizeof *part->page);
	memcpy(part->node, rq->nodes + i, part->nr * sizeof *part->node);
	memset(part->stored, 0, part->nr * sizeof *part->stored);
	return 0;
}

static int refuse(enum migrate_why *why, enum migrate_why reason, int err)
{
	*why = reason;
	return err;
}

static void explain_shared(struct mover *mv, uint64_t i, const struct folio *folio)
{
	char text[32];

	if (!mv->rq->detail)
		return;
	stayed_describe_shared(folio, text, sizeof text);
	mv->rq->detail(i, WHY_SHARED, text, mv->rq->detail_arg);
}

// 1: the folio is queued. 0: it is on the node already. Else what its status shall be.
static int queue_address(struct mover *mv, uint64_t i, enum migrate_why *why)
{
	uint64_t addr = mv->part->page[i - mv->part->first];
	bool all = mv->rq->flags & MBIND_MOVE_ALL;
	struct folio *folio;
	struct vma *vma;
	int err;

	hold_mmap_lock(mv);
	vma = lookup_vma(&mv->lookup, addr);
	if (vma && !vma_migratable(vma))
		return refuse(why, WHY_NOT_MIGRATABLE, -EFAULT);
	err = lookup_folio(&mv->lookup, addr, &folio, why);
	if (err)
		return err;
	if (mv->rq->order)
		mv->rq->order[i] = (uint8_t)folio_order(folio);
	if ((int)folio_nid(folio) == mv->node)
		return refuse(why, WHY_ALREADY_THERE, 0);
	if (!all && folio_likely_mapped_shared(folio)) {
		explain_shared(mv, i, folio);
		return refuse(why, WHY_SHARED, -EACCES);
	}
	if (isolation_add(&mv->isolation, folio))
		return refuse(why, why_not_isolated(folio), -EBUSY);
	if (mv->queued)
		mv->queued[i] = frame_link(&folio->page);
	return 1;
}

static int read_node(struct mover *mv, uint64_t i, int *ret_node)
{
	int err = i - mv->part->first < mv->part->nr ? 0 : read_part(mv, i), node;

	if (err)
		return err;
	node = mv->part->node[i - mv->part->first];
	if (node < 0 || !nodemask_test(mv->space->mm->phys->has_memory, (unsigned)node))
		return -ENODEV;
	if (!nodemask_test(mv->mems, (unsigned)node))
		return -EACCES;
	*ret_node = node;
	return 0;
}

static enum migrate_why why_not_to_node(long err)
{
	if (err == -EACCES)
		return WHY_NODE_NOT_ALLOWED;
	return err == -ENODEV ? WHY_NO_SUCH_NODE : WHY_REFUSED;
}

// The address has its status at once, and that ends the batch before it. Positive: as flush(), less
// this address, which is done.
static long store_and_flush(struct mover *mv, uint64_t i, int status)
{
	uint64_t k = i - mv->part->first;
	long ret;

	if (!user_array(mv->rq->status))
		return -EFAULT;
	mv->part->status[k] = status ? status : mv->node;
	mv->part->stored[k] = true;
	ret = flush(mv, i);
	mv->node = NO_NODE;
	return ret > 0 ? ret - 1 : ret;
}

static void prepare(struct mover *mv)
{
	struct move_request *rq = mv->rq;

	for (uint64_t i = 0; mv->rq->why && i < rq->count; i++)
		set_why(mv, i, WHY_ABORTED);
	isolation_begin(&mv->isolation, mv->space->mm, &mv->list);
	mv->target = (struct node_target){
		.mm = mv->space->mm,
		.gfp = GFP_HIGHUSER_MOVABLE | GFP_THISNODE,
		.allowed = task_mems_allowed(rq->caller), // it is the caller who allocates
		.cpu = atomic_load(&rq->caller->cpu),
		.reason = MR_SYSCALL,
		.keep_huge = rq->keep_huge,
	};
	rq->totals = (struct migrate_control){
		.mm = mv->space->mm,
		.mode = MIGRATE_SYNC,
		.reason = MR_SYSCALL,
		.pause_budget_us = rq->pause_budget_us,
		.keep_huge = rq->keep_huge,
		.explain = mv->queued ? explain : NULL,
		.explain_arg = mv,
	};
}

// 0: go on. *ret_flushed: the error is that of a flush, and there is nothing left to flush.
static long move_address(struct mover *mv, uint64_t i, bool *ret_flushed)
{
	enum migrate_why why = WHY_MOVED;
	int node, queued;
	long err = read_node(mv, i, &node);

	*ret_flushed = false;
	if (err) {
		set_why(mv, i, why_not_to_node(err));
		return err;
	}
	if (mv->node != NO_NODE && node != mv->node) {
		*ret_flushed = true;
		err = flush(mv, i);
		if (err)
			return err;
		mv->node = NO_NODE;
	}
	if (mv->node == NO_NODE) {
		mv->node = node;
		mv->start = i;
	}
	queued = queue_address(mv, i, &why);
	if (queued > 0)
		return 0;
	set_why(mv, i, why);
	*ret_flushed = user_array(mv->rq->status);
	return store_and_flush(mv, i, queued);
}

static long move_all(struct mover *mv)
{
	bool flushed = false;
	long err = 0;
	uint64_t i;

	prepare(mv);
	for (i = 0; i < mv->rq->count; i++) {
		err = move_address(mv, i, &flushed);
		if (err)
			break;
	}
	if (!err || !flushed) {
		long err1 = flush(mv, i);
		if (!err)
			err = err1;
	}
	give_up_mmap_lock(mv);
	return err;
}
