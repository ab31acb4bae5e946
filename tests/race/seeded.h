// SPDX-License-Identifier: MIT
// What the seeded races have in common: a race is a set of actors that take turns as a seed says
// (base/sched.h), played once for each of so many seeds.
//
//   GODWIT_SEED=N     the first seed
//   GODWIT_ROUNDS=N   how many seeds
//
// The file has its own struct race (with `seed`), its struct race_spec, and race_once().
#ifndef GODWIT_TESTS_SEEDED_H
#define GODWIT_TESTS_SEEDED_H

#include "../unit/unit.h"

struct race;
struct race_spec;

typedef void actor(struct race *, unsigned thread);

static inline uint64_t pick(uint64_t *state, uint64_t n)
{
	return test_random(state) % n;
}

// In threads, where cmocka's own cannot be used.
#define hold(cond) must_hold(cond, "seed %lu", r->seed)
#define ok(call)                                                                                   \
	do {                                                                                       \
		long ok_ret = (call);                                                              \
		must_hold(!ok_ret, "seed %lu: %ld", r->seed, ok_ret);                              \
	} while (0)

static uint64_t first_seed;

static inline void race_rounds(const char *name, const struct race_spec *spec, unsigned rounds,
	void (*once)(const struct race_spec *, uint64_t seed))
{
	const char *text = getenv("GODWIT_ROUNDS");

	if (text)
		rounds = (unsigned)atoi(text);
	for (unsigned i = 0; i < rounds; i++) {
		fprintf(stderr, "\r%s seed %lu   ", name, first_seed + i);
		once(spec, first_seed + i);
	}
	fprintf(stderr, "\n");
}

// argv[1]: only the races of that name.
static inline int race_main(int argc, char **argv, const struct CMUnitTest *tests, size_t nr)
{
	first_seed = test_seed();
	if (argc > 1)
		cmocka_set_test_filter(argv[1]);
	return _cmocka_run_group_tests("tests", tests, nr, NULL, NULL);
}

#endif
