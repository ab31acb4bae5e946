// SPDX-License-Identifier: MIT
// The failure sweep: each scenario is run with call number 0, 1, 2... of each kind failing (meta
// memory, frames, trylocks, host system calls, copies, freezes) until it runs clean. After each:
// what was there is still there, the books balance, and a second try, in which nothing fails,
// succeeds. Where a whole resource can be gone (meta memory, frames), once more with all calls from
// that number on failing; host calls also with the next one or the next three, so that what is done
// instead of a failed call fails, too.
//
//	sweep_test [--backend soft|signal|userfaultfd] [--only SCENARIO] [--verbose]
//
// A failure says the scenario, the kind and the number: these are the seed. Exit: 0, 77 when the
// backend is not to be had, abort otherwise.
#include "sweep.h"

#include "../support/backend_option.h"

#include "base/fault_inject.h"
#include "base/meta.h"

#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PATIENCE 60000 // tries, a millisecond apart, where a failure wears off by itself
#define ALL_OF_THEM 48 // from this number on calls are sampled, not swept
#define MAX_NUMBER 20000

static struct {
	const char *scenario;
	enum fault_kind kind;
	uint64_t number, times;
	bool verbose;
} now;


void wrong(const char *format, ...)
{
	va_list args;

	fault_disarm_all();
	fprintf(stderr, "sweep: %s, %s %lu%s fails: ", now.scenario, fault_kind_name(now.kind),
		now.number, now.times > 1 ? " and all later" : "");
	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	fputc('\n', stderr);
	abort();
}

// ---- Accesses

static sigjmp_buf escape;
static volatile sig_atomic_t expected;

static void on_signal(int sig)
{
	if (!expected)
		_exit(128 + sig);
	expected = 0;
	siglongjmp(escape, 1);
}

int put_word(struct gw_task *task, uint64_t at, uint64_t value)
{
	volatile uint64_t *p = gw_pointer(task, at);

	if (!p)
		return gw_write(task, at, &value, 8) == 8 ? 0 : -EFAULT;
	if (sigsetjmp(escape, 1))
		return -EFAULT;
	expected = 1;
	*p = value;
	expected = 0;
	return 0;
}

int get_word(struct gw_task *task, uint64_t at, uint64_t *ret_value)
{
	volatile uint64_t *p = gw_pointer(task, at);

	if (!p)
		return gw_read(task, at, ret_value, 8) == 8 ? 0 : -EFAULT;
	if (sigsetjmp(escape, 1))
		return -EFAULT;
	expected = 1;
	*ret_value = *p;
	expected = 0;
	return 0;
}

// ---- One attempt

static void check_word(struct gw_task *task, uint64_t at, uint64_t value, const char *whose)
{
	uint64_t seen = 0;
	int err = -EFAULT;

	// What failed before may go on failing for a moment where the host raises the signal.
	for (unsigned tries = 0; err && tries < PATIENCE; tries++) {
		if (tries)
			usleep(1000);
		err = get_word(task, at, &seen);
	}
	if (err)
		wrong("the %s's page at %#lx cannot be read", whose, at);
	if (seen != value)
		wrong("the %s's page at %#lx has %lu, expected %lu", whose, at, seen, value);
}

void check_world(struct world *w)
{
	for (unsigned i = 0; w->at && i < w->pages; i++) {
		if (w->hole && i - HOLE < HOLE_PAGES)
			continue;
		check_word(w->task, w->at + i * PAGE, w->value[i], "task");
		if (w->child && w->child_value)
			check_word(w->child, w->at + i * PAGE, w->child_value + i, "child");
		else if (w->child && w->object)
			check_word(w->child, w->at + i * PAGE, w->value[i], "child");
	}
}

static void end_world(struct world *w)
{
	if (w->pin)
		gw_unpin(w->pin);
	if (w->child)
		gw_task_exit(w->child);
	if (gw_task_attach(NULL))
		wrong("gw_task_attach");
	gw_task_exit(w->task);
	gw_object_put(w->object);
	if (w->fd >= 0)
		close(w->fd);
}

// True: the failure was met.
static bool attempt(struct gw_machine *machine, const struct scenario *scenario)
{
	struct world w = {.machine = machine, .fd = -1};
	bool met;
	int err;

	if (gw_task_create(machine, NULL, &w.task) || gw_task_attach(w.task))
		wrong("a task");
	scenario->prepare(&w);
	fault_arm(now.kind, FI_PROCESS, now.number, now.times);
	err = scenario->run(&w);
	met = fault_disarm(now.kind);
	check_world(&w);
	gw_machine_check(machine);
	if (err && !met)
		wrong("%d without any failure", err);
	for (unsigned tries = 0; err && tries < PATIENCE; tries++) {
		if (tries)
			usleep(1000); // see check_word()
		err = scenario->run(&w);
		if (tries && !err && backend == GW_BACKEND_SOFT)
			wrong("only the third try succeeded");
	}
	if (err)
		wrong("the second try: %d", err);
	check_world(&w);
	end_world(&w);
	gw_machine_check(machine);
	return met;
}

static int open_machine(struct gw_machine **ret_machine)
{
	const uint64_t bytes[3] = {16 << 20, 16 << 20, 16 << 20};
	const struct gw_machine_config config = {.size = sizeof config, .nr_nodes = 3,
		.node_bytes = bytes, .backend = backend, .blocker = blocker};

	return gw_machine_create(&config, ret_machine);
}

static void sweep(const struct scenario *scenario, enum fault_kind kind, uint64_t times)
{
	size_t before = meta_in_use();
	struct gw_machine *machine;
	uint64_t n;

	now.scenario = scenario->name;
	now.kind = kind;
	now.times = times;
	now.number = 0;
	if (open_machine(&machine))
		wrong("gw_machine_create: %s", gw_machine_error());
	for (n = 0; n < MAX_NUMBER; n += n < ALL_OF_THEM ? 1 : n / 16) {
		now.number = n;
		if (!attempt(machine, scenario))
			break;
	}
	gw_machine_destroy(machine);
	if (meta_in_use() != before)
		wrong("%ld objects of the engine are left", (long)(meta_in_use() - before));
	if (now.verbose)
		printf("%s, %s: %lu\n", scenario->name, fault_kind_name(kind), n);
}

// Building the machine itself.
static void sweep_create(enum fault_kind kind)
{
	size_t before = meta_in_use();
	struct gw_machine *machine;
	bool met = true;

	now.scenario = "a machine";
	now.kind = kind;
	now.times = 1;
	for (now.number = 0; met; now.number++) {
		fault_arm(kind, FI_PROCESS, now.number, 1);
		int err = open_machine(&machine);
		met = fault_disarm(kind);
		if (!err)
			gw_machine_destroy(machine);
		else if (!met)
			wrong("gw_machine_create: %s", gw_machine_error());
		if (meta_in_use() != before)
			wrong("%ld objects of the engine are left", (long)(meta_in_use() - before));
	}
}

// ----

static void usage(void)
{
	fprintf(stderr, "usage: sweep_test " BACKEND_USAGE " [--only SCENARIO] "
			"[--verbose]\n");
	exit(2);
}

int main(int argc, char **argv)
{
	struct gw_machine *machine;
	const char *only = NULL;

	for (int i = 1; i < argc; i++) {
		if (!strcmp(argv[i], "--verbose"))
			now.verbose = true;
		else if (i + 1 == argc)
			usage();
		else if (!strcmp(argv[i], "--only"))
			only = argv[++i];
		else if (strcmp(argv[i], "--backend") != 0 || !backend_option(argv[++i]))
			usage();
	}
	signal(SIGSEGV, on_signal);
	signal(SIGBUS, on_signal);
	if (open_machine(&machine)) {
		printf("sweep: not here: %s\n", gw_machine_error());
		return 77;
	}
	gw_machine_destroy(machine);
	for (int kind = 0; kind < FI_KINDS; kind++) {
		if (!only)
			sweep_create((enum fault_kind)kind);
		for (unsigned i = 0; i < nr_scenarios; i++) {
			if (only && strcmp(only, scenarios[i].name) != 0)
				continue;
			sweep(&scenarios[i], (enum fault_kind)kind, 1);
			if (kind == FI_META || kind == FI_ALLOC)
				sweep(&scenarios[i], (enum fault_kind)kind, FI_ALWAYS);
			if (kind == FI_SYSCALL && backend != GW_BACKEND_SOFT) {
				sweep(&scenarios[i], FI_SYSCALL, 2);
				sweep(&scenarios[i], FI_SYSCALL, 4);
			}
		}
	}
	return 0;
}
