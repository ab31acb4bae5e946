// SPDX-License-Identifier: MIT
// gw_host_facts(): what this host offers, in the terms of the public header. Everything is tried by
// probe_host() (machine/probe.h), nothing is kept open; here it is only put in other words. Locks:
// none. What can fail: a structure of another size, -EINVAL.
#include <godwit/stats.h>

#include "machine/probe.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

// The words of the setting that let shared memory have huge pages without being asked for one by
// one, or on request.
static bool shmem_may_be_huge(const char *word)
{
	static const char *const words[] = {"always", "within_size", "advise", "force"};

	for (unsigned i = 0; i < ARRAY_SIZE(words); i++)
		if (!strcmp(word, words[i]))
			return true;
	return false;
}

static uint64_t free_pages(const struct probe_result *probe, size_t page_size)
{
	for (unsigned i = 0; i < PROBE_HUGETLB_SIZES; i++)
		if (probe->hugetlb[i].page_size == page_size && probe->hugetlb[i].free > 0)
			return (uint64_t)probe->hugetlb[i].free;
	return 0;
}

int gw_host_facts(struct gw_host_facts *ret_facts)
{
	struct probe_result probe;

	if (!ret_facts || ret_facts->size != sizeof *ret_facts)
		return -EINVAL;
	probe_host(&probe);

	const bool full = !probe.uffd[UFFD_BY_SYSCALL].error || !probe.uffd[UFFD_BY_DEVICE].error;
	const bool user_only = !full && !probe.uffd[UFFD_USER_ONLY].error;

	*ret_facts = (struct gw_host_facts){
		.size = sizeof *ret_facts,
		.rewire = !probe.memfd,
		.signal = !probe.memfd,
		.userfaultfd = full || user_only,
		.userfaultfd_user_only = user_only,
		.max_map_count = (long)probe.max_map_count,
		.shmem_huge = shmem_may_be_huge(probe.shmem_huge),
		.hugetlb_2m_free = free_pages(&probe, 2ul << 20),
	};
	snprintf(ret_facts->kernel, sizeof ret_facts->kernel, "%.63s", probe.kernel);
	return 0;
}
