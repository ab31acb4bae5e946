// SPDX-License-Identifier: MIT
// Collecting the folios of a range that are on certain nodes, for mbind(2) and migrate_pages(2).
//
//   queue_pages_range()   walks the vmas and tables of a range; mmap_lock is held by the caller
//   queue_meet_stayed()   walks it again, for the addresses of what could not be migrated
//
// Each present page whose node matches is isolated onto the queue, or counted as failed: an entry
// that is being migrated by somebody else, a vma that cannot be migrated, a folio that somebody
// else isolated. A folio mapped by several spaces is passed over unless MOVE_ALL, and that is no
// failure. A large folio is met once for each of its entries, and counted once. Who asks why pages
// stay has each of these noted, and what is on no node at all (the zero page) when all that is not
// on certain nodes is looked for.
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

// Linux looks at it, and what stays there counts.
static bool counts(const struct page_queue *q, const struct vma *vma)
{
	return vma_migratable(vma) || (q->flags & MBIND_STRICT);
}

static void note_shared(struct page_queue *q, uint64_t addr, const struct folio *folio)
{
	char text[32];

	stayed_describe_shared(folio, text, sizeof text);
	stayed_add_folio(q->stayed, addr, folio, WHY_SHARED, text);
}

static void pass_over(struct page_queue *q, uint64_t addr, struct folio *folio)
{
	q->nr_shared += folio_nr(folio);
	if (q->stayed)
		note_shared(q, addr, folio);
}

static void refused(struct page_queue *q, uint64_t addr, struct folio *folio)
{
	q->nr_refused += folio_nr(folio);
	q->nr_failed++;
	if (q->stayed)
		stayed_doubt(q->stayed, addr, folio, why_not_isolated(folio));
}

static void isolate(struct page_queue *q, uint64_t addr, struct folio *folio)
{
	if (!(q->flags & MBIND_MOVE_ALL) && folio_likely_mapped_shared(folio))
		pass_over(q, addr, folio);
	else if (isolation_add(&q->isolation, folio))
		refused(q, addr, folio);
}

static void not_tried(struct page_queue *q, const struct vma *vma, enum migrate_why why)
{
	if (!counts(q, vma))
		return;
	if (q->failed == WHY_MOVED)
		q->failed = why;
	q->nr_failed++;
}

static void queue_folio(struct page_queue *q, struct vma *vma, uint64_t addr, struct folio *folio)
{
	const bool moves = q->flags & MOVES;
	const enum migrate_why why = moves ? WHY_NOT_MIGRATABLE : WHY_REFUSED;

	if (nodemask_test(q->nodes, folio_nid(folio)) == q->invert)
		return;
	if (folio_large(folio)) {
		if (q->large == folio)
			return;
		q->large = folio;
	}
	if (moves && vma_migratable(vma)) {
		isolate(q, addr, folio);
		return;
	}
	not_tried(q, vma, why);
	if (q->stayed)
		stayed_add_folio(q->stayed, addr, folio, why, NULL);
}

// Of an entry that is no page on a node. Where all that is not on the nodes is looked for, it is
// part of the answer.
static enum migrate_why why_no_folio(const struct page_queue *q, struct pte e)
{
	if (pte_migration(e))
		return WHY_MIGRATING;
	if (!q->invert || !(q->flags & MOVES))
		return WHY_MOVED;
	if (pte_kind(e) == PTE_DEVICE)
		return WHY_DEVICE;
	return pte_kind(e) == PTE_HWPOISON ? WHY_POISONED : WHY_ZERO_PAGE;
}

static void queue_no_folio(struct page_queue *q, struct vma *vma, uint64_t addr, struct pte e)
{
	enum migrate_why why;

	if (pte_migration(e))
		not_tried(q, vma, WHY_MIGRATING);
	if (!q->stayed || pte_none(e))
		return;
	why = why_no_folio(q, e);
	if (why != WHY_MOVED)
		stayed_add_entry(q->stayed, addr, e, why);
}

static void queue_entry(struct page_queue *q, struct vma *vma, uint64_t addr, struct pte e)
{
	if (q->meets)
		stayed_meet(q->stayed, addr, e);
	else if (pte_present(e) && !pte_zero_page(e))
		queue_folio(q, vma, addr, pfn_folio(pte_pfn(e)));
	else
		queue_no_folio(q, vma, addr, e);
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
			queue_entry(q, vma, addr, e);
		return q->nr_failed && asks_only(q) ? -EIO : 0;
	}
	for (; addr < end; addr += PAGE_SIZE) {
		queue_entry(q, vma, addr, table_entry(table, pte_index(vaddr_of(addr))));
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
	if (!counts(q, vma) && !q->stayed)
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

void queue_meet_stayed(struct page_queue *q, struct space *space, uint64_t start, uint64_t end)
{
	struct page_queue again = {.mm = q->mm, .flags = q->flags, .stayed = q->stayed};

	if (!q->stayed || !stayed_begin_walk(q->stayed))
		return;
	again.meets = true;
	read_lock(&space->mmap_lock);
	int err = queue_pages_range(&again, space, start, end);
	read_unlock(&space->mmap_lock);
	assert_that(!err, "a walk that only looks was refused");
	stayed_end_walk(q->stayed);
}
