// SPDX-License-Identifier: MIT
// The same system calls seen through plain pointers, on each backend that gives real ones: after
// unmap, protect, remap, fork and drops a load or store through the pointer does what the page
// table says, and faults where it forbids.
#include "soft_machine.h"

#include "machine/clock.h"
#include "machine/mmu.h"

#include <sys/mman.h>

#define RW (VM_READ | VM_WRITE)

static enum mmu_blocker blocker;

struct view {
	struct soft_machine m;
	struct clock clock;
	struct task *task;
	struct space *space;
};

// ---- Accesses that may be refused

static sigjmp_buf refused;

static void on_signal(int sig)
{
	siglongjmp(refused, sig);
}

// 0, or the signal.
static int try_store(volatile char *p, char c)
{
	int sig = sigsetjmp(refused, 1);

	if (!sig)
		*p = c;
	return sig;
}

static int try_load(volatile char *p, char *ret_c)
{
	int sig = sigsetjmp(refused, 1);

	if (!sig)
		*ret_c = *p;
	return sig;
}

static char load(volatile char *p)
{
	char c = 0;

	assert_int_equal(try_load(p, &c), 0);
	return c;
}

static void store(volatile char *p, char c)
{
	assert_int_equal(try_store(p, c), 0);
}

static void refuses_store(volatile char *p)
{
	assert_int_equal(try_store(p, 1), SIGSEGV);
}

static void refuses_load(volatile char *p)
{
	char c;

	assert_int_equal(try_load(p, &c), SIGSEGV);
}

// ---- A machine with a real backend

// Inside of the test: cmocka puts its own signal handlers in place before each.
static struct view *open_view(void)
{
	struct sigaction sa = {.sa_handler = on_signal, .sa_flags = SA_NODEFER};
	const struct mmu_config config = {
		.backend = MMU_BACKEND_REWIRE, .blocker = blocker};
	struct view *v = calloc(1, sizeof(*v));
	struct mmu *mmu;

	assert_non_null(v);
	assert_int_equal(sigaction(SIGSEGV, &sa, NULL), 0); // before the engine's, which chains
	assert_int_equal(sigaction(SIGBUS, &sa, NULL), 0);
	soft_machine_open(&v->m);
	clock_init_monotonic(&v->clock);
	v->m.mm.clock = &v->clock;
	if (mmu_open(&config, mm_host_fault, &mmu)) {
		soft_machine_close(&v->m);
		free(v);
		print_message("this host has no such backend\n");
		skip();
	}
	v->m.mm.mmu->ops->close(v->m.mm.mmu);
	v->m.mm.mmu = mmu;
	assert_int_equal(task_create(&v->m.mm, 0, 0, &v->task), 0);
	assert_int_equal(task_attach(v->task), 0);
	v->space = v->task->space;
	return v;
}

static void close_view(struct view *v)
{
	assert_int_equal(task_attach(NULL), 0);
	task_exit(v->task);
	mm_check(&v->m.mm);
	soft_machine_close(&v->m);
	free(v);
}

static char *map_own(struct view *v, uint64_t pages)
{
	const struct map_request r = {.len = pages << PAGE_SHIFT, .flags = RW, .own = true};
	uint64_t addr = 0;

	assert_int_equal(space_map(v->space, &r, &addr), 0);
	return (char *)(uintptr_t)addr;
}

static uint64_t num(const char *p)
{
	return (uintptr_t)p;
}

// ---- Tests

static void stores_make_pages(void **state maybe_unused)
{
	struct view *v = open_view();
	char *p = map_own(v, 16);

	assert_int_equal(load(p), 0);
	store(p, 5);
	store(p + 0x5000, 6);
	assert_int_equal(load(p), 5);
	assert_int_equal(v->space->rss_anon, 2);
	mm_check(&v->m.mm);
	close_view(v);
}

static void unmapped_pages_fault(void **state maybe_unused)
{
	struct view *v = open_view();
	char *p = map_own(v, 8);

	for (unsigned i = 0; i < 8; i++)
		store(p + i * PAGE_SIZE, (char)i);
	assert_int_equal(space_unmap(v->space, num(p) + 0x2000, 0x2000), 0);
	refuses_load(p + 0x2000);
	refuses_store(p + 0x3fff);
	assert_int_equal(load(p + 0x1000), 1);
	assert_int_equal(load(p + 0x4000), 4);
	// The hole is filled with new memory, not with what it held.
	const struct map_request r = {
		.addr = num(p) + 0x2000, .fixed = true, .len = 0x2000, .flags = RW, .own = true};
	uint64_t addr;
	assert_int_equal(space_map(v->space, &r, &addr), 0);
	assert_int_equal(load(p + 0x2000), 0);
	store(p + 0x2000, 9);
	assert_int_equal(load(p + 0x2000), 9);
	close_view(v);
}

static void protections_hold_and_go(void **state maybe_unused)
{
	struct view *v = open_view();
	char *p = map_own(v, 8);

	store(p, 1);
	store(p + 0x1000, 2);
	assert_int_equal(space_protect(v->space, num(p), 0x3000, VM_READ), 0);
	refuses_store(p);
	assert_int_equal(load(p), 1);
	assert_int_equal(load(p + 0x2000), 0); // never touched
	refuses_store(p + 0x2000);
	assert_int_equal(space_protect(v->space, num(p), 0x3000, 0), 0);
	refuses_load(p);
	refuses_load(p + 0x2000);
	assert_int_equal(space_protect(v->space, num(p), 0x8000, RW), 0);
	assert_int_equal(load(p + 0x1000), 2);
	store(p, 3);
	store(p + 0x2000, 4);
	assert_int_equal(load(p), 3);
	close_view(v);
}

// A translation the host does not have must not come to be by changing its permission.
static void a_protection_of_pages_the_host_lost(void **state maybe_unused)
{
	struct view *v = open_view();
	struct task *child;
	char *p = map_own(v, 4);

	store(p, 7);
	store(p + 0x1000, 8);
	assert_int_equal(task_fork(v->task, 0, &child), 0);
	// The child's pages are not translated yet.
	char *c = space_pointer(child->space, num(p));
	assert_int_equal(space_protect(child->space, num(p), 0x2000, VM_READ), 0);
	assert_int_equal(load(c), 7);
	refuses_store(c);
	assert_int_equal(space_protect(child->space, num(p), 0x2000, 0), 0);
	assert_int_equal(space_protect(child->space, num(p), 0x2000, RW), 0);
	assert_int_equal(load(c + 0x1000), 8);
	store(c, 9);
	assert_int_equal(load(c), 9);
	assert_int_equal(load(p), 7);
	store(p + 0x1000, 10);
	assert_int_equal(load(c + 0x1000), 8);
	mm_check(&v->m.mm);
	task_exit(child);
	close_view(v);
}

static void a_child_of_a_child_loses_write_where_nothing_is_translated(void **state maybe_unused)
{
	struct view *v = open_view();
	struct task *child, *grandchild;
	char *p = map_own(v, 2);

	store(p, 7);
	assert_int_equal(task_fork(v->task, 0, &child), 0);
	assert_int_equal(task_fork(child, 0, &grandchild), 0);
	assert_int_equal(load(space_pointer(child->space, num(p))), 7);
	assert_int_equal(load(space_pointer(grandchild->space, num(p))), 7);
	store(space_pointer(grandchild->space, num(p)), 1);
	assert_int_equal(load(p), 7);
	task_exit(grandchild);
	task_exit(child);
	close_view(v);
}

static void moved_memory_is_at_the_new_pointer(void **state maybe_unused)
{
	struct view *v = open_view();
	char *p = map_own(v, 600), *q;
	uint64_t to;

	for (unsigned i = 0; i < 600; i++)
		store(p + i * PAGE_SIZE, (char)i);
	assert_int_equal(space_remap(v->space, NULL, num(p), 600 * PAGE_SIZE, 700 * PAGE_SIZE, 0, false,
				 &to), 0);
	q = (char *)(uintptr_t)to;
	for (unsigned i = 0; i < 600; i++)
		assert_int_equal(load(q + i * PAGE_SIZE), (char)i);
	assert_int_equal(load(q + 650 * PAGE_SIZE), 0);
	store(q, 77);
	assert_int_equal(load(q), 77);
	refuses_load(p);
	mm_check(&v->m.mm);
	close_view(v);
}

static void dropped_pages_are_zero(void **state maybe_unused)
{
	struct view *v = open_view();
	char *p = map_own(v, 8);

	for (unsigned i = 0; i < 8; i++)
		store(p + i * PAGE_SIZE, 1);
	assert_int_equal(space_advise(v->space, v->task, num(p), 0x4000, 4), 0);
	assert_int_equal(load(p), 0);
	assert_int_equal(load(p + 0x3000), 0);
	assert_int_equal(load(p + 0x4000), 1);
	// Populated memory can be handed to the kernel.
	int fd[2];
	assert_int_equal(pipe(fd), 0);
	assert_int_equal(write(fd[1], "hello", 5), 5);
	assert_int_equal(space_advise(v->space, v->task, num(p) + 0x1000, 0x1000, 23), 0);
	assert_int_equal(read(fd[0], p + 0x1000, 5), 5);
	assert_memory_equal(p + 0x1000, "hello", 5);
	close(fd[0]);
	close(fd[1]);
	close_view(v);
}

static void shared_memory_is_one_at_all_its_pointers(void **state maybe_unused)
{
	struct view *v = open_view();
	struct object *shm;
	uint64_t a, b;

	assert_int_equal(object_create_shmem(&v->m.mm, "x", 0x4000, &shm), 0);
	const struct map_request r = {
		.len = 0x4000, .flags = RW | VM_SHARED, .object = shm, .own = true};
	assert_int_equal(space_map(v->space, &r, &a), 0);
	assert_int_equal(space_map(v->space, &r, &b), 0);
	store((char *)(uintptr_t)a + 0x1000, 4);
	assert_int_equal(load((char *)(uintptr_t)b + 0x1000), 4);
	store((char *)(uintptr_t)b + 0x1000, 5);
	assert_int_equal(load((char *)(uintptr_t)a + 0x1000), 5);
	object_put(shm);
	close_view(v);
}

#define view_test(f) cmocka_unit_test(f)

int main(void)
{
	const struct CMUnitTest tests[] = {
		view_test(stores_make_pages),
		view_test(unmapped_pages_fault),
		view_test(protections_hold_and_go),
		view_test(a_protection_of_pages_the_host_lost),
		view_test(a_child_of_a_child_loses_write_where_nothing_is_translated),
		view_test(moved_memory_is_at_the_new_pointer),
		view_test(dropped_pages_are_zero),
		view_test(shared_memory_is_one_at_all_its_pointers),
	};
	int failed;

	blocker = MMU_BLOCKER_SIGNAL;
	failed = cmocka_run_group_tests_name("signal", tests, NULL, NULL);
	blocker = MMU_BLOCKER_USERFAULTFD;
	return failed + cmocka_run_group_tests_name("userfaultfd", tests, NULL, NULL);
}
