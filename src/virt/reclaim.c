// SPDX-License-Identifier: MIT
// Reclaim: what becomes of a page that is looked at, first match.
//
//	                         an allocation needs memory      MADV_PAGEOUT
//	locked, under writeback  stays                           stays
//	given up by MADV_FREE    dropped, if clean still         dropped, if clean still
//	anonymous                stays, active                   large: split; stays, active (there
//	                                                         is no swap)
//	mapped                   stays, active                   unmapped everywhere, goes on below
//	shared memory            -                               stays, active
//	dirty                    written, goes on when clean     stays, active (left for a sync)
//	clean, unused            dropped                         dropped
//
// Folios are looked at isolated (off the LRU, a reference), locked by trylock, and put back when
// they stay. Unmapping passes an entry's dirty bit on to the folio: nothing unwritten is dropped.
// Pages in locked memory (VM_LOCKED) are not unmapped.
//
// Held: reclaim_direct() may be called with mmap_lock and folio locks held (they are only tried
// here), but not under rmap locks; reclaim_pages() has mmap_lock.
// Fails: never; it frees less.
#include "virt/reclaim.h"

#include "base/vmstat.h"
#include "phys/alloc.h"
#include "phys/lru.h"
#include "phys/zone.h"
#include "virt/mm.h"
#include "virt/object.h"
#include "virt/rmap.h"
#include "virt/space.h"

#define RECLAIM_BATCH 32

enum verdict { STAYS, STAYS_ACTIVE, DROPPED };

struct reclaim {
	struct mm_core *mm;
	struct folio_list *list; // still to be looked at
	bool may_unmap;
	bool may_write;
};

// ---- Unmapping

static bool unmap_one(const struct rmap_range *range, void *folio)
{
	if (range->vma->flags & VM_LOCKED)
		return false;
	folio_split_leaves(folio, range);
	folio_unmap_range(folio, range, MM_INVALIDATE_UNMAP);
	return true;
}

static bool unmap_all(struct folio *folio)
{
	(void)rmap_walk(folio, unmap_one, folio, false);
	return !folio_mapped(folio);
}

// ---- One folio

// There is nowhere to write it to; only the pieces of a large one could be looked at singly.
static enum verdict judge_anon(struct reclaim *r, struct folio *folio)
{
	bool partial = folio_test_partially_mapped(folio);
	unsigned order = folio_order(folio);

	if (!folio_test_swapbacked(folio) && !folio_test_ksm(folio))
		return reclaim_lazyfree(folio, !r->may_unmap) ? DROPPED : STAYS_ACTIVE;
	if (!r->may_unmap || !order || !r->mm->up.split_folio)
		return STAYS_ACTIVE;
	if (folio_maybe_pinned(folio))
		return STAYS;
	if (folio_ref_count(folio) == folio_expected_ref_count(folio) + 1 &&
		!r->mm->up.split_folio(folio, r->list) && !partial) {
		size_stat_add(&r->mm->phys->sizes, order, STAT_SWPOUT_FALLBACK, 1);
		if (order == PMD_ORDER)
			vm_event(r->mm->stat, VM_THP_SWPOUT_FALLBACK);
	}
	return STAYS_ACTIVE;
}

// Locked, isolated.
static enum verdict judge(struct reclaim *r, struct folio *folio)
{
	struct object *object = folio_object(folio);

	if (folio_test_writeback(folio) || folio_test_unevictable(folio))
		return STAYS;
	if (folio_test_anon(folio))
		return judge_anon(r, folio);
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
	enum verdict verdict = STAYS;
	bool file = folio_is_file_lru(folio);
	unsigned long nr;

	if (folio_trylock(folio)) {
		verdict = judge(r, folio);
		folio_unlock(folio);
	}
	nr = folio_nr(folio); // the other pieces, if any, are counted with theirs
	node_add_isolated(r->mm->phys, folio_nid(folio), file, -(long)nr);
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

	r->list = list;
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
	struct reclaim r = {
		.mm = mm,
		.may_write = (gfp & (GFP_IO | GFP_FS)) == (GFP_IO | GFP_FS),
	};
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

void reclaim_pages(struct mm_core *mm, struct folio_list *list)
{
	struct reclaim r = {.mm = mm, .may_unmap = true};
	struct folio *folio;

	for_each_folio(folio, list)
		folio_clear_active(folio);
	(void)shrink_list(&r, list);
}
