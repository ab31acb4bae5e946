// SPDX-License-Identifier: MIT
// Comparing two reports: what counts as a difference, and how differences are printed.

#include "lab/compare.h"
#include "lab/real_kernel.h"
#include "lab/report.h"
#include "lab_fake.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

static int read_text(const char *text, struct results *ret_results)
{
	FILE *in = fmemopen((void *)text, strlen(text), "r");
	int err = results_read(in, ret_results);
	fclose(in);
	return err;
}

#define MOVE(line, status, more)                                                                   \
	"{\"schema\":1,\"line\":" line ",\"task\":\"A\",\"command\":\"move\",\"return\":0,"        \
	"\"errno\":null,\"status\":\"" status "\"" more "}\n"
#define END(machine, result)                                                                       \
	"{\"schema\":1,\"story\":\"t.gw\",\"machine\":\"" machine "\",\"result\":\"" result "\","  \
	"\"reason\":\"why\",\"commands\":2,\"expectations\":0,\"failed\":0,\"counters\":{}}\n"

// Compares and prints; the text is the caller's.
static char *compared(const char *left, const char *right, int *ret_exit)
{
	struct results l, r;
	struct comparison *v;
	size_t count, size;
	char *out = NULL;
	assert_int_equal(read_text(left, &l), 0);
	assert_int_equal(read_text(right, &r), 0);
	assert_int_equal(compare_results(&l, &r, true, &v, &count), 0);
	FILE *f = open_memstream(&out, &size);
	for (size_t i = 0; i < count; i++)
		print_comparison(f, &v[i], NULL, false);
	fclose(f);
	*ret_exit = comparisons_exit(v, count);
	comparisons_release(v, count);
	results_release(&l);
	results_release(&r);
	return out;
}

static void assert_compared(const char *left, const char *right, int exit, const char *says)
{
	int found;
	char *out = compared(left, right, &found);
	if (found != exit || !strstr(out, says))
		fail_msg("exit %d:\n%s", found, out);
	free(out);
}

static void test_same(void **state)
{
	(void)state;
	assert_compared(MOVE("2", "1*2", "") END("engine", "held"),
		"[    0.000000] console noise\n" MOVE("2", "1*2", "") "\n{\"other\":1}\n"
		END("host", "held"),
		0, "compare t.gw: 1 lines, 0 differ, 0 differ as marked\n");
}

static void test_different(void **state)
{
	(void)state;
	const char *left = MOVE("2", "1*2", "") MOVE("3", "1", "") END("engine", "held");
	const char *right = MOVE("2", "1 -EBUSY", "") MOVE("3", "1", "") END("host", "held");
	assert_compared(left, right, 1, "return 0  status 1 -EBUSY");
	assert_compared(left, right, 1, "compare t.gw: 2 lines, 1 differ, 0 differ as marked\n");
}

static void test_marked(void **state)
{
	(void)state;
	const char *left = MOVE("2", "1", ",\"differs\":\"it may\"") END("engine", "held");
	const char *right = MOVE("2", "0", ",\"differs\":\"it may\"") END("host", "held");
	assert_compared(left, right, 0, "it may");
	assert_compared(left, right, 0, "1 lines, 0 differ, 1 differ as marked\n");
}

static void test_missing_line(void **state)
{
	(void)state;
	const char *left = MOVE("2", "1", "") MOVE("4", "1", "") END("engine", "held");
	const char *right = MOVE("3", "1", "") MOVE("4", "1", "") END("host", "failed");
	assert_compared(left, right, 1, "3 lines, 2 differ");
	assert_compared(left, right, 1, "(did not come here)");
}

static void test_skipped(void **state)
{
	(void)state;
	const char *held = MOVE("2", "1", "") END("engine", "held");
	assert_compared(held, END("host", "skipped"), 77, "compare t.gw: skipped: why\n");
	assert_compared(held, "", 1, "no result from the other machine");
}

static void test_broken_reports(void **state)
{
	(void)state;
	struct results r;
	assert_int_equal(read_text(MOVE("2", "1", ""), &r), -EPROTO);
	assert_int_equal(read_text("{\"schema\":2,\"line\":1}\n", &r), -EPROTO);
	assert_int_equal(read_text("{\"schema\":1,\"line\n" END("host", "held"), &r), 0);
	results_release(&r);
}

// ---- Noise --------------------------------------------------------------------------------------

static const struct {
	const char *what, *text, *clean;
} texts[] = {
	{"numa_maps", "200000000000 bind:0 file=/dev/shm/x anon=2 active=1 N0=1\n",
		"bind:0 anon=2 N0=1"},
	{"numa_maps", "200000000000 default\n200000001000 local N0=1\n", "default\nlocal N0=1"},
	{"smaps",
		"200000000000-200000002000 rw-p 00000000 00:00 0   /memfd:x (deleted)\n"
		"Rss:                   8 kB\nReferenced:            4 kB\nProtectionKey: 0\n"
		"VmFlags: rd wr \n",
		"Rss: 8 kB\nVmFlags: rd wr"},
	{"trace",
		"set_migration_pte: addr=7f00, pte=abc order=0\nmm_compaction_end: x\n"
		"remove_migration_pmd: addr=7f00, pmd=12\n",
		"set_migration_pte: addr=7f00, pte=ENTRY order=0\n"
		"remove_migration_pmd: addr=7f00, pmd=ENTRY"},
	{"numastat",
		"numa_hit 90 2\nnuma_miss 0 1\nnuma_foreign 1 0\ninterleave_hit 8 8\n"
		"local_node 90 0\nother_node 0 2\n",
		"interleave_hit 8 8"},
	{"buddyinfo", "Node 0, zone Normal 1 2\n\n", "Node 0, zone Normal 1 2"},
	{"numa_maps", "", ""},
};

static void test_noise(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
		char *clean = without_noise(texts[i].what, texts[i].text);
		size_t length = strlen(clean);
		while (length && clean[length - 1] == '\n')
			clean[--length] = '\0';
		assert_string_equal(clean, texts[i].clean);
		free(clean);
	}
}

#define SHOWN(values)                                                                              \
	"{\"schema\":1,\"line\":3,\"task\":null,\"command\":\"show\",\"return\":null,"           \
	"\"errno\":null,\"show\":\"vmstat\",\"values\":{" values "}}\n"
#define EXPECTED(held)                                                                             \
	"{\"schema\":1,\"line\":4,\"task\":null,\"command\":\"expect\",\"return\":null,"         \
	"\"errno\":null,\"expect\":\"vmstat\",\"wanted\":\">= 5\",\"found\":\"4\",\"held\":" held "}\n"

// Counters that a kernel moves for itself are not compared, but what a story expects of them is.
static void test_noisy_counters(void **state)
{
	(void)state;
	const char *left = SHOWN("\"numa_hit\":5,\"pgalloc_normal\":7,\"pgmigrate_success\":4")
		EXPECTED("true") END("engine", "held");
	// What the machine is said to be is not compared.
	assert_compared(left,
		"{\"schema\":1,\"line\":1,\"task\":null,\"command\":\"machine\",\"return\":null,"
		"\"errno\":null,\"source\":\"machine nodes=2\"}\n"
		SHOWN("\"numa_hit\":5,\"pgalloc_normal\":7,\"pgmigrate_success\":4")
			EXPECTED("true") END("host", "held"),
		0, "2 lines, 0 differ");
	assert_compared(left,
		SHOWN("\"numa_hit\":9,\"pgalloc_normal\":8,\"pgmigrate_success\":4")
			EXPECTED("true") END("host", "held"),
		0, "2 lines, 0 differ");
	assert_compared(left,
		SHOWN("\"numa_hit\":5,\"pgalloc_normal\":7,\"pgmigrate_success\":3")
			EXPECTED("true") END("host", "held"),
		1, "pgmigrate_success 3");
	assert_compared(left,
		SHOWN("\"numa_hit\":5,\"pgalloc_normal\":7,\"pgmigrate_success\":4")
			EXPECTED("false") END("host", "failed"),
		1, "found 4");
}

// ---- Two machines -------------------------------------------------------------------------------

static struct results results_of(const struct story *story, struct fake_plan *plan)
{
	struct json_report report;
	struct play_totals totals;
	struct results results;
	FILE *f = tmpfile();
	json_report_init(&report, f);
	play_story(story, fake_machine_open(plan), &report.reporter,
		&(struct play_options){.keep_going = true}, &totals);
	play_totals_release(&totals);
	rewind(f);
	assert_int_equal(results_read(f, &results), 0);
	fclose(f);
	return results;
}

// The same story on two fakes, one of which loses values: only that line differs, not the loads'
// numbers of accesses nor the texts' addresses.
static void test_two_machines(void **state)
{
	(void)state;
	const char *text = "machine nodes=2\ntask A\nA map b 16K\nA write b 1\nA where b\n"
			   "expect status 0*4\nA load b reads\nA stop b\nshow numa_maps A.b\n"
			   "show smaps A.b\nshow vmstat pgfault\nA protect b none\nA write b 1\n";
	struct story *story;
	struct story_errors e;
	assert_int_equal(story_parse("t.gw", text, strlen(text), &story, &e), 0);
	struct results left = results_of(story, &(struct fake_plan){0});
	struct results right =
		results_of(story, &(struct fake_plan){.name = "host", .loses_values = true});
	struct comparison *v;
	size_t count;
	assert_int_equal(compare_results(&left, &right, false, &v, &count), 0);
	assert_int_equal(count, 1);
	assert_int_equal(v->lines, 12);
	assert_int_equal(v->count, 1);
	assert_int_equal(v->differences[0].line, 8);
	assert_string_equal(v->differences[0].left, "return 0  lost 0");
	assert_string_equal(v->differences[0].right, "return 0  lost 1");
	comparisons_release(v, count);
	results_release(&left);
	results_release(&right);
	story_free(story);
}

// ---- The words for the virtual machine ----------------------------------------------------------

static void test_topology(void **state)
{
	static const char *const rows[][2] = {
		{"machine nodes=2 memory=1G,2G\nmark\n", "nodes=2 memory=1024M,2048M cpus=0@0,1@1"},
		{"machine nodes=3 memory=64M,0,1G\nmark\n",
			"nodes=3 memory=768M,0,1024M cpus=0@0,1@1,2@2"},
		{"machine nodes=2 memory=1G,0\nmachine cpus=0-1@0 distance=10,30,30,10\nmark\n",
			"nodes=2 memory=1024M,0 cpus=0@0,1@0 distance=10,30,30,10"},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct story *story = NULL;
		struct story_errors e;
		char text[256];
		assert_int_equal(
			story_parse("t.gw", rows[i][0], strlen(rows[i][0]), &story, &e), 0);
		assert_string_equal(real_kernel_topology(story, text, sizeof(text)), rows[i][1]);
		story_free(story);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_same),
		cmocka_unit_test(test_different),
		cmocka_unit_test(test_marked),
		cmocka_unit_test(test_missing_line),
		cmocka_unit_test(test_skipped),
		cmocka_unit_test(test_broken_reports),
		cmocka_unit_test(test_noise),
		cmocka_unit_test(test_noisy_counters),
		cmocka_unit_test(test_two_machines),
		cmocka_unit_test(test_topology),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
