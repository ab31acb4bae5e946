// SPDX-License-Identifier: MIT
// Runs in the thread of who wants a block, and of who wants a node compacted.
//
//   compaction_direct()   an allocation found no block: its zones, one after the other, until one
//                         has it. Asynchronous at first; then the run may wait for locks, and at
//                         the highest priority it also looks where nothing was found before
//   compact_nodes()       everything that can move does, and may be waited for
//
// An allocation is never in the middle of a move of its own when it gets here (targets are found
// before anything is locked), but it may hold mmap_lock, and folios it isolated: so its run only
// tries folio locks. What can fail: nothing; the answer says what became of it.
#include "base/mark.h"
#include "compact/internal.h"
#include "phys/alloc.h"

static enum compact_result compact_zone_order(struct compaction *c, struct zone *zone, gfp_t gfp,
	unsigned order, enum compact_priority prio)
{
	bool full = prio == COMPACT_PRIO_SYNC_FULL;
	bool cma = gfp & GFP_MOVABLE && !(gfp & GFP_PIN);
	struct compact_control cc = {
		.compaction = c,
		.zone = zone,
		.order = (int)order,
		.gfp = gfp,
		.type = gfp_migratetype(gfp),
		.highest = gfp_highest_zone(gfp),
		.alloc_flags = WMARK_MIN | (cma ? ALLOC_CMA : 0),
		.mode = prio == COMPACT_PRIO_ASYNC ? MIGRATE_ASYNC : MIGRATE_SYNC_LIGHT,
		.direct = true,
		.whole_zone = full,
		.ignore_skip_hint = full,
		.ignore_block_suitable = full,
	};

	return compact_zone(&cc);
}

static void note(enum compact_result *result, enum compact_result here)
{
	if (here > *result)
		*result = here;
}

// One zone of the request. true: no need to go on.
static bool try_zone(struct compaction *c, struct zone *zone, gfp_t gfp, unsigned order,
	enum compact_priority prio, enum compact_result *result)
{
	enum compact_result here;

	if (prio != COMPACT_PRIO_SYNC_FULL && compaction_deferred(zone, order)) {
		note(result, COMPACT_DEFERRED);
		return false;
	}
	here = compact_zone_order(c, zone, gfp, order, prio);
	note(result, here);
	if (here == COMPACT_SUCCESS) {
		compaction_defer_reset(zone, order, false);
		return true;
	}
	if (prio != COMPACT_PRIO_ASYNC &&
		(here == COMPACT_COMPLETE || here == COMPACT_PARTIAL_SKIPPED))
		defer_compaction(zone, order);
	return false;
}

enum compact_result compaction_direct(void *arg, gfp_t gfp, unsigned order, int nid,
	const struct nodemask *allowed, enum compact_priority prio)
{
	struct mm_core *mm = arg;
	struct node *node = phys_node(mm->phys, (unsigned)nid);
	const struct zonelist *zones = gfp & GFP_THISNODE ? &node->nofallback : &node->fallback;
	enum compact_result result = COMPACT_SKIPPED;

	if (!(gfp & GFP_IO))
		return COMPACT_SKIPPED;
	MARK(compaction_direct);
	trace_event(mm->trace, mm_compaction_try_to_compact_pages, .order = (int)order,
		.gfp_mask = gfp, .prio = prio);
	for (unsigned i = 0; i < zones->nr; i++) {
		struct zone *zone = zones->zone[i];

		if (zone->type > gfp_highest_zone(gfp) ||
			(allowed && !nodemask_test(*allowed, zone->node->nid)))
			continue;
		if (try_zone(mm->compaction, zone, gfp, order, prio, &result))
			break;
	}
	return result;
}

void compaction_helped(void *mm maybe_unused, struct zone *zone, unsigned order)
{
	compaction_defer_reset(zone, order, true);
}

// ---- Whole nodes

void compact_node(struct compaction *c, struct node *node, bool proactive)
{
	for (unsigned i = 0; i < ZONES_PER_NODE; i++) {
		struct compact_control cc = {
			.compaction = c,
			.zone = &node->zone[i],
			.order = COMPACT_WHOLE_ORDER,
			.gfp = GFP_KERNEL,
			.mode = proactive ? MIGRATE_SYNC_LIGHT : MIGRATE_SYNC,
			.highest = ZONE_MOVABLE,
			.proactive = proactive,
			.whole_zone = true,
			.ignore_skip_hint = true,
		};

		if (!zone_populated(cc.zone))
			continue;
		(void)compact_zone(&cc);
		if (proactive) {
			vm_events(c->mm->stat, VM_COMPACT_DAEMON_MIGRATE_SCANNED,
				(long)cc.nr_migrate_scanned);
			vm_events(c->mm->stat, VM_COMPACT_DAEMON_FREE_SCANNED,
				(long)cc.nr_free_scanned);
		}
	}
}

void compact_nodes(struct compaction *c, int nid)
{
	struct phys *phys = c->mm->phys;
	int node;

	if (nid >= 0) {
		compact_node(c, phys_node(phys, (unsigned)nid), false);
		return;
	}
	for_each_node_in(node, phys->has_memory)
		compact_node(c, phys_node(phys, (unsigned)node), false);
}
