// SPDX-License-Identifier: MIT
// Looks after a command that takes long.
//
// The player calls the machine synchronously, so somebody else has to look at the clock. One
// thread wakes four times a second while a story is played:
//
//   1 s   the command and its time appear on stderr, if that is a terminal; so does what is no
//         command (building a large machine, closing its books), which has no limit
//   limit the machine is asked to cancel; the callback returns -EINTR and the story ends; those
//         behind it are played all the same, unlike after a signal
//   limit + 10 s, or a second Ctrl-C five seconds after the first: the process ends with status 1,
//         since nothing else can be done about a machine that does not return (a host machine
//         has a guard of its own that restores the host's settings then)
//
// SIGINT and SIGTERM are blocked everywhere and taken here, so that a story that is interrupted
// still tears its machine down. Fields are under the mutex M, but what never changes.

#include "lab/watch.h"

#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#define TICK_MS	      250
#define PROGRESS_MS   1000
#define GRACE_MS      10000
#define INSIST_MS     5000

struct watch {
	struct lab_machine *machine;
	unsigned limit_ms; // 0: none
	bool progress;
	pthread_t thread;
	sem_t runs; // the thread: a fork() finds it past what is done for a new one
	pthread_mutex_t mutex;
	const struct command *command; // M: that runs now, or NULL
	const char *phase;	       // M: what else runs now, or NULL
	long long since_ms;	       // M
	long long cancelled_ms;	       // M: when it was asked to cancel, 0: not
	bool shown;		       // M: something is on the terminal's line
	bool interrupted;	       // M: the story should end
	bool signalled;		       // M: and so should the run
	bool stop;		       // M
};

static long long now_ms(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000LL + t.tv_nsec / 1000000;
}

static void watched_signals(sigset_t *set)
{
	sigemptyset(set);
	sigaddset(set, SIGINT);
	sigaddset(set, SIGTERM);
}

void watch_block_signals(void)
{
	sigset_t set;
	watched_signals(&set);
	pthread_sigmask(SIG_BLOCK, &set, NULL);
}

static void give_up(struct watch *w)
{
	fprintf(stderr,
		"\ngodwit: line %u, '%s', does not end; giving up, no other story is played\n",
		w->command->line, w->command->source);
	if (w->machine->seeded)
		fprintf(stderr, "godwit: it was played with --seed %llu\n",
			(unsigned long long)w->machine->seed);
	_exit(1);
}

static void cancel(struct watch *w, long long now)
{
	w->interrupted = true;
	if (!w->command)
		return;
	if (w->cancelled_ms) {
		if (now - w->cancelled_ms >= INSIST_MS)
			give_up(w);
		return;
	}
	w->cancelled_ms = now;
	if (w->machine->ops->cancel)
		w->machine->ops->cancel(w->machine);
}

static void look(struct watch *w, bool signalled)
{
	long long now = now_ms(), took = now - w->since_ms;
	w->signalled |= signalled;
	if (signalled)
		cancel(w, now);
	if (w->phase && w->progress && took >= PROGRESS_MS) {
		fprintf(stderr, "\r\033[K      %.60s  %lld s", w->phase, took / 1000);
		w->shown = true;
	}
	if (!w->command)
		return;
	if (w->limit_ms && took >= w->limit_ms && !w->cancelled_ms)
		cancel(w, now);
	if (w->cancelled_ms && now - w->cancelled_ms >= GRACE_MS)
		give_up(w);
	if (w->progress && took >= PROGRESS_MS) {
		fprintf(stderr, "\r\033[K%4u  %.60s  %lld s", w->command->line, w->command->source,
			took / 1000);
		w->shown = true;
	}
}

static void *watch_thread(void *arg)
{
	struct watch *w = arg;
	sigset_t set;
	watched_signals(&set);
	sem_post(&w->runs);
	for (bool stop = false; !stop;) {
		struct timespec tick = {0, TICK_MS * 1000000L};
		int signal = sigtimedwait(&set, NULL, &tick);
		pthread_mutex_lock(&w->mutex);
		stop = w->stop;
		if (!stop)
			look(w, signal > 0);
		pthread_mutex_unlock(&w->mutex);
	}
	return NULL;
}

struct watch *watch_start(struct lab_machine *machine, unsigned limit_s, bool progress)
{
	struct watch *w = calloc(1, sizeof(*w));
	if (!w)
		return NULL;
	w->machine = machine;
	w->limit_ms = limit_s * 1000;
	w->progress = progress && isatty(STDERR_FILENO);
	pthread_mutex_init(&w->mutex, NULL);
	sem_init(&w->runs, 0, 0);
	sigset_t all, before;
	sigfillset(&all); // for the new thread; it takes only what it waits for
	pthread_sigmask(SIG_SETMASK, &all, &before);
	int err = pthread_create(&w->thread, NULL, watch_thread, w);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	while (!err && sem_wait(&w->runs) && errno == EINTR)
		;
	if (!err)
		return w;
	free(w);
	return NULL;
}

static void begin(struct watch *w, const struct command *command, const char *phase)
{
	if (!w)
		return;
	pthread_mutex_lock(&w->mutex);
	w->command = command;
	w->phase = phase;
	w->since_ms = now_ms();
	w->cancelled_ms = 0;
	pthread_mutex_unlock(&w->mutex);
}

void watch_begin(struct watch *w, const struct command *command)
{
	begin(w, command, NULL);
}

void watch_phase(struct watch *w, const char *phase)
{
	begin(w, NULL, phase);
}

void watch_end(struct watch *w)
{
	if (!w)
		return;
	pthread_mutex_lock(&w->mutex);
	w->command = NULL;
	w->phase = NULL;
	if (w->shown)
		fputs("\r\033[K", stderr);
	w->shown = false;
	pthread_mutex_unlock(&w->mutex);
}

static bool look_at(struct watch *w, const bool *what)
{
	pthread_mutex_lock(&w->mutex);
	bool is = *what;
	pthread_mutex_unlock(&w->mutex);
	return is;
}

bool watch_interrupted(struct watch *w)
{
	return w && look_at(w, &w->interrupted);
}

bool watch_signalled(struct watch *w)
{
	return w && look_at(w, &w->signalled);
}

void watch_stop(struct watch *w)
{
	if (!w)
		return;
	pthread_mutex_lock(&w->mutex);
	w->stop = true;
	pthread_mutex_unlock(&w->mutex);
	pthread_kill(w->thread, SIGINT); // ends its wait; not an interruption any more
	pthread_join(w->thread, NULL);
	pthread_mutex_destroy(&w->mutex);
	free(w);
}
