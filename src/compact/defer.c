// SPDX-License-Identifier: MIT
// A zone that was compacted in vain is left alone for a while.
//
// Each failure in a row doubles how many requests are turned away before the next try, up to 64.
// Requests for blocks smaller than the smallest that failed are not turned away. Success ends it.
// The numbers are the zone's; they are written without a lock: a lost update changes when the next
// try comes, nothing else.
#include "base/mark.h"
#include "compact/internal.h"

#define READ(field) atomic_load_explicit(&zone->compact.field, memory_order_relaxed)
#define WRITE(field, value)                                                                        \
	atomic_store_explicit(&zone->compact.field, value, memory_order_relaxed)
#define TRACE_DEFER(name)                                                                          \
	trace_event(zone_phys(zone)->trace, name, .nid = zone->node->nid, .idx = zone->type,       \
		.order = (int)order, .considered = READ(considered),                               \
		.defer_shift = READ(defer_shift), .order_failed = READ(order_failed))

void defer_compaction(struct zone *zone, unsigned order)
{
	WRITE(considered, 0);
	WRITE(defer_shift, min(READ(defer_shift) + 1, COMPACT_MAX_DEFER_SHIFT));
	if ((int)order < READ(order_failed))
		WRITE(order_failed, (int)order);
	TRACE_DEFER(mm_compaction_defer_compaction);
}

void compaction_defer_reset(struct zone *zone, unsigned order, bool allocated)
{
	if (allocated) {
		WRITE(considered, 0);
		WRITE(defer_shift, 0);
	}
	if ((int)order >= READ(order_failed))
		WRITE(order_failed, (int)order + 1);
	TRACE_DEFER(mm_compaction_defer_reset);
}

bool compaction_deferred(struct zone *zone, unsigned order)
{
	unsigned limit = 1u << READ(defer_shift), considered = READ(considered) + 1;

	if ((int)order < READ(order_failed))
		return false;
	WRITE(considered, min(considered, limit));
	if (considered >= limit)
		return false;
	MARK(compaction_deferred);
	TRACE_DEFER(mm_compaction_deferred);
	return true;
}

bool compaction_restarting(const struct zone *zone, unsigned order)
{
	return (int)order >= READ(order_failed) &&
	       READ(defer_shift) == COMPACT_MAX_DEFER_SHIFT &&
	       READ(considered) >= 1u << COMPACT_MAX_DEFER_SHIFT;
}
