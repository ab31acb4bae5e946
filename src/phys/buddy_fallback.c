// SPDX-License-Identifier: MIT
// When a zone has no free block of the wanted migratetype: which other type gives, and whether its
// whole pageblock changes sides.
//
// Mixing types in a pageblock is what later keeps a huge page from being made, so it is done
// as rarely as possible. First claim: from the largest block down, take over the whole pageblock
// of a block, if the block is a pageblock or more, or if at least half of the pageblock would then
// serve the new type (pages that are free, plus pages in use that look alike). Blocks below order 4
// are only worth a claim for types that cannot be moved away later. Only when no pageblock can be
// claimed, steal: the smallest block, its pageblock keeps its type. Each claim of part of a
// pageblock boosts the zone's watermarks, so that the background reclaim makes room before the
// next one. With ALLOC_NOFRAGMENT only whole pageblocks are taken.
#include "base/mark.h"
#include "phys/buddy.h"

static const enum migratetype fallbacks[MIGRATE_PCPTYPES][MIGRATE_PCPTYPES - 1] = {
	[MIGRATE_UNMOVABLE] = {MIGRATE_RECLAIMABLE, MIGRATE_MOVABLE},
	[MIGRATE_MOVABLE] = {MIGRATE_RECLAIMABLE, MIGRATE_UNMOVABLE},
	[MIGRATE_RECLAIMABLE] = {MIGRATE_UNMOVABLE, MIGRATE_MOVABLE},
};

// The first type after `type` that has a block of exactly this order: its head, or NULL.
static struct frame *fallback_block(
	struct zone *zone, unsigned order, enum migratetype type, enum migratetype *ret_type)
{
	for (unsigned i = 0; i < MIGRATE_PCPTYPES - 1; i++) {
		enum migratetype other = fallbacks[type][i];
		struct frame *head = frame_list_first(&zone->free_area[order].list[other]);
		if (head) {
			*ret_type = other;
			return head;
		}
	}
	return NULL;
}

static void report(struct zone *zone, struct frame *head, unsigned order, unsigned high,
	enum migratetype type, enum migratetype other, bool claimed)
{
	trace_event(zone_phys(zone)->trace, mm_page_alloc_extfrag, .pfn = frame_pfn(head).n,
		.alloc_order = order, .fallback_order = high, .alloc_migratetype = type,
		.fallback_migratetype = other, .change_ownership = claimed);
}

// Only where somebody listens who lowers it again.
static void boost_watermark(struct zone *zone)
{
	struct phys *phys = zone_phys(zone);
	unsigned factor = atomic_load_explicit(&phys->watermark_boost_factor, memory_order_relaxed);
	unsigned long high =
		atomic_load_explicit(&zone->watermark[WMARK_HIGH], memory_order_relaxed);
	unsigned long boost, limit = high * factor / 10000;

	if (!phys->up.wake_kswapd || !limit ||
		PAGEBLOCK_NR * 4 > atomic_load_explicit(&zone->nr_managed, memory_order_relaxed))
		return;
	limit = max(limit, (unsigned long)PAGEBLOCK_NR);
	boost = atomic_load_explicit(&zone->watermark_boost, memory_order_relaxed) + PAGEBLOCK_NR;
	atomic_store_explicit(&zone->watermark_boost, min(boost, limit), memory_order_relaxed);
}

// Pages of the pageblock that are free, and pages in use that could move.
static void count_pageblock(uint64_t pfn, unsigned long *ret_free, unsigned long *ret_movable)
{
	unsigned long nr_free = 0, nr_movable = 0;

	for (uint64_t p = pfn, nr; p < pfn + PAGEBLOCK_NR; p += nr) {
		struct frame *frame = pfn_frame(pfn_of(p));
		uint32_t flags = frame_flags(frame);
		nr = 1;
		if (flags >> PG_BUDDY & 1) {
			nr = 1ul << buddy_order(frame);
			nr_free += nr;
			continue;
		}
		// A hint without reference or lock; tails are judged by their head.
		struct folio *folio = frame_folio(frame);
		if (folio_test_lru(folio) || folio_test_movable_type(folio))
			nr_movable++;
	}
	*ret_free = nr_free;
	*ret_movable = nr_movable;
}

static struct frame *claim_block(struct zone *zone, struct frame *head, unsigned order,
	unsigned high, enum migratetype type, enum migratetype other) REQUIRES(&zone->lock)
{
	uint64_t pfn = frame_pfn(head).n, start = ALIGN_DOWN(pfn, PAGEBLOCK_NR);
	unsigned long nr_free, nr_movable, alike;

	if (high >= PAGEBLOCK_ORDER) {
		struct frame *taken = buddy_take_split(zone, head, high, high, other);
		for (uint64_t p = pfn; p < pfn + (1ul << high); p += PAGEBLOCK_NR)
			pageblock_set_type(zone, p, type);
		// Back under its new type, then the part that is wanted.
		buddy_free(zone, taken, high);
		return buddy_take_smallest(zone, order, type);
	}
	boost_watermark(zone);
	if (start < zone->start_pfn || start + PAGEBLOCK_NR > zone_end_pfn(zone))
		return NULL;
	count_pageblock(start, &nr_free, &nr_movable);
	if (type == MIGRATE_MOVABLE)
		alike = nr_movable;
	else // in use and not movable, in a block meant for movable pages
		alike = other == MIGRATE_MOVABLE ? PAGEBLOCK_NR - nr_free - nr_movable : 0;
	if (nr_free + alike < PAGEBLOCK_NR / 2)
		return NULL;
	MARK(buddy_claim);
	buddy_move_pageblock(zone, start, type);
	return buddy_take_smallest(zone, order, type);
}

static struct frame *claim(struct zone *zone, unsigned order, enum migratetype type,
	unsigned alloc_flags) REQUIRES(&zone->lock)
{
	unsigned lowest =
		alloc_flags & ALLOC_NOFRAGMENT ? max(order, (unsigned)PAGEBLOCK_ORDER) : order;
	enum migratetype other;

	for (unsigned high = MAX_PAGE_ORDER + 1; high-- > lowest;) {
		if (high < PAGEBLOCK_ORDER / 2 && type == MIGRATE_MOVABLE)
			return NULL; // it can be moved out of the way later
		struct frame *head = fallback_block(zone, high, type, &other);
		if (!head)
			continue;
		struct frame *taken = claim_block(zone, head, order, high, type, other);
		if (taken) {
			report(zone, taken, order, high, type, other, true);
			return taken;
		}
	}
	return NULL;
}

static struct frame *steal(struct zone *zone, unsigned order, enum migratetype type)
	REQUIRES(&zone->lock)
{
	enum migratetype other;

	for (unsigned high = order; high < NR_PAGE_ORDERS; high++) {
		struct frame *head = fallback_block(zone, high, type, &other);
		if (!head)
			continue;
		MARK(buddy_steal);
		report(zone, head, order, high, type, other, false);
		return buddy_take_split(zone, head, order, high, other);
	}
	return NULL;
}

struct frame *buddy_alloc_fallback(
	struct zone *zone, unsigned order, enum migratetype type, unsigned alloc_flags)
{
	struct frame *head;

	mutex_assert_held(&zone->lock);
	if (type >= MIGRATE_PCPTYPES)
		return NULL;
	head = claim(zone, order, type, alloc_flags);
	if (!head && !(alloc_flags & ALLOC_NOFRAGMENT))
		head = steal(zone, order, type);
	return head;
}
