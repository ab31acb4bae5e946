// SPDX-License-Identifier: MIT
// Transparent huge pages of one machine: who gets them, when they are split, and who collects small
// pages into them.
//
//	policy.c	the settings, and which orders a vma may have
//	fault.c		first touches
//	wp.c		writes to read-only leaves
//	pmd.c		a leaf becomes a table; its folio stays whole
//	split.c		a folio becomes smaller ones
//	deferred.c	folios that lost pages are split when memory is wanted
//	collapse_look.c	is a range worth it?
//	collapse.c	small pages of a 2 MiB range become one folio
//	collapse_file.c	the same for pages of an object
//	khugepaged.c	the scanner that finds such ranges
//	advise.c	madvise's words
//
// Field letters: K khugepaged's lock.
#ifndef GODWIT_THP_THP_H
#define GODWIT_THP_THP_H

#include "base/list.h"
#include "base/lock.h"
#include "base/trace.h" // enum scan_result
#include "virt/mm.h"

#include <pthread.h>

struct space;
struct task;
struct vma;
struct object;

// ---- Settings, by name in sys/kernel/mm/transparent_hugepage/

enum thp_enabled { THP_ALWAYS, THP_MADVISE, THP_NEVER };
enum thp_defrag {
	DEFRAG_ALWAYS,
	DEFRAG_DEFER,
	DEFRAG_DEFER_MADVISE,
	DEFRAG_MADVISE,
	DEFRAG_NEVER
};
enum thp_size_enabled { SIZE_ALWAYS, SIZE_INHERIT, SIZE_MADVISE, SIZE_NEVER };
enum thp_shmem {
	SHMEM_ALWAYS,
	SHMEM_WITHIN_SIZE,
	SHMEM_ADVISE,
	SHMEM_NEVER,
	SHMEM_DENY,
	SHMEM_FORCE
};
enum thp_size_shmem {
	SIZE_SHMEM_ALWAYS,
	SIZE_SHMEM_INHERIT,
	SIZE_SHMEM_WITHIN_SIZE,
	SIZE_SHMEM_ADVISE,
	SIZE_SHMEM_NEVER
};

enum thp_setting {
	SET_ENABLED,
	SET_DEFRAG,
	SET_SHMEM_ENABLED,
	SET_USE_ZERO_PAGE,
	SET_SHRINK_UNDERUSED,
	SET_READ_ONLY_FILES, // godwit/read_only_thp_for_fs: how Linux was configured
	SET_PAGES_TO_SCAN, // khugepaged's from here on
	SET_SCAN_SLEEP,
	SET_ALLOC_SLEEP,
	SET_MAX_PTES_NONE,
	SET_MAX_PTES_SHARED,
	SET_MAX_PTES_SWAP,
	SET_KHUGEPAGED_DEFRAG,
	THP_SETTINGS
};

#define THP_LEAST_ORDER 2	// 16 kB: anonymous memory
#define THP_LEAST_SHMEM_ORDER 1 // 8 kB: shared memory
#define THP_ORDERS_ALL (((1u << (PMD_ORDER + 1)) - 1) & ~3u)

// ---- khugepaged

// A space it looks at. It holds no reference; the space takes it away when it ends.
struct khugepaged_slot {
	struct list_head node; // in khugepaged.slots	K
	struct space *space;
};

struct khugepaged {
	struct mutex lock;	 // rank MACHINE (a space may end under it), letter K
	struct mutex slots_lock; // rank SCAN_SLOTS: the list and the cursor; under mmap_lock too
	struct list_head slots;		// slots_lock
	struct khugepaged_slot *cursor; // slots_lock: the space it is in, or NULL: before the first
	uint64_t address;		// K: where in that space
	_Atomic unsigned long full_scans, pages_collapsed;
	_Atomic bool stop;
	struct mutex daemon_lock; // rank MACHINE: starting and ending the thread
	bool running;
	pthread_t thread;
};

struct thp {
	struct mm_core *mm;
	_Atomic unsigned long setting[THP_SETTINGS];
	_Atomic unsigned long size_enabled[PMD_ORDER + 1], size_shmem[PMD_ORDER + 1]; // by order
	_Atomic bool zero_page_counted;
	struct khugepaged khugepaged;
};

// Fills mm->thp and the upcalls of huge pages. Nothing runs yet. Cannot fail.
void thp_init(struct thp *, struct mm_core *);
// khugepaged ends; no space is left.
void thp_destroy(struct thp *);
// A setting was written: khugepaged starts, ends, or looks again. -EAGAIN: no thread to be had.
int thp_settings_changed(struct thp *);

static inline unsigned long thp_setting(const struct thp *thp, enum thp_setting which)
{
	return atomic_load_explicit(&thp->setting[which], memory_order_relaxed);
}

// ---- Policy

enum thp_use {
	THP_FAULT,
	THP_SMAPS,
	THP_KHUGEPAGED,
	THP_COLLAPSE, // MADV_COLLAPSE: the settings do not count
};

// Which of `orders` (bits) the vma may have for this use, anywhere in it. mmap_lock held.
unsigned thp_vma_orders(struct thp *, const struct vma *, enum thp_use, unsigned orders);
// Is there any place for a folio of the order in the vma (alignment and extent)?
bool thp_vma_has_room(const struct vma *, unsigned order);
// Shared memory at this page offset may be of the order; vma may be NULL.
bool thp_shmem_allows(struct thp *, const struct vma *, const struct object *, uint64_t pgoff,
	unsigned order, enum thp_use);
// How hard a first touch may look for a huge page.
gfp_t thp_fault_gfp(const struct thp *, const struct vma *);
gfp_t thp_khugepaged_gfp(const struct thp *);
// Some size is not "never".
bool thp_any_enabled(const struct thp *);

// ---- Upcalls (virt/mm.h says what each does)

int thp_huge_fault(struct vma *, struct task *, uint64_t addr, bool write);
int thp_large_fault(struct vma *, struct task *, uint64_t addr);
void thp_large_object(struct vma *, struct task *, uint64_t addr);
int thp_huge_wp_fault(struct vma *, struct task *, uint64_t addr);
int thp_split_pmd(struct vma *, uint64_t addr);
int thp_split_folio(struct folio *, struct folio_list *tails);
int thp_advise(struct space *, struct task *, uint64_t addr, uint64_t len, int advice);
void thp_space_forked(struct space *child, struct space *parent);
void thp_space_exit(struct space *);
bool thp_eligible(const struct vma *);

// ---- Leaves (fault.c)

// A new anonymous huge folio where `seen` still stands at the PMD entry of haddr: rmap, LRU,
// resident pages, then the host. The caller's reference becomes the leaf's. 0, -EEXIST (the entry
// changed),
// -ENOMEM. mmap_lock held.
int thp_map_anon_leaf(struct vma *, struct task *, uint64_t haddr, struct pte seen,
	struct folio *);
// Map the object's huge folio at haddr, where nothing is mapped yet; `make` it when there is no
// page. >0: mapped; 0: small pages serve. mmap_lock held.
int thp_object_fault(struct vma *, struct task *, uint64_t haddr, bool write, bool make);
// A zeroed huge folio for a first touch, by policy; counted. NULL: none to be had.
struct folio *thp_alloc_for_fault(struct vma *, struct task *, uint64_t haddr);

// ---- Splitting

// The folio becomes folios of new_order (0, or 2 and more below its own). Locked, with one
// reference of the caller's. See mm->up.split_folio. -EINVAL: a new order that cannot be.
int thp_split_folio_to(struct folio *, unsigned new_order, struct folio_list *tails);
// debugfs: folios mapped in [start, end) of a task's space become folios of new_order. How many
// were split, or -ESRCH, -EINVAL.
int thp_split_range(struct thp *, int pid, uint64_t start, uint64_t end, unsigned new_order);
// Every folio of the machine. How many were split.
int thp_split_all(struct thp *);
// Split up to `max` folios of the node's deferred queue. No lock is waited for that a reclaimer may
// not wait for. Returns how many were split.
unsigned thp_shrink_deferred(struct thp *, unsigned nid, unsigned max);
// A new huge page waits there to be found underused. The lock of its leaf keeps it.
static inline void thp_queue_new(struct thp *thp, struct folio *folio)
{
	if (thp_setting(thp, SET_SHRINK_UNDERUSED))
		(void)folio_deferred_queue(folio);
}

// ---- Collapse

struct collapse {
	struct thp *thp;
	bool khugepaged; // else MADV_COLLAPSE
	int cpu;
	unsigned node_load[MAX_NODES];
};

// The range of one PMD at haddr, mmap_lock of the space held for reading. *ret_locked false: it was
// given up, and vmas may have changed.
enum scan_result collapse_scan_pmd(struct collapse *, struct vma *, uint64_t haddr,
	bool *ret_locked);
enum scan_result collapse_scan_object(struct collapse *, struct vma *, uint64_t haddr,
	bool *ret_locked);
// The object's folio at haddr is huge: small entries of the space that map it make room for a leaf.
// mmap_lock held. Else PAGE_NULL, PAGE_COMPOUND: it is gone, or small; PMD_NULL; PTE_NON_PRESENT,
// FAIL: something else is mapped there, and all entries stay.
enum scan_result collapse_map_object(struct vma *, uint64_t haddr);
// A huge folio by the node loads that a scan counted; SCAN_SUCCEED or why not.
enum scan_result collapse_alloc(struct collapse *, struct folio **ret_folio);
// mmap_lock held: the vma at haddr, if it may still be collapsed there.
enum scan_result collapse_revalidate(struct collapse *, struct space *, uint64_t haddr,
	struct vma **ret_vma);

// ---- khugepaged

void khugepaged_enter(struct thp *, struct space *);
// So many full scans now, in this thread, whether or not the daemon runs.
void khugepaged_scan_full(struct thp *, unsigned nr);

#endif
