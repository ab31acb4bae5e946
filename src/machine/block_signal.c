// SPDX-License-Identifier: MIT
// The rewire backend with the signal blocker: host protections stop accessors, SIGSEGV brings them
// to the engine. Any kernel, no privilege; a system call on such a page gets EFAULT.
//
// A page of a window is, for the host:
//
//   absent      an anonymous mapping without access    window_open, clear
//   readable    arena bytes, PROT_READ                 map, protect
//   writable    arena bytes, PROT_READ | PROT_WRITE    map, protect, unblock
//   refused     arena bytes, PROT_NONE                 map, protect
//   blocked     arena bytes, PROT_READ or PROT_NONE    block
//
// Only the engine knows a blocked page from a readable one: the accessor waits in the engine,
// inside its handler, so wake() has nothing to do.
//
// Stores in flight: mprotect() returns after every cpu has dropped its old translation, and so
// does the removal of page tables; what a cpu stored before that is in the old frame.
//
// What can fail: map, protect and block with -ENOMEM when the host has no mapping left to split
// one, the page being as before. clear() then takes the access from the whole window, and those in
// a row with it, which needs no split; every page of them faults once and is mapped again.
// unblock() leaves the page blocked for the host; the next access comes to the engine, which maps
// it.
#include "machine/rewire.h"

#include "base/mark.h"
#include "base/meta.h"
#include "machine/host_calls.h"
#include "machine/sigsegv.h"

#include <errno.h>
#include <sched.h>
#include <signal.h>

static int host_prot(enum mmu_prot prot)
{
	return prot == MMU_WRITE ? HOST_RW : prot == MMU_READ ? PROT_READ : PROT_NONE;
}

static uint64_t prot_state(enum mmu_prot prot)
{
	return prot == MMU_WRITE  ? PAGE_PROT_USUAL
	       : prot == MMU_READ ? PAGE_PROT_READ
				  : PAGE_PROT_NONE;
}

static int state_prot(uint64_t state)
{
	return state & PAGE_PROT_NONE ? PROT_NONE : state & PAGE_PROT_READ ? PROT_READ : HOST_RW;
}

static int window_init(struct rewire *rw maybe_unused, struct window *w maybe_unused)
{
	return 0; // reserved without access: that is absent
}

static int signal_window_open(struct mmu *mmu, size_t size, size_t align, void *hint, void *owner,
	struct mmu_window **ret_window)
{
	return rewire_window_open(mmu, size, align, hint, owner, window_init, ret_window);
}

// Host mappings that a failed call tore down come back as the page states say. What cannot be
// mapped stays a hole: an access to it comes to the engine as well.
static void mend(struct rewire_call *c)
{
	const struct window *w = c->window;

	if (likely(!rewire_has_hole(c)))
		return;
	atomic_fetch_add(&c->rw->counters.mended, 1);
	for (size_t page = c->page, end = page + c->nr, n; page < end; page += n) {
		uintptr_t at = w->pub.start + (page << PAGE_SHIFT);
		struct pfn first = page_state_pfn(w->state[page]);
		const struct arena *arena = arena_of(first);
		int err;

		n = window_state_mapping(w, page, end - page);
		if ((w->state[page] & PAGE_KIND) == PAGE_FRAME && arena)
			err = host_map_file(at, n << PAGE_SHIFT, state_prot(w->state[page]),
				rewire_file_of(w->state[page]), arena_offset(arena, first));
		else
			err = host_map_void(at, n << PAGE_SHIFT, PROT_NONE);
		if (err)
			MARK(signal_mend_refused);
	}
}

// A mapping that is not writable cannot take moved tables: for a moment they would be.
static int place_protected(struct rewire_call *c, struct pfn first, enum mmu_prot prot)
{
	struct arena *arena = arena_of(first);
	int err = rewire_check_frames(c, first);

	if (err)
		return err;
	err = host_map_file(c->at, c->size, host_prot(prot), arena_fd(arena, first),
		arena_offset(arena, first));
	if (!err)
		window_state_set(c->window, c->page, c->nr,
			page_state(rewire_file_state(first) | prot_state(prot), first));
	return err;
}

// Room for something small where a huge page of hugetlbfs was.
static int make_way(const struct rewire_call *c)
{
	struct rewire_call whole = *c;
	int err;

	rewire_widen(&whole);
	if (likely(whole.nr == c->nr))
		return 0;
	err = host_map_void(whole.at, whole.size, PROT_NONE);
	if (err)
		mend(&whole);
	else
		window_state_set(whole.window, whole.page, whole.nr, PAGE_VOID);
	return err;
}

static int signal_map(
	struct mmu *mmu, uintptr_t at, struct pfn first, unsigned nr, enum mmu_prot prot)
{
	struct rewire_call c;
	bool filled = false;
	int err = rewire_enter(&c, mmu, at, nr);

	if (err)
		return err;
	err = make_way(&c);
	if (!err && prot == MMU_WRITE)
		err = rewire_place(&c, first, &filled);
	else if (!err)
		err = place_protected(&c, first, prot);
	if (err)
		mend(&c);
	rewire_unlock(&c);
	if (filled)
		atomic_fetch_add_explicit(&c.rw->counters.tables_moved, 1, memory_order_relaxed);
	else if (!err && prot != MMU_NONE)
		rewire_populate(&c, first);
	rewire_leave(&c);
	return err;
}

// Pages without translation stay so: nobody gets at them, and readable they would be zeros.
static int change_shown(struct rewire_call *c, struct pfn first, int host, uint64_t gone,
	uint64_t state)
{
	struct rewire_call part;
	int err = 0;

	for (unsigned i = 0; !err && rewire_next_shown(c, first, i, &part);
		i = (unsigned)(part.page - c->page) + part.nr) {
		err = host_protect(part.at, part.size, host);
		if (!err)
			window_state_change(part.window, part.page, part.nr, gone, state);
	}
	return err;
}

static int protect_shown(struct rewire_call *c, struct pfn first, enum mmu_prot prot)
{
	return change_shown(c, first, host_prot(prot), PAGE_PROT | PAGE_OFF, prot_state(prot));
}

static int signal_protect(struct mmu *mmu, uintptr_t at, struct pfn first, unsigned nr,
	enum mmu_prot prot)
{
	struct rewire_call c;
	int err = rewire_enter(&c, mmu, at, nr);

	if (err)
		return err;
	err = protect_shown(&c, first, prot);
	rewire_unlock(&c);
	rewire_leave(&c);
	return err;
}

static void note_shut(struct window *w)
{
	for (size_t page = 0, n; page < w->nr_pages; page += n) {
		n = window_state_run(w, page, w->nr_pages - page, PAGE_KIND);
		if ((w->state[page] & PAGE_KIND) == PAGE_FRAME)
			window_state_change(w, page, n, PAGE_PROT, PAGE_PROT_NONE | PAGE_OFF);
	}
}

static void clear_row(struct rewire_call *c)
{
	uintptr_t end;
	struct window *first = rewire_row_first(c->window, &end);

	MARK(signal_clear_widened);
	atomic_fetch_add(&c->rw->counters.widened, 1);
	while (host_protect(first->pub.start, end - first->pub.start, PROT_NONE))
		sched_yield(); // it needs no new mapping: only the test of this loop comes here
	for (struct window *w = first; w; w = rewire_row_next(w))
		note_shut(w);
}

static void signal_clear(struct mmu *mmu, uintptr_t at, unsigned nr)
{
	struct rewire_call c;

	if (rewire_enter(&c, mmu, at, nr))
		return;
	rewire_widen(&c);
	if (c.window->state[c.page] != PAGE_VOID ||
		window_state_mapping(c.window, c.page, c.nr) != c.nr) {
		if (!host_map_void(c.at, c.size, PROT_NONE)) {
			window_state_set(c.window, c.page, c.nr, PAGE_VOID);
		} else {
			mend(&c);
			if (host_protect(c.at, c.size, PROT_NONE))
				clear_row(&c);
			window_state_change(c.window, c.page, c.nr, PAGE_PROT,
				PAGE_PROT_NONE | PAGE_OFF | PAGE_CLEARED);
		}
	}
	rewire_unlock(&c);
	rewire_leave(&c);
}

// A page that lets nobody in must not let readers in while it is blocked.
static bool any_refused(const struct rewire_call *c)
{
	for (unsigned i = 0; i < c->nr; i++)
		if (c->window->state[c->page + i] & PAGE_PROT_NONE)
			return true;
	return false;
}

static int block_shown(struct rewire_call *c, struct pfn first, bool readers)
{
	return change_shown(c, first, readers ? PROT_NONE : PROT_READ, readers ? PAGE_PROT : 0,
		PAGE_OFF | (readers ? PAGE_PROT_NONE : PAGE_PROT_READ));
}

static int signal_block(struct mmu *mmu, uintptr_t at, struct pfn first, unsigned nr, bool readers)
{
	struct rewire_call c;
	int err = rewire_enter(&c, mmu, at, nr);

	if (err)
		return err;
	if (!vma_budget_allows(window_state_splits(c.window, c.page, nr))) {
		atomic_fetch_add(&c.rw->counters.moves_refused, 1);
		err = -ENOMEM;
	}
	readers |= any_refused(&c);
	if (!err) {
		rewire_park(&c, first); // what faults back in before the next line loses it there
		err = block_shown(&c, first, readers);
	}
	rewire_unlock(&c);
	rewire_leave(&c);
	return err;
}

// One stretch without a gap: moved tables would show a page that was cleared meanwhile.
static int restore(struct rewire_call *c, struct pfn first, enum mmu_prot prot)
{
	bool filled = false;
	int err = -EAGAIN;

	if (prot == MMU_WRITE && rewire_is_parked(c, first)) {
		err = rewire_place(c, first, &filled);
		if (err)
			mend(c);
	}
	if (err)
		err = protect_shown(c, first, prot);
	if (!err && !filled && prot != MMU_NONE)
		rewire_populate(c, first);
	return err;
}

static void signal_unblock(
	struct mmu *mmu, uintptr_t at, struct pfn first, unsigned nr, enum mmu_prot prot)
{
	struct rewire_call c, shown;
	bool failed = false;

	if (rewire_enter(&c, mmu, at, nr))
		return;
	for (unsigned i = 0; rewire_next_shown(&c, first, i, &shown);) {
		unsigned from = (unsigned)(shown.page - c.page);

		failed |= restore(&shown, pfn_add(first, from), prot) != 0;
		i = from + shown.nr;
	}
	if (failed)
		atomic_fetch_add(&c.rw->counters.unblock_failed, 1);
	rewire_unlock(&c);
	rewire_leave(&c);
}

static void signal_wake(
	struct mmu *mmu maybe_unused, uintptr_t at maybe_unused, unsigned nr maybe_unused)
{
}

static void signal_close(struct mmu *mmu)
{
	struct rewire *rw = rewire_of(mmu);

	sigsegv_uninstall(&rw->guard);
	rewire_destroy(rw);
	meta_delete(rw);
}

const struct mmu_ops rewire_signal_ops = {
	.name = "rewire",
	.blocker = "signal",
	.window_open = signal_window_open,
	.window_close = rewire_window_close,
	.map = signal_map,
	.protect = signal_protect,
	.clear = signal_clear,
	.block = signal_block,
	.unblock = signal_unblock,
	.wake = signal_wake,
	.peek = rewire_peek,
	.close = signal_close,
};

int rewire_signal_open(mmu_fault_fn *fault, struct mmu **ret_mmu)
{
	struct rewire *rw = meta_new(struct rewire);
	int err;

	if (!rw)
		return -ENOMEM;
	rewire_init(rw, &rewire_signal_ops, fault);
	rw->mmu.caps = MMU_BLOCK_READ | MMU_REAL;
	err = sigsegv_install();
	if (err) {
		rewire_destroy(rw);
		meta_delete(rw);
		return err;
	}
	*ret_mmu = &rw->mmu;
	return 0;
}
