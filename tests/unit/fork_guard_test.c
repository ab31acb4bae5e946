// SPDX-License-Identifier: MIT
// The host's fork() beside a machine: the child reaches nothing of it, the parent notices nothing.
#include "mini_engine.h"

#include "machine/vma_budget.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sys/mman.h>
#include <sys/wait.h>

#define PAGES 1024ul

static struct mini mini;
static struct mmu_config config = {.backend = MMU_BACKEND_REWIRE};

// In the child: 0 if all is as it has to be, else the line that is not.
#define EXPECT(cond)                                                                               \
	do {                                                                                       \
		if (!(cond))                                                                       \
			return __LINE__;                                                           \
	} while (0)

static bool is_mapped(uintptr_t at)
{
	unsigned char resident;

	return mincore((void *)at, PAGE_SIZE, &resident) == 0;
}

// The bytes of nodes, or what stands for pages without bytes; wherever it is. Without malloc(): its
// locks may be those of a thread that is not in this child, and AddressSanitizer leaves them so.
static bool any_is_mapped(void)
{
	static char text[1 << 20];
	int fd = open("/proc/self/maps", O_RDONLY | O_CLOEXEC);
	size_t length = 0;
	ssize_t n = fd < 0 ? 0 : 1;

	while (n > 0 && length < sizeof(text) - 1) {
		n = read(fd, text + length, sizeof(text) - 1 - length);
		length += n > 0 ? (size_t)n : 0;
	}
	if (fd >= 0)
		close(fd);
	text[length] = '\0';
	return strstr(text, "memfd:godwit-") != NULL;
}

static int check_child(void)
{
	const struct mmu_ops *ops = mini.mmu->ops;
	uintptr_t at = mini_at(&mini, 0), direct = (uintptr_t)mini.arena[0]->direct;
	struct mmu_window *w;
	struct pfn pfn = mini.page[0].pfn;
	struct mini own;

	for (size_t page = 0; page < PAGES; page++)
		EXPECT(!is_mapped(mini_at(&mini, page)));
	EXPECT(!any_is_mapped());
	EXPECT(direct == 0 && mini.arena[0]->tables == 0 && mini.arena[0]->fd == -1);
	EXPECT(ops->map(mini.mmu, at, pfn, 1, MMU_WRITE) == -EOWNERDEAD);
	EXPECT(ops->protect(mini.mmu, at, pfn, 1, MMU_READ) == -EOWNERDEAD);
	EXPECT(ops->block(mini.mmu, at, pfn, 1, true) == -EOWNERDEAD);
	EXPECT(ops->window_open(mini.mmu, PMD_SIZE, 0, NULL, NULL, &w) == -EOWNERDEAD);
	ops->clear(mini.mmu, at, 1);
	ops->unblock(mini.mmu, at, pfn, 1, MMU_WRITE);
	ops->wake(mini.mmu, at, 1);
	EXPECT(ops->peek(mini.mmu, pfn) == NULL);
	EXPECT(arena_back(mini.arena[0], pfn, 1) == -EOWNERDEAD);
	EXPECT(arena_release(mini.arena[0], pfn, 512) == 0);
	mini_close(&mini); // cleans up what there is
	if (HAVE_TSAN || HAVE_ASAN)
		return 0; // neither lets the child of a threaded parent start threads
	EXPECT(mini_open(&own, &config, PMD_SIZE) == 0); // a machine of its own
	*mini_byte(&own, 3) = 4;
	EXPECT(*mini_byte(&own, 3) == 4);
	mini_close(&own);
	return 0;
}

static int wait_for_child(pid_t pid)
{
	int status;

	if (waitpid(pid, &status, 0) != pid)
		return -1;
	return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

static int fork_and_check(void)
{
	pid_t pid = fork();

	if (pid == 0) {
		int line = check_child();

		if (line)
			fprintf(stderr, "fork_guard_test.c:%d in the child\n", line);
		_exit(line != 0);
	}
	return wait_for_child(pid);
}

static size_t host_vmas(void)
{
	FILE *f = fopen("/proc/self/maps", "re");
	uintptr_t start, end;
	char line[512];
	size_t n = 0;

	while (fgets(line, sizeof(line), f))
		if (sscanf(line, "%lx-%lx", &start, &end) == 2)
			n += start < mini_at(&mini, PAGES) && end > mini_at(&mini, 0);
	fclose(f);
	return n;
}

static void child_gets_nothing(void **state maybe_unused)
{
	size_t vmas;

	assert_int_equal(mini_open(&mini, &config, PAGES << PAGE_SHIFT), 0);
	mini_fill(&mini, 0, 512, 0, MMU_WRITE);
	assert_int_equal(mini_move(&mini, 7, 3, 1, true), 0);
	mini_fill(&mini, 512, 3, 0, MMU_READ);
	vmas = host_vmas();
	for (int round = 0; round < 3; round++) {
		assert_int_equal(fork_and_check(), 0);
		assert_int_equal(host_vmas(), vmas);
		assert_int_equal(*mini_byte(&mini, 8), 8);
		assert_int_equal(mini_move(&mini, 7, 3, round & 1, true), 0);
		assert_int_equal(host_vmas(), vmas); // neighbours still merge
	}
	mini_close(&mini);
}

static atomic_bool stop;

static void *writer_main(void *arg)
{
	unsigned long *ret_bad = arg;
	uint8_t n = 0;

	if (mmu_thread_enter(mini.mmu))
		abort();
	for (size_t page = 0; page < 512; page++)
		mini_byte(&mini, page)[64] = 0;
	while (!stop) {
		for (size_t page = 0; page < 512; page++) {
			*ret_bad += mini_byte(&mini, page)[64] != n;
			mini_byte(&mini, page)[64] = (uint8_t)(n + 1);
		}
		n++;
	}
	mmu_thread_leave(mini.mmu);
	return NULL;
}

static void *mover_main(void *arg maybe_unused)
{
	for (unsigned n = 0; !stop; n++)
		if (mini_move(&mini, 0, 512, n & 1, n & 2))
			abort();
	return NULL;
}

static void forks_while_pages_move(void **state maybe_unused)
{
	pthread_t writer, mover;
	unsigned long bad = 0;

	assert_int_equal(mini_open(&mini, &config, PAGES << PAGE_SHIFT), 0);
	mini_fill(&mini, 0, 512, 0, MMU_WRITE);
	stop = false;
	pthread_create(&writer, NULL, writer_main, &bad);
	pthread_create(&mover, NULL, mover_main, NULL);
	for (int round = 0; round < 20; round++) {
		pid_t pid = fork();

		if (pid == 0) {
			for (size_t page = 0; page < PAGES; page += 31)
				if (is_mapped(mini_at(&mini, page)))
					_exit(1);
			_exit(0);
		}
		assert_int_equal(wait_for_child(pid), 0);
	}
	stop = true;
	pthread_join(writer, NULL);
	pthread_join(mover, NULL);
	assert_int_equal(bad, 0);
	mini_close(&mini);
}

static void *opener_main(void *arg maybe_unused)
{
	struct mini own;

	while (!stop) {
		if (mini_open(&own, &config, PMD_SIZE))
			abort();
		for (size_t page = 0; page < 20; page++)
			*mini_byte(&own, page) = 1;
		mini_close(&own);
	}
	return NULL;
}

static void forks_while_machines_come_and_go(void **state maybe_unused)
{
	pthread_t opener;

	stop = false;
	pthread_create(&opener, NULL, opener_main, NULL);
	for (int round = 0; round < 100; round++) {
		pid_t pid = fork();

		if (pid == 0)
			_exit(any_is_mapped());
		assert_int_equal(wait_for_child(pid), 0);
	}
	stop = true;
	pthread_join(opener, NULL);
}

static void *window_main(void *arg maybe_unused)
{
	struct mmu_window *w;

	while (!stop) {
		if (mini.mmu->ops->window_open(mini.mmu, PMD_SIZE, 0, NULL, &mini, &w))
			abort();
		mini.mmu->ops->window_close(mini.mmu, w);
	}
	return NULL;
}

static void forks_while_windows_come_and_go(void **state maybe_unused)
{
	pthread_t opener;
	int with_window = 0;

	assert_int_equal(mini_open(&mini, &config, PMD_SIZE), 0);
	stop = false;
	pthread_create(&opener, NULL, window_main, NULL);
	for (int round = 0; round < 1000; round++) {
		pid_t pid = fork();

		if (pid == 0)
			_exit(any_is_mapped());
		with_window += wait_for_child(pid) != 0;
	}
	stop = true;
	pthread_join(opener, NULL);
	assert_int_equal(with_window, 0);
	mini_close(&mini);
}

// MADV_DONTFORK may be refused: the child unmaps what it got.
static void dontfork_refused(void **state maybe_unused)
{
	pid_t pid;

	if (!FAULTS_BUILT_IN)
		return;
	assert_int_equal(mini_open(&mini, &config, PAGES << PAGE_SHIFT), 0);
	mini_fill(&mini, 0, 512, 0, MMU_WRITE);
	fault_arm(FI_SYSCALL, FI_THREAD, 0, FI_ALWAYS);
	pid = fork();
	if (pid == 0) {
		for (size_t page = 0; page < PAGES; page++)
			if (is_mapped(mini_at(&mini, page)))
				_exit(1);
		_exit(0);
	}
	assert_true(fault_disarm(FI_SYSCALL));
	assert_int_equal(wait_for_child(pid), 0);
	assert_int_equal(*mini_byte(&mini, 8), 8);
	assert_int_equal(fork_and_check(), 0);
	mini_close(&mini);
}

static atomic_bool first_wanted;

static void fork_begins(void)
{
	if (!atomic_exchange(&first_wanted, false))
		return;
	assert_int_equal(mini_open(&mini, &config, PAGES << PAGE_SHIFT), 0);
	mini_fill(&mini, 0, 512, 0, MMU_WRITE);
}

// The first machine of the process is made when a fork() has begun: the child gets nothing of this
// one, either.
static void the_first_machine_in_a_fork(void **state maybe_unused)
{
	first_wanted = true;
	assert_int_equal(pthread_atfork(fork_begins, NULL, NULL), 0);
	assert_int_equal(fork_and_check(), 0);
	assert_int_equal(*mini_byte(&mini, 8), 8);
	mini_close(&mini);
}

static int run_first(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(the_first_machine_in_a_fork)};

	config.blocker = MMU_BLOCKER_SIGNAL;
	return cmocka_run_group_tests_name("fork, the first machine", tests, NULL, NULL);
}

static int run_all(enum mmu_blocker blocker, const char *name)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(child_gets_nothing),
		cmocka_unit_test(forks_while_pages_move),
		cmocka_unit_test(forks_while_machines_come_and_go),
		cmocka_unit_test(forks_while_windows_come_and_go),
		cmocka_unit_test(dontfork_refused),
	};
	struct mmu *mmu;
	int err;

	config.blocker = blocker;
	err = mmu_open(&config, mini_fault, &mmu);
	if (err) {
		print_message("%s skipped: %s\n", name, strerror(-err));
		return 0;
	}
	mmu->ops->close(mmu);
	return cmocka_run_group_tests_name(name, tests, NULL, NULL);
}

int main(void)
{
	return run_first() + run_all(MMU_BLOCKER_SIGNAL, "fork, signal") +
	       run_all(MMU_BLOCKER_USERFAULTFD, "fork, userfaultfd");
}
