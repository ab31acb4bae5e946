// SPDX-License-Identifier: MIT
// The trace as text: from a mark on, read without being consumed, newest kept.
#include "support/maps_cases.h"

#include <godwit/migrate.h>
#include <godwit/trace.h>

static char *text_since(struct gw_machine *machine, uint64_t since)
{
	char *text;

	assert_int_equal(gw_trace_text(machine, since, &text), 0);
	return text;
}

static void test_text(void **state maybe_unused)
{
	struct cases c = {.machine = small_machine()};
	uint64_t before, after, p;
	char *text;
	int status, to = 1;

	assert_int_equal(gw_task_create(c.machine, NULL, &c.task), 0);
	p = case_anon(&c, 1);
	case_put(c.task, p, 0, 1);
	before = gw_trace_mark(c.machine);
	assert_int_equal(gw_move_pages(c.task, 0, 1, &p, &to, &status, GW_MPOL_MF_MOVE), 0);
	assert_int_equal(status, 1);
	after = gw_trace_mark(c.machine);
	assert_true(after > before);
	// Twice the same: reading takes nothing away.
	for (int i = 0; i < 2; i++) {
		text = text_since(c.machine, before);
		assert_non_null(strstr(text, "mm_migrate_pages_start: mode=MIGRATE_SYNC "
					     "reason=syscall_or_cpuset\n"));
		assert_non_null(strstr(text, "mm_migrate_pages: "));
		free(text);
	}
	text = text_since(c.machine, before);
	assert_null(strstr(text, "set_migration_pte")); // of single entries: only when asked for
	free(text);
	text = text_since(c.machine, after);
	assert_string_equal(text, "");
	free(text);
	gw_trace_enable(c.machine, 1);
	to = 0;
	assert_int_equal(gw_move_pages(c.task, 0, 1, &p, &to, &status, GW_MPOL_MF_MOVE), 0);
	text = text_since(c.machine, after);
	assert_non_null(strstr(text, "set_migration_pte: addr="));
	assert_non_null(strstr(text, "remove_migration_pte: addr="));
	free(text);
	after = gw_trace_mark(c.machine);
	gw_trace_enable(c.machine, 0);
	to = 1;
	assert_int_equal(gw_move_pages(c.task, 0, 1, &p, &to, &status, GW_MPOL_MF_MOVE), 0);
	assert_int_equal(gw_trace_mark(c.machine), after);
	gw_task_exit(c.task);
	gw_machine_destroy(c.machine);
}

static void test_overwritten(void **state maybe_unused)
{
	struct gw_machine *machine = small_machine();
	struct trace_ring *ring = machine->mm.trace;
	const uint64_t mark = gw_trace_mark(machine);
	unsigned lines = 0;
	char *text;

	for (uint64_t i = 0; i < ring->capacity + 3; i++)
		trace_event(ring, ksm_start_scan, .seq = (int64_t)i);
	text = text_since(machine, mark);
	assert_memory_equal(text, "[LOST 3 EVENTS]\nksm_start_scan: seq 3 ", 38);
	for (const char *p = text; (p = strchr(p, '\n')) != NULL; p++)
		lines++;
	assert_int_equal(lines, ring->capacity + 1);
	free(text);
	text = text_since(machine, mark + 3); // nothing from there on is lost
	assert_memory_equal(text, "ksm_start_scan: seq 3 ", 22);
	free(text);
	gw_machine_destroy(machine);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_text),
		cmocka_unit_test(test_overwritten),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
