// SPDX-License-Identifier: MIT
// The rows of `godwit bench migrate` and `godwit bench huge`: one table of cases, each in one or several variants. Internal
// to bench/.
#ifndef GODWIT_BENCH_CASE_H
#define GODWIT_BENCH_CASE_H

#include "bench/world.h"

#define BENCH_WARM_UP 2 // rounds before those that count: both nodes are backed then

struct bench_case;

// What a row is measured with: `bytes` of area, rounds.
struct bench_setting {
	const struct bench_case *what;
	struct world_spec spec;
	unsigned rounds;
	bool quick;
};

// Fills in the figures, or `skipped`. 0 also when skipped; -ENOMEM, -EIO.
typedef int bench_row_fn(const struct bench_setting *, struct bench_row *);

struct bench_case {
	const char *name, *means;
	bench_row_fn *run;
	unsigned long per_call; // pages; 0: all
	unsigned long at_most;	// pages a round; 0: all
	unsigned spaces;	// 0 means 1
	unsigned pause_budget_us;
	bool scattered, thp, hugetlb, writer;
	enum host_pages host_pages; // against_host
	bool alone; // not against the host: a writer would be in only one of the two memories
	bool two_threads, huge_too; // variants beside one copy thread on 4 KiB arenas
};

bench_row_fn bench_moves;   // moves.c
bench_row_fn bench_first_touch, bench_query, bench_protect; // costs.c
bench_row_fn bench_split, bench_collapse, bench_scan;	    // huge_rows.c
bench_row_fn bench_mmu_move, bench_mmu_clear;		    // mmu_rows.c

#endif
