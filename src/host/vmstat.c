// SPDX-License-Identifier: MIT
// Counters, brought up to date before they are read.
//
// Each cpu keeps a part of every counter for itself and passes it on now and then, so that what
// /proc/vmstat says may be behind by a second, or by more on an idle cpu. Reading vm.stat_refresh
// makes all cpus pass on what they have; it is root's. Without it the numbers are what they are.

#include "host/counters.h"

#include <stdlib.h>
#include <string.h>

int host_vmstat(
	struct host *host, int (*each)(void *arg, const char *name, int64_t value), void *arg)
{
	char *text, *rest, *line;
	int err;

	if (!host_read(host, "proc/sys/vm/stat_refresh", &text))
		free(text);
	err = host_read(host, "proc/vmstat", &text);
	if (err)
		return err;
	for (rest = text; !err && (line = strsep(&rest, "\n"));) {
		char *blank = strchr(line, ' ');

		if (!blank)
			continue;
		*blank = '\0';
		err = each(arg, line, strtoll(blank + 1, NULL, 10));
	}
	free(text);
	return err;
}
