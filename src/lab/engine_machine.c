// SPDX-License-Identifier: MIT
// The engine as a machine for stories: building it as the story's machine lines say, its table of
// actions, and taking it down.
//
// Words of subsystems that this build does not have are refused before anything runs: a kind of
// command without an action by the player, operands (an advice, a tunable's value) by supports()
// here. Tunables are tried on a small machine made for the question, so that the answer is the
// engine's own and not a second list.
//
// On the soft backend a story is a seeded run (base/sched.h) from setup to teardown: the player,
// the threads of loads and the machine's daemons run one at a time, in the order that the seed
// decides. A decision takes STEP_NS of virtual time, about what a lock and the work up to the next
// takes on real hosts, and a sleep waits for that time. The thread that watches the player stays
// outside: it looks at the host's clock, and can only cancel.
#include "lab/engine_machine.h"

#include <godwit/stats.h>
#include <godwit/trace.h>

#include "base/sched.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#ifndef MADV_SOFT_OFFLINE
#define MADV_SOFT_OFFLINE 101
#endif

#define STEP_NS 250
#define KERNEL_MAJOR 6 // whose rules the engine follows
#define KERNEL_MINOR 12

static const char not_yet[] = "not yet in this build";

static int engine_open(const struct lab_options *options, struct lab_machine **ret_machine,
	char *failure, size_t failure_size)
{
	struct engine_machine *m;

	if (options->backend && strcmp(options->backend, "rewire") &&
		strcmp(options->backend, "soft") && strcmp(options->backend, "signal") &&
		strcmp(options->backend, "userfaultfd")) {
		snprintf(failure, failure_size,
			"unknown backend '%s', expected rewire, signal, userfaultfd or soft",
			options->backend);
		return -EINVAL;
	}
	if (options->bind_nodes && options->backend && !strcmp(options->backend, "soft")) {
		snprintf(failure, failure_size,
			"--bind-nodes asks about pointers, which the soft backend has not");
		return -EINVAL;
	}
	m = calloc(1, sizeof *m);
	if (!m) {
		snprintf(failure, failure_size, "out of memory");
		return -ENOMEM;
	}
	m->base.ops = &engine_machine_ops;
	m->base.seeded = options->backend && !strcmp(options->backend, "soft");
	m->base.seed = options->seed;
	m->options = options;
	*ret_machine = &m->base;
	return 0;
}

// ---- What this build can play -------------------------------------------------------------------

static bool supports_advice(int advice)
{
	return advice != MADV_SOFT_OFFLINE && advice != MADV_MERGEABLE &&
	       advice != MADV_UNMERGEABLE;
}

static bool supports_tunable(const struct operand_set *set)
{
	const uint64_t bytes = 16u << 20;
	const struct gw_machine_config config = {
		.size = sizeof config,
		.node_bytes = &bytes,
		.backend = GW_BACKEND_SOFT,
	};
	struct gw_machine *machine;
	int err;

	if (gw_machine_create(&config, &machine))
		return true; // setup will say why
	err = gw_tunable_set(machine, set->path, set->value);
	gw_machine_destroy(machine);
	return err != -EOPNOTSUPP;
}

static bool engine_supports(struct lab_machine *machine, const struct command *c,
	const char **ret_reason)
{
	char *missing = engine_of(machine)->missing;
	const size_t size = sizeof engine_of(machine)->missing;

	if (c->kind == CMD_ADVISE && !supports_advice(c->range.advice))
		snprintf(missing, size, "the advice %s", c->range.advice_word);
	else if (c->kind == CMD_SET && !supports_tunable(&c->set))
		snprintf(missing, size, "the value %s of %s", c->set.value, c->set.path);
	else if (c->kind == CMD_EXPECT && c->expect.what == EXPECT_KSM)
		snprintf(missing, size, "KSM");
	else
		return true;
	*ret_reason = missing;
	return false;
}

// ---- Setup --------------------------------------------------------------------------------------

static int engine_needs(struct lab_machine *machine, const struct story *story)
{
	const struct story_machine *want = &story->machine;
	static const char *const words[] = {
#define X(kind, word) [NEED_##kind] = word,
		STORY_NEEDS(X)
#undef X
	};

	if (want->only_host)
		return lab_machine_fail(machine, LAB_SKIP, "only host: this is the engine");
	for (unsigned need = 0; need < NEED_COUNT; need++)
		if (want->needs & 1u << need && need != NEED_ROOT && need != NEED_THP &&
			need != NEED_HUGETLB && !(need == NEED_CMA && want->cma_count))
			return lab_machine_fail(machine, LAB_SKIP, "needs %s: %s", words[need],
				not_yet);
	if (want->needs_nodes > want->nodes)
		return lab_machine_fail(machine, LAB_SKIP,
			"needs nodes=%u: the story's machine has %u", want->needs_nodes,
			want->nodes);
	if (want->kernel_major > KERNEL_MAJOR ||
		(want->kernel_major == KERNEL_MAJOR && want->kernel_minor > KERNEL_MINOR))
		return lab_machine_fail(machine, LAB_SKIP,
			"needs kernel>=%u.%u: the engine is %d.%d", want->kernel_major,
			want->kernel_minor, KERNEL_MAJOR, KERNEL_MINOR);
	return engine_of(machine)->options->bind_nodes ? engine_bind_needs(engine_of(machine), want)
						       : 0;
}

static void choose_backend(const struct engine_machine *m, struct gw_machine_config *config)
{
	const char *name = m->options->backend;

	if (!name)
		return;
	if (!strcmp(name, "soft"))
		config->backend = GW_BACKEND_SOFT;
	else if (!strcmp(name, "signal"))
		config->blocker = GW_BLOCKER_SIGNAL;
	else if (!strcmp(name, "userfaultfd"))
		config->blocker = GW_BLOCKER_USERFAULTFD;
}

static int build(struct engine_machine *m)
{
	const struct story_machine *want = &m->story->machine;
	struct gw_machine_config config = {
		.size = sizeof config,
		.nr_nodes = want->nodes,
		.node_bytes = want->memory,
		.nr_cpus = want->cpus,
		.cpu_node = want->cpu_node,
		.distance = want->distance,
		.host_node = m->options->bind_nodes ? m->host_node : NULL,
		.flags = m->options->hugetlbfs ? GW_MACHINE_HUGETLB : 0,
	};
	int err;

	choose_backend(m, &config);
	err = gw_machine_create(&config, &m->machine);
	if (err == -ENOSYS || err == -EPERM)
		return lab_machine_fail(&m->base, LAB_SKIP, "%s", gw_machine_error());
	if (err)
		return lab_machine_fail(&m->base, err, "%s", gw_machine_error());
	gw_trace_enable(m->machine, 1);
	// Stories begin with a daemon that is asleep.
	err = gw_tunable_set(m->machine,
		"sys/kernel/mm/transparent_hugepage/khugepaged/scan_sleep_millisecs", "3600000");
	if (err)
		return lab_machine_fail(&m->base, err, "cannot put khugepaged to sleep");
	m->real = strcmp(gw_machine_backend(m->machine), "soft") != 0;
	return 0;
}

// The pools that the story's machine has.
static int fill_pools(struct engine_machine *m)
{
	const struct story_machine *want = &m->story->machine;

	for (size_t i = 0; i < want->pool_count; i++) {
		const struct story_pool *pool = &want->pools[i];
		struct lab_pool got = {0};
		char path[128], number[24];
		int err;

		snprintf(path, sizeof path,
			"sys/devices/system/node/node%u/hugepages/hugepages-%llukB/nr_hugepages",
			pool->node, (unsigned long long)pool->page_size >> 10);
		snprintf(number, sizeof number, "%llu", (unsigned long long)pool->pages);
		err = gw_tunable_set(m->machine, path, number);
		if (!err)
			err = engine_pool(&m->base, pool->node, pool->page_size, &got);
		if (err)
			return lab_machine_fail(&m->base, err, "hugepages: %s: %s", path,
				strerror(-err));
		if (got.total != pool->pages)
			return lab_machine_fail(&m->base, LAB_SKIP,
				"hugepages: node %u has room for %llu of %llu pages", pool->node,
				(unsigned long long)got.total, (unsigned long long)pool->pages);
	}
	return 0;
}

static int engine_setup(struct lab_machine *machine, const struct story *story)
{
	struct engine_machine *m = engine_of(machine);
	int err;

	m->story = story;
	if (machine->seeded) {
		sched_begin(machine->seed, STEP_NS);
		m->running = true;
	}
	m->tasks = calloc(story->task_count + 1, sizeof *m->tasks);
	m->mappings = calloc(story->mapping_count + 1, sizeof *m->mappings);
	m->loads = calloc(story->load_count + 1, sizeof *m->loads);
	m->objects = calloc(story->mapping_count + 1, sizeof *m->objects);
	m->stores = calloc(story->store_count + 1, sizeof *m->stores);
	if (!m->tasks || !m->mappings || !m->loads || !m->objects || !m->stores)
		return lab_machine_fail(machine, -ENOMEM, "out of memory");
	err = 0;
	if (engine_signals_catch())
		err = lab_machine_fail(machine, -errno, "cannot catch SIGSEGV");
	if (!err)
		err = build(m);
	return err ? err : fill_pools(m);
}

static int engine_teardown(struct lab_machine *machine)
{
	struct engine_machine *m = engine_of(machine);

	for (size_t i = 0; m->loads && i < m->story->load_count; i++)
		engine_load_abandon(m->loads[i]);
	for (size_t i = 0; m->mappings && i < m->story->mapping_count; i++)
		if (m->mappings[i].pin)
			gw_unpin(m->mappings[i].pin);
	for (size_t i = 0; m->stores && i < m->story->store_count; i++)
		engine_store_free(m->stores[i]);
	if (m->machine && gw_task_attach(NULL))
		lab_machine_warn(machine, "the player could not leave its last task");
	if (m->machine)
		gw_machine_check(m->machine);
	for (size_t i = 0; m->tasks && i < m->story->task_count; i++)
		if (m->tasks[i])
			gw_task_exit(m->tasks[i]);
	for (size_t i = 0; i < m->object_count; i++)
		gw_object_put(m->objects[i].object);
	gw_machine_destroy(m->machine);
	if (m->running)
		sched_end();
	engine_signals_restore();
	free(m->tasks);
	free(m->mappings);
	free(m->loads);
	free(m->stores);
	free(m->objects);
	free(m);
	return 0;
}

static void engine_cancel(struct lab_machine *machine)
{
	atomic_store(&engine_of(machine)->cancelled, true);
}

const struct lab_machine_ops engine_machine_ops = {
	.name = "engine",
	.beside_threads = true,
	.open = engine_open,
	.needs = engine_needs,
	.supports = engine_supports,
	.setup = engine_setup,
	.action = {
		[CMD_TASK] = engine_task_new,
		[CMD_FORK] = engine_fork,
		[CMD_EXIT] = engine_exit,
		[CMD_CPU] = engine_cpu,
		[CMD_MAP] = engine_map,
		[CMD_UNMAP] = engine_unmap,
		[CMD_PROTECT] = engine_protect,
		[CMD_REMAP] = engine_remap,
		[CMD_WRITE] = engine_write,
		[CMD_READ] = engine_read,
		[CMD_CHECK] = engine_check,
		[CMD_ADVISE] = engine_advise,
		[CMD_LOCK] = engine_lock,
		[CMD_UNLOCK] = engine_unlock,
		[CMD_PIN] = engine_pin,
		[CMD_UNPIN] = engine_unpin,
		[CMD_POLICY] = engine_policy,
		[CMD_GET_POLICY] = engine_get_policy,
		[CMD_MBIND] = engine_mbind,
		[CMD_WHERE] = engine_where,
		[CMD_MOVE] = engine_move,
		[CMD_MIGRATE] = engine_migrate,
		[CMD_MEMS] = engine_mems,
		[CMD_MEMS_V1] = engine_mems_v1,
		[CMD_LOAD] = engine_load_start,
		[CMD_STOP] = engine_load_stop,
		[CMD_SET] = engine_set,
		[CMD_SPLIT] = engine_split,
		[CMD_KHUGEPAGED] = engine_khugepaged,
		[CMD_COMPACT] = engine_compact,
		[CMD_FILL] = engine_fill,
		[CMD_UNFILL] = engine_unfill,
		[CMD_SLEEP] = engine_sleep,
		[CMD_STORE] = engine_store,
	},
	.nodes = engine_nodes,
	.vmstat = engine_vmstat,
	.text = engine_text,
	.huge = engine_huge,
	.pool = engine_pool,
	.tunable = engine_tunable,
	.verify = engine_verify,
	.mark = engine_mark,
	.finish = engine_load_finish,
	.cancel = engine_cancel,
	.teardown = engine_teardown,
};
