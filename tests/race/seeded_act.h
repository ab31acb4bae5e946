// SPDX-License-Identifier: MIT
// One thread of a race whose actors share a task: to be included where struct race, which has this
// `task`, and struct race_spec, which has the `actors`, are complete.
#ifndef GODWIT_TESTS_SEEDED_ACT_H
#define GODWIT_TESTS_SEEDED_ACT_H

#include "seeded.h"

struct run {
	struct race *race;
	const struct race_spec *spec;
};

// For sched_run().
static void act(void *arg, unsigned thread)
{
	struct run *run = arg;
	struct race *r = run->race;

	ok(task_attach(r->task));
	run->spec->actors[thread](r, thread);
	ok(task_attach(NULL));
}

#endif
