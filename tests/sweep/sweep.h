// SPDX-License-Identifier: MIT
// What scenarios of the failure sweep are made of.
#ifndef GODWIT_TESTS_SWEEP_H
#define GODWIT_TESTS_SWEEP_H

#include <godwit/machine.h>
#include <godwit/migrate.h>
#include <godwit/policy.h>
#include <godwit/space.h>

#include <stdbool.h>
#include <stdint.h>

#define PAGE GW_PAGE_SIZE
#define MAX_PAGES 600u
#define HOLE 7u
#define HOLE_PAGES 3u

// One attempt: what prepare() made, and what must be found where afterwards.
struct world {
	struct gw_machine *machine;
	struct gw_task *task, *child;
	struct gw_object *object;
	int fd;
	uint64_t at; // a mapping of `pages` pages, or 0
	unsigned pages;
	uint64_t value[MAX_PAGES]; // of the task's pages
	uint64_t child_value;	   // of all of the child's
	bool hole; // at pages HOLE and on
	struct gw_pin *pin;
};

struct scenario {
	const char *name;
	void (*prepare)(struct world *w); // nothing fails
	int (*run)(struct world *w);	  // 0, or an error; may be called again after an error
};

extern const struct scenario scenarios[];
extern const unsigned nr_scenarios;

// Accesses: 0, or -EFAULT when they ended in a signal or an errno.
int put_word(struct gw_task *task, uint64_t at, uint64_t value);
int get_word(struct gw_task *task, uint64_t at, uint64_t *ret_value);
__attribute__((noreturn, format(printf, 1, 2))) void wrong(const char *format, ...);
// As it was prepared or done: every page of the world.
void check_world(struct world *w);

#endif
