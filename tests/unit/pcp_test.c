// SPDX-License-Identifier: MIT
// Per-cpu lists: batches, limits, what may not stay on them, threads that share a cpu.
#include "phys_fixture.h"

#include "base/fault_inject.h"
#include "base/sched.h"

#include <pthread.h>

static const struct memory_spec one_node = {.nodes = 1, .cpus = 2, .mib = {64}};

static struct folio *alloc(struct memory *m, unsigned order, int cpu)
{
	struct folio *folio = folio_alloc(&m->phys, GFP_HIGHUSER_MOVABLE, order, 0, NULL, cpu);

	must_hold(folio, "no folio of order %u", order);
	return folio;
}

static void test_batches(void **state)
{
	struct folio *folio, *large;
	struct memory m;
	struct zone *zone;
	unsigned batch, high;

	(void)state;
	memory_open(&m, &one_node);
	zone = memory_zone(&m, 0);
	batch = zone->pcp_batch;
	high = zone->pcp_high;
	assert_int_equal(batch, 3); // 16384 / 4096 = 4: the 2^n-1 below 6
	assert_true(high >= 4 * batch);
	// The first page takes a batch from the buddy, the next ones come from the list.
	folio = alloc(&m, 0, 1);
	assert_int_equal(zone_nr_free(zone), 16384 - batch);
	assert_int_equal(zone->pcp[1].count, batch - 1);
	assert_int_equal(zone->pcp[0].count, 0);
	phys_check(&m.phys);
	// Freed on the cpu of this thread.
	phys_set_this_cpu(0);
	folio_put(folio);
	assert_int_equal(zone->pcp[0].count, 1);
	assert_int_equal(zone_pcp_pages(zone), batch);
	// A huge page takes two.
	large = alloc(&m, 9, 0);
	assert_int_equal(zone->pcp[0].count, 513);
	folio_put(large);
	phys_check(&m.phys);
	drain_all_pages(&m.phys);
	assert_int_equal(zone_pcp_pages(zone), 0);
	// Order 4 is not kept.
	folio_put(alloc(&m, 4, 0));
	assert_int_equal(zone_pcp_pages(zone), 0);
	memory_check_all_free(&m);
	memory_close(&m);
}

static void test_high_gives_back(void **state)
{
	static struct folio *folio[1000];
	struct memory m;
	struct zone *zone;

	(void)state;
	memory_open(&m, &one_node);
	zone = memory_zone(&m, 0);
	for (unsigned i = 0; i < 1000; i++)
		folio[i] = alloc(&m, 0, 0);
	for (unsigned i = 0; i < 1000; i++) {
		folio_put(folio[i]);
		assert_true(zone->pcp[0].count < zone->pcp_high);
	}
	phys_check(&m.phys);
	memory_check_all_free(&m);
	memory_close(&m);
}

static void test_disable(void **state)
{
	struct folio *folio;
	struct memory m;
	struct zone *zone;

	(void)state;
	memory_open(&m, &one_node);
	zone = memory_zone(&m, 0);
	folio = alloc(&m, 0, 0);
	zone_pcp_disable(zone);
	zone_pcp_disable(zone);
	assert_int_equal(zone_pcp_pages(zone), 0);
	folio_put(folio);
	folio_put(alloc(&m, 0, 0));
	assert_int_equal(zone_nr_free(zone), 16384);
	zone_pcp_enable(zone);
	folio_put(alloc(&m, 0, 0));
	assert_int_equal(zone_pcp_pages(zone), 0);
	zone_pcp_enable(zone);
	folio_put(alloc(&m, 0, 0));
	assert_true(zone_pcp_pages(zone) > 0);
	memory_check_all_free(&m);
	memory_close(&m);
}

// Pages are freed and taken while the lists are being disabled: what is on none then comes to none.
struct race {
	struct memory *m;
	struct folio *folio[2];
	struct zone *zone;
	bool stayed_empty;
};

static void disable_and_free(void *arg, unsigned index)
{
	struct race *r = arg;

	if (index < 2) {
		phys_set_this_cpu(index);
		folio_put(r->folio[index]);
		folio_put(alloc(r->m, 0, (int)index));
		return;
	}
	zone_pcp_disable(r->zone);
	for (unsigned looks = 0; looks < 20; looks++)
		r->stayed_empty &= zone_pcp_pages(r->zone) == 0;
	zone_pcp_enable(r->zone);
}

static void test_disable_seeded(void **state)
{
	uint64_t seed = test_seed();
	struct memory m;

	(void)state;
	memory_open(&m, &one_node);
	for (unsigned i = 0; i < 200; i++) {
		struct race r = {.m = &m, .zone = memory_zone(&m, 0), .stayed_empty = true};

		for (unsigned cpu = 0; cpu < 2; cpu++)
			r.folio[cpu] = alloc(&m, 0, (int)cpu);
		sched_run(seed + i, 3, disable_and_free, &r);
		assert_true(r.stayed_empty);
		memory_check_all_free(&m);
	}
	memory_close(&m);
}

// A list whose lock is busy is passed by; isolated pageblocks get their pages past the lists.
static void test_goes_round(void **state)
{
	struct folio *folio;
	struct memory m;
	struct zone *zone;
	struct pfn block;

	(void)state;
	memory_open(&m, &one_node);
	zone = memory_zone(&m, 0);
	fault_arm(FI_TRYLOCK, FI_THREAD, 0, FI_ALWAYS);
	folio = alloc(&m, 0, 0);
	assert_int_equal(zone_pcp_pages(zone), 0);
	folio_put(folio);
	assert_true(fault_disarm(FI_TRYLOCK));
	assert_int_equal(zone_nr_free(zone), 16384);
	folio = alloc(&m, 0, 0);
	folio_set_lru(folio); // movable in the eyes of isolation
	block = pfn_of(ALIGN_DOWN(folio_pfn(folio).n, PAGEBLOCK_NR));
	assert_int_equal(start_isolate_page_range(
				 &m.phys, block, pfn_add(block, PAGEBLOCK_NR), MIGRATE_MOVABLE),
		0);
	folio_clear_lru(folio);
	drain_all_pages(&m.phys);
	folio_put(folio);
	assert_int_equal(zone_pcp_pages(zone), 0);
	assert_int_equal(zone_nr_free(zone), 16384 - 512);
	undo_isolate_page_range(&m.phys, block, pfn_add(block, PAGEBLOCK_NR), MIGRATE_MOVABLE);
	memory_check_all_free(&m);
	memory_close(&m);
}

// Threads on two cpus (three threads: two share one) allocate and free, and one drains.
struct work {
	struct memory *m;
	unsigned rounds;
	uint64_t seed;
};

static void work(void *arg, unsigned index)
{
	static const unsigned orders[] = {0, 0, 0, 1, 2, 3, 4, 9};
	struct work *w = arg;
	uint64_t r = w->seed + index * 7919;
	struct folio *held[16] = {0};

	phys_set_this_cpu(index);
	for (unsigned i = 0; i < w->rounds; i++) {
		unsigned n = random_below(&r, 16);

		if (index == 3) {
			drain_all_pages(&w->m->phys);
			continue;
		}
		if (held[n]) {
			must_hold(folio_index(held[n]) == index, "page given twice");
			folio_put(held[n]);
			held[n] = NULL;
			continue;
		}
		gfp_t gfp = random_below(&r, 3) ? GFP_HIGHUSER_MOVABLE : GFP_USER;
		held[n] = folio_alloc(
			&w->m->phys, gfp, orders[random_below(&r, 8)], 0, NULL, (int)index);
		if (held[n])
			folio_set_index(held[n], index);
	}
	for (unsigned n = 0; n < 16; n++)
		if (held[n])
			folio_put(held[n]);
}

static void test_seeded(void **state)
{
	uint64_t seed = test_seed();
	struct memory m;

	(void)state;
	memory_open(&m, &one_node);
	for (unsigned i = 0; i < 40; i++) {
		struct work w = {&m, 30, seed + i};
		sched_run(seed + i, 4, work, &w);
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
	memory_open(&m, &one_node);
	struct work w = {&m, 5000, test_seed()};
	for (unsigned i = 0; i < 4; i++) {
		arg[i] = (struct work_thread){&w, i};
		assert_int_equal(pthread_create(&thread[i], NULL, work_thread, &arg[i]), 0);
	}
	for (unsigned i = 0; i < 4; i++)
		pthread_join(thread[i], NULL);
	memory_check_all_free(&m);
	memory_close(&m);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_batches),
		cmocka_unit_test(test_high_gives_back),
		cmocka_unit_test(test_disable),
		cmocka_unit_test(test_disable_seeded),
		cmocka_unit_test(test_goes_round),
		cmocka_unit_test(test_seeded),
		cmocka_unit_test(test_threads),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
