// SPDX-License-Identifier: MIT
// Migration of memory that real threads write and read all the time, through plain pointers, on each
// backend this host gives (signals, userfaultfd). One thread moves the pages from node to node; two
// write, each its own words of every page; one reads and must never see a word go back. At the end
// every word is what was written last. ThreadSanitizer has nothing to say about the engine's data;
// that no store is lost is what the words show.
//
// Once more with what comes between: the mover's host calls, locks, copies and counts fail here and
// there, one to three in a row (in a build with checks), while another thread pins pages, which must
// stay where they are, and forks the task, whose child must see no page change.
//
//   GODWIT_ROUNDS=N   moves of the whole buffer (60)
#include "words.h"

#include <godwit/machine.h>
#include <godwit/migrate.h>
#include <godwit/space.h>

#include "base/fault_inject.h"

#define PAGES 700ul // more than a batch, and more than one table
#define ROLES (WORD_WRITERS + 2)

struct stress {
	struct words words; // first: an actor has a pointer to it
	struct gw_machine *machine;
	struct gw_task *task;
	uint64_t at;
	bool disturbed;
	unsigned long failures, pins, forks;
};

static int node_of(struct stress *s, uint64_t at)
{
	int node = -1000;

	hold(!gw_move_pages(s->task, 0, 1, &at, NULL, &node, 0), "asking");
	return node;
}

static void pin_one(struct stress *s, unsigned long page)
{
	uint64_t at = s->at + page * GW_PAGE_SIZE;
	struct gw_pin *pin;

	if (gw_pin(s->task, at, GW_PAGE_SIZE, "disturber", &pin))
		return; // nothing to pin with, or it is being moved for longer than that waits
	int before = node_of(s, at);
	usleep(200);
	int after = node_of(s, at);
	// -ENOENT: somebody tries to move it.
	hold(before < 0 || after < 0 || before == after, "a pinned page moved");
	gw_unpin(pin);
	s->pins++;
}

static void fork_one(struct stress *s, unsigned long page)
{
	uint64_t at = s->at + page * GW_PAGE_SIZE + 128, first = 0, second = 1;
	struct gw_task *child;

	if (gw_task_fork(s->task, &child))
		return;
	hold(gw_read(child, at, &first, 8) == 8, "reading the child");
	usleep(200);
	hold(gw_read(child, at, &second, 8) == 8 && first == second, "a child's page changed");
	gw_task_exit(child);
	s->forks++;
}

static void *disturb(void *arg)
{
	struct actor *a = arg;
	struct stress *s = (struct stress *)a->words;

	for (uint64_t n = 0; s->disturbed && !atomic_load(&a->words->stop); n++) {
		if (n % 4)
			pin_one(s, n * 4001 % PAGES);
		else
			fork_one(s, n * 5003 % PAGES);
	}
	return NULL;
}

static void arm_failure(unsigned round)
{
	static const enum fault_kind kinds[] = {FI_SYSCALL, FI_TRYLOCK, FI_SYSCALL, FI_COPY,
		FI_SYSCALL, FI_FREEZE};

	fault_arm(kinds[round % 6], FI_THREAD, round / 6 % 23, 1 + round / 6 % 3);
}

static bool disarm_failure(void)
{
	bool met = false;

	for (int kind = 0; kind < FI_KINDS; kind++)
		met |= fault_disarm((enum fault_kind)kind);
	return met;
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
	long ret = gw_move_pages(s->task, 0, PAGES, address, nodes, status, GW_MPOL_MF_MOVE_ALL);
	s->failures += disarm_failure();
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
	words_init(&s->words, s->task, gw_pointer(s->task, s->at), PAGES, 1);
	assert_non_null(s->words.buf);
	memset(s->words.buf, 0, PAGES * GW_PAGE_SIZE);
}

static void stress(int blocker, bool disturbed)
{
	const char *text = getenv("GODWIT_ROUNDS");
	unsigned rounds = text ? (unsigned)atoi(text) : 60;
	void *(*const role[ROLES])(void *) = {write_words, write_words, read_words, disturb};
	struct actor actor[ROLES];
	static struct stress s;
	unsigned long writes;

	set_up(&s, blocker);
	moved = 0;
	s.disturbed = disturbed;
	start_actors(actor, ROLES, role, &s.words);
	for (unsigned r = 0; r < rounds; r++) {
		if (disturbed)
			arm_failure(r);
		move_all(&s, (int)(r + 1) % 3);
	}
	writes = stop_and_verify(actor, ROLES, &s.words);
	printf("%lu pages moved under %lu writes; %lu failures, %lu pins, %lu forks\n", moved,
		writes, s.failures, s.pins, s.forks);
	assert_true(moved > (disturbed ? PAGES * rounds / 20 : PAGES * rounds / 2));
	gw_machine_check(s.machine);
	assert_int_equal(gw_task_attach(NULL), 0);
	gw_task_exit(s.task);
	gw_machine_destroy(s.machine);
}

static void under_signals(void **state)
{
	stress(GW_BLOCKER_SIGNAL, *state);
}

static void under_userfaultfd(void **state)
{
	stress(GW_BLOCKER_USERFAULTFD, *state);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(under_signals),
		cmocka_unit_test(under_userfaultfd),
		cmocka_unit_test_prestate(under_signals, "disturbed"),
		cmocka_unit_test_prestate(under_userfaultfd, "disturbed"),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
