// SPDX-License-Identifier: MIT
// Accesses for which there is no memory: SIGBUS for the thread whose access it was, once, and for
// nobody else, whatever he does with the page at that moment.
#include "mini_run.h"

#include "machine/host_calls.h"

#include <pthread.h>
#include <sys/mman.h>
#include <sys/resource.h>

#define ROUNDS 200u
#define OTHERS 2
#define PAGE 3u

static atomic_bool stop, scarce;
static _Atomic pid_t victim;

struct other {
	pthread_t thread;
	unsigned byte;		 // of the page: each thread has its own
	bool writes, calls;	 // now and then; system calls too
	unsigned long signals;	 // of accesses that are permitted
	unsigned long bad_calls; // system calls that failed
};

static bool no_memory_to_write(const struct mmu_fault *f, size_t page)
{
	return scarce && page == PAGE && f->access == MMU_ACCESS_WRITE;
}

static bool no_memory_for_victim(const struct mmu_fault *f, size_t page)
{
	return scarce && page == PAGE && f->tid == victim;
}

static bool no_memory_at_all(const struct mmu_fault *f maybe_unused, size_t page)
{
	return scarce && page == PAGE;
}

static void memory_by(struct mini *m, bool (*no_memory)(const struct mmu_fault *, size_t page))
{
	mutex_lock(&m->lock);
	m->no_memory = no_memory;
	mutex_unlock(&m->lock);
}

static volatile uint8_t *byte_at(unsigned byte)
{
	return mini_byte(&mini, PAGE) + byte;
}

// The signal that the access raised, 0 if none.
static int touch(unsigned byte, bool write)
{
	caught = 0;
	expecting = true;
	if (!sigsetjmp(escape, 1)) {
		if (write)
			*byte_at(byte) = 1;
		else
			(void)*byte_at(byte);
	}
	expecting = false;
	if (caught)
		assert_ptr_equal(caught_at, byte_at(byte));
	return caught;
}

static void assert_refused(bool write)
{
	assert_int_equal(touch(0, write), SIGBUS);
	assert_int_equal(caught_code, BUS_ADRERR);
}

static void *other_main(void *arg)
{
	struct other *o = arg;
	char byte;
	int fd[2];

	if (mmu_thread_enter(mini.mmu) || pipe(fd))
		abort();
	for (unsigned n = 0; !stop; n++) {
		o->signals += touch(o->byte, o->writes && n % 4 == 0) != 0;
		if (o->calls)
			o->bad_calls += write(fd[1], (void *)byte_at(o->byte), 1) != 1 ||
					read(fd[0], &byte, 1) != 1;
	}
	close(fd[0]);
	close(fd[1]);
	mmu_thread_leave(mini.mmu);
	return NULL;
}

static void others_begin(struct other *o, bool write, bool calls)
{
	stop = false;
	for (unsigned i = 0; i < OTHERS; i++) {
		o[i] = (struct other){.byte = 64 * (i + 1), .writes = write, .calls = calls};
		assert_int_equal(pthread_create(&o[i].thread, NULL, other_main, &o[i]), 0);
	}
}

static void others_end(struct other *o)
{
	stop = true;
	for (unsigned i = 0; i < OTHERS; i++) {
		pthread_join(o[i].thread, NULL);
		assert_int_equal(o[i].signals, 0);
		assert_int_equal(o[i].bad_calls, 0);
	}
}

static void readers_of_a_page_that_cannot_be_copied(void)
{
	struct other o[OTHERS];

	memory_by(&mini, no_memory_to_write);
	scarce = true;
	mini_fill(&mini, PAGE, 1, 0, MMU_READ);
	others_begin(o, false, true);
	for (unsigned n = 0; n < ROUNDS; n++)
		assert_refused(true);
	scarce = false;
	assert_int_equal(touch(0, true), 0);
	others_end(o);
	assert_int_equal(mini.copies, 1);
}

static void *mover_main(void *arg maybe_unused)
{
	unsigned node = 1;

	while (!stop) {
		if (mini_move(&mini, PAGE, 1, node, false))
			abort();
		node = !node;
	}
	return NULL;
}

static void while_it_moves(void)
{
	struct other o[OTHERS];
	pthread_t mover;

	memory_by(&mini, no_memory_to_write);
	scarce = true;
	mini_fill(&mini, PAGE, 1, 0, MMU_READ);
	others_begin(o, false, syscall_safe());
	assert_int_equal(pthread_create(&mover, NULL, mover_main, NULL), 0);
	for (unsigned n = 0; n < ROUNDS; n++)
		assert_refused(true);
	others_end(o);
	pthread_join(mover, NULL);
	scarce = false;
	assert_int_equal(touch(0, true), 0);
}

// There is memory for a page to read (Linux has its page of zeros), but none to write.
static void readers_of_an_absent_page(void)
{
	struct other o[OTHERS];

	memory_by(&mini, no_memory_to_write);
	scarce = true;
	assert_refused(true);
	others_begin(o, false, syscall_safe());
	for (unsigned n = 0; n < ROUNDS; n++) {
		mini_clear(&mini, PAGE, 1);
		assert_refused(true);
	}
	others_end(o);
}

// The memory that one thread's policy denies it others may have: they bring the page while the
// refusal is on its way, or wait for its end.
static void others_who_get_the_page(void)
{
	struct other o[OTHERS];
	unsigned refused = 0;

	memory_by(&mini, no_memory_for_victim);
	victim = host_tid();
	scarce = true;
	assert_refused(true);
	assert_refused(false);
	others_begin(o, true, false);
	for (unsigned n = 0; n < ROUNDS; n++) {
		int sig;

		mini_clear(&mini, PAGE, 1);
		sig = touch(0, n & 1);
		assert_true(!sig || (sig == SIGBUS && caught_code == BUS_ADRERR));
		refused += sig != 0;
	}
	others_end(o);
	print_message("%s: %u of %u refused\n", blocker_name, refused, ROUNDS);
}

// The refusal of a system call is its result; the thread's next access is another one.
static void a_system_call_takes_its_refusal_along(void)
{
	int fd[2];

	assert_int_equal(pipe(fd), 0);
	memory_by(&mini, no_memory_at_all);
	for (unsigned n = 0; n < 20; n++) {
		scarce = true;
		assert_int_equal(write(fd[1], "x", 1), 1);
		assert_int_equal(read(fd[0], (void *)mini_at(&mini, PAGE), 1), -1);
		assert_int_equal(errno, EFAULT);
		scarce = false;
		assert_int_equal(touch(0, n & 1), 0);
		mini_clear(&mini, PAGE, 1);
	}
	close(fd[0]);
	close(fd[1]);
}

// Nobody goes on after an access that nothing came of.
static void child_main(unsigned how)
{
	const struct rlimit none = {0, 0};
	struct sigaction act = {.sa_handler = how ? SIG_IGN : SIG_DFL};
	sigset_t bus;

	setrlimit(RLIMIT_CORE, &none);
	if (mini_open(&mini, &config, PAGES << PAGE_SHIFT))
		_exit(77);
	if (how < 2)
		sigaction(SIGBUS, &act, NULL);
	sigemptyset(&bus);
	sigaddset(&bus, SIGBUS);
	pthread_sigmask(how == 2 ? SIG_BLOCK : SIG_UNBLOCK, &bus, NULL);
	memory_by(&mini, no_memory_at_all);
	scarce = true;
	*mini_byte(&mini, PAGE) = 1;
	_exit(1);
}

static void who_does_not_want_it_ends(void)
{
	int status;

	if (HAVE_TSAN) // it allows a forked child no threads
		return;
	for (unsigned how = 0; how < 3; how++) {
		pid_t pid = fork();

		if (!pid)
			child_main(how);
		assert_int_equal(waitpid(pid, &status, 0), pid);
		assert_true(WIFSIGNALED(status));
		assert_int_equal(WTERMSIG(status), SIGBUS);
	}
}

static void one_machine_of_two(void)
{
	static struct mini second;

	assert_int_equal(mini_open(&second, &config, PAGES << PAGE_SHIFT), 0);
	scarce = true;
	memory_by(&mini, no_memory_at_all);
	memory_by(&second, no_memory_at_all);
	assert_refused(true);
	mini_close(&second);
	assert_refused(true);
	scarce = false;
	assert_int_equal(touch(0, true), 0);
}

// A file of the program's that became shorter.
static void foreign_sigbus_reaches_the_program(void)
{
	volatile uint8_t *p;
	int fd;

	assert_int_equal(host_memfd("short", 0, &fd), 0);
	p = mmap(NULL, PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	assert_true(p != MAP_FAILED);
	caught = 0;
	expecting = true;
	if (!sigsetjmp(escape, 1))
		*p = 1;
	assert_int_equal(caught, SIGBUS);
	assert_int_equal(caught_code, BUS_ADRERR);
	assert_ptr_equal(caught_at, (void *)p);
	munmap((void *)p, PAGE_SIZE);
	close(fd);
}

// Nothing there can be executed: the program's own handler hears of it, and at once.
static void a_jump_into_it_reaches_the_program(void)
{
	void (*jump)(void) = (void (*)(void))mini_at(&mini, PAGE);

	mini_fill(&mini, PAGE, 1, 0, MMU_WRITE);
	caught = 0;
	expecting = true;
	if (!sigsetjmp(escape, 1))
		jump();
	assert_int_equal(caught, SIGSEGV);
	assert_int_equal(caught_code, SEGV_ACCERR);
}

// ---- Handlers of the program, put over the machine's

static struct sigaction below; // what was in force before
static volatile sig_atomic_t above, bus_in_handler, open_signals;

static void pass_on(int sig, siginfo_t *info, void *context)
{
	above++;
	below.sa_sigaction(sig, info, context);
	above--;
}

static void note_bus(int sig, siginfo_t *info, void *context)
{
	bus_in_handler |= above != 0;
	catcher(sig, info, context);
}

static bool no_memory_and_no_signals(const struct mmu_fault *f maybe_unused, size_t page)
{
	sigset_t now;

	pthread_sigmask(SIG_SETMASK, NULL, &now);
	open_signals |= !sigismember(&now, SIGUSR1) || !sigismember(&now, SIGBUS);
	return page == PAGE;
}

// A handler that blocks nothing and calls ours: ours runs with all signals blocked, and the SIGBUS
// comes when both have returned, at the access.
static void under_a_handler_that_blocks_nothing(void)
{
	struct sigaction over = {.sa_sigaction = pass_on, .sa_flags = SA_SIGINFO | SA_ONSTACK},
			 bus = {.sa_sigaction = note_bus, .sa_flags = SA_SIGINFO};

	above = bus_in_handler = open_signals = 0;
	memory_by(&mini, no_memory_and_no_signals);
	sigaction(SIGSEGV, &over, &below);
	sigaction(SIGBUS, &bus, NULL);
	for (unsigned n = 0; n < 20; n++)
		assert_refused(true);
	sigaction(SIGSEGV, &below, NULL);
	assert_int_equal(bus_in_handler, 0);
	assert_int_equal(open_signals, 0);
}

static bool serves(void)
{
	return touch(0, true) == 0;
}

// When a machine has ended somebody else's handler may be in force, which calls ours or does not:
// the next machine's is put over it, and nobody goes round in circles.
static void a_later_machine_has_its_handler(void)
{
	struct sigaction passes = {.sa_sigaction = pass_on, .sa_flags = SA_SIGINFO | SA_ONSTACK},
			 catches = {.sa_sigaction = catcher, .sa_flags = SA_SIGINFO};
	const struct sigaction *const over[] = {&passes, &catches, &passes};

	for (size_t i = 0; i < ARRAY_SIZE(over); i++) {
		struct sigaction ours;

		assert_true(serves());
		sigaction(SIGSEGV, over[i], &ours);
		if (over[i] == &passes)
			below = ours;
		mini_close(&mini);
		assert_int_equal(mini_open(&mini, &config, PAGES << PAGE_SHIFT), 0);
		assert_true(serves());
		mini_clear(&mini, PAGE, 1);
		a_jump_into_it_reaches_the_program();
		above = 0; // it was jumped out of
	}
}

static bool has_stack(const void *start)
{
	stack_t now;

	return !sigaltstack(NULL, &now) && (now.ss_flags & SS_DISABLE ? NULL : now.ss_sp) == start;
}

static bool enters_and_leaves(const void *own)
{
	bool given, kept;

	if (mmu_thread_enter(mini.mmu) || mmu_thread_enter(mini.mmu))
		return false;
	given = !has_stack(own) && serves();
	mmu_thread_leave(mini.mmu);
	kept = !has_stack(own);
	mmu_thread_leave(mini.mmu);
	return given && kept && has_stack(own);
}

static void *with_a_small_stack(void *own)
{
	stack_t before, small = {.ss_sp = own, .ss_size = 32ul << 10};
	bool good = !sigaltstack(&small, &before) && enters_and_leaves(own) &&
		    enters_and_leaves(own) && !sigaltstack(&before, NULL);

	return good ? own : NULL;
}

// One that is too small is not lost: handlers of the program ran on it before, and shall again.
static void a_thread_gets_its_signal_stack_back(void)
{
	static char small[32ul << 10];
	pthread_t thread;
	void *good;

	assert_int_equal(pthread_create(&thread, NULL, with_a_small_stack, small), 0);
	pthread_join(thread, &good);
	assert_non_null(good);
}

static void *comes_and_goes(void *arg maybe_unused)
{
	struct mini own;

	for (unsigned n = 0; n < 300; n++) {
		if (mini_open(&own, &config, PMD_SIZE))
			abort();
		mini_close(&own);
	}
	stop = true;
	return NULL;
}

// The handler is put in force and taken back all the time: what is not its business reaches the
// program's in between, too.
static void faults_of_the_program_while_machines_come_and_go(void)
{
	static char page[2 * PAGE_SIZE];
	volatile char *shut = (char *)ALIGN_UP((uintptr_t)page, PAGE_SIZE);
	struct sigaction catches;
	pthread_t thread;

	mini_close(&mini);
	sigaction(SIGSEGV, NULL, &catches);
	signal(SIGSEGV, SIG_DFL); // what the next machine is put over, and no later one
	assert_int_equal(mini_open(&mini, &config, PMD_SIZE), 0);
	mini_close(&mini);
	sigaction(SIGSEGV, &catches, NULL);
	assert_int_equal(mprotect((void *)shut, PAGE_SIZE, PROT_NONE), 0);
	stop = false;
	assert_int_equal(pthread_create(&thread, NULL, comes_and_goes, NULL), 0);
	while (!stop) {
		caught = 0;
		expecting = true;
		if (!sigsetjmp(escape, 1))
			*shut = 1;
		assert_int_equal(caught, SIGSEGV);
	}
	pthread_join(thread, NULL);
	assert_int_equal(mprotect((void *)shut, PAGE_SIZE, PROT_READ | PROT_WRITE), 0);
	assert_int_equal(mini_open(&mini, &config, PAGES << PAGE_SHIFT), 0);
}

// A child's machine, when the child has handlers of its own.
static void a_child_has_its_handler(void)
{
	pid_t pid;
	int status;

	if (HAVE_TSAN) // which ends a child that starts threads
		return;
	pid = fork();
	if (pid == 0) {
		struct mini own;

		signal(SIGSEGV, SIG_DFL);
		if (mini_open(&own, &config, PAGES << PAGE_SHIFT))
			_exit(2);
		*mini_byte(&own, PAGE) = 1;
		mini_close(&mini); // the parent's, which is dead here
		*mini_byte(&own, PAGE + 1) = 1;
		mini_close(&own);
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	assert_true(serves());
}

#define ALL_TESTS(X)                                                                               \
	X(readers_of_a_page_that_cannot_be_copied)                                                 \
	X(while_it_moves)                                                                          \
	X(readers_of_an_absent_page)                                                               \
	X(others_who_get_the_page)                                                                 \
	X(a_system_call_takes_its_refusal_along)                                                   \
	X(who_does_not_want_it_ends)                                                               \
	X(one_machine_of_two)                                                                      \
	X(foreign_sigbus_reaches_the_program)                                                      \
	X(a_jump_into_it_reaches_the_program)                                                      \
	X(under_a_handler_that_blocks_nothing)                                                     \
	X(a_later_machine_has_its_handler)                                                         \
	X(a_thread_gets_its_signal_stack_back)                                                     \
	X(faults_of_the_program_while_machines_come_and_go)                                        \
	X(a_child_has_its_handler)

MINI_MAIN(ALL_TESTS)
