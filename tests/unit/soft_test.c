// SPDX-License-Identifier: MIT
#include "machine/arena.h"
#include "machine/soft.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <sys/mman.h>

#include <cmocka.h>

static enum mmu_fault_result on_fault(
	void *owner maybe_unused, const struct mmu_fault *fault maybe_unused)
{
	fail_msg("the host reported a fault");
	return MMU_FAULT_BUS;
}

static void by_name(void **state maybe_unused)
{
	struct mmu_config c = {.backend = MMU_BACKEND_SOFT};
	struct mmu_stats stats;
	struct mmu *mmu;

	assert_int_equal(mmu_open(&c, on_fault, &mmu), 0);
	assert_string_equal(mmu->ops->name, "soft");
	assert_string_equal(mmu->ops->blocker, "none");
	assert_false(mmu->caps & (MMU_REAL | MMU_SYSCALL_SAFE));
	assert_true(mmu->caps & MMU_NO_VMA_COST);
	assert_int_equal(mmu_thread_enter(mmu), 0);
	mmu_thread_leave(mmu);
	mmu_stats(mmu, &stats);
	assert_int_equal(stats.faults, 0);
	mmu->ops->close(mmu);
}

static void everything_by_peek(void **state maybe_unused)
{
	struct arena_config config = {.bytes = 4ul << 20, .host_node = -1};
	struct mmu_window *w, *other = NULL;
	unsigned char resident;
	struct arena *arena;
	struct mmu *mmu;
	struct pfn pfn;

	assert_int_equal(soft_open(on_fault, &mmu), 0);
	assert_int_equal(arena_open(&config, &arena), 0);
	pfn = pfn_of(arena->first + 3);
	assert_int_equal(arena_back(arena, pfn, 1), 0);
	assert_int_equal(mmu->ops->window_open(mmu, PMD_SIZE, PMD_SIZE, NULL, mmu, &w), 0);
	assert_ptr_equal(w->owner, mmu);
	assert_int_equal(
		mmu->ops->window_open(mmu, PAGE_SIZE, 0, (void *)w->start, mmu, &other), -EEXIST);
	assert_int_equal(mmu->ops->map(mmu, w->start, pfn, 1, MMU_WRITE), 0);
	assert_int_equal(mincore((void *)w->start, PAGE_SIZE, &resident), 0);
	assert_int_equal(mmu->ops->block(mmu, w->start, pfn, 1, true), 0);
	mmu->ops->unblock(mmu, w->start, pfn, 1, MMU_WRITE);
	assert_int_equal(mmu->ops->protect(mmu, w->start, pfn, 1, MMU_NONE), 0);
	mmu->ops->wake(mmu, w->start, 1);
	mmu->ops->clear(mmu, w->start, 1);
	memcpy(mmu->ops->peek(mmu, pfn), "soft", 5);
	assert_ptr_equal(mmu->ops->peek(mmu, pfn), arena_direct(arena, pfn));
	assert_null(mmu->ops->peek(mmu, pfn_of(0)));
	mmu->ops->window_close(mmu, w);
	mmu->ops->close(mmu);
	arena_close(arena);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(by_name),
		cmocka_unit_test(everything_by_peek),
	};

	return cmocka_run_group_tests_name("soft", tests, NULL, NULL);
}
