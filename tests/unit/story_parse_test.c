// SPDX-License-Identifier: MIT
// The parser: what good lines become, and where bad lines are bad.
//
// Bad lines are a table: a story, and what must be reported, as LINE:COLUMN and a piece of the
// text. One mistake must give one report, so each row also fails if there are more.

#include "lab/story.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#define MACHINE "machine nodes=2 memory=256M\n"
#define START	MACHINE "task A\nA map b 4M\n" // the next line is line 4

static struct story *parse(const char *text)
{
	struct story *story = NULL;
	struct story_errors errors;
	int err = story_parse("t.gw", text, strlen(text), &story, &errors);
	if (err && errors.count)
		fail_msg("%u:%u: %s in: %s", errors.v[0].line, errors.v[0].column, errors.v[0].text,
			text);
	assert_int_equal(err, 0);
	return story;
}

// ---- Bad lines ----------------------------------------------------------------------------------

static const struct {
	const char *text;
	unsigned line, column;
	const char *says;
} bad_lines[] = {
	{"", 1, 1, "no command"},
	{"# only a comment\n", 1, 1, "no command"},
	{"frob\n", 1, 1, "unknown command or task 'frob'"},
	{"task A\nmap b 4M\n", 2, 1, "expected a task before it"},
	{"task A\nA task B\n", 2, 3, "expected something that a task does"},
	{"task A\nA\n", 2, 2, "the line ends here"},
	{"task A\n\001 A\n", 2, 1, "byte 0x01"},
	{"task A\ntask \xc3\xa4\n", 2, 6, "byte 0xc3"},
	// machine
	{"machine\ntask A\n", 1, 8, "the line ends here"},
	{"machine memory=1M\ntask A\n", 1, 1, "a machine without nodes"},
	{"machine nodes=0\ntask A\n", 1, 15, "expected 1 to 64 nodes"},
	{"machine nodes=65\ntask A\n", 1, 15, "expected 1 to 64 nodes"},
	{"machine nodes=2 nodes=2\ntask A\n", 1, 17, "a second time"},
	{"machine nodes=2\nmachine nodes=3\ntask A\n", 2, 9, "a second time"},
	{"machine nodes=2 memory=1M,2M,3M\ntask A\n", 1, 30, "more sizes than nodes"},
	{"machine nodes=3 memory=1M,2M\ntask A\n", 1, 24, "one for each of the 3"},
	{"machine nodes=2 memory=0,0\ntask A\n", 1, 24, "memory on some node"},
	{"machine nodes=1 memory=5\ntask A\n", 1, 24, "multiple of 4K"},
	{"machine nodes=2 cpus=0\ntask A\n", 1, 22, "1 to 256 cpus"},
	{"machine nodes=2 cpus=0-1@0,3@1\ntask A\n", 1, 22, "cpu 2 has no node"},
	{"machine nodes=2 cpus=0@0,1\ntask A\n", 1, 26, "a node at the end"},
	{"machine nodes=2 cpus=0@2\ntask A\n", 1, 24, "one of the 2 nodes"},
	{"machine nodes=2 distance=10,20,20\ntask A\n", 1, 26, "2 rows of 2"},
	{"machine nodes=2 distance=10,20,20,9\ntask A\n", 1, 35, "from 10 to 254"},
	{"machine nodes=2 hugepages=8\ntask A\n", 1, 27, "pages and their node"},
	{"machine nodes=2 hugepages=8@0,8@2\ntask A\n", 1, 33, "one of the 2 nodes"},
	{"machine nodes=2 hugepages=8x3M@0\ntask A\n", 1, 29, "2M or 1G"},
	{"machine nodes=2 cma=1@0\ntask A\n", 1, 21, "multiple of 4K"},
	{"machine nodes=2 colour=red\ntask A\n", 1, 17, "expected nodes=, nodes>=, memory="},
	{"task A\nmachine nodes=2\n", 2, 1, "after a command"},
	{"only here\ntask A\n", 1, 6, "expected engine or host"},
	{"only host\nonly engine\ntask A\n", 2, 6, "that an earlier line named"},
	{"needs\ntask A\n", 1, 6, "the line ends here"},
	{"needs cma magic\ntask A\n", 1, 11, "unexpected 'magic'"},
	{"needs kernel>=6\ntask A\n", 1, 15, "a version such as 6.12"},
	{"task A\nA map h 4K\nA write h[0:8K] 1\n", 3, 13, "ends beyond h, expected at most 4K"},
	{"task A\nA map h 6M\nA write h[6M] 1\n", 3, 11, "begins beyond h, expected below 6M"},
	{"needs nodes=0\ntask A\n", 1, 7, "1 to 64"},
	// tasks
	{"task\n", 1, 5, "a name for the task"},
	{"task 1A\n", 1, 6, "a name for the task"},
	{"task map\n", 1, 6, "a name that is no command"},
	{"task A\ntask A\n", 2, 6, "exists already"},
	{MACHINE "task A cpu=2\n", 2, 12, "one of the 2 cpus"},
	{MACHINE "task A cpu=x\n", 2, 12, "expected a number"},
	{"task A uid=4294967295\n", 1, 12, "a user id"},
	{"task A\nfork B of A\n", 2, 8, "'from' and the parent"},
	{"task A\nfork B from C\n", 2, 13, "unknown task 'C'"},
	{"task A\nexit A\nexit A\n", 3, 6, "exited in line 2"},
	{"task A\nexit A\nA map b 4K\n", 3, 1, "exited in line 2"},
	{START "A cpu 7\n", 4, 7, "one of the 2 cpus"},
	// mappings
	{START "A map b 4M\n", 4, 7, "b is mapped already"},
	{START "A map all 4M\n", 4, 7, "a name that is no option"},
	{START "A map c\n", 4, 8, "the size of the mapping"},
	{START "A map c 4Q\n", 4, 9, "expected a size"},
	{START "A map c 64G\n", 4, 9, "at most 32G"},
	{START "A map c 4K shm=x anon\n", 4, 7, "one of anon"},
	{START "A map c 4K shm=\n", 4, 16, "no value for shm"},
	{START "A map c 4K private=1\n", 4, 12, "expected the word alone"},
	{START "A map c 4M hugetlb=4M\n", 4, 20, "2M or 1G"},
	{START "A map c 4M align=3M\n", 4, 18, "a power of two"},
	{START "A map c 4M disk=d hugetlb\n", 4, 17, "no disk file"},
	{START "A unmap c\n", 4, 9, "unknown mapping 'c'"},
	{START "A unmap b extra\n", 4, 11, "the end of the line"},
	{START "A remap b[0:1M] b\n", 4, 17, "b is mapped already"},
	{START "A protect b x\n", 4, 13, "none, r or rw"},
	{START "A write b[4M] 1\n", 4, 11, "begins beyond b"},
	{START "A write b[1M:4M] 1\n", 4, 14, "ends beyond b"},
	{START "A write b[1M:4M 1\n", 4, 16, "expected ]"},
	{START "A write b[x] 1\n", 4, 11, "expected a size"},
	{START "A write b 256\n", 4, 11, "a byte from 0 to 255"},
	{START "A write b\n", 4, 10, "a byte"},
	{START "A advise b later\n", 4, 12, "expected hugepage"},
	// policies
	{START "A policy\n", 4, 9, "a policy such as"},
	{START "A policy best:1\n", 4, 10, "expected default, local"},
	{START "A policy bind=static=hard:1\n", 4, 22, "static, relative or balancing"},
	{START "A policy bind:1,x\n", 4, 17, "expected a number"},
	{START "A policy bind:3-1\n", 4, 15, "a rising range"},
	{START "A policy bind:64\n", 4, 15, "nodes below 64"},
	{START "A policy mode=x:1\n", 4, 15, "expected a number"},
	{START "A get_policy node node\n", 4, 19, "once each"},
	{START "A mbind b bind:1 move quick\n", 4, 23, "expected move, move_all"},
	// moving
	{START "A where\n", 4, 8, "no range on this line"},
	{START "A where b step=0\n", 4, 16, "a step above 0"},
	{START "A where b stepp=4K\n", 4, 11, "expected step=, of="},
	{START "A where b of=B\n", 4, 14, "unknown task 'B'"},
	{START "A where b to=1\n", 4, 11, "expected step="},
	{START "A where b step=1\nexpect status 0\nA map c 32G\nA where c step=1\n", 7, 1,
		"more than 16777216 addresses"},
	{START "A move b\n", 4, 9, "expected to=NODE"},
	{START "A move b to=1,,2\n", 4, 15, "nothing here"},
	{START "A move b to=3-1\n", 4, 13, "a rising range"},
	{START "A move b to=1 count=2000\n", 4, 21, "beyond the 1024 addresses"},
	{START "A move b to=1 bad=luck\n", 4, 19, "pages, nodes or status"},
	{START "A migrate from=0\n", 4, 17, "no to= on this line"},
	{START "A migrate to=0\n", 4, 15, "no from= on this line"},
	{START "A mems one\n", 4, 8, "expected a number"},
	{START "A mems_v1 1 move\n", 4, 13, "expected migrate"},
	{START "A load b sometimes\n", 4, 10, "writes or reads"},
	{START "A load b reads threads=0\n", 4, 24, "1 to 64 threads"},
	{START "A stop b\n", 4, 8, "a load that runs"},
	{START "A load b reads\nA stop b[0]\n", 5, 8, "a load that runs"},
	// the world
	{START "set kernel/x 1\n", 4, 5, "a path from the root"},
	{START "set sys/../etc/passwd 1\n", 4, 5, "without '..'"},
	{START "set sys/x\n", 4, 10, "a value"},
	{START "compact node=2\n", 4, 14, "one of the 2 nodes"},
	{START "khugepaged 0\n", 4, 12, "1 to 1000"},
	{START "sleep 5 minutes\n", 4, 9, "the end of the line"},
	{START "sleep 5m\n", 4, 7, "a time such as"},
	{START "store o\n", 4, 8, "a size, or move, check or where"},
	{START "store o 1M object=4\n", 4, 19, "8 to 4096 bytes"},
	{START "store o 1M\nstore o fly\n", 5, 9, "move, check or where"},
	{START "store o 1M\nstore o move from=0\n", 5, 20, "no to="},
	{START "cma take X 1M\n", 4, 5, "alloc or free"},
	{START "cma free X\n", 4, 10, "cma alloc made before"},
	{START "cma alloc X 1M\ncma alloc X 1M\n", 5, 11, "without an allocation"},
	{START "contig node=0\n", 4, 14, "no pages= on this line"},
	{START "contig pages=1\n", 4, 15, "no node= on this line"},
	{START "offline_page B b\n", 4, 14, "unknown task 'B'"},
	{START "fill leave=1M\n", 4, 14, "no node on this line"},
	// looking
	{START "show\n", 4, 5, "vmstat, numa_maps"},
	{START "show weather\n", 4, 6, "expected vmstat"},
	{START "show vmstat\n", 4, 12, "names of counters"},
	{START "show numa_maps b\n", 4, 16, "a task and a range"},
	{START "show smaps A.c\n", 4, 14, "unknown mapping 'c'"},
	// expecting
	{MACHINE "expect return 0\n", 2, 1, "without a command before it"},
	{START "expect status 0\n", 4, 1, "without a where or move"},
	{START "expect moved A.b 0\n", 4, 1, "without a mark"},
	{START "expect\n", 4, 7, "return, errno"},
	{START "expect luck\n", 4, 8, "expected return, errno"},
	{START "expect return\n", 4, 14, "a number"},
	{START "expect return x\n", 4, 15, "an integer"},
	{START "expect errno EFOO\n", 4, 14, "an error such as"},
	{START "expect signal SIGFOO\n", 4, 15, "a signal such as"},
	{START "A where b\nexpect status\n", 5, 14, "a list of statuses"},
	{START "A where b\nexpect status 1*0\n", 5, 17, "at least 1"},
	{START "A where b\nexpect status 1*x\n", 5, 17, "expected a number"},
	{START "A where b\nexpect status -EFOO\n", 5, 15, "an error such as -ENOENT"},
	{START "A where b\nexpect status here\n", 5, 15, "a node, -ERROR or ?"},
	{START "expect node A.b ?\n", 4, 17, "a node or -ENOENT"},
	{START "expect vmstat pgfault >5\n", 4, 23, "as a word of its own"},
	{START "expect vmstat pgfault\n", 4, 22, "a number"},
	{START "expect smaps A.b Rss much\n", 4, 22, "expected a size"},
	{START "expect hugepages 1\n", 4, 19, "nothing to compare"},
	{START "expect hugepages 2 free=1\n", 4, 18, "one of the 2 nodes"},
	{START "expect tunable sys/x\n", 4, 21, "a value"},
	{START "expect numa_maps A.b\n", 4, 21, "words of the line"},
	// one mistake, one report: names made by a bad line exist
	{"task A cpu=x\nA map b 4K\nA write b 1\n", 1, 12, "expected a number"},
	{"task A\nA map b 4Q\nA write b[1G:1G] 1\n", 2, 9, "expected a size"},
	{"machine nodes=x\ntask A cpu=9\n", 1, 15, "expected a number"},
	{START "A where b x\nexpect status 1\n", 4, 11, "unknown mapping 'x'"},
};

static void test_bad_lines(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(bad_lines) / sizeof(bad_lines[0]); i++) {
		struct story *story = NULL;
		struct story_errors e;
		const char *text = bad_lines[i].text;
		int err = story_parse("t.gw", text, strlen(text), &story, &e);
		if (err != -EINVAL || e.count != 1)
			fail_msg("row %zu: %d, %zu errors, the first %s, in: %s", i, err, e.count,
				e.count ? e.v[0].text : "", text);
		if (e.v[0].line != bad_lines[i].line || e.v[0].column != bad_lines[i].column ||
			!strstr(e.v[0].text, bad_lines[i].says))
			fail_msg("row %zu: %u:%u: %s, wanted %u:%u: %s, in: %s", i, e.v[0].line,
				e.v[0].column, e.v[0].text, bad_lines[i].line,
				bad_lines[i].column, bad_lines[i].says, text);
	}
}

static void test_all_bad_lines_are_reported(void **state)
{
	(void)state;
	char text[30 * 5 + 1];
	for (int i = 0; i < 30; i++)
		memcpy(text + i * 5, "frob\n", 6);
	struct story *story = NULL;
	struct story_errors e;
	assert_int_equal(story_parse("t.gw", text, strlen(text), &story, &e), -EINVAL);
	assert_int_equal(e.count, STORY_ERRORS_MAX);
	assert_true(e.more);
	assert_int_equal(e.v[19].line, 20);
}

// ---- Good stories -------------------------------------------------------------------------------

// All words of the language in one story.
static const char whole_language[] =
	"# a comment\n"
	"machine nodes=4 memory=256M,0,1G,256M cpus=0-1@0,2-3@1\n"
	"machine distance=10,20,20,20,20,10,20,20,20,20,10,20,20,20,20,10\n"
	"machine hugepages=8@0,4@1,2x1G@2\n"
	"machine cma=64M@0\n"
	"only engine\n"
	"needs cma thp hugetlb ksm numa_balancing soft_offline root nodes=2 kernel>=6.12\n"
	"set sys/kernel/mm/transparent_hugepage/enabled madvise\n"
	"task A cpu=1 uid=1000\n"
	"A map a 4M\nA map s 4M shm=x private ro\nA map f 8K file=y\nA map g 8K shared\n"
	"A map d 4M disk=z\nA map h 2G hugetlb=1G\nA map i 4M hugetlb align=2M\n"
	"fork B from A cpu=3\nA cpu 3\n"
	"A write a 0x41\nA read a[0:8K]\nA check a[4K] 65\n"
	"A protect a none\nA protect a r\nA protect a rw\nA remap a[0:2M] moved\n"
	"A advise a hugepage\nA advise a nohugepage\nA advise a collapse\nA advise a mergeable\n"
	"A advise a unmergeable\nA advise a dontneed\nA advise a free\nA advise a pageout\n"
	"A advise a soft_offline\nA advise a dontfork\n"
	"A lock a\nA unlock a\nA pin a\nA unpin a\nA unmap moved\n"
	"A policy default\nA policy local\nA policy bind:1\nA policy prefer:1\n"
	"A policy interleave:0,1\nA policy prefer-many:0-3\nA policy weighted:0,1\n"
	"A policy bind=static:1\nA policy bind=relative:1\nA policy bind=balancing:1\n"
	"A policy mode=7:0\nA get_policy\nA get_policy a node\nA get_policy mems\n"
	"A mbind a bind:1 move keep_huge\nA move a to=1 keep_huge\nA migrate from=0 to=1 keep_huge\n"
	"A mbind a bind:1 move strict\nA mbind a bind:1 move_all\nA mbind a bind:1 flags=8\n"
	"A where a[0] a[4K] a[0] step=4K\nexpect status 1 -ENOENT ?\n"
	"A move a to=1\nA move a to=0,1,2 step=2M all\nA move a to=1 of=B\n"
	"A move a to=1 flags=2 count=1 pid=-1 off=123 bad=pages\nexpect return -1\n"
	"A migrate from=0,1 to=2,3 of=B\nA mems 1-2\nA mems_v1 1-2 migrate\n"
	"A load a writes threads=2\nA load s reads\nA stop a\nA stop s\nA split a\n"
	"compact\ncompact node=0\nkhugepaged 1\nksmd 2\nbalance 3\ncma alloc X 16M\ncma free X\n"
	"contig node=0 pages=512\noffline_page A a\nfill node=3 leave=16M\nunfill\nsleep 500ms\n"
	"store o 64K object=96 node=0\nstore o move from=0 to=2\nstore o check\nstore o where\n"
	"mark\nshow vmstat pgfault pgmigrate_success\nshow numa_maps A.a\nshow smaps A.a\n"
	"show buddyinfo\nshow numastat\nshow hugepages\nshow trace\n"
	"expect return >= 0\nexpect errno EBUSY\nexpect signal SIGBUS\nexpect text bind:1\n"
	"expect vmstat pgfault 1\nexpect vmstat pgfault >= 1\nexpect vmstat pgfault <= 1\n"
	"expect vmstat pgfault != 1\nexpect vmstat pgfault = 1\nexpect moved A.a 512\n"
	"expect node A.a 1\nexpect node A.a 0*512 1*512\nexpect huge A.a 2\n"
	"expect smaps A.a AnonHugePages >= 2048\nexpect numa_maps A.a N1=16 bind:1\n"
	"expect hugepages 1 free=3 total=8 surplus=0\nexpect ksm pages_sharing >= 255\n"
	"expect tunable sys/kernel/mm/ksm/run 1 # differs: the reason\nexit B\n";

static void test_whole_language(void **state)
{
	(void)state;
	struct story *s = parse(whole_language);
	bool seen[CMD_COUNT] = {0};
	for (size_t i = 0; i < s->command_count; i++)
		seen[s->commands[i]->kind] = true;
	for (unsigned kind = 0; kind < CMD_COUNT; kind++)
		if (!seen[kind])
			fail_msg("no line of the story is a '%s'", command_word(kind));
	const struct command *last = s->commands[s->command_count - 2];
	assert_string_equal(last->differs, "the reason");
	assert_string_equal(last->source, "expect tunable sys/kernel/mm/ksm/run 1");
	story_free(s);
}

// Comments belong to the command or the machine line below them, blocks apart by an empty line.
static void test_notes(void **state)
{
	(void)state;
	static const char text[] = "# Zero.\nmachine nodes=1\n# One\tline.\n\n#\n#  Two.\n\n"
				   "task A # not this\nA map b 4K\n# End.\nexit A\n";
	struct story *story;
	struct story_errors errors = {0};
	assert_int_equal(story_parse("n.gw", text, strlen(text), &story, &errors), 0);
	assert_int_equal(story->machine_line_count, 1);
	assert_int_equal(story->machine_lines[0].line, 2);
	assert_string_equal(story->machine_lines[0].source, "machine nodes=1");
	assert_string_equal(story->machine_lines[0].note, "Zero.\n");
	assert_string_equal(story->commands[0]->note, "One line.\n\n Two.\n\n");
	assert_null(story->commands[1]->note);
	assert_string_equal(story->commands[2]->note, "End.\n");
	story_free(story);
}

static void test_machine(void **state)
{
	(void)state;
	struct story *s = parse(whole_language);
	const struct story_machine *m = &s->machine;
	assert_int_equal(m->nodes, 4);
	assert_false(m->more_nodes);
	assert_int_equal(m->memory[0], 256 << 20);
	assert_int_equal(m->memory[1], 0);
	assert_int_equal(m->memory[2], 1 << 30);
	assert_int_equal(m->cpus, 4);
	assert_int_equal(m->cpu_node[1], 0);
	assert_int_equal(m->cpu_node[2], 1);
	assert_int_equal(m->distance[1], 20);
	assert_int_equal(m->distance[5], 10);
	assert_int_equal(m->pool_count, 3);
	assert_int_equal(m->pools[2].page_size, 1 << 30);
	assert_int_equal(m->pools[2].node, 2);
	assert_int_equal(m->cma[0].size, 64 << 20);
	assert_true(m->only_engine);
	assert_int_equal(m->needs, (1u << NEED_COUNT) - 1);
	assert_int_equal(m->needs_nodes, 2);
	assert_int_equal(m->kernel_major, 6);
	assert_int_equal(m->kernel_minor, 12);
	story_free(s);
	s = parse("machine nodes>=3 memory=64M cpus=4\ntask A\n");
	assert_true(s->machine.more_nodes);
	assert_int_equal(s->machine.memory[2], 64 << 20);
	assert_int_equal(s->machine.cpu_node[3], 0);
	story_free(s);
}

static void test_cma_is_needed_by_its_words(void **state)
{
	(void)state;
	struct story *s = parse("machine nodes=1\nmachine cma=1M@0\ntask A\n");
	assert_int_equal(s->machine.needs, 1u << NEED_CMA);
	story_free(s);
}

// Addresses: the n-th map of a task, from 0; a child goes on where its parent was.
static void test_addresses(void **state)
{
	(void)state;
	struct story *s = parse("task A\nA map a 4K\nA map b 8M\nfork B from A\nB map c 4K\n"
				"A map c 4K\nA remap b[4M:4M] d\nB write b[4K:8K] 1\n");
	const uint64_t base = 0x200000000000, step = 64ull << 30;
	const struct command *const *c = s->commands;
	assert_int_equal(c[1]->map.map->address, base);
	assert_int_equal(c[2]->map.map->address, base + step);
	assert_int_equal(c[4]->map.map->address, base + 2 * step);
	assert_int_equal(c[5]->map.map->address, base + 2 * step);
	assert_int_equal(c[6]->remap.to->address, base + 3 * step);
	assert_int_equal(c[6]->remap.to->length, 4 << 20);
	assert_ptr_equal(c[6]->remap.to->origin, c[2]->map.map);
	const struct story_range *r = &c[7]->range.range;
	assert_ptr_not_equal(r->map, c[2]->map.map);
	assert_ptr_equal(r->map->origin, c[2]->map.map);
	assert_string_equal(r->map->task->name, "B");
	assert_int_equal(r->address, base + step + 4096);
	assert_int_equal(r->length, 8192);
	story_free(s);
}

static void test_names_are_free_again(void **state)
{
	(void)state;
	story_free(parse("task A\nA map a 4K\nA unmap a\nA write a 1\nA map a 8K\n"));
	story_free(parse("task A\nA map a 4K\nexpect errno ENOMEM\nA map a 8K\n"));
	story_free(parse("task A\nA map a 4K\nexpect return -1\nA map a 8K\n"));
	story_free(parse("cma alloc X 4K\ncma free X\ncma alloc X 4K\n"));
}

static void test_move_operands(void **state)
{
	(void)state;
	struct story *s = parse(START "fork B from A\n"
				      "A move b[0:5000] b[1M] b[1M] to=0,2-3,-1 of=B step=4K\n"
				      "A where b step=2M\n");
	const struct operand_move *m = &s->commands[3]->move;
	assert_int_equal(m->ranges.count, 3);
	assert_int_equal(m->count, 4);
	assert_int_equal(m->to_count, 4);
	assert_int_equal(m->to[1], 2);
	assert_int_equal(m->to[3], -1);
	assert_int_equal(m->flags, 2);
	assert_string_equal(m->of->name, "B");
	assert_string_equal(m->ranges.v[0].map->task->name, "B");
	assert_int_equal(s->commands[4]->move.count, 2);
	assert_null(s->commands[4]->move.to);
	story_free(s);
}

static void test_policies(void **state)
{
	(void)state;
	static const struct {
		const char *word;
		int mode;
		unsigned flags;
		uint64_t nodes;
		bool have_nodes;
	} rows[] = {
		{"default", 0, 0, 0, false},
		{"prefer:1", 1, 0, 2, true},
		{"bind=static:0-1,3", 2, 1 << 15, 11, true},
		{"interleave=relative=balancing:0", 3, 3 << 13, 1, true},
		{"local", 4, 0, 0, false},
		{"prefer-many:63", 5, 0, 1ull << 63, true},
		{"weighted:0", 6, 0, 1, true},
		{"mode=32770:1", 32770, 0, 2, true},
	};
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		char text[200], back[200];
		snprintf(text, sizeof(text), START "A policy %s\n", rows[i].word);
		struct story *s = parse(text);
		const struct story_policy *p = &s->commands[2]->policy.policy;
		assert_int_equal(p->mode, rows[i].mode);
		assert_int_equal(p->flags, rows[i].flags);
		assert_true(p->nodes == rows[i].nodes);
		assert_int_equal(p->have_nodes, rows[i].have_nodes);
		assert_string_equal(policy_text(p, back, sizeof(back)), rows[i].word);
		story_free(s);
	}
}

// Which failures a story asks about: those with an expectation before the next action.
static void test_expected(void **state)
{
	(void)state;
	struct story *s = parse(START "A write b 1\nexpect vmstat x 0\n"
				      "A write b 1\nA write b 1\nmark\nshow trace\nexpect signal SIGBUS\n"
				      "A where b\nexpect vmstat x 0\nexpect status 0*1024\n");
	assert_false(s->commands[1]->expected);
	assert_true(s->commands[2]->expected);
	assert_false(s->commands[4]->expected);
	assert_true(s->commands[5]->expected);
	assert_true(s->commands[9]->expected);
	story_free(s);
}

static void test_sizes_and_times(void **state)
{
	(void)state;
	struct story *s = parse(START "sleep 1500us\nsleep 2\nsleep 2.5s\nbalance 3\n"
				      "expect smaps A.b Rss: 4M\nexpect smaps A.b Rss 16\n"
				      "A map c 0x1000\n");
	assert_int_equal(s->commands[2]->world.time_ns, 1500000);
	assert_int_equal(s->commands[3]->world.time_ns, 2000000000);
	assert_int_equal(s->commands[4]->world.time_ns, 2500000000);
	assert_int_equal(s->commands[5]->world.time_ns, 3000000000);
	assert_int_equal(s->commands[6]->expect.value, 4096);
	assert_string_equal(s->commands[6]->expect.name, "Rss");
	assert_int_equal(s->commands[7]->expect.value, 16);
	assert_int_equal(s->commands[8]->map.map->length, 4096);
	story_free(s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_notes),
		cmocka_unit_test(test_bad_lines),
		cmocka_unit_test(test_all_bad_lines_are_reported),
		cmocka_unit_test(test_whole_language),
		cmocka_unit_test(test_machine),
		cmocka_unit_test(test_cma_is_needed_by_its_words),
		cmocka_unit_test(test_addresses),
		cmocka_unit_test(test_names_are_free_again),
		cmocka_unit_test(test_move_operands),
		cmocka_unit_test(test_policies),
		cmocka_unit_test(test_expected),
		cmocka_unit_test(test_sizes_and_times),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
