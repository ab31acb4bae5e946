// SPDX-License-Identifier: MIT
// Numbers about zones for those who print them: buddyinfo, pagetypeinfo, zoneinfo. Another layer
// formats; here is only what a consistent answer needs a lock for.
#include "phys/zone.h"

const char *migratetype_name(enum migratetype type)
{
	static const char *const names[] = {
#define X(name, text) text,
		MIGRATETYPES(X)
#undef X
	};

	return names[type];
}

void zone_free_blocks(struct zone *zone, unsigned long ret_nr[NR_PAGE_ORDERS][MIGRATE_TYPES])
{
	mutex_lock(&zone->lock);
	for (unsigned order = 0; order < NR_PAGE_ORDERS; order++)
		for (unsigned type = 0; type < MIGRATE_TYPES; type++)
			ret_nr[order][type] = atomic_load_explicit(
				&zone->free_area[order].nr[type], memory_order_relaxed);
	mutex_unlock(&zone->lock);
}

void zone_pageblock_counts(struct zone *zone, unsigned long ret_nr[MIGRATE_TYPES])
{
	for (unsigned type = 0; type < MIGRATE_TYPES; type++)
		ret_nr[type] = 0;
	mutex_lock(&zone->lock);
	for (uint64_t pfn = zone->start_pfn; pfn < zone_end_pfn(zone); pfn += PAGEBLOCK_NR)
		ret_nr[pageblock_type(zone, pfn)]++;
	mutex_unlock(&zone->lock);
}

unsigned long node_nr_free(const struct node *node)
{
	unsigned long sum = 0;

	for (unsigned i = 0; i < ZONES_PER_NODE; i++)
		sum += zone_nr_free(&node->zone[i]);
	return sum;
}

unsigned long phys_nr_free(const struct phys *phys)
{
	unsigned long sum = 0;

	for (unsigned nid = 0; nid < phys->nr_nodes; nid++)
		sum += node_nr_free(phys->node[nid]);
	return sum;
}
