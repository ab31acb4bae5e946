// SPDX-License-Identifier: MIT
// A huge page is split while real threads are at it; the delay before the split differs from round
// to round. The split is asked for through debugfs' file.
//
//	zap	mappings are taken away, one 32 KiB step after the other: whoever finds the
//		migration entry of a piece must find out what the piece is, at every moment. When a
//		piece is nothing yet for a moment, the pages of the space are counted wrong
//		(machine_check sees it)
//	fork	children are made: each has what its parent had, whatever entries it copied
//	write	most of the page is zeros, and the pieces that are become the page of zeros; threads
//		store to them meanwhile: no store is lost, and nobody sees another's
//	limit	when the host's mappings run short, pieces of zeros stay what they are: each would
//		cost two
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

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "machine/vma_budget.h"

#define HUGE_SIZE (2ul << 20)
#define PAGES 512u
#define PAGE (HUGE_SIZE / PAGES)
#define STEP (32ul << 10)
#define ROUNDS 120
#define WRITERS 2
#define KEPT 64 // one page in so many has been written to before

struct setup {
	struct gw_machine *machine;
	struct gw_task *task;
	uint64_t at;
	_Atomic bool stop;
	_Atomic unsigned long zaps, forks, stores;
};

struct thread {
	struct setup *setup;
	unsigned index;
	pthread_t id;
};

// cmocka's own cannot be used in threads.
#define hold(cond)                                                                                 \
	do {                                                                                       \
		if (!(cond)) {                                                                     \
			fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #cond);                \
			abort();                                                                   \
		}                                                                                  \
	} while (0)

static volatile uint64_t *word(const struct setup *s, unsigned page)
{
	return (volatile uint64_t *)(uintptr_t)(s->at + page * PAGE);
}

static void *zap(void *arg)
{
	struct setup *s = ((struct thread *)arg)->setup;

	hold(!gw_task_attach(s->task));
	do {
		uint64_t i = 0;

		do
			if (!gw_advise(s->task, s->at + i, STEP, MADV_DONTNEED))
				s->zaps++;
		while ((i += STEP) < HUGE_SIZE && !s->stop);
	} while (!s->stop);
	hold(!gw_task_attach(NULL));
	return NULL;
}

static void *fork_and_look(void *arg)
{
	struct setup *s = ((struct thread *)arg)->setup;
	uint64_t value;

	hold(!gw_task_attach(s->task));
	do {
		struct gw_task *child;

		hold(!gw_task_fork(s->task, &child));
		for (unsigned page = 0; page < PAGES; page += KEPT / 2) {
			hold(gw_read(child, s->at + page * PAGE, &value, 8) == 8);
			hold(value == (page % KEPT ? 0 : page + 1));
		}
		value = ~0ull;
		hold(gw_write(child, s->at + PAGE, &value, 8) == 8);
		gw_task_exit(child);
		s->forks++;
	} while (!s->stop);
	hold(!gw_task_attach(NULL));
	return NULL;
}

// Each to pages of its own, in an order of its own, as long as the round takes, and every page once
// at least.
static void *store(void *arg)
{
	struct thread *t = arg;
	struct setup *s = t->setup;

	hold(!gw_task_attach(s->task));
	for (uint64_t n = 1; n == 1 || !s->stop; n++) {
		for (unsigned i = t->index; i < PAGES; i += WRITERS) {
			unsigned page = i * 37 % PAGES;

			if (page % KEPT == 0 || page % 3 == 0)
				continue;
			hold(*word(s, page) == n - 1);
			*word(s, page) = n;
			hold(*word(s, page) == n);
			s->stores++;
		}
	}
	hold(!gw_task_attach(NULL));
	return NULL;
}

static void make_page(struct setup *s)
{
	void *p;

	assert_int_equal(gw_alloc(s->task, HUGE_SIZE, &p), 0);
	s->at = (uint64_t)(uintptr_t)p;
	for (unsigned page = 0; page < PAGES; page += KEPT)
		*word(s, page) = page + 1;
}

static void split(struct setup *s)
{
	char words[96];

	snprintf(words, sizeof words, "%d,%#lx,%#lx", gw_task_pid(s->task), s->at,
		s->at + HUGE_SIZE);
	assert_int_equal(gw_tunable_set(s->machine, "sys/kernel/debug/split_huge_pages", words), 0);
}

static void look(struct setup *s, bool zapped)
{
	for (unsigned page = 0; page < PAGES; page++) {
		uint64_t value = *word(s, page);

		if (page % KEPT == 0)
			assert_true(value == page + 1 || (zapped && !value));
		else if (page % 3 == 0)
			assert_int_equal(value, 0);
	}
}

static void round_of(struct setup *s, unsigned round, void *(*act)(void *), unsigned threads)
{
	struct thread thread[WRITERS];

	make_page(s);
	s->stop = false;
	for (unsigned i = 0; i < threads; i++) {
		thread[i] = (struct thread){.setup = s, .index = i};
		assert_int_equal(pthread_create(&thread[i].id, NULL, act, &thread[i]), 0);
	}
	for (volatile unsigned i = 0; i < round % 50 * 500; i++)
		;
	split(s);
	s->stop = true;
	for (unsigned i = 0; i < threads; i++)
		pthread_join(thread[i].id, NULL);
	look(s, act == zap);
	gw_machine_check(s->machine);
	assert_int_equal(gw_unmap(s->task, s->at, HUGE_SIZE), 0);
}

static long nr_anon(struct setup *s)
{
	int64_t n;

	assert_int_equal(gw_vmstat(s->machine, "nr_anon_pages", &n), 0);
	return (long)n;
}

// The pages that are not zeros are left of it, or all.
static void at_the_limit(struct setup *s)
{
	make_page(s);
	split(s);
	assert_int_equal(nr_anon(s), PAGES / KEPT);
	look(s, false);
	assert_int_equal(gw_unmap(s->task, s->at, HUGE_SIZE), 0);
	make_page(s);
	vma_budget_set_limit(1);
	split(s);
	vma_budget_set_limit(0);
	assert_int_equal(nr_anon(s), PAGES);
	look(s, false);
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
	assert_int_equal(gw_tunable_set(s.machine, "sys/kernel/mm/transparent_hugepage/khugepaged/"
				 "scan_sleep_millisecs", "3600000"), 0); // it counts pages
	assert_int_equal(gw_tunable_set(s.machine, "sys/kernel/mm/transparent_hugepage/enabled",
				 "always"), 0);
	for (unsigned i = 0; i < ROUNDS; i++) {
		round_of(&s, i, zap, 1);
		round_of(&s, i, fork_and_look, 1);
		round_of(&s, i, store, WRITERS);
	}
	at_the_limit(&s);
	assert_int_equal(gw_vmstat(s.machine, "thp_split_page", &splits), 0);
	print_message("%ld splits, %lu zaps, %lu forks, %lu stores\n", (long)splits, s.zaps,
		s.forks, s.stores);
	assert_true(splits > 0 && s.zaps > 0 && s.forks > 0 && s.stores > 0);
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
