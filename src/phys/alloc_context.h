// SPDX-License-Identifier: MIT
// Between alloc.c, slowpath.c and contig.c.
#ifndef GODWIT_PHYS_ALLOC_CONTEXT_H
#define GODWIT_PHYS_ALLOC_CONTEXT_H

#include "phys/zone.h"

// One request on its way through the zonelist.
struct alloc_context {
	struct phys *phys;
	gfp_t gfp;
	unsigned order;
	unsigned cpu, cpu_node;
	unsigned nid;			// preferred
	const struct nodemask *allowed; // NULL: all
	enum migratetype type;
	enum zone_type highest;
	const struct zonelist *zonelist;
	struct zone *preferred; // the first zone that may serve it
};

bool zone_allowed(const struct alloc_context *ac, const struct zone *zone);
// A backed block from the first zone whose watermark (in alloc_flags) allows it.
struct frame *alloc_from_zonelist(struct alloc_context *ac, unsigned alloc_flags);
// The fast path failed.
struct frame *alloc_slowpath(struct alloc_context *ac, unsigned alloc_flags);
// An order beyond the buddy's: a free aligned range; moves nothing.
struct folio *folio_alloc_gigantic(struct alloc_context *ac);

// A new folio of such frames (refcount 0): refcount 1, everything else as if never used.
struct folio *prep_new_folio(struct frame *head, unsigned order, gfp_t gfp);
// numa_* of nr allocations from this zone; pgalloc_* of nr pages.
void count_numa(struct alloc_context *ac, struct zone *zone, unsigned nr);
void count_allocated(struct phys *phys, const struct zone *zone, unsigned long nr);

#endif
