// SPDX-License-Identifier: MIT
// Huge pages by hand, for tests of the virt layer below the thp subsystem: put one in, and split
// its entry.
#ifndef GODWIT_TESTS_HUGE_PAGES_H
#define GODWIT_TESTS_HUGE_PAGES_H

#include "witness_mmu.h"

#include "phys/lru.h"
#include "virt/rmap.h"
#include "virt/rss.h"

static inline int huge_install_with(struct virt_test *t, struct vma *vma, uint64_t addr,
	struct page_table *deposit)
{
	struct folio *folio;
	struct pte e;
	int err = 0;
	struct page_table *pmd = pmd_table_alloc_lock(t->space, NULL, vaddr_of(addr), &err);
	if (!pmd)
		return err;
	if (!pte_none(table_entry(pmd, pmd_index(vaddr_of(addr))))) {
		page_table_unlock(pmd);
		return -EEXIST;
	}
	folio = folio_alloc(&t->m.phys, GFP_TRANSHUGE_LIGHT | GFP_ZERO, PMD_ORDER, 0, NULL, 0);
	if (!folio) {
		page_table_unlock(pmd);
		return -ENOMEM;
	}
	e = pte_make(folio_pfn(folio), PTE_PRESENT | PTE_HUGE | PTE_DIRTY | PTE_YOUNG);
	if (vma->flags & VM_WRITE)
		e = pte_set(e, PTE_WRITE);
	err = t->w->mmu.ops->map(&t->w->mmu, vma_host(vma, addr), folio_pfn(folio), 512,
		vma_pte_prot(vma, e));
	if (err) {
		page_table_unlock(pmd);
		folio_put(folio);
		return err;
	}
	folio_add_new_anon_rmap(folio, vma, addr);
	table_set_entry(pmd, pmd_index(vaddr_of(addr)), e);
	page_table_deposit(t->space, deposit);
	space_rss_add(t->space, folio, PTRS_PER_TABLE);
	page_table_unlock(pmd);
	folio_set_uptodate(folio);
	folio_add_lru_vma(folio, vma);
	return 0;
}

// A new huge page at an aligned address of a private anonymous vma. -EEXIST: something is there.
static inline int huge_install(struct virt_test *t, uint64_t addr)
{
	struct vma *vma = vma_lookup(t->space, addr);
	int err = anon_vma_prepare(vma);
	struct page_table *deposit;

	if (err)
		return err;
	deposit = page_table_alloc(t->space, NULL, 1, vaddr_of(addr));
	if (!deposit)
		return -ENOMEM;
	err = huge_install_with(t, vma, addr, deposit);
	if (err)
		page_table_free(t->space, deposit);
	return err;
}

static inline void huge_fill_table(struct page_table *table, struct pte e, struct folio *folio)
{
	bool exclusive = folio_test_anon_exclusive(folio);

	for (unsigned i = 0; i < PTRS_PER_TABLE; i++) {
		uint64_t bits = e.v & 0xffff & ~PTE_HUGE;
		table_set_entry(table, i, pte_make(pfn_add(pte_pfn(e), i), bits));
	}
	if (!pte_present(e))
		return;
	folio_ref_add(folio, PTRS_PER_TABLE - 1);
	folio_add_anon_rmap(folio, 0, PTRS_PER_TABLE, exclusive);
	folio_remove_rmap_pmd(folio);
}

// mm->up.split_huge_pmd
static inline int huge_split_pmd(struct vma *vma, uint64_t addr)
{
	struct space *space = vma->space;
	struct page_table *table, *pmd;

	pmd = pmd_table_lock(space, vaddr_of(addr));
	struct pte e = table_entry(pmd, pmd_index(vaddr_of(addr)));
	bool huge = pte_huge(e);
	if (huge) {
		table = page_table_withdraw(space, vaddr_of(addr));
		mutex_lock_nested(&table->lock);
		huge_fill_table(table, e, pfn_folio(pte_pfn(e)));
		pmd_install_table(pmd, pmd_index(vaddr_of(addr)), table);
		mutex_unlock(&table->lock);
	}
	page_table_unlock(pmd);
	return 0;
}

#endif
