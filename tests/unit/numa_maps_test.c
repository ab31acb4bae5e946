// SPDX-License-Identifier: MIT
// numa_maps of mappings of every kind, against what a real kernel printed of the same mappings
// (tests/data/); and what it does not count: pages on the move, the zero page.
#include "support/maps_cases.h"

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

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_as_linux),
		cmocka_unit_test(test_by_pid),
		cmocka_unit_test(test_nodes),
	};
	int failed;

	recorded = data_file("linux-6.12-maps.txt");
	failed = cmocka_run_group_tests(tests, NULL, NULL);
	free(recorded);
	return failed;
}
