// SPDX-License-Identifier: MIT
// Background load: threads of a task that keep accessing a range, and check what they read (load.h
// says how). With real pointers an access is one store and one load, whatever waits inside of them;
// on soft it is a gw_read() and a gw_write(). There the threads are of the story's seeded run: they
// have the baton in turn with the player and the daemons, and the times are the run's, too.
// An access that the task may not make ends the thread; the signal, and where, is what `stop` says.
// Loads end with their task, too, or with the story: their threads must be gone before the memory.
#include "lab/engine_machine.h"
#include "lab/load.h"

#include "base/sched.h"
#include "base/wait.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#define LOOK_NS 10000000 // how often a start looks whether it was cancelled

struct load_thread {
	struct engine_load *load;
	unsigned lane;
	pthread_t thread;
	bool started, warm;
	int signal;	      // that ended it
	volatile uint64_t at; // what it accesses
	struct load_counts counts;
};

struct engine_load {
	struct engine_machine *m;
	struct gw_task *task;
	uint64_t address, pages;
	bool writes;
	unsigned count;
	atomic_bool stop;
	atomic_uint warm; // threads that finished their first round, or failed
	struct load_thread threads[LOAD_LANES];
};

static void one_round(struct load_thread *t, uint64_t round)
{
	struct engine_load *load = t->load;

	for (uint64_t page = 0; page < load->pages; page++) {
		uint64_t since = wait_clock_ns(), old;

		if (atomic_load_explicit(&load->stop, memory_order_relaxed) && round > 1)
			return;
		t->at = load->address + page * STORY_PAGE_SIZE + t->lane * LOAD_LANE;
		old = engine_touch_lane(load->m, load->task, t->at, load->writes,
			load_stamp(page, round));
		load_judge(&t->counts, load->writes, page, round,
			wait_clock_ns() - since, old);
	}
}

static void set_warm(struct load_thread *t)
{
	t->warm = true;
	atomic_fetch_add(&t->load->warm, 1);
	wake_all(&t->load->warm);
}

static void all_rounds(void *arg)
{
	struct load_thread *t = arg;

	for (uint64_t round = 1; round == 1 || !atomic_load(&t->load->stop); round++) {
		one_round(t, round);
		if (round == 1)
			set_warm(t);
	}
}

static void *run_thread(void *arg)
{
	struct load_thread *t = arg;

	if (gw_task_attach(t->load->task))
		t->counts.lost++;
	else
		t->signal = engine_until_signal(all_rounds, t);
	if (!t->warm)
		set_warm(t);
	(void)!gw_task_attach(NULL);
	return NULL;
}

static void finish(struct engine_load *load)
{
	atomic_store(&load->stop, true);
	for (unsigned i = 0; i < load->count; i++)
		if (load->threads[i].started)
			sched_thread_join(load->threads[i].thread);
}

static void load_free(struct engine_load *load)
{
	for (unsigned i = 0; i < load->count; i++)
		free(load->threads[i].counts.seen);
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
	if (lane + c->load.threads > LOAD_LANES)
		return lab_machine_fail(
			machine, -EINVAL, "more than %d load threads at once", LOAD_LANES);
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
		t->counts.seen = calloc(load->pages + 1, sizeof *t->counts.seen);
		if (!t->counts.seen || sched_thread_create(&t->thread, run_thread, t))
			return lab_machine_fail(machine, -EAGAIN, "cannot start a load thread");
		t->started = true;
	}
	while (atomic_load(&load->warm) < load->count && !atomic_load(&m->cancelled))
		(void)!wait_until(&load->warm, atomic_load(&load->warm) == load->count, LOOK_NS);
	return 0;
}

// Adds what the load found to the result.
static void stop_load(struct engine_machine *m, size_t index, struct lab_result *result)
{
	struct engine_load *load = m->loads[index];

	finish(load);
	result->has_load = true;
	for (unsigned i = 0; i < load->count; i++) {
		struct load_thread *t = &load->threads[i];

		result->accesses += t->counts.accesses;
		result->lost += t->counts.lost;
		if (t->counts.stall_ns > result->stall_ns)
			result->stall_ns = t->counts.stall_ns;
		if (t->signal && !result->signal) {
			result->signal = t->signal;
			result->address = t->at;
		}
	}
	load_free(load);
	m->loads[index] = NULL;
}

int engine_load_stop(
	struct lab_machine *machine, const struct command *c, struct lab_result *result)
{
	stop_load(engine_of(machine), c->load.index, result);
	return 0;
}

void engine_load_end(
	struct engine_machine *m, const struct gw_task *task, struct lab_result *result)
{
	for (size_t i = 0; i < m->story->load_count; i++)
		if (m->loads[i] && m->loads[i]->task == task)
			stop_load(m, i, result);
	// Nobody asked how many accesses there were, only whether they went well.
	result->has_load = result->signal || result->lost;
}

int engine_load_finish(struct lab_machine *machine)
{
	struct engine_machine *m = engine_of(machine);
	struct lab_result result = {0};

	for (size_t i = 0; i < m->story->load_count; i++)
		if (m->loads[i])
			stop_load(m, i, &result);
	if (result.signal)
		return lab_machine_fail(machine, LAB_DIFFERS, "a load ended with %s at 0x%llx",
			signal_name(result.signal), (unsigned long long)result.address);
	if (result.lost)
		return lab_machine_fail(machine, LAB_DIFFERS, "a load lost %llu values",
			(unsigned long long)result.lost);
	return 0;
}
