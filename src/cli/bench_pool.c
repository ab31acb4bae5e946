// SPDX-License-Identifier: MIT
// Huge pages of this host's pools for `godwit bench --against host`.
//
// The rows that move pages of the pool want them free on both nodes. With --allow-system-changes,
// or as root on the test guest (the rule of stories), the pools of two nodes grow for the time of
// the run, by as many as are missing, and shrink again at the end: through the journal, so that a
// run that is killed leaves nothing behind either (its guardian, or `godwit lab restore`).
//
// What can fail: no rights; another godwit has the journal; a node has no memory that is free in
// pieces of 2 MiB. Each is told, and costs no other row.
#include "cli/bench_pool.h"

#include "host/hugepools.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define POOL_PAGE_SIZE (2ull << 20)

static void complain(void *arg, const char *text)
{
	(void)arg;
	fprintf(stderr, "godwit: %s\n", text);
}

static int grow(struct bench_pool *pool, int node, unsigned pages)
{
	struct host_pool now;
	char path[160], value[24];
	int err = host_pool_read(&pool->host, (unsigned)node, POOL_PAGE_SIZE, &now);

	if (err || now.free >= pages)
		return err;
	// A write counts without the surplus.
	snprintf(value, sizeof value, "%" PRIu64, now.total - now.surplus + pages - now.free);
	host_pool_path(node, POOL_PAGE_SIZE, "nr_hugepages", path, sizeof path);
	err = host_journal_set(&pool->journal, path, value);
	if (!err)
		err = host_pool_read(&pool->host, (unsigned)node, POOL_PAGE_SIZE, &now);
	if (!err && now.free < pages)
		fprintf(stderr, "godwit: node %d gave %" PRIu64 " of %u huge pages\n", node,
			now.free, pages);
	return err;
}

bool bench_pool_may_change(bool allowed)
{
	struct host host;

	return allowed || (geteuid() == 0 && !host_init(&host, NULL) && host_is_test_guest(&host));
}

void bench_pool_reserve(struct bench_pool *pool, const int node[2], unsigned pages)
{
	pid_t owner;
	int err = host_init(&pool->host, NULL);

	if (!err)
		err = host_journal_open(&pool->host, &pool->journal, &owner, complain, NULL);
	pool->taken = !err;
	if (!err)
		err = host_journal_guard(&pool->journal);
	for (int i = 0; !err && i < 2; i++)
		err = grow(pool, node[i], pages);
	if (err)
		fprintf(stderr, "godwit: cannot reserve huge pages: %s\n",
			err == -EBUSY ? "another godwit changes this machine" : strerror(-err));
}

bool bench_pool_release(struct bench_pool *pool)
{
	int err = pool->taken ? host_journal_close(&pool->journal, complain, NULL) : 0;

	pool->taken = false;
	if (err == -EAGAIN)
		complain(NULL, HOST_JOURNAL_ADVICE);
	return !err;
}
