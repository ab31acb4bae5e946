// SPDX-License-Identifier: MIT
// Out of the page tables for good: what maps a folio goes, and faults bring back what is needed.
// For pages of objects, which stay in the index, and for anonymous pages that their owner gave up.
// (A page that comes back at the same address by itself leaves a migration entry: migrate/unmap.c.)
//
//	folio_unmap_range()	at one place; from a callback of rmap_walk()
//	folio_unmap_entry()	one page there, for who decides page by page
//	folio_split_leaves()	leaves of the PMD level there become tables first; those of an
//				object just go
//
// What an entry knew goes with it: its dirty bit to the folio, its page from the mapcounts and from
// what is resident, its reference. The caller has one of its own, so the last is not put here. A
// leaf of the PMD level is left alone.
//
// Locks: the folio's by the caller, the rmap lock by the walk; one page-table lock is taken at a
// time. What can fail: nothing.
#include "virt/gather.h"
#include "virt/mm.h"
#include "virt/object.h"
#include "virt/rmap.h"
#include "virt/rss.h"
#include "virt/space.h"

void folio_unmap_entry(struct gather *g, struct vma *vma, uint64_t addr, struct folio *folio,
	unsigned page)
{
	unsigned index = pte_index(vaddr_of(addr));
	struct pte e = table_entry(g->table, index);

	table_set_entry(g->table, index, (struct pte){0});
	gather_clear(g, vma_host(vma, addr), 1);
	if (e.v & PTE_DIRTY)
		folio_mark_dirty(folio);
	folio_remove_rmap(folio, page, 1);
	space_rss_add(vma->space, folio, -1);
}

// The gather's table, if it is there, has the folio's page at addr.
static bool maps(const struct gather *g, uint64_t addr, const struct folio *folio, unsigned page)
{
	return g->table &&
	       pte_maps(table_entry(g->table, pte_index(vaddr_of(addr))), folio, page);
}

void folio_unmap_range(struct folio *folio, const struct rmap_range *range,
	enum mm_invalidate_reason reason)
{
	struct vma *vma = range->vma;
	uint64_t addr = range->addr, end = addr + range->nr_pages * PAGE_SIZE;
	struct gather g;
	struct mm_invalidation inv;

	mm_notify_start(&inv, vma->space, addr, end, reason);
	gather_init(&g, vma->space->mm);
	for (unsigned i = 0; i < range->nr_pages; i++, addr += PAGE_SIZE) {
		(void)gather_table(&g, vma->space, vaddr_of(addr));
		if (!maps(&g, addr, folio, range->first_page + i))
			continue;
		folio_unmap_entry(&g, vma, addr, folio, range->first_page + i);
		gather_put(&g, folio);
	}
	(void)gather_finish(&g);
	mm_notify_end(&inv);
}

void folio_split_leaves(struct folio *folio, const struct rmap_range *range)
{
	struct mm_core *mm = range->vma->space->mm;
	uint64_t end = range->addr + range->nr_pages * PAGE_SIZE;

	if (folio_order(folio) < PMD_ORDER || !mm->up.split_huge_pmd)
		return;
	for (uint64_t at = ALIGN_UP(range->addr, PMD_SIZE); at + PMD_SIZE <= end; at += PMD_SIZE)
		(void)mm->up.split_huge_pmd(range->vma, at);
}
