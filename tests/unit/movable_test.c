// SPDX-License-Identifier: MIT
// Non-LRU movable pages: a driver's pages are isolated, moved, put back, or released meanwhile.
#include "../support/machine_fixture.h"

#include "migrate/movable.h"

#include <errno.h>

static struct fx fx;

// The driver under test owns one page and says how its callbacks answer.
struct driver {
	struct movable_driver *driver;
	struct folio *page;
	bool refuse_isolation;
	int migrate_result; // once; 0: moves
	unsigned nr_isolated, nr_migrated, nr_putback;
};

static bool isolate(struct folio *folio, enum migrate_mode mode, void *arg)
{
	struct driver *d = arg;

	(void)mode;
	assert_true(folio_test_locked(folio));
	d->nr_isolated += !d->refuse_isolation;
	return !d->refuse_isolation;
}

static int migrate(struct folio *dst, struct folio *src, enum migrate_mode mode, void *arg)
{
	struct driver *d = arg;
	int err = d->migrate_result;

	(void)mode;
	assert_true(folio_test_locked(dst) && folio_test_locked(src));
	if (err) {
		if (err == -EAGAIN)
			d->migrate_result = 0;
		return err;
	}
	memcpy(folio_bytes(&fx.mm, dst, 0), folio_bytes(&fx.mm, src, 0), PAGE_SIZE);
	folio_get(dst);
	folio_set_movable(dst, d->driver);
	folio_clear_movable(src);
	folio_put(src);
	d->page = dst;
	d->nr_migrated++;
	return 0;
}

static void putback(struct folio *folio, void *arg)
{
	struct driver *d = arg;

	assert_true(folio_test_locked(folio));
	d->nr_putback++;
}

static struct driver d;

static int setup(void **state)
{
	static const struct movable_ops ops = {isolate, migrate, putback};

	(void)state;
	fx_open(&fx, 2, 16);
	memset(&d, 0, sizeof(d));
	fx_ok(movable_driver_create(&ops, &d, &d.driver));
	d.page = folio_alloc(&fx.phys, GFP_HIGHUSER_MOVABLE | GFP_THISNODE, 0, 0, NULL, 0);
	memset(folio_bytes(&fx.mm, d.page, 0), 0x5a, PAGE_SIZE);
	folio_lock(d.page);
	folio_set_movable(d.page, d.driver);
	folio_unlock(d.page);
	return 0;
}

static void release_page(void)
{
	folio_lock(d.page);
	folio_clear_movable(d.page);
	folio_unlock(d.page);
	folio_put(d.page);
	d.page = NULL;
}

static int teardown(void **state)
{
	(void)state;
	if (d.page)
		release_page();
	movable_driver_free(d.driver);
	fx_check(&fx);
	fx_close(&fx);
	return 0;
}

static int move_to(int nid, enum migrate_mode mode, struct folio_list *list)
{
	struct node_target target = {
		.mm = &fx.mm, .nid = nid, .gfp = GFP_HIGHUSER_MOVABLE | GFP_THISNODE};
	struct migrate_control mc = {.mm = &fx.mm, .mode = mode, .reason = MR_COMPACTION};

	migrate_target_on_node(&mc.target, &target);
	return migrate_pages(list, &mc);
}

static void it_moves(void **state)
{
	struct folio_list list = {0};

	(void)state;
	fx_ok(isolate_for_migration(&fx.mm, d.page, &list));
	assert_int_equal(vmstat_read(&fx.stat, VM_NR_ISOLATED_ANON), 0);
	assert_int_equal(vmstat_read(&fx.stat, VM_NR_ISOLATED_FILE), 0);
	assert_int_equal(isolate_for_migration(&fx.mm, d.page, &list), -EBUSY); // only once
	assert_int_equal(move_to(1, MIGRATE_ASYNC, &list), 0);
	assert_int_equal(folio_nid(d.page), 1);
	assert_int_equal(*(char *)folio_bytes(&fx.mm, d.page, 0), 0x5a);
	assert_false(folio_test_isolated(d.page));
	assert_int_equal(folio_ref_count(d.page), 1);
}

static void it_refuses(void **state)
{
	struct folio_list list = {0};

	(void)state;
	d.refuse_isolation = true;
	assert_int_equal(isolate_for_migration(&fx.mm, d.page, &list), -EBUSY);
	assert_int_equal(folio_ref_count(d.page), 1);
}

static void it_asks_for_another_try(void **state)
{
	struct folio_list list = {0};

	(void)state;
	d.migrate_result = -EAGAIN;
	fx_ok(isolate_for_migration(&fx.mm, d.page, &list));
	assert_int_equal(move_to(1, MIGRATE_SYNC, &list), 0);
	assert_int_equal(d.nr_migrated, 1);
}

static void it_fails_and_is_put_back(void **state)
{
	struct folio_list list = {0};

	(void)state;
	d.migrate_result = -ENOSPC;
	fx_ok(isolate_for_migration(&fx.mm, d.page, &list));
	assert_int_equal(move_to(1, MIGRATE_SYNC, &list), 1);
	putback_movable_pages(&fx.mm, &list);
	assert_int_equal(d.nr_putback, 1);
	assert_false(folio_test_isolated(d.page));
	assert_int_equal(folio_nid(d.page), 0);
	assert_int_equal(folio_ref_count(d.page), 1);
}

// The owner gives the page up while it is isolated: no reference but ours is left, or one is.
static void it_is_released_meanwhile(void **state)
{
	struct folio_list list = {0};

	(void)state;
	fx_ok(isolate_for_migration(&fx.mm, d.page, &list));
	release_page();
	assert_int_equal(move_to(1, MIGRATE_ASYNC, &list), 0);
	assert_int_equal(d.nr_migrated + d.nr_putback, 0);
}

static void it_is_released_but_still_referenced(void **state)
{
	struct folio_list list = {0};
	struct folio *page = d.page;

	(void)state;
	folio_get(page);
	fx_ok(isolate_for_migration(&fx.mm, page, &list));
	release_page();
	assert_int_equal(move_to(1, MIGRATE_ASYNC, &list), 0);
	assert_int_equal(d.nr_migrated, 0);
	assert_false(folio_test_isolated(page));
	folio_put(page);
}

static void it_is_released_and_put_back(void **state)
{
	struct folio_list list = {0};

	(void)state;
	fx_ok(isolate_for_migration(&fx.mm, d.page, &list));
	release_page();
	putback_movable_pages(&fx.mm, &list);
	assert_int_equal(d.nr_putback, 0);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(it_moves),
		T(it_refuses),
		T(it_asks_for_another_try),
		T(it_fails_and_is_put_back),
		T(it_is_released_meanwhile),
		T(it_is_released_but_still_referenced),
		T(it_is_released_and_put_back),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
