// SPDX-License-Identifier: MIT
// Per-cpu lists: blocks of order 0-3 and 9 taken from and given to the buddy in batches, so that
// most allocations take no zone lock. A cpu is a number the caller names; several threads may use
// the same one (its list has a lock, and who cannot get it at once goes to the buddy).
#ifndef GODWIT_PHYS_PCP_H
#define GODWIT_PHYS_PCP_H

#include "phys/zone.h"

// A list a type for orders 0-3, two for order 9 (movable and not).
#define PCP_LISTS (MIGRATE_PCPTYPES * (PAGE_ALLOC_COSTLY_ORDER + 1) + 2)

struct pcp {
	struct mutex lock;		   // rank PCP
	unsigned count;			   // P: pages on the lists
	struct frame_list list[PCP_LISTS]; // P
} __attribute__((aligned(64)));

static inline bool pcp_allowed_order(unsigned order)
{
	return order <= PAGE_ALLOC_COSTLY_ORDER || order == PAGEBLOCK_ORDER;
}

// A block, or NULL (order not kept here, list busy, or the zone has none).
struct frame *pcp_alloc(struct zone *zone, unsigned cpu, unsigned order, enum migratetype type,
	unsigned alloc_flags);
// false: the caller must give it to the buddy (order not kept, type not kept, list busy).
bool pcp_free(
	struct zone *zone, unsigned cpu, struct frame *head, unsigned order, enum migratetype type);

// Everything back to the buddy: one zone's (all cpus), or all zones'.
void zone_drain_pcp(struct zone *zone);
void drain_all_pages(struct phys *phys);
// While disabled (counted), frees go straight to the buddy: contiguous allocation.
void zone_pcp_disable(struct zone *zone);
void zone_pcp_enable(struct zone *zone);

// The cpu that frees of this thread are counted on; 0 until set.
unsigned phys_this_cpu(void);
void phys_set_this_cpu(unsigned cpu);

#endif
