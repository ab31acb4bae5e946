// SPDX-License-Identifier: MIT
// The trace ring: the texts of events, overwriting, switches, and threads that write at once.
#include "unit.h"

#include "base/assert.h"
#include "base/meta.h"
#include "base/trace.h"

#include <errno.h>
#include <pthread.h>

static struct trace_ring ring;

static uint64_t fixed_clock(void *arg)
{
	return *(uint64_t *)arg;
}

static uint64_t now = 12000345678;

static void start(uint64_t capacity)
{
	assert_int_equal(trace_init(&ring, capacity, fixed_clock, &now), 0);
	trace_switch(&ring, true);
}

static void expect_fields(const char *text)
{
	struct trace_record r;
	char buf[512];

	assert_true(trace_read(&ring, &r));
	assert_int_equal(trace_format_fields(&r, buf, sizeof(buf)), strlen(text));
	assert_string_equal(buf, text);
}

static void test_texts(void **state maybe_unused)
{
	char name[] = "a name that is longer than thirty-one bytes";

	start(64);
	trace_event(&ring, mm_migrate_pages, .succeeded = 512, .failed = 1, .mode = MIGRATE_SYNC,
		.reason = MR_SYSCALL);
	expect_fields("mm_migrate_pages: nr_succeeded=512 nr_failed=1 nr_thp_succeeded=0 "
		      "nr_thp_failed=0 nr_thp_split=0 nr_split=0 mode=MIGRATE_SYNC "
		      "reason=syscall_or_cpuset");
	trace_event(&ring, set_migration_pte, .addr = 0x7f00, .pte = 0xabc, .order = -1);
	expect_fields("set_migration_pte: addr=7f00, pte=abc order=-1");
	trace_event(&ring, cma_alloc_start, .name = name, .count = 3, .align = 9);
	memset(name, 'x', 10);
	expect_fields("cma_alloc_start: name=a name that is longer than thir count=3 align=9");
	trace_event(&ring, cma_alloc_start, .count = 1);
	expect_fields("cma_alloc_start: name= count=1 align=0");
	trace_event(&ring, mm_compaction_finished, .nid = 1, .idx = ZONE_MOVABLE, .order = 9,
		.ret = COMPACT_SUCCESS);
	expect_fields("mm_compaction_finished: node=1 zone=Movable  order=9 ret=success");
	trace_event(&ring, mm_collapse_huge_page, .mm = 16, .isolated = 1, .status = 99);
	expect_fields("mm_collapse_huge_page: mm=10, isolated=1, status=?");
	trace_event(&ring, compact_retry, .order = 9, .priority = COMPACT_PRIO_ASYNC,
		.result = COMPACTION_PROGRESS, .ret = 1);
	expect_fields("compact_retry: order=9 priority=COMPACT_PRIO_ASYNC compaction_result=progress "
		      "retries=0 max_retries=0 should_retry=1");
	trace_event(&ring, mm_khugepaged_scan_pmd, .pfn = -1ULL, .status = SCAN_PAGE_FILLED);
	expect_fields("mm_khugepaged_scan_pmd: mm=0, scan_pfn=0xffffffffffffffff, writable=0, "
		      "referenced=0, none_or_zero=0, status=page_filled, unmapped=0");
	trace_event(&ring, mm_compaction_defer_reset, .idx = ZONE_DMA, .considered = 7,
		.defer_shift = 6, .order_failed = 4);
	expect_fields("mm_compaction_defer_reset: node=0 zone=DMA      order=0 order_failed=4 "
		      "consider=7 limit=64");
	trace_event(&ring, mm_compaction_begin, .zone_start = 1, .zone_end = 16, .sync = 1);
	expect_fields("mm_compaction_begin: zone_start=0x1 migrate_pfn=0x0 free_pfn=0x0 "
		      "zone_end=0x10, mode=sync");
	trace_event(&ring, ksm_enter);
	expect_fields("ksm_enter: mm 0");
	trace_destroy(&ring);
}

static void test_header_and_fields(void **state maybe_unused)
{
	struct trace_record r;
	int64_t value;
	char buf[200], small[12];

	start(4);
	trace_set_task(42, 3);
	trace_event(&ring, mm_migrate_pages_start, .mode = MIGRATE_ASYNC, .reason = MR_DEMOTION);
	trace_event(&ring, cma_release, .name = "area");
	trace_set_task(0, 0);
	assert_true(trace_read(&ring, &r));
	assert_int_equal(r.sequence, 0);
	assert_int_equal(r.ns, now);
	trace_format(&r, buf, sizeof(buf));
	assert_string_equal(buf, "task-42 [003] 12.000345: mm_migrate_pages_start: "
				 "mode=MIGRATE_ASYNC reason=demotion");
	assert_int_equal(trace_format(&r, small, sizeof(small)), strlen(buf));
	assert_string_equal(small, "task-42 [00");
	assert_int_equal(trace_field(&r, "reason", &value), 0);
	assert_int_equal(value, MR_DEMOTION);
	assert_int_equal(trace_field(&r, "pfn", &value), -ENOENT);
	assert_true(trace_read(&ring, &r));
	assert_int_equal(trace_field(&r, "name", &value), -EINVAL);
	assert_false(trace_read(&ring, &r));
	trace_destroy(&ring);
}

static void test_overwrite(void **state maybe_unused)
{
	struct trace_record r;
	int64_t seq;

	start(4);
	for (int i = 0; i < 11; i++)
		trace_event(&ring, ksm_start_scan, .seq = i);
	assert_int_equal(trace_dropped(&ring), 7);
	for (int i = 7; i < 11; i++) {
		assert_true(trace_read(&ring, &r));
		assert_int_equal(trace_field(&r, "seq", &seq), 0);
		assert_int_equal(seq, i);
		assert_int_equal(r.sequence, i);
	}
	assert_false(trace_read(&ring, &r));
	trace_event(&ring, ksm_start_scan);
	trace_clear(&ring);
	assert_false(trace_read(&ring, &r));
	assert_int_equal(trace_dropped(&ring), 0);
	trace_destroy(&ring);
}

static void test_switches(void **state maybe_unused)
{
	struct trace_record r;
	enum trace_event_id event;

	trace_event(NULL, ksm_enter);
	start(4);
	trace_enable(&ring, TRACE_ksm_enter, false);
	trace_event(&ring, ksm_enter);
	trace_event(&ring, ksm_exit);
	trace_switch(&ring, false);
	trace_event(&ring, ksm_exit);
	trace_switch(&ring, true);
	trace_enable(&ring, TRACE_ksm_enter, true);
	trace_event(&ring, ksm_enter);
	assert_true(trace_read(&ring, &r));
	assert_int_equal(r.event, TRACE_ksm_exit);
	assert_true(trace_read(&ring, &r));
	assert_int_equal(r.event, TRACE_ksm_enter);
	assert_false(trace_read(&ring, &r));
	for (int i = 0; i < TRACE_EVENTS; i++) {
		assert_int_equal(trace_event_find(trace_event_name((enum trace_event_id)i), &event),
			0);
		assert_int_equal(event, i);
	}
	assert_int_equal(trace_event_find("no_event", &event), -ENOENT);
	trace_destroy(&ring);
}

static void *write_main(void *arg)
{
	for (uint64_t i = 0; i < 2000; i++)
		trace_event(&ring, ksm_merge_one_page, .pfn = i, .rmap_item = i, .mm = i,
			.err = (int)(uintptr_t)arg);
	return NULL;
}

static void test_threads(void **state maybe_unused)
{
	pthread_t threads[3];
	struct trace_record r;
	uint64_t seen = 0, next = 0;

	start(100);
	for (uintptr_t i = 0; i < 3; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, write_main, (void *)i), 0);
	for (int i = 0; i < 3000; i++) {
		if (!trace_read(&ring, &r))
			continue;
		// Whole, and in order.
		assert_true(r.field[0] == r.field[1] && r.field[1] == r.field[2]);
		assert_true(r.sequence >= next);
		next = r.sequence + 1;
		seen++;
	}
	for (int i = 0; i < 3; i++)
		pthread_join(threads[i], NULL);
	while (trace_read(&ring, &r))
		seen++;
	assert_int_equal(seen + trace_dropped(&ring), 6000);
	trace_destroy(&ring);
}

static void test_names(void **state maybe_unused)
{
	size_t before = meta_in_use();

	assert_string_equal(migrate_mode_name(MIGRATE_SYNC_LIGHT), "MIGRATE_SYNC_LIGHT");
	assert_string_equal(migrate_reason_name(MR_DAMON), "damon");
	assert_string_equal(migrate_reason_name(MR_DAMON + 1), "?");
	assert_string_equal(scan_result_name(-1), "?");
	assert_int_equal(trace_init(&ring, 1UL << 40, NULL, NULL), -ENOMEM);
	assert_int_equal(trace_init(&ring, 10, NULL, NULL), 0);
	trace_destroy(&ring);
	assert_int_equal(meta_in_use(), before);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_texts),
		cmocka_unit_test(test_header_and_fields),
		cmocka_unit_test(test_overwrite),
		cmocka_unit_test(test_switches),
		cmocka_unit_test(test_threads),
		cmocka_unit_test(test_names),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
