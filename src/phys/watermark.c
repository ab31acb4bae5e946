// SPDX-License-Identifier: MIT
// Watermarks: how many free pages a zone keeps back, and from whom.
//
// min_free_kbytes is spread over the zones by their size and gives each its min; low, high and
// promo lie one step apart above it, a step being the larger of min/4 and
// watermark_scale_factor/10000 of the zone. ZONE_MOVABLE, which no reserve is needed for, gets a
// small fixed min. A request that could have used a higher zone must in addition leave
// lowmem_reserve: 1/32 of the higher zones' size in the same node.
//
// The same numbers size the per-cpu lists: a batch is about 1/4096 of the zone (63 at most), and
// all cpus of a node together may hold about its low watermark.
#include "machine/topology.h"
#include "phys/zonelist.h"

#include <errno.h>

#define LOWMEM_RESERVE_RATIO_NORMAL 32
#define MIN_FREE_KBYTES_LEAST 128
#define MIN_FREE_KBYTES_MOST 262144
#define PCP_BATCH_MOST 64

static unsigned long managed(const struct zone *zone)
{
	return atomic_load_explicit(&zone->nr_managed, memory_order_relaxed);
}

static unsigned long square_root(unsigned long n)
{
	unsigned long root = 0;

	for (unsigned bit = 32; bit-- > 0;) {
		unsigned long next = root | 1ul << bit;
		if (next <= n / next)
			root = next;
	}
	return root;
}

static unsigned long lowmem_pages(const struct phys *phys)
{
	unsigned long pages = 0;

	for (unsigned nid = 0; nid < phys->nr_nodes; nid++)
		pages += managed(node_zone(phys->node[nid], ZONE_NORMAL));
	return pages;
}

unsigned long phys_default_min_free_kbytes(const struct phys *phys)
{
	unsigned long kbytes = square_root(lowmem_pages(phys) * (PAGE_SIZE >> 10) * 16);

	return min(max(kbytes, (unsigned long)MIN_FREE_KBYTES_LEAST),
		(unsigned long)MIN_FREE_KBYTES_MOST);
}

static void set_zone_watermarks(struct zone *zone, unsigned long min_pages, unsigned factor)
{
	unsigned long step = max(min_pages / 4, managed(zone) * factor / 10000);

	for (unsigned w = 0; w < NR_WMARK; w++)
		atomic_store_explicit(
			&zone->watermark[w], min_pages + w * step, memory_order_relaxed);
	atomic_store_explicit(&zone->watermark_boost, 0, memory_order_relaxed);
}

static void set_pcp_size(struct zone *zone)
{
	const struct topology *topology = zone_phys(zone)->topology;
	unsigned cpus = max(topology_node_cpus(topology, zone->node->nid), 1u);
	unsigned long size = min(managed(zone) >> 12, (unsigned long)PCP_BATCH_MOST);
	unsigned batch = 1, high;

	// The largest 2^n - 1 below 1.5 times the size: odd, so that batches do not beat against
	// the powers of two of the buddy.
	while ((batch << 1) <= size + size / 2)
		batch <<= 1;
	batch = max(batch - 1, 1u);
	high = (unsigned)(atomic_load_explicit(&zone->watermark[WMARK_LOW], memory_order_relaxed) /
			  cpus);
	atomic_store_explicit(&zone->pcp_batch, batch, memory_order_relaxed);
	atomic_store_explicit(&zone->pcp_high, max(high, batch * 4), memory_order_relaxed);
}

void phys_setup_watermarks(struct phys *phys)
{
	unsigned long pages_min = phys->min_free_kbytes >> (PAGE_SHIFT - 10);
	unsigned long lowmem = max(lowmem_pages(phys), 1ul);

	for (unsigned nid = 0; nid < phys->nr_nodes; nid++) {
		struct zone *normal = node_zone(phys->node[nid], ZONE_NORMAL);
		struct zone *movable = node_zone(phys->node[nid], ZONE_MOVABLE);
		unsigned long movable_min = min(max(managed(movable) / 1024, 32ul), 128ul);

		set_zone_watermarks(
			normal, pages_min * managed(normal) / lowmem, phys->watermark_scale_factor);
		set_zone_watermarks(movable, movable_min, phys->watermark_scale_factor);
		atomic_store_explicit(&normal->lowmem_reserve[ZONE_MOVABLE - ZONE_NORMAL],
			managed(movable) / LOWMEM_RESERVE_RATIO_NORMAL, memory_order_relaxed);
		set_pcp_size(normal);
		set_pcp_size(movable);
	}
}

int phys_set_min_free_kbytes(struct phys *phys, unsigned long kbytes)
{
	if (kbytes > lowmem_pages(phys) * (PAGE_SIZE >> 10))
		return -EINVAL;
	phys->min_free_kbytes = kbytes;
	phys_setup_watermarks(phys);
	return 0;
}

int phys_set_watermark_scale_factor(struct phys *phys, unsigned factor)
{
	if (factor < 1 || factor > 3000)
		return -EINVAL;
	phys->watermark_scale_factor = factor;
	phys_setup_watermarks(phys);
	return 0;
}

// Free pages the request may not count on.
static long unusable_free(const struct zone *zone, unsigned order, unsigned alloc_flags)
{
	long pages = (1l << order) - 1;

	if (!(alloc_flags & (ALLOC_MIN_RESERVE | ALLOC_HIGHATOMIC | ALLOC_NON_BLOCK)))
		pages +=
			(long)atomic_load_explicit(&zone->nr_free_highatomic, memory_order_relaxed);
	if (!(alloc_flags & ALLOC_CMA))
		pages += (long)atomic_load_explicit(&zone->nr_free_cma, memory_order_relaxed);
	return pages;
}

static bool has_usable_block(const struct zone *zone, unsigned order, unsigned alloc_flags)
{
	for (unsigned o = order; o < NR_PAGE_ORDERS; o++) {
		const struct free_area *area = &zone->free_area[o];
		for (unsigned type = 0; type < MIGRATE_TYPES; type++) {
			bool usable =
				type < MIGRATE_PCPTYPES ||
				(type == MIGRATE_CMA && alloc_flags & ALLOC_CMA) ||
				(type == MIGRATE_HIGHATOMIC && alloc_flags & ALLOC_HIGHATOMIC);
			if (usable && atomic_load_explicit(&area->nr[type], memory_order_relaxed))
				return true;
		}
	}
	return false;
}

bool zone_watermark_ok_free(const struct zone *zone, unsigned order, unsigned long mark,
	enum zone_type highest, unsigned alloc_flags, long free_pages)
{
	long least = (long)mark;

	free_pages -= unusable_free(zone, order, alloc_flags);
	if (alloc_flags & ALLOC_MIN_RESERVE) {
		least -= least / 2;
		if (alloc_flags & ALLOC_NON_BLOCK)
			least -= least / 4;
	}
	least += (long)atomic_load_explicit(
		&zone->lowmem_reserve[highest - ZONE_NORMAL], memory_order_relaxed);
	if (free_pages <= least)
		return false;
	return !order || has_usable_block(zone, order, alloc_flags);
}

bool zone_watermark_ok(const struct zone *zone, unsigned order, unsigned long mark,
	enum zone_type highest, unsigned alloc_flags)
{
	return zone_watermark_ok_free(
		zone, order, mark, highest, alloc_flags, (long)zone_nr_free(zone));
}
