// SPDX-License-Identifier: MIT
// Compaction against everything else, in seeded interleavings (base/sched.h) on the model mmu: a
// node in pieces is compacted by several at once, for allocations, as a whole and by its daemon,
// while others write, read, move, fork, pin and give up its pages. No write may be lost, a pinned
// page stays, and the books balance.
//
//   GODWIT_SEED=N      the first seed; a failing run prints its own
//   GODWIT_ROUNDS=N    seeds for each race (8)
#include "../support/machine_fixture.h"
#include "seeded.h"

#include "base/mark.h"
#include "base/sched.h"
#include "compact/compact.h"
#include "thp/thp.h"

#include <errno.h>

#define MIB 16u
#define PAGES 1536u // three pageblocks, of which every KEEP-th page is used
#define KEEP 8u
#define WORDS (PAGES / KEEP)
#define STEPS 3u
#define MOST_SEEDS 2000u

struct race {
	struct fx fx;
	struct compaction compaction;
	struct thp thp;
	struct task *task;
	uint64_t buf;
	_Atomic uint64_t written[WORDS]; // by the one writer; no order comes with it
	bool unmaps;		 // pages come and go
	struct folio_list hoard;
	uint64_t seed;
};

static uint64_t at_word(const struct race *r, uint64_t i)
{
	return r->buf + i * KEEP * PAGE_SIZE;
}

// ---- Actors

static void allocator(struct race *r, unsigned thread)
{
	uint64_t seed = r->seed * 29 + thread;

	for (unsigned step = 0; step < STEPS; step++) {
		gfp_t gfp = GFP_TRANSHUGE | GFP_THISNODE | (pick(&seed, 2) ? GFP_NORETRY : 0);
		struct folio *folio = folio_alloc(
			&r->fx.phys, gfp, pick(&seed, 2) ? PMD_ORDER : 4, 0, NULL, (int)thread);

		sched_point();
		if (folio)
			folio_put(folio);
	}
}

static void whole_node(struct race *r, unsigned thread)
{
	(void)thread;
	for (unsigned step = 0; step < STEPS; step++)
		compact_nodes(&r->compaction, 0);
}

static void background(struct race *r, unsigned thread)
{
	(void)thread;
	for (unsigned step = 0; step < STEPS; step++) {
		bool progress;
		struct folio *folio = folio_alloc(&r->fx.phys,
			GFP_TRANSHUGE_LIGHT | GFP_KSWAPD_RECLAIM | GFP_THISNODE, PMD_ORDER, 0, NULL,
			0);

		if (folio)
			folio_put(folio);
		(void)kcompactd_run(&r->compaction, 0);
		(void)kcompactd_run_proactive(&r->compaction, 0, &progress);
	}
}

static void writer(struct race *r, unsigned thread)
{
	uint64_t seed = r->seed * 37 + thread;

	for (unsigned step = 0; step < STEPS * WORDS; step++) {
		uint64_t i = pick(&seed, WORDS), old, next;

		ok(fx_access(&r->fx, r->task, at_word(r, i), &old, sizeof(old), false));
		if (!r->unmaps)
			hold(old == r->written[i]);
		next = r->written[i] + 1;
		ok(fx_access(&r->fx, r->task, at_word(r, i), &next, sizeof(next), true));
		r->written[i] = next;
	}
}

static void reader(struct race *r, unsigned thread)
{
	uint64_t seed = r->seed * 41 + thread, seen[WORDS] = {0};

	for (unsigned step = 0; step < STEPS * WORDS; step++) {
		uint64_t i = pick(&seed, WORDS), now;

		ok(fx_access(&r->fx, r->task, at_word(r, i), &now, sizeof(now), false));
		hold(now >= seen[i] || r->unmaps);
		seen[i] = now;
	}
}

static void mover(struct race *r, unsigned thread)
{
	uint64_t seed = r->seed * 31 + thread;

	for (unsigned step = 0; step < STEPS * 8; step++) {
		struct fx_move mv;

		fx_move_alloc(&mv, at_word(r, pick(&seed, WORDS)), 1, (int)pick(&seed, 2));
		fx_move_run(&mv, r->task, 0, MBIND_MOVE_ALL);
		hold(mv.ret >= 0 || mv.ret == -ENOMEM);
		fx_move_free(&mv);
	}
}

static void forker(struct race *r, unsigned thread)
{
	uint64_t seed = r->seed * 53 + thread;

	for (unsigned step = 0; step < STEPS; step++) {
		struct task *child;
		uint64_t x, mine = 1ull << 60;

		ok(task_fork(r->task, 0, &child));
		for (unsigned n = 0; n < 16; n++) {
			uint64_t i = pick(&seed, WORDS);

			ok(fx_access(&r->fx, child, at_word(r, i), &x, sizeof(x), false));
			hold(x == mine || x <= r->written[i] + 1);
			ok(fx_access(&r->fx, child, at_word(r, i), &mine, sizeof(mine), true));
		}
		task_exit(child);
	}
}

// Pages go; writers find zeros.
static void zapper(struct race *r, unsigned thread)
{
	uint64_t seed = r->seed * 47 + thread;

	for (unsigned step = 0; step < STEPS * 4; step++) {
		uint64_t first = pick(&seed, PAGES), nr = 1 + pick(&seed, PAGES - first);

		ok(space_advise(r->task->space, r->task, r->buf + first * PAGE_SIZE, nr * PAGE_SIZE,
			4));
	}
}

static uint64_t frame_at(struct race *r, uint64_t addr)
{
	struct folio *folio;
	unsigned page;

	ok(follow_page(r->task->space, addr, &folio, &page));
	folio_put(folio);
	return folio_pfn(folio).n + page;
}

static void pinner(struct race *r, unsigned thread)
{
	uint64_t seed = r->seed * 59 + thread;

	for (unsigned step = 0; step < STEPS * 8; step++) {
		uint64_t at = at_word(r, pick(&seed, WORDS)), before;
		struct pin *pin;

		ok(pin_pages(r->task->space, r->task, at, PAGE_SIZE, "race", &pin));
		before = frame_at(r, at);
		for (unsigned i = 0; i < 20; i++)
			sched_point();
		hold(frame_at(r, at) == before);
		unpin_pages(pin);
	}
}

// First touches that want huge pages, of the node that is being compacted.
static void toucher(struct race *r, unsigned thread)
{
	(void)thread;
	for (unsigned step = 0; step < STEPS; step++) {
		uint64_t at = fx_map(r->task, 512), value = step + 1, found;

		ok(fx_access(&r->fx, r->task, at + 77 * PAGE_SIZE, &value, 8, true));
		ok(fx_access(&r->fx, r->task, at + 77 * PAGE_SIZE, &found, 8, false));
		hold(found == value);
		ok(space_unmap(r->task->space, at, PMD_SIZE));
	}
}

// ---- Races

struct race_spec {
	const char *name;
	actor *actors[5];
	bool unmaps;
	const char *mark; // a rare branch that nothing else is sure to reach: until then it goes on
};

static const struct race_spec races[] = {
	{"allocate", {allocator, writer, reader}, 0, NULL},
	{"two_allocate", {allocator, allocator, writer}, 0, "compact_pageblock_claimed"},
	{"whole_node", {whole_node, writer, reader}, 0, NULL},
	{"two_whole", {whole_node, whole_node, allocator, writer}, 0, NULL},
	{"background", {background, allocator, writer, reader}, 0, NULL},
	{"move", {whole_node, mover, writer, allocator}, 0, NULL},
	{"fork", {whole_node, forker, writer}, 0, NULL},
	{"pin", {whole_node, pinner, allocator, writer}, 0, NULL},
	{"touch", {toucher, toucher, background, writer}, 0, NULL},
	{"everything", {whole_node, zapper, mover, writer, allocator}, 1, NULL},
};

#include "seeded_act.h"

static void hoard_blocks(struct race *r, unsigned least)
{
	for (int order = MAX_PAGE_ORDER; order >= (int)least; order--) {
		struct folio *folio;

		while ((folio = folio_alloc(&r->fx.phys, GFP_THISNODE | GFP_MEMALLOC,
				(unsigned)order, 0, NULL, 0)))
			folio_list_add(&r->hoard, folio);
	}
}

static void begin(struct race *r, const struct race_spec *spec)
{
	uint64_t zero = 0;

	fx_open(&r->fx, 2, MIB);
	compaction_init(&r->compaction, &r->fx.mm);
	thp_init(&r->thp, &r->fx.mm);
	compaction_set_proactiveness(&r->compaction, r->seed % 2 ? 100 : 0);
	r->task = fx_task(&r->fx, 0);
	r->unmaps = spec->unmaps;
	r->buf = fx_map(r->task, PAGES);
	for (unsigned i = 0; i < PAGES; i++)
		fx_ok(fx_access(&r->fx, r->task, r->buf + i * PAGE_SIZE, &zero, 8, true));
	hoard_blocks(r, 0);
	for (unsigned i = 0; i < PAGES; i++)
		if (i % KEEP)
			fx_ok(space_advise(r->task->space, r->task, r->buf + i * PAGE_SIZE,
				PAGE_SIZE, 4));
	r->thp.setting[SET_ENABLED] = THP_ALWAYS;
	r->thp.setting[SET_DEFRAG] = r->seed % 3 ? DEFRAG_ALWAYS : DEFRAG_DEFER;
}

static void finish(struct race *r)
{
	struct folio *folio;

	fx_check(&r->fx);
	for (unsigned i = 0; !r->unmaps && i < WORDS; i++) {
		uint64_t x;

		fx_ok(fx_access(&r->fx, r->task, at_word(r, i), &x, 8, false));
		assert_int_equal(x, r->written[i]);
	}
	task_exit(r->task);
	while ((folio = folio_list_pop(&r->hoard)))
		folio_put(folio);
	thp_destroy(&r->thp);
	compaction_destroy(&r->compaction);
	fx_close(&r->fx);
}

static unsigned long compacted;

static void race_once(const struct race_spec *spec, uint64_t seed)
{
	static struct race r;

	memset(&r, 0, sizeof(r));
	r.seed = seed;
	begin(&r, spec);
	race_play(&r, spec);
	compacted += vmstat_read(&r.fx.stat, VM_COMPACT_ISOLATED);
	finish(&r);
}

static void race_many(void **state)
{
	const struct race_spec *spec = *state;

	compacted = 0;
	race_rounds(spec->name, spec, 8, race_once);
	for (uint64_t more = 8; !compacted || (spec->mark && !mark_was_hit(spec->mark)); more++) {
		assert_true(more < MOST_SEEDS); // the rare branch is reached by one of some ten
		race_once(spec, first_seed + more);
	}
}

int main(int argc, char **argv)
{
	return race_all(argc, argv, race_many);
}
