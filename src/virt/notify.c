// SPDX-License-Identifier: MIT
// Telling subscribers that translations go: mmu notifiers.
//
// Whoever hands addresses of a space to a device registers a subscriber. It hears of each range
// before its translations go (start) and after (end), and uses nothing it cached in between.
// Without subscribers a notification costs one load.
//
// Locks: one lock for the subscribers of all machines, of a rank above the rmap locks, because
// migration notifies under those; held for reading while subscribers are called, so that nobody
// leaves while he is called. It is process-wide to need no set-up, and rarely written.
// What can fail: nothing.
#include "virt/mm.h"
#include "virt/space.h"

#include <stdatomic.h>

static struct rwlock notifiers_lock = RWLOCK_INIT(NOTIFIER);

void notifiers_in_child(void)
{
	rwlock_init(&notifiers_lock, RANK_NOTIFIER);
}

void mm_notifier_register(struct mm_core *mm, struct mm_notifier *n)
{
	write_lock(&notifiers_lock);
	list_add_tail(&n->node, &mm->notifiers);
	atomic_fetch_add(&mm->nr_notifiers, 1);
	write_unlock(&notifiers_lock);
}

void mm_notifier_unregister(struct mm_core *mm, struct mm_notifier *n)
{
	write_lock(&notifiers_lock);
	list_del(&n->node);
	atomic_fetch_sub(&mm->nr_notifiers, 1);
	write_unlock(&notifiers_lock);
}

static void notify(struct space *space, bool start, uint64_t from, uint64_t to,
	enum mm_invalidate_reason why)
{
	struct mm_core *mm = space->mm;
	struct mm_notifier *n;

	if (!atomic_load_explicit(&mm->nr_notifiers, memory_order_acquire))
		return;
	read_lock(&notifiers_lock);
	list_for_each_entry(n, &mm->notifiers, node) {
		if (n->space != space)
			continue;
		if (start && n->start)
			n->start(n, from, to, why);
		else if (!start && n->end)
			n->end(n, from, to, why);
	}
	read_unlock(&notifiers_lock);
}

void mm_notify_start(struct space *space, uint64_t start, uint64_t end,
	enum mm_invalidate_reason why)
{
	notify(space, true, start, end, why);
}

void mm_notify_end(struct space *space, uint64_t start, uint64_t end, enum mm_invalidate_reason why)
{
	notify(space, false, start, end, why);
}
