// SPDX-License-Identifier: MIT
// Setting up and taking down the physical memory of a machine, and which node, zone and pageblock a
// frame belongs to.
//
// Each node with memory owns the pfn range of one arena, which begins at a multiple of 2^18. The
// process has one table from these slots to nodes, so a frame finds its node, zone and machine with
// two loads. ZONE_MOVABLE, if asked for, is the end of the node from a pageblock boundary on.
//
// Everything here but the pageblock bits is set once: phys_init() runs before anybody else knows
// the machine, phys_destroy() when nobody does any more.
#include "phys/zone.h"
#include "base/assert.h"
#include "machine/arena.h"
#include "machine/topology.h"
#include "phys/buddy.h"
#include "phys/pcp.h"
#include "phys/zonelist.h"

#include <errno.h>
#include <string.h>

#define SLOT_SHIFT ARENA_PFN_ALIGN_SHIFT
#define SLOTS (VMEMMAP_FRAMES >> SLOT_SHIFT)
#define FREE_BACKED_LEAST (64ull << 20)

static struct node *_Atomic slot_node[SLOTS];

static struct node *pfn_node(uint64_t pfn)
{
	struct node *node =
		atomic_load_explicit(&slot_node[pfn >> SLOT_SHIFT], memory_order_acquire);

	assert_that(node, "pfn %#lx belongs to no node", (unsigned long)pfn);
	return node;
}

struct node *folio_node(const struct folio *folio)
{
	return pfn_node(folio_pfn(folio).n);
}

struct zone *frame_zone(const struct frame *frame)
{
	return node_zone(pfn_node(frame_pfn(frame).n), (enum zone_type)frame_zone_type(frame));
}

struct zone *folio_zone(const struct folio *folio)
{
	return frame_zone(&folio->page);
}

struct phys *folio_phys(const struct folio *folio)
{
	return folio_node(folio)->phys;
}

struct zone *pfn_zone(struct pfn pfn)
{
	struct node *node;

	if (pfn.n >= VMEMMAP_FRAMES)
		return NULL;
	node = atomic_load_explicit(&slot_node[pfn.n >> SLOT_SHIFT], memory_order_acquire);
	if (!node || pfn.n - node->start_pfn >= node->nr_present)
		return NULL;
	return frame_zone(pfn_frame(pfn));
}

static void set_slots(struct node *node, struct node *value)
{
	uint64_t first = node->start_pfn >> SLOT_SHIFT;
	uint64_t last = (node->start_pfn + node->nr_present - 1) >> SLOT_SHIFT;

	for (uint64_t slot = first; node->nr_present && slot <= last; slot++)
		atomic_store_explicit(&slot_node[slot], value, memory_order_release);
}

static int init_pcp(struct zone *zone)
{
	unsigned nr_cpus = zone_phys(zone)->nr_cpus;

	zone->pcp = meta_alloc(nr_cpus * sizeof(struct pcp));
	if (!zone->pcp)
		return -ENOMEM;
	for (unsigned cpu = 0; cpu < nr_cpus; cpu++)
		mutex_init(&zone->pcp[cpu].lock, RANK_PCP);
	return 0;
}

static int init_zone(struct node *node, enum zone_type type, uint64_t start, uint64_t nr)
{
	struct zone *zone = node_zone(node, type);

	zone->node = node;
	zone->type = type;
	zone->start_pfn = start;
	zone->nr_present = nr;
	zone->nr_managed = nr;
	mutex_init(&zone->lock, RANK_ZONE);
	if (!nr)
		return 0;
	frames_init(pfn_of(start), nr, node->nid, type);
	return init_pcp(zone);
}

static int init_memory(struct node *node, const struct phys_node_config *config)
{
	uint64_t nr = config->arena->nr_pages, movable = config->movable_bytes >> PAGE_SHIFT;
	uint64_t normal;
	int err;

	if (movable > nr)
		return -EINVAL;
	if (config->arena->first + nr > VMEMMAP_FRAMES)
		return -ENOSPC;
	normal = ALIGN_DOWN(nr - movable, PAGEBLOCK_NR);
	if (!movable)
		normal = nr;
	node->arena = config->arena;
	node->start_pfn = config->arena->first;
	node->nr_present = nr;
	node->nr_pageblocks = DIV_ROUND_UP(nr, PAGEBLOCK_NR);
	node->pageblock = meta_alloc(node->nr_pageblocks);
	if (!node->pageblock)
		return -ENOMEM;
	for (unsigned long i = 0; i < node->nr_pageblocks; i++)
		atomic_store_explicit(&node->pageblock[i], MIGRATE_MOVABLE, memory_order_relaxed);
	err = init_zone(node, ZONE_NORMAL, node->start_pfn, normal);
	if (!err)
		err = init_zone(node, ZONE_MOVABLE, node->start_pfn + normal, nr - normal);
	return err;
}

static int init_node(struct phys *phys, unsigned nid, const struct phys_node_config *config)
{
	struct node *node = meta_new(struct node);

	if (!node)
		return -ENOMEM;
	phys->node[nid] = node;
	node->phys = phys;
	node->nid = nid;
	mutex_init(&node->lru.lock, RANK_LRU);
	mutex_init(&node->deferred.lock, RANK_DEFERRED_SPLIT);
	mutex_init(&node->quarantine_lock, RANK_PCP);
	for (unsigned i = 0; i < ZONES_PER_NODE; i++) {
		node->zone[i].node = node;
		node->zone[i].type = (enum zone_type)(ZONE_NORMAL + i);
	}
	if (!config->arena)
		return 0;
	nodemask_set(&phys->has_memory, nid);
	return init_memory(node, config);
}

static void destroy_node(struct node *node)
{
	for (unsigned i = 0; i < ZONES_PER_NODE; i++)
		if (node->zone[i].pcp)
			meta_free(node->zone[i].pcp, node->phys->nr_cpus * sizeof(struct pcp));
	if (node->nr_present)
		frames_release(pfn_of(node->start_pfn), node->nr_present);
	if (node->pageblock)
		meta_free((void *)node->pageblock, node->nr_pageblocks);
	meta_delete(node);
}

void phys_destroy(struct phys *phys)
{
	for (unsigned nid = 0; nid < phys->nr_nodes; nid++) {
		if (!phys->node[nid])
			continue;
		set_slots(phys->node[nid], NULL);
		destroy_node(phys->node[nid]);
		phys->node[nid] = NULL;
	}
}

static void init_tunables(struct phys *phys, const struct phys_config *config)
{
	uint64_t total = 0, largest = 0;

	for (unsigned nid = 0; nid < phys->nr_nodes; nid++) {
		total += phys->node[nid]->nr_present;
		largest = max(largest, phys->node[nid]->nr_present);
	}
	phys->page_group_by_mobility_disabled = total < PAGEBLOCK_NR * MIGRATE_TYPES;
	phys->watermark_scale_factor = 10;
	phys->watermark_boost_factor = 15000;
	phys->free_backed_max = max((largest << PAGE_SHIFT) / 4, FREE_BACKED_LEAST);
	phys->min_free_kbytes = config->min_free_kbytes;
	if (!phys->min_free_kbytes)
		phys->min_free_kbytes = phys_default_min_free_kbytes(phys);
}

int phys_init(struct phys *phys, const struct phys_config *config)
{
	int err;

	if (!config->nr_nodes || config->nr_nodes > MAX_NODES)
		return -EINVAL;
	err = vmemmap_init();
	if (err)
		return err;
	memset(phys, 0, sizeof(*phys));
	phys->topology = config->topology;
	phys->nr_nodes = config->nr_nodes;
	phys->nr_cpus = config->topology->nr_cpus;
	phys->stat = config->stat;
	phys->trace = config->trace;
	phys->copier = config->copier;
	for (unsigned nid = 0; !err && nid < phys->nr_nodes; nid++)
		err = init_node(phys, nid, &config->node[nid]);
	if (!err && nodemask_empty(phys->has_memory))
		err = -EINVAL;
	if (err) {
		phys_destroy(phys);
		return err;
	}
	init_tunables(phys, config);
	for (unsigned nid = 0; nid < phys->nr_nodes; nid++) {
		set_slots(phys->node[nid], phys->node[nid]);
		for (unsigned i = 0; i < ZONES_PER_NODE; i++) {
			struct zone *zone = &phys->node[nid]->zone[i];
			mutex_lock(&zone->lock);
			buddy_free_range(zone, zone->start_pfn, zone->nr_present, true);
			mutex_unlock(&zone->lock);
		}
	}
	phys_build_zonelists(phys);
	phys_setup_watermarks(phys);
	return 0;
}

void pageblock_set_type(struct zone *zone, uint64_t pfn, enum migratetype type)
{
	_Atomic uint8_t *block = node_pageblock(zone->node, pfn);
	uint8_t old = atomic_load_explicit(block, memory_order_relaxed);

	mutex_assert_held(&zone->lock);
	while (!atomic_compare_exchange_weak_explicit(block, &old,
		(uint8_t)((old & ~PB_TYPE_MASK) | type), memory_order_relaxed,
		memory_order_relaxed))
		;
}

bool pageblock_test_skip(const struct zone *zone, uint64_t pfn)
{
	return atomic_load_explicit(node_pageblock(zone->node, pfn), memory_order_relaxed) &
	       PB_SKIP;
}

void pageblock_set_skip(struct zone *zone, uint64_t pfn)
{
	atomic_fetch_or_explicit(node_pageblock(zone->node, pfn), PB_SKIP, memory_order_relaxed);
}

void pageblock_clear_skip(struct zone *zone, uint64_t pfn)
{
	atomic_fetch_and_explicit(
		node_pageblock(zone->node, pfn), (uint8_t)~PB_SKIP, memory_order_relaxed);
}

void zone_clear_skip(struct zone *zone)
{
	for (uint64_t pfn = zone->start_pfn; pfn < zone_end_pfn(zone); pfn += PAGEBLOCK_NR)
		pageblock_clear_skip(zone, pfn);
}
