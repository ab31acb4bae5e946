// SPDX-License-Identifier: MIT
// cpuset cgroups, of version 2 and of version 1: a group for a task, and the nodes it may use.
#ifndef GODWIT_HOST_CGROUP_H
#define GODWIT_HOST_CGROUP_H

#include "host/journal.h"

enum cgroup_version { CGROUP_V1 = 1, CGROUP_V2 = 2 };

// Where cpusets of that version are mounted, as a path for host_read(); -ENOENT: nowhere.
must_check int host_cpuset_mount(
	struct host *host, enum cgroup_version version, char *buf, size_t size);
// Version 2 only: whether groups below the mount have cpusets already.
bool host_cpuset_is_enabled(struct host *host, const char *mount);

// Makes the group NAME below the mount (enabling cpusets there first if need be), with the cpus
// and nodes of the mount's root, and moves the process there. path gets the group's folder.
must_check int host_cpuset_make(struct host_journal *journal, enum cgroup_version version,
	const char *name, pid_t pid, char *path, size_t size);
// The write to cpuset.mems (and before it to memory_migrate, version 1). The kernel's answer.
must_check int host_cpuset_set_mems(struct host *host, const char *path,
	enum cgroup_version version, const char *nodes, bool migrate);

#endif
