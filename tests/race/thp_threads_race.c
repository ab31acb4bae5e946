// SPDX-License-Identifier: MIT
// Huge pages that are collapsed, split, moved whole, given up in part, pinned and forked, all at the
// same time and at the same 4 MiB, while real threads write and read them through plain pointers, on
// each backend this host gives. Each writer has words of its own and must find in them what it put
// there; a reader must never see a word go back; a child sees what was there when it was made. At
// the end every word is what was written last, and the books balance. The seed is the kernel's
// scheduler: thp_race.c plays the same in an order that can be repeated.
//
//   GODWIT_ROUNDS=N   what each of those who ask does (40)
#include "../unit/unit.h"

#include <godwit/huge.h>
#include <godwit/machine.h>
#include <godwit/migrate.h>
#include <godwit/space.h>
#include <godwit/stats.h>

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <sys/mman.h>

#define HUGE (2ul << 20)
#define BYTES (2 * HUGE)
#define PAGES (BYTES / GW_PAGE_SIZE)
#define WRITERS 2
// Nobody writes to these pages: they are given up, and made read-only.
#define IDLE_FIRST 200ul
#define IDLE_PAGES 16ul
#define THP "sys/kernel/mm/transparent_hugepage/"
#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25
#endif

struct stress {
	struct gw_machine *machine;
	struct gw_task *task;
	char *buf;
	uint64_t at;
	bool shared;
	unsigned rounds;
	atomic_bool stop;
	uint64_t written[WRITERS][PAGES];
};

static void hold(bool cond, const char *what)
{
	if (cond)
		return;
	fprintf(stderr, "thp_threads: %s\n", what);
	abort();
}

static bool is_idle(unsigned long page)
{
	return page % (HUGE / GW_PAGE_SIZE) - IDLE_FIRST < IDLE_PAGES;
}

// Relaxed atomics: the words are shared on purpose.
static _Atomic uint64_t *word(char *buf, unsigned writer, unsigned long page)
{
	return (_Atomic uint64_t *)(buf + page * GW_PAGE_SIZE + 128 + writer * 2048);
}

// ---- Accessors

static void write_words(struct stress *s, unsigned writer)
{
	for (uint64_t n = 0; !atomic_load(&s->stop); n++) {
		unsigned long page = n * 389 % PAGES;
		uint64_t last = s->written[writer][page];

		if (is_idle(page))
			continue;
		hold(atomic_load_explicit(word(s->buf, writer, page), memory_order_relaxed) == last,
			"a store was lost");
		atomic_store_explicit(word(s->buf, writer, page), last + 1, memory_order_relaxed);
		s->written[writer][page] = last + 1;
		if (n % 4096 == 0)
			sched_yield();
	}
}

static void read_words(struct stress *s, unsigned unused)
{
	uint64_t *seen = calloc(PAGES, sizeof(*seen));

	(void)unused;
	for (uint64_t n = 0; !atomic_load(&s->stop); n++) {
		unsigned long page = n * 607 % PAGES;
		uint64_t now;

		if (is_idle(page))
			continue;
		now = atomic_load_explicit(word(s->buf, 0, page), memory_order_relaxed);
		hold(now >= seen[page], "a word went back");
		seen[page] = now;
		if (n % 4096 == 0)
			sched_yield();
	}
	free(seen);
}

// ---- Those who ask for changes

static void collapse(struct stress *s, unsigned round)
{
	int err = gw_advise(s->task, s->at + round % 2 * HUGE, HUGE, MADV_COLLAPSE);

	hold(!err || err == -EAGAIN || err == -EINVAL || err == -ENOMEM || err == -EBUSY,
		"collapse");
}

static void split(struct stress *s, unsigned round)
{
	uint64_t at = s->at + round % 2 * HUGE;
	char text[80];

	snprintf(text, sizeof text, "%d,0x%lx,0x%lx,%u", gw_task_pid(s->task), at, at + HUGE,
		round % 3 ? 0 : 4);
	(void)!gw_tunable_set(s->machine, "sys/kernel/debug/split_huge_pages", text);
}

static void move(struct stress *s, unsigned round)
{
	const uint64_t page[2] = {s->at + 77 * GW_PAGE_SIZE, s->at + HUGE};
	const int node[2] = {(int)round % 2, (int)round % 2};
	struct gw_explanation explain[2];
	const struct gw_move_options options = {.size = sizeof options, .explain = explain,
		.keep_huge = round % 3 != 0};
	int status[2];
	long ret = gw_move_pages_explained(s->task, 0, 2, page, node, status, GW_MPOL_MF_MOVE_ALL,
		&options);

	hold(ret >= 0 || ret == -ENOMEM, "move");
}

static void scan(struct stress *s, unsigned round)
{
	(void)round;
	gw_khugepaged_scan(s->machine, 1);
}

static void give_up_a_part(struct stress *s, unsigned round)
{
	uint64_t at = s->at + round % 2 * HUGE + IDLE_FIRST * GW_PAGE_SIZE;
	uint64_t length = (1 + round % IDLE_PAGES) * GW_PAGE_SIZE;

	if (round % 3 == 0) {
		hold(!gw_advise(s->task, at, length, MADV_DONTNEED), "dontneed");
		return;
	}
	hold(!gw_protect(s->task, at, length, GW_PROT_READ), "protect");
	hold(!gw_protect(s->task, at, length, GW_PROT_READ | GW_PROT_WRITE), "unprotect");
}

// -1: not to be known, as its entry is away (shared memory finds it again by a fault) or changing.
static int node_of(struct stress *s, uint64_t at)
{
	struct gw_huge_info info;
	char byte;

	hold(gw_read(s->task, at, &byte, 1) == 1, "read");
	hold(gw_huge_query(s->task, at, GW_PAGE_SIZE, &info, 1) == 1, "query");
	return info.node;
}

static void pin(struct stress *s, unsigned round)
{
	uint64_t at = s->at + (round * 131 % PAGES) * GW_PAGE_SIZE;
	struct gw_pin *pin;
	int before, after;

	if (gw_pin(s->task, at, GW_PAGE_SIZE, "thp_threads", &pin))
		return;
	before = node_of(s, at);
	sched_yield();
	after = node_of(s, at);
	hold(before == after || before < 0 || after < 0, "a pinned page moved");
	gw_unpin(pin);
}

static void fork_and_look(struct stress *s, unsigned round)
{
	struct gw_task *child;
	int err = round % 4 ? 0 : gw_task_fork(s->task, &child);

	hold(!err || err == -ENOMEM, "fork");
	if (err || round % 4)
		return;
	for (unsigned long page = 0; page < PAGES; page += 37) {
		uint64_t first, again, at = s->at + page * GW_PAGE_SIZE + 128;

		if (is_idle(page))
			continue;
		hold(gw_read(child, at, &first, 8) == 8, "the child reads");
		sched_yield();
		hold(gw_read(child, at, &again, 8) == 8, "the child reads");
		hold(first == again || (s->shared && first < again),
			"a child sees its parent's later stores");
	}
	gw_task_exit(child);
}

// ---- A run

typedef void accessor(struct stress *, unsigned writer);
typedef void asker(struct stress *, unsigned round);

static asker *const askers[] = {
	collapse, split, move, scan, give_up_a_part, pin, fork_and_look,
};
#define ASKERS (sizeof(askers) / sizeof(askers[0]))

struct actor {
	struct stress *s;
	accessor *access;
	asker *ask;
	unsigned index;
	pthread_t thread;
};

static void *act(void *arg)
{
	struct actor *a = arg;
	struct stress *s = a->s;

	hold(!gw_task_attach(s->task), "attach");
	if (a->access)
		a->access(s, a->index);
	for (unsigned i = 0; a->ask && i < s->rounds; i++) {
		a->ask(s, i);
		sched_yield();
	}
	hold(!gw_task_attach(NULL), "detach");
	return NULL;
}

static void set_up(struct stress *s, int blocker, bool shared)
{
	uint64_t bytes[] = {48 << 20, 48 << 20};
	const struct gw_machine_config config = {.size = sizeof config, .nr_nodes = 2,
		.node_bytes = bytes, .backend = GW_BACKEND_REWIRE, .blocker = blocker};
	struct gw_mapping mapping = {.size = sizeof mapping, .length = BYTES, .align = HUGE,
		.prot = GW_PROT_READ | GW_PROT_WRITE, .flags = shared ? GW_MAP_SHARED : 0};
	const char *rounds = getenv("GODWIT_ROUNDS");

	memset(s, 0, sizeof(*s));
	s->shared = shared;
	s->rounds = rounds ? (unsigned)atoi(rounds) : 40;
	if (gw_machine_create(&config, &s->machine)) {
		print_message("not here: %s\n", gw_machine_error());
		skip();
	}
	assert_int_equal(gw_tunable_set(s->machine, THP "khugepaged/scan_sleep_millisecs",
		"3600000"), 0);
	assert_int_equal(gw_tunable_set(s->machine, THP "enabled", "always"), 0);
	assert_int_equal(gw_tunable_set(s->machine, THP "shmem_enabled", "always"), 0);
	assert_int_equal(gw_task_create(s->machine, NULL, &s->task), 0);
	assert_int_equal(gw_task_attach(s->task), 0);
	if (shared)
		assert_int_equal(gw_object_create(s->machine, "race", BYTES, &mapping.object), 0);
	assert_int_equal(gw_map(s->task, &mapping, &s->at), 0);
	gw_object_put(mapping.object);
	s->buf = gw_pointer(s->task, s->at);
	assert_non_null(s->buf);
	memset(s->buf, 0, BYTES);
}

static int64_t counter(struct stress *s, const char *name)
{
	int64_t value = 0;

	assert_int_equal(gw_vmstat(s->machine, name, &value), 0);
	return value;
}

// Among so many any of them may be in vain, each time. Alone both go, once the last fork's pages
// have been written to: small pages that are all read-only are not collapsed.
static void once_more_alone(struct stress *s)
{
	int err = -EAGAIN;

	split(s, 2);
	for (size_t at = 0; at < HUGE; at += GW_PAGE_SIZE) {
		volatile char *byte = &s->buf[at];

		*byte = *byte;
	}
	// A daemon may have one of the pages in its hands for a moment.
	for (unsigned tries = 0; err == -EAGAIN && tries < 10000; tries++) {
		if (tries)
			usleep(1000);
		err = gw_advise(s->task, s->at, HUGE, MADV_COLLAPSE);
	}
	assert_int_equal(err, 0);
	split(s, 2);
}

static void finish(struct stress *s)
{
	uint64_t writes = 0;

	if (!s->shared)
		once_more_alone(s);

	for (unsigned w = 0; w < WRITERS; w++)
		for (unsigned long p = 0; p < PAGES; p++) {
			if (is_idle(p))
				continue;
			assert_int_equal(atomic_load(word(s->buf, w, p)), s->written[w][p]);
			writes += s->written[w][p];
		}
	printf("%lu writes; %ld collapses, %ld splits, %ld leaves split, %ld moved whole\n",
		writes, counter(s, "thp_collapse_alloc"), counter(s, "thp_split_page"),
		counter(s, "thp_split_pmd"), counter(s, "thp_migration_success"));
	if (!s->shared) { // where readers hold references most of the time, any number is possible
		assert_true(counter(s, "thp_collapse_alloc") > 0);
		assert_true(counter(s, "thp_split_page") > 0);
	}
	gw_machine_check(s->machine);
	assert_int_equal(gw_task_attach(NULL), 0);
	gw_task_exit(s->task);
	gw_machine_destroy(s->machine);
}

static void stress(int blocker, bool shared)
{
	static struct stress s;
	struct actor actor[WRITERS + 1 + ASKERS];
	unsigned n = 0;

	set_up(&s, blocker, shared);
	for (unsigned i = 0; i < WRITERS; i++)
		actor[n++] = (struct actor){.s = &s, .access = write_words, .index = i};
	actor[n++] = (struct actor){.s = &s, .access = read_words};
	for (unsigned i = 0; i < ASKERS; i++)
		actor[n++] = (struct actor){.s = &s, .ask = askers[i]};
	for (unsigned i = 0; i < n; i++)
		assert_int_equal(pthread_create(&actor[i].thread, NULL, act, &actor[i]), 0);
	for (unsigned i = WRITERS + 1; i < n; i++)
		pthread_join(actor[i].thread, NULL);
	atomic_store(&s.stop, true);
	for (unsigned i = 0; i <= WRITERS; i++)
		pthread_join(actor[i].thread, NULL);
	finish(&s);
}

static void signals(void **state)
{
	(void)state;
	stress(GW_BLOCKER_SIGNAL, false);
}

static void signals_shared(void **state)
{
	(void)state;
	stress(GW_BLOCKER_SIGNAL, true);
}

static void userfaultfd(void **state)
{
	(void)state;
	stress(GW_BLOCKER_USERFAULTFD, false);
}

static void userfaultfd_shared(void **state)
{
	(void)state;
	stress(GW_BLOCKER_USERFAULTFD, true);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(signals),
		cmocka_unit_test(signals_shared),
		cmocka_unit_test(userfaultfd),
		cmocka_unit_test(userfaultfd_shared),
	};

	if (argc > 1)
		cmocka_set_test_filter(argv[1]);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
