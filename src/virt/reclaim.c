// SPDX-License-Identifier: MIT
// Reclaim: what becomes of a page that is looked at, first match.
//
//	                         an allocation needs memory      MADV_PAGEOUT
//	locked, under writeback  stays                           stays
//	anonymous                stays, active                   stays, active (there is no swap)
//	mapped                   stays, active                   unmapped everywhere, goes on below
//	shared memory            -                               stays, active
//	dirty                    written, goes on when clean     stays, active (left for a sync)
//	clean, unused            dropped                         dropped
//
// Folios are looked at isolated (off the LRU, a reference), locked by trylock, and put back when
// they stay. Unmapping passes an entry's dirty bit on to the folio: nothing unwritten is dropped.
// Pages in locked memory (VM_LOCKED) and large folios are not unmapped.
//
// Held: reclaim_direct() may be called with mmap_lock and folio locks held (they are only tried
// here), but not under rmap locks; reclaim_pageout() has mmap_lock.
// Fails: never; it frees less.
#include "virt/reclaim.h"

#include "base/vmstat.h"
#include "phys/alloc.h"
#include "phys/lru.h"
#include "virt/gather.h"
#include "virt/mm.h"
#include "virt/object.h"
#include "virt/rmap.h"
#include "virt/rss.h"
#include "virt/space.h"

#define RECLAIM_BATCH 32

enum verdict { STAYS, STAYS_ACTIVE, DROPPED };

struct reclaim {
	struct mm_core *mm;
	bool may_unmap;
	bool may_write;
};

// ---- Unmapping

static bool unmap_one(const struct rmap_range *range, void *arg)
{
	struct folio *folio = arg;
	struct vma *vma = range->vma;
	struct vaddr addr = vaddr_of(range->addr);
	struct gather g;
	struct mm_invalidation inv;

	if (vma->flags & VM_LOCKED)
		return false;
	mm_notify_start(&inv, vma->space, addr.a, addr.a + PAGE_SIZE, MM_INVALIDATE_UNMAP);
	gather_init(&g, vma->space->mm);
	struct page_table *table = gather_table(&g, vma->space, addr);
	struct pte e = table ? table_entry(table, pte_index(addr)) : (struct pte){0};
	if (pte_present(e) && !pte_zero_page(e) && pte_pfn(e).n == folio_pfn(folio).n) {
		table_set_entry(table, pte_index(addr), (struct pte){0});
		gather_clear(&g, vma_host(vma, addr.a), 1);
		if (e.v & PTE_DIRTY)
			folio_mark_dirty(folio);
		folio_remove_rmap(folio, 0, 1);
		space_rss_add(vma->space, folio, -1);
		gather_put(&g, folio);
	}
	(void)gather_finish(&g);
	mm_notify_end(&inv);
	return true;
}

static bool unmap_all(struct folio *folio)
{
	if (!folio_large(folio))
		(void)rmap_walk(folio, unmap_one, folio, false);
	return !folio_mapped(folio);
}

// ---- One folio

// Locked, isolated.
static enum verdict judge(struct reclaim *r, struct folio *folio)
{
	struct object *object = folio_object(folio);

	if (folio_test_writeback(folio) || folio_test_unevictable(folio))
		return STAYS;
	if (!object)
		return STAYS_ACTIVE;
	if (folio_mapped(folio) && !(r->may_unmap && unmap_all(folio)))
		return STAYS_ACTIVE;
	if (object->ops->kind != OBJECT_FILE)
		return STAYS_ACTIVE;
	if (folio_test_dirty(folio)) {
		if (r->may_unmap)
			return STAYS_ACTIVE;
		if (!r->may_write || !object->ops->write_folio ||
			object->ops->write_folio(object, folio))
			return STAYS;
	}
	return object_drop_folio(object, folio) ? DROPPED : STAYS;
}

// Isolated and counted; afterwards it is neither. Returns pages freed.
static unsigned long shrink_folio(struct reclaim *r, struct folio *folio)
{
	unsigned long nr = folio_nr(folio);
	enum verdict verdict = STAYS;

	if (folio_trylock(folio)) {
		verdict = judge(r, folio);
		folio_unlock(folio);
	}
	folio_uncount_isolated(folio);
	if (verdict == DROPPED) {
		folio_put(folio);
		return nr;
	}
	if (verdict == STAYS_ACTIVE && !folio_test_set_active(folio))
		vm_events(r->mm->stat, VM_PGACTIVATE, (long)nr);
	folio_putback_lru(folio);
	return 0;
}

static unsigned long shrink_list(struct reclaim *r, struct folio_list *list)
{
	unsigned long freed = 0;
	struct folio *folio;

	while ((folio = folio_list_pop(list)))
		freed += shrink_folio(r, folio);
	return freed;
}

// ---- When an allocation fails

static unsigned long isolate(struct node *node, enum lru_list lru, struct folio_list *list)
{
	unsigned long pages = node_isolate_lru(node, lru, RECLAIM_BATCH, NULL, NULL, list);
	struct folio *folio;

	for_each_folio(folio, list)
		folio_count_isolated(folio);
	return pages;
}

// The oldest active ones become inactive.
static unsigned long age_active(struct reclaim *r, struct node *node)
{
	struct folio_list list = {0};
	unsigned long pages = isolate(node, LRU_ACTIVE_FILE, &list);
	struct folio *folio;

	while ((folio = folio_list_pop(&list))) {
		folio_clear_active(folio);
		folio_set_workingset(folio);
		folio_uncount_isolated(folio);
		folio_putback_lru(folio);
	}
	vm_events(r->mm->stat, VM_PGDEACTIVATE, (long)pages);
	return pages;
}

// Look at each page of the node's inactive list at most once.
static unsigned long shrink_node(struct reclaim *r, struct node *node, unsigned long want)
{
	unsigned long scanned = 0, freed = 0;
	unsigned long limit = node->lru.nr[LRU_INACTIVE_FILE] + node->lru.nr[LRU_ACTIVE_FILE];

	while (freed < want && scanned < limit) {
		struct folio_list list = {0};
		unsigned long pages = isolate(node, LRU_INACTIVE_FILE, &list);

		if (!pages && !age_active(r, node))
			break;
		scanned += pages;
		freed += shrink_list(r, &list);
	}
	vm_events(r->mm->stat, VM_PGSCAN_DIRECT, (long)scanned);
	vm_events(r->mm->stat, VM_PGSCAN_FILE, (long)scanned);
	vm_events(r->mm->stat, VM_PGSTEAL_DIRECT, (long)freed);
	vm_events(r->mm->stat, VM_PGSTEAL_FILE, (long)freed);
	return freed;
}

unsigned long reclaim_direct(struct mm_core *mm, gfp_t gfp, unsigned order, int nid,
	const struct nodemask *allowed)
{
	struct reclaim r = {mm, false, (gfp & (GFP_IO | GFP_FS)) == (GFP_IO | GFP_FS)};
	unsigned long want = max(1ul << order, (unsigned long)RECLAIM_BATCH), freed = 0;
	struct node *start = phys_node(mm->phys, nid < 0 ? 0 : (unsigned)nid), *last = NULL;
	const struct zonelist *zones = gfp & GFP_THISNODE ? &start->nofallback : &start->fallback;
	unsigned saved = memalloc_save();

	for (unsigned i = 0; i < zones->nr && freed < want; i++) {
		struct node *node = zones->zone[i]->node;
		if (node == last || (allowed && !nodemask_test(*allowed, node->nid)))
			continue;
		last = node;
		freed += shrink_node(&r, node, want - freed);
	}
	memalloc_restore(saved);
	return freed;
}

// ---- MADV_PAGEOUT

// The page of an entry, isolated, if it is this vma's alone.
static struct folio *isolate_mapped(struct pte e)
{
	if (!pte_present(e) || pte_zero_page(e))
		return NULL;
	struct folio *folio = folio_try_get_frame(pfn_frame(pte_pfn(e)));
	if (!folio)
		return NULL;
	bool isolated = !folio_large(folio) && folio_mapcount(folio) == 1 &&
			!folio_test_unevictable(folio) && folio_isolate_lru(folio);
	if (isolated) {
		folio_count_isolated(folio);
		folio_clear_referenced(folio);
	}
	folio_put(folio);
	return isolated ? folio : NULL;
}

static void isolate_range(struct vma *vma, uint64_t start, uint64_t end, struct folio_list *list)
{
	struct page_table *table = pte_table_lock(vma->space, vaddr_of(start));

	if (!table)
		return;
	for (uint64_t addr = start; addr < end; addr += PAGE_SIZE) {
		struct folio *folio = isolate_mapped(table_entry(table, pte_index(vaddr_of(addr))));
		if (folio)
			folio_list_add_tail(list, folio);
	}
	page_table_unlock(table);
}

unsigned long reclaim_pageout(struct vma *vma, uint64_t start, uint64_t end)
{
	struct reclaim r = {vma->space->mm, true, false};
	unsigned long freed = 0;

	for (uint64_t next; start < end; start = next) {
		struct folio_list list = {0};

		next = min((start & PMD_MASK) + PMD_SIZE, end);
		isolate_range(vma, start, next, &list);
		freed += shrink_list(&r, &list);
	}
	return freed;
}
