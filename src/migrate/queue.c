// SPDX-License-Identifier: MIT
// Collecting the folios of a range that are on certain nodes, for mbind(2) and migrate_pages(2).
//
//   queue_pages_range()   walks the vmas and tables of a range; mmap_lock is held by the caller
//
// Each present page whose node matches is isolated onto the queue, or counted as failed: an entry
// that is being migrated by somebody else, a vma that cannot be migrated, a folio that somebody
// else isolated. A folio mapped by several spaces is passed over unless MOVE_ALL, and that is no
// failure. A large folio is met once for each of its entries, and counted once.
//
// Isolation happens under the page-table lock, which keeps the folio mapped.
#include "migrate/lookup.h"
#include "virt/mempolicy_calls.h"

#include <errno.h>

#define MOVES (MBIND_MOVE | MBIND_MOVE_ALL)

static bool asks_only(const struct page_queue *q)
{
	return (q->flags & (MBIND_STRICT | MOVES)) == MBIND_STRICT;
}

static bool isolate(struct page_queue *q, struct folio *folio)
{
	if (!(q->flags & MBIND_MOVE_ALL) && folio_likely_mapped_shared(folio)) {
		q->nr_shared += folio_nr(folio);
		return true;
	}
	if (!isolation_add(&q->isolation, folio))
		return true;
	q->nr_refused += folio_nr(folio);
	return false;
}

static void queue_folio(struct page_queue *q, struct vma *vma, struct folio *folio)
{
	if (nodemask_test(q->nodes, folio_nid(folio)) == q->invert)
		return;
	if (folio_large(folio)) {
		if (q->large == folio)
			return;
		q->large = folio;
	}
	if (!(q->flags & MOVES) || !vma_migratable(vma) || !isolate(q, folio))
		q->nr_failed++;
}

static void queue_entry(struct page_queue *q, struct vma *vma, struct pte e)
{
	if (pte_migration(e))
		q->nr_failed++;
	else if (pte_present(e) && !pte_zero_page(e))
		queue_folio(q, vma, pfn_folio(pte_pfn(e)));
}

// [addr, end) within one table. -EIO when there is no reason to go on.
static int queue_table(struct page_queue *q, struct vma *vma, uint64_t addr, uint64_t end)
{
	struct page_table *table = gather_table(&q->gather, vma->space, vaddr_of(addr));

	while (!table) {
		table = gather_pmd_table(&q->gather, vma->space, vaddr_of(addr));
		struct pte e = {0};
		if (table)
			e = table_entry(table, pmd_index(vaddr_of(addr)));
		if (pmd_entry_table(e)) { // a leaf when we looked first: split meanwhile
			table = gather_table(&q->gather, vma->space, vaddr_of(addr));
			continue;
		}
		if (pte_huge(e))
			queue_entry(q, vma, e);
		return q->nr_failed && asks_only(q) ? -EIO : 0;
	}
	for (; addr < end; addr += PAGE_SIZE) {
		queue_entry(q, vma, table_entry(table, pte_index(vaddr_of(addr))));
		if (q->nr_failed && asks_only(q))
			return -EIO;
	}
	return 0;
}

static int queue_vma(struct page_queue *q, struct vma *vma, uint64_t start, uint64_t end)
{
	int err = 0;

	if (!(q->flags & (MBIND_STRICT | MOVES)))
		return 0;
	if (!vma_migratable(vma) && !(q->flags & MBIND_STRICT))
		return 0;
	for (uint64_t next; !err && start < end; start = next) {
		next = min((start & PMD_MASK) + PMD_SIZE, end);
		err = queue_table(q, vma, start, next);
	}
	return err;
}

int queue_pages_range(struct page_queue *q, struct space *space, uint64_t start, uint64_t end)
{
	int err = 0;

	gather_init(&q->gather, space->mm);
	isolation_begin(&q->isolation, q->mm, &q->list);
	for (struct vma *vma = vma_find(space, start); !err && vma && vma->start < end;
		vma = vma_next(vma))
		err = queue_vma(q, vma, max(start, vma->start), min(end, vma->end));
	isolation_end(&q->isolation);
	(void)gather_finish(&q->gather);
	return err;
}
