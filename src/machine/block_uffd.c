// SPDX-License-Identifier: MIT
// The rewire backend with the userfaultfd blocker: accessors of an absent, protected or moving page
// sleep in the kernel, in the middle of an instruction or of a system call, and notice nothing.
// Linux 5.19 or later, and a userfaultfd that sees the faults of system calls.
//
// A page of a window is, for the host:
//
//   absent     not watched before: a hole of a file without bytes, watched      window_open
//              once used: arena bytes without page table entry, watched         clear
//   writable   arena bytes, not watched                                         map
//   readable   arena bytes, write-protected by userfaultfd                      map, protect
//   refused    arena bytes, PROT_NONE: SIGSEGV, or EFAULT in a system call      map, protect
//   no stores  absent or readable, and PROT_READ; or both, and PROT_NONE        refuse
//   blocked    arena bytes without page table entry, watched                    block
//
// No gap. Between two host calls an accessor may slip in, so each step alone is safe:
//  - block and clear watch first and drop the page table entries then.
//  - a writable mapping replaces anything in one call; what slips in is right already.
//  - a readable one cannot be made in its place: a fresh mapping is not watched, and until it is a
//    store would go through (or a system call would get EFAULT if it were PROT_READ). So it is
//    built and write-protected at a staging address and moved over the place by mremap(), which
//    keeps the watch under UFFD_FEATURE_EVENT_REMAP
//    (docs/decisions/0004-read-only-without-a-gap.md). mremap() returns when a thread of the pool
//    has read its event.
//
// What the engine refuses (refuse()) is made true for the host before the accessor is woken, so
// that the kernel itself raises the signal, or fails the system call (uffd_refuse.c).
//
// No thread of the engine may fault on a watched page: it holds locks that the thread of the pool
// which serves it needs. So populating, which faults, is done to what was made unwatched under the
// same hold of rw->lock, and not to the gaps between.
//
// Locks: rw->lock as in rewire.c; it is held while mremap() waits for the pool's reader, which
// takes no lock of the machine. What can fail: as in rewire.c. clear() without a spare host mapping
// watches the whole window, and those in a row with it, which needs none.
#include "machine/rewire.h"

#include "base/mark.h"
#include "base/meta.h"
#include "machine/block_uffd.h"
#include "machine/host_calls.h"
#include "machine/sigsegv.h"
#include "machine/uffd.h"

#include <errno.h>
#include <sched.h>
#include <sys/resource.h>
#include <unistd.h>

// From this many leftover mappings in one call on, clear() replaces them by one.
#define COALESCE_MIN 8

static void wake_all_but_served(int fd, uintptr_t at, size_t size)
{
	uintptr_t served = uffd_serving;

	if (served < at || served >= at + size) {
		host_uffd_wake(fd, at, size);
		return;
	}
	if (served > at)
		host_uffd_wake(fd, at, served - at);
	if (served + PAGE_SIZE < at + size)
		host_uffd_wake(fd, served + PAGE_SIZE, at + size - served - PAGE_SIZE);
}

static int uffd_map(
	struct mmu *mmu, uintptr_t at, struct pfn first, unsigned nr, enum mmu_prot prot)
{
	struct rewire_call c;
	bool filled = false;
	int err = rewire_enter(&c, mmu, at, nr);

	if (err)
		return err;
	err = nr <= PTRS_PER_TABLE ? uffd_place(&c, first, prot, &filled) : -EINVAL;
	if (!err && !filled)
		rewire_populate(&c, first);
	rewire_unlock(&c);
	if (!err) {
		if (filled && prot == MMU_WRITE)
			atomic_fetch_add_explicit(
				&c.rw->counters.tables_moved, 1, memory_order_relaxed);
		wake_all_but_served(c.rw->uffd, at, c.size);
	}
	rewire_leave(&c);
	return err;
}

static bool any_state(const struct rewire_call *c, uint64_t flags)
{
	for (unsigned i = 0; i < c->nr; i++)
		if (c->window->state[c->page + i] & flags)
			return true;
	return false;
}

static bool all_state(const struct rewire_call *c, uint64_t flags)
{
	for (unsigned i = 0; i < c->nr; i++)
		if ((c->window->state[c->page + i] & flags) != flags)
			return false;
	return true;
}

static int make_writable(struct rewire_call *c)
{
	uint64_t gone = PAGE_PROT | PAGE_OFF;
	int err = 0;

	if (any_state(c, PAGE_UFFD)) {
		err = host_uffd_unregister(c->rw->uffd, c->at, c->size);
		if (!err)
			gone |= PAGE_UFFD;
	}
	if (!err && any_state(c, PAGE_PROT))
		err = host_protect(c->at, c->size, HOST_RW);
	if (!err)
		window_state_change(c->window, c->page, c->nr, gone, 0);
	return err;
}

static int make_readable(struct rewire_call *c)
{
	int err = host_uffd_register(c->rw->uffd, c->at, c->size, UFFDIO_REGISTER_MODE_WP);

	if (!err)
		err = host_uffd_protect(c->rw->uffd, c->at, c->size, true);
	if (!err && any_state(c, PAGE_PROT))
		err = host_protect(c->at, c->size, HOST_RW);
	if (!err)
		window_state_change(c->window, c->page, c->nr, PAGE_PROT | PAGE_OFF, PAGE_UFFD_WP);
	else if (!any_state(c, PAGE_UFFD | PAGE_PROT) &&
		 host_uffd_unregister(c->rw->uffd, c->at, c->size))
		MARK(uffd_left_protected); // a store there asks the engine once more
	return err;
}

static int make_refused(struct rewire_call *c)
{
	int err = host_protect(c->at, c->size, PROT_NONE);

	if (!err)
		window_state_change(
			c->window, c->page, c->nr, PAGE_PROT | PAGE_OFF, PAGE_PROT_NONE);
	return err;
}

static int make(struct rewire_call *c, enum mmu_prot prot)
{
	if (prot == MMU_WRITE)
		return make_writable(c);
	return prot == MMU_READ ? make_readable(c) : make_refused(c);
}

static int restore(struct rewire_call *c, struct pfn first, enum mmu_prot prot)
{
	bool filled = false;
	int err;

	if (prot == MMU_NONE || (prot == MMU_WRITE && !rewire_is_parked(c, first)))
		err = make(c, prot);
	else
		err = uffd_place(c, first, prot, &filled);
	if (!err && !filled && prot == MMU_WRITE)
		rewire_populate(c, first);
	return err;
}

// Changes the pages that show the frames the engine means. The gaps between stay without
// translation (unwatched, they would be read as zeros), but where an access was refused there the
// engine is asked again: it may permit the next one.
static int for_each_shown(struct rewire_call *c, struct pfn first, enum mmu_prot prot,
	int (*change)(struct rewire_call *shown, struct pfn first, enum mmu_prot prot))
{
	struct rewire_call shown, gap;
	int err = 0;

	for (unsigned i = 0, from; i < c->nr; i = from + shown.nr) {
		bool any = rewire_next_shown(c, first, i, &shown);

		from = (unsigned)(shown.page - c->page);

		if (from > i) {
			gap = uffd_part(c, c->page + i, from - i);
			uffd_clear_pages(&gap);
		}
		int failed = any ? change(&shown, pfn_add(first, from), prot) : 0;
		err = err ? err : failed;
	}
	return err;
}

static int change_prot(struct rewire_call *c, struct pfn first maybe_unused, enum mmu_prot prot)
{
	return make(c, prot);
}

static int uffd_protect(struct mmu *mmu, uintptr_t at, struct pfn first, unsigned nr,
	enum mmu_prot prot)
{
	struct rewire_call c;
	int err = rewire_enter(&c, mmu, at, nr);

	if (err)
		return err;
	err = for_each_shown(&c, first, prot, change_prot);
	rewire_unlock(&c);
	if (!err)
		host_uffd_wake(c.rw->uffd, at, c.size);
	rewire_leave(&c);
	return err;
}

// Pages that are mapped stay so; those that were refused ask the engine once more.
static void note_watched(struct window *w)
{
	for (size_t page = 0, n; page < w->nr_pages; page += n) {
		uint64_t state = w->state[page];

		n = window_state_run(w, page, w->nr_pages - page, PAGE_FLAGS);
		if ((state & PAGE_KIND) != PAGE_FRAME)
			continue;
		if (state & PAGE_PROT)
			host_zap(window_page_at(w, page), n << PAGE_SHIFT);
		window_state_change(w, page, n, PAGE_PROT,
			PAGE_UFFD_TRAP | (state & PAGE_PROT ? PAGE_SOFT : 0));
	}
}

// No spare host mapping to watch a part: watch everything, and let nothing be refused by the host.
static void clear_row(struct rewire_call *c)
{
	uintptr_t end, start;
	struct window *first = rewire_row_first(c->window, &end);
	int err;

	start = first->pub.start;
	atomic_fetch_add(&c->rw->counters.widened, 1);
	while (host_uffd_register(c->rw->uffd, start, end - start, UFFD_TRAP))
		sched_yield(); // it needs no new mapping: only a test comes here
	for (struct window *w = first; w; w = rewire_row_next(w))
		note_watched(w);
	do
		err = host_protect(start, end - start, HOST_RW);
	while (err == -EAGAIN);
	if (err)
		MARK(uffd_clear_refused);
}

static void clear_frames(struct rewire_call *c)
{
	bool prot = any_state(c, PAGE_PROT);

	if (!all_state(c, PAGE_UFFD_TRAP) &&
		host_uffd_register(c->rw->uffd, c->at, c->size, UFFD_TRAP)) {
		clear_row(c);
		prot = false;
	}
	host_zap(c->at, c->size);
	if (prot && host_protect(c->at, c->size, HOST_RW))
		clear_row(c);
	window_state_change(
		c->window, c->page, c->nr, PAGE_PROT | PAGE_UFFD_WP,
		PAGE_UFFD_TRAP | PAGE_OFF | PAGE_CLEARED);
}

static void clear_part(struct rewire_call *c)
{
	uint64_t state = c->window->state[c->page];

	if ((state & PAGE_KIND) == PAGE_FRAME) {
		clear_frames(c);
	} else if (state & PAGE_PROT) {
		if (host_protect(c->at, c->size, HOST_RW))
			clear_row(c);
		window_state_change(c->window, c->page, c->nr, PAGE_PROT, 0);
	}
}

void uffd_clear_pages(struct rewire_call *c)
{
	rewire_widen(c);
	for (size_t page = c->page, end = page + c->nr, n; page < end; page += n) {
		struct rewire_call p;

		n = window_state_run(c->window, page, end - page, PAGE_FLAGS);
		p = uffd_part(c, page, n);
		clear_part(&p);
	}
}

static void uffd_clear(struct mmu *mmu, uintptr_t at, unsigned nr)
{
	struct rewire_call c;
	size_t mappings = 0;

	if (rewire_enter(&c, mmu, at, nr))
		return;
	uffd_clear_pages(&c);
	for (size_t page = c.page, end = page + c.nr; page < end; mappings++)
		page += window_state_mapping(c.window, page, end - page);
	// What is left of a huge page of hugetlbfs would be in the way of small ones.
	if (mappings >= COALESCE_MIN || c.window->state[c.page] & PAGE_HUGETLB)
		if (c.nr <= PTRS_PER_TABLE && uffd_place_void(&c))
			uffd_mend(&c);
	rewire_unlock(&c);
	host_uffd_wake(c.rw->uffd, c.at, c.size); // who waited for a page on the move looks again
	rewire_leave(&c);
}

static int uffd_block(
	struct mmu *mmu, uintptr_t at, struct pfn first, unsigned nr, bool readers maybe_unused)
{
	struct rewire_call c;
	int err = rewire_enter(&c, mmu, at, nr);

	if (err)
		return err;
	if (!vma_budget_allows(window_state_splits(c.window, c.page, nr))) {
		atomic_fetch_add(&c.rw->counters.moves_refused, 1);
		err = -ENOMEM;
	}
	if (!err) {
		rewire_park(&c, first); // what faults back in before it is watched is zapped below
		if (!all_state(&c, PAGE_UFFD_TRAP))
			err = host_uffd_register(c.rw->uffd, at, c.size, UFFD_TRAP);
	}
	if (!err)
		window_state_change(c.window, c.page, nr, 0, PAGE_UFFD_TRAP | PAGE_OFF);
	rewire_unlock(&c);
	if (!err)
		host_zap(at, c.size);
	rewire_leave(&c);
	return err;
}

static void uffd_unblock(
	struct mmu *mmu, uintptr_t at, struct pfn first, unsigned nr, enum mmu_prot prot)
{
	struct rewire_call c;

	if (rewire_enter(&c, mmu, at, nr))
		return;
	if (for_each_shown(&c, first, prot, restore))
		atomic_fetch_add(&c.rw->counters.unblock_failed, 1);
	rewire_unlock(&c);
	host_uffd_wake(c.rw->uffd, at, c.size);
	rewire_leave(&c);
}

static void uffd_wake(struct mmu *mmu, uintptr_t at, unsigned nr)
{
	struct rewire *rw = rewire_of(mmu);

	if (fork_guard_enter(&rw->guard))
		return;
	host_uffd_wake(rw->uffd, at, (size_t)nr << PAGE_SHIFT);
	fork_guard_leave();
}

static int window_init(struct rewire *rw, struct window *w)
{
	return uffd_map_watched(rw, w->pub.start, w->pub.size, rw->void_fd, w->pub.start);
}

static int uffd_window_open(struct mmu *mmu, size_t size, size_t align, void *hint, void *owner,
	struct mmu_window **ret_window)
{
	return rewire_window_open(mmu, size, align, hint, owner, window_init, ret_window);
}

static void close_all(struct rewire *rw)
{
	if (rw->pool)
		uffd_pool_stop(&rw->pool);
	rewire_destroy(rw);
	meta_delete(rw);
}

static void uffd_close(struct mmu *mmu)
{
	struct rewire *rw = rewire_of(mmu);

	sigsegv_uninstall(&rw->guard);
	close_all(rw);
}

const struct mmu_ops rewire_uffd_ops = {
	.name = "rewire",
	.blocker = "userfaultfd",
	.window_open = uffd_window_open,
	.window_close = rewire_window_close,
	.map = uffd_map,
	.protect = uffd_protect,
	.clear = uffd_clear,
	.block = uffd_block,
	.unblock = uffd_unblock,
	.wake = uffd_wake,
	.refuse = uffd_refuse,
	.peek = rewire_peek,
	.close = uffd_close,
};

// The file of absent pages: as long as the address space, because an address is its own offset
// in it (so that absent neighbours are one host mapping), and without a single byte.
static int open_void(struct rewire *rw)
{
	const uint64_t size = 1ull << 47;
	struct rlimit limit;
	int err = host_memfd("godwit-void", 0, &rw->void_fd);

	if (err)
		return err;
	if (!getrlimit(RLIMIT_FSIZE, &limit) && limit.rlim_cur < size)
		return -EFBIG; // trying would be SIGXFSZ
	return ftruncate(rw->void_fd, (off_t)size) ? -errno : 0;
}

int rewire_uffd_open(
	unsigned threads, bool user_mode_only, mmu_fault_fn *fault, struct mmu **ret_mmu)
{
	struct rewire *rw = meta_new(struct rewire);
	enum uffd_way way = UFFD_USER_ONLY;
	int err;

	if (!rw)
		return -ENOMEM;
	rewire_init(rw, &rewire_uffd_ops, fault);
	list_init(&rw->refusals);
	write_lock(&host_fork_lock); // a child closes what is open
	err = uffd_open(user_mode_only, &way, &rw->uffd);
	if (!err)
		err = open_void(rw);
	write_unlock(&host_fork_lock);
	if (!err)
		err = rewire_open_stage(rw);
	if (!err)
		err = uffd_pool_start(rw->uffd, threads, uffd_serve, rw, &rw->pool);
	if (!err)
		err = sigsegv_install();
	if (err) {
		close_all(rw);
		return err;
	}
	rw->mmu.caps = MMU_BLOCK_READ | MMU_REAL | MMU_ALIAS |
		       (way == UFFD_USER_ONLY ? 0 : MMU_SYSCALL_SAFE);
	*ret_mmu = &rw->mmu;
	return 0;
}
