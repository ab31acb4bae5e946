// SPDX-License-Identifier: MIT
// A leaf of the PMD level becomes a table of 512 entries; the folio stays whole.
//
//	leaf				becomes
//	anonymous			512 entries with its bits; references and mapcounts go from
//					the whole to the pages, each of which is exclusive if the
//					whole was
//	huge zero page			512 entries of the zero page
//	migration entry			512 migration entries of the same kind
//	object, migrating or not	nothing: faults bring back what is needed, and a move that
//					is under way finds nothing to restore
//
// The host keeps its translations: 512 frames in a row are the same to it, however the engine
// counts them. Only for an object they go.
//
// Held: mmap_lock in any way, or the rmap lock of what is mapped there; the PMD table's lock is
// taken, and within it that of the new table. thp_split_pmd counts as it succeeds.
// What can fail: nothing. Anonymous memory had its table laid by when the leaf was made.
#include "thp/thp.h"

#include "base/assert.h"
#include "base/vmstat.h"
#include "virt/object.h"
#include "virt/rmap.h"
#include "virt/vma.h"

// The counts of one mapping of the whole become those of 512 pages.
static void spread_counts(struct pte leaf)
{
	struct folio *folio = pfn_folio(pte_pfn(leaf));

	folio_ref_add(folio, PTRS_PER_TABLE - 1);
	folio_add_anon_rmap(folio, 0, PTRS_PER_TABLE, folio_test_anon_exclusive(folio));
	folio_remove_rmap_pmd(folio);
}

// Both tables locked, here and below; the new one is not reachable yet.
static void fill_table(struct page_table *table, struct pte leaf)
{
	uint64_t bits = leaf.v & ((1ull << PTE_PFN_SHIFT) - 1) & ~PTE_HUGE;

	for (unsigned i = 0; i < PTRS_PER_TABLE; i++)
		table_set_entry(table, i, pte_make(pfn_add(pte_pfn(leaf), i), bits));
}

static void split_leaf(struct page_table *pmd, unsigned index, struct page_table *table,
	struct pte leaf)
{
	mutex_lock_nested(&table->lock);
	fill_table(table, leaf);
	if (pte_present(leaf) && !pte_zero_page(leaf))
		spread_counts(leaf);
	pmd_install_table(pmd, index, table);
	mutex_unlock(&table->lock);
}

// The leaf of an object goes.
static void unmap_object_leaf(struct vma *vma, struct gather *g, unsigned index, struct pte leaf,
	uint64_t haddr)
{
	struct folio *folio = pfn_folio(pte_pfn(leaf));

	assert_that(!folio_test_anon(folio), "a private leaf in a mapping of an object at %#lx",
		(unsigned long)haddr);
	table_set_entry(g->table, index, (struct pte){0});
	gather_clear(g, vma_host(vma, haddr), PTRS_PER_TABLE);
	(void)gather_flush(g);
	space_rss_add(vma->space, folio, -(long)PTRS_PER_TABLE);
	if (!pte_present(leaf))
		return;
	if (leaf.v & PTE_DIRTY)
		folio_mark_dirty(folio);
	if (leaf.v & PTE_YOUNG)
		folio_set_referenced(folio);
	folio_remove_rmap_pmd(folio);
	gather_put(g, folio);
}

// true: there was a leaf.
static bool split_entry(struct vma *vma, uint64_t haddr)
{
	struct space *space = vma->space;
	unsigned index = pmd_index(vaddr_of(haddr));
	struct gather g;

	gather_init(&g, space->mm);
	struct page_table *pmd = gather_pmd_table(&g, space, vaddr_of(haddr));
	struct pte leaf = pmd ? table_entry(pmd, index) : (struct pte){0};
	bool huge = pte_huge(leaf);
	if (huge && vma_deposits(vma))
		split_leaf(pmd, index, page_table_withdraw(space, vaddr_of(haddr)), leaf);
	else if (huge)
		unmap_object_leaf(vma, &g, index, leaf, haddr);
	(void)gather_finish(&g);
	return huge;
}

int thp_split_pmd(struct vma *vma, uint64_t addr)
{
	struct space *space = vma->space;
	uint64_t haddr = addr & PMD_MASK;
	struct mm_invalidation inv;

	mm_notify_start(&inv, space, haddr, haddr + PMD_SIZE, MM_INVALIDATE_SPLIT);
	bool huge = split_entry(vma, haddr);
	mm_notify_end(&inv);
	if (huge)
		vm_event(space->mm->stat, VM_THP_SPLIT_PMD);
	return 0;
}
