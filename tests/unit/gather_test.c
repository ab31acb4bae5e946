// SPDX-License-Identifier: MIT
// Gathers: which changes become one host call, and what happens when the host refuses.
#include "witness_mmu.h"

struct fix {
	struct gather g;
	uint64_t addr;
	uintptr_t host;
};

// 4 MiB mapped, both tables there.
static void open_fix(struct virt_test *t, struct fix *f)
{
	f->addr = soft_map(t->task, 1024, VM_READ | VM_WRITE, NULL, 0);
	f->host = (uintptr_t)space_pointer(t->space, f->addr);
	assert_false(f->host & ~PMD_MASK);
	for (unsigned i = 0; i < 2; i++) {
		int err = 0;
		page_table_unlock(pte_table_alloc_lock(t->space, NULL,
			vaddr_of(f->addr + i * PMD_SIZE), &err));
	}
	gather_init(&f->g, &t->m.mm);
	assert_non_null(gather_table(&f->g, t->space, vaddr_of(f->addr)));
	witness_reset(t->w);
}

static uintptr_t page(const struct fix *f, unsigned n)
{
	return f->host + n * PAGE_SIZE;
}

static void consecutive_pages_and_frames_are_one_call(void **state)
{
	struct virt_test *t = *state;
	struct fix f;

	open_fix(t, &f);
	for (unsigned i = 0; i < 512; i++)
		gather_map(&f.g, page(&f, i), pfn_of(1000 + i), 1, MMU_WRITE);
	assert_int_equal(t->w->nr_map, 0);
	assert_int_equal(gather_flush(&f.g), 0);
	assert_int_equal(t->w->nr_map, 1);
	assert_int_equal(t->w->pages_mapped, 512);
	for (unsigned i = 0; i < 512; i++)
		gather_clear(&f.g, page(&f, i), 1);
	assert_int_equal(gather_finish(&f.g), 0);
	assert_int_equal(t->w->nr_clear, 1);
	assert_int_equal(f.g.nr_calls, 2);
}

//	pages   0 1 2 3 . 5 6 7
//	frames  a b c x   y z z'
//	prot    w w w w   w w r
static void a_gap_another_frame_or_permission_starts_a_new_call(void **state)
{
	struct virt_test *t = *state;
	struct fix f;

	open_fix(t, &f);
	gather_map(&f.g, page(&f, 0), pfn_of(100), 1, MMU_WRITE);
	gather_map(&f.g, page(&f, 1), pfn_of(101), 1, MMU_WRITE);
	gather_map(&f.g, page(&f, 2), pfn_of(102), 1, MMU_WRITE);
	gather_map(&f.g, page(&f, 3), pfn_of(200), 1, MMU_WRITE); // frame
	gather_map(&f.g, page(&f, 5), pfn_of(202), 1, MMU_WRITE); // gap
	gather_map(&f.g, page(&f, 6), pfn_of(203), 1, MMU_WRITE);
	gather_map(&f.g, page(&f, 7), pfn_of(204), 1, MMU_READ);  // permission
	assert_int_equal(gather_flush(&f.g), 0);
	assert_int_equal(t->w->nr_map, 4);
	assert_int_equal(t->w->pages_mapped, 7);
	gather_clear(&f.g, page(&f, 0), 8);
	(void)gather_finish(&f.g);
}

static void a_clear_does_not_look_at_frames(void **state)
{
	struct virt_test *t = *state;
	struct fix f;

	open_fix(t, &f);
	gather_clear(&f.g, page(&f, 3), 2);
	gather_clear(&f.g, page(&f, 5), 1);
	gather_clear(&f.g, page(&f, 7), 1);
	(void)gather_finish(&f.g);
	assert_int_equal(t->w->nr_clear, 2);
	assert_int_equal(t->w->pages_cleared, 4);
}

static void another_table_flushes_and_changes_the_lock(void **state)
{
	struct virt_test *t = *state;
	struct fix f;
	struct page_table *first, *second;

	open_fix(t, &f);
	first = f.g.table;
	assert_ptr_equal(gather_table(&f.g, t->space, vaddr_of(f.addr + 5 * PAGE_SIZE)), first);
	gather_clear(&f.g, page(&f, 511), 1);
	assert_int_equal(t->w->nr_clear, 0);
	second = gather_table(&f.g, t->space, vaddr_of(f.addr + PMD_SIZE));
	assert_ptr_not_equal(first, second);
	assert_int_equal(t->w->nr_clear, 1);
	assert_false(mutex_is_held(&first->lock));
	gather_clear(&f.g, page(&f, 512), 1); // next page, next table: never one call
	assert_int_equal(gather_finish(&f.g), 0);
	assert_int_equal(t->w->nr_clear, 2);
	assert_null(f.g.table);
}

static void a_refused_protect_becomes_a_clear(void **state)
{
	struct virt_test *t = *state;
	struct fix f;

	open_fix(t, &f);
	gather_map(&f.g, page(&f, 0), pfn_of(100), 4, MMU_WRITE);
	assert_int_equal(gather_flush(&f.g), 0);
	t->w->fail_at = 0;
	gather_protect(&f.g, page(&f, 0), pfn_of(100), 4, MMU_READ);
	assert_int_equal(gather_flush(&f.g), 0);
	assert_true(t->w->failed);
	assert_int_equal(t->w->nr_clear, 1);
	assert_false(witness_slot(t->w, f.host, false)->mapped);
	assert_int_equal(gather_finish(&f.g), 0);
}

static void errors_of_map_and_block_are_told_once_by_flush_and_again_by_finish(void **state)
{
	struct virt_test *t = *state;
	struct fix f;

	open_fix(t, &f);
	t->w->fail_at = 0;
	gather_block(&f.g, page(&f, 0), pfn_of(100), 1, false);
	gather_block(&f.g, page(&f, 9), pfn_of(109), 1, false); // pushes the first out
	assert_true(t->w->failed);
	assert_int_equal(gather_flush(&f.g), -ENOMEM);
	assert_int_equal(gather_flush(&f.g), 0);
	gather_clear(&f.g, page(&f, 0), 16);
	assert_int_equal(gather_finish(&f.g), -ENOMEM);
}

static void folios_are_put_after_the_flush(void **state)
{
	struct virt_test *t = *state;
	struct folio *folio[100];
	struct fix f;

	open_fix(t, &f);
	for (unsigned i = 0; i < 100; i++) {
		folio[i] = folio_alloc(&t->m.phys, GFP_HIGHUSER_MOVABLE, 0, 0, NULL, 0);
		assert_non_null(folio[i]);
		folio_get(folio[i]);
	}
	for (unsigned i = 0; i < 100; i++) {
		gather_clear(&f.g, page(&f, 2 * i), 1);
		gather_put(&f.g, folio[i]);
		if (i == 63)
			assert_int_equal(folio_ref_count(folio[0]), 2);
	}
	assert_int_equal(folio_ref_count(folio[63]), 1); // there is room for 64
	assert_int_equal(folio_ref_count(folio[99]), 2);
	(void)gather_finish(&f.g);
	for (unsigned i = 0; i < 100; i++) {
		assert_int_equal(folio_ref_count(folio[i]), 1);
		folio_put(folio[i]);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		virt_unit_test(consecutive_pages_and_frames_are_one_call),
		virt_unit_test(a_gap_another_frame_or_permission_starts_a_new_call),
		virt_unit_test(a_clear_does_not_look_at_frames),
		virt_unit_test(another_table_flushes_and_changes_the_lock),
		virt_unit_test(a_refused_protect_becomes_a_clear),
		virt_unit_test(errors_of_map_and_block_are_told_once_by_flush_and_again_by_finish),
		virt_unit_test(folios_are_put_after_the_flush),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
