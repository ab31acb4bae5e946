// SPDX-License-Identifier: MIT
// NULL where a machine, a task or a pointer belongs, and numbers that are none of anything: the
// errno that gw_machine(3) promises, nothing at all where something is released, and never a crash.
// The other arguments of each call are good, so that nothing else can be what was refused.
#include "still_driver.h"
#include "unit.h"

#include <godwit/huge.h>
#include <godwit/machine.h>
#include <godwit/migrate.h>
#include <godwit/movable.h>
#include <godwit/notifier.h>
#include <godwit/policy.h>
#include <godwit/space.h>
#include <godwit/stats.h>
#include <godwit/trace.h>

#include <errno.h>
#include <limits.h>

static const struct gw_movable_operations half_ops = {isolate_page, migrate_page, NULL};

// What the calls below are given, where it is not NULL.
static struct gw_machine *m;
static struct gw_task *t;
static struct gw_object *object;
static struct gw_driver *driver;
static struct gw_task *task;
static char *text;
static int64_t value;
static uint64_t at;
static int status, node;

static uint64_t to;
static void *pointer;
static char bytes[1];
static unsigned long mask = 1;
static struct gw_pin *pin;
static struct gw_page *page;
static struct gw_notifier *notifier;
static struct gw_huge_info info;
static const struct gw_notifier_ops no_notes;
static const struct gw_mapping page_mapping = {
	.size = sizeof page_mapping,
	.length = GW_PAGE_SIZE,
	.prot = GW_PROT_READ | GW_PROT_WRITE,
};
static struct gw_stayed_list nowhere = {.max = 1};
static const struct gw_move_options half_list = {.size = sizeof half_list, .stayed = &nowhere};

// Calls and their answers.
#define TEXTS(ROW)                                                                                 \
	ROW(gw_text(NULL, "proc/vmstat", &text), -EINVAL)                                          \
	ROW(gw_text(m, NULL, &text), -EINVAL)                                                      \
	ROW(gw_text(m, "proc/vmstat", NULL), -EINVAL)                                              \
	ROW(gw_tunable_set(NULL, "proc/sys/vm/compact_memory", "1"), -EINVAL)                      \
	ROW(gw_tunable_set(m, NULL, "1"), -EINVAL)                                                 \
	ROW(gw_tunable_set(m, "proc/sys/vm/compact_memory", NULL), -EINVAL)                        \
	ROW(gw_vmstat(NULL, "pgfault", &value), -EINVAL)                                           \
	ROW(gw_vmstat(m, NULL, &value), -EINVAL)                                                   \
	ROW(gw_vmstat(m, "pgfault", NULL), -EINVAL)                                                \
	ROW(gw_vmstat(m, "nr_unstable", NULL), -EINVAL)                                            \
	ROW(gw_host_facts(NULL), -EINVAL)                                                          \
	ROW(gw_trace_text(NULL, 0, &text), -EINVAL)                                                \
	ROW(gw_trace_text(m, 0, NULL), -EINVAL)

#define MACHINES(ROW)                                                                              \
	ROW(gw_machine_create(NULL, NULL), -EINVAL)                                                \
	ROW(gw_machine_syscall_safe(NULL), 0)                                                      \
	ROW(gw_machine_nodes(NULL), 0)                                                             \
	ROW(gw_machine_cpus(NULL), 0)                                                              \
	ROW(gw_clock_advance(NULL, 1), -EINVAL)                                                    \
	ROW(gw_node_fill(NULL, 0, 0), -EINVAL)                                                     \
	ROW(gw_node_unfill(NULL, 0), -EINVAL)                                                      \
	ROW(gw_node_fill(m, UINT_MAX, 0), -EINVAL)                                                 \
	ROW(gw_node_unfill(m, UINT_MAX), -EINVAL)                                                  \
	ROW(gw_kcompactd_run(NULL), -EINVAL)                                                       \
	ROW(gw_task_create(NULL, NULL, &task), -EINVAL)                                            \
	ROW(gw_task_create(m, NULL, NULL), -EINVAL)                                                \
	ROW(gw_task_fork(NULL, &task), -EINVAL)                                                    \
	ROW(gw_task_fork(t, NULL), -EINVAL)                                                        \
	ROW(gw_task_pid(NULL), -EINVAL)                                                            \
	ROW(gw_task_set_cpu(NULL, 0), -EINVAL)                                                     \
	ROW(gw_task_set_cpu(t, UINT_MAX), -EINVAL)                                                 \
	ROW(gw_task_cpu(NULL), 0)                                                                  \
	ROW(gw_task_attach(NULL), 0)                                                               \
	ROW(gw_thp_disable(NULL, 1), -EINVAL)

#define MEMORY(ROW)                                                                                \
	ROW(gw_object_create(NULL, "x", GW_PAGE_SIZE, &object), -EINVAL)                           \
	ROW(gw_object_create(m, "x", GW_PAGE_SIZE, NULL), -EINVAL)                                 \
	ROW(gw_object_create_huge(NULL, "x", GW_PAGE_SIZE, 0, &object), -EINVAL)                   \
	ROW(gw_object_create_huge(m, "x", GW_PAGE_SIZE, 0, NULL), -EINVAL)                         \
	ROW(gw_object_create_huge(m, "x", GW_PAGE_SIZE, UINT_MAX, &object), -EINVAL)               \
	ROW(gw_object_open(NULL, 0, &object), -EINVAL)                                             \
	ROW(gw_object_open(m, 0, NULL), -EINVAL)                                                   \
	ROW(gw_object_resize(NULL, GW_PAGE_SIZE), -EINVAL)                                         \
	ROW(gw_map(NULL, &page_mapping, &at), -EINVAL)                                             \
	ROW(gw_map(t, NULL, &at), -EINVAL)                                                         \
	ROW(gw_map(t, &page_mapping, NULL), -EINVAL)                                               \
	ROW(gw_alloc(NULL, GW_PAGE_SIZE, &pointer), -EINVAL)                                       \
	ROW(gw_alloc(t, GW_PAGE_SIZE, NULL), -EINVAL)                                              \
	ROW(gw_unmap(NULL, at, GW_PAGE_SIZE), -EINVAL)                                             \
	ROW(gw_protect(NULL, at, GW_PAGE_SIZE, GW_PROT_READ), -EINVAL)                             \
	ROW(gw_protect(t, at, GW_PAGE_SIZE, UINT_MAX), -EINVAL)                                    \
	ROW(gw_remap(NULL, at, GW_PAGE_SIZE, GW_PAGE_SIZE, 0, &to), -EINVAL)                       \
	ROW(gw_remap(t, at, GW_PAGE_SIZE, GW_PAGE_SIZE, 0, NULL), -EINVAL)                         \
	ROW(gw_advise(NULL, at, GW_PAGE_SIZE, 4), -EINVAL)                                         \
	ROW(gw_advise(t, at, GW_PAGE_SIZE, INT_MIN), -EINVAL)                                      \
	ROW(gw_lock(NULL, at, GW_PAGE_SIZE), -EINVAL)                                              \
	ROW(gw_unlock(NULL, at, GW_PAGE_SIZE), -EINVAL)                                            \
	ROW(gw_sync(NULL, at, GW_PAGE_SIZE), -EINVAL)                                              \
	ROW(gw_read(NULL, at, bytes, 1), -EINVAL)                                                  \
	ROW(gw_read(t, at, NULL, 1), -EFAULT)                                                      \
	ROW(gw_read(t, at, NULL, 0), 0)                                                            \
	ROW(gw_write(NULL, at, bytes, 1), -EINVAL)                                                 \
	ROW(gw_write(t, at, NULL, 1), -EFAULT)                                                     \
	ROW(gw_write(t, at, NULL, 0), 0)                                                           \
	ROW(gw_pin(NULL, at, GW_PAGE_SIZE, "x", &pin), -EINVAL)                                    \
	ROW(gw_pin(t, at, GW_PAGE_SIZE, "x", NULL), -EINVAL)                                       \
	ROW(gw_huge_query(NULL, at, GW_PAGE_SIZE, &info, 1), -EINVAL)                              \
	ROW(gw_huge_query(t, at, GW_PAGE_SIZE, NULL, 1), -EFAULT)                                  \
	ROW(gw_translate(NULL, at, 0, &pointer, &to), -EINVAL)                                     \
	ROW(gw_translate(t, at, 0, NULL, &to), -EINVAL)                                            \
	ROW(gw_translate(t, at, 0, &pointer, NULL), -EINVAL)                                       \
	ROW(gw_notifier_register(NULL, &no_notes, NULL, &notifier), -EINVAL)                       \
	ROW(gw_notifier_register(t, NULL, NULL, &notifier), -EINVAL)                               \
	ROW(gw_notifier_register(t, &no_notes, NULL, NULL), -EINVAL)

#define MOVES(ROW)                                                                                 \
	ROW(gw_move_pages(NULL, 0, 1, &at, NULL, &status, 0), -EINVAL)                             \
	ROW(gw_move_pages(t, 0, 1, NULL, NULL, &status, 0), -EFAULT)                               \
	ROW(gw_move_pages(t, 0, 1, &at, NULL, NULL, 0), -EFAULT)                                   \
	ROW(gw_move_pages(t, 0, 1, NULL, &node, &status, GW_MPOL_MF_MOVE), -EFAULT)                \
	ROW(gw_move_pages(t, 0, 1, &at, &node, NULL, GW_MPOL_MF_MOVE), -EFAULT)                    \
	ROW(gw_move_pages(t, 0, 0, NULL, NULL, NULL, 0), 0)                                        \
	ROW(gw_move_pages(t, 0, 1, &at, NULL, &status, UINT_MAX), -EINVAL)                         \
	ROW(gw_move_pages_explained(t, 0, 1, &at, NULL, &status, 0, &half_list), -EINVAL)          \
	ROW(gw_migrate_pages(NULL, 0, 2, &mask, &mask), -EINVAL)                                   \
	ROW(gw_migrate_pages(t, 0, 2, &mask, NULL), -EINVAL)                                       \
	ROW(gw_migrate_pages(t, 0, 2, NULL, &mask), 0)                                             \
	ROW(gw_migrate_pages(t, 0, ULONG_MAX, &mask, &mask), -EINVAL)                              \
	ROW(gw_migrate_pages_explained(t, 0, 2, &mask, &mask, &half_list), -EINVAL)                \
	ROW(gw_set_mempolicy(NULL, GW_MPOL_DEFAULT, NULL, 0), -EINVAL)                             \
	ROW(gw_set_mempolicy(t, GW_MPOL_BIND, NULL, 2), -EINVAL)                                   \
	ROW(gw_set_mempolicy(t, INT_MIN, &mask, 2), -EINVAL)                                       \
	ROW(gw_set_mempolicy(t, GW_MPOL_BIND, &mask, ULONG_MAX), -EINVAL)                          \
	ROW(gw_get_mempolicy(NULL, &node, NULL, 0, 0, 0), -EINVAL)                                 \
	ROW(gw_get_mempolicy(t, NULL, NULL, 0, 0, 0), 0)                                           \
	ROW(gw_get_mempolicy(t, &node, NULL, 0, 0, ULONG_MAX), -EINVAL)                            \
	ROW(gw_mbind(NULL, at, GW_PAGE_SIZE, GW_MPOL_DEFAULT, NULL, 0, 0), -EINVAL)                \
	ROW(gw_mbind(t, at, GW_PAGE_SIZE, GW_MPOL_BIND, NULL, 2, 0), -EINVAL)                      \
	ROW(gw_mbind(t, at, GW_PAGE_SIZE, INT_MAX, &mask, 2, 0), -EINVAL)                          \
	ROW(gw_mbind(t, at, GW_PAGE_SIZE, GW_MPOL_DEFAULT, NULL, 0, UINT_MAX), -EINVAL)            \
	ROW(gw_mbind_explained(t, at, GW_PAGE_SIZE, GW_MPOL_BIND, &mask, 2, 0, &half_list), -EINVAL) \
	ROW(gw_set_mems(NULL, 1, 0), -EINVAL)                                                      \
	ROW(gw_set_mems(t, 0, 0), -EINVAL)                                                         \
	ROW(gw_get_mems(NULL), 0)                                                                  \
	ROW(gw_driver_register(NULL, "x", &page_ops, NULL, &driver), -EINVAL)                      \
	ROW(gw_driver_register(m, "x", NULL, NULL, &driver), -EINVAL)                              \
	ROW(gw_driver_register(m, "x", &half_ops, NULL, &driver), -EINVAL)                         \
	ROW(gw_driver_register(m, "x", &page_ops, NULL, NULL), -EINVAL)                            \
	ROW(gw_driver_migrate(NULL, 0, 0), -EINVAL)                                                \
	ROW(gw_page_alloc(NULL, 0, &page), -EINVAL)                                                \
	ROW(gw_page_node(NULL), -EINVAL)                                                           \
	ROW(gw_page_private(NULL), 0)

#define TRY(call, expected)                                                                   \
	{                                                                                          \
		long ret = call;                                                                   \
                                                                                                   \
		if (ret != (expected))                                                             \
			fail_msg("%s: %ld, not %d", #call, ret, expected);                         \
	}

static void test_arguments(void **state)
{
	(void)state;
	TEXTS(TRY)
	MACHINES(TRY)
	MEMORY(TRY)
	MOVES(TRY)
}

// What has no errno to give.
static void test_nothing_to_say(void **state)
{
	struct gw_waits waits = {.count = 1};

	(void)state;
	assert_null(gw_machine_backend(NULL));
	assert_null(gw_machine_blocker(NULL));
	assert_null(gw_task_machine(NULL));
	assert_null(gw_pointer(NULL, at));
	assert_null(gw_page_bytes(NULL));
	assert_null(gw_vmstat_name(UINT_MAX));
	assert_string_equal(gw_why_text((enum gw_why)UINT_MAX), "unknown");
	assert_string_equal(gw_why_name((enum gw_why)UINT_MAX), "?");
	assert_string_equal(gw_invalidate_reason_text((enum gw_invalidate_reason)UINT_MAX), "unknown");
	gw_machine_check(NULL);
	gw_khugepaged_scan(NULL, 1);
	assert_int_equal(gw_trace_mark(NULL), 0);
	gw_trace_enable(NULL, 1);
	gw_page_set_private(NULL, 1);
	gw_page_lock(NULL);
	gw_page_unlock(NULL);
	gw_migration_waits(m, NULL);
	gw_migration_waits(NULL, &waits);
	assert_int_equal(waits.count, 0);
}

static void test_releasing_nothing(void **state)
{
	(void)state;
	gw_machine_destroy(NULL);
	gw_task_exit(NULL);
	gw_object_put(NULL);
	gw_unpin(NULL);
	gw_driver_unregister(NULL);
	gw_page_free(NULL);
	gw_notifier_unregister(NULL);
}

static int open_machine(void **state)
{
	const uint64_t memory = 16 << 20;
	const struct gw_machine_config config = {
		.size = sizeof config, .node_bytes = &memory, .backend = GW_BACKEND_SOFT};
	int err = gw_machine_create(&config, &m);

	(void)state;
	if (!err)
		err = gw_task_create(m, NULL, &t);
	return err ? err : gw_map(t, &page_mapping, &at);
}

static int close_machine(void **state)
{
	(void)state;
	gw_machine_check(m);
	gw_task_exit(t);
	gw_machine_destroy(m);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_arguments),
		cmocka_unit_test(test_nothing_to_say),
		cmocka_unit_test(test_releasing_nothing),
	};

	return cmocka_run_group_tests(tests, open_machine, close_machine);
}
