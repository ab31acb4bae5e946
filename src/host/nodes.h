// SPDX-License-Identifier: MIT
// The nodes of the machine: which are there, what memory and cpus they have, how far apart.
#ifndef GODWIT_HOST_NODES_H
#define GODWIT_HOST_NODES_H

#include "base/bitmap.h"
#include "base/nodemask.h"
#include "host/host.h"

#define HOST_CPUS_MAX 1024

struct host_node {
	uint64_t total_bytes, free_bytes; // 0: no memory
	DECLARE_BITMAP(cpus, HOST_CPUS_MAX);
	unsigned distance[MAX_NODES]; // 0: not told
};

struct host_nodes {
	struct nodemask online;
	struct nodemask memory; // those of `online` that have some
	struct host_node node[MAX_NODES];
	char damaged[64]; // with -EINVAL: the file
};

// A kernel without NUMA gives one node. Nodes from MAX_NODES on are not seen. ret_nodes is large:
// keep it off small stacks. -EINVAL: a file holds something else, ret_nodes->damaged.
must_check int host_nodes_read(struct host *host, struct host_nodes *ret_nodes);

#endif
