// SPDX-License-Identifier: MIT
// Rows of neighbouring pages that move together, with something in the middle that does not fit in:
//
//	page   0 1 2 3 4 5 6 7 8 ... 15
//	       . . . . X . . .       .		X: pinned, locked, protected, shared, never touched
//
// All that can move does, bytes stay, and the books balance afterwards: mapcounts, references,
// exclusive marks and counters are exactly what single moves would have left.
#include "unit.h"

#include <godwit/migrate.h>
#include <godwit/space.h>
#include <godwit/stats.h>

#include "base/fault_inject.h"

#include <errno.h>

#define PAGES 16u
#define ODD 4u

struct row {
	struct gw_machine *machine;
	struct gw_task *task;
	uint64_t area;
	uint64_t page[PAGES];
	int node[PAGES], status[PAGES];
};

static uint64_t value(unsigned i)
{
	return 0x1000 + i;
}

static void row_open(struct row *r, enum gw_backend backend)
{
	const uint64_t bytes[2] = {64 << 20, 64 << 20};
	const struct gw_machine_config config = {
		.size = sizeof config,
		.nr_nodes = 2,
		.node_bytes = bytes,
		.backend = backend,
		.blocker = backend == GW_BACKEND_SOFT ? GW_BLOCKER_AUTO : GW_BLOCKER_SIGNAL,
	};
	const struct gw_mapping mapping = {
		.size = sizeof mapping,
		.length = PAGES * GW_PAGE_SIZE,
		.prot = GW_PROT_READ | GW_PROT_WRITE,
	};

	assert_int_equal(gw_machine_create(&config, &r->machine), 0);
	assert_int_equal(gw_task_create(r->machine, NULL, &r->task), 0);
	assert_int_equal(gw_task_attach(r->task), 0);
	assert_int_equal(gw_map(r->task, &mapping, &r->area), 0);
	for (unsigned i = 0; i < PAGES; i++)
		r->page[i] = r->area + i * GW_PAGE_SIZE;
}

static void put(struct row *r, struct gw_task *task, unsigned i, uint64_t what)
{
	assert_int_equal(gw_write(task, r->page[i], &what, sizeof what), sizeof what);
}

static void touch_all(struct row *r)
{
	for (unsigned i = 0; i < PAGES; i++)
		put(r, r->task, i, value(i));
}

static void expect(struct row *r, struct gw_task *task, unsigned i, uint64_t what)
{
	uint64_t got = 0;

	assert_int_equal(gw_read(task, r->page[i], &got, sizeof got), sizeof got);
	assert_int_equal(got, what);
}

static long move(struct row *r, int node, unsigned flags)
{
	for (unsigned i = 0; i < PAGES; i++) {
		r->node[i] = node;
		r->status[i] = -1000;
	}
	return gw_move_pages(r->task, 0, PAGES, r->page, r->node, r->status, flags);
}

// Each page is on the node, but for `odd`, which is on the other.
static void expect_nodes(struct row *r, int node, unsigned odd)
{
	assert_int_equal(gw_move_pages(r->task, 0, PAGES, r->page, NULL, r->status, 0), 0);
	for (unsigned i = 0; i < PAGES; i++)
		assert_int_equal(r->status[i], i == odd ? !node : node);
}

static void row_close(struct row *r)
{
	gw_machine_check(r->machine);
	assert_int_equal(gw_task_attach(NULL), 0);
	gw_task_exit(r->task);
	gw_machine_check(r->machine);
	gw_machine_destroy(r->machine);
}

static void expect_all(struct row *r)
{
	for (unsigned i = 0; i < PAGES; i++)
		expect(r, r->task, i, value(i));
}

static void check_pinned(enum gw_backend backend)
{
	struct gw_pin *pin;
	struct row r;

	row_open(&r, backend);
	touch_all(&r);
	assert_int_equal(gw_pin(r.task, r.page[ODD], GW_PAGE_SIZE, "test", &pin), 0);
	assert_int_equal(move(&r, 1, GW_MPOL_MF_MOVE), 1);
	expect_nodes(&r, 1, ODD);
	expect_all(&r);
	gw_unpin(pin);
	assert_int_equal(move(&r, 1, GW_MPOL_MF_MOVE), 0);
	expect_nodes(&r, 1, PAGES);
	row_close(&r);
}

static void check_locked(enum gw_backend backend)
{
	int64_t locked;
	struct row r;

	row_open(&r, backend);
	touch_all(&r);
	assert_int_equal(gw_lock(r.task, r.page[ODD], GW_PAGE_SIZE), 0);
	assert_int_equal(move(&r, 1, GW_MPOL_MF_MOVE), 0);
	expect_nodes(&r, 1, PAGES);
	expect_all(&r);
	assert_int_equal(gw_vmstat(r.machine, "nr_mlock", &locked), 0);
	assert_int_equal(locked, 1);
	row_close(&r);
}

static void check_protected(enum gw_backend backend)
{
	struct row r;

	row_open(&r, backend);
	touch_all(&r);
	assert_int_equal(gw_protect(r.task, r.page[ODD], GW_PAGE_SIZE, GW_PROT_NONE), 0);
	assert_int_equal(gw_protect(r.task, r.page[ODD + 1], GW_PAGE_SIZE, GW_PROT_READ), 0);
	assert_int_equal(move(&r, 1, GW_MPOL_MF_MOVE), 0);
	expect_nodes(&r, 1, PAGES);
	assert_int_equal(gw_protect(r.task, r.page[ODD], 2 * GW_PAGE_SIZE,
				 GW_PROT_READ | GW_PROT_WRITE), 0);
	expect_all(&r);
	row_close(&r);
}

// The child's page is its own after the parent's copy went: mapped once, but not exclusive.
static void check_forked(enum gw_backend backend)
{
	struct gw_task *child;
	struct row r;

	row_open(&r, backend);
	touch_all(&r);
	assert_int_equal(gw_task_fork(r.task, &child), 0);
	put(&r, r.task, ODD, 7);
	assert_int_equal(move(&r, 1, GW_MPOL_MF_MOVE_ALL), 0);
	expect_nodes(&r, 1, PAGES);
	expect(&r, child, ODD, value(ODD));
	gw_task_exit(child);
	assert_int_equal(move(&r, 0, GW_MPOL_MF_MOVE), 0);
	expect_nodes(&r, 0, PAGES);
	put(&r, r.task, ODD + 1, 8);
	expect(&r, r.task, ODD, 7);
	expect(&r, r.task, ODD + 1, 8);
	expect(&r, r.task, ODD + 2, value(ODD + 2));
	// And what is exclusive now may be forked again.
	assert_int_equal(gw_task_fork(r.task, &child), 0);
	put(&r, child, 0, 9);
	expect(&r, r.task, 0, value(0));
	gw_task_exit(child);
	row_close(&r);
}

static void check_hole(enum gw_backend backend)
{
	struct row r;

	row_open(&r, backend);
	for (unsigned i = 0; i < PAGES; i++)
		if (i != ODD)
			put(&r, r.task, i, value(i));
	assert_int_equal(move(&r, 1, GW_MPOL_MF_MOVE), 0);
	for (unsigned i = 0; i < PAGES; i++)
		assert_int_equal(r.status[i], i == ODD ? -ENOENT : 1);
	expect(&r, r.task, ODD + 1, value(ODD + 1));
	row_close(&r);
}

// Every page that finds its count changed at the last moment goes back, with the reference that was
// kept of its mapping.
static void check_undone(enum gw_backend backend)
{
	struct row r;

	row_open(&r, backend);
	touch_all(&r);
#ifdef GODWIT_DEBUG
	fault_arm(FI_FREEZE, FI_THREAD, 0, FI_ALWAYS);
	assert_int_equal(move(&r, 1, GW_MPOL_MF_MOVE), PAGES);
	assert_true(fault_disarm(FI_FREEZE));
	expect_nodes(&r, 0, PAGES);
	expect_all(&r);
	gw_machine_check(r.machine);
#endif
	assert_int_equal(move(&r, 1, GW_MPOL_MF_MOVE), 0);
	expect_nodes(&r, 1, PAGES);
	expect_all(&r);
	row_close(&r);
}

#define BOTH(name)                                                                                 \
	static void test_##name##_soft(void **state maybe_unused)                                  \
	{                                                                                          \
		check_##name(GW_BACKEND_SOFT);                                                     \
	}                                                                                          \
	static void test_##name##_rewire(void **state maybe_unused)                                \
	{                                                                                          \
		check_##name(GW_BACKEND_REWIRE);                                                   \
	}
BOTH(pinned)
BOTH(locked)
BOTH(protected)
BOTH(forked)
BOTH(hole)
BOTH(undone)
#undef BOTH

int main(void)
{
	const struct CMUnitTest tests[] = {
#define BOTH(name) cmocka_unit_test(test_##name##_soft), cmocka_unit_test(test_##name##_rewire)
		BOTH(pinned), BOTH(locked), BOTH(protected), BOTH(forked), BOTH(hole), BOTH(undone),
#undef BOTH
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
