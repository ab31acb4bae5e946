// SPDX-License-Identifier: MIT
// The option --backend soft|signal|userfaultfd of tests that run on each: what a machine's
// configuration says of it.
#ifndef GODWIT_TESTS_BACKEND_OPTION_H
#define GODWIT_TESTS_BACKEND_OPTION_H

#include <godwit/machine.h>

#include <stdbool.h>
#include <string.h>

#define BACKEND_USAGE "[--backend soft|signal|userfaultfd]"

static enum gw_backend backend = GW_BACKEND_SOFT;
static enum gw_blocker blocker;

// False: there is no such backend.
static inline bool backend_option(const char *name)
{
	if (!strcmp(name, "soft")) {
		backend = GW_BACKEND_SOFT;
		return true;
	}
	backend = GW_BACKEND_REWIRE;
	blocker = *name == 's' ? GW_BLOCKER_SIGNAL : GW_BLOCKER_USERFAULTFD;
	return !strcmp(name, "signal") || !strcmp(name, "userfaultfd");
}

#endif
