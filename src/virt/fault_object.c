// SPDX-License-Identifier: MIT
// First touch of a mapped object (shared memory, a file).
//
//	read			the cached page, read-only, and its cached neighbours around it
//	write, private		a copy of the cached page, anonymous from then on
//	write, shared		the cached page, writable, dirty
//
// The folio is locked while it is mapped, which keeps truncation and migration away from it; it
// may have left the object between finding and locking, then the access starts over.
// Fault-around maps only what is cached, up to date and not locked, inside of one window of
// fault_around_bytes (from an aligned address, or from the start of the vma), one vma and one
// table; it never allocates and never waits. A large folio that was there before is mapped as far
// as the window reaches, and one that the access made (or writes to) as a whole, where it fits.
#include "virt/fault_internal.h"

#include "base/vmstat.h"
#include "virt/gather.h"
#include "virt/object.h"
#include "virt/rmap.h"
#include "virt/rss.h"

#include <errno.h>

static int read_fault(struct fault *f, struct folio *folio, unsigned page, bool cached);
static int private_write_fault(struct fault *f, struct folio *folio, unsigned page);
static int shared_write_fault(struct fault *f, struct folio *folio, unsigned page);

static bool is_cached(struct object *object, uint64_t pgoff)
{
	struct folio *folio = object_find(object, pgoff);

	if (folio)
		folio_put(folio);
	return folio;
}

// A file's page and the tables may take turns of the same interleave: the tables are first.
static int make_table(struct fault *f)
{
	int err = 0;
	struct page_table *table =
		pte_table_alloc_lock(f->space, f->task, vaddr_of(f->addr), &err);

	if (table)
		page_table_unlock(table);
	return err == -EEXIST ? FAULT_AGAIN : err;
}

int fault_object(struct fault *f)
{
	struct object *object = f->vma->object;
	uint64_t pgoff = vma_pgoff(f->vma, f->addr);
	struct folio *folio;
	unsigned page;
	bool cached;
	int err;

	if (pgoff >= (object->size + PAGE_SIZE - 1) >> PAGE_SHIFT)
		return -EIO; // beyond the end: SIGBUS
	if (fault_wants_own_page(f) && !(f->vma->flags & VM_SHARED)) {
		err = anon_vma_prepare(f->vma);
		if (err)
			return err;
	}
	if (object->ops->kind == OBJECT_FILE) {
		err = make_table(f);
		if (err)
			return err;
	}
	cached = is_cached(object, pgoff);
	if (!cached && object->ops->kind == OBJECT_SHMEM && f->mm->up.large_object)
		f->mm->up.large_object(f->vma, f->task, f->addr);
	err = object_get_folio(object, f->task, pgoff, &folio);
	if (err)
		return err;
	folio_lock(folio);
	if (folio_object(folio) != object) {
		folio_unlock(folio);
		folio_put(folio);
		return FAULT_AGAIN;
	}
	page = (unsigned)(pgoff - folio_index(folio));
	if (!fault_wants_own_page(f) || (f->vma->flags & VM_SHARED && !fault_write(f)))
		err = read_fault(f, folio, page, cached);
	else if (f->vma->flags & VM_SHARED)
		err = shared_write_fault(f, folio, page);
	else
		err = private_write_fault(f, folio, page);
	return err;
}

static void map_around(struct fault *f, struct folio *own);
static void map_rest(struct fault *f, struct folio *folio, unsigned page, uint64_t bits);

// Takes over the caller's lock and reference, as do the two below.
static int read_fault(struct fault *f, struct folio *folio, unsigned page, bool cached)
{
	struct fault_install in = {
		.new = pte_make(pfn_add(folio_pfn(folio), page), PTE_PRESENT | PTE_YOUNG),
		.folio = folio,
		.page = page,
	};
	int err;

	// First the others: when the page itself is there, the accessor runs.
	if (!cached)
		map_rest(f, folio, page, PTE_PRESENT | PTE_YOUNG);
	map_around(f, cached ? folio : NULL);
	err = fault_install(f, &in);
	folio_unlock(folio);
	if (err)
		folio_put(folio);
	return err;
}

static int shared_write_fault(struct fault *f, struct folio *folio, unsigned page)
{
	struct fault_install in = {
		.new = pte_make(pfn_add(folio_pfn(folio), page),
			PTE_PRESENT | PTE_WRITE | PTE_DIRTY | PTE_YOUNG),
		.folio = folio,
		.page = page,
	};
	int err;

	folio_mark_dirty(folio);
	map_rest(f, folio, page, PTE_PRESENT | PTE_WRITE | PTE_DIRTY | PTE_YOUNG);
	err = fault_install(f, &in);
	folio_unlock(folio);
	if (err)
		folio_put(folio);
	return err;
}

static int private_write_fault(struct fault *f, struct folio *folio, unsigned page)
{
	uint64_t bits = PTE_PRESENT | PTE_DIRTY | PTE_YOUNG;
	struct fault_install in = {.is_new_anon = true, .folio = fault_alloc(f, false)};
	int err = -ENOMEM;

	if (in.folio) {
		if (f->vma->flags & VM_WRITE)
			bits |= PTE_WRITE;
		copy_frame(f->mm, folio_pfn(in.folio), pfn_add(folio_pfn(folio), page));
		in.new = pte_make(folio_pfn(in.folio), bits);
		folio_set_swapbacked(in.folio);
		err = fault_install(f, &in);
		if (err)
			folio_put(in.folio);
	}
	folio_unlock(folio);
	folio_put(folio);
	return err;
}

static bool may_map_around(const struct object *object, const struct folio *folio)
{
	return folio_object(folio) == object && folio_test_uptodate(folio) &&
	       !folio_test_hwpoison(folio);
}

// Map one cached neighbour; the page-table lock is held, so everything here is a try. The folio
// `own` is locked by this access already.
static void map_neighbour(struct fault *f, struct gather *g, uint64_t addr,
	const struct folio *own)
{
	struct object *object = f->vma->object;
	uint64_t pgoff = vma_pgoff(f->vma, addr);
	unsigned i = pte_index(vaddr_of(addr));
	struct folio *folio;
	bool mapped;

	if (addr == f->addr || !pte_none(table_entry(g->table, i)))
		return;
	folio = object_find(object, pgoff);
	if (!folio)
		return;
	if (folio != own && !folio_trylock(folio)) {
		gather_put(g, folio);
		return;
	}
	mapped = may_map_around(object, folio);
	if (mapped) {
		unsigned page = (unsigned)(pgoff - folio_index(folio));
		struct pfn pfn = pfn_add(folio_pfn(folio), page);

		folio_add_file_rmap(folio, page, 1);
		table_set_entry(g->table, i, pte_make(pfn, PTE_PRESENT));
		space_rss_add(f->space, folio, 1);
		gather_map(g, vma_host(f->vma, addr), pfn, 1, MMU_READ);
	}
	if (folio != own)
		folio_unlock(folio);
	if (!mapped) // else the reference is the entry's now
		gather_put(g, folio);
}

static void map_around(struct fault *f, struct folio *own)
{
	uint64_t window = atomic_load_explicit(&f->mm->tunables.fault_around_bytes,
		memory_order_relaxed);
	uint64_t end_of_object = (f->vma->object->size + PAGE_SIZE - 1) & PAGE_MASK;
	uint64_t start, end, addr;
	struct page_table *table;
	struct gather g;
	int err = 0;

	if (window <= PAGE_SIZE)
		return;
	// A window that the start of the mapping cuts off is as long as any.
	start = max(max(f->addr & ~(window - 1), f->vma->start), f->addr & PMD_MASK);
	end = min(min(start + window, f->vma->end), (f->addr & PMD_MASK) + PMD_SIZE);
	table = pte_table_alloc_lock(f->space, f->task, vaddr_of(f->addr), &err);
	if (!table)
		return;
	gather_init(&g, f->mm);
	gather_adopt(&g, f->space, table);
	for (addr = start; table && addr < end; addr += PAGE_SIZE)
		if (vma_pgoff(f->vma, addr) << PAGE_SHIFT < end_of_object)
			map_neighbour(f, &g, addr, own);
	// A refused host mapping does no harm: the entries stand, the next access translates.
	(void)gather_finish(&g);
}

// ---- Large folios of shared memory: all of it is mapped where any of it is touched first

static bool all_none(const struct page_table *table, unsigned first, unsigned nr)
{
	for (unsigned i = first; i < first + nr; i++)
		if (!pte_none(table_entry(table, i)))
			return false;
	return true;
}

static void map_others(struct fault *f, struct gather *g, struct folio *folio, unsigned page,
	uint64_t bits)
{
	unsigned nr = (unsigned)folio_nr(folio), first = pte_index(vaddr_of(f->addr)) - page;
	uintptr_t start = vma_host(f->vma, f->addr) - page * PAGE_SIZE;

	folio_ref_add(folio, (int)nr - 1);
	space_rss_add(f->space, folio, (long)nr - 1);
	for (unsigned i = 0; i < nr; i++) {
		struct pfn pfn = pfn_add(folio_pfn(folio), i);

		if (i == page)
			continue;
		folio_add_file_rmap(folio, i, 1);
		table_set_entry(g->table, first + i, pte_make(pfn, bits));
		gather_map(g, start + i * PAGE_SIZE, pfn, 1,
			bits & PTE_WRITE ? MMU_WRITE : MMU_READ);
	}
}

// Folio locked. Where it does not fit, or something is mapped already, one page must do.
static void map_rest(struct fault *f, struct folio *folio, unsigned page, uint64_t bits)
{
	unsigned nr = (unsigned)folio_nr(folio), index = pte_index(vaddr_of(f->addr));
	uint64_t start = f->addr - page * PAGE_SIZE, end = start + nr * PAGE_SIZE;
	struct page_table *table;
	struct gather g;
	int err = 0;

	if (nr == 1 || !folio_test_swapbacked(folio) || page > index ||
		index - page + nr > PTRS_PER_TABLE || start < f->vma->start || end > f->vma->end ||
		folio_index(folio) + nr > f->vma->object->size >> PAGE_SHIFT)
		return;
	table = pte_table_alloc_lock(f->space, f->task, vaddr_of(f->addr), &err);
	if (!table)
		return;
	gather_init(&g, f->mm);
	gather_adopt(&g, f->space, table);
	if (all_none(table, index - page, nr))
		map_others(f, &g, folio, page, bits);
	// A refused host mapping does no harm: the entries stand, the next access translates.
	(void)gather_finish(&g);
}
