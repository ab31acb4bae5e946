// SPDX-License-Identifier: MIT
// Migration of memory that real threads write and read all the time, through plain pointers, on each
// backend this host gives (signals, userfaultfd). One thread moves the pages from node to node; two
// write, each its own words of every page; one reads and must never see a word go back. At the end
// every word is what was written last. ThreadSanitizer has nothing to say about the engine's data;
// that no store is lost is what the words show.
//
//   GODWIT_ROUNDS=N   moves of the whole buffer (60)
#include "../unit/unit.h"

#include <godwit/machine.h>
#include <godwit/migrate.h>
#include <godwit/space.h>

#include <pthread.h>
#include <stdatomic.h>

#define PAGES 700ul // more than a batch, and more than one table
#define WRITERS 2

struct stress {
	struct gw_machine *machine;
	struct gw_task *task;
	char *buf;
	uint64_t at;
	atomic_bool stop;
	uint64_t written[WRITERS][PAGES];
	unsigned long writes;
};

static void hold(bool cond, const char *what)
{
	if (cond)
		return;
	fprintf(stderr, "migrate_threads: %s\n", what);
	abort();
}

// Relaxed atomics: the words are shared on purpose.
static _Atomic uint64_t *word(struct stress *s, unsigned writer, unsigned long page)
{
	return (_Atomic uint64_t *)(s->buf + page * GW_PAGE_SIZE + 128 + writer * 2048);
}

struct actor {
	struct stress *s;
	unsigned index;
	pthread_t thread;
};

static void *write_words(void *arg)
{
	struct actor *a = arg;
	struct stress *s = a->s;
	uint64_t n = 0;

	hold(!gw_task_attach(s->task), "attach");
	for (; !atomic_load(&s->stop); n++) {
		unsigned long page = n * 7919 % PAGES;
		uint64_t next = s->written[a->index][page] + 1;

		hold(atomic_load_explicit(word(s, a->index, page), memory_order_relaxed) == next - 1,
			"a store was lost");
		atomic_store_explicit(word(s, a->index, page), next, memory_order_relaxed);
		s->written[a->index][page] = next;
	}
	hold(!gw_task_attach(NULL), "detach");
	return NULL;
}

static void *read_words(void *arg)
{
	struct actor *a = arg;
	struct stress *s = a->s;
	uint64_t *seen = calloc(PAGES, sizeof(*seen));

	hold(!gw_task_attach(s->task), "attach");
	for (uint64_t n = 0; !atomic_load(&s->stop); n++) {
		unsigned long page = n * 6007 % PAGES;
		uint64_t now = atomic_load_explicit(word(s, 0, page), memory_order_relaxed);

		hold(now >= seen[page], "a word went back");
		seen[page] = now;
	}
	hold(!gw_task_attach(NULL), "detach");
	free(seen);
	return NULL;
}

static unsigned long moved;

static void move_all(struct stress *s, int node)
{
	static uint64_t address[PAGES];
	static int nodes[PAGES], status[PAGES];

	for (unsigned long i = 0; i < PAGES; i++) {
		address[i] = s->at + i * GW_PAGE_SIZE;
		nodes[i] = node;
		status[i] = -1000;
	}
	long ret = gw_move_pages(s->task, 0, PAGES, address, nodes, status, GW_MPOL_MF_MOVE);
	assert_true(ret >= 0);
	for (unsigned long i = 0; i < PAGES; i++)
		moved += status[i] == node;
}

static void set_up(struct stress *s, int blocker)
{
	uint64_t bytes[] = {32 << 20, 32 << 20, 32 << 20};
	const struct gw_machine_config config = {.size = sizeof config, .nr_nodes = 3,
		.node_bytes = bytes, .backend = GW_BACKEND_REWIRE, .blocker = blocker};
	const struct gw_mapping mapping = {.size = sizeof mapping,
		.length = PAGES * GW_PAGE_SIZE,
		.prot = GW_PROT_READ | GW_PROT_WRITE};

	memset(s, 0, sizeof(*s));
	if (gw_machine_create(&config, &s->machine)) {
		print_message("not here: %s\n", gw_machine_error());
		skip();
	}
	assert_int_equal(gw_task_create(s->machine, NULL, &s->task), 0);
	assert_int_equal(gw_task_attach(s->task), 0);
	assert_int_equal(gw_map(s->task, &mapping, &s->at), 0);
	s->buf = gw_pointer(s->task, s->at);
	assert_non_null(s->buf);
	memset(s->buf, 0, PAGES * GW_PAGE_SIZE);
}

static void stress(int blocker)
{
	const char *text = getenv("GODWIT_ROUNDS");
	unsigned rounds = text ? (unsigned)atoi(text) : 60;
	static struct stress s;
	struct actor actor[WRITERS + 1];

	set_up(&s, blocker);
	moved = 0;
	for (unsigned i = 0; i <= WRITERS; i++) {
		actor[i] = (struct actor){.s = &s, .index = i};
		assert_int_equal(pthread_create(&actor[i].thread, NULL,
			i < WRITERS ? write_words : read_words, &actor[i]), 0);
	}
	for (unsigned r = 0; r < rounds; r++)
		move_all(&s, (int)(r + 1) % 3);
	atomic_store(&s.stop, true);
	for (unsigned i = 0; i <= WRITERS; i++)
		pthread_join(actor[i].thread, NULL);
	for (unsigned w = 0; w < WRITERS; w++)
		for (unsigned long p = 0; p < PAGES; p++) {
			assert_int_equal(atomic_load(word(&s, w, p)), s.written[w][p]);
			s.writes += s.written[w][p];
		}
	printf("%lu pages moved under %lu writes\n", moved, s.writes);
	assert_true(moved > PAGES * rounds / 2);
	gw_machine_check(s.machine);
	assert_int_equal(gw_task_attach(NULL), 0);
	gw_task_exit(s.task);
	gw_machine_destroy(s.machine);
}

static void under_signals(void **state)
{
	(void)state;
	stress(GW_BLOCKER_SIGNAL);
}

static void under_userfaultfd(void **state)
{
	(void)state;
	stress(GW_BLOCKER_USERFAULTFD);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(under_signals),
		cmocka_unit_test(under_userfaultfd),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
