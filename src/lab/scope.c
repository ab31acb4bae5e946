// SPDX-License-Identifier: MIT
// The names that a story has made so far: tasks, their mappings, and ranges inside them.
//
// The parser reads from top to bottom, as the player will run, so the tables always say what
// exists at the current line. A mapping keeps its extent when it is unmapped (addresses of holes
// are something that stories ask about), and its name may then be given to a new map. Each map or
// remap of a task takes the next story address; a forked task goes on where its parent was, so
// that addresses never mean two things in a family. A line that could not be understood still
// makes the names that it would have made, marked broken, so that one mistake is reported once.

#include "lab/parser.h"

#include <string.h>

static void unknown(struct parser *p, const char *what, struct word w, const char *expected)
{
	bad(p, w.column, "unknown %s '%.*s', expected %s", what, w.length > 40 ? 40 : (int)w.length,
		w.s, expected);
}

// ---- Tasks --------------------------------------------------------------------------------------

static struct known_task *task_named(struct parser *p, struct word w)
{
	struct known_task *tasks = p->tasks.v;
	for (size_t i = 0; i < p->tasks.count; i++)
		if (word_is(w, tasks[i].task->name))
			return &tasks[i];
	return NULL;
}

struct known_task *find_task(struct parser *p, struct word w)
{
	struct known_task *task = task_named(p, w);
	if (!task) {
		unknown(p, "task", w, "a task that task or fork made before");
		return NULL;
	}
	if (task->exited_line) {
		bad(p, w.column, "task %s exited in line %u, expected one that runs",
			task->task->name, task->exited_line);
		return NULL;
	}
	return task;
}

struct known_task *known_task_of(struct parser *p, const struct story_task *task)
{
	return &((struct known_task *)p->tasks.v)[task->index];
}

static bool is_command(struct word w)
{
	for (unsigned kind = 0; kind < CMD_COUNT; kind++)
		if (word_is(w, command_word(kind)))
			return true;
	return word_is(w, "machine") || word_is(w, "only") || word_is(w, "needs");
}

static bool task_name_is_free(struct parser *p, struct word name)
{
	struct known_task *known = task_named(p, name);
	if (!read_name(p, name, "task"))
		return false;
	if (is_command(name))
		return bad_word(p, name, "a name that is no command");
	if (known)
		return bad(p, name.column, "task %s exists already, expected a new name",
			known->task->name);
	return true;
}

static bool inherit_mappings(struct parser *p, struct known_task *task,
	const struct story_task *parent)
{
	const size_t count = p->maps.count;
	for (size_t i = 0; i < count; i++) {
		const struct known_map from = ((struct known_map *)p->maps.v)[i];
		if (from.map->task != parent)
			continue;
		struct story_mapping *copy = story_arena_alloc(p->arena, sizeof(*copy));
		struct known_map *to = copy ? pile_push(p, &p->maps, sizeof(*to)) : NULL;
		if (!to)
			return out_of_memory(p);
		*copy = *from.map;
		copy->task = task->task;
		copy->index = (unsigned)p->maps.count - 1;
		copy->origin = from.map;
		*to = (struct known_map){copy, from.mapped, from.broken};
	}
	return true;
}

struct story_task *add_task(struct parser *p, struct word name, struct known_task *parent)
{
	const struct known_task from = parent ? *parent : (struct known_task){0};
	if (!task_name_is_free(p, name))
		return NULL;
	struct story_task *task = story_arena_alloc(p->arena, sizeof(*task));
	struct known_task *known = task ? pile_push(p, &p->tasks, sizeof(*known)) : NULL;
	if (!known)
		return out_of_memory(p), NULL;
	*known = (struct known_task){.task = task, .maps = from.maps};
	task->name = keep_word(p, name);
	task->index = (unsigned)p->tasks.count - 1;
	task->parent = from.task;
	task->cpu = from.task ? from.task->cpu : 0;
	task->uid = from.task ? from.task->uid : -1;
	if (!task->name || (from.task && !inherit_mappings(p, known, from.task)))
		return NULL;
	return task;
}

// ---- Mappings -----------------------------------------------------------------------------------

// The latest mapping of that name.
static struct known_map *map_named(struct parser *p, const struct story_task *task,
	struct word name)
{
	struct known_map *maps = p->maps.v;
	for (size_t i = p->maps.count; i-- > 0;)
		if (maps[i].map->task == task && word_is(name, maps[i].map->name))
			return &maps[i];
	return NULL;
}

static bool is_reserved(struct word name)
{
	static const char *const words[] = {"all", "move", "move_all", "strict", "node", "mems",
		"keep_huge"};
	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++)
		if (word_is(name, words[i]))
			return true;
	return false;
}

struct story_mapping *add_mapping(struct parser *p, struct known_task *task, struct word name,
	uint64_t length, const struct story_mapping *origin)
{
	struct known_map *old = map_named(p, task->task, name);
	if (!read_name(p, name, "mapping"))
		return NULL;
	if (is_reserved(name))
		return bad_word(p, name, "a name that is no option"), NULL;
	if (old && old->mapped)
		return bad(p, name.column, "%s is mapped already, expected a new name",
			       old->map->name),
		       NULL;
	struct story_mapping *map = story_arena_alloc(p->arena, sizeof(*map));
	struct known_map *known = map ? pile_push(p, &p->maps, sizeof(*known)) : NULL;
	if (!known)
		return out_of_memory(p), NULL;
	map->name = keep_word(p, name);
	map->task = task->task;
	map->index = (unsigned)p->maps.count - 1;
	map->address = STORY_MAP_BASE + task->maps++ * STORY_MAP_STRIDE;
	map->length = length;
	map->origin = origin;
	map->page_size = origin ? origin->page_size : STORY_PAGE_SIZE;
	*known = (struct known_map){map, true, false};
	return map->name ? map : NULL;
}

struct known_map *find_map(struct parser *p, const struct story_task *task, struct word name)
{
	struct known_map *known = map_named(p, task, name);
	if (!known) {
		char expected[120];
		snprintf(expected, sizeof(expected), "a mapping that task %s made before",
			task->name);
		unknown(p, "mapping", name, expected);
	}
	return known;
}

void forget_mapping(struct parser *p, const struct story_range *range)
{
	struct known_map *maps = p->maps.v;
	if (!range->offset && range->length == range->map->length)
		maps[range->map->index].mapped = false;
}

// ---- Ranges -------------------------------------------------------------------------------------

// "[off]" or "[off:len]", what is between the brackets
static bool read_extent(struct parser *p, struct word inside, const struct known_map *known,
	struct story_range *range)
{
	struct word offset, length;
	char text[BYTES_TEXT_MAX];
	bool has_length = cut_at(inside, ':', &offset, &length);
	uint64_t whole = known->map->length;
	if (!read_size(p, offset, &range->offset))
		return false;
	if (has_length && !read_size(p, length, &range->length))
		return false;
	if (known->broken) {
		whole = UINT64_MAX;
		range->length = 0;
	}
	if (range->offset > whole || (range->offset == whole && !has_length))
		return bad(p, offset.column, "the range begins beyond %s, expected below %s",
			known->map->name, bytes_text(whole, text));
	uint64_t left = whole - range->offset;
	if (!has_length)
		range->length = left < STORY_PAGE_SIZE ? left : STORY_PAGE_SIZE;
	if (range->length > left)
		return bad(p, length.column, "the range ends beyond %s, expected at most %s",
			known->map->name, bytes_text(left, text));
	return true;
}

bool read_range(struct parser *p, const struct story_task *task, struct word w,
	struct story_range *ret_range)
{
	struct word name, inside;
	bool bracket = cut_at(w, '[', &name, &inside);
	struct known_map *known = find_map(p, task, name);
	if (!known)
		return false;
	struct story_range range = {.map = known->map, .length = known->map->length};
	if (bracket) {
		if (!inside.length || inside.s[inside.length - 1] != ']')
			return bad(p, w.column + (unsigned)w.length,
				"the range does not end, expected ]");
		inside.length--;
		if (!read_extent(p, inside, known, &range))
			return false;
	}
	range.address = known->map->address + range.offset;
	*ret_range = range;
	return true;
}

bool take_range(struct parser *p, const struct story_task *task, struct story_range *ret_range)
{
	struct word w;
	return take_word(p, "a range: NAME, NAME[off] or NAME[off:len]", &w) &&
		read_range(p, task, w, ret_range);
}

bool take_task_range(struct parser *p, struct story_range *ret_range)
{
	struct word w, task, range;
	if (!take_word(p, "a task and a range: A.NAME", &w))
		return false;
	if (!cut_at(w, '.', &task, &range))
		return bad_word(p, w, "a task and a range: A.NAME");
	struct known_task *known = find_task(p, task);
	return known && read_range(p, known->task, range, ret_range);
}

// ---- After a bad line ---------------------------------------------------------------------------

static void add_broken_mapping(struct parser *p, struct known_task *task, struct word name)
{
	if (map_named(p, task->task, name))
		return;
	struct story_mapping *map = add_mapping(p, task, name, 0, NULL);
	if (map)
		((struct known_map *)p->maps.v)[map->index].broken = true;
}

void add_broken(struct parser *p)
{
	const struct word *w = p->words.v;
	struct story_errors kept = *p->errors; // what goes wrong here is no new error
	if (p->words.count >= 2 && (word_is(w[0], "task") || word_is(w[0], "fork"))) {
		if (!task_named(p, w[1]))
			add_task(p, w[1], NULL);
	} else if (p->words.count >= 3) {
		struct known_task *task = task_named(p, w[0]);
		if (task && word_is(w[1], "map"))
			add_broken_mapping(p, task, w[2]);
		else if (task && word_is(w[1], "remap") && p->words.count >= 4)
			add_broken_mapping(p, task, w[3]);
	}
	*p->errors = kept;
}
