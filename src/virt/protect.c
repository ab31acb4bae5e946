// SPDX-License-Identifier: MIT
// mprotect: other permissions for a range of addresses.
//
// The range ends where there is a hole, or where a vma may not be written; what lies before it is
// changed all the same, and the error told after that. Everything that can fail comes first: the
// checks, and the splits at both ends, except of a vma whose flags stay. Then each vma gets its new
// flags and its entries follow:
//
//	entry			write is taken away	no access left		write is given
//	page, writable		read-only		read-only, host NONE	as it is
//	page, read-only		as it is		host NONE		writable if that can
//								do no harm, else at the first write
//	zero page		as it is		host NONE		as it is
//	made to hint		read-only, still hints	the same		as it is
//	migration entry, write	read, exclusive if anon	the same		as it is
//
// Where access is given, or none left, the host forgets what it shows where a migration entry is:
// what it refused before the page was stopped it would go on to refuse.
//
// Pages of PROT_NONE areas stay resident and keep their contents. A write is harmless at once when
// the page is anonymous and exclusive, or shared and dirty already; otherwise the fault decides.
// A host that cannot change a permission loses the translation (virt/gather.h), which the next
// access restores. Private memory that is locked and becomes writable is faulted in; what cannot be
// is left to the access.
//
// Locks: mmap_lock for write; one page-table lock at a time.
// What can fail: -EINVAL, and -ENOMEM (no memory for a split, an end that wraps), with nothing
// changed; -ENOMEM (a hole) and -EACCES after the vmas before it.
#include "virt/vma.h"

#include "virt/object.h"
#include "virt/rmap.h"

#include <errno.h>

#define VM_RWX (VM_READ | VM_WRITE | VM_EXEC)

// A write through this entry needs no work of a fault.
static bool may_write_now(const struct vma *vma, struct pte e)
{
	struct frame *frame = pfn_frame(pte_pfn(e));

	if (!(vma->flags & VM_WRITE) || pte_zero_page(e) || (e.v & PTE_HINT))
		return false;
	if (vma->flags & VM_SHARED)
		return e.v & PTE_DIRTY && folio_test_dirty(frame_folio(frame));
	struct folio *folio = frame_folio(frame);
	if (pte_huge(e))
		frame = &folio->page;
	if (!folio_test_swapbacked(folio) && !(e.v & PTE_DIRTY))
		return false; // given up (MADV_FREE): the next store must be seen
	return folio_test_anon(folio) && !folio_test_ksm(folio) &&
	       frame_test_anon_exclusive(frame);
}

static struct pte new_present(const struct vma *vma, struct pte e)
{
	if (!(vma->flags & VM_WRITE))
		return pte_clear(e, PTE_WRITE);
	return may_write_now(vma, e) ? pte_set(e, PTE_WRITE | PTE_DIRTY) : e;
}

static struct pte new_migration(const struct vma *vma, struct pte e)
{
	if (vma->flags & VM_WRITE || (e.v & PTE_KIND_MASK) != PTE_MIGRATION_WRITE)
		return e;
	uint64_t kind = folio_test_anon(pfn_folio(pte_pfn(e))) ? PTE_MIGRATION_READ_EXCLUSIVE
							       : PTE_MIGRATION_READ;
	return (struct pte){(e.v & ~PTE_KIND_MASK) | kind};
}

static struct pte new_entry(const struct vma *vma, struct pte e)
{
	if (pte_present(e))
		return new_present(vma, e);
	return pte_migration(e) ? new_migration(vma, e) : e;
}

struct protect_walk {
	struct vma_walk walk;
	bool gives; // some access that was not permitted
};

// nr pages behind one entry change; the host follows. Who sleeps until a page has moved is not
// woken to be refused what he may do again when it has.
static void change(struct vma_walk *w, struct page_table *table, unsigned index, uint64_t addr,
	unsigned nr)
{
	struct vma *vma = w->vma;
	struct pte e = table_entry(table, index), new = new_entry(vma, e);

	if (pte_none(e))
		return;
	if (new.v != e.v)
		table_set_entry(table, index, new);
	if (pte_present(new))
		gather_protect(&w->g, vma_host(vma, addr), pte_pfn(new), nr,
			vma_pte_prot(vma, new));
	else if (pte_migration(new) &&
		 (!vma_accessible(vma) || container_of(w, struct protect_walk, walk)->gives))
		gather_clear(&w->g, vma_host(vma, addr), nr);
}

static void change_huge(struct vma_walk *w, struct page_table *pmd, uint64_t addr)
{
	change(w, pmd, pmd_index(vaddr_of(addr)), addr, PTRS_PER_TABLE);
}

static void change_pages(struct vma_walk *w, struct page_table *table, uint64_t addr, unsigned nr)
{
	unsigned index = pte_index(vaddr_of(addr));

	for (unsigned i = 0; i < nr; i++)
		change(w, table, index + i, addr + i * PAGE_SIZE, 1);
}

// What becomes writable while it is locked gets pages of its own before anyone writes.
static bool wants_pages(const struct vma *vma, unsigned rwx)
{
	return (vma->flags & (VM_WRITE | VM_SHARED | VM_LOCKED)) == VM_LOCKED && rwx & VM_WRITE;
}

static bool changes_rwx(const struct vma *vma, const void *rwx)
{
	return (vma->flags & VM_RWX) != *(const unsigned *)rwx;
}

// What becomes writable counts as memory that may be wanted from then on, as long as it could have
// pages of its own.
static unsigned new_flags(const struct vma *vma, unsigned rwx)
{
	unsigned flags = (vma->flags & ~(unsigned)VM_RWX) | rwx;

	if (rwx & VM_WRITE && !(flags & (VM_SHARED | VM_HUGETLB)))
		flags |= VM_ACCOUNT;
	if (!(rwx & VM_WRITE) && !vma->object && !vma->anon_vma)
		flags &= ~(unsigned)VM_ACCOUNT;
	return flags;
}

// A vma that changes lies in the range as a whole; no huge entry reaches out of it.
static struct vma *protect_vma(struct vma *vma, unsigned rwx)
{
	unsigned old = vma->flags, flags = new_flags(vma, rwx);
	struct protect_walk w = {.walk = {.huge = change_huge, .pages = change_pages},
		.gives = rwx & ~old};

	if (!changes_rwx(vma, &rwx))
		return vma;
	vma->flags = flags;
	(void)vma_walk(&w.walk, vma, vma->start, vma->end);
	if (w.gives)
		vma_forget_refusals(vma, vma->start, vma->end);
	return vma_merge_around(vma);
}

// How far it can be done, and what is to be told then. -ENOMEM: a hole; -EACCES: what was mapped
// read-only from a file opened read-only.
static int check_range(struct space *space, uint64_t start, uint64_t *end, unsigned rwx)
{
	uint64_t hole = space_mapped_until(space, start, *end);
	int err = hole < *end ? -ENOMEM : 0;

	*end = hole;
	for (struct vma *vma = vma_find(space, start); vma && vma->start < hole;
		vma = vma_next(vma))
		if (rwx & VM_WRITE && !(vma->flags & VM_MAYWRITE)) {
			*end = max(vma->start, start);
			return -EACCES;
		}
	return err;
}

// *ret_from, *ret_to: from the first to the last vma that wants pages; as they were if none does.
static void protect_range(struct space *space, uint64_t start, uint64_t end, unsigned rwx,
	uint64_t *ret_from, uint64_t *ret_to)
{
	struct mm_invalidation inv;
	bool wanted = false;

	mm_notify_start(&inv, space, start, end, MM_INVALIDATE_PROTECT);
	for (struct vma *vma = vma_find(space, start); vma && vma->start < end;
		vma = vma_next(vma)) {
		if (wants_pages(vma, rwx)) {
			if (!wanted)
				*ret_from = vma->start;
			*ret_to = vma->end;
			wanted = true;
		}
		vma = protect_vma(vma, rwx);
	}
	mm_notify_end(&inv);
}

// An end that no address is: nothing is mapped there.
static int protected_end(uint64_t addr, uint64_t len, uint64_t *ret_end)
{
	return addr & ~PAGE_MASK ? -EINVAL : space_range(addr, len, ret_end) ? -ENOMEM : 0;
}

int space_protect(struct space *space, uint64_t addr, uint64_t len, unsigned vm_rwx)
{
	uint64_t end, from = 0, to = 0;
	int err = vm_rwx & ~(unsigned)VM_RWX ? -EINVAL : protected_end(addr, len, &end), split = 0;

	if (err || !len)
		return err;
	write_lock(&space->mmap_lock);
	err = check_range(space, addr, &end, vm_rwx);
	if (addr < end)
		split = space_split_changing(space, addr, end, changes_rwx, &vm_rwx);
	if (addr < end && !split)
		protect_range(space, addr, end, vm_rwx, &from, &to);
	space_write_unlock(space);
	mlock_populate_private(space, from, to);
	return split ? split : err;
}
