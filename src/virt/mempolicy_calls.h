// SPDX-License-Identifier: MIT
// The system calls on memory policies: set_mempolicy(2), get_mempolicy(2), and of mbind(2) all but
// the moving. Node masks are as user space gives them: an array of unsigned long, and maxnode, one
// more than the number of its bits that count. An array shorter than maxnode says is the caller's
// fault, as it cannot be known here.
#ifndef GODWIT_VIRT_MEMPOLICY_CALLS_H
#define GODWIT_VIRT_MEMPOLICY_CALLS_H

#include "base/nodemask.h"

struct mempolicy;
struct space;
struct task;

enum { // get_mempolicy
	POLICY_F_NODE = 1 << 0,
	POLICY_F_ADDR = 1 << 1,
	POLICY_F_MEMS_ALLOWED = 1 << 2,
};

enum { // the flags of mbind(2), MPOL_MF_*
	MBIND_STRICT = 1 << 0,
	MBIND_MOVE = 1 << 1,
	MBIND_MOVE_ALL = 1 << 2,
	MBIND_VALID = MBIND_STRICT | MBIND_MOVE | MBIND_MOVE_ALL,
};

#define POLICY_MAX_NUMNODES 1024 // bits a mask may have; nodes from MAX_NODES on do not exist

// -EINVAL: maxnode 0 with a mask, more than a page of bits, bits from POLICY_MAX_NUMNODES on.
// *ret_any: some bit is set, also of a node that does not exist. NULL mask: none.
must_check int policy_get_nodes(const unsigned long *nmask, unsigned long maxnode,
	struct nodemask *ret_nodes, bool *ret_any);

// -EINVAL as mempolicy_create() and policy_get_nodes(), -ENOMEM.
must_check int policy_set_task(struct task *, int mode, const unsigned long *nmask,
	unsigned long maxnode);

// mode and nmask may be NULL. -EINVAL: unknown or excluding flags, maxnode below the number of
// nodes, an address without ADDR, NODE without ADDR when the task's policy is no interleave.
// -EFAULT: nothing mapped at addr. NODE|ADDR faults the page in: -ENOMEM, -EIO.
must_check int policy_get(struct task *, int *mode, unsigned long *nmask, unsigned long maxnode,
	uint64_t addr, unsigned long flags);

// mbind. Arguments and checks are mbind(2)'s; `queue` is where the caller collects or counts the
// misplaced pages: called once with mmap_lock held for write, after all checks, before any policy
// is changed; what it returns below 0 ends the call with nothing changed. Then the policy is set.
//
//	return mbind_policy(space, caller, &request)
//	       -EINVAL  unknown flags or mode, unaligned start, a range that wraps
//	       -EPERM   MOVE_ALL without CAP_SYS_NICE
//	       -EFAULT  a hole in the range (DEFAULT: nothing at all in it)
//	       -ENOMEM
struct mbind_request {
	uint64_t start, len;
	int mode; // with mode flags
	const unsigned long *nmask;
	unsigned long maxnode;
	unsigned long flags; // MBIND_*; DEFAULT drops STRICT
	int (*queue)(struct space *, struct mbind_request *); // may be NULL
	void *arg;
	// Set before queue() is called.
	uint64_t end;		  // of whole pages; start == end: nothing was to be done
	struct nodemask user;	  // the mask as given: pages elsewhere are misplaced
	struct mempolicy *policy; // to allocate by, NULL: default. A reference: the caller puts it,
				  // also after a failure
};
must_check int mbind_policy(struct space *, struct task *caller, struct mbind_request *);

#endif
