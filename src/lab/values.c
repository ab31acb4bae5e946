// SPDX-License-Identifier: MIT
// The larger values of the language: status lists, comparison signs, and options in any order.
//
// Options are described by a table that the caller declares on its stack; the reader fills in
// which were seen and their values, refuses one that comes twice, and lists what it knows when it
// meets a word that it does not know. See line.c for how errors are kept.

#include "lab/parser.h"
#include "lab/words.h"

#include <stdlib.h>
#include <string.h>

// ---- Status lists -------------------------------------------------------------------------------

static bool read_status(struct parser *p, struct word w, bool unwritten, int32_t *ret_value)
{
	int64_t n;
	if (unwritten && word_is(w, "?")) {
		*ret_value = STATUS_UNWRITTEN;
		return true;
	}
	if (word_begins(w, "-E")) {
		struct word name = word_from(w, 1);
		int error = errno_by_name(name.s, name.length);
		*ret_value = -error;
		return error || bad_word(p, w, "an error such as -ENOENT");
	}
	if (!w.length || (w.s[0] != '-' && (w.s[0] < '0' || w.s[0] > '9')))
		return bad_word(p, w, unwritten ? "a node, -ERROR or ?" : "a node or -ENOENT");
	if (!read_integer(p, w, &n))
		return false;
	if (n < -4095 || n > 4095)
		return bad_word(p, w, "a status from -4095 to 4095");
	*ret_value = (int32_t)n;
	return true;
}

bool read_statuses(struct parser *p, bool unwritten, struct status_list *ret_list)
{
	struct pile runs = {0};
	bool counted = false, good = true;
	struct word w;
	while (good && (!runs.count || more_words(p))) {
		struct word value, times;
		struct status_run run = {.count = 1};
		good = take_word(p, "a list of statuses such as 1*512 -ENOENT", &w);
		if (!good)
			break;
		bool has_count = cut_at(w, '*', &value, &times);
		counted |= has_count;
		good = read_status(p, value, unwritten, &run.value) &&
			(!has_count || read_number(p, times, &run.count));
		if (good && !run.count)
			good = bad_word(p, times, "a count of at least 1");
		struct status_run *kept = good ? pile_push(p, &runs, sizeof(*kept)) : NULL;
		if (kept)
			*kept = run;
		good = kept;
	}
	ret_list->count = runs.count;
	ret_list->counted = counted || runs.count > 1;
	ret_list->v = good ? pile_keep(p, &runs, sizeof(struct status_run)) : NULL;
	free(runs.v);
	return ret_list->v;
}

bool read_op(struct parser *p, enum compare_op *ret_op)
{
	static const char *const signs[] = {
		[OP_EQ] = "=", [OP_NE] = "!=", [OP_GE] = ">=", [OP_LE] = "<="};
	*ret_op = OP_EQ;
	if (!more_words(p))
		return true;
	struct word w = ((struct word *)p->words.v)[p->next];
	for (unsigned op = 0; op < sizeof(signs) / sizeof(signs[0]); op++)
		if (word_is(w, signs[op])) {
			*ret_op = op;
			p->next++;
			return true;
		}
	if (strchr("=!<>", w.s[0]))
		return bad_word(p, w, "=, !=, >= or <= as a word of its own");
	return true;
}

// ---- Options ------------------------------------------------------------------------------------

static bool unknown_option(struct parser *p, struct word w, const struct option_spec *options,
	size_t count)
{
	char expected[160] = "";
	size_t used = 0;
	for (size_t i = 0; i < count && used < sizeof(expected); i++) {
		int n = snprintf(expected + used, sizeof(expected) - used, "%s%s%s",
			i == 0		? ""
			: i + 1 < count ? ", "
					: " or ",
			options[i].name, options[i].kind == OPTION_FLAG ? "" : "=");
		used += n > 0 ? (size_t)n : 0;
	}
	return bad_word(p, w, count ? expected : "the end of the line");
}

static bool read_option_value(struct parser *p, struct option_spec *o)
{
	int64_t integer = 0;
	unsigned small = 0;
	bool good = true;
	switch (o->kind) {
	case OPTION_FLAG:
	case OPTION_TEXT:
		return true;
	case OPTION_NUMBER:
		return read_number(p, o->value, &o->number);
	case OPTION_INTEGER:
		good = read_integer(p, o->value, &integer);
		o->number = (uint64_t)integer;
		return good;
	case OPTION_SIZE:
	case OPTION_SIZE_OR_FLAG:
		return read_size(p, o->value, &o->number);
	case OPTION_NODES:
		return read_nodes(p, o->value, &o->number);
	case OPTION_NODE:
		good = read_node(p, o->value, &small);
		break;
	case OPTION_CPU:
		good = read_cpu(p, o->value, &small);
		break;
	}
	o->number = small;
	return good;
}

static bool read_option(struct parser *p, struct word w, struct option_spec *o, bool has_value)
{
	if (o->seen)
		return bad(p, w.column, "%s a second time, expected it once", o->name);
	o->seen = true;
	if (has_value && o->kind == OPTION_FLAG)
		return bad(p, w.column, "a value for %s, expected the word alone", o->name);
	if (!has_value && (o->kind == OPTION_FLAG || o->kind == OPTION_SIZE_OR_FLAG))
		return true;
	if (!has_value || !o->value.length)
		return bad(p, o->value.column, "no value for %s, expected %s=...", o->name,
			o->name);
	return read_option_value(p, o);
}

static struct option_spec *option_named(struct option_spec *options, size_t count, struct word name)
{
	for (size_t i = 0; i < count; i++)
		if (word_is(name, options[i].name))
			return &options[i];
	return NULL;
}

bool read_options(struct parser *p, struct option_spec *options, size_t count, struct pile *rest)
{
	struct word w, name, value;
	while (more_words(p)) {
		if (!take_word(p, "", &w))
			return false;
		bool has_value = cut_at(w, '=', &name, &value);
		struct option_spec *o = option_named(options, count, name);
		if (o) {
			o->value = value;
			if (!read_option(p, w, o, has_value))
				return false;
			continue;
		}
		if (has_value || !rest)
			return unknown_option(p, w, options, count);
		struct word *kept = pile_push(p, rest, sizeof(*kept));
		if (!kept)
			return false;
		*kept = w;
	}
	return true;
}
