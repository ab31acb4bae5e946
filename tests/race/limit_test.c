// SPDX-License-Identifier: MIT
// The host's limit of mappings (vm.max_map_count), met for real: the test takes all but a few of them
// itself, so that the engine's next one is refused. A touch that needs one gets SIGBUS and is counted
// (godwit/faults_at_limit), a move is refused and explained, or leaves everything as it was; what was
// written stays, and once there are mappings again the same touch and the same move succeed.
//
// Exit 77 where the limit is too high to be reached, and under a sanitizer: both map memory of their
// own while the program runs ("ThreadSanitizer failed to allocate", "Failed to mmap") and end it when
// the host refuses.
#include "../unit/unit.h"

#include <godwit/machine.h>
#include <godwit/migrate.h>
#include <godwit/policy.h>
#include <godwit/space.h>
#include <godwit/stats.h>

#include "base/compiler.h"

#include <errno.h>
#include <sys/mman.h>

#define PAGE GW_PAGE_SIZE
#define PAGES 512u
#define LIMIT_MAX 300000u

static sigjmp_buf escape;
static volatile sig_atomic_t expected;

static void on_bus(int sig)
{
	(void)sig;
	if (!expected)
		_exit(99);
	siglongjmp(escape, 1);
}

static size_t limit_of_host(void)
{
	FILE *f = fopen("/proc/sys/vm/max_map_count", "re");
	size_t n = 0;

	if (f && fscanf(f, "%zu", &n) != 1)
		n = 0;
	if (f)
		fclose(f);
	return n;
}

// Every second page has another protection: a mapping each, until the host has no more.
static char *take_mappings(size_t limit)
{
	char *p = mmap(NULL, limit * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1,
		0);

	assert_true(p != MAP_FAILED);
	for (size_t i = 1; i < limit; i += 2)
		if (mprotect(p + i * PAGE, PAGE, PROT_READ))
			return p;
	fail_msg("the host allows more than %zu mappings", limit);
	return NULL;
}

static bool touch(volatile uint64_t *word, uint64_t value)
{
	expected = true;
	if (sigsetjmp(escape, 1)) {
		expected = false;
		return false;
	}
	*word = value;
	expected = false;
	return true;
}

static unsigned long number(struct gw_machine *machine, const char *path)
{
	unsigned long n;
	char *text;

	assert_int_equal(gw_text(machine, path, &text), 0);
	n = strtoul(text, NULL, 0);
	free(text);
	return n;
}

// Every second page to the other node: a mapping each. How many went.
static unsigned move_every_second(struct gw_task *task, uint64_t at, unsigned pages)
{
	static uint64_t page[PAGES];
	static int node[PAGES], status[PAGES];
	static struct gw_explanation why[PAGES];
	const struct gw_move_options options = {.size = sizeof options, .explain = why};
	unsigned moved = 0, n = pages / 2;

	for (unsigned i = 0; i < n; i++) {
		page[i] = at + 2 * i * PAGE;
		node[i] = 1;
		status[i] = -12345;
	}
	(void)!gw_move_pages_explained(task, 0, n, page, node, status, GW_MPOL_MF_MOVE, &options);
	for (unsigned i = 0; i < n; i++)
		moved += status[i] == 1;
	return moved;
}

static void at_the_limit(enum gw_blocker blocker, size_t limit)
{
	const uint64_t bytes[2] = {16 << 20, 16 << 20};
	const struct gw_machine_config config = {.size = sizeof config, .nr_nodes = 2,
		.node_bytes = bytes, .backend = GW_BACKEND_REWIRE, .blocker = blocker};
	unsigned refused = 0, moved;
	volatile uint64_t *word;
	struct gw_machine *machine;
	struct gw_task *task;
	char *taken;
	void *p;

	signal(SIGBUS, on_bus);
	if (gw_machine_create(&config, &machine)) {
		print_message("not here: %s\n", gw_machine_error());
		skip();
	}
	assert_int_equal(gw_task_create(machine, NULL, &task), 0);
	assert_int_equal(gw_task_attach(task), 0);
	assert_int_equal(gw_tunable_set(machine, "sys/kernel/mm/transparent_hugepage/enabled",
				 "never"), 0);
	assert_int_equal(gw_alloc(task, PAGES * PAGE, &p), 0);
	word = p;
	for (unsigned i = 0; i < PAGES / 2; i++)
		word[i * PAGE / 8] = i + 1;
	taken = take_mappings(limit);
	for (unsigned i = PAGES - 1; i >= PAGES / 2; i -= 2) // apart, and backwards
		refused += !touch(&word[i * PAGE / 8], i + 1);
	moved = move_every_second(task, (uint64_t)(uintptr_t)p, PAGES / 2);
	for (unsigned i = 0; i < PAGES / 2; i++)
		assert_int_equal(word[i * PAGE / 8], i + 1);
	munmap(taken, limit * PAGE);
	assert_true(refused > 0);
	assert_true(number(machine, "godwit/faults_at_limit") >= refused);
	assert_true(moved < PAGES / 4);
	for (unsigned i = PAGES - 1; i >= PAGES / 2; i -= 2)
		assert_true(touch(&word[i * PAGE / 8], i + 1));
	assert_int_equal(move_every_second(task, (uint64_t)(uintptr_t)p, PAGES / 2), PAGES / 4);
	for (unsigned i = 0; i < PAGES / 2; i++)
		assert_int_equal(word[i * PAGE / 8], i + 1);
	gw_machine_check(machine);
	assert_int_equal(gw_task_attach(NULL), 0);
	gw_task_exit(task);
	gw_machine_destroy(machine);
}

static void with_signal(void **state)
{
	at_the_limit(GW_BLOCKER_SIGNAL, *(size_t *)*state);
}

static void with_userfaultfd(void **state)
{
	at_the_limit(GW_BLOCKER_USERFAULTFD, *(size_t *)*state);
}

int main(void)
{
	static size_t limit;
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_prestate(with_signal, &limit),
		cmocka_unit_test_prestate(with_userfaultfd, &limit),
	};

	if (HAVE_TSAN || HAVE_ASAN) {
		printf("limit: a sanitizer needs mappings of its own, and ends without\n");
		return SKIP_TEST;
	}
	limit = limit_of_host();
	if (!limit || limit > LIMIT_MAX) {
		printf("limit: vm.max_map_count is %zu: too many to take\n", limit);
		return SKIP_TEST;
	}
	return cmocka_run_group_tests(tests, NULL, NULL);
}
