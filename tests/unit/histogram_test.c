// SPDX-License-Identifier: MIT
// Histograms: counts are exact, percentiles right within a factor of two.
#include "unit.h"

#include "base/histogram.h"

#include <pthread.h>

static struct histogram h;

static int by_value(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

static void test_empty_and_ends(void **state maybe_unused)
{
	histogram_reset(&h);
	assert_int_equal(histogram_percentile(&h, 500), 0);
	histogram_add(&h, 0);
	histogram_add(&h, UINT64_MAX);
	assert_int_equal(histogram_count(&h), 2);
	assert_int_equal(histogram_percentile(&h, 500), 0);
	assert_true(histogram_percentile(&h, 1000) == UINT64_MAX);
	assert_true(histogram_max(&h) == UINT64_MAX);
	assert_int_equal(h.bucket[0], 1);
	assert_int_equal(h.bucket[64], 1);
	assert_true(histogram_bucket_floor(64) == 1ULL << 63);
}

static void test_percentiles(void **state maybe_unused)
{
	static uint64_t values[5000];
	uint64_t random = test_seed(), sum = 0;
	unsigned marks[] = {1, 10, 250, 500, 900, 990, 999};

	histogram_reset(&h);
	for (size_t i = 0; i < ARRAY_SIZE(values); i++) {
		values[i] = test_random(&random) >> (20 + test_random(&random) % 30);
		sum += values[i];
		histogram_add(&h, values[i]);
	}
	qsort(values, ARRAY_SIZE(values), sizeof(*values), by_value);
	for (size_t i = 0; i < ARRAY_SIZE(marks); i++) {
		uint64_t exact = values[ARRAY_SIZE(values) * marks[i] / 1000 - 1];
		uint64_t got = histogram_percentile(&h, marks[i]);

		if (got > 2 * exact || exact > 2 * got)
			fail_msg("%u per mille: %lu for %lu", marks[i], got, exact);
	}
	assert_int_equal(histogram_sum(&h), sum);
	assert_int_equal(histogram_percentile(&h, 1000), values[ARRAY_SIZE(values) - 1]);
}

static void *add_many(void *arg maybe_unused)
{
	for (uint64_t i = 0; i < 10000; i++)
		histogram_add(&h, i);
	return NULL;
}

static void test_threads_and_merge(void **state maybe_unused)
{
	struct histogram total;
	pthread_t threads[3];

	histogram_reset(&h);
	histogram_reset(&total);
	for (int i = 0; i < 3; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, add_many, NULL), 0);
	for (int i = 0; i < 3; i++)
		pthread_join(threads[i], NULL);
	histogram_merge(&total, &h);
	histogram_merge(&total, &h);
	assert_int_equal(histogram_count(&h), 30000);
	assert_int_equal(histogram_count(&total), 60000);
	assert_int_equal(histogram_sum(&total), 6 * 49995000UL);
	assert_int_equal(histogram_max(&total), 9999);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_empty_and_ends),
		cmocka_unit_test(test_percentiles),
		cmocka_unit_test(test_threads_and_merge),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
