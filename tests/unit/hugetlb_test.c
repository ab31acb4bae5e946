// SPDX-License-Identifier: MIT
// Pools of huge pages: growing and shrinking, promises, faults, copy on write, and moving.
#include "../support/machine_fixture.h"

#include "hugetlb/internal.h"
#include "migrate/detach.h"
#include "virt/fault.h"
#include "virt/page_table.h"
#include "virt/rmap.h"
#include "virt/vma.h"

#include <errno.h>
#include <pthread.h>
#include <unistd.h>

#define HUGE PMD_SIZE
#define RW (VM_READ | VM_WRITE | VM_MAYWRITE)

static struct fx fx;
static struct hugetlb h;
static struct hugetlb_pool *pool;
static struct task *a;

static int setup(void **state)
{
	(void)state;
	fx_open(&fx, 2, 32);
	hugetlb_init(&h, &fx.mm);
	pool = &h.pool[HUGETLB_2M];
	a = fx_task(&fx, 0);
	return 0;
}

static void check(void)
{
	fx_check(&fx);
	hugetlb_check(&h);
}

static int teardown(void **state)
{
	(void)state;
	check();
	if (a)
		task_exit(a);
	hugetlb_check(&h);
	assert_int_equal(pool->reserved, 0);
	hugetlb_destroy(&h);
	fx_close(&fx);
	return 0;
}

// Pool pages of node 0 and of node 1.
static void fill(unsigned long nr0, unsigned long nr1)
{
	hugetlb_resize(&h, pool, nr0, nodemask_of(0), true);
	hugetlb_resize(&h, pool, nr1, nodemask_of(1), true);
	assert_int_equal(pool->nr_node[0], nr0);
	assert_int_equal(pool->nr_node[1], nr1);
}

static int try_map(struct task *task, uint64_t pages, unsigned flags, struct object *object,
	uint64_t *ret_addr)
{
	struct map_request rq = {.len = pages * HUGE, .flags = flags, .object = object,
		.own = true};

	return hugetlb_map(task, &rq, PMD_SHIFT, ret_addr);
}

static uint64_t map(uint64_t pages)
{
	uint64_t addr;

	fx_ok(try_map(a, pages, RW, NULL, &addr));
	return addr;
}

static int touch(struct task *task, uint64_t addr, bool write)
{
	char byte = 1;

	return fx_access(&fx, task, addr, &byte, 1, write);
}

// ---- Pools

static void nodes_give_pages_in_turn(void **state)
{
	(void)state;
	fx_mark(&fx);
	hugetlb_resize(&h, pool, 5, fx.phys.has_memory, false);
	assert_int_equal(pool->nr_node[0], 3);
	assert_int_equal(pool->nr_node[1], 2);
	assert_int_equal(pool->max, 5);
	assert_int_equal(fx_since(&fx, VM_HTLB_BUDDY_ALLOC_SUCCESS), 5);
	check();
	hugetlb_resize(&h, pool, 2, fx.phys.has_memory, false);
	assert_int_equal(pool->nr, 2);
	assert_int_equal(pool->nr_node[0], 1);
}

// More surplus than pages: a pool that shrank took the free pages of the node.
static void a_node_with_less_than_no_pages(void **state)
{
	(void)state;
	fill(1, 0);
	hugetlb_count_surplus(pool, 1, 1);
	hugetlb_resize(&h, pool, 1, nodemask_of(0), true);
	hugetlb_resize(&h, pool, 0, nodemask_of(0), true);
	assert_int_equal(pool->nr, 1); // what is surplus is not persistent
	hugetlb_count_surplus(pool, 1, -1);
	hugetlb_resize(&h, pool, ~0ul, nodemask_of(0), true);
	assert_in_range(pool->nr, 8, 15); // all there is
	fill(0, 0);
}

static void growing_falls_short_and_says_why(void **state)
{
	(void)state;
	hugetlb_resize(&h, pool, 100, nodemask_of(0), true);
	assert_in_range(pool->nr, 8, 15);
	assert_int_equal(pool->nr_node[1], 0);
	assert_int_equal(pool->max, pool->nr);
	assert_int_equal(pool->shortfall.wanted, 100);
	assert_int_equal(pool->shortfall.got, pool->nr);
	assert_true(pool->shortfall.largest_free[1] >= 512);
	assert_true(mark_was_hit("hugetlb_pool_falls_short"));
}

static void pages_in_use_become_surplus(void **state)
{
	(void)state;
	fill(2, 0);
	uint64_t buf = map(2);
	fx_fill(&fx, a, buf, 1024, 1);
	hugetlb_resize(&h, pool, 0, fx.phys.has_memory, false);
	assert_int_equal(pool->nr, 2);
	assert_int_equal(pool->surplus, 2);
	assert_int_equal(pool->max, 0);
	check();
	hugetlb_resize(&h, pool, 1, fx.phys.has_memory, false);
	assert_int_equal(pool->surplus, 1);
	fx_verify(&fx, a, buf, 1024, 1);
	fx_ok(space_unmap(a->space, buf, 2 * HUGE));
	assert_int_equal(pool->nr, 1);
	assert_int_equal(pool->nr_free, 1);
	assert_int_equal(pool->surplus, 0);
}

static void promised_pages_stay_when_the_pool_shrinks(void **state)
{
	(void)state;
	fill(3, 0);
	uint64_t buf = map(2);
	hugetlb_resize(&h, pool, 0, fx.phys.has_memory, false);
	assert_int_equal(pool->nr, 2);
	assert_int_equal(pool->reserved, 2);
	fx_fill(&fx, a, buf, 1024, 1);
	fx_verify(&fx, a, buf, 1024, 1);
}

// ---- Promises

static void a_mapping_needs_its_pages(void **state)
{
	uint64_t addr;

	(void)state;
	assert_int_equal(try_map(a, 1, RW, NULL, &addr), -ENOMEM);
	fill(2, 1);
	assert_int_equal(try_map(a, 4, RW, NULL, &addr), -ENOMEM);
	map(2);
	assert_int_equal(pool->reserved, 2);
	assert_int_equal(try_map(a, 2, RW, NULL, &addr), -ENOMEM);
	map(1);
	assert_int_equal(pool->reserved, 3);
	assert_int_equal(pool->nr_free, 3);
}

static void parts_of_a_mapping_give_back_what_is_theirs(void **state)
{
	(void)state;
	fill(4, 0);
	uint64_t buf = map(4);
	fx_ok(touch(a, buf + HUGE, true));
	assert_int_equal(pool->reserved, 3);
	fx_ok(space_unmap(a->space, buf + 2 * HUGE, HUGE));
	assert_int_equal(pool->reserved, 2);
	fx_ok(space_unmap(a->space, buf + HUGE, HUGE));
	assert_int_equal(pool->reserved, 2);
	assert_int_equal(pool->nr_free, 4);
	assert_int_equal(space_unmap(a->space, buf + PAGE_SIZE, PAGE_SIZE), -EINVAL);
	check();
	fx_ok(space_unmap(a->space, buf, 4 * HUGE));
	assert_int_equal(pool->reserved, 0);
}

static void a_page_given_up_is_promised_again(void **state)
{
	(void)state;
	fill(2, 0);
	uint64_t buf = map(2);
	fx_fill(&fx, a, buf, 1024, 1);
	fx_ok(space_advise(a->space, a, buf, HUGE, 4 /* DONTNEED */));
	assert_int_equal(pool->nr_free, 1);
	assert_int_equal(pool->reserved, 1);
	fx_ok(touch(a, buf, false));
	assert_int_equal(pool->reserved, 0);
}

static void *first_touch_main(void *addr)
{
	return (void *)(intptr_t)touch(a, (uintptr_t)addr, true);
}

// Promised anew and not on the list yet: the touch waits for it.
static void a_page_on_its_way_back_is_waited_for(void **state)
{
	struct folio *folio;
	pthread_t toucher;
	void *err;

	(void)state;
	fill(1, 0);
	uint64_t buf = map(1);
	mutex_lock(&h.lock);
	folio = hugetlb_take_from_list(pool, 0);
	mutex_unlock(&h.lock);
	assert_int_equal(pthread_create(&toucher, NULL, first_touch_main, (void *)buf), 0);
	while (!mark_was_hit("hugetlb_page_on_its_way"))
		usleep(1000);
	mutex_lock(&h.lock);
	hugetlb_put_on_list(pool, folio);
	mutex_unlock(&h.lock);
	pthread_join(toucher, &err);
	assert_int_equal((intptr_t)err, 0);
}

static void an_object_is_promised_its_pages_once(void **state)
{
	struct object *object;
	uint64_t one, two, other;

	(void)state;
	fill(3, 0);
	fx_ok(hugetlb_object_create(&h, "one", 3 * HUGE, PMD_SHIFT, &object));
	fx_ok(try_map(a, 2, RW | VM_SHARED, object, &one));
	fx_ok(try_map(a, 3, RW | VM_SHARED, object, &two));
	assert_int_equal(pool->reserved, 3);
	assert_int_equal(try_map(a, 1, RW, NULL, &other), -ENOMEM);
	fx_fill(&fx, a, one, 512, 1);
	assert_int_equal(pool->reserved, 2);
	fx_ok(space_unmap(a->space, one, 2 * HUGE));
	fx_ok(space_unmap(a->space, two, 3 * HUGE));
	assert_int_equal(pool->nr_free, 2);
	assert_int_equal(pool->reserved, 2);
	check();
	object_put(object);
	assert_int_equal(pool->nr_free, 3);
	assert_int_equal(pool->reserved, 0);
}

static void surplus_pages_cover_a_promise(void **state)
{
	uint64_t buf, other;

	(void)state;
	fill(1, 0);
	hugetlb_set_overcommit(&h, pool, 2);
	fx_ok(try_map(a, 3, RW, NULL, &buf));
	assert_int_equal(pool->nr, 3);
	assert_int_equal(pool->surplus, 2);
	assert_int_equal(try_map(a, 1, RW, NULL, &other), -ENOMEM);
	fx_ok(touch(a, buf, true));
	check();
	fx_ok(space_unmap(a->space, buf, 3 * HUGE));
	assert_int_equal(pool->nr, 1);
	assert_int_equal(pool->surplus, 0);
}

// Each try gets further. The page is surplus, and there may be no other: whenever it could not be
// mapped, it is there and promised as before.
static void touch_with_failures(uint64_t buf)
{
	bool hit = true;

	for (uint64_t n = 0; hit && n < 20; n++) {
		fault_arm(FI_META, FI_THREAD, n, 1);
		int err = handle_fault(a->space, a, buf, FAULT_WRITE);
		hit = fault_disarm(FI_META);
		assert_int_equal(err, hit ? -ENOMEM : 0);
		assert_int_equal(pool->surplus, 1);
		assert_int_equal(pool->reserved, hit);
		assert_int_equal(pool->nr_free, hit);
		check();
	}
	assert_false(hit);
}

static void a_page_that_could_not_be_mapped_stays_promised(void **state)
{
	struct object *object;
	uint64_t buf;

	(void)state;
	if (!FAULTS_BUILT_IN)
		skip();
	fill(1, 0);
	buf = map(1);
	hugetlb_resize(&h, pool, 0, fx.phys.has_memory, false);
	touch_with_failures(buf);
	fx_ok(space_unmap(a->space, buf, HUGE));
	assert_int_equal(pool->nr, 0);
	fill(1, 0);
	fx_ok(hugetlb_object_create(&h, "o", HUGE, PMD_SHIFT, &object));
	fx_ok(try_map(a, 1, RW | VM_SHARED, object, &buf));
	hugetlb_resize(&h, pool, 0, fx.phys.has_memory, false);
	touch_with_failures(buf);
	object_put(object);
}

static void wrong_requests(void **state)
{
	struct map_request rq = {.len = 1, .flags = RW, .own = true};
	struct object *shmem;
	uint64_t addr;

	(void)state;
	fill(1, 0);
	assert_int_equal(hugetlb_map(a, &rq, 22, &addr), -EINVAL);
	fx_ok(object_create_shmem(&fx.mm, "s", HUGE, &shmem));
	assert_int_equal(try_map(a, 1, RW | VM_SHARED, shmem, &addr), -EINVAL);
	object_put(shmem);
	rq.pgoff = 1;
	assert_int_equal(hugetlb_map(a, &rq, PMD_SHIFT, &addr), -EINVAL);
	rq.pgoff = 0;
	fx_ok(hugetlb_map(a, &rq, PMD_SHIFT, &addr)); // one byte is a page
	assert_int_equal(pool->reserved, 1);
	assert_int_equal(space_protect(a->space, addr + PAGE_SIZE, PAGE_SIZE, VM_READ), -EINVAL);
	assert_int_equal(space_advise(a->space, a, addr + PAGE_SIZE, HUGE - PAGE_SIZE, 4), -EINVAL);
}

// ---- Copy on write

static struct task *fork_a(void)
{
	struct task *child;

	fx_ok(task_fork(a, 0, &child));
	return child;
}

static void a_copy_comes_from_what_the_pool_can_spare(void **state)
{
	(void)state;
	fill(2, 0);
	uint64_t buf = map(1);
	fx_fill(&fx, a, buf, 512, 1);
	struct task *b = fork_a();
	fx_verify(&fx, b, buf, 512, 1);
	fx_fill(&fx, b, buf, 512, 2);
	assert_int_equal(pool->nr_free, 0);
	fx_verify(&fx, a, buf, 512, 1);
	fx_fill(&fx, a, buf, 512, 3); // alone again
	fx_verify(&fx, b, buf, 512, 2);
	check();
	task_exit(b);
	assert_int_equal(pool->nr_free, 1);
}

static void the_parent_keeps_its_page(void **state)
{
	(void)state;
	fill(1, 0);
	uint64_t buf = map(1);
	fx_fill(&fx, a, buf, 512, 1);
	struct task *b = fork_a();
	fx_verify(&fx, b, buf, 512, 1);
	fx_fill(&fx, a, buf, 512, 2);
	fx_verify(&fx, a, buf, 512, 2);
	assert_true(mark_was_hit("hugetlb_page_taken_from_child"));
	assert_int_equal(touch(b, buf, false), -EIO);
	check();
	task_exit(b);
}

static void a_child_without_promise_gets_the_signal(void **state)
{
	(void)state;
	fill(2, 0);
	uint64_t buf = map(2);
	fx_fill(&fx, a, buf, 512, 1);
	struct task *b = fork_a();
	assert_int_equal(touch(b, buf + HUGE, false), -EIO);
	assert_int_equal(touch(b, buf, true), -EIO);
	fx_verify(&fx, a, buf, 512, 1);
	fx_fill(&fx, a, buf + HUGE, 512, 2); // the promise was kept
	task_exit(b);
}

static void a_pinned_page_is_copied_by_fork(void **state)
{
	struct task *b;
	struct pin *pin;

	(void)state;
	fill(2, 0);
	uint64_t buf = map(1);
	fx_fill(&fx, a, buf, 512, 1);
	fx_ok(pin_pages(a->space, a, buf + 5 * PAGE_SIZE, PAGE_SIZE, "test", &pin));
	b = fork_a();
	assert_int_equal(pool->nr_free, 0);
	fx_fill(&fx, a, buf, 512, 2);
	fx_verify(&fx, b, buf, 512, 1);
	check();
	unpin_pages(pin);
	task_exit(b);
	fx_ok(pin_pages(a->space, a, buf, PAGE_SIZE, "test", &pin));
	hugetlb_resize(&h, pool, 1, fx.phys.has_memory, false);
	assert_int_equal(task_fork(a, 0, &b), -ENOMEM);
	unpin_pages(pin);
}

// fork() found it pinned; by the time of the copy the pin has gone, and the page is being moved.
static void a_page_on_its_way_is_not_missed_by_fork(void **state)
{
	(void)state;
	fill(2, 0);
	uint64_t buf = map(1);
	fx_fill(&fx, a, buf, 512, 1);
	struct task *b = fork_a();
	struct vma *parent = vma_lookup(a->space, buf), *child = vma_lookup(b->space, buf);
	struct folio *folio = fx_folio(a, buf);
	struct anon_vma *av = folio_get_anon_vma(folio);

	folio_get(folio);
	assert_true(folio_trylock(folio));
	fx_ok(folio_detach(&fx.mm, folio, DETACH_AT_ONCE));
	assert_int_equal(fx.mm.up.hugetlb_fork_copy(child, parent, a, buf), -EAGAIN);
	folios_attach(&fx.mm, folio, PMD_ORDER, 1);
	folio_unlock(folio);
	folio_put(folio);
	anon_vma_put(av);
	check();
	task_exit(b);
}

static void a_private_mapping_of_an_object(void **state)
{
	struct object *object;
	uint64_t shared, private;

	(void)state;
	fill(2, 0);
	fx_ok(hugetlb_object_create(&h, "o", HUGE, PMD_SHIFT, &object));
	fx_ok(try_map(a, 1, RW | VM_SHARED, object, &shared));
	fx_ok(try_map(a, 1, RW, object, &private));
	assert_int_equal(pool->reserved, 2);
	fx_fill(&fx, a, shared, 512, 1);
	fx_ok(touch(a, private, false));
	assert_ptr_equal(fx_folio(a, private), fx_folio(a, shared));
	assert_int_equal(pool->reserved, 1);
	fx_ok(touch(a, private, true));
	assert_ptr_not_equal(fx_folio(a, private), fx_folio(a, shared));
	assert_int_equal(pool->reserved, 0);
	fx_verify(&fx, a, shared, 512, 1);
	object_put(object);
}

// ---- Moving

static void to_a_free_page(void **state)
{
	(void)state;
	fill(1, 1);
	uint64_t buf = map(1);
	fx_fill(&fx, a, buf, 512, 1);
	fx_mark(&fx);
	assert_int_equal(fx_move(a, buf + 7 * PAGE_SIZE, 1, 1), 0); // a tail address
	fx_all_on(a, buf, 512, 1);
	fx_verify(&fx, a, buf, 512, 1);
	assert_int_equal(fx_since(&fx, VM_PGMIGRATE_SUCCESS), 512);
	assert_int_equal(fx_since(&fx, VM_HTLB_BUDDY_ALLOC_SUCCESS), 0);
	assert_int_equal(pool->free_node[0], 1);
	assert_int_equal(pool->free_node[1], 0);
}

static void to_a_temporary_page_with_the_surplus(void **state)
{
	(void)state;
	hugetlb_set_overcommit(&h, pool, 1);
	uint64_t buf = map(1);
	fx_fill(&fx, a, buf, 512, 1);
	assert_int_equal(pool->surplus_node[0], 1);
	assert_int_equal(fx_move(a, buf, 1, 1), 0);
	assert_int_equal(pool->nr_node[0], 0);
	assert_int_equal(pool->nr_node[1], 1);
	assert_int_equal(pool->surplus_node[0], 0);
	assert_int_equal(pool->surplus_node[1], 1);
	fx_verify(&fx, a, buf, 512, 1);
	assert_true(mark_was_hit("hugetlb_temporary_target"));
}

static void not_to_a_promised_page(void **state)
{
	struct task *b = fx_task(&fx, 1);
	uint64_t buf, other;

	(void)state;
	fill(1, 1);
	buf = map(1);
	fx_fill(&fx, a, buf, 512, 1);
	fx_ok(try_map(b, 1, RW, NULL, &other));
	assert_int_equal(fx_move(a, buf, 1, 1), 0);
	assert_int_equal(pool->nr_node[1], 2);
	assert_int_equal(pool->free_node[1], 1);
	fx_ok(touch(b, other, true));
	fx_verify(&fx, a, buf, 512, 1);
	task_exit(b);
}

static void without_any_target(void **state)
{
	struct hugetlb_pool *p = pool;

	(void)state;
	fill(1, 0);
	uint64_t buf = map(1);
	fx_fill(&fx, a, buf, 512, 1);
	hugetlb_resize(&h, p, 100, nodemask_of(1), true); // all that node 1 has
	uint64_t all = map(p->nr_free);
	assert_int_equal(fx_move(a, buf, 1, 1), -ENOMEM);
	fx_verify(&fx, a, buf, 512, 1);
	fx_all_on(a, buf, 512, 0);
	(void)all;
}

static void shared_and_pinned(void **state)
{
	struct task *b;
	struct pin *pin;

	(void)state;
	fill(1, 1);
	uint64_t buf = map(1);
	fx_fill(&fx, a, buf, 512, 1);
	fx_ok(pin_pages(a->space, a, buf, PAGE_SIZE, "test", &pin));
	assert_int_equal(fx_move(a, buf, 1, 1), 1);
	unpin_pages(pin);
	b = fork_a();
	fx_verify(&fx, b, buf, 512, 1);
	struct fx_move mv;
	fx_move_alloc(&mv, buf, 1, 1);
	fx_move_run(&mv, a, 0, MBIND_MOVE);
	assert_int_equal(mv.status[0], -EACCES);
	fx_move_run(&mv, a, 0, MBIND_MOVE_ALL);
	assert_int_equal(mv.status[0], 1);
	fx_move_free(&mv);
	fx_verify(&fx, a, buf, 512, 1);
	fx_verify(&fx, b, buf, 512, 1);
	assert_ptr_equal(fx_folio(a, buf), fx_folio(b, buf));
	task_exit(b);
}

static void of_an_object(void **state)
{
	struct object *object;
	uint64_t one, two;

	(void)state;
	fill(1, 1);
	fx_ok(hugetlb_object_create(&h, "o", HUGE, PMD_SHIFT, &object));
	fx_ok(try_map(a, 1, RW | VM_SHARED, object, &one));
	fx_fill(&fx, a, one, 512, 1);
	assert_int_equal(fx_move(a, one, 1, 1), 0);
	fx_verify(&fx, a, one, 512, 1);
	fx_ok(try_map(a, 1, RW | VM_SHARED, object, &two));
	fx_ok(touch(a, two, false));
	assert_ptr_equal(fx_folio(a, one), fx_folio(a, two));
	assert_int_equal(fx_where(a, two), 1);
	object_put(object);
}

static void after_mremap_and_mprotect(void **state)
{
	uint64_t to;

	(void)state;
	fill(2, 2);
	uint64_t buf = map(2);
	fx_fill(&fx, a, buf, 1024, 1);
	assert_int_equal(space_remap(a->space, NULL, buf, 2 * HUGE, 3 * HUGE, 0, false, &to), -EINVAL);
	fx_ok(space_remap(a->space, NULL, buf, 2 * HUGE, 2 * HUGE, 0, false, &to));
	buf = to;
	fx_ok(space_protect(a->space, buf + HUGE, HUGE, VM_READ));
	assert_int_equal(fx_move(a, buf, 1, 1), 0);
	assert_int_equal(fx_move(a, buf + HUGE, 1, 1), 0);
	assert_int_equal(touch(a, buf + HUGE, true), -EFAULT);
	fx_ok(space_protect(a->space, buf, 2 * HUGE, VM_READ | VM_WRITE));
	fx_ok(touch(a, buf + HUGE, true));
}

// ---- Every failure

static int story(void)
{
	uint64_t buf, shared;
	struct object *object;
	struct task *b = NULL;
	int err;

	hugetlb_set_overcommit(&h, pool, 1);
	hugetlb_resize(&h, pool, 3, fx.phys.has_memory, false);
	err = hugetlb_object_create(&h, "o", HUGE, PMD_SHIFT, &object);
	if (err)
		return err;
	err = try_map(a, 1, RW | VM_SHARED, object, &shared);
	if (!err)
		err = touch(a, shared, true);
	if (!err)
		err = try_map(a, 2, RW, NULL, &buf);
	if (!err)
		err = touch(a, buf, true);
	if (!err)
		err = task_fork(a, 0, &b);
	if (!err)
		err = touch(b, buf, true);
	if (!err)
		err = touch(a, buf, true);
	if (!err)
		err = fx_move(a, buf, 1, 1) < 0 ? -ENOMEM : 0;
	if (!err)
		err = fx_move(a, shared, 1, 1) < 0 ? -ENOMEM : 0;
	if (b)
		task_exit(b);
	object_put(object);
	return err;
}

static void sweep_kind(enum fault_kind kind)
{
	bool hit = true;

	for (uint64_t n = 0; hit; n++) {
		fault_arm(kind, FI_THREAD, n, 1);
		int err = story();
		hit = fault_disarm(kind);
		if (!hit && err)
			fail_msg("without a failure: %d", err);
		check();
		task_exit(a);
		a = fx_task(&fx, 0);
		hugetlb_resize(&h, pool, 0, fx.phys.has_memory, false);
		assert_int_equal(pool->nr, 0);
		assert_int_equal(pool->reserved, 0);
	}
}

static void every_failure_leaves_the_books_in_order(void **state)
{
	(void)state;
	sweep_kind(FI_META);
	sweep_kind(FI_ALLOC);
	sweep_kind(FI_FREEZE);
	sweep_kind(FI_TRYLOCK);
}

// ---- 1 GiB

static void gigantic_pages(void **state)
{
	struct hugetlb_pool *gigantic = &h.pool[HUGETLB_1G];
	struct map_request rq = {.len = PUD_SIZE, .flags = RW, .addr = 16ull << 40, .fixed = true};
	const uint64_t stride = 37 * PMD_SIZE + 3 * PAGE_SIZE;
	struct frame *damaged;
	unsigned left; // the node of the page that was promised
	struct task *b;
	uint64_t addr;

	(void)state;
	if ((uint64_t)sysconf(_SC_AVPHYS_PAGES) * PAGE_SIZE < 6 * PUD_SIZE) {
		print_message("less than 6 GiB are free\n");
		skip();
	}
	hugetlb_resize(&h, gigantic, 1, nodemask_of(0), true);
	hugetlb_resize(&h, gigantic, 1, nodemask_of(1), true);
	assert_int_equal(gigantic->nr, 2);
	fx_ok(hugetlb_map(a, &rq, PUD_SHIFT, &addr));
	for (uint64_t at = 0; at < PUD_SIZE; at += stride)
		fx_fill(&fx, a, addr + at, 1, 1);
	assert_int_equal(gigantic->nr_free, 1);
	assert_int_equal(space_unmap(a->space, addr + PMD_SIZE, PMD_SIZE), -EINVAL);
	fx_mark(&fx);
	assert_int_equal(fx_move(a, addr + 5 * PMD_SIZE, 1, 1), 0);
	assert_int_equal(fx_since(&fx, VM_PGMIGRATE_SUCCESS), 262144);
	check();
	b = fork_a();
	for (uint64_t at = 0; at < PUD_SIZE; at += stride) {
		fx_verify(&fx, a, addr + at, 1, 1);
		fx_verify(&fx, b, addr + at, 1, 1);
		assert_int_equal(fx_where(a, addr + at), 1);
	}
	fx_ok(touch(b, addr + 3 * PMD_SIZE, true)); // a copy
	assert_int_equal(fx_where(b, addr), 0);
	assert_int_equal(fx_move(a, addr, 1, 0), -ENOMEM);
	check();
	task_exit(b);
	fx_ok(space_unmap(a->space, addr, PUD_SIZE));
	assert_int_equal(gigantic->nr_free, 2);
	// Demotion leaves what is promised, and what is damaged.
	fx_ok(hugetlb_map(a, &rq, PUD_SHIFT, &addr));
	fx_ok(hugetlb_demote(&h, gigantic, pool, 5, fx.phys.has_memory));
	assert_int_equal(gigantic->nr, 1);
	assert_int_equal(gigantic->max, 1);
	assert_int_equal(pool->nr_free, PTRS_PER_TABLE);
	assert_int_equal(pool->max, PTRS_PER_TABLE);
	check();
	fx_ok(touch(a, addr, true));
	fx_ok(space_unmap(a->space, addr, PUD_SIZE));
	left = hugetlb_read(&gigantic->free_node[1]);
	damaged = folio_frame(folio_list_first(&gigantic->free[left]), 77);
	frame_set_hwpoison(damaged);
	assert_int_equal(hugetlb_demote(&h, gigantic, pool, 1, fx.phys.has_memory), -EBUSY);
	frame_clear_hwpoison(damaged);
	fx_ok(hugetlb_demote(&h, gigantic, pool, 1, nodemask_of(!left)));
	assert_int_equal(gigantic->nr, 1);
	fx_ok(hugetlb_demote(&h, gigantic, pool, 1, nodemask_of(left)));
	assert_int_equal(gigantic->nr, 0);
	assert_int_equal(pool->free_node[0], PTRS_PER_TABLE);
	assert_int_equal(pool->free_node[1], PTRS_PER_TABLE);
	check();
}

static int setup_large(void **state)
{
	(void)state;
	fx_open(&fx, 2, 2200);
	hugetlb_init(&h, &fx.mm);
	pool = &h.pool[HUGETLB_2M];
	a = fx_task(&fx, 0);
	return 0;
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(nodes_give_pages_in_turn),
		T(a_node_with_less_than_no_pages),
		T(growing_falls_short_and_says_why),
		T(pages_in_use_become_surplus),
		T(promised_pages_stay_when_the_pool_shrinks),
		T(a_mapping_needs_its_pages),
		T(parts_of_a_mapping_give_back_what_is_theirs),
		T(a_page_given_up_is_promised_again),
		T(a_page_on_its_way_back_is_waited_for),
		T(an_object_is_promised_its_pages_once),
		T(surplus_pages_cover_a_promise),
		T(a_page_that_could_not_be_mapped_stays_promised),
		T(wrong_requests),
		T(a_copy_comes_from_what_the_pool_can_spare),
		T(the_parent_keeps_its_page),
		T(a_child_without_promise_gets_the_signal),
		T(a_pinned_page_is_copied_by_fork),
		T(a_page_on_its_way_is_not_missed_by_fork),
		T(a_private_mapping_of_an_object),
		T(to_a_free_page),
		T(to_a_temporary_page_with_the_surplus),
		T(not_to_a_promised_page),
		T(without_any_target),
		T(shared_and_pinned),
		T(of_an_object),
		T(after_mremap_and_mprotect),
		T(every_failure_leaves_the_books_in_order),
		cmocka_unit_test_setup_teardown(gigantic_pages, setup_large, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
