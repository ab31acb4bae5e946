// SPDX-License-Identifier: MIT
// Hashed wait queues.
//
// A waiter is on the stack of its thread and on the list of one of 256 buckets, chosen by its key.
// It queues first, then looks at its condition again, then sleeps on its own futex word. A waker
// changes the condition first and then comes here, so one of the two sees the other: both touch the
// bucket's count of waiters with an atomic read-modify-write, the waiter before it re-checks, the
// waker before it decides that nobody is there and returns without the lock.
//
// States of a waiter: queued (woken = 0) → chosen by wake_all (1) or wake_one (2), which takes it
// off the list. Once `woken` is set its thread may return and its stack be gone, so the waker only
// uses the address afterwards, to wake a futex; a wake of a word that nobody waits on is harmless.
// A waiter that was chosen by wake_one() but gives up passes the wake on.
//
// Locks: the bucket's, a leaf, never while sleeping and never while a condition is evaluated. The
// key is never followed. Nothing is allocated; errno is kept. In a seeded run sleeping is
// sched_block() on the waiter, and timeouts are in virtual time.
#include "base/wait.h"

#include "base/futex.h"
#include "base/lock.h"
#include "base/sched.h"

#define BUCKETS 256
#define WAKE_BATCH 32

enum { QUEUED, BY_ALL, BY_ONE };

struct bucket {
	struct mutex lock;
	_Atomic uint32_t waiters;
	struct list_head queue; // zero until first used
} __attribute__((aligned(64)));

static struct bucket buckets[BUCKETS] = {
	[0 ... BUCKETS - 1] = {.lock = MUTEX_INIT(WAIT_TABLE)},
};

static struct bucket *bucket_of(const void *key)
{
	uint64_t hash = (uint64_t)(uintptr_t)key * 0x9e3779b97f4a7c15;

	return &buckets[hash >> 56];
}

static struct list_head *queue_of(struct bucket *b) REQUIRES(b->lock);
static struct list_head *queue_of(struct bucket *b)
{
	if (!b->queue.next)
		list_init(&b->queue);
	return &b->queue;
}

void wait_prepare(struct waiter *w, const void *key)
{
	struct bucket *b = bucket_of(key);

	w->key = key;
	atomic_store_explicit(&w->woken, QUEUED, memory_order_relaxed);
	atomic_fetch_add(&b->waiters, 1);
	mutex_lock(&b->lock);
	list_add_tail(&w->entry, queue_of(b));
	mutex_unlock(&b->lock);
	sched_point();
}

// Takes the waiter off its queue; what it was chosen by, or QUEUED if nobody had.
static uint32_t leave_queue(struct waiter *w)
{
	struct bucket *b = bucket_of(w->key);
	uint32_t woken;

	mutex_lock(&b->lock);
	woken = atomic_load_explicit(&w->woken, memory_order_acquire);
	if (woken == QUEUED) {
		list_del(&w->entry);
		atomic_fetch_sub(&b->waiters, 1);
	}
	mutex_unlock(&b->lock);
	return woken;
}

int wait_sleep(struct waiter *w, uint64_t timeout_ns)
{
	uint64_t deadline = wait_deadline(timeout_ns);
	bool in_time = true;

	while (atomic_load_explicit(&w->woken, memory_order_acquire) == QUEUED) {
		if (!in_time)
			return leave_queue(w) == QUEUED ? -ETIMEDOUT : 0;
		if (sched_active())
			in_time = sched_block(w, wait_remaining(deadline));
		else
			in_time = futex_wait(&w->woken, QUEUED, deadline) != -ETIMEDOUT;
	}
	return 0;
}

void wait_cancel(struct waiter *w)
{
	if (leave_queue(w) == BY_ONE)
		wake_one(w->key);
}

// Chooses at most `most` waiters, in their order.
static unsigned choose(struct bucket *b, const void *key, uint32_t by, struct waiter **chosen,
	unsigned most)
{
	struct waiter *w, *next;
	unsigned n = 0;

	mutex_lock(&b->lock);
	list_for_each_entry_safe(w, next, queue_of(b), entry) {
		if (w->key != key)
			continue;
		list_del(&w->entry);
		atomic_fetch_sub(&b->waiters, 1);
		chosen[n++] = w;
		atomic_store_explicit(&w->woken, by, memory_order_release);
		if (n == most)
			break;
	}
	mutex_unlock(&b->lock);
	return n;
}

static void wake(const void *key, uint32_t by, unsigned most)
{
	struct bucket *b = bucket_of(key);
	struct waiter *chosen[WAKE_BATCH];
	unsigned n;

	if (atomic_fetch_add(&b->waiters, 0) == 0)
		return;
	do {
		n = choose(b, key, by, chosen, most);
		for (unsigned i = 0; i < n; i++) {
			sched_wake(chosen[i]);
			futex_wake(&chosen[i]->woken, 1);
		}
	} while (n == WAKE_BATCH);
}

void wake_all(const void *key)
{
	wake(key, BY_ALL, WAKE_BATCH);
	sched_point();
}

void wake_one(const void *key)
{
	wake(key, BY_ONE, 1);
	sched_point();
}

bool wait_queue_active(const void *key)
{
	struct bucket *b = bucket_of(key);
	struct waiter *w;
	bool found = false;

	if (atomic_fetch_add(&b->waiters, 0) == 0)
		return false;
	mutex_lock(&b->lock);
	list_for_each_entry(w, queue_of(b), entry)
		found = found || w->key == key;
	mutex_unlock(&b->lock);
	return found;
}

// Whoever waited, or held a bucket, has no thread here, and its stack may be used anew.
void wait_fork_child(void)
{
	for (unsigned i = 0; i < BUCKETS; i++) {
		mutex_init(&buckets[i].lock, RANK_WAIT_TABLE);
		atomic_store(&buckets[i].waiters, 0);
		list_init(&buckets[i].queue);
	}
}

uint64_t wait_clock_ns(void)
{
	struct timespec ts;

	if (sched_active())
		return sched_now();
	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000 + (uint64_t)ts.tv_nsec;
}

uint64_t wait_deadline(uint64_t timeout_ns)
{
	uint64_t now = timeout_ns == WAIT_FOREVER ? 0 : wait_clock_ns();

	return timeout_ns > WAIT_FOREVER - now ? WAIT_FOREVER : now + timeout_ns;
}

uint64_t wait_remaining(uint64_t deadline_ns)
{
	uint64_t now;

	if (deadline_ns == WAIT_FOREVER)
		return WAIT_FOREVER;
	now = wait_clock_ns();
	return deadline_ns > now ? deadline_ns - now : 0;
}

int wait_for(const void *key, bool (*done)(void *arg), void *arg, uint64_t timeout_ns)
{
	return wait_until(key, done(arg), timeout_ns);
}
