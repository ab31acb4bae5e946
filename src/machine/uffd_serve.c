// SPDX-License-Identifier: MIT
// Serving one fault of a window, in a thread of the pool, while the accessor sleeps in the kernel.
//
// The engine is asked (mmu->fault, may_wait=false). Its answer:
//
//   DONE   map() has put the page there; those who wait for it are woken now, when everything that
//          belongs to the fault is over.
//   WAIT   the accessor stays asleep. Whoever moves the page, or takes it away, wakes it with
//          map(), unblock(), clear() or wake(), all of which come after the engine noted that it
//          has to.
//   SEGV   the engine has had the host's protection set (uffd_refuse), with every change of
//          permission waiting; then the accessor is woken: the kernel raises SIGSEGV in it with all
//          the right values, or fails its system call.
//   BUS    the same for a moment, until the accessor has got its SIGBUS (uffd_refuse.c).
//
// The accessor may be long gone, so nothing is done to a page here because of an answer that may be
// old. What can fail: nothing.
#include "machine/block_uffd.h"

#include "machine/rewire.h"

_Thread_local uintptr_t uffd_serving __attribute__((tls_model("initial-exec")));

static enum mmu_fault_result ask(struct rewire *rw, void *owner, const struct mmu_fault *fault)
{
	enum mmu_fault_result result;

	uffd_serving = ALIGN_DOWN(fault->at, PAGE_SIZE);
	result = rw->mmu.fault(owner, fault);
	uffd_serving = 0;
	return result;
}

void uffd_serve(void *rewire, const struct uffd_msg *msg)
{
	struct rewire *rw = rewire;
	struct mmu_fault fault = {
		.at = msg->arg.pagefault.address,
		.access = msg->arg.pagefault.flags &
					  (UFFD_PAGEFAULT_FLAG_WRITE | UFFD_PAGEFAULT_FLAG_WP)
				  ? MMU_ACCESS_WRITE
				  : MMU_ACCESS_READ,
		.may_wait = false,
		.tid = (pid_t)msg->arg.pagefault.feat.ptid,
	};
	uintptr_t page = ALIGN_DOWN(fault.at, PAGE_SIZE);
	enum mmu_fault_result result = MMU_FAULT_DONE;
	struct window_ref ref;

	atomic_fetch_add_explicit(&rw->counters.faults, 1, memory_order_relaxed);
	if (window_get(fault.at, &ref)) {
		if (ref.mmu == &rw->mmu)
			result = ask(rw, ref.owner, &fault);
		window_put(&ref);
	}
	if (result != MMU_FAULT_WAIT)
		rw->mmu.ops->wake(&rw->mmu, page, 1);
	uffd_refusal_wait(rw);
}
