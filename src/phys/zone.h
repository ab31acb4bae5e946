// SPDX-License-Identifier: MIT
// A machine's physical memory: struct phys has nodes, a node has one arena of bytes and up to two
// zones, a zone has free areas (the buddy), per-cpu lists in front of them, and watermarks.
//
// Lock letters: Z zone->lock (rank ZONE), C set up once, A atomic, L lruvec.lock, Q quarantine
// lock, D deferred-split lock.
#ifndef GODWIT_PHYS_ZONE_H
#define GODWIT_PHYS_ZONE_H

#include "base/lock.h"
#include "base/nodemask.h"
#include "base/trace.h" // enum zone_type, compact_result, compact_priority
#include "base/vmstat.h"
#include "phys/folio.h"
#include "phys/gfp.h"
#include "phys/lru.h"
#include "phys/size_stat.h"

#define MAX_PAGE_ORDER 10
#define NR_PAGE_ORDERS (MAX_PAGE_ORDER + 1)
#define PAGEBLOCK_ORDER 9
#define PAGEBLOCK_NR (1ul << PAGEBLOCK_ORDER)
#define PAGE_ALLOC_COSTLY_ORDER 3
#define ZONES_PER_NODE 2 // ZONE_NORMAL, ZONE_MOVABLE

struct arena;
struct topology;
struct copier;
struct pcp;

// X(NAME, text in pagetypeinfo). The first three have per-cpu lists.
#define MIGRATETYPES(X)                                                                            \
	X(UNMOVABLE, "Unmovable")                                                                  \
	X(MOVABLE, "Movable")                                                                      \
	X(RECLAIMABLE, "Reclaimable")                                                              \
	X(HIGHATOMIC, "HighAtomic")                                                                \
	X(CMA, "CMA")                                                                              \
	X(ISOLATE, "Isolate")

enum migratetype {
#define X(name, text) MIGRATE_##name,
	MIGRATETYPES(X)
#undef X
		MIGRATE_TYPES
};
#define MIGRATE_PCPTYPES 3

enum zone_watermark { WMARK_MIN, WMARK_LOW, WMARK_HIGH, WMARK_PROMO, NR_WMARK };

// What an allocation may do beyond the default; gfp_to_alloc_flags() in alloc.c.
enum alloc_flags {
	ALLOC_WMARK_MASK = 3, // enum zone_watermark
	ALLOC_NO_WATERMARKS = 1 << 2,
	ALLOC_MIN_RESERVE = 1 << 3, // GFP_HIGH: half of min
	ALLOC_NON_BLOCK = 1 << 4,
	ALLOC_HIGHATOMIC = 1 << 5,
	ALLOC_CMA = 1 << 6,
	ALLOC_NOFRAGMENT = 1 << 7, // rather another node than a mixed pageblock
	ALLOC_KSWAPD = 1 << 8,
};

struct free_area {
	struct frame_list list[MIGRATE_TYPES];	 // Z
	_Atomic unsigned long nr[MIGRATE_TYPES]; // blocks; Z to write, any may read
};

// X(NAME, text): why pages that compaction looked at stayed where they are.
#define COMPACT_STAYS(X)                                                                           \
	X(UNMOVABLE, "unmovable")                                                                  \
	X(HUGETLB, "in huge page pools")                                                           \
	X(LARGE, "in huge pages as large as what was wanted")                                      \
	X(PINNED, "pinned or in use elsewhere")                                                    \
	X(UNEVICTABLE, "locked in memory")                                                         \
	X(FILE_BUSY, "of files that cannot move now")                                              \
	X(ISOLATED, "isolated by others")                                                          \
	X(FAILED, "whose migration failed")                                                        \
	X(NO_TARGET, "without a free page to go to")

enum compact_stay {
#define X(name, text) COMPACT_STAY_##name,
	COMPACT_STAYS(X)
#undef X
		COMPACT_STAY_NR
};

// What the compaction layer keeps for each zone; the compact layer owns it, with Z or relaxed.
struct zone_compact {
	_Atomic uint64_t cached_migrate_pfn[2]; // async, sync
	_Atomic uint64_t cached_free_pfn;
	_Atomic uint64_t init_migrate_pfn, init_free_pfn;
	_Atomic unsigned considered, defer_shift;
	_Atomic int order_failed;
	_Atomic bool blockskip_flush;
	// The last run that looked at pages, for who wonders why there is no larger block.
	_Atomic unsigned runs; // so far
	_Atomic int result;    // enum compact_result
	_Atomic unsigned long nr_scanned, nr_moved;
	_Atomic unsigned long stays[COMPACT_STAY_NR]; // pages
};

struct zone {
	struct node *node;	     // C
	enum zone_type type;	     // C: ZONE_NORMAL or ZONE_MOVABLE
	uint64_t start_pfn;	     // C
	uint64_t nr_present;	     // C: pages
	_Atomic uint64_t nr_managed; // A: present less reserved
	struct mutex lock;
	struct free_area free_area[NR_PAGE_ORDERS]; // Z
	_Atomic unsigned long nr_free;	   // pages in the free areas except ISOLATE; Z to write
	_Atomic unsigned long nr_free_cma; // of these, in CMA pageblocks
	_Atomic unsigned long nr_free_highatomic;
	unsigned long nr_reserved_highatomic;	   // Z: pages in HIGHATOMIC pageblocks
	unsigned long nr_isolate_pageblock;	   // Z
	_Atomic unsigned long watermark[NR_WMARK]; // pages, without boost
	_Atomic unsigned long watermark_boost;	   // pages
	_Atomic unsigned long
		lowmem_reserve[ZONES_PER_NODE]; // by highest usable zone - ZONE_NORMAL
	struct pcp *pcp;			// C: [phys->nr_cpus]
	_Atomic unsigned pcp_batch, pcp_high;	// pages
	_Atomic unsigned pcp_disabled;		// count of who wants no per-cpu lists
	struct zone_compact compact;
};

struct zonelist {
	unsigned nr;
	struct zone *zone[MAX_NODES * ZONES_PER_NODE]; // only zones with memory
};

struct deferred_split {
	struct mutex lock;    // rank DEFERRED_SPLIT
	uint32_t first, last; // D: links in tail 2, head pfns
	_Atomic unsigned long nr;
};

struct node {
	struct phys *phys;		  // C
	unsigned nid;			  // C
	struct arena *arena;		  // C: NULL when the node has no memory
	uint64_t start_pfn;		  // C
	uint64_t nr_present;		  // C
	struct zone zone[ZONES_PER_NODE]; // by type - ZONE_NORMAL; nr_present may be 0
	struct zonelist fallback;	  // C: this node first, then by distance
	struct zonelist nofallback;	  // C: this node only
	_Atomic uint8_t *pageblock;  // [nr_pageblocks]: migratetype (Z to write) and skip bit (A)
	unsigned long nr_pageblocks; // C
	struct lruvec lru;
	struct deferred_split deferred;
	struct mutex quarantine_lock;	      // rank PCP (taken alone)
	struct frame_list quarantine;	      // Q: freed blocks that are not yet reusable
	_Atomic unsigned long nr_quarantined; // pages
	_Atomic unsigned long nr_poisoned;    // pages withheld for ever
	void *kswapd, *kcompactd;	      // their layers'
};

// Calls that must go up; NULL means the subsystem is not there. Set before the first allocation.
// Called without any lock of this layer.
struct phys_upcalls {
	void *arg;
	// Free some pages for such a request; returns how many it freed.
	unsigned long (*reclaim)(
		void *arg, gfp_t gfp, unsigned order, int nid, const struct nodemask *allowed);
	// Make a block of the order.
	enum compact_result (*compact)(void *arg, gfp_t gfp, unsigned order, int nid,
		const struct nodemask *allowed, enum compact_priority prio);
	// A block that compaction was asked for could be taken from this zone.
	void (*compacted)(void *arg, struct zone *zone, unsigned order);
	// The node is below its low watermark (or boosted); order wanted.
	void (*wake_kswapd)(void *arg, struct node *node, unsigned order);
	// Its free memory is in pieces smaller than that.
	void (*wake_kcompactd)(
		void *arg, struct node *node, unsigned order, enum zone_type highest);
	// May these frames be handed out again? Nobody can reach them through an old host mapping,
	// a host pin or a forked child. false: they wait in quarantine and are asked for again.
	bool (*reusable)(void *arg, struct pfn first, unsigned order);
	// The last reference of a hugetlb folio went: it belongs to its pool.
	void (*free_hugetlb)(void *arg, struct folio *folio);
};

struct phys_node_config {
	struct arena *arena;	// NULL: a memoryless node
	uint64_t movable_bytes; // at the end of the node: ZONE_MOVABLE, whole pageblocks
};

struct phys_config {
	const struct topology *topology;
	unsigned nr_nodes;
	const struct phys_node_config *node; // [nr_nodes]
	unsigned long min_free_kbytes;	     // 0: by the kernel's formula
	struct vmstat *stat;		     // at least nr_nodes nodes; outlives phys
	struct trace_ring *trace;	     // NULL: none
	struct copier *copier;		     // clears new pages; NULL: memset
};

struct mm_core;

struct phys {
	struct mm_core *mm;		 // who uses it; for those who meet a folio by its number
	const struct topology *topology; // C
	unsigned nr_nodes, nr_cpus;	 // C
	struct node *node[MAX_NODES];	 // C
	struct nodemask has_memory;	 // C
	struct vmstat *stat;
	struct size_stats sizes;
	struct trace_ring *trace;
	struct copier *copier;
	struct phys_upcalls up;
	_Atomic unsigned long min_free_kbytes;
	_Atomic unsigned watermark_scale_factor; // 10: of 10000
	_Atomic unsigned watermark_boost_factor; // 15000: of 10000 of high; 0 disables
	_Atomic uint64_t free_backed_max;	 // bytes a node; above, free chunks are punched
	_Atomic bool page_group_by_mobility_disabled; // few pageblocks: everything is unmovable
};

// 0; -ENOMEM, -EINVAL (a movable part larger than the node, no node with memory, two arenas of one
// node), -ENOSPC (frame numbers beyond vmemmap).
must_check int phys_init(struct phys *phys, const struct phys_config *config);
// Every folio must have been freed. The arenas are the caller's to close afterwards.
void phys_destroy(struct phys *phys);

// /proc/sys/vm/min_free_kbytes, watermark_scale_factor: recompute all watermarks. -EINVAL.
must_check int phys_set_min_free_kbytes(struct phys *phys, unsigned long kbytes);
must_check int phys_set_watermark_scale_factor(struct phys *phys, unsigned factor);

static inline struct node *phys_node(const struct phys *phys, unsigned nid)
{
	return phys->node[nid];
}

static inline struct zone *node_zone(struct node *node, enum zone_type type)
{
	return &node->zone[type - ZONE_NORMAL];
}

// So many more of this size, of which the folio is one, or was.
static inline void folio_size_stat(const struct folio *folio, enum size_stat which, long delta)
{
	size_stat_add(&folio_phys(folio)->sizes, folio_order(folio), which, delta);
}

static inline bool zone_populated(const struct zone *zone)
{
	return zone->nr_present != 0;
}

static inline uint64_t zone_end_pfn(const struct zone *zone)
{
	return zone->start_pfn + zone->nr_present;
}

// The zone of a frame number, or NULL when no machine has it.
struct zone *pfn_zone(struct pfn pfn);

static inline struct phys *zone_phys(const struct zone *zone)
{
	return zone->node->phys;
}

// ---- Pageblocks

#define PB_TYPE_MASK 7u
#define PB_SKIP 8u // compaction found nothing here lately

static inline _Atomic uint8_t *node_pageblock(const struct node *node, uint64_t pfn)
{
	return &node->pageblock[(pfn - node->start_pfn) >> PAGEBLOCK_ORDER];
}

static inline enum migratetype pageblock_type(const struct zone *zone, uint64_t pfn)
{
	return (enum migratetype)(
		atomic_load_explicit(node_pageblock(zone->node, pfn), memory_order_relaxed) &
		PB_TYPE_MASK);
}

void pageblock_set_type(struct zone *zone, uint64_t pfn, enum migratetype type); // zone lock held
bool pageblock_test_skip(const struct zone *zone, uint64_t pfn);
void pageblock_set_skip(struct zone *zone, uint64_t pfn);
void pageblock_clear_skip(struct zone *zone, uint64_t pfn);
void zone_clear_skip(struct zone *zone);

const char *migratetype_name(enum migratetype type);

// ---- Watermarks

static inline unsigned long zone_nr_free(const struct zone *zone)
{
	return atomic_load_explicit(&zone->nr_free, memory_order_relaxed);
}

// Pages, with boost.
static inline unsigned long zone_wmark(const struct zone *zone, enum zone_watermark w)
{
	return atomic_load_explicit(&zone->watermark[w], memory_order_relaxed) +
	       atomic_load_explicit(&zone->watermark_boost, memory_order_relaxed);
}

// The background reclaim is done with this zone: its boost goes.
static inline void zone_clear_boost(struct zone *zone)
{
	atomic_store_explicit(&zone->watermark_boost, 0, memory_order_relaxed);
}

// Would the zone still have `mark` free pages, its lowmem reserve against requests that could use
// `highest`, and a free block of the order that such a request may take?
bool zone_watermark_ok(const struct zone *zone, unsigned order, unsigned long mark,
	enum zone_type highest, unsigned alloc_flags);
// The test itself with another number of free pages (compaction counts what it would free).
bool zone_watermark_ok_free(const struct zone *zone, unsigned order, unsigned long mark,
	enum zone_type highest, unsigned alloc_flags, long free_pages);

// ---- Numbers for the texts (buddyinfo, pagetypeinfo, zoneinfo). Free counts are consistent: taken
// under the zone lock.

void zone_free_blocks(struct zone *zone, unsigned long ret_nr[NR_PAGE_ORDERS][MIGRATE_TYPES]);
void zone_pageblock_counts(struct zone *zone, unsigned long ret_nr[MIGRATE_TYPES]);
unsigned long zone_pcp_pages(struct zone *zone); // on all cpus' lists
unsigned long node_nr_free(const struct node *node);
unsigned long phys_nr_free(const struct phys *phys);

// Why most of the pages stayed that the last run of compaction could not move, on the node's zones
// together, and how many; false: no run has been there. For explanations.
struct compact_verdict {
	enum compact_result result;
	enum compact_stay why; // COMPACT_STAY_NR: nothing stayed
	unsigned long nr;      // pages, for that reason
};
bool node_compact_verdict(const struct node *node, struct compact_verdict *ret_verdict);
const char *compact_stay_text(enum compact_stay stay);
const char *compact_result_text(enum compact_result result);

// ---- The books

// Everything balances: each frame is in exactly one place, counts equal lists, free blocks do not
// overlap and are merged. Only when nothing runs. 0, or -EINVAL with the first difference in buf.
must_check int phys_check_text(struct phys *phys, char *buf, size_t size);
// The same; aborts with the difference and the frame's dump.
void phys_check(struct phys *phys);

#endif
