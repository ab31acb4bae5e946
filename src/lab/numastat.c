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

// ---- The machine's numbers ----------------------------------------------------------------------

// What is behind the counter's name in a node's file; 0: a kernel without NUMA has no such file.
static long long value_of(const char *text, const char *counter)
{
	const char *at = text ? strstr(text, counter) : NULL;

	return at ? strtoll(at + strlen(counter), NULL, 10) : 0;
}

static int print_nodes(char *const *texts, unsigned nodes, char **ret_text)
{
	static const char *const counters[] = {"numa_hit", "numa_miss", "numa_foreign",
		"interleave_hit", "local_node", "other_node"};
	char *text = NULL;
	size_t size;
	FILE *out = open_memstream(&text, &size);

	if (!out)
		return -ENOMEM;
	for (size_t c = 0; c < sizeof(counters) / sizeof(counters[0]); c++) {
		fprintf(out, "%s", counters[c]);
		for (unsigned node = 0; node < nodes; node++)
			fprintf(out, " %lld", value_of(texts[node], counters[c]));
		fputc('\n', out);
	}
	if (fclose(out)) {
		free(text);
		return -ENOMEM;
	}
	*ret_text = text;
	return 0;
}

int lab_numastat_text(unsigned nodes, int (*read)(void *arg, unsigned node, char **ret_text),
	void *arg, char **ret_text)
{
	char **texts = calloc(nodes + 1, sizeof(*texts));
	int err = texts ? 0 : -ENOMEM;

	for (unsigned node = 0; !err && node < nodes; node++) {
		err = read(arg, node, &texts[node]);
		if (err == -ENOENT)
			err = 0;
	}
	if (!err)
		err = print_nodes(texts, nodes, ret_text);
	for (unsigned node = 0; texts && node < nodes; node++)
		free(texts[node]);
	free(texts);
	return err;
}

// ---- What changed -------------------------------------------------------------------------------

int remember_numastat(struct play *play)
{
	struct lab_machine *m = play->machine;
	char *now;
	int err;

	if (!story_shows(play->story, SHOW_NUMASTAT))
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
