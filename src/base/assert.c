// SPDX-License-Identifier: MIT
// Failed assertions.
//
// An assertion fails only because of a bug, so the one thing that matters is that its text gets
// out: it may be in a SIGSEGV handler, under any lock, or with a broken heap. The text is therefore
// put together in a buffer of the stack and written with one write(2); then the process aborts.
// Nothing here takes a lock or allocates. Text beyond the buffer is cut off.
#include "base/assert.h"

#include "base/sched.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define TEXT_MAX 512

static void write_all(const char *text, size_t len)
{
	while (len > 0) {
		ssize_t n = write(STDERR_FILENO, text, len);

		if (n <= 0)
			return;
		text += n;
		len -= (size_t)n;
	}
}

static size_t append(char *buf, size_t len, const char *fmt, va_list args)
{
	int n = vsnprintf(buf + len, TEXT_MAX - len, fmt, args);

	return n < 0 ? len : min(len + (size_t)n, (size_t)TEXT_MAX - 1);
}

void assert_failed(const char *file, int line, const char *cond, const char *fmt, ...)
{
	char buf[TEXT_MAX];
	size_t len;
	va_list args;

	len = (size_t)snprintf(buf, sizeof(buf), "godwit: %s:%d: %s: ", file, line, cond);
	len = min(len, sizeof(buf) - 1);
	va_start(args, fmt);
	len = append(buf, len, fmt, args);
	va_end(args);
	len = min(len, sizeof(buf) - 2);
	buf[len++] = '\n';
	write_all(buf, len);
	if (sched_active())
		assert_print("godwit: this was a run with the seed %lu\n", sched_seed());
	abort();
}

void assert_print(const char *fmt, ...)
{
	char buf[TEXT_MAX];
	va_list args;

	va_start(args, fmt);
	write_all(buf, append(buf, 0, fmt, args));
	va_end(args);
}
