// SPDX-License-Identifier: MIT
// Which parts of a process are mapped by what kind of entry: one ioctl(2) on its pagemap.
//
// The kernel walks the page table and gives ranges whose entries all answer a question; it holds
// the process's mmap_lock for reading, in pieces, and neither stops the process nor touches a page
// nor changes an entry. Who may read the process's maps may ask; no capability is needed. Before
// 6.7 there is no such call: -ENOTTY. A recorded machine has none either: -ENOSYS.

#include "host/pagemap.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <unistd.h>

// Written out, since the system's headers may be older than its kernel.
struct scan_region {
	uint64_t start, end, categories;
};

struct scan_arg {
	uint64_t size, flags, start, end, walk_end, vec, vec_len, max_pages, category_inverted,
		category_mask, category_anyof_mask, return_mask;
};

#define SCAN_CALL _IOWR('f', 16, struct scan_arg)
#define IS_FILE (1u << 2)
#define IS_PRESENT (1u << 3)
#define IS_ZERO (1u << 5)
#define IS_HUGE (1u << 6)

#define REGIONS 256u

static const struct {
	uint64_t is, is_not;
} question[] = {
	[HOST_SCAN_HUGE] = {IS_PRESENT | IS_HUGE, 0},
	[HOST_SCAN_HUGE_DATA] = {IS_PRESENT | IS_HUGE, IS_ZERO},
	[HOST_SCAN_SMALL_ANON] = {IS_PRESENT, IS_HUGE | IS_ZERO | IS_FILE},
};

static int open_pagemap(struct host *host, pid_t pid)
{
	char name[40], path[PATH_MAX];
	int err, file;

	snprintf(name, sizeof name, "proc/%d/pagemap", (int)pid);
	err = host_real_path(host, name, path, sizeof path);
	if (err)
		return err;
	file = open(path, O_RDONLY | O_CLOEXEC);
	return file < 0 ? -errno : file;
}

long host_pagemap_scan(struct host *host, pid_t pid, enum host_scan what, uint64_t *start,
	uint64_t end, struct host_range *ret_ranges, size_t n)
{
	struct scan_region regions[REGIONS];
	struct scan_arg scan = {.size = sizeof scan,
		.start = *start,
		.end = end,
		.vec = (uintptr_t)regions,
		.vec_len = n < REGIONS ? n : REGIONS,
		.category_inverted = question[what].is_not,
		.category_mask = question[what].is | question[what].is_not};
	int file, found;

	if (*host->root)
		return -ENOSYS;
	file = open_pagemap(host, pid);
	if (file < 0)
		return file;
	found = ioctl(file, SCAN_CALL, &scan);
	if (found < 0)
		found = -errno;
	else
		*start = scan.walk_end;
	close(file);
	for (int i = 0; i < found; i++)
		ret_ranges[i] = (struct host_range){regions[i].start, regions[i].end};
	return found;
}
