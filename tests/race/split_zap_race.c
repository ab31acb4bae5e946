// SPDX-License-Identifier: MIT
// A huge page is split while its mappings are taken away, by real threads: whoever finds the
// migration entry of a piece must find out what the piece is, at every moment. When a piece is
// nothing yet for a moment, the pages of the space are counted wrong (machine_check sees it).
//
// The split is asked for through debugfs' file, MADV_DONTNEED goes over the range meanwhile, one
// 32 KiB step after the other; the delay before the split differs from round to round.
#include <godwit/huge.h>
#include <godwit/machine.h>
#include <godwit/space.h>
#include <godwit/stats.h>

#include <pthread.h>
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdio.h>
#include <sys/mman.h>

#include <cmocka.h>

#define HUGE_SIZE (2ul << 20)
#define STEP (32ul << 10)
#define ROUNDS 200

struct setup {
	struct gw_machine *machine;
	struct gw_task *task;
	uint64_t at;
	_Atomic bool stop;
	_Atomic unsigned long zaps;
};

static void *zap(void *arg)
{
	struct setup *s = arg;

	if (gw_task_attach(s->task))
		return NULL;
	while (!s->stop)
		for (uint64_t i = 0; i < HUGE_SIZE && !s->stop; i += STEP)
			if (!gw_advise(s->task, s->at + i, STEP, MADV_DONTNEED))
				s->zaps++;
	return gw_task_attach(NULL) ? s : NULL;
}

static void round_of(struct setup *s, unsigned round)
{
	char words[96];
	pthread_t thread;
	void *p;

	assert_int_equal(gw_alloc(s->task, HUGE_SIZE, &p), 0);
	*(char *)p = 1;
	s->at = (uint64_t)(uintptr_t)p;
	s->stop = false;
	snprintf(words, sizeof words, "%d,%#lx,%#lx", gw_task_pid(s->task), s->at,
		s->at + HUGE_SIZE);
	assert_int_equal(pthread_create(&thread, NULL, zap, s), 0);
	for (volatile unsigned i = 0; i < round % 50 * 500; i++)
		;
	assert_int_equal(gw_tunable_set(s->machine, "sys/kernel/debug/split_huge_pages", words), 0);
	s->stop = true;
	pthread_join(thread, NULL);
	gw_machine_check(s->machine);
	assert_int_equal(gw_unmap(s->task, s->at, HUGE_SIZE), 0);
}

static void run(enum gw_blocker blocker)
{
	const uint64_t bytes[1] = {64ul << 20};
	const struct gw_machine_config config = {
		.size = sizeof config,
		.node_bytes = bytes,
		.blocker = blocker,
	};
	struct setup s = {0};
	int64_t splits = 0;

	if (gw_machine_create(&config, &s.machine)) {
		print_message("not here: %s\n", gw_machine_error());
		skip();
	}
	assert_int_equal(gw_task_create(s.machine, NULL, &s.task), 0);
	assert_int_equal(gw_task_attach(s.task), 0);
	assert_int_equal(gw_tunable_set(s.machine, "sys/kernel/mm/transparent_hugepage/enabled",
				 "always"), 0);
	for (unsigned i = 0; i < ROUNDS; i++)
		round_of(&s, i);
	assert_int_equal(gw_vmstat(s.machine, "thp_split_page", &splits), 0);
	print_message("%ld splits, %lu zaps\n", (long)splits, s.zaps);
	assert_true(splits > 0 && s.zaps > 0);
	assert_int_equal(gw_task_attach(NULL), 0);
	gw_machine_destroy(s.machine);
}

static void under_signals(void **state)
{
	(void)state;
	run(GW_BLOCKER_SIGNAL);
}

static void under_userfaultfd(void **state)
{
	(void)state;
	run(GW_BLOCKER_USERFAULTFD);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(under_signals),
		cmocka_unit_test(under_userfaultfd),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
