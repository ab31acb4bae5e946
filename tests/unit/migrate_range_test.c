// SPDX-License-Identifier: MIT
// migrate_pages(2) and cpusets: which node goes where, in which order, who may, what is counted.
#include "../support/machine_fixture.h"

#include "virt/cpuset.h"

#include <errno.h>

static struct fx fx;
static struct task *a;

static int setup(void **state)
{
	(void)state;
	fx_open(&fx, 6, 16);
	a = fx_task(&fx, 0);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	fx_check(&fx);
	task_exit(a);
	fx_close(&fx);
	return 0;
}

// A page on each node, from address `at`: page i on node i.
static void spread(uint64_t at, unsigned nodes)
{
	fx_fill(&fx, a, at, nodes, 1);
	for (unsigned i = 0; i < nodes; i++)
		assert_int_equal(fx_move(a, at + i * PAGE_SIZE, 1, (int)i), 0);
}

static long migrate(unsigned long from, unsigned long to)
{
	return migrate_range(a, 0, 65, &from, &to, NULL);
}

// from -> to, and where the pages of nodes 0..5 are afterwards
static void nodes_keep_their_places(void **state)
{
	const struct {
		unsigned long from, to;
		int node[6];
		unsigned moved;
	} row[] = {
		{0x01, 0x02, {1, 1, 2, 3, 4, 5}, 1},
		{0x1c, 0x38, {0, 1, 3, 4, 5, 5}, 3}, // 2,3,4 -> 3,4,5: 4 first, then 3, then 2
		{0x38, 0x1c, {0, 1, 2, 2, 3, 4}, 3},
		{0x03, 0x03, {0, 1, 2, 3, 4, 5}, 0},
		{0x07, 0x08, {3, 3, 3, 3, 4, 5}, 3},
		{0x0f, 0x0c, {2, 3, 2, 3, 4, 5}, 2}, // other sizes: sources in `to` stay
		{0x03, 0x02, {1, 1, 2, 3, 4, 5}, 1},
		{0x06, 0x09, {0, 0, 3, 3, 4, 5}, 2},
	};

	(void)state;
	for (unsigned i = 0; i < ARRAY_SIZE(row); i++) {
		uint64_t buf = fx_map(a, 6);

		spread(buf, 6);
		fx_mark(&fx);
		assert_int_equal(migrate(row[i].from, row[i].to), 0);
		for (unsigned p = 0; p < 6; p++)
			assert_int_equal(fx_where(a, buf + p * PAGE_SIZE), row[i].node[p]);
		assert_int_equal(fx_since(&fx, VM_PGMIGRATE_SUCCESS), row[i].moved);
		fx_verify(&fx, a, buf, 6, 1);
		fx_ok(space_unmap(a->space, buf, 6 * PAGE_SIZE));
	}
}

static void who_may(void **state)
{
	unsigned long one = 1, two = 2, out = 1ul << 40, none = 0;
	struct task *user, *other;

	(void)state;
	fx_ok(task_create(&fx.mm, 1000, 0, &user));
	fx_ok(task_create(&fx.mm, 1001, 0, &other));
	assert_int_equal(migrate_range(user, 9999, 65, &one, &two, NULL), -ESRCH);
	assert_int_equal(migrate_range(user, other->pid, 65, &one, &two, NULL), -EPERM);
	assert_int_equal(migrate_range(user, 0, 65, &one, &two, NULL), 0);
	assert_int_equal(migrate_range(user, 0, 65, &one, &out, NULL), -EPERM); // not in its cpuset
	assert_int_equal(migrate_range(a, 0, 65, &one, &out, NULL), -EINVAL);   // in nobody's
	assert_int_equal(migrate_range(a, 0, 65, &one, &none, NULL), -EINVAL);
	assert_int_equal(migrate_range(a, 0, 100000, &one, &two, NULL), -EINVAL);
	task_exit(user);
	task_exit(other);
}

static void shared_pages_move_only_for_the_privileged(void **state)
{
	unsigned long one = 1, two = 2;
	struct task *user, *child;
	uint64_t buf;

	(void)state;
	fx_ok(task_create(&fx.mm, 1000, 0, &user));
	buf = fx_map(user, 4);
	fx_fill(&fx, user, buf, 4, 1);
	fx_ok(task_fork(user, 0, &child));
	assert_int_equal(migrate_range(user, 0, 65, &one, &two, NULL), 0); // passed over: no failure
	fx_all_on(user, buf, 4, 0);
	assert_int_equal(migrate_range(a, user->pid, 65, &one, &two, NULL), 0);
	fx_all_on(user, buf, 4, 1);
	fx_all_on(child, buf, 4, 1);
	task_exit(child);
	task_exit(user);
}

static void what_stays_is_counted(void **state)
{
	uint64_t buf = fx_map(a, 4);
	struct folio_list list = {0};
	struct folio *held;

	(void)state;
	fx_fill(&fx, a, buf, 4, 1);
	held = fx_folio(a, buf);
	folio_get(held);					       // cannot be moved
	fx_ok(isolate_for_migration(&fx.mm, fx_folio(a, buf + PAGE_SIZE), &list)); // nor isolated
	assert_int_equal(migrate(1, 2), 2);
	folio_put(held);
	putback_movable_pages(&fx.mm, &list);
	assert_int_equal(migrate(1, 2), 0);
	fx_all_on(a, buf, 4, 1);
}

static void pages_follow_the_cpuset(void **state)
{
	uint64_t buf = fx_map(a, 6);
	struct nodemask first = {0x03}, second = {0x30};

	(void)state;
	fx_ok(cpuset_set_mems(a, &first, cpuset_migrate));
	fx_fill(&fx, a, buf, 6, 1);
	assert_int_equal(fx_move(a, buf, 3, 1), 0);
	fx_ok(cpuset_set_mems(a, &second, cpuset_migrate));
	fx_all_on(a, buf, 3, 5);
	fx_all_on(a, buf + 3 * PAGE_SIZE, 3, 4);
	fx_verify(&fx, a, buf, 6, 1);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(nodes_keep_their_places),
		T(who_may),
		T(shared_pages_move_only_for_the_privileged),
		T(what_stays_is_counted),
		T(pages_follow_the_cpuset),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
