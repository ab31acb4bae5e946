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
// States of a thread: absent → runnable ⇄ blocked → left (→ absent, when it was joined and its
// place may be taken by another). A blocked thread has a key, and a deadline in virtual time. Each
// decision takes as much time as the run says; for tests none, so that time stands still until
// nobody is runnable. Then it jumps to the earliest deadline. If there is none the run is dead: the
// seed, what each thread waits for and what it holds are printed, and the process aborts.
//
// A thread that is made in a run is runnable at once: whether the host is quick to start it decides
// nothing, for who gave it the baton waits until it comes back.
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

#include <errno.h>

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
	const struct lock_book *book; // NULL, too: it has not begun
	pthread_t pthread;	      // these of who was made in the run
	void *(*fn)(void *arg);
	void *arg;
};

static struct {
	uint64_t seed, random, history, steps, now;
	uint64_t step_ns;
	uint64_t next_deadline; // nobody has an earlier one
	unsigned stay_mask; // the baton moves when these bits of a random number are all zero
	unsigned nthreads;  // places in use are among the first so many
	unsigned runnable;  // of them
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

		if (t->state == LEFT || t->state == ABSENT) {
			assert_print("  thread %u has left\n", i);
			continue;
		}
		assert_print("  thread %u waits for %p, holds:\n", i, t->key);
		lock_book_print(t->book);
	}
}

invisible static void set_runnable(struct sched_thread *t)
{
	t->state = RUNNABLE;
	run.runnable++;
}

invisible static void time_out(struct sched_thread *t)
{
	t->timed_out = true;
	set_runnable(t);
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
		time_out(first);
	}
	return first;
}

// Whose time has come while others worked.
invisible static void expire_due(void)
{
	run.next_deadline = SCHED_FOREVER;
	for (unsigned i = 0; i < run.nthreads; i++) {
		struct sched_thread *t = &run.thread[i];

		if (t->state != BLOCKED)
			continue;
		if (t->deadline <= run.now)
			time_out(t);
		else
			run.next_deadline = min(run.next_deadline, t->deadline);
	}
}

invisible static struct sched_thread *pick_ready(uint64_t random)
{
	unsigned nth = (unsigned)(random % run.runnable);

	for (unsigned i = 0; i < run.nthreads; i++)
		if (run.thread[i].state == RUNNABLE && nth-- == 0)
			return &run.thread[i];
	return NULL;
}

invisible static bool all_left(void)
{
	for (unsigned i = 0; i < run.nthreads; i++)
		if (run.thread[i].state == RUNNABLE || run.thread[i].state == BLOCKED)
			return false;
	return true;
}

// Who holds the baton next; NULL when all have left.
invisible static struct sched_thread *pick(bool may_stay)
{
	uint64_t r = next_random();
	struct sched_thread *chosen;

	run.now += run.step_ns;
	if (run.step_ns && run.now >= run.next_deadline)
		expire_due();
	if (may_stay && self->state == RUNNABLE && ((r & run.stay_mask) || run.runnable == 1))
		chosen = self;
	else if (run.runnable)
		chosen = pick_ready(r >> 32);
	else if (all_left())
		return NULL;
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
	run.runnable--;
	run.next_deadline = min(run.next_deadline, self->deadline);
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
			set_runnable(&run.thread[i]);
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
	run.step_ns = 0;
	run.next_deadline = SCHED_FOREVER;
	run.nthreads = nthreads;
	run.runnable = nthreads; // once all have entered, and nobody decides anything before
	run.stay_mask = (unsigned[]){0, 7, 63}[next_random() % 3];
	atomic_store(&run.entered, 0);
	for (unsigned i = 0; i < nthreads; i++) {
		atomic_store(&run.thread[i].baton, 0);
		run.thread[i].state = ABSENT;
		run.thread[i].fn = NULL;
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
	run.runnable--;
	sched_wake(self); // who joins it
	next = pick(false);
	self = NULL;
	if (next)
		give_baton(next);
}

invisible void sched_stop(void)
{
	for (unsigned i = 0; i < run.nthreads; i++)
		must_hold(run.thread[i].state == LEFT || run.thread[i].state == ABSENT,
			"thread %u has not left", i);
	atomic_store(&sched_running, false);
}

// ---- Threads that come and go

void sched_begin(uint64_t seed, uint64_t step_ns)
{
	sched_start(seed, 1);
	run.step_ns = step_ns;
	sched_enter(0);
}

void sched_end(void)
{
	sched_leave();
	sched_stop();
}

invisible static void *thread_main(void *arg)
{
	struct sched_thread *t = arg;
	void *ret;

	self = t;
	take_baton();
	t->book = lock_book_self();
	ret = t->fn(t->arg);
	sched_leave();
	return ret;
}

// The first place that nobody has; NULL: there are too many threads.
invisible static struct sched_thread *take_place(void)
{
	for (unsigned i = 0; i < SCHED_MAX_THREADS; i++) {
		if (i < run.nthreads && run.thread[i].state != ABSENT)
			continue;
		run.nthreads = max(run.nthreads, i + 1);
		return &run.thread[i];
	}
	return NULL;
}

// What a thread outside of runs begins with; its maker waits until it has read it.
struct beginning {
	void *(*fn)(void *arg);
	void *arg;
	_Atomic uint32_t read;
};

static void *begin_thread(void *arg)
{
	struct beginning *b = arg, own = *b;

	atomic_store(&b->read, 1);
	futex_wake(&b->read, 1); // *b may be gone; then it wakes nobody
	return own.fn(own.arg);
}

static int create_and_wait(pthread_t *ret_thread, void *(*fn)(void *), void *arg)
{
	struct beginning b = {.fn = fn, .arg = arg};
	int err = pthread_create(ret_thread, NULL, begin_thread, &b);

	while (!err && !atomic_load(&b.read))
		futex_wait(&b.read, 0, SCHED_FOREVER);
	return err;
}

invisible int sched_thread_create(pthread_t *ret_thread, void *(*fn)(void *), void *arg)
{
	struct sched_thread *t;
	int err;

	if (!sched_active())
		return create_and_wait(ret_thread, fn, arg);
	t = take_place();
	if (!t)
		return EAGAIN;
	t->key = t->book = NULL;
	t->fn = fn;
	t->arg = arg;
	atomic_store(&t->baton, 0);
	err = pthread_create(&t->pthread, NULL, thread_main, t);
	if (err) {
		t->state = ABSENT;
		return err;
	}
	*ret_thread = t->pthread;
	set_runnable(t);
	sched_point();
	return 0;
}

invisible static struct sched_thread *place_of(pthread_t thread)
{
	for (unsigned i = 0; i < run.nthreads; i++)
		if (run.thread[i].state != ABSENT && run.thread[i].fn &&
			pthread_equal(run.thread[i].pthread, thread))
			return &run.thread[i];
	return NULL;
}

invisible void sched_thread_join(pthread_t thread)
{
	struct sched_thread *t = sched_active() ? place_of(thread) : NULL;

	while (t && t->state != LEFT)
		sched_block(t, SCHED_FOREVER);
	pthread_join(thread, NULL);
	if (t)
		t->state = ABSENT;
}

// ---- Looking

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

uint64_t sched_seed(void)
{
	return run.seed;
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
