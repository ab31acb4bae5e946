// SPDX-License-Identifier: MIT
// Huge pages through the public doors, as a program would use them: which addresses are on one,
// moves that keep them huge or split them and say so, and who does not want any.
#include "unit.h"

#include "base/fault_inject.h"

#include <godwit/huge.h>
#include <godwit/migrate.h>
#include <godwit/policy.h>
#include <godwit/space.h>
#include <godwit/stats.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define HUGE (2ul << 20)
#define THP "sys/kernel/mm/transparent_hugepage/"
#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25
#endif

static struct gw_machine *m;
static struct gw_task *t;
static uint64_t buf; // 4 MiB, aligned

static void set(const char *path, const char *value)
{
	assert_int_equal(gw_tunable_set(m, path, value), 0);
}

// Between free pages, where compaction shall not make room.
static struct gw_pin *pin[2048];
static unsigned nr_pins;

static void unpin_all(void)
{
	while (nr_pins)
		gw_unpin(pin[--nr_pins]);
}

static int setup(void **state)
{
	const uint64_t bytes[2] = {64 << 20, 64 << 20};
	const struct gw_machine_config config = {.size = sizeof config, .nr_nodes = 2,
		.nr_cpus = 2, .node_bytes = bytes, .backend = GW_BACKEND_SOFT};
	const struct gw_mapping mapping = {.size = sizeof mapping, .length = 2 * HUGE,
		.align = HUGE, .prot = GW_PROT_READ | GW_PROT_WRITE};

	(void)state;
	assert_int_equal(gw_machine_create(&config, &m), 0);
	assert_int_equal(gw_task_create(m, NULL, &t), 0);
	assert_int_equal(gw_task_attach(t), 0);
	assert_int_equal(gw_map(t, &mapping, &buf), 0);
	set(THP "khugepaged/scan_sleep_millisecs", "3600000");
	set(THP "enabled", "always");
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	unpin_all(); // of a test that failed
	assert_int_equal(gw_task_attach(NULL), 0);
	gw_machine_check(m);
	gw_task_exit(t);
	gw_machine_destroy(m);
	return 0;
}

static void touch(uint64_t at, uint64_t bytes, char byte)
{
	for (uint64_t i = 0; i < bytes; i += GW_PAGE_SIZE)
		assert_int_equal(gw_write(t, at + i, &byte, 1), 1);
}

static void check(uint64_t at, uint64_t bytes, char byte)
{
	char seen;

	for (uint64_t i = 0; i < bytes; i += GW_PAGE_SIZE) {
		assert_int_equal(gw_read(t, at + i, &seen, 1), 1);
		assert_int_equal(seen, byte);
	}
}

static int64_t counter(const char *name)
{
	int64_t value = 0;

	assert_int_equal(gw_vmstat(m, name, &value), 0);
	return value;
}

static void expect(const struct gw_huge_info *info, uint64_t at, uint64_t length,
	enum gw_huge_mapping mapping, uint64_t page_size, uint64_t page_address, int node)
{
	assert_int_equal(info->address, at);
	assert_int_equal(info->length, length);
	assert_int_equal(info->mapping, mapping);
	assert_int_equal(info->page_size, page_size);
	assert_int_equal(info->page_address, page_address);
	assert_int_equal(info->node, node);
}

// ---- Which addresses are on huge pages

//	buf            +2M                          +4M
//	|     leaf     | small | absent | entries ...|  unmapped
static void a_range_of_every_kind(void **state)
{
	struct gw_huge_info info[8];

	(void)state;
	touch(buf, GW_PAGE_SIZE, 1);
	set(THP "enabled", "never");
	touch(buf + HUGE, 3 * GW_PAGE_SIZE, 1);
	set(THP "hugepages-64kB/enabled", "always");
	touch(buf + HUGE + 0x10000, GW_PAGE_SIZE, 1);
	assert_int_equal(gw_huge_query(t, buf, 3 * HUGE, info, 8), 6);
	expect(&info[0], buf, HUGE, GW_HUGE_LEAF, HUGE, buf, 0);
	expect(&info[1], buf + HUGE, 3 * GW_PAGE_SIZE, GW_HUGE_SMALL, GW_PAGE_SIZE,
		buf + HUGE, 0);
	expect(&info[2], buf + HUGE + 0x3000, 0xd000, GW_HUGE_ABSENT, 0, 0, -1);
	expect(&info[3], buf + HUGE + 0x10000, 0x10000, GW_HUGE_ENTRIES, 0x10000,
		buf + HUGE + 0x10000, 0);
	assert_int_equal(info[4].mapping, GW_HUGE_ABSENT);
	expect(&info[5], buf + 2 * HUGE, HUGE, GW_HUGE_UNMAPPED, 0, 0, -1);
}

static void unmapped_ends_and_resumption(void **state)
{
	struct gw_huge_info info[2];

	(void)state;
	touch(buf, 2 * HUGE, 1);
	assert_int_equal(gw_unmap(t, buf + HUGE, HUGE), 0);
	// One at a time, from the middle of a page: addresses are as asked.
	assert_int_equal(gw_huge_query(t, buf + 0x5123, 2 * HUGE, info, 1), 1);
	expect(&info[0], buf + 0x5123, HUGE - 0x5123, GW_HUGE_LEAF, HUGE, buf, 0);
	uint64_t next = info[0].address + info[0].length;
	assert_int_equal(gw_huge_query(t, next, HUGE, info, 2), 1);
	expect(&info[0], buf + HUGE, HUGE, GW_HUGE_UNMAPPED, 0, 0, -1);
	assert_int_equal(gw_huge_query(t, buf, 0, info, 1), 0);
	assert_int_equal(gw_huge_query(t, buf, HUGE, info, 0), -EINVAL);
	assert_int_equal(gw_huge_query(t, UINT64_MAX, 2, info, 1), -EINVAL);
}

static void zero_page_pool_page_and_split(void **state)
{
	const struct gw_mapping pool = {.size = sizeof pool, .length = HUGE,
		.prot = GW_PROT_READ | GW_PROT_WRITE, .flags = GW_MAP_HUGETLB};
	struct gw_huge_info info[3];
	uint64_t at;
	char byte;

	(void)state;
	assert_int_equal(gw_read(t, buf + 5, &byte, 1), 1);
	assert_int_equal(gw_huge_query(t, buf, HUGE, info, 3), 1);
	expect(&info[0], buf, HUGE, GW_HUGE_ZERO, HUGE, buf, -1);
	set("proc/sys/vm/nr_hugepages", "2");
	assert_int_equal(gw_map(t, &pool, &at), 0);
	touch(at, GW_PAGE_SIZE, 1);
	assert_int_equal(gw_huge_query(t, at, HUGE, info, 3), 1);
	expect(&info[0], at, HUGE, GW_HUGE_HUGETLB, HUGE, at, 0);
	// The leaf goes, the page stays: every part of it knows where the whole begins.
	touch(buf + HUGE, GW_PAGE_SIZE, 1);
	assert_int_equal(gw_unmap(t, buf + HUGE, HUGE / 2), 0);
	assert_int_equal(gw_huge_query(t, buf + HUGE, HUGE, info, 3), 2);
	assert_int_equal(info[0].mapping, GW_HUGE_UNMAPPED);
	expect(&info[1], buf + HUGE + HUGE / 2, HUGE / 2, GW_HUGE_ENTRIES, HUGE, buf + HUGE, 0);
	assert_int_equal(gw_unmap(t, at, HUGE), 0);
	set("proc/sys/vm/nr_hugepages", "0");
}

static void expect_text(const char *path, const char *part)
{
	char *text;

	assert_int_equal(gw_text(m, path, &text), 0);
	if (!strstr(text, part))
		fail_msg("no \"%s\" in %s:\n%s", part, path, text);
	free(text);
}

static void texts_of_a_1_gib_page(void **state)
{
	const uint64_t bytes[1] = {2ul << 30};
	const struct gw_machine_config config = {.size = sizeof config, .nr_nodes = 1,
		.node_bytes = bytes, .backend = GW_BACKEND_SOFT};
	const struct gw_mapping pool = {.size = sizeof pool, .length = 1ul << 30, .huge_shift = 30,
		.prot = GW_PROT_READ | GW_PROT_WRITE, .flags = GW_MAP_HUGETLB};
	struct gw_huge_info info;
	char path[40];
	uint64_t at;

	(void)state;
	if ((uint64_t)sysconf(_SC_AVPHYS_PAGES) * 4096 < 3ul << 30) {
		print_message("less than 3 GiB are free\n");
		skip();
	}
	assert_int_equal(gw_machine_create(&config, &m), 0);
	assert_int_equal(gw_task_create(m, NULL, &t), 0);
	assert_int_equal(gw_task_attach(t), 0);
	set("sys/kernel/mm/hugepages/hugepages-1048576kB/nr_hugepages", "1");
	assert_int_equal(gw_map(t, &pool, &at), 0);
	touch(at, GW_PAGE_SIZE, 1);
	assert_int_equal(gw_huge_query(t, at + 5 * HUGE, 1ul << 30, &info, 1), 1);
	expect(&info, at + 5 * HUGE, (1ul << 30) - 5 * HUGE, GW_HUGE_HUGETLB, 1ul << 30, at, 0);
	snprintf(path, sizeof path, "proc/%d/smaps", gw_task_pid(t));
	expect_text(path, "KernelPageSize:  1048576 kB");
	expect_text(path, "Private_Hugetlb: 1048576 kB");
	expect_text(path, "Rss:                   0 kB");
	snprintf(path, sizeof path, "proc/%d/numa_maps", gw_task_pid(t));
	expect_text(path, "anon=1 dirty=1 N0=1 kernelpagesize_kB=1048576");
	assert_int_equal(gw_unmap(t, at, 1ul << 30), 0);
	teardown(state);
}

// ---- Who wants none

static bool is_huge(struct gw_task *task, uint64_t at)
{
	struct gw_huge_info info;

	assert_int_equal(gw_huge_query(task, at, GW_PAGE_SIZE, &info, 1), 1);
	return info.page_size == HUGE;
}

static void disabled_by_the_task(void **state)
{
	struct gw_task *child;

	(void)state;
	assert_int_equal(gw_thp_disable(t, 1), 0);
	touch(buf, HUGE, 1);
	assert_false(is_huge(t, buf));
	gw_khugepaged_scan(m, 1);
	assert_false(is_huge(t, buf));
	assert_int_equal(gw_advise(t, buf, HUGE, MADV_COLLAPSE), -EINVAL);
	assert_int_equal(gw_task_fork(t, &child), 0);
	char byte = 2;
	assert_int_equal(gw_write(child, buf + HUGE, &byte, 1), 1);
	assert_false(is_huge(child, buf + HUGE)); // inherited
	gw_task_exit(child);
	assert_int_equal(gw_thp_disable(t, 0), 0);
	touch(buf, HUGE, 1); // nobody shares it any more
	assert_int_equal(gw_advise(t, buf, HUGE, MADV_COLLAPSE), 0);
	assert_true(is_huge(t, buf));
	touch(buf + HUGE, GW_PAGE_SIZE, 1);
	assert_true(is_huge(t, buf + HUGE));
}

// ---- Moves

static struct gw_move_report report;
static struct gw_explanation explain[2];

static long move(uint64_t first, uint64_t second, int node, int keep_huge)
{
	const uint64_t pages[2] = {first, second};
	const int nodes[2] = {node, node};
	const struct gw_move_options options = {.size = sizeof options, .explain = explain,
		.keep_huge = keep_huge, .report = &report};
	int status[2];

	return gw_move_pages_explained(t, 0, 2, pages, nodes, status, GW_MPOL_MF_MOVE, &options);
}

// So many single pages of the node are free, and no two in a row; what lies between them is pinned,
// or can be moved.
static uint64_t leave_single_pages(int node, unsigned pages, bool pinned)
{
	const struct gw_mapping mapping = {.size = sizeof mapping, .length = 2 * pages * 4096ul,
		.prot = GW_PROT_READ | GW_PROT_WRITE};
	const unsigned long mask = 1ul << node;
	uint64_t at;

	set(THP "enabled", "never");
	assert_int_equal(gw_map(t, &mapping, &at), 0);
	assert_int_equal(gw_mbind(t, at, mapping.length, GW_MPOL_BIND, &mask, 65, 0), 0);
	touch(at, mapping.length, 7);
	assert_true(gw_node_fill(m, (unsigned)node, 0) >= 0);
	for (uint64_t i = 0; i < 2 * pages; i += 2) {
		if (pinned)
			assert_int_equal(
				gw_pin(t, at + (i + 1) * 4096, 4096, "test", &pin[nr_pins++]), 0);
		assert_int_equal(gw_advise(t, at + i * 4096, 4096, MADV_DONTNEED), 0);
	}
	set(THP "enabled", "always");
	return at;
}

static void moved_as_one(void **state)
{
	(void)state;
	touch(buf, HUGE, 1);
	set(THP "enabled", "never");
	touch(buf + HUGE, GW_PAGE_SIZE, 1);
	assert_int_equal(move(buf + 0x7000, buf + HUGE, 1, 0), 0);
	assert_int_equal(explain[0].why, GW_WHY_MOVED);
	assert_int_equal(explain[0].page_size, HUGE);
	assert_int_equal(explain[0].huge, GW_HUGE_FATE_STAYED);
	assert_int_equal(explain[1].page_size, GW_PAGE_SIZE);
	assert_int_equal(explain[1].huge, GW_HUGE_FATE_NONE);
	assert_int_equal(report.moved, 513);
	assert_int_equal(report.huge_moved, 1);
	assert_int_equal(report.huge_split + report.huge_failed + report.failed, 0);
	assert_int_equal(report.why, GW_WHY_MOVED);
	check(buf, HUGE, 1);
}

static void split_to_be_moved(void **state)
{
	(void)state;
	touch(buf, HUGE, 1);
	uint64_t hole = leave_single_pages(1, 1024, true);
	assert_int_equal(move(buf, buf + 0x1000, 1, 0), 0); // the second is on its way: -EBUSY
	assert_int_equal(explain[0].huge, GW_HUGE_FATE_SPLIT);
	assert_int_equal(explain[0].page_size, GW_PAGE_SIZE);
	assert_int_equal(report.huge_split, 1);
	assert_int_equal(report.huge_moved, 0);
	check(buf, HUGE, 1);
	unpin_all();
	assert_int_equal(gw_unmap(t, hole, 8 << 20), 0);
	assert_true(gw_node_unfill(m, 1) >= 0);
}

static void kept_huge_or_not_at_all(void **state)
{
	const unsigned long from = 1, to = 2;
	const struct gw_move_options options = {.size = sizeof options, .keep_huge = 1,
		.report = &report};

	(void)state;
	touch(buf, 2 * HUGE, 1);
	uint64_t hole = leave_single_pages(1, 1024, true);
	int64_t splits = counter("thp_split_page");
	assert_int_equal(move(buf, buf + HUGE, 1, 1), -ENOMEM);
	assert_int_equal(explain[0].why, GW_WHY_NO_TARGET);
	assert_string_equal(explain[0].detail, "node 1: 4096 kB free, at most 4 kB in a row");
	assert_int_equal(explain[0].huge, GW_HUGE_FATE_STAYED);
	assert_int_equal(explain[1].why, GW_WHY_ABORTED);
	assert_int_equal(explain[1].huge, GW_HUGE_FATE_STAYED);
	assert_int_equal(report.why, GW_WHY_NO_TARGET);
	assert_string_equal(report.detail, explain[0].detail);

	assert_int_equal(gw_migrate_pages_explained(t, 0, 65, &from, &to, &options), -ENOMEM);
	assert_int_equal(report.why, GW_WHY_NO_TARGET);
	assert_int_equal(report.huge_moved, 0);
	assert_string_equal(report.detail, explain[0].detail);

	assert_int_equal(gw_mbind_explained(t, buf, 2 * HUGE, GW_MPOL_BIND, &to, 65,
				 GW_MPOL_MF_MOVE, &options),
		-ENOMEM);
	assert_int_equal(report.why, GW_WHY_NO_TARGET);
	assert_string_equal(report.detail, explain[0].detail);
	assert_true(is_huge(t, buf) && is_huge(t, buf + HUGE));
	assert_int_equal(counter("thp_split_page"), splits);

	unpin_all();
	assert_int_equal(gw_unmap(t, hole, 8 << 20), 0); // now there is room
	assert_true(gw_node_unfill(m, 1) >= 0);
	assert_int_equal(gw_mbind_explained(t, buf, 2 * HUGE, GW_MPOL_BIND, &to, 65,
				 GW_MPOL_MF_MOVE | GW_MPOL_MF_STRICT, &options),
		0);
	assert_int_equal(report.huge_moved, 2);
	assert_int_equal(report.why, GW_WHY_MOVED);
	assert_int_equal(gw_migrate_pages_explained(t, 0, 65, &to, &from, &options), 0);
	assert_int_equal(report.huge_moved, 2);
	assert_true(is_huge(t, buf));
	check(buf, 2 * HUGE, 1);
}

// What proc/buddyinfo says of node 1, and the rest; NULL: how much is in a row.
static const char *reason_now(const char *rest)
{
	static char reason[80];
	unsigned long kb = 0, row = 0, blocks;
	char *text, *at, *end;

	assert_int_equal(gw_text(m, "proc/buddyinfo", &text), 0);
	at = strstr(text, "Node 1, zone   Normal");
	assert_non_null(at);
	at += strlen("Node 1, zone   Normal");
	for (unsigned long kbytes = 4; blocks = strtoul(at, &end, 10), end > at && kbytes <= 4096;
		kbytes *= 2, at = end) {
		kb += blocks * kbytes;
		row = blocks ? kbytes : row;
	}
	free(text);
	if (rest)
		snprintf(reason, sizeof reason, "node 1: %lu kB free, %s", kb, rest);
	else
		snprintf(reason, sizeof reason, "node 1: %lu kB free, at most %lu kB in a row", kb,
			row);
	return reason;
}

// By each of the three calls; buf is on node 0 afterwards, too.
static void expect_no_room(const char *rest)
{
	const unsigned long from = 1, to = 2;
	const struct gw_move_options options = {.size = sizeof options, .keep_huge = 1,
		.report = &report};
	int64_t splits = counter("thp_split_page");

	assert_int_equal(move(buf, buf, 1, 1), -ENOMEM);
	assert_int_equal(explain[0].why, GW_WHY_NO_TARGET);
	assert_string_equal(explain[0].detail, reason_now(rest));
	assert_string_equal(report.detail, reason_now(rest));
	assert_int_equal(gw_migrate_pages_explained(t, 0, 65, &from, &to, &options), -ENOMEM);
	assert_int_equal(report.why, GW_WHY_NO_TARGET);
	assert_string_equal(report.detail, reason_now(rest));
	assert_int_equal(gw_mbind_explained(t, buf, HUGE, GW_MPOL_BIND, &to, 65, GW_MPOL_MF_MOVE,
				 &options),
		-ENOMEM);
	assert_int_equal(report.why, GW_WHY_NO_TARGET);
	assert_string_equal(report.detail, reason_now(rest));
	assert_int_equal(gw_mbind(t, buf, HUGE, GW_MPOL_DEFAULT, NULL, 0, 0), 0);
	assert_true(is_huge(t, buf));
	assert_int_equal(counter("thp_split_page"), splits);
	check(buf, HUGE, 1);
}

// 8 MiB are free on the target, in single pages. Compaction puts a huge page together out of them
// when what is between them can move, and says what it found when it cannot.
static void room_is_made_by_compaction(void **state)
{
	uint64_t hole;

	(void)state;
	touch(buf, HUGE, 1);
	hole = leave_single_pages(1, 2048, true);
	expect_no_room(NULL);
	assert_in_range(atoi(report.detail + strlen("node 1: ")), 8192, 8400);
	assert_true(counter("compact_stall") >= 1);
	assert_int_equal(counter("compact_success"), 0);
	expect_text("godwit/compaction", "2048 stayed, pinned or in use elsewhere");
	unpin_all();
	assert_int_equal(move(buf, buf, 1, 1), 0);
	assert_int_equal(explain[0].why, GW_WHY_MOVED);
	assert_int_equal(report.huge_moved, 1);
	assert_true(is_huge(t, buf));
	assert_int_equal(counter("compact_success"), 1);
	assert_int_equal(counter("thp_split_page"), 0);
	check(buf, HUGE, 1);
	for (uint64_t i = 1; i < 4096; i += 2)
		check(hole + i * 4096, 4096, 7);
	assert_int_equal(gw_unmap(t, hole, 16 << 20), 0);
	assert_true(gw_node_unfill(m, 1) >= 0);
}

// There is a huge page's room in a row on the target, but it is kept for those who cannot wait.
static void room_that_must_stay(void **state)
{
	(void)state;
	touch(buf, HUGE, 1);
	assert_true(gw_node_fill(m, 1, 6 << 20) >= 0);
	set("proc/sys/vm/min_free_kbytes", "16384");
	expect_no_room("8192 kB must stay (watermark)");
	set("proc/sys/vm/min_free_kbytes", "1024");
	assert_int_equal(move(buf, buf, 1, 1), 0);
	assert_true(is_huge(t, buf));
	assert_true(gw_node_unfill(m, 1) >= 0);
}

// It was not there when it was asked for, and is now.
static void room_that_came_too_late(void **state)
{
	(void)state;
	if (!FAULTS_BUILT_IN)
		skip();
	touch(buf, HUGE, 1);
	assert_true(gw_node_fill(m, 1, 6 << 20) >= 0);
	fault_arm(FI_ALLOC, FI_THREAD, 0, FI_ALWAYS);
	expect_no_room("room for it came too late");
	assert_true(fault_disarm(FI_ALLOC));
	assert_int_equal(move(buf, buf, 1, 1), 0);
	assert_true(is_huge(t, buf));
	assert_true(gw_node_unfill(m, 1) >= 0);
}

static void a_pin_is_named(void **state)
{
	const unsigned long from = 1, to = 2;
	const struct gw_move_options options = {.size = sizeof options, .keep_huge = 1,
		.report = &report};
	struct gw_pin *ring;

	(void)state;
	touch(buf, HUGE, 1);
	assert_int_equal(gw_pin(t, buf + 0x3000, 4096, "ring 3", &ring), 0);
	assert_true(gw_migrate_pages_explained(t, 0, 65, &from, &to, &options) > 0);
	assert_int_equal(report.why, GW_WHY_PINNED);
	assert_non_null(strstr(report.detail, "ring 3"));
	assert_int_equal(report.huge_failed, 1);
	assert_int_equal(report.failed, 512);
	gw_unpin(ring);
}

static void options_that_are_none(void **state)
{
	struct gw_move_options options = {.size = sizeof options - 1};
	const unsigned long node = 1;

	(void)state;
	assert_int_equal(gw_migrate_pages_explained(t, 0, 65, &node, &node, &options), -EINVAL);
	options = (struct gw_move_options){.size = sizeof options, .explain = explain};
	assert_int_equal(gw_migrate_pages_explained(t, 0, 65, &node, &node, &options), -EINVAL);
	assert_int_equal(gw_mbind_explained(t, buf, HUGE, GW_MPOL_DEFAULT, NULL, 0, 0, &options),
		-EINVAL);
}

int main(void)
{
#define CASE(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		CASE(a_range_of_every_kind),
		CASE(unmapped_ends_and_resumption),
		CASE(zero_page_pool_page_and_split),
		cmocka_unit_test(texts_of_a_1_gib_page),
		CASE(disabled_by_the_task),
		CASE(moved_as_one),
		CASE(split_to_be_moved),
		CASE(kept_huge_or_not_at_all),
		CASE(room_is_made_by_compaction),
		CASE(room_that_must_stay),
		CASE(room_that_came_too_late),
		CASE(a_pin_is_named),
		CASE(options_that_are_none),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
