// SPDX-License-Identifier: MIT
// Folios: references, pins, locks, mapcounts, dissolving, the deferred-split queue.
#include "phys_fixture.h"

#include "base/fault_inject.h"
#include "base/sched.h"

#include <pthread.h>

static const struct memory_spec two_nodes = {.nodes = 2, .cpus = 2, .mib = {16, 16}};

static struct folio *alloc(struct memory *m, unsigned order, int nid)
{
	struct folio *folio =
		folio_alloc(&m->phys, GFP_HIGHUSER_MOVABLE | GFP_THISNODE, order, nid, NULL, 0);

	must_hold(folio, "no folio of order %u", order);
	return folio;
}

static void test_new_folio(void **state)
{
	struct memory m;

	(void)state;
	memory_open(&m, &two_nodes);
	for (unsigned order = 0; order <= MAX_PAGE_ORDER; order++) {
		struct folio *folio = alloc(&m, order, 1);
		assert_int_equal(folio_ref_count(folio), 1);
		assert_int_equal(folio_order(folio), order);
		assert_int_equal(folio_nid(folio), 1);
		assert_ptr_equal(folio_node(folio), phys_node(&m.phys, 1));
		assert_ptr_equal(folio_phys(folio), &m.phys);
		assert_int_equal(folio_mapcount(folio), 0);
		assert_int_equal(folio_mapping_raw(folio), 0);
		assert_int_equal(folio_expected_ref_count(folio), 0);
		assert_int_equal(folio_last_cpupid(folio), CPUPID_NONE);
		assert_false(folio_test_uptodate(folio) || folio_maybe_pinned(folio));
		assert_int_equal(folio_pfn(folio).n & (folio_nr(folio) - 1), 0);
		phys_check(&m.phys);
		folio_put(folio);
	}
	memory_check_all_free(&m);
	memory_close(&m);
}

static void test_references(void **state)
{
	struct folio *folio, *small;
	struct memory m;

	(void)state;
	memory_open(&m, &two_nodes);
	folio = alloc(&m, 3, 0);
	folio_get(folio);
	assert_true(folio_try_get(folio));
	assert_ptr_equal(folio_try_get_frame(folio_frame(folio, 5)), folio);
	assert_int_equal(folio_ref_count(folio), 4);
	assert_false(folio_ref_freeze(folio, 3));
	assert_true(folio_ref_freeze(folio, 4));
	assert_false(folio_try_get(folio));
	assert_null(folio_try_get_frame(folio_frame(folio, 1)));
	assert_false(folio_try_pin(folio, 1));
	folio_ref_unfreeze(folio, 4);
	fault_arm(FI_FREEZE, FI_THREAD, 0, 1);
	assert_false(folio_ref_freeze(folio, 4));
	assert_true(fault_disarm(FI_FREEZE));
	folio_put_many(folio, 3);
	folio_put(folio);
	assert_null(folio_try_get_frame(folio_frame(folio, 5)));
	small = alloc(&m, 0, 0);
	folio_ref_add(small, 2);
	assert_int_equal(folio_ref_count(small), 3);
	folio_put_many(small, 3);
	memory_check_all_free(&m);
	memory_close(&m);
}

static void test_pins(void **state)
{
	struct folio *folio;
	struct memory m;

	(void)state;
	memory_open(&m, &two_nodes);
	folio = alloc(&m, 0, 0);
	assert_true(folio_try_pin(folio, 2));
	assert_int_equal(folio_ref_count(folio), 1 + 2 * GUP_PIN_COUNTING_BIAS);
	assert_true(folio_maybe_pinned(folio));
	folio_unpin(folio, 2);
	assert_false(folio_maybe_pinned(folio));
	// A small folio with many references looks pinned.
	folio_ref_add(folio, 1023);
	assert_true(folio_maybe_pinned(folio));
	folio_put_many(folio, 1024);
	folio = alloc(&m, 9, 0);
	assert_true(folio_try_pin(folio, 1));
	folio_ref_add(folio, 2000);
	assert_int_equal(folio_ref_count(folio), 2002);
	assert_true(folio_maybe_pinned(folio));
	folio_unpin(folio, 1);
	assert_false(folio_maybe_pinned(folio));
	folio_put_many(folio, 2001);
	memory_check_all_free(&m);
	memory_close(&m);
}

static void test_mapping(void **state)
{
	void *owner = meta_alloc(64);
	struct folio *folio;
	struct memory m;

	(void)state;
	memory_open(&m, &two_nodes);
	folio = alloc(&m, 2, 0);
	for (unsigned type = 0; type < 4; type++) {
		folio_set_mapping(folio, owner, (enum mapping_type)type);
		assert_int_equal(folio_mapping_type(folio), type);
		assert_ptr_equal(folio_mapping_pointer(folio), owner);
		assert_int_equal(folio_test_anon(folio), type & 1);
		assert_int_equal(folio_test_ksm(folio), type == MAPPING_KSM);
	}
	folio_set_mapping(folio, NULL, MAPPING_MOVABLE); // released by its owner
	assert_true(folio_test_movable_type(folio));
	assert_null(folio_mapping_pointer(folio));
	// Expected references: the index's one a page, private data, mappings; anon: mappings only.
	folio_set_mapping(folio, owner, MAPPING_OBJECT);
	assert_int_equal(folio_expected_ref_count(folio), 4);
	folio_set_private(folio);
	assert_int_equal(folio_expected_ref_count(folio), 5);
	assert_int_equal(folio_map_pages(folio, 1, 2), 2);
	assert_int_equal(folio_expected_ref_count(folio), 7);
	folio_clear_private(folio);
	folio_set_mapping(folio, owner, MAPPING_ANON);
	assert_int_equal(folio_expected_ref_count(folio), 2);
	assert_int_equal(folio_unmap_pages(folio, 1, 2), 2);
	folio_clear_mapping(folio);
	folio_put(folio);
	meta_free(owner, 64);
	memory_check_all_free(&m);
	memory_close(&m);
}

// Random maps and unmaps of pages and of the whole, against plain counters.
static void check_mapcounts(struct folio *folio, const int *pages, int entire)
{
	unsigned nr = (unsigned)folio_nr(folio), mapped = 0;
	int total = entire;

	for (unsigned i = 0; i < nr; i++) {
		assert_int_equal(frame_mapcount(folio_frame(folio, i)), pages[i] + entire);
		total += pages[i];
		mapped += pages[i] || entire;
	}
	assert_int_equal(folio_mapcount(folio), total);
	assert_int_equal(folio_entire_mapcount(folio), entire);
	assert_int_equal(folio_nr_pages_mapped(folio), mapped);
	assert_int_equal(folio_mapped(folio), total > 0);
}

static void test_mapcounts_random(void **state)
{
	static const unsigned orders[] = {0, 1, 2, 4};
	uint64_t r = test_seed();
	struct memory m;

	(void)state;
	memory_open(&m, &two_nodes);
	for (unsigned o = 0; o < ARRAY_SIZE(orders); o++) {
		struct folio *folio = alloc(&m, orders[o], 0);
		unsigned nr = (unsigned)folio_nr(folio);
		int pages[16] = {0}, entire = 0;
		for (unsigned step = 0; step < 2000; step++) {
			unsigned first = random_below(&r, nr), n = 1 + random_below(&r, nr - first);
			unsigned what = random_below(&r, 4), expect = 0;
			bool whole = nr > 2 && what < 2;
			if (whole && what == 0) {
				for (unsigned i = 0; i < nr; i++)
					expect += !pages[i] && !entire;
				entire++;
				assert_int_equal(folio_map_entire(folio, NULL), expect);
			} else if (whole) {
				if (!entire)
					continue;
				entire--;
				for (unsigned i = 0; i < nr; i++)
					expect += !pages[i] && !entire;
				assert_int_equal(folio_unmap_entire(folio, NULL), expect);
			} else if (what == 3) {
				for (unsigned i = first; i < first + n; i++)
					expect += !pages[i]++ && !entire;
				assert_int_equal(folio_map_pages(folio, first, n), expect);
			} else {
				unsigned can = 0;
				while (can < n && pages[first + can])
					can++;
				for (unsigned i = first; i < first + can; i++)
					expect += !--pages[i] && !entire;
				if (can)
					assert_int_equal(
						folio_unmap_pages(folio, first, can), expect);
			}
			check_mapcounts(folio, pages, entire);
		}
		while (entire--)
			folio_unmap_entire(folio, NULL);
		for (unsigned i = 0; i < nr; i++)
			while (pages[i]--)
				folio_unmap_pages(folio, i, 1);
		folio_put(folio);
	}
	memory_check_all_free(&m);
	memory_close(&m);
}

// Two page tables that map every page of a folio and one that maps it whole, each by a thread: what
// the calls report adds up to what is mapped in the end, whatever they met.
struct mapper {
	struct folio *folio;
	bool whole;
	long sum;
};

static void *map_and_unmap(void *arg)
{
	struct mapper *m = arg;

	for (unsigned i = 0; i < 200000; i++) {
		m->sum += m->whole ? folio_map_entire(m->folio, NULL)
				   : folio_map_pages(m->folio, 0, folio_nr(m->folio));
		m->sum -= m->whole ? folio_unmap_entire(m->folio, NULL)
				   : folio_unmap_pages(m->folio, 0, folio_nr(m->folio));
	}
	return NULL;
}

static void test_mapcounts_threads(void **state)
{
	struct mapper mapper[3] = {{0}};
	pthread_t thread[3];
	struct memory m;
	long sum = 0;

	(void)state;
	memory_open(&m, &two_nodes);
	struct folio *folio = alloc(&m, 4, 0);
	sum += folio_map_pages(folio, 1, 2);
	for (unsigned i = 0; i < 3; i++) {
		mapper[i] = (struct mapper){.folio = folio, .whole = i == 2};
		assert_int_equal(
			pthread_create(&thread[i], NULL, map_and_unmap, &mapper[i]), 0);
	}
	for (unsigned i = 0; i < 3; i++) {
		pthread_join(thread[i], NULL);
		sum += mapper[i].sum;
	}
	assert_int_equal(folio_nr_pages_mapped(folio), 2);
	assert_int_equal(sum, 2);
	assert_int_equal(folio_unmap_pages(folio, 1, 2), 2);
	folio_put(folio);
	memory_check_all_free(&m);
	memory_close(&m);
}

static void test_likely_shared(void **state)
{
	struct folio *small, *large;
	struct memory m;

	(void)state;
	memory_open(&m, &two_nodes);
	small = alloc(&m, 0, 0);
	large = alloc(&m, 2, 0);
	folio_map_pages(small, 0, 1);
	assert_false(folio_likely_mapped_shared(small));
	folio_map_pages(small, 0, 1);
	assert_true(folio_likely_mapped_shared(small));
	// |1|1|1|1|: one space. One more of the last page: more mappings than pages.
	folio_map_pages(large, 0, 4);
	assert_false(folio_likely_mapped_shared(large));
	folio_map_pages(large, 3, 1);
	assert_true(folio_likely_mapped_shared(large));
	folio_unmap_pages(large, 3, 1);
	folio_unmap_pages(large, 3, 1);
	// |2|1|1|0|: the first page says so; |1|2|1|0| it does not.
	folio_map_pages(large, 0, 1);
	assert_true(folio_likely_mapped_shared(large));
	folio_unmap_pages(large, 0, 1);
	folio_map_pages(large, 1, 1);
	assert_false(folio_likely_mapped_shared(large));
	folio_unmap_pages(large, 0, 3);
	folio_unmap_pages(large, 1, 1);
	folio_map_entire(large, NULL);
	assert_false(folio_likely_mapped_shared(large));
	folio_map_pages(large, 0, 1);
	assert_true(folio_likely_mapped_shared(large));
	folio_unmap_pages(large, 0, 1);
	folio_unmap_entire(large, NULL);
	folio_unmap_pages(small, 0, 1);
	folio_unmap_pages(small, 0, 1);
	folio_put(small);
	folio_put(large);
	memory_check_all_free(&m);
	memory_close(&m);
}

static void test_dissolve(void **state)
{
	struct folio *folio;
	struct memory m;

	(void)state;
	memory_open(&m, &two_nodes);
	for (unsigned order = 1; order <= 9; order++) {
		for (unsigned to = 0; to < order; to++) {
			folio = alloc(&m, order, 0);
			folio_set_dirty(folio);
			folio_set_index(folio, 1024);
			frame_set_anon_exclusive(folio_frame(folio, 1));
			assert_true(folio_ref_freeze(folio, 1));
			folio_dissolve(folio, to, 1u << PG_UPTODATE);
			for (unsigned i = 0; i < 1u << order; i += 1u << to) {
				struct folio *part = (struct folio *)folio_frame(folio, i);
				assert_int_equal(folio_order(part), to);
				assert_int_equal(folio_ref_count(part), 0);
				assert_int_equal(folio_mapcount(part), 0);
				assert_int_equal(folio_test_dirty(part), i == 0);
				assert_int_equal(folio_test_uptodate(part), i != 0);
				assert_int_equal(folio_index(part), 1024 + i);
				assert_ptr_equal(
					frame_folio(folio_frame(part, folio_nr(part) - 1)), part);
				folio_ref_unfreeze(part, 1);
			}
			assert_true(frame_test_anon_exclusive(folio_frame(folio, 1)));
			for (unsigned i = 0; i < 1u << order; i += 1u << to)
				folio_put((struct folio *)folio_frame(folio, i));
			phys_check(&m.phys);
		}
	}
	memory_check_all_free(&m);
	memory_close(&m);
}

static void test_deferred_queue(void **state)
{
	struct folio *f[5], *small, *pair, *taken[8];
	struct memory m;
	struct node *node;

	(void)state;
	memory_open(&m, &two_nodes);
	node = phys_node(&m.phys, 0);
	small = alloc(&m, 0, 0);
	pair = alloc(&m, 1, 0);
	assert_false(folio_deferred_queue(small));
	assert_false(folio_deferred_queue(pair));
	for (unsigned i = 0; i < 5; i++) {
		f[i] = alloc(&m, 2 + i, 0);
		assert_false(folio_deferred_queued(f[i]));
		assert_true(folio_deferred_queue(f[i]));
		assert_false(folio_deferred_queue(f[i]));
	}
	assert_int_equal(node_deferred_length(node), 5);
	assert_true(folio_deferred_unqueue(f[2]));
	assert_false(folio_deferred_unqueue(f[2]));
	folio_put(f[0]); // freed: leaves by itself
	assert_int_equal(node_deferred_length(node), 3);
	// A frozen folio stays, the others come with a reference.
	assert_true(folio_ref_freeze(f[3], 1));
	assert_int_equal(node_deferred_take(node, taken, 8), 2);
	assert_ptr_equal(taken[0], f[1]);
	assert_ptr_equal(taken[1], f[4]);
	assert_int_equal(node_deferred_length(node), 1);
	folio_ref_unfreeze(f[3], 1);
	assert_int_equal(folio_ref_count(f[1]), 2);
	folio_put(f[1]);
	folio_put(f[4]);
	for (unsigned i = 1; i < 5; i++)
		folio_put(f[i]);
	assert_int_equal(node_deferred_length(node), 0);
	folio_put(small);
	folio_put(pair);
	memory_check_all_free(&m);
	memory_close(&m);
}

static void test_trylock(void **state)
{
	struct folio *folio;
	struct memory m;

	(void)state;
	memory_open(&m, &two_nodes);
	folio = alloc(&m, 0, 0);
	assert_true(folio_trylock(folio));
	assert_false(folio_trylock(folio));
	assert_int_equal(folio_wait_locked_timeout(folio, 1000000), -ETIMEDOUT);
	folio_unlock(folio);
	assert_int_equal(folio_wait_locked_timeout(folio, 1000000), 0);
	fault_arm(FI_TRYLOCK, FI_THREAD, 0, 1);
	assert_false(folio_trylock(folio));
	assert_true(fault_disarm(FI_TRYLOCK));
	assert_false(folio_test_locked(folio) || folio_test_waiters(folio));
	folio_put(folio);
	memory_check_all_free(&m);
	memory_close(&m);
}

// Threads that lock, wait without a reference, and wait for writeback; the lock excludes.
struct contest {
	struct folio *folio;
	unsigned rounds;
	long guarded; // written only under the folio lock
	_Atomic long waits;
};

static void contend(void *arg, unsigned index)
{
	struct contest *c = arg;

	for (unsigned i = 0; i < c->rounds; i++) {
		if (index == 2) {
			folio_wait_locked_noref(c->folio);
			atomic_fetch_add(&c->waits, 1);
			continue;
		}
		if (i % 3 != 1 || !folio_trylock(c->folio))
			folio_lock(c->folio);
		long seen = c->guarded;
		sched_point();
		c->guarded = seen + 1;
		if (i % 4 == 0) {
			folio_set_writeback(c->folio);
			folio_clear_bit_wake(c->folio, PG_WRITEBACK);
		}
		folio_unlock(c->folio);
		folio_wait_bit_clear(c->folio, PG_WRITEBACK);
	}
}

static void test_lock_seeded(void **state)
{
	uint64_t seed = test_seed();
	struct memory m;

	(void)state;
	memory_open(&m, &two_nodes);
	for (unsigned i = 0; i < 100; i++) {
		struct contest c = {.folio = alloc(&m, 0, 0), .rounds = 10};
		sched_run(seed + i, 4, contend, &c);
		assert_int_equal(c.guarded, 30);
		assert_int_equal(c.waits, 10);
		assert_false(folio_test_locked(c.folio) || folio_test_waiters(c.folio));
		assert_int_equal(folio_ref_count(c.folio), 1);
		folio_put(c.folio);
	}
	memory_check_all_free(&m);
	memory_close(&m);
}

struct contest_thread {
	struct contest *contest;
	unsigned index;
};

static void *contend_thread(void *arg)
{
	struct contest_thread *t = arg;

	contend(t->contest, t->index);
	return NULL;
}

static void test_lock_threads(void **state)
{
	struct contest_thread arg[4];
	pthread_t thread[4];
	struct contest c = {.rounds = 2000};
	struct memory m;

	(void)state;
	memory_open(&m, &two_nodes);
	c.folio = alloc(&m, 9, 0);
	for (unsigned i = 0; i < 4; i++) {
		arg[i] = (struct contest_thread){&c, i};
		assert_int_equal(pthread_create(&thread[i], NULL, contend_thread, &arg[i]), 0);
	}
	for (unsigned i = 0; i < 4; i++)
		pthread_join(thread[i], NULL);
	assert_int_equal(c.guarded, 6000);
	folio_put(c.folio);
	memory_check_all_free(&m);
	memory_close(&m);
}

// References taken by frame number while folios of changing order come and go at the same place.
static _Atomic bool walk_stop;

static void *walk_frames(void *arg)
{
	struct zone *zone = arg;
	unsigned long got = 0;

	while (!atomic_load(&walk_stop)) {
		for (uint64_t i = 0; i < 64; i++) {
			struct frame *frame = pfn_frame(pfn_of(zone->start_pfn + i));
			struct folio *folio = folio_try_get_frame(frame);
			if (!folio)
				continue;
			must_hold(frame_folio(frame) == folio &&
					  folio_frame_index(folio, frame) < folio_nr(folio),
				"frame %lu is not of its folio", (unsigned long)i);
			folio_put(folio);
			got++;
		}
	}
	return (void *)got;
}

static void test_walk_by_number(void **state)
{
	uint64_t r = test_seed();
	pthread_t walker;
	struct memory m;

	(void)state;
	memory_open(&m, &two_nodes);
	atomic_store(&walk_stop, false);
	zone_pcp_disable(memory_zone(&m, 0));
	assert_int_equal(pthread_create(&walker, NULL, walk_frames, memory_zone(&m, 0)), 0);
	for (unsigned i = 0; i < 20000; i++) {
		struct folio *folio = alloc(&m, random_below(&r, 6), 0);
		if (i % 100 == 0)
			sched_yield();
		folio_put(folio);
	}
	atomic_store(&walk_stop, true);
	pthread_join(walker, NULL);
	zone_pcp_enable(memory_zone(&m, 0));
	memory_check_all_free(&m);
	memory_close(&m);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_new_folio),
		cmocka_unit_test(test_references),
		cmocka_unit_test(test_pins),
		cmocka_unit_test(test_mapping),
		cmocka_unit_test(test_mapcounts_random),
		cmocka_unit_test(test_mapcounts_threads),
		cmocka_unit_test(test_likely_shared),
		cmocka_unit_test(test_dissolve),
		cmocka_unit_test(test_deferred_queue),
		cmocka_unit_test(test_trylock),
		cmocka_unit_test(test_lock_seeded),
		cmocka_unit_test(test_lock_threads),
		cmocka_unit_test(test_walk_by_number),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
