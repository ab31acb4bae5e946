// SPDX-License-Identifier: MIT
// madvise's words about the future of pages: given up, cold, to be paged out, soon needed.
//
//	FREE		private anonymous memory. The contents are not wanted any more, unless they
//			are written to again: the entries become clean and read-only, so that the
//			next store is seen, and the folio goes to the list that reclaim looks at
//			first (it loses SWAPBACKED). What is clean then is dropped: zeros
//	COLD		entries and folios lose their age; nothing is dropped
//	PAGEOUT		reclaim at once (virt/reclaim.c)
//	WILLNEED	pages of a file are read. Others have no place to be read from
//
// The first three leave alone what others map, too. A large folio that is meant as a whole stays
// whole; one that reaches out of the range, or is not mapped here from end to end, is split first,
// and left alone if that fails.
//
// Locks: one table's at a time, by a gather; a folio only by trylock. A split is done without the
// table: the range is looked at again after it.
// What can fail: -EINVAL. It is advice: what cannot be done is left.
#include "virt/advise_pages.h"

#include "phys/lru.h"
#include "virt/object.h"
#include "virt/reclaim.h"
#include "virt/vma.h"

#include <errno.h>

enum future { FUTURE_FREE, FUTURE_COLD, FUTURE_PAGEOUT };

struct advise {
	struct vma *vma;
	enum future what;
	struct folio_list list; // FUTURE_PAGEOUT: isolated
	struct gather g;
};

// nr entries of one table that map neighbouring pages of one folio; or a leaf.
struct mapped {
	struct page_table *table;
	unsigned index, nr, nr_entries;
	uint64_t addr;
	struct folio *folio;
	uint64_t bits; // that any of them has
};

static bool advise_leaf(struct advise *a, uint64_t addr, uint64_t next);
static void advise_entries(struct advise *a, uint64_t addr, uint64_t next);

static int advise(struct vma *vma, enum future what, uint64_t start, uint64_t end)
{
	struct advise a = {.vma = vma, .what = what};
	bool notify = what == FUTURE_FREE;
	struct mm_invalidation inv;

	if (vma->flags & (VM_LOCKED | VM_PFNMAP | VM_HUGETLB))
		return -EINVAL;
	if (notify)
		mm_notify_start(&inv, vma->space, start, end, MM_INVALIDATE_PROTECT);
	gather_init(&a.g, vma->space->mm);
	for (uint64_t addr = start, next; addr < end; addr = next) {
		next = min((addr & PMD_MASK) + PMD_SIZE, end);
		if (advise_leaf(&a, addr, next))
			advise_entries(&a, addr, next);
		gather_release(&a.g);
		reclaim_pages(vma->space->mm, &a.list);
	}
	(void)gather_finish(&a.g);
	if (notify)
		mm_notify_end(&inv);
	return 0;
}

int advise_free(struct vma *vma, struct task *task maybe_unused, uint64_t start, uint64_t end)
{
	return vma->object ? -EINVAL : advise(vma, FUTURE_FREE, start, end);
}

int advise_cold(struct vma *vma, struct task *task maybe_unused, uint64_t start, uint64_t end)
{
	return advise(vma, FUTURE_COLD, start, end);
}

int advise_pageout(struct vma *vma, struct task *task maybe_unused, uint64_t start, uint64_t end)
{
	return advise(vma, FUTURE_PAGEOUT, start, end);
}

int advise_willneed(struct vma *vma, struct task *task, uint64_t start, uint64_t end)
{
	struct object *object = vma->object;
	uint64_t pgoff, last;

	if (!object || object->ops->kind != OBJECT_FILE)
		return 0;
	last = min(vma_pgoff(vma, end), DIV_ROUND_UP(object->size, PAGE_SIZE));
	for (pgoff = vma_pgoff(vma, start); pgoff < last; pgoff++) {
		struct folio *folio;

		if (object_get_folio(object, task, pgoff, &folio))
			break; // whoever touches it will hear of it
		folio_put(folio);
	}
	return 0;
}

// ---- What is done with it; the table is locked

static void change_entries(struct advise *a, const struct mapped *m, uint64_t clear)
{
	for (unsigned i = 0; i < m->nr_entries; i++) {
		struct pte e = table_entry(m->table, m->index + i), new = pte_clear(e, clear);
		unsigned nr = m->nr / m->nr_entries;

		table_set_entry(m->table, m->index + i, new);
		if (pte_writable(e) && !pte_writable(new) && vma_pte_prot(a->vma, e) != MMU_NONE)
			gather_protect(&a->g, vma_host(a->vma, m->addr + i * PAGE_SIZE),
				pte_pfn(e), nr, MMU_READ);
	}
}

// A dirty folio becomes clean only if nobody else could have made it so.
static bool clean_folio(const struct mapped *m)
{
	struct folio *folio = m->folio;
	bool ours;

	if (!folio_test_dirty(folio))
		return true;
	if (!folio_trylock(folio))
		return false;
	ours = folio_mapcount(folio) == (int)m->nr_entries;
	if (ours)
		folio_clear_dirty(folio);
	folio_unlock(folio);
	return ours;
}

static void free_lazily(struct advise *a, const struct mapped *m)
{
	if (folio_test_ksm(m->folio) || !clean_folio(m))
		return;
	if (m->bits & (PTE_YOUNG | PTE_DIRTY))
		change_entries(a, m, PTE_YOUNG | PTE_DIRTY | PTE_WRITE);
	folio_mark_lazyfree(m->folio);
}

static void isolate_for_reclaim(struct advise *a, struct folio *folio)
{
	folio_get(folio);
	if (!folio_test_unevictable(folio) && folio_isolate_lru(folio)) {
		folio_count_isolated(folio);
		folio_list_add_tail(&a->list, folio);
	}
	folio_put(folio);
}

static void make_cold(struct advise *a, const struct mapped *m)
{
	struct folio *folio = m->folio;

	if (a->what == FUTURE_COLD && m->bits & PTE_YOUNG)
		change_entries(a, m, PTE_YOUNG);
	folio_clear_referenced(folio);
	folio_clear_young(folio);
	if (folio_test_active(folio))
		folio_set_workingset(folio);
	if (a->what == FUTURE_PAGEOUT)
		isolate_for_reclaim(a, folio);
	else
		folio_deactivate(folio);
}

// The folio, mapped by the table that the gather holds, becomes small ones. The table is given up
// if it was tried at all.
static int split(struct advise *a, struct folio *folio)
{
	struct mm_core *mm = a->vma->space->mm;
	int err;

	if (folio_likely_mapped_shared(folio) || !mm->up.split_folio || !folio_trylock(folio))
		return -EBUSY;
	folio_get(folio);
	gather_release(&a->g);
	err = mm->up.split_folio(folio, NULL);
	folio_unlock(folio);
	folio_put(folio);
	return err;
}

// ---- A leaf of the PMD level

static void advise_whole_leaf(struct advise *a, const struct mapped *m)
{
	if (a->what != FUTURE_FREE) {
		make_cold(a, m);
		return;
	}
	if (!folio_trylock(m->folio))
		return;
	folio_clear_dirty(m->folio);
	folio_unlock(m->folio);
	free_lazily(a, m);
}

// true: there is a table, or may be one now.
static bool advise_leaf(struct advise *a, uint64_t addr, uint64_t next)
{
	struct page_table *pmd = gather_pmd_table(&a->g, a->vma->space, vaddr_of(addr));
	unsigned index = pmd_index(vaddr_of(addr));
	struct pte e = pmd ? table_entry(pmd, index) : (struct pte){0};

	if (!pte_huge(e))
		return !pte_none(e);
	if (!pte_present(e) || pte_zero_page(e))
		return false;
	struct mapped m = {pmd, index, PTRS_PER_TABLE, 1, addr, pfn_folio(pte_pfn(e)), e.v};
	if (next - addr != PMD_SIZE)
		return !split(a, m.folio) || a->what == FUTURE_FREE;
	if (!folio_likely_mapped_shared(m.folio))
		advise_whole_leaf(a, &m);
	return false;
}

// ---- Entries

// The page at addr, and those of its folio behind it, before `next`.
static bool find_mapped(struct page_table *table, uint64_t addr, uint64_t next,
	struct mapped *ret_mapped)
{
	unsigned index = pte_index(vaddr_of(addr));
	unsigned most = (unsigned)((next - addr) >> PAGE_SHIFT), nr = 1;
	struct pte e = table_entry(table, index);

	if (!pte_present(e) || pte_zero_page(e))
		return false;
	struct folio *folio = pfn_folio(pte_pfn(e));
	uint64_t first = pte_pfn(e).n, end = folio_pfn(folio).n + folio_nr(folio), bits = e.v;
	for (most = min(most, (unsigned)(end - first)); nr < most; nr++) {
		e = table_entry(table, index + nr);
		if (!pte_present(e) || pte_zero_page(e) || pte_pfn(e).n != first + nr)
			break;
		bits |= e.v;
	}
	*ret_mapped = (struct mapped){table, index, nr, nr, addr, folio, bits};
	return true;
}

// All of its pages are mapped here.
static void advise_folio(struct advise *a, const struct mapped *m)
{
	if (a->what == FUTURE_FREE)
		free_lazily(a, m);
	else if (folio_test_lru(m->folio) && folio_mapcount(m->folio) == (int)m->nr)
		make_cold(a, m);
}

static void advise_entries(struct advise *a, uint64_t addr, uint64_t next)
{
	while (addr < next) {
		struct page_table *table = gather_table(&a->g, a->vma->space, vaddr_of(addr));
		struct mapped m = {.nr = 1};

		if (!table)
			return;
		if (find_mapped(table, addr, next, &m)) {
			if (m.nr == folio_nr(m.folio))
				advise_folio(a, &m);
			else if (!split(a, m.folio))
				continue; // the same place, of small folios now
		}
		addr += m.nr * PAGE_SIZE;
	}
}
