// SPDX-License-Identifier: MIT
// move_pages(2): the order of its checks, statuses, batches, and what it returns when a batch
// fails.
#include "../support/machine_fixture.h"

#include <errno.h>

static struct fx fx;
static struct task *a;
static uint64_t buf;

#define PAGES 8
#define UNWRITTEN (-1000)

static int setup(void **state)
{
	(void)state;
	fx_open(&fx, 3, 32);
	a = fx_task(&fx, 0);
	buf = fx_map(a, PAGES);
	fx_fill(&fx, a, buf, PAGES, 1);
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

static struct move_request request(struct fx_move *mv)
{
	return (struct move_request){.caller = a, .count = mv->count, .pages = mv->pages,
		.nodes = mv->nodes, .status = mv->status, .flags = MBIND_MOVE, .why = mv->why};
}

static void calls_that_are_refused_as_a_whole(void **state)
{
	struct task *user, *other;
	struct fx_move mv;

	(void)state;
	fx_ok(task_create(&fx.mm, 1000, 0, &user));
	fx_ok(task_create(&fx.mm, 1001, 0, &other));
	fx_move_alloc(&mv, buf, 1, 1);
	struct {
		struct task *caller;
		int pid;
		unsigned flags;
		long expected;
	} row[] = {
		{a, 0, 1, -EINVAL},			 // MPOL_MF_STRICT is no flag of it
		{a, 0, 8, -EINVAL},			 // nor MPOL_MF_LAZY
		{user, 0, MBIND_MOVE_ALL, -EPERM},	 // flags before pid
		{user, 9999, MBIND_MOVE_ALL, -EPERM},
		{user, 9999, MBIND_MOVE, -ESRCH},
		{user, other->pid, MBIND_MOVE, -EPERM},
		{a, other->pid, MBIND_MOVE, 0},		 // privileged; the page is -EFAULT there
	};
	for (unsigned i = 0; i < ARRAY_SIZE(row); i++) {
		fx_move_run(&mv, row[i].caller, row[i].pid, row[i].flags);
		assert_int_equal(mv.ret, row[i].expected);
		if (row[i].expected) // nothing moved, and nothing says so
			assert_int_equal(mv.why[0],
				row[i].expected == -EPERM ? WHY_NO_PERMISSION : WHY_REFUSED);
	}
	assert_int_equal(mv.status[0], -EFAULT);
	assert_int_equal(mv.why[0], WHY_NO_VMA);
	fx_move_free(&mv);
	task_exit(user);
	task_exit(other);
}

// Page:    0        1        2      3         4       5        6
//          there    zero     none   no vma    moves   moves    shared
static void statuses_of_single_addresses(void **state)
{
	uint64_t untouched = fx_map(a, 2), x;
	struct task *child;
	uint64_t shared = fx_map(a, 1);
	struct fx_move mv;

	(void)state;
	fx_ok(fx_access(&fx, a, untouched, &x, sizeof(x), false)); // the zero page
	fx_fill(&fx, a, shared, 1, 5);
	fx_ok(space_protect(a->space, buf, PAGES * PAGE_SIZE, VM_READ | VM_WRITE));
	fx_ok(task_fork(a, 0, &child));
	fx_fill(&fx, a, buf, PAGES, 1); // a's own again
	fx_move_alloc(&mv, buf, 7, 1);
	mv.nodes[0] = 0;
	mv.pages[1] = untouched;
	mv.pages[2] = untouched + PAGE_SIZE;
	mv.pages[3] = 0x1000;
	mv.pages[6] = shared;
	fx_move_run(&mv, a, 0, MBIND_MOVE);
	assert_int_equal(mv.ret, 0);
	const int expected[] = {0, -EFAULT, -ENOENT, -EFAULT, 1, 1, -EACCES};
	const enum migrate_why why[] = {WHY_ALREADY_THERE, WHY_ZERO_PAGE, WHY_NOT_PRESENT,
		WHY_NO_VMA, WHY_MOVED, WHY_MOVED, WHY_SHARED};
	for (unsigned i = 0; i < 7; i++) {
		assert_int_equal(mv.status[i], expected[i]);
		assert_int_equal(mv.why[i], why[i]);
	}
	mv.nodes[6] = 0; // being there already comes before being shared
	mv.count = 7;
	fx_move_run(&mv, a, 0, MBIND_MOVE);
	assert_int_equal(mv.status[6], 0);
	fx_move_free(&mv);
	task_exit(child);
}

static void an_address_twice_is_busy(void **state)
{
	struct fx_move mv;

	(void)state;
	fx_move_alloc(&mv, buf, 3, 1);
	mv.pages[1] = mv.pages[0] + 100;
	fx_move_run(&mv, a, 0, MBIND_MOVE);
	assert_int_equal(mv.ret, 0);
	assert_int_equal(mv.status[0], 1);
	assert_int_equal(mv.status[1], -EBUSY);
	assert_int_equal(mv.why[1], WHY_NOT_ON_LRU);
	assert_int_equal(mv.status[2], 1);
	fx_move_free(&mv);
}

static void bad_nodes_end_the_call_after_what_was_queued(void **state)
{
	struct {
		int node;
		long expected;
	} row[] = {{-1, -ENODEV}, {3, -ENODEV}, {4096, -ENODEV}, {2, -EACCES}};

	(void)state;
	a->mems_allowed = (struct nodemask){3};
	for (unsigned i = 0; i < ARRAY_SIZE(row); i++) {
		struct fx_move mv;

		fx_move_alloc(&mv, buf, 4, 1 - (int)(i % 2));
		fx_fill(&fx, a, buf, PAGES, i);
		if (i == 0)
			assert_int_equal(fx_where(a, buf), 0);
		mv.nodes[2] = row[i].node;
		fx_move_run(&mv, a, 0, MBIND_MOVE);
		assert_int_equal(mv.ret, row[i].expected);
		assert_int_equal(mv.status[0], 1 - (int)(i % 2)); // queued before it: moved
		assert_int_equal(mv.status[1], 1 - (int)(i % 2));
		assert_int_equal(mv.status[2], UNWRITTEN);
		assert_int_equal(mv.status[3], UNWRITTEN);
		assert_int_equal(mv.why[2], row[i].expected == -EACCES ? WHY_NODE_NOT_ALLOWED :
									 WHY_NO_SUCH_NODE);
		assert_int_equal(mv.why[3], WHY_ABORTED);
		fx_move_free(&mv);
	}
}

static void arrays_that_cannot_be(void **state)
{
	struct fx_move mv;
	struct move_request rq;

	(void)state;
	fx_move_alloc(&mv, buf, 4, 1);
	rq = request(&mv);
	rq.pages = NULL;
	assert_int_equal(move_pages(&rq), -EFAULT);
	rq = request(&mv);
	rq.nodes = (int *)1;
	assert_int_equal(move_pages(&rq), -EFAULT);
	rq = request(&mv);
	rq.status = NULL;
	assert_int_equal(move_pages(&rq), -EFAULT); // the pages have moved
	fx_all_on(a, buf, 4, 1);
	rq.count = 0;
	assert_int_equal(move_pages(&rq), 0);
	rq = request(&mv);
	rq.nodes = NULL;
	rq.status = (int *)16;
	assert_int_equal(move_pages(&rq), -EFAULT);
	fx_move_free(&mv);
}

// Nodes:   1 1 2 2 2 1 1 1     page 3 is referenced: the second batch fails and ends the call.
static void a_batch_that_fails_ends_the_call(void **state)
{
	const int nodes[] = {1, 1, 2, 2, 2, 1, 1, 1};
	struct fx_move mv;
	struct folio *held = fx_folio(a, buf + 3 * PAGE_SIZE);

	(void)state;
	fx_move_alloc(&mv, buf, 8, 0);
	memcpy(mv.nodes, nodes, sizeof(nodes));
	folio_get(held);
	fx_move_run(&mv, a, 0, MBIND_MOVE);
	folio_put(held);
	assert_int_equal(mv.ret, 1 + 3); // one folio stayed, three addresses were not reached
	const int expected[] = {1, 1, UNWRITTEN, UNWRITTEN, UNWRITTEN, UNWRITTEN, UNWRITTEN,
		UNWRITTEN};
	const enum migrate_why why[] = {WHY_MOVED, WHY_MOVED, WHY_MOVED, WHY_EXTRA_REFERENCE,
		WHY_MOVED, WHY_ABORTED, WHY_ABORTED, WHY_ABORTED};
	const int where[] = {1, 1, 2, 0, 2, 0, 0, 0};
	for (unsigned i = 0; i < 8; i++) {
		assert_int_equal(mv.status[i], expected[i]);
		assert_int_equal(mv.why[i], why[i]);
		assert_int_equal(fx_where(a, buf + i * PAGE_SIZE), where[i]);
	}
	fx_move_free(&mv);
}

// Page 2 gets its status at once and ends the batch of pages 0 and 1, which fails.
static void the_address_that_ends_a_batch_is_counted_as_done(void **state)
{
	struct fx_move mv;
	struct folio *held = fx_folio(a, buf);

	(void)state;
	fx_move_alloc(&mv, buf, 5, 1);
	mv.pages[2] = 0x1000;
	folio_get(held);
	fx_move_run(&mv, a, 0, MBIND_MOVE);
	folio_put(held);
	assert_int_equal(mv.ret, 1 + 3 - 1);
	assert_int_equal(mv.status[2], -EFAULT);
	assert_int_equal(mv.status[3], UNWRITTEN);
	fx_move_free(&mv);
}

static char holder[64];
static void note(uint64_t index, enum migrate_why why, const char *text, void *arg)
{
	(void)arg;
	snprintf(holder, sizeof(holder), "%lu %d %s", index, why, text);
}

static void a_pin_says_who_holds_it(void **state)
{
	struct fx_move mv;
	struct move_request rq;
	struct pin *pin;
	char expected[64];

	(void)state;
	fx_ok(pin_pages(a->space, a, buf + 2 * PAGE_SIZE, PAGE_SIZE, "rdma0", &pin));
	fx_move_alloc(&mv, buf, 4, 1);
	rq = request(&mv);
	rq.detail = note;
	assert_int_equal(move_pages(&rq), 1);
	snprintf(expected, sizeof(expected), "2 %d rdma0", WHY_PINNED);
	assert_string_equal(holder, expected);
	unpin_pages(pin);
	fx_move_free(&mv);
}

static void sharing_says_how_often_it_is_mapped(void **state)
{
	struct move_request rq;
	struct fx_move mv;
	struct task *child;
	char expected[64];

	(void)state;
	fx_ok(task_fork(a, 0, &child));
	fx_move_alloc(&mv, buf, 1, 1);
	rq = request(&mv);
	rq.detail = note;
	assert_int_equal(move_pages(&rq), 0);
	assert_int_equal(mv.status[0], -EACCES);
	snprintf(expected, sizeof(expected), "0 %d mapped 2 times", WHY_SHARED);
	assert_string_equal(holder, expected);
	fx_move_free(&mv);
	task_exit(child);
}

static void a_query_touches_nothing(void **state)
{
	uint64_t untouched = fx_map(a, 40);
	struct fx_move mv;

	(void)state;
	fx_move_alloc(&mv, untouched, 40, 0);
	free(mv.nodes);
	mv.nodes = NULL;
	fx_mark(&fx);
	fx_move_run(&mv, a, 0, 0);
	assert_int_equal(mv.ret, 0);
	for (unsigned i = 0; i < 40; i++)
		assert_int_equal(mv.status[i], -ENOENT);
	assert_int_equal(fx_since(&fx, VM_PGFAULT), 0);
	fx_move_free(&mv);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(calls_that_are_refused_as_a_whole),
		T(statuses_of_single_addresses),
		T(an_address_twice_is_busy),
		T(bad_nodes_end_the_call_after_what_was_queued),
		T(arrays_that_cannot_be),
		T(a_batch_that_fails_ends_the_call),
		T(the_address_that_ends_a_batch_is_counted_as_done),
		T(a_pin_says_who_holds_it),
		T(sharing_says_how_often_it_is_mapped),
		T(a_query_touches_nothing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
