// SPDX-License-Identifier: MIT
// Machines whose hugetlb pools lie on pages of the host's (GW_MACHINE_HUGETLB): that they do, that
// every path a page of a pool takes works on such pages, that they go back, and that a host without
// them, or which runs out of them midway, changes nothing else.
//
// As root the test enlarges the host's pool while it runs; else it takes what is free there.
#include "unit.h"

#include <godwit/machine.h>
#include <godwit/migrate.h>
#include <godwit/space.h>
#include <godwit/stats.h>

#include "base/fault_inject.h"
#include "base/meta.h"
#include "engine/engine.h"
#include "machine/rewire.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>

#define HUGE (2ul << 20)
#define HOST_PAGES 8
#define NODE_PAGES "sys/devices/system/node/node%u/hugepages/hugepages-2048kB/nr_hugepages"

struct setup {
	enum gw_blocker blocker;
	struct gw_machine *machine;
	struct gw_task *task;
	unsigned injected; // calls of the host fail: what is asked of the machine may fail, too
};

// ---- The host's pool

static long host_number(const char *name)
{
	char path[128];
	long n = -1;

	snprintf(path, sizeof path, "/sys/kernel/mm/hugepages/hugepages-2048kB/%s", name);
	FILE *f = fopen(path, "re");
	if (f && fscanf(f, "%ld", &n) != 1)
		n = -1;
	if (f)
		fclose(f);
	return n;
}

static char restore[32];

static bool set_host_pool(const char *text)
{
	int fd = open("/proc/sys/vm/nr_hugepages", O_WRONLY | O_CLOEXEC);
	bool done = fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text);

	if (fd >= 0)
		close(fd);
	return done;
}

static bool host_has_pages(void)
{
	long nr_free = host_number("free_hugepages") - host_number("resv_hugepages");

	if (nr_free >= HOST_PAGES)
		return true;
	print_message("%ld pages are free in the host's hugetlb pool, the test wants %d\n", nr_free,
		HOST_PAGES);
	return false;
}

// ---- The machine

static bool open_machine(struct setup *s)
{
	const uint64_t bytes[2] = {64 << 20, 64 << 20};
	const struct gw_machine_config config = {
		.size = sizeof config,
		.nr_nodes = 2,
		.node_bytes = bytes,
		.backend = GW_BACKEND_REWIRE,
		.blocker = s->blocker,
		.flags = GW_MACHINE_HUGETLB,
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

// What the host's pool has given to a node, by its own account.
static unsigned long taken(int fd)
{
	struct stat st;

	assert_int_equal(fstat(fd, &st), 0);
	return (unsigned long)st.st_blocks * 512 / HUGE;
}

static unsigned long on_hugetlbfs(const struct setup *s, unsigned node)
{
	const struct arena_hugetlb *h = &s->machine->arena[node]->hugetlb;

	assert_true(taken(h->fd) >= atomic_load(&h->nr));
	return atomic_load(&h->nr);
}

static void close_machine(struct setup *s)
{
	int fd[2];

	for (unsigned i = 0; i < 2; i++)
		fd[i] = dup(s->machine->arena[i]->hugetlb.fd);
	assert_int_equal(gw_task_attach(NULL), 0);
	gw_machine_check(s->machine);
	gw_task_exit(s->task);
	gw_machine_destroy(s->machine);
	for (unsigned i = 0; i < 2; i++) {
		if (fd[i] < 0)
			continue; // a kernel without hugetlbfs
		assert_int_equal(taken(fd[i]), 0);
		close(fd[i]);
	}
	assert_int_equal(meta_in_use(), 0);
}

static void set_pool(struct setup *s, unsigned node, unsigned pages)
{
	char path[128], value[16];

	snprintf(path, sizeof path, NODE_PAGES, node);
	snprintf(value, sizeof value, "%u", pages);
	assert_int_equal(gw_tunable_set(s->machine, path, value), 0);
}

static int map_at(struct setup *s, uint64_t at, uint64_t bytes, unsigned flags, uint64_t *ret_at)
{
	const struct gw_mapping mapping = {.size = sizeof mapping, .length = bytes, .address = at,
		.prot = GW_PROT_READ | GW_PROT_WRITE, .flags = flags};

	return gw_map(s->task, &mapping, ret_at);
}

static uint64_t map(struct setup *s, uint64_t bytes, unsigned flags)
{
	uint64_t at;

	assert_int_equal(map_at(s, 0, bytes, flags, &at), 0);
	return at;
}

static uint64_t stamp(uint64_t at, unsigned round)
{
	return at * 0x9e3779b97f4a7c15ull + round;
}

static void fill(uint64_t at, uint64_t bytes, unsigned round)
{
	for (uint64_t a = at; a < at + bytes; a += GW_PAGE_SIZE)
		*(volatile uint64_t *)a = stamp(a, round);
}

static void verify(uint64_t at, uint64_t bytes, unsigned round)
{
	for (uint64_t a = at; a < at + bytes; a += GW_PAGE_SIZE)
		assert_int_equal(*(volatile uint64_t *)a, stamp(a, round));
}

static int move(struct setup *s, uint64_t at, int node)
{
	int status = -1;
	long err = gw_move_pages(s->task, 0, 1, &at, &node, &status, 0);

	return err < 0 ? (int)err : status;
}

// Of what the host maps at the address, in KiB.
static unsigned host_page_kib(uint64_t at)
{
	FILE *f = fopen("/proc/self/smaps", "re");
	unsigned long from, to;
	unsigned kib = 0, here = 0;
	char line[256];

	assert_non_null(f);
	while (!kib && fgets(line, sizeof line, f)) {
		if (sscanf(line, "%lx-%lx ", &from, &to) == 2)
			here = from <= at && at < to;
		else if (here)
			(void)!sscanf(line, "KernelPageSize: %u kB", &kib);
	}
	fclose(f);
	return kib;
}

static void assert_text(struct setup *s, const char *expected)
{
	char *text;

	assert_int_equal(gw_text(s->machine, "godwit/arenas", &text), 0);
	if (!strstr(text, expected))
		fail_msg("no \"%s\" in: %s", expected, text);
	free(text);
}

// ---- What is tested

// All that can happen to a page of a pool, seen by the program through its pointer.
static void life_of_a_page(struct setup *s)
{
	struct gw_task *child;
	uint64_t at, value, small;

	set_pool(s, 0, 4);
	set_pool(s, 1, 2);
	assert_int_equal(on_hugetlbfs(s, 0), 4);
	assert_int_equal(on_hugetlbfs(s, 1), 2);
	assert_text(s, "; 8192 kB of its 8192 kB in hugetlb pools are on pages of the host's pool\n");
	at = map(s, 3 * HUGE, GW_MAP_HUGETLB);
	assert_int_equal(*(volatile uint64_t *)at, 0); // read first: not writable yet
	assert_int_equal(host_page_kib(at), 2048);
	fill(at, 3 * HUGE, 1);
	for (int round = 0; round < 4; round++) {
		assert_int_equal(move(s, at, !(round & 1)), !(round & 1));
		verify(at, 3 * HUGE, 1);
		assert_int_equal(host_page_kib(at), 2048);
	}
	assert_int_equal(gw_protect(s->task, at, HUGE, GW_PROT_READ), 0);
	verify(at, HUGE, 1);
	assert_int_equal(move(s, at, 1), 1); // read-only as it is
	verify(at, HUGE, 1);
	value = 0;
	assert_int_equal(gw_write(s->task, at, &value, sizeof value), -EFAULT);
	assert_int_equal(gw_protect(s->task, at, HUGE, GW_PROT_NONE), 0);
	assert_int_equal(gw_protect(s->task, at, HUGE, GW_PROT_READ | GW_PROT_WRITE), 0);
	verify(at, HUGE, 1);
	assert_int_equal(gw_task_fork(s->task, &child), 0);
	fill(at, HUGE, 2); // a copy, made beside the child's
	verify(at, HUGE, 2);
	assert_int_equal(gw_read(child, at, &value, sizeof value), sizeof value);
	assert_int_equal(value, stamp(at, 1));
	gw_task_exit(child);
	// Something small where a huge page was.
	assert_int_equal(gw_unmap(s->task, at + HUGE, HUGE), 0);
	assert_int_equal(map_at(s, at + HUGE + 3 * GW_PAGE_SIZE, 4 * GW_PAGE_SIZE, 0, &small), 0);
	assert_int_equal(*(volatile uint64_t *)small, 0);
	fill(small, 4 * GW_PAGE_SIZE, 3);
	verify(small, 4 * GW_PAGE_SIZE, 3);
	verify(at, HUGE, 2);
	verify(at + 2 * HUGE, HUGE, 1);
	assert_int_equal(host_page_kib(small), 4);
	assert_int_equal(gw_unmap(s->task, at, 3 * HUGE), 0);
	set_pool(s, 0, 0);
	set_pool(s, 1, 0);
	for (unsigned node = 0; node < 2; node++) {
		assert_int_equal(on_hugetlbfs(s, node), 0);
		assert_int_equal(taken(s->machine->arena[node]->hugetlb.fd), 0);
	}
	// The frames are ordinary ones again.
	at = map(s, 48 << 20, 0);
	fill(at, 48 << 20, 4);
	verify(at, 48 << 20, 4);
	assert_int_equal(gw_unmap(s->task, at, 48 << 20), 0);
}

// Twice what the host has: the rest lies in shared memory, and moves to and fro all the same.
static void the_hosts_pool_runs_out(struct setup *s)
{
	const unsigned pages = 2 * HOST_PAGES;
	unsigned long before;
	uint64_t at;

	set_pool(s, 0, pages);
	before = on_hugetlbfs(s, 0);
	assert_in_range(before, HOST_PAGES, pages);
	if (before < pages)
		assert_text(s, "(the host gave no more that nobody reserved)\n");
	at = map(s, pages * HUGE, GW_MAP_HUGETLB);
	fill(at, pages * HUGE, 1);
	for (unsigned i = 0; i < pages; i++)
		assert_int_equal(move(s, at + i * HUGE, 1), 1);
	verify(at, pages * HUGE, 1);
	for (unsigned i = 0; i < pages; i++)
		assert_int_equal(move(s, at + i * HUGE, 0), 0);
	verify(at, pages * HUGE, 1);
	assert_int_equal(gw_unmap(s->task, at, pages * HUGE), 0);
}

static bool fd_of_hugetlbfs(void)
{
	char path[64], target[128];

	for (int fd = 0; fd < 256; fd++) {
		snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
		ssize_t n = readlink(path, target, sizeof target - 1);
		if (n > 0 && (target[n] = 0, strstr(target, "godwit-node-hugetlb")))
			return true;
	}
	return false;
}

// 0: it reaches nothing of the machine.
static int look_from_child(uint64_t at, const uint8_t *direct)
{
	unsigned char resident[1];

	if (!mincore((void *)at, GW_PAGE_SIZE, resident) || errno != ENOMEM)
		return 1;
	if (!mincore((void *)(uintptr_t)direct, GW_PAGE_SIZE, resident) || errno != ENOMEM)
		return 2;
	return fd_of_hugetlbfs() ? 3 : 0;
}

static void a_child_reaches_nothing(struct setup *s)
{
	const uint8_t *direct;
	uint64_t at;
	int status;

	set_pool(s, 0, 2);
	direct = s->machine->arena[0]->hugetlb.direct;
	at = map(s, 2 * HUGE, GW_MAP_HUGETLB);
	*(volatile uint8_t *)(at + HUGE) = 1; // read-only first, and moved from the stage
	assert_int_equal(*(volatile uint8_t *)at, 0);
	fill(at, 2 * HUGE, 1);
	for (unsigned round = 0; round < 2; round++) {
		pid_t pid = fork();

		if (!pid)
			_exit(look_from_child(at, direct));
		assert_true(pid > 0);
		assert_int_equal(waitpid(pid, &status, 0), pid);
		assert_true(WIFEXITED(status));
		assert_int_equal(WEXITSTATUS(status), 0);
		verify(at, 2 * HUGE, 1);
		assert_int_equal(move(s, at, 1), 1); // and what it maps since
	}
	assert_int_equal(gw_unmap(s->task, at, 2 * HUGE), 0);
}

// The stage goes along with a read-only page. What somebody maps at its place meanwhile is theirs,
// here and in a child, and the next page is read-only nevertheless.
static char *stage_of(struct setup *s, bool *ret_gone)
{
	struct rewire *rw = rewire_of(s->machine->mmu);

	mutex_lock(&rw->lock);
	char *stage = (char *)rw->stage;
	*ret_gone = rw->stage_gone;
	mutex_unlock(&rw->lock);
	return stage;
}

static void the_place_of_the_stage_is_taken(struct setup *s)
{
	char *stage, *theirs;
	bool gone;
	uint64_t at;
	int status;

	set_pool(s, 0, 2);
	at = map(s, 2 * HUGE, GW_MAP_HUGETLB);
	assert_int_equal(*(volatile uint64_t *)at, 0);
	stage = stage_of(s, &gone);
	assert_true(gone);
	theirs = mmap(stage, HUGE, PROT_READ | PROT_WRITE,
		MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
	if (theirs != stage) { // an allocator of some thread was faster: as good, but not ours
		if (theirs != MAP_FAILED)
			munmap(theirs, HUGE);
		print_message("the place is not to be had\n");
		return;
	}
	memset(theirs, 'x', HUGE);
	pid_t pid = fork();
	if (!pid)
		_exit(theirs[0] == 'x' && theirs[HUGE - 1] == 'x' ? 0 : 1);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	assert_int_equal(*(volatile uint64_t *)(at + HUGE), 0);
	assert_ptr_not_equal(stage_of(s, &gone), stage);
	fill(at, 2 * HUGE, 1);
	verify(at, 2 * HUGE, 1);
	for (size_t i = 0; i < HUGE; i += GW_PAGE_SIZE)
		assert_int_equal(theirs[i], 'x');
	assert_int_equal(munmap(theirs, HUGE), 0);
	assert_int_equal(gw_unmap(s->task, at, 2 * HUGE), 0);
}

// ---- Failures

static void steps(struct setup *s)
{
	uint64_t at = 0, small = 0;
	bool mapped, beside;

	set_pool(s, 0, 2);
	set_pool(s, 1, 1);
	mapped = !map_at(s, 0, 2 * HUGE, GW_MAP_HUGETLB, &at);
	if (mapped) {
		(void)!gw_advise(s->task, at, HUGE, MADV_POPULATE_READ);
		(void)!gw_advise(s->task, at, 2 * HUGE, MADV_POPULATE_WRITE);
		(void)!gw_write(s->task, at, &(uint64_t){7}, 8);
		(void)!move(s, at, 1);
		(void)!gw_protect(s->task, at, HUGE, GW_PROT_READ);
		(void)!move(s, at, 0);
		(void)!gw_protect(s->task, at, HUGE, GW_PROT_READ | GW_PROT_WRITE);
		(void)!gw_unmap(s->task, at + HUGE, HUGE);
	}
	beside = mapped && !map_at(s, at + HUGE + GW_PAGE_SIZE, GW_PAGE_SIZE, 0, &small);
	if (beside)
		(void)!gw_advise(s->task, small, GW_PAGE_SIZE, MADV_POPULATE_WRITE);
	s->injected += fault_disarm(FI_SYSCALL);
	gw_machine_check(s->machine);
	if (mapped) {
		(void)!gw_protect(s->task, at, HUGE, GW_PROT_READ | GW_PROT_WRITE);
		uint64_t value = *(volatile uint64_t *)at;
		assert_true(value == 7 || value == 0);
		fill(at, HUGE, 1);
		if (beside)
			fill(small, GW_PAGE_SIZE, 2);
		verify(at, HUGE, 1);
		assert_in_range(move(s, at, 1), 0, 1);
		verify(at, HUGE, 1);
		if (beside)
			verify(small, GW_PAGE_SIZE, 2);
		assert_int_equal(gw_unmap(s->task, at, 2 * HUGE), 0);
	}
	set_pool(s, 0, 0);
	set_pool(s, 1, 0);
}

// Each call of the host fails once: nothing is lost, the books balance, and all pages go back.
static void every_call_fails_once(struct setup *s)
{
	for (uint64_t n = 0, hits = s->injected;; n++, hits = s->injected) {
		fault_arm(FI_SYSCALL, FI_THREAD, n, 1);
		steps(s);
		if (s->injected == hits) {
			print_message("%lu calls\n", (unsigned long)n);
			assert_true(n > 20);
			return;
		}
		assert_int_equal(on_hugetlbfs(s, 0) + on_hugetlbfs(s, 1), 0);
	}
}

// ---- Without the host's pages

static void asking_never_fails(void **state)
{
	struct setup s = {.blocker = GW_BLOCKER_SIGNAL};
	uint64_t at;

	(void)state;
	if (!open_machine(&s))
		skip();
	set_pool(&s, 0, 2);
	assert_text(&s, " kB of its 4096 kB in hugetlb pools are on pages of the host's pool");
	at = map(&s, 2 * HUGE, GW_MAP_HUGETLB);
	fill(at, 2 * HUGE, 1);
	assert_int_equal(move(&s, at, 1), 1);
	verify(at, 2 * HUGE, 1);
	close_machine(&s);
}

static void nobody_asked(void **state)
{
	const struct gw_machine_config config = {.size = sizeof config};
	struct setup s = {0};
	char *text;

	(void)state;
	assert_int_equal(gw_machine_create(&config, &s.machine), 0);
	set_pool(&s, 0, 2);
	assert_null(s.machine->arena[0]->hugetlb.chunks);
	assert_int_equal(gw_text(s.machine, "godwit/arenas", &text), 0);
	assert_null(strstr(text, "hugetlb"));
	free(text);
	gw_machine_destroy(s.machine);
}

static void on(enum gw_blocker blocker, void (*body)(struct setup *))
{
	struct setup s = {.blocker = blocker};

	if (!host_has_pages() || !open_machine(&s))
		skip();
	body(&s);
	close_machine(&s);
}

#define TESTS_OF(f)                                                                                \
	static void f##_signal(void **state)                                                       \
	{                                                                                          \
		(void)state;                                                                       \
		on(GW_BLOCKER_SIGNAL, f);                                                          \
	}                                                                                          \
	static void f##_userfaultfd(void **state)                                                  \
	{                                                                                          \
		(void)state;                                                                       \
		on(GW_BLOCKER_USERFAULTFD, f);                                                     \
	}

TESTS_OF(life_of_a_page)
TESTS_OF(the_hosts_pool_runs_out)
TESTS_OF(a_child_reaches_nothing)
TESTS_OF(every_call_fails_once)

static void the_place_of_the_stage_is_taken_userfaultfd(void **state)
{
	(void)state;
	on(GW_BLOCKER_USERFAULTFD, the_place_of_the_stage_is_taken);
}

#define ON_BOTH(f) cmocka_unit_test(f##_signal), cmocka_unit_test(f##_userfaultfd)

static int run(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(nobody_asked),
		cmocka_unit_test(asking_never_fails),
		ON_BOTH(life_of_a_page),
		ON_BOTH(the_hosts_pool_runs_out),
		ON_BOTH(a_child_reaches_nothing),
		cmocka_unit_test(the_place_of_the_stage_is_taken_userfaultfd),
#if FAULTS_BUILT_IN
		ON_BOTH(every_call_fails_once),
#endif
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

static void restore_and_end(int sig)
{
	(void)set_host_pool(restore);
	_exit(128 + sig);
}

// Of all that run this test on the host, one at a time: they would take each other's pages. Held as
// long as the process lives.
static bool alone(void)
{
	int fd = open("/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages", O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return true; // a kernel without: nothing will be taken
	for (unsigned i = 0; i < 600; i++) {
		if (!flock(fd, LOCK_EX | LOCK_NB))
			return true;
		usleep(100000);
	}
	return false;
}

// The tests run in a child, whatever becomes of it: the host's pool is as it was afterwards.
int main(void)
{
	char larger[32];
	long total;
	int status;
	pid_t pid;

	if (!alone()) {
		printf("skipped: another run of this test has the host's pool\n");
		return SKIP_TEST;
	}
	total = host_number("nr_hugepages");
	snprintf(restore, sizeof restore, "%ld", total);
	snprintf(larger, sizeof larger, "%ld", total + HOST_PAGES);
	signal(SIGTERM, restore_and_end);
	signal(SIGINT, restore_and_end);
	bool changed = total >= 0 && !geteuid() && !host_has_pages() && set_host_pool(larger);
	fflush(NULL);
	pid = fork();
	if (!pid) {
		signal(SIGTERM, SIG_DFL);
		signal(SIGINT, SIG_DFL);
		exit(run());
	}
	while (pid > 0 && waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	if (changed)
		(void)set_host_pool(restore);
	if (pid < 0)
		return 1;
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}
