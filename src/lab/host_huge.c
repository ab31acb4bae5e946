// SPDX-License-Identifier: MIT
// How many huge mappings begin in a range, on the host.
//
// A newer kernel (6.7) is asked entry by entry (PAGEMAP_SCAN). An older one says in smaps how much
// of a whole mapping is mapped by huge entries, the huge page of zeros not among them; for a part
// of a mapping it tells only what page lies there, not by what entry it is mapped, and a huge page
// that is mapped by small entries counts as well.

#include "lab/host_machine.h"

#include "host/process.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define HUGE (2ull << 20)

// Huge entries within the range; -ENOTTY: this kernel does not tell.
static int scan_huge(struct host *host, pid_t pid, uint64_t start, uint64_t end,
	uint64_t *ret_count)
{
	struct host_range ranges[64];
	uint64_t count = 0;

	while (start < end) {
		long n = host->ops->scan(
			host, pid, HOST_SCAN_HUGE, &start, end, ranges, ARRAY_SIZE(ranges));

		if (n < 0)
			return (int)n;
		for (long i = 0; i < n; i++)
			count += (ranges[i].end - ranges[i].start) / HUGE;
	}
	*ret_count = count;
	return 0;
}

static uint64_t word_of(int file, uint64_t index)
{
	uint64_t word = 0;

	return pread(file, &word, sizeof word, (off_t)(index * sizeof word)) == sizeof word ? word
											    : 0;
}

// By what lies there: 512 pages in a row that belong to one huge page. A huge page that is mapped
// by 512 small entries looks the same.
static uint64_t guess_huge(int pagemap, int flags, uint64_t start, uint64_t end)
{
	const uint64_t pfn_mask = (UINT64_C(1) << 55) - 1, present = UINT64_C(1) << 63;
	const uint64_t huge = UINT64_C(1) << 17 | UINT64_C(1) << 22; // hugetlb, THP
	uint64_t count = 0;

	for (uint64_t at = start; at + HUGE <= end; at += HUGE) {
		uint64_t first = word_of(pagemap, at / STORY_PAGE_SIZE);
		uint64_t last = word_of(pagemap, at / STORY_PAGE_SIZE + 511);

		count += (first & present) && (first & pfn_mask) % 512 == 0 &&
			 (last & pfn_mask) == (first & pfn_mask) + 511 &&
			 (word_of(flags, first & pfn_mask) & huge);
	}
	return count;
}

// What is there instead, in a part of a mapping.
static int count_by_frames(struct host_machine *m, pid_t pid, uint64_t start, uint64_t end,
	uint64_t *ret_count)
{
	char path[300], name[40];
	int pagemap, flags, err;

	snprintf(name, sizeof name, "proc/%d/pagemap", (int)pid);
	err = host_real_path(&m->host, name, path, sizeof path);
	if (err)
		return err;
	pagemap = open(path, O_RDONLY | O_CLOEXEC);
	if (pagemap < 0)
		return -errno;
	flags = open("/proc/kpageflags", O_RDONLY | O_CLOEXEC);
	err = flags < 0 ? -errno : 0;
	if (!err) {
		*ret_count = guess_huge(pagemap, flags, start, end);
		close(flags);
	}
	close(pagemap);
	return err;
}

static int count_in_mapping(struct host_machine *m, const struct story_range *range,
	const struct host_mapping *mapping, uint64_t *count)
{
	uint64_t start = range->address, end = range->address + range->length, some = 0;
	const pid_t pid = task_here(m, range->map->task)->pid;
	int err;

	start = ALIGN_UP(start > mapping->start ? start : mapping->start, HUGE);
	end = end < mapping->end ? end : mapping->end;
	if (start >= end || mapping->page_bytes > HUGE)
		return 0;
	bool whole = start <= ALIGN_UP(mapping->start, HUGE) && end + HUGE > mapping->end;
	// A huge mapping that begins in the range may end beyond it.
	end = ALIGN_UP(end, HUGE) < mapping->end ? ALIGN_UP(end, HUGE) : end;
	err = scan_huge(&m->host, pid, start, end, &some);
	if (err == -ENOTTY && whole) {
		*count += mapping->huge / HUGE;
		return 0;
	}
	if (err && !whole)
		err = count_by_frames(m, pid, start, end, &some);
	*count += some;
	return err;
}

int host_query_huge(
	struct lab_machine *machine, const struct story_range *range, uint64_t *ret_count)
{
	struct host_machine *m = host_of(machine);
	struct host_mappings mappings;
	uint64_t count = 0;
	int err = host_mappings_read(&m->host, task_here(m, range->map->task)->pid, &mappings);

	if (err)
		return lab_machine_fail(machine, err, "cannot read smaps: %s", strerror(-err));
	for (size_t i = 0; !err && i < mappings.count; i++)
		err = count_in_mapping(m, range, &mappings.v[i], &count);
	host_mappings_release(&mappings);
	if (err)
		return lab_machine_fail(
			machine, err, "cannot look for huge mappings: %s", strerror(-err));
	*ret_count = count;
	return 0;
}
