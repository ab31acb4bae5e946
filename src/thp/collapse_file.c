// SPDX-License-Identifier: MIT
// Collapse of shared memory and files: 512 slots of an object's index hold one huge folio after it.
//
//	1  a look: at most max_ptes_none holes, every folio on the LRU, with no references but those
//	   of index and mappings (holes and references are asked again below)
//	2  mmap_lock is given up; a huge folio from the nodes that have most of the folios, locked
//	3  each folio, of whatever size: locked by trylock, isolated, unmapped everywhere, and then
//	   known to nobody but the index; its contents are copied, holes are zeros. From the
//	   unmapping on nobody can write to it: who finds it by the index waits for its lock, and
//	   then sees that it is the object's no more. A folio that refuses turns all of it back:
//	   folios are put back, faults map them again. Shared memory of which nothing is there (any
//	   more) is not made by a collapse
//	4  under i_pages: the slots hold the huge folio. No way back from here
//	5  tables of small entries over this range, where vmas map it whole, are empty now and go
//    away, so
//	   that the next fault maps a leaf
//
// Held by the caller: mmap_lock for reading, given up when the look says yes. Inside: folio locks
// (512 at once, by trylock but for the new one), rmap locks for reading, page tables, i_pages.
// Files: only such as were opened for reading alone (policy.c asks), so that nobody writes to them
// by this object. They have no holes: what is not cached yet is read between 2 and 3, while no
// lock is held, and what is missing after that, or dirty, or under writeback, turns it back.
//
// What can fail: every enum scan_result but success, with the object as it was before.
#include "thp/collapse.h"

#include "base/mark.h"
#include "base/vmstat.h"
#include "phys/lru.h"
#include "virt/fault.h"
#include "virt/gather.h"
#include "virt/object.h"
#include "virt/rmap.h"
#include "virt/rss.h"
#include "virt/vma.h"

#include <errno.h>
#include <string.h>

struct work {
	struct collapse *c;
	struct mm_core *mm;
	struct object *object;
	uint64_t pgoff;
	struct folio *new;
	struct folio *old[PTRS_PER_TABLE]; // of each slot: locked, isolated; NULL: a hole
	unsigned nr; // slots gone through
};

// ---- The look

static enum scan_result look_at_folio(struct collapse *c, struct object *object,
	struct folio *folio, uint64_t pgoff)
{
	if (folio_order(folio) == PMD_ORDER && folio_index(folio) == pgoff)
		return SCAN_PTE_MAPPED_HUGEPAGE;
	c->node_load[folio_nid(folio)]++;
	if (!folio_test_lru(folio))
		return SCAN_PAGE_LRU;
	// One reference is the look's own.
	if (folio_ref_count(folio) != folio_expected_ref_count(folio) + 1)
		return SCAN_PAGE_COUNT;
	return folio_object(folio) == object ? SCAN_SUCCEED : SCAN_TRUNCATED;
}

static bool is_file(const struct object *object)
{
	return object->ops->kind == OBJECT_FILE;
}

// All of the range lies in the file.
static bool within_file(const struct object *object, uint64_t pgoff)
{
	return pgoff + PTRS_PER_TABLE <= DIV_ROUND_UP(object->size, PAGE_SIZE);
}

static enum scan_result look(struct collapse *c, struct object *object, uint64_t pgoff,
	unsigned *ret_present)
{
	enum scan_result result = SCAN_SUCCEED;
	unsigned present = 0;

	for (unsigned i = 0; i < MAX_NODES; i++)
		c->node_load[i] = 0;
	for (unsigned i = 0, nr; i < PTRS_PER_TABLE && result == SCAN_SUCCEED; i += nr) {
		struct folio *folio = object_find(object, pgoff + i);

		nr = 1;
		if (!folio)
			continue;
		nr = (unsigned)folio_nr(folio);
		present += nr;
		result = look_at_folio(c, object, folio, pgoff);
		folio_put(folio);
	}
	*ret_present = present;
	if (result == SCAN_SUCCEED && c->khugepaged &&
		PTRS_PER_TABLE - present > thp_setting(c->thp, SET_MAX_PTES_NONE)) {
		vm_event(c->thp->mm->stat, VM_THP_SCAN_EXCEED_NONE_PTE);
		result = SCAN_EXCEED_NONE_PTE;
	}
	return result;
}

// ---- One folio

static bool unmap_here(const struct rmap_range *range, void *folio)
{
	folio_unmap_range(folio, range, MM_INVALIDATE_COLLAPSE);
	return true;
}

// Locked, with a reference of ours, which becomes the isolation's on success.
static enum scan_result take_locked(struct work *w, struct folio *folio, unsigned i)
{
	if (folio_object(folio) != w->object || folio_index(folio) != w->pgoff + i)
		return SCAN_TRUNCATED;
	if (!folio_test_uptodate(folio))
		return SCAN_FAIL;
	if (folio_test_writeback(folio))
		return SCAN_PAGE_COUNT;
	if (is_file(w->object) && folio_test_dirty(folio))
		return SCAN_FAIL;
	if (!folio_isolate_lru(folio))
		return SCAN_DEL_PAGE_LRU;
	folio_count_isolated(folio);
	(void)rmap_walk(folio, unmap_here, folio, false);
	// The index's, the isolation's, ours.
	if (!folio_mapped(folio) && folio_ref_count(folio) == folio_nr(folio) + 2) {
		folio_put(folio);
		return SCAN_SUCCEED;
	}
	folio_uncount_isolated(folio);
	folio_putback_lru(folio);
	return SCAN_PAGE_COUNT;
}

// Of slot i and those after it: what is there, and how many slots that is.
static enum scan_result take_folio(struct work *w, unsigned i, unsigned *ret_nr)
{
	struct folio *folio = object_find(w->object, w->pgoff + i);
	enum scan_result result;

	w->old[i] = NULL;
	*ret_nr = 1;
	if (!folio)
		return is_file(w->object) ? SCAN_FAIL : SCAN_SUCCEED;
	if (!folio_trylock(folio)) {
		folio_put(folio);
		return SCAN_PAGE_LOCK;
	}
	result = take_locked(w, folio, i);
	if (result == SCAN_SUCCEED) {
		*ret_nr = (unsigned)folio_nr(folio);
		for (unsigned k = 0; k < *ret_nr; k++)
			w->old[i + k] = folio;
		return result;
	}
	folio_unlock(folio);
	folio_put(folio);
	return result;
}

// The folio whose first slot this is; NULL: a hole, or a slot of the folio before.
static struct folio *old_folio(const struct work *w, unsigned i)
{
	return i && w->old[i] == w->old[i - 1] ? NULL : w->old[i];
}

static void copy_folio(struct work *w, unsigned i, unsigned nr)
{
	char *to = folio_bytes(w->mm, w->new, i);

	if (w->old[i])
		memcpy(to, folio_bytes(w->mm, w->old[i], 0), nr * PAGE_SIZE);
	else
		memset(to, 0, nr * PAGE_SIZE);
}

// What of a file is not cached yet; nothing is locked.
static enum scan_result read_pages(struct work *w)
{
	struct folio *folio;

	if (!is_file(w->object))
		return SCAN_SUCCEED;
	if (!within_file(w->object, w->pgoff))
		return SCAN_FAIL;
	for (unsigned i = 0; i < PTRS_PER_TABLE; i++) {
		if (object_get_folio(w->object, NULL, w->pgoff + i, &folio))
			return SCAN_FAIL;
		folio_put(folio);
	}
	return SCAN_SUCCEED;
}

// ---- All of them

static void put_back(struct work *w)
{
	for (unsigned i = w->nr; i-- > 0;) {
		struct folio *folio = old_folio(w, i);

		if (!folio)
			continue;
		folio_unlock(folio);
		folio_uncount_isolated(folio);
		folio_putback_lru(folio);
	}
}

// The old pages have lost their slots; who waits for their locks still has a reference.
static void drop_old(struct work *w)
{
	for (unsigned i = PTRS_PER_TABLE; i-- > 0;) {
		struct folio *folio = old_folio(w, i);

		if (!folio)
			continue;
		(void)folio_test_clear_dirty(folio);
		folio_unlock(folio);
		folio_uncount_isolated(folio);
		folio_put_many(folio, (unsigned)folio_nr(folio) + 1);
	}
	// Nothing but this folio has the contents of shared memory.
	if (!is_file(w->object))
		folio_mark_dirty(w->new);
	folio_add_lru(w->new);
}

static enum scan_result fill_slots(struct work *w)
{
	int err;

	folio_set_uptodate(w->new);
	err = object_collapse_folios(w->object, w->pgoff, w->old, w->new);
	return err == -EEXIST ? SCAN_PAGE_FILLED : err ? SCAN_STORE_FAILED : SCAN_SUCCEED;
}

static bool is_empty(const struct work *w)
{
	return !is_file(w->object) && !object_resident(w->object, w->pgoff, PTRS_PER_TABLE, NULL);
}

static enum scan_result replace(struct work *w)
{
	enum scan_result result = is_empty(w) ? SCAN_TRUNCATED : SCAN_SUCCEED;
	unsigned nr;

	for (w->nr = 0; w->nr < PTRS_PER_TABLE && result == SCAN_SUCCEED;) {
		result = take_folio(w, w->nr, &nr);
		if (result == SCAN_SUCCEED) {
			copy_folio(w, w->nr, nr);
			w->nr += nr;
		}
	}
	if (result == SCAN_SUCCEED)
		result = fill_slots(w);
	if (result != SCAN_SUCCEED) {
		MARK(collapse_file_turned_back);
		put_back(w);
		return result;
	}
	drop_old(w);
	return SCAN_SUCCEED;
}

// ---- Tables that only small entries needed

static void retract_table(const struct vma *vma, uint64_t haddr)
{
	page_tables_free_range(vma->space, vaddr_of(haddr), vaddr_of(haddr + PMD_SIZE));
}

static bool retract_here(const struct rmap_range *range, void *arg)
{
	(void)arg;
	if (range->nr_pages == PTRS_PER_TABLE && !(range->addr & ~PMD_MASK))
		retract_table(range->vma, range->addr);
	return true;
}

// ---- A leaf for the caller of MADV_COLLAPSE

// Does a table of small entries map pages of the folio alone?
static enum scan_result look_at_entries(struct vma *vma, uint64_t haddr, const struct folio *folio)
{
	struct page_table *table = pte_table_lock(vma->space, vaddr_of(haddr));
	enum scan_result result = SCAN_SUCCEED;

	for (unsigned i = 0; table && i < PTRS_PER_TABLE && result == SCAN_SUCCEED; i++) {
		struct pte e = table_entry(table, i);

		if (!pte_none(e) && !pte_present(e))
			result = SCAN_PTE_NON_PRESENT;
		else if (pte_present(e) && pte_pfn(e).n != folio_pfn(folio).n + i)
			result = SCAN_FAIL; // a private copy, say
	}
	if (table)
		page_table_unlock(table);
	return result;
}

// The folio is locked. Small entries that map it go, but only if no others would stay.
static enum scan_result make_room(struct vma *vma, uint64_t haddr, struct folio *folio)
{
	const struct rmap_range range = {vma, haddr, 0, PTRS_PER_TABLE};
	enum scan_result result;

	if (folio_object(folio) != vma->object)
		return SCAN_PAGE_NULL;
	if (folio_order(folio) != PMD_ORDER || folio_index(folio) != vma_pgoff(vma, haddr))
		return SCAN_PAGE_COMPOUND;
	result = collapse_pmd_state(vma->space, haddr);
	if (result == SCAN_PMD_NONE)
		return SCAN_SUCCEED;
	if (result == SCAN_SUCCEED)
		result = look_at_entries(vma, haddr, folio);
	if (result != SCAN_SUCCEED)
		return result;
	folio_unmap_range(folio, &range, MM_INVALIDATE_COLLAPSE);
	retract_table(vma, haddr);
	return SCAN_SUCCEED; // if entries have come back meanwhile there will be no leaf
}

// Where the task has no table of PMD entries yet, there is nothing to put a leaf into: the object
// is huge, but the call fails.
enum scan_result collapse_map_object(struct vma *vma, uint64_t haddr)
{
	enum scan_result result = collapse_pmd_state(vma->space, haddr);

	if (result == SCAN_PMD_MAPPED)
		return result;
	struct folio *folio = object_find(vma->object, vma_pgoff(vma, haddr));
	if (!folio)
		return SCAN_PAGE_NULL; // truncated meanwhile
	folio_lock(folio);
	result = make_room(vma, haddr, folio);
	folio_unlock(folio);
	folio_put(folio);
	if (result == SCAN_SUCCEED && thp_object_fault(vma, NULL, haddr, false, false) <= 0)
		result = collapse_pmd_state(vma->space, haddr) == SCAN_PMD_MAPPED
			? SCAN_PMD_MAPPED : SCAN_FAIL;
	return result;
}

static enum scan_result collapse_object(struct collapse *c, struct object *object, uint64_t pgoff)
{
	struct work *w = meta_new(struct work);
	enum scan_result result;

	if (!w)
		return SCAN_FAIL;
	*w = (struct work){.c = c, .mm = object->mm, .object = object, .pgoff = pgoff};
	result = collapse_alloc(c, &w->new);
	if (result == SCAN_SUCCEED) {
		result = read_pages(w);
		folio_lock(w->new);
		if (result == SCAN_SUCCEED)
			result = replace(w);
		if (result == SCAN_SUCCEED)
			(void)rmap_walk(w->new, retract_here, NULL, false);
		folio_unlock(w->new);
		folio_put(w->new); // the index has its own
	}
	meta_delete(w);
	return result;
}

NO_THREAD_SAFETY_ANALYSIS enum scan_result collapse_scan_object(
	struct collapse *c, struct vma *vma, uint64_t haddr, bool *ret_locked)
{
	struct space *space = vma->space;
	struct object *object = vma->object;
	uint64_t pgoff = vma_pgoff(vma, haddr);
	unsigned present;
	enum scan_result result = look(c, object, pgoff, &present);

	*ret_locked = true;
	trace_event(space->mm->trace, mm_khugepaged_scan_file, .mm = space->id,
		.filename = object->name ? object->name : "", .present = present, .swap = 0,
		.result = result);
	if (result == SCAN_PTE_MAPPED_HUGEPAGE &&
		collapse_pmd_state(space, haddr) == SCAN_PMD_MAPPED)
		return SCAN_PMD_MAPPED;
	if (result != SCAN_SUCCEED)
		return result;
	object_get(object);
	*ret_locked = false;
	read_unlock(&space->mmap_lock);
	result = collapse_object(c, object, pgoff);
	trace_event(space->mm->trace, mm_khugepaged_collapse_file, .mm = space->id,
		.index = pgoff, .addr = haddr, .is_shmem = !is_file(object),
		.filename = object->name ? object->name : "", .nr = PTRS_PER_TABLE,
		.result = result);
	object_put(object);
	return result;
}
