// SPDX-License-Identifier: MIT
// Faulting in a range on purpose: for mlock, for MADV_POPULATE_*, and to undo what KSM merged.
//
// Each page that is not there as wanted gets the fault an access would have taken. For pages that
// are there already the host is asked to translate them (again): it may have lost them, and who
// populates wants to hand the range to a system call, which cannot fault on every backend.
//
// Locks: mmap_lock is taken for reading and dropped for each fault, so that anything may change
// meanwhile; what is found then counts.
// What can fail: a hole -ENOMEM; a vma that does not permit the access -EINVAL (populate), -EFAULT
// (mlock); and handle_fault()'s errors. What was faulted in stays.
#include "virt/fault.h"
#include "virt/vma.h"

#include <errno.h>

static struct pte entry_of(struct space *space, uint64_t addr, uint64_t *ret_end)
{
	struct page_table *table = pte_table_lock(space, vaddr_of(addr));
	struct pte e = {0};

	*ret_end = addr + PAGE_SIZE;
	if (table) {
		e = table_entry(table, pte_index(vaddr_of(addr)));
		page_table_unlock(table);
		return e;
	}
	table = pmd_table_lock(space, vaddr_of(addr));
	if (table) {
		e = table_entry(table, pmd_index(vaddr_of(addr)));
		page_table_unlock(table);
	}
	if (!pte_huge(e))
		return (struct pte){0};
	*ret_end = (addr & PMD_MASK) + PMD_SIZE;
	return e;
}

static bool wants_write(const struct vma *vma, enum populate how)
{
	if (how == POPULATE_LOCK)
		return (vma->flags & (VM_WRITE | VM_SHARED)) == VM_WRITE;
	return how == POPULATE_WRITE;
}

static int check_vma(const struct vma *vma, enum populate how)
{
	if (!vma)
		return -ENOMEM;
	if (how == POPULATE_LOCK)
		return vma_accessible(vma) ? 0 : -EFAULT;
	if (vma->flags & (VM_IO | VM_PFNMAP))
		return -EINVAL;
	return how == POPULATE_WRITE ? (vma->flags & VM_WRITE ? 0 : -EINVAL)
				     : (vma_accessible(vma) ? 0 : -EINVAL);
}

// What stands at addr: *ret_end is addr when it takes a fault with *ret_flags, else the first
// address of which nothing is known yet.
static int look(struct space *space, uint64_t addr, enum populate how, unsigned *ret_flags,
	uint64_t *ret_end)
{
	read_lock(&space->mmap_lock);
	struct vma *vma = vma_lookup(space, addr);
	int err = check_vma(vma, how);
	if (!err && vma->flags & (VM_IO | VM_PFNMAP)) {
		*ret_end = vma->end; // locked as it is
	} else if (!err) {
		bool write = wants_write(vma, how);
		struct pte e = entry_of(space, addr, ret_end);
		*ret_flags = FAULT_REMOTE | (write ? FAULT_WRITE : 0);
		if (!pte_present(e) || (e.v & PTE_HINT) || (write && !pte_writable(e)))
			*ret_end = addr;
	}
	read_unlock(&space->mmap_lock);
	return err;
}

static void map_present(struct vma_walk *w, struct page_table *table, unsigned index, uint64_t addr,
	unsigned nr)
{
	struct pte e = table_entry(table, index);

	if (pte_present(e) && vma_pte_prot(w->vma, e) != MMU_NONE)
		gather_map(&w->g, vma_host(w->vma, addr), pte_pfn(e), nr, vma_pte_prot(w->vma, e));
}

static void map_huge(struct vma_walk *w, struct page_table *pmd, uint64_t addr)
{
	map_present(w, pmd, pmd_index(vaddr_of(addr)), addr, PTRS_PER_TABLE);
}

static void map_pages(struct vma_walk *w, struct page_table *table, uint64_t addr, unsigned nr)
{
	for (unsigned i = 0; i < nr; i++)
		map_present(w, table, pte_index(vaddr_of(addr)) + i, addr + i * PAGE_SIZE, 1);
}

// The host translates what is there in [start, end).
static int translate(struct space *space, uint64_t start, uint64_t end)
{
	struct vma_walk w = {.huge = map_huge, .pages = map_pages, .keep_huge = true};
	int err = 0;

	read_lock(&space->mmap_lock);
	struct vma *vma = vma_find(space, start);
	for (; vma && vma->start < end && !err; vma = vma_next(vma)) {
		uint64_t from = max(vma->start, start), to = min(vma->end, end);
		err = vma_walk(&w, vma, from, to);
		if (!err)
			err = w.g.error;
	}
	read_unlock(&space->mmap_lock);
	return err;
}

int space_populate(struct space *space, struct task *task, uint64_t start, uint64_t end,
	enum populate how)
{
	uint64_t addr = start, next;
	bool was_there = false;

	while (addr < end) {
		unsigned flags = 0;
		int err = look(space, addr, how, &flags, &next);
		if (err)
			return err;
		if (next > addr) {
			was_there = true;
			addr = next;
			continue;
		}
		err = handle_fault(space, task, addr, flags);
		if (err == -EFAULT && fault_permitted(space, addr, 0))
			continue; // the vma had another permission when the fault came: look again
		if (err)
			return err;
		addr += PAGE_SIZE;
	}
	return was_there ? translate(space, start, end) : 0;
}

// ---- KSM

static bool is_ksm(struct space *space, uint64_t addr)
{
	uint64_t end;
	struct pte e = entry_of(space, addr, &end);

	return pte_present(e) && !pte_zero_page(e) && !pte_huge(e) &&
	       folio_test_ksm(pfn_folio(pte_pfn(e)));
}

// The next KSM page from addr on, or end.
static uint64_t next_ksm_page(struct space *space, uint64_t addr, uint64_t end)
{
	uint64_t found = end;

	read_lock(&space->mmap_lock);
	struct vma *vma = vma_find(space, addr);
	for (; vma && vma->start < end && found == end; vma = vma_next(vma)) {
		if (!(vma->flags & VM_MERGEABLE))
			continue;
		for (uint64_t a = max(vma->start, addr); a < min(vma->end, end); a += PAGE_SIZE) {
			if (is_ksm(space, a)) {
				found = a;
				break;
			}
		}
	}
	read_unlock(&space->mmap_lock);
	return found;
}

int space_break_ksm(struct space *space, uint64_t start, uint64_t end)
{
	uint64_t addr = start;

	while ((addr = next_ksm_page(space, addr, end)) < end) {
		int err = handle_fault(space, space->owner, addr, FAULT_UNSHARE | FAULT_REMOTE);
		if (err == -ENOMEM)
			return err;
		addr += PAGE_SIZE;
	}
	return 0;
}
