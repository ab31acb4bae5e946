// SPDX-License-Identifier: MIT
// The host's fork() and the machine.
//
// Frames are shared memory of this process: a child that inherited the mappings would write into
// the parent's pages, and pages that move afterwards would tear apart what both see. So the child
// gets none of it. fork() runs our handlers around itself. They are there when the library is
// loaded: one that comes while a fork() is under way is not run for it, and the child would have
// got the first machine, or half of it.
//
//   prepare   host_fork_lock for writing: no host mapping changes from here on; the allocator of
//             the engine's data (base/meta.c) between two calls;
//             MADV_DONTFORK over every guarded range. (It cannot be set once and for all: each
//             mmap() that moves a page makes a mapping without the flag, and mappings that
//             differ in it would never merge again.)
//   parent    MADV_DOFORK, unlock.
//   child     the generation number is one higher: every guarded object is dead, its calls return
//             -EOWNERDEAD; its descriptors are closed, the table of windows is empty, and the
//             threads do not exist here. Locks of the process, which one of those may have held,
//             are new, and nobody waits (base/wait.c); upper layers do the same by hooks.
//
// A child may build machines of its own. vfork() and posix_spawn() share the address space until
// exec() and need none of this. _Fork() and a raw clone() without CLONE_VM bypass it: the
// child must not touch managed memory.
//
// Locks: host_fork_lock, taken by fork_guard_enter() for reading around each change.
// What can fail: MADV_DONTFORK, when the host has no mapping left to split one; the child unmaps
// such a range itself.
#include "machine/fork_guard.h"

#include "base/mark.h"
#include "base/meta.h"
#include "base/wait.h"
#include "machine/host_calls.h"
#include "machine/vma_budget.h"

#include <errno.h>
#include <pthread.h>

struct rwlock host_fork_lock = RWLOCK_INIT(HOST_FORK);

static LIST_HEAD(guarded);
static LIST_HEAD(hooks);
static _Atomic uint64_t generation = 1;

NO_THREAD_SAFETY_ANALYSIS static void prepare(void)
{
	struct fork_guarded *g;

	write_lock(&host_fork_lock);
	list_for_each_entry (g, &guarded, entry)
		if (g->size)
			g->kept = host_advise(g->start, g->size, MADV_DONTFORK) != 0;
	meta_fork_prepare();
}

NO_THREAD_SAFETY_ANALYSIS static void in_parent(void)
{
	struct fork_guarded *g;

	meta_fork_parent();
	list_for_each_entry (g, &guarded, entry)
		if (g->size && host_advise(g->start, g->size, MADV_DOFORK))
			MARK(fork_guard_dofork_refused); // the next fork() finds it set already
	write_unlock(&host_fork_lock);
}

NO_THREAD_SAFETY_ANALYSIS static void in_child(void)
{
	struct fork_guarded *g, *next;
	struct fork_hook *hook;

	meta_fork_child();
	wait_fork_child();
	vma_budget_fork_child();
	atomic_fetch_add(&generation, 1);
	list_for_each_entry_safe (g, next, &guarded, entry) {
		list_del_init(&g->entry);
		if (g->size && g->kept)
			host_unmap(g->start, g->size);
		if (g->in_child)
			g->in_child(g);
	}
	list_for_each_entry (hook, &hooks, entry)
		hook->in_child();
	// The lock knows its owner by a thread id that has just changed: make it anew.
	if (HAVE_TSAN)
		write_unlock(&host_fork_lock); // which ThreadSanitizer wants to see
	else
		lock_rank_released(RANK_HOST_FORK, &host_fork_lock);
	rwlock_init(&host_fork_lock, RANK_HOST_FORK);
}

// It needs no memory: glibc has room for 48 handlers.
__attribute__((constructor)) static void install(void)
{
	pthread_atfork(prepare, in_parent, in_child);
}

void fork_guard_hook(struct fork_hook *hook)
{
	write_lock(&host_fork_lock);
	if (!hook->added)
		list_add_tail(&hook->entry, &hooks);
	hook->added = true;
	write_unlock(&host_fork_lock);
}

void fork_guard_add(struct fork_guarded *g)
{
	g->generation = atomic_load(&generation);
	g->kept = false;
	list_add_tail(&g->entry, &guarded);
}

void fork_guard_remove(struct fork_guarded *g)
{
	if (!fork_guard_is_dead(g))
		list_del(&g->entry);
}

bool fork_guard_is_dead(const struct fork_guarded *g)
{
	return g->generation != atomic_load(&generation);
}

NO_THREAD_SAFETY_ANALYSIS int fork_guard_enter(const struct fork_guarded *g)
{
	read_lock(&host_fork_lock);
	if (likely(!fork_guard_is_dead(g)))
		return 0;
	read_unlock(&host_fork_lock);
	return -EOWNERDEAD;
}

NO_THREAD_SAFETY_ANALYSIS void fork_guard_leave(void)
{
	read_unlock(&host_fork_lock);
}
