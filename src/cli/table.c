// SPDX-License-Identifier: MIT
// Tables on the terminal.
//
// A thin layer over libsmartcols, so that all commands print alike: titles in capitals, numbers to
// the right, sizes with one unit letter (powers of 1024) and at most one decimal. Nothing is cut
// when the output is not a terminal. Want of memory makes an emptier table, not a failure.

#include "cli/table.h"

#include <stdarg.h>
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
