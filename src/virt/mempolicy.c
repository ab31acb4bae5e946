// SPDX-License-Identifier: MIT
// Memory policies as values: making, folding, rebinding, comparing and printing them.
//
// A policy is what the caller said (mode, flags, user) and what follows from it here and now
// (nodes): the nodes of the mask that have memory and lie in the cpuset. How the mask meets a
// cpuset depends on the flags:
//
//	                  cpuset 0-1, mask 0-1      then cpuset 2-3
//	no flag           0-1                       2-3   the nth stays the nth
//	STATIC            0-1                       none of the mask is left: all of 2-3
//	RELATIVE          0-1 (bit n is the nth)    2-3
//
// A policy is shared by references (task, vmas of one space, an allocation under way) and changed
// only by mempolicy_rebind(), which writes one word; readers take that word once, with
// mempolicy_nodes(). Two owners whose cpusets may differ have copies (mempolicy_dup).
//
// Who decides for an address is in mempolicy_alloc.c, the system calls in mempolicy_calls.c.
// Held: nothing; a rebind is made under the lock that guards the owner's pointer. Fails: creating
// alone (-EINVAL, -ENOMEM).
#include "virt/mempolicy.h"

#include "base/meta.h"
#include "virt/mm.h"
#include "virt/task.h"

#include <errno.h>
#include <stdio.h>

static bool keeps_user_mask(unsigned flags)
{
	return flags & (POLICY_F_STATIC_NODES | POLICY_F_RELATIVE_NODES);
}

int mempolicy_check_mode(unsigned mode_and_flags)
{
	unsigned mode = mode_and_flags & ~(unsigned)POLICY_MODE_FLAGS;
	unsigned flags = mode_and_flags & POLICY_MODE_FLAGS;

	if (mode >= POLICY_MODES)
		return -EINVAL;
	if ((flags & POLICY_F_STATIC_NODES) && (flags & POLICY_F_RELATIVE_NODES))
		return -EINVAL;
	if ((flags & POLICY_F_NUMA_BALANCING) && mode != POLICY_BIND &&
		mode != POLICY_PREFERRED_MANY)
		return -EINVAL;
	return 0;
}

// What the mode says about the mask; PREFERRED without nodes becomes LOCAL.
static int check_nodes(unsigned *mode, unsigned flags, bool any_given)
{
	switch (*mode) {
	case POLICY_DEFAULT:
		return any_given ? -EINVAL : 0;
	case POLICY_LOCAL:
		return any_given || keeps_user_mask(flags) ? -EINVAL : 0;
	case POLICY_PREFERRED:
		if (any_given)
			return 0;
		if (keeps_user_mask(flags))
			return -EINVAL;
		*mode = POLICY_LOCAL;
		return 0;
	default:
		return any_given ? 0 : -EINVAL;
	}
}

static struct nodemask fold(unsigned mode, unsigned flags, struct nodemask user,
	struct nodemask usable)
{
	struct nodemask nodes = flags & POLICY_F_RELATIVE_NODES ? nodemask_onto(user, usable)
								: nodemask_and(user, usable);
	if (mode == POLICY_PREFERRED && !nodemask_empty(nodes))
		return nodemask_of((unsigned)nodemask_first(nodes));
	return nodes;
}

int mempolicy_create(struct task *context, unsigned mode_and_flags, const struct nodemask *user,
	bool any_given, struct mempolicy **ret_policy)
{
	unsigned mode = mode_and_flags & ~(unsigned)POLICY_MODE_FLAGS;
	unsigned flags = mode_and_flags & POLICY_MODE_FLAGS;
	struct nodemask nodes = NODEMASK_NONE, mems = task_mems_allowed(context);
	int err = mempolicy_check_mode(mode_and_flags);

	if (!err)
		err = check_nodes(&mode, flags, any_given);
	if (err)
		return err;
	if (mode == POLICY_DEFAULT) {
		*ret_policy = NULL;
		return 0;
	}
	if (mode != POLICY_LOCAL) {
		nodes = fold(mode, flags, *user, nodemask_and(mems, context->mm->phys->has_memory));
		if (nodemask_empty(nodes))
			return -EINVAL;
	}
	struct mempolicy *policy = meta_new(struct mempolicy);
	if (!policy)
		return -ENOMEM;
	*policy = (struct mempolicy){1, mode, flags, *user, nodes, mems};
	*ret_policy = policy;
	return 0;
}

int mempolicy_dup(const struct mempolicy *from, struct mempolicy **ret_policy)
{
	struct mempolicy *copy = NULL;

	if (from) {
		copy = meta_new(struct mempolicy);
		if (!copy)
			return -ENOMEM;
		*copy = (struct mempolicy){1, from->mode, from->flags, from->user,
			mempolicy_nodes(from), from->mems};
	}
	*ret_policy = copy;
	return 0;
}

void mempolicy_get(struct mempolicy *policy)
{
	if (policy)
		atomic_fetch_add_explicit(&policy->refcount, 1, memory_order_relaxed);
}

void mempolicy_put(struct mempolicy *policy)
{
	if (policy && atomic_fetch_sub_explicit(&policy->refcount, 1, memory_order_acq_rel) == 1)
		meta_delete(policy);
}

bool mempolicy_equal(const struct mempolicy *a, const struct mempolicy *b)
{
	if (a == b)
		return true;
	if (!a || !b || a->mode != b->mode || a->flags != b->flags)
		return false;
	if (keeps_user_mask(a->flags) && !nodemask_equal(a->user, b->user))
		return false;
	return nodemask_equal(mempolicy_nodes(a), mempolicy_nodes(b));
}

void mempolicy_rebind(struct mempolicy *policy, const struct nodemask *new_mems)
{
	struct nodemask nodes;

	if (!policy || policy->mode == POLICY_LOCAL)
		return;
	if (!keeps_user_mask(policy->flags) && nodemask_equal(policy->mems, *new_mems))
		return;
	if (policy->mode == POLICY_PREFERRED || policy->mode == POLICY_PREFERRED_MANY) {
		policy->mems = *new_mems;
		// Linux has one place for both masks, and forgets what the user said.
		if (keeps_user_mask(policy->flags))
			policy->user = *new_mems;
		return;
	}
	if (keeps_user_mask(policy->flags))
		nodes = fold(policy->mode, policy->flags, policy->user, *new_mems);
	else
		nodes = nodemask_remap(mempolicy_nodes(policy), policy->mems, *new_mems);
	if (nodemask_empty(nodes))
		nodes = *new_mems;
	policy->mems = *new_mems;
	__atomic_store_n(&policy->nodes.bits, nodes.bits, __ATOMIC_RELAXED);
}

// "" or "=static", "=relative", "=balancing", "=static|balancing"...
static const char *flags_text(unsigned flags)
{
	bool balancing = flags & POLICY_F_NUMA_BALANCING;

	if (flags & POLICY_F_STATIC_NODES)
		return balancing ? "=static|balancing" : "=static";
	if (flags & POLICY_F_RELATIVE_NODES)
		return balancing ? "=relative|balancing" : "=relative";
	return balancing ? "=balancing" : "";
}

int mempolicy_format(const struct mempolicy *policy, char *buf, size_t size)
{
	static const char *const names[POLICY_MODES] = {"default", "prefer", "bind", "interleave",
		"local", "prefer (many)", "weighted interleave"};
	char nodes[NODEMASK_TEXT_MAX] = "";

	if (!policy)
		return snprintf(buf, size, "default");
	if (policy->mode != POLICY_LOCAL) {
		nodes[0] = ':';
		nodemask_format(mempolicy_nodes(policy), nodes + 1, sizeof(nodes) - 1);
	}
	return snprintf(buf, size, "%s%s%s", names[policy->mode], flags_text(policy->flags), nodes);
}
