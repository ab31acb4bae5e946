// SPDX-License-Identifier: MIT
// What the stress program, the random operations and the sweeps have found, each as small as it can
// be told, on every backend this host gives.
#include "../unit/unit.h"

#include <godwit/machine.h>
#include <godwit/migrate.h>
#include <godwit/policy.h>
#include <godwit/space.h>

#include "engine/engine.h"

#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <setjmp.h>
#include <sys/mman.h>

#define PAGE GW_PAGE_SIZE
#define STILL_SECONDS 100 // then SIGALRM ends the test
#define RW (GW_PROT_READ | GW_PROT_WRITE)

struct setup {
	enum gw_backend backend;
	enum gw_blocker blocker;
	struct gw_machine *machine;
	struct gw_task *task;
};

static struct setup soft = {GW_BACKEND_SOFT, GW_BLOCKER_AUTO, NULL, NULL};
static struct setup with_signal = {GW_BACKEND_REWIRE, GW_BLOCKER_SIGNAL, NULL, NULL};
static struct setup with_userfaultfd = {GW_BACKEND_REWIRE, GW_BLOCKER_USERFAULTFD, NULL, NULL};

static _Thread_local sigjmp_buf escape;
static _Thread_local volatile sig_atomic_t expected;

static void on_signal(int sig)
{
	if (!expected)
		_exit(100 + sig);
	expected = 0;
	siglongjmp(escape, sig);
}

// Not a fixture of cmocka's, which puts its own handlers over those of a machine made there.
static void open_machine(struct setup *s)
{
	const struct sigaction action = {.sa_handler = on_signal};
	const struct gw_machine_config config = {
		.size = sizeof config,
		.nr_nodes = 3,
		.nr_cpus = 3,
		.node_bytes = (const uint64_t[]){16 << 20, 16 << 20, 16 << 20},
		.backend = s->backend,
		.blocker = s->blocker,
	};

	sigaction(SIGSEGV, &action, NULL);
	sigaction(SIGBUS, &action, NULL);
	if (gw_machine_create(&config, &s->machine)) {
		print_message("not here: %s\n", gw_machine_error());
		skip();
	}
	assert_int_equal(gw_task_create(s->machine, NULL, &s->task), 0);
	assert_int_equal(gw_task_attach(s->task), 0);
}

static void close_machine(struct setup *s)
{
	assert_int_equal(gw_task_attach(NULL), 0);
	gw_machine_check(s->machine);
	gw_task_exit(s->task);
	gw_machine_check(s->machine);
	gw_machine_destroy(s->machine);
}

static uint64_t map_at(struct setup *s, unsigned pages, uint64_t address, unsigned prot)
{
	const struct gw_mapping mapping = {
		.size = sizeof mapping, .length = pages * PAGE, .address = address, .prot = prot};
	uint64_t at;

	assert_int_equal(gw_map(s->task, &mapping, &at), 0);
	return at;
}

// 0, or the signal of an access of this program. On soft an access is a call.
static int poke(struct setup *s, uint64_t at, uint64_t value)
{
	volatile uint64_t *p = gw_pointer(s->task, at);
	int sig;

	if (!p)
		return gw_write(s->task, at, &value, 8) == 8 ? 0 : SIGSEGV;
	sig = sigsetjmp(escape, 1);
	if (sig)
		return sig;
	expected = 1;
	*p = value;
	expected = 0;
	return 0;
}

static int peek(struct setup *s, uint64_t at, uint64_t *ret_value)
{
	volatile uint64_t *p = gw_pointer(s->task, at);
	int sig;

	if (!p)
		return gw_read(s->task, at, ret_value, 8) == 8 ? 0 : SIGSEGV;
	sig = sigsetjmp(escape, 1);
	if (sig)
		return sig;
	expected = 1;
	*ret_value = *p;
	expected = 0;
	return 0;
}

static void assert_holds(struct setup *s, uint64_t at, uint64_t value)
{
	uint64_t seen = 0;

	assert_int_equal(peek(s, at, &seen), 0);
	assert_int_equal(seen, value);
}

static long move(struct setup *s, uint64_t at, unsigned pages, int node, int *status)
{
	uint64_t address[64];
	int nodes[64];

	for (unsigned i = 0; i < pages; i++) {
		address[i] = at + i * PAGE;
		nodes[i] = node;
	}
	return gw_move_pages(s->task, 0, pages, address, nodes, status, GW_MPOL_MF_MOVE);
}

// A page that moved while nobody might access it has no translation; giving the permission back
// showed zeros.
static void test_move_while_inaccessible(struct setup *s)
{
	int status[4];
	uint64_t at, value;

	at = map_at(s, 4, 0, RW);
	for (unsigned i = 0; i < 4; i++)
		assert_int_equal(poke(s, at + i * PAGE, i + 1), 0);
	for (unsigned prot = 0; prot < 2; prot++) {
		assert_int_equal(gw_protect(s->task, at, 4 * PAGE, GW_PROT_NONE), 0);
		assert_int_equal(peek(s, at, &value), SIGSEGV);
		assert_int_equal(move(s, at, 4, prot ? 1 : 2, status), 0);
		assert_int_equal(gw_protect(s->task, at, 4 * PAGE, prot ? GW_PROT_READ : RW), 0);
		for (unsigned i = 0; i < 4; i++)
			assert_holds(s, at + i * PAGE, i + 1);
	}
	assert_int_equal(poke(s, at, 1), SIGSEGV);
}

// An access that was refused is asked for again when it is permitted, also where nothing ever was.
static void test_refused_then_permitted(struct setup *s)
{
	uint64_t at, value = 1;

	at = map_at(s, 8, 0, GW_PROT_NONE);
	assert_int_equal(peek(s, at, &value), SIGSEGV);
	assert_int_equal(poke(s, at + PAGE, 1), SIGSEGV);
	assert_int_equal(gw_protect(s->task, at, 8 * PAGE, GW_PROT_READ), 0);
	assert_holds(s, at, 0);
	assert_int_equal(poke(s, at, 1), SIGSEGV);
	assert_int_equal(poke(s, at + 2 * PAGE, 1), SIGSEGV);
	assert_int_equal(gw_protect(s->task, at, 8 * PAGE, RW), 0);
	for (unsigned i = 0; i < 8; i++) {
		assert_int_equal(poke(s, at + i * PAGE, i), 0);
		assert_holds(s, at + i * PAGE, i);
	}
}

// Also in a hole that is mapped again, at the same pointers.
static void test_hole_is_filled(struct setup *s)
{
	uint64_t at, value;
	void *pointer;

	at = map_at(s, 8, 0, RW);
	pointer = gw_pointer(s->task, at + 2 * PAGE);
	assert_int_equal(gw_unmap(s->task, at + 2 * PAGE, 3 * PAGE), 0);
	if (pointer) {
		expected = 1;
		if (!sigsetjmp(escape, 1)) {
			*(volatile char *)pointer = 1;
			fail_msg("a store in a hole went through");
		}
	}
	assert_int_equal(map_at(s, 3, at + 2 * PAGE, RW), at + 2 * PAGE);
	assert_ptr_equal(gw_pointer(s->task, at + 2 * PAGE), pointer);
	assert_int_equal(peek(s, at + 2 * PAGE, &value), 0);
	assert_int_equal(poke(s, at + 2 * PAGE, 5), 0);
	assert_holds(s, at + 2 * PAGE, 5);
}

// Addresses that were given out by number are not given out again because the host has room there.
static void test_numbers_are_not_given_twice(struct setup *s)
{
	uint64_t at, by_number, again[8];

	at = map_at(s, 16, 0, RW);
	assert_int_equal(gw_unmap(s->task, at, 16 * PAGE), 0);
	by_number = map_at(s, 8, at + 4 * PAGE, RW);
	assert_int_equal(by_number, at + 4 * PAGE);
	for (unsigned i = 0; i < 8; i++) {
		again[i] = map_at(s, 16, 0, RW);
		assert_true(again[i] + 16 * PAGE <= by_number || again[i] >= by_number + 8 * PAGE);
	}
	gw_machine_check(s->machine);
}

// A part of a mapping is synced, and the call returns.
static void test_sync_of_a_part(struct setup *s)
{
	struct gw_object *object;
	struct gw_mapping mapping = {.size = sizeof mapping, .length = 4 * PAGE, .prot = RW,
		.flags = GW_MAP_SHARED};
	int fd = memfd_create("file", 0);
	uint64_t at, value = 0;

	assert_int_equal(ftruncate(fd, 4 * PAGE), 0);
	assert_int_equal(gw_object_open(s->machine, fd, &object), 0);
	mapping.object = object;
	assert_int_equal(gw_map(s->task, &mapping, &at), 0);
	for (unsigned i = 0; i < 4; i++)
		assert_int_equal(poke(s, at + i * PAGE, i + 1), 0);
	assert_int_equal(gw_sync(s->task, at + PAGE, PAGE), 0);
	assert_int_equal(pread(fd, &value, 8, PAGE), 8);
	assert_int_equal(value, 2);
	assert_int_equal(gw_sync(s->task, at + PAGE, 0), 0);
	gw_object_put(object);
	close(fd);
}

// ---- In the middle of a move

// A move stops when its pages are unmapped, until it is told to go on.
struct stopped_move {
	struct mm_notifier notifier; // first
	struct setup *s;
	uint64_t at;
	sem_t unmapped, go_on;
	pthread_t mover, toucher;
	struct gw_task *whose, *child;
	uint64_t seen;
	long moved;
	atomic_bool stopped; // once
};

static void ignore(struct mm_notifier *n, uint64_t start, uint64_t end,
	enum mm_invalidate_reason reason)
{
	(void)n, (void)start, (void)end, (void)reason;
}

static void stop_here(struct mm_notifier *n, uint64_t start, uint64_t end,
	enum mm_invalidate_reason reason)
{
	struct stopped_move *m = (struct stopped_move *)n;

	(void)start, (void)end;
	if (reason != MM_INVALIDATE_MIGRATE || atomic_exchange(&m->stopped, true))
		return;
	sem_post(&m->unmapped);
	sem_wait(&m->go_on);
}

static void *mover_main(void *arg)
{
	struct stopped_move *m = arg;
	int status;

	const int node = 1;

	m->moved = gw_move_pages(m->whose, 0, 1, &m->at, &node, &status, GW_MPOL_MF_MOVE);
	return NULL;
}

static void *toucher_main(void *arg)
{
	struct stopped_move *m = arg;

	if (gw_task_attach(m->s->task) || poke(m->s, m->at, 77))
		abort();
	return gw_task_attach(NULL) ? arg : NULL;
}

// Returns when the page is unmapped and a store to it waits.
static void stop_a_move(struct stopped_move *m, struct setup *s, struct gw_task *whose, uint64_t at)
{
	struct mm_core *mm = &s->machine->mm;

	*m = (struct stopped_move){.s = s, .at = at, .whose = whose};
	m->notifier.space = ((struct task *)whose)->space;
	m->notifier.start = ignore;
	m->notifier.end = stop_here;
	sem_init(&m->unmapped, 0, 0);
	sem_init(&m->go_on, 0, 0);
	mm_notifier_register(mm, &m->notifier);
	assert_int_equal(pthread_create(&m->mover, NULL, mover_main, m), 0);
	sem_wait(&m->unmapped);
	assert_int_equal(pthread_create(&m->toucher, NULL, toucher_main, m), 0);
	usleep(50000); // asleep by now, or the test is weaker
	alarm(STILL_SECONDS);
}

static void let_go_on(struct stopped_move *m)
{
	sem_post(&m->go_on);
	pthread_join(m->mover, NULL);
	pthread_join(m->toucher, NULL);
	alarm(0);
	mm_notifier_unregister(&m->s->machine->mm, &m->notifier);
	sem_destroy(&m->unmapped);
	sem_destroy(&m->go_on);
}

// The first word of a page of a task by its pointer, or by a call.
static uint64_t first_word(struct gw_task *task, uint64_t at)
{
	volatile uint64_t *p = gw_pointer(task, at);
	uint64_t value = 0;

	if (p)
		return *p;
	assert_int_equal(gw_read(task, at, &value, 8), 8);
	return value;
}

static void *reader_main(void *arg)
{
	struct stopped_move *m = arg;

	if (gw_task_attach(m->s->task))
		abort();
	m->seen = first_word(m->child, m->at);
	return gw_task_attach(NULL) ? arg : NULL;
}

// What a child was given by a fork and has not touched yet has no translation. It must not get one,
// of zeros, when its page moves.
static void test_child_reads_while_moving(struct setup *s)
{
	uint64_t at = map_at(s, 4, 0, RW);
	struct stopped_move m;
	struct gw_task *child;
	pthread_t reader;

	assert_int_equal(poke(s, at, 1), 0);
	assert_int_equal(gw_task_fork(s->task, &child), 0);
	assert_int_equal(poke(s, at, 2), 0); // the parent's copy: the old page is the child's alone
	stop_a_move(&m, s, child, at);
	m.child = child;
	assert_int_equal(pthread_create(&reader, NULL, reader_main, &m), 0);
	usleep(20000);
	let_go_on(&m);
	pthread_join(reader, NULL);
	assert_int_equal(m.moved, 0);
	assert_int_equal(m.seen, 1);
	assert_holds(s, at, 77);
	gw_task_exit(child);
}

static uint64_t map_object(struct setup *s, struct gw_object **ret_object)
{
	struct gw_mapping mapping = {.size = sizeof mapping, .length = 4 * PAGE, .prot = RW,
		.flags = GW_MAP_SHARED};
	uint64_t at;

	assert_int_equal(gw_object_create(s->machine, "shared", 4 * PAGE, ret_object), 0);
	mapping.object = *ret_object;
	assert_int_equal(gw_map(s->task, &mapping, &at), 0);
	assert_int_equal(poke(s, at, 1), 0);
	return at;
}

// Who sleeps until a page has moved is woken when it is taken away instead.
static void test_taken_away_while_moving(struct setup *s)
{
	struct gw_object *object;
	struct stopped_move m;
	uint64_t at = map_object(s, &object);

	stop_a_move(&m, s, s->task, at);
	assert_int_equal(gw_advise(s->task, at, PAGE, MADV_DONTNEED), 0);
	let_go_on(&m);
	assert_holds(s, at, 77);
	gw_object_put(object);
}

// And when its permission goes and comes back meanwhile. (Of the whole mapping: to split it would
// need the rmap lock, which the move holds.)
static void test_protected_while_moving(struct setup *s)
{
	uint64_t at = map_at(s, 4, 0, RW);
	struct stopped_move m;

	assert_int_equal(poke(s, at, 1), 0);
	stop_a_move(&m, s, s->task, at);
	assert_int_equal(gw_protect(s->task, at, 4 * PAGE, GW_PROT_READ), 0);
	assert_int_equal(gw_protect(s->task, at, 4 * PAGE, RW), 0);
	let_go_on(&m);
	assert_int_equal(m.moved, 0);
	assert_holds(s, at, 77);
}

struct found {
	void (*test)(struct setup *);
	struct setup *setup;
};

static void run(void **state)
{
	const struct found *found = *state;

	open_machine(found->setup);
	found->test(found->setup);
	close_machine(found->setup);
}

#define ON(f, s)                                                                                   \
	{                                                                                          \
		#f " " #s, run, NULL, NULL, &(struct found){f, &s}                                 \
	}
#define ON_ALL(f) ON(f, soft), ON(f, with_signal), ON(f, with_userfaultfd)

int main(void)
{
	const struct CMUnitTest tests[] = {
		ON_ALL(test_move_while_inaccessible),
		ON_ALL(test_refused_then_permitted),
		ON_ALL(test_hole_is_filled),
		ON_ALL(test_numbers_are_not_given_twice),
		ON_ALL(test_sync_of_a_part),
		ON_ALL(test_taken_away_while_moving),
		ON_ALL(test_protected_while_moving),
		ON_ALL(test_child_reads_while_moving),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
