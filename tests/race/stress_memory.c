// SPDX-License-Identifier: MIT
// The stamped memory of the stress program: areas, lanes, and what may be found in them.
//
// A word is (number << 32 | hash of lane, number and position): a word of another page, lane or
// position, or a mixture of two, is recognised. Zero is number 0. On real pointers words are
// stored and loaded atomically, so only the engine can tear them; the 8 words of a lane may be of
// neighbouring numbers while its writer is at work.
//
// A reader notes the number last finished before it looks and the number last begun after: what it
// sees lies in between, or a store was lost, or the page it sees is an old one.
#include "stress.h"

#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

// ---- Signals: expected and unexpected

static _Thread_local struct {
	sigjmp_buf escape;
	volatile bool expected;
	struct actor *actor;
} trap;

static void on_signal(int sig, siginfo_t *info, void *context)
{
	(void)context;
	if (sig == SIGSEGV && trap.expected) {
		trap.expected = false;
		siglongjmp(trap.escape, 1);
	}
	if (!trap.actor)
		_exit(99);
	fail(trap.actor, "signal %d (code %d) at %p, while: %s", sig, info->si_code, info->si_addr,
		trap.actor->doing ? trap.actor->doing : "-");
}

void signals_install(void)
{
	struct sigaction action = {.sa_sigaction = on_signal, .sa_flags = SA_SIGINFO};

	sigaction(SIGSEGV, &action, NULL);
	sigaction(SIGBUS, &action, NULL);
}

void signals_attach(struct actor *actor)
{
	trap.actor = actor;
}

void expect_refused(struct actor *actor, uint64_t at, bool write)
{
	_Atomic uint64_t *p = (_Atomic uint64_t *)(uintptr_t)at;
	uint64_t word = 0;
	int64_t n;

	if (stress.soft) {
		n = write ? gw_write(actor->task, at, &word, 8) : gw_read(actor->task, at, &word, 8);
		if (n != -EFAULT)
			fail(actor, "%s at %#lx: %ld, expected EFAULT", write ? "write" : "read", at, n);
		return;
	}
	if (sigsetjmp(trap.escape, 1))
		return;
	trap.expected = true;
	if (write)
		atomic_store_explicit(p, 1, memory_order_relaxed);
	else
		word = atomic_load_explicit(p, memory_order_relaxed);
	trap.expected = false;
	fail(actor, "%s at %#lx went through, expected SIGSEGV (%lx)", write ? "write" : "read", at,
		word);
}

// ---- Words

static uint64_t mix(uint64_t z)
{
	z = (z ^ z >> 33) * 0xff51afd7ed558ccd;
	z = (z ^ z >> 33) * 0xc4ceb9fe1a85ec53;
	return z ^ z >> 33;
}

static uint64_t stamp(uint64_t key, uint32_t number, unsigned i)
{
	if (!number)
		return 0;
	return (uint64_t)number << 32 | (mix(key * 8 + i + mix(number)) & 0xffffffff);
}

void stamp_make(uint64_t key, uint32_t number, uint64_t word[8])
{
	for (unsigned i = 0; i < 8; i++)
		word[i] = stamp(key, number, i);
}

uint32_t stamp_number(struct actor *actor, uint64_t key, unsigned i, uint64_t word, uint64_t at)
{
	uint32_t number = (uint32_t)(word >> 32);

	if (stamp(key, number, i) != word)
		fail(actor, "at %#lx: %#018lx is no word of this place (number %u would be %#018lx)",
			at + i * 8, word, number, stamp(key, number, i));
	return number;
}

uint64_t lane_key(const struct area *area, unsigned page, unsigned lane)
{
	return ((uint64_t)area->id << 48 | (uint64_t)page << 8 | lane) * 0x9e3779b97f4a7c15;
}

uint64_t lane_at(uint64_t address, unsigned page, unsigned lane)
{
	return address + page * PAGE + lane * 64;
}

// In a space of its own a task's numbers are pointers; a child's lie elsewhere.
static void *raw(struct gw_task *task, uint64_t at)
{
	if (!stress.soft && (task == stress.task[0] || task == stress.task[1]))
		return (void *)(uintptr_t)at;
	return gw_pointer(task, at);
}

void lane_load(struct actor *actor, struct gw_task *task, uint64_t at, uint64_t word[8])
{
	const _Atomic uint64_t *p = raw(task, at);
	int64_t n;

	actor->accesses++;
	actor->at = (uint64_t)(uintptr_t)p;
	if (p) {
		for (unsigned i = 0; i < 8; i++)
			word[i] = atomic_load_explicit(&p[i], memory_order_relaxed);
		return;
	}
	n = gw_read(task, at, word, 64);
	if (n != 64)
		fail(actor, "gw_read at %#lx: %ld", at, n);
}

void lane_store(struct actor *actor, struct gw_task *task, uint64_t at, const uint64_t word[8])
{
	_Atomic uint64_t *p = raw(task, at);
	int64_t n;

	actor->accesses++;
	actor->at = (uint64_t)(uintptr_t)p;
	if (p) {
		for (unsigned i = 0; i < 8; i++)
			atomic_store_explicit(&p[i], word[i], memory_order_relaxed);
		return;
	}
	n = gw_write(task, at, word, 64);
	if (n != 64)
		fail(actor, "gw_write at %#lx: %ld", at, n);
}

// For the report of a failure: where the engine has the page, and what is read now.
static void say_more(struct actor *actor, struct gw_task *task, struct area *area, uint64_t at)
{
	for (unsigned v = 0; v <= area->nr_views; v++) {
		struct gw_task *whose = v ? area->view[v - 1].task : task;
		uint64_t page = at & ~(PAGE - 1), word[8];
		int status = 0;
		long err = gw_move_pages(whose, 0, 1, &page, NULL, &status, 0);

		if (v && area->view[v - 1].address + area->pages * PAGE <= at)
			continue;
		lane_load(actor, whose, at, word);
		fprintf(stderr, "stress: task %d: status %d (%ld), pointer %p, now %#lx\n",
			gw_task_pid(whose), status, err, gw_pointer(whose, at), word[0]);
		if (area->object)
			break; // other views are at other addresses
	}
}

void lane_check(struct actor *actor, struct gw_task *task, struct area *area, uint64_t address,
	unsigned page, unsigned lane, uint32_t least, uint32_t most)
{
	uint64_t word[8], at = lane_at(address, page, lane);
	_Atomic uint32_t *started = &area->started[page * WRITERS + lane];

	lane_load(actor, task, at, word);
	if (most == UINT32_MAX)
		most = atomic_load(started);
	for (unsigned i = 0; i < 8; i++) {
		uint32_t n = stamp_number(actor, lane_key(area, page, lane), i, word[i], at);

		if (n >= least && n <= most)
			continue;
		say_more(actor, task, area, at);
		fail(actor, "%s, page %u, lane %u, word %u at %#lx: number %u, expected %u to %u",
			area->name, page, lane, i, at, n, least, most);
	}
}

// ---- Writers and readers

void writer_write(struct actor *actor, struct area *area, unsigned page)
{
	struct view *view = some_view(actor, area);
	unsigned slot = page * WRITERS + actor->number;
	uint32_t number = atomic_load(&area->done[slot]);
	uint64_t word[8];

	pthread_rwlock_rdlock(&area->writers);
	actor->doing = "check own lane";
	lane_check(actor, view->task, area, view->address, page, actor->number, number, number);
	actor->doing = "write own lane";
	atomic_store(&area->started[slot], number + 1);
	stamp_make(lane_key(area, page, actor->number), number + 1, word);
	lane_store(actor, view->task, lane_at(view->address, page, actor->number), word);
	atomic_store(&area->done[slot], number + 1);
	pthread_rwlock_unlock(&area->writers);
}

void reader_read(struct actor *actor, struct area *area, unsigned page, unsigned lane)
{
	struct view *view = some_view(actor, area);
	uint32_t least = atomic_load(&area->done[page * WRITERS + lane]);

	actor->doing = "read a lane";
	lane_check(actor, view->task, area, view->address, page, lane, least, UINT32_MAX);
}

void areas_check(struct actor *actor)
{
	for (unsigned a = 0; a < AREAS; a++)
		for (unsigned v = 0; v < stress.area[a].nr_views; v++)
			for (unsigned i = 0; i < stress.area[a].pages * WRITERS; i++) {
				struct area *area = &stress.area[a];
				uint32_t n = atomic_load(&area->done[i]);

				lane_check(actor, area->view[v].task, area, area->view[v].address,
					i / WRITERS, i % WRITERS, n, n);
			}
}

// ---- Whole pages

void page_fill(struct actor *actor, struct gw_task *task, uint64_t at, uint64_t value)
{
	uint64_t word[8] = {value, value, value, value, value, value, value, value};

	for (unsigned lane = 0; lane < LANES; lane += 9)
		lane_store(actor, task, at + lane * 64, word);
}

void page_check(struct actor *actor, struct gw_task *task, uint64_t at, uint64_t value)
{
	uint64_t word[8];

	for (unsigned lane = 0; lane < LANES; lane += 9) {
		lane_load(actor, task, at + lane * 64, word);
		for (unsigned i = 0; i < 8; i++)
			if (word[i] != value)
				fail(actor, "at %#lx: %#lx, expected %#lx", at + lane * 64 + i * 8,
					word[i], value);
	}
}

// ---- Areas

struct area *some_area(struct actor *actor)
{
	return &stress.area[below(actor, AREAS)];
}

struct view *some_view(struct actor *actor, struct area *area)
{
	return &area->view[below(actor, area->nr_views)];
}

uint64_t map_pages(struct actor *actor, struct gw_task *task, unsigned pages, uint64_t address)
{
	const struct gw_mapping mapping = {
		.size = sizeof mapping,
		.length = pages * PAGE,
		.address = address,
		.prot = GW_PROT_READ | GW_PROT_WRITE,
	};
	uint64_t at = 0;

	expect(actor, "gw_map", gw_map(task, &mapping, &at), 0);
	return at;
}

static void add_view(struct area *area, struct gw_task *task)
{
	const struct gw_mapping mapping = {
		.size = sizeof mapping,
		.length = area->pages * PAGE,
		.prot = GW_PROT_READ | GW_PROT_WRITE,
		.flags = area->object ? GW_MAP_SHARED : 0,
		.object = area->object,
	};
	struct view *view = &area->view[area->nr_views++];
	static struct actor opener = {.name = "open"};

	view->task = task;
	expect(&opener, "gw_map", gw_map(task, &mapping, &view->address), 0);
}

static int temporary_file(unsigned pages)
{
	char path[] = "/var/tmp/godwit-stress-XXXXXX";
	int fd = mkstemp(path);

	if (fd >= 0)
		unlink(path);
	if (fd < 0 || ftruncate(fd, pages * PAGE)) {
		perror("stress: a temporary file");
		exit(1);
	}
	return fd;
}

static void area_open(struct area *area, const char *name, unsigned pages)
{
	area->name = name;
	area->id = (unsigned)(area - stress.area) + 1;
	area->pages = pages;
	area->fd = -1;
	area->started = calloc(pages * WRITERS, sizeof *area->started);
	area->done = calloc(pages * WRITERS, sizeof *area->done);
	pthread_rwlock_init(&area->writers, NULL);
}

void areas_open(void)
{
	static struct actor opener = {.name = "open"};
	struct area *a = stress.area;

	area_open(&a[0], "anonymous", 2048);
	add_view(&a[0], stress.task[0]);
	area_open(&a[1], "anonymous, other task", 700);
	add_view(&a[1], stress.task[1]);
	area_open(&a[2], "few pages", 16);
	add_view(&a[2], stress.task[0]);
	area_open(&a[3], "shared", 600);
	expect(&opener, "gw_object_create",
		gw_object_create(stress.machine, "shared", a[3].pages * PAGE, &a[3].object), 0);
	area_open(&a[4], "file", 300);
	a[4].fd = temporary_file(a[4].pages);
	expect(&opener, "gw_object_open",
		gw_object_open(stress.machine, a[4].fd, &a[4].object), 0);
	for (unsigned i = 3; i < 5; i++) {
		add_view(&a[i], stress.task[0]);
		// One frame at several addresses needs a blocker that stops readers everywhere;
		// both do.
		add_view(&a[i], stress.task[1]);
		add_view(&a[i], stress.task[0]);
	}
}

void areas_close(void)
{
	for (unsigned i = 0; i < AREAS; i++) {
		struct area *area = &stress.area[i];

		gw_object_put(area->object);
		if (area->fd >= 0)
			close(area->fd);
		free(area->started);
		free(area->done);
		pthread_rwlock_destroy(&area->writers);
	}
}
