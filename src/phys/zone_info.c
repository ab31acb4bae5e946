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

static void add_verdict(const struct zone_compact *c, unsigned long sum[COMPACT_STAY_NR],
	struct compact_verdict *v)
{
	enum compact_result result = (enum compact_result)c->result;

	if (result > v->result)
		v->result = result;
	for (unsigned i = 0; i < COMPACT_STAY_NR; i++)
		sum[i] += atomic_load_explicit(&c->stays[i], memory_order_relaxed);
}

bool node_compact_verdict(const struct node *node, struct compact_verdict *ret_verdict)
{
	struct compact_verdict v = {.why = COMPACT_STAY_NR};
	unsigned long sum[COMPACT_STAY_NR] = {0};
	bool any = false;

	for (unsigned i = 0; i < ZONES_PER_NODE; i++) {
		if (!node->zone[i].compact.runs)
			continue;
		any = true;
		add_verdict(&node->zone[i].compact, sum, &v);
	}
	// Where the scanners meet some pages find no target: it says little if others stayed.
	for (unsigned i = 0; i < COMPACT_STAY_NR; i++)
		if (sum[i] > v.nr && (i != COMPACT_STAY_NO_TARGET || !v.nr)) {
			v.why = i;
			v.nr = sum[i];
		}
	if (any)
		*ret_verdict = v;
	return any;
}

const char *compact_result_text(enum compact_result result)
{
	static const char *const names[] = {
#define S(name, text) [name] = text,
		GODWIT_COMPACT_RESULTS(S)
#undef S
	};

	return names[result];
}

const char *compact_stay_text(enum compact_stay stay)
{
	static const char *const names[] = {
#define X(name, text) [COMPACT_STAY_##name] = text,
		COMPACT_STAYS(X)
#undef X
	};

	return names[stay];
}
