// SPDX-License-Identifier: MIT
// A handler of the program's that is for one call (SA_RESETHAND), with ours over it: it is called
// once, whatever thread comes first, and then the default action is taken. Each case is played in
// children, which may end by the signal.
#include "unit.h"

#include "machine/sigsegv.h"

#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#define ROUNDS 400
#define THREADS 2

static _Atomic unsigned *calls; // of the handler, shared with the children
static sigjmp_buf escape;
static pthread_barrier_t both;
static char *nothing; // may not be touched; a byte for each thread

static void crash(unsigned thread)
{
	((volatile char *)nothing)[thread] = 1;
}

static void jump_out(int sig maybe_unused)
{
	atomic_fetch_add(calls, 1);
	siglongjmp(escape, 1);
}

static void stay(int sig maybe_unused)
{
	if (atomic_fetch_add(calls, 1))
		_exit(1);
	for (;;)
		pause(); // until the other's signal ends the process
}

static void put_once(void (*handler)(int))
{
	const struct sigaction once = {.sa_handler = handler,
		.sa_flags = (int)SA_RESETHAND | SA_NODEFER};

	if (sigaction(SIGSEGV, &once, NULL))
		_exit(2);
}

static void install(void)
{
	if (sigsegv_install())
		_exit(3);
}

// What a child ended with: minus the signal, or its status.
static int played(void (*play)(void))
{
	pid_t child;
	int status;

	atomic_store(calls, 0);
	fflush(NULL);
	child = fork();
	assert_true(child >= 0);
	if (!child) {
		const struct rlimit none = {0, 0};

		setrlimit(RLIMIT_CORE, &none);
		play();
		_exit(0);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	return WIFSIGNALED(status) ? -WTERMSIG(status) : WEXITSTATUS(status);
}

static void crash_twice(void)
{
	put_once(jump_out);
	install();
	(void)sigsetjmp(escape, 1); // the second time it does not come back
	crash(0);
}

static void *crash_with_the_other(void *arg)
{
	pthread_barrier_wait(&both);
	crash(arg != NULL);
	return arg;
}

static void crash_at_once(void)
{
	pthread_t thread;

	put_once(stay);
	install();
	pthread_barrier_init(&both, NULL, THREADS);
	if (pthread_create(&thread, NULL, crash_with_the_other, nothing))
		_exit(4);
	crash_with_the_other(NULL);
}

static struct fork_guarded *a_machine(void)
{
	static struct fork_guarded guard;

	write_lock(&host_fork_lock);
	fork_guard_add(&guard);
	write_unlock(&host_fork_lock);
	return &guard;
}

// Spent, it is not put back; put there anew, it is.
static void end_and_begin_again(void)
{
	struct fork_guarded *guard = a_machine();
	struct sigaction now;

	put_once(jump_out);
	install();
	if (!sigsetjmp(escape, 1))
		crash(0);
	sigsegv_uninstall(guard);
	if (sigaction(SIGSEGV, NULL, &now) || now.sa_handler != SIG_DFL)
		_exit(5);
	put_once(jump_out);
	install();
	if (!sigsetjmp(escape, 1))
		crash(0);
	sigsegv_uninstall(guard);
}

// ---- Cases

static void once_in_one_thread(void **state maybe_unused)
{
	assert_int_equal(played(crash_twice), -SIGSEGV);
	assert_int_equal(atomic_load(calls), 1);
}

static void once_in_two_threads(void **state maybe_unused)
{
	for (unsigned n = 0; n < ROUNDS; n++) {
		assert_int_equal(played(crash_at_once), -SIGSEGV);
		assert_true(atomic_load(calls) <= 1); // 0: the other's signal was faster
	}
}

static void once_more_when_put_again(void **state maybe_unused)
{
	assert_int_equal(played(end_and_begin_again), 0);
	assert_int_equal(atomic_load(calls), 2);
}

static int setup(void **state maybe_unused)
{
	calls = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	nothing = mmap(NULL, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	return calls == MAP_FAILED || nothing == MAP_FAILED;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(once_in_one_thread),
		cmocka_unit_test(once_in_two_threads),
		cmocka_unit_test(once_more_when_put_again),
	};

	return cmocka_run_group_tests(tests, setup, NULL);
}
