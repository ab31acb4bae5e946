// SPDX-License-Identifier: MIT
// Building a machine from its configuration, layer by layer, and taking it down again.
//
//	topology -> counters, trace, clock -> mmu backend -> arenas -> frames and zones -> spaces
//
// A failure at any step undoes the steps before it, in reverse; gw_machine_error() keeps the reason
// in words for the thread that asked. Building needs no lock: nobody else has the machine yet.
#include "engine/engine.h"

#include "base/assert.h"
#include "base/sched.h"
#include "phys/alloc.h"
#include "virt/fault.h"
#include "virt/reclaim.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NODE_BYTES_DEFAULT (256ul << 20)
#define TRACE_EVENTS 65536
#define COPY_THREADS_MAX 64

static _Thread_local char last_error[256];

const char *gw_machine_error(void)
{
	return last_error;
}

__attribute__((format(printf, 2, 3))) static int refuse(int err, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(last_error, sizeof last_error, format, args);
	va_end(args);
	return err;
}

static int build(struct gw_machine *m, const struct gw_machine_config *config);
static void take_down(struct gw_machine *m);

int gw_machine_create(const struct gw_machine_config *config, struct gw_machine **ret_machine)
{
	const struct gw_machine_config one_node = {.size = sizeof one_node};
	const unsigned known = GW_MACHINE_HUGE | GW_MACHINE_MANUAL_CLOCK | GW_MACHINE_HUGETLB;
	const int callers_errno = errno;
	struct gw_machine *m;
	int err;

	last_error[0] = '\0';
	if (!config)
		config = &one_node;
	if (!ret_machine)
		return refuse(-EINVAL, "no place for the machine");
	if (config->size != sizeof *config)
		return refuse(-EINVAL, "struct gw_machine_config has %zu bytes, expected %zu",
			config->size, sizeof *config);
	if (config->flags & ~known)
		return refuse(-EINVAL, "unknown flags %#x", config->flags & ~known);
	if (config->copy_threads > COPY_THREADS_MAX)
		return refuse(-EINVAL, "%u copy threads; expected at most %d", config->copy_threads,
			COPY_THREADS_MAX);
	m = calloc(1, sizeof *m);
	errno = callers_errno;
	if (!m)
		return refuse(-ENOMEM, "no memory for the machine itself");
	write_lock(&host_fork_lock);
	fork_guard_add(&m->guard);
	write_unlock(&host_fork_lock);
	err = build(m, config);
	if (err)
		take_down(m);
	else
		*ret_machine = m;
	errno = callers_errno;
	return err;
}

void gw_machine_destroy(struct gw_machine *machine)
{
	const int callers_errno = errno;

	if (machine && !machine_is_dead(machine))
		take_down(machine);
	errno = callers_errno;
}

// ---- The steps ----------------------------------------------------------------------------------

enum built {
	BUILT_NOTHING,
	BUILT_STAT,
	BUILT_TRACE,
	BUILT_COPIER,
	BUILT_MMU,
	BUILT_PHYS,
	BUILT_MM
};

static int build_topology(struct gw_machine *m, const struct gw_machine_config *config)
{
	uint16_t distance[GW_MAX_NODES * GW_MAX_NODES];
	struct topology_config tc = {
		.nr_nodes = config->nr_nodes ? config->nr_nodes : 1,
		.nr_cpus = config->nr_cpus,
		.cpu_node = config->cpu_node,
	};
	char error[TOPOLOGY_ERROR_MAX];
	int err;

	if (tc.nr_nodes > GW_MAX_NODES)
		return refuse(-EINVAL, "%u nodes; expected 1 to %d", tc.nr_nodes, GW_MAX_NODES);
	if (tc.nr_cpus > GW_MAX_CPUS)
		return refuse(-EINVAL, "%u cpus; expected 1 to %d", tc.nr_cpus, GW_MAX_CPUS);
	if (config->distance) {
		for (unsigned i = 0; i < tc.nr_nodes * tc.nr_nodes; i++)
			distance[i] = config->distance[i];
		tc.distance = distance;
	}
	err = topology_init(&m->topology, &tc, error);
	return err ? refuse(err, "%s", error) : 0;
}

static int build_mmu(struct gw_machine *m, const struct gw_machine_config *config,
	enum gw_blocker blocker)
{
	struct mmu_config mc = {
		.backend = (enum mmu_backend)config->backend,
		.blocker = (enum mmu_blocker)blocker,
	};
	int err;

	if (config->backend > GW_BACKEND_SOFT || config->blocker > GW_BLOCKER_USERFAULTFD)
		return refuse(-EINVAL, "unknown backend %d or blocker %d", config->backend,
			config->blocker);
	err = mmu_open(&mc, mm_host_fault, &m->mmu);
	if (err)
		return refuse(err, "this host does not give the backend asked for: %s",
			strerror(-err));
	return 0;
}

static int refuse_arena(const struct arena_config *ac, int err)
{
	const char *why = strerror(-err);

	if (ac->kind == ARENA_FILE && err == -EOPNOTSUPP)
		return refuse(err,
			"node %u: %s: pages of hugetlbfs cannot be mapped in pieces of 4 KiB",
			ac->node, ac->path);
	if (ac->kind == ARENA_FILE && err == -EBUSY)
		return refuse(err, "node %u: %s: is in use, by another node or another machine",
			ac->node, ac->path);
	if (ac->kind == ARENA_FILE)
		return refuse(err, "node %u: %s: %s", ac->node, ac->path, why);
	if (ac->host_node >= 0)
		return refuse(err, "node %u on the host's node %d: %s", ac->node, ac->host_node,
			why);
	return refuse(err, "node %u, %llu MiB: %s", ac->node, (unsigned long long)ac->bytes >> 20,
		why);
}

static int build_arena(struct gw_machine *m, const struct gw_machine_config *config, unsigned nid)
{
	uint64_t bytes = config->node_bytes ? config->node_bytes[nid] : NODE_BYTES_DEFAULT;
	struct arena_config ac = {
		.node = nid,
		.bytes = bytes,
		.host_node = config->host_node ? config->host_node[nid] : -1,
		.huge = config->flags & GW_MACHINE_HUGE,
		.keep_tables = m->mmu->caps & MMU_REAL,
		.hugetlb = config->flags & GW_MACHINE_HUGETLB && m->mmu->caps & MMU_REAL,
	};
	int err;

	if (bytes & (PMD_SIZE - 1))
		return refuse(-EINVAL, "node %u has %llu bytes; expected a multiple of 2 MiB", nid,
			(unsigned long long)bytes);
	if (bytes > ARENA_BYTES_MAX)
		return refuse(-EINVAL, "node %u has %llu bytes; expected at most %llu", nid,
			(unsigned long long)bytes, (unsigned long long)ARENA_BYTES_MAX);
	if (!bytes)
		return 0;
	if (config->path && config->path[nid]) {
		ac.kind = ARENA_FILE;
		ac.path = config->path[nid];
	}
	err = arena_open(&ac, &m->arena[nid]);
	return err ? refuse_arena(&ac, err) : 0;
}

// Not every file can be watched by a userfaultfd: with one that cannot, signals have to do.
static int suit_blocker(struct gw_machine *m, const struct gw_machine_config *config, unsigned nid)
{
	if (!m->arena[nid] || m->arena[nid]->uffd_able)
		return 0;
	if (strcmp(m->mmu->ops->blocker, "userfaultfd"))
		return 0;
	if (config->blocker == GW_BLOCKER_USERFAULTFD)
		return refuse(-EOPNOTSUPP,
			"node %u: userfaultfd cannot watch the file system of %s", nid,
			config->path[nid]);
	m->mmu->ops->close(m->mmu);
	m->built = BUILT_COPIER;
	int err = build_mmu(m, config, GW_BLOCKER_SIGNAL);
	if (!err)
		m->built = BUILT_MMU;
	return err;
}

static int build_phys(struct gw_machine *m, const struct gw_machine_config *config)
{
	struct phys_node_config node[GW_MAX_NODES] = {0};
	struct phys_config pc = {
		.topology = &m->topology,
		.nr_nodes = m->topology.nr_nodes,
		.node = node,
		.stat = &m->stat,
		.trace = &m->trace,
		.copier = m->copier,
	};
	int err;

	for (unsigned i = 0; i < pc.nr_nodes; i++) {
		err = build_arena(m, config, i);
		if (!err)
			err = suit_blocker(m, config, i);
		if (err)
			return err;
		node[i].arena = m->arena[i];
	}
	err = phys_init(&m->phys, &pc);
	if (err == -EINVAL)
		return refuse(err, "no node has memory");
	if (err == -ENOSPC)
		return refuse(err, "more memory than there are frame numbers");
	return err ? refuse(err, "no memory for the frames' data") : 0;
}

static unsigned long reclaim(void *mm, gfp_t gfp, unsigned order, int nid,
	const struct nodemask *allowed)
{
	struct mm_core *core = mm;
	unsigned long freed = reclaim_direct(mm, gfp, order, nid, allowed);

	// Huge pages that are only partly mapped have memory to give.
	if (!freed && core->thp && nid >= 0)
		freed = thp_shrink_deferred(core->thp, (unsigned)nid, 1);
	return freed;
}

static int build_mm(struct gw_machine *m)
{
	int err;

	m->mm.phys = &m->phys;
	m->mm.mmu = m->mmu;
	m->mm.copier = m->copier;
	m->mm.clock = &m->clock;
	m->mm.stat = &m->stat;
	m->mm.trace = &m->trace;
	err = mm_core_init(&m->mm);
	if (err)
		return refuse(err, "no memory for the zero page");
	thp_init(&m->thp, &m->mm);
	tunables_register(m, &tunables_thp);
	hugetlb_init(&m->hugetlb, &m->mm);
	tunables_register(m, &tunables_hugetlb);
	m->phys.up.arg = &m->mm;
	m->phys.up.reclaim = reclaim;
	compaction_init(&m->compaction, &m->mm);
	tunables_register(m, &tunables_compact);
	return 0;
}

static uint64_t clock_of(void *clock)
{
	return clock_now_ns(clock);
}

static int build(struct gw_machine *m, const struct gw_machine_config *config)
{
	int err = build_topology(m, config);

	if (err)
		return err;
	mutex_init(&m->fill_lock, RANK_SUBSYSTEM);
	list_init(&m->drivers);
	if (config->flags & GW_MACHINE_MANUAL_CLOCK)
		clock_init_manual(&m->clock, 0);
	else
		clock_init_monotonic(&m->clock);
	if (vmstat_init(&m->stat, m->topology.nr_nodes))
		return refuse(-ENOMEM, "no memory for the counters");
	m->built = BUILT_STAT;
	err = trace_init(&m->trace, TRACE_EVENTS, clock_of, &m->clock);
	if (err)
		return refuse(err, "no memory for the trace");
	m->built = BUILT_TRACE;
	trace_of_entries(&m->trace, false);
	trace_switch(&m->trace, true);
	err = copier_open(config->copy_threads > 1 ? COPIER_PARALLEL : COPIER_AUTO,
		config->copy_threads, &m->copier);
	if (err)
		return refuse(err, "%u copy threads: %s", config->copy_threads, strerror(-err));
	m->built = BUILT_COPIER;
	err = build_mmu(m, config, config->blocker);
	if (err)
		return err;
	m->built = BUILT_MMU;
	err = build_phys(m, config);
	if (err)
		return err;
	m->built = BUILT_PHYS;
	err = build_mm(m);
	if (err)
		return err;
	m->built = BUILT_MM;
	// On the soft backend nothing runs by itself, but in an order that a seed decides.
	err = m->mmu->caps & MMU_REAL || sched_active() ? kcompactd_start(&m->compaction) : 0;
	return err ? refuse(err, "no thread for compaction: %s", strerror(-err)) : 0;
}

// Nobody makes or ends tasks any more: the list is ours.
static void end_tasks(struct mm_core *mm)
{
	while (!list_empty(&mm->tasks))
		task_exit(list_first_entry(&mm->tasks, struct task, node));
}

static void take_down(struct gw_machine *m)
{
	if (m->built >= BUILT_MM) {
		end_tasks(&m->mm);
		for (unsigned i = 0; i < m->topology.nr_nodes; i++)
			(void)gw_node_unfill(m, i);
		thp_destroy(&m->thp);
		compaction_destroy(&m->compaction); // khugepaged asks it for huge pages to the end
		hugetlb_destroy(&m->hugetlb);
		mm_core_release(&m->mm);
	}
	if (m->built >= BUILT_PHYS)
		phys_destroy(&m->phys);
	if (m->built >= BUILT_MMU)
		m->mmu->ops->close(m->mmu);
	for (unsigned i = 0; i < GW_MAX_NODES; i++)
		if (m->arena[i])
			arena_close(m->arena[i]);
	if (m->built >= BUILT_COPIER)
		copier_close(m->copier);
	if (m->built >= BUILT_TRACE)
		trace_destroy(&m->trace);
	if (m->built >= BUILT_STAT)
		vmstat_destroy(&m->stat);
	write_lock(&host_fork_lock);
	fork_guard_remove(&m->guard);
	write_unlock(&host_fork_lock);
	free(m);
}

// ---- Looking ------------------------------------------------------------------------------------

const char *gw_machine_backend(const struct gw_machine *machine)
{
	if (machine_refused(machine))
		return NULL;
	return machine->mmu->ops->name;
}

const char *gw_machine_blocker(const struct gw_machine *machine)
{
	if (machine_refused(machine))
		return NULL;
	return machine->mmu->ops->blocker;
}

int gw_machine_syscall_safe(const struct gw_machine *machine)
{
	if (machine_refused(machine))
		return 0;
	return (machine->mmu->caps & MMU_SYSCALL_SAFE) != 0;
}

unsigned gw_machine_nodes(const struct gw_machine *machine)
{
	if (machine_refused(machine))
		return 0;
	return machine->phys.nr_nodes;
}

unsigned gw_machine_cpus(const struct gw_machine *machine)
{
	if (machine_refused(machine))
		return 0;
	return machine->phys.nr_cpus;
}

void gw_machine_check(struct gw_machine *machine)
{
	if (machine_refused(machine))
		return;
	kcompactd_pause(&machine->compaction);
	mutex_lock(&machine->thp.khugepaged.lock); // the daemon uses the machine, too
	mm_check(&machine->mm);
	mutex_unlock(&machine->thp.khugepaged.lock);
	hugetlb_check(&machine->hugetlb);
	kcompactd_resume(&machine->compaction);
}

int gw_clock_advance(struct gw_machine *machine, uint64_t ns)
{
	if (machine_refused(machine))
		return machine_refused(machine);
	if (!machine->clock.manual)
		return -EINVAL;
	clock_advance(&machine->clock, ns);
	return 0;
}
