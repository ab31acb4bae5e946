// SPDX-License-Identifier: MIT
// Huge pages of this host's pools for `godwit bench --against host`.
#ifndef GODWIT_CLI_BENCH_POOL_H
#define GODWIT_CLI_BENCH_POOL_H

#include "host/journal.h"

struct bench_pool {
	struct host host;
	struct host_journal journal;
	bool taken; // there is something to give back
};

// Whether pools may be changed: the user allows it, or root runs this on the test guest.
bool bench_pool_may_change(bool allowed);
// So many free huge pages in the pool of each of two nodes, until bench_pool_release(), or until
// this process is gone. What cannot be had has been printed; the rows that want it say so, too.
void bench_pool_reserve(struct bench_pool *pool, const int node[2], unsigned pages);
// False: it could not be put back, which has been printed.
bool bench_pool_release(struct bench_pool *pool);

#endif
