// SPDX-License-Identifier: MIT
// The migrate scanner: which pages of a zone move, from the low end up.
//
// A pageblock is passed over when its skip bit says that nothing came of it lately, when it is one
// huge page, or, for an allocation that shall not be kept waiting, when it is of another type than
// the request. In a pageblock up to 32 pages are isolated (all, when it is to be finished). A page
// is taken if it is on the LRU or a driver's movable page, is not pinned, and does not need waiting
// that the mode forbids; a huge page only if a larger block is wanted. What stays is counted by
// reason.
//
// An asynchronous run for an allocation looks at chunks as large as what is wanted: the first page
// of a chunk that cannot move makes the others of it useless, and they are put back.
//
// Pages are found by number, without a lock: flags are hints until a reference is held, and the
// reference keeps the folio whole. The LRU lock is taken for up to 32 at once.
#include "base/mark.h"
#include "base/sched.h"
#include "compact/internal.h"
#include "migrate/movable.h"
#include "phys/alloc.h"
#include "phys/buddy.h"
#include "virt/object.h"
#include "virt/rmap.h"

#include <sched.h>

#define ISOLATED_WAITS 64 // times that a run waits for others who isolated too much

struct scan {
	struct compact_control *cc;
	uint64_t first, pfn, end; // of one pageblock
	uint64_t chunk_end;	  // of the block that is wanted; only if by_chunk
	bool by_chunk;
	bool from_start; // the scan began at the first page of the pageblock
	bool claimed;	 // the skip bit was looked at, and set
	bool elsewhere;	 // another run is in this pageblock
	unsigned nr_taken;
	unsigned long nr_scanned;
	struct isolation isolation;
};

static bool scan_pageblock(struct compact_control *cc, uint64_t first, uint64_t end);

static bool pageblock_is_huge_page(uint64_t pfn)
{
	struct folio *folio = (struct folio *)pfn_frame(pfn_of(pfn));

	return folio_large(folio) && folio_order(folio) >= PAGEBLOCK_ORDER;
}

// A run for an allocation that does not wait takes the shortest way.
static bool suitable_source(const struct compact_control *cc, uint64_t pfn)
{
	enum migratetype type = pageblock_type(cc->zone, pfn);

	if (pageblock_is_huge_page(pfn))
		return false;
	if (cc->mode != MIGRATE_ASYNC || !cc->direct)
		return true;
	return cc->type == MIGRATE_MOVABLE ? type_is_movable(type) : type == cc->type;
}

static void raise_cached(_Atomic uint64_t *cached, uint64_t pfn)
{
	if (pfn > atomic_load_explicit(cached, memory_order_relaxed))
		atomic_store_explicit(cached, pfn, memory_order_relaxed);
}

// Pageblocks below pfn are done with.
static void update_cached(struct compact_control *cc, uint64_t pfn)
{
	struct zone_compact *c = &cc->zone->compact;

	raise_cached(&c->cached_migrate_pfn[0], pfn);
	if (cc->mode != MIGRATE_ASYNC)
		raise_cached(&c->cached_migrate_pfn[1], pfn);
}

static bool skipped(const struct compact_control *cc, uint64_t pfn)
{
	return !cc->ignore_skip_hint && pageblock_test_skip(cc->zone, pfn);
}

enum compact_result isolate_migratepages(struct compact_control *cc)
{
	uint64_t pfn = cc->migrate_pfn, end = pageblock_start(pfn) + PAGEBLOCK_NR;

	for (; end <= cc->free_pfn; pfn = end, end += PAGEBLOCK_NR, cc->migrate_pfn = pfn) {
		if (IS_ALIGNED(pfn, PAGEBLOCK_NR) && skipped(cc, pfn))
			continue;
		if (!suitable_source(cc, pageblock_start(pfn))) {
			update_cached(cc, end);
			continue;
		}
		if (!scan_pageblock(cc, pfn, end))
			return COMPACT_CONTENDED;
		break;
	}
	return cc->nr_migratepages ? COMPACT_CONTINUE : COMPACT_NO_SUITABLE_PAGE;
}

// ---- One page

enum look { LOOK_FREE, LOOK_TAKEN, LOOK_STAYS, LOOK_ABORT };

static enum look stays(struct scan *s, enum compact_stay why, unsigned long pages)
{
	s->cc->stays[why] += pages;
	return LOOK_STAYS;
}

// The scan goes on behind these pages.
static void pass_over(struct scan *s, unsigned long pages)
{
	s->pfn += pages - 1;
	s->nr_scanned += pages - 1;
}

static bool too_large(const struct compact_control *cc, unsigned order)
{
	return (cc->order != COMPACT_WHOLE_ORDER && order >= (unsigned)cc->order) ||
	       order >= PAGEBLOCK_ORDER;
}

static bool by_driver(struct scan *s, struct folio *folio)
{
	isolation_end(&s->isolation); // the list keeps its order
	if (movable_isolate(folio, s->cc->mode))
		return false;
	folio_list_add_tail(&s->cc->migratepages, folio);
	return true;
}

// Whether a dirty page of an object moves without being written first. A reference is held.
static bool moves_dirty(struct folio *folio)
{
	struct object *object;
	bool plain = false;

	if (folio_test_anon(folio) || folio_test_swapbacked(folio))
		return true;
	if (!folio_trylock(folio))
		return false;
	object = folio_object(folio);
	plain = !object || object->ops->migrate_plain || object->ops->migrate_folio;
	folio_unlock(folio);
	return plain;
}

// Hints, but for the size: it cannot change while we hold a reference.
static bool worth_moving(struct scan *s, struct folio *folio, enum compact_stay *ret_why)
{
	struct compact_control *cc = s->cc;
	bool file = !folio_test_anon(folio) && folio_mapping_raw(folio);
	bool wait = cc->mode == MIGRATE_SYNC;

	*ret_why = COMPACT_STAY_PINNED;
	if (!file && (int)folio_ref_count(folio) - 1 > folio_mapcount(folio))
		return false;
	*ret_why = COMPACT_STAY_UNEVICTABLE;
	if (folio_test_unevictable(folio) &&
		!atomic_load_explicit(&cc->compaction->unevictable_allowed, memory_order_relaxed))
		return false;
	*ret_why = COMPACT_STAY_FILE_BUSY;
	if ((file && !(cc->gfp & GFP_FS)) || (!wait && folio_test_writeback(folio)))
		return false;
	return wait || !folio_test_dirty(folio) || moves_dirty(folio);
}

// The first page taken of a pageblock claims it: who comes later finds it skipped.
static bool claim_pageblock(struct scan *s)
{
	if (!s->from_start || s->claimed || s->cc->ignore_skip_hint)
		return true;
	s->claimed = true;
	bool was = pageblock_test_skip(s->cc->zone, s->first);
	pageblock_set_skip(s->cc->zone, s->first);
	return !was || s->cc->finish_pageblock;
}

// A reference is held.
static enum look take_lru(struct scan *s, struct folio *folio)
{
	unsigned long pages = folio_nr(folio);
	enum compact_stay why;

	if (too_large(s->cc, folio_order(folio)))
		return stays(s, COMPACT_STAY_LARGE, pages);
	if (!worth_moving(s, folio, &why))
		return stays(s, why, pages);
	if (!claim_pageblock(s)) {
		MARK(compact_pageblock_claimed);
		return LOOK_ABORT;
	}
	if (!folio_test_lru(folio) || isolation_add(&s->isolation, folio))
		return stays(s, COMPACT_STAY_ISOLATED, pages);
	s->cc->nr_migratepages += (unsigned)pages;
	s->nr_taken += (unsigned)pages;
	pass_over(s, pages);
	return LOOK_TAKEN;
}

static enum look take_movable(struct scan *s, struct folio *folio)
{
	if (folio_test_isolated(folio))
		return stays(s, COMPACT_STAY_ISOLATED, 1);
	if (!by_driver(s, folio))
		return stays(s, COMPACT_STAY_PINNED, 1);
	s->cc->nr_migratepages++;
	s->nr_taken++;
	return LOOK_TAKEN;
}

static enum look take_found(struct scan *s, struct frame *frame)
{
	struct folio *folio = folio_try_get_frame(frame);
	enum look look = LOOK_STAYS;

	if (!folio)
		return LOOK_STAYS; // being freed, or moved
	if (&folio->page == frame && folio_test_lru(folio))
		look = take_lru(s, folio);
	folio_put(folio);
	return look;
}

static enum look look_at_page(struct scan *s)
{
	struct frame *frame = pfn_frame(pfn_of(s->pfn));
	struct folio *folio = frame_folio(frame);
	unsigned order = folio_order(folio);

	if (frame_test_buddy(frame)) {
		pass_over(s, 1ul << min(buddy_order(frame), (unsigned)MAX_PAGE_ORDER));
		return LOOK_FREE;
	}
	// Of a huge page that is passed over the rest of its pages in this pageblock.
	if (folio_test_hugetlb(folio) || too_large(s->cc, order)) {
		unsigned long rest = folio_nr(folio) - folio_frame_index(folio, frame);
		rest = min(max(rest, 1ul), (unsigned long)(s->end - s->pfn));
		stays(s, folio_test_hugetlb(folio) ? COMPACT_STAY_HUGETLB : COMPACT_STAY_LARGE,
			rest);
		pass_over(s, rest);
		return LOOK_STAYS;
	}
	if (folio_test_lru(folio))
		return take_found(s, frame);
	if (folio_test_movable_type(folio))
		return take_movable(s, folio);
	return frame_unmovable(frame) ? stays(s, COMPACT_STAY_UNMOVABLE, 1) : LOOK_STAYS;
}

// ---- One pageblock

static bool too_many_isolated(const struct compact_control *cc)
{
	struct vmstat *stat = compact_phys(cc)->stat;
	unsigned nid = cc->zone->node->nid;
	unsigned long isolated = vmstat_node(stat, nid, VM_NR_ISOLATED_ANON) +
				 vmstat_node(stat, nid, VM_NR_ISOLATED_FILE);
	unsigned long inactive = vmstat_node(stat, nid, VM_NR_INACTIVE_ANON) +
				 vmstat_node(stat, nid, VM_NR_INACTIVE_FILE);
	unsigned long active = vmstat_node(stat, nid, VM_NR_ACTIVE_ANON) +
			       vmstat_node(stat, nid, VM_NR_ACTIVE_FILE);

	if (cc->gfp & GFP_FS) {
		inactive >>= 3;
		active >>= 3;
	}
	return isolated > (inactive + active) / 2;
}

// false: others have isolated so much that more would starve them. Our own caller may be one of
// them, so nobody waits for ever.
static bool wait_for_isolated(struct compact_control *cc)
{
	for (unsigned i = 0; too_many_isolated(cc); i++) {
		if (cc->mode == MIGRATE_ASYNC || i == ISOLATED_WAITS) {
			MARK(compact_too_many_isolated);
			return false;
		}
		sched_point();
		if (!sched_active())
			sched_yield();
	}
	return true;
}

// The chunk cannot become one block: what was taken of it goes back.
static void give_up_chunk(struct scan *s)
{
	struct compact_control *cc = s->cc;

	if (s->nr_taken) {
		MARK(compact_chunk_given_up);
		isolation_end(&s->isolation);
		putback_movable_pages(cc->compaction->mm, &cc->migratepages);
		cc->nr_migratepages = 0;
		s->nr_taken = 0;
	}
	if (s->pfn + 1 < s->chunk_end)
		s->pfn = s->chunk_end - 1;
}

static uint64_t chunk_end(const struct scan *s)
{
	return min(ALIGN_DOWN(s->pfn, 1ul << s->cc->order) + (1ul << s->cc->order), s->end);
}

static void scan_pages(struct scan *s)
{
	struct compact_control *cc = s->cc;
	bool full = false;

	if (s->by_chunk)
		s->chunk_end = chunk_end(s);
	for (; s->pfn < s->end && !full; s->pfn++) {
		if (s->by_chunk && s->pfn >= s->chunk_end) {
			if (s->nr_taken)
				return;
			s->chunk_end = chunk_end(s);
		}
		s->nr_scanned++;
		enum look look = look_at_page(s);
		if (look == LOOK_ABORT) {
			s->pfn = s->end;
			return;
		}
		if (look == LOOK_STAYS && s->by_chunk)
			give_up_chunk(s);
		full = look == LOOK_TAKEN && cc->nr_migratepages >= COMPACT_CLUSTER_MAX &&
		       !cc->finish_pageblock;
	}
}

static void end_scan(struct scan *s)
{
	struct compact_control *cc = s->cc;

	isolation_end(&s->isolation);
	s->pfn = min(s->pfn, s->end);
	if (s->pfn == s->end && (!s->nr_taken || cc->finish_pageblock)) {
		if (s->from_start && !s->claimed && !cc->ignore_skip_hint)
			pageblock_set_skip(cc->zone, s->first);
		update_cached(cc, s->end);
	}
	trace_event(compact_phys(cc)->trace, mm_compaction_isolate_migratepages,
		.start_pfn = s->first, .end_pfn = s->pfn, .nr_scanned = s->nr_scanned,
		.nr_taken = s->nr_taken);
	cc->nr_migrate_scanned += s->nr_scanned;
	if (s->nr_taken)
		vm_events(compact_phys(cc)->stat, VM_COMPACT_ISOLATED, s->nr_taken);
	cc->migrate_pfn = s->pfn;
}

// [first, end) of one pageblock; the list gets what may move. false: not now.
static bool scan_pageblock(struct compact_control *cc, uint64_t first, uint64_t end)
{
	struct scan s = {
		.cc = cc,
		.first = first,
		.pfn = first,
		.end = end,
		.by_chunk = cc->direct && cc->mode == MIGRATE_ASYNC,
		.from_start = IS_ALIGNED(first, PAGEBLOCK_NR) || first == cc->zone->start_pfn,
	};

	if (!wait_for_isolated(cc))
		return false;
	isolation_begin(&s.isolation, cc->compaction->mm, &cc->migratepages);
	scan_pages(&s);
	end_scan(&s);
	return true;
}
