// SPDX-License-Identifier: MIT
// The lock bit of a folio, and sleeping on its bits.
//
// Uncontended, a lock or unlock is one atomic operation on the flags. Who must wait sets WAITERS
// and sleeps on a hashed queue (base/wait.h) keyed by the head frame, then tries again; unlocking
// clears LOCKED and wakes only when WAITERS is set. WAITERS is cleared together with the bit that
// is waited for, before the wake: a waiter that still has to wait sets it again, so it is never
// lost, and at worst a wake is spurious (LOCKED and WRITEBACK share it).
//
// Waiting needs no reference: the queue's key is only a number, and the frame array stays. That is
// how accessors wait for a moving page without disturbing the count that migration checks. All of
// this may run in a SIGSEGV handler: nothing is allocated.
#include "base/assert.h"
#include "base/fault_inject.h"
#include "base/lock.h"
#include "base/sched.h"
#include "base/wait.h"
#include "phys/folio.h"

// Prepare to be woken when the bit clears: true if it is set (and WAITERS with it).
static bool must_wait_for(struct frame *frame, enum frame_flag flag)
{
	uint32_t old = frame_flags(frame);

	do {
		if (!(old >> flag & 1))
			return false;
		if (old >> PG_WAITERS & 1)
			return true;
	} while (!atomic_compare_exchange_weak_explicit(&frame->flags, &old, old | 1u << PG_WAITERS,
		memory_order_acq_rel, memory_order_acquire));
	return true;
}

static void wait_bit(struct folio *folio, enum frame_flag flag)
{
	int err = wait_until(&folio->page, !must_wait_for(&folio->page, flag), WAIT_FOREVER);

	assert_that(!err, "a wait without limit returned %d", err);
}

void folio_lock(struct folio *folio)
{
	lock_rank_check(RANK_FOLIO, folio);
	sched_point();
	while (frame_test_set(&folio->page, PG_LOCKED))
		wait_bit(folio, PG_LOCKED);
	lock_rank_acquired(RANK_FOLIO, folio);
}

void folio_wait_locked_noref(struct folio *folio)
{
	sched_point();
	wait_bit(folio, PG_LOCKED);
}

int folio_wait_locked_timeout(struct folio *folio, uint64_t timeout_ns)
{
	sched_point();
	return wait_until(&folio->page, !must_wait_for(&folio->page, PG_LOCKED), timeout_ns);
}

void folio_wait_bit_clear(struct folio *folio, enum frame_flag flag)
{
	sched_point();
	wait_bit(folio, flag);
}

void folio_clear_bit_wake(struct folio *folio, enum frame_flag flag)
{
	folio_clear_bit(folio, flag);
	sched_point();
}
