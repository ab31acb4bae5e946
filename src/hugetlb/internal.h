// SPDX-License-Identifier: MIT
// What the files of this folder share.
#ifndef GODWIT_HUGETLB_INTERNAL_H
#define GODWIT_HUGETLB_INTERNAL_H

#include "hugetlb/hugetlb.h"

#include "virt/mempolicy.h"
#include "virt/space.h"

static inline void hugetlb_add(_Atomic unsigned long *counter, long n)
{
	atomic_store_explicit(counter, hugetlb_read(counter) + (unsigned long)n,
		memory_order_relaxed);
}

// Free pages that nobody was promised. H
static inline unsigned long hugetlb_available(const struct hugetlb_pool *pool)
{
	unsigned long nr_free = hugetlb_read(&pool->nr_free);
	unsigned long reserved = hugetlb_read(&pool->reserved);

	return nr_free > reserved ? nr_free - reserved : 0;
}

// A page that is promised anew is not back yet (hugetlb_vma_zap(), hugetlb_give_back()).
static inline bool hugetlb_is_owed(const struct hugetlb_pool *pool)
{
	return hugetlb_read(&pool->reserved) > hugetlb_read(&pool->nr_free);
}

static inline unsigned long hugetlb_persistent(const struct hugetlb_pool *pool)
{
	return hugetlb_read(&pool->nr) - hugetlb_read(&pool->surplus) -
	       hugetlb_read(&pool->temporary);
}

// ---- pool.c

// Counts. H
void hugetlb_count_page(struct hugetlb_pool *, unsigned nid, long n);
void hugetlb_count_surplus(struct hugetlb_pool *, unsigned nid, long n);
void hugetlb_count_temporary(struct hugetlb_pool *, unsigned nid, long n);
// A fresh page is counted until it is freed, and goes to the buddy then. H
void hugetlb_make_temporary(struct hugetlb_pool *, struct folio *);
// How pages of the pool are asked for.
static inline gfp_t hugetlb_gfp(const struct hugetlb_pool *pool)
{
	return pool->order > MAX_PAGE_ORDER ? GFP_HIGHUSER : GFP_HIGHUSER_MOVABLE;
}
// A page of the buddy, not counted yet, one reference; and one without references goes back,
// counted no more.
struct folio *hugetlb_alloc_fresh(struct hugetlb *, struct hugetlb_pool *, gfp_t, int nid,
	struct nodemask allowed);
void hugetlb_give_to_buddy(struct folio *);
// A page without references becomes a free one; a free one of the node leaves the list, or NULL. H
void hugetlb_put_on_list(struct hugetlb_pool *, struct folio *);
struct folio *hugetlb_take_from_list(struct hugetlb_pool *, unsigned nid);
// The next of `allowed` after what *turn remembers.
int hugetlb_next_in_turn(int *turn, struct nodemask allowed);
// A free page leaves its pool, of the next node that has one; `surplus`: one of a node with surplus
// pages, as such. The caller gives it to the buddy. H
struct folio *hugetlb_remove_free(struct hugetlb_pool *, struct nodemask allowed, bool surplus);
// The first free page by distance from nid (GFP_THISNODE: there) within `allowed`, with one
// reference, or NULL. H held; reserved is the caller's.
struct folio *hugetlb_dequeue(struct hugetlb *, struct hugetlb_pool *, gfp_t, int nid,
	struct nodemask allowed);
// phys->up.free_hugetlb
void hugetlb_free_folio(void *mm, struct folio *);

// ---- surplus.c

// A page more than the pool has: surplus (NULL: there are as many as may be), or temporary. One
// reference. No lock held.
struct folio *hugetlb_alloc_surplus(struct hugetlb *, struct hugetlb_pool *, gfp_t, int nid,
	struct nodemask allowed);
struct folio *hugetlb_alloc_temporary(struct hugetlb *, struct hugetlb_pool *, gfp_t, int nid,
	struct nodemask allowed);
// Free pages of these nodes, promised or not. H
unsigned long hugetlb_free_within(const struct hugetlb_pool *, struct nodemask);
// So many more pages are promised, if they are there within `allowed` or surplus pages can be had:
// 0, -ENOMEM. And the promise ends unused: surplus pages it kept go back to the buddy.
int hugetlb_reserve(struct hugetlb *, struct hugetlb_pool *, struct task *, unsigned long nr);
void hugetlb_unreserve(struct hugetlb *, struct hugetlb_pool *, unsigned long nr);

// ---- promise.c

// How a page of a vma is taken, and undone.
struct hugetlb_claim {
	struct hugetlb *h;
	struct hugetlb_pool *pool;
	struct vma *vma;
	uint64_t addr;	 // of the page
	bool promised;	 // it is one of those that were reserved
	bool used;	 // it was marked as used by this claim
};

// Is the page at addr, which is not there yet, reserved for the vma? H
bool hugetlb_is_promised(const struct hugetlb_claim *);
// It is used now; and it is not, after all. H
void hugetlb_promise_use(struct hugetlb_claim *);
void hugetlb_promise_unuse(struct hugetlb_claim *);
// The mapping was made with promises of its own (not a child's copy of one).
static inline bool hugetlb_owns_promise(const struct vma *vma)
{
	return vma->promise;
}

// Promise pages [first, first + nr) (in pages of the pool) of an object, or (NULL) of a private
// mapping: *ret_promise is for the vma then. And take it back, if there is no mapping after all.
int hugetlb_promise_make(struct hugetlb *, struct hugetlb_pool *, struct task *, struct object *,
	uint64_t first, uint64_t nr, struct hugetlb_promise **ret_promise);
void hugetlb_promise_cancel(struct hugetlb_promise *);
// Of an object that goes: what nobody used.
void hugetlb_object_unreserve(struct object *);

void hugetlb_vma_split(struct vma *upper, struct vma *lower);
void hugetlb_vma_close(struct vma *);
void hugetlb_vma_zap(struct vma *, uint64_t addr, struct folio *);

// What an object of huge pages has of its own: object->private.
struct hugetlb_object {
	struct hugetlb *h;
	struct hugetlb_pool *pool;
	unsigned long *promised; // bitmap of pages: reserved, used or not                H
	uint64_t nr;		 // its length                                            H
	unsigned long unused;	 // promised, and not in the index                        H
};

// ---- take.c

// A page for an address: of the promise unless `beside` (a copy must not use what the mapping was
// promised for other pages), by policy, else surplus. 0, -EIO: there is none, FAULT_AGAIN: a
// promised one is on its way.
int hugetlb_take(struct hugetlb_claim *, struct vma *, uint64_t addr, struct task *, bool beside,
	struct folio **ret_folio);
// It was not used.
void hugetlb_give_back(struct hugetlb_claim *, struct folio *);

// ---- fault.c, cow.c

int hugetlb_fault(struct vma *, struct task *, uint64_t addr, unsigned flags);
// One access; the fault lock is held, and may be given up meanwhile.
struct hugetlb_access {
	struct hugetlb *h;
	struct hugetlb_pool *pool;
	struct vma *vma;
	struct task *task;
	uint64_t addr, haddr; // what was asked for, and where its page begins
	unsigned flags;
	struct mutex *lock;
};
// The page is there, read-only, and the access wants it to write or to own.
int hugetlb_write_protected(struct hugetlb_access *);
// The table that the page at haddr has its leaves in, locked; NULL: there is none.
struct page_table *hugetlb_table_lock(struct vma *, uint64_t haddr);
// The leaves of a page become like its first (or none), table locked; and the host follows, or
// (-ENOMEM) shows nothing there.
void hugetlb_set_entries(struct page_table *, uint64_t haddr, const struct hugetlb_pool *,
	struct pte first);
int hugetlb_translate(struct vma *, const struct hugetlb_pool *, uint64_t haddr, struct pte first);
// A private page's identity and its mapping at haddr. Table locked.
void hugetlb_add_anon_rmap(struct folio *, struct vma *, uint64_t haddr);
int hugetlb_fork_copy(struct vma *child, struct vma *parent, struct task *, uint64_t addr);

// ---- migration.c

bool hugetlb_isolate(struct folio *);
void hugetlb_putback(struct folio *);
struct folio *hugetlb_target(struct folio *src, int nid, struct nodemask allowed, gfp_t,
	int reason);
void hugetlb_moved(struct folio *dst, struct folio *src, int reason);

#endif
