// SPDX-License-Identifier: MIT
// Between alloc.c and slowpath.c.
#ifndef GODWIT_PHYS_SLOWPATH_H
#define GODWIT_PHYS_SLOWPATH_H

#include "phys/zone.h"

// One request on its way through the zonelist.
struct alloc_context {
	struct phys *phys;
	gfp_t gfp;
	unsigned order;
	unsigned cpu, cpu_node;
	unsigned nid; // preferred
	const struct nodemask *allowed; // NULL: all
	enum migratetype type;
	enum zone_type highest;
	const struct zonelist *zonelist;
	struct zone *preferred; // the first zone that may serve it
};

// A backed block from the first zone whose watermark (in alloc_flags) allows it.
struct frame *alloc_from_zonelist(struct alloc_context *ac, unsigned alloc_flags);
// The fast path failed.
struct frame *alloc_slowpath(struct alloc_context *ac, unsigned alloc_flags);

#endif
