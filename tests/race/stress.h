// SPDX-License-Identifier: MIT
// What the parts of the stress program share: the machine under stress, the areas of stamped
// memory, and the actors that use and disturb it.
#ifndef GODWIT_TESTS_STRESS_H
#define GODWIT_TESTS_STRESS_H

#include <godwit/machine.h>
#include <godwit/migrate.h>
#include <godwit/policy.h>
#include <godwit/space.h>

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>

#define PAGE GW_PAGE_SIZE
#define LANES 64u // of 64 bytes, in each page
#define WRITERS 3u
#define READERS 2u
#define NODES 4u // node 3 has no memory
#define AREAS 5u
#define MAX_VIEWS 3u
// Lanes that are not a writer's.
#define LANE_FORKER 60u
#define LANE_DEVICE 61u
#define LANES_STAMPED 4u // writers' and the forker's in memory that may be copied on write

#if defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define UNDER_TSAN 1
#endif
#endif
#ifdef __SANITIZE_THREAD__
#define UNDER_TSAN 1
#endif
#ifndef UNDER_TSAN
#define UNDER_TSAN 0
#endif

// Where an area is mapped.
struct view {
	struct gw_task *task;
	uint64_t address;
};

// Memory in which each writer owns a lane of 64 bytes in each page. What a lane holds says when it
// was written: numbers go up by one with each write. `started` is the number last begun, `done`
// the number last finished.
struct area {
	const char *name;
	unsigned id;
	unsigned pages;
	struct gw_object *object; // NULL: private anonymous memory
	int fd;			  // of a file, or -1
	struct view view[MAX_VIEWS];
	unsigned nr_views;
	_Atomic uint32_t *started, *done; // [page * WRITERS + writer]
	pthread_rwlock_t writers; // held for reading while a writer stores; for writing while the
				  // area is not writable
};

struct actor;
typedef void actor_fn(struct actor *actor);

struct actor {
	const char *name;
	actor_fn *step;
	unsigned number; // among those of its kind
	struct gw_task *task;
	uint64_t random;
	void *state;
	pthread_t thread;
	bool runs;
	_Atomic(const char *) doing; // for the watchdog
	_Atomic uint64_t at; // what it accesses, or accessed last
	_Atomic int tid;
	_Atomic uint64_t steps, accesses, moved, calls;
	uint64_t why[GW_WHY_COUNT]; // pages that stayed, by reason
};

struct stress {
	struct gw_machine *machine;
	struct gw_task *task[2];
	struct area area[AREAS];
	uint64_t seed;
	bool soft, syscall_safe, verbose;
	atomic_bool stop;
	// Addresses of memory that comes and goes, for movers to aim at.
	_Atomic uint64_t passing[8];
	_Atomic unsigned passing_pages[8];
};

extern struct stress stress;

uint64_t rnd(struct actor *actor);
unsigned below(struct actor *actor, unsigned n);
bool chance(struct actor *actor, unsigned percent);

// Prints the seed, who and what, and aborts.
__attribute__((noreturn, format(printf, 2, 3))) void fail(struct actor *actor, const char *format,
	...);
// Fails unless err is 0, or `allowed`.
void expect(struct actor *actor, const char *what, long err, long allowed);

// ---- Memory (stress_memory.c)

void areas_open(void);
void areas_close(void);
struct area *some_area(struct actor *actor);
struct view *some_view(struct actor *actor, struct area *area);

// One lane of 8 words, through the pointer where there is one.
void lane_load(struct actor *actor, struct gw_task *task, uint64_t at, uint64_t word[8]);
void lane_store(struct actor *actor, struct gw_task *task, uint64_t at, const uint64_t word[8]);
// A lane's words for a number, and the number of a word (fails unless it is a word of this lane).
void stamp_make(uint64_t key, uint32_t number, uint64_t word[8]);
uint32_t stamp_number(struct actor *actor, uint64_t key, unsigned i, uint64_t word, uint64_t at);
uint64_t lane_key(const struct area *area, unsigned page, unsigned lane);
uint64_t lane_at(uint64_t address, unsigned page, unsigned lane);
// Every word of the lane must have a number in [least, most].
void lane_check(struct actor *actor, struct gw_task *task, struct area *area, uint64_t address,
	unsigned page, unsigned lane, uint32_t least, uint32_t most);
void writer_write(struct actor *actor, struct area *area, unsigned page);
void reader_read(struct actor *actor, struct area *area, unsigned page, unsigned lane);
void areas_check(struct actor *actor);
uint64_t map_pages(struct actor *actor, struct gw_task *task, unsigned pages, uint64_t address);

// Plain fills of private memory: each page has one number, in every word.
void page_fill(struct actor *actor, struct gw_task *task, uint64_t at, uint64_t value);
void page_check(struct actor *actor, struct gw_task *task, uint64_t at, uint64_t value);

// A store or load that must end in SIGSEGV.
void expect_refused(struct actor *actor, uint64_t at, bool write);
void signals_install(void);
void signals_attach(struct actor *actor);

// ---- The jolter (stress_jolt.c)

// Before there is any thread: from then on one of them is stopped every mean_us microseconds.
void jolt_start(unsigned mean_us);
// After the last: says how often.
void jolt_stop(void);

// ---- Actors

actor_fn act_write, act_read;				     // stress.c
actor_fn act_move, act_migrate, act_bind, act_mems, act_lock; // stress_movers.c
actor_fn act_churn, act_protect, act_fork, act_fill, act_advise, act_sync; // stress_spaces.c
actor_fn act_huge;						      // stress_huge.c
actor_fn act_device, act_syscall, act_host_fork;		      // stress_device.c

#endif
