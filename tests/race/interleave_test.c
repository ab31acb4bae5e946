// SPDX-License-Identifier: MIT
// Seeded interleavings of whole operations: two or three threads, each with a short program, share
// a few pages on the soft backend, and one baton (base/sched.h). Every lock and wait of the engine
// is a place where the baton may move, so a seed decides the order of everything, and repeats it.
//
//	interleave_test [--seeds N] [--seed S]
//
// Each thread owns a word in each page of private memory and of an object: what it wrote last must be
// there whenever it looks, and at the end. Pages that are also unmapped hold zero or a word that was
// written there. In a third of the moves a lock, a copy, a count or memory is refused on the way. After each seed the books are balanced. A failure prints the seed and the threads'
// programs; a deadlock is found by the scheduler itself.
#include <godwit/machine.h>
#include <godwit/migrate.h>
#include <godwit/policy.h>
#include <godwit/space.h>

#include "base/fault_inject.h"
#include "base/meta.h"
#include "base/sched.h"

#include <errno.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#define PAGE GW_PAGE_SIZE
#define THREADS 3u
#define PAGES 3u
#define STEPS 6u
#define RW (GW_PROT_READ | GW_PROT_WRITE)
#define SEEDS_A_MACHINE 40

enum { PRIVATE, OBJECT, AREAS };

static struct {
	struct gw_machine *machine;
	struct gw_task *task, *other;
	struct gw_object *object;
	uint64_t area[AREAS];	    // of task
	uint64_t object_of_other; // where the other task has the object
	uint64_t passing;	    // is unmapped and mapped
	uint64_t value[THREADS][AREAS][PAGES];
	uint64_t seed;
	unsigned threads;
	char program[THREADS][512];
} run;

struct thread {
	unsigned number;
	uint64_t random;
};

__attribute__((noreturn, format(printf, 1, 2))) static void wrong(const char *format, ...)
{
	va_list args;

	fprintf(stderr, "interleave: seed %lu: ", run.seed);
	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	fputc('\n', stderr);
	for (unsigned i = 0; i < run.threads; i++)
		fprintf(stderr, "  thread %u:%s\n", i, run.program[i]);
	abort();
}

static uint64_t mix(uint64_t *random)
{
	uint64_t z = *random += 0x9e3779b97f4a7c15;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
	z = (z ^ z >> 27) * 0x94d049bb133111eb;
	return z ^ z >> 31;
}

static unsigned below(struct thread *t, unsigned n)
{
	return (unsigned)(mix(&t->random) % n);
}

__attribute__((format(printf, 2, 3))) static void note(struct thread *t, const char *format, ...)
{
	char *program = run.program[t->number];
	size_t length = strlen(program);
	va_list args;

	va_start(args, format);
	vsnprintf(program + length, sizeof run.program[0] - length, format, args);
	va_end(args);
}

// ---- Steps

static void look(struct thread *t, struct gw_task *task, uint64_t at, uint64_t expected)
{
	uint64_t seen = 0;

	if (gw_read(task, at, &seen, 8) != 8)
		wrong("thread %u cannot read %#lx", t->number, at);
	if (seen != expected)
		wrong("thread %u: %#lx at %#lx, expected %#lx", t->number, seen, at, expected);
}

// Its own word of some page; a write may be refused while somebody protects the page.
static void step_access(struct thread *t)
{
	unsigned area = below(t, AREAS), page = below(t, PAGES);
	bool through_other = area == OBJECT && below(t, 2), write = below(t, 3) != 0;
	struct gw_task *task = through_other ? run.other : run.task;
	uint64_t at = (through_other ? run.object_of_other : run.area[area]) + page * PAGE +
		      t->number * 1000;
	uint64_t *value = &run.value[t->number][area][page], next = mix(&t->random);

	note(t, " %s(%u,%u%s)", write ? "write" : "read", area, page, through_other ? "'" : "");
	look(t, task, at, *value);
	if (write && gw_write(task, at, &next, 8) == 8)
		*value = next;
	look(t, task, at, *value);
}

static uint64_t some_address(struct thread *t, unsigned *ret_n)
{
	unsigned which = below(t, 4), page = below(t, PAGES);

	*ret_n = 1 + below(t, PAGES - page);
	return (which < AREAS ? run.area[which] : which == 2 ? run.passing : run.area[PRIVATE]) +
	       page * PAGE;
}

// Somewhere in the next operation of this thread something fails. (Needs a build with checks.)
static void arm_failure(struct thread *t)
{
	static const enum fault_kind kinds[] = {FI_TRYLOCK, FI_COPY, FI_FREEZE, FI_ALLOC, FI_META};
	enum fault_kind kind = kinds[below(t, sizeof kinds / sizeof *kinds)];
	unsigned number = below(t, 12), times = 1 + below(t, 3);

	note(t, " [%s %u,%u]", fault_kind_name(kind), number, times);
	fault_arm(kind, FI_THREAD, number, times);
}

static bool disarm_failure(void)
{
	bool met = false;

	for (int kind = 0; kind < FI_KINDS; kind++)
		met |= fault_disarm((enum fault_kind)kind);
	return met;
}

static void step_move(struct thread *t)
{
	unsigned n, flags = below(t, 2) ? GW_MPOL_MF_MOVE_ALL : GW_MPOL_MF_MOVE;
	uint64_t at = some_address(t, &n), page[PAGES];
	int node[PAGES], status[PAGES], to = (int)below(t, 2);

	for (unsigned i = 0; i < n; i++) {
		page[i] = at + i * PAGE;
		node[i] = to;
		status[i] = -12345;
	}
	note(t, " move(%#lx,%u,%d,%u)", at & 0xfffff, n, to, flags);
	if (!below(t, 3))
		arm_failure(t);
	long ret = gw_move_pages(run.task, 0, n, page, node, status, flags);
	if (disarm_failure() && ret == -ENOMEM)
		return;
	if (ret < 0 || ret > n)
		wrong("gw_move_pages: %ld", ret);
	for (unsigned i = 0; !ret && i < n; i++)
		if (status[i] != to && status[i] != -ENOENT && status[i] != -EACCES &&
			status[i] != -EFAULT && status[i] != -EBUSY)
			wrong("gw_move_pages: status %d", status[i]);
}

static void step_migrate(struct thread *t)
{
	const unsigned long from = 1ul << below(t, 2), to = 3ul & ~from;
	struct gw_task *of = below(t, 2) ? run.task : run.other;

	note(t, " migrate(%lu,%lu)", from, to);
	if (gw_migrate_pages(run.task, gw_task_pid(of), 4, &from, &to) < 0)
		wrong("gw_migrate_pages");
}

static void step_mbind(struct thread *t)
{
	unsigned n;
	uint64_t at = some_address(t, &n);
	const unsigned long node = 1ul << below(t, 2);

	note(t, " mbind(%#lx,%u,%lu)", at & 0xfffff, n, node);
	int err = gw_mbind(run.task, at, n * PAGE, GW_MPOL_BIND, &node, 4, GW_MPOL_MF_MOVE);
	if (err && err != -EFAULT)
		wrong("gw_mbind: %d", err);
}

static void step_protect(struct thread *t)
{
	unsigned area = below(t, AREAS), page = below(t, PAGES), n = 1 + below(t, PAGES - page);
	uint64_t at = run.area[area] + page * PAGE;

	note(t, " protect(%u,%u,%u)", area, page, n);
	if (gw_protect(run.task, at, n * PAGE, GW_PROT_READ) ||
		gw_protect(run.task, at, n * PAGE, RW))
		wrong("gw_protect");
}

static void step_fork(struct thread *t)
{
	unsigned page = below(t, PAGES);
	uint64_t at = run.area[PRIVATE] + page * PAGE + t->number * 1000, other = 1;
	uint64_t value = run.value[t->number][PRIVATE][page];
	struct gw_task *child;

	note(t, " fork(%u)", page);
	if (gw_task_fork(run.task, &child))
		wrong("gw_task_fork");
	look(t, child, at, value);
	if (below(t, 2) && gw_write(child, at, &other, 8) == 8)
		look(t, child, at, other);
	look(t, run.task, at, value);
	gw_task_exit(child);
}

static void step_pin(struct thread *t)
{
	unsigned area = below(t, AREAS), page = below(t, PAGES);
	uint64_t at = run.area[area] + page * PAGE;
	struct gw_pin *pin;
	int node = -1, after = -1;

	note(t, " pin(%u,%u)", area, page);
	int err = gw_pin(run.task, at, PAGE, "interleaved", &pin);
	if (err)
		wrong("gw_pin: %d", err);
	if (gw_move_pages(run.task, 0, 1, &at, NULL, &node, 0))
		wrong("asking");
	sched_point();
	look(t, run.task, at + t->number * 1000, run.value[t->number][area][page]);
	if (gw_move_pages(run.task, 0, 1, &at, NULL, &after, 0))
		wrong("asking");
	// -ENOENT: somebody tries to move it.
	if (node >= 0 && after >= 0 && node != after)
		wrong("a pinned page went from node %d to %d", node, after);
	gw_unpin(pin);
}

static void step_zap(struct thread *t)
{
	bool object = below(t, 2);
	uint64_t at = object ? run.area[OBJECT] : run.passing;

	note(t, " zap(%s)", object ? "object" : "passing");
	int err = gw_advise(run.task, at, PAGES * PAGE, MADV_DONTNEED);
	if (err && err != -ENOMEM && err != -EINVAL) // a hole; locked
		wrong("gw_advise: %d", err);
}

static void step_unmap(struct thread *t)
{
	unsigned page = below(t, PAGES), n = 1 + below(t, PAGES - page);
	const struct gw_mapping again = {.size = sizeof again, .length = n * PAGE, .prot = RW,
		.address = run.passing + page * PAGE};
	uint64_t at;

	note(t, " unmap(%u,%u)", page, n);
	if (gw_unmap(run.task, again.address, again.length))
		wrong("gw_unmap");
	int err = gw_map(run.task, &again, &at);
	if (err && err != -EEXIST)
		wrong("gw_map: %d", err);
}

// Its own word there, which may be gone at any time. (One word of all threads would be a race of the
// program's own, as it is on real memory.)
static void step_passing(struct thread *t)
{
	unsigned page = below(t, PAGES);
	uint64_t at = run.passing + page * PAGE + t->number * 1000;
	uint64_t value = 0x1230 + page, seen = 0;
	int64_t n;

	note(t, " passing(%u)", page);
	n = gw_write(run.task, at, &value, 8);
	if (n != 8 && n != -EFAULT)
		wrong("gw_write: %ld", n);
	n = gw_read(run.task, at, &seen, 8);
	if (n != 8 && n != -EFAULT)
		wrong("gw_read: %ld", n);
	if (n == 8 && seen && seen != value)
		wrong("%#lx where only %#lx was written", seen, value);
}

static bool is_passing(uint64_t at)
{
	return at >= run.passing && at < run.passing + PAGES * PAGE;
}

static void step_remap(struct thread *t)
{
	const struct gw_mapping own = {.size = sizeof own, .length = 2 * PAGE, .prot = RW};
	uint64_t at, to, value = mix(&t->random);
	int err;

	note(t, " remap");
	if (gw_map(run.task, &own, &at))
		wrong("memory to remap");
	if (is_passing(at) || is_passing(at + PAGE)) { // others unmap there, and bind
		if (gw_unmap(run.task, at, 2 * PAGE))
			wrong("gw_unmap");
		return;
	}
	if (gw_write(run.task, at + PAGE, &value, 8) != 8)
		wrong("memory to remap is not to be written");
	err = gw_remap(run.task, at, 2 * PAGE, 2 * PAGE, 0, &to);
	if (err)
		wrong("gw_remap: %d", err);
	if (!is_passing(to) && !is_passing(to + PAGE))
		look(t, run.task, to + PAGE, value);
	if (gw_unmap(run.task, to, 2 * PAGE))
		wrong("gw_unmap");
}

static void step_lock(struct thread *t)
{
	unsigned area = below(t, AREAS);

	note(t, " lock(%u)", area);
	int err = gw_lock(run.task, run.area[area], PAGES * PAGE);
	if (err || gw_unlock(run.task, run.area[area], PAGES * PAGE))
		wrong("gw_lock (%d) or gw_unlock", err);
}

static void (*const steps[])(struct thread *) = {
	step_access, step_access, step_access, step_move, step_move, step_move, step_migrate,
	step_mbind, step_protect, step_fork, step_fork, step_pin, step_zap, step_unmap, step_passing,
	step_remap, step_lock,
};

static void thread_main(void *arg, unsigned index)
{
	struct thread t = {index, run.seed * 64 + index};

	(void)arg;
	for (unsigned i = 0; i < STEPS; i++)
		steps[below(&t, sizeof steps / sizeof *steps)](&t);
}

// ---- A run

static uint64_t map(struct gw_task *task, struct gw_object *object)
{
	const struct gw_mapping mapping = {.size = sizeof mapping, .length = PAGES * PAGE, .prot = RW,
		.object = object, .flags = object ? GW_MAP_SHARED : 0};
	uint64_t at;

	if (gw_map(task, &mapping, &at))
		wrong("gw_map");
	return at;
}

static void begin(void)
{
	if (gw_task_create(run.machine, NULL, &run.task) ||
		gw_task_create(run.machine, NULL, &run.other) ||
		gw_object_create(run.machine, "interleaved", PAGES * PAGE, &run.object))
		wrong("tasks and an object");
	run.area[PRIVATE] = map(run.task, NULL);
	run.area[OBJECT] = map(run.task, run.object);
	run.object_of_other = map(run.other, run.object);
	run.passing = map(run.task, NULL);
	memset(run.value, 0, sizeof run.value);
	memset(run.program, 0, sizeof run.program);
}

static void end(void)
{
	struct thread judge = {99, 0};

	gw_machine_check(run.machine);
	for (unsigned k = 0; k < run.threads; k++)
		for (unsigned i = 0; i < AREAS * PAGES; i++)
			look(&judge, run.task, run.area[i / PAGES] + i % PAGES * PAGE + k * 1000,
				run.value[k][i / PAGES][i % PAGES]);
	gw_task_exit(run.task);
	gw_task_exit(run.other);
	gw_object_put(run.object);
	gw_machine_check(run.machine);
}

static void open_machine(void)
{
	const uint64_t bytes[2] = {4 << 20, 4 << 20};
	const struct gw_machine_config config = {.size = sizeof config, .nr_nodes = 2,
		.node_bytes = bytes, .backend = GW_BACKEND_SOFT};

	if (gw_machine_create(&config, &run.machine))
		wrong("gw_machine_create: %s", gw_machine_error());
}

int main(int argc, char **argv)
{
	const char *env = getenv("GODWIT_SEED");
	uint64_t first = env ? strtoull(env, NULL, 0) : (uint64_t)time(NULL) * 10000;
	unsigned seeds = 2000;
	size_t before = meta_in_use();

	for (int i = 1; i + 1 < argc; i += 2) {
		if (!strcmp(argv[i], "--seeds"))
			seeds = (unsigned)atoi(argv[i + 1]);
		else if (!strcmp(argv[i], "--seed"))
			first = strtoull(argv[i + 1], NULL, 0), seeds = 1;
	}
	printf("interleave: seeds from %lu\n", first);
	fflush(stdout);
	for (unsigned i = 0; i < seeds; i++) {
		run.seed = first + i;
		run.threads = 2 + run.seed % 2;
		if (i % SEEDS_A_MACHINE == 0)
			open_machine();
		begin();
		sched_run(run.seed, run.threads, thread_main, NULL);
		end();
		if (i % SEEDS_A_MACHINE == SEEDS_A_MACHINE - 1 || i + 1 == seeds)
			gw_machine_destroy(run.machine);
	}
	if (meta_in_use() != before)
		wrong("%ld objects of the engine are left", (long)(meta_in_use() - before));
	printf("interleave: %u seeds\n", seeds);
	return 0;
}
