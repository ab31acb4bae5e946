// SPDX-License-Identifier: MIT
// What can be seen: Linux's texts, counters and tunables of a machine, and what this host offers.
#ifndef GODWIT_STATS_H
#define GODWIT_STATS_H

#include <godwit/machine.h>
#include <stdbool.h>

#ifdef __cplusplus
extern "C" {
#endif

// A text of the machine by its Linux path, without the leading slash, exactly in Linux's format:
// proc/vmstat, proc/buddyinfo, proc/pagetypeinfo, proc/zoneinfo,
// sys/devices/system/node/nodeN/{numastat,meminfo,distance}, proc/PID/{numa_maps,smaps}, and every
// tunable. Of Godwit's own: godwit/arenas (what the host has behind each node: pages of 4 kB, of
// 2 MiB, a file), godwit/hugepages (why a pool is smaller than it was asked to be). *ret_text is
// the caller's to free(). -ENOENT: no such file, node or task; -EACCES: a file that can only be
// written; -ENOMEM; -EINVAL: an argument is NULL.
GW_EXPORT int gw_text(struct gw_machine *machine, const char *path, char **ret_text) GW_CHECK;
// Write a tunable, or a write-only file that makes something happen. -ENOENT; -EACCES: a file that
// can only be read; -EINVAL: not a value of this file; -EOPNOTSUPP: Linux would take it, but what
// it switches on is not in this build; others are the file's own (as -ESRCH, -ENOMEM, -EBUSY).
GW_EXPORT int gw_tunable_set(
	struct gw_machine *machine, const char *path, const char *value) GW_CHECK;

// One counter of proc/vmstat by name. -ENOENT: no such counter; -EINVAL: an argument is NULL.
GW_EXPORT int gw_vmstat(struct gw_machine *machine, const char *name, int64_t *ret_value) GW_CHECK;
// All of them, in Linux's order: the name of the i-th, or NULL at the end.
GW_EXPORT const char *gw_vmstat_name(unsigned i);

// What this host offers to the engine. `godwit check` says it to a person.
struct gw_host_facts {
	size_t size; // sizeof(struct gw_host_facts), set by the caller
	bool rewire, signal, userfaultfd; // to be had here
	bool userfaultfd_user_only;	  // userfaultfd, but blind to system calls
	long max_map_count;
	bool shmem_huge;	 // shared memory may get huge pages
	uint64_t hugetlb_2m_free; // pages
	char kernel[64];
};
// -EINVAL: another size of the structure.
GW_EXPORT int gw_host_facts(struct gw_host_facts *ret_facts) GW_CHECK;

#ifdef __cplusplus
}
#endif
#endif
