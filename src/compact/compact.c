// SPDX-License-Identifier: MIT
// A run of compaction over one zone.
//
//	zone:  |UUMMMM.M|MM.M..MM| ...            ... |M.......|..M.....|
//	        migrate scanner -->                          <-- free scanner
//
//   compact_zone()
//     begin_run()        is it worth it; where the scanners start
//     until finished():  the scanners met, or a block of the order is free
//       isolate_migratepages()   up to 32 pages of the next pageblock      (source.c)
//       migrate_pages()          to pages that isolate_freepages() takes   (target.c)
//       drain when a block behind the migrate scanner is done: what it held can merge then
//     end_run()          unused free pages go back, positions and numbers are kept
//
// The scanners of the next run go on where these stopped; when they met, both start anew. Success
// is looked for at the ends of pageblocks only, so that what was begun is finished.
//
// A page that cannot be moved stays, and is counted by its reason in zone->compact.stays. Locks:
// none is held between the steps. What can fail: migration has no memory for its own data; the run
// ends then, and nothing is isolated any more.
#include "base/mark.h"
#include "base/sched.h"
#include "compact/internal.h"
#include "phys/alloc.h"
#include "phys/backing.h"
#include "phys/pcp.h"

#include <errno.h>

static bool begin_run(struct compact_control *cc, enum compact_result *ret_result);
static enum compact_result compact_finished(struct compact_control *cc);
static enum compact_result move_some(struct compact_control *cc, uint64_t *last_migrated);
static void drain_behind(struct compact_control *cc, uint64_t *last_migrated);
static void end_run(struct compact_control *cc, enum compact_result result);

enum compact_result compact_zone(struct compact_control *cc)
{
	uint64_t last_migrated = 0; // pageblock whose pages moved and are not drained yet
	enum compact_result result;

	if (!begin_run(cc, &result))
		return result;
	while ((result = compact_finished(cc)) == COMPACT_CONTINUE) {
		sched_point();
		// A pageblock that is met again is finished now, and then left alone.
		cc->finish_pageblock =
			last_migrated && last_migrated == pageblock_start(cc->migrate_pfn);
		result = move_some(cc, &last_migrated);
		if (result != COMPACT_CONTINUE)
			break;
		drain_behind(cc, &last_migrated);
	}
	end_run(cc, result);
	return result;
}

// ---- Begin

static uint64_t last_pageblock(const struct zone *zone)
{
	return pageblock_start(zone_end_pfn(zone) - 1);
}

static uint64_t read_pfn(const _Atomic uint64_t *pfn)
{
	return atomic_load_explicit(pfn, memory_order_relaxed);
}

static void write_pfn(_Atomic uint64_t *pfn, uint64_t value)
{
	atomic_store_explicit(pfn, value, memory_order_relaxed);
}

static void reset_cached_positions(struct zone *zone)
{
	struct zone_compact *c = &zone->compact;

	write_pfn(&c->cached_migrate_pfn[0], zone->start_pfn);
	write_pfn(&c->cached_migrate_pfn[1], zone->start_pfn);
	write_pfn(&c->cached_free_pfn, last_pageblock(zone));
}

static bool in_zone(const struct zone *zone, uint64_t pfn)
{
	return pfn >= zone->start_pfn && pfn < zone_end_pfn(zone);
}

static void place_scanners(struct compact_control *cc)
{
	struct zone *zone = cc->zone;
	struct zone_compact *c = &zone->compact;

	cc->migrate_pfn = zone->start_pfn;
	cc->free_pfn = last_pageblock(zone);
	if (cc->whole_zone)
		return;
	if (in_zone(zone, read_pfn(&c->cached_free_pfn)))
		cc->free_pfn = read_pfn(&c->cached_free_pfn);
	if (in_zone(zone, read_pfn(&c->cached_migrate_pfn[cc->mode != MIGRATE_ASYNC])))
		cc->migrate_pfn = read_pfn(&c->cached_migrate_pfn[cc->mode != MIGRATE_ASYNC]);
	// From the first pageblock on, it is the whole zone anyway.
	cc->whole_zone = cc->migrate_pfn == zone->start_pfn;
}

static bool begin_run(struct compact_control *cc, enum compact_result *ret_result)
{
	if (cc->order > 0) {
		*ret_result = compaction_suit(cc->compaction, cc->zone, (unsigned)cc->order,
			cc->highest, cc->alloc_flags);
		if (*ret_result != COMPACT_CONTINUE)
			return false;
		if (compaction_restarting(cc->zone, (unsigned)cc->order))
			zone_clear_skip(cc->zone);
	}
	place_scanners(cc);
	// What earlier runs found is old news once a run for an allocation has seen all of it.
	if (cc->whole_zone && atomic_exchange(&cc->zone->compact.blockskip_flush, false))
		zone_clear_skip(cc->zone);
	trace_event(compact_phys(cc)->trace, mm_compaction_begin,
		.zone_start = cc->zone->start_pfn, .migrate_pfn = cc->migrate_pfn,
		.free_pfn = cc->free_pfn, .zone_end = zone_end_pfn(cc->zone),
		.sync = cc->mode != MIGRATE_ASYNC);
	return true;
}

// ---- Is it done?

bool compact_scanners_met(const struct compact_control *cc)
{
	return cc->free_pfn >> PAGEBLOCK_ORDER <= cc->migrate_pfn >> PAGEBLOCK_ORDER;
}

static bool any_free(const struct zone *zone, unsigned order, enum migratetype type)
{
	return atomic_load_explicit(&zone->free_area[order].nr[type], memory_order_relaxed) != 0;
}

// Would the buddy take a block of this order of another type for the request?
static bool would_claim(const struct compact_control *cc, unsigned order)
{
	if (order < PAGEBLOCK_ORDER && order < PAGEBLOCK_ORDER / 2 &&
		cc->type == MIGRATE_MOVABLE)
		return false;
	for (unsigned type = 0; type < MIGRATE_PCPTYPES; type++)
		if (any_free(cc->zone, order, type))
			return true;
	return false;
}

static bool block_is_free(const struct compact_control *cc)
{
	for (unsigned order = (unsigned)cc->order; order < NR_PAGE_ORDERS; order++)
		if (any_free(cc->zone, order, cc->type) ||
			(cc->type == MIGRATE_MOVABLE && any_free(cc->zone, order, MIGRATE_CMA)) ||
			would_claim(cc, order))
			return true;
	return false;
}

static enum compact_result scanners_met(struct compact_control *cc)
{
	reset_cached_positions(cc->zone);
	if (cc->direct)
		atomic_store(&cc->zone->compact.blockskip_flush, true);
	return cc->whole_zone ? COMPACT_COMPLETE : COMPACT_PARTIAL_SKIPPED;
}

static enum compact_result look_at_end(struct compact_control *cc)
{
	if (compact_scanners_met(cc))
		return scanners_met(cc);
	if (atomic_load_explicit(&cc->compaction->stop, memory_order_relaxed))
		return COMPACT_CONTENDED;
	if (cc->proactive)
		return fragmentation_score_zone(cc->zone) >
				       fragmentation_score_limit(cc->compaction, true)
			       ? COMPACT_CONTINUE
			       : COMPACT_SUCCESS;
	if (cc->order == COMPACT_WHOLE_ORDER || !IS_ALIGNED(cc->migrate_pfn, PAGEBLOCK_NR))
		return COMPACT_CONTINUE;
	return block_is_free(cc) ? COMPACT_SUCCESS : COMPACT_NO_SUITABLE_PAGE;
}

static enum compact_result compact_finished(struct compact_control *cc)
{
	enum compact_result result = look_at_end(cc);

	trace_event(compact_phys(cc)->trace, mm_compaction_finished, .nid = cc->zone->node->nid,
		.idx = cc->zone->type, .order = cc->order, .ret = result);
	return result == COMPACT_NO_SUITABLE_PAGE ? COMPACT_CONTINUE : result;
}

// ---- Moving

static enum compact_stay stay_of(enum migrate_why why)
{
	switch (why) {
	case WHY_PINNED:
	case WHY_EXTRA_REFERENCE:
	case WHY_LOCKED:
		return COMPACT_STAY_PINNED;
	case WHY_NO_TARGET:
	case WHY_ABORTED:
		return COMPACT_STAY_NO_TARGET;
	case WHY_WRITEBACK:
	case WHY_DIRTY_NO_METHOD:
	case WHY_PRIVATE_DATA:
		return COMPACT_STAY_FILE_BUSY;
	default:
		return COMPACT_STAY_FAILED;
	}
}

static void explain(struct folio *folio, enum migrate_why why, const char *detail maybe_unused,
	void *arg)
{
	struct compact_control *cc = arg;

	cc->stays[stay_of(why)] += folio_nr(folio);
}

// 0, or what migrate_pages() said; nothing is isolated afterwards.
static int migrate_list(struct compact_control *cc)
{
	struct migrate_control mc = {
		.mm = cc->compaction->mm,
		.mode = cc->mode,
		.reason = MR_COMPACTION,
		.atomic_reclaim = cc->direct,
		.explain = explain,
		.explain_arg = cc,
	};
	unsigned nr = cc->nr_migratepages;
	int err;

	compaction_target(&mc.target, cc);
	err = migrate_pages(&cc->migratepages, &mc);
	trace_event(compact_phys(cc)->trace, mm_compaction_migratepages,
		.nr_migrated = mc.nr_succeeded, .nr_failed = nr - min(nr, mc.nr_succeeded));
	putback_movable_pages(cc->compaction->mm, &cc->migratepages);
	cc->nr_migratepages = 0;
	cc->nr_moved += mc.nr_succeeded;
	return err;
}

// Isolates and moves once; again, with all that is left of the pageblock, when some pages did not
// move: it cannot become free as a whole, and shall not be scanned again soon.
static enum compact_result move_some(struct compact_control *cc, uint64_t *last_migrated)
{
	for (;;) {
		enum compact_result result = isolate_migratepages(cc);
		int err;

		if (result == COMPACT_CONTENDED)
			return result;
		if (result == COMPACT_NO_SUITABLE_PAGE)
			return COMPACT_CONTINUE;
		*last_migrated = max(cc->zone->start_pfn, pageblock_start(cc->migrate_pfn - 1));
		err = migrate_list(cc);
		if (err == -ENOMEM && !compact_scanners_met(cc)) {
			MARK(compact_no_memory);
			return COMPACT_CONTENDED;
		}
		if (!err || cc->finish_pageblock || cc->ignore_skip_hint ||
			cc->mode == MIGRATE_SYNC || IS_ALIGNED(cc->migrate_pfn, PAGEBLOCK_NR))
			return COMPACT_CONTINUE;
		MARK(compact_finish_pageblock);
		cc->finish_pageblock = true;
		if (cc->order == PAGEBLOCK_ORDER)
			*last_migrated = 0; // draining would not make it whole
	}
}

// The sources wait on per-cpu lists, or in quarantine until nobody can reach them.
static void drain_behind(struct compact_control *cc, uint64_t *last_migrated)
{
	if (cc->order <= 0 || !*last_migrated ||
		*last_migrated >= ALIGN_DOWN(cc->migrate_pfn, 1ul << cc->order))
		return;
	node_quarantine_scan(cc->zone->node);
	zone_drain_pcp(cc->zone);
	*last_migrated = 0;
}

// ---- End

static void keep_numbers(struct compact_control *cc, enum compact_result result)
{
	struct zone_compact *c = &cc->zone->compact;

	atomic_store_explicit(&c->result, result, memory_order_relaxed);
	atomic_fetch_add_explicit(&c->runs, 1, memory_order_relaxed);
	if (!cc->nr_migrate_scanned)
		return;
	atomic_store_explicit(&c->nr_scanned, cc->nr_migrate_scanned, memory_order_relaxed);
	atomic_store_explicit(&c->nr_moved, cc->nr_moved, memory_order_relaxed);
	for (unsigned i = 0; i < COMPACT_STAY_NR; i++)
		atomic_store_explicit(&c->stays[i], cc->stays[i], memory_order_relaxed);
}

static void end_run(struct compact_control *cc, enum compact_result result)
{
	struct zone_compact *c = &cc->zone->compact;
	struct vmstat *stat = compact_phys(cc)->stat;
	uint64_t highest = release_freepages(cc);

	// Back only: the scanner shall find again what was not used.
	if (highest && pageblock_start(highest) > read_pfn(&c->cached_free_pfn))
		write_pfn(&c->cached_free_pfn, pageblock_start(highest));
	vm_events(stat, VM_COMPACT_MIGRATE_SCANNED, (long)cc->nr_migrate_scanned);
	vm_events(stat, VM_COMPACT_FREE_SCANNED, (long)cc->nr_free_scanned);
	keep_numbers(cc, result);
	trace_event(compact_phys(cc)->trace, mm_compaction_end, .zone_start = cc->zone->start_pfn,
		.migrate_pfn = cc->migrate_pfn, .free_pfn = cc->free_pfn,
		.zone_end = zone_end_pfn(cc->zone), .sync = cc->mode != MIGRATE_ASYNC,
		.status = result);
}
