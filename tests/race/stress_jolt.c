// SPDX-License-Identifier: MIT
// The jolter of the stress program: it makes rare races frequent. Two steps that lie nanoseconds
// apart are seen by others only if the thread that makes them is stopped between them, which a
// kernel hardly ever does. Here it happens thousands of times a second, to every thread of the
// process, the engine's own among them, wherever they are:
//
//   stop     by ptrace, whatever signals the thread blocks: also in the SIGSEGV handler, in threads
//            of the engine and in code of a sanitizer. What it was about to get it gets afterwards.
//   signal   to a handler that sleeps: as a program's own signals come, it also interrupts what the
//            thread waits for.
//
// How long is drawn evenly over the orders of magnitude from 1 us to 16 ms: what two others must do
// meanwhile takes them a few milliseconds, mostly.
//
// This is done by child processes, made before there is any other thread: a thread cannot trace its
// neighbours. A traced thread has one tracer, so two jolters get in each other's way rarely, and
// then one does without. They end when told to, or with the program. Whoever ends with a thread
// stopped lets it go, but takes from it the signal that it was about to get: hence the telling.
//
// What can fail: ptrace may be forbidden here; then there are signals only. The handler touches no
// managed memory, and nothing but its own stack.
#include "stress.h"

#include <dirent.h>
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define JOLTERS 2u
#define MAX_THREADS 256u
#define LIST_IS_GOOD_FOR 200u // jolts; threads come and go
#define SIGNAL SIGUSR2

// In memory that parent and children share.
static struct shared {
	atomic_bool stop;
	_Atomic uint64_t stops, signals;
} *shared;

static pid_t jolter[JOLTERS];

static void sleep_us(unsigned us)
{
	struct timespec t = {.tv_sec = us / 1000000, .tv_nsec = us % 1000000 * 1000l};

	nanosleep(&t, NULL);
}

// ---- In the program

static void on_jolt(int sig, siginfo_t *info, void *context)
{
	int saved = errno;

	(void)sig;
	(void)context;
	sleep_us((unsigned)info->si_value.sival_int);
	errno = saved;
}

// ---- In a jolter

struct list {
	pid_t process, tid[MAX_THREADS];
	unsigned nr;
};

static void list_threads(struct list *list)
{
	struct dirent *entry;
	char path[64];
	DIR *dir;

	snprintf(path, sizeof path, "/proc/%d/task", list->process);
	dir = opendir(path);
	list->nr = 0;
	while (dir && list->nr < MAX_THREADS && (entry = readdir(dir)))
		if (atoi(entry->d_name) > 0)
			list->tid[list->nr++] = atoi(entry->d_name);
	if (dir)
		closedir(dir);
}

static void send_signal(pid_t process, pid_t tid, unsigned us)
{
	siginfo_t info = {.si_signo = SIGNAL, .si_code = SI_QUEUE};

	info.si_pid = getpid();
	info.si_uid = getuid();
	info.si_value.sival_int = (int)us;
	if (!syscall(SYS_rt_tgsigqueueinfo, process, tid, SIGNAL, &info))
		atomic_fetch_add(&shared->signals, 1);
}

static void stop_thread(pid_t tid, unsigned us)
{
	int status, signal = 0;

	if (ptrace(PTRACE_SEIZE, tid, NULL, NULL))
		return;
	if (ptrace(PTRACE_INTERRUPT, tid, NULL, NULL) || waitpid(tid, &status, __WALL) != tid ||
		!WIFSTOPPED(status))
		return; // it has ended
	sleep_us(us);
	if (status >> 16 != PTRACE_EVENT_STOP)
		signal = WSTOPSIG(status); // one that came at that moment
	if (!ptrace(PTRACE_DETACH, tid, NULL, (void *)(intptr_t)signal))
		atomic_fetch_add(&shared->stops, 1);
}

static void jolt(struct actor *self, const struct list *list)
{
	unsigned us = below(self, 2u << below(self, 14));
	pid_t tid = list->tid[below(self, list->nr)];

	if (chance(self, 50))
		send_signal(list->process, tid, us);
	else
		stop_thread(tid, us);
}

static void jolter_main(pid_t process, unsigned number, unsigned mean_us)
{
	struct actor self = {.name = "jolt", .random = stress.seed * 1000 + 900 + number};
	struct list list = {.process = process};

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	prctl(PR_SET_TIMERSLACK, 1);
	for (unsigned i = 0; getppid() == process && !atomic_load(&shared->stop); i++) {
		if (i % LIST_IS_GOOD_FOR == 0)
			list_threads(&list);
		sleep_us(below(&self, 2 * mean_us));
		if (list.nr)
			jolt(&self, &list);
	}
	_exit(0);
}

// ---- Interface

void jolt_start(unsigned mean_us)
{
	struct sigaction action = {.sa_sigaction = on_jolt,
		.sa_flags = SA_SIGINFO | SA_RESTART | SA_ONSTACK};
	struct actor starter = {.name = "jolt"};
	pid_t process = getpid();

	shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1,
		0);
	if (shared == MAP_FAILED || sigaction(SIGNAL, &action, NULL))
		fail(&starter, "mmap, sigaction");
	prctl(PR_SET_PTRACER, PR_SET_PTRACER_ANY); // where only parents may trace
	for (unsigned i = 0; i < JOLTERS; i++) {
		jolter[i] = fork();
		if (jolter[i] < 0)
			fail(&starter, "fork");
		if (jolter[i] == 0)
			jolter_main(process, i, mean_us);
	}
}

void jolt_stop(void)
{
	if (!shared)
		return;
	atomic_store(&shared->stop, true);
	for (unsigned i = 0; i < JOLTERS; i++)
		while (waitpid(jolter[i], NULL, 0) < 0 && errno == EINTR)
			;
	printf("jolts: %lu stops, %lu signals\n", atomic_load(&shared->stops),
		atomic_load(&shared->signals));
	munmap(shared, sizeof *shared);
	shared = NULL;
}
