// SPDX-License-Identifier: MIT
// Objects: memory that has an identity of its own, found by page offset: shared memory (shmem) and
// real files (the kernel's address_space). Folios found here hold one reference per page by the
// index; the folio lock and i_pages together guard what a slot holds: who has either may look, who
// changes it has both.
#ifndef GODWIT_VIRT_OBJECT_H
#define GODWIT_VIRT_OBJECT_H

#include "base/interval_tree.h"
#include "base/list.h"
#include "base/lock.h"
#include "phys/folio.h"

struct mm_core;
struct object;
struct task;
struct mempolicy;
enum migrate_mode;

enum object_kind { OBJECT_SHMEM, OBJECT_FILE, OBJECT_HUGETLB };

// What kinds differ in. Each: the folio is locked.
struct object_ops {
	enum object_kind kind;
	// Its folios may be moved as they are, dirty or not: contents, flags, slots.
	bool migrate_plain;
	// Fill a new folio (zero, or read from the file). 0, -EIO.
	int (*read_folio)(struct object *, struct folio *);
	// Write a dirty folio back: waits for an earlier write, sets WRITEBACK, clears it at the
	// end. -EIO: it is dirty again. NULL: nothing to write to.
	int (*write_folio)(struct object *, struct folio *);
	// Move the folio's identity and contents to dst, where migrate_plain does not do. NULL and
	// not plain: only by writing it out first.
	int (*migrate_folio)(struct object *, struct folio *dst, struct folio *src,
		enum migrate_mode);
	// Drop private data (buffers). true when the folio has none any more.
	bool (*release_folio)(struct object *, struct folio *);
	// Make room behind the end. NULL: none is needed.
	int (*grow)(struct object *, uint64_t size);
	// The last reference is going; no folio is left.
	void (*release)(struct object *);
};

struct page_index; // offset -> folio, src/virt/page_index.h

// What the index of pages can hold: 4 PiB.
#define OBJECT_MAX_SIZE ((PAGE_INDEX_MAX + 1ul) << PAGE_SHIFT)

struct object {
	struct mm_core *mm;
	struct list_head node; // in mm->objects
	unsigned id;	       // from 1 in its machine: its inode, for smaps
	const struct object_ops *ops;
	char *name;	    // for numa_maps; NULL: unnamed
	_Atomic uint64_t size; // bytes; only grows
	_Atomic int refcount;
	struct rwlock i_mmap_lock;  // rank I_MMAP
	struct interval_tree i_mmap; // vmas by page offset (vma->i_mmap)
	struct mutex i_pages_lock;  // rank I_PAGES
	struct page_index *pages;   // i_pages to change
	uint64_t nr_pages;	    // i_pages
	struct interval_tree policies; // shared policy of shmem, see object_policy.c: i_pages
	_Atomic int error;	    // of a write-back that nobody has heard of yet
	int fd;			    // OBJECT_FILE
	bool writable_fd;
	void *private;
};

int object_create_shmem(struct mm_core *, const char *name, uint64_t size, struct object **ret);
// The file's bytes [0,size); fd is duplicated. -EINVAL: not a regular file. -EACCES: not readable.
int object_open_file(struct mm_core *, int fd, struct object **ret);
// Any kind: ops and private are the caller's. -ENOMEM.
int object_create(struct mm_core *, const struct object_ops *, const char *name, uint64_t size,
	struct object **ret);
// Grow to so many bytes; a file is extended with it. -EINVAL: smaller, or too large to be indexed;
// -EACCES: a file that may not be written; -EIO.
int object_resize(struct object *, uint64_t size);
void object_get(struct object *);
// A reference to what was found on mm->objects, under objects_lock; false: it is going.
static inline bool object_tryget(struct object *object)
{
	int count = atomic_load_explicit(&object->refcount, memory_order_relaxed);

	while (count > 0)
		if (atomic_compare_exchange_weak_explicit(&object->refcount, &count, count + 1,
			    memory_order_relaxed, memory_order_relaxed))
			return true;
	return false;
}
// The last one writes dirty pages back (an error is lost) and drops all of them; nothing maps it.
void object_put(struct object *);

// The folio at a page offset with a reference, or NULL.
struct folio *object_find(struct object *, uint64_t pgoff);
// The same, locked: it is still at this offset, and what its slot holds does not change.
struct folio *object_find_lock(struct object *, uint64_t pgoff);
// The same as object_find(), made and filled when absent (policy of the object, else of the task);
// uptodate, on the LRU, not locked: lock it and ask folio_object() before relying on its place.
// -EIO: beyond the end, or not readable. -ENOMEM.
int object_get_folio(struct object *, struct task *, uint64_t pgoff, struct folio **ret_folio);
// Index changes. Folio locked, i_pages taken inside. Adding sets mapping and index and takes one
// reference a page; -EEXIST, -ENOMEM, -EINVAL (offset too large).
int object_add_folio(struct object *, struct folio *, uint64_t pgoff);
// Not mapped by anyone. Clears mapping and dirty, drops the index's references.
void object_remove_folio(struct folio *);
// src's slots now hold dst, which takes mapping, index, SWAPBACKED, the DIRTY flag and one
// reference a page; the counters of src's node and dst's follow. i_pages held by the caller, both
// folios locked and of one size, src frozen. The caller gives src its references back less those of
// the index, and clears its mapping.
void object_replace_folio(struct object *, struct folio *dst, struct folio *src);
// A frozen folio of the object was dissolved: its slots hold the pieces. i_pages held by the
// caller; references are the caller's too.
void object_split_folio(struct object *, struct folio *head, unsigned old_order,
	unsigned new_order);
// The slots of shared memory or of a file from pgoff on, which hold old[i] or (NULL) nothing, hold
// `new` from now on. All are locked and unmapped; the index's references to the old ones become the
// caller's. -EEXIST: a hole was filled meanwhile; -ENOMEM.
int object_collapse_folios(struct object *, uint64_t pgoff, struct folio **old, struct folio *new);
// Write the dirty pages of the range back and wait for those under way. 0, or the -EIO of any since
// the last call.
int object_sync(struct object *, uint64_t first, uint64_t nr);
// Drop the clean pages in a range that nothing maps and nobody uses; of files only, shared memory
// has no other copy. Returns pages.
uint64_t object_truncate_unmapped(struct object *, uint64_t first, uint64_t nr);
// One folio, locked, with the caller's reference alone beside the index's: out of the index if it
// is clean, unmapped and unused. The caller puts its reference.
bool object_drop_folio(struct object *, struct folio *);
// NULL when anonymous, KSM or movable.
static inline struct object *folio_object(const struct folio *folio)
{
	uint32_t raw = folio_mapping_raw(folio);

	return (raw & 3) == MAPPING_OBJECT && raw ? meta_pointer(raw >> 2) : NULL;
}
// Pages of a range that are in memory; dirty ones of them.
uint64_t object_resident(struct object *, uint64_t first, uint64_t nr, uint64_t *ret_dirty);

// Shared policy: [first, first+nr) takes `policy` (NULL: none). To change several ranges at once or
// none: prepare each (-ENOMEM), then commit or cancel each, which cannot fail.
struct object_policy_change;
int object_policy_prepare(struct object *, uint64_t first, uint64_t nr, struct mempolicy *,
	struct object_policy_change **ret_change);
void object_policy_commit(struct object_policy_change *);
void object_policy_cancel(struct object_policy_change *);
struct mempolicy *object_policy_get(struct object *, uint64_t pgoff); // a reference, or NULL
void object_policy_release(struct object *);

// Dirty and writeback, with their counters (of files) and tags.
//  - An entry of a file page becomes writable with PTE_DIRTY first, the page is marked dirty after
//    that (a mark before it may be taken away by a write that comes between). Who takes such an
//    entry away marks the page too. Then no store is lost. Marking takes i_pages.
//    The caller's page-table lock (a mapping), folio lock or vma keeps the object alive.
//  - folio_clear_dirty_for_io(): folio locked. Takes DIRTY away, then write from all entries, so
//    that a store from here on marks it again. true when it was dirty.
void folio_mark_dirty(struct folio *);
bool folio_clear_dirty_for_io(struct folio *);
void folio_start_writeback(struct folio *); // locked, a reference, not under writeback
void folio_end_writeback(struct folio *);
void folio_wait_writeback(struct folio *);

#endif
