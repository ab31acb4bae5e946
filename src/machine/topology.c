// SPDX-License-Identifier: MIT
// Nodes, cpus and distances of a machine, fixed when it is built.
//
// The rules are those of an ACPI SLIT: a node is at distance 10 from itself, anything else is
// farther, 255 would mean unreachable and is refused. The table need not be symmetric (the
// kernel accepts such tables too). A node may have no cpus, a machine always has one.
//
// Interface: topology_init() validates everything before it writes anything; the rest are pure
// questions. Locks: none, nothing changes after topology_init().
// What can fail: topology_init() only, with a sentence for whoever wrote the table.
#include "machine/topology.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>

printf_format(2, 3) static int invalid(char *error, const char *fmt, ...)
{
	va_list args;

	if (error) {
		va_start(args, fmt);
		vsnprintf(error, TOPOLOGY_ERROR_MAX, fmt, args);
		va_end(args);
	}
	return -EINVAL;
}

static int check_sizes(const struct topology_config *c, char error[TOPOLOGY_ERROR_MAX])
{
	if (c->nr_nodes < 1 || c->nr_nodes > MAX_NODES)
		return invalid(error, "%u nodes: a machine has 1 to %d", c->nr_nodes, MAX_NODES);
	if (c->nr_cpus > MAX_CPUS)
		return invalid(error, "%u cpus: a machine has at most %d", c->nr_cpus, MAX_CPUS);
	if (c->cpu_node && !c->nr_cpus)
		return invalid(error, "cpus have nodes but there are none");
	for (unsigned cpu = 0; c->cpu_node && cpu < c->nr_cpus; cpu++)
		if (c->cpu_node[cpu] >= c->nr_nodes)
			return invalid(error, "cpu %u is on node %u, but nodes end at %u", cpu,
				c->cpu_node[cpu], c->nr_nodes - 1);
	return 0;
}

static int check_distance(const struct topology_config *c, char error[TOPOLOGY_ERROR_MAX])
{
	for (unsigned from = 0; c->distance && from < c->nr_nodes; from++)
		for (unsigned to = 0; to < c->nr_nodes; to++) {
			unsigned d = c->distance[from * c->nr_nodes + to];

			if (from == to && d != LOCAL_DISTANCE)
				return invalid(error,
					"node %u is at distance %u from itself, must be %d", from,
					d, LOCAL_DISTANCE);
			if (from != to && (d <= LOCAL_DISTANCE || d > 254))
				return invalid(error,
					"distance %u from node %u to %u is not in 11..254", d, from,
					to);
		}
	return 0;
}

int topology_init(
	struct topology *t, const struct topology_config *c, char error[TOPOLOGY_ERROR_MAX])
{
	int err = check_sizes(c, error);

	if (!err)
		err = check_distance(c, error);
	if (err)
		return err;
	*t = (struct topology){
		.nr_nodes = c->nr_nodes,
		.nr_cpus = c->nr_cpus ? c->nr_cpus : c->nr_nodes,
	};
	for (unsigned cpu = 0; cpu < t->nr_cpus; cpu++)
		t->cpu_node[cpu] = c->cpu_node ? c->cpu_node[cpu] : (uint8_t)(cpu % t->nr_nodes);
	for (unsigned from = 0; from < t->nr_nodes; from++)
		for (unsigned to = 0; to < t->nr_nodes; to++)
			t->distance[from][to] =
				c->distance  ? (uint8_t)c->distance[from * t->nr_nodes + to]
				: from == to ? LOCAL_DISTANCE
					     : REMOTE_DISTANCE;
	return 0;
}

struct nodemask topology_nodes(const struct topology *t)
{
	return nodemask_below(t->nr_nodes);
}

struct nodemask topology_cpu_nodes(const struct topology *t)
{
	struct nodemask nodes = NODEMASK_NONE;

	for (unsigned cpu = 0; cpu < t->nr_cpus; cpu++)
		nodemask_set(&nodes, t->cpu_node[cpu]);
	return nodes;
}

unsigned topology_node_cpus(const struct topology *t, unsigned node)
{
	unsigned n = 0;

	for (unsigned cpu = 0; cpu < t->nr_cpus; cpu++)
		n += t->cpu_node[cpu] == node;
	return n;
}

int topology_nth_cpu(const struct topology *t, unsigned node, unsigned n)
{
	for (unsigned cpu = 0; cpu < t->nr_cpus; cpu++)
		if (t->cpu_node[cpu] == node && n-- == 0)
			return (int)cpu;
	return -1;
}

int topology_nearest(const struct topology *t, unsigned from, struct nodemask among)
{
	int node, best = NO_NODE;

	for_each_node_in (node, nodemask_and(among, topology_nodes(t)))
		if (best == NO_NODE || t->distance[from][node] < t->distance[from][best])
			best = node;
	return best;
}
