// SPDX-License-Identifier: MIT
// Reports of stories read back and reduced to what can be compared.
//
// A report is a stream of JSON lines; the object without "line" ends a story. Each command becomes
// one text, so that comparing is strcmp and a difference can be printed as it is:
//
//   system calls   return, errno, signal, status, text (the answer of get_policy), a wrong byte
//   stop           return and lost values; how many accesses there were is chance
//   show           the text without noise, or the changes of the counters
//   expect         held, or what was found instead
//
// Noise is what two runs of the same kernel need not agree on: addresses, names of files, active=
// in numa_maps and Referenced in smaps (pending batches), ProtectionKey (which the processor
// decides), the bits of entries in traces, and of `show vmstat` and `show numastat` the counters of
// allocations, faults and of how memory is used at all, which a kernel moves for itself all the
// time (an `expect` of them says what the story means, and is compared). Allocation and broken
// input are the errors; a half-read result is released.

#include "lab/results.h"

#include "lab/story.h"

#include <ctype.h>
#include <errno.h>
#include <json.h>
#include <stdlib.h>
#include <string.h>

// ---- Noise --------------------------------------------------------------------------------------

static bool begins(const char *s, const char *prefix)
{
	return !strncmp(s, prefix, strlen(prefix));
}

// The address, file= and active= of a line of numa_maps.
static void clean_numa_maps(FILE *out, const char *line, size_t length)
{
	bool first = true;
	for (size_t i = 0, n; i < length; i += n + 1) {
		const char *space = memchr(line + i, ' ', length - i);
		n = space ? (size_t)(space - line) - i : length - i;
		const char *word = line + i;
		if (i && n && !begins(word, "file=") && !begins(word, "active=")) {
			fprintf(out, "%s%.*s", first ? "" : " ", (int)n, word);
			first = false;
		}
	}
}

// A line of smaps that is no field is the header, with the address and the file.
static void clean_smaps(FILE *out, const char *line, size_t length)
{
	if (!isupper((unsigned char)line[0]) || begins(line, "Referenced:") ||
		begins(line, "ProtectionKey:"))
		return;
	bool blank = false;
	for (size_t i = 0; i < length; i++) {
		if (line[i] != ' ')
			fprintf(out, "%s%c", blank ? " " : "", line[i]);
		blank = line[i] == ' ';
	}
}

// Of migrations only, which both machines record; what an entry holds is the machine's own affair.
static void clean_trace(FILE *out, const char *line, size_t length)
{
	static const char *const kept[] = {"mm_migrate_pages", "set_migration_p",
		"remove_migration_p"};
	bool keep = false;
	for (size_t i = 0; i < sizeof(kept) / sizeof(kept[0]); i++)
		keep |= begins(line, kept[i]);
	for (size_t i = 0; keep && i < length;) {
		bool entry = begins(line + i, "pte=") || begins(line + i, "pmd=");
		if (entry) {
			fprintf(out, "%.4sENTRY", line + i);
			for (i += 4; i < length && isxdigit((unsigned char)line[i]); i++)
				;
		} else {
			fputc(line[i++], out);
		}
	}
}

// godwit-lab(1) has the same list.
static bool is_noisy_counter(const char *name)
{
	static const char *const names[] = {"numa_hit", "numa_miss", "numa_foreign", "numa_local",
		"numa_other", "pgfault", "pgmajfault", "pgfree", "pgreuse", "pgactivate",
		"pgdeactivate", "pgpgin", "pgpgout", "nr_free_pages", "nr_anon_pages", "nr_mapped",
		"nr_file_pages", "nr_page_table_pages", "nr_kernel_stack", "nr_dirty", "nr_dirtied",
		"nr_writeback", "nr_written", "local_node", "other_node"};
	static const char *const prefixes[] = {
		"pgalloc_", "nr_zone_", "nr_slab_", "nr_active_", "nr_inactive_"};
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (!strcmp(name, names[i]))
			return true;
	for (size_t i = 0; i < sizeof(prefixes) / sizeof(prefixes[0]); i++)
		if (begins(name, prefixes[i]))
			return true;
	return false;
}

// "interleave_hit 8 8": what tasks allocate is a small part of most of these.
static void clean_numastat(FILE *out, const char *line, size_t length)
{
	char name[32];

	snprintf(name, sizeof(name), "%.*s", (int)strcspn(line, " \n"), line);
	if (!is_noisy_counter(name))
		fprintf(out, "%.*s", (int)length, line);
}

char *without_noise(const char *what, const char *text)
{
	char *clean = NULL;
	size_t size, kept = 0;
	FILE *out = open_memstream(&clean, &size);
	if (!out)
		return NULL;
	while (*text) {
		size_t length = strcspn(text, "\n");
		if (!strcmp(what, "numa_maps"))
			clean_numa_maps(out, text, length);
		else if (!strcmp(what, "smaps"))
			clean_smaps(out, text, length);
		else if (!strcmp(what, "trace"))
			clean_trace(out, text, length);
		else if (!strcmp(what, "numastat"))
			clean_numastat(out, text, length);
		else
			fprintf(out, "%.*s", (int)length, text);
		text += length + (text[length] == '\n');
		if (*text && ftello(out) > (off_t)kept) {
			fputc('\n', out);
			kept = (size_t)ftello(out);
		}
	}
	if (!fclose(out))
		return clean;
	free(clean);
	return NULL;
}

// ---- One command --------------------------------------------------------------------------------

static const char *member(struct json_object *o, const char *key)
{
	struct json_object *value;
	return json_object_object_get_ex(o, key, &value) && value ? json_object_get_string(value)
								  : NULL;
}

static void print_call(FILE *out, struct json_object *o)
{
	static const char *const keys[] = {"return", "errno", "signal", "status", "text",
		"found_byte", "lost"};
	bool first = true;
	for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++) {
		const char *value = member(o, keys[i]);
		if (!value)
			continue;
		fprintf(out, "%s%s %s", first ? "" : "  ", keys[i], value);
		first = false;
	}
}

static void print_shown(FILE *out, struct json_object *o)
{
	struct json_object *values;
	const char *text = member(o, "text"), *what = member(o, "show");
	if (text && what) {
		char *clean = without_noise(what, text);
		fputs(clean ? clean : text, out);
		free(clean);
	}
	if (!json_object_object_get_ex(o, "values", &values))
		return;
	bool first = true;
	json_object_object_foreach(values, name, value)
	{
		if (is_noisy_counter(name))
			continue;
		fprintf(out, "%s%s %s", first ? "" : " ", name, json_object_get_string(value));
		first = false;
	}
}

static void print_expected(FILE *out, struct json_object *o)
{
	struct json_object *held;
	const char *found = member(o, "found");
	if (json_object_object_get_ex(o, "held", &held) && json_object_get_boolean(held))
		fputs("held", out);
	else
		fprintf(out, "found %s", found ? found : "");
}

static char *answer_text(struct json_object *o)
{
	char *text = NULL;
	size_t size;
	FILE *out = open_memstream(&text, &size);
	if (!out)
		return NULL;
	if (member(o, "expect"))
		print_expected(out, o);
	else if (member(o, "show"))
		print_shown(out, o);
	else
		print_call(out, o);
	if (!fclose(out))
		return text;
	free(text);
	return NULL;
}

static char *command_text(struct json_object *o)
{
	const char *task = member(o, "task"), *command = member(o, "command");
	const char *more = member(o, "expect") ? member(o, "expect") : member(o, "show");
	char *text;
	if (asprintf(&text, "%s%s%s%s%s", task ? task : "", task ? " " : "",
		    command ? command : "?", more ? " " : "", more ? more : "") < 0)
		return NULL;
	return text;
}

// ---- The stream ---------------------------------------------------------------------------------

static void *grown(void *v, size_t count, size_t *capacity, size_t size)
{
	if (count < *capacity)
		return v;
	size_t more = *capacity ? *capacity * 2 : 16;
	void *moved = reallocarray(v, more, size);
	if (moved)
		*capacity = more;
	return moved;
}

// It says what the machine is; there is nothing to compare.
static bool is_machine_line(struct json_object *o)
{
	const char *word = member(o, "command");
	for (enum machine_word w = LINE_MACHINE; word && w <= LINE_NEEDS; w++)
		if (!strcmp(word, machine_word(w)))
			return true;
	return false;
}

static int add_answer(struct story_results *s, struct json_object *o, unsigned line)
{
	struct answer *v = grown(s->answers, s->count, &s->capacity, sizeof(*v));
	if (!v)
		return -ENOMEM;
	s->answers = v;
	const char *differs = member(o, "differs");
	struct answer *a = &v[s->count++];
	*a = (struct answer){line, command_text(o), answer_text(o),
		differs ? strdup(differs) : NULL};
	return a->command && a->answer && (!differs || a->differs) ? 0 : -ENOMEM;
}

static void release_story(struct story_results *s)
{
	for (size_t i = 0; i < s->count; i++) {
		free(s->answers[i].command);
		free(s->answers[i].answer);
		free(s->answers[i].differs);
	}
	free(s->answers);
	free(s->story);
	free(s->machine);
	free(s->result);
	free(s->reason);
	*s = (struct story_results){0};
}

static char *copied(struct json_object *o, const char *key)
{
	const char *value = member(o, key);
	return strdup(value ? value : "");
}

// The object that ends a story; what has been collected in s moves to the results.
static int end_story(struct results *r, struct story_results *s, struct json_object *o)
{
	struct story_results *v = grown(r->stories, r->count, &r->capacity, sizeof(*v));
	if (!v)
		return -ENOMEM;
	r->stories = v;
	s->story = copied(o, "story");
	s->machine = copied(o, "machine");
	s->result = copied(o, "result");
	s->reason = copied(o, "reason");
	if (!s->story || !s->machine || !s->result || !s->reason)
		return -ENOMEM;
	v[r->count++] = *s;
	*s = (struct story_results){0};
	return 0;
}

static int read_line(struct results *r, struct story_results *s, const char *text)
{
	struct json_object *o = json_tokener_parse(text), *value;
	int err = 0;
	if (!o || !json_object_is_type(o, json_type_object) ||
		!json_object_object_get_ex(o, "schema", &value)) {
		json_object_put(o);
		return 0;
	}
	if (json_object_get_int(value) != 1)
		err = -EPROTO;
	else if (is_machine_line(o))
		err = 0;
	else if (json_object_object_get_ex(o, "line", &value))
		err = add_answer(s, o, (unsigned)json_object_get_int64(value));
	else if (member(o, "story"))
		err = end_story(r, s, o);
	json_object_put(o);
	return err;
}

// *ret_rest: answers of a story that has no end.
static int read_lines(FILE *in, struct results *r, size_t *ret_rest)
{
	struct story_results s = {0};
	char *text = NULL;
	size_t capacity = 0;
	int err = 0;
	while (!err && getline(&text, &capacity, in) >= 0) {
		const char *object = strstr(text, "{\"schema\":");
		if (object)
			err = read_line(r, &s, object);
	}
	*ret_rest = s.count;
	free(text);
	release_story(&s);
	return err;
}

int results_read(FILE *in, struct results *ret_results)
{
	struct results r = {0};
	size_t rest;
	int err = read_lines(in, &r, &rest);
	if (!err && rest)
		err = -EPROTO;
	if (err)
		results_release(&r);
	else
		*ret_results = r;
	return err;
}

int results_add(FILE *in, struct results *results)
{
	size_t rest;
	return read_lines(in, results, &rest);
}

int results_add_missing(struct results *results, const char *story, const char *reason)
{
	struct story_results s = {.story = strdup(story),
		.machine = strdup("host"),
		.result = strdup("skipped"),
		.reason = strdup(reason),
		.missing = true};
	struct story_results *v =
		grown(results->stories, results->count, &results->capacity, sizeof(*v));
	if (v)
		results->stories = v;
	if (!v || !s.story || !s.machine || !s.result || !s.reason) {
		release_story(&s);
		return -ENOMEM;
	}
	v[results->count++] = s;
	return 0;
}

void results_release(struct results *results)
{
	for (size_t i = 0; i < results->count; i++)
		release_story(&results->stories[i]);
	free(results->stories);
	*results = (struct results){0};
}
