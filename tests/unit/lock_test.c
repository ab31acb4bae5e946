// SPDX-License-Identifier: MIT
// Locks: exclusion with real threads, the book of what is held, and each kind of inversion.
#include "unit.h"

#include "base/assert.h"
#include "base/fault_inject.h"
#include "base/lock.h"

#include <pthread.h>

#define ROUNDS 3000
#define THREADS 4

static struct mutex mutex = MUTEX_INIT(ZONE);
static struct rwlock rwlock = RWLOCK_INIT(MMAP);
static long counter, shadow;

static void *count_under_mutex(void *arg maybe_unused)
{
	for (int i = 0; i < ROUNDS; i++) {
		if (i % 3 || !mutex_trylock(&mutex))
			mutex_lock(&mutex);
		counter++;
		mutex_unlock(&mutex);
	}
	return NULL;
}

// The two must never be seen different.
static void *count_under_rwlock(void *arg)
{
	bool writer = arg != NULL;

	for (int i = 0; i < ROUNDS; i++) {
		if (writer) {
			if (i % 3 || !write_trylock(&rwlock))
				write_lock(&rwlock);
			counter++;
			shadow++;
			write_unlock(&rwlock);
		} else {
			if (i % 3 || !read_trylock(&rwlock))
				read_lock(&rwlock);
			must_hold(counter == shadow, "%ld != %ld", counter, shadow);
			read_unlock(&rwlock);
		}
	}
	return NULL;
}

static void run_threads(void *(*fn)(void *arg), int writers)
{
	pthread_t threads[THREADS];

	counter = 0;
	shadow = 0;
	for (int i = 0; i < THREADS; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, fn, i < writers ? &rwlock : NULL),
			0);
	for (int i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
}

static void test_exclusion(void **state maybe_unused)
{
	run_threads(count_under_mutex, 0);
	assert_int_equal(counter, THREADS * ROUNDS);
	run_threads(count_under_rwlock, 2);
	assert_int_equal(counter, 2 * ROUNDS);
}

static void *try_all(void *arg)
{
	bool *got = arg;

	memset(got, 0, 3 * sizeof(*got));
	if (mutex_trylock(&mutex)) {
		got[0] = true;
		mutex_unlock(&mutex);
	}
	if (read_trylock(&rwlock)) {
		got[1] = true;
		read_unlock(&rwlock);
	}
	if (write_trylock(&rwlock)) {
		got[2] = true;
		write_unlock(&rwlock);
	}
	return NULL;
}

static void expect_trylocks(bool mutex_free, bool read_free, bool write_free)
{
	bool got[3];
	pthread_t thread;

	assert_int_equal(pthread_create(&thread, NULL, try_all, got), 0);
	pthread_join(thread, NULL);
	assert_int_equal(got[0], mutex_free);
	assert_int_equal(got[1], read_free);
	assert_int_equal(got[2], write_free);
}

static NO_THREAD_SAFETY_ANALYSIS void test_trylock(void **state maybe_unused)
{
	mutex_lock(&mutex);
	mutex_assert_held(&mutex);
	assert_true(mutex_is_held(&mutex));
	assert_true(write_trylock(&rwlock));
	rwlock_assert_write_held(&rwlock);
	expect_trylocks(false, false, false);
	write_unlock(&rwlock);
	mutex_unlock(&mutex);
	read_lock(&rwlock);
	rwlock_assert_held(&rwlock);
	mutex_lock(&mutex);
	expect_trylocks(false, true, false);
	mutex_unlock(&mutex);
	read_unlock(&rwlock);
}

static void test_init(void **state maybe_unused)
{
	struct mutex m;
	struct rwlock l;

	assert_true(sizeof(m) <= 48);
	mutex_init(&m, RANK_LRU);
	rwlock_init(&l, RANK_MMAP);
	write_lock(&l);
	mutex_lock(&m);
	mutex_unlock(&m);
	write_unlock(&l);
	mutex_destroy(&m);
	rwlock_destroy(&l);
}

#ifdef GODWIT_DEBUG

static void test_book(void **state maybe_unused)
{
	assert_false(mutex_is_held(&mutex));
	assert_false(rwlock_is_held(&rwlock));
	read_lock(&rwlock);
	mutex_lock(&mutex);
	assert_int_equal(lock_rank_held_count(), 2);
	assert_true(rwlock_is_held(&rwlock));
	assert_false(rwlock_is_write_held(&rwlock));
	read_unlock(&rwlock); // not in the order of a stack
	assert_false(rwlock_is_held(&rwlock));
	assert_true(mutex_is_held(&mutex));
	mutex_unlock(&mutex);
	lock_assert_none_held();
}

static NO_THREAD_SAFETY_ANALYSIS void test_injected_trylock(void **state maybe_unused)
{
	fault_arm(FI_TRYLOCK, FI_THREAD, 1, 2);
	assert_true(mutex_trylock(&mutex));
	mutex_unlock(&mutex);
	assert_false(mutex_trylock(&mutex));
	assert_false(read_trylock(&rwlock));
	assert_true(write_trylock(&rwlock));
	write_unlock(&rwlock);
	assert_true(fault_disarm(FI_TRYLOCK));
	assert_int_equal(lock_rank_held_count(), 0);
}

static struct mutex tables[4] = {
	MUTEX_INIT(PAGE_TABLE),
	MUTEX_INIT(PAGE_TABLE),
	MUTEX_INIT(PAGE_TABLE),
	MUTEX_INIT(PAGE_TABLE),
};

static NO_THREAD_SAFETY_ANALYSIS void test_nesting(void **state maybe_unused)
{
	// Addresses increase.
	mutex_lock(&tables[0]);
	mutex_lock(&tables[1]);
	mutex_unlock(&tables[0]);
	mutex_unlock(&tables[1]);
	// The structure's order.
	mutex_lock(&tables[3]);
	mutex_lock_nested(&tables[2]);
	mutex_unlock(&tables[3]);
	mutex_unlock(&tables[2]);
	// A trylock in any order.
	mutex_lock(&mutex);
	assert_true(mutex_trylock(&tables[0]));
	mutex_unlock(&tables[0]);
	mutex_unlock(&mutex);
	// Bit locks.
	lock_rank_check(RANK_FOLIO, &tables[0]);
	lock_rank_acquired(RANK_FOLIO, &tables[0]);
	lock_rank_check(RANK_FOLIO, &tables[1]);
	mutex_lock(&mutex);
	mutex_unlock(&mutex);
	lock_rank_released(RANK_FOLIO, &tables[0]);
}

static void many_folios(void **state maybe_unused)
{
	static char folios[1024];

	for (size_t i = 0; i < sizeof(folios); i++)
		lock_rank_acquired(RANK_FOLIO, &folios[i]);
	mutex_lock(&mutex);
	mutex_unlock(&mutex);
	for (size_t i = 0; i < sizeof(folios); i++)
		lock_rank_released(RANK_FOLIO, &folios[i]);
	lock_assert_none_held();
}

enum offence {
	LOWER_RANK,
	SAME_RANK,
	SAME_LOCK,
	LOWER_ADDRESS,
	READ_TWICE,
	LOWER_THAN_TRIED,
	NOT_HELD,
	ASSERT_HELD,
	NONE_MAY_BE_HELD,
};

static NO_THREAD_SAFETY_ANALYSIS void offend(void *arg)
{
	static struct mutex other = MUTEX_INIT(ZONE);
	enum offence offence = *(enum offence *)arg;

	if (offence == NOT_HELD)
		mutex_unlock(&mutex);
	if (offence == ASSERT_HELD)
		mutex_assert_held(&mutex);
	if (offence == LOWER_ADDRESS)
		mutex_lock(&tables[1]);
	if (offence == LOWER_ADDRESS)
		mutex_lock(&tables[0]);
	if (offence == READ_TWICE)
		read_lock(&rwlock);
	if (offence == READ_TWICE)
		read_lock(&rwlock);
	if (offence == LOWER_THAN_TRIED && !mutex_trylock(&mutex))
		return;
	if (offence != LOWER_THAN_TRIED)
		mutex_lock(&mutex);
	if (offence == SAME_RANK)
		mutex_lock(&other);
	if (offence == SAME_LOCK)
		mutex_lock(&mutex);
	if (offence == NONE_MAY_BE_HELD)
		lock_assert_none_held();
	write_lock(&rwlock);
}

static void test_offences(void **state maybe_unused)
{
	static const char *const texts[] = {
		[LOWER_RANK] = "lock order: takes MMAP",
		[SAME_RANK] = "while it holds ZONE",
		[SAME_LOCK] = "lock order: takes ZONE",
		[LOWER_ADDRESS] = "lock order: takes PAGE_TABLE",
		[READ_TWICE] = "lock order: takes MMAP",
		[LOWER_THAN_TRIED] = "while it holds ZONE",
		[NOT_HELD] = "which it does not hold",
		[ASSERT_HELD] = "is not held",
		[NONE_MAY_BE_HELD] = "1 locks are held",
	};

	for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
		enum offence offence = (enum offence)i;

		assert_aborts(offend, &offence, texts[i]);
	}
}

#endif

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_exclusion),
		cmocka_unit_test(test_trylock),
		cmocka_unit_test(test_init),
#ifdef GODWIT_DEBUG
		cmocka_unit_test(test_book),
		cmocka_unit_test(test_injected_trylock),
		cmocka_unit_test(test_nesting),
		cmocka_unit_test(many_folios),
		cmocka_unit_test(test_offences),
#endif
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
