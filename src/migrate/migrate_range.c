// SPDX-License-Identifier: MIT
// migrate_pages(2): all pages of a task from some nodes to others, keeping their relative places;
// and the same for a cpuset whose nodes change.
//
//   migrate_range()         the system call: who may, and which nodes
//   cpuset_migrate()        pages follow the cpuset; shared ones too
//   space_migrate_nodes()   the order of moves, then one node to one node at a time
//
// The nth node of `from` goes to the nth of `to` (modulo). When the sets overlap, the order of
// moves matters: a node that is both must be emptied before others are moved onto it, or pages
// would move twice. So each round takes a source whose destination is no source any more, if there
// is one. When the sets differ in size, a source that is in `to` stays where it is.
//
// mmap_lock is held for reading while pages are collected, not while they move. A page that cannot
// be isolated or moved counts in the return value and is not an error.
#include "base/mark.h"
#include "migrate/lookup.h"
#include "migrate/move_pages.h"
#include "phys/alloc.h"
#include "virt/mempolicy_calls.h"
#include "virt/task.h"

#include <errno.h>

#define WHOLE_SPACE (UINT64_MAX & PAGE_MASK) // its end

static int collect(struct page_queue *q, struct space *space)
{
	int err;

	read_lock(&space->mmap_lock);
	err = queue_pages_range(q, space, 0, WHOLE_SPACE);
	read_unlock(&space->mmap_lock);
	return err;
}

static long migrate_to_node(struct space *space, int from, int to, const struct nodes_move *move,
	struct migrate_control *mc)
{
	struct mm_core *mm = space->mm;
	struct page_queue q = {
		.mm = mm,
		.nodes = nodemask_of((unsigned)from),
		.flags = move->all ? MBIND_MOVE_ALL : MBIND_MOVE,
		.stayed = mc->stayed,
	};
	struct node_target target = {
		.mm = mm,
		.nid = to,
		.gfp = GFP_HIGHUSER_MOVABLE | GFP_THISNODE,
		.cpu = move->cpu,
		.reason = MR_SYSCALL,
		.keep_huge = mc->keep_huge,
	};
	int err = collect(&q, space);

	mc->nr_shared += q.nr_shared;
	mc->nr_refused += q.nr_refused;
	if (mc->untried == WHY_MOVED)
		mc->untried = q.failed;
	if (!err && !folio_list_empty(&q.list)) {
		migrate_target_on_node(&mc->target, &target);
		err = migrate_pages(&q.list, mc);
	}
	queue_meet_stayed(&q, space, 0, WHOLE_SPACE);
	putback_movable_pages(mm, &q.list);
	return err < 0 ? err : err + (long)q.nr_failed;
}

static int destination(int node, struct nodemask from, struct nodemask to)
{
	if (nodemask_weight(from) != nodemask_weight(to) && nodemask_test(to, (unsigned)node))
		return node;
	return nodemask_nth(to, nodemask_rank(from, (unsigned)node) % nodemask_weight(to));
}

// The next move: sources left in `left`. false: none.
static bool next_move(struct nodemask left, struct nodemask from, struct nodemask to,
	int *ret_source, int *ret_dest)
{
	bool found = false;
	int node;

	for_each_node_in(node, left) {
		int dest = destination(node, from, to);

		if (dest == node)
			continue;
		found = true;
		*ret_source = node;
		*ret_dest = dest;
		if (!nodemask_test(left, (unsigned)dest))
			break;
	}
	return found;
}

long space_migrate_nodes(struct space *space, const struct nodes_move *move)
{
	struct migrate_control own = {0}, *mc = move->control ? move->control : &own;
	struct nodemask left = move->from;
	int source, dest;
	long failed = 0;

	if (nodemask_empty(move->to))
		return 0;
	mc->mm = space->mm;
	mc->mode = MIGRATE_SYNC;
	mc->reason = MR_SYSCALL;
	while (next_move(left, move->from, move->to, &source, &dest)) {
		nodemask_clear(&left, (unsigned)source);
		long err = migrate_to_node(space, source, dest, move, mc);
		if (err < 0)
			return err;
		failed += err;
	}
	return failed;
}

static long migrate_task(struct task *caller, struct task *target, struct nodemask from,
	struct nodemask to, struct migrate_control *mc)
{
	struct space *space;
	long ret;

	if (!nodemask_subset(to, task_mems_allowed(target)) && !caller->cap_sys_nice)
		return -EPERM;
	to = nodemask_and(to, task_mems_allowed(caller));
	if (nodemask_empty(to))
		return -EINVAL;
	space = task_space_get(target);
	if (!space)
		return -EINVAL;
	const struct nodes_move move = {from, to, caller->cap_sys_nice, atomic_load(&caller->cpu),
		mc};
	ret = space_migrate_nodes(space, &move);
	space_put(space);
	return ret;
}

long migrate_range(struct task *caller, int pid, unsigned long maxnode, const unsigned long *from,
	const unsigned long *to, struct migrate_control *mc)
{
	struct nodemask old, new;
	struct task *target;
	bool any;
	long err = policy_get_nodes(from, maxnode, &old, &any);

	if (!err)
		err = policy_get_nodes(to, maxnode, &new, &any);
	if (!err)
		err = find_target_task(caller, pid, &target);
	if (err)
		return err;
	err = migrate_task(caller, target, old, new, mc);
	task_put(target);
	return err;
}

int cpuset_migrate(struct task *task, const struct nodemask *from, const struct nodemask *to)
{
	const struct nodes_move move = {*from, *to, true, atomic_load(&task->cpu), NULL};
	struct space *space = task_space_get(task);
	long ret;

	if (!space)
		return 0;
	ret = space_migrate_nodes(space, &move);
	space_put(space);
	return ret < 0 ? (int)ret : 0;
}
