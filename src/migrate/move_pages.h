// SPDX-License-Identifier: MIT
// move_pages(2) and migrate_pages(2), the moving half of mbind(2), and what follows a cpuset: the
// calls of tasks. Numbers and errors are Linux 6.12's.
#ifndef GODWIT_MIGRATE_MOVE_PAGES_H
#define GODWIT_MIGRATE_MOVE_PAGES_H

#include "migrate/migrate.h"

#include <sys/types.h>

struct task;

// MPOL_MF_MOVE, MPOL_MF_MOVE_ALL: MBIND_MOVE, MBIND_MOVE_ALL of virt/mempolicy_calls.h.
struct move_request {
	struct task *caller;
	int pid; // 0: the caller
	uint64_t count;
	const uint64_t *pages; // [count] addresses in the space of pid
	const int *nodes;      // [count]; NULL: only ask where the pages are
	int *status;	       // [count], written: a node, or a negative errno
	unsigned flags;
	unsigned pause_budget_us; // this and the next: see struct migrate_control
	bool keep_huge;
	// Why each page was moved or not; may be NULL. Written in full when `nodes` is given.
	enum migrate_why *why;
	// Order of the folio that each address was on when the call came to it; may be NULL. Not
	// written for addresses without one.
	uint8_t *order;
	// Called for pages of which there is more to say (who holds a pin); may be NULL.
	void (*detail)(uint64_t index, enum migrate_why, const char *text, void *arg);
	void *detail_arg;
	// Totals of this call: nr_* of struct migrate_control.
	struct migrate_control totals;
};

// 0: done, look at status. Positive: so many pages were not moved or not tried, and the call ended
// early; entries of the batch that failed and of all later pages are not written. Negative:
// -EINVAL flags, a task without a space; -EPERM MOVE_ALL without CAP_SYS_NICE, a task one may not
// access; -ESRCH no such task; -EFAULT an array that cannot be one; -ENODEV a node out of range or
// without memory; -EACCES a node outside of the task's cpuset; -ENOMEM.
long move_pages(struct move_request *);

// The calls below take a migrate_control, or NULL: of what goes in they use pause_budget_us,
// keep_huge and explain, and results are added to it.

// All pages of a task on the nth node of `from` to the nth of `to`. How many folios could not be
// moved, or -EINVAL bad masks, -ESRCH, -EPERM, -ENOMEM. Masks as user space gives them.
long migrate_range(struct task *caller, int pid, unsigned long maxnode, const unsigned long *from,
	const unsigned long *to, struct migrate_control *);

// The moving itself: mmap_lock not held. How many folios could not be moved, or a negative errno.
struct nodes_move {
	struct nodemask from, to;
	bool all; // shared pages, too
	int cpu;
	struct migrate_control *control; // may be NULL
};
long space_migrate_nodes(struct space *, const struct nodes_move *);
// cpuset_set_mems()'s migrate(): keeps relative places, moves shared pages too.
int cpuset_migrate(struct task *, const struct nodemask *from, const struct nodemask *to);

// mbind(2). 0, or the errors of mbind_policy(), and -EIO: STRICT and a misplaced page (without
// MOVE: nothing was changed; with it: the policy is set), -ENOMEM: keep_huge, and no huge page to
// be had (the policy is set).
long mbind_range(struct task *caller, uint64_t start, uint64_t len, int mode,
	const unsigned long *nmask, unsigned long maxnode, unsigned flags,
	struct migrate_control *);

#endif
