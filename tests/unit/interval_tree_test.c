// SPDX-License-Identifier: MIT
// The interval tree: random operations against a plain array, which is searched from end to end.
#include "unit.h"

#include "base/interval_tree.h"

#include <errno.h>

#define NODES 200

struct item {
	struct interval_node node;
	uint64_t order; // of insertion
	bool in;
};

static struct interval_tree tree;
static struct item items[NODES];
static uint64_t inserted;

static struct item *item_of(const struct interval_node *n)
{
	return n ? container_of(n, struct item, node) : NULL;
}

static bool precedes(const struct item *a, const struct item *b)
{
	return a->node.start != b->node.start ? a->node.start < b->node.start : a->order < b->order;
}

// The first item after `after` (NULL: of all) that overlaps.
static struct item *model_next(const struct item *after, uint64_t start, uint64_t last)
{
	struct item *best = NULL;

	for (int i = 0; i < NODES; i++) {
		struct item *it = &items[i];

		if (it->in && it->node.start <= last && it->node.last >= start &&
			(!after || precedes(after, it)) && (!best || precedes(it, best)))
			best = it;
	}
	return best;
}

static struct item *model_before(uint64_t point)
{
	struct item *best = NULL;

	for (int i = 0; i < NODES; i++)
		if (items[i].in && items[i].node.start < point &&
			(!best || precedes(best, &items[i])))
			best = &items[i];
	return best;
}

static void compare(uint64_t start, uint64_t last)
{
	struct item *expected = model_next(NULL, start, last);
	struct interval_node *n;

	interval_tree_for_each_overlap(n, &tree, start, last) {
		assert_ptr_equal(item_of(n), expected);
		expected = model_next(expected, start, last);
	}
	assert_null(expected);
	assert_ptr_equal(item_of(interval_tree_before(&tree, start)), model_before(start));
}

static void compare_walks(void)
{
	struct item *expected = model_next(NULL, 0, UINT64_MAX);
	struct interval_node *n, *prev = NULL;

	interval_tree_for_each(n, &tree) {
		assert_ptr_equal(item_of(n), expected);
		assert_ptr_equal(interval_tree_prev(n), prev);
		expected = model_next(expected, 0, UINT64_MAX);
		prev = n;
	}
	assert_null(expected);
	assert_ptr_equal(interval_tree_last(&tree), prev);
}

static void random_interval(uint64_t r, uint64_t *start, uint64_t *last)
{
	*start = r % 500;
	*last = *start + (r >> 20) % ((r >> 40) % 8 == 0 ? 300 : 12);
}

static void mutate(uint64_t r, unsigned bias)
{
	struct item *it = &items[(r >> 8) % NODES];
	uint64_t start, last;

	random_interval(r >> 16, &start, &last);
	if (it->in && (r & 7) == 0) {
		if (start != it->node.start)
			it->order = inserted++;
		interval_tree_resize(&tree, &it->node, start, last);
	} else if (it->in && (r & 7) > bias) {
		interval_tree_remove(&tree, &it->node);
		it->in = false;
	} else if (!it->in && (r & 7) <= bias) {
		it->node.start = start;
		it->node.last = last;
		it->order = inserted++;
		it->in = true;
		interval_tree_insert(&tree, &it->node);
	}
}

static void test_against_model(void **state maybe_unused)
{
	uint64_t random = test_seed(), start, last;

	interval_tree_init(&tree);
	for (int step = 0; step < 20000; step++) {
		// It fills up for a while, then it empties.
		mutate(test_random(&random), step / 1000 % 2 ? 1 : 6);
		assert_int_equal(interval_tree_check(&tree), 0);
		random_interval(test_random(&random), &start, &last);
		compare(start, last);
		if (step % 50 == 0)
			compare_walks();
	}
	for (int i = 0; i < NODES; i++)
		if (items[i].in)
			interval_tree_remove(&tree, &items[i].node);
	assert_true(interval_tree_empty(&tree));
	assert_int_equal(tree.count, 0);
}

static void test_ends(void **state maybe_unused)
{
	struct interval_node all = {.start = 0, .last = UINT64_MAX}, top = {.start = UINT64_MAX,
									     .last = UINT64_MAX};

	interval_tree_init(&tree);
	assert_null(interval_tree_overlap_first(&tree, 0, UINT64_MAX));
	assert_null(interval_tree_first(&tree));
	assert_null(interval_tree_last(&tree));
	interval_tree_insert(&tree, &all);
	interval_tree_insert(&tree, &top);
	assert_ptr_equal(interval_tree_overlap_first(&tree, 5, 5), &all);
	assert_null(interval_tree_overlap_next(&all, 5, 5));
	assert_ptr_equal(interval_tree_overlap_next(&all, UINT64_MAX, UINT64_MAX), &top);
	assert_null(interval_tree_before(&tree, 0));
}

// The checker must see each kind of damage.
static void test_check_sees_damage(void **state maybe_unused)
{
	struct interval_node n[7];

	interval_tree_init(&tree);
	for (uint64_t i = 0; i < 7; i++) {
		n[i].start = 10 * i;
		n[i].last = 10 * i + 5;
		interval_tree_insert(&tree, &n[i]);
	}
	assert_int_equal(interval_tree_check(&tree), 0);
	n[3].last = 1000;
	assert_int_equal(interval_tree_check(&tree), -EINVAL);
	n[3].last = 35;
	tree.count++;
	assert_int_equal(interval_tree_check(&tree), -EINVAL);
	tree.count--;
	n[6].parent_color ^= 1;
	assert_int_equal(interval_tree_check(&tree), -EINVAL);
	n[6].parent_color ^= 1;
	n[0].start = 15;
	n[0].last = 15;
	assert_int_equal(interval_tree_check(&tree), -EINVAL);
	n[0].start = 0;
	n[0].last = 5;
	assert_int_equal(interval_tree_check(&tree), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_against_model),
		cmocka_unit_test(test_ends),
		cmocka_unit_test(test_check_sees_damage),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
