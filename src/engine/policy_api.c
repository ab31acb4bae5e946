// SPDX-License-Identifier: MIT
// include/godwit/policy.h: policies and cpusets of tasks.
#include <godwit/policy.h>

#include "engine/engine.h"
#include "engine/move_options.h"
#include "migrate/move_pages.h"
#include "virt/cpuset.h"
#include "virt/mempolicy_calls.h"

#include <errno.h>

int gw_set_mempolicy(struct gw_task *task, int mode, const unsigned long *nodes,
	unsigned long maxnode)
{
	if (task_refused(task))
		return task_refused(task);
	return policy_set_task(task_of(task), mode, nodes, maxnode);
}

int gw_get_mempolicy(struct gw_task *task, int *ret_mode, unsigned long *ret_nodes,
	unsigned long maxnode, uint64_t address, unsigned long flags)
{
	if (task_refused(task))
		return task_refused(task);
	return policy_get(task_of(task), ret_mode, ret_nodes, maxnode, address, flags);
}

int gw_mbind(struct gw_task *task, uint64_t address, uint64_t length, int mode,
	const unsigned long *nodes, unsigned long maxnode, unsigned flags)
{
	return gw_mbind_explained(task, address, length, mode, nodes, maxnode, flags, NULL);
}

int gw_mbind_explained(struct gw_task *task, uint64_t address, uint64_t length, int mode,
	const unsigned long *nodes, unsigned long maxnode, unsigned flags,
	const struct gw_move_options *options)
{
	struct migrate_control mc;
	struct move_notes notes;

	if (task_refused(task))
		return task_refused(task);
	int err = move_options_begin(options, &mc, &notes);
	if (err)
		return err;
	err = (int)mbind_range(task_of(task), address, length, mode, nodes, maxnode, flags, &mc);
	move_options_end(&mc, &notes);
	return err;
}

int gw_set_mems(struct gw_task *task, uint64_t nodes, int move)
{
	const struct nodemask mems = {nodes};

	if (task_refused(task))
		return task_refused(task);
	return cpuset_set_mems(task_of(task), &mems, move ? cpuset_migrate : NULL);
}

uint64_t gw_get_mems(const struct gw_task *task)
{
	if (task_refused(task))
		return 0;
	return task_of_const(task)->mems_allowed.bits;
}
