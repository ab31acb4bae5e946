// SPDX-License-Identifier: MIT
// Failure sweep: a migration is run with its allocation, trylock, host call, copy or freeze number
// 0, 1, 2... failing (once, or from there on), until it runs clean. After each run nothing is
// isolated, no lock is held, the books balance, every byte is there, and the memory can still be
// written.
#include "../support/machine_fixture.h"

#include <errno.h>

#define PAGES 6

static struct fx fx;
static struct task *a, *b;
static uint64_t buf, in_b;
static struct object *shm;
static uint64_t key; // of what buf holds now

struct scenario {
	const char *name;
	void (*prepare)(void);
	void (*finish)(void);
	unsigned flags;
};

// ---- Memory of different kinds

static void one_task(void)
{
	a = fx_task(&fx, 0);
	buf = fx_map(a, PAGES);
}

static void exit_tasks(void)
{
	task_exit(a);
	if (b)
		task_exit(b);
	a = b = NULL;
	in_b = 0;
}

static void parent_and_child(void)
{
	one_task();
	fx_fill(&fx, a, buf, PAGES, key);
	fx_ok(task_fork(a, 0, &b));
	in_b = buf;
}

static void shared_memory(void)
{
	a = fx_task(&fx, 0);
	b = fx_task(&fx, 1);
	fx_ok(object_create_shmem(&fx.mm, "shm", PAGES * PAGE_SIZE, &shm));
	buf = fx_map_shared(a, PAGES, shm);
	in_b = fx_map_shared(b, PAGES, shm);
}

static void end_shared_memory(void)
{
	exit_tasks();
	object_put(shm);
	shm = NULL;
}

static void locked_memory(void)
{
	one_task();
	fx_ok(space_lock(a->space, a, buf, PAGES * PAGE_SIZE));
}

static const struct scenario scenarios[] = {
	{"private", one_task, exit_tasks, MBIND_MOVE},
	{"forked", parent_and_child, exit_tasks, MBIND_MOVE_ALL},
	{"shared", shared_memory, end_shared_memory, MBIND_MOVE_ALL},
	{"locked", locked_memory, exit_tasks, MBIND_MOVE},
};

// ---- The sweep

static void check(const struct scenario *s)
{
	fx_check(&fx);
	fx_verify(&fx, a, buf, PAGES, key);
	for (unsigned i = 0; in_b && i < PAGES; i++) { // the other one sees the same
		uint64_t x, y;

		fx_ok(fx_access(&fx, a, buf + i * PAGE_SIZE, &x, sizeof(x), false));
		fx_ok(fx_access(&fx, b, in_b + i * PAGE_SIZE, &y, sizeof(y), false));
		assert_int_equal(x, y);
	}
	if (s->prepare != parent_and_child) { // there writing would end the sharing
		fx_fill(&fx, a, buf, PAGES, ++key);
		fx_verify(&fx, a, buf, PAGES, key);
	}
	fx_check(&fx);
}

static bool run_once(const struct scenario *s, enum fault_kind kind, uint64_t n, uint64_t times)
{
	struct fx_move mv;
	bool hit;

	fx_move_alloc(&mv, buf, PAGES, fx_where(a, buf) == 1 ? 2 : 1);
	fault_arm(kind, FI_THREAD, n, times);
	fx_move_run(&mv, a, 0, s->flags);
	hit = fault_disarm(kind);
	if (!hit)
		assert_int_equal(mv.ret, 0);
	for (unsigned i = 0; i < PAGES; i++) { // a page that moved is where it shall be
		int nid = fx_where(a, buf + i * PAGE_SIZE);

		if (mv.why[i] == WHY_MOVED)
			assert_int_equal(nid, mv.nodes[i]);
	}
	fx_move_free(&mv);
	return hit;
}

static unsigned sweep(const struct scenario *s, enum fault_kind kind, uint64_t times)
{
	for (unsigned n = 0;; n++) {
		bool hit = run_once(s, kind, n, times);

		check(s);
		if (!hit)
			return n;
		assert_true(n < 1000);
	}
}

static void sweep_scenario(void **state)
{
	const struct scenario *s = *state;
	const enum fault_kind kinds[] = {FI_META, FI_ALLOC, FI_TRYLOCK, FI_SYSCALL, FI_COPY,
		FI_FREEZE};

	fx_open(&fx, 3, 32);
	s->prepare();
	if (s->prepare != parent_and_child)
		fx_fill(&fx, a, buf, PAGES, key);
	for (unsigned i = 0; i < ARRAY_SIZE(kinds); i++) {
		unsigned once = sweep(s, kinds[i], 1), always = sweep(s, kinds[i], FI_ALWAYS);

		printf("%s: %s: %u points, %u\n", s->name, fault_kind_name(kinds[i]), once,
			always);
	}
	s->finish();
	fx_close(&fx);
}

int main(void)
{
	struct CMUnitTest tests[ARRAY_SIZE(scenarios)];

	for (unsigned i = 0; i < ARRAY_SIZE(scenarios); i++)
		tests[i] = (struct CMUnitTest){.name = scenarios[i].name,
			.test_func = sweep_scenario,
			.initial_state = (void *)&scenarios[i]};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
