// SPDX-License-Identifier: MIT
// The running kernel as a machine for stories: its table of actions, setup and teardown.
//
//   open      looks at nothing but who we are; nothing is changed
//   needs     reads the machine and the story; says why not (host_needs.c)
//   setup     forks the maker of tasks and the guardian while the player has one thread, takes the
//             machine, saves what it will change, sets what a story starts from, fills the pools
//   teardown  ends every task (their memory goes with them), then puts everything back, youngest
//             change first: pools empty only when nobody uses their pages, and groups vanish only
//             without members
//
// On a machine that is not the test guest nothing of the machine is changed unless the user allows
// it: a story that asks for changes is skipped there, any other one plays with the machine as it
// is, with THP off for its tasks, and a warning names what is different.

#include "lab/host_machine.h"

#include "host/hugepools.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

int result_of(struct lab_result *result, const struct agent_reply *reply)
{
	if (reply->ret == -1)
		lab_result_fail(result, reply->error);
	else
		result->ret = reply->ret;
	return 0;
}

int result_of_write(struct lab_result *result, int err)
{
	if (err)
		lab_result_fail(result, -err);
	return 0;
}

static int host_machine_open(const struct lab_options *options, struct lab_machine **ret_machine,
	char *failure, size_t failure_size)
{
	struct host_machine *m = calloc(1, sizeof *m);
	int err = m ? host_init(&m->host, options->host_root) : -ENOMEM;

	if (err) {
		snprintf(failure, failure_size, "%s", strerror(-err));
		free(m);
		return err;
	}
	m->base.ops = &host_machine_ops;
	m->options = options;
	m->maker.socket = m->cancel_event = -1;
	m->is_guest = host_is_test_guest(&m->host);
	m->may_change = (m->is_guest || options->allow_system_changes || *m->host.root) &&
			(geteuid() == 0 || *m->host.root);
	*ret_machine = &m->base;
	return 0;
}

static int make_tables(struct host_machine *m)
{
	const struct story *story = m->story;

	m->tasks = calloc(story->task_count + 1, sizeof *m->tasks);
	m->objects = calloc(story->mapping_count + 1, sizeof *m->objects);
	m->load_lanes = calloc(story->load_count + 1, sizeof *m->load_lanes);
	m->cancel_event = eventfd(0, EFD_CLOEXEC);
	if (!m->tasks || !m->objects || !m->load_lanes || m->cancel_event < 0)
		return lab_machine_fail(&m->base, -ENOMEM, "out of memory");
	for (size_t i = 0; i < story->task_count; i++)
		m->tasks[i].socket = -1;
	for (size_t i = 0; i < STORY_NODES_MAX; i++)
		m->filler[i].socket = -1;
	return 0;
}

// The pools that the story's machine has. LAB_SKIP: the kernel did not find the memory.
static int fill_pools(struct host_machine *m)
{
	for (size_t i = 0; i < m->story->machine.pool_count; i++) {
		const struct story_pool *want = &m->story->machine.pools[i];
		int node = real_node(&m->map, (int)want->node);
		struct host_pool pool = {0};
		char path[160], number[24];
		int err;

		host_pool_path(node, want->page_size, "nr_hugepages", path, sizeof path);
		snprintf(number, sizeof number, "%" PRIu64, want->pages);
		err = host_change(m, path, number);
		if (!err)
			err = host_pool_read(&m->host, (unsigned)node, want->page_size, &pool);
		if (err)
			return lab_machine_fail(
				&m->base, LAB_SKIP, "hugepages: %s: %s", path, strerror(-err));
		if (pool.total != want->pages)
			return lab_machine_fail(&m->base, LAB_SKIP,
				"hugepages: node %u has room for %" PRIu64 " of %" PRIu64 " pages",
				want->node, pool.total, want->pages);
	}
	return 0;
}

static int host_setup(struct lab_machine *machine, const struct story *story)
{
	struct host_machine *m = host_of(machine);
	int err;

	m->story = story;
	err = make_tables(m);
	if (!err)
		err = host_map_make(m, &story->machine);
	if (!err)
		err = host_maker_start(m);
	if (!err)
		err = host_start_state(m);
	if (!err)
		err = fill_pools(m);
	return err ? err : host_trace_start(m);
}

static void complain(void *arg, const char *text)
{
	lab_machine_warn(arg, "%s", text);
}

static void end_tasks(struct host_machine *m)
{
	for (size_t i = 0; m->tasks && i < m->story->task_count; i++)
		host_task_end(m, &m->tasks[i]);
	for (size_t i = 0; m->tasks && i < STORY_NODES_MAX; i++)
		host_task_end(m, &m->filler[i]);
	host_task_end(m, &m->maker);
}

static int host_teardown(struct lab_machine *machine)
{
	struct host_machine *m = host_of(machine);
	int err = 0;

	end_tasks(m);
	if (m->has_journal)
		err = host_journal_close(&m->journal, complain, machine);
	if (err)
		lab_machine_warn(machine, HOST_JOURNAL_ADVICE);
	for (size_t i = 0; i < m->object_count; i++)
		close(m->objects[i].file);
	if (m->cancel_event >= 0)
		close(m->cancel_event);
	free(m->tasks);
	free(m->objects);
	free(m->load_lanes);
	free(m);
	return err ? -EAGAIN : 0;
}

static void host_cancel(struct lab_machine *machine)
{
	struct host_machine *m = host_of(machine);
	uint64_t one = 1;

	atomic_store(&m->cancelled, true);
	if (write(m->cancel_event, &one, sizeof one) < 0)
		return; // full: it is readable then anyway
}

const struct lab_machine_ops host_machine_ops = {
	.name = "host",
	.open = host_machine_open,
	.needs = host_needs,
	.setup = host_setup,
	.action =
		{
			[CMD_TASK] = host_act_task,
			[CMD_FORK] = host_act_fork,
			[CMD_EXIT] = host_act_exit,
			[CMD_CPU] = host_act_cpu,
			[CMD_MAP] = host_act_map,
			[CMD_UNMAP] = host_act_unmap,
			[CMD_PROTECT] = host_act_protect,
			[CMD_REMAP] = host_act_remap,
			[CMD_WRITE] = host_act_write,
			[CMD_READ] = host_act_read,
			[CMD_CHECK] = host_act_check,
			[CMD_ADVISE] = host_act_advise,
			[CMD_LOCK] = host_act_lock,
			[CMD_UNLOCK] = host_act_unlock,
			[CMD_PIN] = host_act_pin,
			[CMD_UNPIN] = host_act_unpin,
			[CMD_POLICY] = host_act_policy,
			[CMD_GET_POLICY] = host_act_get_policy,
			[CMD_MBIND] = host_act_mbind,
			[CMD_WHERE] = host_act_where,
			[CMD_MOVE] = host_act_move,
			[CMD_MIGRATE] = host_act_migrate,
			[CMD_MEMS] = host_act_mems,
			[CMD_MEMS_V1] = host_act_mems_v1,
			[CMD_LOAD] = host_act_load,
			[CMD_STOP] = host_act_stop,
			[CMD_SPLIT] = host_act_split,
			[CMD_SET] = host_act_set,
			[CMD_COMPACT] = host_act_compact,
			[CMD_KHUGEPAGED] = host_act_khugepaged,
			[CMD_KSMD] = host_act_ksmd,
			[CMD_BALANCE] = host_act_balance,
			[CMD_OFFLINE_PAGE] = host_act_offline_page,
			[CMD_FILL] = host_act_fill,
			[CMD_UNFILL] = host_act_unfill,
			[CMD_SLEEP] = host_act_sleep,
		},
	.nodes = host_query_nodes,
	.vmstat = host_query_vmstat,
	.text = host_query_text,
	.huge = host_query_huge,
	.pool = host_query_pool,
	.tunable = host_query_tunable,
	.mark = host_mark,
	.cancel = host_cancel,
	.teardown = host_teardown,
};
