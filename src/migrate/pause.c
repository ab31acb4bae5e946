// SPDX-License-Identifier: MIT
// The pause: how long accessors of a batch are stopped, and how many pages fit a budget.
//
//   pause_learn()   after a batch: it stopped so many pages for so long
//   pause_fits()    before one: as many pages as mostly stay within the budget
//
// A batch costs some 12 us whatever its size (host calls), and then so much a page: what a page
// costs depends on how many there are, on whether they are neighbours, and on the host. So for each
// size, by powers of two, the mean and the mean deviation of the cost of a page are kept, as TCP
// keeps round trips; a size fits when the mean and three deviations do.
//
// A page of a large batch is no dearer than one of a small batch. So what is learned about one size
// corrects the others, which may not have been tried for long: smaller ones were no cheaper, larger
// ones are no dearer. Else a size with a bad name from one preempted batch would never be tried
// again.
//
// A batch that took much longer than was expected at worst was most likely interrupted. It counts
// as half a mean more: should it really have become so expensive, the next ones say so, too.
//
// Locks: none; two threads that learn at once lose one of two lessons. Nothing fails.
#include "migrate/pause.h"

#define PAGE_NS_DEFAULT 2000u // before anything was measured
#define PAGE_NS_MAX (100u * 1000 * 1000)

static unsigned size_class(unsigned pages)
{
	return min(31u - (unsigned)__builtin_clz(pages), (unsigned)PAUSE_SIZES - 1);
}

static uint32_t load(const _Atomic uint32_t *at)
{
	return atomic_load_explicit(at, memory_order_relaxed);
}

// ns a page; 0 when no batch of this size was measured.
static uint32_t expected(const struct pause_book *book, unsigned size)
{
	return load(&book->page_ns[size]) + 3 * load(&book->deviation_ns[size]);
}

// The same; where nothing was measured, by what was for the next smaller size, or larger one.
static uint32_t guess(const struct pause_book *book, unsigned size)
{
	unsigned near = size;

	while (near && !expected(book, near))
		near--;
	if (expected(book, near))
		return expected(book, near);
	while (near + 1 < PAUSE_SIZES && !expected(book, near))
		near++;
	return max(expected(book, near), PAGE_NS_DEFAULT);
}

unsigned pause_fits(const struct pause_book *book, uint64_t budget_us, unsigned most)
{
	uint64_t fits;
	unsigned best = 1;

	if (budget_us > UINT64_MAX / 1000)
		return most;
	for (unsigned size = 0; size < PAUSE_SIZES; size++) {
		fits = budget_us * 1000 / guess(book, size);
		if (fits >= 1ull << size)
			best = (unsigned)min(fits, (2ull << size) - 1);
	}
	return min(best, most);
}

static void store(_Atomic uint32_t *at, uint32_t value)
{
	atomic_store_explicit(at, value, memory_order_relaxed);
}

static void correct_others(struct pause_book *book, unsigned size)
{
	uint32_t mean = load(&book->page_ns[size]), deviation = load(&book->deviation_ns[size]);

	for (unsigned i = 0; i < PAUSE_SIZES; i++) {
		uint32_t old = load(&book->page_ns[i]);
		uint32_t old_deviation = load(&book->deviation_ns[i]);

		if (!old || i == size)
			continue;
		store(&book->page_ns[i], i < size ? max(old, mean) : min(old, mean));
		store(&book->deviation_ns[i],
			i < size ? max(old_deviation, deviation) : min(old_deviation, deviation));
	}
}

void pause_learn(struct pause_book *book, unsigned pages, uint64_t ns)
{
	unsigned size = size_class(pages);
	uint64_t page_ns = min(max(ns / pages, 1ull), (uint64_t)PAGE_NS_MAX);
	uint32_t mean = load(&book->page_ns[size]), deviation = load(&book->deviation_ns[size]);
	int64_t off;

	if (!mean) {
		mean = (uint32_t)page_ns;
		deviation = mean / 4;
	} else {
		off = (int64_t)min(page_ns, expected(book, size) + mean / 2ull) - mean;
		mean = (uint32_t)max(mean + off / 8, 1l);
		deviation = (uint32_t)(deviation + ((off < 0 ? -off : off) - deviation) / 4);
	}
	store(&book->page_ns[size], mean);
	store(&book->deviation_ns[size], deviation);
	correct_others(book, size);
}
