// SPDX-License-Identifier: MIT
// mremap: pages, migration entries and huge pages arrive at the new place with what they hold, and
// nothing is left at the old one.
#include "huge_pages.h"

#include "base/sched.h"

#define RW (VM_READ | VM_WRITE)
#define ELSEWHERE 0x600000000000ull

static uint64_t move(struct virt_test *t, uint64_t addr, uint64_t pages, uint64_t new_pages,
	uint64_t to)
{
	uint64_t got = 0;

	assert_int_equal(space_remap(t->space, NULL, addr, pages << PAGE_SHIFT, new_pages << PAGE_SHIFT,
				 to, to != 0, &got), 0);
	if (to)
		assert_int_equal(got, to);
	witness_check(t->w, &t->m.mm);
	return got;
}

static void fill_numbered(struct virt_test *t, uint64_t addr, unsigned pages)
{
	for (unsigned i = 0; i < pages; i++)
		soft_fill(t->task, addr + i * PAGE_SIZE, 1, (char)(i + 1));
}

static void assert_numbered(struct virt_test *t, uint64_t addr, unsigned first, unsigned pages)
{
	for (unsigned i = 0; i < pages; i++)
		assert_int_equal(soft_byte(t->task, addr + i * PAGE_SIZE), (char)(first + i + 1));
}

static void gone(struct virt_test *t, uint64_t addr)
{
	char c;

	assert_int_equal(space_read(t->space, t->task, addr, &c, 1), -EFAULT);
	assert_null(space_pointer(t->space, addr));
}

static void pages_move_along(void **state)
{
	struct virt_test *t = *state;
	uint64_t a = soft_map(t->task, 16, RW, NULL, 0);

	fill_numbered(t, a, 16);
	witness_reset(t->w);
	uint64_t b = move(t, a, 16, 16, 0);
	assert_int_not_equal(a, b);
	assert_int_equal(t->w->nr_clear, 1);
	assert_int_equal(t->w->nr_close, 1); // the old window
	assert_int_equal(t->w->pages_mapped, 16);
	assert_numbered(t, b, 0, 16);
	gone(t, a);
	assert_int_equal(t->space->rss_anon, 16);
	assert_int_equal(t->space->nr_vmas, 1);
	// Found by rmap at the new place.
	soft_fill(t->task, b, 1, 1);
	assert_true(pte_writable(entry_at(t->space, b)));
}

//	|a|b b b|c|   the middle goes:   |a|     |c|     |b b b|
static void the_middle_of_a_mapping_moves(void **state)
{
	struct virt_test *t = *state;
	uint64_t a = soft_map(t->task, 16, RW, NULL, 0);

	fill_numbered(t, a, 16);
	uint64_t b = move(t, a + 0x4000, 8, 8, 0);
	assert_numbered(t, b, 4, 8);
	assert_numbered(t, a, 0, 4);
	assert_numbered(t, a + 0xc000, 12, 4);
	gone(t, a + 0x4000);
	assert_int_equal(t->space->nr_vmas, 3);
}

static void an_untouched_mapping_moves(void **state)
{
	struct virt_test *t = *state;
	uint64_t a = soft_map(t->task, 4, RW, NULL, 0), b = move(t, a, 4, 4, ELSEWHERE);

	assert_int_equal(vma_lookup(t->space, b)->pgoff, b >> PAGE_SHIFT);
	assert_int_equal(soft_byte(t->task, b), 0);
	gone(t, a);
}

static void back_and_forth_merges_no_strangers(void **state)
{
	struct virt_test *t = *state;
	uint64_t a = soft_map(t->task, 4, RW, NULL, 0);

	fill_numbered(t, a, 4);
	move(t, a, 4, 4, ELSEWHERE);
	move(t, ELSEWHERE, 4, 4, a);
	assert_numbered(t, a, 0, 4);
}

static void shrinking_unmaps_the_tail(void **state)
{
	struct virt_test *t = *state;
	uint64_t a = soft_map(t->task, 8, RW, NULL, 0);

	fill_numbered(t, a, 8);
	assert_int_equal(move(t, a, 8, 3, 0), a);
	assert_numbered(t, a, 0, 3);
	gone(t, a + 0x3000);
	assert_int_equal(t->space->rss_anon, 3);
	// Smaller and elsewhere.
	move(t, a, 3, 2, ELSEWHERE);
	assert_numbered(t, ELSEWHERE, 0, 2);
	assert_int_equal(t->space->rss_anon, 2);
	assert_int_equal(t->space->nr_vmas, 1);
}

// Whatever the tail is made of.
static void shrinking_unmaps_several_mappings(void **state)
{
	struct virt_test *t = *state;
	uint64_t a = soft_map(t->task, 8, RW, NULL, 0), got;

	fill_numbered(t, a, 8);
	assert_int_equal(space_protect(t->space, a + 0x2000, 0x1000, VM_READ), 0);
	assert_int_equal(space_unmap(t->space, a + 0x4000, 0x1000), 0);
	assert_int_equal(space_remap(t->space, NULL, a, 0x8000, 0x9000, 0, false, &got), -EFAULT);
	assert_int_equal(move(t, a, 8, 1, 0), a);
	assert_int_equal(t->space->nr_vmas, 1);
	assert_numbered(t, a, 0, 1);
	gone(t, a + 0x7000);
}

static void growing_moves_or_fills_the_window(void **state)
{
	struct virt_test *t = *state;
	uint64_t a = soft_map(t->task, 8, RW, NULL, 0);

	fill_numbered(t, a, 8);
	uint64_t b = move(t, a, 8, 20, 0);
	assert_int_not_equal(a, b);
	assert_numbered(t, b, 0, 8);
	assert_int_equal(soft_byte(t->task, b + 19 * PAGE_SIZE), 0);
	// In place where the window still reaches.
	assert_int_equal(move(t, b, 20, 4, 0), b);
	assert_int_equal(move(t, b, 4, 20, 0), b);
	assert_int_equal(t->space->nr_vmas, 1);
	assert_numbered(t, b, 0, 4);
	soft_fill(t->task, b + 19 * PAGE_SIZE, 1, 77);
	assert_int_equal(soft_byte(t->task, b + 19 * PAGE_SIZE), 77);
}

static void a_shared_mapping_keeps_its_offset(void **state)
{
	struct virt_test *t = *state;
	struct object *shm;

	assert_int_equal(object_create_shmem(&t->m.mm, "x", 0x20000, &shm), 0);
	uint64_t a = soft_map(t->task, 8, RW | VM_SHARED, shm, 3);
	uint64_t whole = soft_map(t->task, 32, RW | VM_SHARED, shm, 0);
	fill_numbered(t, a, 8);
	uint64_t b = move(t, a + 0x2000, 6, 12, 0);
	assert_numbered(t, b, 2, 6);
	soft_fill(t->task, b + 11 * PAGE_SIZE, 1, 99); // object page 3 + 2 + 11
	assert_int_equal(soft_byte(t->task, whole + 16 * PAGE_SIZE), 99);
	object_put(shm);
}

static void in_the_own_space_the_pointer_follows(void **state)
{
	struct virt_test *t = *state;
	const struct map_request r = {.len = 0x8000, .flags = RW, .own = true};
	uint64_t a, b;

	assert_int_equal(space_map(t->space, &r, &a), 0);
	fill_numbered(t, a, 8);
	b = move(t, a, 8, 8, 0);
	assert_ptr_equal(space_pointer(t->space, b), (void *)(uintptr_t)b);
	assert_numbered(t, b, 0, 8);
}

// ---- Huge pages

static void a_huge_page_moves_whole_where_it_fits(void **state)
{
	struct virt_test *t = *state;
	uint64_t a = soft_map(t->task, 1024, RW, NULL, 0);

	assert_int_equal(huge_install(t, a + PMD_SIZE), 0);
	fill_numbered(t, a + PMD_SIZE, 4);
	fill_numbered(t, a + PMD_SIZE - 4 * PAGE_SIZE, 4);
	witness_reset(t->w);
	move(t, a, 1024, 1024, ELSEWHERE);
	assert_true(pte_huge(entry_at(t->space, ELSEWHERE + PMD_SIZE)));
	assert_numbered(t, ELSEWHERE + PMD_SIZE, 0, 4);
	assert_numbered(t, ELSEWHERE + PMD_SIZE - 4 * PAGE_SIZE, 0, 4);
	assert_true(t->w->nr_map <= 5);
	// Wherever it goes by itself, too.
	uint64_t b = move(t, ELSEWHERE + 0x1ff000, 513, 513, 0);
	assert_int_equal(b % PMD_SIZE, 0x1ff000);
	assert_true(pte_huge(entry_at(t->space, b + 0x1000)));
	assert_numbered(t, b, 3, 1);
	assert_numbered(t, b + 0x1000, 0, 4);
}

static void a_huge_page_is_split_where_it_does_not(void **state)
{
	struct virt_test *t = *state;

	t->m.mm.up.split_huge_pmd = huge_split_pmd;
	uint64_t a = soft_map(t->task, 512, RW, NULL, 0);
	assert_int_equal(huge_install(t, a), 0);
	fill_numbered(t, a, 100);
	move(t, a, 512, 512, ELSEWHERE + 0x5000);
	assert_false(pte_huge(entry_at(t->space, ELSEWHERE + 0x5000)));
	assert_numbered(t, ELSEWHERE + 0x5000, 0, 100);
	assert_int_equal(t->space->rss_anon, 512);
	// Part of one.
	uint64_t c = soft_map(t->task, 512, RW, NULL, 0);
	assert_int_equal(huge_install(t, c), 0);
	fill_numbered(t, c, 20);
	move(t, c + 0x4000, 8, 8, ELSEWHERE + 0x10000000);
	assert_numbered(t, ELSEWHERE + 0x10000000, 4, 8);
	assert_numbered(t, c, 0, 4);
}

// All small pages of one table: the table itself moves.
static void a_full_table_moves_whole(void **state)
{
	struct virt_test *t = *state;
	uint64_t a = soft_map(t->task, 512, RW, NULL, 0);

	fill_numbered(t, a, 512);
	struct page_table *table = pte_table_lock(t->space, vaddr_of(a));
	page_table_unlock(table);
	move(t, a, 512, 512, ELSEWHERE);
	assert_ptr_equal(pte_table_lock(t->space, vaddr_of(ELSEWHERE)), table);
	page_table_unlock(table);
	assert_null(pte_table_lock(t->space, vaddr_of(a)));
	assert_numbered(t, ELSEWHERE, 0, 512);
}

// ---- Moving pages that are moving

static void a_migration_entry_moves_and_is_found(void **state)
{
	struct virt_test *t = *state;
	uint64_t a = soft_map(t->task, 2, RW, NULL, 0);

	fill_numbered(t, a, 2);
	struct pte e = entry_at(t->space, a);
	struct folio *folio = pfn_folio(pte_pfn(e));
	struct anon_vma *av = folio_get_anon_vma(folio);
	// As migration leaves it: blocked, unmapped, an entry.
	struct page_table *table = pte_table_lock(t->space, vaddr_of(a));
	assert_int_equal(t->w->mmu.ops->block(&t->w->mmu, vma_host(vma_lookup(t->space, a), a),
				 pte_pfn(e), 1, false), 0);
	assert_int_equal(folio_try_share_anon(folio, 0), 0);
	table_set_entry(table, pte_index(vaddr_of(a)), pte_make(pte_pfn(e), PTE_MIGRATION_WRITE));
	folio_remove_rmap(folio, 0, 1);
	page_table_unlock(table);
	frame_set(&folio->page, PG_LOCKED); // by somebody else, as far as the lock order goes

	move(t, a, 2, 2, ELSEWHERE);
	assert_true(pte_migration(entry_at(t->space, ELSEWHERE)));
	assert_false(witness_at(t->w, t->space, ELSEWHERE)->mapped);
	// Restored where rmap finds it now.
	struct vma *vma = vma_lookup(t->space, ELSEWHERE);
	uint64_t addr = 0;
	assert_int_equal(vma_address(vma, folio_index(folio), &addr), 0);
	assert_int_equal(addr, ELSEWHERE);
	table = pte_table_lock(t->space, vaddr_of(addr));
	folio_add_anon_rmap(folio, 0, 1, true);
	table_set_entry(table, pte_index(vaddr_of(addr)), e);
	assert_int_equal(t->w->mmu.ops->map(&t->w->mmu, vma_host(vma, addr), pte_pfn(e), 1,
				 MMU_WRITE), 0);
	page_table_unlock(table);
	frame_clear(&folio->page, PG_LOCKED);
	anon_vma_put(av);
	assert_numbered(t, ELSEWHERE, 0, 2);
}

struct race {
	struct virt_test *t;
	struct folio *folio;
	uint64_t from, to;
	unsigned seen;
};

static bool seen_once(const struct rmap_range *range, void *arg)
{
	struct race *r = arg;
	struct page_table *table = pte_table_lock(range->vma->space, vaddr_of(range->addr));

	if (table) {
		struct pte e = table_entry(table, pte_index(vaddr_of(range->addr)));
		r->seen += pte_present(e) && pte_pfn(e).n == folio_pfn(r->folio).n;
		page_table_unlock(table);
	}
	return true;
}

static void race(void *arg, unsigned index)
{
	struct race *r = arg;
	uint64_t got;

	if (index == 0) {
		assert_int_equal(space_remap(r->t->space, NULL, r->from, 4 * PAGE_SIZE, 4 * PAGE_SIZE,
					 r->to, true, &got), 0);
		return;
	}
	for (unsigned i = 0; i < 4; i++) {
		r->seen = 0;
		assert_int_equal(rmap_walk(r->folio, seen_once, r, false), 0);
		assert_int_equal(r->seen, 1); // here or there, not both, not neither
	}
}

static void a_walk_meets_a_moving_mapping_once(void **state)
{
	struct virt_test *t = *state;
	uint64_t seed = test_seed(), from = soft_map(t->task, 4, RW, NULL, 0);

	fill_numbered(t, from, 4);
	for (unsigned i = 0; i < 100; i++) {
		struct race r = {.t = t, .from = from, .to = ELSEWHERE + i * 0x1005000ull};
		unsigned page;
		assert_int_equal(follow_page(t->space, from + 0x2000, &r.folio, &page), 0);
		sched_run(seed + i, 2, race, &r);
		folio_put(r.folio);
		from = r.to;
	}
	assert_numbered(t, from, 0, 4);
}

// ---- Errors

static void errors_change_nothing(void **state)
{
	struct virt_test *t = *state;
	uint64_t a = soft_map(t->task, 8, RW, NULL, 0), b = soft_map(t->task, 8, RW, NULL, 0);
	const struct {
		uint64_t addr, len, new_len, to;
		bool fixed;
		int err;
	} rows[] = {
		{a + 0x800, 0x1000, 0x1000, 0, false, -EINVAL},
		{a, 0, 0x1000, 0, false, -EINVAL},
		{a, 0x1000, 0, 0, false, -EINVAL},
		{a, 0x2000, 0x2000, a + 0x1000, true, -EINVAL},
		{a, 0x2000, 0x2000, 0x1000, true, -EINVAL},
		{a, 0x2000, 0x2000, ELSEWHERE + 1, true, -EINVAL},
		{a, 0x2000, 0x2000, b, true, -EEXIST},
		{a, 0x9000, 0x9000, ELSEWHERE, true, -EFAULT},
		{0x123456000, 0x1000, 0x2000, 0, false, -EFAULT},
		{a, 0x1000, 1ull << 47, 0, false, -ENOMEM},
	};
	uint64_t got;

	fill_numbered(t, a, 8);
	for (unsigned i = 0; i < ARRAY_SIZE(rows); i++)
		assert_int_equal(space_remap(t->space, NULL, rows[i].addr, rows[i].len, rows[i].new_len,
					 rows[i].to, rows[i].fixed, &got), rows[i].err);
	vma_lookup(t->space, a)->flags |= VM_DONTEXPAND;
	assert_int_equal(space_remap(t->space, NULL, a, 0x8000, 0x9000, 0, false, &got), -EFAULT);
	assert_int_equal(t->space->nr_vmas, 2);
	assert_numbered(t, a, 0, 8);
}

static uint64_t sweep_addr;

static int move_part(struct virt_test *t)
{
	uint64_t got;

	return space_remap(t->space, NULL, sweep_addr + 0x3000, 0x203000, 0x204000,
		ELSEWHERE + 0x1ff000, true, &got);
}

static void fresh(struct virt_test *t)
{
	assert_int_equal(space_unmap(t->space, SPACE_START, SPACE_END - SPACE_START), 0);
	sweep_addr = soft_map(t->task, 1024, RW, NULL, 0);
	assert_int_equal(huge_install(t, sweep_addr + PMD_SIZE), 0);
	fill_numbered(t, sweep_addr, 6);
	fill_numbered(t, sweep_addr + PMD_SIZE, 7);
}

static void all_there(struct virt_test *t)
{
	assert_int_equal(t->space->nr_vmas, 1);
	assert_numbered(t, sweep_addr, 0, 6);
	assert_numbered(t, sweep_addr + PMD_SIZE, 0, 7);
	gone(t, ELSEWHERE + 0x1ff000);
}

static void a_move_that_fails_changes_nothing(void **state)
{
	struct virt_test *t = *state;

	t->m.mm.up.split_huge_pmd = huge_split_pmd;
	fresh(t);
	virt_sweep(t, move_part, fresh, all_there);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		virt_unit_test(pages_move_along),
		virt_unit_test(the_middle_of_a_mapping_moves),
		virt_unit_test(an_untouched_mapping_moves),
		virt_unit_test(back_and_forth_merges_no_strangers),
		virt_unit_test(shrinking_unmaps_the_tail),
		virt_unit_test(shrinking_unmaps_several_mappings),
		virt_unit_test(growing_moves_or_fills_the_window),
		virt_unit_test(a_shared_mapping_keeps_its_offset),
		virt_unit_test(in_the_own_space_the_pointer_follows),
		virt_unit_test(a_huge_page_moves_whole_where_it_fits),
		virt_unit_test(a_huge_page_is_split_where_it_does_not),
		virt_unit_test(a_full_table_moves_whole),
		virt_unit_test(a_migration_entry_moves_and_is_found),
		virt_unit_test(a_walk_meets_a_moving_mapping_once),
		virt_unit_test(errors_change_nothing),
		virt_unit_test(a_move_that_fails_changes_nothing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
