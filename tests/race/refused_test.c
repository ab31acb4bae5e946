// SPDX-License-Identifier: MIT
// A machine without a free page: the write to a page that is shared since a fork cannot be served. The
// writer gets SIGBUS, once for each of its writes; the threads that read that page all the while, by
// pointer and (where those are safe) by system call, get nothing but its contents. When there is
// memory the write succeeds.
#include "../unit/unit.h"

#include <godwit/machine.h>
#include <godwit/space.h>
#include <godwit/stats.h>

#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdatomic.h>

#define PAGE GW_PAGE_SIZE
#define READERS 2
#define WRITES 40u
#define VALUE 0x11223344u

static _Thread_local sigjmp_buf escape;
static _Thread_local volatile sig_atomic_t expected;
static _Thread_local volatile int code;
static _Thread_local void *volatile at;
static atomic_bool stop;

struct reader {
	pthread_t thread;
	struct gw_task *task;
	volatile uint64_t *word;
	bool calls;
	unsigned long wrong;
};

static void on_signal(int sig, siginfo_t *info, void *context)
{
	(void)context;
	if (!expected)
		_exit(100 + sig);
	expected = 0;
	code = info->si_code;
	at = info->si_addr;
	siglongjmp(escape, sig);
}

static int write_word(volatile uint64_t *word, uint64_t value)
{
	int sig = sigsetjmp(escape, 1);

	if (sig)
		return sig;
	expected = 1;
	*word = value;
	expected = 0;
	return 0;
}

static void *reader_main(void *arg)
{
	struct reader *r = arg;
	uint64_t seen;
	int fd[2];

	if (gw_task_attach(r->task) || pipe(fd))
		abort();
	while (!stop) {
		r->wrong += *r->word != VALUE;
		if (r->calls)
			r->wrong += write(fd[1], (const void *)r->word, 8) != 8 ||
				    read(fd[0], &seen, 8) != 8 || seen != VALUE;
	}
	close(fd[0]);
	close(fd[1]);
	(void)!gw_task_attach(NULL);
	return NULL;
}

// Touches new memory until there is none.
static void *fill(struct gw_task *task, uint64_t bytes)
{
	void *p;

	assert_int_equal(gw_alloc(task, bytes, &p), 0);
	for (uint64_t i = 0; i < bytes; i += PAGE) {
		int sig = write_word((volatile uint64_t *)((char *)p + i), i);

		if (sig) {
			assert_int_equal(sig, SIGBUS);
			return p;
		}
	}
	fail_msg("there was memory for everything");
	return NULL;
}

static void refused_writer(enum gw_blocker blocker)
{
	const struct sigaction action = {.sa_sigaction = on_signal, .sa_flags = SA_SIGINFO};
	const struct gw_machine_config config = {.size = sizeof config, .nr_nodes = 1,
		.node_bytes = (const uint64_t[]){8 << 20}, .backend = GW_BACKEND_REWIRE,
		.blocker = blocker};
	struct reader r[READERS] = {0};
	struct gw_machine *machine;
	struct gw_task *task, *child;
	volatile uint64_t *word;
	void *p, *filler;

	sigaction(SIGSEGV, &action, NULL);
	sigaction(SIGBUS, &action, NULL);
	if (gw_machine_create(&config, &machine)) {
		print_message("not here: %s\n", gw_machine_error());
		skip();
	}
	assert_int_equal(gw_tunable_set(machine, "sys/kernel/mm/transparent_hugepage/enabled",
				 "never"), 0);
	assert_int_equal(gw_task_create(machine, NULL, &task), 0);
	assert_int_equal(gw_task_attach(task), 0);
	assert_int_equal(gw_alloc(task, PAGE, &p), 0);
	word = p;
	for (unsigned i = 0; i <= READERS; i++)
		word[8 * i] = VALUE;
	assert_int_equal(gw_task_fork(task, &child), 0);
	filler = fill(task, 16 << 20);
	stop = false;
	for (unsigned i = 0; i < READERS; i++) {
		r[i].task = task;
		r[i].word = word + 8 * (i + 1); // each its own, for ThreadSanitizer
		r[i].calls = gw_machine_syscall_safe(machine);
		assert_int_equal(pthread_create(&r[i].thread, NULL, reader_main, &r[i]), 0);
	}
	for (unsigned i = 0; i < WRITES; i++) {
		assert_int_equal(write_word(word, i), SIGBUS);
		assert_int_equal(code, BUS_ADRERR);
		assert_ptr_equal(at, p);
	}
	stop = true;
	for (unsigned i = 0; i < READERS; i++) {
		pthread_join(r[i].thread, NULL);
		assert_int_equal(r[i].wrong, 0);
	}
	assert_int_equal(gw_unmap(task, (uintptr_t)filler, 16 << 20), 0);
	assert_int_equal(write_word(word, 7), 0);
	assert_int_equal(*word, 7);
	assert_int_equal(gw_task_attach(NULL), 0);
	gw_machine_check(machine);
	gw_task_exit(child);
	gw_task_exit(task);
	gw_machine_destroy(machine);
}

static void by_signal(void **state)
{
	(void)state;
	refused_writer(GW_BLOCKER_SIGNAL);
}

static void by_userfaultfd(void **state)
{
	(void)state;
	refused_writer(GW_BLOCKER_USERFAULTFD);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(by_signal),
		cmocka_unit_test(by_userfaultfd),
	};
	return cmocka_run_group_tests_name("refused", tests, NULL, NULL);
}
