// SPDX-License-Identifier: MIT
// A process and its mappings: where their pages are and of what kind.
#ifndef GODWIT_HOST_PROCESS_H
#define GODWIT_HOST_PROCESS_H

#include "base/nodemask.h"
#include "host/host.h"

struct host_process {
	pid_t pid;
	char name[64];
	long uid;
	unsigned threads;
	struct nodemask mems_allowed;
	bool has_memory; // false: a kernel thread, or it is about to end
	bool has_ended;	 // it only waits for its parent
};

struct host_mapping {
	uint64_t start, end;	   // bytes
	char *name;		   // file, [heap], ...; "" for none
	char *policy;		   // as numa_maps says it: "bind:1"; NULL: not known
	uint64_t page_bytes;	   // of the mapping: 4096, or hugetlb's size
	uint64_t pages[MAX_NODES]; // of that size, by node
	bool has_nodes;		   // pages[] was told
	struct host_page_size *sizes; // nr_sizes of them, by host_page_sizes_read()
	unsigned nr_sizes;
	// The rest in bytes, from smaps. Huge: mapped by a huge page-table entry, hugetlb included.
	uint64_t resident, anonymous, huge, shared, locked, swapped, ksm;
	uint64_t uncounted; // the part of resident that only numa_maps counts
	bool has_ksm; // this kernel tells ksm
};

struct host_mappings {
	struct host_mapping *v;
	size_t count, capacity;
};

// -ESRCH: no such process.
must_check int host_process_read(struct host *host, pid_t pid, struct host_process *ret_process);
// All mappings in order. -ESRCH; -EACCES: the process is another user's. A kernel thread has none.
must_check int host_mappings_read(struct host *host, pid_t pid, struct host_mappings *ret_mappings);
void host_mappings_release(struct host_mappings *mappings);

// The two texts on their own. numa_maps must come second: it adds to the mappings that are there,
// found by their start.
must_check int host_smaps_parse(char *text, struct host_mappings *mappings);
void host_numa_maps_parse(char *text, struct host_mappings *mappings);

#endif
