// SPDX-License-Identifier: MIT
// Sets of nodes: text in both directions, walking, and the remapping of memory policies.
#include "unit.h"

#include "base/nodemask.h"

#include <errno.h>

static struct nodemask mask(const char *text)
{
	struct nodemask m;

	assert_int_equal(nodemask_parse(text, &m), 0);
	return m;
}

static void test_parse(void **state maybe_unused)
{
	static const struct {
		const char *text;
		int err;
		uint64_t bits;
	} rows[] = {
		{"", 0, 0},
		{"0", 0, 1},
		{"63", 0, 1ULL << 63},
		{"0-3,5", 0, 0x2f},
		{"5,0-3", 0, 0x2f},
		{"0-63", 0, ~0ULL},
		{"all", 0, ~0ULL},
		{"1,1-1,01", 0, 2},
		{" 1, 2\n", 0, 6},
		{",,1,", 0, 2},
		{"64", -ERANGE, 0},
		{"0-64", -ERANGE, 0},
		{"99999999999999999999", -ERANGE, 0},
		{"3-1", -EINVAL, 0},
		{"1-", -EINVAL, 0},
		{"-1", -EINVAL, 0},
		{"1x", -EINVAL, 0},
		{"x", -EINVAL, 0},
		{"1-2-3", -EINVAL, 0},
		{"allx", -EINVAL, 0},
	};

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct nodemask m = {0x5555};
		int err = nodemask_parse(rows[i].text, &m);

		if (err != rows[i].err || m.bits != (err ? 0x5555 : rows[i].bits))
			fail_msg("\"%s\": %d %#lx", rows[i].text, err, m.bits);
	}
}

static void test_format(void **state maybe_unused)
{
	static const struct {
		uint64_t bits;
		const char *text;
	} rows[] = {
		{0, ""},
		{1, "0"},
		{0x2f, "0-3,5"},
		{3, "0-1"},
		{~0ULL, "0-63"},
		{1ULL << 63, "63"},
		{0x8000000000000001, "0,63"},
	};
	char buf[NODEMASK_TEXT_MAX];

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct nodemask m = {rows[i].bits};

		assert_int_equal(nodemask_format(m, buf, sizeof(buf)), strlen(rows[i].text));
		assert_string_equal(buf, rows[i].text);
		assert_true(nodemask_equal(mask(buf), m));
	}
	// The longest text: every other node. Cut off, it still tells its length.
	assert_int_equal(nodemask_format((struct nodemask){0x5555555555555555}, buf, 4),
		5 * 2 + 27 * 3 - 1);
	assert_string_equal(buf, "0,2");
	assert_int_equal(nodemask_format(mask("1-3"), NULL, 0), 3);
	assert_true(nodemask_format((struct nodemask){0xdb6db6db6db6db6d}, buf, sizeof(buf)) <
		    NODEMASK_TEXT_MAX);
}

static void test_walk(void **state maybe_unused)
{
	struct nodemask m = mask("1,4-5,63");
	int expected[] = {1, 4, 5, 63}, node;
	size_t n = 0;

	for_each_node_in(node, m)
		assert_int_equal(node, expected[n++]);
	assert_int_equal(n, 4);
	assert_int_equal(nodemask_weight(m), 4);
	for (unsigned i = 0; i < 4; i++) {
		assert_int_equal(nodemask_nth(m, i), expected[i]);
		assert_int_equal(nodemask_rank(m, (unsigned)expected[i]), i);
	}
	assert_int_equal(nodemask_nth(m, 4), NO_NODE);
	assert_int_equal(nodemask_first(NODEMASK_NONE), NO_NODE);
	assert_int_equal(nodemask_last(NODEMASK_NONE), NO_NODE);
	assert_int_equal(nodemask_last(m), 63);
	assert_int_equal(nodemask_next(m, NO_NODE), 1);
	assert_int_equal(nodemask_next(m, 63), NO_NODE);
	assert_int_equal(nodemask_next_in(m, 63), 1);
	assert_int_equal(nodemask_next_in(m, 1), 4);
}

static void test_sets(void **state maybe_unused)
{
	struct nodemask m = mask("0-3"), n = mask("2-5");

	assert_true(nodemask_equal(nodemask_and(m, n), mask("2-3")));
	assert_true(nodemask_equal(nodemask_or(m, n), mask("0-5")));
	assert_true(nodemask_equal(nodemask_andnot(m, n), mask("0-1")));
	assert_true(nodemask_subset(mask("1,3"), m));
	assert_false(nodemask_subset(n, m));
	assert_true(nodemask_subset(NODEMASK_NONE, NODEMASK_NONE));
	assert_true(nodemask_intersects(m, n));
	assert_false(nodemask_intersects(m, mask("4-63")));
	nodemask_set(&m, 63);
	nodemask_clear(&m, 0);
	assert_true(nodemask_equal(m, mask("1-3,63")));
	assert_false(nodemask_test(m, 64));
	assert_true(nodemask_equal(nodemask_below(64), NODEMASK_ALL));
	assert_true(nodemask_empty(nodemask_below(0)));
}

static void test_remap(void **state maybe_unused)
{
	// relative 0,2 of the allowed 4-7 is 4,6; 5 wraps round to 1, that is 5.
	assert_true(nodemask_equal(nodemask_onto(mask("0,2"), mask("4-7")), mask("4,6")));
	assert_true(nodemask_equal(nodemask_onto(mask("5"), mask("4-7")), mask("5")));
	assert_true(nodemask_empty(nodemask_onto(mask("5"), NODEMASK_NONE)));
	// the nth of the old set becomes the nth of the new one
	assert_true(nodemask_equal(nodemask_remap(mask("1,3"), mask("0-3"), mask("4-7")),
		mask("5,7")));
	assert_true(nodemask_equal(nodemask_remap(mask("0-3"), mask("0-3"), mask("4-5")),
		mask("4-5")));
	assert_true(nodemask_equal(nodemask_remap(mask("9"), mask("0-3"), mask("4-5")), mask("9")));
	assert_true(nodemask_equal(nodemask_remap(mask("1"), mask("0-3"), NODEMASK_NONE),
		mask("1")));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_parse),
		cmocka_unit_test(test_format),
		cmocka_unit_test(test_walk),
		cmocka_unit_test(test_sets),
		cmocka_unit_test(test_remap),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
