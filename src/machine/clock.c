// SPDX-License-Identifier: MIT
// The clock of a machine. Its scanners (khugepaged, ksmd, kcompactd, the balancer) ask only this
// one what time it is and wait only for it, so that a test with a manual clock runs a week of
// scanning in no time and always the same way. The host's clock is the virtual one in a seeded run
// (base/sched.h), which needs nobody to advance it.
//
// Interface: clock_now_ns(), clock_advance(), clock_kick().
// Locks: none; sleepers are in the hashed wait queues under the address of the clock (wait_until(),
// whose condition is all that they wait for: the time, and what they are kicked for).
// What can fail: nothing.
#include "machine/clock.h"

#include "base/assert.h"
#include "base/wait.h"

void clock_init_monotonic(struct clock *clock)
{
	clock->manual = false;
	atomic_store(&clock->now_ns, 0);
}

void clock_init_manual(struct clock *clock, uint64_t start_ns)
{
	clock->manual = true;
	atomic_store(&clock->now_ns, start_ns);
}

uint64_t clock_now_ns(struct clock *clock)
{
	return clock->manual ? atomic_load(&clock->now_ns) : wait_clock_ns();
}

void clock_advance(struct clock *clock, uint64_t ns)
{
	assert_that(clock->manual, "clock %p is the host's", (void *)clock);
	atomic_fetch_add(&clock->now_ns, ns);
	wake_all(clock);
}

void clock_kick(struct clock *clock)
{
	wake_all(clock);
}
