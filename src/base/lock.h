// SPDX-License-Identifier: MIT
// Mutexes and reader/writer locks with a rank (base/lock_rank.h). They are pthread locks, which
// ThreadSanitizer knows; nothing is allocated, and they may be taken inside a synchronous SIGSEGV
// handler, because the engine touches no managed memory while it holds one.
// Each operation is a sched_point() (base/sched.h); each trylock may be told to fail
// (base/fault_inject.h, FI_TRYLOCK). Ranks from WAIT_TABLE on are leaves: no sched_point, and
// nothing but higher leaves is taken under them.
#ifndef GODWIT_BASE_LOCK_H
#define GODWIT_BASE_LOCK_H

#include "base/compiler.h"
#include "base/lock_rank.h"

#include <pthread.h>
#include <stdbool.h>

struct CAPABILITY("mutex") mutex {
	pthread_mutex_t pthread;
	uint32_t rank;
};

struct CAPABILITY("rwlock") rwlock {
	pthread_rwlock_t pthread;
	uint32_t rank;
};

#define MUTEX_INIT(name) {PTHREAD_MUTEX_INITIALIZER, RANK_##name}
#define RWLOCK_INIT(name) {PTHREAD_RWLOCK_WRITER_NONRECURSIVE_INITIALIZER_NP, RANK_##name}

void mutex_init(struct mutex *m, enum lock_rank rank);
void mutex_destroy(struct mutex *m);
void mutex_lock(struct mutex *m) ACQUIRE(m);
must_check bool mutex_trylock(struct mutex *m) TRY_ACQUIRE(true, m);
void mutex_unlock(struct mutex *m) RELEASE(m);
// A second lock of the same rank, where the order is not that of addresses but of the structure
// (a table under its parent table). The rank must allow nesting.
void mutex_lock_nested(struct mutex *m) ACQUIRE(m);
// By this thread; always true without GODWIT_DEBUG, so for assertions only.
bool mutex_is_held(const struct mutex *m);
void mutex_assert_held(const struct mutex *m) ASSERT_CAPABILITY(m);

// A waiting writer stops new readers; a thread never read-locks the same lock twice.
void rwlock_init(struct rwlock *l, enum lock_rank rank);
void rwlock_destroy(struct rwlock *l);
void read_lock(struct rwlock *l) ACQUIRE_SHARED(l);
must_check bool read_trylock(struct rwlock *l) TRY_ACQUIRE_SHARED(true, l);
void read_unlock(struct rwlock *l) RELEASE_SHARED(l);
void write_lock(struct rwlock *l) ACQUIRE(l);
must_check bool write_trylock(struct rwlock *l) TRY_ACQUIRE(true, l);
void write_unlock(struct rwlock *l) RELEASE(l);
// A second lock of the same rank in the order of the structure (a child space under its parent).
void write_lock_nested(struct rwlock *l) ACQUIRE(l);
bool rwlock_is_held(const struct rwlock *l); // for reading or writing; see mutex_is_held()
bool rwlock_is_write_held(const struct rwlock *l);
void rwlock_assert_held(const struct rwlock *l) ASSERT_SHARED_CAPABILITY(l);
void rwlock_assert_write_held(const struct rwlock *l) ASSERT_CAPABILITY(l);

// The rank book, for locks that are not of these types (the lock bit of a folio). Each thread has
// its own. Before a lock that may block: check (nested: the order among one rank is that of the
// structure, not of addresses); once it is held, however it was got: acquired.
// Without GODWIT_DEBUG all of this is empty, and everything asked about is held.
#ifdef GODWIT_DEBUG
void lock_rank_check(enum lock_rank rank, const void *addr);
void lock_rank_check_nested(enum lock_rank rank, const void *addr);
void lock_rank_acquired(enum lock_rank rank, const void *addr);
void lock_rank_acquired_shared(enum lock_rank rank, const void *addr);
void lock_rank_released(enum lock_rank rank, const void *addr);
bool lock_rank_is_held(enum lock_rank rank, const void *addr);
bool lock_rank_is_held_exclusive(enum lock_rank rank, const void *addr);
unsigned lock_rank_held_count(void);
#else
#define lock_rank_check(rank, addr) ((void)(rank), (void)(addr))
#define lock_rank_check_nested(rank, addr) ((void)(rank), (void)(addr))
#define lock_rank_acquired(rank, addr) ((void)(rank), (void)(addr))
#define lock_rank_acquired_shared(rank, addr) ((void)(rank), (void)(addr))
#define lock_rank_released(rank, addr) ((void)(rank), (void)(addr))
#define lock_rank_is_held(rank, addr) ((void)(rank), (void)(addr), true)
#define lock_rank_is_held_exclusive(rank, addr) ((void)(rank), (void)(addr), true)
#define lock_rank_held_count() (0U)
#endif
// Asserts that this thread holds no lock: before managed memory is touched, and in its handler.
void lock_assert_none_held(void);
const char *lock_rank_name(enum lock_rank rank);

#endif
