// SPDX-License-Identifier: MIT
// The copier: one of the loops of copy_pages.c, alone or spread over worker threads.
//
// A parallel copy is cut into slices that the caller and the workers take one by one from a
// counter, until there are none; the caller returns when all slices are done. Small copies are not
// worth waking anybody. Workers block all signals, and touch only the direct map.
//
// States of a worker: waiting for a job -> taking slices -> waiting; ended by copier_close(). In a
// child of fork() there are none and the caller copies alone.
//
// A worker that is not woken, or a caller, would stop every move of the machine: both wait through
// base/wait.h, not by condition variables, whose signals glibc can lose (its bug 25847).
//
// Locks: none. Who sets c->taken owns the job; it is handed out by c->round, and back by c->busy.
// What can fail: copier_open().
#include "machine/copier.h"

#include "base/meta.h"
#include "base/sched.h"
#include "base/wait.h"
#include "machine/copy_pages.h"
#include "machine/fork_guard.h"
#include "machine/host_calls.h"

#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <time.h>
#include <unistd.h>

#define WORKERS_MAX 63
#define SLICE (256ul << 10)
#define PARALLEL_MIN (4 * SLICE)
#define MEASURE_BYTES (32ul << 20)

struct job {
	uint8_t *dst;
	const uint8_t *src; // NULL: clear
	size_t bytes;
	atomic_size_t next; // offset of the next slice
};

struct copier {
	const struct copy_pages *pages;
	struct fork_guarded guard;
	unsigned workers;
	pthread_t worker[WORKERS_MAX];
	_Atomic bool taken;	// somebody's copy has the workers
	_Atomic bool stopping;
	_Atomic unsigned round; // which job is out; its address is what workers wait for
	_Atomic unsigned busy;	// workers not done with it; what the owner waits for
	struct job job;
};

static void copy_slices(const struct copy_pages *pages, struct job *job)
{
	size_t at;

	while ((at = atomic_fetch_add(&job->next, SLICE)) < job->bytes) {
		size_t n = job->bytes - at < SLICE ? job->bytes - at : SLICE;

		if (job->src)
			pages->copy(job->dst + at, job->src + at, n);
		else
			pages->clear(job->dst + at, n);
	}
}

static void *worker_main(void *arg)
{
	struct copier *c = arg;
	unsigned seen = 0;

	for (;;) {
		(void)!wait_until(&c->round,
			atomic_load(&c->round) != seen || atomic_load(&c->stopping), WAIT_FOREVER);
		if (atomic_load(&c->stopping))
			return NULL;
		seen = atomic_load(&c->round); // the next is not out before this one is done
		copy_slices(c->pages, &c->job);
		if (atomic_fetch_sub(&c->busy, 1) == 1)
			wake_one(&c->busy);
	}
}

static bool take_workers(struct copier *c)
{
	return !atomic_exchange(&c->taken, true);
}

static void run_job(struct copier *c, void *dst, const void *src, size_t bytes)
{
	c->job.dst = dst;
	c->job.src = src;
	c->job.bytes = bytes;
	atomic_store(&c->job.next, 0);
	atomic_store(&c->busy, c->workers);
	atomic_fetch_add(&c->round, 1);
	wake_all(&c->round);
	copy_slices(c->pages, &c->job);
	(void)!wait_until(&c->busy, !atomic_load(&c->busy), WAIT_FOREVER);
	atomic_store(&c->taken, false);
}

void copier_copy(struct copier *c, void *dst, const void *src, size_t nr)
{
	size_t bytes = nr << PAGE_SHIFT;

	if (c->workers && bytes >= PARALLEL_MIN && take_workers(c))
		run_job(c, dst, src, bytes);
	else
		c->pages->copy(dst, src, bytes);
}

void copier_clear(struct copier *c, void *dst, size_t nr)
{
	size_t bytes = nr << PAGE_SHIFT;

	if (c->workers && bytes >= PARALLEL_MIN && take_workers(c))
		run_job(c, dst, NULL, bytes);
	else
		c->pages->clear(dst, bytes);
}

const char *copier_name(const struct copier *c)
{
	return c->pages->name;
}

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

// The best of a few rounds over buffers that no cache keeps: other load only makes it slower.
static double measure(struct copier *c, const struct copy_pages *pages)
{
	uint64_t best = UINT64_MAX;
	uintptr_t at;
	uint8_t *buf;

	if (host_reserve(2 * MEASURE_BYTES, PMD_SIZE, NULL, &at))
		return 0;
	buf = (uint8_t *)at;
	if (host_protect(at, 2 * MEASURE_BYTES, HOST_RW)) {
		host_unmap(at, 2 * MEASURE_BYTES);
		return 0;
	}
	pages->clear(buf, MEASURE_BYTES);
	pages->clear(buf + MEASURE_BYTES, MEASURE_BYTES);
	for (size_t done = 0; done < MEASURE_BYTES; done += PMD_SIZE) {
		uint64_t start = now_ns();

		if (c)
			copier_copy(c, buf + MEASURE_BYTES + done, buf + done, PTRS_PER_TABLE);
		else
			pages->copy(buf + MEASURE_BYTES + done, buf + done, PMD_SIZE);
		best = min(best, now_ns() - start);
	}
	host_unmap(at, 2 * MEASURE_BYTES);
	return (double)PMD_SIZE * 1e9 / (double)max(best, 1ul);
}

double copier_measure(struct copier *c)
{
	return measure(c, c->pages);
}

static const struct copy_pages *fastest;

static void find_fastest(void)
{
	const struct copy_pages *nt = copy_pages_nontemporal();

	fastest = &copy_pages_memcpy;
	if (nt && measure(NULL, nt) > measure(NULL, fastest))
		fastest = nt;
}

static const struct copy_pages *choose(enum copier_kind kind)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;
	const struct copy_pages *nt = copy_pages_nontemporal();

	if (kind == COPIER_MEMCPY)
		return &copy_pages_memcpy;
	if (kind == COPIER_NONTEMPORAL)
		return nt ? nt : &copy_pages_memcpy;
	pthread_once(&once, find_fastest);
	return fastest;
}

static void copier_in_child(struct fork_guarded *g)
{
	struct copier *c = container_of(g, struct copier, guard);

	c->workers = 0;
}

static int start_workers(struct copier *c, unsigned n)
{
	sigset_t all, old;
	int err = 0;

	sigfillset(&all);
	pthread_sigmask(SIG_BLOCK, &all, &old);
	while (!err && c->workers < n) {
		err = sched_thread_create(&c->worker[c->workers], worker_main, c);
		c->workers += !err;
	}
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	return -err;
}

static unsigned worker_count(enum copier_kind kind, unsigned threads)
{
	long cpus = sysconf(_SC_NPROCESSORS_ONLN);

	if (kind != COPIER_PARALLEL)
		return 0;
	if (!threads)
		threads = cpus < 1 ? 1 : cpus > 8 ? 8 : (unsigned)cpus;
	return min(threads - 1, (unsigned)WORKERS_MAX);
}

int copier_open(enum copier_kind kind, unsigned threads, struct copier **ret_copier)
{
	struct copier *c = meta_new(struct copier);
	int err;

	if (!c)
		return -ENOMEM;
	c->pages = choose(kind);
	c->guard.in_child = copier_in_child;
	write_lock(&host_fork_lock);
	fork_guard_add(&c->guard);
	write_unlock(&host_fork_lock);
	err = start_workers(c, worker_count(kind, threads));
	if (err) {
		copier_close(c);
		return err;
	}
	*ret_copier = c;
	return 0;
}

void copier_close(struct copier *c)
{
	atomic_store(&c->stopping, true);
	wake_all(&c->round);
	for (unsigned i = 0; i < c->workers; i++)
		sched_thread_join(c->worker[i]);
	write_lock(&host_fork_lock);
	fork_guard_remove(&c->guard);
	write_unlock(&host_fork_lock);
	meta_delete(c);
}
