// SPDX-License-Identifier: MIT
// What is at an address: the question of move_pages(2), asked for many addresses in a row.
//
//   lookup_begin()   mmap_lock of the space, read
//   lookup_folio()   for each address; the answer holds until the next call
//   lookup_end()
//
// Neighbouring addresses share their vma and their page-table lock, which is why a lookup keeps
// both. The lock keeps the folio mapped, so it may be isolated without a reference. Nothing is
// faulted in and nothing is allocated: a page that was never touched is not there.
#include "migrate/lookup.h"

#include <errno.h>

void lookup_begin(struct lookup *l, struct space *space) NO_THREAD_SAFETY_ANALYSIS
{
	l->space = space;
	l->vma = NULL;
	gather_init(&l->gather, space->mm);
	read_lock(&space->mmap_lock);
	vmstat_batch_begin(&l->counts, space->mm->stat);
}

void lookup_end(struct lookup *l) NO_THREAD_SAFETY_ANALYSIS
{
	if (!l->space)
		return;
	vmstat_batch_end(&l->counts);
	(void)gather_finish(&l->gather);
	read_unlock(&l->space->mmap_lock);
	l->space = NULL;
}

struct vma *lookup_vma(struct lookup *l, uint64_t addr)
{
	if (!l->vma || addr < l->vma->start || addr >= l->vma->end)
		l->vma = vma_lookup(l->space, addr);
	return l->vma;
}

// The entry that decides for addr, at whichever level, its table locked. What was a leaf at one
// look may be a table at the next.
static struct pte entry_at(struct lookup *l, uint64_t addr)
{
	struct vaddr v = vaddr_of(addr);
	struct pte e;

	do {
		struct page_table *table = gather_table(&l->gather, l->space, v);

		if (table)
			return table_entry(table, pte_index(v));
		table = gather_pmd_table(&l->gather, l->space, v);
		if (!table)
			return (struct pte){0};
		e = table_entry(table, pmd_index(v));
	} while (pmd_entry_table(e));
	return pte_huge(e) ? e : (struct pte){0};
}

static int explained(enum migrate_why *why, enum migrate_why reason, int err)
{
	*why = reason;
	return err;
}

int lookup_folio(struct lookup *l, uint64_t addr, struct folio **ret_folio, enum migrate_why *why)
{
	struct vma *vma = lookup_vma(l, addr);

	if (!vma)
		return explained(why, WHY_NO_VMA, -EFAULT);
	struct pte e = entry_at(l, addr);
	if (pte_migration(e))
		return explained(why, WHY_MIGRATING, -ENOENT);
	if (pte_kind(e) == PTE_DEVICE)
		return explained(why, WHY_DEVICE, -ENOENT);
	if (pte_kind(e) == PTE_HWPOISON)
		return explained(why, WHY_POISONED, -ENOENT);
	if (!pte_present(e))
		return explained(why, WHY_NOT_PRESENT, -ENOENT);
	if (pte_zero_page(e))
		return explained(why, WHY_ZERO_PAGE, -EFAULT);
	*ret_folio = pfn_folio(pte_pfn(e));
	return 0;
}
