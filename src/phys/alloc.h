// SPDX-License-Identifier: MIT
// Allocation of folios: from which node, through which watermarks, with which help from above.
// A machine that is full answers NULL, never kills. FI_ALLOC (base/fault_inject.h) makes any of
// these fail.
#ifndef GODWIT_PHYS_ALLOC_H
#define GODWIT_PHYS_ALLOC_H

#include "phys/zone.h"

// A page that is none of ours counts as if it had been allocated here (numa_hit and so on). The
// node that it would be of: the first with memory as folio_alloc() looks for it.
unsigned phys_count_page(struct phys *phys, int preferred_nid, const struct nodemask *allowed,
	int cpu);

// A folio of 2^order frames with one reference, its bytes backed, zeroed if GFP_ZERO, not uptodate,
// on no list; or NULL. Nodes are tried by distance from preferred_nid (-1: the node of cpu) within
// `allowed` (NULL: all). order > 0 gives a large folio, with or without GFP_COMP. Orders
// above MAX_PAGE_ORDER (gigantic pages) come from a search for a free aligned range.
struct folio *folio_alloc(struct phys *phys, gfp_t gfp, unsigned order, int preferred_nid,
	const struct nodemask *allowed, int cpu);

// Up to max_pages order-0 folios with consecutive frames, each with one reference, on that node or
// (without GFP_THISNODE) the first by distance that has any: the largest chunk that fits. Returns
// how many are in out[], 0 when there is no page.
unsigned folio_alloc_run(
	struct phys *phys, gfp_t gfp, int nid, unsigned max_pages, int cpu, struct folio **out);

// The frames [start, start + nr) as raw frames with refcount 1 each (no folio), all of which must
// be free; whole MAX_ORDER blocks around it are split. For contiguous allocators that have isolated
// and emptied the range. 0, -EBUSY, -ENOMEM (not backed).
must_check int alloc_free_range(struct phys *phys, struct pfn start, unsigned long nr);
// Give such a range (or any part of it) back.
void free_contig_range(struct pfn start, unsigned long nr);

// What the last folio_put() does. The folio is unmapped, unlocked, refcount 0.
void folio_free(struct folio *folio);
// A block that is no folio any more (refcount 0, flags clear) to the lists: for compaction's unused
// free pages. Not poisoned.
void frames_free(struct frame *head, unsigned order);
// Make frames taken by buddy_isolate_block() a folio with one reference, bytes backed. -ENOMEM
// leaves them as they were.
must_check int folio_prep_isolated(struct frame *head, unsigned order, gfp_t gfp);
// The inverse, for such a folio that was not needed: frames without state again, for the caller.
// false: somebody found it by its number and has a reference, or it is poisoned; it is put then.
must_check bool folio_unprep_isolated(struct folio *folio);

// ---- Isolation of pageblocks (contiguous allocation, offlining)

// Pageblocks of [start, end), both aligned to pageblocks, become ISOLATE: their free blocks cannot
// be allocated and later frees stay. -EBUSY when one is isolated already or holds a page that can
// never move (nothing changed then). `type`: CMA ranges are not searched for unmovable pages.
must_check int start_isolate_page_range(
	struct phys *phys, struct pfn start, struct pfn end, enum migratetype type);
void undo_isolate_page_range(
	struct phys *phys, struct pfn start, struct pfn end, enum migratetype type);
// All of [start, end) is free in ISOLATE pageblocks (or poisoned): 0, else -EBUSY and the first pfn
// that is not.
must_check int test_pages_isolated(
	struct phys *phys, struct pfn start, struct pfn end, struct pfn *ret_fail);
// Turn free pageblocks into a CMA area (at set-up). -EINVAL, -EBUSY.
must_check int phys_init_cma_range(struct phys *phys, struct pfn start, unsigned long nr);
// The frame is of a kind that can never move (used, and neither LRU nor movable nor hugetlb).
bool frame_unmovable(struct frame *frame);

// ---- Memory failure

// Never to be used again: a free frame leaves the buddy now (false when it is not free: then the
// flag is set, and the frame is withheld when its folio is freed).
bool frame_poison(struct phys *phys, struct frame *frame);
// Poison was a test: the frame goes back. -ENOENT when it is not poisoned, -EBUSY when in use.
must_check int frame_unpoison(struct phys *phys, struct frame *frame);

// ---- Memory of the host

// Freed blocks that were not reusable: ask again. Returns pages that became free.
unsigned long phys_quarantine_scan(struct phys *phys);
// Punch wholly free pageblocks until at most keep_bytes of free memory a node stay backed. Returns
// bytes given back to the system. Runs by itself, a few blocks at a time, above free_backed_max.
uint64_t phys_trim(struct phys *phys, uint64_t keep_bytes);
uint64_t node_free_backed_bytes(const struct node *node);

// The caller is reclaiming or compacting (PF_MEMALLOC): its own allocations use the reserve and
// start neither. Nests; returns the state to restore.
unsigned memalloc_save(void);
void memalloc_restore(unsigned old);
bool memalloc_active(void);

enum migratetype gfp_migratetype(gfp_t gfp);
enum zone_type gfp_highest_zone(gfp_t gfp);

#endif
