// SPDX-License-Identifier: MIT
// Which nodes and cpus a machine has, and how far nodes are from each other.
#ifndef GODWIT_MACHINE_TOPOLOGY_H
#define GODWIT_MACHINE_TOPOLOGY_H

#include "base/compiler.h"
#include "base/nodemask.h"

#define MAX_CPUS 1024
#define LOCAL_DISTANCE 10
#define REMOTE_DISTANCE 20
#define TOPOLOGY_ERROR_MAX 160

struct topology {
	unsigned nr_nodes; // 1..MAX_NODES
	unsigned nr_cpus;  // 1..MAX_CPUS
	uint8_t cpu_node[MAX_CPUS];
	uint8_t distance[MAX_NODES][MAX_NODES]; // 10 on the diagonal, 11..254 elsewhere
};

// What a machine asks for. A NULL table means the default.
struct topology_config {
	unsigned nr_nodes;
	unsigned nr_cpus;	  // 0: one a node
	const uint8_t *cpu_node;  // nr_cpus entries; default: cpu i on node i mod nr_nodes
	const uint16_t *distance; // nr_nodes * nr_nodes, row-major; default: 10 and 20
};

// -EINVAL, and in words why; error may be NULL.
must_check int topology_init(
	struct topology *t, const struct topology_config *config, char error[TOPOLOGY_ERROR_MAX]);

static inline unsigned topology_distance(const struct topology *t, unsigned from, unsigned to)
{
	return t->distance[from][to];
}

static inline unsigned topology_cpu_node(const struct topology *t, unsigned cpu)
{
	return t->cpu_node[cpu];
}

struct nodemask topology_nodes(const struct topology *t);
struct nodemask topology_cpu_nodes(const struct topology *t); // those that have a cpu
unsigned topology_node_cpus(const struct topology *t, unsigned node);
// The cpu n (from 0) of a node, or -1.
int topology_nth_cpu(const struct topology *t, unsigned node, unsigned n);
// The node of `among` that is nearest to `from` (itself included; the lowest number among equals),
// or NO_NODE.
int topology_nearest(const struct topology *t, unsigned from, struct nodemask among);

#endif
