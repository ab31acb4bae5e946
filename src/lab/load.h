// SPDX-License-Identifier: MIT
// What a load does to memory, the same on both machines.
//
// Each page has a 64-byte lane for each thread. A writer puts a number into its lane that only it
// could have put there (page and round), and finds it one round later, or a write was lost. A
// reader never writes: what it saw in its first round it must see in all others. The longest time
// of one access after the first round is the stall.
#ifndef GODWIT_LAB_LOAD_H
#define GODWIT_LAB_LOAD_H

#include <stdbool.h>
#include <stdint.h>
#include <time.h>

#define LOAD_LANE 64
#define LOAD_LANES 64 // a page of 4 KiB

struct load_counts {
	uint64_t accesses, stall_ns, lost;
	uint64_t *seen; // the first value of each page
};

static inline uint64_t load_now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static inline uint64_t load_stamp(uint64_t page, uint64_t round)
{
	return round << 32 | (page * 2654435761u & 0xffffffff);
}

// An access in a round (from 1) that took so long found `old` in the lane of a page.
static inline void load_judge(struct load_counts *c, bool writes, uint64_t page, uint64_t round,
	uint64_t took, uint64_t old)
{
	c->accesses++;
	if (took > c->stall_ns && round > 1) // the first touch of a page is no stall
		c->stall_ns = took;
	if (round == 1)
		c->seen[page] = old;
	else if (old != (writes ? load_stamp(page, round - 1) : c->seen[page]))
		c->lost++;
}

#endif
