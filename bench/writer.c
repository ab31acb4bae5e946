// SPDX-License-Identifier: MIT
// A hot writer: it adds 1 to a word of a random page, again and again, and looks at the clock after
// each. What took longer than BENCH_STALL_NS is a stall, and is kept. In the end the words of all
// pages must add up to the number of additions: then no store was lost in a move.
//
// The mark is taken by the thread itself at its next access, so the lists need no lock.
#include "bench/writer.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <time.h>

#define STALLS_MAX 65536

struct writer {
	struct world *world;
	pthread_t thread;
	atomic_bool stop, mark, pause, paused;
	_Atomic int attach_error;
	_Atomic uint64_t total;	   // ever
	_Atomic uint64_t accesses; // since the mark
	_Atomic uint64_t since_ns;
	double *stall; // us
	size_t nr_stalls;
};

static void begin_again(struct writer *wr, double now)
{
	wr->nr_stalls = 0;
	atomic_store(&wr->accesses, 0);
	atomic_store(&wr->since_ns, (uint64_t)now);
	atomic_store(&wr->mark, false);
}

static void stand_still(struct writer *wr)
{
	const struct timespec moment = {.tv_nsec = 100000};

	atomic_store(&wr->paused, true);
	while (atomic_load(&wr->pause) && !atomic_load(&wr->stop))
		nanosleep(&moment, NULL);
	atomic_store(&wr->paused, false);
}

static void write_until_stopped(struct writer *wr)
{
	struct world *w = wr->world;
	uint64_t seed = 2463534242ull;
	double last = bench_now_ns();

	while (!atomic_load_explicit(&wr->stop, memory_order_relaxed)) {
		if (atomic_load_explicit(&wr->pause, memory_order_relaxed)) {
			stand_still(wr);
			last = bench_now_ns();
		}
		seed ^= seed << 13;
		seed ^= seed >> 7;
		seed ^= seed << 17;
		++*(volatile uint64_t *)(w->bytes + seed % w->pages * GW_PAGE_SIZE + 64);
		double now = bench_now_ns();
		if (now - last > BENCH_STALL_NS && wr->nr_stalls < STALLS_MAX)
			wr->stall[wr->nr_stalls++] = (now - last) / 1e3;
		last = now;
		atomic_store_explicit(&wr->total, wr->total + 1, memory_order_relaxed);
		atomic_store_explicit(&wr->accesses, wr->accesses + 1, memory_order_relaxed);
		if (atomic_load_explicit(&wr->mark, memory_order_relaxed))
			begin_again(wr, now);
	}
}

static void *writer_main(void *arg)
{
	struct writer *wr = arg;

	wr->attach_error = gw_task_attach(wr->world->task[0]);
	if (wr->attach_error)
		return NULL;
	write_until_stopped(wr);
	wr->attach_error = gw_task_attach(NULL);
	return NULL;
}

int writer_start(struct world *w, struct writer **ret_writer)
{
	struct writer *wr = calloc(1, sizeof(*wr));
	int err;

	if (!wr)
		return -ENOMEM;
	wr->world = w;
	wr->stall = calloc(STALLS_MAX, sizeof(*wr->stall));
	atomic_store(&wr->mark, true);
	err = wr->stall ? -pthread_create(&wr->thread, NULL, writer_main, wr) : -ENOMEM;
	if (err) {
		free(wr->stall);
		free(wr);
		return err;
	}
	*ret_writer = wr;
	return 0;
}

void writer_mark(struct writer *wr)
{
	atomic_store(&wr->mark, true);
}

void writer_pause(struct writer *wr, bool pause)
{
	const struct timespec moment = {.tv_nsec = 100000};

	atomic_store(&wr->pause, pause);
	while (pause && !atomic_load(&wr->paused) && !wr->attach_error)
		nanosleep(&moment, NULL);
}

double writer_rate(const struct writer *wr)
{
	double ns = bench_now_ns() - (double)atomic_load(&wr->since_ns);

	return ns > 0 ? (double)atomic_load(&wr->accesses) * 1e9 / ns : 0;
}

static bool all_stores_there(const struct writer *wr)
{
	const struct world *w = wr->world;
	uint64_t sum = 0;

	for (unsigned long i = 0; i < w->pages; i++)
		sum += *(volatile uint64_t *)(w->bytes + i * GW_PAGE_SIZE + 64);
	return sum == atomic_load(&wr->total);
}

bool writer_stop(struct writer *wr, struct bench_stalls *ret_stalls)
{
	bool good;

	ret_stalls->accesses_per_s = writer_rate(wr);
	atomic_store(&wr->stop, true);
	pthread_join(wr->thread, NULL);
	good = !wr->attach_error && all_stores_there(wr);
	ret_stalls->count = wr->nr_stalls;
	ret_stalls->p50_us = percentile_of(wr->stall, wr->nr_stalls, 0.5);
	ret_stalls->p99_us = percentile_of(wr->stall, wr->nr_stalls, 0.99);
	ret_stalls->max_us = wr->nr_stalls ? wr->stall[wr->nr_stalls - 1] : 0;
	free(wr->stall);
	free(wr);
	return good;
}
