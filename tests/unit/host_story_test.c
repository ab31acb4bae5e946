// SPDX-License-Identifier: MIT
// The host as a machine for stories: what it refuses, how it numbers nodes, and a story played on
// the kernel that runs these tests, as an ordinary user may.
#include "unit.h"

#include "lab/host_machine.h"
#include "lab/player.h"
#include "lab/report.h"

#include <errno.h>

static struct story *parse(const char *text)
{
	struct story *story = NULL;
	struct story_errors e;
	int err = story_parse("t.gw", text, strlen(text), &story, &e);

	if (err)
		fail_msg("%d: %u:%u: %s", err, e.v[0].line, e.v[0].column, e.v[0].text);
	return story;
}

static struct lab_machine *open_host(const struct lab_options *options)
{
	struct lab_machine *machine;
	char failure[200];

	assert_int_equal(
		host_machine_ops.open(options, &machine, failure, sizeof failure), 0);
	return machine;
}

// ---- Refusals -----------------------------------------------------------------------------------

struct refusal {
	const char *root; // below tests/data/host; NULL: the running machine
	const char *story;
	const char *reason; // part of it; NULL: it is played
};

static void check_refusal(const struct refusal *r)
{
	char root[180], reason[300] = "";
	struct lab_options options = {0};
	struct lab_machine *machine;
	struct story *story;
	char text[300];
	bool skips;

	snprintf(text, sizeof text, "%smark\n", r->story); // a story has a command
	story = parse(text);
	snprintf(root, sizeof root, TEST_DATA "/host/%s", r->root ? r->root : "");
	options.host_root = r->root ? root : NULL;
	machine = open_host(&options);
	skips = play_skips(story, machine, reason, sizeof reason);
	machine->ops->teardown(machine);
	story_free(story);
	if (skips != (r->reason != NULL) || (r->reason && !strstr(reason, r->reason)))
		fail_msg("%s: '%s', not '%s'", r->story, reason, r->reason ? r->reason : "");
}

static void test_refusals(void **state)
{
	static const struct refusal rows[] = {
		{"2node", "machine nodes=2 memory=1M\n", NULL},
		{"2node", "machine nodes=4 memory=1M\n", "this machine has 2 nodes"},
		{"2node", "machine nodes=1 memory=1M\n", "this machine has 2 nodes"},
		{"8node", "machine nodes>=2 memory=1M\n", NULL},
		{"4node-memoryless", "machine nodes=3 memory=1M\n", NULL},
		{"4node-memoryless", "machine nodes=4 memory=1M\n", "3 nodes with memory"},
		{"4node-memoryless", "machine nodes=4 memory=1M,0,1M,1M\n", NULL},
		{"2node", "machine nodes=3 memory=1M,0,1M\n", "without memory"},
		{"4node-memoryless",
			"machine nodes=2 memory=1M,1M\nmachine distance=10,20,20,10\n",
			"3 nodes with memory"},
		{"2node", "machine nodes=2 memory=1M\nmachine distance=10,20,20,10\n", NULL},
		{"2node", "machine nodes=2 memory=1M\nmachine distance=10,21,21,10\n",
			"it is 20 here, not 21"},
		{"2node", "machine nodes=2 memory=1M\nneeds kernel>=6.12\n", "this is 6.1"},
		{"8node", "machine nodes=8 memory=1M\nneeds kernel>=6.12\n", NULL},
		{"2node", "machine nodes=2 memory=1M\nneeds nodes=3\n", "this machine has 2"},
		{"2node", "machine nodes=2 memory=1M\nneeds thp hugetlb ksm\n", NULL},
		{"2node", "machine nodes=2 memory=1M\nneeds cma\n", "cannot be asked"},
		{"2node", "machine nodes=2 memory=1M\nneeds soft_offline\n", "has none"},
		{"2node", "machine nodes=2 memory=1M\nmachine cma=1M@0\n", "contiguous"},
		{"2node", "machine nodes=2 memory=1M\ncontig node=0 pages=2\n", "contiguous"},
		{"2node", "machine nodes=2 memory=1M\ntask A\nA mems_v1 0\n", "mounted nowhere"},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
		check_refusal(&rows[i]);
}

// On a machine that is no test guest nothing of the machine is changed without the user's word.
static void test_refuses_to_change(void **state)
{
	static const char begin[] = "machine nodes>=1 memory=1M\ntask A\nA map b 4K\n";
	static const char *const changes[] = {"set proc/sys/kernel/numa_balancing 0",
		"compact", "khugepaged 1", "ksmd 1", "balance 1", "fill node=0"};
	static const char *const poison[] = {"offline_page A b", "A advise b soft_offline"};
	struct host host;
	char story[200];

	(void)state;
	assert_int_equal(host_init(&host, NULL), 0);
	if (host_is_test_guest(&host))
		skip();
	for (size_t i = 0; i < ARRAY_SIZE(changes); i++) {
		snprintf(story, sizeof story, "%s%s\n", begin, changes[i]);
		check_refusal(&(struct refusal){NULL, story, "needs --allow-system-changes"});
	}
	for (size_t i = 0; i < ARRAY_SIZE(poison); i++) {
		snprintf(story, sizeof story, "%s%s\n", begin, poison[i]);
		check_refusal(&(struct refusal){NULL, story, "needs --allow-poison"});
	}
	check_refusal(&(struct refusal){NULL,
		"machine nodes>=1 memory=1M\nmachine hugepages=1@0\n",
		"needs --allow-system-changes"});
}

// ---- Numbers ------------------------------------------------------------------------------------

// story 0 1 2   stands for
// real  0 2 3
static void test_numbers(void **state)
{
	struct lab_options options = {.host_root = TEST_DATA "/host/4node-memoryless"};
	struct story *story = parse("machine nodes=3 memory=1M cpus=3\nmark\n");
	struct lab_machine *machine = open_host(&options);
	struct host_machine *m = host_of(machine);
	char path[100], *text;

	(void)state;
	assert_int_equal(host_map_make(m, &story->machine), 0);
	assert_int_equal(real_node(&m->map, 1), 2);
	assert_int_equal(story_node(&m->map, 3), 2);
	assert_int_equal(story_node(&m->map, -2), -2);
	assert_int_equal(real_node(&m->map, 3), 4); // neither exists
	assert_int_equal(real_nodes(&m->map, 0x6), 0xc);
	assert_int_equal(story_nodes(&m->map, 0xd), 0x7);
	assert_int_equal(m->map.cpu[1], 2);
	assert_string_equal(real_path(&m->map, "sys/devices/system/node/node1/compact", path,
				    sizeof path),
		"sys/devices/system/node/node2/compact");
	assert_string_equal(real_path(&m->map, "proc/vmstat", path, sizeof path), "proc/vmstat");
	text = strdup("2000 bind=static:2-3 file=/x\\040N2=7 anon=3 N0=1 N2=2 kernelpagesize_kB=4\n"
		      "3000 prefer (many):0,3 N3=1\n");
	text = story_numa_maps(&m->map, text);
	assert_string_equal(text,
		"2000 bind=static:1-2 file=/x\\040N2=7 anon=3 N0=1 N1=2 kernelpagesize_kB=4\n"
		"3000 prefer (many):0,2 N2=1\n");
	free(text);
	machine->ops->teardown(machine);
	story_free(story);
}

// ---- Playing ------------------------------------------------------------------------------------

struct quiet {
	struct reporter reporter;
	char failure[300];
};

static void quiet_begin(struct reporter *r, const struct story *story, const char *machine,
	bool skipped)
{
	(void)r, (void)story, (void)machine, (void)skipped;
}

static void quiet_event(struct reporter *r, const struct play_event *event)
{
	struct quiet *q = (struct quiet *)r;

	if (event->failure && !*q->failure)
		snprintf(q->failure, sizeof q->failure, "line %u: %s (found %s)",
			event->command->line, event->failure, event->found ? event->found : "");
}

static void quiet_end(struct reporter *r, const struct story *story, const char *machine,
	const struct play_totals *totals)
{
	(void)r, (void)story, (void)machine, (void)totals;
}

static void quiet_warn(struct reporter *r, const char *text)
{
	(void)r, (void)text;
}

static struct play_totals play(const char *text, unsigned limit_s, char *failure, size_t size)
{
	struct quiet quiet = {{quiet_begin, quiet_event, quiet_end, quiet_warn}, ""};
	struct play_options options = {.limit_s = limit_s};
	struct lab_options lab = {0};
	struct story *story = parse(text);
	struct play_totals totals;

	play_story(story, open_host(&lab), &quiet.reporter, &options, &totals);
	snprintf(failure, size, "%s%s", quiet.failure, totals.reason);
	story_free(story);
	return totals;
}

// ThreadSanitizer keeps its own memory where stories have theirs.
static void skip_under_tsan(void)
{
	if (HAVE_TSAN)
		skip();
}

static void test_plays(void **state)
{
	static const char text[] =
		"machine nodes>=1 memory=64M\n"
		"task A cpu=0\n"
		"A map buf 64K\n"
		"A write buf 7\n"
		"A check buf 7\n"
		"A check buf[4K:4K] 7\n"
		"fork B from A\n"
		"B write buf[0:4K] 8\n"
		"A check buf 7\n"
		"A protect buf r\n"
		"A write buf 1\n"
		"expect signal SIGSEGV\n"
		"A protect buf rw\n"
		"A remap buf there\n"
		"A check there 7\n"
		"A read buf\n"
		"expect signal SIGSEGV\n"
		"A map s 16K shm=board\n"
		"B map t 16K shm=board\n"
		"A write s 5\n"
		"B check t 5\n"
		"exit A\n"
		"B load t writes threads=2\n"
		"B stop t\n"
		"B unmap t[4K:4K]\n"
		"B read t\n"
		"expect signal SIGSEGV\n";
	char failure[700];
	struct play_totals totals;

	(void)state;
	skip_under_tsan();
	totals = play(text, 100, failure, sizeof failure);
	if (totals.exit != PLAY_HELD)
		fail_msg("%d: %s", totals.exit, failure);
	assert_int_equal(totals.expectations, 3);
	play_totals_release(&totals);
}

// A wrong byte is found, at its place; a command that takes too long is given up.
static void test_fails(void **state)
{
	static const char begin[] = "machine nodes>=1 memory=64M\ntask A cpu=0\n";
	char text[300], failure[700];
	struct play_totals totals;

	(void)state;
	skip_under_tsan();
	snprintf(text, sizeof text, "%sA map b 8K\nA write b 1\nA check b 2\n", begin);
	totals = play(text, 100, failure, sizeof failure);
	assert_int_equal(totals.exit, PLAY_FAILED);
	assert_non_null(strstr(failure, "another byte"));
	play_totals_release(&totals);

	snprintf(text, sizeof text, "%ssleep 100s\n", begin);
	totals = play(text, 1, failure, sizeof failure);
	assert_int_equal(totals.exit, PLAY_FAILED);
	play_totals_release(&totals);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_refusals),
		cmocka_unit_test(test_refuses_to_change),
		cmocka_unit_test(test_numbers),
		cmocka_unit_test(test_plays),
		cmocka_unit_test(test_fails),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
