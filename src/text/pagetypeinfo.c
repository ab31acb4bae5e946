// SPDX-License-Identifier: MIT
// proc/pagetypeinfo: free blocks by migratetype and order, and how many pageblocks each type has,
// a section for each node that has memory. The column CMA is printed only on a machine with a
// contiguous-memory area. A list's count ends at 100000, shown as ">100000".
// Each zone's numbers are of one moment (its lock). Nothing can fail.
#include "base/text_buf.h"
#include "phys/alloc.h"
#include "text/files.h"

#define FREE_MOST 100000ul

unsigned long zone_cma_pages(struct zone *zone)
{
	unsigned long nr[MIGRATE_TYPES];

	zone_pageblock_counts(zone, nr);
	return nr[MIGRATE_CMA] << PAGEBLOCK_ORDER;
}

static void look_for_cma(struct zone *zone, void *arg)
{
	bool *found = arg;

	if (!*found)
		*found = zone_cma_pages(zone) != 0;
}

bool phys_has_cma(struct phys *phys)
{
	bool found = false;

	each_zone(phys, look_for_cma, &found);
	return found;
}

static bool shown(unsigned type, bool has_cma)
{
	return has_cma || type != MIGRATE_CMA;
}

static void free_section(struct text_buf *text, struct zone *zone, bool has_cma)
{
	unsigned long nr[NR_PAGE_ORDERS][MIGRATE_TYPES];

	zone_free_blocks(zone, nr);
	for (unsigned type = 0; type < MIGRATE_TYPES; type++) {
		if (!shown(type, has_cma))
			continue;
		text_printf(text, "Node %4u, zone %8s, type %12s ", zone->node->nid,
			zone_type_name((int)zone->type), migratetype_name((enum migratetype)type));
		for (unsigned order = 0; order < NR_PAGE_ORDERS; order++)
			text_printf(text, "%s%6lu ", nr[order][type] > FREE_MOST ? ">" : "",
				min(nr[order][type], FREE_MOST));
		text_putc(text, '\n');
	}
}

static void block_section(struct text_buf *text, struct zone *zone, bool has_cma)
{
	unsigned long nr[MIGRATE_TYPES];

	zone_pageblock_counts(zone, nr);
	text_printf(text, "Node %u, zone %8s ", zone->node->nid, zone_type_name((int)zone->type));
	for (unsigned type = 0; type < MIGRATE_TYPES; type++)
		if (shown(type, has_cma))
			text_printf(text, "%12lu ", nr[type]);
	text_putc(text, '\n');
}

static void node_section(struct text_buf *text, struct node *node, bool has_cma)
{
	text_printf(text, "Page block order: %d\n", PAGEBLOCK_ORDER);
	text_printf(text, "Pages per block:  %lu\n\n", PAGEBLOCK_NR);
	text_printf(text, "%-43s ", "Free pages count per migrate type at order");
	for (unsigned order = 0; order < NR_PAGE_ORDERS; order++)
		text_printf(text, "%6u ", order);
	text_putc(text, '\n');
	for (unsigned i = 0; i < ZONES_PER_NODE; i++)
		if (zone_populated(&node->zone[i]))
			free_section(text, &node->zone[i], has_cma);
	text_printf(text, "\n%-23s", "Number of blocks type ");
	for (unsigned type = 0; type < MIGRATE_TYPES; type++)
		if (shown(type, has_cma))
			text_printf(text, "%12s ", migratetype_name((enum migratetype)type));
	text_putc(text, '\n');
	for (unsigned i = 0; i < ZONES_PER_NODE; i++)
		if (zone_populated(&node->zone[i]))
			block_section(text, &node->zone[i], has_cma);
}

int file_pagetypeinfo(struct gw_machine *machine, const struct tunable *t maybe_unused,
	const unsigned *index maybe_unused, struct text_buf *text)
{
	struct phys *phys = machine->mm.phys;
	const bool has_cma = phys_has_cma(phys);

	for (unsigned nid = 0; nid < phys->nr_nodes; nid++)
		if (nodemask_test(phys->has_memory, nid))
			node_section(text, phys_node(phys, nid), has_cma);
	return 0;
}
