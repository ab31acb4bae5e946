// SPDX-License-Identifier: MIT
// Zapping: taking the pages out of a range of addresses.
//
// Table by table, under its lock, in three steps: the entries are emptied (and remembered), the
// host loses its translations in one call, and only then are the pages given up: dirty marks
// passed on to their objects, mapcounts, resident counts and references dropped. A store that was
// in flight when the entry went is therefore in the page before its dirty mark is passed on, and
// no frame is free that the host could still reach.
//
//	entry			rss	rmap, reference
//	page			-	dropped
//	zero page
//	migration entry		-	the move under way finds nothing to restore; who waits for
//					it looks again
//	poison
//	device-private		-	dropped
//	huge leaf, huge migration entry: the same for 512 pages (hugetlb: no rss; of a folio that is
//	larger than a PMD the leaf of its first page has the mapcount and the reference, and all
//	its leaves go together)
//
// Locks: mmap_lock in any way, one page-table lock at a time. Subscribers are told before and
// after.
// What can fail: a huge entry that reaches out of the range and is refused to be split stays.
#include "base/assert.h"
#include "phys/lru.h"
#include "virt/fault.h"
#include "virt/object.h"
#include "virt/rmap.h"
#include "virt/rss.h"
#include "virt/vma.h"

// Consecutive entries of one folio.
struct run {
	struct folio *folio;
	unsigned first, nr; // pages of the folio
	bool dirty, young;
};

static void pass_on(const struct run *run)
{
	struct folio *folio = run->folio;

	if (run->dirty && !folio_test_anon(folio))
		folio_mark_dirty(folio);
	else if (run->dirty)
		folio_set_dirty(folio);
	if (run->young && !folio_test_anon(folio))
		folio_mark_accessed(folio);
}

static void drop_run(struct vma_walk *w, const struct run *run)
{
	if (!run->nr)
		return;
	pass_on(run);
	space_rss_add(w->vma->space, run->folio, -(long)run->nr);
	folio_remove_rmap(run->folio, run->first, run->nr);
	if (run->nr > 1)
		folio_put_many(run->folio, run->nr - 1);
	gather_put(&w->g, run->folio);
}

static void add_to_run(struct vma_walk *w, struct run *run, struct pte e)
{
	struct folio *folio = pfn_folio(pte_pfn(e));
	unsigned page = (unsigned)(pte_pfn(e).n - folio_pfn(folio).n);

	if (run->nr && (folio != run->folio || page != run->first + run->nr)) {
		drop_run(w, run);
		run->nr = 0;
	}
	if (!run->nr)
		*run = (struct run){.folio = folio, .first = page};
	run->nr++;
	run->dirty |= (e.v & PTE_DIRTY) != 0;
	run->young |= (e.v & PTE_YOUNG) != 0;
}

// The entries were emptied and the host agrees.
static void drop_entries(struct vma_walk *w, const struct pte *old, unsigned nr)
{
	struct run run = {0};

	for (unsigned i = 0; i < nr; i++) {
		struct pte e = old[i];
		if (pte_migration(e))
			space_rss_add(w->vma->space, pfn_folio(pte_pfn(e)), -1);
		else if ((pte_present(e) && !pte_zero_page(e)) || pte_kind(e) == PTE_DEVICE)
			add_to_run(w, &run, e);
	}
	drop_run(w, &run);
}

static void zap_table(struct vma_walk *w, struct page_table *table, uint64_t addr, unsigned nr)
{
	unsigned index = pte_index(vaddr_of(addr)), first = nr, end = 0;
	struct pte old[PTRS_PER_TABLE];

	for (unsigned i = 0; i < nr; i++) {
		old[i] = table_entry(table, index + i);
		if (pte_none(old[i]))
			continue;
		table_set_entry(table, index + i, (struct pte){0});
		first = min(first, i);
		end = i + 1;
	}
	if (first >= end)
		return;
	gather_clear(&w->g, vma_host(w->vma, addr + first * PAGE_SIZE), end - first);
	(void)gather_flush(&w->g); // a clear cannot fail
	drop_entries(w, old, nr);
}

static void drop_huge(struct vma_walk *w, uint64_t addr, struct pte e)
{
	struct folio *folio = pfn_folio(pte_pfn(e));
	struct run run = {folio, 0, PTRS_PER_TABLE, e.v & PTE_DIRTY, e.v & PTE_YOUNG};

	if (!folio_test_hugetlb(folio))
		space_rss_add(w->vma->space, folio, -(long)PTRS_PER_TABLE);
	if (!pte_present(e) || folio_pfn(folio).n != pte_pfn(e).n)
		return;
	pass_on(&run);
	if (folio_test_hugetlb(folio) && w->vma->space->mm->up.hugetlb_zap)
		w->vma->space->mm->up.hugetlb_zap(w->vma, addr, folio);
	folio_remove_rmap_pmd(folio);
	gather_put(&w->g, folio);
}

static void zap_huge(struct vma_walk *w, struct page_table *pmd, uint64_t addr)
{
	unsigned index = pmd_index(vaddr_of(addr));
	unsigned leaves = max(vma_page_size(w->vma) >> PMD_SHIFT, 1ul);
	struct pte e = table_entry(pmd, index);

	// All leaves of a larger page go with its first, before the page may.
	for (unsigned i = 0; i < leaves; i++) {
		table_set_entry(pmd, index + i, (struct pte){0});
		gather_clear(&w->g, vma_host(w->vma, addr + i * PMD_SIZE), PTRS_PER_TABLE);
	}
	(void)gather_flush(&w->g);
	if (vma_deposits(w->vma))
		page_table_free(w->vma->space, page_table_withdraw(w->vma->space, vaddr_of(addr)));
	if (!pte_zero_page(e) && pte_kind(e) != PTE_HWPOISON)
		drop_huge(w, addr, e);
}

int zap_pages(struct vma *vma, uint64_t start, uint64_t end)
{
	struct vma_walk w = {.huge = zap_huge, .pages = zap_table};
	struct mm_invalidation inv;

	assert_that(start >= vma->start && end <= vma->end, "zap [%#lx,%#lx) of [%#lx,%#lx)",
		(unsigned long)start, (unsigned long)end, (unsigned long)vma->start,
		(unsigned long)vma->end);
	mm_notify_start(&inv, vma->space, start, end, MM_INVALIDATE_UNMAP);
	int err = vma_walk(&w, vma, start, end);
	mm_notify_end(&inv);
	return err;
}

void zap_range(struct vma *vma, uint64_t start, uint64_t end)
{
	(void)zap_pages(vma, start, end);
}
