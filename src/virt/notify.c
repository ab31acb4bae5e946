// SPDX-License-Identifier: MIT
// Telling subscribers that translations go: mmu notifiers.
//
// Whoever hands addresses of a space to a device registers a subscriber. It hears of each range
// before its translations go (start) and after (end), and uses nothing it cached in between. Every
// start has its end and every end its start, and when registering returns no invalidation is under
// way that the subscriber was not told of: what it looks up from then on is true until it is told.
//
//   who invalidates                    who registers, and leaves
//     begin: counted in the space        put on the list
//     start to those on the list         wait until all that began before are over
//     entries change                     ...
//     end to those who got the start     off: no more starts; wait for the ends that are due
//     counted out                        off the list
//
// Subscribers are numbered as they come and go (notifier_seq). An invalidation keeps the number of
// its start: who came later, or had left, gets neither start nor end of it.
//
// Waiting for what began before must not depend on what begins meanwhile: a space has two counters,
// and invalidations use the one its `invalidate_side` says. Who registers turns that to the other
// side, waits until the first is empty, and does the same with the other: so it has seen each of
// them empty once after it was on the list, and whoever counted later has seen the list with it.
//
// Without subscribers an invalidation costs two atomics on its space.
//
// Locks: one lock for the subscribers of all machines, of a rank above the rmap locks, because
// migration notifies under those; held for reading while subscribers are called, so that nobody
// leaves while he is called. It is process-wide to need no set-up, and rarely written. Who waits
// holds no lock. What can fail: nothing.
#include "base/mark.h"
#include "base/wait.h"
#include "virt/mm.h"
#include "virt/space.h"

#include <stdatomic.h>

static struct rwlock notifiers_lock = RWLOCK_INIT(NOTIFIER);
static uint64_t notifier_seq; // notifiers_lock

void notifiers_in_child(void)
{
	rwlock_init(&notifiers_lock, RANK_NOTIFIER);
}

// ---- Coming and going

static bool side_is_empty(struct space *space, unsigned side)
{
	return !atomic_load(&space->invalidating[side]);
}

// What had begun is over.
static void wait_for_invalidations(struct space *space)
{
	(void)!wait_until(&space->draining, !atomic_exchange(&space->draining, true), WAIT_FOREVER);
	for (unsigned side = 0; side < 2; side++) {
		atomic_store(&space->invalidate_side, !side);
		if (!side_is_empty(space, side))
			MARK(notifier_waits_to_register);
		(void)!wait_until(&space->invalidating, side_is_empty(space, side), WAIT_FOREVER);
	}
	atomic_store(&space->draining, false);
	wake_one(&space->draining);
}

void mm_notifier_register(struct mm_core *mm, struct mm_notifier *n)
{
	write_lock(&notifiers_lock);
	n->from = ++notifier_seq;
	n->until = UINT64_MAX;
	n->under_way = 0;
	list_add_tail(&n->node, &mm->notifiers);
	atomic_fetch_add(&mm->nr_notifiers, 1);
	write_unlock(&notifiers_lock);
	wait_for_invalidations(n->space);
}

void mm_notifier_unregister(struct mm_core *mm, struct mm_notifier *n)
{
	write_lock(&notifiers_lock);
	n->until = ++notifier_seq;
	write_unlock(&notifiers_lock);
	if (atomic_load(&n->under_way))
		MARK(notifier_waits_to_leave);
	(void)!wait_until(&n->under_way, !atomic_load(&n->under_way), WAIT_FOREVER);
	write_lock(&notifiers_lock);
	list_del(&n->node);
	atomic_fetch_sub(&mm->nr_notifiers, 1);
	write_unlock(&notifiers_lock);
}

// ---- Invalidations

static bool concerns(const struct mm_notifier *n, const struct mm_invalidation *inv)
{
	return n->space == inv->space && n->from <= inv->told && inv->told < n->until;
}

bool mm_notify_begin(struct mm_invalidation *inv, struct space *space, uint64_t start, uint64_t end,
	enum mm_invalidate_reason why)
{
	*inv = (struct mm_invalidation){.space = space, .start = start, .end = end, .why = why};
	inv->side = atomic_load(&space->invalidate_side);
	atomic_fetch_add(&space->invalidating[inv->side], 1);
	return atomic_load(&space->mm->nr_notifiers); // after being counted
}

void mm_notify_tell(struct mm_invalidation *inv)
{
	struct mm_notifier *n;

	read_lock(&notifiers_lock);
	inv->told = notifier_seq;
	list_for_each_entry(n, &inv->space->mm->notifiers, node) {
		if (!concerns(n, inv))
			continue;
		atomic_fetch_add(&n->under_way, 1);
		if (n->start)
			n->start(n, inv->start, inv->end, inv->why);
	}
	read_unlock(&notifiers_lock);
}

void mm_notify_start(struct mm_invalidation *inv, struct space *space, uint64_t start, uint64_t end,
	enum mm_invalidate_reason why)
{
	if (mm_notify_begin(inv, space, start, end, why))
		mm_notify_tell(inv);
}

static void tell_end(const struct mm_invalidation *inv)
{
	struct mm_notifier *n;

	read_lock(&notifiers_lock);
	list_for_each_entry(n, &inv->space->mm->notifiers, node) {
		if (!concerns(n, inv))
			continue;
		if (n->end)
			n->end(n, inv->start, inv->end, inv->why);
		if (atomic_fetch_sub(&n->under_way, 1) == 1 && n->until != UINT64_MAX)
			wake_all(&n->under_way);
	}
	read_unlock(&notifiers_lock);
}

void mm_notify_end(struct mm_invalidation *inv)
{
	struct space *space = inv->space;

	if (inv->told)
		tell_end(inv);
	if (atomic_fetch_sub(&space->invalidating[inv->side], 1) == 1 &&
		atomic_load(&space->draining))
		wake_all(&space->invalidating);
}
