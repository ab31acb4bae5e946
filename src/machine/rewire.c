// SPDX-License-Identifier: MIT
// The rewire backend, the part that does not depend on how accessors are stopped.
//
// A frame is an offset of its arena's file; an application page is made to show it by mapping that
// offset there. Two ways:
//
//   mmap      MAP_FIXED over the place. One host call whatever the number of pages, but the old
//             entries of the host's page table are torn down one by one (110 ns each) and the new
//             ones faulted in (280 ns each): more than it costs to copy the bytes.
//   tables    mremap(MREMAP_DONTUNMAP) of the parking place of the new frames (machine/arena.c)
//             over the place: mapping and filled page table arrive together, at 2 MiB by one
//             pointer. The entries of the old frames were parked the same way by block(), so
//             that the next move to them finds them ready.
//
// The second is what makes 2 MiB moves of 4 KiB pages nearly as cheap as the copy alone; it is a
// cache of page tables and nothing depends on it (docs/decisions/0003-moving-page-tables.md).
//
// Frames on hugetlbfs (machine/arena_hugetlb.c) go the first way alone, 512 at a time: the host
// parks no page tables of such mappings, and cuts none in two. So what is left of one (a place that
// was cleared without a spare mapping to replace it by) has to go as a whole before something small
// comes to its place.
//
// Locks: rw->lock orders the host calls that replace mappings together with the page states that
// record them; the host would serialise these calls anyway. Zapping happens without it, and so does
// populating where nobody can sleep in a fault (block_uffd.c).
// What can fail: every mapping call with -ENOMEM. The place is as it was then; should the host
// have torn it down before failing (kernels before 6.12 could), the blocker rebuilds it from the
// page states.
#include "machine/rewire.h"

#include "base/mark.h"
#include "base/meta.h"
#include "machine/host_calls.h"
#include "machine/uffd.h"

#include <errno.h>
#include <unistd.h>

static void close_files(struct rewire *rw)
{
	if (rw->uffd >= 0)
		close(rw->uffd);
	if (rw->void_fd >= 0)
		close(rw->void_fd);
	rw->uffd = rw->void_fd = -1;
}

static void rewire_in_child(struct fork_guarded *g)
{
	struct rewire *rw = container_of(g, struct rewire, guard);

	if (rw->pool)
		uffd_pool_forget(rw->pool);
	close_files(rw);
}

void rewire_init(struct rewire *rw, const struct mmu_ops *ops, mmu_fault_fn *fault)
{
	rw->mmu.ops = ops;
	rw->mmu.fault = fault;
	rw->uffd = rw->void_fd = -1;
	rw->guard.in_child = rewire_in_child;
	mutex_init(&rw->lock, RANK_MMU);
	vma_budget_set_limit(0);
	write_lock(&host_fork_lock);
	fork_guard_add(&rw->guard);
	write_unlock(&host_fork_lock);
}

int rewire_open_stage(struct rewire *rw)
{
	int err = host_reserve(PMD_SIZE, PMD_SIZE, NULL, &rw->stage);

	if (err)
		return err;
	write_lock(&host_fork_lock);
	rw->guard.start = rw->stage;
	rw->guard.size = PMD_SIZE;
	write_unlock(&host_fork_lock);
	return 0;
}

int rewire_mend_stage(struct rewire *rw)
{
	uintptr_t at;
	int err;

	if (likely(!rw->stage_gone))
		return 0;
	err = host_reserve(PMD_SIZE, PMD_SIZE, (void *)rw->stage, &at);
	if (err)
		err = host_reserve(PMD_SIZE, PMD_SIZE, NULL, &at);
	if (err)
		return err;
	rw->stage = rw->guard.start = at;
	rw->guard.size = PMD_SIZE;
	rw->stage_gone = false;
	return 0;
}

void rewire_lose_stage(struct rewire *rw)
{
	rw->stage_gone = true;
	rw->guard.size = 0; // what comes to lie there is not ours
}

void rewire_destroy(struct rewire *rw)
{
	// One step for fork(): a child closes what it got of this, or got nothing.
	write_lock(&host_fork_lock);
	if (!fork_guard_is_dead(&rw->guard)) {
		fork_guard_remove(&rw->guard);
		if (rw->guard.size)
			host_unmap(rw->stage, rw->guard.size);
	}
	close_files(rw);
	write_unlock(&host_fork_lock);
	mutex_destroy(&rw->lock);
}

NO_THREAD_SAFETY_ANALYSIS int rewire_enter(
	struct rewire_call *call, struct mmu *mmu, uintptr_t at, unsigned nr)
{
	struct rewire *rw = rewire_of(mmu);
	struct window_ref ref;
	int err = fork_guard_enter(&rw->guard);

	if (err)
		return err;
	if (!window_find(at, &ref) || ref.mmu != mmu ||
		window_page(ref.window, at) + nr > ref.window->nr_pages) {
		fork_guard_leave();
		return -EFAULT;
	}
	*call = (struct rewire_call){
		.rw = rw,
		.window = ref.window,
		.at = at,
		.page = window_page(ref.window, at),
		.nr = nr,
		.size = (size_t)nr << PAGE_SHIFT,
	};
	mutex_lock(&rw->lock);
	return 0;
}

void rewire_widen(struct rewire_call *c)
{
	size_t before = (c->at & ~PMD_MASK) >> PAGE_SHIFT;

	if (likely(!(c->window->state[c->page] & PAGE_HUGETLB)) || c->nr == PTRS_PER_TABLE)
		return;
	c->at -= before << PAGE_SHIFT;
	c->page -= before;
	c->nr = PTRS_PER_TABLE;
	c->size = PMD_SIZE;
}

int rewire_check_frames(const struct rewire_call *c, struct pfn first)
{
	const struct arena *arena = arena_of(first);

	if (!arena || !arena_has(arena, first, c->nr))
		return -EINVAL;
	return arena_on_hugetlb(arena, first) && c->nr != PTRS_PER_TABLE ? -EINVAL : 0;
}

NO_THREAD_SAFETY_ANALYSIS void rewire_unlock(struct rewire_call *call)
{
	mutex_unlock(&call->rw->lock);
}

void rewire_leave(struct rewire_call *call maybe_unused)
{
	fork_guard_leave();
}

static bool is_huge(const struct arena *arena, struct pfn first)
{
	return arena->page_shift != PAGE_SHIFT || arena_on_hugetlb(arena, first);
}

// A huge page is one entry: tearing it down and faulting it in costs less than moving it twice.
static bool worth_moving(
	const struct rewire_call *c, const struct arena *arena, struct pfn first)
{
	return c->nr >= REWIRE_TABLES_MIN && arena && arena->tables &&
	       (c->nr < PTRS_PER_TABLE || !is_huge(arena, first));
}

uint64_t rewire_file_state(struct pfn first)
{
	return PAGE_FRAME | (arena_on_hugetlb(arena_of(first), first) ? PAGE_HUGETLB : 0);
}

int rewire_file_of(uint64_t state)
{
	const struct arena *arena = arena_of(page_state_pfn(state));

	return state & PAGE_HUGETLB ? arena->hugetlb.fd : arena->fd;
}

bool rewire_is_parked(const struct rewire_call *c, struct pfn first)
{
	const struct arena *arena = arena_of(first);

	return worth_moving(c, arena, first) && arena_tables_ready(arena, first, c->nr);
}

int rewire_place(struct rewire_call *c, struct pfn first, bool *ret_filled)
{
	struct arena *arena = arena_of(first);
	bool filled = false;
	int err = rewire_check_frames(c, first);

	if (err)
		return err;
	if (rewire_is_parked(c, first)) {
		filled = !host_move_tables(arena_tables_at(arena, first), c->at, c->size);
		arena_tables_mark(arena, first, c->nr, false);
	}
	if (!filled) {
		err = host_map_file(c->at, c->size, HOST_RW, arena_fd(arena, first),
			arena_offset(arena, first));
		if (err)
			return err == -EAGAIN ? -ENOMEM : err;
	}
	window_state_set(c->window, c->page, c->nr, page_state(rewire_file_state(first), first));
	*ret_filled = filled;
	return 0;
}

void rewire_populate(const struct rewire_call *c, struct pfn first)
{
	const struct arena *arena = arena_of(first);

	if (c->nr > 1 && arena && !is_huge(arena, first))
		host_populate_around(c->at, c->size);
	else
		host_populate(c->at, c->size);
}

// A kernel before 6.12 may unmap the destination and fail then. Nobody else's mapping shall come to
// lie there: the next tables that are parked would go over it.
static void mend_parking(const struct arena *arena, struct pfn first, size_t size)
{
	uintptr_t at = arena_tables_at(arena, first);

	if (host_has_hole(at, size) &&
		host_map_file(at, size, HOST_RW, arena->fd, arena_offset(arena, first)))
		MARK(rewire_parking_lost);
}

bool rewire_park(struct rewire_call *c, struct pfn first)
{
	struct arena *arena = arena_of(first);
	const struct window *w = c->window;

	// One mapping, plainly writable, of the frames the caller says.
	if (!worth_moving(c, arena, first) || !arena_has(arena, first, c->nr) ||
		w->state[c->page] != page_state(PAGE_FRAME, first) ||
		window_state_mapping(w, c->page, c->nr) != c->nr)
		return false;
	if (host_move_tables(c->at, arena_tables_at(arena, first), c->size)) {
		MARK(rewire_park_refused);
		mend_parking(arena, first, c->size);
		return false;
	}
	arena_tables_mark(arena, first, c->nr, true);
	return true;
}

static bool shows(const struct rewire_call *c, struct pfn first, unsigned i)
{
	uint64_t state = c->window->state[c->page + i];

	return (state & (PAGE_KIND | PAGE_CLEARED)) == PAGE_FRAME &&
	       page_state_pfn(state).n == first.n + i;
}

bool rewire_next_shown(const struct rewire_call *c, struct pfn first, unsigned skip,
	struct rewire_call *ret_part)
{
	unsigned i = skip, end;

	while (i < c->nr && !shows(c, first, i))
		i++;
	for (end = i; end < c->nr && shows(c, first, end); end++)
		;
	*ret_part = *c;
	ret_part->at = c->at + ((uintptr_t)i << PAGE_SHIFT);
	ret_part->page = c->page + i;
	ret_part->nr = end - i;
	ret_part->size = (size_t)(end - i) << PAGE_SHIFT;
	return end > i;
}

bool rewire_has_hole(const struct rewire_call *c)
{
	return host_has_hole(c->at, c->size);
}

static struct window *window_of(const struct mmu *mmu, uintptr_t at)
{
	struct window_ref ref;

	return window_find(at, &ref) && ref.mmu == mmu ? ref.window : NULL;
}

struct window *rewire_row_next(const struct window *w)
{
	return window_of(w->mmu, w->pub.start + w->pub.size);
}

struct window *rewire_row_first(const struct window *w, uintptr_t *ret_end)
{
	struct window *first = window_of(w->mmu, w->pub.start), *before;

	for (; w; w = rewire_row_next(w))
		*ret_end = w->pub.start + w->pub.size;
	while ((before = window_of(first->mmu, first->pub.start - 1)))
		first = before;
	return first;
}

int rewire_window_open(struct mmu *mmu, size_t size, size_t align, void *hint, void *owner,
	int (*init)(struct rewire *, struct window *), struct mmu_window **ret_window)
{
	struct rewire *rw = rewire_of(mmu);
	struct window *w;
	int err = fork_guard_is_dead(&rw->guard) ? -EOWNERDEAD : 0;

	if (!err)
		err = window_reserve(mmu, size, align, hint, owner, &w);
	if (err)
		return err;
	// No fork() between the first mapping and the guard: the child would have it.
	write_lock(&host_fork_lock);
	err = init(rw, w);
	if (!err)
		err = window_publish(w);
	if (err)
		window_free(w);
	write_unlock(&host_fork_lock);
	if (err)
		return err;
	vma_budget_add_window();
	*ret_window = &w->pub;
	return 0;
}

void rewire_window_close(struct mmu *mmu, struct mmu_window *window)
{
	struct window *w = container_of(window, struct window, pub);
	struct rewire *rw = rewire_of(mmu);

	window_unpublish(w); // nobody changes its page states any more
	if (!fork_guard_enter(&rw->guard)) {
		vma_budget_remove_window(w);
		fork_guard_leave();
	}
	window_free(w);
}

void *rewire_peek(struct mmu *mmu, struct pfn pfn)
{
	struct arena *arena = arena_of(pfn);

	if (!arena || !arena->direct || fork_guard_is_dead(&rewire_of(mmu)->guard))
		return NULL;
	return arena_direct(arena, pfn);
}
