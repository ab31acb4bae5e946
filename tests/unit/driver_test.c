// SPDX-License-Identifier: MIT
// Drivers through their public doors: where the pages are after each move, what stays and is
// counted, and the word of each page.
#include "unit.h"

#include <godwit/machine.h>
#include <godwit/movable.h>
#include <godwit/stats.h>

#include <errno.h>
#include <limits.h>
#include <string.h>

#define PAGES 600 // more than one batch

// The driver under test knows its pages by number, which is the word of each.
struct driver {
	struct gw_machine *machine;
	struct gw_driver *driver;
	struct gw_page *page[PAGES];
	unsigned refuse_one_of; // pages: isolate_page says no to each n-th; 0: to none
	int migrate_result;	// 0: moves
	bool own_words;		// migrate_page sets them, as drivers of the kernel do
	bool once;		// migrate_result is of each page's first try only
	bool tried[PAGES];
	unsigned nr_isolated, nr_migrated, nr_putback;
};

static struct driver d;

static bool isolate_page(struct gw_page *page, enum gw_migrate_mode mode, void *owner)
{
	(void)mode;
	assert_ptr_equal(owner, &d);
	assert_ptr_equal(d.page[gw_page_private(page)], page);
	if (d.refuse_one_of && !(gw_page_private(page) % d.refuse_one_of))
		return false;
	d.nr_isolated++;
	return true;
}

static int migrate_page(struct gw_page *dst, struct gw_page *src, enum gw_migrate_mode mode,
	void *owner)
{
	uint64_t i = gw_page_private(src);
	bool again = d.once && d.tried[i];

	(void)mode;
	(void)owner;
	assert_int_equal(gw_page_private(dst), i);
	assert_int_not_equal(gw_page_node(dst), gw_page_node(src));
	d.tried[i] = true;
	if (d.migrate_result && !again) {
		if (d.own_words)
			gw_page_set_private(dst, ~i);
		return d.migrate_result;
	}
	memcpy(gw_page_bytes(dst), gw_page_bytes(src), GW_PAGE_SIZE);
	if (d.own_words) {
		gw_page_set_private(src, 0);
		assert_int_equal(gw_page_private(dst), i);
		gw_page_set_private(dst, i + 1);
		assert_int_equal(gw_page_private(src), 0);
		gw_page_set_private(dst, i);
	}
	d.page[i] = dst;
	d.nr_migrated++;
	return 0;
}

static void putback_page(struct gw_page *page, void *owner)
{
	(void)owner;
	assert_ptr_equal(d.page[gw_page_private(page)], page);
	d.nr_putback++;
}

static int setup(void **state)
{
	static const struct gw_movable_operations ops = {isolate_page, migrate_page, putback_page};
	const uint64_t bytes[4] = {16 << 20, 16 << 20, 16 << 20, 0};
	const struct gw_machine_config config = {.size = sizeof config, .nr_nodes = 4,
		.node_bytes = bytes, .backend = GW_BACKEND_SOFT};

	(void)state;
	memset(&d, 0, sizeof d);
	assert_int_equal(gw_machine_create(&config, &d.machine), 0);
	assert_int_equal(gw_driver_register(d.machine, "test", &ops, &d, &d.driver), 0);
	for (unsigned i = 0; i < PAGES; i++) {
		assert_int_equal(gw_page_alloc(d.driver, 0, &d.page[i]), 0);
		gw_page_set_private(d.page[i], i);
		memset(gw_page_bytes(d.page[i]), (int)(i % 251 + 1), GW_PAGE_SIZE);
	}
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	for (unsigned i = 0; i < PAGES; i++)
		gw_page_free(d.page[i]);
	gw_driver_unregister(d.driver);
	gw_machine_check(d.machine);
	gw_machine_destroy(d.machine);
	return 0;
}

// `there` pages are on the node, the others are not; every one is whole and has its word.
static void expect_on(unsigned node, unsigned there)
{
	for (unsigned i = 0; i < PAGES; i++) {
		const unsigned char *bytes = gw_page_bytes(d.page[i]);

		there -= gw_page_node(d.page[i]) == (int)node;
		assert_int_equal(gw_page_private(d.page[i]), i);
		for (unsigned b = 0; b < GW_PAGE_SIZE; b++)
			assert_int_equal(bytes[b], i % 251 + 1);
	}
	assert_int_equal(there, 0);
}

static void they_move_again_and_again(void **state)
{
	int64_t moved;

	(void)state;
	for (unsigned round = 0; round < 7; round++) {
		unsigned from = round % 3, to = (round + 1) % 3;

		assert_int_equal(gw_driver_migrate(d.driver, from, to), 0);
		expect_on(to, PAGES);
		assert_int_equal(gw_driver_migrate(d.driver, from, to), 0); // nothing is left there
	}
	assert_int_equal(d.nr_isolated, 7 * PAGES);
	assert_int_equal(d.nr_migrated, 7 * PAGES);
	assert_int_equal(d.nr_putback, 0);
	assert_int_equal(gw_vmstat(d.machine, "pgmigrate_success", &moved), 0);
	assert_int_equal(moved, 7 * PAGES);
}

static void they_stay_and_are_counted(void **state)
{
	(void)state;
	d.refuse_one_of = 1;
	assert_int_equal(gw_driver_migrate(d.driver, 0, 1), PAGES);
	assert_int_equal(d.nr_isolated, 0);
	d.refuse_one_of = 3;
	assert_int_equal(gw_driver_migrate(d.driver, 0, 1), PAGES / 3);
	expect_on(0, PAGES / 3);
	expect_on(1, PAGES - PAGES / 3);
	assert_int_equal(d.nr_putback, 0);
	d.migrate_result = -EIO; // these are isolated, and put back
	assert_int_equal(gw_driver_migrate(d.driver, 1, 2), PAGES - PAGES / 3);
	assert_int_equal(d.nr_putback, PAGES - PAGES / 3);
	d.refuse_one_of = 6; // both: half of those on node 0 are refused, the others fail
	assert_int_equal(gw_driver_migrate(d.driver, 0, 2), PAGES / 3);
	assert_int_equal(d.nr_putback, PAGES - PAGES / 3 + PAGES / 6);
	expect_on(2, 0);
}

static void they_are_allocated_on_nodes_that_exist(void **state)
{
	static const int none[] = {4, 64, INT_MAX, -2, -100, INT_MIN};
	struct gw_page *page;

	(void)state;
	for (unsigned i = 0; i < sizeof none / sizeof none[0]; i++)
		assert_int_equal(gw_page_alloc(d.driver, none[i], &page), -EINVAL);
	assert_int_equal(gw_page_alloc(d.driver, 3, &page), -ENOMEM); // it has no memory
	assert_int_equal(gw_page_alloc(d.driver, -1, &page), 0);
	assert_int_equal(gw_page_node(page), 0);
	gw_page_free(page);
}

static void migrate_page_sets_the_word(void **state)
{
	(void)state;
	d.own_words = true;
	for (unsigned round = 0; round < 4; round++) {
		assert_int_equal(gw_driver_migrate(d.driver, round % 3, (round + 1) % 3), 0);
		expect_on((round + 1) % 3, PAGES);
	}
	d.once = true; // the target's word is lost each time that the driver gives up
	d.migrate_result = -EAGAIN;
	memset(d.tried, 0, sizeof d.tried);
	assert_int_equal(gw_driver_migrate(d.driver, 1, 0), 0);
	expect_on(0, PAGES);
	d.once = false;
	assert_int_equal(gw_driver_migrate(d.driver, 0, 2), PAGES);
	expect_on(0, PAGES);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(they_move_again_and_again),
		T(they_stay_and_are_counted),
		T(migrate_page_sets_the_word),
		T(they_are_allocated_on_nodes_that_exist),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
