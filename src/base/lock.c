// SPDX-License-Identifier: MIT
// Mutexes and reader/writer locks.
//
// Four things happen at each operation, in this order: the seeded scheduler gets its chance to run
// another thread (not for leaves, ranks from WAIT_TABLE on); the lock order is checked if the
// operation may block (base/lock_book.c); the pthread lock is taken; it is entered in the book.
// A trylock first asks base/fault_inject.h whether it has to fail.
//
// In a seeded run nobody ever sleeps in pthread: the lock is tried, and while it is taken the
// thread is blocked on the lock's address, until an unlock wakes it. Leaves need not care, for
// their holder never gives the baton away.
//
// A pthread mutex of the default kind is one futex word in the end; locking one in a synchronous
// signal handler is safe as long as the interrupted code does not hold it, and it cannot, since no
// engine lock is held while managed memory is touched. Reader/writer locks are of the kind in which
// a waiting writer stops new readers; so a second read lock by the same thread would deadlock,
// which the lock order forbids anyway. Errors of pthread calls are bugs.
#include "base/lock.h"

#include "base/assert.h"
#include "base/fault_inject.h"
#include "base/sched.h"

#include <errno.h>

static bool is_leaf(uint32_t rank)
{
	return rank >= RANK_WAIT_TABLE;
}

static bool takes_part(uint32_t rank)
{
	return sched_active() && !is_leaf(rank);
}

static void point(uint32_t rank)
{
	if (takes_part(rank))
		sched_point();
}

// After an unlock.
static void let_others_in(uint32_t rank, const void *lock)
{
	if (!takes_part(rank))
		return;
	sched_wake(lock);
	sched_point();
}

static bool taken(int err, const void *lock)
{
	must_hold(err == 0 || err == EBUSY, "lock %p: error %d", lock, err);
	return err == 0;
}

static void no_error(int err, const void *lock)
{
	must_hold(err == 0, "lock %p: error %d", lock, err);
}

void mutex_init(struct mutex *m, enum lock_rank rank)
{
	no_error(pthread_mutex_init(&m->pthread, NULL), m);
	m->rank = rank;
}

void mutex_destroy(struct mutex *m)
{
	no_error(pthread_mutex_destroy(&m->pthread), m);
}

NO_THREAD_SAFETY_ANALYSIS static void mutex_take(struct mutex *m)
{
	point(m->rank);
	if (takes_part(m->rank))
		while (!taken(pthread_mutex_trylock(&m->pthread), m))
			sched_block(m, SCHED_FOREVER);
	else
		no_error(pthread_mutex_lock(&m->pthread), m);
	lock_rank_acquired(m->rank, m);
}

NO_THREAD_SAFETY_ANALYSIS void mutex_lock(struct mutex *m)
{
	lock_rank_check(m->rank, m);
	mutex_take(m);
}

NO_THREAD_SAFETY_ANALYSIS void mutex_lock_nested(struct mutex *m)
{
	lock_rank_check_nested(m->rank, m);
	mutex_take(m);
}

NO_THREAD_SAFETY_ANALYSIS bool mutex_trylock(struct mutex *m)
{
	point(m->rank);
	if (fault_should_fail(FI_TRYLOCK) || !taken(pthread_mutex_trylock(&m->pthread), m))
		return false;
	lock_rank_acquired(m->rank, m);
	return true;
}

NO_THREAD_SAFETY_ANALYSIS void mutex_unlock(struct mutex *m)
{
	uint32_t rank = m->rank;

	lock_rank_released(rank, m);
	no_error(pthread_mutex_unlock(&m->pthread), m);
	let_others_in(rank, m);
}

bool mutex_is_held(const struct mutex *m)
{
	return lock_rank_is_held(m->rank, m);
}

NO_THREAD_SAFETY_ANALYSIS void mutex_assert_held(const struct mutex *m)
{
	assert_that(mutex_is_held(m), "%s %p is not held", lock_rank_name(m->rank),
		(const void *)m);
}

void rwlock_init(struct rwlock *l, enum lock_rank rank)
{
	pthread_rwlockattr_t attr;

	no_error(pthread_rwlockattr_init(&attr), l);
	no_error(pthread_rwlockattr_setkind_np(&attr, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP),
		l);
	no_error(pthread_rwlock_init(&l->pthread, &attr), l);
	no_error(pthread_rwlockattr_destroy(&attr), l);
	l->rank = rank;
}

void rwlock_destroy(struct rwlock *l)
{
	no_error(pthread_rwlock_destroy(&l->pthread), l);
}

NO_THREAD_SAFETY_ANALYSIS void read_lock(struct rwlock *l)
{
	lock_rank_check(l->rank, l);
	point(l->rank);
	if (takes_part(l->rank))
		while (!taken(pthread_rwlock_tryrdlock(&l->pthread), l))
			sched_block(l, SCHED_FOREVER);
	else
		no_error(pthread_rwlock_rdlock(&l->pthread), l);
	lock_rank_acquired_shared(l->rank, l);
}

NO_THREAD_SAFETY_ANALYSIS bool read_trylock(struct rwlock *l)
{
	point(l->rank);
	if (fault_should_fail(FI_TRYLOCK) || !taken(pthread_rwlock_tryrdlock(&l->pthread), l))
		return false;
	lock_rank_acquired_shared(l->rank, l);
	return true;
}

NO_THREAD_SAFETY_ANALYSIS static void rwlock_release(struct rwlock *l)
{
	uint32_t rank = l->rank;

	lock_rank_released(rank, l);
	no_error(pthread_rwlock_unlock(&l->pthread), l);
	let_others_in(rank, l);
}

NO_THREAD_SAFETY_ANALYSIS void read_unlock(struct rwlock *l)
{
	rwlock_release(l);
}

NO_THREAD_SAFETY_ANALYSIS static void write_take(struct rwlock *l)
{
	point(l->rank);
	if (takes_part(l->rank))
		while (!taken(pthread_rwlock_trywrlock(&l->pthread), l))
			sched_block(l, SCHED_FOREVER);
	else
		no_error(pthread_rwlock_wrlock(&l->pthread), l);
	lock_rank_acquired(l->rank, l);
}

NO_THREAD_SAFETY_ANALYSIS void write_lock(struct rwlock *l)
{
	lock_rank_check(l->rank, l);
	write_take(l);
}

NO_THREAD_SAFETY_ANALYSIS void write_lock_nested(struct rwlock *l)
{
	lock_rank_check_nested(l->rank, l);
	write_take(l);
}

NO_THREAD_SAFETY_ANALYSIS bool write_trylock(struct rwlock *l)
{
	point(l->rank);
	if (fault_should_fail(FI_TRYLOCK) || !taken(pthread_rwlock_trywrlock(&l->pthread), l))
		return false;
	lock_rank_acquired(l->rank, l);
	return true;
}

NO_THREAD_SAFETY_ANALYSIS void write_unlock(struct rwlock *l)
{
	rwlock_release(l);
}

bool rwlock_is_held(const struct rwlock *l)
{
	return lock_rank_is_held(l->rank, l);
}

bool rwlock_is_write_held(const struct rwlock *l)
{
	return lock_rank_is_held_exclusive(l->rank, l);
}

NO_THREAD_SAFETY_ANALYSIS void rwlock_assert_held(const struct rwlock *l)
{
	assert_that(rwlock_is_held(l), "%s %p is not held", lock_rank_name(l->rank),
		(const void *)l);
}

NO_THREAD_SAFETY_ANALYSIS void rwlock_assert_write_held(const struct rwlock *l)
{
	assert_that(rwlock_is_write_held(l), "%s %p is not held for writing",
		lock_rank_name(l->rank), (const void *)l);
}
