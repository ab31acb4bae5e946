// SPDX-License-Identifier: MIT
// Page-table entries: one 64-bit word, the same at the PTE and the PMD level.
//
//	none           0
//	present        PRESENT | WRITE? | DIRTY? | YOUNG? | ZERO? | HINT? | HUGE? | pfn
//	non-present    one of the swap-like kinds | DIRTY? | YOUNG? | HUGE? | pfn
//	table          TABLE | address of the next table << 10 (above the PTE level only)
//
// A migration entry stands where a page is being moved: it keeps the source's pfn, so that a fault
// finds the folio to wait for, and what must come back: writable, exclusive, young, dirty.
#ifndef GODWIT_VIRT_PTE_H
#define GODWIT_VIRT_PTE_H

#include "base/types.h"

struct pte {
	uint64_t v;
};

#define PTE_PRESENT (1ull << 0)
#define PTE_WRITE (1ull << 1)
#define PTE_DIRTY (1ull << 2)
#define PTE_YOUNG (1ull << 3)
#define PTE_HUGE (1ull << 4) // a leaf of the PMD level (or a PMD-sized migration entry)
#define PTE_ZERO (1ull << 5) // maps the zero page: no rmap, no reference
#define PTE_HINT (1ull << 6) // present, but made to fault once to learn who uses it
#define PTE_TABLE (1ull << 7) // leads to a table of the next level: not present, of no kind
// Kinds of entry that are not present.
#define PTE_KIND_SHIFT 8
#define PTE_KIND_MASK (7ull << PTE_KIND_SHIFT)
#define PTE_MIGRATION_READ (1ull << PTE_KIND_SHIFT)
#define PTE_MIGRATION_READ_EXCLUSIVE (2ull << PTE_KIND_SHIFT)
#define PTE_MIGRATION_WRITE (3ull << PTE_KIND_SHIFT)
#define PTE_HWPOISON (4ull << PTE_KIND_SHIFT)
#define PTE_DEVICE (5ull << PTE_KIND_SHIFT)
#define PTE_PFN_SHIFT 16

static inline bool pte_none(struct pte e)
{
	return e.v == 0;
}

static inline bool pte_present(struct pte e)
{
	return e.v & PTE_PRESENT;
}

static inline bool pte_writable(struct pte e)
{
	return e.v & PTE_WRITE;
}

static inline bool pte_zero_page(struct pte e)
{
	return e.v & PTE_ZERO;
}

static inline bool pte_huge(struct pte e)
{
	return e.v & PTE_HUGE;
}

static inline uint64_t pte_kind(struct pte e)
{
	return pte_present(e) ? 0 : e.v & PTE_KIND_MASK;
}

static inline bool pte_migration(struct pte e)
{
	uint64_t k = pte_kind(e);
	return k == PTE_MIGRATION_READ || k == PTE_MIGRATION_READ_EXCLUSIVE ||
	       k == PTE_MIGRATION_WRITE;
}

static inline struct pfn pte_pfn(struct pte e)
{
	return pfn_of(e.v >> PTE_PFN_SHIFT);
}

static inline struct pte pte_make(struct pfn pfn, uint64_t bits)
{
	return (struct pte){pfn.n << PTE_PFN_SHIFT | bits};
}

static inline struct pte pte_set(struct pte e, uint64_t bits)
{
	return (struct pte){e.v | bits};
}

static inline struct pte pte_clear(struct pte e, uint64_t bits)
{
	return (struct pte){e.v & ~bits};
}

#endif
