// SPDX-License-Identifier: MIT
// The books of host mappings.
//
// The host maps consecutive pages by one VMA while they have the same file, consecutive offsets,
// the same protection and the same userfaultfd registration; a process may have vm.max_map_count
// of them (65,530 by default), and one page mapped apart may cost two. When they run out even a
// page fault cannot be served. So every page of a window has a word that says what is mapped there;
// whether two neighbours are one VMA follows from their words, and so does the number of VMAs.
// The same words say what to restore when a host call fails, and what is registered.
//
//   page      0     1     2  |  3     4  |  5       a bar where mergeable() is false:
//   frame    100   101   102 | 700   701 | 103      three VMAs
//
// Frames of the last and the first page of two arenas have different files: their numbers are
// consecutive only if one arena ends where a slot of the number space does, so a slot border never
// merges here (it may in the host, when the arena goes on: one VMA a GiB counted too many). The
// host never merges mappings of hugetlbfs.
//
// Interface: window_state_set() and _change() keep `used` right; moves ask vma_budget_allows().
// Locks: the words are under the lock of their backend, `used` is atomic.
// What can fail: nothing. The count may differ from the host's by neighbours that the host merges
// with mappings of others, or does not merge for reasons of its own.
#include "machine/vma_budget.h"

#include "machine/arena.h"

#include <stdio.h>

#define DEFAULT_MAX_MAP_COUNT 65530

static _Atomic size_t used;
static _Atomic size_t limit;

// What no mapping reaches across.
static uint64_t border(uint64_t state)
{
	return state & PAGE_HUGETLB ? PTRS_PER_TABLE : 1ul << ARENA_PFN_ALIGN_SHIFT;
}

static bool mergeable(uint64_t left, uint64_t right)
{
	uint64_t flags = PAGE_FLAGS & ~PAGE_SOFT;

	if ((left & flags) != (right & flags))
		return false;
	if ((left & PAGE_KIND) == PAGE_VOID)
		return true;
	return left >> PAGE_PFN_SHIFT == (right >> PAGE_PFN_SHIFT) - 1 &&
	       ((right >> PAGE_PFN_SHIFT) & (border(right) - 1)) != 0;
}

// Whether a mapping begins at this page; the ends of the window are no cuts.
static bool is_cut(const struct window *w, size_t page)
{
	return page > 0 && page < w->nr_pages && !mergeable(w->state[page - 1], w->state[page]);
}

static size_t count_cuts(const struct window *w, size_t first, size_t last)
{
	size_t n = 0;

	for (size_t page = first; page <= last; page++)
		n += is_cut(w, page);
	return n;
}

// Whether frames in a row, or no frames, with equal flags are all there is: then there is no cut
// among them. The common case, without a branch a page. false: look closely.
static bool looks_like_one(const struct window *w, size_t page, size_t nr)
{
	const uint64_t *state = &w->state[page];
	bool frames = (*state & PAGE_KIND) == PAGE_FRAME;
	uint64_t step = frames ? 1ull << PAGE_PFN_SHIFT : 0, differ = 0;
	uint64_t first = *state >> PAGE_PFN_SHIFT;

	for (size_t i = 1; i < nr; i++)
		differ |= (state[i] - i * step) ^ *state;
	return !(differ & ~PAGE_SOFT) &&
	       (!frames || (first ^ (first + nr - 1)) < border(*state));
}

static size_t count_cuts_of(const struct window *w, size_t page, size_t nr)
{
	if (looks_like_one(w, page, nr))
		return (size_t)is_cut(w, page) + (size_t)is_cut(w, page + nr);
	return count_cuts(w, page, page + nr);
}

static void book(struct window *w, size_t before, size_t now)
{
	w->cuts += now - before;
	atomic_fetch_add(&used, now - before);
}

void window_state_set(struct window *w, size_t page, size_t nr, uint64_t state)
{
	uint64_t step = (state & PAGE_KIND) == PAGE_FRAME ? 1ull << PAGE_PFN_SHIFT : 0;
	size_t before = count_cuts_of(w, page, nr);

	for (size_t i = 0; i < nr; i++)
		w->state[page + i] = state + i * step;
	book(w, before, count_cuts_of(w, page, nr));
}

void window_state_change(struct window *w, size_t page, size_t nr, uint64_t clear, uint64_t set)
{
	size_t before = count_cuts_of(w, page, nr);

	for (size_t i = 0; i < nr; i++)
		w->state[page + i] = (w->state[page + i] & ~clear) | set;
	book(w, before, count_cuts_of(w, page, nr));
}

size_t window_state_run(const struct window *w, size_t page, size_t nr, uint64_t mask)
{
	size_t n = 1;

	while (n < nr && ((w->state[page + n] ^ w->state[page]) & mask) == 0)
		n++;
	return n;
}

size_t window_state_mapping(const struct window *w, size_t page, size_t nr)
{
	size_t n = 1;

	if (looks_like_one(w, page, nr))
		return nr;
	while (n < nr && mergeable(w->state[page + n - 1], w->state[page + n]))
		n++;
	return n;
}

unsigned window_state_splits(const struct window *w, size_t page, size_t nr)
{
	return (page > 0 && !is_cut(w, page)) + (page + nr < w->nr_pages && !is_cut(w, page + nr));
}

void vma_budget_add_window(void)
{
	atomic_fetch_add(&used, 1);
}

void vma_budget_remove_window(const struct window *w)
{
	atomic_fetch_sub(&used, 1 + w->cuts);
}

void vma_budget_fork_child(void)
{
	atomic_store(&used, 0);
}

size_t vma_budget_used(void)
{
	return atomic_load(&used);
}

static size_t read_limit(void)
{
	FILE *f = fopen("/proc/sys/vm/max_map_count", "re");
	size_t n = 0;

	if (!f || fscanf(f, "%zu", &n) != 1 || !n)
		n = DEFAULT_MAX_MAP_COUNT;
	if (f)
		fclose(f);
	return n;
}

size_t vma_budget_limit(void)
{
	return atomic_load(&limit);
}

void vma_budget_set_limit(size_t n)
{
	atomic_store(&limit, n ? n : read_limit());
}

bool vma_budget_allows(unsigned extra)
{
	return !extra || atomic_load(&used) + extra <= atomic_load(&limit) / 10 * 9;
}

bool vma_budget_is_short(void)
{
	return atomic_load_explicit(&used, memory_order_relaxed) >
	       atomic_load_explicit(&limit, memory_order_relaxed) / 20 * 17;
}
