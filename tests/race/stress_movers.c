// SPDX-License-Identifier: MIT
// Actors of the stress program that move pages: move_pages in all shapes, migrate_pages, mbind,
// cpusets, and mlock beside them. They aim at the stamped areas and at memory that comes and goes;
// whatever the engine answers must be one of the answers these calls have.
#include "stress.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#define MAX_BATCH 1024u

struct batch {
	unsigned n;
	uint64_t page[MAX_BATCH];
	int node[MAX_BATCH], status[MAX_BATCH];
	struct gw_explanation explain[MAX_BATCH];
};

static _Thread_local struct batch batch;

#define MAX_STAYED 64u

static _Thread_local struct gw_stayed stayed[MAX_STAYED];
static _Thread_local struct gw_stayed_list stayed_list;

// Options of a call that is asked what it left, mostly.
static struct gw_move_options ask(struct actor *actor)
{
	stayed_list = (struct gw_stayed_list){.v = stayed, .max = below(actor, MAX_STAYED + 1),
		.count = MAX_STAYED + 1};
	return (struct gw_move_options){.size = sizeof(struct gw_move_options),
		.stayed = chance(actor, 75) ? &stayed_list : NULL};
}

// In order, each page once, and each with a reason that a page can have.
static void look_at_stayed(struct actor *actor, const struct gw_move_options *options)
{
	uint64_t before = 0;

	if (!options->stayed)
		return;
	if (stayed_list.count > stayed_list.max)
		fail(actor, "%zu entries of what stayed, room for %zu", stayed_list.count,
			stayed_list.max);
	for (size_t i = 0; i < stayed_list.count; i++) {
		const struct gw_stayed *s = &stayed[i];

		if (s->address < before || !s->pages || s->page_size < PAGE || s->node < -1 ||
			s->node > 2 || s->why == GW_WHY_MOVED || s->why >= GW_WHY_COUNT ||
			s->why == GW_WHY_ALREADY_THERE)
			fail(actor, "stayed: %lu pages of %u at %#lx on node %d: %s", s->pages,
				s->page_size, s->address, s->node, gw_why_text(s->why));
		before = s->address;
		actor->why[s->why]++;
	}
}

// A place to move: mostly of an area, sometimes of memory that comes and goes.
static void aim(struct actor *actor, uint64_t *ret_address, unsigned *ret_pages,
	struct gw_task **ret_task)
{
	struct area *area = some_area(actor);
	struct view *view = some_view(actor, area);
	unsigned i = below(actor, 8);

	*ret_address = view->address;
	*ret_pages = area->pages;
	*ret_task = view->task;
	if (!chance(actor, 25) || !atomic_load(&stress.passing[i]))
		return;
	*ret_address = atomic_load(&stress.passing[i]);
	*ret_pages = atomic_load(&stress.passing_pages[i]);
	*ret_task = stress.task[i % 2];
	if (!*ret_pages)
		*ret_pages = 1;
}

static void fill_addresses(struct actor *actor, uint64_t address, unsigned pages)
{
	unsigned first = below(actor, pages), shape = below(actor, 6);
	unsigned left = pages - first;

	batch.n = shape == 0   ? 1
		  : shape == 1 ? 8
		  : shape == 2 ? 512
		  : shape == 3 ? 64
		  : shape == 4 ? 32
			       : 1 + below(actor, MAX_BATCH);
	for (unsigned i = 0; i < batch.n; i++) {
		unsigned page = shape == 3   ? below(actor, pages)	     // scattered
				: shape == 4 ? (first + i / 4 * 5) % pages // duplicates, gaps
					     : first + i % left;	    // in a row

		batch.page[i] = address + page * PAGE + (chance(actor, 5) ? below(actor, PAGE) : 0);
	}
}

static void fill_nodes(struct actor *actor)
{
	unsigned one = below(actor, 3), shape = below(actor, 10);

	for (unsigned i = 0; i < batch.n; i++) {
		batch.node[i] = shape == 0   ? (int)below(actor, 3)
				: shape == 1 ? (int)(i / 16 % 3)
					     : (int)one;
		if (shape == 2 && chance(actor, 1))
			batch.node[i] = chance(actor, 50) ? 3 : 77;
		batch.status[i] = -12345;
		batch.explain[i].why = GW_WHY_COUNT;
	}
}

static bool good_status(int status)
{
	return (status >= 0 && status < 3) || status == -12345 || status == -EFAULT ||
	       status == -ENOENT || status == -EACCES || status == -EBUSY;
}

static void look_at_results(struct actor *actor, long ret, const struct gw_move_options *options)
{
	if (ret > (long)batch.n || (ret < 0 && ret != -ENODEV && ret != -EACCES && ret != -ENOMEM))
		fail(actor, "gw_move_pages of %u: %ld", batch.n, ret);
	for (unsigned i = 0; i < batch.n; i++) {
		if (!good_status(batch.status[i]))
			fail(actor, "gw_move_pages: status %d of page %u at %#lx", batch.status[i],
				i, batch.page[i]);
		if (batch.status[i] >= 0 && batch.status[i] != batch.node[i])
			fail(actor, "gw_move_pages: page %u is on %d, asked for %d", i,
				batch.status[i], batch.node[i]);
		if (!options)
			continue;
		if (batch.explain[i].why >= GW_WHY_COUNT)
			fail(actor, "gw_move_pages: no reason for page %u", i);
		if (batch.explain[i].why != GW_WHY_MOVED)
			actor->why[batch.explain[i].why]++;
		else
			actor->moved++;
	}
}

static void query(struct actor *actor, struct gw_task *task)
{
	long ret;

	actor->doing = "gw_move_pages, asking";
	for (unsigned i = 0; i < batch.n; i++)
		batch.status[i] = -12345;
	ret = gw_move_pages(task, 0, batch.n, batch.page, NULL, batch.status, 0);
	expect(actor, "gw_move_pages, asking", ret, 0);
	for (unsigned i = 0; i < batch.n; i++)
		if (!good_status(batch.status[i]) || batch.status[i] == -12345)
			fail(actor, "gw_move_pages, asking: status %d", batch.status[i]);
}

void act_move(struct actor *actor)
{
	struct gw_move_options options = ask(actor);
	bool explained = chance(actor, 80);
	unsigned pages, flags = chance(actor, 50) ? GW_MPOL_MF_MOVE_ALL : GW_MPOL_MF_MOVE;
	struct gw_task *task;
	uint64_t address;
	int pid;
	long ret;

	options.pause_budget_us = chance(actor, 30) ? 10 : 0;
	options.explain = batch.explain;
	aim(actor, &address, &pages, &task);
	fill_addresses(actor, address, pages);
	fill_nodes(actor);
	if (chance(actor, 5)) {
		query(actor, task);
		return;
	}
	pid = task == actor->task && chance(actor, 50) ? 0 : gw_task_pid(task);
	actor->doing = "gw_move_pages";
	actor->calls++;
	ret = gw_move_pages_explained(actor->task, pid, batch.n, batch.page, batch.node,
		batch.status, flags, explained ? &options : NULL);
	look_at_results(actor, ret, explained ? &options : NULL);
	if (explained)
		look_at_stayed(actor, &options);
}

void act_migrate(struct actor *actor)
{
	struct gw_task *task = stress.task[below(actor, 2)];
	unsigned long from = 1 + below(actor, 7), to = 1 + below(actor, 7);
	long ret;

	actor->doing = "gw_migrate_pages";
	actor->calls++;
	const struct gw_move_options options = ask(actor);
	ret = gw_migrate_pages_explained(actor->task, gw_task_pid(task), 8, &from, &to, &options);
	look_at_stayed(actor, &options);
	if (ret < 0 && ret != -ENOMEM && ret != -EINVAL) // no node in common with the cpuset
		fail(actor, "gw_migrate_pages: %ld", ret);
	actor->doing = "wait";
	for (unsigned i = 0; i < 20 && !atomic_load(&stress.stop); i++)
		usleep(1000);
}

static void act_task_policy(struct actor *actor)
{
	static const int modes[] = {GW_MPOL_DEFAULT, GW_MPOL_PREFERRED, GW_MPOL_INTERLEAVE,
		GW_MPOL_LOCAL, GW_MPOL_PREFERRED_MANY, GW_MPOL_WEIGHTED_INTERLEAVE};
	unsigned long mask = 1 + below(actor, 7);
	int mode = modes[below(actor, 6)], err;

	if (mode == GW_MPOL_DEFAULT || mode == GW_MPOL_LOCAL)
		mask = 0;
	actor->doing = "gw_set_mempolicy";
	err = gw_set_mempolicy(actor->task, mode, &mask, 8);
	expect(actor, "gw_set_mempolicy", err, -EINVAL); // no node in common with the cpuset
}

void act_bind(struct actor *actor)
{
	static const int modes[] = {GW_MPOL_DEFAULT, GW_MPOL_PREFERRED, GW_MPOL_INTERLEAVE,
		GW_MPOL_LOCAL, GW_MPOL_PREFERRED_MANY, GW_MPOL_BIND};
	unsigned pages, first, n, flags = below(actor, 8);
	unsigned long mask = 1 + below(actor, 7);
	int mode = modes[below(actor, 6)], err;
	struct gw_task *task;
	uint64_t address;

	if (chance(actor, 30)) {
		act_task_policy(actor);
		return;
	}
	aim(actor, &address, &pages, &task);
	first = below(actor, pages);
	n = 1 + below(actor, pages - first);
	if (mode == GW_MPOL_DEFAULT || mode == GW_MPOL_LOCAL)
		mask = 0;
	else if (mode == GW_MPOL_BIND)
		mask |= 3; // nodes that are never full
	actor->doing = "gw_mbind";
	actor->calls++;
	const struct gw_move_options options = ask(actor);
	err = gw_mbind_explained(task, address + first * PAGE, n * PAGE, mode, &mask, 8, flags,
		&options);
	look_at_stayed(actor, &options);
	if (err && err != -EIO && err != -EFAULT && err != -EINVAL && err != -ENOMEM)
		fail(actor, "gw_mbind: %d", err);
	actor->doing = "wait";
	usleep(2000);
}

// Nodes 0 and 1 stay, so that there is always room.
void act_mems(struct actor *actor)
{
	actor->doing = "gw_set_mems";
	actor->calls++;
	expect(actor, "gw_set_mems",
		gw_set_mems(stress.task[1], chance(actor, 50) ? 3 : 7, chance(actor, 70)), -ENOMEM);
	actor->doing = "wait";
	for (unsigned i = 0; i < 50 && !atomic_load(&stress.stop); i++)
		usleep(1000);
}

void act_lock(struct actor *actor)
{
	struct area *area = some_area(actor);
	struct view *view = some_view(actor, area);
	unsigned first = below(actor, area->pages), n = 1 + below(actor, 32);
	uint64_t at = view->address + first * PAGE;

	if (n > area->pages - first)
		n = area->pages - first;
	actor->doing = "gw_lock";
	expect(actor, "gw_lock", gw_lock(view->task, at, n * PAGE), -ENOMEM);
	actor->doing = "wait";
	usleep(3000);
	actor->doing = "gw_unlock";
	expect(actor, "gw_unlock", gw_unlock(view->task, at, n * PAGE), 0);
}
