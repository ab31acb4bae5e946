// SPDX-License-Identifier: MIT
// The free scanner: pages for others to move to, from the high end of the zone down.
//
// Free blocks are taken out of the buddy by pageblock, whole, until there are as many pages as wait
// for a target. Only pageblocks of movable memory are searched (any at the highest priority), and
// not one that is a free block of the wanted order itself. The zone's min watermark is respected:
// when it forbids a block, the scan ends there. Blocks are on the run's own lists, by order,
// without any state; a target is split off the smallest that fits, and becomes a folio, its bytes
// backed, when migration asks for it. What is not used goes back at the end.
//
// Locks: the zone lock for one pageblock at a time; none when migration calls.
// What can fail: no free page is left above the migrate scanner, or the host has no memory for its
// bytes: then there is no target.
#include "base/mark.h"
#include "compact/internal.h"
#include "phys/alloc.h"
#include "phys/buddy.h"

static void isolate_free_pageblock(struct compact_control *cc, uint64_t *pfn, uint64_t end);

static bool suitable_target(const struct compact_control *cc, uint64_t pageblock)
{
	struct frame *frame = pfn_frame(pfn_of(pageblock));
	unsigned order = cc->order > 0 ? (unsigned)cc->order : PAGEBLOCK_ORDER;
	enum migratetype type = pageblock_type(cc->zone, pageblock);

	if (frame_test_buddy(frame) && buddy_order(frame) >= order)
		return false;
	if (!cc->ignore_skip_hint && pageblock_test_skip(cc->zone, pageblock))
		return false;
	return type_is_movable(type) || (cc->ignore_block_suitable && type != MIGRATE_ISOLATE);
}

// Nothing is left in this pageblock; the next run begins below it.
static void skip_pageblock(struct compact_control *cc, uint64_t pageblock)
{
	_Atomic uint64_t *cached = &cc->zone->compact.cached_free_pfn;

	if (cc->ignore_skip_hint)
		return;
	pageblock_set_skip(cc->zone, pageblock);
	if (pageblock - PAGEBLOCK_NR < atomic_load_explicit(cached, memory_order_relaxed))
		atomic_store_explicit(cached, pageblock - PAGEBLOCK_NR, memory_order_relaxed);
}

void isolate_freepages(struct compact_control *cc)
{
	uint64_t lowest = pageblock_start(cc->migrate_pfn) + PAGEBLOCK_NR, pfn = cc->free_pfn;

	for (uint64_t block = pageblock_start(pfn); block >= lowest;
		block -= PAGEBLOCK_NR, pfn = block) {
		uint64_t end = min(block + PAGEBLOCK_NR, zone_end_pfn(cc->zone));

		if (!suitable_target(cc, block))
			continue;
		isolate_free_pageblock(cc, &pfn, end);
		if (pfn == end)
			skip_pageblock(cc, block);
		if (cc->nr_freepages >= cc->nr_migratepages) {
			if (pfn >= end)
				pfn = block - PAGEBLOCK_NR;
			break;
		}
		if (pfn < end)
			break; // the watermark
	}
	cc->free_pfn = pfn;
}

// ---- One pageblock

struct free_scan {
	struct compact_control *cc;
	uint64_t pfn;
	unsigned long nr_scanned, nr_taken;
	bool locked;
};

static void free_scan_lock(struct free_scan *s) NO_THREAD_SAFETY_ANALYSIS
{
	if (!s->locked)
		mutex_lock(&s->cc->zone->lock);
	s->locked = true;
}

static void free_scan_unlock(struct free_scan *s) NO_THREAD_SAFETY_ANALYSIS
{
	if (s->locked)
		mutex_unlock(&s->cc->zone->lock);
	s->locked = false;
}

// false: the zone needs the block.
static bool take_free_block(struct free_scan *s, struct frame *frame) NO_THREAD_SAFETY_ANALYSIS
{
	struct compact_control *cc = s->cc;
	unsigned order = buddy_order(frame);

	if (!buddy_isolate_block(cc->zone, frame, order))
		return false;
	frame_list_add_tail(&cc->freepages[order], frame);
	cc->nr_freepages += 1u << order;
	s->nr_taken += 1ul << order;
	s->nr_scanned += (1ul << order) - 1;
	s->pfn += (1ul << order) - 1;
	return true;
}

// The rest of a huge page within the pageblock holds nothing free.
static void pass_large(struct free_scan *s, struct frame *frame, uint64_t end)
{
	unsigned long pages = 1ul << folio_order((struct folio *)frame);

	if (!frame_test_head(frame) || s->pfn + pages > end)
		return;
	s->pfn += pages - 1;
	s->nr_scanned += pages - 1;
}

// Until enough is taken (*pfn is where to go on), or the end (*pfn is the end).
static void isolate_free_pageblock(struct compact_control *cc, uint64_t *pfn, uint64_t end)
{
	struct free_scan s = {.cc = cc, .pfn = *pfn};
	bool enough = false;

	for (; s.pfn < end && !enough; s.pfn++) {
		struct frame *frame = pfn_frame(pfn_of(s.pfn));

		s.nr_scanned++;
		if (!frame_test_buddy(frame)) {
			pass_large(&s, frame, end);
			continue;
		}
		free_scan_lock(&s);
		if (!frame_test_buddy(frame))
			continue;
		if (!take_free_block(&s, frame)) {
			MARK(compact_free_watermark);
			break;
		}
		enough = cc->nr_freepages >= cc->nr_migratepages;
	}
	free_scan_unlock(&s);
	s.pfn = min(s.pfn, end);
	trace_event(compact_phys(cc)->trace, mm_compaction_isolate_freepages, .start_pfn = *pfn,
		.end_pfn = s.pfn, .nr_scanned = s.nr_scanned, .nr_taken = s.nr_taken);
	*pfn = s.pfn;
	cc->nr_free_scanned += s.nr_scanned;
	if (s.nr_taken)
		vm_events(compact_phys(cc)->stat, VM_COMPACT_ISOLATED, (long)s.nr_taken);
}

// ---- For migration

static void add_free(struct compact_control *cc, struct frame *head, unsigned order)
{
	frame_list_add(&cc->freepages[order], head);
	cc->nr_freepages += 1u << order;
}

// A block of at least the order, off its list; NULL: none, also after looking for more.
static struct frame *take_free(struct compact_control *cc, unsigned order, unsigned *ret_order)
{
	for (unsigned tries = 0; tries < 2; tries++) {
		for (unsigned o = order; o < NR_PAGE_ORDERS; o++) {
			struct frame *head = frame_list_first(&cc->freepages[o]);
			if (!head)
				continue;
			frame_list_del(&cc->freepages[o], head);
			cc->nr_freepages -= 1u << o;
			*ret_order = o;
			return head;
		}
		if (!tries)
			isolate_freepages(cc);
	}
	return NULL;
}

// The upper halves go back until the block has the order.
static void split_free(struct compact_control *cc, struct frame *head, unsigned from, unsigned to)
{
	while (from > to) {
		from--;
		add_free(cc, head + (1ul << from), from);
	}
}

static void used(struct compact_control *cc, unsigned pages)
{
	cc->nr_migratepages -= min(cc->nr_migratepages, pages);
}

static struct folio *compaction_alloc(struct folio *src, void *arg)
{
	struct compact_control *cc = arg;
	unsigned order = folio_order(src), have;
	struct frame *head = take_free(cc, order, &have);

	if (!head)
		return NULL;
	split_free(cc, head, have, order);
	if (folio_prep_isolated(head, order, GFP_MOVABLE)) {
		add_free(cc, head, order);
		return NULL;
	}
	used(cc, 1u << order);
	return (struct folio *)head;
}

// Neighbours, which move in one copy and one remap.
static unsigned compaction_alloc_run(struct folio *first_src maybe_unused, unsigned max_pages,
	struct folio **ret_dst, void *arg)
{
	struct compact_control *cc = arg;
	unsigned order = 0, have;
	struct frame *head = take_free(cc, 0, &have);
	unsigned nr = 0;

	if (!head)
		return 0;
	while (order < have && 2u << order <= max_pages)
		order++;
	split_free(cc, head, have, order);
	for (; nr < 1u << order; nr++) {
		if (folio_prep_isolated(head + nr, 0, GFP_MOVABLE))
			break;
		ret_dst[nr] = (struct folio *)(head + nr);
	}
	for (unsigned i = nr; i < 1u << order; i++)
		add_free(cc, head + i, 0);
	used(cc, nr);
	return nr;
}

static void compaction_free(struct folio *dst, void *arg)
{
	struct compact_control *cc = arg;
	unsigned order = folio_order(dst);

	cc->nr_migratepages += 1u << order;
	if (folio_unprep_isolated(dst))
		add_free(cc, &dst->page, order);
	else
		MARK(compact_target_lost);
}

void compaction_target(struct migrate_target *target, struct compact_control *cc)
{
	*target = (struct migrate_target){.get = compaction_alloc, .put = compaction_free,
		.run = compaction_alloc_run, .arg = cc};
}

uint64_t release_freepages(struct compact_control *cc)
{
	uint64_t highest = 0;

	for (unsigned order = 0; order < NR_PAGE_ORDERS; order++) {
		struct frame *head;

		while ((head = frame_list_pop(&cc->freepages[order]))) {
			highest = max(highest, frame_pfn(head).n);
			frames_free(head, order);
		}
	}
	cc->nr_freepages = 0;
	return highest;
}
