// SPDX-License-Identifier: MIT
// Between frames and the bytes of the arena; for the files of this folder.
#ifndef GODWIT_PHYS_BACKING_H
#define GODWIT_PHYS_BACKING_H

#include "phys/zone.h"

// The arena backs every byte of [first, first + nr), pageblock by pageblock. The caller holds these
// frames and no lock. 0, -ENOMEM.
must_check int backing_ensure(struct node *node, struct pfn first, unsigned long nr);
// Zero the bytes of 2^order frames.
void backing_zero(struct phys *phys, struct pfn first, unsigned order);
// A page enters a hugetlb pool, or leaves it; nobody else knows it (machine/arena_hugetlb.h).
void backing_enter_hugetlb(struct pfn first, unsigned order);
void backing_leave_hugetlb(struct pfn first, unsigned order);
// Punch a few pageblocks if more than free_backed_max of the node is free and backed.
void backing_trim_lazily(struct node *node);

// Freed frames (no flags, refcount 0) to quarantine, per-cpu list or buddy.
void frames_release_block(struct zone *zone, struct frame *head, unsigned order);
// The same, straight to the buddy.
void frames_to_buddy(struct zone *zone, struct frame *head, unsigned order);
// true when the frames wait in quarantine now.
bool quarantine_take(struct zone *zone, struct frame *head, unsigned order);
unsigned long node_quarantine_scan(struct node *node);

#endif
