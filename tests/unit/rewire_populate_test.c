// SPDX-License-Identifier: MIT
// Filling the host's page tables after a change. A thread that does it holds the locks of the pages'
// table, so it may not touch a page that userfaultfd watches: it would sleep until a thread of the
// pool has served it, which waits for these locks. Each test would stand still for ever.
//
//	the call covers     shown  shown  absent  absent     as after fork(): in the engine's table,
//	                                                     not yet in the host's
//	meanwhile           another page's clear() has no mapping to spare: the whole window is watched
#include "mini_run.h"

#include <pthread.h>

#define STILL_SECONDS 100 // then SIGALRM ends the test
#define MS 1000000ul

// Pages of the engine that the host does not show yet. Their frames have been elsewhere, so that no
// filled page table of the host is kept for them.
static struct pfn book(size_t page, unsigned nr)
{
	const size_t elsewhere = PAGES - 512;
	struct pfn first;

	mini_fill(&mini, elsewhere, nr, 0, MMU_WRITE);
	first = mini_pfn(&mini, elsewhere);
	mini_clear(&mini, elsewhere, nr);
	mutex_lock(&mini.lock);
	for (unsigned i = 0; i < nr; i++) {
		mini.page[page + i].pfn = pfn_add(first, i);
		mini.page[page + i].prot = MMU_WRITE;
	}
	mutex_unlock(&mini.lock);
	return first;
}

static void back_out(size_t page, unsigned nr)
{
	assert_int_equal(mini_block(&mini, page, nr, false), 0);
	mutex_lock(&mini.lock);
	mini.mmu->ops->unblock(
		mini.mmu, mini_at(&mini, page), mini.page[page].pfn, nr, MMU_WRITE);
	mini_moved(&mini, page, nr);
	mutex_unlock(&mini.lock);
}

static void check_filled(size_t page, unsigned nr)
{
	for (unsigned i = 0; i < nr; i++) {
		assert_int_equal(mini_byte(&mini, page + i)[9], i & 0xff);
		mini_byte(&mini, page + i)[8] = 1;
	}
}

static void absent_pages_back_out(void)
{
	static const unsigned sizes[] = {1, 16, 512};

	alarm(STILL_SECONDS);
	for (unsigned s = 0; s < ARRAY_SIZE(sizes); s++) {
		size_t page = 512 * s;

		book(page, sizes[s]);
		back_out(page, sizes[s]);
		check_filled(page, sizes[s]);
		back_out(page, sizes[s]);
		check_filled(page, sizes[s]);
	}
	alarm(0);
}

static void some_absent_pages_back_out(void)
{
	const unsigned nr = 64;
	struct pfn first;

	alarm(STILL_SECONDS);
	first = book(0, nr);
	mutex_lock(&mini.lock);
	for (unsigned i = 0; i < nr; i += 16)
		assert_int_equal(mini.mmu->ops->map(mini.mmu, mini_at(&mini, i + 5),
					 pfn_add(first, i + 5), 5, MMU_WRITE),
			0);
	mutex_unlock(&mini.lock);
	back_out(0, nr);
	check_filled(0, nr);
	alarm(0);
}

// ---- The window is watched while a page table is being filled

static atomic_bool stop;

// Another page table's pages: this thread holds another lock.
static void *widener_main(void *arg)
{
	struct pfn frame = *(struct pfn *)arg;
	const uintptr_t at = mini_at(&mini, 512);

	do {
		if (mini.mmu->ops->map(mini.mmu, at, frame, 1, MMU_WRITE))
			abort();
		fault_arm(FI_SYSCALL, FI_THREAD, 0, 2);
		mini.mmu->ops->clear(mini.mmu, at, 1);
		fault_disarm(FI_SYSCALL);
	} while (!stop);
	return NULL;
}

static void watched_meanwhile(void)
{
	uint64_t end = wait_clock_ns() + 500 * MS;
	struct mmu_stats stats;
	struct pfn frame;
	pthread_t widener;

	if (!FAULTS_BUILT_IN)
		return;
	alarm(STILL_SECONDS);
	stop = false;
	frame = book(512, 1);
	assert_int_equal(pthread_create(&widener, NULL, widener_main, &frame), 0);
	for (unsigned n = 0; wait_clock_ns() < end; n++) {
		mini_fill(&mini, 0, n & 1 ? 512 : 1, 0, MMU_WRITE);
		back_out(0, n & 1 ? 512 : 1);
	}
	stop = true;
	pthread_join(widener, NULL);
	mmu_stats(mini.mmu, &stats);
	assert_true(stats.widened > 0);
	check_filled(0, 1);
	alarm(0);
}

#define ALL_TESTS(X)                                                                               \
	X(absent_pages_back_out)                                                                   \
	X(some_absent_pages_back_out)                                                              \
	X(watched_meanwhile)

MINI_MAIN(ALL_TESTS)
