// SPDX-License-Identifier: MIT
// LRU lists: adding, isolating, promotion, locked memory, split tails, races of isolation.
#include "phys_fixture.h"

#include "base/sched.h"

#include <pthread.h>

static const struct memory_spec two_nodes = {.nodes = 2, .cpus = 2, .mib = {16, 16}};

static struct folio *alloc(struct memory *m, unsigned order, int nid, bool anon)
{
	struct folio *folio =
		folio_alloc(&m->phys, GFP_HIGHUSER_MOVABLE | GFP_THISNODE, order, nid, NULL, 0);

	must_hold(folio, "no folio of order %u", order);
	if (anon)
		folio_set_swapbacked(folio);
	return folio;
}

static void assert_lru(struct memory *m, unsigned nid, unsigned long inactive_anon,
	unsigned long active_anon, unsigned long inactive_file, unsigned long active_file,
	unsigned long unevictable)
{
	assert_int_equal(stat_of(m, nid, VM_NR_INACTIVE_ANON), inactive_anon);
	assert_int_equal(stat_of(m, nid, VM_NR_ACTIVE_ANON), active_anon);
	assert_int_equal(stat_of(m, nid, VM_NR_INACTIVE_FILE), inactive_file);
	assert_int_equal(stat_of(m, nid, VM_NR_ACTIVE_FILE), active_file);
	assert_int_equal(stat_of(m, nid, VM_NR_UNEVICTABLE), unevictable);
	assert_int_equal(stat_of(m, nid, VM_NR_ZONE_ACTIVE_FILE), active_file);
	phys_check(&m->phys);
}

static void test_add_isolate_putback(void **state)
{
	struct folio *anon, *file;
	struct memory m;

	(void)state;
	memory_open(&m, &two_nodes);
	anon = alloc(&m, 9, 0, true);
	file = alloc(&m, 0, 1, false);
	folio_set_active(file);
	assert_false(folio_isolate_lru(anon)); // not yet added
	folio_add_lru(anon);
	folio_add_lru(file);
	assert_lru(&m, 0, 512, 0, 0, 0, 0);
	assert_lru(&m, 1, 0, 0, 0, 1, 0);
	assert_true(folio_isolate_lru(anon));
	assert_int_equal(folio_ref_count(anon), 2);
	assert_false(folio_isolate_lru(anon));
	assert_int_equal(folio_ref_count(anon), 2);
	folio_count_isolated(anon);
	assert_int_equal(stat_of(&m, 0, VM_NR_ISOLATED_ANON), 512);
	assert_lru(&m, 0, 0, 0, 0, 0, 0);
	folio_uncount_isolated(anon);
	folio_putback_lru(anon);
	assert_int_equal(stat_of(&m, 0, VM_NR_ISOLATED_ANON), 0);
	assert_int_equal(folio_ref_count(anon), 1);
	assert_lru(&m, 0, 512, 0, 0, 0, 0);
	folio_put(anon); // the final put takes it off
	folio_put(file);
	assert_lru(&m, 0, 0, 0, 0, 0, 0);
	memory_check_all_free(&m);
	memory_close(&m);
}

static void test_add_many(void **state)
{
	struct folio_list list = {0};
	struct folio *folio[20];
	struct memory m;

	(void)state;
	memory_open(&m, &two_nodes);
	for (unsigned i = 0; i < 20; i++) {
		folio[i] = alloc(&m, i % 3, i / 5 % 2, i & 1);
		folio_list_add_tail(&list, folio[i]);
	}
	folio_add_lru_many(&list);
	assert_true(folio_list_empty(&list));
	for (unsigned i = 0; i < 20; i++)
		assert_true(folio_test_lru(folio[i]));
	phys_check(&m.phys);
	for (unsigned i = 0; i < 20; i++)
		folio_put(folio[i]);
	memory_check_all_free(&m);
	memory_close(&m);
}

static void test_two_touches(void **state)
{
	struct folio *folio;
	struct memory m;

	(void)state;
	memory_open(&m, &two_nodes);
	folio = alloc(&m, 0, 0, true);
	folio_add_lru(folio);
	folio_set_idle(folio);
	folio_mark_accessed(folio);
	assert_true(folio_test_referenced(folio) && !folio_test_active(folio));
	assert_false(folio_test_idle(folio));
	folio_mark_accessed(folio);
	assert_true(folio_test_active(folio) && !folio_test_referenced(folio));
	assert_lru(&m, 0, 0, 1, 0, 0, 0);
	assert_int_equal(vmstat_read(&m.stat, VM_PGACTIVATE), 1);
	folio_deactivate(folio);
	assert_true(folio_test_workingset(folio));
	assert_lru(&m, 0, 1, 0, 0, 0, 0);
	folio_put(folio);
	memory_check_all_free(&m);
	memory_close(&m);
}

static void test_order_of_the_list(void **state)
{
	struct folio *folio[3];
	struct folio_list list = {0};
	struct node *node;
	struct memory m;

	(void)state;
	memory_open(&m, &two_nodes);
	node = phys_node(&m.phys, 0);
	for (unsigned i = 0; i < 3; i++) {
		folio[i] = alloc(&m, 0, 0, true);
		folio_add_lru(folio[i]);
	}
	folio_rotate(folio[2]); // oldest first now: 2, 0, 1
	assert_int_equal(node_isolate_lru(node, LRU_INACTIVE_ANON, 2, NULL, NULL, &list), 2);
	assert_ptr_equal(folio_list_first(&list), folio[2]);
	assert_ptr_equal(folio_list_last(&list), folio[0]);
	assert_int_equal(folio_ref_count(folio[0]), 2);
	struct folio *f;
	while ((f = folio_list_pop(&list)))
		folio_putback_lru(f);
	// A frozen folio is passed over.
	assert_true(folio_ref_freeze(folio[1], 1));
	assert_int_equal(node_isolate_lru(node, LRU_INACTIVE_ANON, 9, NULL, NULL, &list), 2);
	folio_ref_unfreeze(folio[1], 1);
	while ((f = folio_list_pop(&list)))
		folio_putback_lru(f);
	for (unsigned i = 0; i < 3; i++)
		folio_put(folio[i]);
	memory_check_all_free(&m);
	memory_close(&m);
}

static void test_mlock(void **state)
{
	struct folio *folio, *fresh;
	struct memory m;

	(void)state;
	memory_open(&m, &two_nodes);
	folio = alloc(&m, 1, 0, true);
	folio_set_active(folio);
	folio_add_lru(folio);
	folio_mlock(folio);
	folio_mlock(folio);
	assert_lru(&m, 0, 0, 0, 0, 0, 2);
	assert_int_equal(stat_of(&m, 0, VM_NR_MLOCK), 2);
	assert_false(folio_test_active(folio));
	folio_mark_accessed(folio);
	folio_mark_accessed(folio);
	assert_lru(&m, 0, 0, 0, 0, 0, 2);
	// Locked while isolated: goes to the unevictable list when put back.
	folio_munlock(folio);
	assert_lru(&m, 0, 2, 0, 0, 0, 0);
	assert_true(folio_isolate_lru(folio));
	folio_mlock(folio);
	folio_putback_lru(folio);
	assert_lru(&m, 0, 0, 0, 0, 0, 2);
	fresh = alloc(&m, 0, 0, false);
	folio_add_lru_mlocked(fresh);
	assert_lru(&m, 0, 0, 0, 0, 0, 3);
	folio_put(fresh); // freed while locked
	assert_int_equal(stat_of(&m, 0, VM_NR_MLOCK), 2);
	assert_int_equal(vmstat_read(&m.stat, VM_UNEVICTABLE_PGS_CLEARED), 1);
	folio_munlock(folio);
	folio_put(folio);
	assert_int_equal(stat_of(&m, 0, VM_NR_MLOCK), 0);
	memory_check_all_free(&m);
	memory_close(&m);
}

// A folio on the list splits: |head tail tail tail| becomes four neighbours, the counts stay.
static void test_split_tails(void **state)
{
	struct folio *folio, *tails[3];
	struct folio_list list = {0};
	struct memory m;

	(void)state;
	memory_open(&m, &two_nodes);
	for (unsigned isolated = 0; isolated < 3; isolated++) {
		folio = alloc(&m, 2, 0, true);
		folio_add_lru(folio);
		if (isolated)
			assert_true(folio_isolate_lru(folio));
		assert_true(folio_ref_freeze(folio, isolated ? 2 : 1));
		folio_dissolve(folio, 0, 0);
		for (unsigned i = 0; i < 3; i++) {
			tails[i] = (struct folio *)folio_frame(folio, i + 1);
			folio_set_swapbacked(tails[i]);
		}
		folio_add_split_tails(folio, tails, 3, isolated == 2 ? &list : NULL);
		for (unsigned i = 0; i < 3; i++)
			folio_ref_unfreeze(tails[i], 1);
		folio_ref_unfreeze(folio, isolated ? 2 : 1);
		if (isolated)
			folio_putback_lru(folio);
		if (isolated == 2)
			folio_add_lru_many(&list);
		assert_lru(&m, 0, 4, 0, 0, 0, 0);
		folio_put(folio);
		for (unsigned i = 0; i < 3; i++)
			folio_put(tails[i]);
	}
	memory_check_all_free(&m);
	memory_close(&m);
}

// Threads isolate, put back, activate, lock and free the same folios.
#define RACE_FOLIOS 8

struct race {
	struct folio *folio[RACE_FOLIOS];
	unsigned rounds;
	uint64_t seed;
	_Atomic unsigned holders[RACE_FOLIOS];
};

static void race(void *arg, unsigned index)
{
	struct race *race = arg;
	uint64_t r = race->seed + index * 1000003;

	for (unsigned i = 0; i < race->rounds; i++) {
		unsigned n = random_below(&r, RACE_FOLIOS);
		struct folio *folio = race->folio[n];

		switch (random_below(&r, 6)) {
		case 0:
		case 1:
			if (!folio_isolate_lru(folio))
				break;
			must_hold(atomic_fetch_add(&race->holders[n], 1) == 0, "isolated twice");
			sched_point();
			atomic_fetch_sub(&race->holders[n], 1);
			folio_putback_lru(folio);
			break;
		case 2:
			folio_mark_accessed(folio);
			break;
		case 3:
			folio_deactivate(folio);
			break;
		case 4:
			folio_mlock(folio);
			break;
		case 5:
			folio_munlock(folio);
			break;
		}
	}
}

static void race_open(struct memory *m, struct race *race)
{
	for (unsigned i = 0; i < RACE_FOLIOS; i++) {
		race->folio[i] = alloc(m, i % 3, 0, i & 1);
		folio_add_lru(race->folio[i]);
	}
}

static void race_close(struct memory *m, struct race *race)
{
	for (unsigned i = 0; i < RACE_FOLIOS; i++) {
		assert_true(folio_test_lru(race->folio[i]));
		assert_int_equal(folio_ref_count(race->folio[i]), 1);
	}
	phys_check(&m->phys);
	for (unsigned i = 0; i < RACE_FOLIOS; i++)
		folio_put(race->folio[i]);
	assert_int_equal(stat_of(m, 0, VM_NR_MLOCK), 0);
	memory_check_all_free(m);
}

static void test_race_seeded(void **state)
{
	uint64_t seed = test_seed();
	struct memory m;

	(void)state;
	memory_open(&m, &two_nodes);
	for (unsigned i = 0; i < 60; i++) {
		struct race r = {.rounds = 20, .seed = seed + i};
		race_open(&m, &r);
		sched_run(seed + i, 3, race, &r);
		race_close(&m, &r);
	}
	memory_close(&m);
}

struct race_thread {
	struct race *race;
	unsigned index;
};

static void *race_thread(void *arg)
{
	struct race_thread *t = arg;

	race(t->race, t->index);
	return NULL;
}

static void test_race_threads(void **state)
{
	struct race r = {.rounds = 5000, .seed = test_seed()};
	struct race_thread arg[4];
	pthread_t thread[4];
	struct memory m;

	(void)state;
	memory_open(&m, &two_nodes);
	race_open(&m, &r);
	for (unsigned i = 0; i < 4; i++) {
		arg[i] = (struct race_thread){&r, i};
		assert_int_equal(pthread_create(&thread[i], NULL, race_thread, &arg[i]), 0);
	}
	for (unsigned i = 0; i < 4; i++)
		pthread_join(thread[i], NULL);
	race_close(&m, &r);
	memory_close(&m);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_add_isolate_putback),
		cmocka_unit_test(test_add_many),
		cmocka_unit_test(test_two_touches),
		cmocka_unit_test(test_order_of_the_list),
		cmocka_unit_test(test_mlock),
		cmocka_unit_test(test_split_tails),
		cmocka_unit_test(test_race_seeded),
		cmocka_unit_test(test_race_threads),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
