// SPDX-License-Identifier: MIT
// What the userfaultfd blocker puts at a place of a window (the table in block_uffd.c), and how a
// place that a failed call left empty is mended.
//
// What is not plainly writable is built at the stage, a stretch of addresses that only the holder
// of rw->lock uses, and moved over the place by mremap() when it is complete: so at no time is
// there something at the place that lets through what it should not. Pages of hugetlbfs take the
// mapping of the stage along: it is reserved anew before it is used next.
//
// Locks: rw->lock. What can fail: each mapping call, -ENOMEM.
#include "machine/block_uffd.h"

#include "base/mark.h"
#include "machine/host_calls.h"
#include "machine/rewire.h"
#include "machine/uffd.h"

#include <errno.h>

// Of hugetlbfs, which the host moves as a whole. Nor may it stay when something failed: no small
// mapping could take its place.
static int stage_move_whole(struct rewire_call *c, int err)
{
	struct rewire *rw = c->rw;

	if (!err)
		err = host_move_mapping(rw->stage, c->at, c->size);
	if (err)
		host_unmap(rw->stage, c->size);
	rewire_lose_stage(rw);
	return err;
}

// What is at the stage, if it got there (`err`), goes to the place, and `state` is noted.
static int stage_move(struct rewire_call *c, int err, uint64_t state)
{
	if (state & PAGE_HUGETLB)
		err = stage_move_whole(c, err);
	else if (!err)
		err = host_move_tables(c->rw->stage, c->at, c->size);
	if (!err)
		window_state_set(c->window, c->page, c->nr, state);
	return err == -EAGAIN ? -ENOMEM : err;
}

// Without access until it is watched: a program that locks all its memory to come (mlockall(), see
// docs/safety.md) has the host fill what can be accessed.
int uffd_map_watched(struct rewire *rw, uintptr_t at, size_t size, int fd, uint64_t offset)
{
	int err = host_map_file(at, size, PROT_NONE, fd, offset);

	if (!err)
		err = host_uffd_register(rw->uffd, at, size, UFFD_TRAP);
	if (!err)
		err = host_protect(at, size, HOST_RW);
	return err;
}

static int place_watched(struct rewire_call *c, int fd, uint64_t offset, uint64_t state)
{
	int err = rewire_mend_stage(c->rw);

	if (err)
		return err;
	err = uffd_map_watched(c->rw, c->rw->stage, c->size, fd, offset);
	return stage_move(c, err, state);
}

static int place_readonly(struct rewire_call *c, struct pfn first)
{
	const uint64_t state = page_state(rewire_file_state(first) | PAGE_UFFD_WP, first);
	struct arena *arena = arena_of(first);
	bool filled = false;
	int err = rewire_mend_stage(c->rw);
	uintptr_t stage = c->rw->stage;

	if (err)
		return err;
	if (rewire_is_parked(c, first)) {
		filled = !host_move_tables(arena_tables_at(arena, first), stage, c->size);
		arena_tables_mark(arena, first, c->nr, false);
	}
	if (!filled)
		err = host_map_file(stage, c->size, HOST_RW, arena_fd(arena, first),
			arena_offset(arena, first));
	if (!err && !filled)
		host_populate(stage, c->size);
	if (!err)
		err = host_uffd_register(c->rw->uffd, stage, c->size, UFFDIO_REGISTER_MODE_WP);
	if (!err)
		err = host_uffd_protect(c->rw->uffd, stage, c->size, true);
	return stage_move(c, err, state);
}

static int place_refused(struct rewire_call *c, struct pfn first)
{
	const struct arena *arena = arena_of(first);
	int err = host_map_file(
		c->at, c->size, PROT_NONE, arena_fd(arena, first), arena_offset(arena, first));

	if (!err)
		window_state_set(c->window, c->page, c->nr,
			page_state(rewire_file_state(first) | PAGE_PROT_NONE, first));
	return err;
}

int uffd_place_void(struct rewire_call *c)
{
	return place_watched(c, c->rw->void_fd, c->at, PAGE_VOID);
}

static int place_absent(struct rewire_call *c, uint64_t state)
{
	const struct pfn first = page_state_pfn(state);
	const uint64_t kept = state & (PAGE_KIND | PAGE_HUGETLB | PAGE_CLEARED);

	return place_watched(c, rewire_file_of(state), arena_offset(arena_of(first), first),
		page_state(kept | PAGE_UFFD_TRAP | PAGE_OFF, first));
}

struct rewire_call uffd_part(const struct rewire_call *c, size_t page, size_t n)
{
	return (struct rewire_call){
		.rw = c->rw,
		.window = c->window,
		.at = window_page_at(c->window, page),
		.page = page,
		.nr = (unsigned)n,
		.size = n << PAGE_SHIFT,
	};
}

void uffd_mend(struct rewire_call *c)
{
	const struct window *w = c->window;

	if (likely(!rewire_has_hole(c)))
		return;
	MARK(uffd_mended);
	atomic_fetch_add(&c->rw->counters.mended, 1);
	for (size_t page = c->page, end = page + c->nr, n; page < end; page += n) {
		uint64_t state = w->state[page];
		struct rewire_call p;
		bool filled;
		int err;

		n = window_state_mapping(w, page, end - page);
		p = uffd_part(c, page, n);
		if ((state & PAGE_KIND) != PAGE_FRAME)
			err = uffd_place_void(&p);
		else if (state & PAGE_OFF)
			err = place_absent(&p, state);
		else if (state & PAGE_UFFD_WP)
			err = place_readonly(&p, page_state_pfn(state));
		else if (state & PAGE_PROT_NONE)
			err = place_refused(&p, page_state_pfn(state));
		else
			err = rewire_place(&p, page_state_pfn(state), &filled);
		if (err)
			MARK(uffd_mend_refused);
	}
}

// Room for something small where a huge page of hugetlbfs was.
static int make_way(const struct rewire_call *c)
{
	struct rewire_call whole = *c;
	int err;

	rewire_widen(&whole);
	if (likely(whole.nr == c->nr))
		return 0;
	err = uffd_place_void(&whole);
	if (err)
		uffd_mend(&whole);
	return err;
}

int uffd_place(struct rewire_call *c, struct pfn first, enum mmu_prot prot, bool *ret_filled)
{
	int err = rewire_check_frames(c, first);

	if (!err && !arena_of(first)->uffd_able)
		err = -EOPNOTSUPP;
	if (!err)
		err = make_way(c);
	if (err)
		return err;
	*ret_filled = true;
	if (prot == MMU_WRITE)
		err = rewire_place(c, first, ret_filled);
	else if (prot == MMU_READ)
		err = place_readonly(c, first);
	else
		err = place_refused(c, first);
	if (err)
		uffd_mend(c);
	return err;
}
