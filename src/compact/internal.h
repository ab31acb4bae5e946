// SPDX-License-Identifier: MIT
// One run of compaction over one zone; between the files of src/compact/.
#ifndef GODWIT_COMPACT_INTERNAL_H
#define GODWIT_COMPACT_INTERNAL_H

#include "compact/compact.h"
#include "migrate/migrate.h"

#define COMPACT_CLUSTER_MAX 32u
#define COMPACT_MAX_DEFER_SHIFT 6u

// Lives on the stack of who runs it: nothing of it is shared, but through the zone.
struct compact_control {
	struct compaction *compaction;
	struct zone *zone;
	int order; // COMPACT_WHOLE_ORDER, or of the block that is wanted
	gfp_t gfp;
	enum migratetype type; // of the request
	enum zone_type highest;
	unsigned alloc_flags;
	enum migrate_mode mode;
	bool direct;		    // an allocation waits for it
	bool proactive;		    // stops at a fragmentation score
	bool whole_zone;	    // both scanners begin at the ends
	bool ignore_skip_hint;	    // pageblocks where nothing was found lately too
	bool ignore_block_suitable; // free pages of any pageblock
	bool finish_pageblock;	    // isolate all of this one, not only a cluster
	uint64_t migrate_pfn, free_pfn;
	struct folio_list migratepages;		    // isolated here
	unsigned nr_migratepages;		    // pages on the list, without a target yet
	struct frame_list freepages[NR_PAGE_ORDERS]; // isolated here, by order
	unsigned nr_freepages;
	// Totals
	unsigned long nr_migrate_scanned, nr_free_scanned, nr_moved;
	unsigned long stays[COMPACT_STAY_NR];
};

static inline struct phys *compact_phys(const struct compact_control *cc)
{
	return zone_phys(cc->zone);
}

static inline uint64_t pageblock_start(uint64_t pfn)
{
	return ALIGN_DOWN(pfn, PAGEBLOCK_NR);
}

static inline bool type_is_movable(enum migratetype type)
{
	return type == MIGRATE_MOVABLE || type == MIGRATE_CMA;
}

// The run. COMPACT_SKIPPED: not worth it; COMPACT_SUCCESS: a block is free (or was before).
enum compact_result compact_zone(struct compact_control *);
// The scanners have passed each other.
bool compact_scanners_met(const struct compact_control *);

// The next pageblock's pages, up to a cluster of them, onto the list. CONTENDED: too much is
// isolated already; NO_SUITABLE_PAGE: none here; CONTINUE: there are some to move.
enum compact_result isolate_migratepages(struct compact_control *);
// Free pages for those on the list.
void isolate_freepages(struct compact_control *);
void compaction_target(struct migrate_target *, struct compact_control *);
// What was not needed is free again. The highest pfn of it, or 0.
uint64_t release_freepages(struct compact_control *);

// May a block of the order come of it? CONTINUE: yes; SKIPPED: no; SUCCESS: there is one.
enum compact_result compaction_suit(struct compaction *, struct zone *, unsigned order,
	enum zone_type highest, unsigned alloc_flags);
unsigned fragmentation_score_zone(const struct zone *);
unsigned fragmentation_score_limit(const struct compaction *, bool low);

// The zone was tried in vain; a block could be had; is it too early to try again?
void defer_compaction(struct zone *, unsigned order);
void compaction_defer_reset(struct zone *, unsigned order, bool allocated);
bool compaction_deferred(struct zone *, unsigned order);
// It is being tried again after the longest pause.
bool compaction_restarting(const struct zone *, unsigned order);

enum compact_result compaction_direct(void *mm, gfp_t gfp, unsigned order, int nid,
	const struct nodemask *allowed, enum compact_priority prio);
void compaction_helped(void *mm, struct zone *zone, unsigned order);
// One node; false: stopped before the end.
void compact_node(struct compaction *, struct node *, bool proactive);
void wake_kcompactd(void *mm, struct node *node, unsigned order, enum zone_type highest);

#endif
