// SPDX-License-Identifier: MIT
// Tables on the terminal: aligned columns, sizes with units.
#ifndef GODWIT_CLI_TABLE_H
#define GODWIT_CLI_TABLE_H

#include <libsmartcols.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

// A table for `out`; NULL: no memory. Columns of numbers are aligned to the right.
struct libscols_table *table_new(FILE *out);
void table_column(struct libscols_table *table, const char *title, bool number);
// Appends a row; its cells are set from the left with table_cell. NULL: no memory.
struct libscols_line *table_row(struct libscols_table *table);
void table_cell(struct libscols_line *row, unsigned column, const char *format, ...)
	__attribute__((format(printf, 3, 4)));
// "12.5M"; 0 is "-", so that what is there stands out.
void table_size(struct libscols_line *row, unsigned column, uint64_t bytes);
// Prints and frees it.
void table_print(struct libscols_table *table);

// 4096 is "4K", 1610612736 "1.5G". Returns buf.
const char *size_text(uint64_t bytes, char *buf, size_t size);

// A name as UTF-8, with \xNN for bytes that are none, and for control characters if a terminal is
// to show it. (Tables do so by themselves, and JSON has its own way with control characters.) The
// caller's to free(); NULL: no memory.
char *safe_text(const char *raw, bool for_terminal);

#endif
