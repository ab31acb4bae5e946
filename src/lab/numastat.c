// SPDX-License-Identifier: MIT
// What `show numastat` prints: how far each counter of each node went since the mark.
//
// The machines tell numbers since they were made or booted, a line a counter and a column a node
// (TEXT_NUMASTAT). What was there before the story is another on each machine, so that only the
// change says something, as with `show vmstat`. The text is remembered when the story begins and
// at each mark, if the story has such a line at all. What can fail: memory, and the machine.

#include "lab/play.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

static bool shows_numastat(const struct story *story)
{
	for (size_t i = 0; i < story->command_count; i++)
		if (story->commands[i]->kind == CMD_SHOW &&
			story->commands[i]->show.what == SHOW_NUMASTAT)
			return true;
	return false;
}

int remember_numastat(struct play *play)
{
	struct lab_machine *m = play->machine;
	char *now;
	int err;

	if (!shows_numastat(play->story))
		return 0;
	err = m->ops->text(m, TEXT_NUMASTAT, NULL, &now);
	if (err)
		return err;
	free(play->numastat);
	play->numastat = now;
	return 0;
}

// The line that begins with the same word; NULL: there is none.
static const char *line_of_counter(const char *text, const char *line)
{
	size_t length = strcspn(line, " \n");

	while (*text && (strncmp(text, line, length) || text[length] != ' ')) {
		text += strcspn(text, "\n");
		text += *text == '\n';
	}
	return *text ? text : NULL;
}

// One line: the name, then the numbers less those of the line before. A column that was not there
// before counts from 0.
static void print_changes(FILE *out, const char *now, const char *before)
{
	size_t length = strcspn(now, " \n");

	fprintf(out, "%.*s", (int)length, now);
	now += length;
	before = before ? before + length : "";
	while (*now == ' ') {
		char *end;
		int64_t value = strtoll(now, &end, 10);

		now = end;
		if (*before == ' ') {
			value -= strtoll(before, &end, 10);
			before = end;
		}
		fprintf(out, " %" PRId64, value);
	}
	fputc('\n', out);
}

char *numastat_changes(const char *before, const char *now)
{
	char *text = NULL;
	size_t size;
	FILE *out = open_memstream(&text, &size);

	if (!out)
		return NULL;
	for (const char *line = now; *line; line += *line == '\n') {
		print_changes(out, line, line_of_counter(before, line));
		line += strcspn(line, "\n");
	}
	if (!fclose(out))
		return text;
	free(text);
	return NULL;
}

int numastat_since_mark(struct play *play, char **ret_text)
{
	struct lab_machine *m = play->machine;
	char *now;
	int err = m->ops->text(m, TEXT_NUMASTAT, NULL, &now);

	if (err)
		return err;
	*ret_text = numastat_changes(play->numastat, now);
	free(now);
	return *ret_text ? 0 : -ENOMEM;
}
