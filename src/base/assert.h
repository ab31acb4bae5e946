// SPDX-License-Identifier: MIT
// Assertions, for bugs only: never for input, never for a call that may fail. A failing one writes
// its values to stderr with write(2) and aborts.
//   assert_that(cond, fmt, ...)  with GODWIT_DEBUG; otherwise cond is compiled but not evaluated
//   must_hold(cond, fmt, ...)    always
//   build_assert(cond, "why")    at compile time
#ifndef GODWIT_BASE_ASSERT_H
#define GODWIT_BASE_ASSERT_H

#include "base/compiler.h"

_Noreturn void assert_failed(const char *file, int line, const char *cond, const char *fmt, ...)
	printf_format(4, 5) cold;

// Text of at most 511 bytes to stderr, usable in a signal handler short of the formatting itself;
// for dumps that precede an abort.
void assert_print(const char *fmt, ...) printf_format(1, 2) cold;

#define must_hold(cond, ...)                                                                       \
	do {                                                                                       \
		if (unlikely(!(cond)))                                                             \
			assert_failed(__FILE__, __LINE__, #cond, __VA_ARGS__);                     \
	} while (0)

#ifdef GODWIT_DEBUG
#define assert_that(cond, ...) must_hold(cond, __VA_ARGS__)
#else
#define assert_that(cond, ...)                                                                     \
	do {                                                                                       \
		if (0)                                                                             \
			must_hold(cond, __VA_ARGS__);                                              \
	} while (0)
#endif

#define build_assert(cond, why) _Static_assert(cond, why)

#endif
