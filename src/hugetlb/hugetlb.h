// SPDX-License-Identifier: MIT
// Pools of huge pages (hugetlb): 2 MiB and 1 GiB pages that are set aside, promised to mappings,
// and handed out to them; they are never split.
//
//	hugetlb.c	all pools, set up and taken down
//	pool.c		pages: free ones by node
//	resize.c	growing and shrinking
//	demote.c	free large pages become smaller ones of the other pool
//	surplus.c	more pages than the pool shall have; promises as numbers
//	promise.c	reservations: what a mapping was promised, and what it used of it
//	take.c		a page for an address, by policy and promise
//	map.c		mmap with huge pages; objects of huge pages
//	fault.c		first touches
//	cow.c		writes to shared private pages, and fork of pinned ones
//	migration.c	isolation, targets, and what becomes of pool counts when a page moves
//
// Life of a page: buddy -> free (no reference, on its node's list) -> in use -> free, or back to
// the buddy when it is surplus (more than the pool shall have) or temporary (made for one move).
// Persistent pages are those that are not surplus. HUGETLB is set as long as a page belongs to a
// pool, HUGETLB_MIGRATABLE while it is mapped and nobody has isolated it.
//
// Field letters: H hugetlb->lock (rank HUGETLB); counters may be read without it.
#ifndef GODWIT_HUGETLB_HUGETLB_H
#define GODWIT_HUGETLB_HUGETLB_H

#include "base/lock.h"
#include "base/nodemask.h"
#include "phys/zone.h"
#include "virt/mm.h"

struct map_request;
struct object;
struct task;
struct vma;

enum { HUGETLB_2M, HUGETLB_1G, HUGETLB_SIZES };

#define HUGETLB_FAULT_LOCKS 64

// What the last growth asked for and did not get, for who wonders why.
struct hugetlb_shortfall {
	unsigned long wanted, got; // persistent pages
	unsigned long free_pages[MAX_NODES], largest_free[MAX_NODES]; // pages; when it gave up
	bool compacted[MAX_NODES];		       // had a run of compaction by then,
	struct compact_verdict compaction[MAX_NODES]; // of which the last one said this
};

struct hugetlb_pool {
	unsigned order;				     // C
	struct folio_list free[MAX_NODES];	     // H
	_Atomic unsigned long nr_node[MAX_NODES];    // pages of the pool, free or not       H
	_Atomic unsigned long free_node[MAX_NODES];  // on the list                          H
	_Atomic unsigned long surplus_node[MAX_NODES]; //                                    H
	_Atomic unsigned long temporary_node[MAX_NODES]; // soon to go, neither persistent nor
						     // surplus                          H
	_Atomic unsigned long nr, nr_free, surplus, temporary; // their sums                 H
	_Atomic unsigned long reserved;		     // promised and not used yet            H
	_Atomic unsigned long overcommit;	     // how many surplus pages there may be  H
	_Atomic unsigned long max;		     // persistent pages after the last change H
	int next_alloc, next_free;		     // nodes, in turn                       H
	struct hugetlb_shortfall shortfall;	     //                                      H
};

struct hugetlb {
	struct mm_core *mm;
	struct mutex lock; // rank HUGETLB
	struct hugetlb_pool pool[HUGETLB_SIZES];
	struct mutex fault_lock[HUGETLB_FAULT_LOCKS]; // rank HUGETLB_FAULT, by object and offset
};

// Sets mm->hugetlb, its upcalls and those of mm->phys. Before the first mapping.
void hugetlb_init(struct hugetlb *, struct mm_core *);
// All pages go back to the buddy; nothing is mapped any more.
void hugetlb_destroy(struct hugetlb *);

// By page size: shift 21 or 30, or NULL.
struct hugetlb_pool *hugetlb_pool_of_shift(struct hugetlb *, unsigned shift);
struct hugetlb_pool *hugetlb_pool_of_vma(struct hugetlb *, const struct vma *);
struct hugetlb_pool *hugetlb_pool_of_folio(struct hugetlb *, const struct folio *);

static inline unsigned long hugetlb_pages(const struct hugetlb_pool *pool) // of 4 KiB
{
	return 1ul << pool->order;
}

static inline uint64_t hugetlb_bytes(const struct hugetlb_pool *pool)
{
	return PAGE_SIZE << pool->order;
}

static inline unsigned long hugetlb_read(const _Atomic unsigned long *counter)
{
	return atomic_load_explicit(counter, memory_order_relaxed);
}

// ---- Pools

// Persistent pages shall be `count`; nodes in turn give and lose them. With one node in the mask
// and `of_node` its pages shall be `count`, others stay. Growing may fall short, shrinking leaves
// what is in use as surplus: pool->max is what there is then. No lock held; may reclaim and
// compact.
void hugetlb_resize(struct hugetlb *, struct hugetlb_pool *, unsigned long count,
	struct nodemask allowed, bool of_node);
// So many free pages of `from`, which nobody was promised, become persistent ones of the smaller
// `to`. Fewer when there are fewer. -EBUSY: what is free is damaged. No lock held.
int hugetlb_demote(struct hugetlb *, struct hugetlb_pool *from, struct hugetlb_pool *to,
	unsigned long count, struct nodemask allowed);
void hugetlb_set_overcommit(struct hugetlb *, struct hugetlb_pool *, unsigned long count);

// ---- Mappings

// mmap: the request's length is rounded up to pages of the size; private memory, an object of such
// pages, or (shared without object) one of its own. -ENOMEM: not enough pages can be promised.
// -EINVAL: no such size, an object of other pages, offset or address not aligned. Else
// space_map()'s.
int hugetlb_map(struct task *, struct map_request *, unsigned shift, uint64_t *ret_addr);
// An object of such pages, as memfd_create(2) with MFD_HUGETLB makes.
int hugetlb_object_create(struct hugetlb *, const char *name, uint64_t size, unsigned shift,
	struct object **ret_object);
// The shift of an object's pages; 0: its pages are of no pool.
unsigned hugetlb_object_shift(const struct object *);

// The pools balance: lists, sums, flags. Only when nothing runs; aborts with the first difference.
void hugetlb_check(struct hugetlb *);

#endif
