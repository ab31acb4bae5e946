// SPDX-License-Identifier: MIT
// A walk over the page-table entries of a vma, one table at a time: what unmapping, protection,
// locking and advice have in common.
//
// Interface: vma_walk() in virt/vma.h. For each table that exists it calls back with the table
// locked by the walk's gather; what has no table costs nothing. A huge entry wholly inside of the
// range is handed over as one; one that reaches out of it is split first by mm->up.split_huge_pmd.
// As faults may make huge entries at any time while mmap_lock is held for reading only, the entry
// is looked at again after each step.
//
// Locks: mmap_lock is the caller's; one page-table lock at a time is the gather's.
// What can fail: the split, if it is refused (that of src/thp/ never is). The walk goes on past
// what it could not split.
#include "virt/vma.h"

#include "base/assert.h"
#include "base/mark.h"

#include <errno.h>

static uint64_t pmd_end(uint64_t addr, uint64_t end)
{
	uint64_t next = (addr & PMD_MASK) + PMD_SIZE;

	return min(next, end);
}

// The PMD entry of addr at this moment; *ret_table NULL: there is not even a table for it.
static struct pte peek_pmd(struct space *space, uint64_t addr, struct page_table **ret_table)
{
	struct page_table *pmd = pmd_table_lock(space, vaddr_of(addr));

	*ret_table = pmd;
	if (!pmd)
		return (struct pte){0};
	struct pte e = table_entry(pmd, pmd_index(vaddr_of(addr)));
	page_table_unlock(pmd);
	return e;
}

int vma_split_huge_at(struct vma *vma, uint64_t addr)
{
	struct mm_core *mm = vma->space->mm;
	struct page_table *pmd;

	if (!(addr & (max(vma_page_size(vma), PMD_SIZE) - 1)))
		return 0;
	assert_that(addr > vma->start && addr < vma->end, "%#lx outside of its vma",
		(unsigned long)addr);
	if (vma->flags & VM_HUGETLB)
		return -EINVAL;
	if (!pte_huge(peek_pmd(vma->space, addr, &pmd)))
		return 0;
	return mm->up.split_huge_pmd ? mm->up.split_huge_pmd(vma, addr & PMD_MASK) : -EINVAL;
}

// One huge entry, seen without lock: true when it was served or is none any more.
static bool walk_huge(struct vma_walk *w, uint64_t addr)
{
	struct page_table *pmd = gather_pmd_table(&w->g, w->vma->space, vaddr_of(addr));

	if (!pmd || !pte_huge(table_entry(pmd, pmd_index(vaddr_of(addr)))))
		return false;
	w->huge(w, pmd, addr & PMD_MASK);
	return true;
}

static void walk_pages(struct vma_walk *w, uint64_t addr, uint64_t end)
{
	struct page_table *table = gather_table(&w->g, w->vma->space, vaddr_of(addr));

	if (table && table->nr_used)
		w->pages(w, table, addr, (unsigned)((end - addr) >> PAGE_SHIFT));
}

// Entries of one PMD. The entry may change its kind between the look and the lock: look again.
static int walk_pmd(struct vma_walk *w, struct pte seen, uint64_t addr, uint64_t end)
{
	while (pte_huge(seen)) {
		struct page_table *pmd;

		if (w->keep_huge || end - addr == PMD_SIZE) {
			if (walk_huge(w, addr))
				return 0;
		} else {
			gather_release(&w->g);
			int err = vma_split_huge_at(w->vma,
				addr & ~PMD_MASK ? addr : end);
			if (err) {
				MARK(walk_left_a_huge_entry);
				return err;
			}
		}
		gather_release(&w->g);
		seen = peek_pmd(w->vma->space, addr, &pmd);
	}
	if (!pte_none(seen))
		walk_pages(w, addr, end);
	return 0;
}

int vma_walk(struct vma_walk *w, struct vma *vma, uint64_t start, uint64_t end)
{
	uint64_t addr = start, next;
	int err = 0;

	w->vma = vma;
	gather_init(&w->g, vma->space->mm);
	for (; addr < end; addr = next) {
		struct page_table *pmd;
		gather_release(&w->g);
		struct pte e = peek_pmd(vma->space, addr, &pmd);
		if (!pmd) {
			next = ALIGN_DOWN(addr, PUD_SIZE) + PUD_SIZE;
			continue;
		}
		next = pmd_end(addr, end);
		int failed = walk_pmd(w, e, addr, next);
		if (failed && !err)
			err = failed;
	}
	(void)gather_finish(&w->g);
	return err;
}
