// SPDX-License-Identifier: MIT
// A machine to measure on: two nodes, one area of memory, and its pages to be moved to and fro.
// Internal to bench/.
#ifndef GODWIT_BENCH_WORLD_H
#define GODWIT_BENCH_WORLD_H

#include "bench/host_area.h"
#include "bench/measure.h"

#include <godwit/machine.h>
#include <godwit/migrate.h>
#include <godwit/space.h>

struct world_spec {
	enum gw_blocker blocker;
	bool huge;	       // arenas of huge host pages
	bool hugetlbfs;	       // the engine's pool on the host's
	unsigned copy_threads;
	unsigned spaces; // that map the area: 1 or 2
	bool thp;	 // huge folios in the area
	bool hugetlb;	 // or pages of the engine's pool
	uint64_t bytes;	 // of the area, a multiple of 2 MiB
	// Measure against move_pages(2) of the host instead of memcpy: both have their pages on
	// these two nodes.
	bool against_host;
	int host_node[2];
	enum host_pages host_pages;
};

struct world {
	struct world_spec spec;
	struct gw_machine *machine;
	struct gw_task *task[2];
	struct gw_object *object; // with two spaces
	uint64_t area;		  // in task[0], which the calling thread is attached to
	char *bytes;		  // of the area
	unsigned long pages;
	unsigned side; // the node where the pages are
	struct plain plain;
	struct host_area host; // against_host
	// What is moved: the first pages of entries in the order of the calls. An entry is a page,
	// with huge folios 512.
	unsigned long unit, entries;
	uint32_t *order;
	uint64_t *address;
	int *node, *status;
	double *ours, *copy; // ns a page of each turn
};

// On failure `why` says what this host or build does not give.
int world_open(struct world *, const struct world_spec *, char *why, size_t size);
void world_close(struct world *);
// Deal the pages out in a random order (seeded, always the same), or in a row again.
void world_shuffle(struct world *);

struct move_plan {
	unsigned long entries;	// a round: the first of the order
	unsigned long per_call; // entries in a gw_move_pages() call
	unsigned long per_turn; // entries until it is memcpy's turn, a multiple of per_call
	unsigned pause_budget_us;
	unsigned flags; // GW_MPOL_MF_*
	bench_clock_fn *now;
};

// One round: the pages go to the other node, and memcpy takes its turns. The times are those of the
// median turn, scaled to all: a turn during which the host ran something else says nothing. 0, or the errno of the
// call. *ret_stayed is increased by pages that did not move.
int world_round(struct world *, const struct move_plan *, double *ret_ours_ns, double *ret_copy_ns,
	uint64_t *ret_stayed);

// With against_host: the kernel finds all pages of the area on the host's node of the side where
// they should be. How many it does not, or errno.
long world_elsewhere(const struct world *);

// Each page carries its number; false: some page has that of another, or none.
void world_stamp(struct world *);
bool world_check(const struct world *);

#endif
