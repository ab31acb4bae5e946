// SPDX-License-Identifier: MIT
// Dirty pages and their way to the file.
//
//	clean --folio_mark_dirty--> DIRTY --folio_clear_dirty_for_io, folio_start_writeback-->
//	WRITEBACK --folio_end_writeback--> clean          (or DIRTY again, when a store came since,
//	                                                    or when the write failed)
//
// A store must never be lost: either it is in what is written, or the page is dirty afterwards.
// A fault makes the entry writable (with PTE_DIRTY, which whoever unmaps it passes on) first and
// marks the page second. Here DIRTY is taken away first and the entries are made read-only second:
// a store that slips in between is seen by the write that follows, one that comes after it faults
// and marks the page again.
//
// Tags in the index say the same as the flags: DIRTY is set with the flag and cleared when the
// write starts, WRITEBACK is set from start to end. Only files count nr_dirty and friends; shared
// memory and anonymous folios have just the flag.
//
// Held: folio locks where the header says; i_pages inside; cleaning entries takes the rmap and
// page-table locks. Fails: writing (-EIO), remembered in object->error until object_sync() tells.
#include "virt/writeback.h"

#include "base/assert.h"
#include "base/vmstat.h"
#include "virt/gather.h"
#include "virt/mm.h"
#include "virt/page_index.h"
#include "virt/rmap.h"
#include "virt/space.h"

#include <errno.h>

// ---- Counting and tagging

static bool is_file(const struct object *object)
{
	return object && object->ops->kind == OBJECT_FILE;
}

static void count(struct object *object, const struct folio *folio, enum vmstat_item item,
	int sign)
{
	vmstat_add(object->mm->stat, folio_nid(folio), item, sign * (long)folio_nr(folio));
}

void folio_count_dirty(struct object *object, const struct folio *folio, int sign)
{
	if (!is_file(object))
		return;
	count(object, folio, VM_NR_DIRTY, sign);
	count(object, folio, VM_NR_ZONE_WRITE_PENDING, sign);
	if (sign > 0)
		count(object, folio, VM_NR_DIRTIED, 1);
}

void folio_count_dirty_moved(struct object *object, const struct folio *dst,
	const struct folio *src)
{
	if (!is_file(object))
		return;
	count(object, src, VM_NR_DIRTY, -1);
	count(object, src, VM_NR_ZONE_WRITE_PENDING, -1);
	count(object, dst, VM_NR_DIRTY, 1);
	count(object, dst, VM_NR_ZONE_WRITE_PENDING, 1);
}

static void set_tag(struct object *object, const struct folio *folio, enum page_index_tag tag)
{
	page_index_set_tag(object->pages, folio_index(folio), folio_nr(folio), tag);
}

static void clear_tag(struct object *object, const struct folio *folio, enum page_index_tag tag)
{
	page_index_clear_tag(object->pages, folio_index(folio), folio_nr(folio), tag);
}

// ---- Dirty

void folio_mark_dirty(struct folio *folio)
{
	struct object *object = folio_object(folio);

	if (!is_file(object)) {
		folio_set_dirty(folio);
		return;
	}
	if (folio_test_dirty(folio))
		return;
	mutex_lock(&object->i_pages_lock);
	// A truncation may have taken it away since; then nobody wants it written.
	if (folio_object(folio) == object && !folio_test_set_dirty(folio)) {
		folio_count_dirty(object, folio, 1);
		set_tag(object, folio, PAGE_INDEX_DIRTY);
	}
	mutex_unlock(&object->i_pages_lock);
}

// Write permission goes from one entry. Files have small folios: one page a mapping.
static bool clean_mapping(const struct rmap_range *range, void *arg)
{
	struct folio *folio = arg;
	struct vma *vma = range->vma;
	struct vaddr addr = vaddr_of(range->addr);
	struct gather g;
	struct mm_invalidation inv;

	mm_notify_start(&inv, vma->space, addr.a, addr.a + PAGE_SIZE, MM_INVALIDATE_PROTECT);
	gather_init(&g, vma->space->mm);
	struct page_table *table = gather_table(&g, vma->space, addr);
	struct pte e = table ? table_entry(table, pte_index(addr)) : (struct pte){0};
	if (pte_present(e) && !pte_zero_page(e) && pte_pfn(e).n == folio_pfn(folio).n &&
		e.v & (PTE_WRITE | PTE_DIRTY)) {
		e = pte_clear(e, PTE_WRITE | PTE_DIRTY);
		table_set_entry(table, pte_index(addr), e);
		gather_protect(&g, vma_host(vma, addr.a), pte_pfn(e), 1, vma_pte_prot(vma, e));
	}
	(void)gather_finish(&g);
	mm_notify_end(&inv);
	return true;
}

bool folio_clear_dirty_for_io(struct folio *folio)
{
	struct object *object = folio_object(folio);

	mutex_lock(&object->i_pages_lock);
	bool dirty = folio_test_clear_dirty(folio);
	if (dirty)
		folio_count_dirty(object, folio, -1);
	mutex_unlock(&object->i_pages_lock);
	if (!dirty)
		return false;
	// Also when nothing maps it yet: a fault that holds the page-table lock is waited for.
	(void)rmap_walk(folio, clean_mapping, folio, false);
	return true;
}

// ---- Writeback

void folio_start_writeback(struct folio *folio)
{
	struct object *object = folio_object(folio);

	mutex_lock(&object->i_pages_lock);
	bool was = folio_test_set_writeback(folio);
	assert_that(!was, "folio %p is under writeback already", (void *)folio);
	(void)was;
	set_tag(object, folio, PAGE_INDEX_WRITEBACK);
	if (!folio_test_dirty(folio))
		clear_tag(object, folio, PAGE_INDEX_DIRTY);
	count(object, folio, VM_NR_WRITEBACK, 1);
	count(object, folio, VM_NR_ZONE_WRITE_PENDING, 1);
	mutex_unlock(&object->i_pages_lock);
}

void folio_end_writeback(struct folio *folio)
{
	struct object *object = folio_object(folio);

	mutex_lock(&object->i_pages_lock);
	clear_tag(object, folio, PAGE_INDEX_WRITEBACK);
	count(object, folio, VM_NR_WRITEBACK, -1);
	count(object, folio, VM_NR_ZONE_WRITE_PENDING, -1);
	count(object, folio, VM_NR_WRITTEN, 1);
	mutex_unlock(&object->i_pages_lock);
	folio_clear_bit_wake(folio, PG_WRITEBACK);
}

void folio_wait_writeback(struct folio *folio)
{
	folio_wait_bit_clear(folio, PG_WRITEBACK);
}

// ---- A range

// A dirty folio at or after *at, locked, cleared for I/O, with a reference; NULL: none, or (try)
// it is not exactly at *at or somebody has it locked.
static struct folio *take_dirty(struct object *object, uint64_t *at, uint64_t last, bool follow)
{
	uint64_t found;

	mutex_lock(&object->i_pages_lock);
	struct folio *folio =
		page_index_next_tagged(object->pages, PAGE_INDEX_DIRTY, *at, last, &found);
	if (folio && (follow && found != *at))
		folio = NULL;
	if (folio && !folio_try_get(folio))
		folio = NULL;
	mutex_unlock(&object->i_pages_lock);
	if (!folio)
		return NULL;
	if (follow && (folio_test_writeback(folio) || !folio_trylock(folio))) {
		folio_put(folio);
		return NULL;
	}
	if (!follow)
		folio_lock(folio);
	*at = found;
	return folio;
}

// After an earlier write is through. false: clean, or not the object's any more.
static bool prepare_write(struct object *object, struct folio *folio)
{
	if (folio_object(folio) != object)
		return false;
	folio_wait_writeback(folio);
	return folio_clear_dirty_for_io(folio);
}

static void leave(struct folio *folio)
{
	folio_unlock(folio);
	folio_put(folio);
}

// Write the first run of dirty pages from *at on; *at moves behind it. 1: there was one. Locks of
// the second page on are only tried, as the order of folio locks is not that of offsets.
static int write_next_run(struct object *object, uint64_t *at, uint64_t last)
{
	struct folio *run[WRITE_RUN_MAX], *folio = take_dirty(object, at, last, false);
	unsigned nr = 0;

	if (!folio)
		return 0;
	if (!prepare_write(object, folio)) {
		leave(folio);
		(*at)++;
		return 1;
	}
	for (uint64_t next = *at;;) {
		run[nr++] = folio;
		next += folio_nr(folio);
		*at = next;
		if (nr == WRITE_RUN_MAX || next > last)
			break;
		folio = take_dirty(object, &next, last, true);
		if (!folio)
			break;
		if (!prepare_write(object, folio)) {
			leave(folio);
			break;
		}
	}
	int err = file_write_run(object, run, nr);
	for (unsigned i = 0; i < nr; i++)
		folio_put(run[i]);
	return err ? err : 1;
}

static void wait_range(struct object *object, uint64_t first, uint64_t last)
{
	for (uint64_t at = first;; at++) {
		mutex_lock(&object->i_pages_lock);
		struct folio *folio = page_index_next_tagged(object->pages, PAGE_INDEX_WRITEBACK,
			at, last, &at);
		if (folio && !folio_try_get(folio))
			folio = NULL;
		mutex_unlock(&object->i_pages_lock);
		if (!folio)
			return;
		folio_wait_writeback(folio);
		folio_put(folio);
	}
}

int object_sync(struct object *object, uint64_t first, uint64_t nr)
{
	uint64_t last = first + nr - 1;
	int more = 1;

	if (object->ops->kind != OBJECT_FILE || !nr)
		return 0;
	for (uint64_t at = first; more && at <= last;)
		more = write_next_run(object, &at, last);
	wait_range(object, first, last);
	return atomic_exchange_explicit(&object->error, 0, memory_order_acq_rel);
}
