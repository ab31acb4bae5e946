// SPDX-License-Identifier: MIT
// proc/zoneinfo: the counters, watermarks and per-cpu lists of every zone.
//
// The kernel prints all zones a node could have; those that the engine does not know (DMA, DMA32,
// Device) come out as zones without memory. It counts per zone where the engine counts per node: a
// node's counters are printed in its first zone with memory, and 0 in a second one; only the number
// of free pages is each zone's own.
// Each line is a moment of its own. Locks: PCP for one list at a time, ZONE to look for pageblocks
// of contiguous-memory areas.
#include "base/text_buf.h"
#include "phys/alloc.h"
#include "phys/pcp.h"
#include "text/files.h"

// The text of a zone type; enum zone_type ends with it.
#define ZONE_TYPES (ZONE_DEVICE + 1)

static struct zone *zone_of(struct node *node, unsigned type)
{
	return type == ZONE_NORMAL || type == ZONE_MOVABLE ? node_zone(node, (enum zone_type)type)
							   : NULL;
}

static bool is_first(const struct zone *zone)
{
	const struct zone *normal = node_zone(zone->node, ZONE_NORMAL);

	return zone == normal || !zone_populated(normal);
}

static void node_counters(struct text_buf *text, const struct vmstat *stat, unsigned nid)
{
	text_puts(text, "\n  per-node stats");
	for (unsigned i = 0; i < VMSTAT_NODE_ITEMS; i++) {
		enum vmstat_item item = (enum vmstat_item)i;

		if (vmstat_kind(item) == VMSTAT_NODE)
			text_printf(text, "\n      %-12s %lu", vmstat_name(item),
				vmstat_node(stat, nid, item));
	}
}

// How many pages of the zone requests of each type must leave alone.
static void protection(struct text_buf *text, const struct zone *zone)
{
	text_puts(text, "\n        protection: (");
	for (unsigned type = 0; type < ZONE_TYPES; type++) {
		unsigned long pages = 0;

		if (zone && type >= ZONE_MOVABLE)
			pages = zone->lowmem_reserve[ZONE_MOVABLE - ZONE_NORMAL];
		text_printf(text, "%s%lu", type ? ", " : "", pages);
	}
	text_putc(text, ')');
}

static void watermarks(struct text_buf *text, struct zone *zone)
{
	static const char *const names[NR_WMARK] = {"min", "low", "high", "promo"};

	text_printf(text, "\n  pages free     %lu", zone ? zone_nr_free(zone) : 0);
	text_printf(text, "\n        boost    %lu", zone ? zone->watermark_boost : 0);
	for (unsigned i = 0; i < NR_WMARK; i++)
		text_printf(text, "\n        %-8s %lu", names[i], zone ? zone->watermark[i] : 0);
	text_printf(text, "\n        spanned  %lu", zone ? zone->nr_present : 0);
	text_printf(text, "\n        present  %lu", zone ? zone->nr_present : 0);
	text_printf(text, "\n        managed  %lu", zone ? zone->nr_managed : 0);
	text_printf(text, "\n        cma      %lu",
		zone && zone_populated(zone) ? zone_cma_pages(zone) : 0);
	protection(text, zone);
}

static void zone_counters(struct text_buf *text, const struct vmstat *stat, struct zone *zone)
{
	for (unsigned i = 0; i < VMSTAT_NODE_ITEMS; i++) {
		enum vmstat_item item = (enum vmstat_item)i;
		unsigned long value = 0;

		if (vmstat_kind(item) == VMSTAT_NODE)
			continue;
		if (item == VM_NR_FREE_PAGES)
			value = zone_nr_free(zone);
		else if (is_first(zone))
			value = vmstat_node(stat, zone->node->nid, item);
		text_printf(text, "\n      %-12s %lu", vmstat_name(item), value);
	}
}

static unsigned bits(unsigned long n)
{
	return n ? 64 - (unsigned)__builtin_clzl(n) : 0;
}

// How far the kernel's per-cpu counters may drift: by cpus, and memory in units of 128 MiB.
static unsigned stats_threshold(const struct zone *zone)
{
	unsigned long pages = 2 * bits(zone->node->phys->nr_cpus) *
		(1 + bits(zone->nr_managed >> (27 - PAGE_SHIFT)));

	return (unsigned)min(pages, 125ul);
}

static void pagesets(struct text_buf *text, struct zone *zone)
{
	text_puts(text, "\n  pagesets");
	for (unsigned cpu = 0; cpu < zone->node->phys->nr_cpus; cpu++) {
		struct pcp *pcp = &zone->pcp[cpu];

		mutex_lock(&pcp->lock);
		unsigned count = pcp->count;
		mutex_unlock(&pcp->lock);
		text_printf(text, "\n    cpu: %u", cpu);
		text_printf(text, "\n              count: %u", count);
		text_printf(text, "\n              high:  %u", zone->pcp_high);
		text_printf(text, "\n              batch: %u", zone->pcp_batch);
		text_printf(text, "\n  vm stats threshold: %u", stats_threshold(zone));
	}
}

static void zone_section(struct text_buf *text, const struct vmstat *stat, struct node *node,
	unsigned type)
{
	struct zone *zone = zone_of(node, type);

	text_printf(text, "Node %u, zone %8s", node->nid, zone_type_name((int)type));
	if (zone && zone_populated(zone) && is_first(zone))
		node_counters(text, stat, node->nid);
	watermarks(text, zone);
	if (zone && zone_populated(zone)) {
		zone_counters(text, stat, zone);
		pagesets(text, zone);
		text_puts(text, "\n  node_unreclaimable:  0");
		text_printf(text, "\n  start_pfn:           %lu", zone->start_pfn);
	}
	text_putc(text, '\n');
}

int file_zoneinfo(struct gw_machine *machine, const struct tunable *t maybe_unused,
	const unsigned *index maybe_unused, struct text_buf *text)
{
	struct phys *phys = machine->mm.phys;

	for (unsigned nid = 0; nid < phys->nr_nodes; nid++)
		for (unsigned type = 0; type < ZONE_TYPES; type++)
			zone_section(text, machine->mm.stat, phys_node(phys, nid), type);
	return 0;
}
