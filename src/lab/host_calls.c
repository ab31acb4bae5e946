// SPDX-License-Identifier: MIT
// Policies, moves and cpusets of a story on the host.
//
// Masks of nodes go along as payload, one word of 64 nodes (maxnode counts one more). The nodes of
// a policy with relative nodes are positions, not nodes, and are not translated. cpuset.mems is
// written by the player, since a task may be an ordinary user.

#include "lab/host_machine.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#define MAXNODE 65
#define ALL_WORDS 16 // a mask of 1024 nodes: what any kernel may want to give
#define F_RELATIVE_NODES (1u << 14)

// ---- Policies -----------------------------------------------------------------------------------

static uint64_t policy_nodes(const struct host_machine *m, const struct story_policy *p)
{
	return p->flags & F_RELATIVE_NODES ? p->nodes : real_nodes(&m->map, p->nodes);
}

int host_act_policy(struct lab_machine *machine, const struct command *c, struct lab_result *result)
{
	struct host_machine *m = host_of(machine);
	const struct story_policy *p = &c->policy.policy;
	uint64_t nodes = policy_nodes(m, p);
	struct agent_request r = {.op = AGENT_SYSCALL,
		.call = SYS_set_mempolicy,
		.file_arg = -1,
		.pointers = p->have_nodes ? 1u << 1 : 0,
		.arg = {(uint64_t)p->mode | p->flags, 0, p->have_nodes ? MAXNODE : 0},
		.bytes = sizeof nodes};
	struct agent_reply reply;
	int err = host_ask(m, task_here(m, c->task), &r, &nodes, -1, &reply, NULL);

	return err ? err : result_of(result, &reply);
}

int host_act_mbind(struct lab_machine *machine, const struct command *c, struct lab_result *result)
{
	struct host_machine *m = host_of(machine);
	const struct story_policy *p = &c->policy.policy;
	const struct story_range *range = &c->policy.range;
	uint64_t nodes = policy_nodes(m, p);
	struct agent_request r = {.op = AGENT_SYSCALL,
		.call = SYS_mbind,
		.file_arg = -1,
		.pointers = p->have_nodes ? 1u << 3 : 0,
		.arg = {range->address, range->length, (uint64_t)p->mode | p->flags, 0,
			p->have_nodes ? MAXNODE : 0, c->policy.flags},
		.bytes = sizeof nodes};
	struct agent_reply reply;
	int err = host_ask(m, task_here(m, c->task), &r, &nodes, -1, &reply, NULL);

	return err ? err : result_of(result, &reply);
}

struct got_policy { // payload of get_mempolicy
	uint64_t nodes[ALL_WORDS];
	int mode;
};

static void policy_answer(const struct host_machine *m, unsigned flags,
	const struct got_policy *got, char *text, size_t size)
{
	struct story_policy p = {
		.mode = got->mode & 0x1fff, .flags = (unsigned)got->mode & ~0x1fffu};

	if (flags & GET_POLICY_MEMS) {
		nodes_text(story_nodes(&m->map, got->nodes[0]), text, size);
	} else if (flags & GET_POLICY_NODE) {
		snprintf(text, size, "%d", story_node(&m->map, got->mode));
	} else {
		p.nodes = p.flags & F_RELATIVE_NODES ? got->nodes[0]
						     : story_nodes(&m->map, got->nodes[0]);
		p.have_nodes = p.nodes != 0;
		policy_text(&p, text, size);
	}
}

int host_act_get_policy(
	struct lab_machine *machine, const struct command *c, struct lab_result *result)
{
	struct host_machine *m = host_of(machine);
	unsigned flags = c->policy.flags;
	struct got_policy got = {0}, *back;
	struct agent_request r = {.op = AGENT_SYSCALL,
		.call = SYS_get_mempolicy,
		.file_arg = -1,
		.pointers = 1u << 0 | 1u << 1,
		.keep_payload = 1,
		.arg = {offsetof(struct got_policy, mode), 0, ALL_WORDS * 64 + 1,
			flags & GET_POLICY_ADDR ? c->policy.range.address : 0, flags},
		.bytes = sizeof got};
	struct agent_reply reply;
	char text[160];
	int err = host_ask(m, task_here(m, c->task), &r, &got, -1, &reply, (void **)&back);

	if (err)
		return err;
	policy_answer(m, flags, back, text, sizeof text);
	free(back);
	if (reply.ret == -1)
		return result_of(result, &reply);
	return lab_result_text(result, text);
}

// ---- Moves --------------------------------------------------------------------------------------

// The two arrays one after the other. NULL: no memory.
static void *move_payload(
	const struct host_machine *m, const struct operand_move *move, uint64_t *ret_bytes)
{
	uint64_t bytes = move->count * (sizeof(uint64_t) + (move->to ? sizeof(int32_t) : 0));
	uint64_t *pages = malloc(bytes + 1);
	int32_t *nodes = (int32_t *)(pages + move->count);
	size_t n = 0;

	for (size_t i = 0; pages && i < move->ranges.count; i++) {
		const struct story_range *r = &move->ranges.v[i];

		for (uint64_t at = 0; at < r->length && n < move->count; at += move->step)
			pages[n++] = r->address + at + move->off;
	}
	for (size_t i = 0; pages && move->to && i < move->count; i++)
		nodes[i] = real_node(&m->map, move->to[i % move->to_count]);
	*ret_bytes = bytes;
	return pages;
}

static uint64_t pid_of(struct host_machine *m, const struct operand_move *move)
{
	if (move->have_pid)
		return (uint64_t)move->raw_pid;
	return move->of ? (uint64_t)task_here(m, move->of)->pid : 0;
}

static int move_result(struct host_machine *m, const struct agent_reply *reply,
	const int32_t *status, struct lab_result *result)
{
	size_t count = reply->bytes / sizeof *status;
	int err = lab_result_statuses(result, count);

	if (err)
		return lab_machine_fail(&m->base, err, "out of memory");
	for (size_t i = 0; i < count; i++)
		result->status[i] = story_node(&m->map, status[i]);
	return result_of(result, reply);
}

int host_act_move(struct lab_machine *machine, const struct command *c, struct lab_result *result)
{
	static const unsigned bad[] = {[BAD_NONE] = 0,
		[BAD_PAGES] = AGENT_BAD_PAGES,
		[BAD_NODES] = AGENT_BAD_NODES,
		[BAD_STATUS] = AGENT_BAD_STATUS};
	struct host_machine *m = host_of(machine);
	const struct operand_move *move = &c->move;
	struct agent_request r = {.op = AGENT_MOVE,
		.arg = {pid_of(m, move), move->have_count ? move->raw_count : move->count,
			move->count, move->flags, bad[move->bad], move->to != NULL}};
	struct agent_reply reply;
	void *payload = move_payload(m, move, &r.bytes), *status;
	int err;

	if (!payload)
		return lab_machine_fail(machine, -ENOMEM, "out of memory");
	err = host_ask(m, task_here(m, c->task), &r, payload, -1, &reply, &status);
	free(payload);
	if (err)
		return err;
	err = move_result(m, &reply, status, result);
	free(status);
	return err;
}

int host_act_where(struct lab_machine *machine, const struct command *c, struct lab_result *result)
{
	return host_act_move(machine, c, result);
}

int host_act_migrate(
	struct lab_machine *machine, const struct command *c, struct lab_result *result)
{
	struct host_machine *m = host_of(machine);
	const uint64_t masks[] = {
		real_nodes(&m->map, c->migrate.from), real_nodes(&m->map, c->migrate.to)};
	uint64_t pid = c->migrate.of ? (uint64_t)task_here(m, c->migrate.of)->pid : 0;
	struct agent_request r = {.op = AGENT_SYSCALL,
		.call = SYS_migrate_pages,
		.file_arg = -1,
		.pointers = 1u << 2 | 1u << 3,
		.arg = {pid, MAXNODE, 0, sizeof masks[0]},
		.bytes = sizeof masks};
	struct agent_reply reply;
	int err = host_ask(m, task_here(m, c->task), &r, masks, -1, &reply, NULL);

	return err ? err : result_of(result, &reply);
}

// ---- cpusets ------------------------------------------------------------------------------------

static int join_group(struct host_machine *m, struct host_task *task, enum cgroup_version version,
	const char *name)
{
	char folder[128];
	int err;

	if (task->in_group[version])
		return 0;
	snprintf(folder, sizeof folder, "godwit-%d-%s", (int)getpid(), name);
	err = host_cpuset_make(&m->journal, version, folder, task->pid, task->group[version],
		sizeof task->group[version]);
	if (err)
		return lab_machine_fail(&m->base, err, "no cpuset for task %s (%s): %s", name,
			task->group[version], strerror(-err));
	task->in_group[version] = true;
	return 0;
}

static int set_mems(struct lab_machine *machine, const struct command *c,
	enum cgroup_version version, struct lab_result *result)
{
	struct host_machine *m = host_of(machine);
	struct host_task *task = task_here(m, c->task);
	char nodes[256];
	int err = join_group(m, task, version, c->task->name);

	if (err)
		return err;
	nodes_text(real_nodes(&m->map, c->mems.nodes), nodes, sizeof nodes);
	return result_of_write(result, host_cpuset_set_mems(&m->host, task->group[version], version,
					       nodes, c->mems.migrate));
}

int host_act_mems(struct lab_machine *machine, const struct command *c, struct lab_result *result)
{
	return set_mems(machine, c, CGROUP_V2, result);
}

int host_act_mems_v1(
	struct lab_machine *machine, const struct command *c, struct lab_result *result)
{
	return set_mems(machine, c, CGROUP_V1, result);
}

// A forked task starts in its parent's group; what is done to the parent's nodes later must not be
// done to it. It gets a group of its own with the same nodes.
int host_follow_groups(struct host_machine *m, const struct host_task *parent,
	struct host_task *child, const char *name)
{
	for (int version = CGROUP_V1; version <= CGROUP_V2; version++) {
		char *nodes;
		int err;

		if (!parent->in_group[version])
			continue;
		err = host_readf(&m->host, &nodes, "%s/cpuset.mems", parent->group[version]);
		if (err)
			return lab_machine_fail(&m->base, err, "cannot read a cpuset");
		err = join_group(m, child, (enum cgroup_version)version, name);
		if (!err)
			err = host_cpuset_set_mems(&m->host, child->group[version],
				(enum cgroup_version)version, nodes, true);
		free(nodes);
		if (err)
			return err;
	}
	return 0;
}
