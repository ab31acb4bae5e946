// SPDX-License-Identifier: MIT
// Memory policies: which node a new page is taken from. Modes, flags and their rules are Linux's
// (set_mempolicy(2), mbind(2)); numbers as in linux/mempolicy.h.
#ifndef GODWIT_VIRT_MEMPOLICY_H
#define GODWIT_VIRT_MEMPOLICY_H

#include "base/nodemask.h"
#include "phys/alloc.h"

struct mm_core;
struct task;
struct vma;
struct object;

enum { // names with a GW_ prefix are in the public header, same values
	POLICY_DEFAULT = 0,
	POLICY_PREFERRED = 1,
	POLICY_BIND = 2,
	POLICY_INTERLEAVE = 3,
	POLICY_LOCAL = 4,
	POLICY_PREFERRED_MANY = 5,
	POLICY_WEIGHTED_INTERLEAVE = 6,
	POLICY_MODES = 7,
	POLICY_F_STATIC_NODES = 1 << 15,
	POLICY_F_RELATIVE_NODES = 1 << 14,
	POLICY_F_NUMA_BALANCING = 1 << 13,
	POLICY_MODE_FLAGS = POLICY_F_STATIC_NODES | POLICY_F_RELATIVE_NODES |
			    POLICY_F_NUMA_BALANCING,
};

#define POLICY_TEXT_MAX (64 + NODEMASK_TEXT_MAX)

struct mempolicy {
	_Atomic int refcount;
	unsigned mode;	// without flags
	unsigned flags; // POLICY_F_*
	struct nodemask user;  // what the caller said
	struct nodemask nodes; // effective, within cpuset and memory; read by mempolicy_nodes()
	struct nodemask mems;  // the cpuset.mems that `nodes` was last folded with
};

// A rebind may run meanwhile.
static inline struct nodemask mempolicy_nodes(const struct mempolicy *policy)
{
	return (struct nodemask){__atomic_load_n(&policy->nodes.bits, __ATOMIC_RELAXED)};
}

// -EINVAL: an unknown mode, or flags that exclude each other or do not go with it.
must_check int mempolicy_check_mode(unsigned mode_and_flags);
// -EINVAL: an unknown mode, flags that exclude each other or do not go with the mode, nodes where
// there may be none (DEFAULT, LOCAL), none where there must be, none of them usable. -ENOMEM.
// NULL result for DEFAULT. `context` gives the cpuset. any_given: the caller's mask had some bit,
// also of a node beyond those of `user`.
must_check int mempolicy_create(struct task *context, unsigned mode_and_flags,
	const struct nodemask *user, bool any_given, struct mempolicy **ret_policy);
// A copy that a rebind of the original does not change: for fork. NULL of NULL. -ENOMEM.
must_check int mempolicy_dup(const struct mempolicy *, struct mempolicy **ret_policy);
void mempolicy_get(struct mempolicy *); // NULL is fine, as in all that follow
void mempolicy_put(struct mempolicy *);
bool mempolicy_equal(const struct mempolicy *, const struct mempolicy *);
// cpuset.mems of the owner changed: static masks are cut to it, relative ones folded onto it, the
// others move with it, nth node to nth node. PREFERRED, PREFERRED_MANY and LOCAL stay as they are.
void mempolicy_rebind(struct mempolicy *, const struct nodemask *new_mems);
// "default", "bind:0-1", "prefer=static:1", as numa_maps prints. Returns the length.
int mempolicy_format(const struct mempolicy *, char *buf, size_t size);

// The task's policy, with a reference; NULL: the default (local). NULL of a NULL task.
struct mempolicy *task_policy_get(struct task *);
// The vma's own, or that of its shared memory; NULL: it has none. A reference. mmap_lock held.
struct mempolicy *vma_own_policy_get(struct vma *, uint64_t addr);
// The policy that decides for an address (vma's, else shared object's, else the task's, else NULL).
// A reference.
struct mempolicy *vma_policy_get(struct vma *, uint64_t addr, struct task *);
// NUMA balancing may move its pages: by default, and under a policy with NUMA_BALANCING.
bool vma_policy_balances(struct vma *, struct task *);

#define NO_INTERLEAVE_INDEX UINT64_MAX // the task's own counter

// Where a page is to be sought: from `nid` on by distance, within `allowed`.
struct policy_placement {
	int nid;
	struct nodemask allowed;
	bool masked; // by the policy, not only by the cpuset
};
// By a given policy (NULL: default), for allocators that have pages of their own.
struct policy_placement mempolicy_place(struct mm_core *, const struct mempolicy *,
	uint64_t interleave_index, struct task *);
// The same for an address. *ret_many: when `allowed`
// has none, the rest of the cpuset will do (PREFERRED_MANY).
struct policy_placement vma_placement(struct vma *, uint64_t addr, unsigned order, struct task *,
	bool *ret_many);

// A folio for an address by policy; counts interleave_hit. NULL when there is none to be had.
struct folio *folio_alloc_vma(gfp_t, unsigned order, struct vma *, uint64_t addr, struct task *);
// The same for a page of an object: shared policy, else the task's.
struct folio *folio_alloc_object(gfp_t, unsigned order, struct object *, uint64_t pgoff,
	struct task *);
// By a given policy (NULL: default). A huge page by interleave_index is first sought on its node
// alone. The task (NULL: none, cpu 0) gives cpu, cpuset and counter.
struct folio *folio_alloc_policy(struct mm_core *, gfp_t, unsigned order, struct mempolicy *,
	uint64_t interleave_index, struct task *);
// A page table is made for the task (NULL: for nobody): counted in numa_hit and the others of its
// kind, a turn of the task's interleave. The node that its page would be of.
unsigned mempolicy_count_table(struct mm_core *, struct task *);
// The node a page at addr belongs on, if that is not `nid` and balancing may move it, else -1. It
// does not ask how often who touched it: that is the balancer's question.
int mempolicy_misplaced(struct vma *, uint64_t addr, int nid, struct task *);
// The node that an index means under an interleaving policy.
int mempolicy_interleave_nid(struct mm_core *, const struct mempolicy *, uint64_t index);
// What the task's counter would use next; -EINVAL when its policy is not an interleave.
int task_interleave_peek(struct task *);

// Weights of weighted interleave as in sysfs: 1..255; 0 on writing: the default, 1.
unsigned mempolicy_weight(struct mm_core *, int nid);
int mempolicy_set_weight(struct mm_core *, int nid, unsigned weight); // -EINVAL, also of the node

#endif
