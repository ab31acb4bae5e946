// SPDX-License-Identifier: MIT
// A machine under stress: real threads read and write stamped memory through raw pointers while
// others move it about, and all the while it must hold what was written.
//
//	stress [--seconds N] [--seed N] [--blocker signal|userfaultfd|auto] [--backend soft|rewire]
//	       [--only NAME,...] [--jolt US] [--verbose]
//
// Each writer owns a lane of 64 bytes in each page and writes rising numbers there; it knows what
// it wrote last, and readers know between which two numbers they must find a lane. A lost, torn or
// stale value is printed with the seed, and the program aborts. The seed decides what each thread
// does, not when: a run with the same seed is alike, not the same.
//
// Other actors (stress_movers.c, stress_spaces.c, stress_huge.c, stress_device.c) move, bind,
// protect, lock, fork, unmap, remap, sync, collapse, split, pin and fill. With --jolt every thread is
// stopped at moments of no choice of its own, every US microseconds one of them (stress_jolt.c). At
// the end everything is read once more, the machine's books are balanced, and no object of the
// engine may be left.
//
// GODWIT_STRESS_SECONDS in the environment goes before --seconds. Exit: 0, 77 when this host does
// not give the backend, abort otherwise. A watchdog ends a run in which some actor has not made a
// step for two minutes (ten under a sanitizer), and says what each was doing.
#include "stress.h"

#include "base/compiler.h"
#include "base/meta.h"

#include <errno.h>
#include <execinfo.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

// Under a sanitizer, on a busy machine, a call that moves all pages may take minutes.
#define STUCK_SECONDS (HAVE_TSAN || HAVE_ASAN ? 600u : 120u)

struct stress stress;

static struct actor actors[] = {
	{.name = "write", .step = act_write, .number = 0},
	{.name = "write", .step = act_write, .number = 1},
	{.name = "write", .step = act_write, .number = 2},
	{.name = "read", .step = act_read, .number = 0},
	{.name = "read", .step = act_read, .number = 1},
	{.name = "move", .step = act_move, .number = 0},
	{.name = "move", .step = act_move, .number = 1},
	{.name = "migrate", .step = act_migrate},
	{.name = "bind", .step = act_bind},
	{.name = "mems", .step = act_mems},
	{.name = "lock", .step = act_lock},
	{.name = "churn", .step = act_churn, .number = 0},
	{.name = "churn", .step = act_churn, .number = 1},
	{.name = "protect", .step = act_protect},
	{.name = "fork", .step = act_fork},
	{.name = "fill", .step = act_fill},
	{.name = "advise", .step = act_advise},
	{.name = "huge", .step = act_huge, .number = 0},
	{.name = "huge", .step = act_huge, .number = 1},
	{.name = "sync", .step = act_sync},
	{.name = "device", .step = act_device},
	{.name = "syscall", .step = act_syscall},
	{.name = "hostfork", .step = act_host_fork},
};
#define NR_ACTORS (sizeof actors / sizeof *actors)

static struct actor judge = {.name = "judge"}; // the main thread

uint64_t rnd(struct actor *actor)
{
	uint64_t z = actor->random += 0x9e3779b97f4a7c15;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
	z = (z ^ z >> 27) * 0x94d049bb133111eb;
	return z ^ z >> 31;
}

unsigned below(struct actor *actor, unsigned n)
{
	return (unsigned)(rnd(actor) % n);
}

bool chance(struct actor *actor, unsigned percent)
{
	return below(actor, 100) < percent;
}

void fail(struct actor *actor, const char *format, ...)
{
	static pthread_mutex_t once = PTHREAD_MUTEX_INITIALIZER;
	void *frames[32];
	va_list args;

	pthread_mutex_lock(&once); // the first to fail tells; it never gives the lock back
	fprintf(stderr, "\nstress: FAILED, seed %lu (%s, %s), actor %s %u, step %lu: ", stress.seed,
		gw_machine_backend(stress.machine), gw_machine_blocker(stress.machine), actor->name,
		actor->number, atomic_load(&actor->steps));
	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	fputc('\n', stderr);
	backtrace_symbols_fd(frames, backtrace(frames, 32), STDERR_FILENO); // for addr2line
	abort();
}

void expect(struct actor *actor, const char *what, long err, long allowed)
{
	if (err && err != allowed)
		fail(actor, "%s: %s", what, err < 0 ? strerror((int)-err) : "a positive number");
}

// ---- The two plain actors

void act_write(struct actor *actor)
{
	struct area *area = some_area(actor);
	unsigned page = below(actor, area->pages);
	unsigned burst = chance(actor, 10) ? 64 : 1;

	if (chance(actor, 30))
		page = below(actor, 8); // hot pages
	for (unsigned i = 0; i < burst; i++)
		writer_write(actor, area, (page + i) % area->pages);
}

void act_read(struct actor *actor)
{
	struct area *area = some_area(actor);
	unsigned page = chance(actor, 30) ? below(actor, 8) : below(actor, area->pages);

	for (unsigned i = 0; i < 16; i++)
		reader_read(actor, area, (page + i) % area->pages, below(actor, WRITERS));
}

// ---- Options

static unsigned seconds = 20;
static enum gw_backend backend = GW_BACKEND_AUTO;
static enum gw_blocker blocker = GW_BLOCKER_AUTO;
static const char *only;
static unsigned jolt_us;

static void usage(void)
{
	fprintf(stderr, "usage: stress [--seconds N] [--seed N] "
			"[--blocker signal|userfaultfd|auto]\n"
			"              [--backend soft|rewire] [--only NAME,...] [--jolt US] [--verbose]\n");
	exit(2);
}

static unsigned word(const char *value, const char *const *words)
{
	for (unsigned i = 0; words[i]; i++)
		if (!strcmp(value, words[i]))
			return i;
	usage();
	return 0;
}

static void parse(int argc, char **argv)
{
	static const char *const backends[] = {"auto", "rewire", "soft", NULL};
	static const char *const blockers[] = {"auto", "signal", "userfaultfd", NULL};
	const char *env = getenv("GODWIT_STRESS_SECONDS");

	stress.seed = (uint64_t)time(NULL);
	for (int i = 1; i < argc; i++) {
		if (!strcmp(argv[i], "--verbose")) {
			stress.verbose = true;
			continue;
		}
		if (i + 1 == argc)
			usage();
		if (!strcmp(argv[i], "--seconds"))
			seconds = (unsigned)atoi(argv[++i]);
		else if (!strcmp(argv[i], "--seed"))
			stress.seed = strtoull(argv[++i], NULL, 0);
		else if (!strcmp(argv[i], "--backend"))
			backend = word(argv[++i], backends);
		else if (!strcmp(argv[i], "--blocker"))
			blocker = word(argv[++i], blockers);
		else if (!strcmp(argv[i], "--only"))
			only = argv[++i];
		else if (!strcmp(argv[i], "--jolt"))
			jolt_us = (unsigned)atoi(argv[++i]);
		else
			usage();
	}
	if (env)
		seconds = (unsigned)atoi(env);
}

// ---- The run

static void *actor_main(void *arg)
{
	struct actor *actor = arg;

	expect(actor, "gw_task_attach", gw_task_attach(actor->task), 0);
	signals_attach(actor);
	actor->tid = (int)syscall(SYS_gettid);
	while (!atomic_load_explicit(&stress.stop, memory_order_relaxed)) {
		actor->step(actor);
		atomic_fetch_add_explicit(&actor->steps, 1, memory_order_relaxed);
	}
	actor->doing = "end";
	expect(actor, "gw_task_attach", gw_task_attach(NULL), 0);
	return NULL;
}

static bool wanted(const struct actor *actor)
{
	size_t n = strlen(actor->name);

	if (!only)
		return true;
	for (const char *p = only; (p = strstr(p, actor->name)); p += n)
		if ((p == only || p[-1] == ',') && (!p[n] || p[n] == ','))
			return true;
	return false;
}

static void start_actors(void)
{
	for (unsigned i = 0; i < NR_ACTORS; i++) {
		struct actor *actor = &actors[i];

		if (!wanted(actor))
			continue;
		// Under ThreadSanitizer a reader of a lane would race with its writer's memcpy.
		if (stress.soft && UNDER_TSAN && actor->step == act_read)
			continue;
		actor->task = stress.task[actor->number % 2];
		actor->random = stress.seed * 1000 + i;
		actor->runs = true;
		if (pthread_create(&actor->thread, NULL, actor_main, actor))
			fail(&judge, "pthread_create");
	}
}

static uint64_t total(size_t offset)
{
	uint64_t sum = 0;

	for (unsigned i = 0; i < NR_ACTORS; i++)
		sum += atomic_load((_Atomic uint64_t *)((char *)&actors[i] + offset));
	return sum;
}

static void say_progress(unsigned second)
{
	struct gw_waits waits;

	if (!isatty(STDOUT_FILENO) && !stress.verbose)
		return;
	gw_migration_waits(stress.machine, &waits);
	printf("%s%3u s  %lu accesses  %lu pages moved  %lu waits", stress.verbose ? "" : "\r", second,
		total(offsetof(struct actor, accesses)), total(offsetof(struct actor, moved)),
		waits.count);
	if (stress.verbose)
		for (unsigned i = 0; i < NR_ACTORS; i++)
			printf(" %s:%lu", actors[i].name, atomic_load(&actors[i].steps));
	printf(stress.verbose ? "\n" : "   ");
	fflush(stdout);
}

// Where its thread is in the kernel, and what engine and host have at the address.
static void say_where(const struct actor *actor)
{
	uint64_t at = actor->at, page = at & ~(PAGE - 1), entry = 0;
	char path[64], text[64] = "";
	int node[2] = {0, 0};
	FILE *f;

	snprintf(path, sizeof path, "/proc/self/task/%d/wchan", actor->tid);
	f = fopen(path, "re");
	if (f && fgets(text, sizeof text, f))
		text[strcspn(text, "\n")] = '\0';
	if (f)
		fclose(f);
	f = fopen("/proc/self/pagemap", "re");
	if (!f || fseek(f, (long)(page / PAGE * 8), SEEK_SET) || fread(&entry, 8, 1, f) != 1)
		entry = 0;
	if (f)
		fclose(f);
	for (unsigned i = 0; i < 2; i++)
		if (gw_move_pages(stress.task[i], 0, 1, &page, NULL, &node[i], 0))
			node[i] = -1000;
	fprintf(stderr, "    at %#lx: status %d (task 0), %d (task 1), pagemap %#lx, thread %d in %s\n",
		at, node[0], node[1], entry, actor->tid, text);
}

// Somebody has not made a step, nor a part of one, for too long.
static void watch(void)
{
	static uint64_t steps[NR_ACTORS];
	static unsigned still[NR_ACTORS];

	for (unsigned i = 0; i < NR_ACTORS; i++) {
		uint64_t now = atomic_load(&actors[i].steps) + atomic_load(&actors[i].accesses) +
			       atomic_load(&actors[i].calls);

		still[i] = now == steps[i] && actors[i].runs ? still[i] + 1 : 0;
		steps[i] = now;
		if (still[i] < STUCK_SECONDS)
			continue;
		for (unsigned k = 0; k < NR_ACTORS; k++) {
			fprintf(stderr, "  %s %u: %s (step %lu, still for %u s)\n", actors[k].name,
				actors[k].number, actors[k].doing ? actors[k].doing : "-",
				atomic_load(&actors[k].steps), still[k]);
			if (still[k] > 5)
				say_where(&actors[k]);
		}
		fail(&judge, "actor %s %u is stuck in %s", actors[i].name, actors[i].number,
			actors[i].doing ? actors[i].doing : "-");
	}
}

// Signals do not shorten it.
static void sleep_ms(unsigned ms)
{
	struct timespec t = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000l};

	while (nanosleep(&t, &t) && errno == EINTR)
		;
}

static void let_run(void)
{
	for (unsigned second = 0; second < seconds; second++) {
		sleep_ms(1000);
		say_progress(second + 1);
		watch();
	}
	atomic_store(&stress.stop, true);
	for (unsigned left = 1, waited = 0; left; waited++) {
		left = 0;
		for (unsigned i = 0; i < NR_ACTORS; i++)
			left += actors[i].runs && (!actors[i].doing ||
							  strcmp(actors[i].doing, "end") != 0);
		if (left) {
			sleep_ms(20);
			if (waited % 50 == 49)
				watch();
		}
	}
	for (unsigned i = 0; i < NR_ACTORS; i++)
		if (actors[i].runs)
			pthread_join(actors[i].thread, NULL);
}

static void open_machine(void)
{
	const uint64_t bytes[NODES] = {96 << 20, 96 << 20, 32 << 20, 0};
	const struct gw_machine_config config = {
		.size = sizeof config,
		.nr_nodes = NODES,
		.nr_cpus = NODES,
		.node_bytes = bytes,
		.backend = backend,
		.blocker = blocker,
	};
	int err = gw_machine_create(&config, &stress.machine);

	if (err == -ENOSYS || err == -EPERM) {
		printf("stress: not here: %s\n", gw_machine_error());
		exit(77);
	}
	if (err) {
		fprintf(stderr, "stress: gw_machine_create: %s\n", gw_machine_error());
		exit(1);
	}
	stress.soft = !strcmp(gw_machine_backend(stress.machine), "soft");
	stress.syscall_safe = stress.soft || gw_machine_syscall_safe(stress.machine);
	for (unsigned i = 0; i < 2; i++) {
		const struct gw_task_config tc = {.size = sizeof tc, .cpu = i};

		expect(&judge, "gw_task_create",
			gw_task_create(stress.machine, &tc, &stress.task[i]), 0);
	}
	expect(&judge, "gw_task_attach", gw_task_attach(stress.task[0]), 0);
}

static void close_machine(void)
{
	for (unsigned i = 0; i < NODES; i++)
		(void)gw_node_unfill(stress.machine, i);
	areas_check(&judge);
	gw_machine_check(stress.machine);
	areas_close();
	expect(&judge, "gw_task_attach", gw_task_attach(NULL), 0);
	for (unsigned i = 0; i < 2; i++)
		gw_task_exit(stress.task[i]);
	gw_machine_check(stress.machine);
}

static void summary(void)
{
	struct gw_waits waits;

	gw_migration_waits(stress.machine, &waits);
	printf("\nstress: %s, %s, seed %lu: %lu accesses, %lu pages moved, %lu calls\n",
		gw_machine_backend(stress.machine), gw_machine_blocker(stress.machine), stress.seed,
		total(offsetof(struct actor, accesses)), total(offsetof(struct actor, moved)),
		total(offsetof(struct actor, calls)));
	printf("waits for moving pages: %lu, p50 %lu us, p99 %lu us, max %lu us\n", waits.count,
		waits.p50_ns / 1000, waits.p99_ns / 1000, waits.max_ns / 1000);
	for (unsigned w = 0; w < GW_WHY_COUNT; w++) {
		uint64_t n = 0;

		for (unsigned i = 0; i < NR_ACTORS; i++)
			n += actors[i].why[w];
		if (n)
			printf("%10lu  %s\n", n, gw_why_text((enum gw_why)w));
	}
}

int main(int argc, char **argv)
{
	size_t before = meta_in_use();

	parse(argc, argv);
	printf("stress: seed %lu, %u s\n", stress.seed, seconds);
	fflush(stdout);
	signals_install();
	if (jolt_us)
		jolt_start(jolt_us);
	open_machine();
	signals_attach(&judge);
	areas_open();
	start_actors();
	let_run();
	summary();
	close_machine();
	gw_machine_destroy(stress.machine);
	jolt_stop();
	if (meta_in_use() != before || meta_check()) {
		fprintf(stderr, "stress: FAILED, seed %lu: %zu objects of the engine are left\n",
			stress.seed, meta_in_use() - before);
		return 1;
	}
	return 0;
}
