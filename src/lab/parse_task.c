// SPDX-License-Identifier: MIT
// Tasks, and what a task does with its memory: operands of every "A word ..." but the moving ones.
//
// Each function reads what follows its word and fills the member of struct command that story.h
// names for it. A mapping is made here even if the map will fail at run time: a story that
// expects the failure may then use the name again, because an `expect errno` right after a map
// marks it unmapped (parse_look.c).

#include "lab/parser.h"
#include "lab/words.h"

#include <string.h>

#define UID_MAX 4294967294u

// ---- Tasks --------------------------------------------------------------------------------------

bool parse_task(struct parser *p, struct command *c)
{
	struct option_spec o[] = {{.name = "cpu", .kind = OPTION_CPU},
		{.name = "uid", .kind = OPTION_NUMBER}};
	struct word name;
	if (!take_word(p, "a name for the task", &name) || !read_options(p, o, 2, NULL))
		return false;
	if (o[1].seen && o[1].number > UID_MAX)
		return bad_word(p, o[1].value, "a user id");
	struct story_task *task = add_task(p, name, NULL);
	if (!task)
		return false;
	task->cpu = (unsigned)o[0].number;
	task->uid = o[1].seen ? (long)o[1].number : -1;
	c->create.task = task;
	return true;
}

bool parse_fork(struct parser *p, struct command *c)
{
	struct option_spec o[] = {{.name = "cpu", .kind = OPTION_CPU}};
	struct word name, from, parent;
	if (!take_word(p, "a name for the new task", &name) ||
		!take_word(p, "'from' and the parent", &from))
		return false;
	if (!word_is(from, "from"))
		return bad_word(p, from, "'from' and the parent");
	if (!take_word(p, "the parent", &parent))
		return false;
	struct known_task *known = find_task(p, parent);
	if (!known || !read_options(p, o, 1, NULL))
		return false;
	const struct story_task *parent_task = known->task; // add_task moves the table
	struct story_task *task = add_task(p, name, known);
	if (!task)
		return false;
	if (o[0].seen)
		task->cpu = (unsigned)o[0].number;
	c->create = (struct operand_task){task, parent_task};
	return true;
}

bool parse_exit(struct parser *p, struct command *c)
{
	struct word w;
	if (!take_word(p, "the task that ends", &w))
		return false;
	struct known_task *known = find_task(p, w);
	if (!known)
		return false;
	known->exited_line = p->line;
	c->task = known->task;
	c->create.task = known->task;
	return true;
}

bool parse_cpu(struct parser *p, struct command *c)
{
	struct word w;
	c->world.node = -1;
	return take_word(p, "a cpu", &w) && read_cpu(p, w, &c->world.cpu);
}

// ---- Mappings -----------------------------------------------------------------------------------

enum { MAP_ANON, MAP_SHM, MAP_FILE, MAP_SHARED_WORD, MAP_DISK, MAP_PRIVATE_WORD, MAP_HUGETLB_WORD,
	MAP_RO, MAP_ALIGN, MAP_OPTIONS };

static bool map_object(struct parser *p, struct operand_map *m, const struct option_spec *o,
	struct word name)
{
	const struct option_spec *named = NULL;
	unsigned objects = 0;
	for (unsigned i = MAP_ANON; i <= MAP_DISK; i++)
		if (o[i].seen) {
			objects++;
			named = &o[i];
		}
	if (objects > 1)
		return bad_word(p, name, "one of anon, shm=, file=, shared and disk= for it");
	if (!named || named == &o[MAP_ANON]) {
		m->private = true;
		return true;
	}
	m->object = named == &o[MAP_DISK] ? OBJECT_DISK : OBJECT_SHM;
	m->private = o[MAP_PRIVATE_WORD].seen;
	if (named != &o[MAP_SHARED_WORD]) {
		m->object_name = keep_word(p, named->value);
		return m->object_name && read_name(p, named->value, "object");
	}
	char own[200];
	snprintf(own, sizeof(own), "%s.%.*s:%u", m->map->task->name, (int)name.length, name.s,
		p->line);
	m->object_name = keep_word(p, (struct word){own, strlen(own), 0});
	return m->object_name;
}

static bool map_pages(struct parser *p, struct operand_map *m, const struct option_spec *o)
{
	m->read_only = o[MAP_RO].seen;
	m->align = o[MAP_ALIGN].number;
	if (o[MAP_HUGETLB_WORD].seen)
		m->hugetlb = o[MAP_HUGETLB_WORD].value.length ? o[MAP_HUGETLB_WORD].number
							      : 2 << 20;
	if (m->hugetlb && m->hugetlb != 2 << 20 && m->hugetlb != 1 << 30)
		return bad_word(p, o[MAP_HUGETLB_WORD].value, "pages of 2M or 1G");
	if (m->hugetlb && m->object == OBJECT_DISK)
		return bad_word(p, o[MAP_DISK].value, "no disk file: hugetlb is memory");
	if (m->align & (m->align - 1) || m->align > STORY_MAP_STRIDE)
		return bad_word(p, o[MAP_ALIGN].value, "a power of two up to 64G");
	return true;
}

bool parse_map(struct parser *p, struct command *c)
{
	struct option_spec o[MAP_OPTIONS] = {
		[MAP_ANON] = {.name = "anon", .kind = OPTION_FLAG},
		[MAP_SHM] = {.name = "shm", .kind = OPTION_TEXT},
		[MAP_FILE] = {.name = "file", .kind = OPTION_TEXT},
		[MAP_SHARED_WORD] = {.name = "shared", .kind = OPTION_FLAG},
		[MAP_DISK] = {.name = "disk", .kind = OPTION_TEXT},
		[MAP_PRIVATE_WORD] = {.name = "private", .kind = OPTION_FLAG},
		[MAP_HUGETLB_WORD] = {.name = "hugetlb", .kind = OPTION_SIZE_OR_FLAG},
		[MAP_RO] = {.name = "ro", .kind = OPTION_FLAG},
		[MAP_ALIGN] = {.name = "align", .kind = OPTION_SIZE},
	};
	struct word name, size;
	uint64_t length;
	if (!take_word(p, "a name for the mapping", &name) ||
		!take_word(p, "the size of the mapping", &size) || !read_size(p, size, &length))
		return false;
	if (length > STORY_MAP_STRIDE / 2)
		return bad_word(p, size, "at most 32G");
	if (!read_options(p, o, MAP_OPTIONS, NULL))
		return false;
	struct story_mapping *map =
		add_mapping(p, known_task_of(p, c->task), name, length, NULL);
	if (!map)
		return false;
	c->map.map = map;
	if (!map_object(p, &c->map, o, name) || !map_pages(p, &c->map, o))
		return false;
	if (c->map.hugetlb)
		map->page_size = c->map.hugetlb;
	return true;
}

bool parse_remap(struct parser *p, struct command *c)
{
	struct word name;
	if (!take_range(p, c->task, &c->remap.from) ||
		!take_word(p, "a new name for the range", &name))
		return false;
	c->remap.to = add_mapping(p, known_task_of(p, c->task), name, c->remap.from.length,
		c->remap.from.map);
	if (c->remap.to)
		forget_mapping(p, &c->remap.from);
	return c->remap.to;
}

// ---- Ranges -------------------------------------------------------------------------------------

bool parse_range_only(struct parser *p, struct command *c)
{
	if (!take_range(p, c->task, &c->range.range))
		return false;
	if (c->kind == CMD_UNMAP)
		forget_mapping(p, &c->range.range);
	return true;
}

bool parse_protect(struct parser *p, struct command *c)
{
	static const char *const words[] = {
		[PROT_STORY_NONE] = "none", [PROT_STORY_READ] = "r", [PROT_STORY_WRITE] = "rw"};
	struct word w;
	if (!take_range(p, c->task, &c->range.range) || !take_word(p, "none, r or rw", &w))
		return false;
	for (unsigned i = 0; i < sizeof(words) / sizeof(words[0]); i++)
		if (word_is(w, words[i])) {
			c->range.prot = i;
			return true;
		}
	return bad_word(p, w, "none, r or rw");
}

bool parse_bytes(struct parser *p, struct command *c)
{
	struct word w;
	uint64_t byte;
	if (!take_range(p, c->task, &c->range.range) || !take_word(p, "a byte", &w) ||
		!read_number(p, w, &byte))
		return false;
	if (byte > 255)
		return bad_word(p, w, "a byte from 0 to 255");
	c->range.byte = (uint8_t)byte;
	return true;
}

bool parse_advise(struct parser *p, struct command *c)
{
	static const struct {
		const char *word;
		int advice;
	} advices[] = {
		{"hugepage", 14}, {"nohugepage", 15}, {"collapse", 25}, {"mergeable", 12},
		{"unmergeable", 13}, {"dontneed", 4}, {"free", 8}, {"pageout", 21},
		{"soft_offline", 101}, {"dontfork", 10}, {"dofork", 11}, {"willneed", 3},
		{"cold", 20}, {"populate_read", 22}, {"populate_write", 23}, {"normal", 0},
		{"random", 1}, {"sequential", 2}, {"dontneed_locked", 24},
	};
	struct word w;
	if (!take_range(p, c->task, &c->range.range) || !take_word(p, "an advice", &w))
		return false;
	for (size_t i = 0; i < sizeof(advices) / sizeof(advices[0]); i++)
		if (word_is(w, advices[i].word)) {
			c->range.advice = advices[i].advice;
			c->range.advice_word = advices[i].word;
			return true;
		}
	return bad_word(p, w, "hugepage, nohugepage, collapse, mergeable, unmergeable, dontneed, "
			      "dontneed_locked, free, cold, pageout, willneed, populate_read, "
			      "populate_write, normal, random, sequential, soft_offline, "
			      "dontfork or dofork");
}

// ---- Policies -----------------------------------------------------------------------------------

static bool read_policy_word(struct parser *p, struct word w, struct story_policy *policy)
{
	struct word mode, rest, flag;
	uint64_t n;
	bool more = cut_at(w, '=', &mode, &rest);
	policy->mode = policy_mode_by_word(mode.s, mode.length);
	if (word_is(mode, "mode") && more) {
		more = cut_at(rest, '=', &flag, &rest);
		if (!read_number(p, flag, &n))
			return false;
		if (n > INT32_MAX)
			return bad_word(p, flag, "a number below 2147483648");
		policy->mode = (int)n;
	}
	if (policy->mode < 0)
		return bad_word(p, mode, "default, local, bind, prefer, interleave, prefer-many, "
					 "weighted or mode=N");
	while (more) {
		more = cut_at(rest, '=', &flag, &rest);
		int bit = policy_flag_by_word(flag.s, flag.length);
		if (bit < 0)
			return bad_word(p, flag, "static, relative or balancing");
		policy->flags |= (unsigned)bit;
	}
	return true;
}

bool read_policy(struct parser *p, struct word w, struct story_policy *ret_policy)
{
	struct word word, nodes;
	*ret_policy = (struct story_policy){0};
	ret_policy->have_nodes = cut_at(w, ':', &word, &nodes);
	if (!read_policy_word(p, word, ret_policy))
		return false;
	return !nodes.length || read_nodes(p, nodes, &ret_policy->nodes);
}

static bool take_policy(struct parser *p, struct story_policy *ret_policy)
{
	struct word w;
	return take_word(p, "a policy such as bind:0,1", &w) && read_policy(p, w, ret_policy);
}

bool parse_policy(struct parser *p, struct command *c)
{
	return take_policy(p, &c->policy.policy);
}

bool parse_get_policy(struct parser *p, struct command *c)
{
	struct word w;
	while (more_words(p)) {
		if (!take_word(p, "", &w))
			return false;
		unsigned bit = word_is(w, "node") ? GET_POLICY_NODE
			: word_is(w, "mems")	  ? GET_POLICY_MEMS
						  : GET_POLICY_ADDR;
		if (c->policy.flags & bit)
			return bad_word(p, w, "a range, node and mems once each");
		if (bit == GET_POLICY_ADDR && !read_range(p, c->task, w, &c->policy.range))
			return false;
		c->policy.flags |= bit;
	}
	return true;
}

bool parse_mbind(struct parser *p, struct command *c)
{
	struct option_spec o[] = {{.name = "move", .kind = OPTION_FLAG},
		{.name = "move_all", .kind = OPTION_FLAG},
		{.name = "strict", .kind = OPTION_FLAG},
		{.name = "flags", .kind = OPTION_NUMBER},
		{.name = "keep_huge", .kind = OPTION_FLAG}};
	if (!take_range(p, c->task, &c->policy.range) || !take_policy(p, &c->policy.policy) ||
		!read_options(p, o, 5, NULL))
		return false;
	if (o[3].seen && o[3].number > UINT32_MAX)
		return bad_word(p, o[3].value, "flags below 4294967296");
	c->policy.flags = o[3].seen ? (unsigned)o[3].number
				    : (o[2].seen ? 1u : 0) | (o[0].seen ? 2u : 0) |
			(o[1].seen ? 4u : 0);
	c->policy.keep_huge = o[4].seen;
	return true;
}

// ---- Cpusets and loads --------------------------------------------------------------------------

bool parse_mems(struct parser *p, struct command *c)
{
	struct word w;
	return take_word(p, "nodes such as 1-2", &w) && read_nodes(p, w, &c->mems.nodes);
}

bool parse_mems_v1(struct parser *p, struct command *c)
{
	struct option_spec o[] = {{.name = "migrate", .kind = OPTION_FLAG}};
	if (!parse_mems(p, c) || !read_options(p, o, 1, NULL))
		return false;
	c->mems.migrate = o[0].seen;
	return true;
}

bool parse_load(struct parser *p, struct command *c)
{
	struct option_spec o[] = {{.name = "threads", .kind = OPTION_NUMBER}};
	struct story_range *r = &c->load.range;
	struct word w;
	if (!take_range(p, c->task, r) || !take_word(p, "writes or reads", &w))
		return false;
	c->load.writes = word_is(w, "writes");
	if (!c->load.writes && !word_is(w, "reads"))
		return bad_word(p, w, "writes or reads");
	if (!read_options(p, o, 1, NULL))
		return false;
	if (o[0].seen && (o[0].number < 1 || o[0].number > 64))
		return bad_word(p, o[0].value, "1 to 64 threads");
	c->load.threads = o[0].seen ? (unsigned)o[0].number : 1;
	c->load.index = (unsigned)p->loads.count;
	struct known_load *load = pile_push(p, &p->loads, sizeof(*load));
	if (load)
		*load = (struct known_load){r->map, r->offset, r->length, c->load.index, true};
	return load;
}

bool parse_stop(struct parser *p, struct command *c)
{
	struct story_range *r = &c->load.range;
	struct known_load *loads = p->loads.v;
	struct word w;
	if (!take_word(p, "the range of a load", &w) || !read_range(p, c->task, w, r))
		return false;
	for (size_t i = 0; i < p->loads.count; i++)
		if (loads[i].running && loads[i].map == r->map && loads[i].offset == r->offset &&
			loads[i].length == r->length) {
			loads[i].running = false;
			c->load.index = loads[i].index;
			return true;
		}
	return bad_word(p, w, "the range of a load that runs");
}
