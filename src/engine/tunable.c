// SPDX-License-Identifier: MIT
// Rows of tunables: how values are read and written, and what most rows have in common.
//
// A value is parsed as the kernel does: files of sysfs take a decimal number, with a + if need be,
// sysctls and debugfs a number as C writes it, without one; switches what kstrtobool knows, choices
// one of their words. Whatever is wrong with it is -EINVAL, and nothing changes then.
//
// A row without variables of its own keeps its value in a slot of the machine. A slot that was
// never written stands for the row's standard value.
//
// Locks: none; values are atomic words. Registering happens while the machine is built, when nobody
// else has it.
#include "engine/tunable.h"

#include "base/assert.h"
#include "base/text_buf.h"
#include "engine/engine.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

void tunables_register(struct gw_machine *machine, const struct tunable_table *table)
{
	for (unsigned i = 0; i < TUNABLE_TABLES; i++) {
		if (machine->tunables.table[i])
			continue;
		machine->tunables.table[i] = table;
		return;
	}
	must_hold(false, "more than %d tables of tunables", TUNABLE_TABLES);
}

int tunable_number(const char *value, int base, unsigned long least, unsigned long most,
	unsigned long *ret_value)
{
	const int callers_errno = errno;
	unsigned long n;
	bool overflow;
	char *end;

	while (isspace((unsigned char)*value))
		value++;
	value += base == 10 && *value == '+';
	if (!isdigit((unsigned char)*value))
		return -EINVAL;
	errno = 0;
	n = strtoul(value, &end, base);
	overflow = errno != 0;
	errno = callers_errno;
	while (isspace((unsigned char)*end))
		end++;
	if (*end || overflow || n < least || n > most)
		return -EINVAL;
	*ret_value = n;
	return 0;
}

int tunable_bool(const char *value, bool *ret_value)
{
	char letter = value[0];

	if (letter == 'o' || letter == 'O') // on, off: the next letter decides
		letter = value[1] == 'n' || value[1] == 'N' ? '1'
			: value[1] == 'f' || value[1] == 'F' ? '0'
							     : '\0';
	if (!letter)
		return -EINVAL;
	if (strchr("1yYtT", letter))
		*ret_value = true;
	else if (strchr("0nNfF", letter))
		*ret_value = false;
	else
		return -EINVAL;
	return 0;
}

// The word at *words, which goes on to the next one; 0 at the end.
static size_t next_word(const char **words, const char **ret_word)
{
	*words += strspn(*words, " ");
	*ret_word = *words;
	*words += strcspn(*words, " ");
	return (size_t)(*words - *ret_word);
}

int tunable_word(const char *words, const char *value, unsigned *ret_nth)
{
	const char *word;
	size_t length;

	for (unsigned nth = 0; (length = next_word(&words, &word)) != 0; nth++) {
		if (strlen(value) == length && !memcmp(word, value, length)) {
			*ret_nth = nth;
			return 0;
		}
	}
	return -EINVAL;
}

void tunable_print_words(struct text_buf *text, const char *words, unsigned nth)
{
	const char *word;
	size_t length;

	for (unsigned i = 0; (length = next_word(&words, &word)) != 0; i++) {
		if (i)
			text_putc(text, ' ');
		text_printf(text, i == nth ? "[%.*s]" : "%.*s", (int)length, word);
	}
	text_putc(text, '\n');
}

unsigned long tunable_slot(struct gw_machine *machine, const struct tunable *tunable)
{
	assert_that(tunable->slot < TUNABLE_SLOTS, "slot %u", tunable->slot);
	if (!machine->tunables.slot[tunable->slot].written)
		return tunable->standard;
	return machine->tunables.slot[tunable->slot].value;
}

void tunable_set_slot(struct gw_machine *machine, const struct tunable *tunable,
	unsigned long value)
{
	assert_that(tunable->slot < TUNABLE_SLOTS, "slot %u", tunable->slot);
	machine->tunables.slot[tunable->slot].value = value;
	machine->tunables.slot[tunable->slot].written = true;
}

// ---- Whole rows

int tunable_get_number(struct gw_machine *machine, const struct tunable *t,
	const unsigned *index maybe_unused, struct text_buf *text)
{
	text_printf(text, "%lu\n", tunable_slot(machine, t));
	return 0;
}

int tunable_get_words(struct gw_machine *machine, const struct tunable *t,
	const unsigned *index maybe_unused, struct text_buf *text)
{
	tunable_print_words(text, t->words, (unsigned)tunable_slot(machine, t));
	return 0;
}

int tunable_get_standard(struct gw_machine *machine maybe_unused, const struct tunable *t,
	const unsigned *index maybe_unused, struct text_buf *text)
{
	if (t->words)
		tunable_print_words(text, t->words, (unsigned)t->standard);
	else
		text_printf(text, "%lu\n", t->standard);
	return 0;
}

static int set_number(struct gw_machine *machine, const struct tunable *t, const char *value,
	int base)
{
	unsigned long n;
	int err = tunable_number(value, base, t->least, t->most, &n);

	if (!err)
		tunable_set_slot(machine, t, n);
	return err;
}

int tunable_set_sysctl(struct gw_machine *machine, const struct tunable *t,
	const unsigned *index maybe_unused, const char *value)
{
	return set_number(machine, t, value, 0);
}

int tunable_set_sysfs(struct gw_machine *machine, const struct tunable *t,
	const unsigned *index maybe_unused, const char *value)
{
	return set_number(machine, t, value, 10);
}

int tunable_set_flag(struct gw_machine *machine, const struct tunable *t,
	const unsigned *index maybe_unused, const char *value)
{
	bool on;
	int err = tunable_bool(value, &on);

	if (!err)
		tunable_set_slot(machine, t, on);
	return err;
}

int tunable_set_words(struct gw_machine *machine, const struct tunable *t,
	const unsigned *index maybe_unused, const char *value)
{
	unsigned nth;
	int err = tunable_word(t->words, value, &nth);

	if (!err)
		tunable_set_slot(machine, t, nth);
	return err;
}

int tunable_refuse_number(struct gw_machine *machine maybe_unused, const struct tunable *t,
	const unsigned *index maybe_unused, const char *value)
{
	unsigned long n;
	int err = tunable_number(value, 0, t->least, t->most, &n);

	if (err)
		return err;
	return n == t->standard ? 0 : -EOPNOTSUPP;
}

int tunable_refuse_words(struct gw_machine *machine maybe_unused, const struct tunable *t,
	const unsigned *index maybe_unused, const char *value)
{
	unsigned nth;
	int err = tunable_word(t->words, value, &nth);

	if (err)
		return err;
	return nth == t->standard ? 0 : -EOPNOTSUPP;
}
