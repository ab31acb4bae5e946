// SPDX-License-Identifier: MIT
// The metadata allocator: random allocations against a model that stamps every object, the handles,
// giving memory back, threads, a SIGSEGV handler, failures, and misuse.
#include "unit.h"

#include "base/assert.h"
#include "base/fault_inject.h"
#include "base/meta.h"

#include <errno.h>
#include <pthread.h>
#include <sys/mman.h>

#define OBJECTS 400

struct object {
	unsigned char *p;
	size_t size;
	unsigned char stamp;
};

static bool is_filled(const unsigned char *p, unsigned char value, size_t size)
{
	return p[0] == value && memcmp(p, p + 1, size - 1) == 0;
}

static size_t random_size(uint64_t r)
{
	switch (r % 8) {
	case 0:
		return 4096;
	case 1:
		return 1 + (r >> 8) % (300 << 10);
	case 2:
		return 1 + (r >> 8) % (64 << 10);
	default:
		return 1 + (r >> 8) % 700;
	}
}

static void allocate(struct object *o, uint64_t r)
{
	o->size = random_size(r);
	o->stamp = (unsigned char)(1 + r % 255);
	o->p = meta_alloc(o->size);
	must_hold(o->p, "no memory for %zu", o->size);
	must_hold(IS_ALIGNED((uintptr_t)o->p, 64), "%p", (void *)o->p);
	must_hold(o->size % 4096 || IS_ALIGNED((uintptr_t)o->p, 4096), "%p", (void *)o->p);
	must_hold(is_filled(o->p, 0, o->size), "%p is not zero", (void *)o->p);
	must_hold(meta_pointer(meta_handle(o->p)) == o->p, "handle of %p", (void *)o->p);
	must_hold(meta_handle(o->p) >> META_HANDLE_BITS == 0, "handle of %p", (void *)o->p);
	memset(o->p, o->stamp, o->size);
}

static void release(struct object *o)
{
	if (!o->p)
		return;
	must_hold(is_filled(o->p, o->stamp, o->size), "%p was overwritten", (void *)o->p);
	meta_free(o->p, o->size);
	o->p = NULL;
}

static void churn(struct object *objects, uint64_t random, int steps, bool check)
{
	for (int step = 0; step < steps; step++) {
		uint64_t r = test_random(&random);
		struct object *o = &objects[r % OBJECTS];

		if (o->p)
			release(o);
		else
			allocate(o, r >> 10);
		if (check && step % 64 == 0)
			assert_int_equal(meta_check(), 0);
	}
	for (int i = 0; i < OBJECTS; i++)
		release(&objects[i]);
}

static void test_against_stamps(void **state maybe_unused)
{
	static struct object objects[OBJECTS];
	size_t before = meta_in_use(), bytes = meta_in_use_bytes();

	churn(objects, test_seed(), 20000, true);
	assert_int_equal(meta_in_use(), before);
	assert_int_equal(meta_in_use_bytes(), bytes);
	assert_int_equal(meta_check(), 0);
	// At most the few empty chunks that are kept.
	assert_true(meta_resident_bytes() <= 16 * (256 << 10));
}

static void *churn_main(void *arg)
{
	struct object *objects = calloc(OBJECTS, sizeof(*objects));

	churn(objects, (uintptr_t)arg, 3000, false);
	free(objects);
	return NULL;
}

static void test_threads(void **state maybe_unused)
{
	pthread_t threads[3];
	size_t before = meta_in_use();

	for (uintptr_t i = 0; i < 3; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, churn_main, (void *)i), 0);
	for (int i = 0; i < 3; i++)
		pthread_join(threads[i], NULL);
	assert_int_equal(meta_in_use(), before);
	assert_int_equal(meta_check(), 0);
}

static void test_every_size_class(void **state maybe_unused)
{
	size_t before = meta_in_use_bytes();

	for (size_t size = 1; size <= META_CLASS_MAX + 4096; size += size < 1024 ? 1 : 61) {
		struct object a, b;

		a.size = b.size = size;
		a.p = meta_alloc(size);
		b.p = meta_alloc(size);
		assert_non_null(a.p);
		assert_non_null(b.p);
		assert_true(a.p + size <= b.p || b.p + size <= a.p);
		assert_int_equal(meta_in_use_bytes(), before + 2 * size);
		meta_free(a.p, size);
		meta_free(b.p, size);
	}
	assert_int_equal(meta_check(), 0);
}

static void test_ends(void **state maybe_unused)
{
	int on_stack;
	void *p;

	assert_null(meta_alloc(0));
	assert_null(meta_alloc(SIZE_MAX));
	assert_null(meta_alloc(META_REGION_SIZE));
	meta_free(NULL, 10);
	assert_int_equal(meta_handle(NULL), 0);
	assert_null(meta_pointer(0));
	assert_false(meta_contains(&on_stack));
	p = meta_new(struct object);
	assert_true(meta_contains(p));
	meta_delete((struct object *)p);
	assert_int_equal(meta_check(), 0);
}

// A large table is zero again after it was used, and its memory went back.
static void test_large(void **state maybe_unused)
{
	size_t size = 50UL << 20, resident = meta_resident_bytes();

	for (int round = 0; round < 3; round++) {
		unsigned char *p = meta_alloc(size);

		assert_non_null(p);
		assert_true(is_filled(p, 0, 1 << 20) && p[size - 1] == 0);
		memset(p, 0xff, 1 << 20);
		p[size - 1] = 1;
		assert_true(meta_resident_bytes() >= size);
		meta_free(p, size);
		assert_true(meta_resident_bytes() <= resident);
	}
}

static char *trap;
static struct object in_handler;

static void on_segv(int sig maybe_unused)
{
	in_handler.size = 100;
	in_handler.p = meta_alloc(100);
	mprotect(trap, 4096, PROT_READ | PROT_WRITE);
}

static void test_in_signal_handler(void **state maybe_unused)
{
	struct sigaction old, action = {.sa_handler = on_segv};

	trap = mmap(NULL, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	assert_ptr_not_equal(trap, MAP_FAILED);
	sigaction(SIGSEGV, &action, &old);
	*(volatile char *)trap = 1;
	sigaction(SIGSEGV, &old, NULL);
	assert_non_null(in_handler.p);
	meta_free(in_handler.p, in_handler.size);
	munmap(trap, 4096);
}

static void test_fork(void **state maybe_unused)
{
	int *p = meta_alloc(sizeof(int)), status;
	pid_t child;

	*p = 42;
	meta_fork_prepare();
	child = fork();
	if (child == 0) {
		void *q;

		meta_fork_child();
		q = meta_alloc(100);
		_exit(q && *p == 42 ? 0 : 1);
	}
	meta_fork_parent();
	waitpid(child, &status, 0);
	assert_int_equal(status, 0);
	meta_free(p, sizeof(int));
}

#ifdef GODWIT_DEBUG
static int build_three(void **ret)
{
	void *p[3] = {NULL};

	for (int i = 0; i < 3; i++) {
		p[i] = meta_alloc(64);
		if (!p[i])
			goto free_all;
	}
	memcpy(ret, p, sizeof(p));
	return 0;
free_all:
	for (int i = 0; i < 3; i++)
		meta_free(p[i], 64);
	return -1;
}

static void test_failure_sweep(void **state maybe_unused)
{
	size_t before = meta_in_use();
	void *p[3];
	uint64_t n;

	for (n = 0;; n++) {
		int err;

		fault_arm(FI_META, FI_THREAD, n, 1);
		err = build_three(p);
		if (!fault_disarm(FI_META))
			break;
		assert_int_equal(err, -1);
		assert_int_equal(meta_in_use(), before);
	}
	assert_int_equal(n, 3);
	for (int i = 0; i < 3; i++)
		meta_free(p[i], 64);
}

static void free_twice(void *arg maybe_unused)
{
	void *keep = meta_alloc(64), *p = meta_alloc(64);

	meta_free(p, 64);
	meta_free(p, 64);
	meta_free(keep, 64);
}
#endif

static void free_wrong_size(void *arg maybe_unused)
{
	meta_free(meta_alloc(64), 65);
}

static void free_inside(void *arg maybe_unused)
{
	char *p = meta_alloc(128);

	meta_free(p + 64, 128);
}

static void free_foreign(void *arg maybe_unused)
{
	int on_stack;

	meta_free(&on_stack, sizeof(on_stack));
}

#if HAVE_ASAN
static void use_after_free(void *arg maybe_unused)
{
	volatile char *p = meta_alloc(64);

	meta_free((void *)p, 64);
	p[20] = 1;
}

static void overrun(void *arg maybe_unused)
{
	volatile char *p = meta_alloc(100);

	p[104] = 1;
}
#endif

// What the program has locked in memory is not given back, and nobody hears of it.
static void test_locked(void **state maybe_unused)
{
	const size_t size = 1ul << 20;
	char *p = meta_alloc(size);

	assert_non_null(p);
	memset(p, 1, size);
	if (mlock(p, size))
		skip();
	errno = 77;
	meta_free(p, size);
	assert_int_equal(errno, 77);
	assert_int_equal(meta_check(), 0);
	munlock(p, size);
	p = meta_alloc(size);
	for (size_t i = 0; i < size; i++)
		assert_int_equal(p[i], 0);
	meta_free(p, size);
}

static void test_misuse(void **state maybe_unused)
{
	assert_aborts(free_wrong_size, NULL, "meta_free");
	assert_aborts(free_inside, NULL, "meta_free");
	assert_aborts(free_foreign, NULL, "not of the region");
#ifdef GODWIT_DEBUG
	assert_aborts(free_twice, NULL, "freed before");
#endif
#if HAVE_ASAN
	assert_aborts(use_after_free, NULL, "use-after-poison");
	assert_aborts(overrun, NULL, "use-after-poison");
#endif
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_against_stamps),
		cmocka_unit_test(test_threads),
		cmocka_unit_test(test_every_size_class),
		cmocka_unit_test(test_ends),
		cmocka_unit_test(test_large),
		cmocka_unit_test(test_in_signal_handler),
		cmocka_unit_test(test_fork),
#ifdef GODWIT_DEBUG
		cmocka_unit_test(test_failure_sweep),
#endif
		cmocka_unit_test(test_locked),
		cmocka_unit_test(test_misuse),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
