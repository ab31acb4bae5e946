// SPDX-License-Identifier: MIT
// store: objects of a driver, on pages that move by the driver's own callbacks.
//
//	store NAME SIZE [object=64] [node=0]	make it, filled with objects
//	store NAME move from=0 to=1		all its pages of one node to another
//	store NAME check			every object holds what was written to it
//	store NAME where			pages by node, as text: "N0=3 N1=253"
#include "lab/parser.h"

#include <string.h>

static int store_named(struct parser *p, struct word name)
{
	const struct word *stores = p->stores.v;

	for (size_t i = 0; i < p->stores.count; i++)
		if (stores[i].length == name.length && !memcmp(stores[i].s, name.s, name.length))
			return (int)i;
	return -1;
}

static bool store_new(struct parser *p, struct command *c, struct word name, struct word size)
{
	struct option_spec o[] = {{.name = "object", .kind = OPTION_SIZE},
		{.name = "node", .kind = OPTION_NODE}};
	struct word *store;

	if (!read_name(p, name, "store") || !read_size(p, size, &c->store.size) ||
		!read_options(p, o, 2, NULL))
		return false;
	c->store.object = o[0].seen ? o[0].number : 64;
	c->store.node = o[1].seen ? (int)o[1].number : -1;
	if (c->store.object < 8 || c->store.object > STORY_PAGE_SIZE)
		return bad_word(p, o[0].value, "an object of 8 to 4096 bytes");
	if (c->store.size < c->store.object || c->store.size > 1ull << 30)
		return bad_word(p, size, "at least one object, and at most 1G");
	store = pile_push(p, &p->stores, sizeof *store);
	if (!store)
		return false;
	*store = name;
	c->store.index = (unsigned)p->story->store_count++;
	return true;
}

static bool store_move(struct parser *p, struct command *c)
{
	struct option_spec o[] = {{.name = "from", .kind = OPTION_NODE},
		{.name = "to", .kind = OPTION_NODE}};

	if (!read_options(p, o, 2, NULL))
		return false;
	if (!o[0].seen || !o[1].seen)
		return bad(p, p->end_column, "no %s on this line, expected from=N to=N",
			o[0].seen ? "to=" : "from=");
	c->store.from = (unsigned)o[0].number;
	c->store.to = (unsigned)o[1].number;
	return true;
}

bool parse_store(struct parser *p, struct command *c)
{
	static const char *const verbs[] = {[STORE_MOVE] = "move", [STORE_CHECK] = "check",
		[STORE_WHERE] = "where"};
	struct word name, w;
	int index;

	if (!take_word(p, "a name for the store", &name) ||
		!take_word(p, "a size, or move, check or where", &w))
		return false;
	c->store.name = keep_word(p, name);
	if (!c->store.name)
		return false;
	index = store_named(p, name);
	if (index < 0)
		return store_new(p, c, name, w);
	c->store.index = (unsigned)index;
	for (int verb = STORE_MOVE; verb <= STORE_WHERE; verb++) {
		if (word_is(w, verbs[verb])) {
			c->store.verb = (enum store_verb)verb;
			return verb == STORE_MOVE ? store_move(p, c) : true;
		}
	}
	return bad_word(p, w, "move, check or where: the store exists already");
}
