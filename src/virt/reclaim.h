// SPDX-License-Identifier: MIT
// Reclaim: getting frames back from the pages of files, and from what MADV_FREE gave up. There is
// no swap: other anonymous and shared memory stays.
#ifndef GODWIT_VIRT_RECLAIM_H
#define GODWIT_VIRT_RECLAIM_H

#include "base/nodemask.h"
#include "phys/folio.h"

struct mm_core;

// An allocation of the order failed on node nid and its neighbours within `allowed` (NULL: all):
// drop clean unmapped pages, write dirty ones back if gfp allows (IO, FS), nearest node first.
// Returns pages freed. For phys->up.reclaim. No lock is waited for: pages that are locked stay.
unsigned long reclaim_direct(struct mm_core *, gfp_t gfp, unsigned order, int nid,
	const struct nodemask *allowed);

// MADV_PAGEOUT, mmap_lock held: of the folios, isolated and counted, what is clean is unmapped and
// dropped, the rest is put back. The list is empty afterwards.
void reclaim_pages(struct mm_core *, struct folio_list *);

// A folio that was given up by MADV_FREE, isolated and locked: unmapped, if nobody has written to
// it since nor uses it, and nothing but the caller's reference is left: true. Otherwise it is an
// anonymous folio like others again, or (its locks, locked memory) is left for now. No lock is
// waited for if `try_lock`, save those of page tables.
bool reclaim_lazyfree(struct folio *, bool try_lock);

#endif
