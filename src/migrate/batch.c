// SPDX-License-Identifier: MIT
// One batch: find targets, unmap all, move all, undo the rest.
//
//   batch_run()   as the table of contents below
//
// Two phases, so that a batch costs few host calls: first every folio is locked and its entries
// become migration entries, with one block for each run of neighbours; then all contents are copied
// and all entries put in place, with one map for each run. Between the phases the folios stay
// locked. Therefore nothing in a batch of several folios may wait for a lock or for writing back:
// only trylocks are used, unless the batch has one folio and its mode allows waiting. A failed
// trylock, a mapping that came back, or a reference nobody can explain is tried again in the next
// pass (-EAGAIN); other failures are final for this batch.
//
// Back-out at any point restores everything: entries, anon_vma reference, locks; the target goes
// back where it came from. The point of no return is in move.c.
//
// The pause, from the first block of the batch to its last remap, is measured, and tells how many
// pages the next batch may have when the caller gave a budget (pause.c).
#include "base/mark.h"
#include "machine/clock.h"
#include "base/vmstat.h"
#include "migrate/batch.h"
#include "migrate/movable.h"
#include "migrate/pause.h"
#include "phys/alloc.h"
#include "virt/object.h"

#include <errno.h>
#include <sched.h>

static int find_targets(struct batch *b);
static bool unmap_waiting(struct batch *b);
static bool move_pass(struct batch *b);
static void undo_unmapped(struct batch *b);
static void account_pause(struct batch *b);
static int end_slots(struct batch *b, struct migrate_stats *st);

int batch_run(struct batch *b, unsigned passes, struct migrate_stats *st)
{
	int err = find_targets(b);
	bool again = true;

	for (unsigned pass = 0; again && pass < (err ? 1 : passes); pass++) {
		if (pass && b->mode != MIGRATE_ASYNC)
			sched_yield();
		again = unmap_waiting(b);
	}
	again = true;
	for (unsigned pass = 0; again && pass < passes; pass++)
		again = move_pass(b);
	if (again)
		undo_unmapped(b);
	account_pause(b);
	int failed = end_slots(b, st);
	return err ? err : failed;
}

// ---- Targets

// Its owner freed it: our reference is the last.
static void drop_freed(struct batch *b, struct slot *s)
{
	MARK(migrate_source_freed);
	folio_clear_active(s->src);
	folio_clear_unevictable(s->src);
	s->state = SLOT_MOVED;
	s->why = WHY_MOVED;
	slot_release_source(b, s->src);
}

// Make it small, so that its pages can be moved one by one. The pages go to the splits list.
static int split(struct batch *b, struct slot *s)
{
	struct mm_core *mm = b->mc->mm;
	struct folio_list tails = {0};
	int err;

	if (!b->splits || !mm->up.split_folio || b->mc->keep_huge || folio_test_hugetlb(s->src))
		return -EINVAL;
	if (b->mode == MIGRATE_ASYNC) {
		if (!folio_trylock(s->src))
			return -EAGAIN;
	} else {
		folio_lock(s->src);
	}
	err = mm->up.split_folio(s->src, &tails);
	folio_unlock(s->src);
	if (err) {
		MARK(migrate_split_failed);
		return err;
	}
	folio_list_add_tail(b->splits, s->src);
	folio_list_splice_tail(b->splits, &tails);
	s->state = SLOT_SPLIT;
	return 0;
}

// A large folio that lost mappings would give memory back when split: better now than moved whole.
static bool split_partially_mapped(struct batch *b, struct slot *s)
{
	return s->nr_pages > 2 && folio_deferred_queued(s->src) &&
	       folio_test_partially_mapped(s->src) && !split(b, s);
}

static unsigned count_small(const struct batch *b, unsigned first)
{
	unsigned n = 0;

	while (first + n < b->nr && b->slot[first + n].nr_pages == 1 &&
		!folio_test_hugetlb(b->slot[first + n].src))
		n++;
	return n;
}

// Targets for slot i, and where frames can be had in a row, for small ones that follow it.
static bool take_targets(struct batch *b, unsigned i)
{
	struct migrate_target *t = &b->mc->target;
	unsigned want = count_small(b, i), got = 0;

	if (t->run && want > 1)
		got = t->run(b->slot[i].src, want, b->run, t->arg);
	if (!got) {
		b->run[0] = t->get(b->slot[i].src, t->arg);
		got = b->run[0] != NULL;
	}
	for (unsigned k = 0; k < got; k++)
		b->slot[i + k].dst = b->run[k];
	return got;
}

static int find_targets(struct batch *b)
{
	for (unsigned i = 0; i < b->nr; i++) {
		struct slot *s = &b->slot[i];

		s->tried = true;
		if (folio_ref_count(s->src) == 1) {
			drop_freed(b, s);
			continue;
		}
		if (split_partially_mapped(b, s))
			continue;
		if (s->dst || take_targets(b, i))
			continue;
		s->why = WHY_NO_TARGET;
		s->error = -ENOMEM;
		if (s->nr_pages > 1 && b->mc->reason != MR_NUMA_MISPLACED) {
			int err = split(b, s);
			if (!err || (err == -EAGAIN && b->mc->reason == MR_LONGTERM_PIN))
				continue;
			s->why = err == -EINVAL ? WHY_NO_TARGET : WHY_SPLIT_FAILED;
		}
		MARK(migrate_no_target);
		return -ENOMEM;
	}
	return 0;
}

static void put_target(struct batch *b, struct slot *s)
{
	if (b->mc->target.put)
		b->mc->target.put(s->dst, b->mc->target.arg);
	else
		folio_put(s->dst);
	s->dst = NULL;
}

// ---- Phase one

static int fail(struct slot *s, enum migrate_why why, int err)
{
	s->why = why;
	s->error = err;
	return err;
}

static bool may_wait_for_lock(const struct batch *b, const struct slot *s)
{
	if (b->mode == MIGRATE_ASYNC || b->mc->atomic_reclaim || memalloc_active())
		return false;
	return b->mode == MIGRATE_SYNC || folio_test_uptodate(s->src);
}

// Both folios locked, or none.
static int lock_slot(struct batch *b, struct slot *s)
{
	if (!folio_trylock(s->src)) {
		if (!may_wait_for_lock(b, s))
			return fail(s, WHY_LOCKED, -EAGAIN);
		folio_lock(s->src);
	}
	if (folio_test_writeback(s->src)) {
		if (b->mode != MIGRATE_SYNC) {
			folio_unlock(s->src);
			return fail(s, WHY_WRITEBACK, -EBUSY);
		}
		folio_wait_writeback(s->src);
	}
	if (!folio_trylock(s->dst)) {
		folio_unlock(s->src);
		return fail(s, WHY_LOCKED, -EAGAIN);
	}
	return 0;
}

static enum migrate_why why_references(const struct folio *folio)
{
	return folio_maybe_pinned(folio) ? WHY_PINNED : WHY_EXTRA_REFERENCE;
}

int slot_check_references(struct slot *s)
{
	if (folio_ref_count(s->src) == folio_expected_ref_count(s->src) + 1 + s->kept)
		return 0;
	return fail(s, why_references(s->src), -EAGAIN);
}

// An unmapped folio does not keep its anon_vma: the batch does, until its end. Neighbours mostly
// have the same one, which is held already.
// false: it is not mapped, though it was a moment ago.
static bool hold_anon_vma(struct batch *b, struct slot *s)
{
	if (b->anon_vma && folio_anon_vma(s->src) == b->anon_vma)
		return true;
	if (s->anon_vma) // of an earlier pass
		return true;
	s->anon_vma = folio_get_anon_vma(s->src);
	if (s->anon_vma)
		b->anon_vma = s->anon_vma;
	return s->anon_vma;
}

// Nothing speaks against moving a locked slot, as far as can be seen now.
static int check_locked(struct batch *b, struct slot *s)
{
	struct folio *src = s->src;
	bool mapped;
	int err;

	if (folio_test_movable_type(src))
		return 0;
	// Nobody is stopped for a folio that could not be moved anyway.
	err = slot_check_references(s);
	if (err)
		return err;
	// A copy on write that the host refuses takes a mapping away and brings it back.
	mapped = folio_mapped(src);
	if (mapped && folio_test_anon(src) && !folio_test_ksm(src) && !hold_anon_vma(b, s))
		return fail(s, WHY_STILL_MAPPED, -EAGAIN);
	if (!folio_mapping_raw(src) && folio_test_private(src))
		return fail(s, WHY_PRIVATE_DATA, -EAGAIN); // truncated, its owner still frees it
	s->ready = mapped;
	return 0;
}

// Locked, unmapped or not: as it was before the batch, except that it keeps its target. The locks
// are given up when the session's locks are.
static void undo(struct mapper *m, struct slot *s)
{
	if (s->was_mapped)
		slot_restore(m, s);
	s->tentative = false;
	s->undone = true;
	s->state = s->error == -EAGAIN ? SLOT_WAITING : SLOT_FAILED;
}

static void finish_undone(struct batch *b)
{
	for (unsigned i = 0; i < b->nr; i++) {
		struct slot *s = &b->slot[i];

		s->tentative = false; // the session ended well, or it was undone
		if (!s->undone)
			continue;
		s->undone = false;
		folio_unlock(s->dst);
		folio_unlock(s->src);
	}
}

static void lock_waiting(struct mapper *m, struct slot *s)
{
	struct batch *b = m->batch;

	s->ready = false;
	if (s->state != SLOT_WAITING || !s->dst)
		return;
	if (folio_ref_count(s->src) == 1) {
		drop_freed(b, s);
		return;
	}
	if (lock_slot(b, s)) {
		if (s->error != -EAGAIN)
			s->state = SLOT_FAILED;
		return;
	}
	s->state = SLOT_UNMAPPED;
	if (check_locked(b, s))
		undo(m, s);
}

// Entries of locked slots become migration entries.
static void unmap_ready(struct mapper *m, struct slot *s, unsigned nr)
{
	for (unsigned done; nr; s += done, nr -= done) {
		done = slot_suits_run(s) ? run_unmap(m, s, nr) : 0;
		if (done)
			continue;
		done = 1;
		int err = slot_unmap(m, s);
		if (err) {
			fail(s, s->why, err);
			undo(m, s);
		}
	}
}

// The session ends; if a block failed, all slots that took part are undone. The host may be short
// of mappings, so from now on each slot is unmapped in a session of its own.
static void end_session(struct mapper *m)
{
	struct batch *b = m->batch;
	int err = mapper_finish(m);

	if (err) {
		MARK(migrate_block_failed);
		b->one_by_one = true;
		mapper_init(m, b);
		for (unsigned i = 0; i < b->nr; i++)
			if (b->slot[i].state == SLOT_UNMAPPED && b->slot[i].tentative) {
				fail(&b->slot[i], WHY_HOST_MAPPINGS, -EAGAIN);
				undo(m, &b->slot[i]);
			}
		(void)mapper_finish(m);
	}
	finish_undone(b);
}

// true: some wait for another pass.
static bool unmap_waiting(struct batch *b)
{
	struct vmstat_batch counts;
	struct mapper m;
	bool again = false;

	vmstat_batch_begin(&counts, b->mc->mm->stat);
	mapper_init(&m, b);
	for (unsigned i = 0; i < b->nr; i++) {
		lock_waiting(&m, &b->slot[i]);
		if (!b->one_by_one)
			continue;
		unmap_ready(&m, &b->slot[i], b->slot[i].ready);
		end_session(&m);
		mapper_init(&m, b);
	}
	for (unsigned i = 0, nr; !b->one_by_one && i < b->nr; i += max(nr, 1u)) {
		for (nr = 0; i + nr < b->nr && b->slot[i + nr].ready; nr++)
			;
		unmap_ready(&m, &b->slot[i], nr);
	}
	end_session(&m);
	vmstat_batch_end(&counts);
	for (unsigned i = 0; i < b->nr; i++)
		again |= b->slot[i].state == SLOT_WAITING && b->slot[i].dst;
	return again;
}

// ---- Phase two

static void undo_where(struct batch *b, bool (*which)(const struct slot *))
{
	struct mapper m;

	mapper_init(&m, b);
	for (unsigned i = 0; i < b->nr; i++)
		if (which(&b->slot[i]))
			undo(&m, &b->slot[i]);
	(void)mapper_finish(&m);
	finish_undone(b);
}

static bool failed_for_good(const struct slot *s)
{
	return s->state == SLOT_UNMAPPED && s->error && s->error != -EAGAIN;
}

static bool is_unmapped(const struct slot *s)
{
	return s->state == SLOT_UNMAPPED;
}

// true: some wait for another pass, still locked and unmapped.
static bool move_pass(struct batch *b)
{
	bool again = false, failed = false;

	batch_move(b);
	for (unsigned i = 0; i < b->nr; i++) {
		const struct slot *s = &b->slot[i];

		if (failed_for_good(s))
			failed = true;
		else
			again |= is_unmapped(s);
	}
	if (failed)
		undo_where(b, failed_for_good);
	return again;
}

static void undo_unmapped(struct batch *b)
{
	undo_where(b, is_unmapped);
}

// ---- The books

unsigned batch_page_limit(const struct migrate_control *mc)
{
	if (!mc->pause_budget_us)
		return MIGRATE_BATCH_PAGES;
	return pause_fits(&mc->mm->migrate_pauses, mc->pause_budget_us, MIGRATE_BATCH_PAGES);
}

static void account_pause(struct batch *b)
{
	struct migrate_control *mc = b->mc;
	uint64_t pause;

	if (!b->blocked_at)
		return;
	pause = clock_now_ns(mc->mm->clock) - b->blocked_at;
	mc->nr_blocks++;
	if (mc->pause_budget_us && pause > mc->pause_budget_us * 1000ull) {
		mc->nr_overruns++;
		atomic_fetch_add_explicit(&mc->mm->migrate_overruns, 1, memory_order_relaxed);
	}
	pause_learn(&mc->mm->migrate_pauses, b->blocked_pages, pause);
}

static void count_failure(const struct slot *s, struct migrate_stats *st)
{
	st->nr_thp_failed += s->thp;
	if (s->state == SLOT_SPLIT) {
		st->nr_split++;
		st->nr_thp_split += s->thp;
	} else {
		st->nr_failed_pages += s->nr_pages;
	}
}

// What slots still hold is given up; how many failed.
static int end_slots(struct batch *b, struct migrate_stats *st)
{
	int failed = 0;

	for (unsigned i = 0; i < b->nr; i++) {
		struct slot *s = &b->slot[i];

		if (s->dst)
			put_target(b, s);
		if (s->anon_vma)
			anon_vma_put(s->anon_vma);
		if (s->state == SLOT_MOVED) {
			st->nr_succeeded += s->nr_pages;
			st->nr_thp_succeeded += s->thp;
		} else if (s->tried) {
			failed++;
			count_failure(s, st);
		}
	}
	return failed;
}
