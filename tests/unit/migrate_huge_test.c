// SPDX-License-Identifier: MIT
// Large folios: mapped by one PMD entry or by 512 page-table entries, whole or in part, moved whole
// or split first. The layer of huge pages is not there: the test maps them by hand, and splits by a
// stand-in for its upcall.
#include "../support/machine_fixture.h"

#include "base/mark.h"
#include "phys/lru.h"
#include "virt/gather.h"
#include "virt/page_table.h"
#include "virt/rmap.h"
#include "virt/vma.h"

#include <errno.h>

#define HUGE_PAGES 512

static struct fx fx;
static struct task *a;
static uint64_t buf;
static struct folio *huge;

static int setup(void **state)
{
	(void)state;
	fx_open(&fx, 3, 32);
	trace_switch(&fx.trace, true);
	a = fx_task(&fx, 0);
	buf = fx_map(a, HUGE_PAGES);
	assert_int_equal(buf & ~PMD_MASK, 0);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	fx_check(&fx);
	task_exit(a);
	fx_close(&fx);
	return 0;
}

// ---- Mapping by hand

static struct folio *huge_folio(void)
{
	struct folio *folio = folio_alloc(&fx.phys, GFP_TRANSHUGE | GFP_THISNODE | GFP_ZERO,
		PMD_ORDER, 0, NULL, 0);

	assert_non_null(folio);
	folio_set_uptodate(folio);
	return folio;
}

static void map_huge(void)
{
	const uint64_t bits = PTE_PRESENT | PTE_WRITE | PTE_DIRTY | PTE_YOUNG | PTE_HUGE;
	struct vma *vma = vma_lookup(a->space, buf);
	struct page_table *table;
	int err = 0;

	huge = huge_folio();
	fx_ok(anon_vma_prepare(vma));
	page_table_deposit(a->space, page_table_alloc(a->space, NULL, 1, vaddr_of(buf)));
	table = pmd_table_alloc_lock(a->space, NULL, vaddr_of(buf), &err);
	assert_non_null(table);
	folio_add_new_anon_rmap(huge, vma, buf);
	folio_add_lru(huge);
	table_set_entry(table, pmd_index(vaddr_of(buf)), pte_make(folio_pfn(huge), bits));
	atomic_fetch_add(&a->space->rss_anon, HUGE_PAGES);
	fx_ok(fx.mm.mmu->ops->map(fx.mm.mmu, vma_host(vma, buf), folio_pfn(huge), HUGE_PAGES,
		MMU_WRITE));
	page_table_unlock(table);
}

static void map_small(void)
{
	const uint64_t bits = PTE_PRESENT | PTE_WRITE | PTE_DIRTY | PTE_YOUNG;
	struct vma *vma = vma_lookup(a->space, buf);
	struct page_table *table;
	int err = 0;

	huge = huge_folio();
	fx_ok(anon_vma_prepare(vma));
	table = pte_table_alloc_lock(a->space, NULL, vaddr_of(buf), &err);
	assert_non_null(table);
	folio_set_swapbacked(huge);
	folio_set_index(huge, vma_pgoff(vma, buf));
	folio_set_mapping(huge, vma->anon_vma, MAPPING_ANON);
	folio_size_stat(huge, STAT_NR_ANON, 1);
	folio_add_anon_rmap(huge, 0, HUGE_PAGES, true);
	folio_ref_add(huge, HUGE_PAGES - 1);
	folio_add_lru(huge);
	for (unsigned i = 0; i < HUGE_PAGES; i++)
		table_set_entry(table, i, pte_make(pfn_add(folio_pfn(huge), i), bits));
	atomic_fetch_add(&a->space->rss_anon, HUGE_PAGES);
	fx_ok(fx.mm.mmu->ops->map(fx.mm.mmu, vma_host(vma, buf), folio_pfn(huge), HUGE_PAGES,
		MMU_WRITE));
	page_table_unlock(table);
}

static unsigned trace_count(enum trace_event_id event)
{
	struct trace_record r;
	unsigned n = 0;

	while (trace_read(&fx.trace, &r))
		n += r.event == event;
	return n;
}

// ---- A stand-in for the huge-page layer's split: of a folio mapped by entries only

static int split_result;
static unsigned nr_splits;

static int split(struct folio *folio, struct folio_list *tails)
{
	struct folio old = *folio;
	unsigned refs = HUGE_PAGES + 1; // each page's entry, and the isolation

	assert_true(folio_test_locked(folio));
	if (split_result)
		return split_result;
	if (folio_entire_mapcount(folio) || !folio_ref_freeze(folio, refs))
		return -EBUSY;
	(void)folio_deferred_unqueue(folio);
	folio_size_stat(folio, STAT_NR_ANON, -1);
	folio_dissolve(folio, 0, 0);
	folio_ref_unfreeze(folio, 2);
	for (unsigned i = 1; i < HUGE_PAGES; i++) {
		struct folio *tail = (struct folio *)(&folio->page + i);

		folio_set_index(tail, folio_index(folio) + i);
		folio_set_mapping_raw(tail, folio_mapping_raw(&old));
		folio_set_swapbacked(tail);
		folio_set_uptodate(tail);
		folio_set_dirty(tail);
		folio_ref_unfreeze(tail, 2);
		folio_list_add_tail(tails, tail);
	}
	nr_splits++;
	return 0;
}

// ---- Tests

static void a_huge_mapping_moves_by_one_entry(void **state)
{
	struct fx_move mv;

	(void)state;
	map_huge();
	fx_fill(&fx, a, buf, HUGE_PAGES, 1);
	fx_check(&fx);
	fx_mark(&fx);
	unsigned long maps = fx.model->nr_map, blocks = fx.model->nr_block;
	fx_move_alloc(&mv, buf, 1, 1);
	fx_move_run(&mv, a, 0, MBIND_MOVE);
	assert_int_equal(mv.ret, 0);
	assert_int_equal(mv.totals.nr_thp_succeeded, 1);
	fx_move_free(&mv);
	assert_int_equal(fx.model->nr_map - maps, 1);
	assert_int_equal(fx.model->nr_block - blocks, 1);
	assert_int_equal(fx_since(&fx, VM_THP_MIGRATION_SUCCESS), 1);
	assert_int_equal(fx_since(&fx, VM_PGMIGRATE_SUCCESS), HUGE_PAGES);
	assert_int_equal(folio_order(fx_folio(a, buf)), PMD_ORDER);
	assert_int_equal(folio_entire_mapcount(fx_folio(a, buf)), 1);
	fx_all_on(a, buf, HUGE_PAGES, 1);
	fx_verify(&fx, a, buf, HUGE_PAGES, 1);
	assert_int_equal(trace_count(TRACE_set_migration_pmd), 1);
	fx_fill(&fx, a, buf, HUGE_PAGES, 2);
	fx_verify(&fx, a, buf, HUGE_PAGES, 2);
}

static void every_address_of_it_but_the_first_is_busy(void **state)
{
	struct fx_move mv;

	(void)state;
	map_huge();
	fx_move_alloc(&mv, buf, HUGE_PAGES, 1);
	fx_move_run(&mv, a, 0, MBIND_MOVE);
	assert_int_equal(mv.ret, 0);
	assert_int_equal(mv.status[0], 1);
	assert_int_equal(mv.status[1], -EBUSY); // queued already; the batch ends here and moves
	assert_int_equal(mv.status[2], 1);	// so it is there by now
	assert_int_equal(mv.why[2], WHY_ALREADY_THERE);
	fx_move_free(&mv);
}

static void a_folio_mapped_by_entries_moves_whole(void **state)
{
	(void)state;
	map_small();
	fx_fill(&fx, a, buf, HUGE_PAGES, 1);
	fx_mark(&fx);
	unsigned long maps = fx.model->nr_map;
	assert_int_equal(fx_move(a, buf, 1, 2), 0);
	assert_int_equal(fx.model->nr_map - maps, 1);
	assert_int_equal(fx_since(&fx, VM_THP_MIGRATION_SUCCESS), 1);
	// It only seemed so while its entries went, but is noted, and what it moved to is, too.
	assert_int_equal(fx_since(&fx, VM_THP_DEFERRED_SPLIT_PAGE), 2);
	fx_all_on(a, buf, HUGE_PAGES, 2);
	fx_verify(&fx, a, buf, HUGE_PAGES, 1);
}

static void a_pin_on_one_page_keeps_all(void **state)
{
	struct pin *pin;
	struct fx_move mv;

	(void)state;
	map_small();
	fx_fill(&fx, a, buf, HUGE_PAGES, 1);
	fx_ok(pin_pages(a->space, a, buf + 300 * PAGE_SIZE, PAGE_SIZE, "gpu", &pin));
	fx_move_alloc(&mv, buf, 1, 1);
	fx_move_run(&mv, a, 0, MBIND_MOVE);
	assert_int_equal(mv.ret, 1);
	assert_int_equal(mv.why[0], WHY_PINNED);
	assert_int_equal(mv.totals.nr_thp_failed, 1);
	fx_move_free(&mv);
	fx_verify(&fx, a, buf, HUGE_PAGES, 1);
	fx_check(&fx);
	unpin_pages(pin);
}

static void without_a_huge_target_it_is_split(void **state)
{
	struct fx_move mv;

	(void)state;
	fx.mm.up.split_folio = split;
	split_result = 0;
	nr_splits = 0;
	map_small();
	fx_fill(&fx, a, buf, HUGE_PAGES, 1);
	fx_mark(&fx);
	fx_move_alloc(&mv, buf, 1, 1);
	fault_arm(FI_ALLOC, FI_THREAD, 0, 1);
	fx_move_run(&mv, a, 0, MBIND_MOVE);
	assert_true(fault_disarm(FI_ALLOC));
	assert_int_equal(mv.ret, 0); // nothing is left
	assert_int_equal(nr_splits, 1);
	assert_int_equal(fx_since(&fx, VM_THP_MIGRATION_SPLIT), 1);
	assert_int_equal(fx_since(&fx, VM_THP_MIGRATION_FAIL), 1);
	assert_int_equal(fx_since(&fx, VM_PGMIGRATE_SUCCESS), HUGE_PAGES);
	fx_all_on(a, buf, HUGE_PAGES, 1);
	fx_verify(&fx, a, buf, HUGE_PAGES, 1);
	fx_move_free(&mv);
}

static void when_it_cannot_be_split_it_stays(void **state)
{
	struct fx_move mv;

	(void)state;
	fx.mm.up.split_folio = split;
	split_result = -EBUSY;
	map_huge();
	fx_fill(&fx, a, buf, HUGE_PAGES, 1);
	fx_move_alloc(&mv, buf, 1, 1);
	fault_arm(FI_ALLOC, FI_THREAD, 0, FI_ALWAYS);
	fx_move_run(&mv, a, 0, MBIND_MOVE);
	assert_true(fault_disarm(FI_ALLOC));
	assert_int_equal(mv.ret, -ENOMEM);
	assert_int_equal(mv.why[0], WHY_SPLIT_FAILED);
	assert_true(mark_was_hit("migrate_split_failed"));
	fx_verify(&fx, a, buf, HUGE_PAGES, 1);
	fx_move_free(&mv);
}

static void who_keeps_huge_pages_gets_no_split(void **state)
{
	int status, node = 1;
	enum migrate_why why;
	struct move_request rq = {.caller = a, .count = 1, .pages = &buf, .nodes = &node,
		.status = &status, .flags = MBIND_MOVE, .why = &why, .keep_huge = true};

	(void)state;
	fx.mm.up.split_folio = split;
	split_result = 0;
	nr_splits = 0;
	map_small();
	fault_arm(FI_ALLOC, FI_THREAD, 0, FI_ALWAYS);
	assert_int_equal(move_pages(&rq), -ENOMEM);
	assert_true(fault_disarm(FI_ALLOC));
	assert_int_equal(why, WHY_NO_TARGET);
	assert_int_equal(nr_splits, 0);
}

static void a_host_that_refuses_keeps_it_huge(void **state)
{
	(void)state;
	map_huge();
	fx_fill(&fx, a, buf, HUGE_PAGES, 1);
	fx.model->refuse_block = true;
	assert_int_equal(fx_move(a, buf, 1, 1), 1);
	fx.model->refuse_block = false;
	fx_check(&fx);
	fx_verify(&fx, a, buf, HUGE_PAGES, 1);
	fx.model->refuse_map = true;
	assert_int_equal(fx_move(a, buf, 1, 1), 0);
	fx.model->refuse_map = false;
	fx_all_on(a, buf, HUGE_PAGES, 1);
	fx_check(&fx);
	fx_verify(&fx, a, buf, HUGE_PAGES, 1);
}

static void a_child_sees_the_same(void **state)
{
	struct task *child;
	struct fx_move mv;

	(void)state;
	map_huge();
	fx_fill(&fx, a, buf, HUGE_PAGES, 1);
	fx_ok(task_fork(a, 0, &child));
	fx_move_alloc(&mv, buf, 1, 1);
	fx_move_run(&mv, a, 0, MBIND_MOVE_ALL);
	assert_int_equal(mv.ret, 0);
	fx_move_free(&mv);
	fx_all_on(a, buf, HUGE_PAGES, 1);
	fx_all_on(child, buf, HUGE_PAGES, 1);
	fx_verify(&fx, child, buf, HUGE_PAGES, 1);
	fx_check(&fx);
	task_exit(child);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(a_huge_mapping_moves_by_one_entry),
		T(every_address_of_it_but_the_first_is_busy),
		T(a_folio_mapped_by_entries_moves_whole),
		T(a_pin_on_one_page_keeps_all),
		T(without_a_huge_target_it_is_split),
		T(when_it_cannot_be_split_it_stays),
		T(who_keeps_huge_pages_gets_no_split),
		T(a_host_that_refuses_keeps_it_huge),
		T(a_child_sees_the_same),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
