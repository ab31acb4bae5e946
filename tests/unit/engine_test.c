// SPDX-License-Identifier: MIT
// The whole machine through its public doors, on every backend this host gives: what a program
// sees of first touch, moves, copies on write, pins and full nodes.
#include "unit.h"

#include <godwit/machine.h>
#include <godwit/huge.h>
#include <godwit/migrate.h>
#include <godwit/movable.h>
#include <godwit/notifier.h>
#include <godwit/policy.h>
#include <godwit/space.h>
#include <godwit/stats.h>
#include <godwit/trace.h>

#include "base/meta.h"
#include "engine/engine.h"
#include "machine/probe_facts.h"
#include "virt/space.h"

#include <errno.h>
#include <linux/memfd.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define PAGES 64
#define BYTES (PAGES * GW_PAGE_SIZE)

struct setup {
	enum gw_backend backend;
	enum gw_blocker blocker;
	struct gw_machine *machine;
	struct gw_task *task;
};

static struct setup soft = {GW_BACKEND_SOFT, GW_BLOCKER_AUTO, NULL, NULL};
static struct setup with_signal = {GW_BACKEND_REWIRE, GW_BLOCKER_SIGNAL, NULL, NULL};
static struct setup with_userfaultfd = {GW_BACKEND_REWIRE, GW_BLOCKER_USERFAULTFD, NULL, NULL};

// Opened and closed inside of each test: before it calls one, cmocka puts its own SIGSEGV handler
// over whatever was there.
static bool open_machine(struct setup *s)
{
	const uint64_t bytes[4] = {64 << 20, 64 << 20, 64 << 20, 0};
	const struct gw_machine_config config = {
		.size = sizeof config,
		.nr_nodes = 4,
		.nr_cpus = 4,
		.node_bytes = bytes,
		.backend = s->backend,
		.blocker = s->blocker,
	};

	s->machine = NULL;
	if (gw_machine_create(&config, &s->machine)) {
		print_message("not here: %s\n", gw_machine_error());
		return false;
	}
	assert_int_equal(gw_task_create(s->machine, NULL, &s->task), 0);
	assert_int_equal(gw_task_attach(s->task), 0);
	return true;
}

static void close_machine(struct setup *s)
{
	assert_int_equal(gw_task_attach(NULL), 0);
	gw_machine_check(s->machine);
	gw_task_exit(s->task);
	gw_machine_destroy(s->machine);
	assert_int_equal(meta_in_use(), 0);
}

static uint64_t map(struct setup *s, uint64_t bytes)
{
	const struct gw_mapping mapping = {
		.size = sizeof mapping,
		.length = bytes,
		.prot = GW_PROT_READ | GW_PROT_WRITE,
	};
	uint64_t address;

	assert_int_equal(gw_map(s->task, &mapping, &address), 0);
	return address;
}

// Through the pointer where there is one.
static void put(struct setup *s, uint64_t at, unsigned char byte, uint64_t n)
{
	unsigned char buffer[GW_PAGE_SIZE];
	void *p = gw_pointer(s->task, at);

	assert_true(n <= sizeof buffer);
	memset(buffer, byte, sizeof buffer);
	if (p)
		memcpy(p, buffer, n);
	else
		assert_int_equal(gw_write(s->task, at, buffer, n), n);
}

static unsigned char get(struct gw_task *task, uint64_t at)
{
	unsigned char byte = 0, *p = gw_pointer(task, at);

	if (p)
		return *p;
	assert_int_equal(gw_read(task, at, &byte, 1), 1);
	return byte;
}

static long move(struct setup *s, uint64_t at, unsigned pages, int node, int *status, unsigned flags)
{
	uint64_t address[PAGES];
	int nodes[PAGES];

	assert_true(pages <= PAGES);
	for (unsigned i = 0; i < pages; i++) {
		address[i] = at + i * GW_PAGE_SIZE;
		nodes[i] = node;
		status[i] = -12345;
	}
	return gw_move_pages(s->task, 0, pages, address, node < 0 ? NULL : nodes, status, flags);
}

static void move_and_back(struct setup *s)
{
	int status[PAGES];
	uint64_t at;

	at = map(s, BYTES);
	assert_int_equal(move(s, at, PAGES, -1, status, 0), 0);
	assert_int_equal(status[0], -ENOENT);
	for (unsigned i = 0; i < PAGES; i++)
		put(s, at + i * GW_PAGE_SIZE, (unsigned char)(i + 1), GW_PAGE_SIZE);
	for (int round = 0; round < 6; round++) {
		int node = (round + 1) % 3;

		assert_int_equal(move(s, at, PAGES, node, status, GW_MPOL_MF_MOVE), 0);
		for (unsigned i = 0; i < PAGES; i++) {
			assert_int_equal(status[i], node);
			assert_int_equal(get(s->task, at + i * GW_PAGE_SIZE + 77), i + 1);
		}
	}
	assert_int_equal(move(s, at, 1, 3, status, GW_MPOL_MF_MOVE), -ENODEV);
	assert_int_equal(gw_unmap(s->task, at, BYTES), 0);
}

static void fork_shares_and_copies(struct setup *s)
{
	struct gw_task *child;
	int status[PAGES];
	uint64_t at;

	at = map(s, BYTES);
	for (unsigned i = 0; i < PAGES; i++)
		put(s, at + i * GW_PAGE_SIZE, 7, GW_PAGE_SIZE);
	assert_int_equal(gw_task_fork(s->task, &child), 0);
	assert_int_equal(move(s, at, PAGES, 1, status, GW_MPOL_MF_MOVE), 0);
	assert_int_equal(status[5], -EACCES);
	assert_int_equal(move(s, at, PAGES, 1, status, GW_MPOL_MF_MOVE_ALL), 0);
	assert_int_equal(status[5], 1);
	put(s, at, 9, 1);
	assert_int_equal(get(child, at), 7);
	assert_int_equal(get(s->task, at), 9);
	assert_int_equal(get(child, at + 5 * GW_PAGE_SIZE), 7);
	gw_task_exit(child);
	assert_int_equal(move(s, at, PAGES, 2, status, GW_MPOL_MF_MOVE), 0);
	assert_int_equal(status[5], 2);
}

static void pinned_pages_stay(struct setup *s)
{
	struct gw_explanation explain[4];
	const struct gw_move_options options = {.size = sizeof options, .explain = explain};
	uint64_t pages[4];
	int nodes[4] = {1, 1, 1, 1}, status[4] = {-1, -1, -1, -1};
	struct gw_pin *pin;
	uint64_t at;

	at = map(s, BYTES);
	for (unsigned i = 0; i < 4; i++)
		pages[i] = at + i * GW_PAGE_SIZE;
	assert_int_equal(gw_pin(s->task, at, 4 * GW_PAGE_SIZE, "a device", &pin), 0);
	assert_true(gw_move_pages_explained(s->task, 0, 4, pages, nodes, status, GW_MPOL_MF_MOVE,
			    &options) > 0);
	assert_int_equal(status[0], -1);
	assert_int_equal(explain[0].why, GW_WHY_PINNED);
	assert_non_null(strstr(explain[0].detail, "a device"));
	gw_unpin(pin);
	assert_int_equal(gw_move_pages(s->task, 0, 4, pages, nodes, status, GW_MPOL_MF_MOVE), 0);
	assert_int_equal(status[3], 1);
}

static void full_node_refuses(struct setup *s)
{
	int status[PAGES];
	uint64_t at;

	at = map(s, BYTES);
	for (unsigned i = 0; i < PAGES; i++)
		put(s, at + i * GW_PAGE_SIZE, 3, 8);
	assert_true(gw_node_fill(s->machine, 1, 0) > 0);
	assert_int_not_equal(move(s, at, PAGES, 1, status, GW_MPOL_MF_MOVE), 0);
	for (unsigned i = 0; i < PAGES; i++)
		assert_int_equal(get(s->task, at + i * GW_PAGE_SIZE), 3);
	assert_true(gw_node_unfill(s->machine, 1) > 0);
	assert_int_equal(move(s, at, PAGES, 1, status, GW_MPOL_MF_MOVE), 0);
}

// The watermark of a zone without memory keeps nothing back.
static void what_a_filled_node_is_left_is_exact(void **state)
{
	int status[PAGES];
	uint64_t at;

	(void)state;
	if (!open_machine(&soft))
		skip();
	at = map(&soft, BYTES);
	for (unsigned i = 0; i < PAGES; i++)
		put(&soft, at + i * GW_PAGE_SIZE, 3, 8);
	for (unsigned left = 1; left <= 5; left += 4) {
		assert_true(gw_node_fill(soft.machine, 1, left * GW_PAGE_SIZE) > 0);
		for (unsigned i = 0; i < left; i++)
			assert_int_equal(
				move(&soft, at + i * GW_PAGE_SIZE, 1, 1, status, GW_MPOL_MF_MOVE),
				0);
		assert_int_equal(
			move(&soft, at + left * GW_PAGE_SIZE, 1, 1, status, GW_MPOL_MF_MOVE),
			-ENOMEM);
		assert_true(gw_node_unfill(soft.machine, 1) > 0);
		assert_int_equal(move(&soft, at, left, 0, status, GW_MPOL_MF_MOVE), 0);
	}
	close_machine(&soft);
}

static void ranges_tell_what_they_pass_over(void **state)
{
	struct gw_move_report report;
	const struct gw_move_options options = {.size = sizeof options, .report = &report};
	const unsigned long there = 1 << 1;
	struct gw_task *child;

	(void)state;
	if (!open_machine(&soft))
		skip();
	uint64_t at = map(&soft, BYTES);
	for (unsigned i = 0; i < PAGES; i++)
		put(&soft, at + i * GW_PAGE_SIZE, 7, 8);
	assert_int_equal(gw_task_fork(soft.task, &child), 0);
	put(&soft, at, 8, 8);
	assert_int_equal(gw_mbind_explained(soft.task, at, BYTES, GW_MPOL_BIND, &there, 65,
				 GW_MPOL_MF_MOVE | GW_MPOL_MF_STRICT, &options),
		0);
	assert_int_equal(report.moved, 1);
	assert_int_equal(report.why, GW_WHY_SHARED);
	assert_string_equal(report.detail, "63 pages passed over");
	gw_task_exit(child);
	assert_int_equal(gw_mbind_explained(soft.task, at, BYTES, GW_MPOL_BIND, &there, 65,
				 GW_MPOL_MF_MOVE | GW_MPOL_MF_STRICT, &options),
		0);
	assert_int_equal(report.moved, PAGES - 1);
	assert_int_equal(report.why, GW_WHY_MOVED);
	close_machine(&soft);
}

// ---- Ends and beginnings

static void destroy_ends_tasks(void **state)
{
	struct setup *all[] = {&soft, &with_signal, &with_userfaultfd};
	struct gw_task *child;
	uint64_t at;

	(void)state;
	for (unsigned i = 0; i < ARRAY_SIZE(all); i++) {
		if (!open_machine(all[i]))
			continue;
		at = map(all[i], BYTES);
		put(all[i], at, 1, GW_PAGE_SIZE);
		assert_int_equal(gw_task_fork(all[i]->task, &child), 0);
		assert_int_equal(gw_task_attach(NULL), 0);
		gw_machine_destroy(all[i]->machine);
		assert_int_equal(meta_in_use(), 0);
	}
}

static void nothing_is_released(void **state)
{
	(void)state;
	gw_unpin(NULL);
	gw_object_put(NULL);
	gw_notifier_unregister(NULL);
	gw_driver_unregister(NULL);
	gw_page_free(NULL);
	gw_task_exit(NULL);
	gw_machine_destroy(NULL);
}

static void sizes_do_not_wrap(void **state)
{
	struct gw_mapping mapping = {.size = sizeof mapping, .length = GW_PAGE_SIZE, .prot = 3};
	uint64_t at;

	(void)state;
	if (!open_machine(&soft))
		skip();
	assert_int_equal(gw_object_create(soft.machine, "x", UINT64_MAX, &mapping.object), -EINVAL);
	for (unsigned shift = 21; shift <= 30; shift += 9)
		assert_int_equal(gw_object_create_huge(
					 soft.machine, "x", UINT64_MAX, shift, &mapping.object),
			-EINVAL);
	assert_null(mapping.object);
	assert_int_equal(gw_object_create(soft.machine, "x", BYTES, &mapping.object), 0);
	mapping.offset = -GW_PAGE_SIZE;
	assert_int_equal(gw_map(soft.task, &mapping, &at), -EOVERFLOW);
	mapping.offset = 1ull << 63; // beyond the object, but a number
	assert_int_equal(gw_map(soft.task, &mapping, &at), 0);
	assert_int_equal(gw_read(soft.task, at, &at, 1), -EIO);
	gw_object_put(mapping.object);
	mapping = (struct gw_mapping){.size = sizeof mapping, .length = UINT64_MAX};
	assert_int_equal(gw_map(soft.task, &mapping, &at), -ENOMEM);
	mapping.length = GW_PAGE_SIZE;
	assert_int_equal(gw_map(soft.task, &mapping, &at), 0);
	assert_int_equal(gw_protect(soft.task, at, UINT64_MAX, 1), -ENOMEM);
	assert_int_equal(gw_protect(soft.task, at + 1, UINT64_MAX, 1), -EINVAL);
	assert_int_equal(gw_remap(soft.task, at, GW_PAGE_SIZE, 1ull << 60, 0, &at), -ENOMEM);
	assert_int_equal(gw_remap(soft.task, at, GW_PAGE_SIZE, UINT64_MAX, 0, &at), -EINVAL);
	close_machine(&soft);
}

static uint64_t cpu_seconds(void)
{
	struct timespec now;

	assert_int_equal(clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now), 0);
	return (uint64_t)now.tv_sec;
}

// What was never touched costs nothing: 2^32 pages would take minutes to look at one by one. A
// sanitizer has less room for it.
static void reservation_goes_at_once(struct setup *s)
{
	uint64_t length = 1ull << 45;
	uint64_t begin = cpu_seconds();
	void *p;
	int err;

	do {
		length >>= 1;
		err = gw_alloc(s->task, length, &p);
	} while (err == -ENOMEM && length > 1ull << 34);
	assert_int_equal(err, 0);
	*(char *)p = 1;
	assert_int_equal(gw_unmap(s->task, (uint64_t)(uintptr_t)p, length), 0);
	assert_true(cpu_seconds() - begin < 20);
}

// ---- What is behind the nodes

static char *arenas_of(const struct gw_machine_config *config)
{
	struct gw_machine *machine;
	char *text;

	assert_int_equal(gw_machine_create(config, &machine), 0);
	assert_int_equal(gw_text(machine, "godwit/arenas", &text), 0);
	gw_machine_destroy(machine);
	return text;
}

// Each node's size, what of it is backed, by what, and why by nothing larger.
static void arenas_are_described(void **state)
{
	const uint64_t bytes[3] = {64 << 20, 0, 32 << 20};
	char path[] = "/tmp/godwit-engine-test-XXXXXX", setting[32], expected[300];
	const char *const paths[3] = {NULL, NULL, path};
	struct gw_machine_config config = {.size = sizeof config, .nr_nodes = 3,
		.node_bytes = bytes, .path = paths, .backend = GW_BACKEND_SOFT};
	char *text;

	(void)state;
	close(mkstemp(path));
	(void)probe_shmem_huge(setting, sizeof setting);
	for (int huge = 0; huge < 2; huge++) {
		bool may = shmem_is_huge_unasked(setting) || (huge && !strcmp(setting, "advise"));
		unsigned long backed = 0, file = 0;
		int found;

		config.flags = huge ? GW_MACHINE_HUGE : 0;
		text = arenas_of(&config);
		print_message("%s", text);
		found = sscanf(text,
			"node 0: 65536 kB, %lu kB%*[^\n]\nnode 2: 32768 kB, %lu kB", &backed, &file);
		assert_int_equal(found, 2); // node 1 has no memory
		assert_in_range(backed, 0, 65536);
		if (!may || !strstr(text, "the host gave none of 2048 kB"))
			assert_non_null(strstr(text, may ? "backed by 2048 kB pages of shared memory"
							 : "backed by 4 kB pages of shared memory"));
		snprintf(expected, sizeof expected, "shmem_enabled is %s", setting);
		if (setting[0])
			assert_non_null(strstr(text, expected));
		snprintf(expected, sizeof expected,
			"\nnode 2: 32768 kB, %lu kB of them backed by a file\n", file);
		assert_non_null(strstr(text, expected));
		free(text);
	}
	unlink(path);
}

static void a_node_on_hugetlbfs_is_refused(void **state)
{
	int fd = memfd_create("hugetlb", MFD_HUGETLB | MFD_HUGE_2MB), saved = errno;
	char path[64], expected[160];
	const char *const paths[1] = {path};
	const struct gw_machine_config config = {.size = sizeof config, .path = paths};
	struct gw_machine *machine;

	(void)state;
	if (fd < 0) {
		print_message("no hugetlbfs here: %s\n", strerror(saved));
		skip();
	}
	snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
	snprintf(expected, sizeof expected,
		"node 0: %s: pages of hugetlbfs cannot be mapped in pieces of 4 KiB", path);
	assert_int_equal(gw_machine_create(&config, &machine), -EOPNOTSUPP);
	assert_string_equal(gw_machine_error(), expected);
	close(fd);
}

static void on(struct setup *s, void (*body)(struct setup *))
{
	if (!open_machine(s))
		skip();
	body(s);
	close_machine(s);
}

#define TESTS_OF(f)                                                                                \
	static void f##_soft(void **state)                                                         \
	{                                                                                          \
		(void)state;                                                                       \
		on(&soft, f);                                                                      \
	}                                                                                          \
	static void f##_signal(void **state)                                                       \
	{                                                                                          \
		(void)state;                                                                       \
		on(&with_signal, f);                                                               \
	}                                                                                          \
	static void f##_userfaultfd(void **state)                                                  \
	{                                                                                          \
		(void)state;                                                                       \
		on(&with_userfaultfd, f);                                                          \
	}

TESTS_OF(move_and_back)
TESTS_OF(fork_shares_and_copies)
TESTS_OF(pinned_pages_stay)
TESTS_OF(full_node_refuses)

static void reservation_goes_at_once_signal(void **state)
{
	(void)state;
	on(&with_signal, reservation_goes_at_once);
}

static void reservation_goes_at_once_userfaultfd(void **state)
{
	(void)state;
	on(&with_userfaultfd, reservation_goes_at_once);
}

#define ON_ALL(f)                                                                                  \
	cmocka_unit_test(f##_soft), cmocka_unit_test(f##_signal), cmocka_unit_test(f##_userfaultfd)

int main(void)
{
	const struct CMUnitTest tests[] = {
		ON_ALL(move_and_back),
		ON_ALL(fork_shares_and_copies),
		ON_ALL(pinned_pages_stay),
		ON_ALL(full_node_refuses),
		cmocka_unit_test(reservation_goes_at_once_signal),
		cmocka_unit_test(reservation_goes_at_once_userfaultfd),
		cmocka_unit_test(what_a_filled_node_is_left_is_exact),
		cmocka_unit_test(ranges_tell_what_they_pass_over),
		cmocka_unit_test(destroy_ends_tasks),
		cmocka_unit_test(nothing_is_released),
		cmocka_unit_test(sizes_do_not_wrap),
		cmocka_unit_test(arenas_are_described),
		cmocka_unit_test(a_node_on_hugetlbfs_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
