// SPDX-License-Identifier: MIT
// Pool pages in migration: taken first, one by one; where targets come from and what becomes of
// both folios is the pool's business. The pool here is a stand-in for the hugetlb layer's upcalls.
#include "../support/machine_fixture.h"

#include "base/mark.h"
#include "virt/page_table.h"
#include "virt/rmap.h"
#include "virt/vma.h"

#include <errno.h>

static struct fx fx;
static struct task *a;
static uint64_t buf;
static struct folio *page, *spare; // of the pool: in use on node 0, free on node 1
static unsigned nr_moved, nr_putback;

static bool isolate(struct folio *folio)
{
	if (!folio_test_clear_hugetlb_migratable(folio))
		return false;
	folio_get(folio);
	return true;
}

static void putback(struct folio *folio)
{
	folio_set_hugetlb_migratable(folio);
	nr_putback++;
	folio_put(folio);
}

static struct folio *target(struct folio *src, int nid, struct nodemask allowed, gfp_t gfp, int reason)
{
	struct folio *folio = spare;

	(void)src;
	(void)allowed;
	(void)gfp;
	(void)reason;
	if (!folio || (int)folio_nid(folio) != nid)
		return NULL;
	spare = NULL;
	folio_ref_unfreeze(folio, 1);
	return folio;
}

static void moved(struct folio *dst, struct folio *src, int reason)
{
	(void)dst;
	(void)src;
	(void)reason;
	nr_moved++;
}

static void free_to_pool(void *arg, struct folio *folio)
{
	(void)arg;
	folio_clear_mapping(folio);
	spare = folio;
}

static struct folio *pool_page(int nid)
{
	struct folio *folio = folio_alloc(&fx.phys, GFP_HIGHUSER_MOVABLE | GFP_THISNODE, PMD_ORDER,
		nid, NULL, 0);

	assert_non_null(folio);
	folio_set_hugetlb(folio);
	folio_set_uptodate(folio);
	return folio;
}

// The pool page becomes an anonymous page of the task, as a private hugetlb mapping would have it.
static void map_page(void)
{
	const uint64_t bits = PTE_PRESENT | PTE_WRITE | PTE_DIRTY | PTE_YOUNG | PTE_HUGE;
	struct vma *vma = vma_lookup(a->space, buf);
	struct page_table *table;
	int err = 0;

	page = pool_page(0);
	folio_set_hugetlb_migratable(page);
	fx_ok(anon_vma_prepare(vma));
	page_table_deposit(a->space, page_table_alloc(a->space, NULL, 1, vaddr_of(buf))); // no VM_HUGETLB
	table = pmd_table_alloc_lock(a->space, NULL, vaddr_of(buf), &err);
	assert_non_null(table);
	folio_set_swapbacked(page);
	folio_set_index(page, vma_pgoff(vma, buf));
	folio_set_mapping(page, vma->anon_vma, MAPPING_ANON);
	folio_add_rmap_pmd(page, true);
	table_set_entry(table, pmd_index(vaddr_of(buf)), pte_make(folio_pfn(page), bits));
	fx_ok(fx.mm.mmu->ops->map(fx.mm.mmu, vma_host(vma, buf), folio_pfn(page), 512, MMU_WRITE));
	page_table_unlock(table);
}

static int setup(void **state)
{
	(void)state;
	fx_open(&fx, 2, 32);
	fx.mm.up.hugetlb_isolate = isolate;
	fx.mm.up.hugetlb_putback = putback;
	fx.mm.up.hugetlb_target = target;
	fx.mm.up.hugetlb_moved = moved;
	fx.phys.up.free_hugetlb = free_to_pool;
	nr_moved = nr_putback = 0;
	a = fx_task(&fx, 0);
	buf = fx_map_flags(a, PMD_SIZE, VM_READ | VM_WRITE | VM_MAYWRITE, NULL);
	map_page();
	spare = NULL;
	return 0;
}

static void dissolve(struct folio *folio)
{
	if (!folio)
		return;
	folio_clear_hugetlb(folio);
	folio_clear_hugetlb_migratable(folio);
	if (!folio_ref_count(folio))
		folio_ref_unfreeze(folio, 1);
	folio_put(folio);
}

static int teardown(void **state)
{
	(void)state;
	struct folio *unused = spare;
	spare = NULL;
	task_exit(a); // frees the mapped page to the pool
	dissolve(spare);
	if (unused != spare)
		dissolve(unused);
	spare = NULL;
	fx_close(&fx);
	return 0;
}

static void add_spare(int nid)
{
	spare = pool_page(nid);
	assert_true(folio_ref_freeze(spare, 1));
}

static void it_moves_to_a_page_of_the_pool(void **state)
{
	struct folio *src = page;

	(void)state;
	add_spare(1);
	fx_mark(&fx);
	fx_fill(&fx, a, buf, 512, 1);
	assert_int_equal(fx_move(a, buf, 1, 1), 0);
	assert_int_equal(nr_moved, 1);
	assert_int_equal(nr_putback, 2);
	assert_ptr_equal(spare, src); // freed to the pool
	assert_true(folio_test_hugetlb_migratable(fx_folio(a, buf)));
	assert_int_equal(fx_since(&fx, VM_PGMIGRATE_SUCCESS), 512);
	assert_int_equal(fx_since(&fx, VM_THP_MIGRATION_SUCCESS), 0);
	fx_all_on(a, buf, 512, 1);
	fx_verify(&fx, a, buf, 512, 1);
	spare = src;
}

static void without_a_page_in_the_pool_everything_ends(void **state)
{
	uint64_t small = fx_map(a, 2);
	uint64_t addr[] = {small, buf, small + PAGE_SIZE};
	struct fx_move mv;

	(void)state;
	fx_fill(&fx, a, small, 2, 2);
	fx_fill(&fx, a, buf, 512, 1);
	fx_move_alloc(&mv, buf, 3, 1);
	memcpy(mv.pages, addr, sizeof(addr));
	fx_move_run(&mv, a, 0, MBIND_MOVE);
	assert_int_equal(mv.ret, -ENOMEM);
	assert_int_equal(mv.why[1], WHY_NO_TARGET);
	assert_int_equal(mv.why[0], WHY_ABORTED);
	assert_int_equal(mv.why[2], WHY_ABORTED);
	fx_all_on(a, small, 2, 0);
	fx_verify(&fx, a, buf, 512, 1);
	assert_true(mark_was_hit("migrate_hugetlb_no_target"));
	fx_move_free(&mv);
}

static void a_locked_one_is_given_up(void **state)
{
	struct folio_list list = {0};
	struct node_target t = {.mm = &fx.mm, .nid = 1, .gfp = GFP_HIGHUSER_MOVABLE};
	struct migrate_control mc = {.mm = &fx.mm, .mode = MIGRATE_ASYNC, .reason = MR_COMPACTION};

	(void)state;
	add_spare(1);
	migrate_target_on_node(&mc.target, &t);
	fx_ok(isolate_for_migration(&fx.mm, page, &list));
	folio_lock(page);
	assert_int_equal(migrate_pages(&list, &mc), 1);
	folio_unlock(page);
	putback_movable_pages(&fx.mm, &list);
	assert_true(folio_test_hugetlb_migratable(page));
	assert_int_equal(nr_moved, 0);
	assert_non_null(spare); // the target went back
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(it_moves_to_a_page_of_the_pool),
		T(without_a_page_in_the_pool_everything_ends),
		T(a_locked_one_is_given_up),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
