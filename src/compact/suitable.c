// SPDX-License-Identifier: MIT
// Whether compaction of a zone could help, judged by numbers alone.
//
//   compaction_suit()            for a request: is a block there already, could one come of it
//   fragmentation_index()        is too little memory free, or is it in too small pieces
//   fragmentation_score_*()      how much the background would gain by compacting
//
// A run needs free pages to move to while the wanted block is put together: twice the block above
// the min watermark (low, for blocks larger than eight pages). For such large blocks the index
// decides too: near 0 a failure is for lack of memory, and moving pages around would not help;
// towards 1000 it is fragmentation. Numbers are read without a lock; they are judgements.
#include "compact/internal.h"

// A zone's free memory, seen by who wants blocks of one order.
struct contig {
	unsigned long pages, blocks, suitable; // free: pages, blocks, blocks of the order in these
};

static unsigned long blocks_of_order(const struct zone *zone, unsigned order)
{
	unsigned long nr = 0;

	for (unsigned type = 0; type < MIGRATE_TYPES; type++)
		nr += atomic_load_explicit(
			&zone->free_area[order].nr[type], memory_order_relaxed);
	return nr;
}

static struct contig contig_of(const struct zone *zone, unsigned suitable)
{
	struct contig c = {0};

	for (unsigned order = 0; order < NR_PAGE_ORDERS; order++) {
		unsigned long nr = blocks_of_order(zone, order);

		c.blocks += nr;
		c.pages += nr << order;
		if (order >= suitable)
			c.suitable += nr << (order - suitable);
	}
	return c;
}

int fragmentation_index(struct zone *zone, unsigned order)
{
	struct contig c = contig_of(zone, order);

	if (order > MAX_PAGE_ORDER || !c.blocks)
		return 0;
	if (c.suitable)
		return -1000;
	return 1000 - (int)((1000 + (c.pages * 1000 >> order)) / c.blocks);
}

// Percent of the free memory that is of no use to huge pages.
unsigned fragmentation_score_zone(const struct zone *zone)
{
	struct contig c = contig_of(zone, PAGEBLOCK_ORDER);

	if (!c.pages)
		return 0;
	return (unsigned)((c.pages - (c.suitable << PAGEBLOCK_ORDER)) * 100 / c.pages);
}

unsigned fragmentation_score_node(const struct node *node)
{
	unsigned long score = 0;

	for (unsigned i = 0; i < ZONES_PER_NODE; i++)
		score += node->zone[i].nr_present * fragmentation_score_zone(&node->zone[i]) /
			 (node->nr_present + 1);
	return (unsigned)score;
}

unsigned fragmentation_score_limit(const struct compaction *c, bool low)
{
	unsigned long percent = atomic_load_explicit(&c->proactiveness, memory_order_relaxed);
	unsigned least = (unsigned)max(100 - percent, 5ul);

	return low ? least : min(least + 10, 100u);
}

static bool enough_is_free(const struct zone *zone, unsigned order, enum zone_type highest)
{
	bool large = order > PAGE_ALLOC_COSTLY_ORDER;
	unsigned long mark = zone_wmark(zone, large ? WMARK_LOW : WMARK_MIN) + (2ul << order);

	return zone_watermark_ok(zone, 0, mark, highest, ALLOC_CMA);
}

static enum compact_result suitable(struct compaction *c, struct zone *zone, unsigned order,
	enum zone_type highest)
{
	int index;

	if (!enough_is_free(zone, order, highest))
		return COMPACT_SKIPPED;
	if (order <= PAGE_ALLOC_COSTLY_ORDER)
		return COMPACT_CONTINUE;
	index = fragmentation_index(zone, order);
	if (index >= 0 && index <= (int)atomic_load_explicit(
				  &c->extfrag_threshold, memory_order_relaxed))
		return COMPACT_NOT_SUITABLE_ZONE;
	return COMPACT_CONTINUE;
}

enum compact_result compaction_suit(struct compaction *c, struct zone *zone, unsigned order,
	enum zone_type highest, unsigned alloc_flags)
{
	unsigned long mark = zone_wmark(zone, alloc_flags & ALLOC_WMARK_MASK);
	enum compact_result result;

	if (zone_watermark_ok(zone, order, mark, highest, alloc_flags))
		return COMPACT_SUCCESS;
	result = suitable(c, zone, order, highest);
	trace_event(zone_phys(zone)->trace, mm_compaction_suitable, .nid = zone->node->nid,
		.idx = zone->type, .order = (int)order, .ret = result);
	return result == COMPACT_CONTINUE ? result : COMPACT_SKIPPED;
}
