// SPDX-License-Identifier: MIT
// What a move of a story left where it was: the engine's list in the story's words.
//
//	engine_stayed_new()	before the call: a list for its options
//	engine_stayed_end()	after it: into the result, addresses as ranges of the story's names
//
// A range may go beyond the map in which it begins (neighbours never touch in a story, so it does
// not). An address of no map of the task stays a number. Only memory can fail.
#include "lab/engine_machine.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct engine_stayed *engine_stayed_new(void)
{
	struct engine_stayed *stayed = calloc(1, sizeof *stayed);

	if (stayed)
		stayed->list = (struct gw_stayed_list){.v = stayed->v, .max = ENGINE_STAYED_MAX};
	return stayed;
}

static const struct story_mapping *mapping_at(
	const struct engine_machine *m, const struct story_task *task, uint64_t address)
{
	const struct story *story = m->story;

	for (size_t i = story->mapping_count; i--;) {
		const struct story_mapping *map = story->mappings[i];

		if (map->task == task && address >= map->address &&
			address - map->address < map->length)
			return map;
	}
	return NULL;
}

static char *range_text(const struct engine_machine *m, const struct story_task *task,
	uint64_t address, uint64_t length)
{
	const struct story_mapping *map = mapping_at(m, task, address);
	char *text = NULL, from[BYTES_TEXT_MAX], bytes[BYTES_TEXT_MAX];
	size_t size;
	FILE *out = open_memstream(&text, &size);

	if (!out)
		return NULL;
	if (!map) {
		fprintf(out, "%s 0x%" PRIx64, task->name, address);
	} else if (address == map->address && length >= map->length) {
		fprintf(out, "%s.%s", task->name, map->name);
	} else {
		fprintf(out, "%s.%s[%s:%s]", task->name, map->name,
			bytes_text(address - map->address, from), bytes_text(length, bytes));
	}
	if (!fclose(out))
		return text;
	free(text);
	return NULL;
}

static int add(const struct engine_machine *m, const struct story_task *task,
	const struct gw_stayed *stayed, struct lab_result *result)
{
	char *range = range_text(m, task, stayed->address, stayed->pages * stayed->page_size);

	if (!range)
		return -ENOMEM;
	struct lab_stayed *out = &result->stayed[result->stayed_count++];
	*out = (struct lab_stayed){
		.range = range,
		.pages = stayed->pages,
		.page_size = stayed->page_size,
		.node = stayed->node,
		.why = gw_why_name(stayed->why),
		.text = gw_why_text(stayed->why),
	};
	memcpy(out->detail, stayed->detail, sizeof out->detail);
	return 0;
}

static int add_all(const struct engine_machine *m, const struct gw_stayed_list *list,
	const struct story_task *task, struct lab_result *result)
{
	int err = 0;

	if (!list->count && !list->more_pages)
		return 0;
	result->stayed = calloc(list->count + 1, sizeof *result->stayed);
	if (!result->stayed)
		return -ENOMEM;
	for (size_t i = 0; !err && i < list->count; i++)
		err = add(m, task, &list->v[i], result);
	result->stayed_more = list->more_pages;
	return err;
}

int engine_stayed_end(struct engine_machine *m, struct engine_stayed *stayed,
	const struct story_task *task, struct lab_result *result)
{
	int err = stayed ? add_all(m, &stayed->list, task, result) : 0;

	free(stayed);
	return err;
}
