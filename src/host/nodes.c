// SPDX-License-Identifier: MIT
// Topology, from /sys/devices/system/node.
//
// A node is online when it has memory or cpus; one without memory is a memoryless node, which
// programs may run on and no page can lie on. `has_memory` says which have some; where a kernel
// has no such file, MemTotal of the node's meminfo says it. A kernel that was built without NUMA
// has none of this: it gets a node 0 with all memory and all cpus, at distance 10 of itself.

#include "host/nodes.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NODE "sys/devices/system/node"

static void read_memory(struct host *host, unsigned id, struct host_node *node)
{
	char *text, name[32];
	uint64_t kb;

	if (host_readf(host, &text, NODE "/node%u/meminfo", id))
		return;
	snprintf(name, sizeof name, "Node %u MemTotal", id);
	if (host_field(text, name, &kb))
		node->total_bytes = kb << 10;
	snprintf(name, sizeof name, "Node %u MemFree", id);
	if (host_field(text, name, &kb))
		node->free_bytes = kb << 10;
	free(text);
}

static void read_cpus(struct host *host, unsigned id, struct host_node *node)
{
	char *text;

	if (host_readf(host, &text, NODE "/node%u/cpulist", id))
		return;
	host_list_bits(text, node->cpus, HOST_CPUS_MAX);
	free(text);
}

static int damaged(struct host_nodes *nodes, const char *path)
{
	snprintf(nodes->damaged, sizeof nodes->damaged, "%s", path);
	return -EINVAL;
}

// The columns of a distance file are the online nodes. One that is missing is not told.
static int read_distances(struct host *host, unsigned id, struct host_nodes *nodes)
{
	char path[64], *text, *at;
	int to, err = 0;

	snprintf(path, sizeof path, NODE "/node%u/distance", id);
	if (host_read(host, path, &text))
		return 0;
	at = text;
	for_each_node_in(to, nodes->online) {
		unsigned long distance;

		at += strspn(at, " \n");
		if (!*at)
			break;
		distance = isdigit((unsigned char)*at) ? strtoul(at, &at, 10) : ULONG_MAX;
		if (distance > INT_MAX || (*at && !strchr(" \n", *at))) {
			err = damaged(nodes, path);
			break;
		}
		nodes->node[id].distance[to] = (unsigned)distance;
	}
	free(text);
	return err;
}

static int read_mask(struct host *host, const char *path, struct nodemask *ret_mask)
{
	DECLARE_BITMAP(map, MAX_NODES);
	char *text;
	int err = host_read(host, path, &text);

	if (err)
		return err;
	err = host_list_bits(text, map, MAX_NODES) ? 0 : -EINVAL;
	free(text);
	if (!err)
		ret_mask->bits = map[0];
	return err;
}

static int read_without_numa(struct host *host, struct host_nodes *nodes)
{
	struct host_node *node = &nodes->node[0];
	char *text;
	uint64_t kb;
	int err = host_read(host, "proc/meminfo", &text);

	if (err)
		return err;
	if (host_field(text, "MemTotal", &kb))
		node->total_bytes = kb << 10;
	if (host_field(text, "MemFree", &kb))
		node->free_bytes = kb << 10;
	free(text);
	if (!host_read(host, "sys/devices/system/cpu/online", &text)) {
		host_list_bits(text, node->cpus, HOST_CPUS_MAX);
		free(text);
	}
	node->distance[0] = 10;
	nodes->online = nodes->memory = nodemask_of(0);
	return 0;
}

int host_nodes_read(struct host *host, struct host_nodes *ret_nodes)
{
	int id, err;

	memset(ret_nodes, 0, sizeof *ret_nodes);
	err = read_mask(host, NODE "/online", &ret_nodes->online);
	if (err == -ENOENT)
		return read_without_numa(host, ret_nodes);
	if (err == -EINVAL)
		return damaged(ret_nodes, NODE "/online");
	if (err)
		return err;
	for_each_node_in(id, ret_nodes->online) {
		read_memory(host, (unsigned)id, &ret_nodes->node[id]);
		read_cpus(host, (unsigned)id, &ret_nodes->node[id]);
		err = read_distances(host, (unsigned)id, ret_nodes);
		if (err)
			return err;
		if (ret_nodes->node[id].total_bytes)
			nodemask_set(&ret_nodes->memory, (unsigned)id);
	}
	if (read_mask(host, NODE "/has_memory", &ret_nodes->memory))
		return 0; // MemTotal has said it
	ret_nodes->memory = nodemask_and(ret_nodes->memory, ret_nodes->online);
	return 0;
}
