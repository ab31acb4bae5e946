// SPDX-License-Identifier: MIT
// Runs a list of tests, ALL_TESTS(X), with a mini engine over each blocker that is to be had: as
// the user who runs the test, and as an ordinary one.
#ifndef GODWIT_TEST_MINI_RUN_H
#define GODWIT_TEST_MINI_RUN_H

#include "mini_engine.h"

#include "base/mark.h"
#include "machine/vma_budget.h"

#include <errno.h>
#include <signal.h>
#include <sys/wait.h>

#define PAGES 2048ul

static const char *blocker_name;
static struct mmu_config config = {.backend = MMU_BACKEND_REWIRE};
static struct mini mini;

static inline bool syscall_safe(void)
{
	return mini.mmu->caps & MMU_SYSCALL_SAFE;
}

static _Thread_local sigjmp_buf escape;
static _Thread_local volatile sig_atomic_t expecting, caught, caught_code;
static _Thread_local void *volatile caught_at;

static void catcher(int sig, siginfo_t *info, void *context maybe_unused)
{
	if (!expecting) {
		static const char text[] = "a signal nobody expected\n";

		(void)!write(2, text, sizeof(text) - 1);
		abort();
	}
	expecting = false;
	caught = sig;
	caught_code = info->si_code;
	caught_at = info->si_addr;
	siglongjmp(escape, 1);
}

// The signal that the access raised, 0 if none.
static inline int signal_of(size_t page, bool write)
{
	caught = 0;
	expecting = true;
	if (!sigsetjmp(escape, 1)) {
		if (write)
			*mini_byte(&mini, page) = 1;
		else
			(void)*mini_byte(&mini, page);
	}
	expecting = false;
	if (caught)
		assert_ptr_equal(caught_at, (void *)mini_at(&mini, page));
	return caught;
}

// cmocka puts its own SIGSEGV handler before each function it calls, so the machine is opened and
// closed inside of the test proper; and the program's handler, which the machine's chains to,
// before it.
static void run_with_machine(void **state)
{
	struct sigaction act = {.sa_sigaction = catcher, .sa_flags = SA_SIGINFO};
	void (*test)(void) = *(void (**)(void)) * state;

	sigaction(SIGSEGV, &act, NULL);
	sigaction(SIGBUS, &act, NULL);
	assert_int_equal(mini_open(&mini, &config, PAGES << PAGE_SHIFT), 0);
	test();
	mini_close(&mini);
}

static int teardown(void **state maybe_unused)
{
	fault_disarm_all();
	vma_budget_set_limit(0);
	return 0;
}

static int can_open(const struct mmu_config *c)
{
	struct mmu *mmu;
	int err = mmu_open(c, mini_fault, &mmu);

	if (!err)
		mmu->ops->close(mmu);
	return err;
}

static int run_list(void (*const *functions)(void), const char *const *names, size_t n,
	enum mmu_blocker blocker, const char *name)
{
	struct CMUnitTest tests[32];

	for (size_t i = 0; i < n; i++)
		tests[i] = (struct CMUnitTest){names[i], run_with_machine, NULL, teardown,
			(void *)(uintptr_t)&functions[i]};
	blocker_name = name;
	config.blocker = blocker;
	return _cmocka_run_group_tests(name, tests, n, NULL, NULL);
}

// As an ordinary user, in a child: signals must work; userfaultfd for user mode always does, and
// says that it is not syscall-safe unless the host lets everybody have the full one.
static int run_unprivileged(void (*const *functions)(void), const char *const *names, size_t n)
{
	int status, failed;
	pid_t pid = fork();

	if (pid == 0) {
		if (geteuid() == 0 && (setgid(65534) || setuid(65534)))
			_exit(0);
		failed = run_list(functions, names, n, MMU_BLOCKER_SIGNAL, "signal as nobody");
		config.user_mode_only = true;
		config.blocker = MMU_BLOCKER_USERFAULTFD;
		if (!can_open(&config))
			failed += run_list(functions, names, n, MMU_BLOCKER_USERFAULTFD,
				"userfaultfd as nobody");
		_exit(failed ? 1 : 0);
	}
	return waitpid(pid, &status, 0) == pid && status == 0 ? 0 : 1;
}

static int run_everywhere(void (*const *functions)(void), const char *const *names, size_t n)
{
	int failed = run_list(functions, names, n, MMU_BLOCKER_SIGNAL, "signal"), err;

	config.blocker = MMU_BLOCKER_USERFAULTFD;
	err = can_open(&config);
	if (!err)
		failed += run_list(functions, names, n, MMU_BLOCKER_USERFAULTFD, "userfaultfd");
	else
		print_message("userfaultfd skipped: %s\n", strerror(-err));
	return failed + run_unprivileged(functions, names, n);
}

#define MINI_MAIN(LIST)                                                                            \
	int main(int argc, char **argv)                                                            \
	{                                                                                          \
		static void (*const functions[])(void) = {LIST(MINI_FUNCTION)};                    \
		static const char *const names[] = {LIST(MINI_NAME)};                              \
                                                                                                   \
		if (argc > 1)                                                                      \
			cmocka_set_test_filter(argv[1]);                                           \
		return run_everywhere(functions, names, ARRAY_SIZE(functions));                    \
	}
#define MINI_FUNCTION(name) name,
#define MINI_NAME(name) #name,

#endif
