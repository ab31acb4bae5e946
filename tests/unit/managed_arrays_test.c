// SPDX-License-Identifier: MIT
// The arrays of gw_move_pages(), and the lists of what a call left, in managed memory that nobody has touched yet, as in a program whose
// heap it is. The library touches them itself; it must hold no lock then, for the access needs the
// same locks. A mistake aborts (the SIGSEGV handler finds a lock held) or stands still.
#include "unit.h"

#include <godwit/machine.h>
#include <godwit/migrate.h>
#include <godwit/policy.h>
#include <godwit/space.h>

#define PAGE GW_PAGE_SIZE
#define PAGES 600ul // more than are looked up at a time
#define STILL_SECONDS 100

struct world {
	struct gw_machine *machine;
	struct gw_task *task;
	volatile uint8_t *bytes; // the pages
	uint64_t *pages;
	int *nodes, *status;
	struct gw_explanation *explain;
	struct gw_pin *pins[PAGES];
};

static void *fresh(struct world *w, size_t size)
{
	void *p;

	assert_int_equal(gw_alloc(w->task, (size + PAGE - 1) / PAGE * PAGE, &p), 0);
	return p;
}

static void open_world(struct world *w, enum gw_blocker blocker)
{
	const uint64_t bytes[2] = {16 << 20, 16 << 20};
	const struct gw_machine_config config = {.size = sizeof config, .nr_nodes = 2,
		.node_bytes = bytes, .backend = GW_BACKEND_REWIRE, .blocker = blocker};

	if (gw_machine_create(&config, &w->machine)) {
		print_message("not here: %s\n", gw_machine_error());
		skip();
	}
	alarm(STILL_SECONDS);
	assert_int_equal(gw_task_create(w->machine, NULL, &w->task), 0);
	assert_int_equal(gw_task_attach(w->task), 0);
	w->bytes = fresh(w, PAGES * PAGE);
	w->pages = fresh(w, PAGES * sizeof *w->pages);
	w->nodes = fresh(w, PAGES * sizeof *w->nodes);
	w->status = fresh(w, PAGES * sizeof *w->status);
	w->explain = fresh(w, PAGES * sizeof *w->explain);
	for (size_t i = 0; i < PAGES; i++) {
		w->bytes[i * PAGE] = (uint8_t)i;
		w->pages[i] = (uint64_t)(uintptr_t)&w->bytes[i * PAGE];
	}
}

static void close_world(struct world *w)
{
	for (size_t i = 0; i < PAGES; i++)
		assert_int_equal(w->bytes[i * PAGE], (uint8_t)i);
	gw_machine_check(w->machine);
	assert_int_equal(gw_task_attach(NULL), 0);
	gw_task_exit(w->task);
	gw_machine_destroy(w->machine);
	alarm(0);
}

static long move(struct world *w, const int *nodes, struct gw_explanation *explain)
{
	const struct gw_move_options options = {.size = sizeof options, .explain = explain};

	return gw_move_pages_explained(
		w->task, 0, PAGES, w->pages, nodes, w->status, GW_MPOL_MF_MOVE, &options);
}

static void check_status(const struct world *w, int even, int odd)
{
	for (size_t i = 0; i < PAGES; i++)
		assert_int_equal(w->status[i], i & 1 ? odd : even);
}

static void untouched_arrays(enum gw_blocker blocker)
{
	struct world w;

	open_world(&w, blocker);
	assert_int_equal(move(&w, NULL, NULL), 0); // asks
	check_status(&w, 0, 0);
	w.status = fresh(&w, PAGES * sizeof *w.status);
	assert_int_equal(move(&w, w.nodes, w.explain), 0); // all to node 0, where they are
	check_status(&w, 0, 0);
	for (size_t i = 0; i < PAGES; i++) {
		assert_int_equal(w.explain[i].why, GW_WHY_ALREADY_THERE);
		w.nodes[i] = i & 1;
	}
	w.status = fresh(&w, PAGES * sizeof *w.status);
	w.explain = fresh(&w, PAGES * sizeof *w.explain);
	assert_int_equal(move(&w, w.nodes, w.explain), 0);
	check_status(&w, 0, 1);
	for (size_t i = 0; i < PAGES; i++)
		assert_int_equal(w.explain[i].why, i & 1 ? GW_WHY_MOVED : GW_WHY_ALREADY_THERE);
	close_world(&w);
}

// The call moves its own arrays, too.
static void arrays_that_move(enum gw_blocker blocker)
{
	struct world w;

	open_world(&w, blocker);
	w.pages[0] = (uint64_t)(uintptr_t)w.pages;
	w.pages[300] = (uint64_t)(uintptr_t)w.nodes;
	w.pages[301] = (uint64_t)(uintptr_t)w.status;
	for (size_t i = 0; i < PAGES; i++) {
		w.nodes[i] = 1;
		w.status[i] = -1;
	}
	assert_int_equal(move(&w, w.nodes, NULL), 0);
	check_status(&w, 1, 1);
	close_world(&w);
}

// What stayed is written to pages that nobody has touched, or that are on the list themselves.
static void lists_of_what_stayed(enum gw_blocker blocker)
{
	const unsigned long from = 1, to = 2;
	struct gw_stayed_list list = {.max = PAGES};
	const struct gw_move_options options = {.size = sizeof options, .stayed = &list};
	struct gw_pin *pin;
	struct world w;

	open_world(&w, blocker);
	const uint64_t at = w.pages[0];
	for (size_t i = 0; i < PAGES; i += 2)
		assert_int_equal(gw_pin(w.task, w.pages[i], PAGE, "a ring", &w.pins[i]), 0);
	list.v = fresh(&w, PAGES * sizeof *list.v);
	assert_int_equal(gw_mbind_explained(w.task, at, PAGES * PAGE, GW_MPOL_BIND, &to, 65,
				 GW_MPOL_MF_MOVE, &options),
		0);
	assert_int_equal(list.count, PAGES / 2);
	for (size_t i = 0; i < PAGES; i += 2) {
		assert_int_equal(list.v[i / 2].address, w.pages[i]);
		assert_int_equal(list.v[i / 2].why, GW_WHY_PINNED);
	}
	assert_int_equal(gw_pin(w.task, (uint64_t)(uintptr_t)list.v, PAGE, "the list", &pin), 0);
	assert_true(gw_migrate_pages_explained(w.task, 0, 65, &from, &to, &options) > 0);
	assert_int_equal(list.count, PAGES / 2 + 1);
	for (size_t i = 0; i < PAGES; i++)
		w.nodes[i] = 1;
	assert_true(gw_move_pages_explained(w.task, 0, PAGES, w.pages, w.nodes, w.status,
			    GW_MPOL_MF_MOVE, &options) > 0);
	assert_int_equal(list.count, PAGES / 2);
	gw_unpin(pin);
	for (size_t i = 0; i < PAGES; i += 2)
		gw_unpin(w.pins[i]);
	close_world(&w);
}

#define BOTH(name)                                                                                 \
	static void name##_signal(void **state)                                                    \
	{                                                                                          \
		(void)state;                                                                       \
		name(GW_BLOCKER_SIGNAL);                                                           \
	}                                                                                          \
	static void name##_userfaultfd(void **state)                                               \
	{                                                                                          \
		(void)state;                                                                       \
		name(GW_BLOCKER_USERFAULTFD);                                                      \
	}
BOTH(untouched_arrays)
BOTH(arrays_that_move)
BOTH(lists_of_what_stayed)

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(lists_of_what_stayed_signal),
		cmocka_unit_test(lists_of_what_stayed_userfaultfd),
		cmocka_unit_test(untouched_arrays_signal),
		cmocka_unit_test(untouched_arrays_userfaultfd),
		cmocka_unit_test(arrays_that_move_signal),
		cmocka_unit_test(arrays_that_move_userfaultfd),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
