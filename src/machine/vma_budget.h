// SPDX-License-Identifier: MIT
// What the host maps at each page of a window, and how many host mappings (VMAs) that takes.
#ifndef GODWIT_MACHINE_VMA_BUDGET_H
#define GODWIT_MACHINE_VMA_BUDGET_H

#include "machine/window.h"

// A page state: a frame number above flags. Two neighbours are one host mapping when their flags
// but PAGE_SOFT are equal and their frames, if they have some, are consecutive; on hugetlbfs only
// within 2 MiB.
#define PAGE_KIND 0x3ull
#define PAGE_VOID 0x0ull // no frame
#define PAGE_FRAME 0x1ull

#define PAGE_PROT 0xcull // the host mapping's protection, if not the blocker's usual one
#define PAGE_PROT_USUAL 0x0ull
#define PAGE_PROT_READ 0x4ull
#define PAGE_PROT_NONE 0x8ull

#define PAGE_UFFD_TRAP 0x10ull // userfaultfd watches for pages that are not there
#define PAGE_UFFD_WP 0x20ull   // the page is write-protected by userfaultfd
#define PAGE_UFFD (PAGE_UFFD_TRAP | PAGE_UFFD_WP)

#define PAGE_OFF 0x40ull     // blocked or cleared: accesses come to the engine
#define PAGE_CLEARED 0x80ull // cleared: the frame is no longer the engine's at this page
#define PAGE_SOFT (PAGE_OFF | PAGE_CLEARED)

#define PAGE_HUGETLB 0x100ull // of hugetlbfs: all 2 MiB are one mapping, to be changed as a whole
#define PAGE_FLAGS 0x1ffull
#define PAGE_PFN_SHIFT 9

static inline uint64_t page_state(uint64_t flags, struct pfn pfn)
{
	return flags | pfn.n << PAGE_PFN_SHIFT;
}

static inline struct pfn page_state_pfn(uint64_t state)
{
	return (struct pfn){state >> PAGE_PFN_SHIFT};
}

// Whether the host lets the access through.
static inline bool page_state_allows(uint64_t state, enum mmu_access access)
{
	if ((state & PAGE_KIND) != PAGE_FRAME || (state & (PAGE_OFF | PAGE_PROT_NONE)))
		return false;
	return access == MMU_ACCESS_READ || !(state & (PAGE_PROT_READ | PAGE_UFFD_WP));
}

// All under the lock of the backend.
// From now on: `state`, with consecutive frames when it has a frame.
void window_state_set(struct window *w, size_t page, size_t nr, uint64_t state);
// Only flags change: first those of `clear` go, then those of `set` come.
void window_state_change(struct window *w, size_t page, size_t nr, uint64_t clear, uint64_t set);
// How many pages from `page` on (at most nr) have the same flags under `mask`.
size_t window_state_run(const struct window *w, size_t page, size_t nr, uint64_t mask);
// How many consecutive frames with equal flags there are from `page` on, at most nr.
size_t window_state_mapping(const struct window *w, size_t page, size_t nr);
// How many host mappings more it takes to treat these pages apart from their neighbours: 0..2.
unsigned window_state_splits(const struct window *w, size_t page, size_t nr);

// The budget is one for the process: all windows of all machines.
void vma_budget_add_window(void);
void vma_budget_remove_window(const struct window *w);
size_t vma_budget_used(void);
void vma_budget_fork_child(void); // which has none of its parent's windows
size_t vma_budget_limit(void); // vm.max_map_count
// A move that needs `extra` mappings may go ahead: below 90% of the limit, the rest is for faults.
bool vma_budget_allows(unsigned extra);
// A fault shall not take a mapping where it can do without: above 85% of the limit.
bool vma_budget_is_short(void);
// For tests; 0 reads vm.max_map_count again.
void vma_budget_set_limit(size_t limit);

#endif
