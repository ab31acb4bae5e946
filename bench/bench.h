// SPDX-License-Identifier: MIT
// What moving pages costs on this host: measured through the public interface, as ratios to a plain
// memcpy of the same bytes in the same run.
#ifndef GODWIT_BENCH_BENCH_H
#define GODWIT_BENCH_BENCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct bench_options {
	unsigned rounds;    // measured ones of each row, after two that are not; 0: the default
	bool quick;	    // small and few: that it runs, not how fast
	bool against_host;  // what the kernel of this host does, instead of memcpy
	bool huge;	    // the rows of `godwit bench huge`
	const char *filter; // only rows whose "case/blocker/arena/threads" contains it; NULL: all
	// Called before each row: `done` of `total` are measured, `name` is next.
	void (*progress)(unsigned done, unsigned total, const char *name, void *arg);
	void *progress_arg;
};

struct bench_spread {
	double median, min, max; // over the rounds
};

// How long single accesses took, of those that took longer than BENCH_STALL_NS. The host's own
// scheduling is in it.
#define BENCH_STALL_NS 5000
struct bench_stalls {
	uint64_t count;
	double p50_us, p99_us, max_us;
	double waits_p50_us, waits_p99_us, waits_max_us; // what the engine says of itself
	double accesses_per_s, idle_per_s;		 // while pages move; while none does
};

struct bench_row {
	char name[96];	    // "contiguous-512/signal/4k/1"
	const char *what;   // the case
	const char *means;  // one sentence
	const char *blocker, *arena;
	unsigned copy_threads;
	bool under_writer;
	unsigned pause_budget_us; // 0: none
	char skipped[160];	  // why there are no figures; "" when there are
	bool cpu_time; // measured in processor time, not by the clock on the wall
	unsigned rounds;
	uint64_t pages; // a round
	struct bench_spread ratio; // memcpy's (the host's) time over ours: 1 is as fast
	struct bench_spread page_ns;
	double memcpy_page_ns; // median; against the host: that of its move_pages(2)
	double host_page_ns;   // the host's own call for the same purpose; 0: there is none
	uint64_t elsewhere;    // pages that the kernel found on another node at the end
	uint64_t stayed;       // pages that were not moved, all rounds
	uint64_t refused, kernel_refused; // splits and collapses that were: something was in use
	uint64_t overruns;     // blocks that took longer than the budget, all rounds
	struct bench_stalls stalls; // with under_writer
	struct bench_stalls kernel_stalls; // with kernel_stalled: a writer to the kernel's memory
	bool kernel_stalled;
};

struct bench_host {
	char kernel[64], cpu[64], shmem_huge[32];
	unsigned cpus;
	double memory_gib;
};

struct bench_report {
	struct bench_host host;
	bool debug_build; // assertions and lock checks are in: the figures say little
	uint64_t bytes;	  // moved in a round by most rows
	bool against_host, huge;
	int host_node[2]; // then: the nodes of the host that all pages went between
	struct bench_row *row;
	size_t nr;
};

// -ENODEV: against_host, and this host has one node with memory. -ENOMEM; -EIO: the bytes of a page were wrong after a move (a bug, the row says where). Rows that
// this host or build cannot give are there, with the reason. Release it in any case.
int bench_migrate(const struct bench_options *, struct bench_report *ret_report);
void bench_report_release(struct bench_report *);

// How many huge pages of the pool a row wants on each of the two nodes, with against_host.
unsigned bench_pool_pages(const struct bench_options *);

#endif
