// SPDX-License-Identifier: MIT
// Lines that are about the whole machine: tunables, the daemons, memory taken away, time.
//
// Operands go to struct operand_world; a node of -1 there means every node. Names of CMA
// allocations are kept so that a free without an allocation is a mistake in the story.

#include "lab/parser.h"

#include <string.h>

bool parse_set(struct parser *p, struct command *c)
{
	struct word path;
	if (!take_word(p, "the path of a tunable", &path))
		return false;
	if (!word_begins(path, "sys/") && !word_begins(path, "proc/"))
		return bad_word(p, path, "a path from the root without the first slash, such as "
					 "sys/kernel/mm/ksm/run");
	for (size_t i = 0; i + 1 < path.length; i++)
		if (path.s[i] == '.' && path.s[i + 1] == '.')
			return bad_word(p, path, "a path without '..'");
	c->set.path = keep_word(p, path);
	c->set.value = keep_rest(p, "a value");
	return c->set.path && c->set.value;
}

static bool optional_node(struct parser *p, struct command *c)
{
	struct option_spec o[] = {{.name = "node", .kind = OPTION_NODE}};
	if (!read_options(p, o, 1, NULL))
		return false;
	c->world.node = o[0].seen ? (int)o[0].number : -1;
	return true;
}

bool parse_compact(struct parser *p, struct command *c)
{
	return optional_node(p, c);
}

bool parse_unfill(struct parser *p, struct command *c)
{
	return optional_node(p, c);
}

bool parse_scans(struct parser *p, struct command *c)
{
	struct word w;
	c->world.node = -1;
	if (!take_word(p, "a number of full scans", &w) || !read_number(p, w, &c->world.count))
		return false;
	if (!c->world.count || c->world.count > 1000)
		return bad_word(p, w, "1 to 1000 full scans");
	return true;
}

static bool take_time(struct parser *p, struct command *c)
{
	struct word w;
	c->world.node = -1;
	return take_word(p, "a time such as 500ms or 2s", &w) && read_time(p, w, &c->world.time_ns);
}

bool parse_balance(struct parser *p, struct command *c)
{
	return take_time(p, c);
}

bool parse_sleep(struct parser *p, struct command *c)
{
	return take_time(p, c);
}

static struct word *area_named(struct parser *p, struct word name)
{
	struct word *areas = p->areas.v;
	for (size_t i = 0; i < p->areas.count; i++)
		if (areas[i].length == name.length && !memcmp(areas[i].s, name.s, name.length))
			return &areas[i];
	return NULL;
}

static bool cma_alloc(struct parser *p, struct command *c, struct word name)
{
	struct word size;
	if (!read_name(p, name, "allocation"))
		return false;
	if (area_named(p, name))
		return bad_word(p, name, "a name without an allocation");
	if (!take_word(p, "a size", &size) || !read_size(p, size, &c->world.size))
		return false;
	if (!c->world.size || c->world.size % STORY_PAGE_SIZE)
		return bad_word(p, size, "a multiple of 4K above 0");
	struct word *area = pile_push(p, &p->areas, sizeof(*area));
	if (area)
		*area = name;
	return area;
}

bool parse_cma(struct parser *p, struct command *c)
{
	struct word verb, name;
	c->world.node = -1;
	if (!take_word(p, "alloc or free", &verb))
		return false;
	if (!word_is(verb, "alloc") && !word_is(verb, "free"))
		return bad_word(p, verb, "alloc or free");
	if (!take_word(p, "a name for the allocation", &name))
		return false;
	c->world.verb = word_is(verb, "alloc") ? CMA_ALLOC : CMA_FREE;
	c->world.name = keep_word(p, name);
	if (!c->world.name)
		return false;
	if (c->world.verb == CMA_ALLOC)
		return cma_alloc(p, c, name);
	struct word *area = area_named(p, name);
	if (!area)
		return bad_word(p, name, "an allocation that cma alloc made before");
	area->length = 0; // free for another allocation
	return true;
}

bool parse_contig(struct parser *p, struct command *c)
{
	struct option_spec o[] = {{.name = "node", .kind = OPTION_NODE},
		{.name = "pages", .kind = OPTION_NUMBER}};
	if (!read_options(p, o, 2, NULL))
		return false;
	if (!o[0].seen || !o[1].seen)
		return bad(p, p->end_column, "no %s on this line, expected node=N pages=N",
			o[0].seen ? "pages=" : "node=");
	if (!o[1].number || o[1].number > 1 << 24)
		return bad_word(p, o[1].value, "1 to 16777216 pages");
	c->world.node = (int)o[0].number;
	c->world.count = o[1].number;
	return true;
}

bool parse_offline(struct parser *p, struct command *c)
{
	struct word w;
	if (!take_word(p, "a task", &w))
		return false;
	struct known_task *known = find_task(p, w);
	if (!known)
		return false;
	c->task = known->task;
	return take_range(p, c->task, &c->range.range);
}

bool parse_fill(struct parser *p, struct command *c)
{
	struct option_spec o[] = {{.name = "node", .kind = OPTION_NODE},
		{.name = "leave", .kind = OPTION_SIZE}};
	if (!read_options(p, o, 2, NULL))
		return false;
	if (!o[0].seen)
		return bad(p, p->end_column, "no node on this line, expected node=N");
	c->world.node = (int)o[0].number;
	c->world.size = o[1].number;
	return true;
}

bool parse_mark(struct parser *p, struct command *c)
{
	c->world.node = -1;
	p->marked = true;
	return true;
}
