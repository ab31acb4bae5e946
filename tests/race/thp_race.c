// SPDX-License-Identifier: MIT
// Huge pages against everything else, in seeded interleavings (base/sched.h) on the model mmu: a
// range of 2 MiB is collapsed, split, moved (whole only, too), forked, protected, locked and partly
// given up while others write and read some of its words, and while locks, memory and references
// fail at random. No write may be lost, nobody may see an old value, and the books balance. The same
// for the pages of a file, which must show what the file says, or the task's own copies.
//
//   GODWIT_SEED=N      the first seed; a failing run prints its own
//   GODWIT_ROUNDS=N    seeds for each race (12)
#include "../support/machine_fixture.h"
#include "seeded.h"

#include "base/sched.h"
#include "thp/thp.h"
#include "virt/reclaim.h"

#include <errno.h>
#include <fcntl.h>

#define WORDS 6
#define STEPS 8

static const unsigned page_of[WORDS] = {0, 1, 100, 256, 300, 511};

struct race {
	struct fx fx;
	struct thp thp;
	struct task *task;
	struct object *shm; // or the file
	uint64_t buf;
	_Atomic uint64_t written[WORDS]; // by the one writer; no order comes with it
	bool protects;		 // a refused write is no failure
	bool unmaps;		 // pages come and go
	// Of those who give pages up: what was written while none of them was at it, and none has
	// begun since, is still there.
	_Atomic uint64_t begun, done;
	uint64_t calm[WORDS]; // `begun` at the last write, if `done` was the same; else UINT64_MAX
	uint64_t seed;
};

static uint64_t at_word(const struct race *r, uint64_t i)
{
	return r->buf + page_of[i] * PAGE_SIZE;
}

// ---- Actors

static void collapser(struct race *r, unsigned thread)
{
	(void)thread;
	for (unsigned step = 0; step < STEPS; step++) {
		int err = space_advise(r->task->space, r->task, r->buf, PMD_SIZE, 25);

		hold(!err || err == -EAGAIN || err == -EINVAL || err == -ENOMEM);
		sched_point();
	}
}

static void daemon_of(struct race *r, unsigned thread)
{
	(void)thread;
	khugepaged_enter(&r->thp, r->task->space);
	for (unsigned step = 0; step < STEPS; step++)
		khugepaged_scan_full(&r->thp, 1);
}

static void splitter(struct race *r, unsigned thread)
{
	uint64_t seed = r->seed * 29 + thread;

	for (unsigned step = 0; step < STEPS; step++) {
		uint64_t at = at_word(r, pick(&seed, WORDS));

		hold(thp_split_range(&r->thp, r->task->pid, at, at + PAGE_SIZE,
			pick(&seed, 2) ? 0 : 5) >= 0);
		(void)thp_shrink_deferred(&r->thp, (unsigned)pick(&seed, 2), 4);
	}
}

static void mover(struct race *r, unsigned thread)
{
	uint64_t seed = r->seed * 31 + thread;

	for (unsigned step = 0; step < STEPS; step++) {
		struct fx_move mv;

		fx_move_alloc(&mv, at_word(r, pick(&seed, WORDS)), 1, (int)pick(&seed, 2));
		fx_move_run(&mv, r->task, 0, MBIND_MOVE_ALL);
		hold(mv.ret >= 0 || mv.ret == -ENOMEM);
		fx_move_free(&mv);
	}
}

// Whole or not at all: its moves split nothing.
static void keeper(struct race *r, unsigned thread)
{
	uint64_t seed = r->seed * 61 + thread;

	for (unsigned step = 0; step < STEPS; step++) {
		uint64_t page = at_word(r, pick(&seed, WORDS));
		int node = (int)pick(&seed, 2), status;
		struct move_request rq = {.caller = r->task, .count = 1, .pages = &page,
			.nodes = &node, .status = &status, .flags = MBIND_MOVE_ALL,
			.keep_huge = true};
		long ret = move_pages(&rq);

		hold(ret >= 0 || ret == -ENOMEM);
		hold(!rq.totals.nr_split && !rq.totals.nr_thp_split);
	}
}

// Collapses and splits that fail somewhere.
static void unlucky(struct race *r, unsigned thread)
{
	static const enum fault_kind kinds[] = {FI_TRYLOCK, FI_ALLOC, FI_META, FI_FREEZE};
	uint64_t seed = r->seed * 67 + thread;

	for (unsigned step = 0; step < 2 * STEPS; step++) {
		enum fault_kind kind = kinds[pick(&seed, ARRAY_SIZE(kinds))];

		fault_arm(kind, FI_THREAD, pick(&seed, step % 2 ? 8 : 600), 1 + pick(&seed, 3));
		if (pick(&seed, 2))
			(void)!space_advise(r->task->space, r->task, r->buf, PMD_SIZE, 25);
		else
			(void)thp_split_range(&r->thp, r->task->pid, r->buf, r->buf + PMD_SIZE, 0);
		fault_disarm(kind);
	}
}

static void locker(struct race *r, unsigned thread)
{
	uint64_t seed = r->seed * 71 + thread;

	for (unsigned step = 0; step < STEPS; step++) {
		uint64_t first = pick(&seed, 512), nr = 1 + pick(&seed, 512 - first);

		ok(space_lock(r->task->space, r->task, r->buf + first * PAGE_SIZE,
			nr * PAGE_SIZE));
		if (step % 2)
			ok(space_unlock(r->task->space, r->buf, PMD_SIZE));
	}
	ok(space_unlock(r->task->space, r->buf, PMD_SIZE));
}

// ---- Actors on the pages of a file: page i begins with i, a copy of the task's own with OWN + i

#define OWN 0x100000u

static void file_reader(struct race *r, unsigned thread)
{
	uint64_t seed = r->seed * 73 + thread;
	bool own[WORDS] = {false};

	for (unsigned step = 0; step < STEPS * WORDS; step++) {
		uint64_t i = pick(&seed, WORDS), x;

		ok(fx_access(&r->fx, r->task, at_word(r, i), &x, sizeof(x), false));
		hold(x == page_of[i] || x == OWN + page_of[i]);
		hold(!own[i] || x >= OWN);
		own[i] = x >= OWN;
	}
}

static void file_copier(struct race *r, unsigned thread)
{
	uint64_t seed = r->seed * 79 + thread;

	for (unsigned step = 0; step < STEPS; step++) {
		uint64_t i = pick(&seed, WORDS), x = OWN + page_of[i];

		ok(fx_access(&r->fx, r->task, at_word(r, i), &x, sizeof(x), true));
	}
}

// What nobody maps leaves the cache, and is read again.
static void file_dropper(struct race *r, unsigned thread)
{
	(void)thread;
	for (unsigned step = 0; step < STEPS; step++) {
		(void)object_truncate_unmapped(r->shm, 0, 512);
		sched_point();
	}
}

static void look_at_old(struct race *r, uint64_t i, uint64_t old)
{
	if (r->calm[i] == atomic_load(&r->begun))
		hold(old == atomic_load_explicit(&r->written[i], memory_order_relaxed));
	else
		hold(!old || old == atomic_load_explicit(&r->written[i], memory_order_relaxed));
}

static void writer(struct race *r, unsigned thread)
{
	uint64_t seed = r->seed * 37 + thread;

	for (unsigned step = 0; step < STEPS * WORDS; step++) {
		uint64_t i = pick(&seed, WORDS), old, next;
		int err = fx_access(&r->fx, r->task, at_word(r, i), &old, sizeof(old), false);

		ok(err);
		look_at_old(r, i, old);
		uint64_t begun = atomic_load(&r->begun), done = atomic_load(&r->done);
		next = atomic_load_explicit(&r->written[i], memory_order_relaxed) + 1;
		err = fx_access(&r->fx, r->task, at_word(r, i), &next, sizeof(next), true);
		if (err && r->protects)
			continue;
		ok(err);
		atomic_store_explicit(&r->written[i], next, memory_order_relaxed);
		r->calm[i] = begun == done ? begun : UINT64_MAX;
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

static void protector(struct race *r, unsigned thread)
{
	uint64_t seed = r->seed * 43 + thread;

	for (unsigned step = 0; step < STEPS; step++)
		ok(space_protect(r->task->space, at_word(r, pick(&seed, WORDS)), PAGE_SIZE,
			step % 2 ? VM_READ : VM_READ | VM_WRITE));
	ok(space_protect(r->task->space, r->buf, PMD_SIZE, VM_READ | VM_WRITE));
}

static void forker(struct race *r, unsigned thread)
{
	(void)thread;
	for (unsigned step = 0; step < STEPS / 2; step++) {
		struct task *child;
		uint64_t x, mine = 1ull << 60;

		ok(task_fork(r->task, 0, &child));
		for (unsigned i = 0; i < WORDS; i++) {
			ok(fx_access(&r->fx, child, at_word(r, i), &x, sizeof(x), false));
			hold(x <= atomic_load_explicit(&r->written[i], memory_order_relaxed) + 1);
			if (i % 2 && !r->shm)
				ok(fx_access(&r->fx, child, at_word(r, i), &mine, sizeof(mine),
					true));
		}
		if (step % 2)
			(void)!space_advise(child->space, child, r->buf, PMD_SIZE, 25);
		task_exit(child);
	}
}

// Pages go, in pieces of any size; writers find zeros.
static void zapper(struct race *r, unsigned thread)
{
	uint64_t seed = r->seed * 47 + thread;

	for (unsigned step = 0; step < STEPS; step++) {
		uint64_t first = pick(&seed, 512), nr = 1 + pick(&seed, 512 - first);

		atomic_fetch_add(&r->begun, 1);
		ok(space_advise(r->task->space, r->task, r->buf + first * PAGE_SIZE, nr * PAGE_SIZE,
			4));
		atomic_fetch_add(&r->done, 1);
	}
}

// Contents are given up, of any part; what is clean still is dropped at some time, perhaps by
// somebody else's reclaim.
static void freer(struct race *r, unsigned thread)
{
	uint64_t seed = r->seed * 83 + thread;
	const struct nodemask all = {3};

	for (unsigned step = 0; step < 2 * STEPS; step++) {
		uint64_t first = pick(&seed, 512), nr = 1 + pick(&seed, 512 - first);
		bool whole = pick(&seed, 2), gives_up = step % 2;
		static const int others[] = {20, 21, 21};

		if (gives_up)
			atomic_fetch_add(&r->begun, 1);
		ok(space_advise(r->task->space, r->task, r->buf + (whole ? 0 : first * PAGE_SIZE),
			whole ? PMD_SIZE : nr * PAGE_SIZE, gives_up ? 8 : others[pick(&seed, 3)]));
		if (gives_up)
			atomic_fetch_add(&r->done, 1);
		if (pick(&seed, 4) == 0)
			(void)reclaim_direct(&r->fx.mm, GFP_USER, 0, (int)pick(&seed, 2), &all);
	}
}

// Nothing is given up: pages are only looked at.
static void cooler(struct race *r, unsigned thread)
{
	uint64_t seed = r->seed * 89 + thread;

	for (unsigned step = 0; step < STEPS; step++) {
		uint64_t first = pick(&seed, 512), nr = 1 + pick(&seed, 512 - first);

		ok(space_advise(r->task->space, r->task, r->buf + first * PAGE_SIZE, nr * PAGE_SIZE,
			20 + (int)pick(&seed, 2)));
	}
}

// With mmap_lock: a collapse that will turn back may have emptied the entry.
static uint64_t frame_at(struct race *r, uint64_t addr)
{
	struct folio *folio;
	unsigned page;

	read_lock(&r->task->space->mmap_lock);
	ok(follow_page(r->task->space, addr, &folio, &page));
	folio_put(folio);
	read_unlock(&r->task->space->mmap_lock);
	return folio_pfn(folio).n + page;
}

static void pinner(struct race *r, unsigned thread)
{
	uint64_t seed = r->seed * 59 + thread;

	for (unsigned step = 0; step < STEPS; step++) {
		uint64_t at = at_word(r, pick(&seed, WORDS));
		struct pin *pin;
		uint64_t before;

		ok(pin_pages(r->task->space, r->task, at, PAGE_SIZE, "race", &pin));
		before = frame_at(r, at);
		sched_point();
		hold(frame_at(r, at) == before); // neither moved nor collapsed
		unpin_pages(pin);
	}
}

// ---- Races

struct race_spec {
	const char *name;
	actor *actors[5];
	int shared; // 2: by pages of 64 kB
	bool protects, unmaps, file;
};

static const struct race_spec races[] = {
	{"collapse", {collapser, writer, reader}, 0, 0, 0, 0},
	{"collapse_split", {collapser, splitter, writer, reader}, 0, 0, 0, 0},
	{"collapse_move", {collapser, mover, writer, reader}, 0, 0, 0, 0},
	{"collapse_fork", {collapser, forker, writer}, 0, 0, 0, 0},
	{"collapse_zap", {collapser, zapper, writer}, 0, 0, 1, 0},
	{"collapse_protect", {collapser, protector, writer}, 0, 1, 0, 0},
	{"collapse_pin", {collapser, pinner, writer, splitter}, 0, 0, 0, 0},
	{"khugepaged", {daemon_of, splitter, writer, forker}, 0, 0, 0, 0},
	{"split_move", {splitter, mover, writer, reader}, 0, 0, 0, 0},
	{"split_fork", {splitter, forker, writer, mover}, 0, 0, 0, 0},
	{"shared_memory", {splitter, mover, writer, reader}, 1, 0, 0, 0},
	{"collapse_shared", {collapser, splitter, writer, reader, mover}, 1, 0, 0, 0},
	{"collapse_shared_fork", {collapser, forker, writer, reader, splitter}, 1, 0, 0, 0},
	{"keep_huge", {keeper, collapser, splitter, writer, reader}, 0, 0, 0, 0},
	{"keep_huge_shared", {keeper, collapser, splitter, writer, reader}, 1, 0, 0, 0},
	{"shared_64k", {mover, splitter, writer, reader, forker}, 2, 0, 0, 0},
	{"unlucky", {unlucky, mover, writer, reader, forker}, 0, 0, 0, 0},
	{"unlucky_shared", {unlucky, mover, writer, reader}, 1, 0, 0, 0},
	{"locked", {locker, collapser, splitter, writer, mover}, 0, 0, 0, 0},
	{"file", {collapser, splitter, file_reader, file_dropper, mover}, 0, 0, 0, 1},
	{"file_copied", {daemon_of, unlucky, file_reader, file_copier, mover}, 0, 0, 0, 1},
	{"freed", {freer, writer, splitter, mover}, 0, 0, 1, 0},
	{"freed_fork", {freer, writer, forker, cooler}, 0, 0, 1, 0},
	{"freed_collapse", {freer, writer, collapser, forker, pinner}, 0, 0, 1, 0},
	{"cooled", {cooler, writer, reader, collapser, mover}, 0, 0, 0, 0},
	{"cooled_shared", {cooler, writer, reader, splitter, mover}, 1, 0, 0, 0},
	{"everything", {daemon_of, splitter, mover, writer, zapper}, 0, 0, 1, 0},
};

#include "seeded_act.h"

static struct object *open_file(struct race *r)
{
	char path[] = "/tmp/godwit-thp-race-XXXXXX";
	struct object *object;
	uint64_t page[PAGE_SIZE / 8] = {0};
	int fd = mkstemp(path);

	assert_true(fd >= 0);
	for (page[0] = 0; page[0] < 512; page[0]++)
		assert_int_equal(write(fd, page, PAGE_SIZE), PAGE_SIZE);
	close(fd);
	fd = open(path, O_RDONLY);
	assert_true(fd >= 0);
	fx_ok(object_open_file(&r->fx.mm, fd, &object));
	close(fd);
	unlink(path);
	return object;
}

static void begin(struct race *r, const struct race_spec *spec)
{
	uint64_t zero = 0;

	fx_open(&r->fx, 2, 32);
	thp_init(&r->thp, &r->fx.mm);
	r->thp.setting[SET_ENABLED] = r->seed % 2 ? THP_ALWAYS : THP_MADVISE;
	r->thp.setting[SET_SHMEM_ENABLED] = spec->shared == 2 ? SHMEM_NEVER : SHMEM_ALWAYS;
	r->thp.size_shmem[4] = SIZE_SHMEM_ALWAYS;
	r->thp.setting[SET_READ_ONLY_FILES] = 1;
	r->task = fx_task(&r->fx, 0);
	r->protects = spec->protects;
	r->unmaps = spec->unmaps;
	if (spec->shared) {
		fx_ok(object_create_shmem(&r->fx.mm, "shm", PMD_SIZE, &r->shm));
		r->buf = fx_map_shared(r->task, 512, r->shm);
	} else if (spec->file) {
		r->shm = open_file(r);
		r->buf = fx_map_flags(r->task, PMD_SIZE, VM_READ | VM_WRITE | VM_MAYWRITE, r->shm);
		r->unmaps = true; // nothing of written[]
	} else {
		r->buf = fx_map(r->task, 512);
	}
	for (unsigned i = 0; !spec->file && i < WORDS; i++)
		fx_ok(fx_access(&r->fx, r->task, at_word(r, i), &zero, 8, true));
	r->thp.setting[SET_ENABLED] = THP_ALWAYS;
}

static void finish(struct race *r)
{
	fx_check(&r->fx);
	for (unsigned i = 0; !r->unmaps && i < WORDS; i++) {
		uint64_t x;

		fx_ok(fx_access(&r->fx, r->task, at_word(r, i), &x, 8, false));
		assert_int_equal(x, r->written[i]);
	}
	task_exit(r->task);
	if (r->shm)
		object_put(r->shm);
	thp_destroy(&r->thp);
	fx_close(&r->fx);
}

static void race_once(const struct race_spec *spec, uint64_t seed)
{
	struct race r = {.seed = seed};

	begin(&r, spec);
	race_play(&r, spec);
	finish(&r);
}

static void race_many(void **state)
{
	const struct race_spec *spec = *state;

	race_rounds(spec->name, spec, 12, race_once);
}

int main(int argc, char **argv)
{
	return race_all(argc, argv, race_many);
}
