// SPDX-License-Identifier: MIT
// Clock, medians, and what everything is compared with: a plain memcpy. Internal to bench/.
#ifndef GODWIT_BENCH_MEASURE_H
#define GODWIT_BENCH_MEASURE_H

#include "bench/bench.h"

double bench_now_ns(void);
// The processor time of this thread: what a host that runs other things does not lengthen. Only for
// what no other thread works at.
double bench_cpu_ns(void);
typedef double bench_clock_fn(void);
struct bench_spread spread_of(double *v, unsigned n); // sorts v
double percentile_of(double *v, size_t n, double part); // sorts v; 0 when empty

// Two buffers of shared memory like an arena's, of the same size of host page, all touched.
struct plain {
	char *side[2];
	size_t bytes;
	int fd[2];
};
enum plain_pages { PLAIN_USUAL, PLAIN_HUGE, PLAIN_OF_POOL };
int plain_open(struct plain *, size_t bytes, enum plain_pages pages);
void plain_close(struct plain *);

// Times of the rounds of one row.
struct timing {
	double *ours, *copy; // ns
	double *ratio;
	unsigned n, capacity;
};
int timing_open(struct timing *, unsigned rounds);
void timing_close(struct timing *);
void timing_add(struct timing *, double ours_ns, double copy_ns);
// ratio, page_ns and memcpy_page_ns of the row, which knows its pages.
void timing_report(struct timing *, struct bench_row *);

#endif
