// SPDX-License-Identifier: MIT
// Memory policies and cpusets: set_mempolicy(2), get_mempolicy(2), mbind(2), cpuset.mems.
#ifndef GODWIT_POLICY_H
#define GODWIT_POLICY_H

#include <godwit/migrate.h>

#ifdef __cplusplus
extern "C" {
#endif

enum gw_mpol { // Linux's numbers
	GW_MPOL_DEFAULT = 0,
	GW_MPOL_PREFERRED = 1,
	GW_MPOL_BIND = 2,
	GW_MPOL_INTERLEAVE = 3,
	GW_MPOL_LOCAL = 4,
	GW_MPOL_PREFERRED_MANY = 5,
	GW_MPOL_WEIGHTED_INTERLEAVE = 6,
};
#define GW_MPOL_F_NUMA_BALANCING (1 << 13)
#define GW_MPOL_F_RELATIVE_NODES (1 << 14)
#define GW_MPOL_F_STATIC_NODES (1 << 15)

#define GW_MPOL_F_NODE 1u
#define GW_MPOL_F_ADDR 2u
#define GW_MPOL_F_MEMS_ALLOWED 4u

// The rules and errors are those of the system calls in Linux 6.12. mode: enum gw_mpol, with
// GW_MPOL_F_* flags. nodes: bit i of word i/64; maxnode as the system calls take it: the highest
// bit that counts is maxnode - 2.
//
// The policy of the task. -EINVAL: mode, flags, or no node that it could use; -ENOMEM.
GW_EXPORT int gw_set_mempolicy(struct gw_task *task, int mode, const unsigned long *nodes,
	unsigned long maxnode) GW_CHECK;
// What holds for the task, or at an address (GW_MPOL_F_ADDR), or on which node its page is (with
// GW_MPOL_F_NODE, too: the page is faulted in). ret_mode and ret_nodes (maxnode bits, rounded up to
// words) may be NULL. -EINVAL: flags, or fewer bits than nodes; -EFAULT: no mapping there; when
// faulting in also -EIO, -ENOMEM.
GW_EXPORT int gw_get_mempolicy(struct gw_task *task, int *ret_mode, unsigned long *ret_nodes,
	unsigned long maxnode, uint64_t address, unsigned long flags) GW_CHECK;
// flags: GW_MPOL_MF_*. -EIO with STRICT when pages could not be moved where the policy wants them
// (the policy is set), or with STRICT alone are not there (it is not); -EFAULT: a hole, unless the
// mode is DEFAULT; -EINVAL: mode, flags, nodes, or an address within a page; -EPERM: MOVE_ALL
// without GW_CAP_SYS_NICE; -ENOMEM.
GW_EXPORT int gw_mbind(struct gw_task *task, uint64_t address, uint64_t length, int mode,
	const unsigned long *nodes, unsigned long maxnode, unsigned flags) GW_CHECK;
// Also -ENOMEM by keep_huge (the policy is set, as with -EIO); -EINVAL options->explain.
GW_EXPORT int gw_mbind_explained(struct gw_task *task, uint64_t address, uint64_t length, int mode,
	const unsigned long *nodes, unsigned long maxnode, unsigned flags,
	const struct gw_move_options *options) GW_CHECK;

// cpuset.mems of the task (bit i: node i); its pages follow, as in cgroup v2. `move` 0: policies
// and new pages follow, present pages stay (v1's default). -EINVAL: empty, or a node without
// memory; -ESRCH: the task is over. That a page could not be moved is no error.
GW_EXPORT int gw_set_mems(struct gw_task *task, uint64_t nodes, int move) GW_CHECK;
GW_EXPORT uint64_t gw_get_mems(const struct gw_task *task);

#ifdef __cplusplus
}
#endif
#endif
