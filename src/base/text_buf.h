// SPDX-License-Identifier: MIT
// A text that grows while it is written. Its bytes are the engine's own (base/meta.h) until
// text_take(), so it may be written under any lock: malloc() may be in managed memory.
#ifndef GODWIT_BASE_TEXT_BUF_H
#define GODWIT_BASE_TEXT_BUF_H

#include "base/compiler.h"

#include <stdbool.h>

// All zero: empty.
struct text_buf {
	char *data; // not terminated
	size_t length, capacity;
	bool failed; // no memory: what was added since is lost, and text_take() says so
};

void text_printf(struct text_buf *text, const char *fmt, ...) printf_format(2, 3);
void text_puts(struct text_buf *text, const char *s);
void text_putc(struct text_buf *text, char c);
// n blanks; none when n is negative.
void text_pad(struct text_buf *text, int n);

// The text, terminated, in memory for free(). -ENOMEM. The buffer is empty afterwards in any case.
// No lock is held.
must_check int text_take(struct text_buf *text, char **ret_text);
void text_discard(struct text_buf *text);

#endif
