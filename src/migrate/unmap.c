// SPDX-License-Identifier: MIT
// Unmapping: every entry that maps a folio becomes a migration entry, and the accessors of these
// addresses are stopped. Writers always; readers too when a page is mapped at several addresses,
// because the new frame would be written through one of them while another still shows the old.
//
//   slot_unmap()  folio locked; afterwards no mapping is left, or -EAGAIN and all of them are back
//
// At each place, under the page-table lock: a page that is exclusive to its space must not be
// pinned (else the walk stops), the entry is replaced, the host's block is queued, the dirty bit
// goes to the folio, mapcount and reference go. The set of pages resident in the space is not
// reduced: the page comes back at the same address. A poisoned page gets a poison entry, which
// does not come back.
//
// The block is issued when the session changes tables or ends, before its table is unlocked; so no
// accessor can be in a state that the entry does not tell. It may fail then: slot->tentative says
// that this slot's block was not seen to succeed yet.
//
// A PMD leaf becomes one migration entry of the PMD level. A folio mapped by entries is handled
// page by page within its tables.
#include "base/mark.h"
#include "base/trace.h"
#include "machine/clock.h"
#include "migrate/batch.h"
#include "virt/object.h"
#include "virt/rss.h"
#include "virt/space.h"

#include <errno.h>

struct unmap {
	struct mapper *m;
	struct slot *slot;
	bool readers; // must be stopped too
};

// One entry, or one leaf of the PMD level, that maps page `page` of the folio.
struct place {
	struct vma *vma;
	uint64_t addr;
	struct page_table *table;
	unsigned index;
	unsigned page;
	struct pte entry;
};

static unsigned place_pages(const struct place *p)
{
	return pte_huge(p->entry) ? PTRS_PER_TABLE : 1;
}

// A transparent huge leaf waits like any other: its copy finds the poison and turns back.
static bool leaves_poison(const struct unmap *u, const struct place *p, const struct frame *frame)
{
	return unlikely(frame_test_hwpoison(frame)) &&
	       (!pte_huge(p->entry) || folio_test_hugetlb(u->slot->src));
}

static void poison(struct unmap *u, const struct place *p)
{
	unsigned nr = place_pages(p);

	MARK(migrate_unmap_poisoned);
	table_set_entry(p->table, p->index,
		pte_make(pte_pfn(p->entry), PTE_HWPOISON | (p->entry.v & PTE_HUGE)));
	gather_clear(u->m->now, vma_host(p->vma, p->addr), nr);
	if (!folio_test_hugetlb(u->slot->src))
		space_rss_add(p->vma->space, u->slot->src, -(long)nr);
}

// Where the host permits nothing there is nobody to stop, and what it shows goes.
static void block(struct unmap *u, const struct place *p)
{
	struct batch *b = u->m->batch;
	uintptr_t at = vma_host(p->vma, p->addr);
	unsigned nr = place_pages(p);

	if (vma_pte_prot(p->vma, p->entry) == MMU_NONE) {
		gather_clear(u->m->now, at, nr);
		return;
	}
	if (!b->blocked_at)
		b->blocked_at = clock_now_ns(b->mc->mm->clock);
	b->blocked_pages += nr;
	u->slot->tentative = true;
	gather_block(u->m->now, at, pte_pfn(p->entry), nr, u->readers);
}

static void install(struct unmap *u, const struct place *p, struct pte entry)
{
	struct trace_ring *trace = u->m->batch->mc->mm->trace;

	table_set_entry(p->table, p->index, entry);
	block(u, p);
	if (pte_huge(p->entry))
		trace_event(trace, set_migration_pmd, .addr = p->addr, .pmd = entry.v);
	else if (!u->m->at_once) // Linux freezes the entries of a leaf without an event
		trace_event(trace, set_migration_pte, .addr = p->addr, .pte = entry.v,
			.order = folio_order(u->slot->src));
}

// nr pages are not mapped here any more. Linux takes one after the other, so that a large folio
// with an entry for each page seems to be partially mapped from the first to the last, and is noted
// as such; the last by itself has the same effect.
static void drop_mappings(struct unmap *u, unsigned page, unsigned nr, bool dirty)
{
	struct folio *src = u->slot->src;

	if (!nr)
		return;
	if (dirty && !folio_test_dirty(src))
		folio_mark_dirty(src);
	if (nr > 1 && !u->m->at_once) {
		folio_remove_rmap(src, page, nr - 1);
		folio_remove_rmap(src, page + nr - 1, 1);
	} else {
		folio_remove_rmap(src, page, nr);
	}
	folio_put_many(src, nr);
}

static void drop_leaf(struct folio *src, bool dirty)
{
	if (dirty && !folio_test_dirty(src))
		folio_mark_dirty(src);
	folio_remove_rmap_pmd(src);
	folio_put(src);
}

// false: the page is pinned, and the walk ends.
static bool replace_entry(struct unmap *u, const struct place *p)
{
	struct folio *src = u->slot->src;
	struct frame *frame = folio_frame(src, p->page);
	bool exclusive = folio_test_anon(src) && frame_test_anon_exclusive(frame);

	if (exclusive && folio_try_share_anon(src, p->page)) {
		MARK(migrate_unmap_pinned);
		u->slot->why = WHY_PINNED;
		return false;
	}
	if (leaves_poison(u, p, frame))
		poison(u, p);
	else
		install(u, p, migration_entry_make(p->entry, exclusive));
	return true;
}

// nr pages from addr, all in one table.
static bool unmap_entries(struct unmap *u, struct vma *vma, uint64_t addr, unsigned page,
	unsigned nr)
{
	struct page_table *table = mapper_table(u->m, vma->space, addr);
	struct folio *src = u->slot->src;
	bool dirty = false, go_on = true;
	unsigned gone = 0;

	for (unsigned i = 0; table && go_on && i < nr; i++, addr += PAGE_SIZE) {
		unsigned index = pte_index(vaddr_of(addr));
		struct place p = {vma, addr, table, index, page + i, table_entry(table, index)};

		go_on = !pte_maps(p.entry, src, p.page) || replace_entry(u, &p);
		if (go_on && pte_maps(p.entry, src, p.page)) {
			dirty |= p.entry.v & PTE_DIRTY;
			gone++;
			continue;
		}
		drop_mappings(u, page + i - gone, gone, dirty);
		gone = 0;
	}
	drop_mappings(u, page + nr - gone, gone, dirty);
	return go_on;
}

// The same for a leaf of the PMD level: 1 done, 0 there is none, -1 pinned.
static int unmap_leaf(struct unmap *u, struct vma *vma, uint64_t addr, unsigned page)
{
	struct page_table *table = mapper_pmd_table(u->m, vma->space, addr);
	unsigned index = pmd_index(vaddr_of(addr));

	if (!table)
		return 0;
	struct place p = {vma, addr, table, index, page, table_entry(table, index)};
	if (!pte_huge(p.entry) || !pte_maps(p.entry, u->slot->src, page))
		return 0;
	if (!replace_entry(u, &p))
		return -1;
	if (!page) // the first leaf of a larger page of a pool stands for it
		drop_leaf(u->slot->src, p.entry.v & PTE_DIRTY);
	return 1;
}

static bool unmap_range(struct unmap *u, const struct rmap_range *r)
{
	uint64_t addr = r->addr;
	unsigned page = r->first_page, left = r->nr_pages;

	while (left) {
		unsigned nr = min(left, PTRS_PER_TABLE - pte_index(vaddr_of(addr)));
		int leaf = nr == PTRS_PER_TABLE ? unmap_leaf(u, r->vma, addr, page) : 0;

		if (leaf < 0 || (!leaf && !unmap_entries(u, r->vma, addr, page, nr)))
			return false;
		addr += nr * PAGE_SIZE;
		page += nr;
		left -= nr;
	}
	return true;
}

// The common case: one page, nobody listens.
static bool unmap_page(struct unmap *u, const struct rmap_range *r)
{
	struct page_table *table = mapper_table(u->m, r->vma->space, r->addr);
	unsigned index = pte_index(vaddr_of(r->addr));

	if (!table)
		return true;
	struct place p = {r->vma, r->addr, table, index, r->first_page, table_entry(table, index)};
	if (!pte_maps(p.entry, u->slot->src, p.page))
		return true;
	if (!replace_entry(u, &p))
		return false;
	drop_mappings(u, p.page, 1, p.entry.v & PTE_DIRTY);
	return true;
}

static bool unmap_one(const struct rmap_range *r, void *arg)
{
	struct unmap *u = arg;
	struct space *space = r->vma->space;
	uint64_t end = r->addr + r->nr_pages * PAGE_SIZE;
	struct mm_invalidation inv;
	bool notify, go_on;

	notify = mm_notify_begin(&inv, space, r->addr, end, MM_INVALIDATE_MIGRATE);
	if (r->nr_pages == 1 && !notify && !u->m->keep_nothing) {
		go_on = unmap_page(u, r);
	} else {
		if (notify) {
			mapper_release_tables(u->m);
			mm_notify_tell(&inv);
		}
		go_on = unmap_range(u, r);
		if (notify || u->m->keep_nothing)
			mapper_release_tables(u->m);
	}
	mm_notify_end(&inv);
	return go_on && folio_mapped(u->slot->src);
}

static bool mapped_twice(struct folio *folio)
{
	if (folio_mapcount(folio) <= 1)
		return false;
	for (unsigned long i = 0; i < folio_nr(folio); i++)
		if (frame_mapcount(folio_frame(folio, i)) > 1)
			return true;
	return false;
}

int slot_unmap(struct mapper *m, struct slot *slot)
{
	struct unmap u = {.m = m, .slot = slot, .readers = mapped_twice(slot->src)};

	slot->was_mapped = true;
	slot->why = WHY_STILL_MAPPED;
	mapper_walk(m, slot->src, unmap_one, &u);
	if (!folio_mapped(slot->src))
		return 0;
	return -EAGAIN;
}
