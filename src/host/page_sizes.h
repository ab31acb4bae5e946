// SPDX-License-Identifier: MIT
// On which nodes the pages of a process lie, by their size.
#ifndef GODWIT_HOST_PAGE_SIZES_H
#define GODWIT_HOST_PAGE_SIZES_H

#include "base/nodemask.h"
#include "host/process.h"

// Pages of one size and kind in a mapping. Larger than 4096 bytes and not of a pool: transparent.
struct host_page_size {
	uint64_t page_bytes; // 0: their size was not told
	bool hugetlb;
	bool has_nodes;		     // on_node[] was told
	uint64_t resident;	     // bytes
	uint64_t on_node[MAX_NODES]; // bytes
};

// What was, or could not be, told about all of the process.
enum host_multi_size {
	HOST_MULTI_SIZE_NONE,	// the machine has no transparent pages below 2 MiB
	HOST_MULTI_SIZE_TOLD,	// they are among the sizes
	HOST_MULTI_SIZE_HIDDEN, // there may be some among those of 4096 bytes: root is told
};

struct host_page_sizes {
	enum host_multi_size multi_size;
	bool nodes_hidden; // some size has nodes that the kernel does not tell this process
	bool changed;	   // some pages or nodes could not be told: the process went on meanwhile
};

// Fills mapping.sizes, the smallest first, of all that have memory. Nothing is faulted in, moved or
// allocated in the process, and it is not stopped. `memory`: the nodes that have some. -ENOMEM.
// What the kernel does not tell is no error.
must_check int host_page_sizes_read(struct host *host, pid_t pid, struct nodemask memory,
	struct host_mappings *mappings, struct host_page_sizes *ret_sizes);

#endif
