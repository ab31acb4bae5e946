// SPDX-License-Identifier: MIT
// What every unit test includes: cmocka with what it needs, a seeded generator, and a check that
// something aborts with a certain text.
#ifndef GODWIT_TESTS_UNIT_H
#define GODWIT_TESTS_UNIT_H

// cmocka needs these first.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define SKIP_TEST 77

static inline uint64_t test_random(uint64_t *state)
{
	*state += 0x9e3779b97f4a7c15;
	uint64_t z = *state;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
	z = (z ^ z >> 27) * 0x94d049bb133111eb;
	return z ^ z >> 31;
}

// GODWIT_SEED from the environment, or the time; printed, so that a failure can be repeated.
static inline uint64_t test_seed(void)
{
	const char *text = getenv("GODWIT_SEED");
	uint64_t seed = text ? strtoull(text, NULL, 0) : (uint64_t)time(NULL);

	printf("seed: GODWIT_SEED=%lu\n", seed);
	return seed;
}

// Runs fn in a child, which must abort after it wrote `text` (anywhere) to stderr.
static inline void assert_aborts(void (*fn)(void *arg), void *arg, const char *text)
{
	char out[8192];
	size_t len = 0;
	int fds[2], status;
	ssize_t n;
	pid_t child;

	assert_int_equal(pipe(fds), 0);
	fflush(NULL);
	child = fork();
	assert_true(child >= 0);
	if (child == 0) {
		signal(SIGABRT, SIG_DFL);
		dup2(fds[1], STDERR_FILENO);
		fn(arg);
		_exit(0);
	}
	close(fds[1]);
	while (len < sizeof(out) - 1 && (n = read(fds[0], out + len, sizeof(out) - 1 - len)) > 0)
		len += (size_t)n;
	out[len] = '\0';
	close(fds[0]);
	waitpid(child, &status, 0);
	if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
		fail_msg("expected an abort with \"%s\"", text);
	if (!strstr(out, text))
		fail_msg("expected \"%s\" in:\n%s", text, out);
}

#endif
