// SPDX-License-Identifier: MIT
// Allocation: nodes, statistics, reserves, the slow path's calls, failure sweeps, threads.
#include "phys_fixture.h"

#include "base/fault_inject.h"
#include "base/mark.h"
#include "base/sched.h"

#include <pthread.h>

static const struct memory_spec two_nodes = {.nodes = 2, .cpus = 2, .mib = {16, 16}};

static struct folio *get(struct memory *m, gfp_t gfp, unsigned order, int nid)
{
	return folio_alloc(&m->phys, gfp, order, nid, NULL, 0);
}

// Take single pages of a node until it gives no more; they are freed by drop().
static unsigned fill(struct memory *m, gfp_t gfp, int nid, struct folio_list *held)
{
	struct folio *folio;
	unsigned n = 0;

	while ((folio = get(m, gfp, 0, nid))) {
		folio_list_add_tail(held, folio);
		n++;
	}
	return n;
}

static void drop(struct folio_list *held)
{
	struct folio *folio;

	while ((folio = folio_list_pop(held)))
		folio_put(folio);
}

static void test_nodes(void **state)
{
	struct nodemask only1 = nodemask_of(1), none = NODEMASK_NONE;
	struct folio *folio;
	struct memory m;

	(void)state;
	memory_open(&m, &two_nodes);
	folio = get(&m, GFP_HIGHUSER_MOVABLE, 0, 1);
	assert_int_equal(folio_nid(folio), 1);
	folio_put(folio);
	folio = folio_alloc(&m.phys, GFP_HIGHUSER_MOVABLE, 0, -1, NULL, 1); // the cpu's
	assert_int_equal(folio_nid(folio), 1);
	folio_put(folio);
	folio = folio_alloc(&m.phys, GFP_HIGHUSER_MOVABLE, 0, 0, &only1, 0);
	assert_int_equal(folio_nid(folio), 1);
	folio_put(folio);
	assert_null(folio_alloc(&m.phys, GFP_HIGHUSER_MOVABLE, 0, 0, &none, 0));
	assert_null(folio_alloc(&m.phys, GFP_HIGHUSER_MOVABLE | GFP_THISNODE, 0, 0, &only1, 0));
	assert_null(get(&m, GFP_HIGHUSER_MOVABLE, 0, 7));
	memory_check_all_free(&m);
	memory_close(&m);
}

static void test_full_node(void **state)
{
	struct folio_list held = {0};
	struct folio *folio;
	struct memory m;
	unsigned n;

	(void)state;
	memory_open(&m, &two_nodes);
	n = fill(&m, GFP_HIGHUSER_MOVABLE | GFP_THISNODE, 0, &held);
	// All but the minimum reserve.
	assert_int_equal(
		node_nr_free(phys_node(&m.phys, 0)), zone_wmark(memory_zone(&m, 0), WMARK_MIN));
	assert_int_equal(n, 4096 - zone_wmark(memory_zone(&m, 0), WMARK_MIN));
	assert_null(get(&m, GFP_USER | GFP_THISNODE, 9, 0));
	folio = get(&m, GFP_HIGHUSER_MOVABLE, 0, 0); // elsewhere
	assert_int_equal(folio_nid(folio), 1);
	folio_put(folio);
	// GFP_HIGH reaches into the reserve, MEMALLOC empties it.
	folio = get(&m, GFP_ATOMIC | GFP_THISNODE, 0, 0);
	assert_non_null(folio);
	folio_list_add_tail(&held, folio);
	fill(&m, GFP_ATOMIC | GFP_THISNODE, 0, &held);
	assert_true(node_nr_free(phys_node(&m.phys, 0)) > 0);
	unsigned saved = memalloc_save();
	assert_null(get(&m, GFP_USER | GFP_THISNODE | GFP_NOMEMALLOC, 0, 0));
	fill(&m, GFP_USER | GFP_THISNODE, 0, &held);
	memalloc_restore(saved);
	assert_false(memalloc_active());
	assert_int_equal(node_nr_free(phys_node(&m.phys, 0)), 0);
	phys_check(&m.phys);
	drop(&held);
	memory_check_all_free(&m);
	memory_close(&m);
}

static void test_numa_statistics(void **state)
{
	struct folio_list held = {0};
	struct folio *folio;
	struct memory m;

	(void)state;
	memory_open(&m, &two_nodes);
	folio_put(get(&m, GFP_HIGHUSER_MOVABLE, 9, 0)); // one allocation, whatever its size
	assert_int_equal(stat_of(&m, 0, VM_NUMA_HIT), 1);
	assert_int_equal(stat_of(&m, 0, VM_NUMA_LOCAL), 1);
	folio_put(get(&m, GFP_HIGHUSER_MOVABLE, 0, 1));
	assert_int_equal(stat_of(&m, 1, VM_NUMA_HIT), 1);
	assert_int_equal(stat_of(&m, 1, VM_NUMA_OTHER), 1); // the cpu is on node 0
	fill(&m, GFP_HIGHUSER_MOVABLE | GFP_THISNODE, 0, &held);
	folio = get(&m, GFP_HIGHUSER_MOVABLE, 0, 0);
	assert_int_equal(stat_of(&m, 0, VM_NUMA_FOREIGN), 1);
	assert_int_equal(stat_of(&m, 1, VM_NUMA_MISS), 1);
	folio_put(folio);
	drop(&held);
	assert_true(vmstat_read(&m.stat, VM_PGALLOC_NORMAL) >= 512 + 2);
	assert_int_equal(vmstat_read(&m.stat, VM_PGFREE), vmstat_read(&m.stat, VM_PGALLOC_NORMAL));
	memory_check_all_free(&m);
	memory_close(&m);
}

static void test_bytes(void **state)
{
	struct memory m;

	(void)state;
	memory_open(&m, &two_nodes);
	for (unsigned order = 0; order <= MAX_PAGE_ORDER; order++) {
		struct folio *folio = get(&m, GFP_HIGHUSER_MOVABLE, order, 1);
		assert_true(arena_is_backed(m.arena[1], folio_pfn(folio)));
		memset(arena_direct(m.arena[1], folio_pfn(folio)), 0xa5, folio_size(folio));
		folio_put(folio);
		folio = get(&m, GFP_HIGHUSER_MOVABLE | GFP_ZERO, order, 1);
		const char *p = arena_direct(m.arena[1], folio_pfn(folio));
		for (size_t i = 0; i < folio_size(folio); i += 64)
			assert_int_equal(p[i], 0);
		folio_put(folio);
	}
	memory_check_all_free(&m);
	memory_close(&m);
}

static void test_run(void **state)
{
	static const struct {
		unsigned want, least;
	} rows[] = {{1, 1}, {2, 2}, {100, 100}, {512, 512}, {513, 513}, {1024, 1024}, {5000, 1024}};
	static struct folio *out[5000];
	struct folio_list held = {0};
	struct memory m;

	(void)state;
	memory_open(&m, &two_nodes);
	for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
		unsigned n = folio_alloc_run(
			&m.phys, GFP_HIGHUSER_MOVABLE | GFP_THISNODE, 1, rows[i].want, 0, out);
		assert_int_equal(n, rows[i].least);
		for (unsigned j = 0; j < n; j++) {
			assert_int_equal(folio_pfn(out[j]).n, folio_pfn(out[0]).n + j);
			assert_int_equal(folio_order(out[j]), 0);
			assert_int_equal(folio_ref_count(out[j]), 1);
		}
		phys_check(&m.phys);
		for (unsigned j = 0; j < n; j++)
			folio_put(out[j]);
	}
	assert_int_equal(folio_alloc_run(&m.phys, GFP_HIGHUSER_MOVABLE, 0, 0, 0, out), 0);
	// Fragmented: every second page free. Runs of one, not none.
	unsigned saved = memalloc_save();
	fill(&m, GFP_HIGHUSER_MOVABLE | GFP_THISNODE, 0, &held);
	memalloc_restore(saved);
	struct folio *folio, *next;
	for_each_folio_safe(folio, next, &held)
	{
		if (folio_pfn(folio).n & 1) {
			folio_list_del(&held, folio);
			folio_put(folio);
		}
	}
	assert_int_equal(
		folio_alloc_run(&m.phys, GFP_HIGHUSER_MOVABLE | GFP_THISNODE, 0, 512, 0, out), 1);
	folio_put(out[0]);
	drop(&held);
	memory_check_all_free(&m);
	memory_close(&m);
}

// Batches of puts: consecutive small folios, large ones, some with another reference, some
// poisoned.
static void test_folios_put(void **state)
{
	uint64_t r = test_seed();
	static struct folio *out[512], *kept[512];
	struct memory m;

	(void)state;
	memory_open(&m, &two_nodes);
	for (unsigned round = 0; round < 50; round++) {
		unsigned nr_kept = 0, nr;
		uint64_t freed = vmstat_read(&m.stat, VM_PGFREE), pages = 0;
		nr = folio_alloc_run(
			&m.phys, GFP_HIGHUSER_MOVABLE, 0, 1 + random_below(&r, 500), 0, out);
		assert_true(nr > 0);
		for (unsigned i = 0; i < 10 && nr < 512; i++) {
			unsigned at = random_below(&r, nr);
			out[nr++] = out[at];
			out[at] = get(&m, GFP_HIGHUSER_MOVABLE, random_below(&r, 4), (int)i & 1);
		}
		for (unsigned i = 0; i < nr; i++) {
			if (random_below(&r, 8) == 0) {
				folio_get(out[i]);
				kept[nr_kept++] = out[i];
				continue;
			}
			pages += folio_nr(out[i]);
			if (random_below(&r, 4) == 0)
				folio_add_lru(out[i]);
		}
		folios_put(out, nr);
		assert_int_equal(vmstat_read(&m.stat, VM_PGFREE) - freed, pages);
		phys_check(&m.phys);
		folios_put(kept, nr_kept);
		memory_check_all_free(&m);
	}
	folios_put(out, 0);
	assert_int_equal(folio_alloc_run(&m.phys, GFP_HIGHUSER_MOVABLE, 0, 8, 0, out), 8);
	assert_false(frame_poison(&m.phys, &out[3]->page));
	folios_put(out, 8);
	assert_int_equal(phys_node(&m.phys, 0)->nr_poisoned, 1);
	assert_int_equal(frame_unpoison(&m.phys, &out[3]->page), 0);
	memory_check_all_free(&m);
	memory_close(&m);
}

static void test_gigantic(void **state)
{
	struct folio *huge, *pin, *large;
	struct memory m;

	(void)state;
	// |pin   |16 MiB|   32 MiB    |: the pin spoils the first quarter of 64 MiB.
	memory_open(&m, &(struct memory_spec){.nodes = 1, .mib = {64}, .min_free_kbytes = 128});
	pin = get(&m, GFP_USER, 0, 0);
	huge = get(&m, GFP_HIGHUSER_MOVABLE | GFP_COMP | GFP_ZERO, 12, 0);
	assert_non_null(huge);
	assert_int_equal(folio_nr(huge), 4096);
	assert_int_equal(folio_pfn(huge).n & 4095, 0);
	assert_ptr_equal(frame_folio(folio_frame(huge, 4095)), huge);
	phys_check(&m.phys);
	large = get(&m, GFP_HIGHUSER_MOVABLE | GFP_COMP, 13, 0);
	assert_non_null(large);
	assert_null(get(&m, GFP_HIGHUSER_MOVABLE | GFP_COMP, 12, 0));
	assert_null(get(&m, GFP_HIGHUSER_MOVABLE, 20, 0));
	folio_put(large);
	folio_put(huge);
	folio_put(pin);
	memory_check_all_free(&m);
	memory_close(&m);
}

static void test_zones(void **state)
{
	struct folio *folio;
	struct memory m;

	(void)state;
	memory_open(&m, &(struct memory_spec){.nodes = 1, .mib = {32}, .movable_mib = 16});
	folio = get(&m, GFP_HIGHUSER_MOVABLE, 0, 0);
	assert_int_equal(folio_zone(folio)->type, ZONE_MOVABLE);
	folio_put(folio);
	folio = get(&m, GFP_HIGHUSER_MOVABLE | GFP_PIN, 0, 0);
	assert_int_equal(folio_zone(folio)->type, ZONE_NORMAL);
	folio_put(folio);
	folio = get(&m, GFP_USER, 0, 0);
	assert_int_equal(folio_zone(folio)->type, ZONE_NORMAL);
	folio_put(folio);
	memory_check_all_free(&m);
	memory_close(&m);
}

static void test_cma(void **state)
{
	struct pfn start;
	struct folio *folio;
	struct folio_list held = {0};
	struct memory m;
	struct zone *zone;

	(void)state;
	memory_open(&m, &(struct memory_spec){.nodes = 1, .mib = {32}, .min_free_kbytes = 128});
	zone = memory_zone(&m, 0);
	start = pfn_of(zone->start_pfn + 1024);
	assert_int_equal(phys_init_cma_range(&m.phys, pfn_add(start, 7), 512), -EINVAL);
	assert_int_equal(phys_init_cma_range(&m.phys, start, 3 * 1024), 0);
	assert_int_equal(phys_init_cma_range(&m.phys, start, 512), -EBUSY);
	assert_int_equal(stat_of(&m, 0, VM_NR_FREE_CMA), 3072);
	phys_check(&m.phys);
	// Less than half of what is free: movable requests leave it alone.
	folio = get(&m, GFP_HIGHUSER_MOVABLE, 0, 0);
	assert_int_equal(pageblock_type(zone, folio_pfn(folio).n), MIGRATE_MOVABLE);
	folio_put(folio);
	// What may not use CMA stops at the end of the rest; movable requests go on.
	fill(&m, GFP_USER, 0, &held);
	assert_int_equal(zone->nr_free_cma, 3072);
	assert_null(get(&m, GFP_HIGHUSER_MOVABLE | GFP_PIN, 0, 0));
	folio = get(&m, GFP_HIGHUSER_MOVABLE, 0, 0);
	assert_int_equal(pageblock_type(zone, folio_pfn(folio).n), MIGRATE_CMA);
	folio_put(folio);
	assert_null(get(&m, GFP_USER, 0, 0)); // not from the per-cpu list either
	phys_check(&m.phys);
	drop(&held);
	memory_check_all_free(&m);
	memory_close(&m);
}

static void test_ranges(void **state)
{
	struct pfn start, fail;
	struct folio *folio;
	struct memory m;
	struct zone *zone;

	(void)state;
	memory_open(&m, &two_nodes);
	zone = memory_zone(&m, 1);
	start = pfn_of(zone->start_pfn + 512);
	assert_int_equal(
		start_isolate_page_range(&m.phys, start, pfn_add(start, 1024), MIGRATE_MOVABLE), 0);
	assert_int_equal(
		start_isolate_page_range(&m.phys, start, pfn_add(start, 512), MIGRATE_MOVABLE),
		-EBUSY);
	assert_int_equal(zone_nr_free(zone), 4096 - 1024);
	assert_int_equal(stat_of(&m, 1, VM_NR_FREE_PAGES), 4096 - 1024);
	assert_int_equal(test_pages_isolated(&m.phys, start, pfn_add(start, 1024), &fail), 0);
	assert_int_equal(test_pages_isolated(&m.phys, start, pfn_add(start, 1025), &fail), -EBUSY);
	assert_int_equal(fail.n, start.n + 1024);
	phys_check(&m.phys);
	// Some of the middle of it.
	assert_int_equal(alloc_free_range(&m.phys, pfn_add(start, 3), 1000), 0);
	assert_int_equal(alloc_free_range(&m.phys, pfn_add(start, 1000), 10), -EBUSY);
	assert_int_equal(test_pages_isolated(&m.phys, start, pfn_add(start, 1024), &fail), -EBUSY);
	assert_int_equal(fail.n, start.n + 3);
	phys_check(&m.phys);
	undo_isolate_page_range(&m.phys, start, pfn_add(start, 1024), MIGRATE_MOVABLE);
	assert_int_equal(zone_nr_free(zone), 4096 - 1000);
	// A page that can never move keeps its pageblock; the first blocks are given back.
	assert_int_equal(start_isolate_page_range(&m.phys, pfn_of(zone->start_pfn),
				 pfn_add(start, 512), MIGRATE_MOVABLE),
		-EBUSY);
	assert_int_equal(pageblock_type(zone, zone->start_pfn), MIGRATE_MOVABLE);
	free_contig_range(pfn_add(start, 3), 1000);
	// A block of two pageblocks comes back when one of them is isolated.
	folio = get(&m, GFP_HIGHUSER_MOVABLE | GFP_THISNODE, 10, 1);
	folio_set_lru(folio); // not unmovable
	start = pfn_add(folio_pfn(folio), 512);
	assert_int_equal(
		start_isolate_page_range(&m.phys, start, pfn_add(start, 512), MIGRATE_MOVABLE), 0);
	folio_clear_lru(folio);
	folio_put(folio);
	phys_check(&m.phys);
	assert_int_equal(test_pages_isolated(&m.phys, start, pfn_add(start, 512), &fail), 0);
	undo_isolate_page_range(&m.phys, start, pfn_add(start, 512), MIGRATE_MOVABLE);
	folio = get(&m, GFP_HIGHUSER_MOVABLE | GFP_THISNODE, 0, 1);
	assert_true(frame_unmovable(&folio->page));
	folio_add_lru(folio);
	assert_false(frame_unmovable(&folio->page));
	folio_put(folio);
	memory_check_all_free(&m);
	memory_close(&m);
}

// What the slow path asks of others, and in which order.
struct helper {
	struct memory *m;
	struct folio_list held;
	char log[256];
	enum compact_result compact_answer;
	bool may_free;
};

static unsigned long reclaim(
	void *arg, gfp_t gfp, unsigned order, int nid, const struct nodemask *allowed)
{
	struct helper *h = arg;
	unsigned long freed = 0;

	(void)gfp, (void)order, (void)nid, (void)allowed;
	strcat(h->log, "R");
	must_hold(memalloc_active(), "reclaim runs as memalloc");
	for (; h->may_free && freed < 64 && !folio_list_empty(&h->held); freed++)
		folio_put(folio_list_pop(&h->held));
	return freed;
}

static enum compact_result compact(void *arg, gfp_t gfp, unsigned order, int nid,
	const struct nodemask *allowed, enum compact_priority prio)
{
	struct helper *h = arg;

	(void)gfp, (void)order, (void)nid, (void)allowed;
	strcat(h->log, prio == COMPACT_PRIO_ASYNC	 ? "a"
		       : prio == COMPACT_PRIO_SYNC_LIGHT ? "l"
							 : "f");
	return h->compact_answer;
}

static void wake(void *arg, struct node *node, unsigned order)
{
	struct helper *h = arg;

	(void)node, (void)order;
	strcat(h->log, "k");
}

static void test_slowpath(void **state)
{
	// What is asked for on a full node (k: kswapd woken, R: reclaim, a/l/f: compaction async,
	// light, full), when compaction answers so.
	static const struct {
		gfp_t gfp;
		unsigned order;
		enum compact_result compact_answer;
		const char *log;
	} rows[] = {
		{GFP_TRANSHUGE_LIGHT, 9, COMPACT_COMPLETE, ""},
		{GFP_TRANSHUGE_LIGHT | GFP_KSWAPD_RECLAIM, 9, COMPACT_COMPLETE, "k"},
		{GFP_TRANSHUGE, 9, COMPACT_COMPLETE, "aRl"},
		{GFP_TRANSHUGE | GFP_NORETRY, 9, COMPACT_DEFERRED, "a"},
		{GFP_TRANSHUGE | GFP_NORETRY, 9, COMPACT_COMPLETE, "a"}, // THISNODE, below
		{GFP_HIGHUSER_MOVABLE, 0, COMPACT_COMPLETE, "kkR"},
		{GFP_HIGHUSER_MOVABLE, 2, COMPACT_COMPLETE, "kkRlkRf"},
		{GFP_USER, 2, COMPACT_COMPLETE, "kakRlkRf"},
		{GFP_USER | GFP_NORETRY, 2, COMPACT_COMPLETE, "kakRl"},
		{GFP_NOWAIT, 0, COMPACT_COMPLETE, "k"},
	};
	struct memory m;
	struct helper h = {.m = &m};

	(void)state;
	memory_open(&m, &two_nodes);
	fill(&m, GFP_HIGHUSER_MOVABLE | GFP_THISNODE, 0, &h.held);
	m.phys.up = (struct phys_upcalls){
		.arg = &h, .reclaim = reclaim, .compact = compact, .wake_kswapd = wake};
	for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
		h.log[0] = '\0';
		h.compact_answer = rows[i].compact_answer;
		assert_null(get(&m, rows[i].gfp | GFP_THISNODE, rows[i].order, 0));
		if (strcmp(h.log, rows[i].log))
			fail_msg("row %u: asked \"%s\", expected \"%s\"", i, h.log, rows[i].log);
	}
	// Success of compaction without a page is retried 16 times, 4 when costly.
	h.log[0] = '\0';
	h.compact_answer = COMPACT_SUCCESS;
	assert_null(get(&m, GFP_TRANSHUGE | GFP_RETRY_MAYFAIL | GFP_THISNODE, 9, 0));
	assert_string_equal(h.log, "aRlRlRlRlRl");
	// Reclaim that helps.
	h.log[0] = '\0';
	h.may_free = true;
	struct folio *folio = get(&m, GFP_HIGHUSER_MOVABLE | GFP_THISNODE, 0, 0);
	assert_non_null(folio);
	assert_string_equal(h.log, "kkR");
	folio_put(folio);
	drop(&h.held);
	memory_check_all_free(&m);
	memory_close(&m);
}

static bool reusable(void *arg, struct pfn first, unsigned order)
{
	const struct pfn *blocked = arg;

	return blocked->n < first.n || blocked->n >= first.n + (1ul << order);
}

static void test_quarantine(void **state)
{
	struct folio *small, *large;
	struct pfn blocked;
	struct memory m;

	(void)state;
	memory_open(&m, &two_nodes);
	m.phys.up = (struct phys_upcalls){.arg = &blocked, .reusable = reusable};
	small = get(&m, GFP_HIGHUSER_MOVABLE, 0, 0);
	large = get(&m, GFP_HIGHUSER_MOVABLE, 9, 0);
	blocked = pfn_add(folio_pfn(large), 77);
	folio_put(small);
	folio_put(large);
	assert_int_equal(phys_node(&m.phys, 0)->nr_quarantined, 512);
	phys_check(&m.phys);
	assert_int_equal(phys_quarantine_scan(&m.phys), 0);
	assert_null(folio_try_get_frame(pfn_frame(blocked)));
	blocked = pfn_of(0);
	assert_int_equal(phys_quarantine_scan(&m.phys), 512);
	// A batch: only the block around the page waits.
	static struct folio *out[64];
	assert_int_equal(folio_alloc_run(&m.phys, GFP_HIGHUSER_MOVABLE, 0, 64, 0, out), 64);
	blocked = folio_pfn(out[63]);
	folios_put(out + 1, 63);
	folio_put(out[0]);
	assert_int_equal(phys_node(&m.phys, 0)->nr_quarantined, 32);
	blocked = pfn_of(0);
	assert_int_equal(phys_quarantine_scan(&m.phys), 32);
	memory_check_all_free(&m);
	memory_close(&m);
}

static void test_trim(void **state)
{
	struct folio_list held = {0};
	struct folio *folio;
	struct memory m;
	struct node *node;
	uint64_t backed;

	(void)state;
	memory_open(&m, &(struct memory_spec){.nodes = 1, .mib = {32}, .min_free_kbytes = 128});
	node = phys_node(&m.phys, 0);
	fill(&m, GFP_HIGHUSER_MOVABLE, 0, &held);
	folio = folio_list_pop(&held);
	memset(arena_direct(m.arena[0], folio_pfn(folio)), 0x5a, PAGE_SIZE);
	backed = m.arena[0]->nr_backed << PAGE_SHIFT;
	assert_true(node_free_backed_bytes(node) < 2ul << 20);
	drop(&held);
	drain_all_pages(&m.phys);
	assert_true(node_free_backed_bytes(node) > 28ul << 20);
	// Down to 8 MiB, then to nothing but the pageblock of the page in use.
	assert_true(phys_trim(&m.phys, 8ul << 20) > 0);
	assert_true(node_free_backed_bytes(node) <= 8ul << 20);
	phys_check(&m.phys);
	phys_trim(&m.phys, 0);
	assert_true(m.arena[0]->nr_backed << PAGE_SHIFT < backed);
	assert_int_equal(m.arena[0]->nr_backed, 512);
	const uint8_t *byte = arena_direct(m.arena[0], folio_pfn(folio));
	assert_int_equal(byte[4095], 0x5a);
	// By itself, above the limit.
	m.phys.free_backed_max = 4ul << 20;
	for (unsigned i = 0; i < 6; i++)
		folio_list_add_tail(&held, get(&m, GFP_HIGHUSER_MOVABLE, 10, 0));
	drop(&held);
	assert_true(node_free_backed_bytes(node) <= 8ul << 20);
	folio_put(folio);
	memory_check_all_free(&m);
	memory_close(&m);
}

static void test_poison(void **state)
{
	struct folio *large, *small;
	struct frame *frame;
	struct memory m;
	struct node *node;
	char text[256];

	(void)state;
	memory_open(&m, &two_nodes);
	node = phys_node(&m.phys, 0);
	// A free frame leaves its block; a frame in use leaves when its folio is freed.
	frame = pfn_frame(pfn_of(node->start_pfn + 2000));
	assert_true(frame_poison(&m.phys, frame));
	assert_true(frame_poison(&m.phys, frame)); // once is enough
	assert_int_equal(node->nr_poisoned, 1);
	assert_int_equal(node_nr_free(node), 4095);
	phys_check(&m.phys);
	large = get(&m, GFP_HIGHUSER_MOVABLE | GFP_THISNODE, 9, 0);
	assert_false(frame_poison(&m.phys, folio_frame(large, 300)));
	assert_int_equal(frame_unpoison(&m.phys, folio_frame(large, 300)), -EBUSY);
	folio_put(large);
	assert_int_equal(node->nr_poisoned, 2);
	// On a per-cpu list.
	small = get(&m, GFP_HIGHUSER_MOVABLE | GFP_THISNODE, 0, 0);
	frame_dump(&small->page, text, sizeof(text));
	folio_put(small);
	assert_true(frame_poison(&m.phys, &small->page));
	drain_all_pages(&m.phys);
	phys_check(&m.phys);
	assert_int_equal(node_nr_free(node), 4093);
	// Never handed out again.
	struct folio_list held = {0};
	fill(&m, GFP_HIGHUSER_MOVABLE | GFP_THISNODE, 0, &held);
	struct folio *folio;
	for_each_folio(folio, &held) assert_false(folio_test_hwpoison(folio));
	drop(&held);
	assert_int_equal(frame_unpoison(&m.phys, frame), 0);
	assert_int_equal(frame_unpoison(&m.phys, frame), -ENOENT);
	assert_int_equal(frame_unpoison(&m.phys, folio_frame(large, 300)), 0);
	assert_int_equal(frame_unpoison(&m.phys, &small->page), 0);
	memory_check_all_free(&m);
	memory_close(&m);
}

// A mix of all kinds of requests; each may fail, and gives back what it got.
static void some_requests(struct memory *m)
{
	static struct folio *out[64];
	struct folio *f;

	for (unsigned order = 0; order <= MAX_PAGE_ORDER; order++)
		if ((f = get(m, GFP_HIGHUSER_MOVABLE | GFP_ZERO, order, order & 1)))
			folio_put(f);
	unsigned n = folio_alloc_run(&m->phys, GFP_HIGHUSER_MOVABLE, 0, 64, 0, out);
	while (n)
		folio_put(out[--n]);
	if ((f = get(m, GFP_HIGHUSER_MOVABLE, 11, 1)))
		folio_put(f);
	struct pfn start = pfn_of(memory_zone(m, 1)->start_pfn + 600);
	drain_all_pages(&m->phys);
	if (!alloc_free_range(&m->phys, start, 100))
		free_contig_range(start, 100);
}

// Call 0, 1, 2... of every kind fails; the books balance after each.
static void test_failure_sweep(void **state)
{
	static const enum fault_kind kinds[] = {FI_ALLOC, FI_SYSCALL, FI_TRYLOCK, FI_META};
	struct memory m;

	(void)state;
	for (unsigned k = 0; k < ARRAY_SIZE(kinds); k++) {
		for (uint64_t n = 0;; n++) {
			memory_open(&m, &two_nodes);
			fault_arm(kinds[k], FI_THREAD, n, 1);
			some_requests(&m);
			bool hit = fault_disarm(kinds[k]);
			memory_check_all_free(&m);
			memory_close(&m);
			if (!hit)
				break;
			assert_true(n < 1000);
		}
	}
}

// Setting up fails anywhere, and leaves nothing.
static void test_init_failure_sweep(void **state)
{
	struct topology_config tc = {.nr_nodes = 2, .nr_cpus = 2};
	struct arena_config ac = {.bytes = 8ul << 20, .host_node = -1};
	struct phys_node_config node[2] = {{.movable_bytes = 2ul << 20}};
	struct topology topology;
	struct vmstat stat;
	struct phys phys;
	struct phys_config config = {
		.topology = &topology, .nr_nodes = 2, .node = node, .stat = &stat};
	size_t before;

	(void)state;
	assert_int_equal(topology_init(&topology, &tc, NULL), 0);
	assert_int_equal(vmstat_init(&stat, 2), 0);
	assert_int_equal(phys_init(&phys, &config), -EINVAL); // no memory at all
	assert_int_equal(arena_open(&ac, &node[0].arena), 0);
	before = meta_in_use();
	for (uint64_t n = 0;; n++) {
		fault_arm(FI_META, FI_THREAD, n, 1);
		int err = phys_init(&phys, &config);
		bool hit = fault_disarm(FI_META);
		assert_int_equal(err, hit ? -ENOMEM : 0);
		if (!hit)
			break;
		assert_int_equal(meta_in_use(), before);
	}
	phys_check(&phys);
	phys_destroy(&phys);
	assert_int_equal(meta_in_use(), before);
	node[0].movable_bytes = 9ul << 20;
	assert_int_equal(phys_init(&phys, &config), -EINVAL);
	arena_close(node[0].arena);
	vmstat_destroy(&stat);
}

// Threads allocate, move between lists, freeze, poison nothing, and free; on two nodes.
struct work {
	struct memory *m;
	unsigned rounds;
	uint64_t seed;
};

static void work(void *arg, unsigned index)
{
	struct work *w = arg;
	uint64_t r = w->seed + index * 104729;
	struct folio *held[8] = {0}, *out[32];

	phys_set_this_cpu(index);
	for (unsigned i = 0; i < w->rounds; i++) {
		unsigned n = random_below(&r, 8);
		struct folio *folio = held[n];

		switch (random_below(&r, 8)) {
		default:
			if (folio) {
				folio_put(folio);
				held[n] = NULL;
				break;
			}
			held[n] = folio_alloc(&w->m->phys, GFP_HIGHUSER_MOVABLE,
				random_below(&r, 10), (int)random_below(&r, 2), NULL, (int)index);
			break;
		case 5:
			if (folio && !folio_test_lru(folio))
				folio_add_lru(folio);
			break;
		case 6:
			if (folio && folio_isolate_lru(folio))
				folio_putback_lru(folio);
			break;
		case 7:
			for (unsigned got = folio_alloc_run(&w->m->phys, GFP_HIGHUSER_MOVABLE,
				     (int)random_below(&r, 2), 32, (int)index, out);
				got;)
				folio_put(out[--got]);
			break;
		}
	}
	for (unsigned n = 0; n < 8; n++)
		if (held[n])
			folio_put(held[n]);
}

static void test_seeded(void **state)
{
	uint64_t seed = test_seed();
	struct memory m;

	(void)state;
	memory_open(&m, &two_nodes);
	for (unsigned i = 0; i < 40; i++) {
		struct work w = {&m, 30, seed + i};
		sched_run(seed + i, 3, work, &w);
		memory_check_all_free(&m);
	}
	memory_close(&m);
}

struct work_thread {
	struct work *work;
	unsigned index;
};

static void *work_thread(void *arg)
{
	struct work_thread *t = arg;

	work(t->work, t->index);
	return NULL;
}

static void test_threads(void **state)
{
	struct work_thread arg[4];
	pthread_t thread[4];
	struct memory m;

	(void)state;
	memory_open(&m, &two_nodes);
	m.phys.free_backed_max = 4ul << 20;
	struct work w = {&m, 4000, test_seed()};
	for (unsigned i = 0; i < 4; i++) {
		arg[i] = (struct work_thread){&w, i};
		assert_int_equal(pthread_create(&thread[i], NULL, work_thread, &arg[i]), 0);
	}
	for (unsigned i = 0; i < 4; i++)
		pthread_join(thread[i], NULL);
	memory_check_all_free(&m);
	memory_close(&m);
}

// The rare branches this program is here for.
static void test_marks(void **state)
{
	static const char *const names[] = {"alloc_not_backed", "alloc_slowpath", "quarantine",
		"backing_trim", "isolate_page_range_busy", "poison_free_frame"};

	(void)state;
	for (unsigned i = 0; i < ARRAY_SIZE(names); i++)
		if (!mark_was_hit(names[i]))
			fail_msg("the branch %s was never taken", names[i]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_nodes),
		cmocka_unit_test(test_full_node),
		cmocka_unit_test(test_numa_statistics),
		cmocka_unit_test(test_bytes),
		cmocka_unit_test(test_run),
		cmocka_unit_test(test_folios_put),
		cmocka_unit_test(test_gigantic),
		cmocka_unit_test(test_zones),
		cmocka_unit_test(test_cma),
		cmocka_unit_test(test_ranges),
		cmocka_unit_test(test_slowpath),
		cmocka_unit_test(test_quarantine),
		cmocka_unit_test(test_trim),
		cmocka_unit_test(test_poison),
		cmocka_unit_test(test_failure_sweep),
		cmocka_unit_test(test_init_failure_sweep),
		cmocka_unit_test(test_seeded),
		cmocka_unit_test(test_threads),
		cmocka_unit_test(test_marks),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
