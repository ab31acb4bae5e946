// SPDX-License-Identifier: MIT
// cpuset.mems of a task: which nodes it may use. Changing it rebinds policies and, where the
// hierarchy says so, moves the pages along, keeping their relative place.
#ifndef GODWIT_VIRT_CPUSET_H
#define GODWIT_VIRT_CPUSET_H

#include "base/nodemask.h"

struct task;

// -EINVAL: empty, or no node with memory. Calls migrate(task, old, new) after the change when it
// is not NULL.
int cpuset_set_mems(struct task *, const struct nodemask *mems,
	int (*migrate)(struct task *, const struct nodemask *from, const struct nodemask *to));

#endif
