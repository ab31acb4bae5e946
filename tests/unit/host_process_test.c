// SPDX-License-Identifier: MIT
// Mappings of a recorded process: the same story was stopped on each machine, as process 42.
//
//   200000000000  4 MiB of THP, one of the two split again   201000000000  2 hugetlb pages of 2 MiB
//   202000000000  64 KiB interleaved, locked   203000000000  64 KiB merged by KSM
//   204000000000  32 KiB shared memory         205000000000  32 KiB bound to the second node
// A was forked, so that its anonymous memory is shared, but the last, which was mapped after that.
#include "unit.h"

#include "host/process.h"

#include <errno.h>

#define KIB 1024ull
#define STORY 0x200000000000ull
#define STRIDE (64ull << 30)

static struct host_mappings read_machine(const char *name)
{
	struct host_mappings mappings;
	struct host host;
	char root[180];

	snprintf(root, sizeof root, TEST_DATA "/host/%s", name);
	assert_int_equal(host_init(&host, root), 0);
	assert_int_equal(host_mappings_read(&host, 42, &mappings), 0);
	return mappings;
}

static const struct host_mapping *nth(const struct host_mappings *mappings, unsigned n)
{
	for (size_t i = 0; i < mappings->count; i++)
		if (mappings->v[i].start == STORY + n * STRIDE)
			return &mappings->v[i];
	fail_msg("no mapping %u", n);
	return NULL;
}

static void test_story(const char *name, unsigned second)
{
	struct host_mappings all = read_machine(name);
	const struct host_mapping *m = nth(&all, 0);

	assert_int_equal(m->end - m->start, 4096 * KIB);
	assert_int_equal(m->resident, 4096 * KIB);
	assert_int_equal(m->huge, 2048 * KIB);
	assert_int_equal(m->shared, 4096 * KIB);
	assert_int_equal(m->pages[0], 1024);
	assert_string_equal(m->policy, "default");

	m = nth(&all, 1);
	assert_int_equal(m->page_bytes, 2048 * KIB);
	assert_int_equal(m->resident, 4096 * KIB);
	assert_int_equal(m->huge, 4096 * KIB);
	assert_int_equal(m->shared, 4096 * KIB);
	assert_int_equal(m->pages[0], 2);
	assert_string_equal(m->name, "/anon_hugepage (deleted)");

	m = nth(&all, 2);
	assert_int_equal(m->locked, 32 * KIB); // each half of what two processes share
	assert_int_equal(m->pages[0] + (second ? m->pages[second] : 0), 16);
	if (second)
		assert_int_equal(m->pages[second], 8);

	m = nth(&all, 3);
	assert_int_equal(m->pages[0], 16);
	assert_true(!m->has_ksm || m->ksm == 64 * KIB);

	m = nth(&all, 5);
	assert_int_equal(m->shared, 0);
	assert_int_equal(m->pages[second], 8);
	host_mappings_release(&all);
}

static void test_one_node(void **state)
{
	(void)state;
	test_story("1node", 0);
}

static void test_two_nodes(void **state)
{
	(void)state;
	test_story("2node", 1);
}

static void test_memoryless(void **state)
{
	struct host_mappings all = read_machine("4node-memoryless");

	(void)state;
	test_story("4node-memoryless", 2);
	assert_string_equal(nth(&all, 2)->policy, "interleave:0,2");
	assert_string_equal(nth(&all, 5)->policy, "bind:2");
	assert_true(nth(&all, 3)->has_ksm);
	host_mappings_release(&all);
}

static void test_process(void **state)
{
	struct host_process process;
	struct host host;

	(void)state;
	assert_int_equal(host_init(&host, TEST_DATA "/host/2node"), 0);
	assert_int_equal(host_process_read(&host, 42, &process), 0);
	assert_string_equal(process.name, "godwit");
	assert_int_equal(process.threads, 1);
	assert_int_equal(process.uid, 0);
	assert_int_equal(process.mems_allowed.bits, 3);
	assert_int_equal(host_process_read(&host, 43, &process), -ESRCH);
}

static void test_words(void **state)
{
	char smaps[] = "1000-3000 rw-p 00000000 00:00 0 \nRss: 8 kB\nKSM: 4 kB\nVmFlags: rd\n"
		       "4000-5000 r--p 00000000 08:01 7    /a b/c\nRss: 4 kB\n";
	char maps[] = "1000 prefer (many):0-1 anon=2 N0=1 N3=1 kernelpagesize_kB=4\n"
		      "4000 weighted interleave=static:0,2 file=/a\\040N5=9 N2=1\n"
		      "9000 default\n";
	struct host_mappings m = {0};

	(void)state;
	assert_int_equal(host_smaps_parse(smaps, &m), 0);
	host_numa_maps_parse(maps, &m);
	assert_int_equal(m.count, 2);
	assert_string_equal(m.v[0].policy, "prefer (many):0-1");
	assert_int_equal(m.v[0].pages[3], 1);
	assert_int_equal(m.v[0].ksm, 4096);
	assert_string_equal(m.v[0].name, "");
	assert_string_equal(m.v[1].policy, "weighted interleave=static:0,2");
	assert_string_equal(m.v[1].name, "/a b/c");
	assert_int_equal(m.v[1].pages[2], 1);
	assert_int_equal(m.v[1].pages[5], 0);
	host_mappings_release(&m);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_one_node),
		cmocka_unit_test(test_two_nodes),
		cmocka_unit_test(test_memoryless),
		cmocka_unit_test(test_process),
		cmocka_unit_test(test_words),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
