// SPDX-License-Identifier: MIT
// smaps of mappings of every kind, against what a real kernel printed of the same mappings
// (tests/data/).
#include "support/maps_cases.h"

static char *recorded;

// Out of the comparison: device, inode and path of a file; Referenced and LazyFree (pending batches
// of a real kernel); ProtectionKey, which only cpus that have them print.
static bool is_noise(const char *line)
{
	static const char *const words[] = {"Referenced:", "LazyFree:", "ProtectionKey:"};

	for (unsigned i = 0; i < ARRAY_SIZE(words); i++)
		if (!strncmp(line, words[i], strlen(words[i])))
			return true;
	return false;
}

// "200000000000-200000010000 rw-p 00000000 fe:00 12  /disk/file" without what follows the offset.
static void cut_head(char *line)
{
	size_t digits = strspn(line, "0123456789abcdef");

	if (digits >= 8 && line[digits] == '-' && strlen(line) > 2 * digits + 15)
		line[2 * digits + 15] = '\0';
}

static bool is_numa_maps(const char *line)
{
	size_t digits = strspn(line, "0123456789abcdef");

	return digits >= 8 && line[digits] == ' ';
}

static void next_line(const char **text, char line[512])
{
	line[0] = '\0';
	while (**text && !line[0]) {
		size_t length = strcspn(*text, "\n");

		if (!is_noise(*text) && !is_numa_maps(*text)) {
			snprintf(line, 512, "%.*s", (int)length, *text);
			cut_head(line);
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
	assert_int_equal(range_text(task_of(task), RANGE_SMAPS, addr, size, &text), 0);
	wanted = block;
	gotten = text;
	do {
		next_line(&wanted, want);
		next_line(&gotten, got);
		if (strcmp(want, got))
			fail_msg("%s:\n  Linux  %s\n  Godwit %s\n%s", name, want, got, text);
	} while (*want);
	free(block);
	free(text);
}

static void test_as_linux(void **state maybe_unused)
{
	all_cases(compare);
}

// The head of a block, byte for byte: name at column 74, blank at the end without a name.
static void test_heads(void **state maybe_unused)
{
	struct gw_machine *machine = small_machine();
	struct cases c = {.machine = machine};
	struct gw_object *object;
	char path[64], *text;

	assert_int_equal(gw_task_create(machine, NULL, &c.task), 0);
	assert_int_equal(gw_object_create(machine, "a b", 8 * CASE_PAGE, &object), 0);
	case_anon(&c, 1);
	case_map(&c, 8, GW_PROT_READ | GW_PROT_EXEC, GW_MAP_SHARED, object);
	case_map(&c, 1, GW_PROT_READ | GW_PROT_WRITE, GW_MAP_HEAP, NULL);
	case_map(&c, 1, GW_PROT_READ | GW_PROT_WRITE, GW_MAP_STACK, NULL);
	snprintf(path, sizeof path, "proc/%d/smaps", gw_task_pid(c.task));
	assert_int_equal(gw_text(machine, path, &text), 0);
	assert_non_null(strstr(text, "201000000000-201000001000 rw-p 00000000 00:00 0 \nSize: "));
	assert_non_null(strstr(text, "202000000000-202000008000 r-xs 00000000 00:01 "));
	assert_non_null(strstr(text, "/memfd:a b (deleted)\n"));
	assert_non_null(strstr(text, "203000000000-203000001000 rw-p 00000000 00:00 0"
				     "                          [heap]\n"));
	assert_non_null(strstr(text, "[stack]\n"));
	assert_non_null(strstr(text, "VmFlags: rd ex sh mr mw me ms sd \n"));
	assert_non_null(strstr(text, "VmFlags: rd wr mr mw me gd ac \n"));
	free(text);
	gw_object_put(object);
	gw_task_exit(c.task);
	gw_machine_destroy(machine);
}

// "Rss:   12 kB" of a text, in kB.
static unsigned long field(const char *text, const char *name)
{
	const char *line = strstr(text, name);

	assert_non_null(line);
	return strtoul(line + strlen(name), NULL, 10);
}

// A page on the move is resident, as shared, with all of its size in Pss.
static void test_on_the_move(void **state maybe_unused)
{
	struct cases c = {.machine = small_machine()};
	struct gw_task *child;
	struct pte old;
	uint64_t p;
	char *text;

	assert_int_equal(gw_task_create(c.machine, NULL, &c.task), 0);
	p = case_anon(&c, 3);
	case_put(c.task, p, 0, 3);
	assert_int_equal(gw_task_fork(c.task, &child), 0);
	old = case_to_migration(c.task, p + CASE_PAGE);
	assert_int_equal(range_text(task_of(c.task), RANGE_SMAPS, p, 1, &text), 0);
	assert_int_equal(field(text, "\nRss:"), 12);
	assert_int_equal(field(text, "\nPss:"), 2 + 4 + 2);
	assert_int_equal(field(text, "\nShared_Dirty:"), 12);
	assert_int_equal(field(text, "\nPrivate_Dirty:"), 0);
	assert_int_equal(field(text, "\nAnonymous:"), 12);
	free(text);
	case_replace(c.task, p + CASE_PAGE, old);
	gw_task_exit(child);
	gw_task_exit(c.task);
	gw_machine_destroy(c.machine);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_as_linux),
		cmocka_unit_test(test_heads),
		cmocka_unit_test(test_on_the_move),
	};
	int failed;

	recorded = data_file("linux-6.12-maps.txt");
	failed = cmocka_run_group_tests(tests, NULL, NULL);
	free(recorded);
	return failed;
}
