// SPDX-License-Identifier: MIT
// Free memory by block size: proc/buddyinfo, and what it says about fragmentation
// (sys/kernel/debug/extfrag). A line a zone that has memory, a column an order.
//
// extfrag_index: would an allocation of the order fail for lack of memory (towards 0) or because
// memory is fragmented (towards 1); -1.000 when it would succeed. unusable_index: the share of free
// memory that lies in blocks too small for the order.
// A zone's counts are of one moment (its lock); those of several zones are not.
#include "base/text_buf.h"
#include "phys/alloc.h"
#include "text/files.h"

struct free_blocks {
	unsigned long nr[NR_PAGE_ORDERS];
};

void each_zone(struct phys *phys, void (*see)(struct zone *zone, void *arg), void *arg)
{
	for (unsigned nid = 0; nid < phys->nr_nodes; nid++) {
		struct node *node = phys_node(phys, nid);

		for (unsigned i = 0; i < ZONES_PER_NODE; i++)
			if (zone_populated(&node->zone[i]))
				see(&node->zone[i], arg);
	}
}

static struct free_blocks count_free(struct zone *zone)
{
	struct free_blocks free = {0};
	unsigned long by_type[NR_PAGE_ORDERS][MIGRATE_TYPES];

	zone_free_blocks(zone, by_type);
	for (unsigned order = 0; order < NR_PAGE_ORDERS; order++)
		for (unsigned type = 0; type < MIGRATE_TYPES; type++)
			free.nr[order] += by_type[order][type];
	return free;
}

static void begin_line(struct text_buf *text, const struct zone *zone)
{
	text_printf(text, "Node %u, zone %8s ", zone->node->nid, zone_type_name((int)zone->type));
}

static void buddyinfo_line(struct zone *zone, void *arg)
{
	struct text_buf *text = arg;
	const struct free_blocks free = count_free(zone);

	begin_line(text, zone);
	for (unsigned order = 0; order < NR_PAGE_ORDERS; order++)
		text_printf(text, "%6lu ", free.nr[order]);
	text_putc(text, '\n');
}

int file_buddyinfo(struct gw_machine *machine, const struct tunable *t maybe_unused,
	const unsigned *index maybe_unused, struct text_buf *text)
{
	each_zone(machine->mm.phys, buddyinfo_line, text);
	return 0;
}

// ---- Fragmentation, in thousandths

struct free_summary {
	unsigned long blocks, pages, suitable; // suitable: blocks of the order that would fit in
};

static struct free_summary summarize(const struct free_blocks *free, unsigned order)
{
	struct free_summary sum = {0};

	for (unsigned i = 0; i < NR_PAGE_ORDERS; i++) {
		sum.blocks += free->nr[i];
		sum.pages += free->nr[i] << i;
		if (i >= order)
			sum.suitable += free->nr[i] << (i - order);
	}
	return sum;
}

static long fragmentation(const struct free_blocks *free, unsigned order)
{
	const struct free_summary sum = summarize(free, order);

	if (!sum.blocks)
		return 0;
	if (sum.suitable)
		return -1000;
	return 1000 - (long)((1000 + sum.pages * 1000 / (1ul << order)) / sum.blocks);
}

static long unusable(const struct free_blocks *free, unsigned order)
{
	const struct free_summary sum = summarize(free, order);

	if (!sum.pages)
		return 1000;
	return (long)((sum.pages - (sum.suitable << order)) * 1000 / sum.pages);
}

struct index_text {
	struct text_buf *text;
	long (*index)(const struct free_blocks *free, unsigned order);
};

static void index_line(struct zone *zone, void *arg)
{
	const struct index_text *it = arg;
	const struct free_blocks free = count_free(zone);

	begin_line(it->text, zone);
	for (unsigned order = 0; order < NR_PAGE_ORDERS; order++) {
		long index = it->index(&free, order);
		unsigned long size = (unsigned long)(index < 0 ? -index : index);

		text_printf(it->text, "%s%lu.%03lu ", index < 0 ? "-" : "", size / 1000,
			size % 1000);
	}
	text_putc(it->text, '\n');
}

int file_extfrag_index(struct gw_machine *machine, const struct tunable *t maybe_unused,
	const unsigned *index maybe_unused, struct text_buf *text)
{
	struct index_text it = {text, fragmentation};

	each_zone(machine->mm.phys, index_line, &it);
	return 0;
}

int file_unusable_index(struct gw_machine *machine, const struct tunable *t maybe_unused,
	const unsigned *index maybe_unused, struct text_buf *text)
{
	struct index_text it = {text, unusable};

	each_zone(machine->mm.phys, index_line, &it);
	return 0;
}
