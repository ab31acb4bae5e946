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
	POLICY_F_STATIC_NODES = 1 << 15,
	POLICY_F_RELATIVE_NODES = 1 << 14,
	POLICY_F_NUMA_BALANCING = 1 << 13,
};

struct mempolicy {
	_Atomic int refcount;
	unsigned mode;	// without flags
	unsigned flags; // POLICY_F_*
	struct nodemask user;  // what the caller said
	struct nodemask nodes; // effective: folded with cpuset and memory
};

// -EINVAL as mpol_new and mpol_set_nodemask; NULL result for DEFAULT. `context` gives the cpuset.
int mempolicy_create(struct task *context, unsigned mode_and_flags, const struct nodemask *user,
	bool user_given, struct mempolicy **ret_policy);
void mempolicy_get(struct mempolicy *);
void mempolicy_put(struct mempolicy *); // NULL is fine
bool mempolicy_equal(const struct mempolicy *, const struct mempolicy *);
// cpuset.mems of the task changed: task and vma policies follow (static, relative, default rules).
void mempolicy_rebind(struct mempolicy *, const struct nodemask *old_mems,
	const struct nodemask *new_mems);
// "default", "bind:0-1", "prefer=static:1", as numa_maps prints. Returns the length.
int mempolicy_format(const struct mempolicy *, char *buf, size_t size);

// The policy that decides for an address (vma's, else shared object's, else the task's, else NULL).
// A reference.
struct mempolicy *vma_policy_get(struct vma *, uint64_t addr, struct task *);
// A folio for an address by policy; counts interleave_hit etc. NULL when there is none to be had.
struct folio *folio_alloc_vma(gfp_t, unsigned order, struct vma *, uint64_t addr, struct task *);
struct folio *folio_alloc_policy(struct mm_core *, gfp_t, unsigned order, struct mempolicy *,
	uint64_t interleave_index, struct task *);
// Node the policy wants for an address (interleave by page offset), and whether a page on `nid` is
// misplaced under it (returns the node wanted, else -1).
int mempolicy_misplaced(struct vma *, uint64_t addr, int nid, struct task *);
// weights of weighted interleave, 1..255, 0 = default 1
unsigned mempolicy_weight(struct mm_core *, int nid);
int mempolicy_set_weight(struct mm_core *, int nid, unsigned weight);

#endif
