// SPDX-License-Identifier: MIT
// Which folio is at an address, for those who ask by address, and collecting the folios of a range.
// Internal to src/migrate/.
#ifndef GODWIT_MIGRATE_LOOKUP_H
#define GODWIT_MIGRATE_LOOKUP_H

#include "base/vmstat.h"
#include "migrate/migrate.h"
#include "migrate/movable.h"
#include "migrate/stayed.h"
#include "virt/gather.h"
#include "virt/space.h"

// Addresses of one space, one after the other. mmap_lock is read-held from begin to end; the vma
// and the page-table lock of the last address are kept for the next.
struct lookup {
	struct space *space;
	struct vma *vma;
	struct gather gather; // only for the lock
	struct vmstat_batch counts;
};

void lookup_begin(struct lookup *, struct space *);
void lookup_end(struct lookup *); // idempotent
// The vma of addr, or NULL.
struct vma *lookup_vma(struct lookup *, uint64_t addr);
// The folio that addr maps; its page-table lock is held until the next call. -ENOENT: not present,
// being migrated, poisoned, or device memory; -EFAULT: no vma, or the zero page. `why` says which.
must_check int lookup_folio(struct lookup *, uint64_t addr, struct folio **ret_folio,
	enum migrate_why *why);

// ---- Folios of a range, by node

struct page_queue {
	struct mm_core *mm;
	struct nodemask nodes; // those on these nodes,
	bool invert;	       // or those that are not
	unsigned flags;	       // MBIND_MOVE, MBIND_MOVE_ALL, MBIND_STRICT
	struct folio_list list;	 // isolated here
	struct isolation isolation; // onto it, while queueing
	unsigned nr_failed;	 // folios that should have been and could not
	enum migrate_why failed; // why the first of them was not tried; WHY_MOVED: none
	uint64_t nr_shared;	 // pages passed over: others map them
	uint64_t nr_refused;	 // pages that could not be isolated
	struct folio *large;	 // the last one seen
	struct gather gather;
	struct stayed *stayed; // NULL: nobody asks
	bool meets;	       // only to meet what stayed
};

// mmap_lock held. Isolates with MOVE (folios not mapped by several spaces; others are passed over
// and do not count as failed) or MOVE_ALL. 0, or -EIO with STRICT and neither, at the first folio
// that matches.
must_check int queue_pages_range(struct page_queue *, struct space *, uint64_t start, uint64_t end);
// After migrate_pages(), before what it left is put back; no lock held. The addresses of what
// stayed, if anybody asks.
void queue_meet_stayed(struct page_queue *, struct space *, uint64_t start, uint64_t end);

// isolation_add() refused.
static inline enum migrate_why why_not_isolated(const struct folio *folio)
{
	return folio_test_movable_type(folio) ? WHY_ISOLATION_REFUSED : WHY_NOT_ON_LRU;
}

// ---- Steps of move_pages(2)

struct move_request;
struct task;
// The task a call names (0: the caller), with a reference. -ESRCH, -EPERM.
must_check int find_target_task(struct task *caller, int pid, struct task **ret_target);
// Where pages are. 0 or -EFAULT.
long ask_pages(struct move_request *, struct space *);

// May this pointer be an array of the caller? Such that certainly are none are EFAULT.
static inline bool user_array(const void *p)
{
	return (uintptr_t)p >= PAGE_SIZE && (uintptr_t)p < 1ul << 47;
}

#endif
