// SPDX-License-Identifier: MIT
// mbind(2) with STRICT, MOVE and MOVE_ALL: which pages move, where to, and what EIO means.
#include "../support/machine_fixture.h"

#include "virt/mempolicy.h"

#include <errno.h>

static struct fx fx;
static struct task *a;
static uint64_t buf;

#define PAGES 8
#define LEN (PAGES * PAGE_SIZE)

static int setup(void **state)
{
	(void)state;
	fx_open(&fx, 4, 16);
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

static long bind_to(int mode, unsigned long nodes, unsigned flags)
{
	return mbind_range(a, buf, LEN, mode, &nodes, 65, flags, NULL);
}

static void policy_text(char *text, size_t size)
{
	struct mempolicy *policy;

	read_lock(&a->space->mmap_lock);
	policy = vma_own_policy_get(vma_lookup(a->space, buf), buf);
	read_unlock(&a->space->mmap_lock);
	mempolicy_format(policy, text, size);
	mempolicy_put(policy);
}

static void assert_policy(const char *expected)
{
	char text[POLICY_TEXT_MAX];

	policy_text(text, sizeof(text));
	assert_string_equal(text, expected);
}

static void without_flags_pages_stay(void **state)
{
	(void)state;
	assert_int_equal(bind_to(POLICY_BIND, 2, 0), 0);
	fx_all_on(a, buf, PAGES, 0);
	assert_policy("bind:1");
}

static void strict_alone_refuses_and_sets_nothing(void **state)
{
	(void)state;
	assert_int_equal(bind_to(POLICY_BIND, 2, MBIND_STRICT), -EIO);
	assert_policy("default");
	assert_int_equal(bind_to(POLICY_BIND, 1, MBIND_STRICT), 0);
	assert_policy("bind:0");
}

static void move_moves(void **state)
{
	(void)state;
	assert_int_equal(bind_to(POLICY_BIND, 4, MBIND_MOVE | MBIND_STRICT), 0);
	fx_all_on(a, buf, PAGES, 2);
	fx_verify(&fx, a, buf, PAGES, 1);
}

static void an_interleave_goes_by_page_offset(void **state)
{
	int first;

	(void)state;
	assert_int_equal(bind_to(POLICY_BIND, 8, MBIND_MOVE), 0);
	assert_int_equal(bind_to(POLICY_INTERLEAVE, 6, MBIND_MOVE), 0);
	first = fx_where(a, buf);
	for (unsigned i = 0; i < PAGES; i++)
		assert_int_equal(fx_where(a, buf + i * PAGE_SIZE), i % 2 ? 3 - first : first);
	fx_verify(&fx, a, buf, PAGES, 1);
}

static void what_stays_matters_only_with_strict(void **state)
{
	struct folio *held = fx_folio(a, buf);

	(void)state;
	folio_get(held);
	assert_int_equal(bind_to(POLICY_BIND, 2, MBIND_MOVE), 0);
	fx_all_on(a, buf + PAGE_SIZE, PAGES - 1, 1);
	assert_int_equal(bind_to(POLICY_BIND, 2, MBIND_MOVE | MBIND_STRICT), -EIO);
	assert_policy("bind:1"); // the policy is set all the same
	folio_put(held);
}

static void a_shared_page_is_passed_over(void **state)
{
	struct task *child;

	(void)state;
	fx_ok(task_fork(a, 0, &child));
	assert_int_equal(bind_to(POLICY_BIND, 2, MBIND_MOVE | MBIND_STRICT), 0);
	fx_all_on(a, buf, PAGES, 0);
	assert_int_equal(bind_to(POLICY_BIND, 2, MBIND_MOVE_ALL | MBIND_STRICT), 0);
	fx_all_on(a, buf, PAGES, 1);
	fx_all_on(child, buf, PAGES, 1);
	task_exit(child);
}

static void arguments(void **state)
{
	struct task *user;
	unsigned long one = 1;

	(void)state;
	fx_ok(task_create(&fx.mm, 1000, 0, &user));
	assert_int_equal(mbind_range(a, buf + 1, LEN, POLICY_BIND, &one, 65, 0, NULL), -EINVAL);
	assert_int_equal(mbind_range(a, buf, LEN, POLICY_BIND, &one, 65, 8, NULL), -EINVAL);
	assert_int_equal(mbind_range(a, buf, 0, POLICY_BIND, &one, 65, 0, NULL), 0);
	assert_int_equal(mbind_range(user, buf, LEN, POLICY_BIND, &one, 65, MBIND_MOVE_ALL, NULL),
		-EPERM);
	assert_int_equal(mbind_range(a, buf - LEN, 3 * LEN, POLICY_BIND, &one, 65, MBIND_MOVE, NULL),
		-EFAULT);
	task_exit(user);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(without_flags_pages_stay),
		T(strict_alone_refuses_and_sets_nothing),
		T(move_moves),
		T(an_interleave_goes_by_page_offset),
		T(what_stays_matters_only_with_strict),
		T(a_shared_page_is_passed_over),
		T(arguments),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
