// SPDX-License-Identifier: MIT
// Transparent huge pages: first touches, writes, what splits a leaf and what splits a folio, and
// that a huge page moves as one.
#include "thp_fixture.h"

#include "base/fault_inject.h"
#include "phys/lru.h"
#include "virt/vma.h"

#include <errno.h>

#define RW (VM_READ | VM_WRITE | VM_MAYWRITE)

static int setup(void **state)
{
	(void)state;
	thp_open(2);
	thp.setting[SET_ENABLED] = THP_ALWAYS;
	return 0;
}

static void store(struct task *task, uint64_t addr, uint64_t value)
{
	fx_ok(fx_access(&fx, task, addr, &value, sizeof value, true));
}

static uint64_t load(struct task *task, uint64_t addr)
{
	uint64_t value = 0;

	fx_ok(fx_access(&fx, task, addr, &value, sizeof value, false));
	return value;
}

static struct folio *folio_at(struct task *task, uint64_t addr)
{
	struct folio *folio = NULL;
	unsigned page;

	fx_ok(follow_page(task->space, addr, &folio, &page));
	folio_put(folio);
	return folio;
}

static void first_write_maps_a_huge_page(void **state)
{
	(void)state;
	store(a, buf + 12345 * 8, 7);
	assert_true(is_leaf(a, buf));
	assert_true(pte_none(pmd_at(a, buf + PMD_SIZE)));
	assert_int_equal(fx_since(&fx, VM_THP_FAULT_ALLOC), 1);
	assert_int_equal(fx_since(&fx, VM_NR_ANON_TRANSPARENT_HUGEPAGES), 1);
	assert_int_equal(a->space->rss_anon, HPAGES);
	assert_int_equal(load(a, buf + 12345 * 8), 7);
	assert_int_equal(load(a, buf), 0);
}

static void first_read_maps_the_huge_zero_page(void **state)
{
	(void)state;
	assert_int_equal(load(a, buf), 0);
	assert_true(pte_zero_page(pmd_at(a, buf)));
	assert_int_equal(fx_since(&fx, VM_THP_ZERO_PAGE_ALLOC), 1);
	assert_int_equal(fx_since(&fx, VM_THP_FAULT_ALLOC), 0);
	store(a, buf + 8, 5);
	assert_false(is_leaf(a, buf)); // one page of its own, zeros around it
	assert_int_equal(a->space->rss_anon, 1);
	assert_int_equal(fx_since(&fx, VM_THP_FAULT_ALLOC), 0);
	assert_int_equal(fx_since(&fx, VM_THP_SPLIT_PMD), 1);
	assert_int_equal(load(a, buf + 8), 5);
	assert_int_equal(load(a, buf + PAGE_SIZE), 0);
}

static void who_gets_one(void **state)
{
	struct {
		enum thp_enabled enabled;
		int advice; // 0: none
		bool huge;
	} row[] = {
		{THP_ALWAYS, 0, true}, {THP_ALWAYS, 14, true}, {THP_ALWAYS, 15, false},
		{THP_MADVISE, 0, false}, {THP_MADVISE, 14, true}, {THP_MADVISE, 15, false},
		{THP_NEVER, 0, false}, {THP_NEVER, 14, false}, {THP_NEVER, 15, false},
	};

	(void)state;
	for (unsigned i = 0; i < ARRAY_SIZE(row); i++) {
		uint64_t at = fx_map(a, HPAGES);

		thp.setting[SET_ENABLED] = row[i].enabled;
		if (row[i].advice)
			fx_ok(space_advise(a->space, a, at, PMD_SIZE, row[i].advice));
		store(a, at, 1);
		assert_int_equal(is_leaf(a, at), row[i].huge);
		fx_ok(space_unmap(a->space, at, PMD_SIZE));
	}
}

static void smaller_sizes(void **state)
{
	(void)state;
	thp.setting[SET_ENABLED] = THP_NEVER;
	thp.size_enabled[4] = SIZE_ALWAYS; // 64 kB
	store(a, buf + 20 * PAGE_SIZE, 9);
	assert_int_equal(folio_order(folio_at(a, buf + 16 * PAGE_SIZE)), 4);
	assert_int_equal(a->space->rss_anon, 16);
	assert_int_equal(size_stat(&fx.phys.sizes, 4, STAT_ANON_FAULT_ALLOC), 1);
	assert_int_equal(load(a, buf + 20 * PAGE_SIZE), 9);
}

static void a_full_node_falls_back(void **state)
{
	(void)state;
	thp.setting[SET_DEFRAG] = DEFRAG_NEVER;
	fault_arm(FI_ALLOC, FI_THREAD, 0, 1);
	store(a, buf, 3);
	fault_disarm_all();
	assert_false(is_leaf(a, buf));
	assert_int_equal(fx_since(&fx, VM_THP_FAULT_FALLBACK), 1);
	assert_int_equal(load(a, buf), 3);
}

static void fork_then_write(void **state)
{
	struct task *b;

	(void)state;
	fx_fill(&fx, a, buf, HPAGES, 1);
	fx_ok(task_fork(a, 0, &b));
	assert_true(is_leaf(b, buf));
	fx_check(&fx);
	store(b, buf + PAGE_SIZE, 42);
	assert_false(is_leaf(b, buf)); // split, one page copied
	assert_true(is_leaf(a, buf));
	assert_int_equal(fx_since(&fx, VM_THP_SPLIT_PMD), 1);
	fx_verify(&fx, a, buf, HPAGES, 1);
	assert_int_equal(load(b, buf + PAGE_SIZE), 42);
	fx_check(&fx);
	task_exit(b);
	store(a, buf, 43); // alone again: the leaf is used on
	assert_true(is_leaf(a, buf));
	store(a, buf, fx_stamp(1, buf));
	fx_verify(&fx, a, buf, HPAGES, 1);
}

// ........|xxxx....  the second half goes
static void partial_unmap_queues_for_splitting(void **state)
{
	struct folio *folio;

	(void)state;
	fx_fill(&fx, a, buf, HPAGES, 2);
	folio = folio_at(a, buf);
	fx_ok(space_unmap(a->space, buf + PMD_SIZE / 2, PMD_SIZE / 2));
	assert_false(is_leaf(a, buf));
	assert_true(folio_test_partially_mapped(folio) && folio_deferred_queued(folio));
	assert_int_equal(fx_since(&fx, VM_THP_DEFERRED_SPLIT_PAGE), 1);
	fx_check(&fx);
	assert_int_equal(thp_shrink_deferred(&thp, 0, 10), 1);
	assert_false(folio_large(folio_at(a, buf)));
	assert_int_equal(fx_since(&fx, VM_THP_SPLIT_PAGE), 1);
	fx_verify(&fx, a, buf, HPAGES / 2, 2);
	assert_int_equal(a->space->rss_anon, HPAGES / 2);
}

static void protect_remap_and_dontneed(void **state)
{
	uint64_t to;

	(void)state;
	fx_fill(&fx, a, buf, 2 * HPAGES, 3);
	fx_ok(space_protect(a->space, buf + PAGE_SIZE, PAGE_SIZE, VM_READ));
	assert_false(is_leaf(a, buf));
	assert_true(folio_large(folio_at(a, buf)));
	fx_ok(space_advise(a->space, a, buf + 8 * PAGE_SIZE, PAGE_SIZE, 4));
	assert_int_equal(load(a, buf + 8 * PAGE_SIZE), 0);
	store(a, buf + 8 * PAGE_SIZE, fx_stamp(3, buf + 8 * PAGE_SIZE));
	fx_check(&fx);
	fx_ok(space_remap(a->space, NULL, buf + PMD_SIZE, PMD_SIZE, PMD_SIZE, 0, false, &to));
	assert_true(is_leaf(a, to)); // moved as a whole
	assert_int_equal(load(a, to), fx_stamp(3, buf + PMD_SIZE));
}

static void moved_whole(void **state)
{
	struct fx_move mv;

	(void)state;
	fx_fill(&fx, a, buf, HPAGES, 4);
	fx_move_alloc(&mv, buf + 77 * PAGE_SIZE, 1, 1); // a tail moves all of it
	fx_move_run(&mv, a, 0, MBIND_MOVE);
	assert_int_equal(mv.ret, 0);
	assert_int_equal(mv.status[0], 1);
	fx_move_free(&mv);
	assert_true(is_leaf(a, buf));
	fx_all_on(a, buf, HPAGES, 1);
	assert_int_equal(fx_since(&fx, VM_THP_MIGRATION_SUCCESS), 1);
	assert_int_equal(fx_since(&fx, VM_PGMIGRATE_SUCCESS), HPAGES);
	assert_int_equal(fx_since(&fx, VM_THP_SPLIT_PAGE), 0);
	fx_verify(&fx, a, buf, HPAGES, 4);
}

// Everything of a node is taken, and 1024 pages given back that are no neighbours.
static struct folio **leave_single_pages(unsigned nid, unsigned *ret_nr)
{
	struct folio **held = calloc(32768, sizeof(*held));
	unsigned nr = 0;

	while ((held[nr] = folio_alloc(&fx.phys, GFP_HIGHUSER_MOVABLE | GFP_THISNODE, 0, (int)nid,
		NULL, 0)))
		nr++;
	for (unsigned i = 0, freed = 0; i < nr && freed < 1024; i++) {
		if (frame_pfn(&held[i]->page).n % 2)
			continue;
		folio_put(held[i]);
		held[i] = NULL;
		freed++;
	}
	*ret_nr = nr;
	return held;
}

static void give_back(struct folio **held, unsigned nr)
{
	for (unsigned i = 0; i < nr; i++)
		if (held[i])
			folio_put(held[i]);
	free(held);
}

static void split_when_the_target_has_no_room(void **state)
{
	struct folio **held;
	struct fx_move mv;
	unsigned nr;

	(void)state;
	fx_fill(&fx, a, buf, HPAGES, 5);
	held = leave_single_pages(1, &nr);
	fx_move_alloc(&mv, buf, 1, 1);
	fx_move_run(&mv, a, 0, MBIND_MOVE);
	assert_int_equal(mv.totals.nr_thp_split, 1);
	assert_int_equal(fx_since(&fx, VM_THP_MIGRATION_SPLIT), 1);
	assert_int_equal(fx_since(&fx, VM_THP_MIGRATION_FAIL), 1);
	assert_int_equal(fx_since(&fx, VM_THP_SPLIT_PAGE), 1);
	assert_int_equal(fx_since(&fx, VM_PGMIGRATE_SUCCESS), HPAGES);
	fx_move_free(&mv);
	assert_false(folio_large(folio_at(a, buf)));
	fx_all_on(a, buf, HPAGES, 1);
	fx_verify(&fx, a, buf, HPAGES, 5);
	fx_check(&fx);
	give_back(held, nr);
}

static void never_split_when_kept_huge(void **state)
{
	struct folio **held;
	struct fx_move mv;
	unsigned nr;

	(void)state;
	fx_fill(&fx, a, buf, HPAGES, 5);
	held = leave_single_pages(1, &nr);
	fx_move_alloc(&mv, buf, 1, 1);
	struct move_request rq = {.caller = a, .count = 1, .pages = mv.pages, .nodes = mv.nodes,
		.status = mv.status, .flags = MBIND_MOVE, .why = mv.why, .keep_huge = true};
	assert_int_equal(move_pages(&rq), -ENOMEM);
	assert_int_equal(mv.why[0], WHY_NO_TARGET);
	fx_move_free(&mv);
	assert_true(is_leaf(a, buf));
	assert_int_equal(fx_since(&fx, VM_THP_SPLIT_PAGE), 0);
	give_back(held, nr);
}

static int split_at(struct task *task, uint64_t addr, unsigned order)
{
	struct folio *folio;
	unsigned page;

	fx_ok(follow_page(task->space, addr, &folio, &page));
	folio_lock(folio);
	int err = thp_split_folio_to(folio, order, NULL);
	folio_unlock(folio);
	folio_put(folio);
	return err;
}

static void split_and_its_refusals(void **state)
{
	struct folio *folio;
	unsigned page;

	(void)state;
	fx_fill(&fx, a, buf, HPAGES, 6);
	assert_int_equal(split_at(a, buf, 1), -EINVAL);
	assert_int_equal(split_at(a, buf, 9), -EINVAL);
	fx_ok(follow_page(a->space, buf, &folio, &page)); // somebody else holds it
	assert_int_equal(split_at(a, buf, 0), -EAGAIN);
	folio_put(folio);
	assert_int_equal(fx_since(&fx, VM_THP_SPLIT_PAGE_FAILED), 1);
	fault_arm(FI_FREEZE, FI_THREAD, 0, 1);
	assert_int_equal(split_at(a, buf, 0), -EAGAIN);
	fault_disarm_all();
	fx_check(&fx);
	fx_verify(&fx, a, buf, HPAGES, 6);
	fx_ok(split_at(a, buf, 4));
	assert_int_equal(folio_order(folio_at(a, buf + 16 * PAGE_SIZE)), 4);
	fx_check(&fx);
	fx_ok(split_at(a, buf, 0));
	assert_false(folio_large(folio_at(a, buf)));
	fx_verify(&fx, a, buf, HPAGES, 6);
}

static int split_folio(struct folio *folio)
{
	folio_lock(folio);
	int err = thp_split_folio_to(folio, 0, NULL);
	folio_unlock(folio);
	return err;
}

// What is refused at once is no attempt, and not counted; the rest is.
static void folios_that_cannot_be_split(void **state)
{
	struct object *object;
	struct folio *folio, *unmapped;
	struct pin *pin;

	(void)state;
	assert_int_equal(split_folio(fx.mm.zero_page), -EBUSY);
	fx_fill(&fx, a, buf, HPAGES, 6);
	folio = folio_at(a, buf);
	folio_get(folio);
	frame_set(&folio->page, PG_WRITEBACK);
	assert_int_equal(split_folio(folio), -EBUSY);
	frame_clear(&folio->page, PG_WRITEBACK);
	assert_int_equal(fx_since(&fx, VM_THP_SPLIT_PAGE_FAILED), 0);

	fx_ok(pin_pages(a->space, a, buf + 3 * PAGE_SIZE, PAGE_SIZE, "test", &pin));
	assert_int_equal(split_folio(folio), -EAGAIN);
	assert_true(is_leaf(a, buf)); // found out before anything was taken apart
	unpin_pages(pin);
	folio_put(folio);
	assert_int_equal(fx_since(&fx, VM_THP_SPLIT_PAGE_FAILED), 1);
	assert_int_equal(size_stat(&fx.phys.sizes, PMD_ORDER, STAT_SPLIT_FAILED), 1);

	unmapped = folio_alloc(&fx.phys, GFP_TRANSHUGE, PMD_ORDER, 0, NULL, 0);
	assert_int_equal(split_folio(unmapped), -EBUSY); // nobody's
	folio_put(unmapped);

	thp.setting[SET_SHMEM_ENABLED] = SHMEM_ALWAYS;
	fx_ok(object_create_shmem(&fx.mm, NULL, PMD_SIZE, &object));
	uint64_t at = fx_map_shared(a, HPAGES, object);
	store(a, at, 1);
	folio = folio_at(a, at);
	folio_get(folio);
	fx_ok(space_unmap(a->space, at, PMD_SIZE));
	folio_lock(folio);
	object_remove_folio(folio); // truncated
	folio_unlock(folio);
	assert_int_equal(split_folio(folio), -EBUSY);
	folio_put(folio);
	object_put(object);
	assert_int_equal(fx_since(&fx, VM_THP_SPLIT_PAGE), 0);
	fx_verify(&fx, a, buf, HPAGES, 6);
}

// ---- Pieces of a leaf

// What is done to 7 pages of 512: the leaf becomes a table, the folio stays whole, and waits for its
// split if it lost pages.
struct part {
	const char *what; // for the reader
	bool gone; // the part is not mapped any more
	bool queued;
};

static void do_part(unsigned i, uint64_t at, uint64_t len)
{
	uint64_t to;

	switch (i) {
	case 0:
		fx_ok(space_unmap(a->space, at, len));
		break;
	case 1:
		fx_ok(space_advise(a->space, a, at, len, 4)); // DONTNEED
		break;
	case 2:
		fx_ok(space_protect(a->space, at, len, VM_READ));
		break;
	default:
		fx_ok(space_remap(a->space, NULL, at, len, len, 0, false, &to));
	}
}

static void a_part_splits_the_leaf_not_the_folio(void **state)
{
	static const struct part parts[] = {
		{"munmap", true, true},
		{"MADV_DONTNEED", true, true},
		{"mprotect", false, false},
		{"mremap", false, false},
	};

	(void)state;
	for (unsigned i = 0; i < ARRAY_SIZE(parts); i++) {
		uint64_t at = fx_map(a, HPAGES);

		fx_mark(&fx);
		fx_fill(&fx, a, at, HPAGES, 6);
		struct folio *folio = folio_at(a, at);
		assert_true(is_leaf(a, at));
		do_part(i, at + 100 * PAGE_SIZE, 7 * PAGE_SIZE);
		assert_false(is_leaf(a, at));
		assert_int_equal(folio_order(folio), PMD_ORDER);
		assert_int_equal(fx_since(&fx, VM_THP_SPLIT_PMD), 1);
		assert_int_equal(fx_since(&fx, VM_THP_SPLIT_PAGE), 0);
		assert_int_equal(fx_since(&fx, VM_THP_DEFERRED_SPLIT_PAGE), parts[i].queued);
		assert_int_equal(folio_test_partially_mapped(folio), parts[i].queued);
		assert_int_equal(folio_mapcount(folio), (int)HPAGES - 7 * parts[i].gone);
		fx_verify(&fx, a, at, 100, 6);
		fx_verify(&fx, a, at + 107 * PAGE_SIZE, HPAGES - 107, 6);
		fx_check(&fx);
		// Memory is wanted: what lost pages is split, and those pages are free.
		uint64_t free = node_nr_free(phys_node(&fx.phys, 0));
		assert_int_equal(thp_shrink_deferred(&thp, 0, 8), parts[i].queued);
		assert_true(node_nr_free(phys_node(&fx.phys, 0)) >= free + 7 * parts[i].queued);
		assert_int_equal(fx_since(&fx, VM_THP_SPLIT_PAGE), parts[i].queued);
		fx_verify(&fx, a, at, 100, 6);
		fx_check(&fx);
		fx_ok(space_unmap(a->space, at, PMD_SIZE));
	}
}

// New huge pages of which most is zeros are split, when max_ptes_none says what "most" is.
static void underused_pages_are_split(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 12; i++)
		store(a, buf + i * PAGE_SIZE, i + 1);
	fx_fill(&fx, a, buf + PMD_SIZE, HPAGES, 2);
	assert_int_equal(thp_shrink_deferred(&thp, 0, 8), 0); // 511: never
	thp.setting[SET_MAX_PTES_NONE] = 400;
	struct folio *full = folio_at(a, buf + PMD_SIZE), *sparse = folio_at(a, buf);
	(void)folio_deferred_queue(full);
	(void)folio_deferred_queue(sparse);
	assert_int_equal(a->space->rss_anon, 2 * HPAGES);
	assert_int_equal(thp_shrink_deferred(&thp, 0, 8), 1);
	assert_int_equal(a->space->rss_anon, HPAGES + 12);
	assert_int_equal(fx_since(&fx, VM_THP_UNDERUSED_SPLIT_PAGE), 1);
	assert_true(is_leaf(a, buf + PMD_SIZE));
	assert_false(is_leaf(a, buf));
	for (unsigned i = 0; i < 12; i++)
		assert_int_equal(load(a, buf + i * PAGE_SIZE), i + 1);
	fx_verify(&fx, a, buf + PMD_SIZE, HPAGES, 2);
}

static void split_of_what_two_spaces_map(void **state)
{
	struct task *b;

	(void)state;
	fx_fill(&fx, a, buf, HPAGES, 7);
	fx_ok(task_fork(a, 0, &b));
	assert_int_equal(thp_split_range(&thp, b->pid, buf, buf + PMD_SIZE, 0), 1);
	assert_false(is_leaf(a, buf) || is_leaf(b, buf));
	assert_ptr_equal(folio_at(a, buf + PAGE_SIZE), folio_at(b, buf + PAGE_SIZE));
	fx_check(&fx);
	fx_verify(&fx, a, buf, HPAGES, 7);
	fx_verify(&fx, b, buf, HPAGES, 7);
	task_exit(b);
	assert_int_equal(thp_split_range(&thp, 9999, 0, 1, 0), -ESRCH);
}

static void locked_memory_splits_and_stays_locked(void **state)
{
	(void)state;
	fx_ok(space_lock(a->space, a, buf, PMD_SIZE));
	assert_true(is_leaf(a, buf));
	fx_fill(&fx, a, buf, HPAGES, 8);
	assert_int_equal(fx_since(&fx, VM_NR_MLOCK), HPAGES);
	fx_ok(split_at(a, buf, 0));
	assert_int_equal(fx_since(&fx, VM_NR_MLOCK), HPAGES);
	fx_check(&fx);
	fx_verify(&fx, a, buf, HPAGES, 8);
}

// ---- Entries made to fault once

static unsigned nr_hints;
static struct folio *hinted;

static int count_hint(struct vma *vma, struct task *task, uint64_t addr, struct folio *folio)
{
	(void)vma;
	(void)task;
	(void)addr;
	nr_hints++;
	hinted = folio;
	return 0;
}

static void arm_hint(uint64_t addr)
{
	struct page_table *pmd = pmd_table_lock(a->space, vaddr_of(addr));
	unsigned i = pmd_index(vaddr_of(addr));

	table_set_entry(pmd, i, pte_set(table_entry(pmd, i), PTE_HINT));
	fx.mm.mmu->ops->clear(fx.mm.mmu, vma_host(vma_lookup(a->space, addr), addr), HPAGES);
	page_table_unlock(pmd);
}

static void a_huge_leaf_hints_once(void **state)
{
	(void)state;
	fx.mm.up.hint_fault = count_hint;
	nr_hints = 0;
	fx_fill(&fx, a, buf, HPAGES, 3);
	arm_hint(buf);
	store(a, buf + 7 * PAGE_SIZE + 8, 1);
	assert_int_equal(nr_hints, 1);
	assert_ptr_equal(hinted, folio_at(a, buf));
	store(a, buf + 8, 1);
	assert_int_equal(nr_hints, 1);
	assert_true(is_leaf(a, buf) && pte_writable(pmd_at(a, buf)));
	// Armed, and then split: every small entry hints.
	arm_hint(buf);
	fx_ok(thp_split_pmd(vma_lookup(a->space, buf), buf));
	store(a, buf + 8, 2);
	store(a, buf + PAGE_SIZE + 8, 2);
	store(a, buf + 16, 2);
	assert_int_equal(nr_hints, 3);
	fx_check(&fx);
}

// ---- Poison

static void a_poisoned_huge_page_stays_where_it_is(void **state)
{
	struct fx_move mv;

	(void)state;
	fx_fill(&fx, a, buf, HPAGES, 3);
	struct folio *folio = folio_at(a, buf);
	for (unsigned page = 0; page < 20; page += 19) {
		frame_set_hwpoison(folio_frame(folio, page));
		fx_move_alloc(&mv, buf, 1, 1);
		fx_move_run(&mv, a, 0, MBIND_MOVE);
		assert_int_equal(mv.ret, 1);
		assert_int_equal(mv.why[0], WHY_POISONED);
		fx_move_free(&mv);
		assert_true(is_leaf(a, buf)); // not emptied
		fx_check(&fx);
		fx_verify(&fx, a, buf, HPAGES, 3);
		frame_clear_hwpoison(folio_frame(folio, page));
	}
}

// ---- Splits need no memory

static void a_leaf_is_split_without_memory(void **state)
{
	struct task *b;

	(void)state;
	fx_fill(&fx, a, buf, HPAGES, 3);
	(void)load(a, buf + PMD_SIZE); // the zero page
	assert_int_equal(a->space->nr_deposited, 2);
	fx_ok(task_fork(a, 0, &b));
	assert_int_equal(b->space->nr_deposited, 2);
	fault_arm(FI_META, FI_THREAD, 0, FI_ALWAYS);
	fx_ok(thp_split_pmd(vma_lookup(a->space, buf), buf));
	fx_ok(thp_split_pmd(vma_lookup(a->space, buf + PMD_SIZE), buf + PMD_SIZE));
	fx_ok(thp_split_pmd(vma_lookup(b->space, buf), buf));
	fault_disarm_all();
	assert_int_equal(a->space->nr_deposited, 0);
	assert_int_equal(b->space->nr_deposited, 1);
	fx_check(&fx);
	fx_verify(&fx, a, buf, HPAGES, 3);
	fx_verify(&fx, b, buf, HPAGES, 3);
	fx_ok(space_unmap(b->space, buf, 2 * PMD_SIZE));
	assert_int_equal(b->space->nr_deposited, 0);
	task_exit(b);
	store(a, buf + 8, 4); // a page of its own: something is writable
	fx_ok(space_advise(a->space, a, buf, PMD_SIZE, 25)); // collapsed again
	assert_int_equal(a->space->nr_deposited, 1);
	fx_check(&fx);
}

static int refuse_to_split(struct vma *vma, uint64_t addr)
{
	(void)vma;
	(void)addr;
	return -ENOMEM;
}

static void count_pages(struct vma_walk *w, struct page_table *table, uint64_t addr, unsigned nr)
{
	(void)table;
	assert_int_equal(addr, buf + PMD_SIZE);
	*(unsigned *)w->arg += nr;
}

// A walk that must not see half a leaf leaves it out, says so, and goes on behind it.
static void a_walk_goes_on_past_what_is_not_split(void **state)
{
	unsigned pages = 0;
	struct vma_walk w = {.pages = count_pages, .arg = &pages};
	int (*split)(struct vma *, uint64_t) = fx.mm.up.split_huge_pmd;

	(void)state;
	fx_fill(&fx, a, buf, HPAGES, 3);
	thp.setting[SET_ENABLED] = THP_NEVER;
	fx_fill(&fx, a, buf + PMD_SIZE, 20, 3);
	fx.mm.up.split_huge_pmd = refuse_to_split;
	read_lock(&a->space->mmap_lock);
	assert_int_equal(vma_walk(&w, vma_lookup(a->space, buf), buf + 100 * PAGE_SIZE,
				 buf + PMD_SIZE + 20 * PAGE_SIZE),
		-ENOMEM);
	read_unlock(&a->space->mmap_lock);
	fx.mm.up.split_huge_pmd = split;
	assert_int_equal(pages, 20);
	assert_true(is_leaf(a, buf));
}

// A leaf of shared memory has no table put by for its split, and needs none: all of it goes.
static void advice_on_half_a_leaf_without_memory(void **state)
{
	struct object *object;

	(void)state;
	if (!FAULTS_BUILT_IN)
		skip();
	thp.setting[SET_SHMEM_ENABLED] = SHMEM_ALWAYS;
	fx_ok(object_create_shmem(&fx.mm, NULL, 2 * PMD_SIZE, &object));
	uint64_t at = fx_map_shared(a, 2 * HPAGES, object);
	store(a, at + 8, 1);
	store(a, at + PMD_SIZE, 2);
	assert_true(is_leaf(a, at) && is_leaf(a, at + PMD_SIZE));
	fault_arm(FI_META, FI_THREAD, 0, FI_ALWAYS);
	fx_ok(space_advise(a->space, a, at, PMD_SIZE + PAGE_SIZE, 4));
	assert_false(fault_disarm(FI_META));
	assert_true(pte_none(pmd_at(a, at)));
	assert_true(pte_none(pmd_at(a, at + PMD_SIZE)));
	assert_int_equal(a->space->rss_shmem, 0);
	assert_int_equal(load(a, at + 8), 1);
	assert_int_equal(load(a, at + PMD_SIZE), 2);
	object_put(object);
	fx_check(&fx);
}

static void shared_memory(void **state)
{
	struct object *object;

	(void)state;
	thp.setting[SET_SHMEM_ENABLED] = SHMEM_ADVISE;
	fx_ok(object_create_shmem(&fx.mm, NULL, 2 * PMD_SIZE, &object));
	uint64_t at = fx_map_shared(a, 2 * HPAGES, object);
	uint64_t again = fx_map_shared(a, 2 * HPAGES, object);
	fx_ok(space_advise(a->space, a, at, PMD_SIZE, 14));
	store(a, at + 8, 1);
	store(a, at + PMD_SIZE, 1); // not advised
	assert_true(is_leaf(a, at));
	assert_false(is_leaf(a, at + PMD_SIZE));
	assert_int_equal(fx_since(&fx, VM_NR_SHMEM_HUGEPAGES), 1);
	assert_int_equal(load(a, again + 8), 1); // small entries of the same folio
	fx_check(&fx);
	fx_fill(&fx, a, at, HPAGES, 9);
	fx_ok(split_at(a, at, 0));
	assert_true(pte_none(pmd_at(a, at)));
	assert_int_equal(fx_since(&fx, VM_NR_SHMEM_HUGEPAGES), 0);
	fx_check(&fx);
	fx_verify(&fx, a, at, HPAGES, 9);
	object_put(object);
}

// An object that ends within the range of a leaf: who touches what is beyond gets no leaf.
static void no_leaf_beyond_the_end(void **state)
{
	struct object *object;
	uint64_t x = 1;

	(void)state;
	thp.setting[SET_SHMEM_ENABLED] = SHMEM_ALWAYS;
	fx_ok(object_create_shmem(&fx.mm, NULL, 100 * PAGE_SIZE + 1, &object));
	uint64_t at = fx_map_shared(a, HPAGES, object);
	assert_int_equal(fx_access(&fx, a, at + 101 * PAGE_SIZE, &x, 8, true), -EIO);
	assert_int_equal(fx_access(&fx, a, at + 400 * PAGE_SIZE, &x, 8, false), -EIO);
	assert_true(pte_none(pmd_at(a, at)));
	assert_int_equal(object->nr_pages, 0);
	store(a, at + 100 * PAGE_SIZE, 5);
	assert_true(is_leaf(a, at));
	assert_int_equal(load(a, at + 101 * PAGE_SIZE), 0);
	fx_check(&fx);
	// Another mapping, now that the page is there.
	uint64_t again = fx_map_shared(a, HPAGES, object);
	assert_int_equal(fx_access(&fx, a, again + 400 * PAGE_SIZE, &x, 8, true), -EIO);
	assert_true(pte_none(pmd_at(a, again)));
	assert_int_equal(load(a, again + 100 * PAGE_SIZE), 5);
	assert_true(is_leaf(a, again));
	object_put(object);
}

// Shared memory of sizes below 2 MiB: allocated and mapped as a whole, moved and split as such.
static void shared_memory_of_smaller_sizes(void **state)
{
	struct object *object;
	struct task *b;

	(void)state;
	thp.size_shmem[4] = SIZE_SHMEM_ALWAYS; // 64 kB
	thp.size_shmem[2] = SIZE_SHMEM_ADVISE; // 16 kB
	fx_ok(object_create_shmem(&fx.mm, NULL, PMD_SIZE, &object));
	uint64_t at = fx_map_shared(a, HPAGES, object); // aligned
	fx_ok(space_unmap(a->space, at + 40 * PAGE_SIZE, PMD_SIZE - 40 * PAGE_SIZE));
	store(a, at + 5 * PAGE_SIZE, 1);
	assert_int_equal(folio_order(folio_at(a, at)), 4);
	assert_int_equal(a->space->rss_shmem, 16);
	assert_int_equal(size_stat(&fx.phys.sizes, 4, STAT_SHMEM_ALLOC), 1);
	assert_int_equal(fx_since(&fx, VM_THP_FILE_ALLOC), 0);
	(void)load(a, at + 20 * PAGE_SIZE); // read, the same
	assert_int_equal(a->space->rss_shmem, 32);
	store(a, at + 33 * PAGE_SIZE, 1); // no room for 64 kB, and 16 kB was not asked for
	assert_int_equal(folio_order(folio_at(a, at + 33 * PAGE_SIZE)), 0);
	fx_ok(space_advise(a->space, a, at, 40 * PAGE_SIZE, 14));
	store(a, at + 37 * PAGE_SIZE, 1);
	assert_int_equal(folio_order(folio_at(a, at + 36 * PAGE_SIZE)), 2);
	fx_check(&fx);
	fx_fill(&fx, a, at, 40, 9);
	fx_ok(task_fork(a, 0, &b));
	fx_verify(&fx, b, at, 40, 9);
	struct fx_move mv;
	fx_move_alloc(&mv, at, 1, 1);
	fx_move_run(&mv, a, 0, MBIND_MOVE_ALL);
	assert_int_equal(mv.status[0], 1);
	fx_move_free(&mv);
	fx_all_on(a, at, 16, 1);
	assert_int_equal(folio_order(folio_at(a, at)), 4);
	fx_check(&fx);
	assert_true(thp_split_range(&thp, a->pid, at, at + 40 * PAGE_SIZE, 0) > 0);
	assert_int_equal(object->nr_pages, 40);
	fx_check(&fx);
	fx_verify(&fx, a, at, 40, 9);
	fx_verify(&fx, b, at, 40, 9);
	task_exit(b);
	// Force is for those that inherit.
	thp.setting[SET_SHMEM_ENABLED] = SHMEM_FORCE;
	assert_false(thp_shmem_allows(&thp, NULL, object, 0, 4, THP_FAULT));
	thp.size_shmem[4] = SIZE_SHMEM_INHERIT;
	assert_true(thp_shmem_allows(&thp, NULL, object, 0, 4, THP_FAULT));
	object_put(object);
}

int main(void)
{
#define CASE(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		CASE(first_write_maps_a_huge_page),
		CASE(first_read_maps_the_huge_zero_page),
		CASE(who_gets_one),
		CASE(smaller_sizes),
		CASE(a_full_node_falls_back),
		CASE(fork_then_write),
		CASE(partial_unmap_queues_for_splitting),
		CASE(protect_remap_and_dontneed),
		CASE(moved_whole),
		CASE(split_when_the_target_has_no_room),
		CASE(never_split_when_kept_huge),
		CASE(split_and_its_refusals),
		CASE(folios_that_cannot_be_split),
		CASE(a_part_splits_the_leaf_not_the_folio),
		CASE(underused_pages_are_split),
		CASE(split_of_what_two_spaces_map),
		CASE(locked_memory_splits_and_stays_locked),
		CASE(a_huge_leaf_hints_once),
		CASE(a_poisoned_huge_page_stays_where_it_is),
		CASE(a_leaf_is_split_without_memory),
		CASE(a_walk_goes_on_past_what_is_not_split),
		CASE(advice_on_half_a_leaf_without_memory),
		CASE(shared_memory),
		CASE(no_leaf_beyond_the_end),
		CASE(shared_memory_of_smaller_sizes),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
