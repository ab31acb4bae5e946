// SPDX-License-Identifier: MIT
// Seeded interleavings (base/sched.h) of two who leave each other a moment in which something is
// not what it was. Each race was found by asking what a thread sees that stops between two steps.
//
//	fork_collapse	fork() makes a page table that is empty still, and a collapse of the object
//			takes empty tables away
//	new_huge_zap	a new huge page is queued to be found underused while it is zapped
//	hugetlb_shrink	an unmapped pool page is promised anew while its pool shrinks
//
//   GODWIT_SEED=N      the first seed; a failing run prints its own
//   GODWIT_ROUNDS=N    seeds for each race (as many as have shown what was wrong)
#include "../support/machine_fixture.h"
#include "seeded.h"

#include "base/sched.h"
#include "hugetlb/hugetlb.h"
#include "thp/thp.h"

#define STEPS 8
#define RW (VM_READ | VM_WRITE | VM_MAYWRITE)
#define VALUE 0x60d1
enum { DONTNEED = 4, COLLAPSE = 25 };

struct race {
	struct fx fx;
	struct thp thp;
	struct hugetlb hugetlb;
	struct hugetlb_pool *pool;
	struct task *task;
	struct object *object;
	uint64_t buf, view; // view: the object's, private
	uint64_t seed;
};

static int store(struct race *r, uint64_t at, uint64_t word)
{
	return fx_access(&r->fx, r->task, at, &word, sizeof(word), true);
}

static void advise(struct race *r, int advice, uint64_t len)
{
	ok(space_advise(r->task->space, r->task, r->buf, len, advice));
}

// ---- fork_collapse

static void begin_thp(struct race *r)
{
	fx_open(&r->fx, 2, 32);
	thp_init(&r->thp, &r->fx.mm);
	r->task = fx_task(&r->fx, 0);
}

static void begin_object(struct race *r)
{
	begin_thp(r);
	r->thp.setting[SET_SHMEM_ENABLED] = SHMEM_NEVER;
	fx_ok(object_create_shmem(&r->fx.mm, "shm", PMD_SIZE, &r->object));
	r->buf = fx_map_shared(r->task, 512, r->object);
	r->view = fx_map_flags(r->task, PMD_SIZE, RW, r->object);
	fx_ok(store(r, r->buf, VALUE));
	fx_ok(store(r, r->view, VALUE));
}

static void forker(struct race *r, unsigned thread)
{
	(void)thread;
	for (unsigned step = 0; step < 24 * STEPS; step++) {
		struct task *child;
		uint64_t x;

		ok(task_fork(r->task, 0, &child));
		ok(fx_access(&r->fx, child, r->view, &x, sizeof(x), false));
		hold(x == VALUE);
		task_exit(child);
	}
}

static void collapser(struct race *r, unsigned thread)
{
	(void)thread;
	for (unsigned step = 0; step < STEPS; step++) {
		(void)!space_advise(r->task->space, r->task, r->buf, PMD_SIZE, COLLAPSE);
		hold(thp_split_range(&r->thp, r->task->pid, r->buf, r->buf + PMD_SIZE, 0) >= 0);
	}
}

// ---- new_huge_zap

static void begin_underused(struct race *r)
{
	begin_thp(r);
	r->thp.setting[SET_ENABLED] = THP_ALWAYS;
	r->thp.setting[SET_SHRINK_UNDERUSED] = 1;
	r->buf = fx_map(r->task, 512);
}

static void toucher(struct race *r, unsigned thread)
{
	(void)thread;
	for (unsigned step = 0; step < 4 * STEPS; step++)
		ok(store(r, r->buf, VALUE));
}

static void zapper(struct race *r, unsigned thread)
{
	(void)thread;
	for (unsigned step = 0; step < 4 * STEPS; step++)
		advise(r, DONTNEED, PMD_SIZE);
}

// ---- hugetlb_shrink

static void begin_pool(struct race *r)
{
	struct map_request rq = {.len = PMD_SIZE, .flags = RW, .own = true};

	fx_open(&r->fx, 2, 32);
	hugetlb_init(&r->hugetlb, &r->fx.mm);
	r->pool = &r->hugetlb.pool[HUGETLB_2M];
	r->task = fx_task(&r->fx, 0);
	hugetlb_resize(&r->hugetlb, r->pool, 1, nodemask_of(0), true);
	fx_ok(hugetlb_map(r->task, &rq, PMD_SHIFT, &r->buf));
	fx_ok(store(r, r->buf, VALUE));
}

static void pool_zapper(struct race *r, unsigned thread)
{
	(void)thread;
	advise(r, DONTNEED, PMD_SIZE);
}

static void shrinker(struct race *r, unsigned thread)
{
	(void)thread;
	hugetlb_resize(&r->hugetlb, r->pool, 0, r->fx.phys.has_memory, false);
}

// ---- Races

struct race_spec {
	const char *name;
	void (*begin)(struct race *);
	unsigned rounds;
	actor *actors[3];
};

static const struct race_spec races[] = {
	{"fork_collapse", begin_object, 10, {forker, collapser}},
	{"new_huge_zap", begin_underused, 200, {toucher, zapper}},
	{"hugetlb_shrink", begin_pool, 100, {pool_zapper, shrinker}},
};

#include "seeded_act.h"

static void finish(struct race *r)
{
	fx_check(&r->fx);
	if (r->pool)
		hugetlb_check(&r->hugetlb);
	task_exit(r->task);
	if (r->object)
		object_put(r->object);
	fx_check(&r->fx);
	if (r->pool) {
		hugetlb_check(&r->hugetlb);
		hugetlb_destroy(&r->hugetlb);
	}
	if (r->thp.mm)
		thp_destroy(&r->thp);
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
