// SPDX-License-Identifier: MIT
// Time of one machine: the host's monotonic nanoseconds (the virtual ones in a seeded run), or what
// a test says.
#ifndef GODWIT_MACHINE_CLOCK_H
#define GODWIT_MACHINE_CLOCK_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct clock {
	bool manual;
	_Atomic uint64_t now_ns; // manual: the time; advances only by clock_advance()
};

void clock_init_monotonic(struct clock *clock);
void clock_init_manual(struct clock *clock, uint64_t start_ns);
uint64_t clock_now_ns(struct clock *clock);
// Only of a manual clock. Who waits with the clock as its key looks at its condition again.
void clock_advance(struct clock *clock, uint64_t ns);
// The same without a change of the time, as for a thread that is told to stop.
void clock_kick(struct clock *clock);

#endif
