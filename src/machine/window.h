// SPDX-License-Identifier: MIT
// Windows: stretches of host addresses that the engine serves, and the table that finds them.
#ifndef GODWIT_MACHINE_WINDOW_H
#define GODWIT_MACHINE_WINDOW_H

#include "base/list.h"
#include "machine/fork_guard.h"
#include "machine/mmu.h"

#define WINDOW_CLOSING (1u << 31)

// What the host maps at one page of a window (machine/vma_budget.h); all zero is how a window
// begins.
struct window {
	struct mmu_window pub; // first: what the engine holds
	struct mmu *mmu;
	struct fork_guarded guard;
	size_t nr_pages;
	_Atomic uint32_t users; // faults being served, and WINDOW_CLOSING
	uint64_t *state; // one a page; the backend's lock
	size_t cuts;	 // host mappings that begin inside, by those words; the same lock
};

// What a fault needs to know; a copy, for the window may be closed meanwhile.
struct window_ref {
	struct window *window;
	struct mmu *mmu;
	void *owner;
};

// Reserves the addresses; nothing leads to the window yet. -EEXIST when `hint` is taken, -EINVAL,
// -ENOMEM.
must_check int window_reserve(struct mmu *mmu, size_t size, size_t align, void *hint, void *owner,
	struct window **ret_window);
// From here on its faults are found, and fork() knows of it: whoever maps something there before
// holds the lock all the while. -ENOMEM.
must_check int window_publish(struct window *w) REQUIRES(host_fork_lock);
// The reverse. No access is in flight; waits for faults that are still being served, perhaps for an
// accessor that has long gone on: the caller holds no lock that mmu->fault() takes.
void window_unpublish(struct window *w);
// Until then fork() keeps it from the child.
void window_free(struct window *w);

// Takes no lock: usable in a signal handler, whatever was interrupted.
bool window_find(uintptr_t at, struct window_ref *ret_ref);
// The same, and neither the window nor its owner goes away until window_put().
bool window_get(uintptr_t at, struct window_ref *ret_ref);
void window_put(const struct window_ref *ref);

static inline size_t window_page(const struct window *w, uintptr_t at)
{
	return (at - w->pub.start) >> PAGE_SHIFT;
}

static inline uintptr_t window_page_at(const struct window *w, size_t page)
{
	return w->pub.start + (page << PAGE_SHIFT);
}

#endif
