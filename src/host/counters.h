// SPDX-License-Identifier: MIT
// The counters of /proc/vmstat.
#ifndef GODWIT_HOST_COUNTERS_H
#define GODWIT_HOST_COUNTERS_H

#include "host/host.h"

// Calls each() with every counter, in the file's order, until it returns an error, which is then
// returned. Brings the counters up to date first where this process may (root).
must_check int host_vmstat(
	struct host *host, int (*each)(void *arg, const char *name, int64_t value), void *arg);

#endif
