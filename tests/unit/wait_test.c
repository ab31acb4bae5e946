// SPDX-License-Identifier: MIT
// Wait queues: no wake is lost, in seeded orders and with real threads; keys that share a bucket
// do not disturb each other; a wake_one() is never wasted; timeouts.
#include "unit.h"

#include "base/lock.h"
#include "base/sched.h"
#include "base/wait.h"

#include <errno.h>
#include <pthread.h>

#define SEEDS 200
#define THREADS 4
#define TURNS 300

// A token goes round; each thread waits for its turn. A lost wake is a deadlock.
static _Atomic unsigned turn;
static unsigned nthreads, turns;

static void take_turns(void *arg maybe_unused, unsigned index)
{
	for (unsigned i = 0; i < turns; i++) {
		int err = wait_until(&turn, atomic_load(&turn) % nthreads == index, WAIT_FOREVER);

		must_hold(err == 0, "%d", err);
		atomic_fetch_add(&turn, 1);
		wake_all(&turn);
	}
}

static void test_no_wake_is_lost_seeded(void **state maybe_unused)
{
	uint64_t seed = test_seed();

	nthreads = 3;
	turns = 3;
	for (int i = 0; i < SEEDS; i++) {
		atomic_store(&turn, 0);
		sched_run(seed + (uint64_t)i, nthreads, take_turns, NULL);
		assert_int_equal(turn, nthreads * turns);
		assert_false(wait_queue_active(&turn));
	}
}

static void *turns_main(void *arg)
{
	take_turns(NULL, (unsigned)(uintptr_t)arg);
	return NULL;
}

static void test_no_wake_is_lost(void **state maybe_unused)
{
	pthread_t threads[THREADS];

	nthreads = THREADS;
	turns = TURNS;
	atomic_store(&turn, 0);
	for (uintptr_t i = 0; i < THREADS; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, turns_main, (void *)i), 0);
	for (int i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	assert_int_equal(turn, THREADS * TURNS);
}

// A bit lock with wake_one: a wasted wake leaves a waiter asleep on a free lock.
static _Atomic int held;
static int inside, entries;

static bool try_bit(void *arg maybe_unused)
{
	return !atomic_exchange(&held, 1);
}

static void use_bit_lock(void *arg maybe_unused, unsigned index maybe_unused)
{
	for (int i = 0; i < 3; i++) {
		int err = wait_for(&held, try_bit, NULL, WAIT_FOREVER);

		must_hold(err == 0 && inside == 0, "%d, %d inside", err, inside);
		inside++;
		entries++;
		sched_point();
		inside--;
		atomic_store(&held, 0);
		wake_one(&held);
	}
}

static void test_wake_one_seeded(void **state maybe_unused)
{
	uint64_t seed = test_seed();

	for (int i = 0; i < SEEDS; i++) {
		entries = 0;
		sched_run(seed + (uint64_t)i, 4, use_bit_lock, NULL);
		assert_int_equal(entries, 12);
	}
}

static char keys[4096];

// Another key of the same bucket, found by trying: all share one of 256.
static struct waiter first, second, third;

static void test_order_and_cancel(void **state maybe_unused)
{
	wait_prepare(&first, keys);
	wait_prepare(&second, keys);
	wait_prepare(&third, keys + 1);
	assert_true(wait_queue_active(keys));
	wake_one(keys);
	assert_int_not_equal(first.woken, 0);
	assert_int_equal(second.woken, 0);
	// The first does not want it any more: the second gets it.
	wait_cancel(&first);
	assert_int_not_equal(second.woken, 0);
	assert_int_equal(third.woken, 0);
	assert_int_equal(wait_sleep(&second, WAIT_FOREVER), 0);
	assert_false(wait_queue_active(keys));
	wake_all(keys);
	assert_true(wait_queue_active(keys + 1));
	wait_cancel(&third);
	assert_false(wait_queue_active(keys + 1));
}

static void test_keys_do_not_mix(void **state maybe_unused)
{
	static struct waiter waiters[sizeof(keys)];

	// 4096 keys in 256 buckets.
	for (size_t i = 0; i < sizeof(keys); i++)
		wait_prepare(&waiters[i], &keys[i]);
	for (size_t i = 0; i < sizeof(keys); i += 2)
		wake_all(&keys[i]);
	for (size_t i = 0; i < sizeof(keys); i++)
		assert_int_equal(waiters[i].woken != 0, i % 2 == 0);
	for (size_t i = 1; i < sizeof(keys); i += 2)
		wait_cancel(&waiters[i]);
}

static void test_wake_all_is_all(void **state maybe_unused)
{
	static struct waiter waiters[100];

	for (size_t i = 0; i < ARRAY_SIZE(waiters); i++)
		wait_prepare(&waiters[i], keys);
	wake_all(keys);
	for (size_t i = 0; i < ARRAY_SIZE(waiters); i++)
		assert_int_equal(wait_sleep(&waiters[i], 0), 0);
}

static void test_timeout(void **state maybe_unused)
{
	uint64_t before = wait_clock_ns();
	struct waiter w;

	wait_prepare(&w, keys);
	errno = 77;
	assert_int_equal(wait_sleep(&w, 20000000), -ETIMEDOUT);
	assert_int_equal(errno, 77);
	assert_true(wait_clock_ns() - before >= 20000000);
	assert_false(wait_queue_active(keys));
	assert_int_equal(wait_until(keys, false, 0), -ETIMEDOUT);
	assert_int_equal(wait_until(keys, true, 0), 0);
	assert_true(wait_deadline(WAIT_FOREVER) == WAIT_FOREVER);
	assert_true(wait_deadline(WAIT_FOREVER - 1) == WAIT_FOREVER);
	assert_int_equal(wait_remaining(1), 0);
}

// A time-out against a wake, in every order: whichever wins, nothing is left behind.
static _Atomic int go;
static int timed_out;

static void impatient(void *arg maybe_unused, unsigned index)
{
	if (index == 0) {
		if (wait_until(&go, atomic_load(&go), 5) == -ETIMEDOUT)
			timed_out++;
	} else {
		// Time passes only while all wait.
		(void)!wait_until(keys, false, 5 + index);
		atomic_store(&go, 1);
		wake_all(&go);
	}
}

static void test_timeout_seeded(void **state maybe_unused)
{
	for (uint64_t seed = 0; seed < SEEDS; seed++) {
		atomic_store(&go, 0);
		sched_run(seed, 2, impatient, NULL);
		assert_false(wait_queue_active(&go));
	}
	assert_true(timed_out > 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_no_wake_is_lost_seeded),
		cmocka_unit_test(test_no_wake_is_lost),
		cmocka_unit_test(test_wake_one_seeded),
		cmocka_unit_test(test_order_and_cancel),
		cmocka_unit_test(test_keys_do_not_mix),
		cmocka_unit_test(test_wake_all_is_all),
		cmocka_unit_test(test_timeout),
		cmocka_unit_test(test_timeout_seeded),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
