// SPDX-License-Identifier: MIT
// A machine small enough to know by heart.
//
// A page is a node and a byte. Writing puts an absent page on the node of the task's cpu; moving
// changes the node and counts pgmigrate_success; a node that the story does not have is ENODEV;
// memory that is protected gives SIGSEGV. cpus are on the nodes that the story says. Nothing else
// happens, and nothing ever happens differently. Actions that are not here are "not in this
// build". A test may ask for failures through struct fake_plan.

#include "lab_fake.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

struct fake_map {
	int32_t *node; // by page; -ENOENT: absent
	uint8_t *byte;
	size_t pages;
	bool protected;
};

struct fake {
	struct lab_machine machine;
	struct fake_plan *plan;
	const struct story *story;
	struct fake_map *maps; // by index
	long long migrated, faults;
	char tunable[64];
	atomic_bool cancel;
};

static struct fake *fake_of(struct lab_machine *m)
{
	return (struct fake *)m;
}

// ---- Memory -------------------------------------------------------------------------------------

static int fake_map(struct lab_machine *m, const struct command *c, struct lab_result *r)
{
	const struct story_mapping *map = c->map.map;
	struct fake_map *f = &fake_of(m)->maps[map->index];
	if (!map->length) {
		lab_result_fail(r, EINVAL);
		return 0;
	}
	f->pages = map->length / STORY_PAGE_SIZE;
	f->node = calloc(f->pages, sizeof(*f->node));
	f->byte = calloc(f->pages, 1);
	for (size_t i = 0; i < f->pages; i++)
		f->node[i] = -ENOENT;
	return 0;
}

static int fake_protect(struct lab_machine *m, const struct command *c, struct lab_result *r)
{
	(void)r;
	fake_of(m)->maps[c->range.range.map->index].protected =
		c->range.prot == PROT_STORY_NONE;
	return 0;
}

static int fake_write(struct lab_machine *m, const struct command *c, struct lab_result *r)
{
	const struct story_range *range = &c->range.range;
	struct fake *f = fake_of(m);
	struct fake_map *map = &f->maps[range->map->index];
	if (map->protected) {
		r->signal = SIGSEGV;
		return 0;
	}
	for (uint64_t off = range->offset; off < range->offset + range->length;
		off += STORY_PAGE_SIZE) {
		size_t i = off / STORY_PAGE_SIZE;
		f->faults += map->node[i] < 0;
		if (map->node[i] < 0)
			map->node[i] = f->story->machine.cpu_node[c->task->cpu];
		map->byte[i] = c->range.byte;
	}
	return 0;
}

static int fake_check(struct lab_machine *m, const struct command *c, struct lab_result *r)
{
	const struct story_range *range = &c->range.range;
	struct fake_map *map = &fake_of(m)->maps[range->map->index];
	for (uint64_t off = 0; off < range->length && !r->mismatch; off += STORY_PAGE_SIZE) {
		uint8_t byte = map->byte[(range->offset + off) / STORY_PAGE_SIZE];
		r->mismatch = byte != c->range.byte;
		r->address = range->address + off;
		r->found = byte;
	}
	return 0;
}

// ---- where, move --------------------------------------------------------------------------------

static void move_page(struct fake *f, const struct operand_move *m, size_t n, int32_t *node,
	int32_t *status)
{
	if (*node >= 0 && m->to) {
		int32_t to = m->to[n % m->to_count];
		f->migrated += *node != to;
		*node = to;
	}
	*status = *node;
}

static int fake_move(struct lab_machine *machine, const struct command *c, struct lab_result *r)
{
	const struct operand_move *m = &c->move;
	struct fake *f = fake_of(machine);
	size_t n = 0;
	int err = lab_result_statuses(r, m->count);
	if (err)
		return err;
	for (size_t i = 0; i < m->to_count; i++)
		if (m->to[i] < 0 || (unsigned)m->to[i] >= f->story->machine.nodes) {
			lab_result_fail(r, ENODEV);
			return 0;
		}
	for (size_t i = 0; i < m->ranges.count; i++) {
		const struct story_range *range = &m->ranges.v[i];
		struct fake_map *map = &f->maps[range->map->index];
		for (uint64_t off = 0; off < range->length; off += m->step, n++)
			move_page(f, m, n, &map->node[(range->offset + off) / STORY_PAGE_SIZE],
				&r->status[n]);
	}
	return 0;
}

// ---- The rest -----------------------------------------------------------------------------------

static int fake_nothing(struct lab_machine *m, const struct command *c, struct lab_result *r)
{
	(void)r;
	struct fake_plan *plan = fake_of(m)->plan;
	return plan->broken_error && plan->broken == c->kind
		? lab_machine_fail(m, plan->broken_error, "it broke")
		: 0;
}

static int fake_get_policy(struct lab_machine *m, const struct command *c, struct lab_result *r)
{
	(void)m, (void)c;
	return lab_result_text(r, "bind:0-1");
}

static int fake_set(struct lab_machine *m, const struct command *c, struct lab_result *r)
{
	if (strcmp(c->set.path, "sys/known"))
		lab_result_fail(r, ENOENT);
	else
		snprintf(fake_of(m)->tunable, sizeof(fake_of(m)->tunable), "a [%s] b",
			c->set.value);
	return 0;
}

static int fake_stop(struct lab_machine *m, const struct command *c, struct lab_result *r)
{
	(void)c;
	r->has_load = true;
	r->accesses = 1000;
	r->stall_ns = 1500000;
	r->lost = fake_of(m)->plan->loses_values;
	return 0;
}

static int fake_sleep(struct lab_machine *m, const struct command *c, struct lab_result *r)
{
	struct fake *f = fake_of(m);
	(void)c, (void)r;
	while (f->plan->hangs && !atomic_load(&f->cancel))
		nanosleep(&(struct timespec){0, 10000000}, NULL);
	return f->plan->hangs ? lab_machine_fail(m, -EINTR, "cancelled") : 0;
}

static void fake_cancel(struct lab_machine *m)
{
	fake_of(m)->plan->cancelled++;
	atomic_store(&fake_of(m)->cancel, true);
}

// ---- Queries ------------------------------------------------------------------------------------

static int fake_nodes(struct lab_machine *m, const struct story_range *range, int32_t *nodes)
{
	struct fake_map *map = &fake_of(m)->maps[range->map->index];
	for (uint64_t i = 0; i < range->length / STORY_PAGE_SIZE; i++)
		nodes[i] = map->node ? map->node[range->offset / STORY_PAGE_SIZE + i] : -EFAULT;
	return 0;
}

static int fake_vmstat(struct lab_machine *m, struct lab_counters *counters)
{
	int err = lab_counters_add(counters, "pgfault", fake_of(m)->faults);
	return err ? err : lab_counters_add(counters, "pgmigrate_success", fake_of(m)->migrated);
}

static int fake_text(struct lab_machine *m, enum lab_text what, const struct story_range *range,
	char **ret_text)
{
	struct fake *f = fake_of(m);

	(void)range;
	if (what == TEXT_NUMASTAT) // of a machine that was used before
		return asprintf(ret_text, "numa_hit %lld 70\nother_node 9 %lld\n",
			       100 + f->faults, 5 + f->migrated) < 0 ? -ENOMEM : 0;
	*ret_text = strdup(what == TEXT_NUMA_MAPS
			? "200000000000 bind:0 file=/x anon=2 active=1 N0=1 N1=1\n"
			  "200000002000 default anon=3 N1=3\n"
			: what == TEXT_SMAPS ? "200000000000-200000002000 rw-p 00000000 00:00 0\n"
					       "Rss:                   8 kB\n"
					       "Referenced:            4 kB\n"
					     : "some text\n");
	return *ret_text ? 0 : -ENOMEM;
}

static int fake_huge(struct lab_machine *m, const struct story_range *range, uint64_t *ret_count)
{
	(void)m;
	*ret_count = range->length >> 21;
	return 0;
}

static int fake_pool(struct lab_machine *m, unsigned node, uint64_t page_size,
	struct lab_pool *ret_pool)
{
	(void)m;
	if (page_size != 2 << 20)
		return -ENOENT;
	*ret_pool = (struct lab_pool){8, 3 + node, 1};
	return 0;
}

static int fake_tunable(struct lab_machine *m, const char *path, char **ret_value)
{
	const char *value = !strcmp(path, "sys/kernel/mm/ksm/pages_sharing") ? "255"
		: !strcmp(path, "sys/known")				      ? fake_of(m)->tunable
									      : NULL;
	if (!value)
		return -ENOENT;
	*ret_value = strdup(value);
	return *ret_value ? 0 : -ENOMEM;
}

// ---- Life ---------------------------------------------------------------------------------------

static int fake_needs(struct lab_machine *m, const struct story *story)
{
	(void)story;
	const char *skip = fake_of(m)->plan->skip;
	return skip ? lab_machine_fail(m, LAB_SKIP, "needs %s", skip) : 0;
}

static bool fake_supports(struct lab_machine *m, const struct command *c, const char **ret_reason)
{
	(void)m;
	*ret_reason = "a page of 1G";
	return c->kind != CMD_MAP || c->map.hugetlb != 1 << 30;
}

// Waits until the terminal has shown a time.
static void read_terminal(struct fake_plan *plan, char *said, size_t size)
{
	struct pollfd p = {.fd = plan->terminal, .events = POLLIN};
	size_t used = 0;
	ssize_t n = plan->terminal ? 1 : 0;
	while (n > 0 && used < size - 1 && !strstr(said, " s")) {
		n = poll(&p, 1, 20000) > 0 ? read(p.fd, said + used, size - 1 - used) : 0;
		used += n > 0 ? (size_t)n : 0;
	}
}

static int fake_setup(struct lab_machine *m, const struct story *story)
{
	struct fake *f = fake_of(m);
	read_terminal(f->plan, f->plan->said[0], sizeof(f->plan->said[0]));
	if (f->plan->setup_failure)
		return lab_machine_fail(m, -EIO, "%s", f->plan->setup_failure);
	f->story = story;
	f->maps = calloc(story->mapping_count + 1, sizeof(*f->maps));
	return f->maps ? 0 : -ENOMEM;
}

static int fake_teardown(struct lab_machine *m)
{
	struct fake *f = fake_of(m);
	int err = f->plan->keeps_changes ? -EAGAIN : 0;
	read_terminal(f->plan, f->plan->said[1], sizeof(f->plan->said[1]));
	for (size_t i = 0; f->maps && i < f->story->mapping_count; i++) {
		free(f->maps[i].node);
		free(f->maps[i].byte);
	}
	free(f->maps);
	f->plan->torn_down = true;
	free((void *)m->ops);
	free(f);
	return err;
}

// What it finds depends on how often it was asked: each action is one command.
static int fake_verify(struct lab_machine *m)
{
	struct fake *f = fake_of(m);
	if (!f->plan->truth)
		return 0;
	m->truth.agreed += 2;
	if (f->story->commands[m->truth.looks++]->kind != f->plan->untrue)
		return 0;
	return lab_machine_fail(m, LAB_DIFFERS, "%s", f->plan->truth);
}

struct lab_machine *fake_machine_open(struct fake_plan *plan)
{
	static const struct lab_machine_ops ops = {
		.beside_threads = true,
		.needs = fake_needs,
		.supports = fake_supports,
		.setup = fake_setup,
		.action = {
			[CMD_TASK] = fake_nothing, [CMD_EXIT] = fake_nothing,
			[CMD_MAP] = fake_map, [CMD_PROTECT] = fake_protect,
			[CMD_WRITE] = fake_write, [CMD_CHECK] = fake_check,
			[CMD_WHERE] = fake_move, [CMD_MOVE] = fake_move,
			[CMD_GET_POLICY] = fake_get_policy, [CMD_SET] = fake_set,
			[CMD_LOAD] = fake_nothing, [CMD_STOP] = fake_stop,
			[CMD_SLEEP] = fake_sleep, [CMD_COMPACT] = fake_nothing,
		},
		.nodes = fake_nodes,
		.vmstat = fake_vmstat,
	.verify = fake_verify,
		.text = fake_text,
		.huge = fake_huge,
		.pool = fake_pool,
		.tunable = fake_tunable,
		.cancel = fake_cancel,
		.teardown = fake_teardown,
	};
	struct fake *f = calloc(1, sizeof(*f));
	struct lab_machine_ops *own = malloc(sizeof(*own));
	if (!f || !own)
		abort();
	memcpy(own, &ops, sizeof(ops));
	own->name = plan->name ? plan->name : "engine";
	f->machine.ops = own;
	f->plan = plan;
	return &f->machine;
}
