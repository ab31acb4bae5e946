// SPDX-License-Identifier: MIT
// The seam to what stands for the hardware's translation: how an application address comes to
// reach a frame's bytes, how accessors are stopped while a frame moves, and how the engine hears
// of an access it must serve. The engine's own page table (src/virt/pte.h) is the truth; a backend
// only makes the host agree with it.
//
// Rules for callers
//  - Every call on a range is made under the page-table lock that covers it (a range never crosses
//    a 2 MiB boundary), so two calls on one page never run at once.
//  - `nr` pages at `at` get `nr` consecutive frames from `first`: one host call where possible.
//  - Write implies read. A translation is either absent (an access faults to the engine), readable
//    or writable.
//  - block() ... copy ... map() is a move; block() ... unblock() is its back-out.
//  - The host may lose a translation at any time (reclaim, a shortage of host mappings): a fault on
//    a page whose translation the engine believes to be there is answered by map() with the same
//    frame. The same call again is never wrong.
//  - An access that is refused (refuse(), SEGV) leaves the page that way for the host, until map()
//    or clear(). So clear() goes over a stretch when an area begins to exist in it. One that failed
//    (BUS) concerns its accessor alone, which asks again the next time.
//  - In a child of fork() the machine is dead: calls return -EOWNERDEAD or do nothing, peek() is
//    NULL, the windows are not mapped. A machine opened in the child works.
#ifndef GODWIT_MACHINE_MMU_H
#define GODWIT_MACHINE_MMU_H

#include "base/compiler.h"
#include "base/types.h"

#include <stdatomic.h>
#include <sys/types.h>

enum mmu_prot { MMU_NONE, MMU_READ, MMU_WRITE };
enum mmu_access { MMU_ACCESS_READ, MMU_ACCESS_WRITE };

// What a backend can do. No backend sees the host's accessed bits.
enum mmu_caps {
	MMU_SYSCALL_SAFE = 1 << 0, // a system call on a moving or untouched page waits, correctly
	MMU_BLOCK_READ = 1 << 1,   // block() can stop readers too
	MMU_ALIAS = 1 << 2,	   // one frame at several addresses stays coherent
	MMU_REAL = 1 << 3,	   // application pointers really reach the frames (not: soft)
	MMU_FORK_SAFE = 1 << 4,	   // nothing to do at the host's fork()
	MMU_NO_VMA_COST = 1 << 5,  // scattered frames cost no host mapping
};

// What the engine answers to an access.
enum mmu_fault_result {
	MMU_FAULT_DONE, // the translation is there now: retry the access
	MMU_FAULT_WAIT, // somebody else will wake the accessor (only when told may_wait=false)
	MMU_FAULT_SEGV, // not an access the task may make: give it to the program's own handler
	MMU_FAULT_BUS,	// the promise of memory broke (SIGBUS)
};

struct mmu_fault {
	uintptr_t at;		// host address of the access
	enum mmu_access access; // what was tried
	bool may_wait; // the caller is the accessor itself and may sleep until it is served
	pid_t tid;     // the accessor's thread id, 0 when unknown
};

// Called without any lock held, in the accessor (signal blocker: inside SIGSEGV on the alternate
// stack) or in a backend thread on its behalf (userfaultfd). `owner` is the window's.
typedef enum mmu_fault_result mmu_fault_fn(void *owner, const struct mmu_fault *fault);

// A stretch of host addresses whose accesses belong to one owner (a space).
struct mmu_window {
	uintptr_t start;
	size_t size;
	void *owner;
};

struct mmu; // backend state of one machine; see mmu_open()

struct mmu_ops {
	const char *name;    // "rewire", "soft"
	const char *blocker; // "signal", "userfaultfd", "none"
	// Reserve size bytes aligned to align; at `hint` exactly when hint is not NULL (-EEXIST
	// when taken). All of it faults to the engine. The window stays valid until window_close().
	int (*window_open)(struct mmu *, size_t size, size_t align, void *hint, void *owner,
		struct mmu_window **ret_window);
	// No access to the window is in flight. Waits until no fault() for it is (under userfaultfd
	// one may be late, its accessor long served), so no lock that fault() takes is held. Then
	// the owner may go.
	void (*window_close)(struct mmu *, struct mmu_window *);
	// Translate; replaces what was there and wakes who waits. -ENOMEM (no host mapping to be
	// had) leaves everything as it was.
	int (*map)(struct mmu *, uintptr_t at, struct pfn first, unsigned nr, enum mmu_prot);
	// Same frames (from first), other permission. MMU_NONE: every access is refused with SEGV
	// by the engine (a protected area), contents kept. Pages without translation stay so. On
	// failure some of the pages may have the new permission.
	int (*protect)(struct mmu *, uintptr_t at, struct pfn first, unsigned nr, enum mmu_prot);
	// No translation any more: the next access faults to the engine, and who got MMU_FAULT_WAIT
	// retries. Never fails: the caller gives up the frames.
	void (*clear)(struct mmu *, uintptr_t at, unsigned nr);
	// Stop writers, and readers too when `readers`; on return no store is in flight and none
	// can begin until map() or unblock(). Reads may go on when !readers. A page without
	// translation stays so. -ENOMEM leaves it unblocked, though the next access may ask the
	// engine.
	int (*block)(struct mmu *, uintptr_t at, struct pfn first, unsigned nr, bool readers);
	// Back-out of block(): the old frames with `prot` again, and wake. A page that was cleared
	// meanwhile stays without translation.
	void (*unblock)(struct mmu *, uintptr_t at, struct pfn first, unsigned nr, enum mmu_prot);
	// Wake accessors that got MMU_FAULT_WAIT on these pages; they retry.
	void (*wake)(struct mmu *, uintptr_t at, unsigned nr);
	// Before the answer MMU_FAULT_SEGV or _BUS, and under the lock that orders changes of
	// permission: a refusal that came after the permission would hit an access that may be
	// made. NULL where the answer is all that it takes.
	void (*refuse)(struct mmu *, const struct mmu_fault *, enum mmu_fault_result);
	// Where the engine itself reaches the bytes of a frame, or NULL when there is no direct
	// map.
	void *(*peek)(struct mmu *, struct pfn);
	void (*close)(struct mmu *);
};

struct mmu {
	const struct mmu_ops *ops;
	unsigned caps; // enum mmu_caps
	mmu_fault_fn *fault;
};

enum mmu_backend { MMU_BACKEND_AUTO, MMU_BACKEND_REWIRE, MMU_BACKEND_SOFT };
enum mmu_blocker { MMU_BLOCKER_AUTO, MMU_BLOCKER_SIGNAL, MMU_BLOCKER_USERFAULTFD };

struct mmu_config {
	enum mmu_backend backend;
	enum mmu_blocker blocker; // of rewire
	// Take a userfaultfd that does not see system calls, if there is no better one. Only when
	// userfaultfd is asked for by name; AUTO prefers signals then.
	bool user_mode_only;
	unsigned fault_threads; // userfaultfd: 0 is the default
};

// AUTO takes the best that this host lets us have: rewire with userfaultfd, else with signals.
// -ENOSYS, -EPERM: what was asked for by name is not to be had (machine/probe.h says why). The
// arenas that are mapped must fit: arena->uffd_able, and a parking area if moves are to be fast.
must_check int mmu_open(const struct mmu_config *config, mmu_fault_fn *fault, struct mmu **ret_mmu);

// Around the life of each thread that touches managed memory; under rewire it gets an alternate
// stack, and SIGSEGV unblocked. They nest. -ENOMEM.
must_check int mmu_thread_enter(struct mmu *mmu);
void mmu_thread_leave(struct mmu *mmu);

// What happened so far, of one machine.
#define GODWIT_MMU_COUNTERS(X)                                                                     \
	X(faults)	  /* that the host reported */                                             \
	X(moves_refused)  /* block() at 90% of the host mappings */                                \
	X(tables_moved)	  /* map() that took filled page tables along */                           \
	X(widened)	  /* clear() that had to take a whole window */                            \
	X(unblock_failed) /* the accessor's next fault repairs it */                               \
	X(mended)	  /* mappings that the host lost in a failed call */

struct mmu_counters {
#define X(name) _Atomic uint64_t name;
	GODWIT_MMU_COUNTERS(X)
#undef X
};

struct mmu_stats {
#define X(name) uint64_t name;
	GODWIT_MMU_COUNTERS(X)
#undef X
	size_t vmas; // of the process: all machines
	size_t vma_limit;
};

void mmu_stats(struct mmu *mmu, struct mmu_stats *ret_stats);

#endif
