// SPDX-License-Identifier: MIT
// What the files that serve one access share: the access itself, and its outcomes.
#ifndef GODWIT_VIRT_FAULT_INTERNAL_H
#define GODWIT_VIRT_FAULT_INTERNAL_H

#include "virt/fault.h"
#include "virt/mm.h"

#include <errno.h>

// One access being served. mmap_lock is held for reading until it returns.
struct fault {
	struct mm_core *mm;
	struct space *space;
	struct task *task; // may be NULL: policy and node of the machine's defaults
	struct vma *vma;
	uint64_t addr; // of the page
	unsigned flags;
};

// Outcomes besides 0 and negative errnos.
enum {
	FAULT_AGAIN = 1,     // something changed under us: look again
	FAULT_MIGRATING = 2, // a migration entry: wait for it without any lock, then look again
};

static inline bool fault_write(const struct fault *f)
{
	return f->flags & FAULT_WRITE;
}

// A page of its own is wanted: to write to it, or to pin it.
static inline bool fault_wants_own_page(const struct fault *f)
{
	return f->flags & (FAULT_WRITE | FAULT_UNSHARE);
}

// fault_anon.c: first touch of anonymous memory.
int fault_anonymous(struct fault *);
// fault_object.c: first touch of a mapped object: read, private write, shared write.
int fault_object(struct fault *);
// cow.c: write to (or wish to own) a page that is mapped read-only.
int fault_write_protected(struct fault *, struct pte seen);

// Put `new` where `seen` still stands (page-table lock taken inside), with rmap, LRU and rss, and
// make the host agree. The caller's reference becomes the entry's on success. 0, FAULT_AGAIN (the
// entry changed), -ENOMEM.
struct fault_install {
	struct pte seen, new;
	struct folio *folio; // NULL: the zero page
	unsigned page;	     // of the folio
	bool is_new_anon;
	bool exclusive;
};
int fault_install(struct fault *, const struct fault_install *);

// A frame for this address by policy, zeroed or not; NULL and the reason counted when there is
// none.
struct folio *fault_alloc(struct fault *, bool zeroed);
// fault_near.c: host mappings run short; a frame next to that of the neighbours, zeroed, whatever
// the policy; NULL when there is none.
bool fault_near_limit(const struct fault *);
struct folio *fault_alloc_near(struct fault *);
// What the host said to a translation that a fault asked for; none left is counted.
static inline int fault_host_said(struct fault *f, int err)
{
	if (unlikely(err == -ENOMEM))
		atomic_fetch_add(&f->mm->faults_at_limit, 1);
	return err;
}
// The new folio of this address gets its rmap and its place on the LRU. Page-table lock held.
void fault_add_new_anon(struct fault *, struct folio *);
// Bytes of one page from one frame to another, through the direct map.
void copy_frame(struct mm_core *, struct pfn dst, struct pfn src);

#endif
