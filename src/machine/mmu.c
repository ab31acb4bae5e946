// SPDX-License-Identifier: MIT
// Choosing and opening a backend.
//
// AUTO asks the host for the best first: a userfaultfd that sees system calls makes a move
// invisible to everything the program does; without one, signals work everywhere, except that a
// system call on a moving page fails. A userfaultfd for user mode only is no better than signals
// and slower, so it is taken only when asked for.
//
// Locks: none. What can fail: what was asked for by name is not there.
#include "machine/mmu.h"

#include "base/compiler.h"
#include "machine/rewire.h"
#include "machine/sigsegv.h"
#include "machine/soft.h"

#include <errno.h>
#include <unistd.h>

#define FAULT_THREADS 3

static int open_rewire(const struct mmu_config *config, mmu_fault_fn *fault, struct mmu **ret_mmu)
{
	unsigned threads = config->fault_threads ? config->fault_threads : FAULT_THREADS;
	int err = -ENOSYS;

	if (sysconf(_SC_PAGESIZE) != PAGE_SIZE) // the engine's pages are 4 KiB
		return -ENOSYS;
	if (config->blocker != MMU_BLOCKER_SIGNAL)
		err = rewire_uffd_open(threads,
			config->user_mode_only && config->blocker == MMU_BLOCKER_USERFAULTFD, fault,
			ret_mmu);
	if (err && config->blocker != MMU_BLOCKER_USERFAULTFD)
		err = rewire_signal_open(fault, ret_mmu);
	return err;
}

int mmu_open(const struct mmu_config *config, mmu_fault_fn *fault, struct mmu **ret_mmu)
{
	int err;

	if (config->backend == MMU_BACKEND_SOFT)
		return soft_open(fault, ret_mmu);
	err = open_rewire(config, fault, ret_mmu);
	if (err && config->backend == MMU_BACKEND_AUTO && config->blocker == MMU_BLOCKER_AUTO)
		err = soft_open(fault, ret_mmu);
	return err;
}

int mmu_thread_enter(struct mmu *mmu)
{
	return mmu->caps & MMU_REAL ? sigsegv_thread_enter() : 0;
}

void mmu_thread_leave(struct mmu *mmu)
{
	if (mmu->caps & MMU_REAL)
		sigsegv_thread_leave();
}

void mmu_stats(struct mmu *mmu, struct mmu_stats *ret_stats)
{
	*ret_stats = (struct mmu_stats){
		.vmas = vma_budget_used(),
		.vma_limit = vma_budget_limit(),
	};
	if (!(mmu->caps & MMU_REAL))
		return;
#define X(name) ret_stats->name = atomic_load(&rewire_of(mmu)->counters.name);
	GODWIT_MMU_COUNTERS(X)
#undef X
}
