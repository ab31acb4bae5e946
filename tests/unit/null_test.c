// SPDX-License-Identifier: MIT
// NULL where a machine, a task or a pointer belongs: an errno where the man pages promise one or
// the code looks for it, nothing at all where something is released, and never a crash there. The
// other arguments of each call are good, so that nothing else can be what was refused.
#include "still_driver.h"
#include "unit.h"

#include <godwit/huge.h>
#include <godwit/machine.h>
#include <godwit/migrate.h>
#include <godwit/movable.h>
#include <godwit/notifier.h>
#include <godwit/space.h>
#include <godwit/stats.h>

#include <errno.h>

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

// A call and its answer.
#define ROWS(ROW)                                                                                  \
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
	ROW(gw_task_create(NULL, NULL, &task), -EINVAL)                                            \
	ROW(gw_task_attach(NULL), 0)                                                               \
	ROW(gw_object_create(NULL, "x", GW_PAGE_SIZE, &object), -EINVAL)                           \
	ROW(gw_object_create_huge(NULL, "x", GW_PAGE_SIZE, 0, &object), -EINVAL)                   \
	ROW(gw_object_open(NULL, 0, &object), -EINVAL)                                             \
	ROW(gw_driver_register(NULL, "x", &page_ops, NULL, &driver), -EINVAL)                      \
	ROW(gw_driver_register(m, "x", NULL, NULL, &driver), -EINVAL)                              \
	ROW(gw_driver_register(m, "x", &half_ops, NULL, &driver), -EINVAL)                         \
	ROW(gw_move_pages(t, 0, 1, NULL, NULL, &status, 0), -EFAULT)                               \
	ROW(gw_move_pages(t, 0, 1, &at, NULL, NULL, 0), -EFAULT)                                   \
	ROW(gw_move_pages(t, 0, 1, NULL, &node, &status, GW_MPOL_MF_MOVE), -EFAULT)                \
	ROW(gw_move_pages(t, 0, 1, &at, &node, NULL, GW_MPOL_MF_MOVE), -EFAULT)

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
	ROWS(TRY)
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
	const uint64_t bytes = 16 << 20;
	const struct gw_machine_config config = {
		.size = sizeof config, .node_bytes = &bytes, .backend = GW_BACKEND_SOFT};
	const struct gw_mapping mapping = {
		.size = sizeof mapping,
		.length = GW_PAGE_SIZE,
		.prot = GW_PROT_READ | GW_PROT_WRITE,
	};
	int err = gw_machine_create(&config, &m);

	(void)state;
	if (!err)
		err = gw_task_create(m, NULL, &t);
	return err ? err : gw_map(t, &mapping, &at);
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
		cmocka_unit_test(test_releasing_nothing),
	};

	return cmocka_run_group_tests(tests, open_machine, close_machine);
}
