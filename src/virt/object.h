// SPDX-License-Identifier: MIT
// Objects: memory that has an identity of its own, found by page offset: shared memory (shmem) and
// real files (the kernel's address_space). Folios found here hold one reference per page by the
// index; the folio lock and i_pages together guard what a slot holds.
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
	// Fill a new folio (zero, or read from the file). 0, -EIO, -ENOMEM.
	int (*read_folio)(struct object *, struct folio *);
	// Write a dirty folio back; sets WRITEBACK, clears it when done. NULL: nothing to write to.
	int (*write_folio)(struct object *, struct folio *);
	// Move the folio's identity and contents to dst; NULL: only by writing it out first.
	int (*migrate_folio)(struct object *, struct folio *dst, struct folio *src,
		enum migrate_mode);
	// Drop private data (buffers). true when the folio has none any more.
	bool (*release_folio)(struct object *, struct folio *);
	void (*release)(struct object *);
};

struct page_index; // offset -> folio, src/virt/page_index.h

struct object {
	struct mm_core *mm;
	struct list_head node; // in mm->objects
	const struct object_ops *ops;
	char *name;	    // for numa_maps; NULL: unnamed
	uint64_t size;	    // bytes
	_Atomic int refcount;
	struct rwlock i_mmap_lock;  // rank I_MMAP
	struct interval_tree i_mmap;	    // vmas by page offset (vma->i_mmap)
	struct mutex i_pages_lock;  // rank I_PAGES
	struct page_index *pages;   // i_pages to change
	uint64_t nr_pages;	    // i_pages
	struct mempolicy *policy;   // shared policy of shmem (whole object), NULL: the task's
	int fd;			    // OBJECT_FILE
	bool writable_fd;
	void *private;
};

int object_create_shmem(struct mm_core *, const char *name, uint64_t size, struct object **ret);
// The file's bytes [0,size); fd is duplicated. Needs a regular file (-EINVAL else).
int object_open_file(struct mm_core *, int fd, struct object **ret);
void object_get(struct object *);
void object_put(struct object *);

// The folio at a page offset with a reference, or NULL.
struct folio *object_find(struct object *, uint64_t pgoff);
// The same, made and filled when absent (policy of the object, else of the task). -EIO, -ENOMEM.
int object_get_folio(struct object *, struct task *, uint64_t pgoff, struct folio **ret_folio);
// Index changes. Folio locked, i_pages taken inside.
int object_add_folio(struct object *, struct folio *, uint64_t pgoff);
void object_remove_folio(struct folio *); // drops the index's references
// src's slots now hold dst (which takes index, mapping, dirty). i_pages held by the caller, both
// folios locked, src frozen.
void object_replace_folio(struct object *, struct folio *dst, struct folio *src);
// Drop clean pages / all pages in a range that nothing maps; write dirty ones back and wait.
int object_sync(struct object *, uint64_t first, uint64_t nr);
uint64_t object_truncate_unmapped(struct object *, uint64_t first, uint64_t nr);
struct object *folio_object(const struct folio *); // NULL when anonymous, KSM or movable
void folio_mark_dirty(struct folio *);
void folio_start_writeback(struct folio *);
void folio_end_writeback(struct folio *);
void folio_wait_writeback(struct folio *);

#endif
