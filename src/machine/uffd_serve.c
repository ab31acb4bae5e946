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
//   BUS    the page becomes one that is SIGBUS to touch, for a moment, unless it has come since.
//
// The accessor may be long gone: woken by another call for the same page, it faulted once more,
// another thread served that, and it went on to do what changes everything. So nothing is done to
// a page because of an answer that may be old.
//
// What can fail: refusing and breaking, without a spare host mapping. Then the signal is sent to
// the accessor by hand, which reaches a thread but not a system call.
#include "machine/block_uffd.h"

#include "base/mark.h"
#include "machine/host_calls.h"
#include "machine/rewire.h"

#include <signal.h>
#include <unistd.h>

#define BUS_STAYS_US 2000

_Thread_local uintptr_t uffd_serving;

// Readers may go on where only a store was refused.
static int refuse_access(struct rewire_call *c, enum mmu_access access)
{
	bool readable = access == MMU_ACCESS_WRITE && !(c->window->state[c->page] & PAGE_PROT_NONE);
	int err = host_protect(c->at, c->size, readable ? PROT_READ : PROT_NONE);

	if (!err)
		window_state_change(c->window, c->page, 1, PAGE_PROT,
			readable ? PAGE_PROT_READ : PAGE_PROT_NONE);
	return err;
}

static enum mmu_fault_result ask(struct rewire *rw, void *owner, const struct mmu_fault *fault)
{
	enum mmu_fault_result result;

	uffd_serving = ALIGN_DOWN(fault->at, PAGE_SIZE);
	result = rw->mmu.fault(owner, fault);
	uffd_serving = 0;
	return result;
}

void uffd_refuse(struct mmu *mmu, const struct mmu_fault *fault)
{
	struct rewire_call c;
	int err = 0;

	if (rewire_enter(&c, mmu, ALIGN_DOWN(fault->at, PAGE_SIZE), 1))
		return;
	if (!page_state_allows(c.window->state[c.page], fault->access))
		err = refuse_access(&c, fault->access);
	rewire_unlock(&c);
	rewire_leave(&c);
	if (!err)
		return;
	MARK(uffd_signal_by_hand);
	host_signal_thread(fault->tid, SIGSEGV, SEGV_ACCERR, fault->at);
}

// Blocked, and whoever blocked it will wake the accessor.
static bool is_moving(uint64_t state)
{
	return (state & (PAGE_KIND | PAGE_SOFT)) == (PAGE_FRAME | PAGE_OFF);
}

static void break_page(struct rewire *rw, const struct mmu_fault *fault)
{
	struct rewire_call c;
	int err = 0;

	if (rewire_enter(&c, &rw->mmu, ALIGN_DOWN(fault->at, PAGE_SIZE), 1))
		return;
	if (!page_state_allows(c.window->state[c.page], fault->access) &&
		!is_moving(c.window->state[c.page]))
		err = rewire_place_bus(&c);
	rewire_unlock(&c);
	rewire_leave(&c);
	if (err)
		host_signal_thread(fault->tid, SIGBUS, BUS_ADRERR, fault->at);
}

// There may be memory at the next access, or the file may have grown: SIGBUS is not for ever. The
// accessor, woken before, meets it in this time, or comes to ask once more.
static void take_bus_back(struct rewire *rw, uintptr_t page)
{
	struct rewire_call c;

	usleep(BUS_STAYS_US);
	if (rewire_enter(&c, &rw->mmu, page, 1))
		return;
	if ((c.window->state[c.page] & PAGE_KIND) == PAGE_BUS)
		uffd_clear_pages(&c);
	rewire_unlock(&c);
	rewire_leave(&c);
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
		if (result == MMU_FAULT_BUS)
			break_page(rw, &fault);
		window_put(&ref);
	}
	if (result != MMU_FAULT_WAIT)
		rw->mmu.ops->wake(&rw->mmu, page, 1);
	if (result == MMU_FAULT_BUS)
		take_bus_back(rw, page);
}
