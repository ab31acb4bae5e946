// SPDX-License-Identifier: MIT
// mprotect: what becomes of each kind of entry, and of the host's translation behind it.
#include "huge_pages.h"

#define RW (VM_READ | VM_WRITE)
#define PRESENT_RW (PTE_PRESENT | PTE_WRITE | PTE_DIRTY | PTE_YOUNG)

static enum mmu_prot host_prot(struct virt_test *t, uint64_t addr)
{
	const struct witness_page *p = witness_at(t->w, t->space, addr);

	return p->mapped ? p->prot : MMU_NONE;
}

static void protect(struct virt_test *t, uint64_t addr, uint64_t pages, unsigned rwx)
{
	assert_int_equal(space_protect(t->space, addr, pages << PAGE_SHIFT, rwx), 0);
	witness_check(t->w, &t->m.mm);
}

static void own_pages_lose_and_get_write(void **state)
{
	struct virt_test *t = *state;
	uint64_t a = soft_map(t->task, 8, RW, NULL, 0);

	soft_fill(t->task, a, 8, 4);
	witness_reset(t->w);
	protect(t, a, 8, VM_READ);
	assert_false(pte_writable(entry_at(t->space, a)));
	assert_int_equal(host_prot(t, a + 0x7000), MMU_READ);
	assert_int_equal(space_write(t->space, t->task, a, "x", 1), -EFAULT);
	// Exclusive pages need no fault to be written to again.
	protect(t, a, 8, RW);
	assert_true(pte_writable(entry_at(t->space, a)));
	assert_int_equal(host_prot(t, a), MMU_WRITE);
	assert_true(t->w->nr_protect <= 16);
}

static void nothing_allowed_keeps_the_pages(void **state)
{
	struct virt_test *t = *state;
	uint64_t a = soft_map(t->task, 4, RW, NULL, 0);
	char c;

	soft_fill(t->task, a, 4, 9);
	protect(t, a, 4, 0);
	assert_true(pte_present(entry_at(t->space, a)));
	assert_int_equal(host_prot(t, a), MMU_NONE);
	assert_int_equal(space_read(t->space, t->task, a, &c, 1), -EFAULT);
	assert_int_equal(t->space->rss_anon, 4);
	protect(t, a, 4, VM_READ);
	assert_int_equal(host_prot(t, a), MMU_READ);
	assert_int_equal(soft_byte(t->task, a), 9);
	protect(t, a, 4, RW);
	assert_int_equal(host_prot(t, a), MMU_WRITE);
}

static void shared_pages_wait_for_the_fault(void **state)
{
	struct virt_test *t = *state;
	uint64_t a = soft_map(t->task, 2, RW, NULL, 0);
	struct task *child;

	soft_fill(t->task, a, 2, 1);
	assert_int_equal(task_fork(t->task, 0, &child), 0);
	protect(t, a, 2, VM_READ);
	protect(t, a, 2, RW);
	assert_false(pte_writable(entry_at(t->space, a)));
	assert_int_equal(host_prot(t, a), MMU_READ);
	soft_fill(t->task, a, 1, 2); // a copy
	assert_int_equal(soft_byte(child, a), 1);
	task_exit(child);
}

static void the_zero_page_is_never_writable(void **state)
{
	struct virt_test *t = *state;
	uint64_t a = soft_map(t->task, 1, RW, NULL, 0);

	assert_int_equal(soft_byte(t->task, a), 0);
	assert_true(pte_zero_page(entry_at(t->space, a)));
	protect(t, a, 1, VM_READ);
	protect(t, a, 1, RW);
	assert_false(pte_writable(entry_at(t->space, a)));
	protect(t, a, 1, 0);
	assert_int_equal(host_prot(t, a), MMU_NONE);
}

static void clean_pages_of_files_wait_for_the_fault(void **state)
{
	struct virt_test *t = *state;
	struct object *shm;

	assert_int_equal(object_create_shmem(&t->m.mm, "x", 0x4000, &shm), 0);
	uint64_t a = soft_map(t->task, 4, RW | VM_SHARED, shm, 0);
	assert_int_equal(soft_byte(t->task, a), 0); // read: clean
	soft_fill(t->task, a + 0x1000, 1, 1);	    // written: dirty
	protect(t, a, 4, VM_READ);
	protect(t, a, 4, RW);
	assert_false(pte_writable(entry_at(t->space, a)));
	assert_int_equal(host_prot(t, a + 0x1000), MMU_WRITE);
	object_put(shm);
}

static void pages_that_hint_keep_hinting(void **state)
{
	struct virt_test *t = *state;
	uint64_t a = soft_map(t->task, 1, RW, NULL, 0);

	soft_fill(t->task, a, 1, 1);
	set_entry_at(t->space, a, pte_set(entry_at(t->space, a), PTE_HINT));
	t->w->mmu.ops->protect(&t->w->mmu, (uintptr_t)space_pointer(t->space, a),
		pfn_at(t->space, a), 1, MMU_NONE);
	protect(t, a, 1, VM_READ);
	assert_true(entry_at(t->space, a).v & PTE_HINT);
	assert_int_equal(host_prot(t, a), MMU_NONE);
	protect(t, a, 1, RW);
	assert_int_equal(host_prot(t, a), MMU_NONE);
	assert_int_equal(soft_byte(t->task, a), 1);
}

// An entry as migration leaves it: page unmapped, host blocked. Returns the old entry.
static struct pte begin_move(struct virt_test *t, uint64_t a, uint64_t kind)
{
	struct pte e = entry_at(t->space, a);
	struct folio *folio = pfn_folio(pte_pfn(e));
	struct page_table *table = pte_table_lock(t->space, vaddr_of(a));

	(void)t->w->mmu.ops->block(&t->w->mmu, vma_host(vma_lookup(t->space, a), a), pte_pfn(e), 1,
		false);
	if (folio_test_anon(folio))
		assert_int_equal(folio_try_share_anon(folio, 0), 0);
	table_set_entry(table, pte_index(vaddr_of(a)), pte_make(pte_pfn(e), kind | PTE_YOUNG));
	folio_remove_rmap(folio, 0, 1);
	folio_put(folio);
	page_table_unlock(table);
	frame_set(&folio->page, PG_LOCKED); // by somebody else, as far as the lock order goes
	return e;
}

static void end_move(struct virt_test *t, uint64_t a)
{
	struct pte e = entry_at(t->space, a);
	struct folio *folio = pfn_folio(pte_pfn(e));
	struct vma *vma = vma_lookup(t->space, a);
	uint64_t kind = pte_kind(e);
	struct page_table *table = pte_table_lock(t->space, vaddr_of(a));

	assert_true(pte_migration(e));
	e = pte_make(pte_pfn(e),
		PTE_PRESENT | (kind == PTE_MIGRATION_WRITE ? PTE_WRITE | PTE_DIRTY : 0));
	folio_get(folio);
	if (folio_test_anon(folio))
		folio_add_anon_rmap(folio, 0, 1, kind != PTE_MIGRATION_READ);
	else
		folio_add_file_rmap(folio, 0, 1);
	table_set_entry(table, pte_index(vaddr_of(a)), e);
	t->w->mmu.ops->unblock(&t->w->mmu, vma_host(vma, a), pte_pfn(e), 1, vma_pte_prot(vma, e));
	page_table_unlock(table);
	frame_clear(&folio->page, PG_LOCKED);
}

static void entries_of_moving_pages_lose_write(void **state)
{
	struct virt_test *t = *state;
	struct object *shm;
	static const struct {
		uint64_t before, after;
		bool shared;
	} rows[] = {
		{PTE_MIGRATION_WRITE, PTE_MIGRATION_READ_EXCLUSIVE, false},
		{PTE_MIGRATION_READ_EXCLUSIVE, PTE_MIGRATION_READ_EXCLUSIVE, false},
		{PTE_MIGRATION_READ, PTE_MIGRATION_READ, false},
		{PTE_MIGRATION_WRITE, PTE_MIGRATION_READ, true},
	};

	assert_int_equal(object_create_shmem(&t->m.mm, "x", 0x1000, &shm), 0);
	for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
		uint64_t a = soft_map(t->task, 1, rows[i].shared ? RW | VM_SHARED : RW,
			rows[i].shared ? shm : NULL, 0);
		soft_fill(t->task, a, 1, 5);
		struct folio *folio = pfn_folio(pfn_at(t->space, a));
		folio_get(folio);
		begin_move(t, a, rows[i].before);
		assert_int_equal(t->space->rss_anon + t->space->rss_shmem, 1);
		protect(t, a, 1, VM_READ);
		struct pte e = entry_at(t->space, a);
		assert_int_equal(pte_kind(e), rows[i].after);
		assert_true(e.v & PTE_YOUNG);
		protect(t, a, 1, RW); // does not give it back
		assert_int_equal(pte_kind(entry_at(t->space, a)), rows[i].after);
		end_move(t, a);
		witness_check(t->w, &t->m.mm);
		assert_int_equal(soft_byte(t->task, a), 5);
		folio_put(folio);
		assert_int_equal(space_unmap(t->space, a, PAGE_SIZE), 0);
	}
	object_put(shm);
}

// Readers may go on while a page moves, but not in an area that nobody may touch.
static void a_moving_page_of_a_forbidden_area_is_cleared(void **state)
{
	struct virt_test *t = *state;
	uint64_t a = soft_map(t->task, 1, RW, NULL, 0);

	soft_fill(t->task, a, 1, 5);
	struct folio *folio = pfn_folio(pfn_at(t->space, a));
	folio_get(folio);
	begin_move(t, a, PTE_MIGRATION_WRITE);
	assert_true(witness_at(t->w, t->space, a)->mapped);
	protect(t, a, 1, 0);
	assert_false(witness_at(t->w, t->space, a)->mapped);
	end_move(t, a);
	assert_int_equal(host_prot(t, a), MMU_NONE);
	protect(t, a, 1, RW);
	assert_int_equal(soft_byte(t->task, a), 5);
	folio_put(folio);
}

// Unmapped under a move: the move finds nothing to restore, the resident count has gone.
static void a_moving_page_is_unmapped(void **state)
{
	struct virt_test *t = *state;
	uint64_t a = soft_map(t->task, 2, RW, NULL, 0);

	soft_fill(t->task, a, 2, 5);
	struct folio *folio = pfn_folio(pfn_at(t->space, a));
	folio_get(folio);
	begin_move(t, a, PTE_MIGRATION_WRITE);
	assert_int_equal(t->space->rss_anon, 2);
	assert_int_equal(space_unmap(t->space, a, PAGE_SIZE), 0);
	assert_int_equal(t->space->rss_anon, 1);
	assert_int_equal(folio_ref_count(folio), 1);
	frame_clear(&folio->page, PG_LOCKED);
	folio_put(folio);
}

static void huge_pages_whole_and_in_part(void **state)
{
	struct virt_test *t = *state;

	t->m.mm.up.split_huge_pmd = huge_split_pmd;
	uint64_t a = soft_map(t->task, 1024, RW, NULL, 0);
	assert_int_equal(huge_install(t, a), 0);
	soft_fill(t->task, a + 0x1000, 1, 8);
	protect(t, a, 512, VM_READ);
	assert_true(pte_huge(entry_at(t->space, a)));
	assert_int_equal(host_prot(t, a + 0x1ff000), MMU_READ);
	protect(t, a, 512, RW);
	assert_int_equal(host_prot(t, a + 0x1ff000), MMU_WRITE);
	protect(t, a + 0x10000, 16, VM_READ); // splits
	assert_false(pte_huge(entry_at(t->space, a)));
	assert_int_equal(host_prot(t, a + 0x10000), MMU_READ);
	assert_int_equal(host_prot(t, a + 0x20000), MMU_WRITE);
	assert_int_equal(soft_byte(t->task, a + 0x1000), 8);
}

static void errors_and_holes(void **state)
{
	struct virt_test *t = *state;
	uint64_t a = soft_map(t->task, 4, RW, NULL, 0);

	assert_int_equal(space_protect(t->space, a + 0x800, 0x1000, VM_READ), -EINVAL);
	assert_int_equal(space_protect(t->space, a, 0x1000, VM_SHARED), -EINVAL);
	assert_int_equal(space_protect(t->space, a, 0, VM_READ), 0);
	assert_int_equal(space_protect(t->space, a - 0x2000, 0x4000, VM_READ), -ENOMEM);
	assert_int_equal(t->space->nr_vmas, 1);
	// What lies before a hole is changed, as in Linux.
	assert_int_equal(space_protect(t->space, a + 0x2000, 0x8000, VM_READ), -ENOMEM);
	assert_int_equal(t->space->nr_vmas, 2);
	assert_int_equal(space_protect(t->space, a + 0x2000, 0x2000, RW), 0);
	assert_int_equal(t->space->nr_vmas, 1);
	// What a read-only file is mapped to can never be written.
	vma_lookup(t->space, a)->flags &= ~(unsigned)(VM_MAYWRITE | VM_WRITE);
	assert_int_equal(space_protect(t->space, a, 0x1000, RW), -EACCES);
	assert_int_equal(t->space->nr_vmas, 1);
}

static uint64_t sweep_addr;

static int protect_middle(struct virt_test *t)
{
	return space_protect(t->space, sweep_addr + 0x5000, 0x6000, VM_READ);
}

static void fresh(struct virt_test *t)
{
	assert_int_equal(space_unmap(t->space, SPACE_START, SPACE_END - SPACE_START), 0);
	sweep_addr = soft_map(t->task, 512, RW, NULL, 0);
	assert_int_equal(huge_install(t, sweep_addr), 0);
}

static void still_writable(struct virt_test *t)
{
	assert_int_equal(t->space->nr_vmas, 1);
	assert_int_equal(vma_lookup(t->space, sweep_addr)->flags & RW, RW);
	soft_fill(t->task, sweep_addr + 0x6000, 1, 2);
}

static void a_protect_that_fails_changes_nothing(void **state)
{
	struct virt_test *t = *state;

	t->m.mm.up.split_huge_pmd = huge_split_pmd;
	fresh(t);
	virt_sweep(t, protect_middle, fresh, still_writable);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		virt_unit_test(own_pages_lose_and_get_write),
		virt_unit_test(nothing_allowed_keeps_the_pages),
		virt_unit_test(shared_pages_wait_for_the_fault),
		virt_unit_test(the_zero_page_is_never_writable),
		virt_unit_test(clean_pages_of_files_wait_for_the_fault),
		virt_unit_test(pages_that_hint_keep_hinting),
		virt_unit_test(entries_of_moving_pages_lose_write),
		virt_unit_test(a_moving_page_of_a_forbidden_area_is_cleared),
		virt_unit_test(a_moving_page_is_unmapped),
		virt_unit_test(huge_pages_whole_and_in_part),
		virt_unit_test(errors_and_holes),
		virt_unit_test(a_protect_that_fails_changes_nothing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
