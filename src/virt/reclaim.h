// SPDX-License-Identifier: MIT
// Reclaim: getting frames back from the pages of files. There is no swap: anonymous and shared
// memory stays.
#ifndef GODWIT_VIRT_RECLAIM_H
#define GODWIT_VIRT_RECLAIM_H

#include "base/nodemask.h"
#include "phys/folio.h"

struct mm_core;
struct vma;

// An allocation of the order failed on node nid and its neighbours within `allowed` (NULL: all):
// drop clean unmapped pages, write dirty ones back if gfp allows (IO, FS), nearest node first.
// Returns pages freed. For phys->up.reclaim. No lock is waited for: pages that are locked stay.
unsigned long reclaim_direct(struct mm_core *, gfp_t gfp, unsigned order, int nid,
	const struct nodemask *allowed);

// MADV_PAGEOUT for [start, end) of a vma, mmap_lock held: pages that no other vma maps are
// unmapped and, if clean, dropped. Returns pages freed.
unsigned long reclaim_pageout(struct vma *, uint64_t start, uint64_t end);

#endif
