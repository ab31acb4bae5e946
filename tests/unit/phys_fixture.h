// SPDX-License-Identifier: MIT
// A machine's physical memory for tests: nodes of so many MiB over real arenas.
#ifndef GODWIT_TESTS_PHYS_FIXTURE_H
#define GODWIT_TESTS_PHYS_FIXTURE_H

#include "unit.h"

#include "base/assert.h"
#include "machine/arena.h"
#include "machine/topology.h"
#include "phys/alloc.h"
#include "phys/buddy.h"
#include "phys/pcp.h"

#include <errno.h>

struct memory {
	struct topology topology;
	struct arena *arena[MAX_NODES];
	struct vmstat stat;
	struct phys phys;
};

struct memory_spec {
	unsigned nodes, cpus; // cpus 0: one a node
	unsigned mib[8];      // by node; 0: no memory
	unsigned movable_mib; // of each node
	unsigned long min_free_kbytes;
	const uint16_t *distance;
	const uint8_t *cpu_node;
};

static inline void memory_open(struct memory *m, const struct memory_spec *spec)
{
	struct phys_node_config node[MAX_NODES] = {0};
	struct topology_config topology = {.nr_nodes = spec->nodes,
		.nr_cpus = spec->cpus,
		.distance = spec->distance,
		.cpu_node = spec->cpu_node};
	struct phys_config config = {.topology = &m->topology,
		.nr_nodes = spec->nodes,
		.node = node,
		.min_free_kbytes = spec->min_free_kbytes,
		.stat = &m->stat};

	memset(m, 0, sizeof(*m));
	must_hold(!topology_init(&m->topology, &topology, NULL), "topology");
	must_hold(!vmstat_init(&m->stat, spec->nodes), "vmstat");
	for (unsigned nid = 0; nid < spec->nodes; nid++) {
		struct arena_config arena = {
			.node = nid, .bytes = (size_t)spec->mib[nid] << 20, .host_node = -1};
		if (!spec->mib[nid])
			continue;
		must_hold(!arena_open(&arena, &m->arena[nid]), "arena of node %u", nid);
		node[nid].arena = m->arena[nid];
		node[nid].movable_bytes = (uint64_t)spec->movable_mib << 20;
	}
	int err = phys_init(&m->phys, &config);
	must_hold(!err, "phys_init: %d", err);
	phys_check(&m->phys);
}

static inline void memory_close(struct memory *m)
{
	phys_check(&m->phys);
	phys_destroy(&m->phys);
	for (unsigned nid = 0; nid < MAX_NODES; nid++)
		if (m->arena[nid])
			arena_close(m->arena[nid]);
	vmstat_destroy(&m->stat);
}

static inline struct zone *memory_zone(struct memory *m, unsigned nid)
{
	return node_zone(phys_node(&m->phys, nid), ZONE_NORMAL);
}

// Every page is free again, once the per-cpu lists are drained.
static inline void memory_check_all_free(struct memory *m)
{
	drain_all_pages(&m->phys);
	phys_check(&m->phys);
	for (unsigned nid = 0; nid < m->phys.nr_nodes; nid++) {
		struct node *node = phys_node(&m->phys, nid);
		must_hold(node_nr_free(node) == node->nr_present, "node %u: %lu of %lu pages free",
			nid, node_nr_free(node), (unsigned long)node->nr_present);
	}
}

static inline uint64_t stat_of(struct memory *m, unsigned nid, enum vmstat_item item)
{
	return vmstat_node(&m->stat, nid, item);
}

static inline unsigned random_below(uint64_t *state, unsigned n)
{
	return (unsigned)(test_random(state) % n);
}

#endif
