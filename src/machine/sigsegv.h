// SPDX-License-Identifier: MIT
// SIGSEGV in windows, and the alternate stacks it needs.
#ifndef GODWIT_MACHINE_SIGSEGV_H
#define GODWIT_MACHINE_SIGSEGV_H

#include "machine/fork_guard.h"
#include "machine/mmu.h"

// Counted: the handler is installed by the first; the last puts the program's own back if ours
// is still the one in force. A machine that was the parent's is not among a child's.
must_check int sigsegv_install(void);
void sigsegv_uninstall(const struct fork_guarded *of_machine);

// The calling thread gets an alternate signal stack, unless it has one that is large enough, and
// SIGSEGV unblocked; the last to leave takes both back. Nests. -ENOMEM.
must_check int sigsegv_thread_enter(void);
void sigsegv_thread_leave(void);

#endif
