// SPDX-License-Identifier: MIT
// The machines that a story can be played on, by the name that --on takes.
//
// One row a machine; the player, the reports and the comparison know none of them. A row without
// operations is a machine that this build does not have, and says so.

#include "lab/engine_machine.h"
#include "lab/host_machine.h"
#include "lab/lab_machine.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static const struct {
	const char *name;
	const struct lab_machine_ops *ops;
} machines[] = {
	{"engine", &engine_machine_ops},
	{"host", &host_machine_ops},
};

int lab_machine_open(const char *name, const struct lab_options *options,
	struct lab_machine **ret_machine, char *failure, size_t failure_size)
{
	for (size_t i = 0; i < sizeof(machines) / sizeof(machines[0]); i++) {
		if (strcmp(name, machines[i].name))
			continue;
		if (machines[i].ops)
			return machines[i].ops->open(options, ret_machine, failure, failure_size);
		snprintf(failure, failure_size, "the machine '%s' is not in this build", name);
		return -ENOSYS;
	}
	snprintf(failure, failure_size, "unknown machine '%s', expected engine or host", name);
	return -EINVAL;
}
