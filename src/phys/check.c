// SPDX-License-Identifier: MIT
// Balancing the books of physical memory, when nothing runs.
//
// Two walks that must agree. The first goes over every frame of a node by number and decides, from
// the frame alone, where it is: free block, per-cpu list, quarantine, withheld by poison, or part
// of a used folio; anything else, or two things at once, is a difference. It counts what it finds.
// The second goes over every list and checks that each entry is of that kind, links back, and
// is as large and of the type that its list says. Then the counts of both and the cached numbers
// (free areas, zones, LRU, vmstat) must be equal. Free blocks must be merged as far as they can.
#include "base/assert.h"
#include "phys/buddy.h"
#include "phys/pcp.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>

struct books {
	char *buf;
	size_t size;
	bool bad;
	// What the walk over the frames of one node found.
	unsigned long blocks[ZONES_PER_NODE][NR_PAGE_ORDERS][MIGRATE_TYPES];
	unsigned long pcp_pages[ZONES_PER_NODE];
	unsigned long lru_pages[NR_LRU_LISTS];
	unsigned long quarantined, poisoned;
	struct size_stats *sizes; // of the whole machine
};

static void printf_format(3, 4)
	difference(struct books *books, const struct frame *frame, const char *fmt, ...)
{
	va_list args;
	int len;

	if (books->bad)
		return; // the first one counts
	books->bad = true;
	va_start(args, fmt);
	len = vsnprintf(books->buf, books->size, fmt, args);
	va_end(args);
	if (frame && len >= 0 && (size_t)len + 2 < books->size) {
		len += snprintf(books->buf + len, books->size - (size_t)len, ": ");
		frame_dump(frame, books->buf + len, books->size - (size_t)len);
	}
}

static unsigned long value(const _Atomic unsigned long *number)
{
	return atomic_load_explicit(number, memory_order_relaxed);
}

static unsigned zone_number(const struct zone *zone)
{
	return zone->type - ZONE_NORMAL;
}

// Frames of a free or withheld block behind its head carry nothing.
static void check_blank(struct books *books, const struct frame *head, unsigned order)
{
	for (unsigned long i = 1; i < 1ul << order; i++)
		if (frame_flags(head + i) || atomic_load(&head[i].refcount) ||
			atomic_load(&head[i].mapcount))
			difference(books, head + i, "inside a free block of order %u", order);
}

static void check_merged(struct books *books, struct zone *zone, const struct frame *head,
	unsigned order, enum migratetype type)
{
	uint64_t partner = frame_pfn(head).n ^ 1ul << order;
	const struct frame *frame = pfn_frame(pfn_of(partner));
	enum migratetype other;

	if (order == MAX_PAGE_ORDER || partner < zone->start_pfn ||
		partner + (1ul << order) > zone_end_pfn(zone))
		return;
	if (!frame_test_buddy(frame) || buddy_order(frame) != order)
		return;
	other = pageblock_type(zone, partner);
	if (other == type || (other < MIGRATE_PCPTYPES && type < MIGRATE_PCPTYPES))
		difference(books, head, "order %u is not merged with its buddy", order);
}

static unsigned long check_free_block(struct books *books, struct zone *zone, struct frame *head)
{
	uint64_t pfn = frame_pfn(head).n;
	unsigned order = buddy_order(head);
	enum migratetype type = pageblock_type(zone, pfn);

	if (order > MAX_PAGE_ORDER || !IS_ALIGNED(pfn, 1ul << order) ||
		pfn + (1ul << order) > zone_end_pfn(zone)) {
		difference(books, head, "free block of a bad order %u", order);
		return 1;
	}
	if (frame_flags(head) != 1u << PG_BUDDY || atomic_load(&head->refcount) ||
		atomic_load(&head->mapcount))
		difference(books, head, "free block with more than BUDDY");
	check_blank(books, head, order);
	check_merged(books, zone, head, order, type);
	for (uint64_t p = pfn; p < pfn + (1ul << order); p += PAGEBLOCK_NR)
		if (pageblock_type(zone, p) != type)
			difference(books, head, "free block of several types");
	books->blocks[zone_number(zone)][order][type]++;
	return 1ul << order;
}

static unsigned long check_folio(struct books *books, struct zone *zone, struct folio *folio)
{
	unsigned long nr = folio_nr(folio);
	uint32_t flags = frame_flags(&folio->page);

	if (folio_pfn(folio).n + nr > zone_end_pfn(zone)) {
		difference(books, &folio->page, "folio larger than its zone");
		return 1;
	}
	if (flags & (1u << PG_BUDDY | 1u << PG_PCP | 1u << PG_TAIL))
		difference(books, &folio->page, "used and free");
	for (unsigned long i = 1; i < nr; i++) {
		struct frame *tail = folio_frame(folio, i);
		if (!frame_test_tail(tail) || frame_folio(tail) != folio ||
			atomic_load(&tail->refcount))
			difference(books, tail, "bad tail %lu of pfn %#lx", i,
				(unsigned long)folio_pfn(folio).n);
	}
	if (folio_test_lru(folio))
		books->lru_pages[folio_lru_list(folio)] += nr;
	if (folio_test_anon(folio) && !folio_test_hugetlb(folio))
		size_stat_add(books->sizes, folio_order(folio), STAT_NR_ANON, 1);
	if (folio_test_partially_mapped(folio))
		size_stat_add(books->sizes, folio_order(folio), STAT_NR_ANON_PARTIALLY_MAPPED, 1);
	return nr;
}

// Where is this frame? Returns how many frames the answer covers.
static unsigned long check_frame(struct books *books, struct zone *zone, struct frame *frame)
{
	uint32_t flags = frame_flags(frame);
	unsigned order = buddy_order(frame);

	if (frame_nid(frame) != zone->node->nid || frame_zone_type(frame) != zone->type)
		difference(books, frame, "of another node or zone");
	if (flags >> PG_BUDDY & 1)
		return check_free_block(books, zone, frame);
	// A page that waits in a pool has no reference.
	if (atomic_load(&frame->refcount) || flags >> PG_HUGETLB & 1)
		return check_folio(books, zone, (struct folio *)frame);
	if (flags == 1u << PG_HWPOISON) {
		books->poisoned++;
		return 1;
	}
	if ((flags != 1u << PG_PCP && flags != 1u << PG_ISOLATED) || order > MAX_PAGE_ORDER) {
		difference(books, frame, "neither free nor used");
		return 1;
	}
	check_blank(books, frame, order);
	if (flags >> PG_PCP & 1)
		books->pcp_pages[zone_number(zone)] += 1ul << order;
	else
		books->quarantined += 1ul << order;
	return 1ul << order;
}

// Every entry links back; returns the entries.
static unsigned long check_links(struct books *books, const struct frame_list *list)
{
	const struct frame *prev = NULL;
	unsigned long n = 0;

	for (struct frame *f = frame_list_first(list); f && !books->bad; f = frame_list_next(f)) {
		if (frame_list_prev(f) != prev)
			difference(books, f, "list entry %lu does not link back", n);
		prev = f;
		n++;
	}
	if (!books->bad && frame_list_last(list) != prev)
		difference(books, prev, "not the last of its list");
	return n;
}

static void check_area(struct books *books, struct zone *zone, unsigned order, unsigned type)
{
	const struct free_area *area = &zone->free_area[order];
	const struct frame_list *list = &area->list[type];
	unsigned long found = books->blocks[zone_number(zone)][order][type];
	unsigned long listed = check_links(books, list);

	if (listed != value(&area->nr[type]) || listed != found)
		difference(books, NULL,
			"node %u %s order %u %s: %lu listed, %lu counted, %lu found",
			zone->node->nid, zone_type_name(zone->type), order,
			migratetype_name((enum migratetype)type), listed, value(&area->nr[type]),
			found);
	for (struct frame *f = frame_list_first(list); f && !books->bad; f = frame_list_next(f))
		if (!frame_test_buddy(f) || buddy_order(f) != order ||
			pageblock_type(zone, frame_pfn(f).n) != type || frame_zone(f) != zone)
			difference(books, f, "on the free list of order %u %s", order,
				migratetype_name((enum migratetype)type));
}

static void check_zone_sums(struct books *books, struct zone *zone)
{
	unsigned long sum[MIGRATE_TYPES] = {0}, nr_free = 0, pcp_pages = zone_pcp_pages(zone);

	for (unsigned order = 0; order < NR_PAGE_ORDERS; order++) {
		for (unsigned type = 0; type < MIGRATE_TYPES; type++) {
			check_area(books, zone, order, type);
			sum[type] += value(&zone->free_area[order].nr[type]) << order;
		}
	}
	for (unsigned type = 0; type < MIGRATE_ISOLATE; type++)
		nr_free += sum[type];
	if (nr_free != value(&zone->nr_free) || sum[MIGRATE_CMA] != value(&zone->nr_free_cma) ||
		sum[MIGRATE_HIGHATOMIC] != value(&zone->nr_free_highatomic))
		difference(books, NULL,
			"node %u %s: %lu free, counted %lu; cma %lu, %lu; atomic %lu, %lu",
			zone->node->nid, zone_type_name(zone->type), nr_free, value(&zone->nr_free),
			sum[MIGRATE_CMA], value(&zone->nr_free_cma), sum[MIGRATE_HIGHATOMIC],
			value(&zone->nr_free_highatomic));
	if (pcp_pages != books->pcp_pages[zone_number(zone)])
		difference(books, NULL, "node %u %s: per-cpu lists count %lu pages, %lu found",
			zone->node->nid, zone_type_name(zone->type), pcp_pages,
			books->pcp_pages[zone_number(zone)]);
	for (unsigned cpu = 0; zone->pcp && cpu < zone_phys(zone)->nr_cpus; cpu++)
		for (unsigned i = 0; i < PCP_LISTS; i++)
			check_links(books, &zone->pcp[cpu].list[i]);
}

static void check_lru(struct books *books, struct node *node)
{
	struct vmstat *stat = node->phys->stat;

	for (unsigned lru = 0; lru < NR_LRU_LISTS; lru++) {
		const struct frame_list *list = &node->lru.list[lru];
		unsigned long listed = 0;
		long counted = vmstat_node_signed(stat, node->nid, VM_NR_INACTIVE_ANON + lru);

		check_links(books, list);
		for (struct frame *f = frame_list_first(list); f && !books->bad;
			f = frame_list_next(f)) {
			struct folio *folio = (struct folio *)f;
			listed += folio_nr(folio);
			if (!folio_test_lru(folio) || folio_lru_list(folio) != lru ||
				folio_node(folio) != node || !folio_ref_count(folio))
				difference(books, f, "on list %s of node %u",
					lru_list_name((enum lru_list)lru), node->nid);
		}
		if (listed != value(&node->lru.nr[lru]) || listed != books->lru_pages[lru] ||
			counted != (long)listed)
			difference(books, NULL,
				"node %u %s: %lu pages listed, %lu counted, %lu found, vmstat %ld",
				node->nid, lru_list_name((enum lru_list)lru), listed,
				value(&node->lru.nr[lru]), books->lru_pages[lru], counted);
	}
}

// The queue links both ways, and holds as many large folios in use as it says.
static void check_deferred(struct books *books, struct node *node)
{
	unsigned long n = 0;
	uint32_t prev = 0;

	for (uint32_t link = node->deferred.first; link && !books->bad;) {
		struct folio *folio = (struct folio *)link_frame(link);
		const struct frame *tail = folio_frame(folio, 2);

		if (folio_order(folio) < 2 || !folio_ref_count(folio) ||
			atomic_load(&tail->deferred_prev) != prev)
			difference(books, &folio->page, "on the deferred-split queue");
		prev = link;
		link = atomic_load(&tail->deferred_next);
		n++;
	}
	if (prev != node->deferred.last || n != value(&node->deferred.nr))
		difference(books, NULL,
			"node %u: %lu folios on the deferred-split queue, %lu counted", node->nid,
			n, value(&node->deferred.nr));
}

static void check_node_sums(struct books *books, struct node *node)
{
	struct vmstat *stat = node->phys->stat;
	long nr_free = vmstat_node_signed(stat, node->nid, VM_NR_FREE_PAGES);

	check_links(books, &node->quarantine);
	if (books->quarantined != value(&node->nr_quarantined) ||
		books->poisoned != value(&node->nr_poisoned))
		difference(books, NULL, "node %u: %lu in quarantine, found %lu; %lu poisoned, %lu",
			node->nid, value(&node->nr_quarantined), books->quarantined,
			value(&node->nr_poisoned), books->poisoned);
	if (nr_free != (long)node_nr_free(node))
		difference(books, NULL, "node %u: vmstat says %ld free pages, the zones %lu",
			node->nid, nr_free, node_nr_free(node));
}

static void check_node(struct books *books, struct node *node)
{
	for (unsigned i = 0; i < ZONES_PER_NODE; i++) {
		struct zone *zone = &node->zone[i];
		for (uint64_t pfn = zone->start_pfn; pfn < zone_end_pfn(zone) && !books->bad;)
			pfn += check_frame(books, zone, pfn_frame(pfn_of(pfn)));
	}
	for (unsigned i = 0; i < ZONES_PER_NODE; i++)
		if (zone_populated(&node->zone[i]))
			check_zone_sums(books, &node->zone[i]);
	check_lru(books, node);
	check_deferred(books, node);
	check_node_sums(books, node);
}

static void check_size_stat(struct books *books, const struct phys *phys, enum size_stat which,
	const char *name)
{
	for (unsigned order = 1; order <= PMD_ORDER; order++) {
		long found = size_stat(books->sizes, order, which);
		long counted = size_stat(&phys->sizes, order, which);
		if (found != counted)
			difference(books, NULL, "%s of order %u: %ld counted, %ld found", name,
				order, counted, found);
	}
}

int phys_check_text(struct phys *phys, char *buf, size_t size)
{
	struct size_stats sizes = {0};
	struct books books;

	for (unsigned nid = 0; nid < phys->nr_nodes; nid++) {
		books = (struct books){.buf = buf, .size = size, .sizes = &sizes};
		check_node(&books, phys->node[nid]);
		if (books.bad)
			return -EINVAL;
	}
	books = (struct books){.buf = buf, .size = size, .sizes = &sizes};
	check_size_stat(&books, phys, STAT_NR_ANON, "nr_anon");
	check_size_stat(&books, phys, STAT_NR_ANON_PARTIALLY_MAPPED, "nr_anon_partially_mapped");
	return books.bad ? -EINVAL : 0;
}

void phys_check(struct phys *phys)
{
	char text[512] = "";
	int err = phys_check_text(phys, text, sizeof(text));

	must_hold(!err, "the books do not balance: %s", text);
}
