// SPDX-License-Identifier: MIT
// A slow and obvious model of a machine's memory: tasks with pages at addresses, each page with its
// contents, its node, and who maps it. The random operations (model_ops.c) are done on the machine
// and here, and both must agree after each.
//
// A task's addresses are SLOTS pages in a row. What stands at a slot:
//
//	NOT_MAPPED	outside of every mapping
//	NOTHING		mapped, never touched (or taken away)
//	ZERO		read before it was written: the zero page
//	PAGE		a page: its own, shared by fork, or of an object
//
// Where Linux leaves it open (does a fork copy what can be fetched again; how far reaches
// fault-around), `maybe` says what else may stand there, and a look at the machine decides.
#ifndef GODWIT_TESTS_MODEL_H
#define GODWIT_TESTS_MODEL_H

#include <godwit/machine.h>
#include <godwit/migrate.h>
#include <godwit/policy.h>
#include <godwit/space.h>

#include <stdbool.h>
#include <stdint.h>

#define PAGE GW_PAGE_SIZE
#define NODES 4 // node 3 has no memory
#define MEMORY 7ul
#define TASKS 4
#define SLOTS 96u
#define OBJECTS 2
#define OBJECT_PAGES 48u
#define PINS 4
#define WORDS 4 // of each page are looked at
#define ANY_NODE (-1)

struct page {
	uint64_t word[WORDS];
	int node; // ANY_NODE: not known yet
	int maps; // slots it stands at
	int pins;
	bool anon;
	bool exclusive; // anonymous, and never shared since it was last alone
	bool queued;	// isolated by the move_pages() at hand
	struct object_model *object; // whose cache has it, or NULL
};

enum standing { NOT_MAPPED, NOTHING, ZERO, PAGE_THERE };

struct slot {
	enum standing standing;
	struct page *page; // PAGE_THERE
	enum standing maybe; // what may be there instead: NOT_MAPPED says nothing else may
	struct page *maybe_page;
	unsigned prot;
	bool shared, locked, private_pages; // private_pages: its vma may have an anon_vma
	struct object_model *object;
	unsigned pgoff;
	unsigned long policy; // nodes its own policy allows a new page; 0: the task's
};

struct object_model {
	struct gw_object *gw;
	int fd; // or -1
	struct page *page[OBJECT_PAGES];
};

struct task_model {
	struct gw_task *gw;
	struct slot slot[SLOTS];
	unsigned long policy; // nodes a new page may be on
	unsigned long mems;
};

struct pin_model {
	struct gw_pin *gw;
	unsigned nr;
	struct page *page[8];
};

struct model {
	struct gw_machine *machine;
	bool soft;
	uint64_t base; // of slot 0, in every task
	struct task_model task[TASKS];
	struct object_model object[OBJECTS];
	struct pin_model pin[PINS];
	uint64_t seed, random;
	unsigned op; // number of the operation at hand
	char said[256]; // the operation in words
	bool verbose;
};

extern struct model model;

__attribute__((noreturn, format(printf, 1, 2))) void disagree(const char *format, ...);
__attribute__((format(printf, 1, 2))) void say(const char *format, ...);
uint64_t rnd(void);
unsigned below(unsigned n);
bool chance(unsigned percent);

// ---- The model (model.c)

struct page *model_page(bool anon);
void set_slot(struct slot *s, enum standing standing, struct page *page);
void drop_slot(struct slot *s);
void drop_pin(struct pin_model *pin);
// An access; false: it must be refused. `own`: it must have a page of its own (pins).
bool touch_slot(struct task_model *t, unsigned i, bool write, bool own);
uint64_t slot_word(const struct slot *s, unsigned w);
// The machine is asked where all pages are, and must agree.
void compare_places(void);
// All contents that are there.
void compare_contents(void);

// One load or store of the task: by call or through the pointer. False: refused.
bool machine_load(struct task_model *t, unsigned i, unsigned w, uint64_t *ret_value);
bool machine_store(struct task_model *t, unsigned i, unsigned w, uint64_t value);

static inline uint64_t slot_address(unsigned i)
{
	return model.base + i * PAGE;
}

// ---- Operations (model_ops.c)

void one_operation(void);

#endif
