// SPDX-License-Identifier: MIT
// A machine for tests, without the engine's front door: nodes of so many MiB, spaces over the model
// mmu, tasks whose memory is filled and checked by loads and stores.
#ifndef GODWIT_TESTS_MACHINE_FIXTURE_H
#define GODWIT_TESTS_MACHINE_FIXTURE_H

#include "../unit/unit.h"

#include "base/mark.h"
#include "base/meta.h"
#include "base/trace.h"
#include "machine/arena.h"
#include "machine/clock.h"
#include "machine/copier.h"
#include "machine/topology.h"
#include "migrate/move_pages.h"
#include "model_mmu.h"
#include "phys/alloc.h"
#include "phys/pcp.h"
#include "phys/zone.h"
#include "virt/fault.h"
#include "virt/mempolicy_calls.h"
#include "virt/mm.h"
#include "virt/object.h"
#include "virt/pin.h"
#include "virt/task.h"

struct fx {
	struct topology topology;
	struct arena *arena[MAX_NODES];
	struct vmstat stat;
	struct trace_ring trace;
	struct clock clock;
	struct copier *copier;
	struct model_mmu *model; // NULL: a real backend
	struct phys phys;
	struct mm_core mm;
	uint64_t marked[VMSTAT_ITEMS];
};

#define fx_ok(call)                                                                                \
	do {                                                                                       \
		long fx_ret = (call);                                                              \
		if (fx_ret)                                                                        \
			fail_msg("%s: %ld", #call, fx_ret);                                        \
	} while (0)

static inline void fx_open_phys(struct fx *fx, unsigned nodes, unsigned mib)
{
	struct phys_node_config node[MAX_NODES] = {0};
	struct topology_config tc = {.nr_nodes = nodes};
	struct phys_config pc = {.topology = &fx->topology, .nr_nodes = nodes, .node = node,
		.stat = &fx->stat, .trace = &fx->trace, .copier = fx->copier,
		.min_free_kbytes = 128};

	fx_ok(topology_init(&fx->topology, &tc, NULL));
	fx_ok(vmstat_init(&fx->stat, nodes));
	for (unsigned nid = 0; nid < nodes; nid++) {
		struct arena_config ac = {.node = nid, .bytes = (size_t)mib << 20, .host_node = -1,
			.keep_tables = fx->mm.mmu->caps & MMU_REAL};

		fx_ok(arena_open(&ac, &fx->arena[nid]));
		node[nid].arena = fx->arena[nid];
	}
	fx_ok(phys_init(&fx->phys, &pc));
}

static inline void fx_open_with(struct fx *fx, unsigned nodes, unsigned mib, struct mmu *mmu)
{
	fx->mm.mmu = mmu;
	clock_init_monotonic(&fx->clock);
	fx_ok(trace_init(&fx->trace, 4096, NULL, NULL));
	fx_ok(copier_open(COPIER_MEMCPY, 0, &fx->copier));
	fx_open_phys(fx, nodes, mib);
	fx->mm.phys = &fx->phys;
	fx->mm.copier = fx->copier;
	fx->mm.clock = &fx->clock;
	fx->mm.stat = &fx->stat;
	fx->mm.trace = &fx->trace;
	fx_ok(mm_core_init(&fx->mm));
}

static inline void fx_open(struct fx *fx, unsigned nodes, unsigned mib)
{
	memset(fx, 0, sizeof(*fx));
	fx->model = model_open(mm_host_fault);
	fx_open_with(fx, nodes, mib, &fx->model->mmu);
}

static inline void fx_close(struct fx *fx)
{
	phys_check(&fx->phys);
	mm_core_release(&fx->mm);
	phys_destroy(&fx->phys);
	for (unsigned nid = 0; nid < MAX_NODES; nid++)
		if (fx->arena[nid])
			arena_close(fx->arena[nid]);
	fx->mm.mmu->ops->close(fx->mm.mmu);
	copier_close(fx->copier);
	trace_destroy(&fx->trace);
	vmstat_destroy(&fx->stat);
	fx_ok(meta_check());
}

// ---- Tasks and memory

static inline struct task *fx_task(struct fx *fx, int cpu)
{
	struct task *task;

	fx_ok(task_create(&fx->mm, 0, cpu, &task));
	return task;
}

static inline uint64_t fx_map_flags(struct task *task, uint64_t len, unsigned flags,
	struct object *object)
{
	struct map_request rq = {.len = len, .flags = flags, .object = object, .own = true};
	uint64_t addr;

	fx_ok(space_map(task->space, &rq, &addr));
	return addr;
}

static inline uint64_t fx_map(struct task *task, uint64_t pages)
{
	return fx_map_flags(task, pages * PAGE_SIZE, VM_READ | VM_WRITE | VM_MAYWRITE, NULL);
}

static inline uint64_t fx_map_shared(struct task *task, uint64_t pages, struct object *object)
{
	return fx_map_flags(task, pages * PAGE_SIZE,
		VM_READ | VM_WRITE | VM_MAYWRITE | VM_SHARED, object);
}

static inline int fx_access(struct fx *fx, struct task *task, uint64_t addr, void *buf, size_t len,
	bool write)
{
	uintptr_t host = (uintptr_t)space_pointer(task->space, addr & PAGE_MASK);

	if (!host)
		return -EFAULT;
	return model_access(fx->model, host + (addr & (PAGE_SIZE - 1)), buf, len, write);
}

static inline uint64_t fx_stamp(uint64_t key, uint64_t addr)
{
	return (key + 1) * 0x9e3779b97f4a7c15 ^ addr;
}

// Every page gets a stamp at its begin and its end.
static inline void fx_fill(struct fx *fx, struct task *task, uint64_t addr, uint64_t pages,
	uint64_t key)
{
	for (uint64_t i = 0; i < pages; i++) {
		uint64_t at = addr + i * PAGE_SIZE, stamp = fx_stamp(key, at);

		fx_ok(fx_access(fx, task, at, &stamp, sizeof(stamp), true));
		fx_ok(fx_access(fx, task, at + PAGE_SIZE - 8, &stamp, sizeof(stamp), true));
	}
}

static inline void fx_verify(struct fx *fx, struct task *task, uint64_t addr, uint64_t pages,
	uint64_t key)
{
	for (uint64_t i = 0; i < pages; i++) {
		uint64_t at = addr + i * PAGE_SIZE, stamp = fx_stamp(key, at), first, last;

		fx_ok(fx_access(fx, task, at, &first, sizeof(first), false));
		fx_ok(fx_access(fx, task, at + PAGE_SIZE - 8, &last, sizeof(last), false));
		if (first != stamp || last != stamp)
			fail_msg("page %lu at %#lx: %#lx and %#lx, expected %#lx", i, at, first,
				last, stamp);
	}
}

// ---- Where pages are, and moving them

static inline int fx_where(struct task *task, uint64_t addr)
{
	int status = -1000;
	struct move_request rq = {.caller = task, .count = 1, .pages = &addr, .status = &status};

	fx_ok(move_pages(&rq));
	return status;
}

static inline void fx_all_on(struct task *task, uint64_t addr, uint64_t pages, int node)
{
	for (uint64_t i = 0; i < pages; i++)
		assert_int_equal(fx_where(task, addr + i * PAGE_SIZE), node);
}

struct fx_move {
	uint64_t count;
	uint64_t *pages;
	int *nodes, *status;
	enum migrate_why *why;
	long ret;
	struct migrate_control totals;
};

static inline void fx_move_alloc(struct fx_move *mv, uint64_t addr, uint64_t pages, int node)
{
	memset(mv, 0, sizeof(*mv));
	mv->count = pages;
	mv->pages = calloc(pages, sizeof(*mv->pages));
	mv->nodes = calloc(pages, sizeof(*mv->nodes));
	mv->status = calloc(pages, sizeof(*mv->status));
	mv->why = calloc(pages, sizeof(*mv->why));
	for (uint64_t i = 0; i < pages; i++) {
		mv->pages[i] = addr + i * PAGE_SIZE;
		mv->nodes[i] = node;
		mv->status[i] = -1000;
		mv->why[i] = WHY_ABORTED;
	}
}

static inline void fx_move_free(struct fx_move *mv)
{
	free(mv->pages);
	free(mv->nodes);
	free(mv->status);
	free(mv->why);
}

static inline void fx_move_run(struct fx_move *mv, struct task *caller, int pid, unsigned flags)
{
	struct move_request rq = {.caller = caller, .pid = pid, .count = mv->count,
		.pages = mv->pages, .nodes = mv->nodes, .status = mv->status, .flags = flags,
		.why = mv->why};

	mv->ret = move_pages(&rq);
	mv->totals = rq.totals;
}

// Move a range and return what move_pages() returned.
static inline long fx_move(struct task *task, uint64_t addr, uint64_t pages, int node)
{
	struct fx_move mv;

	fx_move_alloc(&mv, addr, pages, node);
	fx_move_run(&mv, task, 0, MBIND_MOVE);
	fx_move_free(&mv);
	return mv.ret;
}

// The folio at an address, without a reference.
static inline struct folio *fx_folio(struct task *task, uint64_t addr)
{
	struct folio *folio;
	unsigned page;

	fx_ok(follow_page(task->space, addr, &folio, &page));
	folio_put(folio);
	return folio;
}

// ---- Counters

static inline void fx_mark(struct fx *fx)
{
	for (unsigned i = 0; i < VMSTAT_ITEMS; i++)
		fx->marked[i] = vmstat_read(&fx->stat, i);
}

static inline long fx_since(struct fx *fx, enum vmstat_item item)
{
	return (long)(vmstat_read(&fx->stat, item) - fx->marked[item]);
}

static inline void fx_check(struct fx *fx)
{
	assert_int_equal(vmstat_read(&fx->stat, VM_NR_ISOLATED_ANON), 0);
	assert_int_equal(vmstat_read(&fx->stat, VM_NR_ISOLATED_FILE), 0);
	assert_int_equal(lock_rank_held_count(), 0);
	mm_check(&fx->mm);
}

#endif
