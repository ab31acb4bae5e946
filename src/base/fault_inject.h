// SPDX-License-Identifier: MIT
// Failures on demand, for tests: an operation is run with call number 0, 1, 2... of a kind failing
// until it runs clean. Empty without GODWIT_DEBUG.
//
//   for (uint64_t n = 0;; n++) {
//           fault_arm(FI_META, FI_THREAD, n, 1);
//           operation();
//           bool hit = fault_disarm(FI_META);      balance the books here
//           if (!hit)
//                   break;
//   }
#ifndef GODWIT_BASE_FAULT_INJECT_H
#define GODWIT_BASE_FAULT_INJECT_H

#include "base/compiler.h"

#include <errno.h>
#include <stdbool.h>

// X(kind, what fails)
#define GODWIT_FAULT_KINDS(X)                                                                      \
	X(META, "meta_alloc")                                                                      \
	X(ALLOC, "frame or folio allocation")                                                      \
	X(TRYLOCK, "trylock")                                                                      \
	X(SYSCALL, "host system call")                                                             \
	X(COPY, "copy of a page")                                                                  \
	X(FREEZE, "freezing of a reference count")

enum fault_kind {
#define X(name, what) FI_##name,
	GODWIT_FAULT_KINDS(X)
#undef X
	FI_KINDS
};

enum fault_scope { FI_THREAD, FI_PROCESS };

#ifdef GODWIT_DEBUG
#define FAULTS_BUILT_IN 1
// Calls nth, nth+1, ... nth+times-1 from now on (from 0) fail: those of this thread, or of all.
// times may be FI_ALWAYS.
void fault_arm(enum fault_kind kind, enum fault_scope scope, uint64_t nth, uint64_t times);
// True if a call failed since it was armed, in this thread's or the process's arming.
bool fault_disarm(enum fault_kind kind);
void fault_disarm_all(void);
// Calls of the kind since it was armed: those of this thread if it is armed by thread, otherwise
// those of the process.
uint64_t fault_calls(enum fault_kind kind);
bool fault_check_slow(enum fault_kind kind);
extern uint32_t fault_armed_count; // how many armings are live in the process; atomic, relaxed

static inline bool fault_should_fail(enum fault_kind kind)
{
	return unlikely(__atomic_load_n(&fault_armed_count, __ATOMIC_RELAXED) != 0) &&
	       fault_check_slow(kind);
}
#else
#define FAULTS_BUILT_IN 0
static inline void fault_arm(enum fault_kind kind maybe_unused,
	enum fault_scope scope maybe_unused, uint64_t nth maybe_unused, uint64_t times maybe_unused)
{
}
static inline bool fault_disarm(enum fault_kind kind maybe_unused)
{
	return false;
}
static inline void fault_disarm_all(void)
{
}
static inline uint64_t fault_calls(enum fault_kind kind maybe_unused)
{
	return 0;
}
static inline bool fault_should_fail(enum fault_kind kind maybe_unused)
{
	return false;
}
#endif

#define FI_ALWAYS UINT64_MAX

const char *fault_kind_name(enum fault_kind kind);

// A host system call that tests can make fail: its value, or `bad` with errno = err.
//   p = fault_syscall(ENOMEM, MAP_FAILED, raw_mmap(...));
#define fault_syscall(err, bad, call)                                                              \
	(fault_should_fail(FI_SYSCALL) ? (errno = (err), (bad)) : (call))

#endif
