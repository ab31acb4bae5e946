// SPDX-License-Identifier: MIT
// gw_node_fill(): take a node's free memory with pages that nobody can move or reclaim, so that a
// story or a test meets a full node. The pages are unmovable ones of this file's own, on a list a
// node; the largest blocks are taken first. What is left lies above the min watermark, as nobody
// could take it otherwise; when nothing shall be left, that reserve goes, too. Nothing is left on
// the lists of the cpus, where a block is not counted as free and can be had all the same.
#include "engine/engine.h"

#include "phys/alloc.h"
#include "phys/pcp.h"

#include <errno.h>

static struct folio *take_block(struct gw_machine *machine, unsigned node, uint64_t pages)
{
	struct folio *folio = NULL;

	for (int order = MAX_PAGE_ORDER; order >= 0 && !folio; order--)
		if (1ul << order <= pages)
			folio = folio_alloc(&machine->phys,
				GFP_THISNODE | GFP_NOWARN | GFP_MEMALLOC | GFP_HIGHUSER_MOVABLE,
				(unsigned)order, (int)node, NULL, 0);
	return folio;
}

// What an allocation must not go below. A zone without memory has a watermark as well.
static uint64_t min_watermarks(const struct node *node)
{
	uint64_t pages = 0;

	for (unsigned i = 0; i < ZONES_PER_NODE; i++)
		if (zone_populated(&node->zone[i]))
			pages += atomic_load_explicit(
				&node->zone[i].watermark[WMARK_MIN], memory_order_relaxed);
	return pages;
}

// Taking a block may put others on a list of the cpu: they come back, and are taken as well.
static uint64_t take_down_to(struct gw_machine *machine, unsigned node, uint64_t keep)
{
	uint64_t free_pages, taken = 0;
	struct folio *folio;

	do {
		folio = NULL;
		drain_all_pages(&machine->phys);
		while ((free_pages = node_nr_free(phys_node(&machine->phys, node))) > keep &&
			(folio = take_block(machine, node, free_pages - keep))) {
			taken += folio_nr(folio);
			folio_list_add(&machine->filled[node], folio);
		}
	} while (folio);
	return taken;
}

int64_t gw_node_fill(struct gw_machine *machine, unsigned node, uint64_t leave)
{
	uint64_t keep, taken;

	if (machine_refused(machine))
		return machine_refused(machine);
	if (node >= machine->phys.nr_nodes)
		return -EINVAL;
	keep = leave >> PAGE_SHIFT;
	if (keep)
		keep += min_watermarks(phys_node(&machine->phys, node));
	mutex_lock(&machine->fill_lock);
	taken = take_down_to(machine, node, keep);
	mutex_unlock(&machine->fill_lock);
	return (int64_t)(taken << PAGE_SHIFT);
}

int64_t gw_node_unfill(struct gw_machine *machine, unsigned node)
{
	struct folio *folio;
	uint64_t given = 0;

	if (machine_refused(machine))
		return machine_refused(machine);
	if (node >= machine->phys.nr_nodes)
		return -EINVAL;
	mutex_lock(&machine->fill_lock);
	while ((folio = folio_list_pop(&machine->filled[node]))) {
		given += folio_nr(folio);
		folio_put(folio);
	}
	mutex_unlock(&machine->fill_lock);
	return (int64_t)(given << PAGE_SHIFT);
}
