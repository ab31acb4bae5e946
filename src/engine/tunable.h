// SPDX-License-Identifier: MIT
// Files: texts to read, tunables to write, each under its Linux path without the leading slash. A
// file is a row of a table. src/text/ has rows for all that a story may name, also for what this
// build does not have (they accept what means "off"); whoever assembles a subsystem registers a
// table of its own, whose rows are looked at first.
#ifndef GODWIT_ENGINE_TUNABLE_H
#define GODWIT_ENGINE_TUNABLE_H

#include "base/compiler.h"

#include <stdatomic.h>
#include <stdbool.h>

struct gw_machine;
struct text_buf;
struct tunable;

#define TUNABLE_INDEXES 2
#define TUNABLE_SLOTS 128

// index: the numbers that stand where the path has '*'. A row whose index means nothing (no such
// node) answers -ENOENT. No lock is held.
typedef int tunable_get_fn(struct gw_machine *machine, const struct tunable *tunable,
	const unsigned *index, struct text_buf *text);
// value: what was written, without a newline at its end. The errors are the file's.
typedef int tunable_set_fn(struct gw_machine *machine, const struct tunable *tunable,
	const unsigned *index, const char *value);

struct tunable {
	const char *path;    // '*': a decimal number
	tunable_get_fn *get; // NULL: write-only, reading is -EACCES
	tunable_set_fn *set; // NULL: read-only, writing is -EACCES
	// What get and set may want to know; see the functions below.
	unsigned slot;
	unsigned long standard, least, most;
	const char *words;
};

// A row that has all it needs in its functions.
#define TUNABLE(path_, get_, set_) {.path = path_, .get = get_, .set = set_}

struct tunable_table {
	const struct tunable *tunable;
	unsigned nr;
};

#define TUNABLE_TABLES 16

// Of a machine; all zero is how it begins. A value is kept beside whether it was ever written, so
// that the table has the default.
struct tunables {
	const struct tunable_table *_Atomic table[TUNABLE_TABLES];
	struct {
		_Atomic bool written;
		_Atomic unsigned long value;
	} slot[TUNABLE_SLOTS];
};

// The table lives as long as the machine. At most TUNABLE_TABLES; before anybody reads or writes.
void tunables_register(struct gw_machine *machine, const struct tunable_table *table);

// Tables of subsystems that are part of every machine.
extern const struct tunable_table tunables_thp; // thp_files.c
extern const struct tunable_table tunables_hugetlb; // hugetlb_files.c
extern const struct tunable_table tunables_compact; // compact_files.c

// ---- For rows

// One number and nothing else, in the base (0: as C writes it). -EINVAL: no number, or outside of
// [least, most].
must_check int tunable_number(const char *value, int base, unsigned long least, unsigned long most,
	unsigned long *ret_value);
// 1 y t on, 0 n f off, as kstrtobool. -EINVAL.
must_check int tunable_bool(const char *value, bool *ret_value);
// Which of "always madvise never" it is, from 0. -EINVAL.
must_check int tunable_word(const char *words, const char *value, unsigned *ret_nth);
// The same words with the nth in brackets, and a newline.
void tunable_print_words(struct text_buf *text, const char *words, unsigned nth);

// The value of a slot of a row: a number (also the nth word).
unsigned long tunable_slot(struct gw_machine *machine, const struct tunable *tunable);
void tunable_set_slot(struct gw_machine *machine, const struct tunable *tunable,
	unsigned long value);

// Whole rows: a number in a slot within [least, most]; words in a slot; constants.
tunable_get_fn tunable_get_number, tunable_get_words;
tunable_get_fn tunable_get_standard; // the number `standard`
tunable_set_fn tunable_set_sysctl;   // base 0
tunable_set_fn tunable_set_sysfs;    // base 10
tunable_set_fn tunable_set_flag;     // kstrtobool
tunable_set_fn tunable_set_words;
// What is not in this build: a valid value that is not the standard one is -EOPNOTSUPP.
tunable_set_fn tunable_refuse_number, tunable_refuse_words;

#endif
