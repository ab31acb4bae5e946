// SPDX-License-Identifier: MIT
// Tunables by path: what is read at first, what may be written, what is refused and with which
// error; and that a subsystem's own row is found before the one that stands for its absence.
#include "support/maps_cases.h"

#include "base/text_buf.h"
#include "phys/zone.h"

#define THP "sys/kernel/mm/transparent_hugepage/"

static struct gw_machine *machine;

static void assert_reads(const char *path, const char *want)
{
	char *text;
	int err = gw_text(machine, path, &text);

	if (err)
		fail_msg("%s: %d", path, err);
	if (strlen(text) != strlen(want) + 1 || strncmp(text, want, strlen(want)) ||
		text[strlen(want)] != '\n')
		fail_msg("%s: got \"%s\", expected \"%s\"", path, text, want);
	free(text);
}

// path | reads | write | result | reads then
static void test_rows(void **state maybe_unused)
{
	static const struct {
		const char *path, *first, *value;
		int err;
		const char *then;
	} rows[] = {
		{"proc/sys/vm/watermark_scale_factor", "10", "3000\n", 0, "3000"},
		{"proc/sys/vm/watermark_scale_factor", "3000", "0", -EINVAL, "3000"},
		{"proc/sys/vm/watermark_scale_factor", "3000", "3001", -EINVAL, "3000"},
		{"proc/sys/vm/watermark_scale_factor", "3000", "0xa", 0, "10"},
		{"proc/sys/vm/watermark_boost_factor", "15000", "0", 0, "0"},
		{"proc/sys/vm/min_free_kbytes", NULL, "-1", -EINVAL, NULL},
		{"proc/sys/vm/min_free_kbytes", NULL, "1x", -EINVAL, NULL},
		{"proc/sys/vm/min_free_kbytes", NULL, "", -EINVAL, NULL},
		{"proc/sys/vm/min_free_kbytes", NULL, "2048", 0, "2048"},
		{"sys/kernel/debug/fault_around_bytes", "65536", "5000", 0, "4096"},
		{"sys/kernel/debug/fault_around_bytes", "4096", "1", 0, "4096"},
		{"sys/kernel/debug/fault_around_bytes", "4096", "4194304", -EINVAL, "4096"},
		{"sys/kernel/debug/fault_around_bytes", "4096", "2097152", 0, "2097152"},
		{"sys/kernel/mm/mempolicy/weighted_interleave/node1", "1", "255", 0, "255"},
		{"sys/kernel/mm/mempolicy/weighted_interleave/node1", "255", "256", -EINVAL, "255"},
		{"sys/kernel/mm/mempolicy/weighted_interleave/node1", "255", "", 0, "1"},
		{"godwit/pause_budget_us", "0", "100", 0, "100"},
		{"godwit/free_backed_max", NULL, "1048576", 0, "1048576"},
		// Choices, and words that are none of them.
		{THP "enabled", "always madvise [never]", "never", 0, "always madvise [never]"},
		{THP "enabled", "always madvise [never]", "[never]", -EINVAL, NULL},
		{THP "enabled", "always madvise [never]", "nev", -EINVAL, NULL},
		{THP "enabled", "always madvise [never]", "always", 0, "[always] madvise never"},
		{THP "defrag", "always defer defer+madvise [madvise] never", "defer", 0,
			"always [defer] defer+madvise madvise never"},
		{THP "shmem_enabled", "always within_size advise [never] deny force", "deny", 0,
			NULL},
		{THP "shmem_enabled", "always within_size advise never [deny] force", "force",
			0, "always within_size advise never deny [force]"},
		{THP "hugepages-64kB/enabled", "always inherit madvise [never]", "inherit", 0,
			"always [inherit] madvise never"},
		{THP "hugepages-64kB/enabled", "always [inherit] madvise never", "always", 0,
			"[always] inherit madvise never"},
		{THP "hugepages-2048kB/enabled", "always [inherit] madvise never", "never", 0,
			"always inherit madvise [never]"},
		{THP "hugepages-16kB/shmem_enabled",
			"always inherit within_size advise [never]", "never", 0, NULL},
		{THP "hugepages-16kB/stats/nr_anon", "0", "1", -EACCES, "0"},
		{THP "hpage_pmd_size", "2097152", "1", -EACCES, "2097152"},
		{THP "khugepaged/scan_sleep_millisecs", "10000", "3600000", 0, "3600000"},
		{THP "khugepaged/max_ptes_none", "511", "512", -EINVAL, "511"},
		{THP "khugepaged/pages_to_scan", "4096", "0", -EINVAL, "4096"},
		{THP "khugepaged/pages_to_scan", "4096", "0x10", -EINVAL, "4096"}, // decimal
		{"sys/kernel/mm/ksm/run", "0", "0", 0, "0"},
		{"sys/kernel/mm/ksm/run", "0", "1", -EOPNOTSUPP, "0"},
		{"sys/kernel/mm/ksm/run", "0", "3", -EINVAL, "0"},
		{"sys/kernel/mm/ksm/max_page_sharing", "256", "1", -EINVAL, "256"},
		{"sys/kernel/mm/ksm/smart_scan", "1", "off", 0, "0"},
		{"sys/kernel/mm/ksm/advisor_mode", "[none] scan-time", "scan-time", -EOPNOTSUPP,
			NULL},
		{"sys/kernel/mm/ksm/pages_shared", "0", "0", -EACCES, "0"},
		{"proc/sys/kernel/numa_balancing", "0", "0", 0, "0"},
		{"proc/sys/kernel/numa_balancing", "0", "1", -EOPNOTSUPP, "0"},
		{"proc/sys/kernel/numa_balancing", "0", "5", -EINVAL, "0"},
		{"sys/kernel/debug/sched/numa_balancing/scan_size_mb", "256", "64", 0, "64"},
		{"proc/sys/vm/compaction_proactiveness", "0", "101", -EINVAL, "0"},
		{"proc/sys/vm/compaction_proactiveness", "0", "20", 0, "20"},
		{"proc/sys/vm/compaction_proactiveness", "20", "0", 0, "0"},
		{"proc/sys/vm/extfrag_threshold", "500", "1001", -EINVAL, "500"},
		{"proc/sys/vm/extfrag_threshold", "500", "1000", 0, "1000"},
		{"proc/sys/vm/compact_unevictable_allowed", "1", "2", -EINVAL, "1"},
		{"proc/sys/vm/compact_unevictable_allowed", "1", "0", 0, "0"},
		{"proc/sys/vm/nr_hugepages", "0", "3", 0, "3"},
		{"proc/sys/vm/nr_overcommit_hugepages", "0", "2", 0, "2"},
		{"proc/sys/vm/nr_hugepages", "3", "x", -EINVAL, "3"},
		{"proc/sys/vm/nr_hugepages", "3", "0", 0, "0"},
		{"sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages", "0", "0", 0, "0"},
		{"sys/kernel/mm/hugepages/hugepages-1048576kB/free_hugepages", "0", "0", -EACCES,
			"0"},
		{"sys/devices/system/node/node1/hugepages/hugepages-2048kB/nr_hugepages", "0", "1",
			0, "1"},
		{"sys/devices/system/node/node1/hugepages/hugepages-2048kB/nr_hugepages", "1", "0",
			0, "0"},
		{"sys/kernel/mm/numa/demotion_enabled", "false", "0", 0, "false"},
		{"sys/kernel/mm/numa/demotion_enabled", "false", "true", -EOPNOTSUPP, "false"},
		{"sys/kernel/mm/lru_gen/enabled", "0x0000", "0", 0, "0x0000"},
		{"sys/kernel/mm/lru_gen/enabled", "0x0000", "y", -EOPNOTSUPP, "0x0000"},
	};

	machine = small_machine();
	for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
		int err;

		if (rows[i].first)
			assert_reads(rows[i].path, rows[i].first);
		err = gw_tunable_set(machine, rows[i].path, rows[i].value);
		if (err != rows[i].err)
			fail_msg("%s = \"%s\": %d, expected %d", rows[i].path, rows[i].value, err,
				rows[i].err);
		if (rows[i].then)
			assert_reads(rows[i].path, rows[i].then);
	}
	gw_machine_destroy(machine);
}

static void test_no_such_file(void **state maybe_unused)
{
	static const char *const paths[] = {
		"", "/proc/sys/vm/min_free_kbytes", "proc/sys/vm/min_free_kbytes ",
		"sys/kernel/mm/mempolicy/weighted_interleave/node2",
		THP "hugepages-4kB/enabled", THP "hugepages-48kB/enabled",
		THP "hugepages-4096kB/stats/split",
		"sys/kernel/mm/hugepages/hugepages-64kB/nr_hugepages",
		"sys/devices/system/node/node2/hugepages/hugepages-2048kB/nr_hugepages",
		"sys/devices/system/node/node2/compact", "proc/sys/vm/overcommit_memory",
		"sys/kernel/mm/mempolicy/weighted_interleave/node99999999999",
	};
	char *text;

	machine = small_machine();
	for (unsigned i = 0; i < ARRAY_SIZE(paths); i++) {
		int write = gw_tunable_set(machine, paths[i], "0");

		if (write != -ENOENT)
			fail_msg("writing \"%s\": %d", paths[i], write);
		if (!strstr(paths[i], "compact"))
			assert_int_equal(gw_text(machine, paths[i], &text), -ENOENT);
	}
	gw_machine_destroy(machine);
}

static void test_actions(void **state maybe_unused)
{
	char *text, path[] = "tunables_XXXXXX";
	struct cases c = {0};
	struct gw_object *object;
	int64_t events, pages;
	int fd = mkstemp(path);
	uint64_t p;

	assert_true(fd >= 0);
	unlink(path);
	assert_int_equal(ftruncate(fd, 16 * CASE_PAGE), 0);
	machine = c.machine = small_machine();
	assert_int_equal(gw_task_create(machine, NULL, &c.task), 0);
	assert_int_equal(gw_object_open(machine, fd, &object), 0);
	close(fd);
	p = case_map(&c, 16, GW_PROT_READ, GW_MAP_SHARED, object);
	case_look(c.task, p, 0, 16);
	assert_int_equal(gw_unmap(c.task, p, 8 * CASE_PAGE), 0);
	assert_int_equal(gw_vmstat(machine, "nr_file_pages", &pages), 0);
	assert_int_equal(pages, 16);
	// Only what nothing maps is dropped.
	assert_int_equal(gw_text(machine, "proc/sys/vm/drop_caches", &text), -EACCES);
	assert_int_equal(gw_tunable_set(machine, "proc/sys/vm/drop_caches", "0"), -EINVAL);
	assert_int_equal(gw_tunable_set(machine, "proc/sys/vm/drop_caches", "2"), 0);
	assert_int_equal(gw_vmstat(machine, "nr_file_pages", &pages), 0);
	assert_int_equal(pages, 16);
	assert_int_equal(gw_tunable_set(machine, "proc/sys/vm/drop_caches", "3"), 0);
	assert_int_equal(gw_vmstat(machine, "nr_file_pages", &pages), 0);
	assert_int_equal(pages, 8);
	assert_int_equal(gw_vmstat(machine, "drop_pagecache", &events), 0);
	assert_int_equal(events, 1);
	assert_int_equal(gw_vmstat(machine, "drop_slab", &events), 0);
	assert_int_equal(events, 2);
	gw_object_put(object);

	assert_int_equal(gw_tunable_set(machine, "proc/sys/vm/stat_refresh", "1"), 0);
	assert_int_equal(gw_tunable_set(machine, "proc/sys/vm/compact_memory", "2"), -EINVAL);
	assert_int_equal(gw_tunable_set(machine, "proc/sys/vm/compact_memory", "1"), 0);
	assert_int_equal(gw_text(machine, "proc/sys/vm/compact_memory", &text), -EACCES);
	assert_int_equal(
		gw_tunable_set(machine, "sys/devices/system/node/node0/compact", "1"), 0);
	gw_task_exit(c.task);
	gw_machine_destroy(machine);
}

// ---- A subsystem comes

static unsigned long run_state;

static int get_run(struct gw_machine *m maybe_unused, const struct tunable *t maybe_unused,
	const unsigned *index maybe_unused, struct text_buf *text)
{
	text_printf(text, "%lu\n", run_state);
	return 0;
}

static int set_run(struct gw_machine *m maybe_unused, const struct tunable *t maybe_unused,
	const unsigned *index maybe_unused, const char *value)
{
	return tunable_number(value, 10, 0, 2, &run_state);
}

static void test_register(void **state maybe_unused)
{
	static const struct tunable rows[] = {TUNABLE("sys/kernel/mm/ksm/run", get_run, set_run)};
	static const struct tunable_table table = {rows, ARRAY_SIZE(rows)};
	struct gw_machine *other = small_machine();

	machine = small_machine();
	tunables_register(machine, &table);
	assert_int_equal(gw_tunable_set(machine, "sys/kernel/mm/ksm/run", "1"), 0);
	assert_reads("sys/kernel/mm/ksm/run", "1");
	// Another machine has nothing of it, and the other files are there as before.
	assert_int_equal(gw_tunable_set(other, "sys/kernel/mm/ksm/run", "1"), -EOPNOTSUPP);
	assert_reads("sys/kernel/mm/ksm/pages_to_scan", "100");
	assert_int_equal(gw_tunable_set(machine, "sys/kernel/mm/ksm/pages_to_scan", "7"), 0);
	assert_reads("sys/kernel/mm/ksm/pages_to_scan", "7");
	gw_machine_destroy(machine);
	machine = other;
	assert_reads("sys/kernel/mm/ksm/pages_to_scan", "100");
	gw_machine_destroy(other);
}

static void test_errno_is_left_alone(void **state maybe_unused)
{
	unsigned long n;

	errno = 4711;
	assert_int_equal(tunable_number("99999999999999999999", 0, 0, ~0ul, &n), -EINVAL);
	assert_int_equal(errno, 4711);
	assert_int_equal(tunable_number(" 12 ", 10, 0, 12, &n), 0);
	assert_int_equal(n, 12);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_rows),
		cmocka_unit_test(test_no_such_file),
		cmocka_unit_test(test_actions),
		cmocka_unit_test(test_register),
		cmocka_unit_test(test_errno_is_left_alone),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
