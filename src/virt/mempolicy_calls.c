// SPDX-License-Identifier: MIT
// set_mempolicy, get_mempolicy, and the policy half of mbind.
//
// All three check first and commit last. For mbind the order is: flags, permission, range, mode and
// mask, holes, the caller's queue() (STRICT refuses there), and then, with mmap_lock still held
// for write, the point of no return: vmas are split at the ends of the range and shared policies
// prepared, which may fail and is undone, and only then all vmas take the new policy. The moving of
// pages that queue() collected follows without mmap_lock and is not done here.
//
// A DEFAULT policy may span holes, but not nothing at all: there must be one vma.
//
// Held: nothing on entry; mmap_lock and task->policy_lock inside. Fails: see the header.
#include "virt/mempolicy_calls.h"

#include "base/bitmap.h"
#include "base/meta.h"
#include "virt/fault.h"
#include "virt/mempolicy.h"
#include "virt/mm.h"
#include "virt/object.h"
#include "virt/space.h"
#include "virt/task.h"
#include "virt/vma.h"

#include <errno.h>

// ---- Node masks of user space

int policy_get_nodes(const unsigned long *nmask, unsigned long maxnode, struct nodemask *ret_nodes,
	bool *ret_any)
{
	struct nodemask nodes = NODEMASK_NONE;
	bool any = false;

	maxnode--; // 0 becomes too many
	if (nmask && maxnode) {
		if (maxnode > PAGE_SIZE * 8)
			return -EINVAL;
		size_t first = bitmap_find_next(nmask, maxnode, 0);
		any = first < maxnode;
		if (bitmap_find_next(nmask, maxnode, min(maxnode, POLICY_MAX_NUMNODES + 0ul)) <
			maxnode)
			return -EINVAL;
		nodes.bits = nmask[0] & nodemask_below((unsigned)min(maxnode, 64ul)).bits;
	}
	*ret_nodes = nodes;
	*ret_any = any;
	return 0;
}

// Whole words up to maxnode; beyond the nodes there are, zeros.
static int put_nodes(unsigned long *nmask, unsigned long maxnode, struct nodemask nodes)
{
	unsigned long words = BITMAP_WORDS(maxnode - 1);

	if (words * sizeof(long) > PAGE_SIZE)
		return -EINVAL;
	for (unsigned long i = 0; i < words; i++)
		nmask[i] = i ? 0 : nodes.bits;
	return 0;
}

// ---- set_mempolicy

int policy_set_task(struct task *task, int mode, const unsigned long *nmask, unsigned long maxnode)
{
	struct mempolicy *policy, *old;
	struct nodemask nodes;
	bool any;
	int err = policy_get_nodes(nmask, maxnode, &nodes, &any);

	if (!err)
		err = mempolicy_create(task, (unsigned)mode, &nodes, any, &policy);
	if (err)
		return err;
	mutex_lock(&task->policy_lock);
	old = task->policy;
	task->policy = policy;
	if (policy && (policy->mode == POLICY_INTERLEAVE ||
			      policy->mode == POLICY_WEIGHTED_INTERLEAVE)) {
		task->il_prev = NO_NODE;
		task->il_weight = 0;
	}
	mutex_unlock(&task->policy_lock);
	mempolicy_put(old);
	return 0;
}

// ---- get_mempolicy

// The node of the page at addr, which is faulted in; it may be the zero page.
static int lookup_node(struct space *space, struct task *task, uint64_t addr)
{
	struct folio *folio;
	unsigned page;
	int err = get_user_page(space, task, addr & PAGE_MASK, 0, &folio, &page);

	if (err == -EFAULT) {
		err = handle_fault(space, task, addr & PAGE_MASK, FAULT_REMOTE);
		return err ? err : (int)folio_nid(space->mm->zero_page);
	}
	if (err)
		return err;
	int nid = (int)folio_nid(folio);
	folio_put(folio);
	return nid;
}

static int vma_policy_at(struct space *space, uint64_t addr, struct mempolicy **ret_policy)
{
	read_lock(&space->mmap_lock);
	struct vma *vma = vma_lookup(space, addr);
	if (vma)
		*ret_policy = vma_own_policy_get(vma, addr);
	read_unlock(&space->mmap_lock);
	return vma ? 0 : -EFAULT;
}

// As user space sees it: what it said where that was kept, else what came of it.
static struct nodemask visible_nodes(const struct mempolicy *policy)
{
	if (!policy || policy->mode == POLICY_LOCAL)
		return NODEMASK_NONE;
	if (policy->flags & (POLICY_F_STATIC_NODES | POLICY_F_RELATIVE_NODES))
		return policy->user;
	return mempolicy_nodes(policy);
}

static int answer(struct task *task, struct space *space, uint64_t addr, unsigned long flags,
	struct mempolicy *policy)
{
	if (!(flags & POLICY_F_NODE))
		return policy ? (int)(policy->mode | policy->flags) : POLICY_DEFAULT;
	if (flags & POLICY_F_ADDR)
		return lookup_node(space, task, addr);
	return task_interleave_peek(task);
}

static int look(struct task *task, struct space *space, uint64_t addr, unsigned long flags,
	int *ret_value, struct nodemask *ret_nodes)
{
	struct mempolicy *policy = NULL;
	int err;

	if (flags & POLICY_F_ADDR) {
		err = vma_policy_at(space, addr, &policy);
		if (err)
			return err;
	} else {
		policy = task_policy_get(task);
	}
	int value = answer(task, space, addr, flags, policy);
	if (value >= 0) {
		*ret_value = value;
		*ret_nodes = visible_nodes(policy);
	}
	mempolicy_put(policy);
	return min(value, 0);
}

int policy_get(struct task *task, int *mode, unsigned long *nmask, unsigned long maxnode,
	uint64_t addr, unsigned long flags)
{
	const unsigned long known = POLICY_F_NODE | POLICY_F_ADDR | POLICY_F_MEMS_ALLOWED;
	struct nodemask nodes = task_mems_allowed(task);
	int value = 0, err = 0;

	if (nmask && maxnode < task->mm->phys->nr_nodes)
		return -EINVAL;
	if (flags & ~known || (flags & POLICY_F_MEMS_ALLOWED && flags != POLICY_F_MEMS_ALLOWED))
		return -EINVAL;
	if (!(flags & POLICY_F_MEMS_ALLOWED)) {
		if (addr && !(flags & POLICY_F_ADDR))
			return -EINVAL;
		struct space *space = task_space_get(task);
		if (!space)
			return -EFAULT;
		err = look(task, space, addr, flags, &value, &nodes);
		space_put(space);
	}
	if (!err && nmask)
		err = put_nodes(nmask, maxnode, nodes);
	if (!err && mode)
		*mode = value;
	return err;
}

// ---- mbind

static int check_request(struct task *caller, struct mbind_request *r)
{
	bool any;
	int err = mempolicy_check_mode((unsigned)r->mode);

	if (!err)
		err = policy_get_nodes(r->nmask, r->maxnode, &r->user, &any);
	if (err)
		return err;
	if (r->flags & ~(unsigned long)MBIND_VALID)
		return -EINVAL;
	if (r->flags & MBIND_MOVE_ALL && !caller->cap_sys_nice)
		return -EPERM;
	if (r->start & ~PAGE_MASK)
		return -EINVAL;
	if ((r->mode & ~POLICY_MODE_FLAGS) == POLICY_DEFAULT)
		r->flags &= ~(unsigned long)MBIND_STRICT;
	r->end = r->start + ALIGN_UP(r->len, PAGE_SIZE);
	if (r->end < r->start)
		return -EINVAL;
	if (r->end == r->start)
		return 0;
	return mempolicy_create(caller, (unsigned)r->mode, &r->user, any, &r->policy);
}

// The range is mapped throughout, or, to be DEFAULT again, anywhere.
static int check_holes(struct space *space, const struct mbind_request *r)
{
	struct vma *vma = vma_find(space, r->start);
	uint64_t at = r->start;

	if (!vma || vma->start >= r->end)
		return -EFAULT;
	if (!r->policy)
		return 0;
	for (; at < r->end; at = vma->end, vma = vma_next(vma))
		if (!vma || vma->start > at)
			return -EFAULT;
	return 0;
}

// Shared policies to be.
struct changes {
	unsigned nr, max;
	struct object_policy_change **change;
};

static void end_changes(struct changes *c, void (*end)(struct object_policy_change *))
{
	for (unsigned i = 0; i < c->nr; i++)
		end(c->change[i]);
	meta_free(c->change, c->max * sizeof(*c->change));
}

static bool shares_policy(const struct vma *vma)
{
	return vma->object && vma->object->ops->kind == OBJECT_SHMEM;
}

#define for_each_vma_in(v, space, from, to)                                                        \
	for (struct vma *v = vma_find(space, from); v && v->start < (to); v = vma_next(v))

// A vma that has the policy already keeps all it has, also the policy of an object it shares.
static bool changes_policy(const struct vma *vma, const void *policy)
{
	return !mempolicy_equal(vma->policy, policy);
}

// All vmas that change lie in the range or outside of it. -ENOMEM: nothing is prepared.
static int prepare_changes(struct space *space, const struct mbind_request *r, struct changes *c)
{
	int err = 0;

	*c = (struct changes){0};
	for_each_vma_in(vma, space, r->start, r->end)
		c->max += shares_policy(vma) && changes_policy(vma, r->policy);
	if (!c->max)
		return 0;
	c->change = meta_alloc(c->max * sizeof(*c->change));
	if (!c->change)
		return -ENOMEM;
	for_each_vma_in(vma, space, r->start, r->end) {
		if (err || !shares_policy(vma) || !changes_policy(vma, r->policy))
			continue;
		err = object_policy_prepare(vma->object, vma->pgoff,
			(vma->end - vma->start) >> PAGE_SHIFT, r->policy, &c->change[c->nr]);
		c->nr += !err;
	}
	if (err)
		end_changes(c, object_policy_cancel);
	return err;
}

static int apply(struct space *space, const struct mbind_request *r)
{
	struct changes c;
	int err = space_split_changing(space, r->start, r->end, changes_policy, r->policy);

	if (err)
		return err;
	err = prepare_changes(space, r, &c);
	if (!err) {
		// No way back from here.
		end_changes(&c, object_policy_commit);
		for_each_vma_in(vma, space, r->start, r->end) {
			if (!changes_policy(vma, r->policy))
				continue;
			mempolicy_put(vma->policy);
			mempolicy_get(r->policy);
			vma->policy = r->policy;
			vma = vma_merge_around(vma);
		}
	} else {
		space_unsplit(space, r->start);
		space_unsplit(space, r->end);
	}
	return err;
}

int mbind_policy(struct space *space, struct task *caller, struct mbind_request *request)
{
	request->policy = NULL;
	int err = check_request(caller, request);

	if (err || request->start == request->end)
		return err;
	write_lock(&space->mmap_lock);
	err = check_holes(space, request);
	if (!err && request->queue)
		err = request->queue(space, request);
	if (!err)
		err = apply(space, request);
	space_write_unlock(space);
	return err;
}
