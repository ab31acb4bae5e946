// SPDX-License-Identifier: MIT
// The futex system call, private to the process. errno is left as it was: the library never sets
// it, and these run in signal handlers.
#ifndef GODWIT_BASE_FUTEX_H
#define GODWIT_BASE_FUTEX_H

#include "base/compiler.h"

#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <stdatomic.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

// Sleeps while *word == value, until the absolute CLOCK_MONOTONIC time (UINT64_MAX: for ever).
// 0 when woken, for no reason, or when the value differed; -ETIMEDOUT.
static inline int futex_wait(_Atomic uint32_t *word, uint32_t value, uint64_t deadline_ns)
{
	struct timespec at = {
		.tv_sec = (time_t)(deadline_ns / 1000000000),
		.tv_nsec = (long)(deadline_ns % 1000000000),
	};
	int saved = errno, err = 0;

	if (syscall(SYS_futex, word, FUTEX_WAIT_BITSET_PRIVATE, value,
		    deadline_ns == UINT64_MAX ? NULL : &at, NULL, FUTEX_BITSET_MATCH_ANY) < 0 &&
		errno == ETIMEDOUT)
		err = -ETIMEDOUT;
	errno = saved;
	return err;
}

// The word itself is not read: it may be gone.
static inline void futex_wake(_Atomic uint32_t *word, int n)
{
	int saved = errno;

	syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, n, NULL, NULL, 0);
	errno = saved;
}

#endif
