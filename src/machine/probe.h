// SPDX-License-Identifier: MIT
// What this host lets a machine have, why, what is unsafe with it, and how to get more.
#ifndef GODWIT_MACHINE_PROBE_H
#define GODWIT_MACHINE_PROBE_H

#include "base/compiler.h"
#include "machine/uffd.h"

#include <sys/types.h>

#define PROBE_TEXT_MAX 360
#define PROBE_ADVICE_MAX 8
#define PROBE_HUGETLB_SIZES 2

struct probe_uffd {
	int error; // 0: works, with all that the blocker needs; else negative errno
	uint64_t features;
};

struct probe_pool {
	size_t page_size;
	long total, free, reserved; // pages; -1: no such pool
};

struct probe_result {
	char kernel[65];
	// What mmu_open() gives for AUTO, and why nothing better.
	const char *backend, *blocker;
	bool syscall_safe;
	char why[PROBE_TEXT_MAX];
	char unsafe[PROBE_TEXT_MAX]; // "" if nothing is
	char advice[PROBE_ADVICE_MAX][PROBE_TEXT_MAX];
	unsigned nr_advice;
	// What it was concluded from.
	struct probe_uffd uffd[UFFD_WAYS];
	int unprivileged_userfaultfd; // the sysctl; -1: not there
	int device_access;	      // /dev/userfaultfd: 0, or negative errno
	bool seccomp;		      // a filter is in force
	int move_tables;	      // mremap(DONTUNMAP) of shared memory: 0, or negative errno
	int memfd;		      // 0, or negative errno
	size_t max_map_count;
	size_t page_size;
	char shmem_huge[32]; // the setting in force for huge pages of shared memory, "" if none
	const char *shmem_huge_file; // where it is set, or NULL
	struct probe_pool hugetlb[PROBE_HUGETLB_SIZES]; // 2 MiB, 1 GiB
	unsigned host_nodes;
	uint64_t rlimit_fsize, rlimit_as, rlimit_nofile, rlimit_memlock; // UINT64_MAX: none
};

// Tries everything and keeps nothing open. Cannot fail.
void probe_host(struct probe_result *ret_result);

const char *uffd_way_name(enum uffd_way way);

#endif
