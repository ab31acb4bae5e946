// SPDX-License-Identifier: MIT
// Frames: the layout's fields do not disturb each other, lists, texts.
#include "phys_fixture.h"

static void test_fields_are_independent(void **state)
{
	struct pfn pfn = pfn_of(12345);
	struct frame *frame;

	(void)state;
	assert_int_equal(vmemmap_init(), 0);
	assert_int_equal(vmemmap_init(), 0);
	frames_init(pfn, 4, 63, ZONE_MOVABLE);
	frame = pfn_frame(pfn);
	struct folio *folio = (struct folio *)frame;
	assert_int_equal(frame_pfn(frame).n, 12345);
	assert_int_equal(frame_nid(frame), 63);
	assert_int_equal(frame_zone_type(frame), ZONE_MOVABLE);
	assert_int_equal(frame_last_cpupid(frame), CPUPID_NONE);
	assert_int_equal(frame_xchg_last_cpupid(frame, 0x1234), CPUPID_NONE);
	folio_set_index(folio, FRAME_INDEX_MAX);
	assert_true(folio_index(folio) == FRAME_INDEX_MAX);
	assert_int_equal(frame_xchg_last_cpupid(frame, 0), 0x1234);
	assert_true(folio_index(folio) == FRAME_INDEX_MAX);
	folio_set_index(folio, 0x12345678abull);
	assert_true(folio_index(folio) == 0x12345678abull);
	assert_int_equal(frame_nid(frame), 63);
	assert_int_equal(frame_zone_type(frame), ZONE_MOVABLE);
	assert_int_equal(frame_last_cpupid(frame), 0);
	frames_release(pfn, 4);
}

static void test_every_flag(void **state)
{
	struct frame *frame;

	(void)state;
	assert_int_equal(vmemmap_init(), 0);
	frame = pfn_frame(pfn_of(99));
	for (unsigned flag = 0; flag < FRAME_FLAG_COUNT; flag++) {
		assert_false(frame_test(frame, flag));
		assert_false(frame_test_set(frame, flag));
		assert_true(frame_test_set(frame, flag));
		assert_int_equal(frame_flags(frame), 1u << flag);
		assert_true(frame_test_clear(frame, flag));
		assert_false(frame_test_clear(frame, flag));
		frame_set(frame, flag);
		frame_clear(frame, flag);
		assert_int_equal(frame_flags(frame), 0);
	}
	frame_set_dirty(frame);
	assert_true(frame_test_dirty(frame) && !frame_test_locked(frame));
	frame_clear_dirty(frame);
}

static void test_order_shares_the_flags_word(void **state)
{
	struct frame *head;

	(void)state;
	assert_int_equal(vmemmap_init(), 0);
	head = pfn_frame(pfn_of(1024));
	frame_set_dirty(head);
	for (unsigned order = 1; order <= 10; order++) {
		struct folio *folio = (struct folio *)head;
		folio_prep_large(head, order);
		assert_int_equal(folio_order(folio), order);
		assert_int_equal(folio_nr(folio), 1 << order);
		assert_int_equal(folio_size(folio), 4096 << order);
		assert_true(folio_test_dirty(folio) && folio_large(folio));
		for (unsigned i = 0; i < 1u << order; i++)
			assert_ptr_equal(frame_folio(head + i), folio);
	}
	frames_release(pfn_of(1024), 1024);
}

static void test_texts(void **state)
{
	char buf[512], small[8];

	(void)state;
	assert_int_equal(vmemmap_init(), 0);
	frame_flags_text(1u << PG_LOCKED | 1u << PG_LRU | 1u << PG_RESERVED, buf, sizeof(buf));
	assert_string_equal(buf, "locked|lru|reserved");
	assert_int_equal(
		frame_flags_text(1u << PG_LOCKED | 1u << PG_LRU, small, sizeof(small)), 10);
	assert_string_equal(small, "locked|");
	assert_int_equal(frame_flags_text(0, NULL, 0), 0);
	assert_true(frame_dump(pfn_frame(pfn_of(7)), buf, sizeof(buf)) > 0);
	assert_non_null(strstr(buf, "pfn 0x7"));
	gfp_text(GFP_MOVABLE | GFP_ZERO, buf, sizeof(buf));
	assert_string_equal(buf, "MOVABLE|ZERO");
}

// Random list operations against an array.
static void test_list_random(void **state)
{
	uint64_t r = test_seed();
	struct frame_list list = {0}, other = {0};
	uint32_t model[64];
	unsigned n = 0;

	(void)state;
	assert_int_equal(vmemmap_init(), 0);
	for (unsigned step = 0; step < 20000; step++) {
		uint32_t link = 1 + random_below(&r, 64);
		struct frame *frame = link_frame(link);
		unsigned at = 0;
		while (at < n && model[at] != link)
			at++;
		if (at < n) { // on the list
			frame_list_del(&list, frame);
			memmove(model + at, model + at + 1, (n - at - 1) * sizeof(*model));
			n--;
		} else if (random_below(&r, 3) == 0) {
			frame_list_add(&list, frame);
			memmove(model + 1, model, n++ * sizeof(*model));
			model[0] = link;
		} else if (n && random_below(&r, 2)) {
			unsigned after = random_below(&r, n);
			frame_list_insert_after(&list, link_frame(model[after]), frame);
			memmove(model + after + 2, model + after + 1,
				(n - after - 1) * sizeof(*model));
			model[after + 1] = link;
			n++;
		} else {
			frame_list_add_tail(&list, frame);
			model[n++] = link;
		}
		unsigned i = 0;
		for (struct frame *f = frame_list_first(&list); f; f = frame_list_next(f))
			assert_int_equal(frame_link(f), model[i++]);
		assert_int_equal(i, n);
		i = n;
		for (struct frame *f = frame_list_last(&list); f; f = frame_list_prev(f))
			assert_int_equal(frame_link(f), model[--i]);
		assert_int_equal(i, 0);
	}
	frame_list_splice_tail(&other, &list);
	assert_true(frame_list_empty(&list));
	for (unsigned i = 0; i < n; i++)
		assert_int_equal(frame_link(frame_list_pop(&other)), model[i]);
	assert_null(frame_list_pop(&other));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_fields_are_independent),
		cmocka_unit_test(test_every_flag),
		cmocka_unit_test(test_order_shares_the_flags_word),
		cmocka_unit_test(test_texts),
		cmocka_unit_test(test_list_random),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
