// SPDX-License-Identifier: MIT
// Seeded interleaving: real threads, one baton.
//
// Each registered thread sleeps on its own futex word until it is handed the baton. The holder runs
// until a sched_point(), a block or its end, picks the next holder among the runnable threads and
// hands over. The pick comes from a generator seeded by the test, so the order of everything the
// threads do between points is a function of the seed alone. A seed also fixes how sticky the
// baton is: it moves at every point, at about one of 8, or at about one of 64; short and long runs
// find different bugs.
//
// States of a thread: absent → runnable ⇄ blocked → left. A blocked thread has a key, and a
// deadline in virtual time. Time stands still until nobody is runnable; then it jumps to the
// earliest deadline. If there is none the run is dead: the seed, what each thread waits for and
// what it holds are printed, and the process aborts.
//
// All the state belongs to the holder of the baton and needs no lock. Under ThreadSanitizer the
// baton is deliberately invisible (relaxed atomics, uninstrumented functions): it orders the
// threads in fact, but only the engine's own locks count as an order, so that a race shows even in
// a run where it did not happen.
#include "base/sched.h"

#include "base/assert.h"
#include "base/futex.h"
#include "base/lock.h"
#include "base/lock_book.h"

#include <pthread.h>

#define invisible __attribute__((no_sanitize("thread")))
#if HAVE_TSAN
#define BATON_TAKE memory_order_relaxed
#define BATON_GIVE memory_order_relaxed
#else
#define BATON_TAKE memory_order_acquire
#define BATON_GIVE memory_order_release
#endif

enum state { ABSENT, RUNNABLE, BLOCKED, LEFT };

struct sched_thread {
	_Atomic uint32_t baton;
	enum state state;
	bool timed_out;
	const void *key;
	uint64_t deadline;
	const struct lock_book *book;
};

static struct {
	uint64_t seed, random, history, steps, now;
	unsigned stay_mask; // the baton moves when these bits of a random number are all zero
	unsigned nthreads;
	_Atomic unsigned entered;
	struct sched_thread thread[SCHED_MAX_THREADS];
} run;

atomic_bool sched_running;
static __thread struct sched_thread *self __attribute__((tls_model("initial-exec")));

bool sched_is_registered(void)
{
	return self != NULL;
}

invisible static uint64_t next_random(void)
{
	uint64_t z = run.random += 0x9e3779b97f4a7c15;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
	z = (z ^ z >> 27) * 0x94d049bb133111eb;
	return z ^ z >> 31;
}

invisible static void print_deadlock(void)
{
	assert_print("godwit: sched: deadlock, seed %#lx, after %lu steps\n", run.seed, run.steps);
	for (unsigned i = 0; i < run.nthreads; i++) {
		struct sched_thread *t = &run.thread[i];

		if (t->state == LEFT) {
			assert_print("  thread %u has left\n", i);
			continue;
		}
		assert_print("  thread %u waits for %p, holds:\n", i, t->key);
		lock_book_print(t->book);
	}
}

// Time jumps to the earliest deadline; NULL if nobody has one.
invisible static struct sched_thread *expire_earliest(void)
{
	struct sched_thread *first = NULL;

	for (unsigned i = 0; i < run.nthreads; i++) {
		struct sched_thread *t = &run.thread[i];

		if (t->state == BLOCKED && t->deadline != SCHED_FOREVER &&
			(!first || t->deadline < first->deadline))
			first = t;
	}
	if (first) {
		run.now = max(run.now, first->deadline);
		first->timed_out = true;
		first->state = RUNNABLE;
	}
	return first;
}

// Who holds the baton next; NULL when all have left.
invisible static struct sched_thread *pick(bool may_stay)
{
	struct sched_thread *ready[SCHED_MAX_THREADS], *chosen;
	unsigned n = 0, left = 0;
	uint64_t r = next_random();

	for (unsigned i = 0; i < run.nthreads; i++) {
		if (run.thread[i].state == RUNNABLE)
			ready[n++] = &run.thread[i];
		left += run.thread[i].state == LEFT;
	}
	if (left == run.nthreads)
		return NULL;
	if (may_stay && self->state == RUNNABLE && (r & run.stay_mask))
		chosen = self;
	else if (n > 0)
		chosen = ready[(r >> 32) % n];
	else
		chosen = expire_earliest();
	if (!chosen) {
		print_deadlock();
		must_hold(chosen, "seed %#lx: every thread is blocked", run.seed);
	}
	run.steps++;
	run.history = (run.history ^ (uint64_t)(chosen - run.thread)) * 0x100000001b3;
	return chosen;
}

invisible static void give_baton(struct sched_thread *to)
{
	atomic_store_explicit(&to->baton, 1, BATON_GIVE);
	futex_wake(&to->baton, 1);
}

invisible static void take_baton(void)
{
	while (!atomic_exchange_explicit(&self->baton, 0, BATON_TAKE))
		futex_wait(&self->baton, 0, UINT64_MAX);
}

invisible void sched_pass_baton(void)
{
	struct sched_thread *next = pick(true);

	if (next == self)
		return;
	give_baton(next);
	take_baton();
}

invisible bool sched_block(const void *key, uint64_t timeout_ns)
{
	must_hold(sched_active(), "sched_block outside of a run");
	self->key = key;
	self->timed_out = false;
	self->deadline = timeout_ns >= SCHED_FOREVER - run.now ? SCHED_FOREVER
							       : run.now + timeout_ns;
	self->state = BLOCKED;
	sched_pass_baton();
	self->key = NULL;
	return !self->timed_out;
}

invisible void sched_wake(const void *key)
{
	if (!sched_active())
		return;
	for (unsigned i = 0; i < run.nthreads; i++)
		if (run.thread[i].state == BLOCKED && run.thread[i].key == key)
			run.thread[i].state = RUNNABLE;
}

invisible void sched_start(uint64_t seed, unsigned nthreads)
{
	must_hold(nthreads >= 1 && nthreads <= SCHED_MAX_THREADS, "%u threads", nthreads);
	must_hold(!atomic_load(&sched_running), "a run is under way");
	run.seed = seed;
	run.random = seed;
	run.history = 0xcbf29ce484222325;
	run.steps = 0;
	run.now = 1000000000;
	run.nthreads = nthreads;
	run.stay_mask = (unsigned[]){0, 7, 63}[next_random() % 3];
	atomic_store(&run.entered, 0);
	for (unsigned i = 0; i < nthreads; i++) {
		atomic_store(&run.thread[i].baton, 0);
		run.thread[i].state = ABSENT;
	}
	atomic_store(&sched_running, true);
}

invisible void sched_enter(unsigned index)
{
	must_hold(!self && index < run.nthreads && run.thread[index].state == ABSENT,
		"thread %u of %u enters twice", index, run.nthreads);
	self = &run.thread[index];
	self->state = RUNNABLE;
	self->key = NULL;
	self->book = lock_book_self();
	// The last to enter starts the run. Who that is, is chance, so it has no preference.
	if (atomic_fetch_add(&run.entered, 1) + 1 == run.nthreads)
		give_baton(pick(false));
	take_baton();
}

invisible void sched_leave(void)
{
	struct sched_thread *next;

	must_hold(self, "leaves a run that it is not in");
	self->state = LEFT;
	next = pick(false);
	self = NULL;
	if (next)
		give_baton(next);
}

invisible void sched_stop(void)
{
	for (unsigned i = 0; i < run.nthreads; i++)
		must_hold(run.thread[i].state == LEFT, "thread %u has not left", i);
	atomic_store(&sched_running, false);
}

uint64_t sched_history(void)
{
	return run.history;
}

uint64_t sched_steps(void)
{
	return run.steps;
}

invisible uint64_t sched_now(void)
{
	return run.now;
}

struct runner {
	pthread_t thread;
	unsigned index;
	void (*fn)(void *arg, unsigned index);
	void *arg;
};

static void *runner_main(void *arg)
{
	struct runner *r = arg;

	sched_enter(r->index);
	r->fn(r->arg, r->index);
	sched_leave();
	return NULL;
}

void sched_run(uint64_t seed, unsigned nthreads, void (*fn)(void *arg, unsigned index), void *arg)
{
	struct runner runners[SCHED_MAX_THREADS];
	int err;

	sched_start(seed, nthreads);
	for (unsigned i = 0; i < nthreads; i++) {
		runners[i] = (struct runner){.index = i, .fn = fn, .arg = arg};
		err = pthread_create(&runners[i].thread, NULL, runner_main, &runners[i]);
		must_hold(err == 0, "pthread_create: %d", err);
	}
	for (unsigned i = 0; i < nthreads; i++)
		pthread_join(runners[i].thread, NULL);
	sched_stop();
}
