// SPDX-License-Identifier: MIT
// Zonelists: in which order a node's requests try the zones of the machine.
//
// Nodes come by distance. Among equals one with a higher number is preferred to one with a lower,
// one without cpus to one with (its memory is less wanted), and then the one that fewer lists so
// far have put at the front of a group of equals, so that neighbours of a full node share its load.
// The node itself comes first if it has memory. Within a node the highest zone comes first: it can
// serve the fewest others.
#include "phys/zonelist.h"
#include "machine/topology.h"

static void append_node(struct zonelist *list, struct node *node)
{
	for (unsigned i = ZONES_PER_NODE; i-- > 0;)
		if (zone_populated(&node->zone[i]))
			list->zone[list->nr++] = &node->zone[i];
}

// The best of `left` after `nid`; NO_NODE when there is none.
static int next_best_node(
	const struct phys *phys, unsigned nid, struct nodemask left, const unsigned *load)
{
	struct nodemask with_cpus = topology_cpu_nodes(phys->topology);
	unsigned long best_value = ~0ul;
	int best = NO_NODE, n;

	for_each_node_in(n, left)
	{
		unsigned long value = topology_distance(phys->topology, nid, (unsigned)n);

		value += (unsigned)n < nid;
		value += nodemask_test(with_cpus, (unsigned)n);
		value = value * MAX_NODES + load[n];
		if (value < best_value) {
			best_value = value;
			best = n;
		}
	}
	return best;
}

static void build_fallback(struct phys *phys, struct node *node, unsigned *load)
{
	struct nodemask left = phys->has_memory;
	unsigned prev = node->nid;
	int n;

	node->fallback.nr = 0;
	for (bool first = true;; first = false) {
		if (first && nodemask_test(left, node->nid))
			n = (int)node->nid;
		else
			n = next_best_node(phys, node->nid, left, load);
		if (n == NO_NODE)
			return;
		if (topology_distance(phys->topology, node->nid, (unsigned)n) !=
			topology_distance(phys->topology, node->nid, prev))
			load[n]++;
		prev = (unsigned)n;
		nodemask_clear(&left, (unsigned)n);
		append_node(&node->fallback, phys->node[n]);
	}
}

void phys_build_zonelists(struct phys *phys)
{
	unsigned load[MAX_NODES] = {0};

	for (unsigned nid = 0; nid < phys->nr_nodes; nid++) {
		struct node *node = phys->node[nid];
		node->nofallback.nr = 0;
		append_node(&node->nofallback, node);
		build_fallback(phys, node, load);
	}
}
