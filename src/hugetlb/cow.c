// SPDX-License-Identifier: MIT
// Writes to private huge pages that are, or were, shared: after a fork, or of an object's page.
//
//	shared mapping			the leaf becomes writable
//	own page, nobody else maps it	the leaf becomes writable
//	else				a copy
//
// A copy comes from what the pool can spare, never from a promise: that was made for the mapping's
// other pages. Where the pool has none to spare, it matters who asks. Who was promised its pages
// (the mapping that mmap made) keeps the page it has, and all others lose it: their next access
// ends in SIGBUS, as their copy of the mapping was promised nothing. Who was promised nothing gets
// the SIGBUS at once. So a program that forks never dies of its child.
//
// A pinned page is not shared by fork: the child gets a copy right away, or the fork fails.
//
// Locks: mmap_lock for reading and the fault lock, the callers'; the folio lock, the rmap lock (who
// else maps it) and page-table locks inside.
// What can fail: -EIO (no page), -ENOMEM.
#include "hugetlb/internal.h"

#include "base/mark.h"
#include "machine/copier.h"
#include "virt/fault_internal.h"
#include "virt/gather.h"
#include "virt/object.h"
#include "virt/rmap.h"
#include "virt/vma.h"

#include <errno.h>

static int make_writable(struct hugetlb_access *a, struct pte seen, bool exclusive);
static bool reusable(struct folio *folio);
static int replace_by_copy(struct hugetlb_access *a, struct pte seen, struct folio *old);

// The first leaf, and a reference to its folio; NULL: look again.
static struct folio *find_page(struct vma *vma, uint64_t haddr, struct pte *ret_first)
{
	struct page_table *table = hugetlb_table_lock(vma, haddr);
	struct folio *folio = NULL;

	if (!table)
		return NULL;
	*ret_first = table_entry(table, pmd_index(vaddr_of(haddr)));
	if (pte_present(*ret_first))
		folio = pfn_folio(pte_pfn(*ret_first));
	if (folio && !folio_try_get(folio))
		folio = NULL;
	page_table_unlock(table);
	return folio;
}

int hugetlb_write_protected(struct hugetlb_access *a)
{
	struct pte seen;
	struct folio *old = find_page(a->vma, a->haddr, &seen);
	int err;

	if (!old)
		return FAULT_AGAIN;
	folio_lock(old);
	bool shared = a->vma->flags & VM_SHARED, reuse = !shared && reusable(old);
	if (shared)
		folio_set_dirty(old);
	if (shared || reuse) {
		err = make_writable(a, seen, reuse);
		folio_unlock(old);
	} else {
		folio_unlock(old);
		err = replace_by_copy(a, seen, old);
	}
	folio_put(old);
	return err;
}

// Locked, so that nobody can come to share it meanwhile.
static bool reusable(struct folio *folio)
{
	return folio_test_anon(folio) &&
	       (folio_test_anon_exclusive(folio) || folio_mapcount(folio) == 1);
}

static int make_writable(struct hugetlb_access *a, struct pte seen, bool exclusive)
{
	struct page_table *table = hugetlb_table_lock(a->vma, a->haddr);
	struct pte new = pte_set(seen, PTE_DIRTY | PTE_YOUNG);
	int err = FAULT_AGAIN;

	if (!table)
		return FAULT_AGAIN;
	if (a->vma->flags & VM_WRITE)
		new = pte_set(new, PTE_WRITE);
	if (table_entry(table, pmd_index(vaddr_of(a->haddr))).v == seen.v) {
		if (exclusive)
			folio_set_anon_exclusive(pfn_folio(pte_pfn(seen)));
		hugetlb_set_entries(table, a->haddr, a->pool, new);
		err = hugetlb_translate(a->vma, a->pool, a->haddr, new);
	}
	page_table_unlock(table);
	return err;
}

// ---- Copies

static void copy_page(struct mm_core *mm, struct folio *dst, struct folio *src)
{
	for (unsigned long i = 0; i < folio_nr(src); i += PTRS_PER_TABLE)
		copier_copy(mm->copier, mm->mmu->ops->peek(mm->mmu, pfn_add(folio_pfn(dst), i)),
			mm->mmu->ops->peek(mm->mmu, pfn_add(folio_pfn(src), i)), PTRS_PER_TABLE);
	folio_set_uptodate(dst);
	folio_set_hugetlb_migratable(dst);
}

// The entry's reference to the old page goes, the caller's to the new one becomes the entry's.
static int swap_pages(struct hugetlb_access *a, struct pte seen, struct folio *old,
	struct folio *new)
{
	struct pte e = pte_make(folio_pfn(new), PTE_PRESENT | PTE_HUGE | PTE_DIRTY | PTE_YOUNG);
	struct page_table *table = hugetlb_table_lock(a->vma, a->haddr);
	int err = FAULT_AGAIN;

	if (!table)
		return FAULT_AGAIN;
	if (table_entry(table, pmd_index(vaddr_of(a->haddr))).v == seen.v) {
		if (a->vma->flags & VM_WRITE)
			e = pte_set(e, PTE_WRITE);
		hugetlb_add_anon_rmap(new, a->vma, a->haddr);
		hugetlb_set_entries(table, a->haddr, a->pool, e);
		err = hugetlb_translate(a->vma, a->pool, a->haddr, e);
		if (err) {
			hugetlb_set_entries(table, a->haddr, a->pool, seen);
			folio_remove_rmap_pmd(new);
		} else {
			folio_remove_rmap_pmd(old);
		}
	}
	page_table_unlock(table);
	if (!err)
		folio_put(old);
	return err;
}

static int take_from_others(struct vma *vma, struct folio *folio);

static int replace_by_copy(struct hugetlb_access *a, struct pte seen, struct folio *old)
{
	bool beside = hugetlb_owns_promise(a->vma) && folio_test_anon(old);
	struct hugetlb_claim claim;
	struct folio *new;
	int err = anon_vma_prepare(a->vma);
	struct mm_invalidation inv;

	if (err)
		return err;
	err = hugetlb_take(&claim, a->vma, a->haddr, a->task, beside, &new);
	if (err)
		return beside ? take_from_others(a->vma, old) : err;
	copy_page(a->h->mm, new, old);
	uint64_t end = a->haddr + hugetlb_bytes(a->pool);
	mm_notify_start(&inv, a->vma->space, a->haddr, end, MM_INVALIDATE_COW);
	err = swap_pages(a, seen, old, new);
	mm_notify_end(&inv);
	if (err)
		hugetlb_give_back(&claim, new);
	return err;
}

// ---- The page goes to who was promised it

struct robbery {
	struct vma *vma; // keeps it
	struct folio *folio;
	unsigned nr;
};

static bool take_from_one(const struct rmap_range *range, void *arg)
{
	struct robbery *r = arg;
	struct vma *vma = range->vma;
	struct space *space = vma->space;
	struct hugetlb_pool *pool = hugetlb_pool_of_vma(space->mm->hugetlb, vma);
	uint64_t haddr = range->addr;
	struct gather g;
	struct mm_invalidation inv;

	if (vma == r->vma || hugetlb_owns_promise(vma))
		return true;
	mm_notify_start(&inv, space, haddr, haddr + hugetlb_bytes(pool), MM_INVALIDATE_UNMAP);
	gather_init(&g, space->mm);
	struct page_table *table = gather_pmd_table(&g, space, vaddr_of(haddr));
	struct pte e = table ? table_entry(table, pmd_index(vaddr_of(haddr))) : (struct pte){0};
	if (pte_present(e) && pte_pfn(e).n == folio_pfn(r->folio).n) {
		MARK(hugetlb_page_taken_from_child);
		atomic_store(&vma->hugetlb_robbed, true);
		hugetlb_set_entries(table, haddr, pool, (struct pte){0});
		for (uint64_t at = haddr; at < haddr + hugetlb_bytes(pool); at += PMD_SIZE)
			gather_clear(&g, vma_host(vma, at), PTRS_PER_TABLE);
		(void)gather_flush(&g);
		folio_remove_rmap_pmd(r->folio);
		gather_put(&g, r->folio);
		r->nr++;
	}
	(void)gather_finish(&g);
	mm_notify_end(&inv);
	return true;
}

// FAULT_AGAIN: it is ours alone now; -EIO: somebody has it from whom it cannot be taken.
static int take_from_others(struct vma *vma, struct folio *folio)
{
	struct robbery r = {vma, folio, 0};

	(void)rmap_walk(folio, take_from_one, &r, false);
	return r.nr || folio_mapcount(folio) <= 1 ? FAULT_AGAIN : -EIO;
}

// ---- Fork

static int put_in_child(struct vma *child, struct task *task, uint64_t haddr, struct folio *new,
	struct pte parents)
{
	struct hugetlb_pool *pool = hugetlb_pool_of_folio(child->space->mm->hugetlb, new);
	int err = 0;
	struct page_table *table = pmd_table_alloc_lock(child->space, task, vaddr_of(haddr), &err);

	if (!table)
		return err;
	hugetlb_add_anon_rmap(new, child, haddr);
	hugetlb_set_entries(table, haddr, pool,
		pte_make(folio_pfn(new), parents.v & ((1ull << PTE_PFN_SHIFT) - 1)));
	page_table_unlock(table);
	return 0;
}

int hugetlb_fork_copy(struct vma *child, struct vma *parent, struct task *task, uint64_t addr)
{
	uint64_t haddr = ALIGN_DOWN(addr, vma_page_size(parent));
	struct hugetlb_claim claim;
	struct folio *new, *old;
	struct pte seen = {0};

	old = find_page(parent, haddr, &seen);
	if (!old) // it was taken away meanwhile, or is on its way since its pin went
		return pte_none(seen) ? 0 : -EAGAIN;
	int err = hugetlb_take(&claim, child, haddr, task, true, &new);
	if (!err) {
		copy_page(child->space->mm, new, old);
		err = put_in_child(child, task, haddr, new, seen);
		if (err)
			hugetlb_give_back(&claim, new);
	}
	folio_put(old);
	return err ? -ENOMEM : 0;
}
