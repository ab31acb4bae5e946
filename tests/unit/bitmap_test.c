// SPDX-License-Identifier: MIT
// Bitmaps: random operations against an array of bools.
#include "unit.h"

#include "base/bitmap.h"

#define NBITS 203

static bool model[NBITS];
static DECLARE_BITMAP(map, NBITS);

static size_t model_find(size_t from, bool value)
{
	while (from < NBITS && model[from] != value)
		from++;
	return from < NBITS ? from : NBITS;
}

static size_t model_area(size_t from, size_t n, size_t align, size_t offset)
{
	for (size_t start = from; start + n <= NBITS; start++) {
		size_t run = 0;

		if ((start + offset) % align)
			continue;
		while (run < n && !model[start + run])
			run++;
		if (run == n)
			return start;
	}
	return NBITS;
}

static void compare(size_t from, size_t n, size_t align, size_t offset)
{
	size_t weight = 0, inside = 0;

	for (size_t i = 0; i < NBITS; i++) {
		assert_int_equal(bitmap_test(map, i), model[i]);
		weight += model[i];
		inside += i >= from && i < from + n && model[i];
	}
	assert_int_equal(bitmap_weight(map, NBITS), weight);
	assert_int_equal(bitmap_empty(map, NBITS), weight == 0);
	assert_int_equal(bitmap_find_next(map, NBITS, from), model_find(from, true));
	assert_int_equal(bitmap_find_next_zero(map, NBITS, from), model_find(from, false));
	assert_int_equal(bitmap_weight_range(map, from, min(n, NBITS - from)), inside);
	assert_int_equal(bitmap_find_zero_area(map, NBITS, from, n, align, offset),
		model_area(from, n, align, offset));
}

static void test_against_model(void **state maybe_unused)
{
	uint64_t random = test_seed();

	bitmap_zero(map, NBITS);
	memset(model, 0, sizeof(model));
	for (int step = 0; step < 20000; step++) {
		uint64_t r = test_random(&random);
		size_t start = r % NBITS, n = (r >> 16) % min((size_t)70, NBITS - start + 1);
		bool value = r >> 60 & 1;

		if (r >> 61 & 1) {
			bool old = value ? bitmap_test_and_set(map, start)
					 : bitmap_test_and_clear(map, start);
			assert_int_equal(old, model[start]);
			model[start] = value;
		} else {
			if (value)
				bitmap_set_range(map, start, n);
			else
				bitmap_clear_range(map, start, n);
			memset(model + start, value, n);
		}
		compare((r >> 24) % NBITS, 1 + (r >> 32) % 40, 1UL << ((r >> 40) % 5),
			(r >> 48) % 16);
	}
}

static void test_for_each(void **state maybe_unused)
{
	size_t expected[] = {0, 63, 64, 200}, n = 0, bit;

	bitmap_zero(map, NBITS);
	for (size_t i = 0; i < ARRAY_SIZE(expected); i++)
		bitmap_set(map, expected[i]);
	bitmap_for_each(bit, map, NBITS)
		assert_int_equal(bit, expected[n++]);
	assert_int_equal(n, ARRAY_SIZE(expected));
	bitmap_clear(map, 63);
	assert_int_equal(bitmap_find_next(map, NBITS, 1), 64);
	assert_int_equal(bitmap_find_next(map, 64, 1), 64);
	assert_int_equal(bitmap_find_next(map, NBITS, NBITS + 5), NBITS);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_against_model),
		cmocka_unit_test(test_for_each),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
