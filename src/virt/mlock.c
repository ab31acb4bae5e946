// SPDX-License-Identifier: MIT
// mlock and munlock: pages that must stay resident.
//
// A locked vma has VM_LOCKED and counts in the space's locked_vm; its pages are MLOCKED and on the
// unevictable list. They may still be migrated: locked means resident, not in place. A page that
// several vmas map is MLOCKED while one of them is locked; the last one that lets go looks through
// rmap whether it was the last.
//
//	space_lock()	flags, mark what is there, then fault in the rest (and mark it)
//	space_unlock()	flags, then unmark what no other locked vma maps
//	munlock_folio()	a copy on write took a page's place in a locked vma: the same for one page
//	folio_add_lru_vma()	a new page of a locked vma is marked before anyone sees it
//
// Locks: mmap_lock for write for flags; marking needs the page-table lock of the entry; unmarking
// takes rmap locks, so pages are collected under the one and looked at without it.
// What can fail: -EINVAL, -ENOMEM (a hole, a split), -EAGAIN (some pages could not be faulted in;
// the range is locked nevertheless, as in Linux).
#include "virt/vma.h"

#include "phys/lru.h"
#include "virt/rmap.h"

#include <errno.h>

void folio_add_lru_vma(struct folio *folio, struct vma *vma)
{
	if (vma->flags & VM_LOCKED && !(vma->flags & (VM_IO | VM_PFNMAP)))
		folio_add_lru_mlocked(folio);
	else
		folio_add_lru(folio);
}

// ---- Marking

static struct folio *lockable(struct pte e)
{
	struct folio *folio;

	if (!pte_present(e) || pte_zero_page(e))
		return NULL;
	folio = pfn_folio(pte_pfn(e));
	return folio_test_hugetlb(folio) ? NULL : folio;
}

static void mark_huge(struct vma_walk *w, struct page_table *pmd, uint64_t addr)
{
	struct folio *folio = lockable(table_entry(pmd, pmd_index(vaddr_of(addr))));

	(void)w;
	if (folio)
		folio_mlock(folio);
}

// A large folio is marked only if all of it can lie in the vma.
static bool within(const struct vma *vma, struct folio *folio, struct pte e, uint64_t addr)
{
	uint64_t page = pte_pfn(e).n - folio_pfn(folio).n;

	return addr - vma->start >= page * PAGE_SIZE &&
	       vma->end - addr >= (folio_nr(folio) - page) * PAGE_SIZE;
}

static void mark_pages(struct vma_walk *w, struct page_table *table, uint64_t addr, unsigned nr)
{
	unsigned index = pte_index(vaddr_of(addr));

	for (unsigned i = 0; i < nr; i++) {
		struct pte e = table_entry(table, index + i);
		struct folio *folio = lockable(e);
		if (folio && within(w->vma, folio, e, addr + i * PAGE_SIZE) &&
			!folio_test_mlocked(folio))
			folio_mlock(folio);
	}
}

void mlock_vma_pages(struct vma *vma, uint64_t start, uint64_t end)
{
	struct vma_walk w = {.huge = mark_huge, .pages = mark_pages, .keep_huge = true};

	if (!(vma->flags & (VM_IO | VM_PFNMAP)))
		(void)vma_walk(&w, vma, start, end);
}

// ---- Unmarking

// MLOCKED folios of one table, each with a reference.
struct locked_folios {
	unsigned nr;
	struct folio *folio[PTRS_PER_TABLE];
};

static void collect(struct locked_folios *locked, struct pte e)
{
	struct folio *folio = lockable(e);

	if (!folio || !folio_test_mlocked(folio))
		return;
	if (locked->nr && locked->folio[locked->nr - 1] == folio)
		return;
	folio_get(folio);
	locked->folio[locked->nr++] = folio;
}

static void collect_huge(struct vma_walk *w, struct page_table *pmd, uint64_t addr)
{
	collect(w->arg, table_entry(pmd, pmd_index(vaddr_of(addr))));
}

static void collect_pages(struct vma_walk *w, struct page_table *table, uint64_t addr, unsigned nr)
{
	for (unsigned i = 0; i < nr; i++)
		collect(w->arg, table_entry(table, pte_index(vaddr_of(addr)) + i));
}

struct locked_elsewhere {
	struct folio *folio;
	const struct vma *here; // does not count
	bool yes;
};

// What was a leaf at one look may be a table at the next.
static struct pte entry_at(struct space *space, struct vaddr v)
{
	struct pte e;

	do {
		struct page_table *table = pte_table_lock(space, v);
		bool pmd = !table;

		if (pmd)
			table = pmd_table_lock(space, v);
		if (!table)
			return (struct pte){0};
		e = table_entry(table, pmd ? pmd_index(v) : pte_index(v));
		page_table_unlock(table);
	} while (pmd_entry_table(e));
	return e;
}

static bool maps(struct space *space, uint64_t addr, struct folio *folio)
{
	struct pte e = entry_at(space, vaddr_of(addr));

	return pte_present(e) && !pte_zero_page(e) && pfn_folio(pte_pfn(e)) == folio;
}

static bool look_for_lock(const struct rmap_range *range, void *arg)
{
	struct locked_elsewhere *w = arg;

	if (range->vma != w->here && range->vma->flags & VM_LOCKED &&
		range->nr_pages == folio_nr(w->folio))
		w->yes = maps(range->vma->space, range->addr, w->folio);
	return !w->yes;
}

// here: NULL, or a vma that does not count, locked or not.
static void unless_locked_elsewhere(struct folio *folio, const struct vma *here)
{
	struct locked_elsewhere elsewhere = {.folio = folio, .here = here};

	(void)rmap_walk(folio, look_for_lock, &elsewhere, false);
	if (!elsewhere.yes && folio_test_mlocked(folio))
		folio_munlock(folio);
}

void munlock_folio(struct folio *folio)
{
	unless_locked_elsewhere(folio, NULL);
}

static void unmark(struct locked_folios *locked, const struct vma *here)
{
	for (unsigned i = 0; i < locked->nr; i++) {
		struct folio *folio = locked->folio[i];

		if (folio_mapcount(folio) > 1)
			unless_locked_elsewhere(folio, here);
		else if (folio_test_mlocked(folio))
			folio_munlock(folio);
		folio_put(folio);
	}
}

void munlock_vma_pages(struct vma *vma, uint64_t start, uint64_t end)
{
	for (uint64_t addr = start, next; addr < end; addr = next) {
		struct locked_folios locked = {.nr = 0};
		struct vma_walk w = {
			.huge = collect_huge,
			.pages = collect_pages,
			.keep_huge = true,
			.arg = &locked,
		};
		next = min((addr & PMD_MASK) + PMD_SIZE, end);
		(void)vma_walk(&w, vma, addr, next);
		unmark(&locked, vma);
	}
}

// ---- The system calls

// Pages of a pool never leave, and those of devices are not ours: a lock does not change their vma.
static bool changes_lock(const struct vma *vma, const void *lock)
{
	return *(const bool *)lock ? !(vma->flags & (VM_LOCKED | VM_HUGETLB | VM_SPECIAL))
				   : vma->flags & VM_LOCKED;
}

static struct vma *lock_vma(struct vma *vma)
{
	vma->flags |= VM_LOCKED;
	vma->space->locked_vm += (long)vma_pages(vma);
	mlock_vma_pages(vma, vma->start, vma->end);
	return vma_merge_around(vma);
}

static struct vma *unlock_vma(struct vma *vma)
{
	vma->flags &= ~(unsigned)VM_LOCKED;
	vma->space->locked_vm -= (long)vma_pages(vma);
	munlock_vma_pages(vma, vma->start, vma->end);
	return vma_merge_around(vma);
}

// Up to the first hole, which is -ENOMEM.
static int for_range(struct space *space, uint64_t start, uint64_t end, bool lock)
{
	write_lock(&space->mmap_lock);
	uint64_t hole = space_mapped_until(space, start, end);
	int err = start < hole ? space_split_changing(space, start, hole, changes_lock, &lock) : 0;
	if (!err) {
		for (struct vma *vma = vma_find(space, start); vma && vma->start < hole;
			vma = vma_next(vma))
			if (changes_lock(vma, &lock))
				vma = (lock ? lock_vma : unlock_vma)(vma);
	}
	space_write_unlock(space);
	return err ? err : hole < end ? -ENOMEM : 0;
}

// As mlock(2) says it: what cannot be faulted in is no hole, and no lack of memory.
static int populate_error(int err)
{
	return err == -EFAULT || err == -EIO ? -ENOMEM : err == -ENOMEM ? -EAGAIN : err;
}

// The pages that were faulted in just now, also those that the fault did not mark.
static void mark_range(struct space *space, uint64_t start, uint64_t end)
{
	read_lock(&space->mmap_lock);
	for (struct vma *vma = vma_find(space, start); vma && vma->start < end; vma = vma_next(vma))
		if (vma->flags & VM_LOCKED)
			mlock_vma_pages(vma, vma->start, vma->end);
	read_unlock(&space->mmap_lock);
}

// Linux counts bytes from the page of addr on.
static int lock_range(uint64_t addr, uint64_t len, uint64_t *ret_start, uint64_t *ret_end)
{
	uint64_t before = addr & ~PAGE_MASK;

	*ret_start = addr - before;
	return len + before < len ? -EINVAL : space_range(addr - before, len + before, ret_end);
}

int space_lock(struct space *space, struct task *task, uint64_t addr, uint64_t len)
{
	uint64_t start, end;
	int err = lock_range(addr, len, &start, &end);

	if (!err && start < end)
		err = for_range(space, start, end, true);
	if (err || start == end)
		return err;
	err = space_populate(space, task, start, end, POPULATE_LOCK);
	mark_range(space, start, end);
	return populate_error(err);
}

// The next vma from *start on that is private, writable and locked.
static bool next_private(struct space *space, uint64_t *start, uint64_t end, uint64_t *ret_end)
{
	const unsigned want = VM_LOCKED | VM_WRITE;
	bool found = false;

	read_lock(&space->mmap_lock);
	struct vma *vma = vma_find(space, *start);
	while (vma && vma->start < end && (vma->flags & (want | VM_SHARED)) != want)
		vma = vma_next(vma);
	if (vma && vma->start < end) {
		*start = max(*start, vma->start);
		*ret_end = min(end, vma->end);
		found = true;
	}
	read_unlock(&space->mmap_lock);
	return found;
}

void mlock_populate_private(struct space *space, uint64_t start, uint64_t end)
{
	for (uint64_t next; start < end && next_private(space, &start, end, &next); start = next) {
		(void)!space_populate(space, space->owner, start, next, POPULATE_LOCK);
		mark_range(space, start, next);
	}
}

int space_unlock(struct space *space, uint64_t addr, uint64_t len)
{
	uint64_t start, end;
	int err = lock_range(addr, len, &start, &end);

	return err || start == end ? err : for_range(space, start, end, false);
}
