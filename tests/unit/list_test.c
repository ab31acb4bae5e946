// SPDX-License-Identifier: MIT
// The linked list: each operation against a written-out order of letters.
#include "unit.h"

#include "base/list.h"

struct item {
	char name;
	struct list_head entry;
};

static struct item a = {.name = 'a'}, b = {.name = 'b'}, c = {.name = 'c'}, d = {.name = 'd'};

// Both directions must agree with the letters.
static void expect(struct list_head *head, const char *names)
{
	struct item *i;
	size_t n = 0, len = strlen(names);

	list_for_each_entry(i, head, entry) {
		assert_true(n < len);
		assert_int_equal(i->name, names[n++]);
	}
	assert_int_equal(n, len);
	list_for_each_entry_reverse(i, head, entry)
		assert_int_equal(i->name, names[--n]);
	assert_int_equal(n, 0);
	assert_int_equal(list_count(head), len);
	assert_int_equal(list_empty(head), len == 0);
	assert_int_equal(list_is_singular(head), len == 1);
}

static void fill(struct list_head *head, const char *names)
{
	struct item *all[] = {&a, &b, &c, &d};

	list_init(head);
	for (; *names; names++)
		list_add_tail(&all[*names - 'a']->entry, head);
}

static void test_add(void **state maybe_unused)
{
	LIST_HEAD(head);

	expect(&head, "");
	assert_null(list_first_entry_or_null(&head, struct item, entry));
	list_add(&b.entry, &head);
	expect(&head, "b");
	list_add(&a.entry, &head);
	list_add_tail(&c.entry, &head);
	expect(&head, "abc");
	assert_ptr_equal(list_first_entry(&head, struct item, entry), &a);
	assert_ptr_equal(list_last_entry(&head, struct item, entry), &c);
	assert_ptr_equal(list_next_entry(&a, entry), &b);
	assert_ptr_equal(list_prev_entry(&c, entry), &b);
	assert_true(list_is_first(&a.entry, &head) && list_is_last(&c.entry, &head));
}

static void test_remove_and_move(void **state maybe_unused)
{
	LIST_HEAD(head);
	LIST_HEAD(other);

	fill(&head, "abcd");
	list_del(&b.entry);
	expect(&head, "acd");
	list_del_init(&a.entry);
	assert_true(list_empty(&a.entry));
	expect(&head, "cd");
	list_move(&d.entry, &head);
	expect(&head, "dc");
	list_move_tail(&d.entry, &other);
	expect(&head, "c");
	expect(&other, "d");
	list_replace(&c.entry, &b.entry);
	expect(&head, "b");
}

static void test_splice(void **state maybe_unused)
{
	LIST_HEAD(head);
	LIST_HEAD(other);

	fill(&head, "ab");
	fill(&other, "cd");
	list_splice_init(&other, &head);
	expect(&head, "cdab");
	expect(&other, "");
	fill(&head, "ab");
	fill(&other, "cd");
	list_splice_tail_init(&other, &head);
	expect(&head, "abcd");
	list_splice_init(&other, &head);
	expect(&head, "abcd");
	list_splice_tail(&head, &other);
	expect(&other, "abcd");
}

static void test_cut(void **state maybe_unused)
{
	LIST_HEAD(head);
	LIST_HEAD(front);

	fill(&head, "abcd");
	list_cut_position(&front, &head, &b.entry);
	expect(&front, "ab");
	expect(&head, "cd");
	list_cut_position(&front, &head, &d.entry);
	expect(&front, "cd");
	expect(&head, "");
	list_cut_position(&front, &head, &head);
	expect(&front, "");
}

static void test_remove_while_walking(void **state maybe_unused)
{
	LIST_HEAD(head);
	struct item *i, *next;

	fill(&head, "abcd");
	list_for_each_entry_safe(i, next, &head, entry)
		if (i != &c)
			list_del(&i->entry);
	expect(&head, "c");
}

#ifdef GODWIT_DEBUG
static void remove_twice(void *arg maybe_unused)
{
	LIST_HEAD(head);

	fill(&head, "ab");
	list_del(&a.entry);
	list_del(&a.entry);
}
#endif

static void test_second_removal_is_a_bug(void **state maybe_unused)
{
#ifdef GODWIT_DEBUG
	assert_aborts(remove_twice, NULL, "not on a list");
#else
	skip();
#endif
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_add),
		cmocka_unit_test(test_remove_and_move),
		cmocka_unit_test(test_splice),
		cmocka_unit_test(test_cut),
		cmocka_unit_test(test_remove_while_walking),
		cmocka_unit_test(test_second_removal_is_a_bug),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
