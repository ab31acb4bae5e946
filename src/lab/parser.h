// SPDX-License-Identifier: MIT
// The inside of the parser: lines cut into words, values read from words, options, and the names
// that are known so far. parse.c has the essay.
//
// Functions that return bool: false means that an error has been recorded for this line (or that
// memory ran out) and that the rest of the line is not to be looked at.
#ifndef GODWIT_LAB_PARSER_H
#define GODWIT_LAB_PARSER_H

#include "lab/story.h"
#include "lab/story_arena.h"

// A piece of the line, not NUL-terminated.
struct word {
	const char *s;
	size_t length;
	unsigned column; // from 1
};

// A growing array in ordinary memory; its final content is copied into the arena.
struct pile {
	void *v;
	size_t count, capacity;
};

struct known_task {
	struct story_task *task;
	unsigned maps;	      // addresses given so far
	unsigned exited_line; // 0: it runs
};

struct known_map {
	struct story_mapping *map;
	bool mapped; // as far as can be known
	bool broken; // its line was bad: nothing about its size is known
};

struct known_load {
	const struct story_mapping *map;
	uint64_t offset, length;
	unsigned index;
	bool running;
};

struct parser {
	struct story *story;
	struct story_errors *errors;
	struct story_arena *arena;
	bool no_memory;

	unsigned line;
	struct pile words; // of struct word
	size_t next;	   // word to be read
	unsigned end_column;

	struct pile tasks;    // of struct known_task
	struct pile maps;     // of struct known_map
	struct pile loads;    // of struct known_load
	struct pile areas;    // cma allocations: of struct word
	struct pile stores;   // of struct word
	struct pile commands; // of struct command *
	struct pile lines;    // of struct machine_line
	struct pile pools;    // of struct story_pool
	struct pile cma;      // of struct story_cma
	const char *note;     // comments since the last command or machine line
	bool seen[7]; // properties of the machine already given (parse_machine.c)
	bool machine_over, marked;
};

// ---- line.c: words and values -------------------------------------------------------------------

void *pile_push(struct parser *p, struct pile *pile, size_t size); // a zeroed element; NULL
void *pile_keep(struct parser *p, const struct pile *pile, size_t size); // a copy in the arena

bool cut_words(struct parser *p, const char *s, size_t length);
bool bad(struct parser *p, unsigned column, const char *format, ...)
	__attribute__((format(printf, 3, 4)));
bool bad_word(struct parser *p, struct word w, const char *expected);
bool out_of_memory(struct parser *p);

bool more_words(const struct parser *p);
bool take_word(struct parser *p, const char *expected, struct word *ret_word);
bool end_of_line(struct parser *p);

bool word_is(struct word w, const char *text);
bool word_begins(struct word w, const char *prefix);
struct word word_from(struct word w, size_t at); // the rest from position at
bool cut_at(struct word w, char c, struct word *ret_left, struct word *ret_right);
const char *keep_word(struct parser *p, struct word w);
// The words from the next on, joined by one blank.
const char *keep_rest(struct parser *p, const char *expected);

bool read_number(struct parser *p, struct word w, uint64_t *ret_number);
// "3" or "3-7": two numbers, not yet compared.
bool read_span(struct parser *p, struct word item, uint64_t *ret_first, uint64_t *ret_last);
bool read_integer(struct parser *p, struct word w, int64_t *ret_integer);
bool read_size(struct parser *p, struct word w, uint64_t *ret_size);
bool read_time(struct parser *p, struct word w, uint64_t *ret_ns);
bool read_nodes(struct parser *p, struct word w, uint64_t *ret_nodes);
bool read_node(struct parser *p, struct word w, unsigned *ret_node); // one of the machine's
bool read_cpu(struct parser *p, struct word w, unsigned *ret_cpu);
bool read_name(struct parser *p, struct word w, const char *what);   // it is fit to be a name
// All remaining words.
bool read_statuses(struct parser *p, bool unwritten, struct status_list *ret_list);
bool read_op(struct parser *p, enum compare_op *ret_op); // optional, OP_EQ otherwise

// Options, in any order, each once: "word" when kind is OPTION_FLAG, "word=value" otherwise,
// either for OPTION_SIZE_OR_FLAG.
enum option_kind {
	OPTION_FLAG,
	OPTION_NUMBER,
	OPTION_INTEGER,
	OPTION_SIZE,
	OPTION_SIZE_OR_FLAG,
	OPTION_NODES,
	OPTION_NODE,
	OPTION_CPU,
	OPTION_TEXT,
};

struct option_spec {
	const char *name;
	enum option_kind kind;
	bool seen;
	struct word value; // without "name="
	uint64_t number;   // as the kind says; signed for OPTION_INTEGER
};

// Reads the rest of the line. Words that are no option go to rest (of struct word) when it is not
// NULL and they have no '=', and are errors otherwise.
bool read_options(struct parser *p, struct option_spec *options, size_t count, struct pile *rest);

// ---- scope.c: tasks and mappings ----------------------------------------------------------------

struct known_task *find_task(struct parser *p, struct word w); // NULL: error recorded
struct known_task *known_task_of(struct parser *p, const struct story_task *task);
// Adds a task; mappings are copied from the parent, when there is one.
struct story_task *add_task(struct parser *p, struct word name, struct known_task *parent);
struct story_mapping *add_mapping(struct parser *p, struct known_task *task, struct word name,
	uint64_t length, const struct story_mapping *origin);
struct known_map *find_map(struct parser *p, const struct story_task *task, struct word name);
bool read_range(struct parser *p, const struct story_task *task, struct word w,
	struct story_range *ret_range);
bool take_range(struct parser *p, const struct story_task *task, struct story_range *ret_range);
// "A.BUF[off:len]"
bool take_task_range(struct parser *p, struct story_range *ret_range);
void forget_mapping(struct parser *p, const struct story_range *range); // unmapped, if all of it
// After a bad line: the name that it would have made, so that later lines are not blamed.
void add_broken(struct parser *p);

// ---- The lines ----------------------------------------------------------------------------------

typedef bool parse_fn(struct parser *p, struct command *c);

bool parse_machine(struct parser *p); // parse_machine.c; the word "machine" is taken
bool parse_only(struct parser *p);
bool parse_needs(struct parser *p);
bool finish_machine(struct parser *p);

bool read_policy(struct parser *p, struct word w, struct story_policy *ret_policy);

parse_fn parse_task, parse_fork, parse_exit, parse_cpu, parse_map, parse_remap, parse_protect,
	parse_bytes, parse_advise, parse_range_only, parse_policy, parse_get_policy, parse_mbind,
	parse_mems, parse_mems_v1, parse_load, parse_stop; // parse_task.c
parse_fn parse_where, parse_move, parse_migrate;	   // parse_move.c
parse_fn parse_set, parse_compact, parse_scans, parse_balance, parse_cma, parse_contig,
	parse_offline, parse_fill, parse_unfill, parse_sleep, parse_mark, // parse_world.c
	parse_store;							  // parse_store.c
parse_fn parse_show, parse_expect;					  // parse_look.c

#endif
