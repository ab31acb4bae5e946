// SPDX-License-Identifier: MIT
// How many pages fit a pause budget, on an imagined host whose batches cost FIXED_NS and PAGE_NS a
// page: most pauses stay within the budget and use it well, whatever was learned before.
#include "unit.h"

#include "migrate/pause.h"

#define FIXED_NS 12000u
#define PAGE_NS 600u
#define MOST 512u

static uint64_t cost(unsigned pages, uint64_t *random)
{
	uint64_t ns = FIXED_NS + pages * PAGE_NS;

	return ns + test_random(random) % (ns / 5);
}

// Runs n batches; how many were over the budget. The last size in ret_pages.
static unsigned batches(struct pause_book *book, uint64_t budget_us, unsigned n,
	unsigned *ret_pages)
{
	uint64_t random = 1;
	unsigned over = 0;

	for (unsigned i = 0; i < n; i++) {
		*ret_pages = pause_fits(book, budget_us, MOST);
		uint64_t ns = cost(*ret_pages, &random);
		over += ns > budget_us * 1000;
		pause_learn(book, *ret_pages, ns);
	}
	return over;
}

static void uses_the_budget(void **state)
{
	(void)state;
	for (uint64_t budget_us = 50; budget_us <= 200; budget_us += 50) {
		struct pause_book book = {0};
		unsigned pages, ideal = (unsigned)(budget_us * 1000 - FIXED_NS) / PAGE_NS;

		(void)batches(&book, budget_us, 50, &pages);
		assert_in_range(batches(&book, budget_us, 1000, &pages), 0, 50);
		assert_in_range(pages, ideal / 3, ideal);
	}
}

static void at_least_one_at_most_all(void **state)
{
	struct pause_book book = {0};

	(void)state;
	assert_int_equal(pause_fits(&book, 1, MOST), 1);
	assert_int_equal(pause_fits(&book, UINT64_MAX, MOST), MOST);
	assert_int_equal(pause_fits(&book, 1000 * 1000, MOST), MOST);
	assert_int_equal(pause_fits(&book, 1000 * 1000, 7), 7);
	pause_learn(&book, 1, UINT64_MAX);
	assert_int_equal(pause_fits(&book, 1, MOST), 1);
}

// Batches without a budget are cheap a page: that says nothing of small ones.
static void large_batches_do_not_mislead(void **state)
{
	struct pause_book book = {0};
	uint64_t random = 1;
	unsigned pages;

	(void)state;
	for (unsigned i = 0; i < 100; i++)
		pause_learn(&book, 512, cost(512, &random));
	assert_in_range(pause_fits(&book, 50, MOST), 1, 63);
	assert_in_range(batches(&book, 50, 100, &pages), 0, 5);
}

// Four batches in a row are preempted for 10 ms each: after 60 more they are as large again.
static void forgets_an_interruption(void **state)
{
	unsigned before, after;
	struct pause_book book = {0};

	(void)state;
	(void)batches(&book, 100, 500, &before);
	for (unsigned i = 0; i < 4; i++)
		pause_learn(&book, pause_fits(&book, 100, MOST), 10 * 1000 * 1000);
	(void)batches(&book, 100, 60, &after);
	assert_in_range(after, before / 2, MOST);
}

// The host has become ten times slower: that is believed after a few batches.
static void believes_what_lasts(void **state)
{
	struct pause_book book = {0};
	unsigned pages, over = 0;

	(void)state;
	(void)batches(&book, 500, 500, &pages);
	for (unsigned i = 0; i < 200; i++) {
		pages = pause_fits(&book, 500, MOST);
		uint64_t ns = 10ull * (FIXED_NS + pages * PAGE_NS);
		over += ns > 500 * 1000;
		pause_learn(&book, pages, ns);
	}
	assert_in_range(over, 1, 40);
	assert_in_range(pages, 1, 63);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(uses_the_budget),
		cmocka_unit_test(at_least_one_at_most_all),
		cmocka_unit_test(large_batches_do_not_mislead),
		cmocka_unit_test(forgets_an_interruption),
		cmocka_unit_test(believes_what_lasts),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
