// SPDX-License-Identifier: MIT
// Compaction: a node whose free memory is in pieces gets huge pages again; what cannot move stays
// and is counted; no byte is lost.
//
// The node of most tests, four pageblocks of many (x used and movable, . free, # unmovable):
//
//	|x...x...x...x...|x...x...x...x...|x...x...x...x...|################|
#include "../support/machine_fixture.h"

#include "base/fault_inject.h"
#include "base/mark.h"
#include "compact/compact.h"
#include "migrate/pause.h"
#include "phys/buddy.h"
#include "thp/thp.h"

#include <godwit/machine.h>
#include <godwit/migrate.h>
#include <godwit/space.h>
#include <godwit/stats.h>
#include <godwit/trace.h>

#include <errno.h>
#include <sys/mman.h>

#define BLOCKS 12u // pageblocks in pieces
#define PAGES (BLOCKS * 512u)
#define KEEP 4u // one page of so many stays

static struct fx fx;
static struct compaction compaction;
static struct task *a;
static uint64_t buf;
static struct folio_list hoard; // the rest of the node
static const uint64_t key = 7;

static struct zone *zone0(void)
{
	return node_zone(phys_node(&fx.phys, 0), ZONE_NORMAL);
}

static unsigned long stays(enum compact_stay why)
{
	return zone0()->compact.stays[why];
}

static void assert_mark(const char *name)
{
	if (FAULTS_BUILT_IN)
		assert_true(mark_was_hit(name));
}

// No block of this order or above is left on node 0.
static void hoard_blocks(unsigned least)
{
	for (int order = MAX_PAGE_ORDER; order >= (int)least; order--) {
		struct folio *folio;

		while ((folio = folio_alloc(&fx.phys, GFP_THISNODE | GFP_MEMALLOC,
				(unsigned)order, 0, NULL, 0)))
			folio_list_add(&hoard, folio);
	}
}

static void release_hoard(void)
{
	struct folio *folio;

	while ((folio = folio_list_pop(&hoard)))
		folio_put(folio);
}

static bool is_kept(unsigned i)
{
	return i % KEEP == 0;
}

// One page of KEEP is used, everything else of the node's huge blocks is taken.
static void fragment(void)
{
	drain_all_pages(&fx.phys);
	hoard_blocks(9);
	while (node_nr_free(phys_node(&fx.phys, 0)) < PAGES + 64)
		folio_put(folio_list_pop(&hoard));
	fx_fill(&fx, a, buf, PAGES, key);
	hoard_blocks(0);
	for (unsigned i = 0; i < PAGES; i++)
		if (!is_kept(i))
			fx_ok(space_advise(a->space, a, buf + i * PAGE_SIZE, PAGE_SIZE, 4));
	drain_all_pages(&fx.phys);
	fx_mark(&fx);
}

static void verify(void)
{
	for (unsigned i = 0; i < PAGES; i++)
		if (is_kept(i))
			fx_verify(&fx, a, buf + i * PAGE_SIZE, 1, key);
}

static int setup(void **state)
{
	(void)state;
	fx_open(&fx, 2, 64);
	compaction_init(&compaction, &fx.mm);
	a = fx_task(&fx, 0);
	buf = fx_map(a, PAGES);
	fragment();
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	fault_disarm_all();
	fx_check(&fx);
	task_exit(a);
	release_hoard();
	compaction_destroy(&compaction);
	fx_close(&fx);
	return 0;
}

static struct folio *want(gfp_t gfp)
{
	return folio_alloc(&fx.phys, gfp | GFP_THISNODE, PMD_ORDER, 0, NULL, 0);
}

static unsigned long free_blocks(void)
{
	unsigned long n = 0;

	drain_all_pages(&fx.phys);
	for (unsigned order = PMD_ORDER; order < NR_PAGE_ORDERS; order++)
		for (unsigned type = 0; type < MIGRATE_TYPES; type++)
			n += zone0()->free_area[order].nr[type] << (order - PMD_ORDER);
	return n;
}

static void an_allocation_compacts(void **state)
{
	struct folio *folio;

	(void)state;
	assert_int_equal(free_blocks(), 0);
	assert_true(fragmentation_index(zone0(), PMD_ORDER) > 500);
	folio = want(GFP_TRANSHUGE);
	assert_non_null(folio);
	assert_int_equal(fx_since(&fx, VM_COMPACT_STALL), 1);
	assert_int_equal(fx_since(&fx, VM_COMPACT_SUCCESS), 1);
	assert_int_equal(fx_since(&fx, VM_COMPACT_FAIL), 0);
	assert_true(fx_since(&fx, VM_PGMIGRATE_SUCCESS) >= 512 / KEEP);
	assert_true(fx_since(&fx, VM_COMPACT_ISOLATED) >= 2 * fx_since(&fx, VM_PGMIGRATE_SUCCESS));
	assert_true(fx_since(&fx, VM_COMPACT_MIGRATE_SCANNED) >= 512);
	verify();
	folio_put(folio);
}

static void who_does_not_wait_does_not_compact(void **state)
{
	(void)state;
	assert_null(want(GFP_TRANSHUGE_LIGHT));
	assert_int_equal(fx_since(&fx, VM_COMPACT_STALL), 0);
	assert_int_equal(fx_since(&fx, VM_COMPACT_MIGRATE_SCANNED), 0);
}

// As many as there is memory for, less what the watermarks keep back.
static void one_after_the_other(void **state)
{
	struct folio *folio[BLOCKS];
	unsigned n = 0;

	(void)state;
	while (n < BLOCKS && (folio[n] = want(GFP_TRANSHUGE)))
		n++;
	assert_true(n >= BLOCKS - BLOCKS / KEEP - 4 && n < BLOCKS);
	verify();
	while (n)
		folio_put(folio[--n]);
}

static void pinned_pages_stay(void **state)
{
	struct pin *pin[BLOCKS * 2];
	uint64_t pfn[BLOCKS * 2];

	(void)state;
	for (unsigned i = 0; i < BLOCKS * 2; i++) {
		uint64_t at = buf + i * 256 * PAGE_SIZE;

		fx_ok(pin_pages(a->space, a, at, PAGE_SIZE, "test", &pin[i]));
		pfn[i] = folio_pfn(fx_folio(a, at)).n;
	}
	assert_null(want(GFP_TRANSHUGE));
	assert_true(fx_since(&fx, VM_COMPACT_FAIL) >= 1);
	assert_true(stays(COMPACT_STAY_PINNED) > 0);
	assert_int_equal(zone0()->compact.result, COMPACT_COMPLETE);
	for (unsigned i = 0; i < BLOCKS * 2; i++) {
		assert_int_equal(folio_pfn(fx_folio(a, buf + i * 256 * PAGE_SIZE)).n, pfn[i]);
		unpin_pages(pin[i]);
	}
	verify();
}

// Not the first ones of their pageblock: what was taken of it before goes back, for it is of no use.
static void a_pinned_page_makes_the_others_useless(void **state)
{
	struct pin *pin[BLOCKS * 4];
	struct folio *folio;

	(void)state;
	for (unsigned i = 0; i < BLOCKS * 4; i++)
		fx_ok(pin_pages(a->space, a, buf + (i * 128 + 64) * PAGE_SIZE, PAGE_SIZE, "test",
			&pin[i]));
	assert_null(want(GFP_TRANSHUGE));
	assert_mark("compact_chunk_given_up");
	assert_int_equal(vmstat_read(&fx.stat, VM_NR_ISOLATED_ANON), 0);
	for (unsigned i = 0; i < BLOCKS * 4; i++)
		unpin_pages(pin[i]);
	verify();
	folio = want(GFP_TRANSHUGE);
	assert_non_null(folio);
	folio_put(folio);
}

static void unmovable_pages_stay(void **state)
{
	struct folio_list list = {0};
	struct folio *folio;

	(void)state;
	// Pages that nobody can move, in the holes: on no LRU list, of no driver.
	for (unsigned i = 0; i < PAGES / 2; i++) {
		folio = folio_alloc(&fx.phys, GFP_THISNODE | GFP_MOVABLE, 0, 0, NULL, 0);
		assert_non_null(folio);
		if (i % 32)
			folio_list_add_tail(&hoard, folio);
		else
			folio_list_add(&list, folio);
	}
	for (unsigned i = 0; i < PAGES / 2 - PAGES / 64; i++) {
		folio = folio_list_last(&hoard);
		folio_list_del(&hoard, folio);
		folio_put(folio);
	}
	compact_nodes(&compaction, 0);
	assert_true(stays(COMPACT_STAY_UNMOVABLE) > 0);
	verify();
	while ((folio = folio_list_pop(&list)))
		folio_put(folio);
}

static void locked_memory_stays_if_told(void **state)
{
	(void)state;
	for (unsigned i = 0; i < PAGES; i++)
		if (is_kept(i))
			fx_ok(space_lock(a->space, a, buf + i * PAGE_SIZE, PAGE_SIZE));
	compaction.unevictable_allowed = 0;
	assert_null(want(GFP_TRANSHUGE));
	assert_true(stays(COMPACT_STAY_UNEVICTABLE) > 0);
	assert_int_equal(fx_since(&fx, VM_PGMIGRATE_SUCCESS), 0);
	compaction.unevictable_allowed = 1;
	compact_nodes(&compaction, 0);
	assert_true(fx_since(&fx, VM_PGMIGRATE_SUCCESS) > 0);
	verify();
	assert_int_equal(vmstat_read(&fx.stat, VM_NR_MLOCK), PAGES / KEEP);
}

static void too_little_memory_is_not_compacted(void **state)
{
	(void)state;
	hoard_blocks(0);
	assert_null(want(GFP_TRANSHUGE));
	assert_int_equal(fx_since(&fx, VM_COMPACT_STALL), 0);
	assert_int_equal(fx_since(&fx, VM_COMPACT_MIGRATE_SCANNED), 0);
}

// Pages move until what is free the zone keeps for itself.
static void the_watermark_is_respected(void **state)
{
	struct folio *folio;
	unsigned long nr = 0;

	(void)state;
	while ((folio = folio_alloc(&fx.phys, GFP_THISNODE | GFP_MEMALLOC | GFP_MOVABLE, 0, 0, NULL,
			0))) {
		folio_list_add(&hoard, folio);
		nr++;
	}
	for (unsigned long i = 0; i < nr; i++) {
		folio = folio_list_pop(&hoard);
		if (i % 200)
			folio_list_add_tail(&hoard, folio);
		else
			folio_put(folio);
	}
	drain_all_pages(&fx.phys);
	compact_nodes(&compaction, 0);
	assert_true(fx_since(&fx, VM_PGMIGRATE_SUCCESS) < PAGES / KEEP / 2);
	assert_true(stays(COMPACT_STAY_NO_TARGET) > 0);
	assert_mark("compact_free_watermark");
	verify();
}

// Others hold most of the node's pages isolated: no run takes more, none waits for ever.
static void too_many_are_isolated_already(void **state)
{
	long others = (long)vmstat_node(&fx.stat, 0, VM_NR_INACTIVE_ANON) +
		      (long)vmstat_node(&fx.stat, 0, VM_NR_ACTIVE_ANON);

	(void)state;
	assert_true(others > 0);
	vmstat_add(&fx.stat, 0, VM_NR_ISOLATED_ANON, others);
	assert_null(want(GFP_TRANSHUGE));
	compact_nodes(&compaction, 0);
	assert_int_equal(fx_since(&fx, VM_COMPACT_MIGRATE_SCANNED), 0);
	assert_int_equal(zone0()->compact.result, COMPACT_CONTENDED);
	assert_mark("compact_too_many_isolated");
	vmstat_add(&fx.stat, 0, VM_NR_ISOLATED_ANON, -others);
	compact_nodes(&compaction, 0);
	assert_true(fx_since(&fx, VM_PGMIGRATE_SUCCESS) > 0);
	verify();
}

// The index says that the pieces are not the reason.
static void a_threshold_forbids(void **state)
{
	(void)state;
	compaction.extfrag_threshold = 1000;
	assert_null(want(GFP_TRANSHUGE));
	assert_int_equal(fx_since(&fx, VM_COMPACT_STALL), 0);
	compaction.extfrag_threshold = 500;
	struct folio *folio = want(GFP_TRANSHUGE);
	assert_non_null(folio);
	folio_put(folio);
}

// Every pageblock has a pinned page: the same failure again and again is not tried each time.
static void failures_are_deferred(void **state)
{
	struct pin *pin[BLOCKS * 4];
	unsigned tries = 0;

	(void)state;
	for (unsigned i = 0; i < BLOCKS * 4; i++)
		fx_ok(pin_pages(a->space, a, buf + i * 128 * PAGE_SIZE, PAGE_SIZE, "t", &pin[i]));
	for (unsigned i = 0; i < 40; i++) {
		unsigned before = zone0()->compact.runs;

		assert_null(want(GFP_TRANSHUGE));
		tries += zone0()->compact.runs != before;
	}
	assert_in_range(tries, 2, 20);
	assert_true(zone0()->compact.defer_shift >= 3);
	for (unsigned i = 0; i < BLOCKS * 4; i++)
		unpin_pages(pin[i]);
	// After the longest pause what was skipped is looked at again.
	struct folio *folio = NULL;
	for (unsigned i = 0; i < 200 && !folio; i++)
		folio = want(GFP_TRANSHUGE);
	assert_non_null(folio);
	assert_int_equal(zone0()->compact.defer_shift, 0);
	assert_true(zone0()->compact.order_failed > PMD_ORDER);
	folio_put(folio);
	verify();
}

//	|x.x.x.x.|x.x.x.x.| -> |........|xxxxxxxx|
static void a_whole_node(void **state)
{
	(void)state;
	unsigned before = fragmentation_score_node(phys_node(&fx.phys, 0));

	compact_nodes(&compaction, 0);
	assert_true(free_blocks() >= BLOCKS - BLOCKS / KEEP - 2);
	assert_true(fragmentation_score_node(phys_node(&fx.phys, 0)) < before);
	assert_int_equal(fx_since(&fx, VM_COMPACT_STALL), 0);
	verify();
	fx_mark(&fx);
	compact_nodes(&compaction, -1); // nothing is left to do: no page moves for nothing
	assert_true(fx_since(&fx, VM_PGMIGRATE_SUCCESS) <= PAGES / KEEP);
	verify();
}

static void the_daemon(void **state)
{
	struct folio *folio;
	bool progress;

	(void)state;
	assert_false(kcompactd_run(&compaction, 0)); // nobody woke it
	assert_null(want(GFP_TRANSHUGE_LIGHT | GFP_KSWAPD_RECLAIM));
	assert_int_equal(compaction.kcompactd[0].order, PMD_ORDER);
	assert_true(kcompactd_run(&compaction, 0));
	assert_int_equal(fx_since(&fx, VM_COMPACT_DAEMON_WAKE), 1);
	assert_true(fx_since(&fx, VM_COMPACT_DAEMON_MIGRATE_SCANNED) > 0);
	assert_true(fx_since(&fx, VM_COMPACT_DAEMON_FREE_SCANNED) > 0);
	assert_int_equal(fx_since(&fx, VM_COMPACT_STALL), 0);
	folio = want(GFP_TRANSHUGE_LIGHT | GFP_KSWAPD_RECLAIM);
	assert_non_null(folio);
	folio_put(folio);
	verify();
	assert_false(kcompactd_run_proactive(&compaction, 0, &progress)); // switched off
}

// How many pages are stopped together, when each takes the host some time.
struct stops {
	unsigned long maps;
	unsigned now, most;
};

static struct stops stops;

static void page_stops(void *arg maybe_unused)
{
	if (stops.maps != fx.model->nr_map) {
		stops.maps = fx.model->nr_map;
		stops.now = 0;
	}
	stops.most = max(stops.most, ++stops.now);
	clock_advance(&fx.clock, 100000);
}

static unsigned most_stopped_by(bool (*daemon)(void))
{
	stops = (struct stops){.maps = fx.model->nr_map};
	fx.model->on_block = page_stops;
	assert_true(daemon());
	fx.model->on_block = NULL;
	assert_true(fx_since(&fx, VM_PGMIGRATE_SUCCESS) > 100);
	verify();
	return stops.most;
}

static bool woken_daemon(void)
{
	assert_null(want(GFP_TRANSHUGE_LIGHT | GFP_KSWAPD_RECLAIM));
	return kcompactd_run(&compaction, 0);
}

static bool daemon_that_looks_ahead(void)
{
	bool progress;

	compaction_set_proactiveness(&compaction, 100);
	return kcompactd_run_proactive(&compaction, 0, &progress);
}

static void measure_one_page(void)
{
	clock_init_manual(&fx.clock, 1);
	pause_learn(&fx.mm.migrate_pauses, 1, 100000);
}

static void the_daemon_without_a_budget(void **state)
{
	(void)state;
	measure_one_page();
	assert_true(most_stopped_by(woken_daemon) >= 32); // what is isolated together
	assert_int_equal(fx.mm.migrate_overruns, 0);
}

static void the_daemon_keeps_the_budget(void **state)
{
	(void)state;
	measure_one_page();
	fx.mm.tunables.pause_budget_us = 350;
	assert_in_range(most_stopped_by(woken_daemon), 1, 3);
	assert_int_equal(fx.mm.migrate_overruns, 0);
}

static void the_daemon_keeps_the_budget_ahead(void **state)
{
	(void)state;
	measure_one_page();
	fx.mm.tunables.pause_budget_us = 350;
	assert_in_range(most_stopped_by(daemon_that_looks_ahead), 1, 3);
	assert_int_equal(fx.mm.migrate_overruns, 0);
}

static void the_daemon_looks_ahead(void **state)
{
	bool progress;

	(void)state;
	compaction_set_proactiveness(&compaction, 100);
	assert_true(kcompactd_run_proactive(&compaction, 0, &progress));
	assert_true(progress);
	assert_true(free_blocks() > 0);
	assert_true(fx_since(&fx, VM_COMPACT_DAEMON_MIGRATE_SCANNED) > 0);
	assert_int_equal(fx_since(&fx, VM_COMPACT_DAEMON_WAKE), 0);
	verify();
}

// Memory of an object that two tasks share, and a child's: all of them see the same afterwards.
static void shared_pages_move(void **state)
{
	struct object *shm;
	struct task *b;

	(void)state;
	release_hoard();
	fx_ok(object_create_shmem(&fx.mm, "shm", 600 * PAGE_SIZE, &shm));
	uint64_t at = fx_map_shared(a, 600, shm);
	fx_fill(&fx, a, at, 600, 3);
	fx_ok(task_fork(a, 0, &b));
	fx_mark(&fx);
	compact_nodes(&compaction, 0);
	assert_true(fx_since(&fx, VM_PGMIGRATE_SUCCESS) > 0);
	fx_verify(&fx, a, at, 600, 3);
	fx_verify(&fx, b, at, 600, 3);
	for (unsigned i = 0; i < PAGES; i += KEEP)
		fx_verify(&fx, b, buf + i * PAGE_SIZE, 1, key);
	verify();
	task_exit(b);
	fx_ok(space_unmap(a->space, at, 600 * PAGE_SIZE));
	object_put(shm);
}

// ---- Failures

static const enum fault_kind kinds[] = {
	FI_META, FI_ALLOC, FI_TRYLOCK, FI_SYSCALL, FI_COPY, FI_FREEZE};

// The n-th of a kind fails, once or from there on; the books balance, and no byte is lost. Most of
// a run is the same again and again, so the numbers grow.
static void failures(void **state)
{
	(void)state;
	for (unsigned k = 0; k < ARRAY_SIZE(kinds); k++) {
		for (unsigned n = 0, i = 0; n < 2000; n += 1 + i++ / 3 * 7) {
			for (unsigned times = 1; times; times = times == 1 ? ~0u : 0) {
				fault_arm(kinds[k], FI_THREAD, n, times);
				struct folio *folio = want(GFP_TRANSHUGE);
				bool hit = fault_disarm(kinds[k]);

				if (!hit)
					n = 2000;
				if (folio)
					folio_put(folio);
				compact_nodes(&compaction, 0);
				fx_check(&fx);
				verify();
			}
			teardown(NULL);
			setup(NULL);
		}
	}
}

static void both_ways_fail(void **state)
{
	(void)state;
	for (unsigned k = 0; k < ARRAY_SIZE(kinds); k++) {
		fault_arm(kinds[k], FI_THREAD, k * 5, ~0u);
		compact_nodes(&compaction, 0);
		(void)fault_disarm(kinds[k]);
		fx_check(&fx);
		verify();
	}
	compact_nodes(&compaction, 0);
	assert_true(free_blocks() > 0);
}

// ---- Through the front door

#define POOL0 "sys/devices/system/node/node0/hugepages/hugepages-2048kB/nr_hugepages"
#define NODE_PAGES 4096u

static struct gw_machine *machine;
static struct gw_task *user;
static uint64_t area;

static void tune(const char *path, const char *value)
{
	int err = gw_tunable_set(machine, path, value);

	if (err)
		fail_msg("%s: %d", path, err);
}

static int64_t counter(const char *name)
{
	int64_t value;

	fx_ok(gw_vmstat(machine, name, &value));
	return value;
}

static void assert_text(const char *path, const char *part)
{
	char *text;

	fx_ok(gw_text(machine, path, &text));
	if (!strstr(text, part))
		fail_msg("%s: %s, expected \"%s\"", path, text, part);
	free(text);
}

static uint64_t map_pages(unsigned long pages)
{
	const struct gw_mapping mapping = {.size = sizeof mapping,
		.length = pages * GW_PAGE_SIZE,
		.align = PMD_SIZE,
		.prot = GW_PROT_READ | GW_PROT_WRITE};
	uint64_t at;

	fx_ok(gw_map(user, &mapping, &at));
	return at;
}

// Node 0 in pieces: one page of four is ours.
static int open_machine(void **state)
{
	uint64_t bytes[] = {32 << 20, 32 << 20};
	const struct gw_machine_config config = {.size = sizeof config, .nr_nodes = 2,
		.node_bytes = bytes, .backend = GW_BACKEND_SOFT};

	(void)state;
	fx_ok(gw_machine_create(&config, &machine));
	tune("sys/kernel/mm/transparent_hugepage/khugepaged/scan_sleep_millisecs", "3600000");
	fx_ok(gw_task_create(machine, NULL, &user));
	area = map_pages(NODE_PAGES);
	for (uint64_t i = 0; i < NODE_PAGES; i++)
		assert_int_equal(gw_write(user, area + i * GW_PAGE_SIZE, &i, sizeof i), sizeof i);
	assert_true(gw_node_fill(machine, 0, 0) > 0);
	for (unsigned i = 0; i < NODE_PAGES; i += 4)
		fx_ok(gw_advise(user, area + (i + 1) * GW_PAGE_SIZE, 3 * GW_PAGE_SIZE,
			MADV_DONTNEED));
	return 0;
}

static int close_machine(void **state)
{
	uint64_t found;

	(void)state;
	for (uint64_t i = 0; i < NODE_PAGES; i += 4) {
		assert_int_equal(gw_read(user, area + i * GW_PAGE_SIZE, &found, 8), 8);
		assert_int_equal(found, i);
	}
	gw_machine_check(machine);
	gw_task_exit(user);
	gw_machine_destroy(machine);
	return 0;
}

static void a_pool_grows_as_far_as_it_can(void **state)
{
	struct gw_pin *pin[NODE_PAGES / 64];

	(void)state;
	tune(POOL0, "2");
	assert_text(POOL0, "2\n");
	assert_true(counter("compact_success") >= 1);
	assert_int_equal(counter("compact_stall"), counter("compact_success"));
	assert_text("godwit/hugepages", "2 pages, as asked for");
	for (unsigned i = 0; i < ARRAY_SIZE(pin); i++)
		fx_ok(gw_pin(user, area + i * 64 * GW_PAGE_SIZE, GW_PAGE_SIZE, "dma", &pin[i]));
	tune(POOL0, "200");
	assert_text("godwit/hugepages", "of the 200 pages asked for");
	assert_text("godwit/hugepages", "pinned or in use elsewhere stayed)");
	assert_text("godwit/compaction", "stayed, pinned or in use elsewhere");
	for (unsigned i = 0; i < ARRAY_SIZE(pin); i++)
		gw_unpin(pin[i]);
	tune("proc/sys/vm/nr_hugepages", "0");
}

// A huge page is to stay huge: room for it is made, or it stays where it is, and says why.
static void a_huge_page_is_kept(void **state)
{
	uint64_t byte = 9;
	struct gw_explanation why;
	const struct gw_move_options keep = {.size = sizeof keep, .keep_huge = 1, .explain = &why};
	int there = 0, back = 1, status;
	struct gw_pin *pin[NODE_PAGES / 64];

	(void)state;
	tune("sys/kernel/mm/transparent_hugepage/enabled", "always");
	tune("sys/kernel/mm/transparent_hugepage/defrag", "never");
	fx_ok(gw_task_set_cpu(user, 1));
	uint64_t at = map_pages(512);
	assert_int_equal(gw_write(user, at, &byte, 8), 8);
	fx_ok(gw_move_pages_explained(user, 0, 1, &at, &there, &status, GW_MPOL_MF_MOVE, &keep));
	assert_int_equal(status, 0);
	assert_int_equal(why.page_size, PMD_SIZE);
	assert_true(counter("compact_success") >= 1);
	fx_ok(gw_move_pages_explained(user, 0, 1, &at, &back, &status, GW_MPOL_MF_MOVE, &keep));
	tune(POOL0, "200"); // whatever could be put together is gone
	for (unsigned i = 0; i < ARRAY_SIZE(pin); i++)
		fx_ok(gw_pin(user, area + i * 64 * GW_PAGE_SIZE, GW_PAGE_SIZE, "dma", &pin[i]));
	assert_true(gw_move_pages_explained(
			    user, 0, 1, &at, &there, &status, GW_MPOL_MF_MOVE, &keep) != 0);
	assert_int_equal(why.why, GW_WHY_NO_TARGET);
	assert_int_equal(why.page_size, PMD_SIZE);
	assert_true(why.detail[0] != 0);
	assert_int_equal(counter("thp_split_page"), 0);
	for (unsigned i = 0; i < ARRAY_SIZE(pin); i++)
		gw_unpin(pin[i]);
	tune("proc/sys/vm/nr_hugepages", "0");
}

// First touches by the words of defrag, on a node in pieces.
static void defrag_words(void **state)
{
	static const struct {
		const char *word;
		bool advised, huge, stalls, wakes;
	} row[] = {
		{"never", true, false, false, false},
		{"madvise", false, false, false, false},
		{"madvise", true, true, true, false},
		{"defer", true, false, false, true},
		{"defer+madvise", false, false, false, true},
		{"defer+madvise", true, true, true, false},
		{"always", false, true, true, false},
		{"always", true, true, true, false},
	};

	for (unsigned i = 0; i < ARRAY_SIZE(row); i++) {
		uint64_t byte = 9;

		if (i) {
			close_machine(state);
			open_machine(state);
		}
		assert_true(gw_node_fill(machine, 1, 0) > 0); // nowhere else
		tune("sys/kernel/mm/transparent_hugepage/enabled", "always");
		tune("sys/kernel/mm/transparent_hugepage/defrag", row[i].word);
		uint64_t at = map_pages(512);
		if (row[i].advised)
			fx_ok(gw_advise(user, at, PMD_SIZE, MADV_HUGEPAGE));
		int64_t before = counter("thp_fault_alloc"), stalls = counter("compact_stall");
		uint64_t mark = gw_trace_mark(machine);

		assert_int_equal(gw_write(user, at, &byte, 8), 8);
		if ((counter("thp_fault_alloc") != before) != row[i].huge ||
			(counter("compact_stall") != stalls) != row[i].stalls)
			fail_msg("row %u (%s): huge %d, stalls %d", i, row[i].word,
				counter("thp_fault_alloc") != before,
				counter("compact_stall") != stalls);
		char *text;
		fx_ok(gw_trace_text(machine, mark, &text));
		assert_int_equal(strstr(text, "mm_compaction_wakeup_kcompactd") != NULL,
			row[i].wakes);
		free(text);
	}
}

#define F(name) cmocka_unit_test_setup_teardown(name, open_machine, close_machine)
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		T(an_allocation_compacts),
		T(who_does_not_wait_does_not_compact),
		T(one_after_the_other),
		T(pinned_pages_stay),
		T(a_pinned_page_makes_the_others_useless),
		T(unmovable_pages_stay),
		T(locked_memory_stays_if_told),
		T(too_little_memory_is_not_compacted),
		T(the_watermark_is_respected),
		T(too_many_are_isolated_already),
		T(a_threshold_forbids),
		T(failures_are_deferred),
		T(a_whole_node),
		T(the_daemon),
		T(the_daemon_looks_ahead),
		T(the_daemon_without_a_budget),
		T(the_daemon_keeps_the_budget),
		T(the_daemon_keeps_the_budget_ahead),
		T(shared_pages_move),
		T(failures),
		T(both_ways_fail),
		F(a_pool_grows_as_far_as_it_can),
		F(a_huge_page_is_kept),
		F(defrag_words),
	};

	if (argc > 1)
		cmocka_set_test_filter(argv[1]);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
