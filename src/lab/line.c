// SPDX-License-Identifier: MIT
// A line cut into words, and the values that words can be.
//
// Words are slices of the text of the file with the column they begin at, so that every message
// can point at the exact place, also inside a word ("to=0,x": the x). The readers below take a
// slice, check all of it, and record one error per line: after the first the line is given up.
// Growing arrays (struct pile) live in ordinary memory and are copied into the story's arena when
// their size is known.

#include "lab/parser.h"

#include <ctype.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

// ---- Piles --------------------------------------------------------------------------------------

void *pile_push(struct parser *p, struct pile *pile, size_t size)
{
	if (pile->count == pile->capacity) {
		size_t capacity = pile->capacity ? pile->capacity * 2 : 8;
		void *v = reallocarray(pile->v, capacity, size);
		if (!v) {
			out_of_memory(p);
			return NULL;
		}
		pile->v = v;
		pile->capacity = capacity;
	}
	void *element = (char *)pile->v + pile->count++ * size;
	memset(element, 0, size);
	return element;
}

void *pile_keep(struct parser *p, const struct pile *pile, size_t size)
{
	void *copy = story_arena_alloc(p->arena, pile->count * size + 1);
	if (!copy)
		out_of_memory(p);
	else if (pile->count)
		memcpy(copy, pile->v, pile->count * size);
	return copy;
}

// ---- Errors -------------------------------------------------------------------------------------

bool bad(struct parser *p, unsigned column, const char *format, ...)
{
	struct story_errors *errors = p->errors;
	if (errors->count == STORY_ERRORS_MAX) {
		errors->more = true;
		return false;
	}
	struct story_error *e = &errors->v[errors->count++];
	e->line = p->line;
	e->column = column;
	va_list args;
	va_start(args, format);
	vsnprintf(e->text, sizeof(e->text), format, args);
	va_end(args);
	return false;
}

bool bad_word(struct parser *p, struct word w, const char *expected)
{
	int length = w.length > 40 ? 40 : (int)w.length;
	if (!length)
		return bad(p, w.column, "nothing here, expected %s", expected);
	return bad(p, w.column, "unexpected '%.*s%s', expected %s", length, w.s,
		w.length > 40 ? "..." : "", expected);
}

bool out_of_memory(struct parser *p)
{
	p->no_memory = true;
	return false;
}

// ---- Words --------------------------------------------------------------------------------------

static bool is_blank(char c)
{
	return c == ' ' || c == '\t' || c == '\r';
}

// Blanks separate; the caller has cut off the comment.
bool cut_words(struct parser *p, const char *s, size_t length)
{
	p->words.count = 0;
	p->next = 0;
	p->end_column = 1;
	for (size_t i = 0; i < length;) {
		if (is_blank(s[i])) {
			i++;
			continue;
		}
		size_t start = i;
		for (; i < length && !is_blank(s[i]); i++)
			if (!isgraph((unsigned char)s[i]))
				return bad(p, (unsigned)i + 1,
					"byte 0x%02x in a word, expected printable ASCII",
					(unsigned char)s[i]);
		struct word *w = pile_push(p, &p->words, sizeof(*w));
		if (!w)
			return false;
		*w = (struct word){s + start, i - start, (unsigned)start + 1};
		p->end_column = (unsigned)i + 1;
	}
	return true;
}

bool more_words(const struct parser *p)
{
	return p->next < p->words.count;
}

bool take_word(struct parser *p, const char *expected, struct word *ret_word)
{
	if (!more_words(p))
		return bad(p, p->end_column, "the line ends here, expected %s", expected);
	*ret_word = ((struct word *)p->words.v)[p->next++];
	return true;
}

bool end_of_line(struct parser *p)
{
	struct word w;
	if (!more_words(p))
		return true;
	return take_word(p, "", &w) && bad_word(p, w, "the end of the line");
}

bool word_is(struct word w, const char *text)
{
	return strlen(text) == w.length && !memcmp(w.s, text, w.length);
}

bool word_begins(struct word w, const char *prefix)
{
	size_t n = strlen(prefix);
	return n <= w.length && !memcmp(w.s, prefix, n);
}

struct word word_from(struct word w, size_t at)
{
	return (struct word){w.s + at, w.length - at, w.column + (unsigned)at};
}

// Cuts at the first c; false, with all of w on the left, when there is none.
bool cut_at(struct word w, char c, struct word *ret_left, struct word *ret_right)
{
	const char *found = w.length ? memchr(w.s, c, w.length) : NULL;
	size_t at = found ? (size_t)(found - w.s) : w.length;
	*ret_left = (struct word){w.s, at, w.column};
	*ret_right = word_from(w, found ? at + 1 : w.length);
	return found;
}

const char *keep_word(struct parser *p, struct word w)
{
	const char *copy = story_arena_copy(p->arena, w.s, w.length);
	if (!copy)
		out_of_memory(p);
	return copy;
}

const char *keep_rest(struct parser *p, const char *expected)
{
	struct word w;
	size_t length = 0, used = 0;
	for (size_t i = p->next; i < p->words.count; i++)
		length += ((struct word *)p->words.v)[i].length + 1;
	if (!length)
		return take_word(p, expected, &w), NULL;
	char *text = story_arena_alloc(p->arena, length);
	if (!text)
		return out_of_memory(p), NULL;
	while (more_words(p) && take_word(p, expected, &w)) {
		if (used)
			text[used++] = ' ';
		memcpy(text + used, w.s, w.length);
		used += w.length;
	}
	return text;
}

// ---- Numbers ------------------------------------------------------------------------------------

// Digits, 0x digits too; what does not belong to the number is left in *rest.
static bool read_digits(struct word w, uint64_t *ret_number, struct word *ret_rest)
{
	unsigned base = 10;
	size_t i = 0;
	uint64_t n = 0;
	if (w.length > 2 && w.s[0] == '0' && (w.s[1] == 'x' || w.s[1] == 'X')) {
		base = 16;
		i = 2;
	}
	size_t first = i;
	for (; i < w.length; i++) {
		int c = tolower((unsigned char)w.s[i]);
		unsigned digit = isdigit(c)		? (unsigned)(c - '0')
			: base == 16 && isxdigit(c) ? (unsigned)(c - 'a' + 10)
						    : 16;
		if (digit >= base)
			break;
		if (__builtin_mul_overflow(n, (uint64_t)base, &n) ||
			__builtin_add_overflow(n, (uint64_t)digit, &n))
			return false;
	}
	*ret_number = n;
	*ret_rest = word_from(w, i);
	return i > first;
}

bool read_number(struct parser *p, struct word w, uint64_t *ret_number)
{
	struct word rest;
	if (read_digits(w, ret_number, &rest) && !rest.length)
		return true;
	return bad_word(p, w, "a number");
}

bool read_integer(struct parser *p, struct word w, int64_t *ret_integer)
{
	uint64_t n;
	struct word rest;
	bool minus = w.length && w.s[0] == '-';
	if (read_digits(word_from(w, minus), &n, &rest) && !rest.length && n <= INT64_MAX) {
		*ret_integer = minus ? -(int64_t)n : (int64_t)n;
		return true;
	}
	return bad_word(p, w, "an integer");
}

bool read_size(struct parser *p, struct word w, uint64_t *ret_size)
{
	static const char units[] = "KMGT";
	uint64_t n;
	struct word rest;
	unsigned shift = 0;
	if (!read_digits(w, &n, &rest) || rest.length > 1)
		return bad_word(p, w, "a size such as 4096, 64K, 2M or 1G");
	if (rest.length) {
		const char *unit = strchr(units, toupper((unsigned char)rest.s[0]));
		if (!unit || !*unit)
			return bad_word(p, w, "a size such as 4096, 64K, 2M or 1G");
		shift = 10 * (unsigned)(unit - units + 1);
	}
	if (n > (UINT64_MAX >> 16) >> shift)
		return bad_word(p, w, "a size below 256T");
	*ret_size = n << shift;
	return true;
}

bool read_time(struct parser *p, struct word w, uint64_t *ret_ns)
{
	static const struct {
		const char *unit;
		uint64_t ns;
	} units[] = {{"s", 1000000000}, {"", 1000000000}, {"ms", 1000000}, {"us", 1000}};
	uint64_t n, part = 0, scale = 1;
	struct word rest;
	bool good = read_digits(w, &n, &rest) && n <= 1000000;
	if (good && rest.length > 1 && rest.s[0] == '.') {
		rest = word_from(rest, 1);
		size_t before = rest.length;
		good = read_digits(rest, &part, &rest) && before - rest.length <= 6;
		for (size_t i = rest.length; i < before; i++)
			scale *= 10;
	}
	for (size_t i = 0; good && i < sizeof(units) / sizeof(units[0]); i++)
		if (word_is(rest, units[i].unit)) {
			*ret_ns = n * units[i].ns + part * units[i].ns / scale;
			return true;
		}
	return bad_word(p, w, "a time such as 500ms or 2s, at most 1000000 of a unit");
}

// ---- Nodes and cpus -----------------------------------------------------------------------------

bool read_span(struct parser *p, struct word item, uint64_t *ret_first, uint64_t *ret_last)
{
	struct word left, right;
	bool range = cut_at(item, '-', &left, &right);
	if (!read_number(p, left, ret_first))
		return false;
	*ret_last = *ret_first;
	return !range || read_number(p, right, ret_last);
}

static bool add_nodes(struct parser *p, struct word item, uint64_t *nodes)
{
	uint64_t first, last;
	if (!read_span(p, item, &first, &last))
		return false;
	if (last >= STORY_NODES_MAX)
		return bad_word(p, item, "nodes below 64");
	if (last < first)
		return bad_word(p, item, "a rising range of nodes");
	for (uint64_t n = first; n <= last; n++)
		*nodes |= UINT64_C(1) << n;
	return true;
}

bool read_nodes(struct parser *p, struct word w, uint64_t *ret_nodes)
{
	uint64_t nodes = 0;
	struct word item;
	bool more;
	do {
		more = cut_at(w, ',', &item, &w);
		if (!item.length)
			return bad(p, item.column, "nothing here, expected nodes such as 0,2-3");
		if (!add_nodes(p, item, &nodes))
			return false;
	} while (more);
	*ret_nodes = nodes;
	return true;
}

bool read_node(struct parser *p, struct word w, unsigned *ret_node)
{
	uint64_t n;
	if (!read_number(p, w, &n))
		return false;
	if (n >= p->story->machine.nodes)
		return bad(p, w.column, "node %llu, expected one of the %u nodes of the machine",
			(unsigned long long)n, p->story->machine.nodes);
	*ret_node = (unsigned)n;
	return true;
}

bool read_cpu(struct parser *p, struct word w, unsigned *ret_cpu)
{
	uint64_t n;
	if (!read_number(p, w, &n))
		return false;
	if (n >= p->story->machine.cpus)
		return bad(p, w.column, "cpu %llu, expected one of the %u cpus of the machine",
			(unsigned long long)n, p->story->machine.cpus);
	*ret_cpu = (unsigned)n;
	return true;
}

bool read_name(struct parser *p, struct word w, const char *what)
{
	bool good = w.length && (isalpha((unsigned char)w.s[0]) || w.s[0] == '_');
	for (size_t i = 1; good && i < w.length; i++)
		good = isalnum((unsigned char)w.s[i]) || w.s[i] == '_' || w.s[i] == '-';
	if (good && w.length <= 64)
		return true;
	char expected[120];
	snprintf(expected, sizeof(expected),
		"a name for the %s: a letter, then letters, digits, '_' or '-', at most 64", what);
	return bad_word(p, w, expected);
}
