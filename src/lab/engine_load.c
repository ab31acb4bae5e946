// SPDX-License-Identifier: MIT
// Background load: threads of a task that keep accessing a range, and check what they read.
//
// Each page has a 64-byte lane for each thread. A writer puts a number into its lane that only it
// could have put there (page and round), and reads it back one round later: anything else is a lost
// write. A reader owns its lane's bytes too, but never writes: whatever it saw in the first round
// must be there in all others. The longest time of one access is kept; with real pointers that is
// one store and one load, whatever waits inside of them.
#include "lab/engine_machine.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define LANE 64
#define LANES (STORY_PAGE_SIZE / LANE)

struct load_thread {
	struct engine_load *load;
	unsigned lane;
	pthread_t thread;
	bool started;
	uint64_t accesses, stall_ns, lost;
	uint64_t *seen; // readers: the first value of each page
};

struct engine_load {
	struct engine_machine *m;
	struct gw_task *task;
	uint64_t address, pages;
	bool writes;
	unsigned count;
	atomic_bool stop;
	atomic_uint warm; // threads that finished their first round, or failed
	struct load_thread threads[LANES];
};

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static uint64_t stamp(uint64_t page, uint64_t round)
{
	return round << 32 | (page * 2654435761u & 0xffffffff);
}

// What one round finds in the lane of a page, and leaves there.
static uint64_t access_lane(struct load_thread *t, uint64_t page, uint64_t write)
{
	struct engine_load *load = t->load;
	uint64_t address = load->address + page * STORY_PAGE_SIZE + t->lane * LANE, old = 0;

	if (load->m->real) {
		volatile uint64_t *p = gw_pointer(load->task, address);

		old = *p;
		if (load->writes)
			*p = write;
		return old;
	}
	(void)!gw_read(load->task, address, &old, sizeof old);
	if (load->writes)
		(void)!gw_write(load->task, address, &write, sizeof write);
	return old;
}

static void one_round(struct load_thread *t, uint64_t round)
{
	struct engine_load *load = t->load;

	for (uint64_t page = 0; page < load->pages; page++) {
		uint64_t since = now_ns(), took, old;

		if (atomic_load_explicit(&load->stop, memory_order_relaxed) && round > 1)
			return;
		old = access_lane(t, page, stamp(page, round));
		took = now_ns() - since;
		t->accesses++;
		if (took > t->stall_ns && round > 1) // the first touch of a page is no stall
			t->stall_ns = took;
		if (round == 1)
			t->seen[page] = old;
		else if (old != (load->writes ? stamp(page, round - 1) : t->seen[page]))
			t->lost++;
	}
}

static void *run_thread(void *arg)
{
	struct load_thread *t = arg;
	int err = gw_task_attach(t->load->task);

	for (uint64_t round = 1; !err; round++) {
		one_round(t, round);
		if (round == 1)
			atomic_fetch_add(&t->load->warm, 1);
		else if (atomic_load(&t->load->stop))
			break;
	}
	if (err) {
		t->lost++;
		atomic_fetch_add(&t->load->warm, 1);
	}
	(void)!gw_task_attach(NULL);
	return NULL;
}

static void finish(struct engine_load *load)
{
	atomic_store(&load->stop, true);
	for (unsigned i = 0; i < load->count; i++)
		if (load->threads[i].started)
			pthread_join(load->threads[i].thread, NULL);
}

static void load_free(struct engine_load *load)
{
	for (unsigned i = 0; i < load->count; i++)
		free(load->threads[i].seen);
	free(load);
}

void engine_load_abandon(struct engine_load *load)
{
	if (!load)
		return;
	finish(load);
	load_free(load);
}

// Lanes of a page are shared out among all loads of the story, so that two loads on one range do
// not take each other's writes for losses.
static unsigned first_lane(const struct engine_machine *m)
{
	unsigned used = 0;

	for (size_t i = 0; i < m->story->load_count; i++)
		if (m->loads[i])
			used += m->loads[i]->count;
	return used;
}

int engine_load_start(struct lab_machine *machine, const struct command *c,
	struct lab_result *result)
{
	struct engine_machine *m = engine_of(machine);
	unsigned lane = first_lane(m);
	struct engine_load *load;

	(void)result;
	if (lane + c->load.threads > LANES)
		return lab_machine_fail(
			machine, -EINVAL, "more than %d load threads at once", LANES);
	load = calloc(1, sizeof *load);
	if (!load)
		return lab_machine_fail(machine, -ENOMEM, "out of memory");
	load->m = m;
	load->task = engine_task(m, c->task);
	load->address = c->load.range.address;
	load->pages = c->load.range.length / STORY_PAGE_SIZE;
	load->writes = c->load.writes;
	load->count = c->load.threads;
	m->loads[c->load.index] = load;
	for (unsigned i = 0; i < load->count; i++) {
		struct load_thread *t = &load->threads[i];

		t->load = load;
		t->lane = lane + i;
		t->seen = calloc(load->pages + 1, sizeof *t->seen);
		if (!t->seen || pthread_create(&t->thread, NULL, run_thread, t))
			return lab_machine_fail(machine, -EAGAIN, "cannot start a load thread");
		t->started = true;
	}
	while (atomic_load(&load->warm) < load->count && !atomic_load(&m->cancelled))
		nanosleep(&(struct timespec){.tv_nsec = 200000}, NULL);
	return 0;
}

int engine_load_stop(
	struct lab_machine *machine, const struct command *c, struct lab_result *result)
{
	struct engine_machine *m = engine_of(machine);
	struct engine_load *load = m->loads[c->load.index];

	finish(load);
	result->has_load = true;
	for (unsigned i = 0; i < load->count; i++) {
		struct load_thread *t = &load->threads[i];

		result->accesses += t->accesses;
		result->lost += t->lost;
		if (t->stall_ns > result->stall_ns)
			result->stall_ns = t->stall_ns;
	}
	load_free(load);
	m->loads[c->load.index] = NULL;
	return 0;
}
