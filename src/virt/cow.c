// SPDX-License-Identifier: MIT
// A write to a page that is mapped read-only (or the wish to own it, before a pin).
//
//	shared mapping		the entry becomes writable; the folio dirty, if a file's
//	zero page		a new page of zeros
//	anonymous, exclusive	the entry becomes writable: nobody else has it
//	anonymous, was shared	if nobody else is left (one reference, locked): reuse; else copy
//	KSM			always copy
//	page of an object	copy: anonymous from then on
//
// A copy is made without the page-table lock, from a source that nobody can write: every entry
// that maps it is read-only. The entry is compared again before the copy takes its place.
#include "virt/fault_internal.h"

#include "base/vmstat.h"
#include "virt/gather.h"
#include "virt/object.h"
#include "virt/rmap.h"
#include "virt/vma.h"

#include <errno.h>

static int make_writable(struct fault *f, struct pte seen, bool exclusive);
static int make_shared_writable(struct fault *f, struct pte seen, struct folio *folio);
static int replace_by_copy(struct fault *f, struct pte seen, struct folio *old);
static bool can_reuse(struct folio *folio);

int fault_write_protected(struct fault *f, struct pte seen)
{
	struct frame *frame = pfn_frame(pte_pfn(seen));
	struct folio *old;
	int err;

	if (pte_zero_page(seen))
		return replace_by_copy(f, seen, NULL);
	old = folio_try_get_frame(frame);
	if (!old)
		return FAULT_AGAIN;
	if (f->vma->flags & VM_SHARED) {
		err = make_shared_writable(f, seen, old);
	} else if (folio_test_anon(old) && frame_test(frame, PG_ANON_EXCLUSIVE)) {
		err = make_writable(f, seen, true);
	} else if (can_reuse(old)) {
		err = make_writable(f, seen, true);
		folio_unlock(old);
	} else {
		err = replace_by_copy(f, seen, old);
	}
	folio_put(old);
	return err;
}

// An anonymous folio that others once shared, and that only this entry and we still refer to.
// Locked when true, so that nobody can start to share it again.
static bool can_reuse(struct folio *folio)
{
	if (!folio_test_anon(folio) || folio_test_ksm(folio) || folio_large(folio) ||
		folio_ref_count(folio) > 3 || !folio_trylock(folio))
		return false;
	if (folio_test_anon(folio) && !folio_test_ksm(folio) && folio_ref_count(folio) == 2)
		return true;
	folio_unlock(folio);
	return false;
}

static int make_writable(struct fault *f, struct pte seen, bool exclusive)
{
	struct page_table *table = pte_table_lock(f->space, vaddr_of(f->addr));
	unsigned i = pte_index(vaddr_of(f->addr));
	struct mmu *mmu = f->mm->mmu;
	struct pte new = pte_set(seen, PTE_DIRTY | PTE_YOUNG);
	int err = 0;

	if (f->vma->flags & VM_WRITE)
		new = pte_set(new, PTE_WRITE);
	if (!table)
		return FAULT_AGAIN;
	if (table_entry(table, i).v != seen.v) {
		err = FAULT_AGAIN;
	} else {
		if (exclusive)
			frame_set(pfn_frame(pte_pfn(seen)), PG_ANON_EXCLUSIVE);
		table_set_entry(table, i, new);
		vm_event(f->mm->stat, VM_PGREUSE);
		err = mmu->ops->map(mmu, vma_host(f->vma, f->addr), pte_pfn(seen), 1,
			pte_writable(new) ? MMU_WRITE : MMU_READ);
		err = fault_host_said(f, err);
	}
	page_table_unlock(table);
	return err;
}

// The page of a file is dirty before the accessor can store, and not cleaned before the entry is
// writable: write-back needs the folio's lock. Of shared memory, which nobody writes back, the
// entry alone is: Linux has mapped it writable, and learns of the write when the entry goes.
static int make_shared_writable(struct fault *f, struct pte seen, struct folio *folio)
{
	int err = FAULT_AGAIN;

	folio_lock(folio);
	if (folio_object(folio) == f->vma->object) {
		if (f->vma->object->ops->kind != OBJECT_SHMEM)
			folio_mark_dirty(folio);
		err = make_writable(f, seen, false);
	}
	folio_unlock(folio);
	return err;
}

static unsigned page_of(struct pte seen, const struct folio *folio)
{
	return (unsigned)(pte_pfn(seen).n - folio_pfn(folio).n);
}

// The entry's reference stays until the host cannot reach the page any more: it keeps the page from
// being moved.
static void leave_old(struct fault *f, struct pte seen, struct folio *old)
{
	atomic_fetch_sub(space_rss(f->space, old), 1);
	folio_remove_rmap(old, page_of(seen, old), 1);
}

static void return_to_old(struct fault *f, struct pte seen, struct folio *old)
{
	atomic_fetch_add(space_rss(f->space, old), 1);
	if (folio_test_anon(old))
		folio_add_anon_rmap(old, page_of(seen, old), 1, false);
	else
		folio_add_file_rmap(old, page_of(seen, old), 1);
}

// The old translation goes and the new one comes in one host call; who reads meanwhile reads the
// same bytes from either.
static int swap_entry(struct fault *f, struct pte seen, struct folio *old, struct folio *new)
{
	struct page_table *table = pte_table_lock(f->space, vaddr_of(f->addr));
	unsigned i = pte_index(vaddr_of(f->addr));
	struct mmu *mmu = f->mm->mmu;
	struct pte entry = pte_make(folio_pfn(new), PTE_PRESENT | PTE_DIRTY | PTE_YOUNG);
	int err;

	if (!table)
		return FAULT_AGAIN;
	if (table_entry(table, i).v != seen.v) {
		page_table_unlock(table);
		return FAULT_AGAIN;
	}
	if (f->vma->flags & VM_WRITE)
		entry = pte_set(entry, PTE_WRITE);
	// Complete before the host's translation lets the accessor run; see fault_install().
	fault_add_new_anon(f, new);
	table_set_entry(table, i, entry);
	atomic_fetch_add(space_rss(f->space, new), 1);
	if (old)
		leave_old(f, seen, old);
	err = mmu->ops->map(mmu, vma_host(f->vma, f->addr), folio_pfn(new), 1,
		pte_writable(entry) ? MMU_WRITE : MMU_READ);
	if (fault_host_said(f, err)) {
		table_set_entry(table, i, seen);
		atomic_fetch_sub(space_rss(f->space, new), 1);
		folio_remove_rmap(new, 0, 1);
		if (old)
			return_to_old(f, seen, old);
	}
	page_table_unlock(table);
	if (!err && old) {
		if (f->vma->flags & VM_LOCKED && folio_test_mlocked(old))
			munlock_folio(old);
		folio_put(old); // the entry's reference; the host cannot reach it any more
	}
	return err;
}

static int replace_by_copy(struct fault *f, struct pte seen, struct folio *old)
{
	struct folio *new;
	int err = anon_vma_prepare(f->vma);
	struct mm_invalidation inv;

	if (err)
		return err;
	new = fault_alloc(f, !old);
	if (!new)
		return -ENOMEM;
	if (old)
		copy_frame(f->mm, folio_pfn(new), pte_pfn(seen));
	folio_set_swapbacked(new);
	mm_notify_start(&inv, f->space, f->addr, f->addr + PAGE_SIZE, MM_INVALIDATE_COW);
	err = swap_entry(f, seen, old, new);
	mm_notify_end(&inv);
	if (err) {
		folio_put(new);
		return err;
	}
	if (old && folio_test_ksm(old))
		vm_event(f->mm->stat, VM_COW_KSM);
	return 0;
}
