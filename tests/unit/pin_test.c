// SPDX-License-Identifier: MIT
// A page has room for so many pins: one more is refused, and the count does not go round.
#include "../support/machine_fixture.h"

#include "virt/pin.h"

#include <errno.h>

#define MILLION (1u << 20)

static struct fx fx;
static struct task *a;

static int setup(void **state maybe_unused)
{
	fx_open(&fx, 1, 8);
	a = fx_task(&fx, 0);
	return 0;
}

static int teardown(void **state maybe_unused)
{
	task_exit(a);
	fx_check(&fx);
	fx_close(&fx);
	return 0;
}

static void one_pin_too_many(void **state maybe_unused)
{
	uint64_t buf = fx_map(a, 2);
	struct folio *folio;
	struct pin *pin;
	unsigned before;

	fx_fill(&fx, a, buf, 2, 1);
	folio = fx_folio(a, buf + PAGE_SIZE);
	before = folio_ref_count(folio);
	assert_true(folio_try_pin(folio, MILLION));
	fx_ok(pin_pages(a->space, a, buf, 2 * PAGE_SIZE, "last", &pin));
	unpin_pages(pin);
	assert_true(folio_try_pin(folio, MILLION - 1));
	assert_int_equal(pin_pages(a->space, a, buf, 2 * PAGE_SIZE, "refused", &pin), -ENOMEM);
	assert_false(folio_maybe_pinned(fx_folio(a, buf)));
	folio_unpin(folio, MILLION - 1);
	fx_ok(pin_pages(a->space, a, buf, 2 * PAGE_SIZE, "last", &pin));
	unpin_pages(pin);
	folio_unpin(folio, MILLION);
	assert_int_equal(folio_ref_count(folio), before);
	fx_verify(&fx, a, buf, 2, 1);
}

static void of_a_large_folio(void **state maybe_unused)
{
	struct folio *folio = folio_alloc(&fx.phys, GFP_HIGHUSER_MOVABLE | GFP_COMP, 2, 0, NULL, 0);

	assert_non_null(folio);
	assert_true(folio_try_pin(folio, MILLION << 10));
	assert_true(folio_try_pin(folio, (MILLION << 10) - 2));
	assert_false(folio_try_pin(folio, 1));
	assert_true(folio_maybe_pinned(folio));
	folio_unpin(folio, MILLION << 10);
	folio_unpin(folio, (MILLION << 10) - 2);
	assert_int_equal(folio_ref_count(folio), 1);
	folio_put(folio);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(one_pin_too_many, setup, teardown),
		cmocka_unit_test_setup_teardown(of_a_large_folio, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
