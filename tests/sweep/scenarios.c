// SPDX-License-Identifier: MIT
// The scenarios of the failure sweep. Each run() does one thing, notes in the world what it has
// changed as soon as it has, and returns the first error; after that it can be run again, and does
// what is left to do.
#include "sweep.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define RW (GW_PROT_READ | GW_PROT_WRITE)

static int map(struct world *w, unsigned pages, unsigned flags)
{
	const struct gw_mapping mapping = {.size = sizeof mapping, .length = pages * PAGE,
		.prot = RW, .flags = flags, .object = w->object};
	int err = gw_map(w->task, &mapping, &w->at);

	if (!err)
		w->pages = pages;
	return err;
}

static int fill(struct world *w, uint64_t key)
{
	for (unsigned i = 0; i < w->pages; i++) {
		int err = put_word(w->task, w->at + i * PAGE, key + i);
		if (err)
			return err;
		w->value[i] = key + i;
	}
	return 0;
}

static void need(int err, const char *what)
{
	if (err)
		wrong("preparing: %s: %d", what, err);
}

static void prepare_pages(struct world *w, unsigned pages)
{
	need(map(w, pages, 0), "map");
	need(fill(w, 1000), "fill");
}

static void prepare_few(struct world *w)
{
	prepare_pages(w, 20);
}

static void prepare_many(struct world *w)
{
	prepare_pages(w, 512);
}

static void prepare_child(struct world *w)
{
	prepare_pages(w, 12);
	w->child_value = 1000;
	need(gw_task_fork(w->task, &w->child), "fork");
}

static void prepare_nothing(struct world *w)
{
	(void)w;
}

// ---- Mapping and touching

static int run_touch(struct world *w)
{
	int err = w->at ? 0 : map(w, 20, 0);

	return err ? err : fill(w, 5);
}

static int run_unmap(struct world *w)
{
	const struct gw_mapping again = {.size = sizeof again, .length = HOLE_PAGES * PAGE,
		.prot = RW, .address = w->at + HOLE * PAGE};
	uint64_t at;
	int err = w->hole ? 0 : gw_unmap(w->task, again.address, again.length);

	if (err)
		return err;
	w->hole = true;
	memset(&w->value[HOLE], 0, HOLE_PAGES * sizeof w->value[0]);
	err = gw_map(w->task, &again, &at);
	if (!err)
		w->hole = false;
	return err;
}

static int run_protect(struct world *w)
{
	int err = gw_protect(w->task, w->at + 5 * PAGE, 4 * PAGE, GW_PROT_READ);

	if (!err && !put_word(w->task, w->at + 6 * PAGE, 1))
		wrong("a store to a read-only page went through");
	return err ? err : gw_protect(w->task, w->at + 5 * PAGE, 4 * PAGE, RW);
}

static int run_remap(struct world *w)
{
	uint64_t to;
	int err = gw_remap(w->task, w->at, w->pages * PAGE, w->pages * PAGE, 0, &to);

	if (!err)
		w->at = to;
	return err;
}

static int run_grow(struct world *w)
{
	uint64_t to;
	int err = gw_remap(w->task, w->at, w->pages * PAGE, (w->pages + 5) * PAGE, 0, &to);

	if (err)
		return err;
	w->at = to;
	memset(&w->value[w->pages], 0, 5 * sizeof w->value[0]);
	w->pages += 5;
	return 0;
}

static int run_advise(struct world *w)
{
	int err = gw_advise(w->task, w->at + 2 * PAGE, 4 * PAGE, MADV_DONTNEED);

	if (!err)
		memset(&w->value[2], 0, 4 * sizeof w->value[0]);
	return err ? err : gw_advise(w->task, w->at, w->pages * PAGE, MADV_POPULATE_WRITE);
}

static int run_lock(struct world *w)
{
	int err = gw_lock(w->task, w->at + 2 * PAGE, 6 * PAGE);

	return err ? err : gw_unlock(w->task, w->at + 2 * PAGE, 6 * PAGE);
}

static int run_pin(struct world *w)
{
	int err = gw_pin(w->task, w->at, w->pages * PAGE, "a sweep", &w->pin);

	if (err)
		return err;
	gw_unpin(w->pin);
	w->pin = NULL;
	return 0;
}

// ---- Forks

static int run_fork(struct world *w)
{
	int err = gw_task_fork(w->task, &w->child);

	if (!err)
		w->child_value = w->value[0];
	return err;
}

static void prepare_pinned(struct world *w)
{
	prepare_pages(w, 12);
	need(gw_pin(w->task, w->at, 6 * PAGE, "a sweep", &w->pin), "pin");
}

static int run_cow(struct world *w)
{
	return fill(w, 7777);
}

static int run_task(struct world *w)
{
	return gw_task_create(w->machine, NULL, &w->child);
}

// ---- Moves

static long move(struct world *w, unsigned flags)
{
	static uint64_t page[MAX_PAGES];
	static int node[MAX_PAGES], status[MAX_PAGES];

	for (unsigned i = 0; i < w->pages; i++) {
		page[i] = w->at + i * PAGE;
		node[i] = 1;
	}
	long ret = gw_move_pages(w->task, 0, w->pages, page, node, status, flags);
	for (unsigned i = 0; !ret && i < w->pages; i++)
		if (status[i] != 1)
			return -EBUSY;
	return ret;
}

static int run_move(struct world *w)
{
	return (int)move(w, GW_MPOL_MF_MOVE);
}

static int run_move_all(struct world *w)
{
	return (int)move(w, GW_MPOL_MF_MOVE_ALL);
}

static void prepare_one(struct world *w)
{
	prepare_pages(w, 1);
}

static int run_migrate(struct world *w)
{
	const unsigned long from = 5, to = 2;

	return (int)gw_migrate_pages(w->task, gw_task_pid(w->task), 4, &from, &to);
}

static int run_mbind(struct world *w)
{
	const unsigned long nodes = 4;

	return gw_mbind(w->task, w->at + 3 * PAGE, 9 * PAGE, GW_MPOL_BIND, &nodes, 4,
		GW_MPOL_MF_MOVE | GW_MPOL_MF_STRICT);
}

static int run_policy(struct world *w)
{
	const unsigned long nodes = 6, none = 0;
	int err = gw_set_mempolicy(w->task, GW_MPOL_INTERLEAVE, &nodes, 4);

	if (!err)
		err = gw_set_mems(w->task, 6, 1);
	if (!err)
		err = gw_set_mems(w->task, 7, 1);
	return err ? err : gw_set_mempolicy(w->task, GW_MPOL_DEFAULT, &none, 4);
}

// ---- Objects

static void prepare_object(struct world *w)
{
	need(gw_object_create(w->machine, "swept", 16 * PAGE, &w->object), "object");
	need(map(w, 16, GW_MAP_SHARED), "map");
	need(fill(w, 50), "fill");
	need(gw_task_fork(w->task, &w->child), "fork");
}

static int run_object(struct world *w)
{
	int err = w->object ? 0 : gw_object_create(w->machine, "swept", 16 * PAGE, &w->object);

	if (!err && !w->at)
		err = map(w, 16, GW_MAP_SHARED);
	return err ? err : fill(w, 60);
}

static void open_file(struct world *w)
{
	w->fd = memfd_create("swept", 0);
	need(ftruncate(w->fd, 16 * PAGE), "ftruncate");
}

static int run_file(struct world *w)
{
	uint64_t value;
	int err = w->object ? 0 : gw_object_open(w->machine, w->fd, &w->object);

	if (!err && !w->at)
		err = map(w, 16, GW_MAP_SHARED);
	if (!err)
		err = fill(w, 70);
	if (!err)
		err = gw_sync(w->task, w->at, 16 * PAGE);
	for (unsigned i = 0; !err && i < 16; i++)
		if (pread(w->fd, &value, 8, (off_t)(i * PAGE)) != 8 || value != 70 + i)
			wrong("page %u of the file has %lu after a sync of %u", i, value, 70 + i);
	return err;
}

static void prepare_file(struct world *w)
{
	open_file(w);
	need(run_file(w), "file");
}

static void prepare_private_file(struct world *w)
{
	uint64_t value[512] = {0};

	open_file(w);
	for (unsigned i = 0; i < 16; i++) {
		value[0] = i + 1;
		need(pwrite(w->fd, value, PAGE, (off_t)(i * PAGE)) != PAGE, "pwrite");
		w->value[i] = i + 1;
	}
	need(gw_object_open(w->machine, w->fd, &w->object), "object");
	need(map(w, 16, 0), "map");
}

// ----

const struct scenario scenarios[] = {
	{"map and touch", prepare_nothing, run_touch},
	{"unmap in the middle", prepare_few, run_unmap},
	{"protect in the middle", prepare_few, run_protect},
	{"remap", prepare_few, run_remap},
	{"remap many", prepare_many, run_remap},
	{"grow", prepare_few, run_grow},
	{"advise", prepare_few, run_advise},
	{"lock", prepare_few, run_lock},
	{"pin", prepare_few, run_pin},
	{"pin what is shared", prepare_child, run_pin},
	{"fork", prepare_few, run_fork},
	{"fork what is pinned", prepare_pinned, run_fork},
	{"copy on write", prepare_child, run_cow},
	{"a task", prepare_nothing, run_task},
	{"move a page", prepare_one, run_move},
	{"move a few", prepare_few, run_move},
	{"move 512", prepare_many, run_move},
	{"move shared", prepare_child, run_move_all},
	{"move an object", prepare_object, run_move_all},
	{"move a file", prepare_file, run_move},
	{"migrate", prepare_few, run_migrate},
	{"mbind", prepare_few, run_mbind},
	{"policies and cpusets", prepare_few, run_policy},
	{"an object", prepare_nothing, run_object},
	{"a file", open_file, run_file},
	{"a private file", prepare_private_file, run_cow},
};
const unsigned nr_scenarios = sizeof scenarios / sizeof *scenarios;
