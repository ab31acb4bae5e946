// SPDX-License-Identifier: MIT
// Dropping what MADV_FREE gave up. An anonymous folio without SWAPBACKED has contents that nobody
// wants, unless somebody wrote to it afterwards: the entries were made clean and read-only, so
// every store since has faulted and left a dirty entry behind, or (through a pin) a dirty folio.
//
//	an entry		becomes
//	clean			none: the next touch finds zeros
//	dirty, or the folio	stays, and the folio is SWAPBACKED again
//	is in use by others
//
// A leaf of the PMD level becomes a table first. Each entry is decided under its table's lock: a
// clean entry does not let anyone store, and whoever took a reference through it is seen in the
// count. When a later entry turns out to be dirty, those that went belong to others who gave the
// page up; the writer keeps it.
//
// Locks: the folio's by the caller; rmap and one page-table lock at a time inside.
// What can fail: nothing; the folio stays.
#include "virt/reclaim.h"

#include "base/mark.h"
#include "base/vmstat.h"
#include "phys/zone.h"
#include "virt/gather.h"
#include "virt/rmap.h"
#include "virt/rss.h"
#include "virt/vma.h"

struct lazy {
	struct folio *folio;
	struct gather g;
	struct vma *vma;
};

// The isolation's reference and those of the mappings: nobody else is about to read or write.
static bool may_go(struct lazy *l, struct pte e)
{
	struct folio *folio = l->folio;

	if (!(e.v & PTE_DIRTY) && !folio_test_dirty(folio) &&
		folio_ref_count(folio) == (unsigned)folio_mapcount(folio) + 1)
		return true;
	MARK(lazyfree_wanted_again);
	folio_set_swapbacked(folio);
	return false;
}

static bool drop_entry(struct lazy *l, uint64_t addr, unsigned page)
{
	struct page_table *table = gather_table(&l->g, l->vma->space, vaddr_of(addr));
	struct pte e = table ? table_entry(table, pte_index(vaddr_of(addr))) : (struct pte){0};

	if (!pte_maps(e, l->folio, page))
		return true;
	if (!may_go(l, e))
		return false;
	folio_unmap_entry(&l->g, l->vma, addr, l->folio, page);
	(void)gather_flush(&l->g);
	folio_put(l->folio); // now: the count is looked at for the next page
	return true;
}

static bool drop_range(struct lazy *l, const struct rmap_range *range)
{
	bool go_on = true;

	for (unsigned i = 0; go_on && i < range->nr_pages; i++)
		go_on = drop_entry(l, range->addr + i * PAGE_SIZE, range->first_page + i);
	return go_on;
}

static bool drop_here(const struct rmap_range *range, void *arg)
{
	struct lazy *l = arg;
	struct space *space = range->vma->space;
	uint64_t end = range->addr + range->nr_pages * PAGE_SIZE;
	struct mm_invalidation inv;

	if (range->vma->flags & VM_LOCKED)
		return false;
	l->vma = range->vma;
	folio_split_leaves(l->folio, range);
	mm_notify_start(&inv, space, range->addr, end, MM_INVALIDATE_UNMAP);
	gather_init(&l->g, space->mm);
	bool go_on = drop_range(l, range);
	(void)gather_finish(&l->g);
	mm_notify_end(&inv);
	return go_on;
}

bool reclaim_lazyfree(struct folio *folio, bool try_lock)
{
	struct lazy l = {.folio = folio};
	struct mm_core *mm = folio_phys(folio)->mm;

	if (rmap_walk(folio, drop_here, &l, try_lock) || folio_mapped(folio) ||
		folio_test_dirty(folio) || folio_ref_count(folio) != 1)
		return false;
	vm_events(mm->stat, VM_PGLAZYFREED, (long)folio_nr(folio));
	return true;
}
