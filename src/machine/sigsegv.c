// SPDX-License-Identifier: MIT
// The SIGSEGV handler of both blockers.
//
// Signal blocker: an access to a page without translation, or a store to a page that is being
// moved, raises SIGSEGV in the accessor. The handler finds the window and asks the engine
// (mmu->fault), which may sleep until the page is there; on return the accessor's instruction runs
// again.
//
// Userfaultfd blocker: only refused accesses come here, the engine having been asked before. Is the
// refusal for want of memory, and not this accessor's, then it waits and tries again (uffd_meet).
//
// An access that found no memory gets SIGBUS instead, as the kernel would raise it: sent by the
// thread to itself with the code and the address of a fault, it is pending until the handler
// returns and then interrupts that very instruction. There is no handler of SIGBUS: the program's
// own stays in force, and sees no SIGBUS that is not its own business.
//
// The handler runs with every signal blocked (a handler nested into it might touch another
// blocked page), also when a handler of the program that was put over it calls it with fewer
// blocked, and on the alternate stack (the thread's own may be managed memory). It uses no malloc,
// no stdio, and no lock that the interrupted code may hold: no engine lock is ever held while
// managed memory is touched.
//
// Addresses that are not ours, and accesses that the engine refuses, go to the handler that was
// there before us, with the mask and the stack it asked for as far as that can be had; if there was
// none, the default action: the instruction runs again and ends the program where it is.
//
// The first machine puts the handler in force, and the last puts back what was there, unless
// somebody else's is in force by then. That one may call ours from then on. So when the next
// machine puts ours over it, ours calls it for what is not ours, and it ours again: that call,
// deeper on the same stack for the same signal, goes to what was there at the very first.
//
// A thread that blocks SIGSEGV is ended by the kernel when it comes, without asking anybody: so a
// thread that enters gets it unblocked until it leaves.
//
// What can fail: a thread that blocks SIGSEGV afterwards; a system call that touches such a page
// gets EFAULT from the kernel without any signal: the signal blocker is not syscall-safe.
#include "machine/sigsegv.h"

#include "base/lock.h"
#include "base/meta.h"
#include "machine/block_uffd.h"
#include "machine/host_calls.h"
#include "machine/rewire.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

#define STACK_SIZE (256ul << 10)
#define STACK_ENOUGH (64ul << 10)

static struct mutex lock = MUTEX_INIT(WINDOWS);
static _Atomic unsigned users;
static bool left_behind;	// somebody else's handler was put over ours and calls it, perhaps

// What ours was put over, and at the first time, which calls nobody. A handler may read the one
// from before while another is put in force, so each has a place of its own for some time.
struct kept {
	struct sigaction action;
	atomic_bool spent; // SA_RESETHAND, and it was called: the default action from then on
};
static struct kept kept[16];
static unsigned nr_kept;
static struct kept *_Atomic before = kept, *_Atomic first = kept;

// In static TLS: its first use may be in the handler, above a malloc() that crashed.
struct segv_thread {
	unsigned depth;
	uintptr_t stack;   // ours, with a guard page below it; 0 when the thread's is large enough
	stack_t stack_was; // which ours was put in the place of
	bool unblocked;	   // SIGSEGV was blocked before
	// The signal that was handed on last, and from where on the stack.
	const void *context;
	uintptr_t frame;
};
static _Thread_local struct segv_thread thread __attribute__((tls_model("initial-exec")));

#if defined(__x86_64__)
static enum mmu_access access_of(const ucontext_t *uc)
{
	return uc->uc_mcontext.gregs[REG_ERR] & 2 ? MMU_ACCESS_WRITE : MMU_ACCESS_READ;
}

static bool is_fetch(const ucontext_t *uc)
{
	return uc->uc_mcontext.gregs[REG_ERR] & 16;
}
#elif defined(__aarch64__)
#include <asm/sigcontext.h>
// The exception syndrome, 0 when the kernel does not say.
static uint64_t syndrome_of(const ucontext_t *uc)
{
	const uint8_t *p = (const uint8_t *)uc->uc_mcontext.__reserved;
	const uint8_t *end = p + sizeof(uc->uc_mcontext.__reserved);

	while (p + sizeof(struct _aarch64_ctx) <= end) {
		const struct _aarch64_ctx *head = (const void *)p;

		if (head->magic == ESR_MAGIC)
			return ((const struct esr_context *)head)->esr;
		if (!head->magic || !head->size)
			break;
		p += head->size;
	}
	return 0;
}

static enum mmu_access access_of(const ucontext_t *uc)
{
	uint64_t syndrome = syndrome_of(uc);

	return !syndrome || syndrome & 1 << 6 ? MMU_ACCESS_WRITE : MMU_ACCESS_READ;
}

static bool is_fetch(const ucontext_t *uc)
{
	return (syndrome_of(uc) >> 26 & 0x3f) == 0x20;
}
#else
// Unknown is a write: a page is then made writable too early, which is never wrong.
static enum mmu_access access_of(const ucontext_t *uc maybe_unused)
{
	return MMU_ACCESS_WRITE;
}

static bool is_fetch(const ucontext_t *uc)
{
	return !uc;
}
#endif

// The default action: for a fault the instruction runs again and meets it; a signal that somebody
// sent has to be sent again.
static void chain_to_default(const siginfo_t *info)
{
	struct sigaction dfl = {.sa_handler = SIG_DFL};

	sigaction(SIGSEGV, &dfl, NULL);
	if (info->si_code <= 0)
		syscall(SYS_tgkill, getpid(), host_tid(), SIGSEGV);
}

// What ours was put over calls ours back.
static bool is_called_back(const void *context, uintptr_t frame)
{
	bool deeper = thread.context == context && frame < thread.frame;

	if (!deeper) {
		thread.context = context;
		thread.frame = frame;
	}
	return deeper;
}

// The one call of a handler for one call, of whatever thread, is this one.
static bool may_call(struct kept *from)
{
	return !(from->action.sa_flags & (int)SA_RESETHAND) ||
	       !atomic_exchange(&from->spent, true);
}

static void chain(int sig, siginfo_t *info, void *context, uintptr_t frame)
{
	const ucontext_t *uc = context;
	bool end = !atomic_load(&users) || is_called_back(context, frame);
	struct kept *from = atomic_load(end ? &first : &before);
	const struct sigaction old = from->action;
	sigset_t mask;

	if (!(old.sa_flags & SA_SIGINFO) && old.sa_handler == SIG_IGN && info->si_code <= 0)
		return;
	if ((!(old.sa_flags & SA_SIGINFO) &&
		    (old.sa_handler == SIG_IGN || old.sa_handler == SIG_DFL)) ||
		!may_call(from)) {
		chain_to_default(info);
		return;
	}
	sigorset(&mask, &uc->uc_sigmask, &old.sa_mask);
	if (!(old.sa_flags & SA_NODEFER))
		sigaddset(&mask, SIGSEGV);
	pthread_sigmask(SIG_SETMASK, &mask, NULL);
	if (old.sa_flags & SA_SIGINFO)
		old.sa_sigaction(sig, info, context);
	else
		old.sa_handler(sig);
}

// A SIGBUS that is sent reaches the program where it is not blocked or ignored.
static bool bus_is_catchable(const ucontext_t *uc)
{
	struct sigaction action;

	return !sigismember(&uc->uc_sigmask, SIGBUS) && !sigaction(SIGBUS, NULL, &action) &&
	       (action.sa_flags & SA_SIGINFO || action.sa_handler != SIG_IGN);
}

// Pending until the handler returns. The page stays as it is: there may be memory for it at the
// next access. Where the program does not want the signal it ends, as it would by a fault.
static void raise_bus(const struct mmu_fault *fault, ucontext_t *uc)
{
	struct sigaction dfl = {.sa_handler = SIG_DFL};

	if (!bus_is_catchable(uc)) {
		sigaction(SIGBUS, &dfl, NULL);
		sigdelset(&uc->uc_sigmask, SIGBUS);
	}
	host_signal_thread(fault->tid, SIGBUS, BUS_ADRERR, fault->at);
}

static enum mmu_fault_result ask(const struct window_ref *ref, const struct mmu_fault *fault)
{
	if (ref->mmu->ops == &rewire_signal_ops)
		return ref->mmu->fault(ref->owner, fault);
	switch (uffd_meet(ref->mmu, fault)) {
	case UFFD_MET_BUS:
		return MMU_FAULT_BUS;
	case UFFD_MET_SEGV:
		return MMU_FAULT_SEGV;
	case UFFD_MET_NOTHING:
		break;
	}
	return MMU_FAULT_DONE;
}

// Other codes than these two are no translation faults (protection keys, tagged memory). Nothing is
// mapped to be executed. A hole under userfaultfd is one that could not be mended.
static bool can_be_ours(const struct window_ref *ref, const siginfo_t *info, const ucontext_t *uc)
{
	if (is_fetch(uc))
		return false;
	return info->si_code == SEGV_ACCERR
		       ? ref->mmu->caps & MMU_REAL
		       : info->si_code == SEGV_MAPERR && ref->mmu->ops == &rewire_signal_ops;
}

// Anything but SEGV: the access may be tried again.
static enum mmu_fault_result serve(const siginfo_t *info, ucontext_t *uc)
{
	struct mmu_fault fault = {
		.at = (uintptr_t)info->si_addr,
		.access = access_of(uc),
		.may_wait = true,
	};
	enum mmu_fault_result result = MMU_FAULT_SEGV;
	struct window_ref ref;

	if (info->si_code <= 0 || !window_get(fault.at, &ref))
		return result;
	if (can_be_ours(&ref, info, uc)) {
		fault.tid = host_tid();
		lock_assert_none_held();
		result = ask(&ref, &fault);
	}
	window_put(&ref);
	if (result == MMU_FAULT_BUS)
		raise_bus(&fault, uc);
	return result; // an engine that did not want to sleep here is asked again
}

// A handler of the program that calls this one may have signals unblocked: not in here, and a
// SIGBUS is not to come before the instruction that it is for.
static void handler(int sig, siginfo_t *info, void *context)
{
	enum mmu_fault_result result;
	int saved = errno;
	sigset_t all, old;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	result = serve(info, context);
	if (result == MMU_FAULT_BUS)
		sigaddset(&old, SIGBUS);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (result == MMU_FAULT_SEGV)
		chain(sig, info, context, (uintptr_t)__builtin_frame_address(0));
	errno = saved;
}

// The child has no machine, whatever is in force. (Nobody held the lock: who does holds
// host_fork_lock, too.)
static void in_child(void)
{
	atomic_store(&users, 0);
}

static struct fork_hook fork_hook = {.in_child = in_child};

static void keep(const struct sigaction *now)
{
	struct kept *place = atomic_load(&before);

	if (atomic_load(&place->spent) || memcmp(&place->action, now, sizeof(*now))) {
		do
			place = &kept[++nr_kept % ARRAY_SIZE(kept)];
		while (place == atomic_load(&first));
		place->action = *now;
		atomic_store(&place->spent, false);
	}
	atomic_store(&before, place);
	if (!left_behind)
		atomic_store(&first, place);
}

// Unless it is: in a child of fork(), say.
static int put_in_force(void)
{
	struct sigaction ours = {.sa_sigaction = handler, .sa_flags = SA_SIGINFO | SA_ONSTACK};
	struct sigaction now = {0};

	sigfillset(&ours.sa_mask);
	if (sigaction(SIGSEGV, NULL, &now))
		return -errno;
	if (now.sa_sigaction == handler)
		return 0;
	keep(&now); // known before the first signal comes
	return sigaction(SIGSEGV, &ours, NULL) ? -errno : 0;
}

int sigsegv_install(void)
{
	int err;

	fork_guard_hook(&fork_hook);
	read_lock(&host_fork_lock); // a child finds all of it done, or nothing
	mutex_lock(&lock);
	err = atomic_fetch_add(&users, 1) ? 0 : put_in_force();
	if (err)
		atomic_fetch_sub(&users, 1);
	mutex_unlock(&lock);
	read_unlock(&host_fork_lock);
	return err;
}

void sigsegv_uninstall(const struct fork_guarded *of_machine)
{
	const struct sigaction dfl = {.sa_handler = SIG_DFL};
	struct sigaction now;

	if (fork_guard_is_dead(of_machine))
		return;
	read_lock(&host_fork_lock);
	mutex_lock(&lock);
	if (atomic_load(&users) == 1 && !sigaction(SIGSEGV, NULL, &now)) {
		const struct kept *was = atomic_load(&before);
		if (now.sa_sigaction == handler)
			sigaction(SIGSEGV, atomic_load(&was->spent) ? &dfl : &was->action, NULL);
		else
			left_behind = true;
	}
	atomic_fetch_sub(&users, 1);
	mutex_unlock(&lock);
	read_unlock(&host_fork_lock);
}

static int set_stack(void)
{
	stack_t was = {.ss_flags = SS_DISABLE}, ours = {.ss_size = STACK_SIZE};
	uintptr_t start;
	int err;

	if (!sigaltstack(NULL, &was) && !(was.ss_flags & SS_DISABLE) && was.ss_size >= STACK_ENOUGH)
		return 0;
	err = host_reserve(STACK_SIZE + PAGE_SIZE, PAGE_SIZE, NULL, &start);
	if (!err) {
		ours.ss_sp = (void *)(start + PAGE_SIZE);
		err = host_protect(start + PAGE_SIZE, STACK_SIZE, HOST_RW);
		if (!err && sigaltstack(&ours, NULL))
			err = -errno;
		if (err)
			host_unmap(start, STACK_SIZE + PAGE_SIZE);
	}
	if (!err) {
		thread.stack = start;
		thread.stack_was = was;
	}
	return err;
}

static bool change_mask(int how)
{
	sigset_t segv, old;

	sigemptyset(&segv);
	sigaddset(&segv, SIGSEGV);
	return !pthread_sigmask(how, &segv, &old) && sigismember(&old, SIGSEGV) == 1;
}

int sigsegv_thread_enter(void)
{
	int err = thread.depth ? 0 : set_stack();

	if (!err && !thread.depth++)
		thread.unblocked = change_mask(SIG_UNBLOCK);
	return err;
}

void sigsegv_thread_leave(void)
{
	stack_t now;

	if (--thread.depth)
		return;
	if (thread.unblocked)
		(void)change_mask(SIG_BLOCK);
	thread.unblocked = false;
	if (!thread.stack)
		return;
	if (!sigaltstack(NULL, &now) && (uintptr_t)now.ss_sp == thread.stack + PAGE_SIZE &&
		sigaltstack(&thread.stack_was, NULL))
		return; // running on it
	host_unmap(thread.stack, STACK_SIZE + PAGE_SIZE);
	thread.stack = 0;
}
