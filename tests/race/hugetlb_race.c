// SPDX-License-Identifier: MIT
// Seeded interleavings (base/sched.h) around what a pool of huge pages promised: a first touch of a
// mapping that was promised its pages finds one, whatever others do meanwhile. The books of the
// pool balance at the end of each.
//
//	give_up		a page is given up (madvise) and touched again by another thread, which
//			must not take what a third mapping was promised
//	pool		mappings come, are touched and go, in a pool that grows, shrinks, may
//			overcommit or not, and whose pages are moved; children are forked, write,
//			and end
//	object		the same with shared memory that two map at once
//
//   GODWIT_SEED=N      the first seed; a failing run prints its own
//   GODWIT_ROUNDS=N    seeds for each race
#include "../support/machine_fixture.h"
#include "seeded.h"

#include "base/sched.h"
#include "hugetlb/hugetlb.h"

#include <errno.h>

#define STEPS 12
#define RW (VM_READ | VM_WRITE | VM_MAYWRITE)
#define VALUE 0x60d1
enum { DONTNEED = 4 };

struct race {
	struct fx fx;
	struct hugetlb hugetlb;
	struct hugetlb_pool *pool;
	struct task *task;
	struct object *object;
	uint64_t buf, other;
	uint64_t seed;
	bool shared;
};

static int store(struct race *r, struct task *task, uint64_t at, uint64_t word)
{
	return fx_access(&r->fx, task, at, &word, sizeof(word), true);
}

static int map_pages(struct race *r, uint64_t pages, uint64_t *ret_addr)
{
	struct map_request rq = {.len = pages * PMD_SIZE, .flags = RW, .own = true};

	if (r->shared) {
		rq.flags |= VM_SHARED;
		rq.object = r->object;
	}
	return hugetlb_map(r->task, &rq, PMD_SHIFT, ret_addr);
}

static void begin(struct race *r)
{
	fx_open(&r->fx, 2, 32);
	hugetlb_init(&r->hugetlb, &r->fx.mm);
	r->pool = &r->hugetlb.pool[HUGETLB_2M];
	r->task = fx_task(&r->fx, 0);
	hugetlb_resize(&r->hugetlb, r->pool, 2, nodemask_of(0), true);
}

// ---- give_up

static void begin_give_up(struct race *r)
{
	begin(r);
	fx_ok(map_pages(r, 1, &r->buf));
	fx_ok(map_pages(r, 1, &r->other));
	fx_ok(store(r, r->task, r->buf, VALUE));
}

static void giver(struct race *r, unsigned thread)
{
	(void)thread;
	for (unsigned step = 0; step < STEPS; step++)
		ok(space_advise(r->task->space, r->task, r->buf, PMD_SIZE, DONTNEED));
}

static void toucher(struct race *r, unsigned thread)
{
	(void)thread;
	for (unsigned step = 0; step < STEPS; step++)
		ok(store(r, r->task, r->buf, VALUE));
}

static void neighbour(struct race *r, unsigned thread)
{
	(void)thread;
	for (unsigned step = 0; step < STEPS; step++) {
		ok(store(r, r->task, r->other, VALUE));
		ok(space_advise(r->task->space, r->task, r->other, PMD_SIZE, DONTNEED));
	}
}

// ---- pool, object

static void begin_object(struct race *r)
{
	begin(r);
	fx_ok(hugetlb_object_create(&r->hugetlb, "o", 3 * PMD_SIZE, PMD_SHIFT, &r->object));
	r->shared = true;
}

static void user(struct race *r, unsigned thread)
{
	uint64_t state = r->seed * 3 + thread + 1, at;

	for (unsigned step = 0; step < STEPS; step++) {
		uint64_t pages = 1 + pick(&state, 2);
		struct task *child = NULL;
		int err = map_pages(r, pages, &at);

		hold(!err || err == -ENOMEM);
		if (err)
			continue;
		if (pick(&state, 2))
			ok(task_fork(r->task, 0, &child));
		for (uint64_t i = 0; i < pages; i++)
			ok(store(r, r->task, at + i * PMD_SIZE, VALUE + i));
		if (!child && pick(&state, 2))
			ok(task_fork(r->task, 0, &child));
		if (child && pick(&state, 2))
			(void)store(r, child, at, VALUE);
		if (pick(&state, 2))
			(void)fx_move(r->task, at, 1, (int)pick(&state, 2));
		for (uint64_t i = 0; i < pages; i++)
			ok(store(r, r->task, at + i * PMD_SIZE, VALUE + i));
		ok(space_unmap(r->task->space, at, pages * PMD_SIZE));
		if (child)
			task_exit(child);
	}
}

static void resizer(struct race *r, unsigned thread)
{
	uint64_t state = r->seed * 3 + thread + 1;

	for (unsigned step = 0; step < 2 * STEPS; step++) {
		if (pick(&state, 2))
			hugetlb_set_overcommit(&r->hugetlb, r->pool, pick(&state, 4));
		else
			hugetlb_resize(&r->hugetlb, r->pool, pick(&state, 5),
				r->fx.phys.has_memory, false);
	}
}

// ---- Races

struct race_spec {
	const char *name;
	void (*begin)(struct race *);
	unsigned rounds;
	actor *actors[3];
};

static const struct race_spec races[] = {
	{"give_up", begin_give_up, 100, {giver, toucher, neighbour}},
	{"pool", begin, 100, {user, user, resizer}},
	{"object", begin_object, 100, {user, user, resizer}},
};

#include "seeded_act.h"

static void finish(struct race *r)
{
	fx_check(&r->fx);
	hugetlb_check(&r->hugetlb);
	task_exit(r->task);
	if (r->object)
		object_put(r->object);
	fx_check(&r->fx);
	hugetlb_check(&r->hugetlb);
	hold(!hugetlb_read(&r->pool->reserved));
	hugetlb_destroy(&r->hugetlb);
	fx_close(&r->fx);
}

static void race_once(const struct race_spec *spec, uint64_t seed)
{
	struct race r = {.seed = seed};

	spec->begin(&r);
	race_play(&r, spec);
	finish(&r);
}

static void race_many(void **state)
{
	const struct race_spec *spec = *state;

	race_rounds(spec->name, spec, spec->rounds, race_once);
}

int main(int argc, char **argv)
{
	return race_all(argc, argv, race_many);
}
