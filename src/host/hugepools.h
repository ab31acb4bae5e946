// SPDX-License-Identifier: MIT
// Pools of huge pages, by node and size.
#ifndef GODWIT_HOST_HUGEPOOLS_H
#define GODWIT_HOST_HUGEPOOLS_H

#include "host/host.h"

#define HUGE_SIZES_MAX 8

struct host_pool {
	uint64_t total, free, surplus; // pages; total includes surplus, as in /proc/meminfo
};

// The sizes in bytes that the kernel has pools for, rising. The number of them; 0: none.
size_t host_huge_sizes(struct host *host, uint64_t sizes[HUGE_SIZES_MAX]);

// -ENOENT: no such size or node.
must_check int host_pool_read(
	struct host *host, unsigned node, uint64_t page_size, struct host_pool *ret_pool);

// The path of a file of a node's pool, or with node -1 of the machine's; returns buf.
const char *host_pool_path(int node, uint64_t page_size, const char *file, char *buf, size_t size);

#endif
