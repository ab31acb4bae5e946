// SPDX-License-Identifier: MIT
// A write (or the wish to own the page, before a pin) where a huge leaf is read-only.
//
//	huge zero page		512 small entries, one of which gets a page of its own
//	shared mapping		the leaf becomes writable and dirty; the folio dirty, if a file's
//	exclusive		the leaf becomes writable: nobody else has it
//	nobody else is left	the same, and it is exclusive again
//	else			the leaf becomes 512 entries, one of which is copied
//
// "Nobody else" is one reference, the leaf's, beside our own, seen with the folio locked: then
// nobody can come to share it meanwhile.
//
// Locks: mmap_lock for reading, by the caller; folio lock, then the PMD table's.
// What can fail: -ENOMEM for a table.
#include "thp/thp.h"

#include "base/vmstat.h"
#include "virt/object.h"
#include "virt/rmap.h"
#include "virt/vma.h"

#include <errno.h>

enum { SERVED = 0, SPLIT = 1 };

static int split(struct vma *vma, uint64_t haddr)
{
	int err = thp_split_pmd(vma, haddr);

	return err ? err : SPLIT;
}

// Page-table lock held, the leaf is still `seen`.
static int make_writable(struct vma *vma, struct page_table *pmd, uint64_t haddr, struct pte seen)
{
	struct mmu *mmu = vma->space->mm->mmu;
	struct pte new = pte_set(seen, PTE_DIRTY | PTE_YOUNG);

	if (vma->flags & VM_WRITE)
		new = pte_set(new, PTE_WRITE);
	table_set_entry(pmd, pmd_index(vaddr_of(haddr)), new);
	return mmu->ops->map(mmu, vma_host(vma, haddr), pte_pfn(new), PTRS_PER_TABLE,
		vma_pte_prot(vma, new));
}

// The folio is locked, with a reference of ours. -ENOENT: it must be split.
static int reuse(struct vma *vma, struct page_table *pmd, uint64_t haddr, struct pte seen,
	struct folio *folio)
{
	if (vma->flags & VM_SHARED)
		return make_writable(vma, pmd, haddr, seen);
	if (!folio_test_anon(folio))
		return -ENOENT;
	if (!folio_test_anon_exclusive(folio)) {
		if (folio_ref_count(folio) != 2)
			return -ENOENT;
		folio_set_anon_exclusive(folio);
		vm_event(vma->space->mm->stat, VM_PGREUSE);
	}
	return make_writable(vma, pmd, haddr, seen);
}

static int write_to_folio(struct vma *vma, uint64_t haddr, struct pte seen, struct folio *folio)
{
	int err = SERVED;

	folio_lock(folio);
	if (vma->flags & VM_SHARED && folio_object(folio) &&
		vma->object->ops->kind != OBJECT_SHMEM)
		folio_mark_dirty(folio);
	struct page_table *pmd = pmd_table_lock(vma->space, vaddr_of(haddr));
	if (table_entry(pmd, pmd_index(vaddr_of(haddr))).v == seen.v)
		err = reuse(vma, pmd, haddr, seen, folio);
	page_table_unlock(pmd);
	folio_unlock(folio);
	return err == -ENOENT ? split(vma, haddr) : err;
}

int thp_huge_wp_fault(struct vma *vma, struct task *task maybe_unused, uint64_t addr)
{
	uint64_t haddr = addr & PMD_MASK;
	struct folio *folio = NULL;
	struct page_table *pmd = pmd_table_lock(vma->space, vaddr_of(haddr));
	struct pte seen = table_entry(pmd, pmd_index(vaddr_of(haddr)));

	bool leaf = pte_present(seen) && pte_huge(seen);
	if (leaf && !pte_zero_page(seen)) {
		folio = pfn_folio(pte_pfn(seen));
		folio_get(folio); // the leaf has one
	}
	page_table_unlock(pmd);
	if (!leaf)
		return SPLIT; // changed meanwhile: look again
	if (!folio)
		return split(vma, haddr);
	int err = write_to_folio(vma, haddr, seen, folio);
	folio_put(folio);
	return err;
}
