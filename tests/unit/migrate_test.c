// SPDX-License-Identifier: MIT
// Migration of folios that tasks map: contents, placement, counters, host calls, and what comes
// back when it does not go through. Everything runs on the model mmu (tests/support/model_mmu.h).
#include "../support/machine_fixture.h"

#include "migrate/batch.h"
#include "virt/page_table.h"

#include <errno.h>

static struct fx fx;

static int setup(void **state)
{
	(void)state;
	fx_open(&fx, 3, 32);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	fx_close(&fx);
	return 0;
}

// ---- What moves

static void one_page_moves(void **state)
{
	struct task *a = fx_task(&fx, 0);
	uint64_t buf = fx_map(a, 1);

	(void)state;
	fx_fill(&fx, a, buf, 1, 1);
	assert_int_equal(fx_where(a, buf), 0);
	fx_mark(&fx);
	assert_int_equal(fx_move(a, buf, 1, 1), 0);
	assert_int_equal(fx_where(a, buf), 1);
	fx_verify(&fx, a, buf, 1, 1);
	assert_int_equal(fx_since(&fx, VM_PGMIGRATE_SUCCESS), 1);
	assert_int_equal(fx_since(&fx, VM_PGMIGRATE_FAIL), 0);
	fx_check(&fx);
	fx_fill(&fx, a, buf, 1, 2); // writable as before
	fx_verify(&fx, a, buf, 1, 2);
	task_exit(a);
}

static void a_run_costs_one_call_of_each_kind(void **state)
{
	struct task *a = fx_task(&fx, 0);
	uint64_t buf = fx_map(a, 512);

	(void)state;
	fx_fill(&fx, a, buf, 512, 1);
	assert_int_equal(fx_move(a, buf, 512, 1), 0); // now on consecutive frames
	unsigned long maps = fx.model->nr_map, blocks = fx.model->nr_block;
	assert_int_equal(fx_move(a, buf, 512, 2), 0);
	printf("512 pages: %lu maps, %lu blocks\n", fx.model->nr_map - maps,
		fx.model->nr_block - blocks);
	assert_true(fx.model->nr_map - maps <= 2);
	assert_true(fx.model->nr_block - blocks <= 2);
	fx_all_on(a, buf, 512, 2);
	fx_verify(&fx, a, buf, 512, 1);
	fx_check(&fx);
	task_exit(a);
}

static void more_than_a_batch(void **state)
{
	struct task *a = fx_task(&fx, 0);
	uint64_t buf = fx_map(a, 1500);

	(void)state;
	fx_fill(&fx, a, buf, 1500, 3);
	fx_mark(&fx);
	assert_int_equal(fx_move(a, buf, 1500, 2), 0);
	fx_all_on(a, buf, 1500, 2);
	assert_int_equal(fx_since(&fx, VM_PGMIGRATE_SUCCESS), 1500);
	fx_verify(&fx, a, buf, 1500, 3);
	fx_check(&fx);
	task_exit(a);
}

static void read_only_pages_stay_read_only(void **state)
{
	struct task *a = fx_task(&fx, 0);
	uint64_t buf = fx_map(a, 4), x = 1;

	(void)state;
	fx_fill(&fx, a, buf, 4, 1);
	fx_ok(space_protect(a->space, buf, 4 * PAGE_SIZE, VM_READ));
	assert_int_equal(fx_move(a, buf, 4, 1), 0);
	assert_int_equal(fx_access(&fx, a, buf, &x, sizeof(x), true), -EFAULT);
	fx_verify(&fx, a, buf, 4, 1);
	fx_check(&fx);
	task_exit(a);
}

static void inaccessible_pages_move_too(void **state)
{
	struct task *a = fx_task(&fx, 0);
	uint64_t buf = fx_map(a, 4), x = 1;

	(void)state;
	fx_fill(&fx, a, buf, 4, 1);
	fx_ok(space_protect(a->space, buf, 4 * PAGE_SIZE, 0));
	assert_int_equal(fx_move(a, buf, 4, 1), 0);
	fx_all_on(a, buf, 4, 1);
	assert_int_equal(fx_access(&fx, a, buf, &x, sizeof(x), false), -EFAULT);
	fx_check(&fx);
	fx_ok(space_protect(a->space, buf, 4 * PAGE_SIZE, VM_READ | VM_WRITE));
	fx_verify(&fx, a, buf, 4, 1);
	fx_check(&fx);
	task_exit(a);
}

static void shared_object_moves_for_all(void **state)
{
	struct task *a = fx_task(&fx, 0), *b = fx_task(&fx, 0);
	struct object *shm;
	uint64_t in_a, in_b;
	struct fx_move mv;

	(void)state;
	fx_ok(object_create_shmem(&fx.mm, "shm", 8 * PAGE_SIZE, &shm));
	in_a = fx_map_shared(a, 8, shm);
	in_b = fx_map_shared(b, 8, shm);
	fx_fill(&fx, a, in_a, 8, 1);
	fx_fill(&fx, b, in_b, 8, 2);
	fx_move_alloc(&mv, in_a, 8, 1);
	fx_move_run(&mv, a, 0, MBIND_MOVE_ALL);
	assert_int_equal(mv.ret, 0);
	fx_move_free(&mv);
	fx_all_on(a, in_a, 8, 1);
	fx_all_on(b, in_b, 8, 1);
	for (unsigned i = 0; i < 8; i++) { // one memory still
		uint64_t x = 77 + i, y;

		fx_ok(fx_access(&fx, a, in_a + i * PAGE_SIZE, &x, sizeof(x), true));
		fx_ok(fx_access(&fx, b, in_b + i * PAGE_SIZE, &y, sizeof(y), false));
		assert_int_equal(x, y);
	}
	fx_check(&fx);
	task_exit(a);
	task_exit(b);
	object_put(shm);
}

static void forked_pages_move_and_stay_private(void **state)
{
	struct task *a = fx_task(&fx, 0), *b;
	uint64_t buf = fx_map(a, 8);
	struct fx_move mv;

	(void)state;
	fx_fill(&fx, a, buf, 8, 1);
	fx_ok(task_fork(a, 1, &b));
	fx_move_alloc(&mv, buf, 8, 1);
	fx_move_run(&mv, a, 0, MBIND_MOVE_ALL);
	assert_int_equal(mv.ret, 0);
	fx_move_free(&mv);
	fx_all_on(a, buf, 8, 1);
	fx_all_on(b, buf, 8, 1);
	fx_check(&fx);
	fx_fill(&fx, b, buf, 8, 2);
	fx_verify(&fx, a, buf, 8, 1);
	fx_verify(&fx, b, buf, 8, 2);
	fx_check(&fx);
	task_exit(a);
	fx_verify(&fx, b, buf, 8, 2);
	task_exit(b);
}

static void locked_memory_stays_locked(void **state)
{
	struct task *a = fx_task(&fx, 0);
	uint64_t buf = fx_map(a, 4);

	(void)state;
	fx_fill(&fx, a, buf, 4, 1);
	fx_ok(space_lock(a->space, a, buf, 4 * PAGE_SIZE));
	fx_mark(&fx);
	assert_int_equal(fx_move(a, buf, 4, 1), 0);
	assert_int_equal(fx_since(&fx, VM_NR_MLOCK), 0);
	assert_int_equal(vmstat_node(&fx.stat, 1, VM_NR_MLOCK), 4);
	assert_true(folio_test_mlocked(fx_folio(a, buf)));
	assert_true(folio_test_unevictable(fx_folio(a, buf)));
	fx_check(&fx);
	fx_ok(space_unlock(a->space, buf, 4 * PAGE_SIZE));
	assert_int_equal(vmstat_read(&fx.stat, VM_NR_MLOCK), 0);
	task_exit(a);
}

// ---- What does not

static void a_pinned_page_stays(void **state)
{
	struct task *a = fx_task(&fx, 0);
	uint64_t buf = fx_map(a, 4);
	struct fx_move mv;
	struct pin *pin;

	(void)state;
	fx_fill(&fx, a, buf, 4, 1);
	fx_ok(pin_pages(a->space, a, buf + PAGE_SIZE, PAGE_SIZE, "nic", &pin));
	fx_mark(&fx);
	fx_move_alloc(&mv, buf, 4, 1);
	fx_move_run(&mv, a, 0, MBIND_MOVE);
	assert_int_equal(mv.ret, 1);
	assert_int_equal(mv.status[0], -1000);
	assert_int_equal(mv.why[0], WHY_MOVED);
	assert_int_equal(mv.why[1], WHY_PINNED);
	assert_int_equal(fx_where(a, buf), 1);
	assert_int_equal(fx_where(a, buf + PAGE_SIZE), 0);
	assert_int_equal(fx_since(&fx, VM_PGMIGRATE_SUCCESS), 3);
	assert_int_equal(fx_since(&fx, VM_PGMIGRATE_FAIL), 1);
	fx_verify(&fx, a, buf, 4, 1);
	fx_check(&fx);
	unpin_pages(pin);
	assert_int_equal(fx_move(a, buf, 4, 1), 0);
	fx_all_on(a, buf, 4, 1);
	fx_move_free(&mv);
	task_exit(a);
}

static void an_extra_reference_stops_it(void **state)
{
	struct task *a = fx_task(&fx, 0);
	uint64_t buf = fx_map(a, 2);
	struct fx_move mv;
	struct folio *folio;

	(void)state;
	fx_fill(&fx, a, buf, 2, 1);
	folio = fx_folio(a, buf);
	folio_get(folio);
	unsigned long blocks = fx.model->nr_block;
	fx_move_alloc(&mv, buf, 1, 1);
	fx_move_run(&mv, a, 0, MBIND_MOVE);
	assert_int_equal(mv.ret, 1);
	assert_int_equal(mv.why[0], WHY_EXTRA_REFERENCE);
	assert_int_equal(fx.model->nr_block, blocks); // nobody was stopped for nothing
	folio_put(folio);
	fx_check(&fx);
	fx_move_free(&mv);
	task_exit(a);
}

static void a_locked_folio_is_waited_for_or_not(void **state)
{
	struct task *a = fx_task(&fx, 0);
	uint64_t buf = fx_map(a, 1);
	struct folio_list list = {0};
	struct node_target target = {.mm = &fx.mm, .nid = 1, .gfp = GFP_HIGHUSER_MOVABLE};
	struct migrate_control mc = {.mm = &fx.mm, .mode = MIGRATE_ASYNC, .reason = MR_COMPACTION};
	struct folio *folio;

	(void)state;
	fx_fill(&fx, a, buf, 1, 1);
	folio = fx_folio(a, buf);
	migrate_target_on_node(&mc.target, &target);
	fx_ok(isolate_for_migration(&fx.mm, folio, &list));
	folio_lock(folio);
	assert_int_equal(migrate_pages(&list, &mc), 1);
	mc.mode = MIGRATE_SYNC;
	mc.atomic_reclaim = true; // direct compaction never waits for a lock
	assert_int_equal(migrate_pages(&list, &mc), 1);
	folio_unlock(folio);
	assert_int_equal(migrate_pages(&list, &mc), 0);
	assert_int_equal(fx_where(a, buf), 1);
	fx_check(&fx);
	task_exit(a);
}

static void a_freed_source_is_a_success(void **state)
{
	struct task *a = fx_task(&fx, 0);
	uint64_t buf = fx_map(a, 3);
	struct folio_list list = {0};
	struct node_target target = {.mm = &fx.mm, .nid = 1, .gfp = GFP_HIGHUSER_MOVABLE};
	struct migrate_control mc = {.mm = &fx.mm, .mode = MIGRATE_SYNC, .reason = MR_COMPACTION};

	(void)state;
	fx_fill(&fx, a, buf, 3, 1);
	migrate_target_on_node(&mc.target, &target);
	for (unsigned i = 0; i < 3; i++)
		fx_ok(isolate_for_migration(&fx.mm, fx_folio(a, buf + i * PAGE_SIZE), &list));
	fx_ok(space_unmap(a->space, buf + PAGE_SIZE, PAGE_SIZE));
	assert_int_equal(migrate_pages(&list, &mc), 0);
	assert_int_equal(mc.nr_succeeded, 3);
	assert_true(mark_was_hit("migrate_source_freed"));
	fx_check(&fx);
	task_exit(a);
}

static void without_targets_what_was_unmapped_still_moves(void **state)
{
	struct task *a = fx_task(&fx, 0);
	uint64_t buf = fx_map(a, 8);
	struct fx_move mv;

	(void)state;
	fx_fill(&fx, a, buf, 8, 1);
	fx_move_alloc(&mv, buf, 8, 1);
	fault_arm(FI_ALLOC, FI_THREAD, 0, FI_ALWAYS);
	fx_move_run(&mv, a, 0, MBIND_MOVE);
	assert_true(fault_disarm(FI_ALLOC));
	assert_int_equal(mv.ret, -ENOMEM);
	assert_int_equal(mv.why[0], WHY_NO_TARGET);
	assert_int_equal(mv.why[1], WHY_ABORTED);
	fx_all_on(a, buf, 8, 0);
	fx_verify(&fx, a, buf, 8, 1);
	fx_check(&fx);
	fx_move_free(&mv);
	task_exit(a);
}

// ---- The host refuses

static void a_block_that_fails_is_backed_out(void **state)
{
	struct task *a = fx_task(&fx, 0);
	uint64_t buf = fx_map(a, 4);
	struct fx_move mv;

	(void)state;
	fx_fill(&fx, a, buf, 4, 1);
	fx_move_alloc(&mv, buf, 4, 1);
	fx.model->refuse_block = true;
	fx_move_run(&mv, a, 0, MBIND_MOVE);
	fx.model->refuse_block = false;
	assert_int_equal(mv.ret, 4);
	for (unsigned i = 0; i < 4; i++)
		assert_int_equal(mv.why[i], WHY_HOST_MAPPINGS);
	fx_all_on(a, buf, 4, 0);
	fx_check(&fx);
	fx_verify(&fx, a, buf, 4, 1);
	fx_move_free(&mv);
	assert_int_equal(fx_move(a, buf, 4, 1), 0);
	fx_check(&fx);
	task_exit(a);
}

static void a_map_that_fails_is_repaired_by_the_next_fault(void **state)
{
	struct task *a = fx_task(&fx, 0);
	uint64_t buf = fx_map(a, 4);

	(void)state;
	fx_fill(&fx, a, buf, 4, 1);
	assert_int_equal(fx_move(a, buf, 4, 1), 0);
	fx.model->refuse_map = true;
	assert_int_equal(fx_move(a, buf, 4, 2), 0);
	fx.model->refuse_map = false;
	assert_true(mark_was_hit("migrate_map_failed"));
	fx_all_on(a, buf, 4, 2);
	fx_check(&fx);
	fx_verify(&fx, a, buf, 4, 1);
	fx_fill(&fx, a, buf, 4, 2);
	fx_verify(&fx, a, buf, 4, 2);
	fx_check(&fx);
	task_exit(a);
}

// The child's page is not the locked one any more when the parent has a copy.
static void a_copy_leaves_the_lock(void **state)
{
	struct task *a = fx_task(&fx, 0), *b;
	uint64_t buf = fx_map(a, 2), value = 1;

	(void)state;
	fx_fill(&fx, a, buf, 2, 1);
	fx_ok(space_lock(a->space, a, buf, 2 * PAGE_SIZE));
	assert_int_equal(vmstat_read(&fx.stat, VM_NR_MLOCK), 2);
	fx_ok(task_fork(a, 0, &b));
	fx_ok(fx_access(&fx, a, buf, &value, sizeof(value), true));
	assert_int_equal(vmstat_read(&fx.stat, VM_NR_MLOCK), 2);
	assert_false(folio_test_mlocked(fx_folio(b, buf)));
	assert_true(folio_test_mlocked(fx_folio(b, buf + PAGE_SIZE))); // the parent's, too
	fx_ok(space_lock(b->space, b, buf + PAGE_SIZE, PAGE_SIZE));
	fx_ok(fx_access(&fx, a, buf + PAGE_SIZE, &value, sizeof(value), true));
	assert_true(folio_test_mlocked(fx_folio(b, buf + PAGE_SIZE)));
	assert_int_equal(vmstat_read(&fx.stat, VM_NR_MLOCK), 3);
	task_exit(b);
	fx_check(&fx);
	task_exit(a);
	assert_int_equal(vmstat_read(&fx.stat, VM_NR_MLOCK), 0);
}

// A copy on write took the only mapping away as the page was unmapped, and gave it back since: the
// host had no room for the copy's (virt/cow.c).
static void a_mapping_that_came_back_keeps_its_page(void **state)
{
	_Alignas(struct batch) char room[sizeof(struct batch) + sizeof(struct slot)] = {0};
	struct batch *b = (struct batch *)room;
	struct migrate_control mc = {.mm = &fx.mm, .mode = MIGRATE_SYNC, .reason = MR_SYSCALL};
	struct task *a = fx_task(&fx, 0);
	uint64_t buf = fx_map(a, 1);
	struct folio_list list = {0};
	struct folio *src, *dst, *run[1];

	(void)state;
	fx_fill(&fx, a, buf, 1, 1);
	src = fx_folio(a, buf);
	dst = folio_alloc(&fx.phys, GFP_HIGHUSER_MOVABLE | GFP_THISNODE, 0, 1, NULL, 0);
	assert_non_null(dst);
	fx_ok(isolate_for_migration(&fx.mm, src, &list));
	assert_true(folio_trylock(src) && folio_trylock(dst));
	*b = (struct batch){.mc = &mc, .mode = MIGRATE_SYNC, .nr = 1, .run = run};
	b->slot[0] = (struct slot){.src = src, .dst = dst, .nr_pages = 1, .state = SLOT_UNMAPPED};
	batch_move(b);
	assert_int_equal(b->slot[0].state, SLOT_UNMAPPED);
	assert_int_equal(b->slot[0].error, -EAGAIN);
	folio_unlock(dst);
	folio_unlock(src);
	folio_put(dst);
	putback_movable_pages(&fx.mm, &list);
	fx_check(&fx);
	fx_verify(&fx, a, buf, 1, 1);
	assert_int_equal(fx_move(a, buf, 1, 1), 0);
	task_exit(a);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(one_page_moves),
		T(a_run_costs_one_call_of_each_kind),
		T(more_than_a_batch),
		T(read_only_pages_stay_read_only),
		T(inaccessible_pages_move_too),
		T(shared_object_moves_for_all),
		T(forked_pages_move_and_stay_private),
		T(locked_memory_stays_locked),
		T(a_pinned_page_stays),
		T(an_extra_reference_stops_it),
		T(a_locked_folio_is_waited_for_or_not),
		T(a_freed_source_is_a_success),
		T(without_targets_what_was_unmapped_still_moves),
		T(a_block_that_fails_is_backed_out),
		T(a_map_that_fails_is_repaired_by_the_next_fault),
		T(a_copy_leaves_the_lock),
		T(a_mapping_that_came_back_keeps_its_page),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
