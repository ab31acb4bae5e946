// SPDX-License-Identifier: MIT
// where, move and migrate: operands of move_pages(2) and migrate_pages(2).
//
// The addresses may be those of another task (of=B), and its name may stand anywhere on the line,
// so ranges are kept as words until all options have been read. The number of addresses is known
// here: every range gives one address each `step` bytes, beginning at its offset. Raw forms (flags,
// count, pid, off, bad) are for stories about errors; they pass through unchecked.

#include "lab/parser.h"

#include <stdlib.h>

#define ADDRESSES_MAX (1u << 24)
#define MPOL_MF_MOVE_PAGES 2u
#define MPOL_MF_MOVE_EVERY 4u

enum { STEP, OF, OFF, COUNT, PID, BAD, WHERE_OPTIONS, TO = WHERE_OPTIONS, ALL, FLAGS,
	KEEP_HUGE, MOVE_OPTIONS };

static bool read_ranges(struct parser *p, const struct story_task *owner, const struct pile *words,
	struct story_ranges *ret_ranges)
{
	const struct word *w = words->v;
	struct story_range *ranges =
		story_arena_alloc(p->arena, (words->count + 1) * sizeof(*ranges));
	if (!ranges)
		return out_of_memory(p);
	if (!words->count)
		return bad(p, p->end_column, "no range on this line, expected NAME, NAME[off] or "
					     "NAME[off:len]");
	for (size_t i = 0; i < words->count; i++)
		if (!read_range(p, owner, w[i], &ranges[i]))
			return false;
	*ret_ranges = (struct story_ranges){ranges, words->count};
	return true;
}

static bool count_addresses(struct parser *p, struct operand_move *m)
{
	const unsigned column = ((struct word *)p->words.v)[0].column;
	for (size_t i = 0; i < m->ranges.count; i++) {
		uint64_t length = m->ranges.v[i].length;
		m->count += length / m->step + (length % m->step != 0);
		if (m->count > ADDRESSES_MAX)
			return bad(p, column, "more than %u addresses, expected fewer",
				ADDRESSES_MAX);
	}
	return true;
}

static bool read_bad(struct parser *p, const struct option_spec *o, enum bad_pointer *ret_bad)
{
	static const char *const words[] = {
		[BAD_PAGES] = "pages", [BAD_NODES] = "nodes", [BAD_STATUS] = "status"};
	*ret_bad = BAD_NONE;
	if (!o->seen)
		return true;
	for (unsigned i = BAD_PAGES; i <= BAD_STATUS; i++)
		if (word_is(o->value, words[i])) {
			*ret_bad = i;
			return true;
		}
	return bad_word(p, o->value, "pages, nodes or status");
}

static bool read_raw(struct parser *p, struct operand_move *m, const struct option_spec *o)
{
	m->off = o[OFF].number;
	m->have_count = o[COUNT].seen;
	m->raw_count = o[COUNT].number;
	m->have_pid = o[PID].seen;
	m->raw_pid = (long)(int64_t)o[PID].number;
	if (m->have_count && m->raw_count > m->count && m->raw_count <= ADDRESSES_MAX)
		return bad(p, o[COUNT].value.column,
			"a count beyond the %llu addresses of the line, expected no more, or "
			"more than %u for an error",
			(unsigned long long)m->count, ADDRESSES_MAX);
	if (m->have_pid && m->of)
		return bad_word(p, o[PID].value, "pid= or of=, not both");
	return read_bad(p, &o[BAD], &m->bad);
}

static bool read_addresses(struct parser *p, struct command *c, struct option_spec *o,
	size_t option_count)
{
	struct operand_move *m = &c->move;
	struct pile words = {0};
	const struct story_task *owner = c->task;
	bool good = read_options(p, o, option_count, &words);
	if (good && o[OF].seen) {
		struct known_task *of = find_task(p, o[OF].value);
		good = of;
		owner = m->of = of ? of->task : NULL;
	}
	good = good && read_ranges(p, owner, &words, &m->ranges);
	free(words.v);
	if (!good)
		return false;
	m->step = o[STEP].seen ? o[STEP].number : STORY_PAGE_SIZE;
	if (!m->step)
		return bad_word(p, o[STEP].value, "a step above 0");
	return count_addresses(p, m) && read_raw(p, m, o);
}

#define ADDRESS_OPTIONS                                                                            \
	[STEP] = {.name = "step", .kind = OPTION_SIZE},                                            \
	[OF] = {.name = "of", .kind = OPTION_TEXT},                                                \
	[OFF] = {.name = "off", .kind = OPTION_SIZE},                                              \
	[COUNT] = {.name = "count", .kind = OPTION_NUMBER},                                        \
	[PID] = {.name = "pid", .kind = OPTION_INTEGER},                                           \
	[BAD] = {.name = "bad", .kind = OPTION_TEXT}

bool parse_where(struct parser *p, struct command *c)
{
	struct option_spec o[] = {ADDRESS_OPTIONS};
	return read_addresses(p, c, o, WHERE_OPTIONS);
}

// "1" or "0,2,1-3,-1": nodes in the order written, also such as do not exist
static bool read_targets(struct parser *p, struct word list, struct operand_move *m)
{
	struct pile nodes = {0};
	struct word item, first, last;
	bool more, good = true;
	do {
		int64_t from = 0, to = 0;
		more = cut_at(list, ',', &item, &list);
		bool minus = item.length && item.s[0] == '-';
		bool range = !minus && cut_at(item, '-', &first, &last);
		good = read_integer(p, range ? first : item, &from) &&
			(!range || read_integer(p, last, &to));
		to = range ? to : from;
		if (good && (from < INT32_MIN || to > INT32_MAX || to < from || to - from > 1023))
			good = bad_word(p, item, "a node, or a rising range of nodes");
		for (int64_t n = from; good && n <= to; n++) {
			int32_t *slot = pile_push(p, &nodes, sizeof(*slot));
			good = slot;
			if (slot)
				*slot = (int32_t)n;
		}
	} while (good && more);
	m->to_count = nodes.count;
	m->to = good ? pile_keep(p, &nodes, sizeof(int32_t)) : NULL;
	free(nodes.v);
	return m->to;
}

bool parse_move(struct parser *p, struct command *c)
{
	struct option_spec o[] = {
		ADDRESS_OPTIONS,
		[TO] = {.name = "to", .kind = OPTION_TEXT},
		[ALL] = {.name = "all", .kind = OPTION_FLAG},
		[FLAGS] = {.name = "flags", .kind = OPTION_NUMBER},
		[KEEP_HUGE] = {.name = "keep_huge", .kind = OPTION_FLAG},
	};
	struct operand_move *m = &c->move;
	if (!read_addresses(p, c, o, MOVE_OPTIONS))
		return false;
	if (!o[TO].seen)
		return bad(p, p->end_column, "no target on this line, expected to=NODE");
	if (o[FLAGS].seen && o[FLAGS].number > UINT32_MAX)
		return bad_word(p, o[FLAGS].value, "flags below 4294967296");
	m->flags = o[FLAGS].seen ? (unsigned)o[FLAGS].number
		: o[ALL].seen	 ? MPOL_MF_MOVE_EVERY
				 : MPOL_MF_MOVE_PAGES;
	m->keep_huge = o[KEEP_HUGE].seen;
	return read_targets(p, o[TO].value, m);
}

bool parse_migrate(struct parser *p, struct command *c)
{
	struct option_spec o[] = {{.name = "from", .kind = OPTION_NODES},
		{.name = "to", .kind = OPTION_NODES},
		{.name = "of", .kind = OPTION_TEXT},
		{.name = "keep_huge", .kind = OPTION_FLAG}};
	if (!read_options(p, o, 4, NULL))
		return false;
	if (!o[0].seen || !o[1].seen)
		return bad(p, p->end_column, "no %s on this line, expected from=NODES to=NODES",
			o[0].seen ? "to=" : "from=");
	struct known_task *of = o[2].seen ? find_task(p, o[2].value) : NULL;
	c->migrate = (struct operand_migrate){
		o[0].number, o[1].number, of ? of->task : NULL, o[3].seen};
	return !o[2].seen || of;
}
