// SPDX-License-Identifier: MIT
// Background load of a task on the host: threads that keep accessing a range. What they do to the
// memory, and what they make of what they find, is in load.h. Threads inherit the cpus of the task.
// A thread whose access dies of a signal ends; STOP says so. It joins the threads of its
// load. A forked child has none of them.

#include "lab/host_wire.h"
#include "lab/load.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>

#define PAGE 4096

struct load_thread {
	struct agent_load *load;
	unsigned lane;
	pthread_t thread;
	int signal; // that ended it
	uint64_t died_at;
	struct load_counts counts;
};

struct agent_load {
	struct agent_load *next;
	uint64_t key, address, pages;
	bool writes;
	unsigned count; // of threads that run
	atomic_bool stop;
	atomic_uint warm; // threads that finished their first round, or ended
	struct load_thread threads[LOAD_LANES];
};

// False: the thread ends.
static bool one_access(struct load_thread *t, uint64_t page, uint64_t round)
{
	struct agent_load *load = t->load;
	uintptr_t address = load->address + page * PAGE + t->lane * LOAD_LANE;
	uint64_t since = load_now_ns(), old;

	t->signal = agent_touch_lane(
		(uint64_t *)address, load->writes, load_stamp(page, round), &old);
	if (t->signal) {
		t->died_at = address;
		return false;
	}
	load_judge(&t->counts, load->writes, page, round, load_now_ns() - since, old);
	return true;
}

static void *run_thread(void *arg)
{
	struct load_thread *t = arg;
	struct agent_load *load = t->load;
	bool go_on = true;

	for (uint64_t round = 1; go_on; round++) {
		for (uint64_t page = 0; go_on && page < load->pages; page++) {
			if (round > 1 && atomic_load_explicit(&load->stop, memory_order_relaxed))
				return NULL;
			go_on = one_access(t, page, round);
		}
		if (round == 1)
			atomic_fetch_add(&load->warm, 1);
		go_on &= !atomic_load(&load->stop);
	}
	return NULL;
}

static bool start_thread(struct agent_load *load, unsigned lane)
{
	struct load_thread *t = &load->threads[load->count];

	t->load = load;
	t->lane = lane;
	t->counts.seen = calloc(load->pages + 1, sizeof *t->counts.seen);
	if (!t->counts.seen || pthread_create(&t->thread, NULL, run_thread, t)) {
		free(t->counts.seen);
		return false;
	}
	load->count++;
	return true;
}

static void finish(struct agent_load *load, struct agent_reply *reply)
{
	atomic_store(&load->stop, true);
	for (unsigned i = 0; i < load->count; i++) {
		struct load_thread *t = &load->threads[i];

		pthread_join(t->thread, NULL);
		reply->accesses += t->counts.accesses;
		reply->lost += t->counts.lost;
		if (t->signal && !reply->signal) {
			reply->signal = t->signal;
			reply->address = t->died_at;
		}
		if (t->counts.stall_ns > reply->stall_ns)
			reply->stall_ns = t->counts.stall_ns;
		free(t->counts.seen);
	}
	free(load);
}

void agent_load(struct agent *agent, const struct agent_request *r, struct agent_reply *reply)
{
	unsigned threads = (unsigned)r->arg[4], lane = (unsigned)r->arg[5];
	struct agent_load *load = calloc(1, sizeof *load);

	if (!load) {
		reply->ret = -1;
		reply->error = ENOMEM;
		return;
	}
	load->key = r->arg[0];
	load->address = r->arg[1];
	load->pages = r->arg[2] / PAGE;
	load->writes = r->arg[3];
	while (load->count < threads && start_thread(load, lane + load->count))
		;
	if (load->count < threads) {
		finish(load, reply);
		reply->ret = -1;
		reply->error = EAGAIN;
		return;
	}
	while (atomic_load(&load->warm) < load->count)
		nanosleep(&(struct timespec){.tv_nsec = 200000}, NULL);
	load->next = agent->loads;
	agent->loads = load;
}

void agent_stop(struct agent *agent, const struct agent_request *r, struct agent_reply *reply)
{
	for (struct agent_load **at = &agent->loads; *at; at = &(*at)->next) {
		struct agent_load *load = *at;

		if (load->key != r->arg[0])
			continue;
		*at = load->next;
		finish(load, reply);
		return;
	}
	reply->ret = -1;
	reply->error = ENOENT;
}

void agent_forget_loads(struct agent *agent)
{
	agent->loads = NULL; // their memory too is only a copy; nobody will miss it
}
