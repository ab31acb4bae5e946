// SPDX-License-Identifier: MIT
// A task: who asks. It has a space, a cpu (whose node is where its first touches go), credentials,
// a memory policy and a cpuset. The host threads that run as a task attach to it.
#ifndef GODWIT_VIRT_TASK_H
#define GODWIT_VIRT_TASK_H

#include "base/list.h"
#include "base/lock.h"
#include "base/nodemask.h"
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct mm_core;
struct space;
struct mempolicy;

struct task {
	struct mm_core *mm;
	struct list_head node; // in mm->tasks
	int pid;
	_Atomic int cpu;
	uid_t uid;
	bool cap_sys_nice;  // may use MOVE_ALL and name other users' tasks
	bool cap_sys_admin;
	bool cap_sys_ptrace;
	bool dumpable;
	bool thp_disabled;
	struct space *space; // a reference; NULL once it exited
	struct mutex policy_lock; // rank POLICY, letter Q
	struct mempolicy *policy; // NULL: default                                          Q
	int il_prev;		  // last node of the task's own interleave, NO_NODE at first Q
	unsigned il_weight;	  // what is left of that node's weight                     Q
	struct nodemask mems_allowed; // cpuset.mems, effective; rank CPUSET to change, read by
				      // task_mems_allowed()
	bool mems_v1_migrate;
	_Atomic int users;
	// balancing
	int numa_preferred_nid;
	void *numa_group, *numa_faults;
};

int task_create(struct mm_core *, uid_t, int cpu, struct task **ret_task); // with a new space
int task_fork(struct task *parent, int cpu, struct task **ret_child);	   // copies the space
void task_exit(struct task *); // and drops the caller's reference
void task_get(struct task *);
void task_put(struct task *);
struct task *task_find(struct mm_core *, int pid); // a reference, or NULL
struct space *task_space_get(struct task *);	    // a reference, or NULL once it exited

// The calling host thread runs as this task from now on (NULL: as none). It gets an alternate
// signal stack where the mmu backend needs one.
int task_attach(struct task *);
struct task *task_current(void);	     // of this thread, or NULL
struct task *task_of_tid(struct mm_core *, pid_t tid); // of a host thread: a reference, or NULL
// Who is behind an access of this host thread (0: ourselves) to memory of the space: its task where
// that is the space's, else the space's owner. A reference, or NULL: the thread may have gone on
// and both may be ending.
struct task *task_of_access(struct space *, pid_t tid);
void tasks_in_child(void);		     // of the host's fork()
int task_nid(const struct task *);	     // node of its cpu; NULL: not allowed
// The nodes its cpuset allows; NULL: all.
static inline struct nodemask task_mems_allowed(const struct task *task)
{
	if (!task)
		return NODEMASK_ALL;
	return (struct nodemask){__atomic_load_n(&task->mems_allowed.bits, __ATOMIC_RELAXED)};
}

// May `who` look into or move `target`'s memory? (ptrace READ_REALCREDS rules: same uid and
// dumpable, or CAP_SYS_PTRACE; pid 0 or itself is always allowed.) 0 or -EPERM.
int task_may_access(const struct task *who, const struct task *target);

#endif
