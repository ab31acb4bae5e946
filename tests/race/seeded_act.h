// SPDX-License-Identifier: MIT
// The threads of races whose actors share a task: to be included where struct race, which has this
// `task`, struct race_spec, which has the `actors` (NULL: no more), and the table `races` of them
// are complete.
#ifndef GODWIT_TESTS_SEEDED_ACT_H
#define GODWIT_TESTS_SEEDED_ACT_H

#include "seeded.h"

struct run {
	struct race *race;
	const struct race_spec *spec;
};

static void act(void *arg, unsigned thread)
{
	struct run *run = arg;
	struct race *r = run->race;

	ok(task_attach(r->task));
	run->spec->actors[thread](r, thread);
	ok(task_attach(NULL));
}

static void race_play(struct race *r, const struct race_spec *spec)
{
	struct run run = {r, spec};
	unsigned n = 0;

	while (n < ARRAY_SIZE(spec->actors) && spec->actors[n])
		n++;
	sched_run(r->seed, n, act, &run);
}

// A test for each race: many(&race).
static int race_all(int argc, char **argv, void (*many)(void **))
{
	struct CMUnitTest tests[ARRAY_SIZE(races)];

	for (unsigned i = 0; i < ARRAY_SIZE(races); i++)
		tests[i] = (struct CMUnitTest){.name = races[i].name,
			.test_func = many,
			.initial_state = (void *)&races[i]};
	return race_main(argc, argv, tests, ARRAY_SIZE(races));
}

#endif
