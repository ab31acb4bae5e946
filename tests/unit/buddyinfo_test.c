// SPDX-License-Identifier: MIT
// buddyinfo, pagetypeinfo and the fragmentation indexes: layout byte for byte as a real kernel
// prints it (tests/data/), numbers as a machine has them that nobody has used.
#include "support/maps_cases.h"

#include "phys/alloc.h"
#include "phys/pcp.h"

static char *recorded;

// One node of 8 MiB, without the zero page's hole: what is free is known.
static struct gw_machine *machine_of_mib(unsigned mib)
{
	const uint64_t bytes = (uint64_t)mib << 20;
	const struct gw_machine_config config = {
		.size = sizeof config,
		.nr_nodes = 1,
		.node_bytes = &bytes,
		.backend = GW_BACKEND_SOFT,
	};
	struct gw_machine *machine;

	assert_int_equal(gw_machine_create(&config, &machine), 0);
	return machine;
}

static char *read_text(struct gw_machine *machine, const char *path)
{
	char *text;

	assert_int_equal(gw_text(machine, path, &text), 0);
	return text;
}

// 32 MiB are eight blocks of order 10; half of one is the zero page's.
static void test_numbers(void **state maybe_unused)
{
	struct gw_machine *machine = machine_of_mib(32);
	char *text;

	drain_all_pages(&machine->phys);
	text = read_text(machine, "proc/buddyinfo");
	assert_string_equal(text, "Node 0, zone   Normal      0      0      0      0      0      0 "
				  "     0      0      0      1      7 \n");
	free(text);
	text = read_text(machine, "sys/kernel/debug/extfrag/unusable_index");
	assert_string_equal(text, "Node 0, zone   Normal 0.000 0.000 0.000 0.000 0.000 0.000 0.000 "
				  "0.000 0.000 0.000 0.066 \n");
	free(text);
	text = read_text(machine, "sys/kernel/debug/extfrag/extfrag_index");
	assert_string_equal(text, "Node 0, zone   Normal -1.000 -1.000 -1.000 -1.000 -1.000 -1.000 "
				  "-1.000 -1.000 -1.000 -1.000 -1.000 \n");
	free(text);
	gw_machine_destroy(machine);
}

// Every other page free: a high order fails because of fragmentation, and the index says so.
static void test_fragmented(void **state maybe_unused)
{
	enum { PAGES = 1024 };
	static struct folio *folio[PAGES];
	struct gw_machine *machine = machine_of_mib(4);
	unsigned nr = 0;
	char *text;

	while (nr < PAGES && (folio[nr] = folio_alloc(&machine->phys,
				      GFP_KERNEL | GFP_MEMALLOC | GFP_NOWARN, 0, 0, NULL, 0)))
		nr++;
	assert_true(nr > 100);
	for (unsigned i = 0; i < nr; i++)
		if (folio_pfn(folio[i]).n % 2)
			folio_put(folio[i]);
	drain_all_pages(&machine->phys);
	text = read_text(machine, "proc/buddyinfo");
	assert_non_null(strstr(text, "      0      0      0      0      0      0      0 \n"));
	free(text);
	text = read_text(machine, "sys/kernel/debug/extfrag/extfrag_index");
	assert_memory_equal(text, "Node 0, zone   Normal -1.000 0.", 31);
	assert_non_null(strstr(text, " 0.99"));
	free(text);
	text = read_text(machine, "sys/kernel/debug/extfrag/unusable_index");
	assert_memory_equal(text, "Node 0, zone   Normal 0.000 1.000 1.000", 39);
	free(text);
	for (unsigned i = 0; i < nr; i++)
		if (!(folio_pfn(folio[i]).n % 2))
			folio_put(folio[i]);
	gw_machine_destroy(machine);
}

// The lines of a zone of the kernel that has the same name as the engine's.
static char *normal_lines(const char *text)
{
	char *out = calloc(1, strlen(text) + 1);

	for (const char *line = text; *line; line = strchr(line, '\n') + 1) {
		size_t length = strcspn(line, "\n") + 1;

		if (strncmp(line, "Node", 4) || memmem(line, length, "Normal", 6))
			strncat(out, line, length);
	}
	return out;
}

static void zero_numbers(char *text)
{
	for (char *p = text; *p; p++) {
		if (*p < '1' || *p > '9')
			continue;
		// A number becomes as many blanks and a 0 in its last place.
		size_t digits = strspn(p, "0123456789");
		memset(p, ' ', digits - 1);
		p += digits - 1;
		*p = '0';
	}
}

// A machine like the recorded one: memory on node 2 alone is "Normal" there.
static void test_layout(void **state maybe_unused)
{
	static const char *const paths[] = {"proc/buddyinfo", "proc/pagetypeinfo"};
	const uint64_t bytes[3] = {0, 0, 32ul << 20};
	const struct gw_machine_config config = {
		.size = sizeof config,
		.nr_nodes = 3,
		.node_bytes = bytes,
		.backend = GW_BACKEND_SOFT,
	};
	struct gw_machine *machine;

	assert_int_equal(gw_machine_create(&config, &machine), 0);
	for (unsigned i = 0; i < ARRAY_SIZE(paths); i++) {
		char mark[64];
		snprintf(mark, sizeof mark, "== %s", paths[i]);
		char *block = data_block(recorded, mark, "== ");
		char *got = read_text(machine, paths[i]), *want;

		assert_non_null(block);
		// pagetypeinfo has a section a node with memory: the last is node 2's.
		const char *last = block;
		for (const char *p; (p = strstr(last + 1, "Page block order")) != NULL;)
			last = p;
		want = normal_lines(last);
		zero_numbers(want);
		zero_numbers(got);
		assert_string_equal(got, want);
		free(want);
		free(got);
		free(block);
	}
	gw_machine_destroy(machine);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_numbers),
		cmocka_unit_test(test_fragmented),
		cmocka_unit_test(test_layout),
	};
	int failed;

	recorded = data_file("linux-6.12-texts.txt");
	failed = cmocka_run_group_tests(tests, NULL, NULL);
	free(recorded);
	return failed;
}
