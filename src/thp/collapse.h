// SPDX-License-Identifier: MIT
// What the looking part and the doing part of a collapse share: which entries may be collapsed, and
// how many of which kind. Internal to src/thp/.
#ifndef GODWIT_THP_COLLAPSE_H
#define GODWIT_THP_COLLAPSE_H

#include "thp/thp.h"

// Counts while the entries of one table are gone through in order.
struct collapse_limits {
	const struct collapse *c;
	const struct vma *vma;
	unsigned none, shared, referenced;
	bool writable;
	uint64_t first_pfn; // of the first page
};

// One more entry: SCAN_SUCCEED (none, the zero page, or a page that may be collapsed as far as its
// entry says) or why not.
enum scan_result collapse_check_entry(struct collapse_limits *, struct pte);
// All entries passed: enough of them written to, and used?
enum scan_result collapse_verdict(const struct collapse_limits *);

// mmap_lock held for reading: look at the range and count its pages by node into c->node_load.
enum scan_result collapse_look(struct collapse *, struct vma *, uint64_t haddr);
// SCAN_SUCCEED: a table of small entries; PMD_MAPPED, PMD_NONE, PMD_NULL.
enum scan_result collapse_pmd_state(struct space *, uint64_t haddr);

#endif
