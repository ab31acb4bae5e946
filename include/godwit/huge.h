// SPDX-License-Identifier: MIT
// Huge pages: which addresses are on one, and khugepaged by hand. Policy is set through tunables
// (sys/kernel/mm/transparent_hugepage/..., gw_tunable_set()) and advice (gw_advise()).
#ifndef GODWIT_HUGE_H
#define GODWIT_HUGE_H

#include <godwit/machine.h>

#ifdef __cplusplus
extern "C" {
#endif

// How a stretch of addresses is mapped.
enum gw_huge_mapping {
	GW_HUGE_UNMAPPED, // no mapping there
	GW_HUGE_ABSENT,	  // mapped, not touched yet
	GW_HUGE_SMALL,	  // single pages
	GW_HUGE_ENTRIES,  // part of a larger page, by small entries: moves whole, or is split
	GW_HUGE_LEAF,	  // a transparent huge page by one entry
	GW_HUGE_ZERO,	  // the huge zero page: a read that nothing was written to yet
	GW_HUGE_HUGETLB,  // a page of a pool
	GW_HUGE_MOVING,	  // being moved or split at this moment
};

struct gw_huge_info {
	uint64_t address;  // the stretch: inside of the range that was asked about,
	uint64_t length;   // one page of its size at most, but for the first three
	uint64_t page_size; // of the page it is on, in bytes; 0: unmapped, absent, moving
	uint64_t page_address; // where that page would begin if all of it were mapped here
	enum gw_huge_mapping mapping;
	int node;	   // -1: no page
};

// What the addresses [address, address + length) of the task are on, stretch after stretch, in
// rising order and without a gap; at most n of them. Nothing is touched or faulted in. Returns how
// many were written: to go on, ask again from the end of the last. -EINVAL (n 0, wraps), -ESRCH
// (the task is over).
GW_EXPORT long gw_huge_query(struct gw_task *task, uint64_t address, uint64_t length,
	struct gw_huge_info *out, unsigned long n) GW_CHECK;

// So many full scans of khugepaged now, in this thread, whether its daemon runs or not.
GW_EXPORT void gw_khugepaged_scan(struct gw_machine *machine, unsigned full_scans);

// What kcompactd was woken for and has not done yet, now, in this thread: compaction of nodes where
// an allocation that does not wait found no block. The soft backend has no daemons; without this
// call nothing is compacted in its background. Returns how many nodes had something to do, or
// -EOWNERDEAD.
GW_EXPORT int gw_kcompactd_run(struct gw_machine *machine);

// prctl(PR_SET_THP_DISABLE) of the task's space; forks inherit it.
GW_EXPORT int gw_thp_disable(struct gw_task *task, int disable) GW_CHECK; // -ESRCH

#ifdef __cplusplus
}
#endif
#endif
