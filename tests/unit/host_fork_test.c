// SPDX-License-Identifier: MIT
// The host's fork() beside machines: in the child every door of the parent's is shut (no lock of
// the machine is asked for, nothing is written), and the child may build machines of its own,
// whatever the parent's threads were holding at the moment of the fork.
//
// Which functions there are is read from the public headers: one that this file does not call in
// the child, between the two marks below, fails the test.
#include "still_driver.h"
#include "unit.h"

#include <godwit/huge.h>
#include <godwit/machine.h>
#include <godwit/migrate.h>
#include <godwit/movable.h>
#include <godwit/notifier.h>
#include <godwit/policy.h>
#include <godwit/space.h>
#include <godwit/stats.h>
#include <godwit/trace.h>

#include "base/compiler.h"
#include "base/meta.h"
#include "engine/engine.h"
#include "virt/space.h"

#include <dirent.h>
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/mman.h>

#define PAGES 64
#define BYTES (PAGES * GW_PAGE_SIZE)
#define ROUNDS 40
#define STILL_SECONDS 100 // then SIGALRM ends the child

struct setup {
	enum gw_backend backend;
	enum gw_blocker blocker;
	struct gw_machine *machine;
	struct gw_task *task;
};

static const struct setup soft = {GW_BACKEND_SOFT, GW_BLOCKER_AUTO, NULL, NULL};
static const struct setup with_signal = {GW_BACKEND_REWIRE, GW_BLOCKER_SIGNAL, NULL, NULL};
static const struct setup with_userfaultfd = {GW_BACKEND_REWIRE, GW_BLOCKER_USERFAULTFD, NULL, NULL};

// 0, or the error. No assertions: children come here, too.
static int open_machine(struct setup *s)
{
	const uint64_t bytes[2] = {16 << 20, 16 << 20};
	const struct gw_machine_config config = {
		.size = sizeof config,
		.nr_nodes = 2,
		.node_bytes = bytes,
		.backend = s->backend,
		.blocker = s->blocker,
	};
	int err = gw_machine_create(&config, &s->machine);

	if (!err)
		err = gw_task_create(s->machine, NULL, &s->task);
	return err ? err : gw_task_attach(s->task);
}

static int close_machine(struct setup *s)
{
	int err = gw_task_attach(NULL);

	gw_machine_check(s->machine);
	gw_task_exit(s->task);
	gw_machine_destroy(s->machine);
	return err;
}

static int map(struct setup *s, uint64_t *ret_at)
{
	const struct gw_mapping mapping = {
		.size = sizeof mapping,
		.length = BYTES,
		.prot = GW_PROT_READ | GW_PROT_WRITE,
	};

	return gw_map(s->task, &mapping, ret_at);
}

static void wait_for_child(pid_t child)
{
	int status;

	assert_true(child > 0);
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(status, 0);
}

// Locks of the machine, held by another thread while the process forks: in the child they stay so.
struct holder {
	struct setup *s;
	pthread_barrier_t held, forked;
};

static void *hold_locks(void *arg)
{
	struct holder *h = arg;
	struct space *space = task_of(h->s->task)->space;

	mutex_lock(&h->s->machine->mm.tasks_lock);
	mutex_lock(&h->s->machine->fill_lock);
	write_lock(&space->mmap_lock);
	pthread_barrier_wait(&h->held);
	pthread_barrier_wait(&h->forked);
	write_unlock(&space->mmap_lock);
	mutex_unlock(&h->s->machine->fill_lock);
	mutex_unlock(&h->s->machine->mm.tasks_lock);
	return NULL;
}

struct inherited {
	struct setup *s;
	uint64_t at;
	struct gw_pin *pin;
	struct gw_object *object;
	struct gw_notifier *notifier;
	struct gw_driver *driver;
	struct gw_page *page;
};

static const struct gw_notifier_ops no_callbacks;

// The line of the first door that was open, or 0. Not cmocka's assertions: this is a child.
#define SHUT(call)                                                                                 \
	do {                                                                                       \
		if ((call) != -EOWNERDEAD)                                                         \
			return __LINE__;                                                           \
	} while (0)
#define NOTHING(call)                                                                              \
	do {                                                                                       \
		if (call)                                                                          \
			return __LINE__;                                                           \
	} while (0)

// ---- The doors: begin

static int doors_of_machine(struct inherited *in)
{
	struct gw_machine *m = in->s->machine;
	struct gw_waits waits = {1, 2, 3, 4, 5};
	struct gw_object *object;
	struct gw_driver *driver;
	struct gw_task *task;
	int64_t value;
	char *text;

	NOTHING(gw_machine_backend(m));
	NOTHING(gw_machine_blocker(m));
	NOTHING(gw_machine_syscall_safe(m));
	NOTHING(gw_machine_nodes(m) + gw_machine_cpus(m) + gw_trace_mark(m));
	SHUT(gw_clock_advance(m, 1));
	SHUT(gw_node_fill(m, 0, 0));
	SHUT(gw_node_unfill(m, 0));
	SHUT(gw_task_create(m, NULL, &task));
	SHUT(gw_object_create(m, "x", BYTES, &object));
	SHUT(gw_object_create_huge(m, "x", BYTES, 0, &object));
	SHUT(gw_object_open(m, 0, &object));
	SHUT(gw_driver_register(m, "x", &page_ops, NULL, &driver));
	SHUT(gw_text(m, "proc/meminfo", &text));
	SHUT(gw_tunable_set(m, "proc/sys/vm/compact_memory", "1"));
	SHUT(gw_kcompactd_run(m));
	SHUT(gw_vmstat(m, "pgfault", &value));
	SHUT(gw_trace_text(m, 0, &text));
	gw_trace_enable(m, 1);
	gw_khugepaged_scan(m, 1);
	SHUT(gw_kcompactd_run(m));
	gw_migration_waits(m, &waits);
	NOTHING(waits.count | waits.p50_ns | waits.p99_ns | waits.max_ns | waits.overruns);
	gw_machine_check(m);
	return 0;
}

static int doors_of_task(struct inherited *in)
{
	const struct gw_mapping mapping = {.size = sizeof mapping, .length = BYTES};
	const struct gw_move_options options = {.size = sizeof options};
	struct gw_task *t = in->s->task, *child;
	unsigned long nodes = 1;
	uint64_t at = in->at, n;
	struct gw_notifier *notifier;
	struct gw_huge_info info;
	struct gw_pin *pin;
	int mode, status;
	void *p;

	SHUT(gw_task_fork(t, &child));
	SHUT(gw_task_pid(t));
	SHUT(gw_task_set_cpu(t, 0));
	NOTHING(gw_task_cpu(t));
	NOTHING(gw_task_machine(t));
	SHUT(gw_task_attach(t));
	NOTHING(gw_task_attach(NULL)); // the thread of the child is attached to nothing
	SHUT(gw_map(t, &mapping, &n));
	SHUT(gw_alloc(t, BYTES, &p));
	SHUT(gw_unmap(t, at, BYTES));
	SHUT(gw_protect(t, at, BYTES, GW_PROT_READ));
	SHUT(gw_remap(t, at, BYTES, BYTES, 0, &n));
	SHUT(gw_advise(t, at, BYTES, 4));
	SHUT(gw_lock(t, at, BYTES));
	SHUT(gw_unlock(t, at, BYTES));
	SHUT(gw_sync(t, at, BYTES));
	NOTHING(gw_pointer(t, at));
	SHUT(gw_read(t, at, &mode, sizeof mode));
	SHUT(gw_write(t, at, &at, sizeof at));
	SHUT(gw_pin(t, at, BYTES, "x", &pin));
	SHUT(gw_set_mempolicy(t, 0, NULL, 0));
	SHUT(gw_get_mempolicy(t, &mode, NULL, 0, 0, 0));
	SHUT(gw_mbind(t, at, BYTES, 0, NULL, 0, 0));
	SHUT(gw_mbind_explained(t, at, BYTES, 0, NULL, 0, 0, &options));
	SHUT(gw_set_mems(t, 1, 0));
	NOTHING(gw_get_mems(t));
	SHUT(gw_move_pages(t, 0, 1, &at, NULL, &status, 0));
	SHUT(gw_move_pages_explained(t, 0, 1, &at, NULL, &status, 0, &options));
	SHUT(gw_migrate_pages_explained(t, 0, 2, &nodes, &nodes, &options));
	SHUT(gw_migrate_pages(t, 0, 2, &nodes, &nodes));
	SHUT(gw_huge_query(t, at, BYTES, &info, 1));
	SHUT(gw_thp_disable(t, 1));
	SHUT(gw_notifier_register(t, &no_callbacks, NULL, &notifier));
	SHUT(gw_translate(t, at, 0, &p, &n));
	return 0;
}

static int doors_of_the_rest(struct inherited *in)
{
	struct gw_page *page;

	SHUT(gw_object_resize(in->object, 2 * BYTES));
	SHUT(gw_page_alloc(in->driver, 0, &page));
	SHUT(gw_driver_migrate(in->driver, 0, 1));
	SHUT(gw_page_node(in->page));
	NOTHING(gw_page_bytes(in->page));
	NOTHING(gw_page_private(in->page));
	gw_page_set_private(in->page, 1);
	gw_page_lock(in->page);
	gw_page_lock(in->page);
	gw_page_unlock(in->page);
	gw_page_free(in->page);
	gw_driver_unregister(in->driver);
	gw_notifier_unregister(in->notifier);
	gw_object_put(in->object);
	gw_unpin(in->pin);
	gw_task_exit(in->s->task);
	gw_machine_destroy(in->s->machine);
	return 0;
}

// ---- The doors: end

static void fork_and_try(struct inherited *in)
{
	pid_t child;
	int line;

	fflush(NULL);
	child = fork();
	if (!child) {
		alarm(STILL_SECONDS); // a lock was touched
		line = doors_of_machine(in);
		line = line ? line : doors_of_task(in);
		line = line ? line : doors_of_the_rest(in);
		if (line)
			fprintf(stderr, "an open door: line %d\n", line);
		_exit(line != 0);
	}
	wait_for_child(child);
}

static void the_child_finds_shut_doors(struct setup *s)
{
	struct inherited in = {.s = s};
	struct holder h = {.s = s};
	unsigned char byte = 5;
	pthread_t thread;

	assert_int_equal(map(s, &in.at), 0);
	assert_int_equal(gw_write(s->task, in.at, &byte, 1), 1);
	assert_int_equal(gw_pin(s->task, in.at, GW_PAGE_SIZE, "a device", &in.pin), 0);
	assert_int_equal(gw_object_create(s->machine, "an object", BYTES, &in.object), 0);
	assert_int_equal(gw_notifier_register(s->task, &no_callbacks, NULL, &in.notifier), 0);
	assert_int_equal(gw_driver_register(s->machine, "a driver", &page_ops, NULL, &in.driver), 0);
	assert_int_equal(gw_page_alloc(in.driver, 0, &in.page), 0);
	pthread_barrier_init(&h.held, NULL, 2);
	pthread_barrier_init(&h.forked, NULL, 2);
	assert_int_equal(pthread_create(&thread, NULL, hold_locks, &h), 0);
	pthread_barrier_wait(&h.held);
	fork_and_try(&in);
	pthread_barrier_wait(&h.forked);
	pthread_join(thread, NULL);
	pthread_barrier_destroy(&h.held);
	pthread_barrier_destroy(&h.forked);
	assert_int_equal(gw_read(s->task, in.at, &byte, 1), 1);
	assert_int_equal(byte, 5);
	gw_page_free(in.page);
	gw_driver_unregister(in.driver);
	gw_notifier_unregister(in.notifier);
	gw_object_put(in.object);
	gw_unpin(in.pin);
}

// ---- All of them?

// These have no machine to be dead.
static bool needs_no_machine(const char *name)
{
	static const char *const names[] = {"gw_machine_create", "gw_machine_error", "gw_why_text",
		"gw_why_name", "gw_invalidate_reason_text", "gw_vmstat_name", "gw_host_facts"};

	for (unsigned i = 0; i < ARRAY_SIZE(names); i++)
		if (!strcmp(name, names[i]))
			return true;
	return false;
}

static char *read_all(const char *path)
{
	char *text = calloc(1, 1 << 20);
	FILE *f = fopen(path, "re");

	assert_non_null(f);
	assert_true(fread(text, 1, (1 << 20) - 1, f) > 0);
	fclose(f);
	return text;
}

static char *doors_called(void)
{
	char *text = read_all(TEST_DATA "/../unit/host_fork_test.c"), *end;

	// Not found in this line, as it has no line break before it.
	char *begin = strstr(text, "\n// ---- The doors: begin");
	assert_non_null(begin);
	end = strstr(begin, "\n// ---- The doors: end");
	assert_non_null(end);
	*end = '\0';
	memmove(text, begin, strlen(begin) + 1);
	return text;
}

static unsigned doors_missing(const char *header, const char *called)
{
	char path[512], name[128], *text, *p;
	unsigned missing = 0;
	int length = 0;

	snprintf(path, sizeof path, TEST_DATA "/../../include/godwit/%s", header);
	text = read_all(path);
	for (p = text; (p = strstr(p, "GW_EXPORT ")); p += 10) {
		char *at = strstr(p, "gw_"), *line_end = strchr(p, ';');

		while (at && at < line_end) {
			length = (int)strspn(at, "abcdefghijklmnopqrstuvwxyz_");
			if (at[length] == '(')
				break;
			at = strstr(at + length, "gw_");
		}
		if (!at || at > line_end)
			continue;
		snprintf(name, sizeof name, "%.*s", length, at);
		if (needs_no_machine(name))
			continue;
		strcat(name, "(");
		if (strstr(called, name))
			continue;
		print_message("%s: %s...) is not called in a forked child\n", header, name);
		missing++;
	}
	free(text);
	return missing;
}

static void every_door_is_tried(void **state)
{
	DIR *dir = opendir(TEST_DATA "/../../include/godwit");
	char *called = doors_called();
	unsigned missing = 0, headers = 0;
	struct dirent *e;

	(void)state;
	assert_non_null(dir);
	while ((e = readdir(dir))) {
		size_t n = strlen(e->d_name);

		if (n < 2 || strcmp(e->d_name + n - 2, ".h") != 0)
			continue;
		missing += doors_missing(e->d_name, called);
		headers++;
	}
	closedir(dir);
	free(called);
	assert_true(headers > 5);
	assert_int_equal(missing, 0);
}

// ---- Machines of the child's own

static atomic_bool stop;

// What holds the locks that all machines share, each kind most of its time: attachments; the
// allocator and notifiers; all of them, and rmap.
static void hold_attachments(struct setup *s)
{
	if (gw_task_attach(s->task) || gw_task_attach(NULL))
		abort();
}

static void hold_notifiers(struct setup *s)
{
	struct gw_notifier *notifier;

	if (gw_notifier_register(s->task, &no_callbacks, NULL, &notifier))
		abort();
	gw_notifier_unregister(notifier);
}

static void hold_all(struct setup *s)
{
	struct gw_task *child;
	uint64_t at, word = 1;

	hold_attachments(s);
	if (map(s, &at) || gw_write(s->task, at, &word, 8) != 8 || gw_task_fork(s->task, &child))
		abort();
	(void)!gw_write(child, at, &word, 8);
	gw_task_exit(child);
	if (gw_unmap(s->task, at, BYTES))
		abort();
}

static void (*const holds[])(struct setup *) = {hold_attachments, hold_notifiers, hold_all};

struct busy {
	struct setup *s;
	void (*hold)(struct setup *);
	pthread_t thread;
	pthread_barrier_t *begun; // a thread that just starts is in AddressSanitizer's allocator
};

static void *busy(void *arg)
{
	struct busy *b = arg;

	b->hold(b->s);
	pthread_barrier_wait(b->begun);
	while (!atomic_load(&stop))
		b->hold(b->s);
	return NULL;
}

// The line that went wrong, or 0.
#define MUST(cond)                                                                                 \
	do {                                                                                       \
		if (!(cond))                                                                       \
			return __LINE__;                                                           \
	} while (0)

static int machine_in_child(struct setup own)
{
	uint64_t at, word = 7, seen = 0;
	int node = 1, status = -1;
	char *p;

	MUST(open_machine(&own) == 0);
	MUST(map(&own, &at) == 0);
	MUST(gw_write(own.task, at, &word, 8) == 8);
	p = gw_pointer(own.task, at);
	MUST(!p || *(volatile uint64_t *)p == 7);
	MUST(gw_move_pages(own.task, 0, 1, &at, &node, &status, GW_MPOL_MF_MOVE) == 0);
	MUST(status == 1);
	if (p)
		((volatile uint64_t *)p)[1] = 8;
	MUST(gw_read(own.task, at, &seen, 8) == 8 && seen == 7);
	MUST(close_machine(&own) == 0);
	return 0;
}

static void the_child_builds_its_own(struct setup *s)
{
	const struct setup kinds[] = {soft, with_signal};
	struct busy thread[ARRAY_SIZE(holds)];
	pthread_barrier_t begun;

	if (HAVE_TSAN) {
		print_message("ThreadSanitizer starts no threads in a child\n");
		return;
	}
	atomic_store(&stop, false);
	pthread_barrier_init(&begun, NULL, ARRAY_SIZE(holds) + 1);
	for (unsigned i = 0; i < ARRAY_SIZE(holds); i++) {
		thread[i] = (struct busy){.s = s, .hold = holds[i], .begun = &begun};
		assert_int_equal(pthread_create(&thread[i].thread, NULL, busy, &thread[i]), 0);
	}
	pthread_barrier_wait(&begun);
	fflush(NULL);
	for (unsigned round = 0; round < ROUNDS; round++) {
		pid_t child = fork();

		if (!child) {
			int line;

			alarm(STILL_SECONDS);
			signal(SIGSEGV, SIG_DFL);
			line = machine_in_child(kinds[round % 2]);
			if (line)
				fprintf(stderr, "in the child: line %d\n", line);
			_exit(line != 0);
		}
		wait_for_child(child);
	}
	atomic_store(&stop, true);
	for (unsigned i = 0; i < ARRAY_SIZE(holds); i++)
		pthread_join(thread[i].thread, NULL);
	pthread_barrier_destroy(&begun);
}

// ---- On each backend

static void on(struct setup s, void (*body)(struct setup *))
{
	int err = open_machine(&s);

	if (err) {
		print_message("not here: %s\n", gw_machine_error());
		skip();
	}
	body(&s);
	assert_int_equal(close_machine(&s), 0);
	assert_int_equal(meta_in_use(), 0);
}

#define TESTS_OF(f)                                                                                \
	static void f##_soft(void **state)                                                         \
	{                                                                                          \
		(void)state;                                                                       \
		on(soft, f);                                                                       \
	}                                                                                          \
	static void f##_signal(void **state)                                                       \
	{                                                                                          \
		(void)state;                                                                       \
		on(with_signal, f);                                                                \
	}                                                                                          \
	static void f##_userfaultfd(void **state)                                                  \
	{                                                                                          \
		(void)state;                                                                       \
		on(with_userfaultfd, f);                                                           \
	}

TESTS_OF(the_child_finds_shut_doors)
TESTS_OF(the_child_builds_its_own)

#define ON_ALL(f)                                                                                  \
	cmocka_unit_test(f##_soft), cmocka_unit_test(f##_signal), cmocka_unit_test(f##_userfaultfd)

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_door_is_tried),
		ON_ALL(the_child_finds_shut_doors),
		ON_ALL(the_child_builds_its_own),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
