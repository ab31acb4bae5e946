// SPDX-License-Identifier: MIT
// Fuzzes the parser of stories (clang -fsanitize=fuzzer).
//
//	CC=clang meson setup build-fuzz -Dfuzz=true -Db_sanitize=address,undefined -Db_lundef=false
//	ninja -C build-fuzz fuzz/story_fuzz && build-fuzz/fuzz/story_fuzz CORPUS examples
//
// Any bytes may come in. A refused story must say where, inside the text, and how many mistakes
// there were; an accepted one must keep the promises of story.h: every range inside its mapping,
// every address as documented, every pointer belonging to the story.

#include "lab/story.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool holds)
{
	if (!holds)
		abort();
}

static void check_errors(const struct story_errors *e, size_t size)
{
	require(e->count > 0 && e->count <= STORY_ERRORS_MAX);
	for (size_t i = 0; i < e->count; i++) {
		require(e->v[i].line >= 1 && e->v[i].line <= size + 1);
		require(e->v[i].column >= 1 && e->v[i].column <= size + 2);
		require(e->v[i].text[0]);
		require(i == 0 || e->v[i].line >= e->v[i - 1].line);
	}
}

static void check_range(const struct story *s, const struct story_range *r)
{
	require(r->map && s->mappings[r->map->index] == r->map);
	require(s->tasks[r->map->task->index] == r->map->task);
	require(r->offset <= r->map->length && r->length <= r->map->length - r->offset);
	require(r->address == r->map->address + r->offset);
}

static void check_command(const struct story *s, const struct command *c)
{
	require(c->kind < CMD_COUNT && c->line >= 1 && c->column >= 1 && c->source);
	require(!c->task || s->tasks[c->task->index] == c->task);
	if (c->kind >= CMD_WRITE && c->kind <= CMD_UNPIN)
		check_range(s, &c->range.range);
	if (c->kind != CMD_WHERE && c->kind != CMD_MOVE)
		return;
	for (size_t i = 0; i < c->move.ranges.count; i++)
		check_range(s, &c->move.ranges.v[i]);
	require(c->move.step && (c->kind == CMD_WHERE || c->move.to_count));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct story *s = NULL;
	struct story_errors errors;
	if (story_parse("fuzz.gw", (const char *)data, size, &s, &errors)) {
		check_errors(&errors, size);
		return 0;
	}
	require(s->command_count && s->machine.nodes && s->machine.cpus);
	for (size_t i = 0; i < s->mapping_count; i++)
		require((s->mappings[i]->address - STORY_MAP_BASE) % STORY_MAP_STRIDE == 0);
	for (size_t i = 0; i < s->command_count; i++)
		check_command(s, s->commands[i]);
	story_free(s);
	return 0;
}
