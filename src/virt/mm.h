// SPDX-License-Identifier: MIT
// What all spaces of one machine share, and the calls that must go up.
//
// The layers below know nothing of huge pages, KSM or compaction; where they must ask, they ask
// through mm_upcalls. A missing upcall (NULL) means: that subsystem is not there.
#ifndef GODWIT_VIRT_MM_H
#define GODWIT_VIRT_MM_H

#include "base/histogram.h"
#include "base/list.h"
#include "base/lock.h"
#include "base/nodemask.h"
#include "machine/mmu.h"
#include "phys/folio.h"
#include "virt/pte.h"

struct phys;
struct copier;
struct clock;
struct vmstat;
struct trace_ring;
struct space;
struct vma;
struct task;
struct gather;
struct page_table;
struct mempolicy;
struct thp;
struct hugetlb;
struct compaction;

enum mm_invalidate_reason {
	MM_INVALIDATE_UNMAP,
	MM_INVALIDATE_PROTECT,
	MM_INVALIDATE_MIGRATE,
	MM_INVALIDATE_COW,
	MM_INVALIDATE_SPLIT,
	MM_INVALIDATE_COLLAPSE,
	MM_INVALIDATE_KSM,
	MM_INVALIDATE_SOFT_DIRTY,
};

// Registered by assemblers (src/engine) and, through the public interface, by users who give
// addresses to a device. start() is called before translations go, end() after: in between the
// subscriber must not use what it cached for the range. Both may sleep, and must not fault.
struct mm_notifier {
	struct list_head node;
	uint64_t from, until; // hears of what starts in between: numbers of src/virt/notify.c
	_Atomic unsigned under_way; // started, not ended
	struct space *space;
	void (*start)(struct mm_notifier *, uint64_t start, uint64_t end,
		enum mm_invalidate_reason);
	void (*end)(struct mm_notifier *, uint64_t start, uint64_t end,
		enum mm_invalidate_reason);
};

// One invalidation, on the stack of who makes it.
struct mm_invalidation {
	struct space *space;
	uint64_t start, end;
	enum mm_invalidate_reason why;
	unsigned side; // where the space counts it
	uint64_t told; // 0: nobody was
};

struct mm_upcalls {
	// A fault in an empty PMD range; >0 it mapped a huge page, 0 fall back to small pages,
	// <0 errno.
	int (*huge_fault)(struct vma *, struct task *, uint64_t addr, bool write);
	// First write to anonymous memory where there is a table already or no PMD leaf could be
	// had: >0 a large folio was mapped around addr by small entries, 0 a single page, <0 errno.
	int (*large_fault)(struct vma *, struct task *, uint64_t addr);
	// A first touch of shared memory: where nothing is cached around addr, a large folio may
	// be put.
	void (*large_object)(struct vma *, struct task *, uint64_t addr);
	// A write to a read-only huge page; 0 served, 1 split, retry as small pages, <0 errno.
	int (*huge_wp_fault)(struct vma *, struct task *, uint64_t addr);
	// A fault in a hugetlb vma, with enum fault_flags: 0, <0 (-EIO: no page to be had, SIGBUS),
	// or an outcome of virt/fault_internal.h. mmap_lock held for reading.
	int (*hugetlb_fault)(struct vma *, struct task *, uint64_t addr, unsigned flags);
	// The upper part of a split shares the lower's promise. A vma is about to be freed, its
	// pages are zapped: what it was promised and did not use goes back. mmap_lock held for
	// write.
	void (*hugetlb_split)(struct vma *upper, struct vma *lower);
	void (*hugetlb_close)(struct vma *);
	// The mapping of a page of a pool at addr is about to be dropped by a zap. Page table
	// locked.
	void (*hugetlb_zap)(struct vma *, uint64_t addr, struct folio *);
	// fork: the child gets a copy of the page at addr (its first) now, as the parent's is
	// pinned. Nothing locked but both mmap_locks. 0, -ENOMEM, -EAGAIN: it is to be looked at
	// again.
	int (*hugetlb_fork_copy)(struct vma *child, struct vma *parent, struct task *,
		uint64_t addr);
	// A fault on a page made to hint; the entry is restored by the caller when 0.
	int (*hint_fault)(struct vma *, struct task *, uint64_t addr, struct folio *);
	// A CPU access to device-private memory.
	int (*device_fault)(struct vma *, struct task *, uint64_t addr, struct pte);
	// Walk every mapping of a KSM folio (mapping type 3).
	void (*ksm_rmap)(struct folio *, bool (*one)(struct vma *, uint64_t addr, void *),
		void *arg);
	void (*ksm_migrated)(struct folio *dst, struct folio *src);
	// Split the PMD leaf at addr into 512 entries (the folio stays whole). mmap_lock or rmap
	// held.
	int (*split_huge_pmd)(struct vma *, uint64_t addr);
	// Split a huge folio; locked, one caller reference. Tails are unlocked, and put on `tails`
	// (with the head's isolation: a reference, counted) when the head is isolated, else on the
	// LRU.
	// -EBUSY: in use by others, -EAGAIN: something is locked.
	int (*split_folio)(struct folio *, struct folio_list *tails);
	// A folio of a pool: off its active list with a reference, or false; back on it, putting
	// the reference; a folio to move src to (allowed empty: any node), or NULL; src became dst:
	// pool counts and the temporary mark follow.
	bool (*hugetlb_isolate)(struct folio *);
	void (*hugetlb_putback)(struct folio *);
	struct folio *(*hugetlb_target)(struct folio *src, int nid, struct nodemask allowed,
		gfp_t gfp, int reason);
	void (*hugetlb_moved)(struct folio *dst, struct folio *src, int reason);
	// Words of madvise this layer does not serve.
	int (*advise)(struct space *, struct task *, uint64_t addr, uint64_t len, int advice);
	// fork and exit of a space, for scanners; a vma goes.
	void (*space_forked)(struct space *child, struct space *parent);
	void (*space_exit)(struct space *);
	// A vma is about to be freed; mmap_lock held for write.
	void (*vma_gone)(struct vma *);
	// Would huge pages be used in it (smaps)? mmap_lock held for reading.
	bool (*thp_eligible)(const struct vma *);
	// A page that is pinned must lie where it may stay (CMA and movable zones are not).
	int (*unpinnable)(struct folio *);
};

// Tunables the virt and migrate layers read; paths and texts are in src/text/tunables.c.
struct mm_tunables {
	_Atomic unsigned long fault_around_bytes; // 64 KiB
	_Atomic bool numa_demotion;
	_Atomic unsigned pause_budget_us; // of migrations that name none; 0: none
};

// Accessors that sleep in the host (userfaultfd) while the engine knows of them only by address:
// when their access came, for the histogram. src/virt/migration_wait.c.
#define HOST_WAITS_MAX 64
struct host_waits {
	struct mutex lock; // rank WAIT_TABLE
	_Atomic unsigned nr;
	struct {
		uintptr_t at; // host page
		uint64_t since_ns;
	} slot[HOST_WAITS_MAX];
};

// From block to map, ns a page, by the size of a batch (src/migrate/pause.c). 0: not yet measured.
#define PAUSE_SIZES 10 // 1, 2-3, 4-7, ... 512 pages and more
struct pause_book {
	_Atomic uint32_t page_ns[PAUSE_SIZES], deviation_ns[PAUSE_SIZES];
};

struct mm_core {
	struct phys *phys;
	struct mmu *mmu;
	struct copier *copier;
	struct clock *clock;
	struct vmstat *stat;
	struct trace_ring *trace;
	struct mm_upcalls up;
	struct thp *thp; // of src/thp; NULL: there is none
	struct hugetlb *hugetlb; // of src/hugetlb; NULL: there is none
	struct compaction *compaction; // of src/compact; NULL: there is none
	struct mm_tunables tunables;
	struct mutex cpuset_lock; // rank CPUSET: mems_allowed of all tasks
	struct mutex tasks_lock; // rank TASKS: tasks, spaces lists
	struct mutex objects_lock; // rank I_PAGES: objects list, as objects end under mmap_lock
	struct list_head tasks;
	struct list_head spaces;
	struct list_head objects;
	struct list_head notifiers; // src/virt/notify.c has their lock
	_Atomic unsigned nr_notifiers;
	struct list_head pins; // struct pin.node
	int next_pid;
	_Atomic unsigned last_space_id;
	unsigned last_object_id; // objects_lock
	_Atomic uint8_t il_weight[MAX_NODES]; // of weighted interleave; 0: the default, 1
	// Zeros, read-only, never freed: a run of 512 frames where memory allows, so that
	// neighbours that map it merge into one host mapping. One page to the engine.
	struct folio *zero_page;
	struct histogram migration_waits; // ns that accessors waited for moving pages
	struct host_waits host_waits;
	_Atomic bool checking; // mm_check() runs: faults of the host wait
	struct pause_book migrate_pauses;
	_Atomic uint64_t migrate_overruns; // blocks that took longer than their budget
	_Atomic uint64_t faults_near_limit; // placed by neighbour: host mappings were short
	_Atomic uint64_t faults_at_limit;   // failed: the host had no mapping left
};

// An access arrived that will sleep in the host if its page is moving; it did not sleep after all;
// pages got a translation, which wakes who sleeps on them.
void host_wait_begin(struct mm_core *, uintptr_t at);
void host_wait_cancel(struct mm_core *, uintptr_t at);
void host_wait_end(struct mm_core *, uintptr_t at, unsigned nr);

int mm_core_init(struct mm_core *); // phys, mmu, copier, clock, stat, trace are set by the caller
void mm_core_release(struct mm_core *);

// The node of a cpu.
int mm_cpu_nid(const struct mm_core *, int cpu);

// Starts and ends come in pairs, and when register returns no invalidation is under way that the
// subscriber was not told of; unregister returns after the last end that was due. Both may sleep,
// and wait for callbacks: no lock held that one takes, and not from within start() or end().
void mm_notifier_register(struct mm_core *, struct mm_notifier *);
void notifiers_in_child(void); // of the host's fork()
void mm_notifier_unregister(struct mm_core *, struct mm_notifier *);
// Under any lock up to the rmap locks, never under a page-table lock. They may nest.
void mm_notify_start(struct mm_invalidation *, struct space *, uint64_t start, uint64_t end,
	enum mm_invalidate_reason);
void mm_notify_end(struct mm_invalidation *);
// The same in two steps, the first under any lock. true: the second must follow, before any entry
// changes; false: nobody is to be told.
must_check bool mm_notify_begin(struct mm_invalidation *, struct space *, uint64_t start,
	uint64_t end, enum mm_invalidate_reason);
void mm_notify_tell(struct mm_invalidation *);

// Balances the books of all spaces: every present entry has its mapcount and reference, every
// mapped folio's count equals the entries found, rss counters, rmap trees, tables' nr_used. Only
// when nothing runs. Aborts with a dump on the first difference. Also runs phys_check().
void mm_check(struct mm_core *);

#endif
