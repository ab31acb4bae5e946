// SPDX-License-Identifier: MIT
// Objects: the life of memory that is found by page offset, whatever is behind it.
//
//	absent --object_get_folio--> in the index, locked --read_folio--> uptodate, on the LRU
//	   ^                                                                      |
//	   +- object_remove_folio (nobody maps it; reclaim, truncation, last put) +
//	                          object_replace_folio: another folio takes its slots (migration)
//
// Who finds a folio holds a reference, but the folio may leave the index before it is locked; so
// everybody locks it and asks again whether it is still the object's (object_find_lock()). Two who
// miss the same offset both allocate; the index takes one, the other looks again.
//
// An object lives by references: of vmas, of who created it. Its folios do not hold it: the last
// put takes them out of the index, under their locks, before the object goes.
//
// What kinds differ in is in struct object_ops: shmem.c, file.c. Dirty and writeback are in
// writeback.c, shared policies in object_policy.c.
// Held: i_pages inside, the folio lock where said. Fails: -ENOMEM, -EIO.
#include "base/vmstat.h"
#include "virt/object.h"

#include "base/assert.h"
#include "base/meta.h"
#include "base/sched.h"
#include "virt/mempolicy.h"
#include "virt/mm.h"
#include "virt/page_index.h"
#include "virt/writeback.h"

#include <errno.h>
#include <string.h>

// ---- Finding and filling

// The index's own reference keeps the folio alive while i_pages is held; a folio frozen by somebody
// who does not hold i_pages must not be here.
static struct folio *find_get(struct object *object, uint64_t pgoff)
{
	struct folio *folio = page_index_find(object->pages, pgoff);

	if (folio && !folio_try_get(folio))
		return NULL;
	return folio;
}

struct folio *object_find(struct object *object, uint64_t pgoff)
{
	mutex_lock(&object->i_pages_lock);
	struct folio *folio = find_get(object, pgoff);
	mutex_unlock(&object->i_pages_lock);
	return folio;
}

static bool folio_covers(const struct folio *folio, const struct object *object, uint64_t pgoff)
{
	return folio_object(folio) == object && pgoff - folio_index(folio) < folio_nr(folio);
}

struct folio *object_find_lock(struct object *object, uint64_t pgoff)
{
	struct folio *folio;

	while ((folio = object_find(object, pgoff))) {
		folio_lock(folio);
		if (folio_covers(folio, object, pgoff))
			return folio;
		folio_unlock(folio);
		folio_put(folio);
	}
	return NULL;
}

// Somebody else made it; it may still be reading, or have failed to.
static int make_uptodate(struct object *object, struct folio *folio, uint64_t pgoff)
{
	int err = -EAGAIN;

	folio_lock(folio);
	if (folio_covers(folio, object, pgoff)) {
		err = folio_test_uptodate(folio) ? 0 : object->ops->read_folio(object, folio);
		if (!err)
			folio_set_uptodate(folio);
	}
	folio_unlock(folio);
	return err;
}

// A new folio at pgoff, filled. -EEXIST: somebody was faster.
static int add_new_folio(struct object *object, struct task *task, uint64_t pgoff,
	struct folio **ret_folio)
{
	struct folio *folio = folio_alloc_object(GFP_HIGHUSER_MOVABLE, 0, object, pgoff, task);

	if (!folio)
		return -ENOMEM;
	folio_lock(folio);
	int err = object_add_folio(object, folio, pgoff);
	if (!err) {
		err = object->ops->read_folio(object, folio);
		if (err)
			object_remove_folio(folio);
	}
	if (!err) {
		folio_set_uptodate(folio);
		folio_add_lru(folio);
	}
	folio_unlock(folio);
	if (err)
		folio_put(folio);
	else
		*ret_folio = folio;
	return err;
}

int object_get_folio(struct object *object, struct task *task, uint64_t pgoff,
	struct folio **ret_folio)
{
	if (pgoff >= DIV_ROUND_UP(object->size, PAGE_SIZE))
		return -EIO;
	for (;;) {
		struct folio *folio = object_find(object, pgoff);
		int err;

		if (!folio) {
			err = add_new_folio(object, task, pgoff, ret_folio);
			if (err != -EEXIST)
				return err;
			sched_point();
			continue;
		}
		err = folio_test_uptodate(folio) ? 0 : make_uptodate(object, folio, pgoff);
		if (!err) {
			*ret_folio = folio;
			return 0;
		}
		folio_put(folio);
		if (err != -EAGAIN)
			return err;
	}
}

// ---- Changing the index

static enum vmstat_item huge_counter(const struct folio *folio)
{
	return folio_test_swapbacked(folio) ? VM_NR_SHMEM_HUGEPAGES : VM_NR_FILE_HUGEPAGES;
}

// Pages of the object on the folio's node.
static void count_pages(struct object *object, const struct folio *folio, int sign)
{
	struct vmstat *stat = object->mm->stat;
	long nr = sign * (long)folio_nr(folio);
	unsigned nid = folio_nid(folio);

	vmstat_add(stat, nid, VM_NR_FILE_PAGES, nr);
	if (folio_test_swapbacked(folio))
		vmstat_add(stat, nid, VM_NR_SHMEM, nr);
	if (folio_order(folio) == PMD_ORDER)
		vmstat_add(stat, nid, huge_counter(folio), sign);
}

int object_add_folio(struct object *object, struct folio *folio, uint64_t pgoff)
{
	unsigned nr = (unsigned)folio_nr(folio);

	mutex_lock(&object->i_pages_lock);
	int err = page_index_insert(object->pages, pgoff, nr, folio);
	if (!err) {
		folio_ref_add(folio, nr);
		folio_set_index(folio, pgoff);
		if (object->ops->kind == OBJECT_SHMEM)
			folio_set_swapbacked(folio);
		folio_set_mapping(folio, object, MAPPING_OBJECT);
		object->nr_pages += nr;
		if (object->ops->kind != OBJECT_HUGETLB)
			count_pages(object, folio, 1);
	}
	mutex_unlock(&object->i_pages_lock);
	return err;
}

void object_remove_folio(struct folio *folio)
{
	struct object *object = folio_object(folio);
	unsigned nr = (unsigned)folio_nr(folio);

	assert_that(object && !folio_mapped(folio), "folio %p, object %p, mapped %d", (void *)folio,
		(void *)object, folio_mapcount(folio));
	mutex_lock(&object->i_pages_lock);
	if (folio_test_clear_dirty(folio))
		folio_count_dirty(object, folio, -1);
	page_index_remove(object->pages, folio_index(folio), nr);
	folio_clear_mapping(folio);
	object->nr_pages -= nr;
	if (object->ops->kind != OBJECT_HUGETLB)
		count_pages(object, folio, -1);
	mutex_unlock(&object->i_pages_lock);
	folio_put_many(folio, nr);
}

// Holes first, which may need memory; then nothing can fail.
static int fill_holes(struct object *object, uint64_t pgoff, struct folio **old, struct folio *new)
{
	unsigned i, nr = (unsigned)folio_nr(new);
	int err = 0;

	for (i = 0; i < nr && !err; i++)
		if (!old[i])
			err = page_index_insert(object->pages, pgoff + i, 1, new);
	if (!err)
		return 0;
	while (i-- > 0)
		if (!old[i] && page_index_find(object->pages, pgoff + i) == new)
			page_index_remove(object->pages, pgoff + i, 1);
	return err;
}

int object_collapse_folios(struct object *object, uint64_t pgoff, struct folio **old,
	struct folio *new)
{
	unsigned nr = (unsigned)folio_nr(new);

	mutex_lock(&object->i_pages_lock);
	int err = fill_holes(object, pgoff, old, new);
	for (unsigned i = 0; i < nr && !err; i++) {
		if (!old[i]) {
			object->nr_pages++;
			continue;
		}
		if (i && old[i] == old[i - 1])
			continue; // another page of a large folio
		folio_clear_mapping(old[i]);
		count_pages(object, old[i], -1);
	}
	if (!err) {
		page_index_replace(object->pages, pgoff, nr, new);
		if (object->ops->kind == OBJECT_SHMEM)
			folio_set_swapbacked(new);
		folio_set_index(new, pgoff);
		folio_ref_add(new, nr);
		count_pages(object, new, 1);
		folio_set_mapping(new, object, MAPPING_OBJECT);
	}
	mutex_unlock(&object->i_pages_lock);
	return err;
}

// The flags that belong to each page's contents went to the pieces already.
void object_split_folio(struct object *object, struct folio *head, unsigned old_order,
	unsigned new_order)
{
	uint64_t index = folio_index(head), step = 1ull << new_order;

	mutex_assert_held(&object->i_pages_lock);
	for (uint64_t i = step; i < 1ull << old_order; i += step) {
		struct folio *piece = (struct folio *)folio_frame(head, i);

		page_index_replace(object->pages, index + i, step, piece);
	}
	if (old_order == PMD_ORDER)
		vmstat_add(object->mm->stat, folio_nid(head), huge_counter(head), -1);
}

void object_replace_folio(struct object *object, struct folio *dst, struct folio *src)
{
	uint64_t index = folio_index(src);
	unsigned nr = (unsigned)folio_nr(src);

	mutex_assert_held(&object->i_pages_lock);
	folio_set_index(dst, index);
	folio_set_mapping(dst, object, MAPPING_OBJECT);
	if (folio_test_swapbacked(src))
		folio_set_swapbacked(dst);
	folio_ref_add(dst, nr);
	if (folio_test_clear_dirty(src)) {
		folio_count_dirty_moved(object, dst, src);
		folio_set_dirty(dst);
	}
	page_index_replace(object->pages, index, nr, dst);
	if (object->ops->kind != OBJECT_HUGETLB) {
		count_pages(object, src, -1);
		count_pages(object, dst, 1);
	}
}

// ---- Dropping pages

// Only the index and the caller know it, and there is nothing in it that is not in the file.
static bool may_drop(struct object *object, struct folio *folio)
{
	if (folio_mapped(folio) || folio_test_dirty(folio) || folio_test_writeback(folio))
		return false;
	if (folio_test_private(folio) &&
		!(object->ops->release_folio && object->ops->release_folio(object, folio)))
		return false;
	return folio_ref_count(folio) == folio_nr(folio) + 1;
}

// Somebody may still find it between the two steps, but not use it before locking it, and by then
// it is no longer the object's.
bool object_drop_folio(struct object *object, struct folio *folio)
{
	if (!may_drop(object, folio))
		return false;
	object_remove_folio(folio);
	return true;
}

// The first folio in the index from *pgoff on, with a reference; *pgoff moves behind it.
static struct folio *next_folio(struct object *object, uint64_t *pgoff, uint64_t last)
{
	uint64_t at;

	mutex_lock(&object->i_pages_lock);
	struct folio *folio = page_index_next(object->pages, *pgoff, last, &at);
	if (folio && folio_try_get(folio))
		*pgoff = folio_index(folio) + folio_nr(folio);
	else
		folio = NULL;
	mutex_unlock(&object->i_pages_lock);
	return folio;
}

uint64_t object_truncate_unmapped(struct object *object, uint64_t first, uint64_t nr)
{
	uint64_t dropped = 0;
	struct folio *folio;

	if (object->ops->kind != OBJECT_FILE || !nr)
		return 0;
	for (uint64_t at = first; (folio = next_folio(object, &at, first + nr - 1));) {
		if (folio_trylock(folio)) {
			uint64_t pages = folio_nr(folio);
			if (folio_object(folio) == object && object_drop_folio(object, folio))
				dropped += pages;
			folio_unlock(folio);
		}
		folio_put(folio);
	}
	return dropped;
}

uint64_t object_resident(struct object *object, uint64_t first, uint64_t nr, uint64_t *ret_dirty)
{
	uint64_t pages = 0, dirty = 0, at = first;
	const uint64_t end = first + nr;

	mutex_lock(&object->i_pages_lock);
	while (at < end && page_index_next(object->pages, at, end - 1, &at)) {
		pages++;
		dirty += page_index_test_tag(object->pages, at, PAGE_INDEX_DIRTY);
		at++;
	}
	mutex_unlock(&object->i_pages_lock);
	if (ret_dirty)
		*ret_dirty = dirty;
	return pages;
}

// Nothing maps them and nobody can look them up any more, but somebody may have one isolated.
static void drop_all(struct object *object)
{
	struct folio *folio;

	for (uint64_t at = 0; (folio = next_folio(object, &at, PAGE_INDEX_MAX));) {
		folio_lock(folio);
		folio_wait_writeback(folio);
		if (folio_object(folio) == object)
			object_remove_folio(folio);
		folio_unlock(folio);
		folio_put(folio);
		at = 0;
	}
}

// ---- The object itself

static char *copy_text(const char *text)
{
	char *copy = meta_alloc(strlen(text) + 1);

	return copy ? strcpy(copy, text) : NULL;
}

static void free_parts(struct object *object)
{
	if (object->name)
		meta_free(object->name, strlen(object->name) + 1);
	meta_delete(object->pages);
	mutex_destroy(&object->i_pages_lock);
	rwlock_destroy(&object->i_mmap_lock);
	meta_delete(object);
}

int object_create(struct mm_core *mm, const struct object_ops *ops, const char *name, uint64_t size,
	struct object **ret)
{
	struct object *object;

	if (size > OBJECT_MAX_SIZE)
		return -EINVAL;
	object = meta_new(struct object);
	if (!object)
		return -ENOMEM;
	*object = (struct object){.mm = mm, .ops = ops, .size = size, .refcount = 1, .fd = -1};
	rwlock_init(&object->i_mmap_lock, RANK_I_MMAP);
	mutex_init(&object->i_pages_lock, RANK_I_PAGES);
	object->pages = meta_new(struct page_index);
	object->name = name ? copy_text(name) : NULL;
	if (!object->pages || (name && !object->name)) {
		free_parts(object);
		return -ENOMEM;
	}
	mutex_lock(&mm->objects_lock);
	object->id = ++mm->last_object_id;
	list_add_tail(&object->node, &mm->objects);
	mutex_unlock(&mm->objects_lock);
	*ret = object;
	return 0;
}

int object_resize(struct object *object, uint64_t size)
{
	if (size < object->size || size > OBJECT_MAX_SIZE)
		return -EINVAL;
	int err = object->ops->grow ? object->ops->grow(object, size) : 0;
	if (!err)
		object->size = size;
	return err;
}

void object_get(struct object *object)
{
	atomic_fetch_add_explicit(&object->refcount, 1, memory_order_relaxed);
}

void object_put(struct object *object)
{
	struct mm_core *mm = object->mm;

	if (atomic_fetch_sub_explicit(&object->refcount, 1, memory_order_acq_rel) != 1)
		return;
	assert_that(interval_tree_empty(&object->i_mmap), "object %s is mapped",
		object->name ? object->name : "?");
	mutex_lock(&mm->objects_lock);
	list_del(&object->node);
	mutex_unlock(&mm->objects_lock);
	(void)!object_sync(object, 0, PAGE_INDEX_MAX);
	drop_all(object);
	object_policy_release(object);
	if (object->ops->release)
		object->ops->release(object);
	free_parts(object);
}
