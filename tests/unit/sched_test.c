// SPDX-License-Identifier: MIT
// Seeded interleaving: a seed repeats its run exactly, different seeds find different orders, a
// lost update is found, a deadlock is reported with its seed, time is virtual.
#include "unit.h"

#include "base/assert.h"
#include "base/lock.h"
#include "base/sched.h"
#include "base/wait.h"

#include <errno.h>

#define SEEDS 60

static struct mutex low = MUTEX_INIT(LRU), high = MUTEX_INIT(ZONE);
static struct rwlock rwlock = RWLOCK_INIT(MMAP);
static char order[256];
static size_t order_len;

static void note(unsigned index)
{
	order[order_len++] = (char)('a' + index);
	order[order_len] = '\0';
}

static NO_THREAD_SAFETY_ANALYSIS void worker(void *arg maybe_unused, unsigned index)
{
	for (int i = 0; i < 4; i++) {
		if (index == 0)
			write_lock(&rwlock);
		else
			read_lock(&rwlock);
		mutex_lock(&low);
		note(index);
		mutex_lock(&high);
		mutex_unlock(&high);
		mutex_unlock(&low);
		if (index == 0)
			write_unlock(&rwlock);
		else
			read_unlock(&rwlock);
	}
}

static uint64_t run(uint64_t seed, char *copy)
{
	order_len = 0;
	sched_run(seed, 4, worker, NULL);
	assert_int_equal(order_len, 16);
	strcpy(copy, order);
	return sched_history();
}

static void test_repeats(void **state maybe_unused)
{
	uint64_t seed = test_seed();
	char first[64], second[64], previous[64] = "";
	int different = 0;

	for (int i = 0; i < SEEDS; i++, seed++) {
		uint64_t history = run(seed, first);

		assert_true(sched_steps() > 16);
		assert_true(history == run(seed, second));
		assert_string_equal(first, second);
		different += strcmp(first, previous) != 0;
		strcpy(previous, first);
	}
	assert_true(different > SEEDS / 2);
}

// Reads, lets others run, writes: an update is lost in some orders but not in all.
static int shared;

static void lose_update(void *arg maybe_unused, unsigned index maybe_unused)
{
	int value = __atomic_load_n(&shared, __ATOMIC_RELAXED);

	sched_point();
	__atomic_store_n(&shared, value + 1, __ATOMIC_RELAXED);
}

static void test_finds_lost_update(void **state maybe_unused)
{
	int lost = 0;

	for (uint64_t seed = 0; seed < SEEDS; seed++) {
		shared = 0;
		sched_run(seed, 2, lose_update, NULL);
		lost += shared == 1;
	}
	assert_true(lost > 0 && lost < SEEDS);
}

#if HAVE_TSAN
// The baton must not hide a race: these two never run at once.
static void race(void *arg maybe_unused, unsigned index maybe_unused)
{
	shared++;
	sched_point();
}

static void run_race(void *arg maybe_unused)
{
	sched_run(1, 2, race, NULL);
}

static void test_race_shows(void **state maybe_unused)
{
	assert_aborts(run_race, NULL, "data race");
}
#endif

static void keep_update(void *arg maybe_unused, unsigned index maybe_unused)
{
	mutex_lock(&low);
	shared++;
	sched_point();
	mutex_unlock(&low);
}

static void test_lock_excludes(void **state maybe_unused)
{
	for (uint64_t seed = 0; seed < SEEDS; seed++) {
		shared = 0;
		sched_run(seed, 32, keep_update, NULL);
		assert_int_equal(shared, 32);
	}
}

// Locks in opposite orders; trylock gets past the check of the order, the wait for a key does not
// have one.
static atomic_bool flags[2];

static void cross(void *arg maybe_unused, unsigned index)
{
	(void)!wait_until(&flags[index], flags[index], WAIT_FOREVER);
	flags[!index] = true;
	wake_all(&flags[!index]);
}

static void deadlock(void *arg)
{
	sched_run(*(uint64_t *)arg, 2, cross, NULL);
}

static void test_deadlock_is_reported(void **state maybe_unused)
{
	uint64_t seed = 0xabc;

	flags[0] = flags[1] = false;
	assert_aborts(deadlock, &seed, "deadlock, seed 0xabc");
	flags[0] = true;
	deadlock(&seed);
}

static uint64_t woke_at[3];

static void sleeper(void *arg maybe_unused, unsigned index)
{
	uint64_t timeout[] = {3600000000000, 1000000000, 60000000000};
	int err = wait_until(&woke_at[index], false, timeout[index]);

	assert_int_equal(err, -ETIMEDOUT);
	woke_at[index] = sched_now();
}

static void test_time_is_virtual(void **state maybe_unused)
{
	time_t before = time(NULL);

	for (uint64_t seed = 0; seed < 10; seed++) {
		sched_run(seed, 3, sleeper, NULL);
		assert_true(woke_at[1] < woke_at[2] && woke_at[2] < woke_at[0]);
		assert_int_equal(woke_at[0] - woke_at[1], 3599000000000);
	}
	assert_true(time(NULL) - before < 1000);
}

// ---- Threads that come and go

static char letters[] = "abcd";

static void *note_thrice(void *arg)
{
	for (int i = 0; i < 3; i++) {
		mutex_lock(&low);
		note((unsigned)((char *)arg - letters));
		mutex_unlock(&low);
	}
	return NULL;
}

// Two threads, and two more in the places of those that were joined; the maker takes part.
static uint64_t come_and_go(uint64_t seed, char *copy)
{
	pthread_t thread[2];

	order_len = 0;
	sched_begin(seed, 100);
	for (unsigned i = 0; i < 4; i += 2) {
		for (unsigned k = 0; k < 2; k++)
			assert_int_equal(
				sched_thread_create(&thread[k], note_thrice, &letters[i + k]), 0);
		mutex_lock(&low);
		note(4);
		mutex_unlock(&low);
		for (unsigned k = 0; k < 2; k++)
			sched_thread_join(thread[k]);
	}
	assert_true(sched_now() >= 1000000000 + 100 * 20);
	assert_true(sched_seed() == seed);
	sched_end();
	assert_int_equal(order_len, 14);
	strcpy(copy, order);
	return sched_history();
}

static void test_come_and_go(void **state maybe_unused)
{
	uint64_t seed = test_seed();
	char first[64], second[64], previous[64] = "";
	int different = 0;

	for (int i = 0; i < SEEDS; i++, seed++) {
		uint64_t history = come_and_go(seed, first);

		assert_true(history == come_and_go(seed, second));
		assert_string_equal(first, second);
		different += strcmp(first, previous) != 0;
		strcpy(previous, first);
	}
	assert_true(different > SEEDS / 2);
}

static atomic_bool enough;

static void *be_busy(void *arg maybe_unused)
{
	while (!atomic_load(&enough))
		sched_point();
	return NULL;
}

// Who waits for a time comes to it though another thread never stops working.
static void test_steps_take_time(void **state maybe_unused)
{
	pthread_t thread;

	for (uint64_t seed = 0; seed < 10; seed++) {
		atomic_store(&enough, false);
		sched_begin(seed, 250);
		assert_int_equal(sched_thread_create(&thread, be_busy, NULL), 0);
		uint64_t begin = sched_now();
		assert_int_equal(wait_until(&shared, false, 1000000), -ETIMEDOUT);
		assert_true(sched_now() - begin >= 1000000);
		assert_true(sched_steps() >= 1000000 / 250);
		atomic_store(&enough, true);
		sched_thread_join(thread);
		sched_end();
	}
}

static void *do_nothing(void *arg)
{
	return arg;
}

static void test_too_many_threads(void **state maybe_unused)
{
	pthread_t thread[SCHED_MAX_THREADS], one_more;

	sched_begin(1, 0);
	for (unsigned i = 1; i < SCHED_MAX_THREADS; i++)
		assert_int_equal(sched_thread_create(&thread[i], do_nothing, NULL), 0);
	assert_int_equal(sched_thread_create(&one_more, do_nothing, NULL), EAGAIN);
	for (unsigned i = 1; i < SCHED_MAX_THREADS; i++)
		sched_thread_join(thread[i]);
	sched_end();
	assert_int_equal(sched_thread_create(&one_more, do_nothing, NULL), 0); // as any thread
	sched_thread_join(one_more);
}

static void fail_in_run(void *arg maybe_unused)
{
	sched_begin(4711, 0);
	must_hold(shared < 0, "on purpose");
}

static void test_assertion_tells_seed(void **state maybe_unused)
{
	shared = 0;
	assert_aborts(fail_in_run, NULL, "the seed 4711");
}

static void by_hand(void *arg, unsigned index)
{
	(void)arg;
	(void)index;
	assert_true(sched_active());
}

static void test_off(void **state maybe_unused)
{
	sched_run(1, 1, by_hand, NULL);
	assert_false(sched_active());
	sched_point();
	sched_wake(&shared);
	mutex_lock(&low);
	mutex_unlock(&low);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_repeats),
		cmocka_unit_test(test_finds_lost_update),
#if HAVE_TSAN
		cmocka_unit_test(test_race_shows),
#endif
		cmocka_unit_test(test_lock_excludes),
		cmocka_unit_test(test_deadlock_is_reported),
		cmocka_unit_test(test_time_is_virtual),
		cmocka_unit_test(test_come_and_go),
		cmocka_unit_test(test_steps_take_time),
		cmocka_unit_test(test_too_many_threads),
		cmocka_unit_test(test_assertion_tells_seed),
		cmocka_unit_test(test_off),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
