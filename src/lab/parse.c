// SPDX-License-Identifier: MIT
// The parser of stories (godwit-story(5) is the language).
//
// story_parse() goes over the text once, line by line:
//
//   line -> cut off the comment, keep "# differs:" -> words (line.c) -> command by its word (the
//   tables below) -> operands (parse_*.c, with names resolved by scope.c) -> a struct command
//
// A bad line is recorded and the next is read, so that all mistakes are reported at once; nothing
// of a story with a mistake is ever run. All checks that need no machine are made here: names,
// extents, order, and whether an expectation has something to be about.
//
// The result is one arena. Only memory and the story itself can make this fail. No locks; two
// threads may parse at once.

#include "lab/parser.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum who { WORLD, TASK };

static const enum who said_by[CMD_COUNT] = {
#define X(kind, word, who) [CMD_##kind] = who,
	STORY_COMMANDS(X)
#undef X
};

static parse_fn *const parsers[CMD_COUNT] = {
	[CMD_TASK] = parse_task,
	[CMD_FORK] = parse_fork,
	[CMD_EXIT] = parse_exit,
	[CMD_CPU] = parse_cpu,
	[CMD_MAP] = parse_map,
	[CMD_UNMAP] = parse_range_only,
	[CMD_PROTECT] = parse_protect,
	[CMD_REMAP] = parse_remap,
	[CMD_WRITE] = parse_bytes,
	[CMD_READ] = parse_range_only,
	[CMD_CHECK] = parse_bytes,
	[CMD_ADVISE] = parse_advise,
	[CMD_LOCK] = parse_range_only,
	[CMD_UNLOCK] = parse_range_only,
	[CMD_PIN] = parse_range_only,
	[CMD_UNPIN] = parse_range_only,
	[CMD_POLICY] = parse_policy,
	[CMD_GET_POLICY] = parse_get_policy,
	[CMD_MBIND] = parse_mbind,
	[CMD_WHERE] = parse_where,
	[CMD_MOVE] = parse_move,
	[CMD_MIGRATE] = parse_migrate,
	[CMD_MEMS] = parse_mems,
	[CMD_MEMS_V1] = parse_mems_v1,
	[CMD_LOAD] = parse_load,
	[CMD_STOP] = parse_stop,
	[CMD_SPLIT] = parse_range_only,
	[CMD_SET] = parse_set,
	[CMD_COMPACT] = parse_compact,
	[CMD_KHUGEPAGED] = parse_scans,
	[CMD_KSMD] = parse_scans,
	[CMD_BALANCE] = parse_balance,
	[CMD_CMA] = parse_cma,
	[CMD_CONTIG] = parse_contig,
	[CMD_OFFLINE_PAGE] = parse_offline,
	[CMD_FILL] = parse_fill,
	[CMD_UNFILL] = parse_unfill,
	[CMD_SLEEP] = parse_sleep,
	[CMD_STORE] = parse_store,
	[CMD_MARK] = parse_mark,
	[CMD_SHOW] = parse_show,
	[CMD_EXPECT] = parse_expect,
};

// ---- One line -----------------------------------------------------------------------------------

static int kind_of(struct word w)
{
	for (int kind = 0; kind < CMD_COUNT; kind++)
		if (word_is(w, command_word((enum command_kind)kind)))
			return kind;
	return -1;
}

// The command's word is taken; its task, if it has one, is set.
static bool parse_operands(struct parser *p, struct command *c)
{
	if (!p->machine_over) {
		p->machine_over = true;
		if (!finish_machine(p))
			return false;
	}
	return parsers[c->kind](p, c) && end_of_line(p);
}

static bool parse_task_line(struct parser *p, struct word name, struct command *c)
{
	struct known_task *tasks = p->tasks.v;
	bool known = false;
	for (size_t i = 0; i < p->tasks.count; i++)
		known |= word_is(name, tasks[i].task->name);
	if (!known)
		return bad(p, name.column, "unknown command or task '%.*s', expected a command, or "
					   "a task that task or fork made before",
			name.length > 40 ? 40 : (int)name.length, name.s);
	struct known_task *task = find_task(p, name);
	struct word w;
	if (!task || !take_word(p, "what the task does", &w))
		return false;
	int kind = kind_of(w);
	if (kind < 0 || said_by[kind] != TASK)
		return bad_word(p, w, "something that a task does, such as map, write or move");
	c->kind = (enum command_kind)kind;
	c->column = w.column;
	c->task = task->task;
	return parse_operands(p, c);
}

static bool parse_command(struct parser *p, struct command *c)
{
	struct word w;
	if (!take_word(p, "a command", &w))
		return false;
	int kind = kind_of(w);
	if (kind < 0)
		return parse_task_line(p, w, c);
	if (said_by[kind] == TASK) {
		char expected[80];
		snprintf(expected, sizeof(expected), "a task before it, as in 'A %s ...'",
			command_word((enum command_kind)kind));
		return bad_word(p, w, expected);
	}
	c->kind = (enum command_kind)kind;
	c->column = w.column;
	return parse_operands(p, c);
}

static bool keep_machine_line(struct parser *p, enum machine_word word, struct word source)
{
	struct machine_line *kept = pile_push(p, &p->lines, sizeof(*kept));
	if (!kept)
		return false;
	*kept = (struct machine_line){word, p->line, keep_word(p, source), p->note};
	p->note = NULL;
	return kept->source;
}

const char *machine_word(enum machine_word word)
{
	static const char *const words[] = {
		[LINE_MACHINE] = "machine", [LINE_ONLY] = "only", [LINE_NEEDS] = "needs"};
	return words[word];
}

// True also when the line was no machine line; then *ret_done is false.
static bool parse_machine_line(struct parser *p, struct word source, bool *ret_done)
{
	static bool (*const parse[])(struct parser *p) = {[LINE_MACHINE] = parse_machine,
		[LINE_ONLY] = parse_only, [LINE_NEEDS] = parse_needs};
	struct word first = *(struct word *)p->words.v;
	*ret_done = false;
	for (enum machine_word i = LINE_MACHINE; i <= LINE_NEEDS; i++)
		if (word_is(first, machine_word(i))) {
			*ret_done = true;
			p->next = 1;
			return parse[i](p) && end_of_line(p) && keep_machine_line(p, i, source);
		}
	return true;
}

static unsigned operand_column(const struct parser *p, const struct command *c)
{
	const struct word *words = p->words.v;
	return words[c->kind == CMD_EXPECT ? 1 : p->words.count - 1].column;
}

static bool keep_command(struct parser *p, struct command *c, struct word source,
	struct word differs)
{
	c->line = p->line;
	c->operand_column = operand_column(p, c);
	c->source = keep_word(p, source);
	c->note = p->note;
	p->note = NULL;
	c->differs = differs.length ? keep_word(p, differs) : NULL;
	struct command **slot = pile_push(p, &p->commands, sizeof(struct command *));
	if (!slot || !c->source || (differs.length && !c->differs))
		return false;
	*slot = c;
	return true;
}

static bool parse_words(struct parser *p, struct word source, struct word differs)
{
	bool done;
	if (!parse_machine_line(p, source, &done))
		return false;
	if (done)
		return true;
	struct command *c = story_arena_alloc(p->arena, sizeof(*c));
	if (!c)
		return out_of_memory(p);
	return parse_command(p, c) && keep_command(p, c, source, differs);
}

static struct word trimmed(struct word w)
{
	while (w.length && isspace((unsigned char)w.s[0]))
		w = word_from(w, 1);
	while (w.length && isspace((unsigned char)w.s[w.length - 1]))
		w.length--;
	return w;
}

// Longer ones are cut: nobody reads them beside a result.
#define NOTE_MAX 4096

static char printable(char c)
{
	return isprint((unsigned char)c) ? c : c == '\t' ? ' ' : '?';
}

static bool is_licence(struct word comment)
{
	static const char tag[] = "SPDX-License-Identifier:";

	return comment.length >= sizeof tag - 1 && !memcmp(comment.s, tag, sizeof tag - 1);
}

// One more line for the note of the next command; an empty one only between others, and not the
// licence: it is for who copies the file, not for who reads the report.
static bool add_note(struct parser *p, struct word comment)
{
	size_t used = p->note ? strlen(p->note) : 0;
	if (comment.length && comment.s[0] == ' ')
		comment = word_from(comment, 1);
	while (comment.length && isspace((unsigned char)comment.s[comment.length - 1]))
		comment.length--;
	bool empty_before = used < 2 || p->note[used - 2] == '\n';
	if ((!comment.length && empty_before) || is_licence(comment) ||
		used + comment.length > NOTE_MAX)
		return true;
	char *note = story_arena_alloc(p->arena, used + comment.length + 2);
	if (!note)
		return out_of_memory(p);
	if (used)
		memcpy(note, p->note, used);
	for (size_t i = 0; i < comment.length; i++)
		note[used + i] = printable(comment.s[i]);
	note[used + comment.length] = '\n';
	note[used + comment.length + 1] = '\0';
	p->note = note;
	return true;
}

static void parse_line(struct parser *p, const char *s, size_t length)
{
	struct word code, comment, differs = {0};
	bool has_comment = cut_at((struct word){s, length, 1}, '#', &code, &comment);
	struct word whole = has_comment ? comment : (struct word){0};
	comment = trimmed(comment);
	if (word_begins(comment, "differs:"))
		differs = trimmed(word_from(comment, strlen("differs:")));
	for (size_t i = 0; i < differs.length; i++)
		if (!isprint((unsigned char)differs.s[i]))
			differs.length = i;
	code = (struct word){code.s, code.length, 1};
	bool good = cut_words(p, code.s, code.length);
	if (good && p->words.count)
		good = parse_words(p, trimmed(code), differs);
	else if (good)
		good = add_note(p, whole);
	if (!good && !p->no_memory)
		add_broken(p);
}

// ---- The whole ----------------------------------------------------------------------------------

// An expectation before the next action, whatever it is about, says that the author has thought
// about how the action ends; a failure of it is then left to the expectation. Threads that die in
// the background are another matter than what is looked at next: for stop and exit it must be the
// outcome.
static bool is_about(const struct command *expectation, const struct command *last)
{
	enum expect_what what = expectation->expect.what;

	return (last->kind != CMD_STOP && last->kind != CMD_EXIT) || what == EXPECT_SIGNAL ||
	       what == EXPECT_RETURN;
}

static void mark_expected(struct command **v, size_t count)
{
	struct command *last = NULL;
	for (size_t i = 0; i < count; i++) {
		if (v[i]->kind == CMD_EXPECT && last && is_about(v[i], last))
			last->expected = true;
		if (v[i]->kind != CMD_EXPECT && v[i]->kind != CMD_SHOW && v[i]->kind != CMD_MARK)
			last = v[i];
	}
}

static bool keep_lists(struct parser *p)
{
	struct story *s = p->story;
	const struct story_task **tasks =
		story_arena_alloc(p->arena, (p->tasks.count + 1) * sizeof(struct story_task *));
	const struct story_mapping **maps =
		story_arena_alloc(p->arena, (p->maps.count + 1) * sizeof(struct story_mapping *));
	if (!tasks || !maps)
		return out_of_memory(p);
	for (size_t i = 0; i < p->tasks.count; i++)
		tasks[i] = ((struct known_task *)p->tasks.v)[i].task;
	for (size_t i = 0; i < p->maps.count; i++)
		maps[i] = ((struct known_map *)p->maps.v)[i].map;
	mark_expected(p->commands.v, p->commands.count);
	s->tasks = tasks;
	s->task_count = p->tasks.count;
	s->mappings = maps;
	s->mapping_count = p->maps.count;
	s->commands = pile_keep(p, &p->commands, sizeof(struct command *));
	s->command_count = p->commands.count;
	s->machine_lines = pile_keep(p, &p->lines, sizeof(struct machine_line));
	s->machine_line_count = p->lines.count;
	s->load_count = p->loads.count;
	return s->commands && s->machine_lines;
}

static void parse_text(struct parser *p, const char *text, size_t length)
{
	size_t start = 0;
	while (start < length && !p->no_memory && !p->errors->more) {
		const char *end = memchr(text + start, '\n', length - start);
		size_t n = end ? (size_t)(end - text) - start : length - start;
		p->line++;
		parse_line(p, text + start, n);
		start += n + 1;
	}
	if (!p->errors->count && !p->commands.count) {
		p->line = p->line ? p->line : 1;
		bad(p, 1, "the story has no command, expected at least one");
	}
}

static void release_piles(struct parser *p)
{
	struct pile *piles[] = {&p->words, &p->tasks, &p->maps, &p->loads, &p->areas, &p->stores,
		&p->commands, &p->lines, &p->pools, &p->cma};
	for (size_t i = 0; i < sizeof(piles) / sizeof(piles[0]); i++)
		free(piles[i]->v);
}

static int parse_into(struct parser *p, const char *file, const char *text, size_t length)
{
	p->story = story_arena_alloc(p->arena, sizeof(*p->story));
	if (!p->story)
		return -ENOMEM;
	p->story->arena = p->arena;
	p->story->file = story_arena_copy(p->arena, file, strlen(file));
	if (!p->story->file)
		return -ENOMEM;
	parse_text(p, text, length);
	if (!p->no_memory && !p->errors->count)
		keep_lists(p);
	if (p->no_memory)
		return -ENOMEM;
	return p->errors->count ? -EINVAL : 0;
}

int story_parse(const char *file, const char *text, size_t length, struct story **ret_story,
	struct story_errors *errors)
{
	memset(errors, 0, sizeof(*errors));
	struct parser p = {.errors = errors, .arena = story_arena_create()};
	if (!p.arena)
		return -ENOMEM;
	int err = parse_into(&p, file, text, length);
	release_piles(&p);
	if (err)
		story_arena_destroy(p.arena);
	else
		*ret_story = p.story;
	return err;
}

void story_free(struct story *story)
{
	if (story)
		story_arena_destroy(story->arena);
}

bool story_shows(const struct story *story, enum show_what what)
{
	for (size_t i = 0; i < story->command_count; i++)
		if (story->commands[i]->kind == CMD_SHOW && story->commands[i]->show.what == what)
			return true;
	return false;
}

uint64_t story_object_size(const struct story *story, const char *name, uint64_t page_size)
{
	uint64_t size = 0;

	for (size_t i = 0; i < story->command_count; i++) {
		const struct command *c = story->commands[i];

		if (c->kind == CMD_MAP && c->map.object_name && !strcmp(c->map.object_name, name) &&
			c->map.map->length > size)
			size = c->map.map->length;
	}
	return (size + page_size - 1) & ~(page_size - 1);
}
