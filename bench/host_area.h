// SPDX-License-Identifier: MIT
// Ordinary memory of this process, for the kernel to move between two of its nodes. Internal to
// bench/.
#ifndef GODWIT_BENCH_HOST_AREA_H
#define GODWIT_BENCH_HOST_AREA_H

#include <stddef.h>
#include <stdint.h>

enum host_pages { HOST_PAGES_4K, HOST_PAGES_THP, HOST_PAGES_HUGETLB };

struct host_area {
	int node[2]; // of the host
	char *room;  // what was mapped, with room for alignment
	size_t room_bytes;
	char *at;
	size_t bytes;
	void **page;	  // of a call
	int *to, *status;
};

// The number that a file of this host holds, by its path without the first slash; 0: none.
unsigned long host_number(const char *path);
// The first two nodes of this host that have memory. -ENODEV: there are not two.
int host_two_nodes(int ret_node[2]);
// Touched, all on node[0]. On failure `why` says what this host does not give.
int host_area_open(struct host_area *, const int node[2], size_t bytes, enum host_pages, char *why,
	size_t size);
void host_area_close(struct host_area *);
// One move_pages(2) for `nr` pages, given by their page numbers in the area, to node[side]. 0, or
// the errno; -EBUSY when a page stayed.
int host_area_move(struct host_area *, const uint32_t *order, unsigned long nr, unsigned side);
// How many of `nr` addresses of this process the kernel finds elsewhere than on `node`; or errno.
long host_pages_elsewhere(const void *at, unsigned long nr, int node);

#endif
