// SPDX-License-Identifier: MIT
// Page migration: the driver loop. It reads as the table of contents of this folder.
//
//   migrate_pages()      a list of isolated folios to new frames
//     move_hugetlb()     pool pages first, one by one; without a target everything ends
//     take_batch()       then 512 pages at a time (fewer when a pause budget says so):
//       find targets, unmap all, move all, undo the rest                  (batch.c)
//         unmap: migration entries, accessors blocked                     (unmap.c, mapper.c)
//         move: contents, identity, flags                                 (move.c, copy.c)
//         remap: entries become mappings of the new frames                (remap.c, entry.c)
//     move_batch()       ASYNC: up to 10 passes. Otherwise 3 passes that never wait while several
//                        folios are locked, then each folio that is left alone, in the mode that
//                        was asked for, up to 7 passes
//     move_split()       pages of huge folios that had to be split: one pass
//
// Folios come from isolate.c, or movable.c when they are on no LRU list, and what could not be
// moved goes back by putback.c. Targets come from target.c. Who asks: move_pages.c, migrate_range.c
// and mbind.c here, and the layers above.
//
// No lock may be held by the caller but mmap_lock for reading. All memory that is needed is taken
// before the first folio is touched; without it nothing happens (-ENOMEM).
#include "base/mark.h"
#include "base/vmstat.h"
#include "migrate/batch.h"
#include "virt/pin.h"

#include <errno.h>
#include <sched.h>

#define PASSES_ASYNC 10
#define PASSES_BEFORE_SYNC 3
#define PASSES_SYNC 7
#define PASSES_HUGETLB 10
#define HUGETLB_FORCE_PASS 3 // from here on a SYNC caller may wait for the lock

// One call of migrate_pages().
struct migration {
	struct migrate_control *mc;
	struct folio_list *from;
	struct folio_list failed; // the caller's again in the end
	struct folio_list splits;
	struct migrate_stats stats;
	struct batch *batch;
	size_t batch_size; // bytes
};

static int begin(struct migration *mg);
static int move_hugetlb(struct migration *mg);
static void take_batch(struct migration *mg);
static int move_batch(struct migration *mg);
static void move_split(struct migration *mg);
static int end(struct migration *mg, int result);

int migrate_pages(struct folio_list *from, struct migrate_control *mc)
{
	struct migration mg = {.mc = mc, .from = from};
	int failed = 0, err = begin(&mg);

	if (!err)
		err = move_hugetlb(&mg);
	if (err > 0)
		failed = err;
	while (err >= 0 && !folio_list_empty(from)) {
		take_batch(&mg);
		err = move_batch(&mg);
		if (err < 0)
			break;
		failed += err;
		move_split(&mg);
	}
	return end(&mg, err < 0 ? err : failed);
}

// ---- Batches

// Slots that a batch of this list needs. A split gives up to 512 pages where one folio was.
static unsigned slots_needed(const struct migrate_control *mc, const struct folio_list *list)
{
	bool may_split = mc->mm->up.split_folio && !mc->keep_huge;
	struct folio *folio;
	unsigned n = 0;

	for_each_folio(folio, list) {
		if (folio_large(folio) && may_split)
			return MIGRATE_BATCH_PAGES;
		if (++n == MIGRATE_BATCH_PAGES)
			break;
	}
	return n;
}

static int begin(struct migration *mg)
{
	struct migrate_control *mc = mg->mc;
	unsigned capacity = slots_needed(mc, mg->from);

	if (!mc->pause_budget_us)
		mc->pause_budget_us = mc->mm->tunables.pause_budget_us;
	trace_event(mc->mm->trace, mm_migrate_pages_start, .mode = mc->mode, .reason = mc->reason);
	mg->batch_size = sizeof(struct batch) +
			 capacity * (sizeof(struct slot) + sizeof(struct folio *));
	mg->batch = meta_alloc(mg->batch_size);
	if (!mg->batch)
		return -ENOMEM;
	mg->batch->mc = mc;
	mg->batch->capacity = capacity;
	mg->batch->run = (struct folio **)&mg->batch->slot[capacity];
	return 0;
}

static void empty_batch(struct migration *mg, struct folio_list *splits)
{
	struct batch *b = mg->batch;

	b->nr = 0;
	b->nr_pages = 0;
	b->blocked_at = 0;
	b->blocked_pages = 0;
	b->one_by_one = false;
	b->anon_vma = NULL;
	b->mode = MIGRATE_ASYNC;
	b->splits = splits;
}

static void add_to_batch(struct migration *mg, struct folio *folio)
{
	struct batch *b = mg->batch;
	unsigned nr = (unsigned)folio_nr(folio);

	b->slot[b->nr++] = (struct slot){
		.src = folio,
		.nr_pages = nr,
		.thp = folio_order(folio) >= PMD_ORDER && !folio_test_hugetlb(folio),
		.why = WHY_ABORTED,
	};
	b->nr_pages += nr;
}

// The folio that crosses the limit is still in.
static void fill_batch(struct migration *mg, struct folio_list *list, struct folio_list *splits)
{
	unsigned limit = batch_page_limit(mg->mc);
	struct batch *b = mg->batch;

	empty_batch(mg, splits);
	while (b->nr_pages < limit && b->nr < b->capacity && !folio_list_empty(list))
		add_to_batch(mg, folio_list_pop(list));
}

static void explain(struct migration *mg, struct slot *s)
{
	struct migrate_control *mc = mg->mc;
	char detail[64] = "";

	if (!mc->explain)
		return;
	// Compaction comes from allocations, whose callers hold locks ranking above those of pins.
	if (s->why == WHY_PINNED && mc->reason != MR_COMPACTION)
		(void)pin_holder(mc->mm, s->src, detail, sizeof(detail));
	else if (s->why == WHY_NO_TARGET && mc->target.describe)
		mc->target.describe(s->src, detail, sizeof(detail), mc->target.arg);
	mc->explain(s->src, s->why, detail[0] ? detail : NULL, mc->explain_arg);
}

static void give_up(struct migration *mg, struct slot *s)
{
	explain(mg, s);
	folio_list_add_tail(&mg->failed, s->src);
}

// What nobody tried has its reason too.
static void give_up_untried(struct migration *mg, struct folio_list *list)
{
	struct migrate_control *mc = mg->mc;
	struct folio *folio;

	while ((folio = folio_list_pop(list))) {
		if (mc->explain)
			mc->explain(folio, WHY_ABORTED, NULL, mc->explain_arg);
		folio_list_add_tail(&mg->failed, folio);
	}
}

static bool is_left(const struct slot *s)
{
	return s->state == SLOT_WAITING || s->state == SLOT_FAILED;
}

static void give_up_left(struct migration *mg)
{
	for (unsigned i = 0; i < mg->batch->nr; i++)
		if (is_left(&mg->batch->slot[i]))
			give_up(mg, &mg->batch->slot[i]);
}

static void take_batch(struct migration *mg)
{
	fill_batch(mg, mg->from, &mg->splits);
}

static int move_async(struct migration *mg, unsigned passes)
{
	int failed = batch_run(mg->batch, passes, &mg->stats);

	give_up_left(mg);
	return failed;
}

// Each folio alone, where waiting is allowed.
static int move_one_by_one(struct migration *mg, struct folio_list *left)
{
	struct folio *folio;
	int failed = 0;

	while ((folio = folio_list_pop(left))) {
		empty_batch(mg, &mg->splits);
		add_to_batch(mg, folio);
		mg->batch->mode = mg->mc->mode;
		int err = batch_run(mg->batch, PASSES_SYNC, &mg->stats);
		give_up_left(mg);
		if (err < 0) {
			give_up_untried(mg, left);
			return err;
		}
		failed += err;
	}
	return failed;
}

// The first try counts what it moved and split; what it left is counted when it is final.
static int move_sync(struct migration *mg)
{
	struct migrate_stats first = {0};
	struct migrate_stats *st = &mg->stats;
	struct folio_list left = {0};
	int err = batch_run(mg->batch, PASSES_BEFORE_SYNC, &first);

	st->nr_succeeded += first.nr_succeeded;
	st->nr_thp_succeeded += first.nr_thp_succeeded;
	st->nr_thp_split += first.nr_thp_split;
	st->nr_split += first.nr_split;
	if (err < 0) {
		st->nr_failed_pages += first.nr_failed_pages;
		st->nr_thp_failed += first.nr_thp_failed;
		give_up_left(mg);
		return err;
	}
	st->nr_thp_failed += first.nr_thp_split;
	for (unsigned i = 0; i < mg->batch->nr; i++)
		if (is_left(&mg->batch->slot[i]))
			folio_list_add_tail(&left, mg->batch->slot[i].src);
	err = move_one_by_one(mg, &left);
	return err < 0 ? err : err + (int)first.nr_split;
}

static int move_batch(struct migration *mg)
{
	return mg->mc->mode == MIGRATE_ASYNC ? move_async(mg, PASSES_ASYNC) : move_sync(mg);
}

// The split is counted already; whether its pages move is not.
static void move_split(struct migration *mg)
{
	while (!folio_list_empty(&mg->splits)) {
		fill_batch(mg, &mg->splits, NULL);
		(void)move_async(mg, 1);
	}
}

// ---- Pool pages

static int move_hugetlb_once(struct migration *mg, struct folio *folio, unsigned pass)
{
	struct migrate_stats ignored = {0};
	struct batch *b = mg->batch;

	empty_batch(mg, NULL);
	add_to_batch(mg, folio);
	if (pass >= HUGETLB_FORCE_PASS && mg->mc->mode == MIGRATE_SYNC)
		b->mode = MIGRATE_SYNC;
	return batch_run(b, 1, &ignored);
}

// 0: moved; -EAGAIN: again; -ENOMEM: no target, the whole call ends; else it is given up.
static int try_hugetlb(struct migration *mg, struct folio *folio, unsigned pass)
{
	unsigned nr = (unsigned)folio_nr(folio);
	struct slot *s = mg->batch->slot;
	int err = move_hugetlb_once(mg, folio, pass);

	if (!err) {
		mg->stats.nr_succeeded += nr;
		return 0;
	}
	if (err > 0)
		err = s->error;
	if (err == -EAGAIN && pass + 1 < PASSES_HUGETLB)
		return err;
	mg->stats.nr_failed_pages += nr;
	give_up(mg, s);
	return err == -EAGAIN ? -EBUSY : err;
}

static int move_hugetlb(struct migration *mg)
{
	struct folio_list again = {0};
	struct folio *folio, *next;
	int failed = 0;

	for_each_folio_safe(folio, next, mg->from)
		if (folio_test_hugetlb(folio))
			folio_list_move_tail(&again, mg->from, folio);
	for (unsigned pass = 0; pass < PASSES_HUGETLB; pass++) {
		// Who holds a page for a moment may let go of it.
		if (pass && mg->mc->mode != MIGRATE_ASYNC && !folio_list_empty(&again))
			sched_yield();
		for_each_folio_safe(folio, next, &again) {
			folio_list_del(&again, folio);
			int err = try_hugetlb(mg, folio, pass);
			if (err == -EAGAIN)
				folio_list_add_tail(&again, folio);
			else if (err)
				failed++;
			if (err == -ENOMEM) {
				MARK(migrate_hugetlb_no_target);
				give_up_untried(mg, &again);
				return -ENOMEM;
			}
		}
	}
	return failed;
}

// ---- The end

static void count_events(struct migration *mg)
{
	struct migrate_control *mc = mg->mc;
	struct vmstat *stat = mc->mm->stat;
	const struct migrate_stats *st = &mg->stats;

	vm_events(stat, VM_PGMIGRATE_SUCCESS, st->nr_succeeded);
	vm_events(stat, VM_PGMIGRATE_FAIL, st->nr_failed_pages);
	vm_events(stat, VM_THP_MIGRATION_SUCCESS, st->nr_thp_succeeded);
	vm_events(stat, VM_THP_MIGRATION_FAIL, st->nr_thp_failed);
	vm_events(stat, VM_THP_MIGRATION_SPLIT, st->nr_thp_split);
	trace_event(mc->mm->trace, mm_migrate_pages, .succeeded = st->nr_succeeded,
		.failed = st->nr_failed_pages, .thp_succeeded = st->nr_thp_succeeded,
		.thp_failed = st->nr_thp_failed, .thp_split = st->nr_thp_split,
		.large_folio_split = st->nr_split, .mode = mc->mode, .reason = mc->reason);
}

static void report(struct migration *mg)
{
	struct migrate_control *mc = mg->mc;
	const struct migrate_stats *st = &mg->stats;

	mc->nr_succeeded += st->nr_succeeded;
	mc->nr_failed += st->nr_failed_pages;
	mc->nr_thp_succeeded += st->nr_thp_succeeded;
	mc->nr_thp_failed += st->nr_thp_failed;
	mc->nr_thp_split += st->nr_thp_split;
	mc->nr_split += st->nr_split;
}

static int end(struct migration *mg, int result)
{
	if (mg->batch)
		meta_free(mg->batch, mg->batch_size);
	give_up_untried(mg, mg->from);
	give_up_untried(mg, &mg->splits);
	folio_list_splice_tail(mg->from, &mg->failed);
	count_events(mg);
	report(mg);
	return folio_list_empty(mg->from) ? 0 : result;
}
