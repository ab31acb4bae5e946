// SPDX-License-Identifier: MIT
// Compaction under real threads, on each backend this host gives (signals, userfaultfd): two write
// their own words of every page of a node in pieces, one reads, one keeps mapping memory that wants
// huge pages (its faults compact the node they come from), and one asks for the whole node again and
// again, with the daemons awake. At the end every word is what was written last.
//
//   GODWIT_ROUNDS=N   times that the whole node is compacted (12)
#include "words.h"

#include <godwit/machine.h>
#include <godwit/space.h>
#include <godwit/stats.h>

#include <sys/mman.h>
#include <unistd.h>

#define PAGES 4096ul // of which every KEEP-th is used
#define KEEP 8ul
#define USED (PAGES / KEEP)
#define HUGE (2ul << 20)
#define RANGES 3u // that want a huge page at once; with SCATTER they fit into what is free
#define ROLES (WORD_WRITERS + 2)
#define SCATTER 2048ul

struct stress {
	struct words words;
	struct gw_machine *machine;
	struct gw_task *task;
	uint64_t at;
};

static const struct gw_mapping huge_mapping = {.size = sizeof huge_mapping, .length = RANGES * HUGE,
	.align = HUGE, .prot = GW_PROT_READ | GW_PROT_WRITE};

// Each first touch wants a block of 2 MiB.
static void *touch_huge(void *arg)
{
	struct actor *a = arg;
	struct gw_task *task = a->words->task;

	hold(!gw_task_attach(task), "attach");
	for (unsigned n = 1; !atomic_load(&a->words->stop); n++) {
		uint64_t at;

		hold(!gw_map(task, &huge_mapping, &at), "map");
		char *p = gw_pointer(task, at);
		for (unsigned i = 0; i < RANGES; i++)
			memset(p + i * HUGE + 5000, (int)n, 9000);
		for (unsigned i = 0; i < RANGES; i++)
			hold(p[i * HUGE + 5000] == (char)n && p[i * HUGE + 13999] == (char)n,
				"what was written is gone");
		hold(!gw_unmap(task, at, RANGES * HUGE), "unmap");
	}
	hold(!gw_task_attach(NULL), "detach");
	return NULL;
}

static void set(struct stress *s, const char *path, const char *value)
{
	int err = gw_tunable_set(s->machine, path, value);

	if (err)
		fail_msg("%s: %d", path, err);
}

static void set_up(struct stress *s, int blocker)
{
	uint64_t bytes[] = {32 << 20, 16 << 20};
	const struct gw_machine_config config = {.size = sizeof config, .nr_nodes = 2,
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
	words_init(&s->words, s->task, gw_pointer(s->task, s->at), USED, KEEP);
	assert_non_null(s->words.buf);
	memset(s->words.buf, 0, PAGES * GW_PAGE_SIZE);
	assert_true(gw_node_fill(s->machine, 0, 1 << 20) > 0);
	assert_true(gw_node_fill(s->machine, 1, 1 << 20) > 0);
	for (unsigned long i = 0; i < PAGES; i++)
		if (i % KEEP)
			assert_int_equal(gw_advise(s->task, s->at + i * GW_PAGE_SIZE,
						 GW_PAGE_SIZE, MADV_DONTNEED),
				0);
	set(s, "sys/kernel/mm/transparent_hugepage/defrag", "always");
	// Or khugepaged, which comes by every ten seconds, makes huge pages of what is used in
	// pieces here, and a test that takes long finds the nodes full.
	set(s, "sys/kernel/mm/transparent_hugepage/khugepaged/max_ptes_none", "0");
	set(s, "sys/kernel/mm/transparent_hugepage/enabled", "always");
}

// The free memory of the node is in pieces again: small pages everywhere, most of which go.
static void scatter(struct stress *s, uint64_t *at)
{
	const struct gw_mapping mapping = {.size = sizeof mapping,
		.length = SCATTER * GW_PAGE_SIZE,
		.prot = GW_PROT_READ | GW_PROT_WRITE};

	if (*at)
		assert_int_equal(gw_unmap(s->task, *at, mapping.length), 0);
	assert_int_equal(gw_map(s->task, &mapping, at), 0);
	assert_int_equal(gw_advise(s->task, *at, mapping.length, MADV_NOHUGEPAGE), 0);
	char *p = gw_pointer(s->task, *at);
	for (unsigned long i = 0; i < SCATTER; i++)
		p[i * GW_PAGE_SIZE] = 1;
	for (unsigned long i = 0; i < SCATTER; i += KEEP)
		assert_int_equal(gw_advise(s->task, *at + (i + 1) * GW_PAGE_SIZE,
					 (KEEP - 1) * GW_PAGE_SIZE, MADV_DONTNEED),
			0);
}

static void report(struct stress *s, unsigned long writes)
{
	int64_t moved, stalls;

	assert_int_equal(gw_vmstat(s->machine, "pgmigrate_success", &moved), 0);
	assert_int_equal(gw_vmstat(s->machine, "compact_stall", &stalls), 0);
	printf("%ld pages moved under %lu writes; %ld allocations compacted\n", (long)moved, writes,
		(long)stalls);
	assert_true(moved > 0);
}

static void stress(int blocker)
{
	const char *text = getenv("GODWIT_ROUNDS");
	unsigned rounds = text ? (unsigned)atoi(text) : 12;
	void *(*const role[ROLES])(void *) = {write_words, write_words, read_words, touch_huge};
	struct actor actor[ROLES];
	uint64_t scattered = 0;
	static struct stress s;
	unsigned long writes;

	set_up(&s, blocker);
	start_actors(actor, ROLES, role, &s.words);
	for (unsigned r = 0; r < rounds; r++) {
		scatter(&s, &scattered);
		usleep(20000);
		if (r % 3 == 1)
			set(&s, "sys/devices/system/node/node0/compact", "1");
		set(&s, "proc/sys/vm/compaction_proactiveness", r % 3 == 2 ? "100" : "0");
	}
	set(&s, "sys/kernel/mm/transparent_hugepage/enabled", "never");
	writes = stop_and_verify(actor, ROLES, &s.words);
	report(&s, writes);
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
