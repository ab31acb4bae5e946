// SPDX-License-Identifier: MIT
// The soft backend. The engine's page table is all there is: programs reach their memory through
// explicit read and write calls, which walk that table and use peek(). Nothing depends on the host,
// no access comes from outside of the engine, so a run is repeatable down to the last step: what
// the tests and the seeded interleavings use.
//
// A window is a stretch of addresses, reserved on the host so that they are unique in the process
// and so that a stray dereference is a SIGSEGV and not somebody's data.
//
// Interface: struct mmu_ops; all calls on translations succeed and do nothing.
// Locks: none. What can fail: window_open().
#include "machine/soft.h"

#include "base/meta.h"
#include "machine/arena.h"
#include "machine/window.h"

#include <errno.h>

struct soft {
	struct mmu mmu; // first
	struct fork_guarded guard;
};

static bool is_dead(struct mmu *mmu)
{
	return fork_guard_is_dead(&container_of(mmu, struct soft, mmu)->guard);
}

static int state_of(struct mmu *mmu)
{
	return is_dead(mmu) ? -EOWNERDEAD : 0;
}

static int soft_window_open(struct mmu *mmu, size_t size, size_t align, void *hint, void *owner,
	struct mmu_window **ret_window)
{
	struct window *w;
	int err = state_of(mmu);

	if (err)
		return err;
	err = window_reserve(mmu, size, align, hint, owner, &w);
	if (!err)
		*ret_window = &w->pub;
	return err;
}

static void soft_window_close(struct mmu *mmu maybe_unused, struct mmu_window *window)
{
	window_free(container_of(window, struct window, pub));
}

static int soft_map(struct mmu *mmu, uintptr_t at maybe_unused, struct pfn first maybe_unused,
	unsigned nr maybe_unused, enum mmu_prot prot maybe_unused)
{
	return state_of(mmu);
}

static void soft_clear(
	struct mmu *mmu maybe_unused, uintptr_t at maybe_unused, unsigned nr maybe_unused)
{
}

static int soft_block(struct mmu *mmu, uintptr_t at maybe_unused, struct pfn first maybe_unused,
	unsigned nr maybe_unused, bool readers maybe_unused)
{
	return state_of(mmu);
}

static void soft_unblock(struct mmu *mmu maybe_unused, uintptr_t at maybe_unused,
	struct pfn first maybe_unused, unsigned nr maybe_unused, enum mmu_prot prot maybe_unused)
{
}

static void *soft_peek(struct mmu *mmu, struct pfn pfn)
{
	struct arena *arena = arena_of(pfn);

	return arena && arena->direct && !is_dead(mmu) ? arena_direct(arena, pfn) : NULL;
}

static void soft_close(struct mmu *mmu)
{
	struct soft *s = container_of(mmu, struct soft, mmu);

	if (!is_dead(mmu)) {
		write_lock(&host_fork_lock);
		fork_guard_remove(&s->guard);
		write_unlock(&host_fork_lock);
	}
	meta_delete(s);
}

static const struct mmu_ops soft_ops = {
	.name = "soft",
	.blocker = "none",
	.window_open = soft_window_open,
	.window_close = soft_window_close,
	.map = soft_map,
	.protect = soft_map,
	.clear = soft_clear,
	.block = soft_block,
	.unblock = soft_unblock,
	.wake = soft_clear,
	.peek = soft_peek,
	.close = soft_close,
};

int soft_open(mmu_fault_fn *fault, struct mmu **ret_mmu)
{
	struct soft *s = meta_new(struct soft);

	if (!s)
		return -ENOMEM;
	s->mmu.ops = &soft_ops;
	s->mmu.caps = MMU_BLOCK_READ | MMU_ALIAS | MMU_NO_VMA_COST;
	s->mmu.fault = fault;
	write_lock(&host_fork_lock);
	fork_guard_add(&s->guard);
	write_unlock(&host_fork_lock);
	*ret_mmu = &s->mmu;
	return 0;
}
