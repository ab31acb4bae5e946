// SPDX-License-Identifier: MIT
// The whole machine through its public doors, on every backend this host gives: what a program
// sees of first touch, moves, copies on write, pins and full nodes.
#include "unit.h"

#include <godwit/machine.h>
#include <godwit/migrate.h>
#include <godwit/policy.h>
#include <godwit/space.h>

#include "base/meta.h"

#include <errno.h>
#include <string.h>

#define PAGES 64
#define BYTES (PAGES * GW_PAGE_SIZE)

struct setup {
	enum gw_backend backend;
	enum gw_blocker blocker;
	struct gw_machine *machine;
	struct gw_task *task;
};

static struct setup soft = {GW_BACKEND_SOFT, GW_BLOCKER_AUTO, NULL, NULL};
static struct setup with_signal = {GW_BACKEND_REWIRE, GW_BLOCKER_SIGNAL, NULL, NULL};
static struct setup with_userfaultfd = {GW_BACKEND_REWIRE, GW_BLOCKER_USERFAULTFD, NULL, NULL};

static int open_machine(void **state)
{
	struct setup *s = *state;
	const uint64_t bytes[4] = {64 << 20, 64 << 20, 64 << 20, 0};
	const struct gw_machine_config config = {
		.size = sizeof config,
		.nr_nodes = 4,
		.nr_cpus = 4,
		.node_bytes = bytes,
		.backend = s->backend,
		.blocker = s->blocker,
	};

	s->machine = NULL;
	if (gw_machine_create(&config, &s->machine))
		return 0; // the test skips
	if (gw_task_create(s->machine, NULL, &s->task))
		return -1;
	return gw_task_attach(s->task);
}

static int close_machine(void **state)
{
	struct setup *s = *state;
	int err;

	if (!s->machine)
		return 0;
	err = gw_task_attach(NULL);
	gw_machine_check(s->machine);
	gw_task_exit(s->task);
	gw_machine_destroy(s->machine);
	return err;
}

#define NEED_MACHINE(s)                                                                            \
	do {                                                                                       \
		if (!(s)->machine) {                                                               \
			print_message("not here: %s\n", gw_machine_error());                       \
			skip();                                                                    \
		}                                                                                  \
	} while (0)

static uint64_t map(struct setup *s, uint64_t bytes)
{
	const struct gw_mapping mapping = {
		.size = sizeof mapping,
		.length = bytes,
		.prot = GW_PROT_READ | GW_PROT_WRITE,
	};
	uint64_t address;

	assert_int_equal(gw_map(s->task, &mapping, &address), 0);
	return address;
}

// Through the pointer where there is one.
static void put(struct setup *s, uint64_t at, unsigned char byte, uint64_t n)
{
	unsigned char buffer[GW_PAGE_SIZE];
	void *p = gw_pointer(s->task, at);

	assert_true(n <= sizeof buffer);
	memset(buffer, byte, sizeof buffer);
	if (p)
		memcpy(p, buffer, n);
	else
		assert_int_equal(gw_write(s->task, at, buffer, n), n);
}

static unsigned char get(struct gw_task *task, uint64_t at)
{
	unsigned char byte = 0, *p = gw_pointer(task, at);

	if (p)
		return *p;
	assert_int_equal(gw_read(task, at, &byte, 1), 1);
	return byte;
}

static long move(struct setup *s, uint64_t at, unsigned pages, int node, int *status, unsigned flags)
{
	uint64_t address[PAGES];
	int nodes[PAGES];

	assert_true(pages <= PAGES);
	for (unsigned i = 0; i < pages; i++) {
		address[i] = at + i * GW_PAGE_SIZE;
		nodes[i] = node;
		status[i] = -12345;
	}
	return gw_move_pages(s->task, 0, pages, address, node < 0 ? NULL : nodes, status, flags);
}

static void test_move_and_back(void **state)
{
	struct setup *s = *state;
	int status[PAGES];
	uint64_t at;

	NEED_MACHINE(s);
	at = map(s, BYTES);
	assert_int_equal(move(s, at, PAGES, -1, status, 0), 0);
	assert_int_equal(status[0], -ENOENT);
	for (unsigned i = 0; i < PAGES; i++)
		put(s, at + i * GW_PAGE_SIZE, (unsigned char)(i + 1), GW_PAGE_SIZE);
	for (int round = 0; round < 6; round++) {
		int node = (round + 1) % 3;

		assert_int_equal(move(s, at, PAGES, node, status, GW_MPOL_MF_MOVE), 0);
		for (unsigned i = 0; i < PAGES; i++) {
			assert_int_equal(status[i], node);
			assert_int_equal(get(s->task, at + i * GW_PAGE_SIZE + 77), i + 1);
		}
	}
	assert_int_equal(move(s, at, 1, 3, status, GW_MPOL_MF_MOVE), -ENODEV);
	assert_int_equal(gw_unmap(s->task, at, BYTES), 0);
}

static void test_fork_shares_and_copies(void **state)
{
	struct setup *s = *state;
	struct gw_task *child;
	int status[PAGES];
	uint64_t at;

	NEED_MACHINE(s);
	at = map(s, BYTES);
	for (unsigned i = 0; i < PAGES; i++)
		put(s, at + i * GW_PAGE_SIZE, 7, GW_PAGE_SIZE);
	assert_int_equal(gw_task_fork(s->task, &child), 0);
	assert_int_equal(move(s, at, PAGES, 1, status, GW_MPOL_MF_MOVE), 0);
	assert_int_equal(status[5], -EACCES);
	assert_int_equal(move(s, at, PAGES, 1, status, GW_MPOL_MF_MOVE_ALL), 0);
	assert_int_equal(status[5], 1);
	put(s, at, 9, 1);
	assert_int_equal(get(child, at), 7);
	assert_int_equal(get(s->task, at), 9);
	assert_int_equal(get(child, at + 5 * GW_PAGE_SIZE), 7);
	gw_task_exit(child);
	assert_int_equal(move(s, at, PAGES, 2, status, GW_MPOL_MF_MOVE), 0);
	assert_int_equal(status[5], 2);
}

static void test_pinned_pages_stay(void **state)
{
	struct setup *s = *state;
	struct gw_explanation explain[4];
	const struct gw_move_options options = {.size = sizeof options, .explain = explain};
	uint64_t pages[4];
	int nodes[4] = {1, 1, 1, 1}, status[4] = {-1, -1, -1, -1};
	struct gw_pin *pin;
	uint64_t at;

	NEED_MACHINE(s);
	at = map(s, BYTES);
	for (unsigned i = 0; i < 4; i++)
		pages[i] = at + i * GW_PAGE_SIZE;
	assert_int_equal(gw_pin(s->task, at, 4 * GW_PAGE_SIZE, "a device", &pin), 0);
	assert_true(gw_move_pages_explained(s->task, 0, 4, pages, nodes, status, GW_MPOL_MF_MOVE,
			    &options) > 0);
	assert_int_equal(status[0], -1);
	assert_int_equal(explain[0].why, GW_WHY_PINNED);
	assert_non_null(strstr(explain[0].detail, "a device"));
	gw_unpin(pin);
	assert_int_equal(gw_move_pages(s->task, 0, 4, pages, nodes, status, GW_MPOL_MF_MOVE), 0);
	assert_int_equal(status[3], 1);
}

static void test_full_node_refuses(void **state)
{
	struct setup *s = *state;
	int status[PAGES];
	uint64_t at;

	NEED_MACHINE(s);
	at = map(s, BYTES);
	for (unsigned i = 0; i < PAGES; i++)
		put(s, at + i * GW_PAGE_SIZE, 3, 8);
	assert_true(gw_node_fill(s->machine, 1, 0) > 0);
	assert_int_not_equal(move(s, at, PAGES, 1, status, GW_MPOL_MF_MOVE), 0);
	for (unsigned i = 0; i < PAGES; i++)
		assert_int_equal(get(s->task, at + i * GW_PAGE_SIZE), 3);
	assert_true(gw_node_unfill(s->machine, 1) > 0);
	assert_int_equal(move(s, at, PAGES, 1, status, GW_MPOL_MF_MOVE), 0);
}

#define ON_ALL(f)                                                                                  \
	{#f " soft", f, open_machine, close_machine, &soft},                                       \
		{#f " signal", f, open_machine, close_machine, &with_signal},                      \
	{                                                                                          \
		#f " userfaultfd", f, open_machine, close_machine, &with_userfaultfd               \
	}

int main(void)
{
	const struct CMUnitTest tests[] = {
		ON_ALL(test_move_and_back),
		ON_ALL(test_fork_shares_and_copies),
		ON_ALL(test_pinned_pages_stay),
		ON_ALL(test_full_node_refuses),
	};

	setenv("CMOCKA_TEST_ABORT", "1", 1); // cmocka's own SIGSEGV handler would hide the engine's
	return cmocka_run_group_tests(tests, NULL, NULL);
}
