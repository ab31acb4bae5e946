// SPDX-License-Identifier: MIT
// A program whose threads get a signal every few microseconds (a profiler's, say), while their pages
// move. Its handler stores to managed memory; the thread that it interrupts does the same, and hands
// managed buffers to system calls where these may touch a page that moves. Nothing is lost, and it
// all goes on: a system call that faults with a signal pending cannot sleep and faults as fast as it
// is answered, and what moves its page must get through all the same (machine/uffd_pool.c).
//
// As docs/safety.md wants it, no thread is inside the library when the handler runs. A case that
// this host does not offer is skipped; under ThreadSanitizer, all are: it keeps signals back and
// calls their handler when the thread next calls something that it watches, pthread_sigmask() in
// the SIGSEGV handler for one.
#include "words.h"

#include "base/compiler.h"

#include <godwit/machine.h>
#include <godwit/migrate.h>

#include <errno.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/time.h>

#define PAGES 5u // the thread's own word, the handler's, and what goes through a pipe
#define DROPPED 4u // what goes there is thrown away, so that a system call is the first to touch it
#define ROUNDS 200u
#define EVERY_US 50
#define BYTES 512u // never a part of it: less than PIPE_BUF

static struct world {
	struct gw_machine *machine;
	struct gw_task *task;
	char *at;
	int pipe[2];
	bool syscalls;
	atomic_bool stop;
	_Atomic uint64_t alarms; // what the handler's word is
} world;

static _Atomic uint64_t *word_of(unsigned page)
{
	return (_Atomic uint64_t *)(world.at + page * GW_PAGE_SIZE);
}

// One more than it was, and it was what it should be.
static void count(unsigned page, uint64_t *n)
{
	hold(atomic_load_explicit(word_of(page), memory_order_relaxed) == *n, "a store was lost");
	atomic_store_explicit(word_of(page), ++*n, memory_order_relaxed);
}

static void on_alarm(int sig)
{
	uint64_t n = atomic_load_explicit(&world.alarms, memory_order_relaxed);
	int saved = errno;

	(void)sig;
	count(1, &n);
	atomic_store_explicit(&world.alarms, n, memory_order_relaxed);
	errno = saved;
}

static void through_the_pipe(uint64_t n)
{
	char *from = world.at + 2 * GW_PAGE_SIZE, *to = world.at + 3 * GW_PAGE_SIZE;
	char *dropped = world.at + DROPPED * GW_PAGE_SIZE;

	for (unsigned i = 0; i < BYTES / 8; i++)
		atomic_store_explicit(&word_of(2)[i], n + i, memory_order_relaxed);
	hold(write(world.pipe[1], from, BYTES) == BYTES, "write");
	hold(read(world.pipe[0], to, BYTES) == BYTES, "read");
	hold(write(world.pipe[1], from, BYTES) == BYTES, "write");
	hold(read(world.pipe[0], dropped, BYTES) == BYTES, "read");
	for (unsigned i = 0; i < BYTES / 8; i++)
		hold(atomic_load_explicit(&word_of(3)[i], memory_order_relaxed) == n + i,
			"what went through the pipe is wrong");
}

static void mask_alarm(int how)
{
	sigset_t alarm;

	sigemptyset(&alarm);
	sigaddset(&alarm, SIGALRM);
	pthread_sigmask(how, &alarm, NULL);
}

static void *work(void *arg)
{
	uint64_t n = 0;

	(void)arg;
	hold(!gw_task_attach(world.task), "attach");
	mask_alarm(SIG_UNBLOCK);
	while (!atomic_load(&world.stop)) {
		count(0, &n);
		if (world.syscalls)
			through_the_pipe(n);
	}
	mask_alarm(SIG_BLOCK);
	hold(!gw_task_attach(NULL), "detach");
	return NULL;
}

static void move_all(int node)
{
	int nodes[PAGES] = {node, node, node, node, node}, status[PAGES];
	uint64_t pages[PAGES];

	for (unsigned i = 0; i < PAGES; i++)
		pages[i] = (uint64_t)(uintptr_t)world.at + i * GW_PAGE_SIZE;
	assert_true(gw_move_pages(world.task, 0, PAGES, pages, nodes, status, GW_MPOL_MF_MOVE) >=
		    0);
}

static void open_world(enum gw_blocker blocker)
{
	const uint64_t bytes[2] = {16 << 20, 16 << 20};
	const struct gw_machine_config config = {.size = sizeof config, .nr_nodes = 2,
		.node_bytes = bytes, .backend = GW_BACKEND_REWIRE, .blocker = blocker};
	void *p;

	if (gw_machine_create(&config, &world.machine)) {
		print_message("not here: %s\n", gw_machine_error());
		skip();
	}
	world.syscalls = gw_machine_syscall_safe(world.machine);
	atomic_store(&world.stop, false);
	atomic_store(&world.alarms, 0);
	assert_int_equal(gw_task_create(world.machine, NULL, &world.task), 0);
	assert_int_equal(gw_alloc(world.task, PAGES * GW_PAGE_SIZE, &p), 0);
	world.at = p;
	assert_int_equal(pipe(world.pipe), 0);
}

static void close_world(void)
{
	close(world.pipe[0]);
	close(world.pipe[1]);
	gw_task_exit(world.task);
	gw_machine_destroy(world.machine);
}

static void signals_while_pages_move(enum gw_blocker blocker)
{
	const struct sigaction action = {.sa_handler = on_alarm, .sa_flags = SA_RESTART};
	const struct itimerval every = {{0, EVERY_US}, {0, EVERY_US}}, never = {{0, 0}, {0, 0}};
	pthread_t thread;

	open_world(blocker);
	assert_int_equal(sigaction(SIGALRM, &action, NULL), 0);
	mask_alarm(SIG_BLOCK); // here, and in the threads made here
	assert_int_equal(setitimer(ITIMER_REAL, &every, NULL), 0);
	assert_int_equal(pthread_create(&thread, NULL, work, NULL), 0);
	for (unsigned i = 0; i < ROUNDS; i++) {
		move_all((int)i % 2);
		for (unsigned k = 0; k < 10; k++)
			assert_int_equal(gw_advise(world.task,
						 (uint64_t)(uintptr_t)world.at + DROPPED * GW_PAGE_SIZE,
						 GW_PAGE_SIZE, MADV_DONTNEED),
				0);
	}
	atomic_store(&world.stop, true);
	pthread_join(thread, NULL);
	assert_int_equal(setitimer(ITIMER_REAL, &never, NULL), 0);
	close_world();
}

static void signal_blocker(void **state)
{
	(void)state;
	signals_while_pages_move(GW_BLOCKER_SIGNAL);
}

static void userfaultfd_blocker(void **state)
{
	(void)state;
	signals_while_pages_move(GW_BLOCKER_USERFAULTFD);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(signal_blocker),
		cmocka_unit_test(userfaultfd_blocker),
	};

	if (HAVE_TSAN) {
		printf("not under ThreadSanitizer: it moves handlers to other places\n");
		return SKIP_TEST;
	}
	return cmocka_run_group_tests(tests, NULL, NULL);
}
