// SPDX-License-Identifier: MIT
// Random operations on a machine against the model (model.h).
//
//	model_test [--backend soft|signal|userfaultfd] [--seconds N] [--operations N] [--seed N]
//
// Sequences of operations from one seed after another, each in a process of its own. When one
// fails, operations are left out of it for as long as it goes on failing; the rest is printed, and
// may become a test of its own in found_test.c. Exit: 0, 1, 77 when the backend is not to be had.
#include "model.h"

#include "../support/backend_option.h"

#include "base/meta.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define MAX_OPERATIONS 4000u

void model_signals(void);

static unsigned operations = 250, seconds = 10;
static bool left_out[MAX_OPERATIONS];

// ---- One sequence

static bool open_machine(void)
{
	const uint64_t bytes[NODES] = {16 << 20, 16 << 20, 16 << 20, 0};
	const struct gw_machine_config config = {
		.size = sizeof config,
		.nr_nodes = NODES,
		.nr_cpus = NODES,
		.node_bytes = bytes,
		.backend = backend,
		.blocker = blocker,
	};

	return !gw_machine_create(&config, &model.machine);
}

// Addresses that every task can have: where there was room a moment ago.
static void choose_addresses(void)
{
	const struct gw_mapping mapping = {
		.size = sizeof mapping, .length = (SLOTS + 16) * PAGE, .align = 1 << 16};
	struct task_model *t = &model.task[0];

	if (gw_task_create(model.machine, NULL, &t->gw) ||
		gw_map(t->gw, &mapping, &model.base) ||
		gw_unmap(t->gw, model.base, mapping.length))
		disagree("the first task");
	t->mems = MEMORY;
	if (gw_task_attach(t->gw))
		disagree("gw_task_attach");
}

static void open_objects(void)
{
	for (unsigned i = 0; i < OBJECTS; i++) {
		struct object_model *o = &model.object[i];

		o->fd = i ? memfd_create("model", 0) : -1;
		if (o->fd >= 0 && ftruncate(o->fd, OBJECT_PAGES * PAGE))
			disagree("ftruncate");
		if (i ? gw_object_open(model.machine, o->fd, &o->gw)
		      : gw_object_create(model.machine, "model", OBJECT_PAGES * PAGE, &o->gw))
			disagree("an object");
	}
}

static void close_all(void)
{
	snprintf(model.said, sizeof model.said, "the end");
	for (unsigned i = 0; i < PINS; i++)
		if (model.pin[i].gw)
			gw_unpin(model.pin[i].gw);
	if (gw_task_attach(NULL))
		disagree("gw_task_attach");
	for (unsigned i = 0; i < TASKS; i++)
		if (model.task[i].gw)
			gw_task_exit(model.task[i].gw);
	for (unsigned i = 0; i < OBJECTS; i++)
		gw_object_put(model.object[i].gw);
	gw_machine_check(model.machine);
	gw_machine_destroy(model.machine);
}

static void run_sequence(uint64_t seed, bool verbose)
{
	size_t before = meta_in_use();

	model.seed = seed;
	model.verbose = verbose;
	model.soft = backend == GW_BACKEND_SOFT;
	model_signals();
	if (!open_machine())
		_exit(77);
	choose_addresses();
	open_objects();
	for (model.op = 0; model.op < operations; model.op++) {
		if (left_out[model.op])
			continue;
		model.random = seed * 100000 + model.op;
		one_operation();
		compare_places();
		compare_contents();
		if (model.op % 8 == 0)
			gw_machine_check(model.machine);
	}
	close_all();
	if (meta_in_use() != before)
		disagree("%zu objects of the engine are left", meta_in_use() - before);
}

// In a process of its own: 0, 77, or it failed.
static int try_sequence(uint64_t seed, bool quiet, bool verbose)
{
	int status;
	pid_t child;

	fflush(NULL);
	child = fork();
	if (child < 0) {
		perror("model: fork");
		exit(1);
	}
	if (child == 0) {
		if (quiet && !freopen("/dev/null", "w", stderr))
			_exit(1);
		alarm(quiet || verbose ? 60 : 200); // nothing but a deadlock takes so long
		run_sequence(seed, verbose);
		_exit(0);
	}
	waitpid(child, &status, 0);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

// ---- Making it short

static void shrink(uint64_t seed)
{
	time_t end = time(NULL) + 60;

	for (unsigned size = operations / 2; size; size /= 2)
		for (unsigned first = 0; first < operations && time(NULL) < end; first += size) {
			bool saved[MAX_OPERATIONS];

			memcpy(saved, left_out, sizeof saved);
			for (unsigned i = first; i < first + size && i < operations; i++)
				left_out[i] = true;
			if (!try_sequence(seed, true, false))
				memcpy(left_out, saved, sizeof saved);
		}
}

static void report(uint64_t seed)
{
	fprintf(stderr, "model: seed %lu fails; what it takes:\n", seed);
	shrink(seed);
	try_sequence(seed, false, true);
}

// ----

static void usage(void)
{
	fprintf(stderr, "usage: model_test " BACKEND_USAGE " [--seconds N]\n"
			"                  [--operations N] [--seed N]\n");
	exit(2);
}

int main(int argc, char **argv)
{
	uint64_t seed = (uint64_t)time(NULL), n = 0;
	bool one = false;
	time_t end;

	for (int i = 1; i < argc; i += 2) {
		if (i + 1 == argc)
			usage();
		if (!strcmp(argv[i], "--backend") && backend_option(argv[i + 1]))
			continue;
		if (!strcmp(argv[i], "--seconds"))
			seconds = (unsigned)atoi(argv[i + 1]);
		else if (!strcmp(argv[i], "--operations"))
			operations = (unsigned)atoi(argv[i + 1]);
		else if (!strcmp(argv[i], "--seed"))
			seed = strtoull(argv[i + 1], NULL, 0), one = true;
		else
			usage();
	}
	if (operations > MAX_OPERATIONS)
		usage();
	end = time(NULL) + seconds;
	printf("model: from seed %lu, %u operations each\n", seed, operations);
	do {
		int status = try_sequence(seed + n, false, false);

		if (status == 77) {
			printf("model: not here: the backend\n");
			return 77;
		}
		if (status) {
			report(seed + n);
			return 1;
		}
		n++;
	} while (!one && time(NULL) < end);
	printf("model: %lu sequences\n", n);
	return 0;
}
