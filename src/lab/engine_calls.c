// SPDX-License-Identifier: MIT
// Policies, moves and cpusets of a story on the engine; tunables, full nodes, time.
#include "lab/engine_machine.h"

#include <godwit/huge.h>
#include <godwit/policy.h>
#include <godwit/stats.h>

#include "base/wait.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAXNODE 65 // a word of nodes, as the system calls count

// What a move that keeps huge pages has to say beside its return: how many moved whole, and why the
// first page that stayed did, where no list of those follows. report NULL: a system call, which
// says nothing.
static int engine_moved(struct lab_result *result, long ret, const struct gw_move_report *report)
{
	char text[200];
	int n;

	if (report) {
		n = snprintf(text, sizeof text,
			"transparent huge pages of 2M taken up:"
			" %llu moved whole, %llu stayed, %llu split",
			(unsigned long long)report->huge_moved,
			(unsigned long long)report->huge_failed,
			(unsigned long long)report->huge_split);
		if (report->why != GW_WHY_MOVED && !result->stayed_count)
			n += snprintf(text + n, sizeof text - (size_t)n, "; %s",
				gw_why_text(report->why));
		if (report->detail[0] && !result->stayed_count)
			snprintf(text + n, sizeof text - (size_t)n, " (%s)", report->detail);
		if (lab_result_text(result, text))
			return -ENOMEM;
	}
	return engine_result(result, ret);
}

// A call that moves: its options, and what it tells beside its return.
struct mover {
	struct gw_move_report report;
	struct engine_stayed *stayed; // NULL: not asked for
	struct gw_move_options options;
};

static void mover_begin(struct mover *mover, bool keep_huge, bool stayed)
{
	*mover = (struct mover){.stayed = stayed ? engine_stayed_new() : NULL};
	mover->options = (struct gw_move_options){.size = sizeof mover->options,
		.keep_huge = keep_huge,
		.report = keep_huge ? &mover->report : NULL,
		.stayed = mover->stayed ? &mover->stayed->list : NULL};
}

// who: whose pages they were.
static int mover_end(struct engine_machine *m, struct mover *mover, const struct story_task *who,
	long ret, struct lab_result *result)
{
	int err = engine_stayed_end(m, mover->stayed, who, result);

	return err ? err : engine_moved(result, ret, mover->options.report);
}

// ---- Policies -----------------------------------------------------------------------------------

int engine_policy(struct lab_machine *machine, const struct command *c, struct lab_result *result)
{
	const struct story_policy *p = &c->policy.policy;
	const unsigned long nodes = p->nodes;

	return engine_result(result, gw_set_mempolicy(engine_task(engine_of(machine), c->task),
					     p->mode | (int)p->flags, p->have_nodes ? &nodes : NULL,
					     p->have_nodes ? MAXNODE : 0));
}

int engine_mbind(struct lab_machine *machine, const struct command *c, struct lab_result *result)
{
	const struct story_policy *p = &c->policy.policy;
	const struct story_range *r = &c->policy.range;
	const unsigned long nodes = p->nodes;

	struct engine_machine *m = engine_of(machine);
	struct mover mover;

	mover_begin(&mover, c->policy.keep_huge, true);
	int ret = gw_mbind_explained(engine_task(m, c->task), r->address, r->length,
		p->mode | (int)p->flags, p->have_nodes ? &nodes : NULL,
		p->have_nodes ? MAXNODE : 0, c->policy.flags, &mover.options);
	return mover_end(m, &mover, c->task, ret, result);
}

int engine_get_policy(struct lab_machine *machine, const struct command *c,
	struct lab_result *result)
{
	const unsigned flags = c->policy.flags;
	unsigned long nodes = 0;
	struct story_policy p = {0};
	char text[160];
	int mode = 0;
	int err = gw_get_mempolicy(engine_task(engine_of(machine), c->task), &mode, &nodes, MAXNODE,
		flags & GET_POLICY_ADDR ? c->policy.range.address : 0, flags);

	if (err)
		return engine_result(result, err);
	if (flags & GET_POLICY_MEMS) {
		nodes_text(nodes, text, sizeof text);
	} else if (flags & GET_POLICY_NODE) {
		snprintf(text, sizeof text, "%d", mode);
	} else {
		p.mode = mode & 0x1fff;
		p.flags = (unsigned)mode & ~0x1fffu;
		p.nodes = nodes;
		p.have_nodes = nodes != 0;
		policy_text(&p, text, sizeof text);
	}
	return lab_result_text(result, text);
}

// ---- Moves --------------------------------------------------------------------------------------

static uint64_t *addresses_of(const struct operand_move *move)
{
	uint64_t *pages = calloc(move->count + 1, sizeof *pages);
	size_t n = 0;

	for (size_t i = 0; pages && i < move->ranges.count; i++) {
		const struct story_range *r = &move->ranges.v[i];

		for (uint64_t at = 0; at < r->length && n < move->count; at += move->step)
			pages[n++] = r->address + at + move->off;
	}
	return pages;
}

static int *targets_of(const struct operand_move *move)
{
	int *nodes = calloc(move->count + 1, sizeof *nodes);

	for (uint64_t i = 0; nodes && i < move->count; i++)
		nodes[i] = move->to[i % move->to_count];
	return nodes;
}

static int pid_of(struct engine_machine *m, const struct operand_move *move)
{
	if (move->have_pid)
		return (int)move->raw_pid;
	return move->of ? gw_task_pid(engine_task(m, move->of)) : 0;
}

// How many of the addresses that there are the call reads before it meets the end of the array: it
// asks for 16 at a time, and moves one by one.
static uint64_t readable_count(const struct operand_move *move)
{
	return move->to ? move->count : move->count & ~UINT64_C(15);
}

static int call_move(struct engine_machine *m, const struct command *c, struct lab_result *result)
{
	const struct operand_move *move = &c->move;
	uint64_t count = move->have_count ? move->raw_count : move->count;
	bool beyond = count > move->count;
	uint64_t *pages = addresses_of(move);
	int *nodes = move->to ? targets_of(move) : NULL;
	int err = lab_result_statuses(result, beyond ? move->count : count);
	const int *to = move->bad == BAD_NODES ? (const int *)8 : nodes;
	bool known = !move->have_pid || !move->raw_pid; // whose names these addresses have
	struct mover mover;

	if (!pages || (move->to && !nodes) || err) {
		err = lab_machine_fail(&m->base, -ENOMEM, "out of memory");
	} else {
		mover_begin(&mover, move->keep_huge, move->to && known);
		long ret = gw_move_pages_explained(engine_task(m, c->task), pid_of(m, move),
			beyond ? readable_count(move) : count,
			move->bad == BAD_PAGES ? NULL : pages,
			move->bad == BAD_NODES && !move->to ? NULL : to,
			move->bad == BAD_STATUS ? NULL : result->status, move->flags,
			&mover.options);
		err = mover_end(m, &mover, move->of ? move->of : c->task,
			beyond && ret >= 0 ? -EFAULT : ret, result);
	}
	free(pages);
	free(nodes);
	return err;
}

int engine_where(struct lab_machine *machine, const struct command *c, struct lab_result *result)
{
	return call_move(engine_of(machine), c, result);
}

int engine_move(struct lab_machine *machine, const struct command *c, struct lab_result *result)
{
	return call_move(engine_of(machine), c, result);
}

int engine_migrate(struct lab_machine *machine, const struct command *c, struct lab_result *result)
{
	struct engine_machine *m = engine_of(machine);
	const unsigned long from = c->migrate.from, to = c->migrate.to;
	int pid = c->migrate.of ? gw_task_pid(engine_task(m, c->migrate.of)) : 0;
	struct mover mover;

	mover_begin(&mover, c->migrate.keep_huge, true);
	long ret = gw_migrate_pages_explained(engine_task(m, c->task), pid, MAXNODE, &from, &to,
		&mover.options);
	return mover_end(m, &mover, c->migrate.of ? c->migrate.of : c->task, ret, result);
}

int engine_mems(struct lab_machine *machine, const struct command *c, struct lab_result *result)
{
	return engine_result(result,
		gw_set_mems(engine_task(engine_of(machine), c->task), c->mems.nodes, 1));
}

int engine_mems_v1(struct lab_machine *machine, const struct command *c, struct lab_result *result)
{
	return engine_result(result, gw_set_mems(engine_task(engine_of(machine), c->task),
					     c->mems.nodes, c->mems.migrate));
}

// ---- The machine as a whole ---------------------------------------------------------------------

int engine_set(struct lab_machine *machine, const struct command *c, struct lab_result *result)
{
	return engine_result(result,
		gw_tunable_set(engine_of(machine)->machine, c->set.path, c->set.value));
}

int engine_fill(struct lab_machine *machine, const struct command *c, struct lab_result *result)
{
	int64_t taken =
		gw_node_fill(engine_of(machine)->machine, (unsigned)c->world.node, c->world.size);

	return engine_result(result, taken < 0 ? taken : 0);
}

int engine_unfill(struct lab_machine *machine, const struct command *c, struct lab_result *result)
{
	struct engine_machine *m = engine_of(machine);
	int64_t given = 0;

	for (unsigned node = 0; node < gw_machine_nodes(m->machine) && given >= 0; node++)
		if (c->world.node < 0 || (unsigned)c->world.node == node)
			given = gw_node_unfill(m->machine, node);
	return engine_result(result, given < 0 ? given : 0);
}

int engine_sleep(struct lab_machine *machine, const struct command *c, struct lab_result *result)
{
	struct engine_machine *m = engine_of(machine);

	(void)result;
	(void)gw_kcompactd_run(m->machine); // what the daemons have not come to yet
	for (uint64_t left = c->world.time_ns; left && !atomic_load(&m->cancelled);) {
		uint64_t step = left < 50000000 ? left : 50000000;

		(void)!wait_until(&m->cancelled, false, step); // nobody wakes us
		left -= step;
	}
	return atomic_load(&m->cancelled) ? -EINTR : 0;
}
