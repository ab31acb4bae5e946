// SPDX-License-Identifier: MIT
// cpuset.mems: the nodes a task may use, and what follows when they change.
//
// Order of a change: the task may use old and new nodes together; its policy is rebound to the new
// ones; it may use the new ones only; the policies of its vmas are rebound; the pages follow (the
// caller's migrate). So no allocation between finds an empty set.
//
// A policy may be shared by reference with a space whose cpuset does not change (a forked child's),
// therefore a copy is rebound and takes its place. If there is no memory for a copy the original is
// rebound: another sharer then gets wrong nodes rather than this one forbidden ones.
//
// Policies of shared memory belong to nobody's cpuset and stay.
// Held: mm->cpuset_lock, then mmap_lock for write. Fails: -EINVAL, -ESRCH.
#include "virt/cpuset.h"

#include "virt/mempolicy.h"
#include "virt/mm.h"
#include "virt/space.h"
#include "virt/task.h"

#include <errno.h>

// The caller holds what guards the owner's pointer.
static void rebind(struct mempolicy **policy, const struct nodemask *mems)
{
	struct mempolicy *copy;

	if (*policy && !mempolicy_dup(*policy, &copy)) {
		mempolicy_put(*policy);
		*policy = copy;
	}
	mempolicy_rebind(*policy, mems);
}

static void allow(struct task *task, struct nodemask mems)
{
	__atomic_store_n(&task->mems_allowed.bits, mems.bits, __ATOMIC_RELAXED);
}

static void rebind_task(struct task *task, const struct nodemask *mems)
{
	allow(task, nodemask_or(task->mems_allowed, *mems));
	mutex_lock(&task->policy_lock);
	rebind(&task->policy, mems);
	mutex_unlock(&task->policy_lock);
	allow(task, *mems);
}

static void rebind_space(struct space *space, const struct nodemask *mems)
{
	write_lock(&space->mmap_lock);
	for (struct vma *vma = vma_find(space, 0); vma; vma = vma_next(vma))
		rebind(&vma->policy, mems);
	write_unlock(&space->mmap_lock);
}

int cpuset_set_mems(struct task *task, const struct nodemask *mems,
	int (*migrate)(struct task *, const struct nodemask *from, const struct nodemask *to))
{
	struct mm_core *mm = task->mm;

	if (nodemask_empty(*mems) || !nodemask_subset(*mems, mm->phys->has_memory))
		return -EINVAL;
	struct space *space = task_space_get(task);
	if (!space)
		return -ESRCH;
	mutex_lock(&mm->cpuset_lock);
	struct nodemask old = task->mems_allowed;
	rebind_task(task, mems);
	rebind_space(space, mems);
	mutex_unlock(&mm->cpuset_lock);
	if (migrate && !nodemask_equal(old, *mems))
		(void)migrate(task, &old, mems);
	space_put(space);
	return 0;
}
