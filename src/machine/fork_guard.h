// SPDX-License-Identifier: MIT
// What the host's fork() may not copy: windows, arenas, descriptors.
#ifndef GODWIT_MACHINE_FORK_GUARD_H
#define GODWIT_MACHINE_FORK_GUARD_H

#include "base/list.h"
#include "base/lock.h"
#include "base/types.h"

#include <stdatomic.h>

// Part of each object that owns host mappings or descriptors.
struct fork_guarded {
	struct list_head entry; // host_fork_lock
	uintptr_t start;	// a range that the child does not get; size 0: none
	size_t size;
	bool kept;	     // the host refused MADV_DONTFORK: the child unmaps it
	uint64_t generation; // of the process that made it
	// In the child, before anything else runs: close descriptors, forget threads. May be NULL.
	void (*in_child)(struct fork_guarded *);
};

// What of the process (not of one object) has to be made anew in the child: locks that a thread may
// hold which does not exist there, and what such threads had queued.
struct fork_hook {
	struct list_head entry; // host_fork_lock
	void (*in_child)(void);
	bool added;
};

extern struct rwlock host_fork_lock;

// Under host_fork_lock for writing, which also covers the number space of frames.
void fork_guard_add(struct fork_guarded *g) REQUIRES(host_fork_lock);
void fork_guard_remove(struct fork_guarded *g) REQUIRES(host_fork_lock);

// Any number of times; the hook is there from the first on.
void fork_guard_hook(struct fork_hook *hook);

// Around everything that changes host mappings: fork() waits until it is over, and the other way
// round. -EOWNERDEAD when the object belongs to the process we were forked from (nothing is held
// then, and its host mappings do not exist here).
must_check int fork_guard_enter(const struct fork_guarded *g);
void fork_guard_leave(void);
bool fork_guard_is_dead(const struct fork_guarded *g);

#endif
