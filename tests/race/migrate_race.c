// SPDX-License-Identifier: MIT
// Migration against everything else, in seeded interleavings (base/sched.h) on the model mmu: one
// thread moves pages from node to node while others write and read them, unmap, protect, fork, or
// move them, too. No write may be lost, nobody may see an old value, and the books balance.
//
//   GODWIT_SEED=N      the first seed; a failing run prints its own
//   GODWIT_ROUNDS=N    seeds for each race (60)
#include "../support/machine_fixture.h"
#include "seeded.h"

#include "base/sched.h"
#include "virt/fault.h"

#include <errno.h>

#define PAGES 6
#define STEPS 12
#define ELSEWHERE (1ull << 45)

struct race {
	struct fx fx;
	struct task *task;
	struct object *shm;
	_Atomic uint64_t buf;
	uint64_t view; // shm once more, private
	_Atomic uint64_t written[PAGES]; // by the one writer
	bool protects;		 // a refused write is no failure
	bool unmaps;		 // pages come and go
	bool moves;		 // so does the mapping, to another address
	uint64_t seed;
};

static struct folio *folio_at(struct race *r, uint64_t addr)
{
	struct folio *folio;
	unsigned page;

	ok(follow_page(r->task->space, addr, &folio, &page));
	folio_put(folio);
	return folio;
}

// Where the mapping moves a pointer may be a child's by the time it is followed: then by number.
static int touch(struct race *r, struct task *task, uint64_t at, uint64_t *word, bool write)
{
	int64_t n;

	if (!r->moves)
		return fx_access(&r->fx, task, at, word, sizeof(*word), write);
	n = write ? space_write(task->space, task, at, word, sizeof(*word))
		  : space_read(task->space, task, at, word, sizeof(*word));
	return n == sizeof(*word) ? 0 : n < 0 ? (int)n : -EFAULT;
}

// ---- Actors

static void mover_of(struct race *r, uint64_t seed, unsigned flags)
{
	for (unsigned step = 0; step < STEPS; step++) {
		uint64_t first = pick(&seed, PAGES), n = 1 + pick(&seed, PAGES - first);
		struct fx_move mv;

		fx_move_alloc(&mv, r->buf + first * PAGE_SIZE, n, (int)pick(&seed, 3));
		fx_move_run(&mv, r->task, 0, flags);
		hold(mv.ret >= 0);
		for (uint64_t i = 0; mv.ret == 0 && i < n; i++)
			hold(mv.status[i] >= 0 || mv.status[i] == -EBUSY ||
				    mv.status[i] == -EACCES || mv.status[i] == -ENOENT ||
				    mv.status[i] == -EFAULT);
		fx_move_free(&mv);
	}
}

static void mover(struct race *r, unsigned thread)
{
	mover_of(r, r->seed * 31 + thread, MBIND_MOVE_ALL);
}

static void writer(struct race *r, unsigned thread)
{
	uint64_t seed = r->seed * 37 + thread;

	for (unsigned step = 0; step < STEPS * PAGES; step++) {
		uint64_t i = pick(&seed, PAGES), at = r->buf + i * PAGE_SIZE, old, next;
		int err = touch(r, r->task, at, &old, false);

		if (err && (r->unmaps || r->moves))
			continue;
		ok(err);
		if (!r->unmaps)
			hold(old == r->written[i]);
		next = r->written[i] + 1;
		err = touch(r, r->task, at, &next, true);
		if (err && (r->protects || r->unmaps || r->moves))
			continue;
		ok(err);
		r->written[i] = next;
	}
}

static void reader(struct race *r, unsigned thread)
{
	uint64_t seed = r->seed * 41 + thread, seen[PAGES] = {0};

	for (unsigned step = 0; step < STEPS * PAGES; step++) {
		uint64_t i = pick(&seed, PAGES), now;

		ok(fx_access(&r->fx, r->task, r->buf + i * PAGE_SIZE, &now, sizeof(now), false));
		hold(now >= seen[i]);
		seen[i] = now;
	}
}

static void protector(struct race *r, unsigned thread)
{
	uint64_t seed = r->seed * 43 + thread;

	for (unsigned step = 0; step < STEPS; step++) {
		uint64_t i = pick(&seed, PAGES);

		ok(space_protect(r->task->space, r->buf + i * PAGE_SIZE, PAGE_SIZE,
			step % 2 ? VM_READ : VM_READ | VM_WRITE));
	}
	ok(space_protect(r->task->space, r->buf, PAGES * PAGE_SIZE, VM_READ | VM_WRITE));
}

// Alone with the movers: takes all access away, and meets nothing of that when it is given back.
static void shutter(struct race *r, unsigned thread)
{
	uint64_t seed = r->seed * 73 + thread;

	for (unsigned step = 0; step < 2 * STEPS; step++) {
		uint64_t i = pick(&seed, PAGES), at = r->buf + i * PAGE_SIZE, x;
		uint64_t rwx = pick(&seed, 2) ? VM_READ | VM_WRITE : VM_READ;

		ok(space_protect(r->task->space, at, PAGE_SIZE, 0));
		hold(touch(r, r->task, at, &x, false) == -EFAULT);
		ok(space_protect(r->task->space, at, PAGE_SIZE, rwx));
		ok(touch(r, r->task, at, &x, false));
		hold(x == r->written[i]);
		hold((touch(r, r->task, at, &x, true) == 0) == (rwx != VM_READ));
		ok(space_protect(r->task->space, at, PAGE_SIZE, VM_READ | VM_WRITE));
		ok(touch(r, r->task, at, &x, true));
	}
}

static void forker(struct race *r, unsigned thread)
{
	(void)thread;
	for (unsigned step = 0; step < STEPS / 3; step++) {
		struct task *child;
		uint64_t x;

		ok(task_fork(r->task, 0, &child));
		for (unsigned i = 0; i < PAGES; i++) {
			uint64_t at = r->buf + i * PAGE_SIZE, mine = 1ull << 60;
			int err = touch(r, child, at, &x, false);

			if (err && r->moves)
				break; // it was made when the mapping was elsewhere
			ok(err);
			hold(x <= r->written[i] + 1);
			if (i % 2 && !r->shm)
				ok(touch(r, child, at, &mine, true));
		}
		task_exit(child);
	}
}

static void zapper(struct race *r, unsigned thread)
{
	uint64_t seed = r->seed * 47 + thread;

	for (unsigned step = 0; step < STEPS; step++) {
		uint64_t at = r->buf + pick(&seed, PAGES) * PAGE_SIZE;

		ok(space_advise(r->task->space, r->task, at, PAGE_SIZE, 4)); // MADV_DONTNEED
	}
}

static void unmapper(struct race *r, unsigned thread)
{
	uint64_t seed = r->seed * 53 + thread;

	for (unsigned step = 0; step < STEPS / 2; step++)
		ok(space_unmap(r->task->space, r->buf + pick(&seed, PAGES) * PAGE_SIZE,
			PAGE_SIZE));
}

static void pinner(struct race *r, unsigned thread)
{
	uint64_t seed = r->seed * 59 + thread;

	for (unsigned step = 0; step < STEPS / 2; step++) {
		struct pin *pin;
		uint64_t at = r->buf + pick(&seed, PAGES) * PAGE_SIZE;
		struct folio *folio;

		ok(pin_pages(r->task->space, r->task, at, PAGE_SIZE, "race", &pin));
		folio = folio_at(r, at);
		sched_point();
		hold(folio_at(r, at) == folio); // it has not moved
		unpin_pages(pin);
	}
}

static void binder(struct race *r, unsigned thread)
{
	uint64_t seed = r->seed * 61 + thread;

	for (unsigned step = 0; step < STEPS / 2; step++) {
		unsigned long nodes = 1ul << pick(&seed, 3);
		long err = mbind_range(r->task, r->buf, PAGES * PAGE_SIZE, 2, &nodes, 65,
			MBIND_MOVE, NULL);

		hold(!err || err == -EFAULT);
	}
}

static void task_mover(struct race *r, unsigned thread)
{
	uint64_t seed = r->seed * 67 + thread;

	for (unsigned step = 0; step < STEPS / 2; step++) {
		unsigned long from = 7, to = 1ul << pick(&seed, 3);

		hold(migrate_range(r->task, 0, 65, &from, &to, NULL) >= 0);
	}
}

// There and back, with entries that wait for a move.
static void remapper(struct race *r, unsigned thread)
{
	(void)thread;
	for (unsigned step = 0; step < STEPS; step++) {
		uint64_t from = r->buf, to = from ^ ELSEWHERE, at = 0;

		ok(space_remap(r->task->space, NULL, from, PAGES * PAGE_SIZE, PAGES * PAGE_SIZE, to,
			true, &at));
		hold(at == to);
		r->buf = to;
	}
}

// Pages of the object in a private mapping are copied by fork(), and so are their entries. Each
// child lives until the next is there.
static void view_forker(struct race *r, unsigned thread)
{
	struct task *child, *last = NULL;

	(void)thread;
	for (unsigned step = 0; step < STEPS / 2; step++) {
		ok(task_fork(last && step % 2 ? last : r->task, 0, &child));
		for (unsigned i = 0; i < PAGES; i++) {
			uint64_t x;

			ok(touch(r, child, r->view + i * PAGE_SIZE, &x, false));
		}
		if (last)
			task_exit(last);
		last = child;
	}
	task_exit(last);
}

// ---- A subscriber that comes and goes

struct listener {
	struct mm_notifier notifier; // first
	struct race *r;
	atomic_uint under_way, happened; // by whoever moves, forks, ...
	struct folio *_Atomic cached[PAGES];
};

static void heard_start(struct mm_notifier *n, uint64_t start, uint64_t end,
	enum mm_invalidate_reason why maybe_unused)
{
	struct listener *l = (struct listener *)n;

	l->under_way++;
	for (unsigned i = 0; i < PAGES; i++) {
		uint64_t at = l->r->buf + i * PAGE_SIZE;

		if (at + PAGE_SIZE > start && at < end)
			l->cached[i] = NULL;
	}
}

static void heard_end(struct mm_notifier *n, uint64_t start maybe_unused, uint64_t end maybe_unused,
	enum mm_invalidate_reason why maybe_unused)
{
	struct listener *l = (struct listener *)n;
	struct race *r = l->r;

	hold(l->under_way); // no end without its start
	l->under_way--;
	l->happened++;
}

// NULL: there is none, or it may be stale already.
static struct folio *look_up(struct listener *l, unsigned i)
{
	struct race *r = l->r;
	unsigned before = l->happened, page;
	struct folio *folio;
	int err = get_user_page(r->task->space, r->task, r->buf + i * PAGE_SIZE, 0, &folio, &page);

	if (err) {
		hold(r->unmaps);
		return NULL;
	}
	folio_put(folio);
	return l->under_way || l->happened != before ? NULL : folio;
}

// What is remembered, and was not told to go, is still there.
static void look_again(struct listener *l, unsigned i)
{
	struct race *r = l->r;
	struct folio *now = look_up(l, i);

	if (now && l->cached[i])
		hold(now == l->cached[i]);
	if (now)
		l->cached[i] = now;
}

static void subscriber(struct race *r, unsigned thread)
{
	uint64_t seed = r->seed * 71 + thread;

	for (unsigned step = 0; step < STEPS; step++) {
		struct listener l = {.notifier = {.space = r->task->space, .start = heard_start,
					     .end = heard_end}, .r = r};

		mm_notifier_register(&r->fx.mm, &l.notifier);
		for (unsigned looks = pick(&seed, 3 * PAGES); looks; looks--)
			look_again(&l, pick(&seed, PAGES));
		mm_notifier_unregister(&r->fx.mm, &l.notifier);
		hold(!l.under_way); // no start without its end
	}
}

// ---- Races

struct race_spec {
	const char *name;
	actor *actors[5];
	bool shared, protects, unmaps, moves;
};

static const struct race_spec races[] = {
	{"write", {mover, writer, reader}, 0, 0, 0, 0},
	{"two_movers", {mover, mover, writer, reader}, 0, 0, 0, 0},
	{"shared_memory", {mover, writer, reader, mover}, 1, 0, 0, 0},
	{"fork", {mover, writer, forker}, 0, 0, 0, 0},
	{"fork_shared", {mover, forker, mover}, 1, 0, 0, 0},
	{"protect", {mover, protector, writer}, 0, 1, 0, 0},
	{"shut", {mover, shutter, mover}, 0, 0, 0, 0},
	{"shut_shared", {mover, shutter, mover}, 1, 0, 0, 0},
	{"unmap", {mover, unmapper, writer}, 0, 0, 1, 0},
	{"dontneed", {mover, zapper, writer, mover}, 0, 0, 1, 0},
	{"pin", {mover, pinner, writer}, 0, 0, 0, 0},
	{"mbind", {mover, binder, writer}, 0, 0, 0, 0},
	{"migrate_pages", {mover, task_mover, writer, forker}, 0, 0, 0, 0},
	{"everything", {mover, writer, forker, zapper, task_mover}, 0, 0, 1, 0},
	{"subscribe", {mover, writer, subscriber, forker}, 0, 0, 0, 0},
	{"subscribe_shared", {mover, writer, subscriber, mover}, 1, 0, 0, 0},
	{"subscribers", {mover, zapper, subscriber, writer, subscriber}, 0, 0, 1, 0},
	{"remap", {mover, remapper, writer, mover}, 0, 0, 0, 1},
	{"remap_shared", {mover, remapper, writer, mover}, 1, 0, 0, 1},
	{"remap_fork", {mover, remapper, forker, writer}, 0, 0, 0, 1},
	{"fork_of_view", {mover, view_forker, writer, mover}, 1, 0, 0, 0},
	{"remap_fork_of_view", {mover, view_forker, remapper, view_forker}, 1, 0, 0, 1},
};

#include "seeded_act.h"

// Numbers that are no pointers where a mapping moves: a child's window could come to lie there.
static uint64_t map(struct race *r, unsigned flags, struct object *object)
{
	struct map_request rq = {.len = PAGES * PAGE_SIZE, .object = object, .own = !r->moves,
		.flags = VM_READ | VM_WRITE | VM_MAYWRITE | flags};
	uint64_t addr;

	fx_ok(space_map(r->task->space, &rq, &addr));
	return addr;
}

static void begin(struct race *r, const struct race_spec *spec)
{
	uint64_t zero = 0;

	fx_open(&r->fx, 3, 16);
	r->task = fx_task(&r->fx, 0);
	r->protects = spec->protects;
	r->unmaps = spec->unmaps;
	r->moves = spec->moves;
	if (spec->shared) {
		fx_ok(object_create_shmem(&r->fx.mm, "shm", PAGES * PAGE_SIZE, &r->shm));
		r->buf = map(r, VM_SHARED, r->shm);
		r->view = map(r, 0, r->shm);
	} else {
		r->buf = map(r, 0, NULL);
	}
	for (unsigned i = 0; i < PAGES; i++)
		fx_ok(fx_access(&r->fx, r->task, r->buf + i * PAGE_SIZE, &zero, 8, true));
	for (unsigned i = 0; r->shm && i < PAGES; i++) // the first page becomes private
		fx_ok(fx_access(&r->fx, r->task, r->view + i * PAGE_SIZE, &zero, 8, !i));
}

static void finish(struct race *r)
{
	fx_check(&r->fx);
	for (unsigned i = 0; !r->unmaps && i < PAGES; i++) {
		uint64_t x;

		fx_ok(fx_access(&r->fx, r->task, r->buf + i * PAGE_SIZE, &x, 8, false));
		if (!r->shm || r->written[i])
			assert_int_equal(x, r->written[i]);
	}
	task_exit(r->task);
	if (r->shm)
		object_put(r->shm);
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

	race_rounds(spec->name, spec, 60, race_once);
}

int main(int argc, char **argv)
{
	return race_all(argc, argv, race_many);
}
