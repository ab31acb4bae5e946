// SPDX-License-Identifier: MIT
// Tables on the terminal.
//
// A thin layer over libsmartcols, so that all commands print alike: titles in capitals, numbers to
// the right, sizes with one unit letter (powers of 1024) and at most one decimal. Nothing is cut
// when the output is not a terminal. Want of memory makes an emptier table, not a failure.

#include "cli/table.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

struct libscols_table *table_new(FILE *out)
{
	struct libscols_table *table = scols_new_table();

	if (table)
		scols_table_set_stream(table, out);
	return table;
}

void table_column(struct libscols_table *table, const char *title, bool number)
{
	if (table)
		scols_table_new_column(table, title, 0, number ? SCOLS_FL_RIGHT : 0);
}

struct libscols_line *table_row(struct libscols_table *table)
{
	return table ? scols_table_new_line(table, NULL) : NULL;
}

void table_cell(struct libscols_line *row, unsigned column, const char *format, ...)
{
	char text[512];
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof text, format, args);
	va_end(args);
	if (row)
		scols_line_set_data(row, column, text);
}

void table_size(struct libscols_line *row, unsigned column, uint64_t bytes)
{
	char text[32];

	table_cell(row, column, "%s", bytes ? size_text(bytes, text, sizeof text) : "-");
}

void table_print(struct libscols_table *table)
{
	if (!table)
		return;
	scols_print_table(table);
	scols_unref_table(table);
}

const char *size_text(uint64_t bytes, char *buf, size_t size)
{
	static const char units[] = "BKMGTPE";
	unsigned unit = 0;
	uint64_t tenths = bytes * 10;

	if (bytes > UINT64_MAX / 16)
		tenths = bytes / 1024 * 10, unit = 1;
	for (; tenths >= 10240 && unit < strlen(units) - 1; unit++)
		tenths = (tenths + 512) / 1024;
	if (tenths % 10 && tenths < 1000)
		snprintf(buf, size, "%llu.%llu%c", (unsigned long long)tenths / 10,
			(unsigned long long)tenths % 10, units[unit]);
	else
		snprintf(buf, size, "%llu%c", (unsigned long long)(tenths + 5) / 10, units[unit]);
	return buf;
}

// ---- Names that others chose --------------------------------------------------------------------

// The bytes of the character there; 0: it is none.
static size_t utf8_length(const unsigned char *s)
{
	static const struct {
		unsigned char first, last, second, second_last;
		size_t length;
	} forms[] = {
		{0x01, 0x7f, 0x00, 0xff, 1},
		{0xc2, 0xdf, 0x80, 0xbf, 2},
		{0xe0, 0xe0, 0xa0, 0xbf, 3},
		{0xe1, 0xec, 0x80, 0xbf, 3},
		{0xed, 0xed, 0x80, 0x9f, 3}, // surrogates are none
		{0xee, 0xef, 0x80, 0xbf, 3},
		{0xf0, 0xf0, 0x90, 0xbf, 4},
		{0xf1, 0xf3, 0x80, 0xbf, 4},
		{0xf4, 0xf4, 0x80, 0x8f, 4},
	};

	for (size_t i = 0; i < sizeof forms / sizeof forms[0]; i++) {
		if (*s < forms[i].first || *s > forms[i].last || s[1] < forms[i].second ||
			s[1] > forms[i].second_last)
			continue;
		for (size_t at = 2; at < forms[i].length; at++)
			if ((s[at] & 0xc0) != 0x80)
				return 0;
		return forms[i].length;
	}
	return 0;
}

static bool is_control(const unsigned char *s)
{
	return *s < ' ' || *s == 127 || (*s == 0xc2 && s[1] < 0xa0);
}

char *safe_text(const char *raw, bool for_terminal)
{
	char *text = malloc(4 * strlen(raw) + 1), *out = text;
	const unsigned char *s = (const unsigned char *)raw;

	while (text && *s) {
		size_t length = utf8_length(s);
		bool escaped = !length || (for_terminal && is_control(s));

		for (length += !length; length; length--, s++)
			if (escaped)
				out += sprintf(out, "\\x%02x", *s);
			else
				*out++ = (char)*s;
	}
	if (text)
		*out = '\0';
	return text;
}
