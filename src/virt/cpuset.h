// SPDX-License-Identifier: MIT
// cpuset.mems of a task: which nodes it may use. Changing it rebinds policies and, where the
// hierarchy says so, moves the pages along, keeping their relative place.
#ifndef GODWIT_VIRT_CPUSET_H
#define GODWIT_VIRT_CPUSET_H

#include "base/nodemask.h"

struct task;

// -EINVAL: empty, or not a subset of the nodes with memory. Calls migrate(task, old, new) after the
// change, without any lock, when it is not NULL and the nodes differ; what it could not move stays
// where it is, and that is no failure of the change. -ESRCH: the task has exited.
int cpuset_set_mems(struct task *, const struct nodemask *mems,
	int (*migrate)(struct task *, const struct nodemask *from, const struct nodemask *to));

#endif
