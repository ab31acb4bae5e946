// SPDX-License-Identifier: MIT
// What gw_machine_create() takes and what it refuses, in which words.
#include "unit.h"

#include "base/compiler.h"
#include "base/sched.h"

#include <godwit/machine.h>
#include <godwit/migrate.h>
#include <godwit/space.h>
#include <godwit/stats.h>

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <unistd.h>

#define MIB (1ull << 20)
#define TMPFS 0x01021994

static const uint64_t two_small[] = {64 * MIB, 64 * MIB};

static void set_pages(struct gw_machine *m, const char *file, const char *value)
{
	assert_int_equal(gw_tunable_set(m, file, value), 0);
}

// A pool that has shrunk may keep surplus pages that are free and promised to nobody, as in Linux,
// and a node fewer pages than surplus.
static void a_machine_ends_with_surplus_pages(void **state)
{
	static const char overcommit[] = "proc/sys/vm/nr_overcommit_hugepages";
	static const char all[] = "sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages";
	static const char node1[] =
		"sys/devices/system/node/node1/hugepages/hugepages-2048kB/nr_hugepages";
	struct gw_machine_config config = {.size = sizeof config,
		.nr_nodes = 2,
		.node_bytes = two_small,
		.backend = GW_BACKEND_SOFT};
	struct gw_mapping mapping = {.size = sizeof mapping,
		.length = 2 * MIB,
		.prot = GW_PROT_READ | GW_PROT_WRITE,
		.flags = GW_MAP_HUGETLB};
	int64_t pages;
	char *text;

	(void)state;
	for (unsigned shrink = 0; shrink < 2; shrink++) {
		struct gw_machine *m;
		struct gw_task *t;
		uint64_t at;
		assert_int_equal(gw_machine_create(&config, &m), 0);
		assert_int_equal(gw_task_create(m, NULL, &t), 0);
		set_pages(m, overcommit, "1");
		assert_int_equal(gw_map(t, &mapping, &at), 0);
		set_pages(m, node1, "1");
		set_pages(m, node1, "0");
		assert_int_equal(gw_unmap(t, at, 2 * MIB), 0);
		if (shrink) {
			set_pages(m, node1, "1");
			set_pages(m, all, "0");
		}
		assert_int_equal(gw_text(m, all, &text), 0);
		pages = atoll(text);
		free(text);
		assert_int_equal(pages, 1);
		gw_machine_check(m);
		gw_task_exit(t);
		gw_machine_check(m);
		gw_machine_destroy(m);
	}
}

static const struct refused {
	int err;
	const char *words;
	struct gw_machine_config config;
} refused[] = {
	{-EINVAL, "unknown flags 0x200", {.flags = 1u << 9}},
	{-EINVAL, "65 copy threads", {.copy_threads = 65}},
	{-EINVAL, "65 nodes", {.nr_nodes = 65}},
	{-EINVAL, "257 cpus", {.nr_cpus = 257}},
	{-EINVAL, "unknown backend 9", {.backend = (enum gw_backend)9}},
	{-EINVAL, "unknown backend 0 or blocker 9", {.blocker = (enum gw_blocker)9}},
	{-EINVAL, "cpu 0 is on node 3", {.nr_cpus = 1, .cpu_node = (const unsigned char[]){3}}},
	{-EINVAL, "distance 1 from node 0 to 1",
		{.nr_nodes = 2, .distance = (const unsigned char[]){10, 1, 1, 10}}},
	{-EINVAL, "node 0 has 4096 bytes", {.node_bytes = (const uint64_t[]){4096}}},
	{-EINVAL, "node 1 has 1125899906842624 bytes; expected at most 70368744177664",
		{.nr_nodes = 2, .node_bytes = (const uint64_t[]){2 << 20, 1ull << 50}}},
	{-EINVAL, "no node has memory", {.node_bytes = (const uint64_t[]){0}}},
	{-ENOMEM, "node 0, 67108864 MiB", {.node_bytes = (const uint64_t[]){1ull << 46}}},
	{-EINVAL, "node 0 on the host's node 63", {.host_node = (const int[]){63}}},
	{-ENOENT, "node 0: /nowhere/node0: No such file",
		{.path = (const char *const[]){"/nowhere/node0"}}},
	{-EISDIR, "node 0: /: Is a directory", {.path = (const char *const[]){"/"}}},
};

static void bad_configurations_are_refused_in_words(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
		struct gw_machine_config config = refused[i].config;
		struct gw_machine *machine = NULL;

		errno = 77;
		assert_int_equal(gw_machine_create(&config, &machine), -EINVAL);
		assert_non_null(strstr(gw_machine_error(), "gw_machine_config has 0 bytes"));
		config.size = sizeof config;
		assert_int_equal(gw_machine_create(&config, &machine), refused[i].err);
		if (!strstr(gw_machine_error(), refused[i].words))
			fail_msg("'%s' does not say '%s'", gw_machine_error(), refused[i].words);
		assert_null(machine);
		assert_int_equal(errno, 77);
	}
}

// However many descriptors a machine may open: with few it is none, or by the other blocker.
static void errno_is_the_programs(void **state)
{
	struct rlimit all, few;

	(void)state;
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &all), 0);
	for (few = all, few.rlim_cur = 3; few.rlim_cur < 20; few.rlim_cur++) {
		struct gw_machine_config config = {.size = sizeof config};
		struct gw_machine *machine = NULL;
		int err;

		assert_int_equal(setrlimit(RLIMIT_NOFILE, &few), 0);
		errno = 77;
		err = gw_machine_create(&config, &machine);
		assert_int_equal(errno, 77);
		gw_machine_destroy(machine);
		assert_int_equal(errno, 77);
		assert_int_equal(setrlimit(RLIMIT_NOFILE, &all), 0);
		assert_int_equal(!err, machine != NULL);
	}
}

// Touches a page and moves it.
static void use(struct gw_machine *machine)
{
	struct gw_task *task;
	void *pointer;
	int node = 1, status = -1;

	assert_int_equal(gw_task_create(machine, NULL, &task), 0);
	assert_int_equal(gw_task_attach(task), 0);
	assert_int_equal(gw_alloc(task, 2 * MIB, &pointer), 0);
	memset(pointer, 0x5a, 2 * MIB);
	uint64_t page = (uint64_t)pointer;
	assert_int_equal(
		gw_move_pages(task, 0, 1, &page, &node, &status, GW_MPOL_MF_MOVE), 0);
	assert_int_equal(status, 1);
	assert_int_equal(*(unsigned char *)pointer, 0x5a);
	assert_int_equal(gw_task_attach(NULL), 0);
	gw_machine_check(machine);
}

// The files of a machine on `folder`, asked for with a blocker.
static int create_on(const char *folder, enum gw_blocker blocker, struct gw_machine **ret_machine)
{
	char path[2][256];
	const char *const paths[] = {path[0], path[1]};
	const struct gw_machine_config config = {
		.size = sizeof config,
		.nr_nodes = 2,
		.node_bytes = two_small,
		.blocker = blocker,
		.path = paths,
	};

	for (int i = 0; i < 2; i++)
		snprintf(path[i], sizeof path[i], "%s/node%d", folder, i);
	int err = gw_machine_create(&config, ret_machine);
	for (int i = 0; i < 2; i++)
		unlink(path[i]);
	return err;
}

// Everything that a file can be is tried: a userfaultfd watches memory, not disks.
static void nodes_in_files(const char *parent)
{
	char folder[200];
	struct gw_machine *machine;
	struct statfs fs;

	snprintf(folder, sizeof folder, "%s/godwit-XXXXXX", parent);
	assert_non_null(mkdtemp(folder));
	assert_int_equal(statfs(folder, &fs), 0);
	assert_int_equal(create_on(folder, GW_BLOCKER_AUTO, &machine), 0);
	if (fs.f_type != TMPFS)
		assert_string_equal(gw_machine_blocker(machine), "signal");
	use(machine);
	gw_machine_destroy(machine);
	int err = create_on(folder, GW_BLOCKER_USERFAULTFD, &machine);
	if (err) {
		assert_true(fs.f_type != TMPFS ? err == -EOPNOTSUPP || err == -EPERM
					       : err == -EPERM || err == -ENOSYS);
	} else {
		assert_int_equal(fs.f_type, TMPFS);
		use(machine);
		gw_machine_destroy(machine);
	}
	assert_int_equal(rmdir(folder), 0);
}

static void nodes_in_shared_memory(void **state)
{
	(void)state;
	nodes_in_files("/dev/shm");
}

static void nodes_in_files_of_a_disk(void **state)
{
	(void)state;
	nodes_in_files("/var/tmp");
}

#define EXPECT_BUSY(config)                                                                        \
	do {                                                                                       \
		struct gw_machine *none = NULL;                                                    \
		assert_int_equal(gw_machine_create(config, &none), -EBUSY);                        \
		assert_null(none);                                                                 \
		if (!strstr(gw_machine_error(), ": is in use, by another node or another"))        \
			fail_msg("'%s'", gw_machine_error());                                      \
	} while (0)

// A child's: it lives on until the gate is closed.
static void wait_at(const int gate[2])
{
	char byte;

	close(gate[1]);
	_exit(read(gate[0], &byte, 1) != 0);
}

static void open_gate(const int gate[2])
{
	close(gate[0]);
	close(gate[1]);
}

static void expect_success(pid_t pid)
{
	int status;

	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
}

// Two nodes on the same bytes would each hand them out.
static void one_file_is_one_node(void **state)
{
	char path[] = "/tmp/godwit-machine-XXXXXX", other[40], words[80];
	const char *const twice[] = {path, other}, *const once[] = {path}, *const alias[] = {other};
	const struct gw_machine_config two = {
		.size = sizeof two, .nr_nodes = 2, .node_bytes = two_small, .path = twice};
	const struct gw_machine_config one = {
		.size = sizeof one, .node_bytes = two_small, .path = once};
	const struct gw_machine_config same = {
		.size = sizeof same, .node_bytes = two_small, .path = alias};
	struct gw_machine *machine, *after;
	int gate[2];
	pid_t pid;

	(void)state;
	if (HAVE_TSAN) // it allows a forked child no threads, and knows no handler but its own
		skip();
	close(mkstemp(path));
	snprintf(other, sizeof other, "%s-2", path);
	assert_int_equal(link(path, other), 0); // by its inode, not by its name
	EXPECT_BUSY(&two);
	snprintf(words, sizeof words, "node 1: %s: is in use", other);
	assert_non_null(strstr(gw_machine_error(), words));
	assert_int_equal(gw_machine_create(&one, &machine), 0); // what failed holds nothing
	EXPECT_BUSY(&one);
	EXPECT_BUSY(&same);

	pid = fork(); // another process; its end does not release what is ours
	if (pid == 0)
		_exit(gw_machine_create(&one, &after) == -EBUSY ? 0 : 1);
	expect_success(pid);
	EXPECT_BUSY(&same);

	assert_int_equal(pipe(gate), 0);
	pid = fork(); // a child that lives on holds nothing
	if (pid == 0)
		wait_at(gate);
	gw_machine_destroy(machine);
	assert_int_equal(gw_machine_create(&same, &after), 0);
	open_gate(gate);
	expect_success(pid);
	EXPECT_BUSY(&one);
	gw_machine_destroy(after);
	unlink(path);
	unlink(other);
}

// Nor does a parent that ends leave anything with its child.
static void a_process_that_ends_releases_its_file(void **state)
{
	char path[] = "/tmp/godwit-machine-XXXXXX";
	const char *const paths[] = {path};
	const struct gw_machine_config config = {
		.size = sizeof config, .node_bytes = two_small, .path = paths};
	struct gw_machine *machine;
	int gate[2];
	pid_t pid;

	(void)state;
	if (HAVE_TSAN) // it allows a forked child no threads, and knows no handler but its own
		skip();
	close(mkstemp(path));
	assert_int_equal(pipe(gate), 0);
	pid = fork();
	if (pid == 0) {
		int err = gw_machine_create(&config, &machine);

		if (!err && fork() == 0)
			wait_at(gate); // it outlives the machine's process
		_exit(err != 0);
	}
	expect_success(pid);
	int err;

	// The kernel gives the file up a moment after the process has ended, and its child does when
	// it has come to run.
	for (unsigned tries = 0; tries < 6000; tries++) {
		err = gw_machine_create(&config, &machine);
		if (err != -EBUSY)
			break;
		usleep(10000);
	}
	assert_int_equal(err, 0);
	open_gate(gate);
	gw_machine_destroy(machine);
	unlink(path);
}

static bool segv_is_blocked(void)
{
	sigset_t now;

	return !pthread_sigmask(SIG_SETMASK, NULL, &now) && sigismember(&now, SIGSEGV) == 1;
}

struct worker {
	struct gw_task *task;
	unsigned char *page; // never touched
	bool blocks;	     // all signals, as workers do
	bool when_attached, when_detached;
};

static void *worker_main(void *arg)
{
	struct worker *w = arg;
	sigset_t all;

	sigfillset(&all);
	pthread_sigmask(w->blocks ? SIG_BLOCK : SIG_UNBLOCK, &all, NULL);
	if (gw_task_attach(w->task) || gw_task_attach(w->task)) // from one to the other
		abort();
	w->when_attached = segv_is_blocked();
	*w->page = 1;
	if (gw_task_attach(NULL))
		abort();
	w->when_detached = segv_is_blocked();
	return NULL;
}

// A fault of a thread that blocks SIGSEGV would be the end of the process.
static void attached_threads_get_their_faults(void **state)
{
	struct gw_machine_config config = {.size = sizeof config};
	struct gw_machine *machine;
	struct worker w = {0};
	pthread_t thread;
	void *pointer;

	(void)state;
	if (HAVE_TSAN) // it allows a forked child no threads, and knows no handler but its own
		skip();
	for (unsigned n = 0; n < 4; n++) {
		config.blocker = n & 2 ? GW_BLOCKER_SIGNAL : GW_BLOCKER_USERFAULTFD;
		if (gw_machine_create(&config, &machine)) {
			print_message("skipped: %s\n", gw_machine_error());
			continue;
		}
		assert_int_equal(gw_task_create(machine, NULL, &w.task), 0);
		assert_int_equal(gw_alloc(w.task, MIB, &pointer), 0);
		w.page = pointer;
		w.blocks = n & 1;
		assert_int_equal(pthread_create(&thread, NULL, worker_main, &w), 0);
		assert_int_equal(pthread_join(thread, NULL), 0);
		assert_false(w.when_attached);
		assert_int_equal(w.when_detached, w.blocks);
		gw_machine_destroy(machine);
	}
}

// Pointers are what gw_alloc() is for.
static void soft_gives_no_pointers(void **state)
{
	const struct gw_machine_config config = {.size = sizeof config, .backend = GW_BACKEND_SOFT};
	struct gw_machine *machine;
	struct gw_task *task;
	void *pointer = NULL;

	(void)state;
	assert_int_equal(gw_machine_create(&config, &machine), 0);
	assert_int_equal(gw_task_create(machine, NULL, &task), 0);
	assert_int_equal(gw_alloc(task, MIB, &pointer), -EOPNOTSUPP);
	assert_null(pointer);
	gw_machine_destroy(machine);
}

// Every second page of a full node is free: a huge page is had by compaction alone.
static void leave_holes(struct gw_machine *machine, struct gw_task **ret_task, uint64_t *ret_at)
{
	const uint64_t bytes = 14 * MIB;
	const struct gw_mapping mapping = {.size = sizeof mapping, .length = bytes,
		.prot = GW_PROT_READ | GW_PROT_WRITE};
	struct gw_task *task;
	uint64_t at;

	assert_int_equal(gw_task_create(machine, NULL, &task), 0);
	assert_int_equal(gw_map(task, &mapping, &at), 0);
	for (uint64_t i = 0; i < bytes && gw_write(task, at + i, "x", 1) == 1; i += GW_PAGE_SIZE)
		;
	for (uint64_t i = 0; i < bytes; i += 2 * GW_PAGE_SIZE)
		assert_int_equal(gw_advise(task, at + i, GW_PAGE_SIZE, 4), 0); // DONTNEED
	*ret_task = task;
	*ret_at = at;
}

// The machine ends with its tasks, while khugepaged looks for huge pages and has to compact for them.
static void a_machine_ends_while_its_daemons_are_at_work(void **state)
{
	const struct gw_machine_config config = {.size = sizeof config, .nr_nodes = 1,
		.node_bytes = (const uint64_t[]){16 * MIB}, .backend = GW_BACKEND_SOFT};
	static const char thp[] = "sys/kernel/mm/transparent_hugepage/";
	static const char *const settings[][2] = {{"khugepaged/scan_sleep_millisecs", "0"},
		{"khugepaged/alloc_sleep_millisecs", "0"}, {"khugepaged/pages_to_scan", "4096"},
		{"enabled", "always"}};
	struct gw_machine *machine;
	struct gw_task *task;
	char path[128];
	uint64_t at;

	(void)state;
	for (uint64_t seed = 1; seed <= 10; seed++) {
		sched_begin(seed, 1000);
		assert_int_equal(gw_machine_create(&config, &machine), 0);
		leave_holes(machine, &task, &at);
		for (unsigned i = 0; i < ARRAY_SIZE(settings); i++) {
			snprintf(path, sizeof path, "%s%s", thp, settings[i][0]);
			assert_int_equal(gw_tunable_set(machine, path, settings[i][1]), 0);
		}
		assert_int_equal(gw_advise(task, at, 14 * MIB, 14), 0); // HUGEPAGE
		gw_machine_destroy(machine);
		sched_end();
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(bad_configurations_are_refused_in_words),
		cmocka_unit_test(errno_is_the_programs),
		cmocka_unit_test(nodes_in_shared_memory),
		cmocka_unit_test(nodes_in_files_of_a_disk),
		cmocka_unit_test(one_file_is_one_node),
		cmocka_unit_test(a_process_that_ends_releases_its_file),
		cmocka_unit_test(attached_threads_get_their_faults),
		cmocka_unit_test(soft_gives_no_pointers),
		cmocka_unit_test(a_machine_ends_while_its_daemons_are_at_work),
		cmocka_unit_test(a_machine_ends_with_surplus_pages),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
