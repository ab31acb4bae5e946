// SPDX-License-Identifier: MIT
// Refused accesses under the userfaultfd blocker: who gets a signal, and nobody else.
//
// The kernel knows no way to tell one sleeping accessor that its access is refused. What can be
// done is done to the page: its protection is taken away on the host, the accessor is woken, runs
// into it and gets SIGSEGV, or EFAULT in a system call. There are two kinds of refusal:
//
//   SEGV   nobody may make that access. The page stays like that until it is mapped or cleared,
//          and the signal goes to the program as it came.
//   BUS    there was no memory for this one access. Another thread's may be served the moment
//          after, so the page is like that for a moment only, and a record says whom it is for:
//
//            made      by the thread of the pool that served the access, which then waits
//            consumed  the accessor comes with SIGSEGV to the handler (sigsegv.c): it gets
//                      SIGBUS in its place, and the page is as before
//            ended     nobody came in time (a system call failed, a signal handler jumped
//                      away): the page is as before
//
//          Whoever else meets the page meanwhile waits until no record is left for it, and tries
//          again. Readers meet nothing where a store was refused: only stores are stopped then,
//          whether there is a page to read or not yet.
//
// The accessor may be long gone when the engine answers: woken by another call for the same page
// it faulted once more, another thread served that, and it went on. So nothing is refused to a
// thread that does not sleep any more, nor at a page that lets the access through by now.
//
// What is left by the page: a system call of somebody else that runs into a BUS refusal gets
// EFAULT, there being no handler in which it could wait.
//
// A page of hugetlbfs is refused as a whole, and the records for it are of its beginning.
//
// Locks: rw->lock around the records and page states, so that a page is refused for want of memory
// exactly while there is a record. uffd_meet() runs in a signal handler; the interrupted code was
// touching managed memory and holds no lock. It sleeps without any.
// What can fail: changing the protection, without a spare host mapping. Then the signal is sent to
// the accessor by hand, which reaches a thread but not a system call.
#include "machine/block_uffd.h"

#include "base/assert.h"
#include "base/mark.h"
#include "base/wait.h"
#include "machine/host_calls.h"
#include "machine/rewire.h"

#include <signal.h>

#define CALL_TAKES_NS 2000000ul	   // nobody says when it has failed
#define SIGNAL_TAKES_NS 20000000ul // on a busy host; it ends when it has come

struct uffd_refusal {
	struct list_head entry; // rw->refusals; rw->lock
	uintptr_t page;
	pid_t tid; // 0: nobody who could come to the handler
	_Atomic bool stands;
};

// A thread of the pool serves one access at a time.
static _Thread_local struct uffd_refusal mine __attribute__((tls_model("initial-exec")));

static struct uffd_refusal *find(const struct rewire_call *c, bool any, pid_t tid)
{
	struct uffd_refusal *r;

	list_for_each_entry (r, &c->rw->refusals, entry)
		if (r->page == c->at && (any || r->tid == tid))
			return r;
	return NULL;
}

// Readers may go on where only a store was refused.
static int refuse_access(struct rewire_call *c, enum mmu_access access)
{
	bool readable = access == MMU_ACCESS_WRITE && !(c->window->state[c->page] & PAGE_PROT_NONE);
	int err = host_protect(c->at, c->size, readable ? PROT_READ : PROT_NONE);

	if (!err)
		window_state_change(c->window, c->page, c->nr, PAGE_PROT,
			readable ? PAGE_PROT_READ : PAGE_PROT_NONE);
	return err;
}

// PAGE_PROT_READ comes from refuse_access() alone, over something that stopped stores already.
// Anything else asks the engine again.
static void lift(struct rewire_call *c)
{
	uint64_t prot = c->window->state[c->page] & PAGE_PROT;

	if (prot == PAGE_PROT_READ && !host_protect(c->at, c->size, HOST_RW))
		window_state_change(c->window, c->page, c->nr, PAGE_PROT, 0);
	else if (prot)
		uffd_clear_pages(c);
}

static void make_record(struct rewire_call *c, pid_t tid)
{
	assert_that(!atomic_load(&mine.stands), "two refusals by one thread");
	if (tid && find(c, false, tid))
		return; // it faulted twice for one access
	mine.page = c->at;
	mine.tid = tid;
	atomic_store(&mine.stands, true);
	list_add_tail(&mine.entry, &c->rw->refusals);
}

static void end_record(struct rewire_call *c, struct uffd_refusal *r)
{
	list_del(&r->entry);
	if (!find(c, true, 0))
		lift(c);
	atomic_store(&r->stands, false);
}

// Blocked, and whoever blocked it will wake the accessor.
static bool is_moving(uint64_t state)
{
	return (state & (PAGE_KIND | PAGE_SOFT)) == (PAGE_FRAME | PAGE_OFF);
}

void uffd_refuse(struct mmu *mmu, const struct mmu_fault *fault, enum mmu_fault_result result)
{
	bool bus = result == MMU_FAULT_BUS;
	enum host_place place = bus ? host_thread_place(fault->tid) : HOST_IN_FAULT;
	struct rewire_call c;
	uint64_t state;
	int err = 0;

	if (place == HOST_RUNNING || rewire_enter(&c, mmu, ALIGN_DOWN(fault->at, PAGE_SIZE), 1))
		return;
	rewire_widen(&c);
	state = c.window->state[c.page];
	if (!page_state_allows(state, fault->access) && !(bus && is_moving(state))) {
		err = refuse_access(&c, fault->access);
		if (bus && !err)
			make_record(&c, place == HOST_IN_FAULT ? fault->tid : 0);
	}
	rewire_unlock(&c);
	rewire_leave(&c);
	if (!err)
		return;
	MARK(uffd_signal_by_hand);
	host_signal_thread(
		fault->tid, bus ? SIGBUS : SIGSEGV, bus ? BUS_ADRERR : SEGV_ACCERR, fault->at);
}

void uffd_refusal_wait(struct rewire *rw)
{
	struct rewire_call c;

	if (!atomic_load(&mine.stands))
		return;
	(void)!wait_until(
		&mine, !atomic_load(&mine.stands), mine.tid ? SIGNAL_TAKES_NS : CALL_TAKES_NS);
	if (!rewire_enter(&c, &rw->mmu, mine.page, 1)) {
		rewire_widen(&c);
		if (atomic_load(&mine.stands))
			end_record(&c, &mine);
		rewire_unlock(&c);
		rewire_leave(&c);
	} else { // the window is gone
		mutex_lock(&rw->lock);
		if (atomic_load(&mine.stands))
			list_del(&mine.entry);
		atomic_store(&mine.stands, false);
		mutex_unlock(&rw->lock);
	}
	wake_all(&rw->refusals);
}

static bool host_permits(uint64_t state, enum mmu_access access)
{
	return !(state & PAGE_PROT_NONE) && !(access == MMU_ACCESS_WRITE && state & PAGE_PROT_READ);
}

enum uffd_met uffd_meet(struct mmu *mmu, const struct mmu_fault *fault)
{
	enum uffd_met met = UFFD_MET_SEGV;
	struct rewire *rw = rewire_of(mmu);
	struct uffd_refusal *r = NULL;
	struct rewire_call c;
	struct waiter self;
	bool wait = false;

	if (rewire_enter(&c, mmu, ALIGN_DOWN(fault->at, PAGE_SIZE), 1))
		return UFFD_MET_SEGV;
	rewire_widen(&c);
	if (host_permits(c.window->state[c.page], fault->access)) {
		met = UFFD_MET_NOTHING; // any more
	} else if ((r = find(&c, false, fault->tid))) {
		met = UFFD_MET_BUS;
		end_record(&c, r);
	} else if (find(&c, true, 0)) {
		met = UFFD_MET_NOTHING;
		wait = true;
		wait_prepare(&self, &rw->refusals);
	}
	rewire_unlock(&c);
	rewire_leave(&c);
	if (wait)
		(void)!wait_sleep(&self, SIGNAL_TAKES_NS);
	if (r) {
		wake_all(r);
		wake_all(&rw->refusals);
	}
	return met;
}
