// SPDX-License-Identifier: MIT
// numa_maps of mappings of every kind, against what a real kernel printed of the same mappings
// (tests/data/); and what it does not count: pages on the move, the zero page.
#include "support/maps_cases.h"

#include <pthread.h>
#include <stdatomic.h>

static char *recorded;

// Out of the comparison: active= (pending batches of a real kernel) and the name of a file.
static void normalize(char *line)
{
	static const char *const words[] = {" active=", " file="};

	for (unsigned i = 0; i < ARRAY_SIZE(words); i++) {
		char *word = strstr(line, words[i]);

		if (word)
			memmove(word, word + 1 + strcspn(word + 1, " \n"),
				strlen(word + 1 + strcspn(word + 1, " \n")) + 1);
	}
}

static bool is_numa_maps(const char *line)
{
	size_t digits = strspn(line, "0123456789abcdef");

	return digits >= 8 && line[digits] == ' ';
}

// The next line of numa_maps of a text, normalized, or "".
static void next_line(const char **text, char line[512])
{
	line[0] = '\0';
	while (**text && !line[0]) {
		size_t length = strcspn(*text, "\n");

		if (is_numa_maps(*text)) {
			snprintf(line, 512, "%.*s", (int)length, *text);
			normalize(line);
		}
		*text += length + ((*text)[length] == '\n');
	}
}

static void compare(const char *name, struct gw_task *task, uint64_t addr, unsigned long size)
{
	char mark[64], want[512], got[512];
	const char *wanted, *gotten;
	char *block, *text;

	snprintf(mark, sizeof mark, "# %s", name);
	block = data_block(recorded, mark, "# ");
	assert_non_null(block);
	assert_int_equal(range_text(task_of(task), RANGE_NUMA_MAPS, addr, size, &text), 0);
	wanted = block;
	gotten = text;
	do {
		next_line(&wanted, want);
		next_line(&gotten, got);
		if (strcmp(want, got))
			fail_msg("%s:\n  Linux  %s\n  Godwit %s", name, want, got);
	} while (*want);
	free(block);
	free(text);
}

static void test_as_linux(void **state maybe_unused)
{
	all_cases(compare);
}

static void test_by_pid(void **state maybe_unused)
{
	struct gw_machine *machine = small_machine();
	struct gw_task *task;
	char path[64], *text;
	const struct gw_mapping mapping = {
		.size = sizeof mapping,
		.length = 4 * CASE_PAGE,
		.address = 0x200000000000,
		.prot = GW_PROT_READ | GW_PROT_WRITE,
		.flags = GW_MAP_HEAP,
	};
	struct gw_mapping stack = mapping;
	uint64_t addr;

	stack.address += 64ul << 30;
	stack.flags = GW_MAP_STACK;
	assert_int_equal(gw_task_create(machine, NULL, &task), 0);
	assert_int_equal(gw_map(task, &mapping, &addr), 0);
	assert_int_equal(gw_map(task, &stack, &addr), 0);
	case_put(task, addr, 3, 1);
	assert_int_equal(gw_set_mempolicy(task, 3, (const unsigned long[]){3}, 64), 0);
	snprintf(path, sizeof path, "proc/%d/numa_maps", gw_task_pid(task));
	assert_int_equal(gw_text(machine, path, &text), 0);
	assert_string_equal(text, "200000000000 interleave:0-1 heap\n"
				  "201000000000 interleave:0-1 stack anon=1 dirty=1 active=0 N0=1 "
				  "kernelpagesize_kB=4\n");
	free(text);
	assert_int_equal(gw_text(machine, "proc/77/numa_maps", &text), -ENOENT);
	gw_task_exit(task);
	gw_machine_destroy(machine);
}

static void test_nodes(void **state maybe_unused)
{
	struct gw_machine *machine = small_machine();
	struct cases c = {.machine = machine};
	int32_t node[12];
	uint64_t p;

	assert_int_equal(gw_task_create(machine, NULL, &c.task), 0);
	p = case_anon(&c, 8);
	case_bind(&c, p, 8, 3, 3);
	case_put(c.task, p, 0, 3);
	case_look(c.task, p, 5, 1);
	range_nodes(task_of(c.task), p - 2 * CASE_PAGE, 12, node);
	// ..|0 1 0 - - z - -|..
	const int32_t want[12] = {-EFAULT, -EFAULT, node[2], 1 - node[2], node[2], -ENOENT, -ENOENT,
		-EFAULT, -ENOENT, -ENOENT, -EFAULT, -EFAULT};
	assert_memory_equal(node, want, sizeof want);
	assert_true(node[2] == 0 || node[2] == 1);
	assert_int_equal(range_huge(task_of(c.task), p, 8 * CASE_PAGE), 0);
	gw_task_exit(c.task);
	gw_machine_destroy(machine);
}

// A page on the move counts on no node, and its status says so.
static void test_on_the_move(void **state maybe_unused)
{
	struct cases c = {.machine = small_machine()};
	struct pte old;
	int32_t node[3];
	uint64_t p;
	char *text;

	assert_int_equal(gw_task_create(c.machine, NULL, &c.task), 0);
	p = case_anon(&c, 3);
	case_put(c.task, p, 0, 3);
	old = case_to_migration(c.task, p + CASE_PAGE);
	assert_int_equal(range_text(task_of(c.task), RANGE_NUMA_MAPS, p, 1, &text), 0);
	assert_string_equal(text, "201000000000 default anon=2 dirty=2 active=0 N0=2 "
				  "kernelpagesize_kB=4\n");
	free(text);
	range_nodes(task_of(c.task), p, 3, node);
	assert_memory_equal(node, ((int32_t[]){0, -ENOENT, 0}), sizeof node);
	case_replace(c.task, p + CASE_PAGE, old);
	gw_machine_check(c.machine);
	gw_task_exit(c.task);
	gw_machine_destroy(c.machine);
}

// Pages of a huge entry, also those asked for from its middle.
static void test_nodes_of_huge(void **state maybe_unused)
{
	struct cases c = {.machine = small_machine()};
	int32_t node[700];
	struct folio *folio;
	uint64_t p;

	assert_int_equal(gw_task_create(c.machine, NULL, &c.task), 0);
	p = case_anon(&c, 1024);
	folio = case_put_huge(c.task, p);
	range_nodes(task_of(c.task), p + 5 * CASE_PAGE, 700, node);
	for (unsigned i = 0; i < 700; i++)
		assert_int_equal(node[i], i < 507 ? 0 : -ENOENT);
	case_drop_huge(c.task, p, folio);
	gw_task_exit(c.task);
	gw_machine_destroy(c.machine);
}

// A task that has exited has no lines, and nothing is where it was.
static void test_exited(void **state maybe_unused)
{
	struct cases c = {.machine = small_machine()};
	struct task *task;
	int32_t node;
	uint64_t p;
	char *text;

	assert_int_equal(gw_task_create(c.machine, NULL, &c.task), 0);
	p = case_anon(&c, 1);
	case_put(c.task, p, 0, 1);
	task = task_of(c.task);
	task_get(task);
	gw_task_exit(c.task);
	assert_int_equal(range_text(task, RANGE_NUMA_MAPS, 0, UINT64_MAX, &text), 0);
	assert_string_equal(text, "");
	free(text);
	assert_int_equal(range_text(task, RANGE_SMAPS, 0, UINT64_MAX, &text), 0);
	assert_string_equal(text, "");
	free(text);
	range_nodes(task, p, 1, &node);
	assert_int_equal(node, -EFAULT);
	assert_int_equal(range_huge(task, p, CASE_PAGE), 0);
	task_put(task);
	gw_machine_destroy(c.machine);
}

// Looking while pages move: whatever is seen is some moment's truth, never more pages than there are.
#define BUSY_PAGES 256

struct mover {
	struct gw_task *task;
	uint64_t addr;
	atomic_bool stop;
};

static void *move_to_and_fro(void *arg)
{
	struct mover *mover = arg;
	uint64_t page[BUSY_PAGES];
	int node[BUSY_PAGES], status[BUSY_PAGES];

	for (unsigned i = 0; i < BUSY_PAGES; i++)
		page[i] = mover->addr + i * CASE_PAGE;
	for (int to = 1; !atomic_load(&mover->stop); to = !to) {
		for (unsigned i = 0; i < BUSY_PAGES; i++)
			node[i] = to;
		if (gw_move_pages(mover->task, 0, BUSY_PAGES, page, node, status,
			    GW_MPOL_MF_MOVE) < 0)
			return "move_pages failed";
	}
	return NULL;
}

static void test_while_pages_move(void **state maybe_unused)
{
	static const char *const paths[] = {"proc/vmstat", "proc/zoneinfo", "proc/buddyinfo",
		"proc/pagetypeinfo", "proc/meminfo", "proc/1/numa_maps", "proc/1/smaps"};
	struct cases c = {.machine = small_machine()};
	int32_t node[BUSY_PAGES];
	struct mover mover = {0};
	pthread_t thread;
	void *failure;
	char *text;

	assert_int_equal(gw_task_create(c.machine, NULL, &c.task), 0);
	mover.task = c.task;
	mover.addr = case_anon(&c, BUSY_PAGES);
	case_put(c.task, mover.addr, 0, BUSY_PAGES);
	assert_int_equal(pthread_create(&thread, NULL, move_to_and_fro, &mover), 0);
	for (unsigned round = 0; round < 40; round++) {
		unsigned long on_0 = 0, on_1 = 0;

		for (unsigned i = 0; i < ARRAY_SIZE(paths); i++) {
			assert_int_equal(gw_text(c.machine, paths[i], &text), 0);
			free(text);
		}
		range_nodes(task_of(c.task), mover.addr, BUSY_PAGES, node);
		for (unsigned i = 0; i < BUSY_PAGES; i++)
			assert_true(node[i] == 0 || node[i] == 1 || node[i] == -ENOENT);
		assert_int_equal(range_text(task_of(c.task), RANGE_NUMA_MAPS, mover.addr, 1, &text),
			0);
		if (strstr(text, " N0="))
			on_0 = strtoul(strstr(text, " N0=") + 4, NULL, 10);
		if (strstr(text, " N1="))
			on_1 = strtoul(strstr(text, " N1=") + 4, NULL, 10);
		assert_true(on_0 + on_1 <= BUSY_PAGES);
		free(text);
	}
	atomic_store(&mover.stop, true);
	pthread_join(thread, &failure);
	assert_null(failure);
	gw_machine_check(c.machine);
	gw_task_exit(c.task);
	gw_machine_destroy(c.machine);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_as_linux),
		cmocka_unit_test(test_by_pid),
		cmocka_unit_test(test_nodes),
		cmocka_unit_test(test_on_the_move),
		cmocka_unit_test(test_nodes_of_huge),
		cmocka_unit_test(test_exited),
		cmocka_unit_test(test_while_pages_move),
	};
	int failed;

	recorded = data_file("linux-6.12-maps.txt");
	failed = cmocka_run_group_tests(tests, NULL, NULL);
	free(recorded);
	return failed;
}
