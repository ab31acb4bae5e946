// SPDX-License-Identifier: MIT
// Migration of objects' pages by the method of their object: as they are, by the object's own
// callback, with private data, or written out first. And what happens around a move: notifiers,
// poison, the pause budget.
#include "../support/machine_fixture.h"

#include "base/mark.h"
#include "virt/page_table.h"
#include "virt/rmap.h"
#include "virt/vma.h"

#include <errno.h>

#define PAGES 4

static struct fx fx;
static struct task *a;
static struct object *object;
static uint64_t buf;

// How the object under test answers.
static struct {
	unsigned nr_written, nr_migrated, nr_released;
	int write_result, migrate_result;
	bool keeps_private, blocks_no_more;
} does;

static int read_folio(struct object *o, struct folio *folio)
{
	memset(folio_bytes(o->mm, folio, 0), 0, PAGE_SIZE);
	return 0;
}

static int write_folio(struct object *o, struct folio *folio)
{
	(void)o;
	assert_true(folio_test_locked(folio));
	folio_wait_writeback(folio);
	if (!folio_clear_dirty_for_io(folio))
		return 0;
	folio_start_writeback(folio);
	folio_end_writeback(folio);
	does.nr_written++;
	fx.model->refuse_block = does.blocks_no_more;
	if (does.write_result)
		folio_mark_dirty(folio);
	return does.write_result;
}

static int migrate_folio(struct object *o, struct folio *dst, struct folio *src,
	enum migrate_mode mode)
{
	unsigned refs = folio_expected_ref_count(src) + 1;

	(void)mode;
	if (does.migrate_result)
		return does.migrate_result;
	memcpy(folio_bytes(o->mm, dst, 0), folio_bytes(o->mm, src, 0), PAGE_SIZE);
	mutex_lock(&o->i_pages_lock);
	assert_true(folio_ref_freeze(src, refs));
	object_replace_folio(o, dst, src);
	folio_clear_mapping(src);
	folio_ref_unfreeze(src, refs - 1);
	mutex_unlock(&o->i_pages_lock);
	does.nr_migrated++;
	return 0;
}

static bool release_folio(struct object *o, struct folio *folio)
{
	(void)o;
	if (does.keeps_private)
		return false;
	folio_clear_private(folio);
	folio_put(folio); // the private data's reference
	does.nr_released++;
	return true;
}

static const struct object_ops by_writing = {.kind = OBJECT_FILE,
	.read_folio = read_folio,
	.write_folio = write_folio};
static const struct object_ops without_writing = {.kind = OBJECT_FILE, .read_folio = read_folio};
static const struct object_ops by_callback = {.kind = OBJECT_FILE,
	.read_folio = read_folio,
	.write_folio = write_folio,
	.migrate_folio = migrate_folio};
static const struct object_ops with_private = {.kind = OBJECT_FILE,
	.migrate_plain = true,
	.read_folio = read_folio,
	.write_folio = write_folio,
	.release_folio = release_folio};

static void open_object(const struct object_ops *ops)
{
	memset(&does, 0, sizeof(does));
	fx_ok(object_create(&fx.mm, ops, "object", PAGES * PAGE_SIZE, &object));
	object->writable_fd = true;
	buf = fx_map_shared(a, PAGES, object);
}

static int setup(void **state)
{
	(void)state;
	fx_open(&fx, 3, 16);
	a = fx_task(&fx, 0);
	object = NULL;
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	fx_check(&fx);
	task_exit(a);
	if (object)
		object_put(object);
	fx_close(&fx);
	return 0;
}

static int migrate_all(enum migrate_mode mode, int nid)
{
	struct node_target target = {
		.mm = &fx.mm, .nid = nid, .gfp = GFP_HIGHUSER_MOVABLE | GFP_THISNODE};
	struct migrate_control mc = {.mm = &fx.mm, .mode = mode, .reason = MR_COMPACTION};
	struct folio_list list = {0};
	int err;

	for (unsigned i = 0; i < PAGES; i++)
		fx_ok(isolate_for_migration(&fx.mm, fx_folio(a, buf + i * PAGE_SIZE), &list));
	migrate_target_on_node(&mc.target, &target);
	err = migrate_pages(&list, &mc);
	putback_movable_pages(&fx.mm, &list);
	fx_check(&fx);
	return err;
}

static void dirty_pages_are_written_out_first(void **state)
{
	(void)state;
	open_object(&by_writing);
	fx_fill(&fx, a, buf, PAGES, 1);
	assert_int_equal(migrate_all(MIGRATE_SYNC_LIGHT, 1), PAGES); // would have to wait
	assert_int_equal(does.nr_written, 0);
	assert_int_equal(migrate_all(MIGRATE_SYNC, 1), 0);
	assert_int_equal(does.nr_written, PAGES);
	fx_all_on(a, buf, PAGES, 1);
	fx_verify(&fx, a, buf, PAGES, 1);
	assert_int_equal(migrate_all(MIGRATE_ASYNC, 2), 0); // clean now
	fx_fill(&fx, a, buf, PAGES, 2);
	fx_verify(&fx, a, buf, PAGES, 2);
}

static void what_cannot_be_written_stays(void **state)
{
	(void)state;
	open_object(&by_writing);
	fx_fill(&fx, a, buf, PAGES, 1);
	does.write_result = -EIO;
	assert_int_equal(migrate_all(MIGRATE_SYNC, 1), PAGES);
	fx_all_on(a, buf, PAGES, 0);
	fx_verify(&fx, a, buf, PAGES, 1);
}

// Written out, and then the host cannot stop accessors any more: nothing moves under their stores.
static void what_is_written_but_not_blocked_stays(void **state)
{
	(void)state;
	open_object(&by_writing);
	fx_fill(&fx, a, buf, PAGES, 1);
	does.blocks_no_more = true;
	assert_int_equal(migrate_all(MIGRATE_SYNC, 1), PAGES);
	assert_true(does.nr_written > 0);
	fx.model->refuse_block = false;
	fx_all_on(a, buf, PAGES, 0);
	fx_verify(&fx, a, buf, PAGES, 1);
}

static void without_a_way_to_write_dirty_pages_stay(void **state)
{
	uint64_t x;

	(void)state;
	open_object(&without_writing);
	for (unsigned i = 0; i < PAGES; i++)
		fx_ok(fx_access(&fx, a, buf + i * PAGE_SIZE, &x, sizeof(x), false));
	assert_int_equal(migrate_all(MIGRATE_SYNC, 1), 0); // clean
	fx_fill(&fx, a, buf, PAGES, 1);
	assert_int_equal(migrate_all(MIGRATE_SYNC, 2), PAGES);
	fx_all_on(a, buf, PAGES, 1);
	fx_verify(&fx, a, buf, PAGES, 1);
}

static void the_object_moves_it_itself(void **state)
{
	(void)state;
	open_object(&by_callback);
	fx_fill(&fx, a, buf, PAGES, 1);
	does.migrate_result = -EAGAIN;
	assert_int_equal(migrate_all(MIGRATE_SYNC, 1), PAGES);
	does.migrate_result = -EIO;
	assert_int_equal(migrate_all(MIGRATE_ASYNC, 1), PAGES);
	fx_verify(&fx, a, buf, PAGES, 1);
	does.migrate_result = 0;
	assert_int_equal(migrate_all(MIGRATE_ASYNC, 1), 0);
	assert_int_equal(does.nr_migrated, PAGES);
	fx_all_on(a, buf, PAGES, 1);
	fx_verify(&fx, a, buf, PAGES, 1);
}

static void private_data_is_dropped_or_stops_it(void **state)
{
	struct folio *folio;

	(void)state;
	open_object(&with_private);
	fx_fill(&fx, a, buf, PAGES, 1);
	folio = fx_folio(a, buf);
	folio_get(folio);
	folio_set_private(folio);
	does.keeps_private = true;
	assert_int_equal(migrate_all(MIGRATE_SYNC, 1), 1);
	assert_int_equal(fx_where(a, buf), 0);
	fx_all_on(a, buf + PAGE_SIZE, PAGES - 1, 1);
	does.keeps_private = false;
	assert_int_equal(migrate_all(MIGRATE_SYNC, 2), 0);
	assert_int_equal(does.nr_released, 1);
	fx_all_on(a, buf, PAGES, 2);
	fx_verify(&fx, a, buf, PAGES, 1);
}

static void pages_under_writeback_are_waited_for_by_sync_only(void **state)
{
	struct folio *folio;

	(void)state;
	open_object(&with_private);
	fx_fill(&fx, a, buf, PAGES, 1);
	folio = fx_folio(a, buf);
	folio_get(folio);
	folio_lock(folio);
	folio_start_writeback(folio);
	folio_unlock(folio);
	folio_put(folio);
	assert_int_equal(migrate_all(MIGRATE_SYNC_LIGHT, 1), 1);
	assert_int_equal(fx_where(a, buf), 0);
	folio_end_writeback(folio);
	assert_int_equal(migrate_all(MIGRATE_SYNC_LIGHT, 2), 0);
}

// ---- Around a move

static unsigned starts, ends;
static uint64_t notified_from, notified_to;

static void on_start(struct mm_notifier *n, uint64_t start, uint64_t end,
	enum mm_invalidate_reason reason)
{
	(void)n;
	assert_int_equal(reason, MM_INVALIDATE_MIGRATE);
	assert_int_equal(starts, ends);
	starts++;
	notified_from = min(notified_from, start);
	notified_to = max(notified_to, end);
}

static void on_end(struct mm_notifier *n, uint64_t start, uint64_t end,
	enum mm_invalidate_reason reason)
{
	(void)n;
	(void)start;
	(void)end;
	(void)reason;
	ends++;
}

static void who_listens_is_told(void **state)
{
	struct mm_notifier n = {.space = a->space, .start = on_start, .end = on_end};

	(void)state;
	buf = fx_map(a, PAGES);
	fx_fill(&fx, a, buf, PAGES, 1);
	starts = ends = 0;
	notified_from = UINT64_MAX;
	notified_to = 0;
	mm_notifier_register(&fx.mm, &n);
	assert_int_equal(migrate_all(MIGRATE_SYNC, 1), 0);
	mm_notifier_unregister(&fx.mm, &n);
	assert_true(starts >= 1);
	assert_int_equal(starts, ends);
	assert_int_equal(notified_from, buf);
	assert_int_equal(notified_to, buf + PAGES * PAGE_SIZE);
	fx_verify(&fx, a, buf, PAGES, 1);
}

// A pin that comes after the references were looked at is seen when the entry is taken.
static struct folio *pin_me;

static void pin_at_start(struct mm_notifier *n, uint64_t start, uint64_t end,
	enum mm_invalidate_reason reason)
{
	(void)n;
	(void)end;
	(void)reason;
	if (start == buf + PAGE_SIZE && !folio_maybe_pinned(pin_me))
		assert_true(folio_try_pin(pin_me, 1));
}

static void a_late_pin_is_seen(void **state)
{
	struct mm_notifier n = {.space = a->space, .start = pin_at_start, .end = on_end};

	(void)state;
	buf = fx_map(a, PAGES);
	fx_fill(&fx, a, buf, PAGES, 1);
	pin_me = fx_folio(a, buf + PAGE_SIZE);
	mm_notifier_register(&fx.mm, &n);
	assert_int_equal(migrate_all(MIGRATE_SYNC, 1), 1);
	mm_notifier_unregister(&fx.mm, &n);
	assert_true(mark_was_hit("migrate_unmap_pinned"));
	assert_int_equal(fx_where(a, buf + PAGE_SIZE), 0);
	folio_unpin(pin_me, 1);
	fx_verify(&fx, a, buf, PAGES, 1);
}

static void a_copy_that_finds_poison_is_final(void **state)
{
	struct fx_move mv;

	(void)state;
	buf = fx_map(a, PAGES);
	fx_fill(&fx, a, buf, PAGES, 1);
	fx_move_alloc(&mv, buf, PAGES, 1);
	fault_arm(FI_COPY, FI_THREAD, 0, FI_ALWAYS);
	fx_move_run(&mv, a, 0, MBIND_MOVE);
	assert_true(fault_disarm(FI_COPY));
	assert_int_equal(mv.ret, PAGES);
	for (unsigned i = 0; i < PAGES; i++)
		assert_int_equal(mv.why[i], WHY_POISONED);
	fx_all_on(a, buf, PAGES, 0);
	fx_verify(&fx, a, buf, PAGES, 1);
	fx_move_free(&mv);
}

static void a_poisoned_page_leaves_a_poison_entry(void **state)
{
	uint64_t x;

	(void)state;
	buf = fx_map(a, PAGES);
	fx_fill(&fx, a, buf, PAGES, 1);
	struct folio_list list = {0};
	struct folio *folio = fx_folio(a, buf);
	struct node_target target = {.mm = &fx.mm, .nid = 1, .gfp = GFP_HIGHUSER_MOVABLE};
	struct migrate_control mc = {.mm = &fx.mm, .mode = MIGRATE_SYNC, .reason = MR_SYSCALL};
	fx_ok(isolate_for_migration(&fx.mm, folio, &list));
	folio_set_hwpoison(folio);
	migrate_target_on_node(&mc.target, &target);
	// Not copied; but as its entry is gone the reference is the last: it is freed, and
	// withheld.
	assert_int_equal(migrate_pages(&list, &mc), 0);
	assert_true(mark_was_hit("migrate_unmap_poisoned"));
	assert_int_equal(fx_access(&fx, a, buf, &x, sizeof(x), false), -EIO);
	assert_int_equal(fx_where(a, buf), -ENOENT);
	assert_true(folio_test_hwpoison(folio));
	fx_verify(&fx, a, buf + PAGE_SIZE, PAGES - 1, 1);
}

// ---- KSM: one frame at many addresses, found by the subsystem's own walk

static struct {
	void *node; // stands for a stable node; engine data
	struct folio *folio;
	unsigned nr_walks, nr_migrated;
} ksm;

static void ksm_walk(struct folio *folio, bool (*one)(struct vma *, uint64_t addr, void *), void *arg)
{
	assert_ptr_equal(folio_mapping_pointer(folio), ksm.node);
	ksm.nr_walks++;
	for (unsigned i = 0; i < PAGES; i++)
		if (!one(vma_lookup(a->space, buf), buf + i * PAGE_SIZE, arg))
			break;
}

static void ksm_follow(struct folio *dst, struct folio *src)
{
	assert_ptr_equal(ksm.folio, src);
	ksm.folio = dst;
	ksm.nr_migrated++;
}

static void merge_one(struct vma *vma, uint64_t addr, struct folio *folio)
{
	struct page_table *table = pte_table_lock(a->space, vaddr_of(addr));

	if (addr != buf) {
		folio_get(folio);
		folio_add_anon_rmap(folio, 0, 1, false);
		atomic_fetch_add(&a->space->rss_anon, 1);
	}
	table_set_entry(table, pte_index(vaddr_of(addr)),
		pte_make(folio_pfn(folio), PTE_PRESENT | PTE_DIRTY));
	fx_ok(fx.mm.mmu->ops->map(
		fx.mm.mmu, vma_host(vma, addr), folio_pfn(folio), 1, MMU_READ));
	page_table_unlock(table);
}

// All pages of buf map one KSM page. They may lie in two tables: their place is the host's choice.
static void merge_all(void)
{
	struct vma *vma = vma_lookup(a->space, buf);
	struct folio *folio = fx_folio(a, buf);

	ksm.folio = folio;
	ksm.node = meta_alloc(64);
	folio_set_mapping(folio, ksm.node, MAPPING_KSM);
	folio_clear_anon_exclusive(folio);
	merge_one(vma, buf, folio);
	zap_range(vma, buf + PAGE_SIZE, buf + PAGES * PAGE_SIZE);
	for (unsigned i = 1; i < PAGES; i++)
		merge_one(vma, buf + i * PAGE_SIZE, folio);
}

static void a_ksm_page_moves_with_its_node(void **state)
{
	struct folio_list list = {0};
	struct node_target target = {.mm = &fx.mm, .nid = 1, .gfp = GFP_HIGHUSER_MOVABLE};
	struct migrate_control mc = {.mm = &fx.mm, .mode = MIGRATE_SYNC, .reason = MR_COMPACTION};
	uint64_t x, y;

	(void)state;
	fx.mm.up.ksm_rmap = ksm_walk;
	fx.mm.up.ksm_migrated = ksm_follow;
	buf = fx_map(a, PAGES);
	fx_fill(&fx, a, buf, PAGES, 1);
	merge_all();
	fx_check(&fx);
	migrate_target_on_node(&mc.target, &target);
	fx_ok(isolate_for_migration(&fx.mm, ksm.folio, &list));
	assert_int_equal(migrate_pages(&list, &mc), 0);
	assert_int_equal(ksm.nr_migrated, 1);
	assert_int_equal(ksm.nr_walks, 2);
	fx_check(&fx);
	fx_all_on(a, buf, PAGES, 1);
	fx_ok(fx_access(&fx, a, buf, &x, sizeof(x), false));
	fx_ok(fx_access(&fx, a, buf + PAGE_SIZE, &y, sizeof(y), false));
	assert_int_equal(x, y);
	fx_fill(&fx, a, buf, PAGES, 2); // each gets a copy
	fx_verify(&fx, a, buf, PAGES, 2);
	meta_free(ksm.node, 64);
}

static void time_passes(void *arg)
{
	clock_advance(arg, 3000000); // 3 ms in each block
}

static void a_budget_makes_batches_smaller(void **state)
{
	uint64_t many = 64;
	struct fx_move mv;
	struct move_request rq;

	(void)state;
	clock_init_manual(&fx.clock, 1);
	fx.model->on_block = time_passes;
	fx.model->on_block_arg = &fx.clock;
	// In one page table, wherever the mapping is: each table is blocked by a call of its own.
	buf = (fx_map(a, PMD_SIZE / PAGE_SIZE + many) + PMD_SIZE - 1) & PMD_MASK;
	fx_fill(&fx, a, buf, many, 1);
	fx_move_alloc(&mv, buf, many, 1);
	rq = (struct move_request){.caller = a, .count = many, .pages = mv.pages,
		.nodes = mv.nodes, .status = mv.status, .flags = MBIND_MOVE,
		.pause_budget_us = 4000};
	fx_ok(move_pages(&rq));
	assert_int_equal(rq.totals.nr_blocks, 1);
	assert_int_equal(rq.totals.nr_overruns, 0);
	rq.pause_budget_us = 1000; // less than one page takes
	for (unsigned i = 0; i < many; i++)
		mv.nodes[i] = 2;
	fx_ok(move_pages(&rq));
	printf("64 pages under 1 ms: %u blocks, %u too long\n", rq.totals.nr_blocks,
		rq.totals.nr_overruns);
	assert_true(rq.totals.nr_blocks > 3);
	assert_int_equal(rq.totals.nr_overruns, rq.totals.nr_blocks);
	assert_int_equal(atomic_load(&fx.mm.migrate_overruns), rq.totals.nr_overruns);
	fx.model->on_block = NULL;
	fx_verify(&fx, a, buf, many, 1);
	fx_move_free(&mv);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(dirty_pages_are_written_out_first),
		T(what_cannot_be_written_stays),
		T(what_is_written_but_not_blocked_stays),
		T(without_a_way_to_write_dirty_pages_stay),
		T(the_object_moves_it_itself),
		T(private_data_is_dropped_or_stops_it),
		T(pages_under_writeback_are_waited_for_by_sync_only),
		T(who_listens_is_told),
		T(a_late_pin_is_seen),
		T(a_copy_that_finds_poison_is_final),
		T(a_poisoned_page_leaves_a_poison_entry),
		T(a_ksm_page_moves_with_its_node),
		T(a_budget_makes_batches_smaller),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
