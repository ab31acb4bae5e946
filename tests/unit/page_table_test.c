// SPDX-License-Identifier: MIT
// Page tables: walks, locks, the life of tables, and running out of memory in the middle.
#include "witness_mmu.h"

static struct pte some_entry(uint64_t n)
{
	return pte_make(pfn_of(n), PTE_PRESENT);
}

// Bare entries have no vma, so these tests take them out again before the books are balanced.
static void put(struct space *space, uint64_t addr, struct pte e)
{
	int err = 0;
	struct page_table *table = pte_table_alloc_lock(space, NULL, vaddr_of(addr), &err);

	assert_non_null(table);
	assert_int_equal(table->level, 1);
	assert_int_equal(table->base, addr & PMD_MASK);
	table_set_entry(table, pte_index(vaddr_of(addr)), e);
	page_table_unlock(table);
}

static void entries_are_found_where_they_were_put(void **state)
{
	struct virt_test *t = *state;
	const uint64_t addrs[] = {0, 0x1000, 0x1ff000, 0x200000, 0x3fffffff000, 0x7ffffffff000};

	for (unsigned i = 0; i < ARRAY_SIZE(addrs); i++)
		put(t->space, addrs[i], some_entry(i + 1));
	for (unsigned i = 0; i < ARRAY_SIZE(addrs); i++)
		assert_int_equal(pte_pfn(entry_at(t->space, addrs[i])).n, i + 1);
	assert_true(pte_none(entry_at(t->space, 0x2000)));
	assert_null(pte_table_lock(t->space, vaddr_of(0x40000000)));
	for (unsigned i = 0; i < ARRAY_SIZE(addrs); i++)
		put(t->space, addrs[i], (struct pte){0});
}

static void used_entries_are_counted(void **state)
{
	struct virt_test *t = *state;

	put(t->space, 0x200000, some_entry(1));
	put(t->space, 0x201000, some_entry(2));
	put(t->space, 0x201000, some_entry(3));
	struct page_table *table = pte_table_lock(t->space, vaddr_of(0x200000));
	assert_int_equal(table->nr_used, 2);
	table_set_entry(table, 0, (struct pte){0});
	table_set_entry(table, 0, (struct pte){0});
	table_set_entry(table, 1, (struct pte){0});
	assert_int_equal(table->nr_used, 0);
	page_table_unlock(table);
}

// Only tables wholly inside and empty go; the next table made is one that went.
static void empty_tables_are_freed_and_used_again(void **state)
{
	struct virt_test *t = *state;
	struct page_table *table;

	put(t->space, 0x200000, some_entry(1));
	put(t->space, 0x400000, some_entry(2));
	put(t->space, 0x600000, some_entry(3));
	put(t->space, 0x400000, (struct pte){0});
	put(t->space, 0x600000, (struct pte){0});
	table = pte_table_lock(t->space, vaddr_of(0x400000));
	page_table_unlock(table);
	page_tables_free_range(t->space, vaddr_of(0x201000), vaddr_of(0x7ff000));
	assert_null(pte_table_lock(t->space, vaddr_of(0x400000)));
	struct page_table *kept = pte_table_lock(t->space, vaddr_of(0x600000));
	assert_non_null(kept);
	page_table_unlock(kept);
	put(t->space, 0x200000, (struct pte){0});
	put(t->space, 0x123400000000, some_entry(4));
	assert_null(t->space->free_tables);
	put(t->space, 0x123400000000, (struct pte){0});
}

static void a_huge_entry_has_no_table(void **state)
{
	struct virt_test *t = *state;
	struct vaddr addr = vaddr_of(0x40200000);
	int err = 0;
	struct page_table *pmd = pmd_table_alloc_lock(t->space, NULL, addr, &err);

	assert_non_null(pmd);
	assert_int_equal(pmd->level, 2);
	table_set_entry(pmd, pmd_index(addr), pte_make(pfn_of(512), PTE_PRESENT | PTE_HUGE));
	page_table_unlock(pmd);
	assert_null(pte_table_lock(t->space, addr));
	assert_null(pte_table_alloc_lock(t->space, NULL, addr, &err));
	assert_int_equal(err, -EEXIST);
	assert_true(pte_huge(entry_at(t->space, addr.a + 0x5000)));
	pmd = pmd_table_lock(t->space, addr);
	table_set_entry(pmd, pmd_index(addr), (struct pte){0});
	page_table_unlock(pmd);
}

static void a_table_pointer_is_no_entry(void **state)
{
	struct virt_test *t = *state;

	put(t->space, 0x200000, some_entry(1));
	struct page_table *pmd = pmd_table_lock(t->space, vaddr_of(0x200000));
	struct pte e = table_entry(pmd, pmd_index(vaddr_of(0x200000)));
	assert_false(pte_present(e) || pte_huge(e) || pte_migration(e) || pte_none(e));
	assert_int_equal(pte_kind(e), 0);
	assert_non_null(pmd_entry_table(e));
	page_table_unlock(pmd);
	put(t->space, 0x200000, (struct pte){0});
}

static void trylock_says_busy(void **state)
{
	struct virt_test *t = *state;
	bool busy;

	assert_null(pte_table_trylock(t->space, vaddr_of(0x200000), &busy));
	assert_false(busy);
	put(t->space, 0x200000, some_entry(1));
	struct page_table *table = pte_table_trylock(t->space, vaddr_of(0x200000), &busy);
	assert_non_null(table);
	page_table_unlock(table);
	fault_arm(FI_TRYLOCK, FI_THREAD, 0, 1);
	assert_null(pte_table_trylock(t->space, vaddr_of(0x200000), &busy));
	bool armed = fault_disarm(FI_TRYLOCK);
	assert_int_equal(busy, armed);
	put(t->space, 0x200000, (struct pte){0});
}

static int make_table(struct virt_test *t)
{
	int err = 0;
	struct page_table *table = pte_table_alloc_lock(t->space, NULL, vaddr_of(0x7f0000000000), &err);

	if (table)
		page_table_unlock(table);
	return err;
}

static void no_memory_for_a_table(void **state)
{
	struct virt_test *t = *state;

	virt_sweep(t, make_table, NULL, NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		virt_unit_test(entries_are_found_where_they_were_put),
		virt_unit_test(used_entries_are_counted),
		virt_unit_test(empty_tables_are_freed_and_used_again),
		virt_unit_test(a_huge_entry_has_no_table),
		virt_unit_test(a_table_pointer_is_no_entry),
		virt_unit_test(trylock_says_busy),
		virt_unit_test(no_memory_for_a_table),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
