// SPDX-License-Identifier: MIT
// The buddy of one zone: splitting, merging, falling back, and random use against a slow model.
#include "phys_fixture.h"

#include "base/mark.h"

static struct frame *take(struct zone *zone, unsigned order, enum migratetype type, unsigned flags)
{
	struct frame *head;

	mutex_lock(&zone->lock);
	head = buddy_alloc(zone, order, type, flags);
	if (head) // stand in for a used page
		folio_ref_unfreeze((struct folio *)head, 1);
	mutex_unlock(&zone->lock);
	if (head)
		folio_prep_large(head, order);
	return head;
}

static void give(struct zone *zone, struct frame *head, unsigned order)
{
	for (unsigned i = 0; i < 1u << order; i++) {
		atomic_store(&head[i].flags, 0);
		atomic_store(&head[i].refcount, 0);
	}
	mutex_lock(&zone->lock);
	buddy_free(zone, head, order);
	mutex_unlock(&zone->lock);
}

static const struct memory_spec one_node = {.nodes = 1, .mib = {32}, .min_free_kbytes = 128};

static void test_starts_as_largest_blocks(void **state)
{
	unsigned long nr[NR_PAGE_ORDERS][MIGRATE_TYPES];
	struct memory m;

	(void)state;
	// 9 MiB + 4 KiB cannot be: MiB only, so 2 blocks of 4 MiB and one of 1 MiB.
	memory_open(&m, &(struct memory_spec){.nodes = 2, .mib = {32, 9}});
	zone_free_blocks(memory_zone(&m, 0), nr);
	assert_int_equal(nr[MAX_PAGE_ORDER][MIGRATE_MOVABLE], 8);
	zone_free_blocks(memory_zone(&m, 1), nr);
	assert_int_equal(nr[10][MIGRATE_MOVABLE], 2);
	assert_int_equal(nr[8][MIGRATE_MOVABLE], 1);
	memory_close(&m);
}

// One page splits a block of 1024 into 512, 256 ... 1, and its return merges them all again.
static void test_split_and_merge(void **state)
{
	unsigned long nr[NR_PAGE_ORDERS][MIGRATE_TYPES];
	struct memory m;
	struct zone *zone;
	struct frame *head;

	(void)state;
	memory_open(&m, &one_node);
	zone = memory_zone(&m, 0);
	head = take(zone, 0, MIGRATE_MOVABLE, 0);
	assert_int_equal(frame_pfn(head).n, zone->start_pfn);
	zone_free_blocks(zone, nr);
	for (unsigned order = 0; order < MAX_PAGE_ORDER; order++)
		assert_int_equal(nr[order][MIGRATE_MOVABLE], 1);
	assert_int_equal(nr[MAX_PAGE_ORDER][MIGRATE_MOVABLE], 7);
	phys_check(&m.phys);
	// The next pages follow in order of address.
	struct frame *second = take(zone, 0, MIGRATE_MOVABLE, 0);
	struct frame *pair = take(zone, 1, MIGRATE_MOVABLE, 0);
	assert_ptr_equal(second, head + 1);
	assert_ptr_equal(pair, head + 2);
	give(zone, head, 0);
	give(zone, pair, 1);
	phys_check(&m.phys);
	give(zone, second, 0);
	memory_check_all_free(&m);
	memory_close(&m);
}

static void test_find(void **state)
{
	struct memory m;
	struct zone *zone;
	struct frame *used, *head;
	unsigned order = 99;

	(void)state;
	memory_open(&m, &one_node);
	zone = memory_zone(&m, 0);
	used = take(zone, 3, MIGRATE_MOVABLE, 0);
	mutex_lock(&zone->lock);
	assert_null(buddy_find(zone, used, &order));
	assert_null(buddy_find(zone, used + 7, &order));
	head = buddy_find(zone, used + 8 + 5, &order);
	assert_ptr_equal(head, used + 8);
	assert_int_equal(order, 3);
	head = buddy_find(zone, used + 1023, &order);
	assert_ptr_equal(head, used + 512);
	assert_int_equal(order, 9);
	mutex_unlock(&zone->lock);
	give(zone, used, 3);
	memory_close(&m);
}

// An unmovable request claims a whole pageblock while there is one; movable requests then avoid it.
static void test_claim_whole_block(void **state)
{
	unsigned long blocks[MIGRATE_TYPES];
	struct memory m;
	struct zone *zone;
	struct frame *a, *b;

	(void)state;
	memory_open(&m, &one_node);
	zone = memory_zone(&m, 0);
	a = take(zone, 0, MIGRATE_UNMOVABLE, 0);
	phys_check(&m.phys);
	assert_int_equal(pageblock_type(zone, frame_pfn(a).n), MIGRATE_UNMOVABLE);
	zone_pageblock_counts(zone, blocks);
	assert_int_equal(blocks[MIGRATE_UNMOVABLE], 2); // the largest block is two pageblocks
	assert_int_equal(blocks[MIGRATE_MOVABLE], 14);
	b = take(zone, 0, MIGRATE_MOVABLE, 0);
	assert_int_equal(pageblock_type(zone, frame_pfn(b).n), MIGRATE_MOVABLE);
	give(zone, a, 0);
	give(zone, b, 0);
	memory_check_all_free(&m);
	memory_close(&m);
}

// All pageblocks partly in use by movable pages. A block of order 8 is half a pageblock: an
// unmovable request claims it (half free); a quarter free is only stolen from.
static void test_claim_half_and_steal(void **state)
{
	struct memory m;
	struct zone *zone;
	struct frame *big[65], *a;
	unsigned n = 0;

	(void)state;
	memory_open(&m, &one_node);
	zone = memory_zone(&m, 0);
	while ((big[n] = take(zone, 7, MIGRATE_MOVABLE, 0))) {
		folio_set_lru((struct folio *)big[n]); // looks movable
		n++;
	}
	assert_int_equal(n, 64);
	// Pageblock 0: |used|used|free|free|, pageblock 1: |used|used|used|free|
	for (unsigned i = 2; i < 4; i++)
		give(zone, big[i], 7);
	give(zone, big[7], 7);
	a = take(zone, 0, MIGRATE_UNMOVABLE, 0);
	assert_int_equal(frame_pfn(a).n, frame_pfn(big[2]).n);
	assert_int_equal(pageblock_type(zone, frame_pfn(a).n), MIGRATE_UNMOVABLE);
	give(zone, a, 0);
	for (unsigned i = 2; i < 4; i++)
		assert_ptr_equal(take(zone, 7, MIGRATE_UNMOVABLE, 0), big[i]);
	// Only the quarter is left: stolen, the pageblock stays movable.
	a = take(zone, 0, MIGRATE_UNMOVABLE, 0);
	assert_int_equal(frame_pfn(a).n, frame_pfn(big[7]).n);
	assert_int_equal(pageblock_type(zone, frame_pfn(a).n), MIGRATE_MOVABLE);
	give(zone, a, 0);
	// Not with NOFRAGMENT.
	assert_null(take(zone, 0, MIGRATE_UNMOVABLE, ALLOC_NOFRAGMENT));
	for (unsigned i = 0; i < n; i++)
		if (i != 7)
			give(zone, big[i], 7);
	memory_check_all_free(&m);
	memory_close(&m);
}

static void test_highatomic(void **state)
{
	struct memory m;
	struct zone *zone;
	struct frame *a, *b;

	(void)state;
	memory_open(&m, &(struct memory_spec){.nodes = 1, .mib = {256}});
	zone = memory_zone(&m, 0);
	a = take(zone, 2, MIGRATE_UNMOVABLE, 0);
	mutex_lock(&zone->lock);
	buddy_reserve_highatomic(zone, a);
	mutex_unlock(&zone->lock);
	assert_int_equal(pageblock_type(zone, frame_pfn(a).n), MIGRATE_HIGHATOMIC);
	assert_int_equal(zone->nr_reserved_highatomic, 512);
	phys_check(&m.phys);
	b = take(zone, 2, MIGRATE_UNMOVABLE, ALLOC_HIGHATOMIC);
	assert_int_equal(pageblock_type(zone, frame_pfn(b).n), MIGRATE_HIGHATOMIC);
	mutex_lock(&zone->lock);
	assert_false(buddy_unreserve_highatomic(zone, MIGRATE_MOVABLE, false)); // the last
	assert_true(buddy_unreserve_highatomic(zone, MIGRATE_MOVABLE, true));
	mutex_unlock(&zone->lock);
	assert_int_equal(zone->nr_reserved_highatomic, 0);
	assert_int_equal(pageblock_type(zone, frame_pfn(a).n), MIGRATE_MOVABLE);
	give(zone, a, 2);
	give(zone, b, 2);
	memory_check_all_free(&m);
	memory_close(&m);
}

static void test_isolate_block(void **state)
{
	struct memory m;
	struct zone *zone;
	struct frame *head;
	unsigned order;

	(void)state;
	memory_open(&m, &one_node);
	zone = memory_zone(&m, 0);
	mutex_lock(&zone->lock);
	head = buddy_find(zone, pfn_frame(pfn_of(zone->start_pfn)), &order);
	assert_int_equal(order, 10);
	assert_int_equal(buddy_isolate_block(zone, head, order), 1024);
	mutex_unlock(&zone->lock);
	assert_int_equal(zone_nr_free(zone), 7 * 1024);
	// Below min + 2^order nothing is isolated.
	assert_int_equal(phys_set_min_free_kbytes(&m.phys, 7 * 4096), 0);
	mutex_lock(&zone->lock);
	struct frame *next = buddy_find(zone, head + 1024, &order);
	assert_int_equal(buddy_isolate_block(zone, next, order), 0);
	buddy_free(zone, head, 10);
	mutex_unlock(&zone->lock);
	memory_check_all_free(&m);
	memory_close(&m);
}

// The slow model: one byte a page. An allocation must be aligned, wholly free in the model, and may
// fail only when the model has no such range either.
#define MODEL_PAGES (16u << 8)

struct model {
	uint8_t used[MODEL_PAGES];
	unsigned free;
};

static bool model_has_room(const struct model *model, unsigned order)
{
	for (unsigned at = 0; at < MODEL_PAGES; at += 1u << order) {
		unsigned i = 0;
		while (i < 1u << order && !model->used[at + i])
			i++;
		if (i == 1u << order)
			return true;
	}
	return false;
}

static void test_random_against_model(void **state)
{
	uint64_t r = test_seed();
	static struct model model;
	struct {
		struct frame *head;
		unsigned order;
	} held[256];
	unsigned n = 0;
	struct memory m;
	struct zone *zone;

	(void)state;
	memory_open(&m, &(struct memory_spec){.nodes = 1, .mib = {16}, .min_free_kbytes = 128});
	zone = memory_zone(&m, 0);
	memset(&model, 0, sizeof(model));
	model.free = MODEL_PAGES;
	for (unsigned step = 0; step < 20000; step++) {
		// Drift between nearly empty and nearly full.
		bool grow = random_below(&r, 100) < (step / 2000 % 2 ? 35u : 65u);
		if (grow && n < 256) {
			unsigned order = random_below(&r, 4) ? random_below(&r, 4)
							     : random_below(&r, NR_PAGE_ORDERS);
			enum migratetype type = random_below(&r, MIGRATE_PCPTYPES);
			struct frame *head = take(zone, order, type, 0);
			if (!head) {
				assert_false(model_has_room(&model, order));
				continue;
			}
			unsigned at = (unsigned)(frame_pfn(head).n - zone->start_pfn);
			assert_int_equal(at & ((1u << order) - 1), 0);
			for (unsigned i = 0; i < 1u << order; i++)
				assert_int_equal(model.used[at + i]++, 0);
			model.free -= 1u << order;
			if (random_below(&r, 2))
				folio_set_private((struct folio *)head);
			held[n].head = head;
			held[n++].order = order;
		} else if (n) {
			unsigned i = random_below(&r, n);
			unsigned at = (unsigned)(frame_pfn(held[i].head).n - zone->start_pfn);
			memset(model.used + at, 0, 1u << held[i].order);
			model.free += 1u << held[i].order;
			give(zone, held[i].head, held[i].order);
			held[i] = held[--n];
		}
		assert_int_equal(zone_nr_free(zone), model.free);
		if (step % 64 == 0)
			phys_check(&m.phys);
	}
	while (n--)
		give(zone, held[n].head, held[n].order);
	memory_check_all_free(&m);
	memory_close(&m);
}

// The check itself must notice.
static void test_check_notices(void **state)
{
	char text[512];
	struct memory m;
	struct zone *zone;
	struct frame *frame;

	(void)state;
	memory_open(&m, &one_node);
	zone = memory_zone(&m, 0);
	frame = pfn_frame(pfn_of(zone->start_pfn + 5));
	frame_set_dirty(frame);
	assert_int_equal(phys_check_text(&m.phys, text, sizeof(text)), -EINVAL);
	assert_non_null(strstr(text, "inside a free block"));
	frame_clear_dirty(frame);
	atomic_fetch_add(&zone->free_area[3].nr[MIGRATE_MOVABLE], 1);
	assert_int_equal(phys_check_text(&m.phys, text, sizeof(text)), -EINVAL);
	assert_non_null(strstr(text, "order 3 Movable"));
	atomic_fetch_sub(&zone->free_area[3].nr[MIGRATE_MOVABLE], 1);
	mutex_lock(&zone->lock);
	buddy_remove(zone, pfn_frame(pfn_of(zone->start_pfn)), 10);
	mutex_unlock(&zone->lock);
	assert_int_equal(phys_check_text(&m.phys, text, sizeof(text)), -EINVAL);
	assert_non_null(strstr(text, "neither free nor used"));
	mutex_lock(&zone->lock);
	buddy_free(zone, pfn_frame(pfn_of(zone->start_pfn)), 10);
	mutex_unlock(&zone->lock);
	memory_close(&m);
}

// The rare branches this program is here for.
static void test_marks(void **state)
{
	static const char *const names[] = {"buddy_merge_types", "highatomic_reserved",
		"highatomic_unreserved", "buddy_claim", "buddy_steal"};

	(void)state;
	for (unsigned i = 0; i < ARRAY_SIZE(names); i++)
		if (!mark_was_hit(names[i]))
			fail_msg("the branch %s was never taken", names[i]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_starts_as_largest_blocks),
		cmocka_unit_test(test_split_and_merge),
		cmocka_unit_test(test_find),
		cmocka_unit_test(test_claim_whole_block),
		cmocka_unit_test(test_claim_half_and_steal),
		cmocka_unit_test(test_highatomic),
		cmocka_unit_test(test_isolate_block),
		cmocka_unit_test(test_random_against_model),
		cmocka_unit_test(test_check_notices),
		cmocka_unit_test(test_marks),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
