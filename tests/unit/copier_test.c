// SPDX-License-Identifier: MIT
#include "base/types.h"
#include "machine/copier.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#define PAGES 1600ul

static uint8_t *area(void)
{
	uint8_t *p = aligned_alloc(PAGE_SIZE, (PAGES + 2) * PAGE_SIZE);

	memset(p, 0xaa, (PAGES + 2) * PAGE_SIZE);
	return p;
}

// Pages 1..nr of dst are those of src, their neighbours untouched.
static void check_copy(struct copier *c, uint8_t *dst, uint8_t *src, size_t nr)
{
	copier_copy(c, dst + PAGE_SIZE, src + PAGE_SIZE, nr);
	assert_memory_equal(dst + PAGE_SIZE, src + PAGE_SIZE, nr << PAGE_SHIFT);
	assert_int_equal(dst[PAGE_SIZE - 1], 0xaa);
	assert_int_equal(dst[(nr + 1) << PAGE_SHIFT], 0xaa);
	copier_clear(c, dst + PAGE_SIZE, nr);
	for (size_t i = PAGE_SIZE; i < (nr + 1) << PAGE_SHIFT; i += 61)
		assert_int_equal(dst[i], 0);
	assert_int_equal(dst[PAGE_SIZE - 1], 0xaa);
	assert_int_equal(dst[(nr + 1) << PAGE_SHIFT], 0xaa);
	memset(dst + PAGE_SIZE, 0xaa, nr << PAGE_SHIFT);
}

static void copies(void **state maybe_unused)
{
	static const size_t sizes[] = {1, 2, 63, 64, 65, 255, 256, 512, 1600};
	uint8_t *src = area(), *dst = area();

	for (size_t i = 0; i < (PAGES + 2) * PAGE_SIZE; i++)
		src[i] = (uint8_t)(i * 2654435761u >> 13);
	for (int kind = COPIER_AUTO; kind <= COPIER_PARALLEL; kind++)
		for (unsigned threads = 1; threads < 5; threads += 3) {
			struct copier *c;

			assert_int_equal(copier_open((enum copier_kind)kind, threads, &c), 0);
			for (size_t s = 0; s < ARRAY_SIZE(sizes); s++)
				check_copy(c, dst, src, sizes[s]);
			if (threads == 1)
				print_message("kind %d: %s, %.1f GB/s\n", kind, copier_name(c),
					copier_measure(c) / 1e9);
			copier_close(c);
		}
	free(src);
	free(dst);
}

static struct copier *shared;

static void *copy_main(void *arg maybe_unused)
{
	uint8_t *src = area(), *dst = area();

	for (int round = 0; round < 20; round++) {
		memset(src, round, PAGES * PAGE_SIZE);
		copier_copy(shared, dst, src, PAGES);
		if (memcmp(dst, src, PAGES * PAGE_SIZE))
			abort();
	}
	free(src);
	free(dst);
	return NULL;
}

static void callers_at_once(void **state maybe_unused)
{
	pthread_t thread[3];

	assert_int_equal(copier_open(COPIER_PARALLEL, 3, &shared), 0);
	for (int i = 0; i < 3; i++)
		pthread_create(&thread[i], NULL, copy_main, NULL);
	for (int i = 0; i < 3; i++)
		pthread_join(thread[i], NULL);
	copier_close(shared);
}

static void after_fork(void **state maybe_unused)
{
	int status;
	pid_t pid;

	assert_int_equal(copier_open(COPIER_PARALLEL, 3, &shared), 0);
	pid = fork();
	if (pid == 0) { // the workers are not here
		copy_main(NULL);
		copier_close(shared);
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	copy_main(NULL);
	copier_close(shared);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(copies),
		cmocka_unit_test(callers_at_once),
		cmocka_unit_test(after_fork),
	};

	return cmocka_run_group_tests_name("copier", tests, NULL, NULL);
}
