// SPDX-License-Identifier: MIT
// Rows about what is around moves: touching pages for the first time, asking where they are, and
// taking accesses away and giving them back. Each in the same run as the host's own call for the
// same purpose on as many plain pages, where there is one.
//
//   first touch   a store to each page of a new area; host: of a new anonymous mmap()
//   query         gw_move_pages() without nodes, one call for all; host: move_pages(2)
//   protect       PROT_NONE and back, each in one call for all; host: mprotect(2)
#include "bench/case.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

// One round of something, over all pages; the time, or a negative errno.
typedef double once_fn(struct world *);

static double plain_copy_ns(struct world *w, bench_clock_fn *now)
{
	double start = now();

	memcpy(w->plain.side[1], w->plain.side[0], w->plain.bytes);
	return now() - start;
}

static int compare(struct world *w, once_fn *ours, once_fn *hosts, bench_clock_fn *now, unsigned n,
	struct timing *t, double *host_ns)
{
	for (unsigned i = 0; i < n; i++) {
		double copy_ns = plain_copy_ns(w, now), ours_ns = ours(w);

		if (ours_ns < 0)
			return (int)ours_ns;
		host_ns[i] = hosts ? hosts(w) : 0;
		timing_add(t, ours_ns, copy_ns);
	}
	return 0;
}

static int run(const struct bench_setting *s, struct bench_row *row, once_fn *ours, once_fn *hosts,
	bench_clock_fn *now)
{
	double *host_ns = calloc(s->rounds + BENCH_WARM_UP, sizeof(*host_ns));
	struct timing t = {0};
	struct world w;
	int err = host_ns ? world_open(&w, &s->spec, row->skipped, sizeof row->skipped) : -ENOMEM;

	if (err) {
		free(host_ns);
		return err == -ENOMEM ? err : 0;
	}
	err = timing_open(&t, s->rounds);
	if (!err) {
		err = compare(&w, ours, hosts, now, BENCH_WARM_UP, &(struct timing){0}, host_ns);
		if (!err)
			err = compare(&w, ours, hosts, now, s->rounds, &t, host_ns);
		row->pages = w.pages;
		row->cpu_time = now == bench_cpu_ns;
		row->host_page_ns = spread_of(host_ns, s->rounds).median / (double)w.pages;
		if (err)
			snprintf(row->skipped, sizeof row->skipped, "%s", strerror(-err));
		else
			timing_report(&t, row);
		timing_close(&t);
	}
	world_close(&w);
	free(host_ns);
	return err == -ENOMEM ? err : 0;
}

// ---- First touch

static void touch(char *at, unsigned long pages)
{
	for (unsigned long i = 0; i < pages; i++)
		*(volatile char *)(at + i * GW_PAGE_SIZE) = 1;
}

static double touch_ours(struct world *w)
{
	void *at;
	int err = gw_alloc(w->task[0], w->spec.bytes, &at);
	double start = bench_now_ns(), ns;

	if (err)
		return err;
	touch(at, w->pages);
	ns = bench_now_ns() - start;
	err = gw_unmap(w->task[0], (uint64_t)(uintptr_t)at, w->spec.bytes);
	return err ? err : ns;
}

static double touch_host(struct world *w)
{
	char *at = mmap(NULL, w->spec.bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
		-1, 0);
	double start = bench_now_ns(), ns;

	if (at == MAP_FAILED)
		return 0;
	touch(at, w->pages);
	ns = bench_now_ns() - start;
	munmap(at, w->spec.bytes);
	return ns;
}

int bench_first_touch(const struct bench_setting *s, struct bench_row *row)
{
	return run(s, row, touch_ours, touch_host, bench_now_ns);
}

// ---- Query

static double query_ours(struct world *w)
{
	double start = bench_cpu_ns();
	long err = gw_move_pages(w->task[0], 0, w->pages, w->address, NULL, w->status, 0);

	return err ? (double)err : bench_cpu_ns() - start;
}

static double query_host(struct world *w)
{
	double start;

	for (unsigned long i = 0; i < w->pages; i++)
		w->address[i] = (uint64_t)(uintptr_t)w->plain.side[0] + i * GW_PAGE_SIZE;
	start = bench_cpu_ns();
	long err = syscall(SYS_move_pages, 0, w->pages, w->address, NULL, w->status, 0);
	start = bench_cpu_ns() - start;
	for (unsigned long i = 0; i < w->pages; i++)
		w->address[i] = w->area + i * GW_PAGE_SIZE;
	return err ? 0 : start;
}

int bench_query(const struct bench_setting *s, struct bench_row *row)
{
	return run(s, row, query_ours, query_host, bench_cpu_ns);
}

// ---- Protection

static double protect_ours(struct world *w)
{
	double start = bench_cpu_ns();
	int err = gw_protect(w->task[0], w->area, w->spec.bytes, GW_PROT_NONE);

	if (!err)
		err = gw_protect(w->task[0], w->area, w->spec.bytes, GW_PROT_READ | GW_PROT_WRITE);
	return err ? err : bench_cpu_ns() - start;
}

static double protect_host(struct world *w)
{
	double start = bench_cpu_ns();

	if (mprotect(w->plain.side[0], w->plain.bytes, PROT_NONE) ||
		mprotect(w->plain.side[0], w->plain.bytes, PROT_READ | PROT_WRITE))
		return 0;
	return bench_cpu_ns() - start;
}

int bench_protect(const struct bench_setting *s, struct bench_row *row)
{
	return run(s, row, protect_ours, protect_host, bench_cpu_ns);
}
