// SPDX-License-Identifier: MIT
// A space: the addresses of a task, their vmas, their page table (the kernel's mm_struct), and
// vmas, the stretches of it that share one set of properties.
//
// Where a space's addresses are on the host: each mapping call reserves one host window (a region);
// vmas keep `host`, the host address of their start, so address + (host - start) is the pointer.
// Field letters: M mmap_lock (write to change, read to look), P page-table lock, R the rmap locks.
#ifndef GODWIT_VIRT_SPACE_H
#define GODWIT_VIRT_SPACE_H

#include "base/interval_tree.h"
#include "base/list.h"
#include "base/lock.h"
#include "machine/mmu.h"
#include "virt/page_table.h"

struct mm_core;
struct task;
struct object;
struct anon_vma;
struct mempolicy;
struct hugetlb_promise;

enum vm_flags {
	VM_READ = 1 << 0,
	VM_WRITE = 1 << 1,
	VM_EXEC = 1 << 2,
	VM_SHARED = 1 << 3,
	VM_MAYWRITE = 1 << 4,
	VM_LOCKED = 1 << 5,
	VM_HUGEPAGE = 1 << 6,
	VM_NOHUGEPAGE = 1 << 7,
	VM_MERGEABLE = 1 << 8,
	VM_DONTFORK = 1 << 9,
	VM_HUGETLB = 1 << 10,
	VM_DONTEXPAND = 1 << 11,
	VM_PFNMAP = 1 << 12, // device memory: never migrated
	VM_IO = 1 << 13,
	VM_STACK = 1 << 14,
	VM_HEAP = 1 << 15,
	VM_HUGETLB_1G = 1 << 16, // with VM_HUGETLB: its pages have 1 GiB, else 2 MiB
	VM_ACCOUNT = 1 << 17,	 // private memory that may be written, or could be once
	VM_SEQ_READ = 1 << 18,	 // read in order of addresses, so the program says
	VM_RAND_READ = 1 << 19,	 // in no order
	VM_SPECIAL = VM_IO | VM_DONTEXPAND | VM_PFNMAP, // never merged
};

// The host window of one mapping call; lives as long as a vma lies in it. Addresses and host
// pointers run in parallel inside, and agree in their low 21 bits: a PMD of one is a PMD of the
// other. Where an address asks for it the window begins before the mapping itself.
struct region {
	struct interval_node by_host; // in space->regions, the window's [start, last]     M
	struct mmu_window *window;
	uint64_t base;	       // space address of the window's start
	unsigned nr_vmas;      // M
	_Atomic bool refused;  // an access was: the host may go on refusing where it was
	struct list_head dead; // in space->dead_regions                            M
};

struct vma {
	struct interval_node node; // in space->vmas, [start, end-1]             M
	struct space *space;
	uint64_t start, end; // M (and the rmap lock: a walk may look)
	uint64_t pgoff;	     // page offset in the object; of start/4K at creation when anonymous
	_Atomic unsigned flags; // enum vm_flags; M to write, rmap walks may look
	struct region *region;
	uintptr_t host;		// host address of start
	struct object *object;	// NULL: anonymous. Holds a reference
	struct interval_node i_mmap;   // in object->i_mmap                       R
	struct list_head anon_chain;   // struct anon_vma_chain.same_vma         M + R
	struct anon_vma *_Atomic anon_vma; // NULL before the first anonymous page; set under M read
	struct mempolicy *policy;      // NULL: the task's                        M
	// hugetlb, of private mappings: what was promised to it, which the parts of a split share;
	// and whether a page was taken from it by who the promise was made to.
	struct hugetlb_promise *promise; // M
	_Atomic bool hugetlb_robbed;
	uint64_t numa_next_scan_ns;    // balancing
	void *numa_state; // balancing's; it hears of the end by mm->up.vma_gone
};

// Consecutive frames, reserved for consecutive addresses: src/virt/fault_near.c.
#define NEAR_PAGES 64
#define NEAR_RUNS 4
struct near_run {
	uint64_t start; // address of the first page
	struct pfn first;
	uint64_t left; // bit i: the frame of page i is still here, with a reference
};

struct space {
	struct mm_core *mm;
	struct list_head all; // in mm->spaces
	unsigned id;	      // from 1 in its machine; what traces call it
	_Atomic int users;
	_Atomic unsigned host_faults; // being served; waited for before the space goes
	struct rwlock mmap_lock; // rank MMAP
	struct interval_tree vmas;	 // M
	unsigned nr_vmas;		 // M
	struct interval_tree regions;	 // M
	struct list_head dead_regions;	 // M; windows to close once mmap_lock is free
	struct page_table *pgd;
	struct mutex tables_lock; // guards the next three, publishing of anon_vmas; rank PAGE_TABLE
	struct page_table *free_tables;
	struct page_table *deposited; // one a huge entry of anonymous memory, for its split
	unsigned nr_deposited;
	struct near_run near_runs[NEAR_RUNS]; // tables_lock
	unsigned near_next;		      // tables_lock
	// Invalidations under way, by side; which side counts those that begin; somebody waits for
	// them (src/virt/notify.c).
	_Atomic unsigned invalidating[2], invalidate_side;
	_Atomic bool draining;
	// Whose cpu and policy count when the accessing thread is unknown.
	struct task *_Atomic owner;
	_Atomic long rss_anon, rss_file, rss_shmem, locked_vm, pinned_vm; // pages
	_Atomic bool has_pins; // ever long-term pinned: fork must look
	uint64_t mmap_base;    // where map looks for room next            M
	// balancing and scanners
	_Atomic uint64_t numa_next_scan;
	uint64_t numa_scan_offset;
	_Atomic int numa_scan_seq;
	void *khugepaged_slot, *ksm_slot;
	_Atomic bool thp_disabled; // PR_SET_THP_DISABLE; a fork inherits it
};

// Where [addr, addr+len) shall be and what it is.
struct map_request {
	uint64_t addr;	   // 0: wherever
	bool fixed;	   // exactly at addr (-EEXIST when something is there), on pages
	uint64_t len;	   // bytes, rounded up to pages (hugetlb: a multiple of align)
	uint64_t align;	   // power of two, 0: 2 MiB when len allows, else a page
	unsigned flags;	   // enum vm_flags
	struct object *object; // NULL: private anonymous memory
	uint64_t pgoff;
	bool own; // the process's own space: the address is the host pointer
	struct hugetlb_promise *promise; // the vma's, once it is mapped
};

int space_create(struct mm_core *, struct space **ret_space);
void space_get(struct space *);
bool space_tryget(struct space *); // false: it is being destroyed (found on mm->spaces)
void space_put(struct space *);	   // the last one unmaps everything; no lock held

// The system calls. All return 0 or a negative errno, with Linux's meaning; none changes anything
// when it fails.
int space_map(struct space *, const struct map_request *, uint64_t *ret_addr);
int space_unmap(struct space *, uint64_t addr, uint64_t len);
int space_protect(struct space *, uint64_t addr, uint64_t len, unsigned vm_rwx);
// mremap(MREMAP_MAYMOVE): moves [addr,len) to a new place: wherever, or exactly at new_addr when
// fixed (-EEXIST when something is there). A smaller new_len not fixed shrinks in place, a larger
// one grows in place when there is room in the window; an equal one moves. The task is whose the
// new tables are.
int space_remap(struct space *, struct task *, uint64_t addr, uint64_t len, uint64_t new_len,
	uint64_t new_addr, bool fixed, uint64_t *ret_addr);
// madvise words that belong to plain memory: DONTNEED, FREE, PAGEOUT, DONTFORK, DOFORK, HUGEPAGE,
// NOHUGEPAGE, MERGEABLE, UNMERGEABLE, POPULATE_READ, POPULATE_WRITE (Linux's numbers). Others go
// to mm->up. 
int space_advise(struct space *, struct task *, uint64_t addr, uint64_t len, int advice);
int space_lock(struct space *, struct task *, uint64_t addr, uint64_t len);
int space_unlock(struct space *, uint64_t addr, uint64_t len);

// mmap_lock held. The vma that contains addr, else NULL; the first that ends after addr; those
// beside one.
struct vma *vma_lookup(struct space *, uint64_t addr);
struct vma *vma_find(struct space *, uint64_t addr);
struct vma *vma_next(struct vma *);
struct vma *vma_prev(struct vma *);
// Split so that addr is a boundary.
int vma_split(struct vma *, uint64_t addr);
// Merge a vma that is new, or whose properties have just changed, with what lies beside it and is
// alike: on both sides, or only above. Returns the vma that it is then. mmap_lock held for write.
struct vma *vma_merge_around(struct vma *);
struct vma *vma_merge_next(struct vma *);

// The vma may be moved at all (vma_migratable: not device memory, not hugetlb unless supported).
bool vma_migratable(const struct vma *);

// What the addresses of a vma are mapped by at least, and where it may be split.
static inline uint64_t vma_page_size(const struct vma *vma)
{
	unsigned flags = vma->flags;

	if (!(flags & VM_HUGETLB))
		return PAGE_SIZE;
	return flags & VM_HUGETLB_1G ? PUD_SIZE : PMD_SIZE;
}

// May a task do anything here (not PROT_NONE)?
static inline bool vma_accessible(const struct vma *vma)
{
	return vma->flags & (VM_READ | VM_WRITE | VM_EXEC);
}

// What the host shall permit where this present entry stands.
static inline enum mmu_prot vma_pte_prot(const struct vma *vma, struct pte e)
{
	if (!vma_accessible(vma) || (e.v & PTE_HINT))
		return MMU_NONE;
	return pte_writable(e) ? MMU_WRITE : MMU_READ;
}

static inline uintptr_t vma_host(const struct vma *vma, uint64_t addr)
{
	return vma->host + (addr - vma->start);
}

static inline uint64_t vma_pgoff(const struct vma *vma, uint64_t addr)
{
	return vma->pgoff + ((addr - vma->start) >> PAGE_SHIFT);
}

// The host pointer of an address that lies in a vma; NULL when unmapped. Takes mmap_lock for read.
void *space_pointer(struct space *, uint64_t addr);
// Space address of a host address in one of its windows; -EFAULT when no vma. mmap_lock held.
int space_addr_of_host(struct space *, uintptr_t host, uint64_t *ret_addr);

// Frames reserved for touches to come are freed; no lock held.
void space_drop_near_runs(struct space *);

void space_check(struct space *); // the books of one space; see mm_check()

#endif
