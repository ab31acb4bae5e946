// SPDX-License-Identifier: MIT
// A machine on the soft backend for tests of the virt layer: four nodes of 16 MiB, two cpus a
// node, no subsystems above. Node 3 has no memory.
#ifndef GODWIT_TESTS_SOFT_MACHINE_H
#define GODWIT_TESTS_SOFT_MACHINE_H

#include "unit.h"

#include "base/vmstat.h"
#include "machine/arena.h"
#include "machine/soft.h"
#include "machine/topology.h"
#include "phys/alloc.h"
#include "virt/fault.h"
#include "virt/mm.h"
#include "virt/object.h"
#include "virt/space.h"
#include "virt/task.h"

#define SOFT_NODES 4u
#define SOFT_NODE_BYTES (16ul << 20)
#define SOFT_MEMORY ((struct nodemask){7}) // nodes 0-2

struct soft_machine {
	struct topology topology;
	struct vmstat stat;
	struct phys phys;
	struct arena *arena[SOFT_NODES];
	struct mm_core mm;
};

static inline void soft_machine_open(struct soft_machine *m)
{
	const uint8_t cpu_node[] = {0, 1, 2, 3, 0, 1, 2, 3};
	const struct topology_config topology = {
		.nr_nodes = SOFT_NODES, .nr_cpus = 8, .cpu_node = cpu_node};
	struct phys_node_config node[SOFT_NODES] = {0};

	memset(m, 0, sizeof(*m));
	assert_int_equal(topology_init(&m->topology, &topology, NULL), 0);
	assert_int_equal(vmstat_init(&m->stat, SOFT_NODES), 0);
	for (unsigned i = 0; i < SOFT_NODES - 1; i++) {
		const struct arena_config arena = {
			.node = i, .bytes = SOFT_NODE_BYTES, .host_node = -1};
		assert_int_equal(arena_open(&arena, &m->arena[i]), 0);
		node[i].arena = m->arena[i];
	}
	const struct phys_config config = {.topology = &m->topology,
		.nr_nodes = SOFT_NODES,
		.node = node,
		.stat = &m->stat};
	assert_int_equal(phys_init(&m->phys, &config), 0);
	m->mm.phys = &m->phys;
	m->mm.stat = &m->stat;
	assert_int_equal(soft_open(mm_host_fault, &m->mm.mmu), 0);
	assert_int_equal(mm_core_init(&m->mm), 0);
}

static inline void soft_machine_close(struct soft_machine *m)
{
	mm_core_release(&m->mm);
	phys_check(&m->phys);
	phys_destroy(&m->phys);
	m->mm.mmu->ops->close(m->mm.mmu);
	for (unsigned i = 0; i < SOFT_NODES; i++)
		if (m->arena[i])
			arena_close(m->arena[i]);
	vmstat_destroy(&m->stat);
}

// cmocka fixtures: *state is the machine.
static inline int soft_setup(void **state)
{
	static struct soft_machine machine;

	soft_machine_open(&machine);
	*state = &machine;
	return 0;
}

static inline int soft_teardown(void **state)
{
	soft_machine_close(*state);
	return 0;
}

// Memory that a task maps somewhere; NULL object: private and anonymous.
static inline uint64_t soft_map(struct task *task, uint64_t pages, unsigned flags,
	struct object *object, uint64_t pgoff)
{
	static uint64_t place = 0x200000000000;
	struct map_request request = {.addr = place,
		.fixed = true,
		.len = pages << PAGE_SHIFT,
		.flags = flags,
		.object = object,
		.pgoff = pgoff};
	uint64_t addr;

	place += 1ull << 36;
	assert_int_equal(space_map(task->space, &request, &addr), 0);
	return addr;
}

static inline void soft_fill(struct task *task, uint64_t addr, uint64_t pages, char byte)
{
	char buf[PAGE_SIZE];

	memset(buf, byte, sizeof(buf));
	for (uint64_t i = 0; i < pages; i++)
		assert_int_equal(space_write(task->space, task, addr + (i << PAGE_SHIFT), buf,
					 sizeof(buf)),
			sizeof(buf));
}

// The node of the page at addr, or the errno of follow_page().
static inline int soft_node(struct task *task, uint64_t addr)
{
	struct folio *folio;
	unsigned page;
	int err = follow_page(task->space, addr, &folio, &page);

	if (err)
		return err;
	int nid = (int)folio_nid(folio);
	folio_put(folio);
	return nid;
}

static inline char soft_byte(struct task *task, uint64_t addr)
{
	char byte;

	assert_int_equal(space_read(task->space, task, addr, &byte, 1), 1);
	return byte;
}

#endif
