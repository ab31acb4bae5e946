// SPDX-License-Identifier: MIT
// Pools of huge pages: sys/kernel/mm/hugepages for the machine, a folder like it for each node.
//
// A kernel without NUMA has only the machine's, which then is node 0's. Sizes are the names of the
// folders, hugepages-2048kB.

#include "host/hugepools.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct sizes {
	uint64_t *v;
	size_t count;
};

static void add_size(void *arg, const char *name)
{
	struct sizes *s = arg;
	uint64_t kb;
	size_t at;

	if (sscanf(name, "hugepages-%" SCNu64 "kB", &kb) != 1 || s->count == HUGE_SIZES_MAX)
		return;
	for (at = s->count++; at && s->v[at - 1] > kb << 10; at--)
		s->v[at] = s->v[at - 1];
	s->v[at] = kb << 10;
}

size_t host_huge_sizes(struct host *host, uint64_t sizes[HUGE_SIZES_MAX])
{
	struct sizes s = {.v = sizes};

	return host_list(host, "sys/kernel/mm/hugepages", add_size, &s) ? 0 : s.count;
}

const char *host_pool_path(int node, uint64_t page_size, const char *file, char *buf, size_t size)
{
	char folder[64] = "sys/kernel/mm";

	if (node >= 0)
		snprintf(folder, sizeof folder, "sys/devices/system/node/node%d", node);
	snprintf(buf, size, "%s/hugepages/hugepages-%" PRIu64 "kB/%s", folder, page_size >> 10,
		file);
	return buf;
}

static int read_pool(struct host *host, int node, uint64_t page_size, struct host_pool *pool)
{
	const struct {
		const char *file;
		uint64_t *number;
	} files[] = {
		{"nr_hugepages", &pool->total},
		{"free_hugepages", &pool->free},
		{"surplus_hugepages", &pool->surplus},
	};
	char path[160];
	int err = 0;

	for (size_t i = 0; !err && i < ARRAY_SIZE(files); i++)
		err = host_read_number(host,
			host_pool_path(node, page_size, files[i].file, path, sizeof path),
			files[i].number);
	return err;
}

int host_pool_read(struct host *host, unsigned node, uint64_t page_size, struct host_pool *ret_pool)
{
	struct host_pool pool = {0};
	int err = read_pool(host, (int)node, page_size, &pool);

	if (err == -ENOENT && node == 0 && !host_has(host, "sys/devices/system/node"))
		err = read_pool(host, -1, page_size, &pool);
	if (!err)
		*ret_pool = pool;
	return err;
}
