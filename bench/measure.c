// SPDX-License-Identifier: MIT
// Clock, medians, and the memcpy that everything is compared with.
//
// The host is seldom idle and its speed changes from second to second, so absolute figures say
// little. Each round therefore takes turns, some hundred microseconds each: a piece is copied by
// memcpy between two buffers that are nobody's, then as much is moved. The round's ratio is that of
// the two median turns; a row shows the median of its rounds, the lowest and the highest.
//
// Rows in which one thread does everything are measured in its processor time, on both sides; rows
// with several threads by the clock on the wall, so a busy host shows in their spread.
//
// The buffers are shared memory, as the arenas are, backed by host pages of the same size, and all
// touched before. Together with the arenas they are much larger than the caches (not with quick).
//
// What can fail: memory.
#include "bench/measure.h"

#include <errno.h>
#include <linux/memfd.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

double bench_now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

double bench_cpu_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
	return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

static int by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

double percentile_of(double *v, size_t n, double part)
{
	if (!n)
		return 0;
	qsort(v, n, sizeof(*v), by_value);
	size_t i = (size_t)(part * (double)n);
	return v[i < n ? i : n - 1];
}

struct bench_spread spread_of(double *v, unsigned n)
{
	struct bench_spread s = {.median = percentile_of(v, n, 0.5)};

	if (n) {
		s.min = v[0];
		s.max = v[n - 1];
	}
	return s;
}

// ---- Buffers

#define HUGE_BYTES (2ul << 20)

static int open_side(struct plain *p, int i, enum plain_pages pages)
{
	char *room;

	p->fd[i] = memfd_create("godwit-bench", MFD_CLOEXEC |
		(pages == PLAIN_OF_POOL ? MFD_HUGETLB | MFD_HUGE_2MB : 0));
	if (p->fd[i] < 0 || ftruncate(p->fd[i], (off_t)p->bytes))
		return -errno;
	// Huge pages need an address that is a multiple of their size.
	room = mmap(NULL, p->bytes + HUGE_BYTES, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (room == MAP_FAILED)
		return -ENOMEM;
	p->side[i] = (char *)(((uintptr_t)room + HUGE_BYTES - 1) & ~(HUGE_BYTES - 1));
	if (mmap(p->side[i], p->bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, p->fd[i],
		    0) == MAP_FAILED)
		return -ENOMEM;
	if (pages == PLAIN_HUGE)
		(void)madvise(p->side[i], p->bytes, MADV_HUGEPAGE);
	memset(p->side[i], 1 + i, p->bytes);
	return 0;
}

int plain_open(struct plain *p, size_t bytes, enum plain_pages pages)
{
	int err;

	*p = (struct plain){.bytes = bytes, .fd = {-1, -1}};
	err = open_side(p, 0, pages);
	if (!err)
		err = open_side(p, 1, pages);
	if (err)
		plain_close(p);
	return err;
}

void plain_close(struct plain *p)
{
	for (int i = 0; i < 2; i++) {
		if (p->side[i])
			munmap(p->side[i], p->bytes);
		if (p->fd[i] >= 0)
			close(p->fd[i]);
		p->side[i] = NULL;
		p->fd[i] = -1;
	}
}

// ---- Rounds

int timing_open(struct timing *t, unsigned rounds)
{
	*t = (struct timing){.capacity = rounds};
	t->ours = calloc(rounds, sizeof(double));
	t->copy = calloc(rounds, sizeof(double));
	t->ratio = calloc(rounds, sizeof(double));
	if (t->ours && t->copy && t->ratio)
		return 0;
	timing_close(t);
	return -ENOMEM;
}

void timing_close(struct timing *t)
{
	free(t->ours);
	free(t->copy);
	free(t->ratio);
	*t = (struct timing){0};
}

void timing_add(struct timing *t, double ours_ns, double copy_ns)
{
	if (t->n == t->capacity)
		return;
	t->ours[t->n] = ours_ns;
	t->copy[t->n++] = copy_ns;
}

void timing_report(struct timing *t, struct bench_row *row)
{
	double pages = row->pages ? (double)row->pages : 1;
	for (unsigned i = 0; i < t->n; i++) {
		t->ratio[i] = t->copy[i] / t->ours[i];
		t->ours[i] /= pages;
		t->copy[i] /= pages;
	}
	row->rounds = t->n;
	row->ratio = spread_of(t->ratio, t->n);
	row->page_ns = spread_of(t->ours, t->n);
	row->memcpy_page_ns = spread_of(t->copy, t->n).median;
}
