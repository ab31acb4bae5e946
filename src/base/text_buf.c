// SPDX-License-Identifier: MIT
// Texts that grow.
//
// The buffer doubles when it is full. Running out of memory is noted, not returned: a writer of a
// hundred lines need not look after each; whoever takes the text hears of it. Not for several
// threads at once. Locks: META only, inside of meta_alloc().
#include "base/text_buf.h"

#include "base/meta.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TEXT_FIRST 4096

static bool text_reserve(struct text_buf *text, size_t more)
{
	size_t capacity = text->capacity ? text->capacity : TEXT_FIRST;
	char *data;

	if (text->failed)
		return false;
	if (text->capacity - text->length >= more)
		return true;
	while (capacity - text->length < more)
		capacity *= 2;
	data = meta_alloc(capacity);
	if (!data) {
		text->failed = true;
		return false;
	}
	if (text->length)
		memcpy(data, text->data, text->length);
	meta_free(text->data, text->capacity);
	text->data = data;
	text->capacity = capacity;
	return true;
}

void text_printf(struct text_buf *text, const char *fmt, ...)
{
	va_list args;
	int n;

	for (size_t more = 128;; more = (size_t)n + 1) {
		if (!text_reserve(text, more))
			return;
		va_start(args, fmt);
		n = vsnprintf(text->data + text->length, text->capacity - text->length, fmt, args);
		va_end(args);
		if (n < 0 || (size_t)n < text->capacity - text->length)
			break;
	}
	if (n > 0)
		text->length += (size_t)n;
}

static void text_add(struct text_buf *text, const char *s, size_t length)
{
	if (!length || !text_reserve(text, length))
		return;
	memcpy(text->data + text->length, s, length);
	text->length += length;
}

void text_puts(struct text_buf *text, const char *s)
{
	text_add(text, s, strlen(s));
}

void text_putc(struct text_buf *text, char c)
{
	text_add(text, &c, 1);
}

void text_pad(struct text_buf *text, int n)
{
	for (; n > 0; n--)
		text_putc(text, ' ');
}

int text_take(struct text_buf *text, char **ret_text)
{
	char *copy = text->failed ? NULL : malloc(text->length + 1);

	if (copy) {
		if (text->length)
			memcpy(copy, text->data, text->length);
		copy[text->length] = '\0';
		*ret_text = copy;
	}
	text_discard(text);
	return copy ? 0 : -ENOMEM;
}

void text_discard(struct text_buf *text)
{
	meta_free(text->data, text->capacity);
	*text = (struct text_buf){0};
}
