// SPDX-License-Identifier: MIT
// Seeded interleaving, for tests and for stories on the soft backend: real threads that pass one
// baton. Only its holder runs; at each sched_point() a seeded generator decides who holds it next,
// so that a run repeats exactly, given its seed. Locks, wait queues and bit locks call
// sched_point() and sched_block(). While it is on, every thread that touches the engine must be one
// of the registered ones.
//
//   sched_run(seed, 3, fn, arg);        starts 3 threads, fn(arg, 0..2), joins them
// or  sched_start(seed, 3); each thread: sched_enter(i); ...; sched_leave(); at last sched_stop()
// or  sched_begin(seed, step_ns); the caller has the baton, and its threads come and go by
//     sched_thread_create(), sched_thread_join(); at last sched_end()
//
// When no thread can run the one with the earliest timeout times out; if there is none, that is a
// deadlock: the seed and what each thread waits for are printed, and the process aborts.
#ifndef GODWIT_BASE_SCHED_H
#define GODWIT_BASE_SCHED_H

#include "base/compiler.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

#define SCHED_MAX_THREADS 160
#define SCHED_FOREVER UINT64_MAX

void sched_start(uint64_t seed, unsigned nthreads);
void sched_enter(unsigned index); // waits until all have entered and the baton arrives
void sched_leave(void);
void sched_stop(void); // all have left
void sched_run(uint64_t seed, unsigned nthreads, void (*fn)(void *arg, unsigned index), void *arg);

// The caller is the only thread of the run. Each decision takes step_ns of virtual time, so that
// who waits for a time comes to it while others are at work.
void sched_begin(uint64_t seed, uint64_t step_ns);
void sched_end(void); // the others have been joined

// As pthread_create() and pthread_join(): 0 or a positive error. The thread runs when this returns:
// what the C library or a sanitizer does for a new one is over, and no fork() that comes next finds
// it half way, with a lock that the child would inherit. A thread that is made in a run, by
// one that takes part in it, does so too, from then on until it returns, and may have the baton
// before it really runs. What its thread-specific data does after that takes no engine lock.
// EAGAIN: there are SCHED_MAX_THREADS.
must_check int sched_thread_create(pthread_t *ret_thread, void *(*fn)(void *), void *arg);
void sched_thread_join(pthread_t thread);

// A number that is the same for two runs if and only if (almost surely) all decisions were the
// same; valid after sched_stop() until the next start. And how many decisions there were.
uint64_t sched_history(void);
uint64_t sched_steps(void);
// Virtual nanoseconds: only timeouts advance them, and the steps of sched_begin().
uint64_t sched_now(void);
uint64_t sched_seed(void); // of the run that is on

extern atomic_bool sched_running;
void sched_pass_baton(void);
bool sched_is_registered(void);

// On, and this thread takes part in it.
static inline bool sched_active(void)
{
	return unlikely(atomic_load_explicit(&sched_running, memory_order_relaxed)) &&
	       sched_is_registered();
}

static inline void sched_point(void)
{
	if (sched_active())
		sched_pass_baton();
}

// For those who build something that blocks; only when sched_active(). Blocks this thread until
// sched_wake(key), or until the timeout: true if woken, false if timed out. As only the holder of
// the baton runs, nothing can happen between a failed test and this call.
bool sched_block(const void *key, uint64_t timeout_ns);
// All threads blocked on the key become runnable. Does nothing when not active.
void sched_wake(const void *key);

#endif
