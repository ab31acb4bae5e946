// SPDX-License-Identifier: MIT
// Reverse mapping: from a folio to every entry that maps it.
//
// Anonymous folios point to an anon_vma. Each vma keeps a chain of the anon_vmas its pages may
// belong to: its own, and those of the vmas it was forked from; an anon_vma keeps an interval tree
// of the chain links by page offset. Folios of objects find their vmas in object->i_mmap.
// KSM folios are walked by the ksm subsystem (mm->up.ksm_rmap).
#ifndef GODWIT_VIRT_RMAP_H
#define GODWIT_VIRT_RMAP_H

#include "base/interval_tree.h"
#include "base/list.h"
#include "base/lock.h"
#include "phys/folio.h"
#include "virt/mm.h"
#include "virt/page_table.h"

struct vma;
struct space;
struct mm_core;

struct anon_vma {
	struct rwlock lock;	// rank ANON_VMA; of the root, shared by the whole family
	struct anon_vma *root;	// its lock is the one taken
	struct anon_vma *parent;
	_Atomic int refcount;	// one for all links, one a child (root), migrations under way
	unsigned num_children, num_active_vmas; // root lock: for reuse after fork
	struct interval_tree chains;	// struct anon_vma_chain.rb by page offset
};

struct anon_vma_chain {
	struct vma *vma;
	struct anon_vma *anon_vma;
	struct list_head same_vma;
	struct interval_node rb; // [pgoff, last pgoff] of the vma
};

// vma gets an anon_vma before its first anonymous page (mmap_lock read is enough). 0, -ENOMEM.
int anon_vma_prepare(struct vma *);
void anon_vmas_in_child(void); // of the host's fork()
int anon_vma_clone(struct vma *dst, struct vma *src); // split, remap
int anon_vma_fork(struct vma *child, struct vma *parent);
void anon_vma_unlink(struct vma *);
void anon_vma_get(struct anon_vma *);
void anon_vma_put(struct anon_vma *);
struct anon_vma *folio_anon_vma(const struct folio *); // NULL when not anonymous (or KSM)
// The same with a reference, of any folio at any time: NULL also when nothing maps it, for then
// its anon_vma may be gone already. Without this, an anon_vma is safe to touch only while something
// is known to map the folio.
struct anon_vma *folio_get_anon_vma(struct folio *);
// Re-key the links of a vma whose extent changes: before(), change, after(), under the locks.
void vma_rmap_remove(struct vma *);
void vma_rmap_insert(struct vma *);

// Mapcounts. nr pages from page index `first` of the folio are mapped by PTEs, or the whole folio
// by a PMD leaf, whose exclusive mark is that of the folio's first page alone. Page-table lock
// held. References are the caller's.
// The first mapping of a new folio: sets mapping, index, swapbacked, exclusive.
void folio_add_new_anon_rmap(struct folio *, struct vma *, uint64_t addr);
void folio_add_anon_rmap(struct folio *, unsigned first, unsigned nr, bool exclusive);
void folio_add_file_rmap(struct folio *, unsigned first, unsigned nr);
void folio_remove_rmap(struct folio *, unsigned first, unsigned nr);
void folio_add_rmap_pmd(struct folio *, bool exclusive);
void folio_remove_rmap_pmd(struct folio *);
// An anonymous large folio with some pages mapped and others not: counted once, and queued to be
// split when memory is wanted.
void folio_note_partially_mapped(struct folio *);
// For who changes mapcounts itself: so many pages like this one became mapped, or unmapped (< 0).
void rmap_count_mapped(struct folio *like, long pages);
// Make a private anonymous mapping shareable (fork, KSM, migration): fails (-EBUSY) when the folio
// may be pinned. Page-table lock held, translation already read-only or blocked.
int folio_try_share_anon(struct folio *, unsigned page);

// A new folio joins the LRU: the unevictable list when the vma is locked.
void folio_add_lru_vma(struct folio *, struct vma *);

// Every place where the folio is or was mapped. `one` is called with the rmap lock held (read) and
// no page-table lock; addr is the address of page `first_page` of the folio in that vma, the range
// is clipped to the vma. It returns false to stop.
struct rmap_range {
	struct vma *vma;
	uint64_t addr;	     // space address
	unsigned first_page; // page of the folio at addr
	unsigned nr_pages;   // inside the vma
};
typedef bool rmap_one_fn(const struct rmap_range *, void *arg);
// Takes the rmap lock itself; try_lock: -EAGAIN instead of waiting. Of an anonymous folio that
// nothing maps there is nothing to walk: its anon_vma may be gone. One of an object is locked by
// the caller, so that it keeps its object.
int rmap_walk(struct folio *, rmap_one_fn *one, void *arg, bool try_lock);
// What maps the folio by small entries there goes for good (unmap_folio.c). The caller, who has a
// reference, has locked the folio.
void folio_unmap_range(struct folio *, const struct rmap_range *, enum mm_invalidate_reason);
// One page of it, which the entry at addr in the gather's table maps. The reference of the mapping
// is the caller's then, to be put when the gather is flushed.
void folio_unmap_entry(struct gather *, struct vma *, uint64_t addr, struct folio *, unsigned page);
// Leaves of the PMD level there become tables, or, of an object, go.
void folio_split_leaves(struct folio *, const struct rmap_range *);
// With the lock already held by the caller (a run of folios of one family). Who has a reference to
// the anon_vma may walk one that nothing maps, for its migration entries.
void rmap_walk_held(struct folio *, rmap_one_fn *one, void *arg);
// The rwlock that protects the folio's rmap (anon_vma root lock or object i_mmap), or NULL.
struct rwlock *folio_rmap_lock(struct folio *);

// The entry, of a table of the lowest level, maps this page of the folio.
static inline bool pte_maps(struct pte e, const struct folio *folio, unsigned page)
{
	return pte_present(e) && !pte_zero_page(e) && pte_pfn(e).n == folio_pfn(folio).n + page;
}

// Address of a page of the folio in a vma, or -EFAULT when outside.
int vma_address(const struct vma *, uint64_t pgoff, uint64_t *ret_addr);

#endif
