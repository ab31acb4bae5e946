// SPDX-License-Identifier: MIT
// The machine's books are balanced while its daemons are at work: huge pages are split and given up
// by hand, khugepaged collapses them again as fast as it can, and so small that it must compact for
// it, and all the while everything that is counted twice must agree. Nothing here is seeded: the
// interleaving is the kernel's scheduler's.
//
//   GODWIT_ROUNDS=N   how often the books are balanced on each backend (60); more often while
//                     khugepaged has found no time to collapse anything
#include "../unit/unit.h"

#include <godwit/huge.h>
#include <godwit/machine.h>
#include <godwit/space.h>
#include <godwit/stats.h>

#include <errno.h>
#include <sys/mman.h>
#include <unistd.h>

#define HUGE (2ul << 20)
#define VIEWS 3u
#define PATIENCE 10000 // rounds of some milliseconds
#define THP "sys/kernel/mm/transparent_hugepage/"

struct books {
	struct gw_machine *machine;
	struct gw_task *task;
	struct gw_object *object;
	uint64_t at[VIEWS]; // private, shared, shared once more
	uint64_t bytes[VIEWS];
};

static void set(struct books *b, const char *path, const char *value)
{
	assert_int_equal(gw_tunable_set(b->machine, path, value), 0);
}

static void hurry_khugepaged(struct books *b)
{
	set(b, THP "khugepaged/scan_sleep_millisecs", "1");
	set(b, THP "khugepaged/alloc_sleep_millisecs", "1");
	set(b, THP "khugepaged/pages_to_scan", "4096");
	set(b, THP "shmem_enabled", "always");
	set(b, THP "enabled", "always");
}

static void open_views(struct books *b)
{
	assert_int_equal(gw_object_create(b->machine, "shared", 2 * HUGE, &b->object), 0);
	for (unsigned i = 0; i < VIEWS; i++) {
		struct gw_mapping mapping = {
			.size = sizeof mapping,
			.length = b->bytes[i] = i ? 2 * HUGE : 4 * HUGE,
			.prot = GW_PROT_READ | GW_PROT_WRITE,
			.flags = i ? GW_MAP_SHARED : 0,
			.object = i ? b->object : NULL,
		};

		assert_int_equal(gw_map(b->task, &mapping, &b->at[i]), 0);
	}
}

static void set_up(struct books *b, enum gw_backend backend, enum gw_blocker blocker)
{
	const uint64_t bytes[2] = {16ul << 20, 12ul << 20};
	const struct gw_machine_config config = {.size = sizeof config, .nr_nodes = 2, .nr_cpus = 2,
		.node_bytes = bytes, .backend = backend, .blocker = blocker};
	const struct gw_task_config tc = {.size = sizeof tc};
	int err = gw_machine_create(&config, &b->machine);

	if (err == -ENOSYS || err == -EPERM) {
		print_message("not here: %s\n", gw_machine_error());
		skip();
	}
	assert_int_equal(err, 0);
	assert_int_equal(gw_task_create(b->machine, &tc, &b->task), 0);
	open_views(b);
	hurry_khugepaged(b);
}

// Whatever is huge becomes small, and half of it is touched anew.
static void stir(struct books *b, unsigned round)
{
	for (unsigned i = 0; i < VIEWS; i++) {
		uint64_t end = b->at[i] + b->bytes[i];
		char text[96];

		snprintf(text, sizeof text, "%d,0x%lx,0x%lx,0", gw_task_pid(b->task), b->at[i], end);
		(void)!gw_tunable_set(b->machine, "sys/kernel/debug/split_huge_pages", text);
		if (round % 4 == i)
			(void)!gw_advise(b->task, b->at[i], b->bytes[i], MADV_DONTNEED);
		for (uint64_t at = b->at[i]; at < end; at += GW_PAGE_SIZE)
			if (gw_write(b->task, at + 64 * i, &at, sizeof at) < 0)
				break; // no room: the next round will do
	}
}

static bool collapsed(struct books *b)
{
	int64_t pages = 0;

	assert_int_equal(gw_vmstat(b->machine, "thp_collapse_alloc", &pages), 0);
	return pages > 0;
}

static void balance(enum gw_backend backend, enum gw_blocker blocker)
{
	const char *text = getenv("GODWIT_ROUNDS");
	unsigned rounds = text ? (unsigned)atoi(text) : 60;
	struct books b = {0};

	set_up(&b, backend, blocker);
	for (unsigned round = 0; round < rounds || (round < PATIENCE && !collapsed(&b)); round++) {
		stir(&b, round);
		for (unsigned i = 0; i < 4; i++) {
			gw_machine_check(b.machine);
			usleep(500);
		}
	}
	assert_true(collapsed(&b));
	gw_object_put(b.object);
	gw_task_exit(b.task);
	gw_machine_check(b.machine);
	gw_machine_destroy(b.machine);
}

static void soft(void **state)
{
	(void)state;
	balance(GW_BACKEND_SOFT, GW_BLOCKER_AUTO);
}

static void signals(void **state)
{
	(void)state;
	balance(GW_BACKEND_REWIRE, GW_BLOCKER_SIGNAL);
}

static void userfaultfd(void **state)
{
	(void)state;
	balance(GW_BACKEND_REWIRE, GW_BLOCKER_USERFAULTFD);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(soft),
		cmocka_unit_test(signals),
		cmocka_unit_test(userfaultfd),
	};

	if (argc > 1)
		cmocka_set_test_filter(argv[1]);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
