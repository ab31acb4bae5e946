// SPDX-License-Identifier: MIT
// Failures on demand, and the marks of rare branches.
#include "unit.h"

#include "base/fault_inject.h"
#include "base/mark.h"

#include <pthread.h>

// Which of the next eight calls fail, as a string of digits.
static const char *pattern(enum fault_kind kind)
{
	static char text[9];

	for (int i = 0; i < 8; i++)
		text[i] = fault_should_fail(kind) ? '1' : '0';
	return text;
}

static void test_nth_call(void **state maybe_unused)
{
	assert_string_equal(pattern(FI_META), "00000000");
	fault_arm(FI_META, FI_PROCESS, 2, 1);
	assert_string_equal(pattern(FI_META), "00100000");
	assert_int_equal(fault_calls(FI_META), 8);
	assert_true(fault_disarm(FI_META));
	assert_false(fault_disarm(FI_META));
	fault_arm(FI_META, FI_THREAD, 3, 2);
	assert_string_equal(pattern(FI_ALLOC), "00000000");
	assert_string_equal(pattern(FI_META), "00011000");
	fault_arm(FI_META, FI_THREAD, 0, FI_ALWAYS);
	assert_string_equal(pattern(FI_META), "11111111");
	fault_disarm_all();
	fault_arm(FI_META, FI_THREAD, 8, 1);
	assert_string_equal(pattern(FI_META), "00000000");
	assert_false(fault_disarm(FI_META));
	assert_string_equal(pattern(FI_META), "00000000");
}

static void *call_in_thread(void *arg)
{
	bool *failed = arg;

	*failed = fault_should_fail(FI_TRYLOCK);
	return NULL;
}

static bool other_thread_fails(void)
{
	pthread_t thread;
	bool failed = false;

	assert_int_equal(pthread_create(&thread, NULL, call_in_thread, &failed), 0);
	pthread_join(thread, NULL);
	return failed;
}

static void test_scopes(void **state maybe_unused)
{
	fault_arm(FI_TRYLOCK, FI_THREAD, 0, FI_ALWAYS);
	assert_false(other_thread_fails());
	assert_true(fault_should_fail(FI_TRYLOCK));
	fault_disarm_all();
	fault_arm(FI_TRYLOCK, FI_PROCESS, 1, 1);
	assert_false(fault_should_fail(FI_TRYLOCK));
	assert_true(other_thread_fails());
	assert_true(fault_disarm(FI_TRYLOCK));
}

static void test_syscall(void **state maybe_unused)
{
	fault_arm(FI_SYSCALL, FI_THREAD, 1, 1);
	assert_int_equal(fault_syscall(EIO, -1, 7), 7);
	errno = 0;
	assert_int_equal(fault_syscall(EIO, -1, 7), -1);
	assert_int_equal(errno, EIO);
	fault_disarm_all();
	assert_string_equal(fault_kind_name(FI_SYSCALL), "host system call");
}

static int take_branch(bool rare)
{
	if (rare)
		MARK(test_rare);
	else
		MARK(test_usual);
	return 0;
}

static int marks_seen, marks_hit;

static void count_mark(const struct mark *m, bool hit, void *arg)
{
	assert_ptr_equal(arg, &marks_seen);
	if (strncmp(m->name, "test_", 5) != 0)
		return;
	assert_non_null(strstr(m->file, "fault_inject_test.c"));
	assert_true(m->line > 0);
	marks_seen++;
	marks_hit += hit;
}

static void test_marks(void **state maybe_unused)
{
	mark_reset_all();
	assert_false(mark_was_hit("test_usual"));
	take_branch(false);
	assert_true(mark_was_hit("test_usual"));
	assert_false(mark_was_hit("test_rare"));
	mark_for_each(count_mark, &marks_seen);
	assert_int_equal(marks_seen, 2);
	assert_int_equal(marks_hit, 1);
	take_branch(true);
	assert_true(mark_was_hit("test_rare"));
	assert_false(mark_was_hit("no such mark"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_nth_call),
		cmocka_unit_test(test_scopes),
		cmocka_unit_test(test_syscall),
		cmocka_unit_test(test_marks),
	};

#ifndef GODWIT_DEBUG
	printf("skipped: fault injection needs -Ddebug_checks=true\n");
	return SKIP_TEST;
#endif
	return cmocka_run_group_tests(tests, NULL, NULL);
}
