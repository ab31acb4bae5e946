// SPDX-License-Identifier: MIT
// The player and both reports, on the fake machine.
//
// A story goes in and its whole report is compared, so that the format is a promise.

#include "lab/player.h"
#include "lab/report.h"
#include "lab_fake.h"

#include <errno.h>
#include <pty.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

#define START "machine nodes=2 memory=1M\ntask A\nA map b 16K\n" // the next line is line 4

struct played {
	char *out;
	int exit;
	struct play_totals totals;
};

static struct story *parse(const char *text)
{
	struct story *story = NULL;
	struct story_errors e;
	int err = story_parse("t.gw", text, strlen(text), &story, &e);
	if (err)
		fail_msg("%d: %u:%u: %s", err, e.v[0].line, e.v[0].column, e.v[0].text);
	return story;
}

static struct played play_with(const char *text, bool json, struct fake_plan *plan,
	const struct play_options *options)
{
	struct played p = {0};
	struct story *story = parse(text);
	struct text_report text_report;
	struct json_report json_report;
	size_t size;
	FILE *out = open_memstream(&p.out, &size);
	text_report_init(&text_report, out, false);
	json_report_init(&json_report, out);
	p.exit = play_story(story, fake_machine_open(plan),
		json ? &json_report.reporter : &text_report.reporter, options, &p.totals);
	fclose(out);
	assert_true(plan->torn_down);
	story_free(story);
	return p;
}

static void release(struct played *p)
{
	play_totals_release(&p->totals);
	free(p->out);
}

static void assert_report(const char *text, bool json, struct fake_plan *plan, int exit,
	const char *report)
{
	struct played p = play_with(text, json, plan, &(struct play_options){0});
	assert_string_equal(p.out, report);
	assert_int_equal(p.exit, exit);
	release(&p);
}

// The exit of a story and its number of failures.
static void assert_failed(const char *text, struct fake_plan *plan, int exit, unsigned failed)
{
	struct played p = play_with(text, false, plan, &(struct play_options){0});
	if (p.exit != exit || p.totals.failed != failed)
		fail_msg("exit %d, %u failed:\n%s", p.exit, p.totals.failed, p.out);
	release(&p);
}

// ---- Reports ------------------------------------------------------------------------------------

static const char story_of_all[] = START
	"A write b[0:8K] 7\n"
	"A where b\n"
	"expect status 0*2 -ENOENT ?\n"
	"mark\n"
	"A move b to=1\n"
	"expect moved A.b 2\n"
	"A move b to=9\n"
	"expect errno ENODEV\n"
	"expect status ?*4\n"
	"A get_policy\n"
	"show numa_maps A.b\n"
	"show vmstat pgmigrate_success pgfault\n"
	"A load b reads\n"
	"A stop b\n"
	"A protect b none\n"
	"A write b 1\n"
	"expect signal SIGSEGV # differs: no reason\n";

static void test_text_report(void **state)
{
	(void)state;
	assert_report(story_of_all, false, &(struct fake_plan){0}, PLAY_FAILED,
		"t.gw on engine\n"
		"    1  machine nodes=2 memory=1M\n"
		"    2  task A\n"
		"    3  A map b 16K\n"
		"    4  A write b[0:8K] 7\n"
		"    5  A where b                              return 0  status 0*2 -ENOENT*2\n"
		"    6  expect status 0*2 -ENOENT ?            FAILED: found 0*2 -ENOENT*2\n"
		"    7  mark\n"
		"    8  A move b to=1                          return 0  status 1*2 -ENOENT*2\n"
		"    9  expect moved A.b 2                     held\n"
		"   10  A move b to=9                          return -1 ENODEV  status ?*4\n"
		"   11  expect errno ENODEV                    held\n"
		"   12  expect status ?*4                      held\n"
		"   13  A get_policy                           return 0  bind:0-1\n"
		"   14  show numa_maps A.b\n"
		"        200000000000 bind:0 file=/x anon=2 active=1 N0=1 N1=1\n"
		"        200000002000 default anon=3 N1=3\n"
		"   15  show vmstat pgmigrate_success pgfault\n"
		"        pgmigrate_success +2\n"
		"        pgfault +0\n"
		"   16  A load b reads\n"
		"   17  A stop b                               return 0  accesses 1000"
		"  longest stall 1.500 ms  lost 0\n"
		"   18  A protect b none\n"
		"   19  A write b 1                            SIGSEGV\n"
		"   20  expect signal SIGSEGV                  held\n"
		"story t.gw: 14 commands, 5 expectations, 1 failed\n");
}

static void test_json_report(void **state)
{
	(void)state;
	assert_report(story_of_all, true, &(struct fake_plan){0}, PLAY_FAILED,
		"{\"schema\":1,\"line\":1,\"task\":null,\"command\":\"machine\",\"return\":null,"
		"\"errno\":null,\"source\":\"machine nodes=2 memory=1M\"}\n"
		"{\"schema\":1,\"line\":2,\"task\":null,\"command\":\"task\",\"return\":0,"
		"\"errno\":null}\n"
		"{\"schema\":1,\"line\":3,\"task\":\"A\",\"command\":\"map\",\"return\":0,"
		"\"errno\":null}\n"
		"{\"schema\":1,\"line\":4,\"task\":\"A\",\"command\":\"write\",\"return\":0,"
		"\"errno\":null}\n"
		"{\"schema\":1,\"line\":5,\"task\":\"A\",\"command\":\"where\",\"return\":0,"
		"\"errno\":null,\"status\":\"0*2 -ENOENT*2\"}\n"
		"{\"schema\":1,\"line\":6,\"task\":null,\"command\":\"expect\",\"return\":null,"
		"\"errno\":null,\"expect\":\"status\",\"wanted\":\"0*2 -ENOENT ?\","
		"\"found\":\"0*2 -ENOENT*2\",\"held\":false,"
		"\"failure\":\"the expectation does not hold\"}\n"
		"{\"schema\":1,\"line\":7,\"task\":null,\"command\":\"mark\",\"return\":null,"
		"\"errno\":null}\n"
		"{\"schema\":1,\"line\":8,\"task\":\"A\",\"command\":\"move\",\"return\":0,"
		"\"errno\":null,\"status\":\"1*2 -ENOENT*2\"}\n"
		"{\"schema\":1,\"line\":9,\"task\":null,\"command\":\"expect\",\"return\":null,"
		"\"errno\":null,\"expect\":\"moved\",\"wanted\":\"2\",\"found\":\"2\","
		"\"held\":true}\n"
		"{\"schema\":1,\"line\":10,\"task\":\"A\",\"command\":\"move\",\"return\":-1,"
		"\"errno\":\"ENODEV\",\"status\":\"?*4\"}\n"
		"{\"schema\":1,\"line\":11,\"task\":null,\"command\":\"expect\",\"return\":null,"
		"\"errno\":null,\"expect\":\"errno\",\"wanted\":\"ENODEV\",\"found\":\"ENODEV\","
		"\"held\":true}\n"
		"{\"schema\":1,\"line\":12,\"task\":null,\"command\":\"expect\",\"return\":null,"
		"\"errno\":null,\"expect\":\"status\",\"wanted\":\"?*4\",\"found\":\"?*4\","
		"\"held\":true}\n"
		"{\"schema\":1,\"line\":13,\"task\":\"A\",\"command\":\"get_policy\",\"return\":0,"
		"\"errno\":null,\"text\":\"bind:0-1\"}\n"
		"{\"schema\":1,\"line\":14,\"task\":null,\"command\":\"show\",\"return\":null,"
		"\"errno\":null,\"show\":\"numa_maps\",\"text\":\"200000000000 bind:0 file=/x "
		"anon=2 active=1 N0=1 N1=1\\n200000002000 default anon=3 N1=3\\n\"}\n"
		"{\"schema\":1,\"line\":15,\"task\":null,\"command\":\"show\",\"return\":null,"
		"\"errno\":null,\"show\":\"vmstat\",\"values\":{\"pgmigrate_success\":2,\"pgfault\":0}}\n"
		"{\"schema\":1,\"line\":16,\"task\":\"A\",\"command\":\"load\",\"return\":0,"
		"\"errno\":null}\n"
		"{\"schema\":1,\"line\":17,\"task\":\"A\",\"command\":\"stop\",\"return\":0,"
		"\"errno\":null,\"accesses\":1000,\"stall_ns\":1500000,\"lost\":0}\n"
		"{\"schema\":1,\"line\":18,\"task\":\"A\",\"command\":\"protect\",\"return\":0,"
		"\"errno\":null}\n"
		"{\"schema\":1,\"line\":19,\"task\":\"A\",\"command\":\"write\",\"return\":null,"
		"\"errno\":null,\"signal\":\"SIGSEGV\"}\n"
		"{\"schema\":1,\"line\":20,\"task\":null,\"command\":\"expect\",\"return\":null,"
		"\"errno\":null,\"expect\":\"signal\",\"wanted\":\"SIGSEGV\","
		"\"found\":\"SIGSEGV\",\"held\":true,\"differs\":\"no reason\"}\n"
		"{\"schema\":1,\"story\":\"t.gw\",\"machine\":\"engine\",\"result\":\"failed\","
		"\"reason\":null,\"commands\":14,\"expectations\":5,\"failed\":1,"
		"\"counters\":{\"pgfault\":2,\"pgmigrate_success\":2}}\n");
}

// What the machine counted before the story, or before the mark, is not in it.
static void test_numastat(void **state)
{
	(void)state;
	assert_report(START "A write b 7\nshow numastat\nmark\n"
		      "A move b[0:8K] to=1\nshow numastat\n",
		false, &(struct fake_plan){0}, PLAY_HELD,
		"t.gw on engine\n"
		"    1  machine nodes=2 memory=1M\n"
		"    2  task A\n"
		"    3  A map b 16K\n"
		"    4  A write b 7\n"
		"    5  show numastat\n"
		"        numa_hit 4 0\n"
		"        other_node 0 0\n"
		"    6  mark\n"
		"    7  A move b[0:8K] to=1  return 0  status 1*2\n"
		"    8  show numastat\n"
		"        numa_hit 0 0\n"
		"        other_node 0 2\n"
		"story t.gw: 7 commands, 0 expectations, 0 failed\n");
}

// The lines that say what machine it is, with what was decided about it.
static void test_machine_lines(void **state)
{
	static const char story[] = "# what it is about\nmachine nodes=2 memory=1M\n"
				    "machine distance=10,20,20,10 # far\n\n# if at all\n"
				    "needs root nodes=2\nonly engine\n# who\ntask A\n"
				    "expect return 0\nneeds ksm\n";
	(void)state;
	assert_report(story, false, &(struct fake_plan){0}, PLAY_HELD,
		"t.gw on engine\n"
		"\n       # what it is about\n"
		"    2  machine nodes=2 memory=1M\n"
		"    3  machine distance=10,20,20,10\n"
		"\n       # if at all\n"
		"    6  needs root nodes=2  met\n"
		"    7  only engine         met\n"
		"   11  needs ksm           met\n"
		"\n       # who\n"
		"    9  task A\n"
		"   10  expect return 0     held\n"
		"story t.gw: 1 commands, 1 expectations, 0 failed\n");
	assert_report("needs root\ntask A\n", true, &(struct fake_plan){0}, PLAY_HELD,
		"{\"schema\":1,\"line\":1,\"task\":null,\"command\":\"needs\",\"return\":null,"
		"\"errno\":null,\"source\":\"needs root\",\"met\":true}\n"
		"{\"schema\":1,\"line\":2,\"task\":null,\"command\":\"task\",\"return\":0,"
		"\"errno\":null}\n"
		"{\"schema\":1,\"story\":\"t.gw\",\"machine\":\"engine\",\"result\":\"held\","
		"\"reason\":null,\"commands\":1,\"expectations\":0,\"failed\":0,"
		"\"counters\":{}}\n");
}

static void test_skipped_reports(void **state)
{
	(void)state;
	assert_report("only host\ntask A\n", false, &(struct fake_plan){0}, PLAY_SKIPPED,
		"t.gw on engine\n    1  only host\nstory t.gw: skipped: only host\n");
	assert_report("only host\ntask A\n", true, &(struct fake_plan){0}, PLAY_SKIPPED,
		"{\"schema\":1,\"line\":1,\"task\":null,\"command\":\"only\",\"return\":null,"
		"\"errno\":null,\"source\":\"only host\",\"met\":null}\n"
		"{\"schema\":1,\"story\":\"t.gw\",\"machine\":\"engine\",\"result\":\"skipped\","
		"\"reason\":\"only host\",\"commands\":0,\"expectations\":0,\"failed\":0,"
		"\"counters\":{}}\n");
	assert_report("task A\n", true, &(struct fake_plan){.skip = "ksm"}, PLAY_SKIPPED,
		"{\"schema\":1,\"story\":\"t.gw\",\"machine\":\"engine\",\"result\":\"skipped\","
		"\"reason\":\"needs ksm\",\"commands\":0,\"expectations\":0,\"failed\":0,"
		"\"counters\":{}}\n");
	assert_failed("only host\ntask A\n", &(struct fake_plan){.name = "host"}, PLAY_HELD, 0);
}

// ---- Which expectations hold --------------------------------------------------------------------

static const struct {
	const char *lines; // after START
	unsigned failed;
} expectations[] = {
	{"A write b 1\nexpect return 0\n", 0},
	{"A write b 1\nexpect return 1\n", 1},
	{"A write b 1\nexpect return >= -1\nexpect return != 0\n", 1},
	{"A move b to=9\nexpect return -1\nexpect errno ENODEV\nexpect errno EPERM\n", 1},
	{"A write b 1\nexpect errno ENODEV\n", 1},
	{"A write b 1\nexpect signal SIGBUS\n", 1},
	{"A protect b none\nA write b 1\nexpect signal SIGBUS\n", 1},
	{"A protect b none\nA write b 1\nexpect return 0\n", 1},
	{"A where b\nexpect status -ENOENT*4\nexpect status -2 -2*2 -ENOENT\n", 0},
	{"A where b\nexpect status -ENOENT*3\nexpect status -ENOENT*5\n", 2},
	{"A where b\nA write b 1\nexpect status -ENOENT*4\n", 0}, // still of the where
	{"A get_policy\nexpect text bind:0-1\nexpect text bind:0\n", 1},
	{"A write b 1\nexpect vmstat pgfault 4\nmark\nexpect vmstat pgfault 0\n", 0},
	{"expect vmstat pgfault >= 1\nexpect vmstat pgfault <= 0\nexpect vmstat none 0\n", 2},
	{"A write b 1\nmark\nA move b[0:8K] to=1\nexpect moved A.b 2\nmark\n"
	 "expect moved A.b 0\nA move b to=1\nexpect moved A.b 2\n", 0},
	{"mark\nA write b 1\nexpect moved A.b 0\n", 0},	 // appeared, not moved
	{"mark\nA map c 8K\nA write c 1\nexpect moved A.c 0\n", 0},
	{"mark\ntask B cpu=1\nB map c 8K\nB write c 1\nexpect moved B.c 0\n", 0},
	{"A write b[0:8K] 1\nexpect node A.b 0\nexpect node A.b 1\n", 1},
	{"A write b[0:8K] 1\nexpect node A.b 0*2 -ENOENT*2\nexpect node A.b 0*2\n", 1},
	{"expect node A.b 0\nexpect node A.b -ENOENT\n", 1}, // nothing is present
	{"A map c 4M\nexpect huge A.c 2\nexpect huge A.c != 2\n", 1},
	{"expect smaps A.b Rss 8\nexpect smaps A.b Rss 8K\nexpect smaps A.b Pss 0\n", 1},
	{"expect numa_maps A.b N0=1 N1=4 N2=0 bind:0 anon=5\nexpect numa_maps A.b N1=1\n"
	 "expect numa_maps A.b prefer:0\n", 2},
	{"expect hugepages 1 free=4 total=8 surplus=1\nexpect hugepages 0 free=4\n", 1},
	{"expect hugepages 0 size=1G total=0\n", 0}, // no such pool
	{"expect ksm pages_sharing >= 255\nexpect ksm nothing 0\n", 1},
	{"set sys/known x\nexpect tunable sys/known x\nexpect tunable sys/known a [x] b\n"
	 "expect tunable sys/known a\nexpect tunable sys/unknown x\n", 2},
};

static void test_expectations(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(expectations) / sizeof(expectations[0]); i++) {
		char text[1000];
		snprintf(text, sizeof(text), START "%s", expectations[i].lines);
		assert_failed(text, &(struct fake_plan){0},
			expectations[i].failed ? PLAY_FAILED : PLAY_HELD, expectations[i].failed);
	}
}

// ---- What ends a story --------------------------------------------------------------------------

static const struct {
	const char *lines; // after START
	unsigned commands; // that were played, the two of START included
	unsigned failed;
} endings[] = {
	{"A move b to=9\nA write b 1\n", 3, 1},
	{"A move b to=9\nexpect vmstat pgfault 0\nA write b 1\n", 4, 0},
	{"A move b to=9\nshow trace\nmark\nA write b 1\n", 3, 1},
	{"A move b to=9\nexpect errno ENODEV\nA write b 1\n", 4, 0},
	{"A move b to=9\nexpect errno EPERM\nA write b 1\n", 4, 1},
	{"A protect b none\nA write b 1\nA get_policy\n", 4, 1},
	{"A write b 1\nA check b 2\nA get_policy\n", 4, 1},
	{"A load b reads\nA stop b\nA get_policy\n", 4, 1},
	{"set sys/unknown 1\nA write b 1\n", 3, 1},
	{"compact\nA write b 1\n", 3, 1},
};

static void test_endings(void **state)
{
	(void)state;
	struct fake_plan plan = {
		.loses_values = true, .broken = CMD_COMPACT, .broken_error = -EPIPE};
	for (size_t i = 0; i < sizeof(endings) / sizeof(endings[0]); i++) {
		char text[1000];
		snprintf(text, sizeof(text), START "%s", endings[i].lines);
		struct played p = play_with(text, false, &plan, &(struct play_options){0});
		if (p.totals.commands != endings[i].commands ||
			p.totals.failed != endings[i].failed)
			fail_msg("row %zu: %s", i, p.out);
		release(&p);
	}
}

static void test_keep_going(void **state)
{
	(void)state;
	struct played p = play_with(START "A move b to=9\nA write b 1\nA check b 2\nA where b\n",
		false, &(struct fake_plan){0}, &(struct play_options){.keep_going = true});
	assert_int_equal(p.totals.commands, 6);
	assert_int_equal(p.totals.failed, 2);
	assert_int_equal(p.exit, PLAY_FAILED);
	release(&p);
}

static void test_broken_machine(void **state)
{
	(void)state;
	assert_report("task A\ncompact\ntask B\n", false,
		&(struct fake_plan){.broken = CMD_COMPACT, .broken_error = -EPIPE}, PLAY_FAILED,
		"t.gw on engine\n"
		"    1  task A\n"
		"stopped: line 2: it broke\n"
		"story t.gw: 2 commands, 0 expectations, 1 failed\n");
	assert_report("task A\n", false, &(struct fake_plan){.setup_failure = "no room"},
		PLAY_FAILED,
		"t.gw on engine\n"
		"stopped: setup: no room\n"
		"story t.gw: 0 commands, 0 expectations, 1 failed\n");
}

// The machine says one thing and its memory another: the story fails there, and ends.
static void test_untrue_machine(void **state)
{
	(void)state;
	assert_report("task A\nA map a 4K\nA write a 1\ntask B\n", false,
		&(struct fake_plan){.untrue = CMD_MAP, .truth = "a page is elsewhere"}, PLAY_FAILED,
		"t.gw on engine\n"
		"    1  task A\n"
		"    2  A map a 4K   return 0  FAILED: a page is elsewhere\n"
		"the kernel, asked 2 times: 4 pages and 0 lines of numa_maps agree; "
		"not mapped yet: 0 pages\n"
		"story t.gw: 2 commands, 0 expectations, 1 failed\n");
}

static void test_limit_cancels(void **state)
{
	(void)state;
	struct fake_plan plan;
	struct played p;

	// On a busy machine the first command may take a second, too.
	for (unsigned limit_s = 1;; limit_s *= 10) {
		plan = (struct fake_plan){.hangs = true};
		p = play_with("task A\nsleep 1ms\ntask B\n", false, &plan,
			&(struct play_options){.limit_s = limit_s});
		if (p.totals.commands > 1 || limit_s >= 100)
			break;
		release(&p);
	}
	assert_int_equal(plan.cancelled, 1);
	assert_int_equal(p.exit, PLAY_FAILED);
	assert_int_equal(p.totals.commands, 2);
	assert_non_null(strstr(p.totals.reason, "line 2: "));
	release(&p);
}

// A machine takes as long as it likes: after a second it is said, on a terminal.
static void test_long_setup_is_told(void **state)
{
	(void)state;
	int terminal, slave, before = dup(STDERR_FILENO);
	assert_int_equal(openpty(&terminal, &slave, NULL, NULL, NULL), 0);
	dup2(slave, STDERR_FILENO);
	struct fake_plan plan = {.terminal = terminal};
	struct played p =
		play_with("task A\n", false, &plan, &(struct play_options){.progress = true});
	dup2(before, STDERR_FILENO);
	close(before);
	close(slave);
	close(terminal);
	assert_non_null(strstr(plan.said[0], "setting up the machine  1 s"));
	assert_non_null(strstr(plan.said[1], "taking down the machine  1 s"));
	assert_int_equal(p.exit, PLAY_HELD);
	release(&p);
}

// ---- What a machine cannot play -----------------------------------------------------------------

static void test_unsupported(void **state)
{
	(void)state;
	struct fake_plan plan = {0};
	struct lab_machine *m = fake_machine_open(&plan);
	struct story_errors e;
	struct story *s = parse("task A\nA map b 1G hugetlb=1G\n  A  mems 0\nshow trace\n");
	assert_false(play_supported(s, m, &e));
	assert_int_equal(e.count, 2);
	assert_int_equal(e.v[0].line, 2);
	assert_int_equal(e.v[0].column, 12); // of the word that asks for them
	assert_non_null(strstr(e.v[0].text, "a page of 1G is not yet in this build, "
						"expected 'map' without it"));
	assert_int_equal(e.v[1].line, 3);
	assert_int_equal(e.v[1].column, 6);
	assert_non_null(strstr(e.v[1].text, "'mems' is not yet in this build"));
	story_free(s);
	s = parse("machine nodes=1\nmachine cma=1M@0\ntask A\n");
	assert_false(play_supported(s, m, &e));
	assert_int_equal(e.count, 1);
	assert_int_equal(e.v[0].line, 2);
	assert_int_equal(e.v[0].column, 13);
	assert_non_null(strstr(e.v[0].text, "'cma' is not yet in this build"));
	story_free(s);
	s = parse("task A\nA map b 1M\nshow trace\n");
	assert_true(play_supported(s, m, &e));
	story_free(s);
	m->ops->teardown(m);
}

static void test_not_put_back(void **state)
{
	struct fake_plan plan = {.keeps_changes = true};

	(void)state;
	struct played p = play_with(START, false, &plan, &(struct play_options){0});
	assert_int_equal(p.exit, PLAY_FAILED);
	assert_non_null(strstr(p.out, "not all could be put back"));
	release(&p);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_text_report),
		cmocka_unit_test(test_json_report),
		cmocka_unit_test(test_numastat),
		cmocka_unit_test(test_machine_lines),
		cmocka_unit_test(test_skipped_reports),
		cmocka_unit_test(test_expectations),
		cmocka_unit_test(test_endings),
		cmocka_unit_test(test_keep_going),
		cmocka_unit_test(test_broken_machine),
		cmocka_unit_test(test_untrue_machine),
		cmocka_unit_test(test_limit_cancels),
		cmocka_unit_test(test_long_setup_is_told),
		cmocka_unit_test(test_unsupported),
		cmocka_unit_test(test_not_put_back),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
