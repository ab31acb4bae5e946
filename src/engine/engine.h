// SPDX-License-Identifier: MIT
// A machine, assembled: the only place where the layers are put together. The public functions of
// include/godwit/ are thin doors to the layers below; they live in this folder, a file for each
// header, and in src/text/ for what is read as text.
#ifndef GODWIT_ENGINE_ENGINE_H
#define GODWIT_ENGINE_ENGINE_H

#include <godwit/machine.h>

#include "base/list.h"
#include "base/lock.h"
#include "base/trace.h"
#include "base/vmstat.h"
#include "compact/compact.h"
#include "engine/tunable.h"
#include "hugetlb/hugetlb.h"
#include "machine/arena.h"
#include "machine/clock.h"
#include "machine/copier.h"
#include "machine/fork_guard.h"
#include "machine/topology.h"
#include "phys/zone.h"
#include "thp/thp.h"
#include "virt/mm.h"
#include "virt/task.h"

#include <errno.h>

struct gw_machine {
	struct fork_guarded guard; // no range of its own: only whose machine it is
	struct mm_core mm;
	struct phys phys;
	struct topology topology;
	struct vmstat stat;
	struct trace_ring trace;
	struct clock clock;
	struct copier *copier;
	struct mmu *mmu;
	struct arena *arena[GW_MAX_NODES];
	struct mutex fill_lock;	   // rank SUBSYSTEM
	struct folio_list filled[GW_MAX_NODES]; // gw_node_fill(): pages taken
	struct list_head drivers;  // struct gw_driver.node, fill_lock
	struct hugetlb hugetlb;
	struct thp thp;
	struct compaction compaction;
	struct tunables tunables;  // rows and values of src/text/ and of subsystems
	unsigned built;		   // how far machine.c got: what to undo
};

// Events of single page-table entries: two for each page that moves, and dearer than the rest of
// its bookkeeping together. Off until somebody asks for everything.
void trace_of_entries(struct trace_ring *ring, bool on);

// The public handle of a task is the task itself.
static inline struct task *task_of(struct gw_task *task)
{
	return (struct task *)task;
}

static inline const struct task *task_of_const(const struct gw_task *task)
{
	return (const struct task *)task;
}

static inline struct gw_machine *machine_of(const struct task *task)
{
	return container_of(task->mm, struct gw_machine, mm);
}

// Every door asks first, before any lock: in a child of the host's fork() the machine is a picture
// of the parent's, whose locks may be held by threads that do not exist here. NULL is alive.
static inline bool machine_is_dead(const struct gw_machine *machine)
{
	return machine && unlikely(fork_guard_is_dead(&machine->guard));
}

static inline bool mm_is_dead(const struct mm_core *mm)
{
	return machine_is_dead(container_of(mm, const struct gw_machine, mm));
}

static inline bool task_is_dead(const struct gw_task *task)
{
	return task && mm_is_dead(task_of_const(task)->mm);
}

// What a door says to a machine or a task that it cannot serve: -EINVAL to NULL, -EOWNERDEAD in
// such a child; 0: come in. A NULL place for the answer is -EINVAL too, a NULL array or buffer that
// would be read or written is -EFAULT.
static inline int machine_refused(const struct gw_machine *machine)
{
	return unlikely(!machine) ? -EINVAL : machine_is_dead(machine) ? -EOWNERDEAD : 0;
}

static inline int task_refused(const struct gw_task *task)
{
	return unlikely(!task) ? -EINVAL : task_is_dead(task) ? -EOWNERDEAD : 0;
}

#endif
