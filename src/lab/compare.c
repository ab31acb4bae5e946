// SPDX-License-Identifier: MIT
// Two reports of the same stories, line against line.
//
// Both machines play every line of a story in the same order, so the lists are merged by line
// number; a line that only one machine came to is a difference too. What is compared has already
// been cleaned of noise (results.c). A difference that the story marks with "# differs: reason" is
// shown, but does not count. A story that one machine skipped cannot be compared, which is neither
// agreement nor difference; one that a machine has no result of, or did not play to its end (a
// command took too long), is a failure.

#include "lab/compare.h"

#include <errno.h>
#include <json.h>
#include <libsmartcols.h>
#include <stdlib.h>
#include <string.h>

// ---- Comparing ----------------------------------------------------------------------------------

static int add_difference(struct comparison *c, const struct answer *left,
	const struct answer *right)
{
	const struct answer *any = left ? left : right;
	if (c->count == c->capacity) {
		size_t capacity = c->capacity ? c->capacity * 2 : 8;
		struct difference *v = reallocarray(c->differences, capacity, sizeof(*v));
		if (!v)
			return -ENOMEM;
		c->differences = v;
		c->capacity = capacity;
	}
	c->differences[c->count++] = (struct difference){any->line, any->command,
		left ? left->answer : NULL, right ? right->answer : NULL, any->differs};
	c->marked += any->differs != NULL;
	return 0;
}

static int compare_answers(struct comparison *c, const struct story_results *left,
	const struct story_results *right)
{
	size_t l = 0, r = 0;
	while (l < left->count || r < right->count) {
		const struct answer *a = l < left->count ? &left->answers[l] : NULL;
		const struct answer *b = r < right->count ? &right->answers[r] : NULL;
		if (a && b && a->line != b->line)
			*(a->line < b->line ? &b : &a) = NULL;
		l += a != NULL;
		r += b != NULL;
		c->lines++;
		int err = a && b && !strcmp(a->answer, b->answer) ? 0 : add_difference(c, a, b);
		if (err)
			return err;
	}
	return 0;
}

static const char *skip_reason(const struct story_results *s)
{
	if (!s)
		return "no result from the other machine";
	if (strcmp(s->result, "skipped"))
		return NULL;
	return s->reason[0] ? s->reason : "skipped";
}

// Only a machine that cannot go on gives a reason for a failure.
static const char *stop_reason(const struct story_results *s)
{
	return !strcmp(s->result, "failed") && s->reason[0] ? s->reason : NULL;
}

static int compare_story(struct comparison *c, const struct story_results *left,
	const struct story_results *right)
{
	const struct story_results *any = left ? left : right;
	*c = (struct comparison){.story = any->story,
		.left_machine = left ? left->machine : "?",
		.right_machine = right ? right->machine : "?"};
	c->missing = !left || !right || left->missing || right->missing;
	c->skipped = skip_reason(left);
	if (!c->skipped)
		c->skipped = skip_reason(right);
	if (c->skipped)
		return 0;
	c->stopped = stop_reason(left);
	if (!c->stopped)
		c->stopped = stop_reason(right);
	return compare_answers(c, left, right);
}

static const char *file_name(const char *path)
{
	const char *slash = strrchr(path, '/');
	return slash ? slash + 1 : path;
}

// The same story may have been found in another folder there, or in none: on standard input.
static bool is_same_story(const struct story_results *a, const struct story_results *b, bool there)
{
	if (there && (!strcmp(a->story, "-") || !strcmp(b->story, "-")))
		return true;
	return !strcmp(file_name(a->story), file_name(b->story));
}

// The story among those not taken yet that is the i-th of the left report; NULL: there is none.
static const struct story_results *find_story(const struct results *left, size_t i,
	const struct results *right, bool *taken)
{
	const struct story_results *story = &left->stories[i];
	size_t found = right->count;
	for (size_t k = right->count; k-- > 0;) // the first one, best of the very same name
		if (!taken[k] && !strcmp(story->story, right->stories[k].story))
			found = k;
	for (size_t k = 0; found == right->count && k < right->count; k++)
		if (!taken[k] && is_same_story(story, &right->stories[k], k == i))
			found = k;
	if (found == right->count)
		return NULL;
	taken[found] = true;
	return &right->stories[found];
}

// Fills v, which has room for the stories of both; *ret_count is right in any case.
static int compare_pairs(const struct results *left, const struct results *right, bool by_name,
	bool *taken, struct comparison *v, size_t *ret_count)
{
	size_t n = 0;
	int err = 0;
	for (size_t i = 0; !err && i < left->count; i++) {
		const struct story_results *other = NULL;
		if (by_name)
			other = find_story(left, i, right, taken);
		else if (i < right->count)
			other = &right->stories[i];
		if (!by_name && other)
			taken[i] = true;
		err = compare_story(&v[n++], &left->stories[i], other);
	}
	for (size_t k = 0; !err && k < right->count; k++)
		if (!taken[k])
			err = compare_story(&v[n++], NULL, &right->stories[k]);
	*ret_count = n;
	return err;
}

int compare_results(const struct results *left, const struct results *right, bool by_name,
	struct comparison **ret_comparisons, size_t *ret_count)
{
	struct comparison *v = calloc(left->count + right->count + 1, sizeof(*v));
	bool *taken = calloc(right->count + 1, sizeof(*taken));
	size_t count = 0;
	int err = v && taken ? compare_pairs(left, right, by_name, taken, v, &count) : -ENOMEM;
	free(taken);
	if (err) {
		comparisons_release(v, count);
		return err;
	}
	*ret_comparisons = v;
	*ret_count = count;
	return 0;
}

void comparisons_release(struct comparison *comparisons, size_t count)
{
	for (size_t i = 0; i < count; i++)
		free(comparisons[i].differences);
	free(comparisons);
}

int comparisons_exit(const struct comparison *comparisons, size_t count)
{
	size_t compared = 0, differ = 0;
	for (size_t i = 0; i < count; i++) {
		compared += !comparisons[i].skipped;
		differ += comparisons[i].count - comparisons[i].marked;
		differ += comparisons[i].missing || comparisons[i].stopped;
	}
	return differ ? 1 : compared ? 0 : 77;
}

// ---- Printing -----------------------------------------------------------------------------------

static const char *source_of(const struct story *story, const struct difference *d)
{
	for (size_t i = 0; story && i < story->command_count; i++)
		if (story->commands[i]->line == d->line)
			return story->commands[i]->source;
	return d->command;
}

static void fill_row(struct libscols_line *row, const struct difference *d, const char *source,
	bool marked, bool colour)
{
	char number[16];
	snprintf(number, sizeof(number), "%u", d->line);
	scols_line_set_data(row, 0, number);
	scols_line_set_data(row, 1, source);
	scols_line_set_data(row, 2, d->left ? d->left : "(did not come here)");
	scols_line_set_data(row, 3, d->right ? d->right : "(did not come here)");
	if (marked)
		scols_line_set_data(row, 4, d->differs ? d->differs : "");
	if (colour && !d->differs)
		scols_line_set_color(row, "red");
}

static struct libscols_table *difference_table(FILE *out, const struct comparison *c, bool colour)
{
	struct libscols_table *table = scols_new_table();
	const char *titles[] = {"LINE", "COMMAND", c->left_machine, c->right_machine,
		"DIFFERS BECAUSE"};
	const size_t columns = c->marked ? 5 : 4;
	if (!table)
		return NULL;
	scols_table_set_stream(table, out);
	scols_table_enable_colors(table, colour);
	for (size_t i = 0; i < columns; i++) {
		struct libscols_column *column = scols_table_new_column(table, titles[i], 0,
			i == 0 ? SCOLS_FL_RIGHT : SCOLS_FL_WRAP);
		if (column && i > 0) // texts of several lines stay such
			scols_column_set_wrapfunc(column, scols_wrapnl_chunksize,
				scols_wrapnl_nextchunk, NULL);
		if (column && i > 0)
			scols_column_set_safechars(column, "\n");
	}
	return table;
}

static void print_differences(FILE *out, const struct comparison *c, const struct story *story,
	bool colour)
{
	struct libscols_table *table = difference_table(out, c, colour);
	for (size_t i = 0; table && i < c->count; i++) {
		const struct difference *d = &c->differences[i];
		struct libscols_line *row = scols_table_new_line(table, NULL);
		if (row)
			fill_row(row, d, source_of(story, d), c->marked, colour);
	}
	if (table)
		scols_print_table(table);
	scols_unref_table(table);
}

void print_comparison(FILE *out, const struct comparison *c, const struct story *story,
	bool colour)
{
	if (c->skipped) {
		fprintf(out, "compare %s: skipped: %s\n", c->story, c->skipped);
		return;
	}
	if (c->count)
		print_differences(out, c, story, colour);
	fprintf(out, "compare %s: %zu lines, %zu differ, %zu differ as marked%s%s\n", c->story,
		c->lines, c->count - c->marked, c->marked, c->stopped ? "; stopped: " : "",
		c->stopped ? c->stopped : "");
}

static void print_json(FILE *out, struct json_object *o)
{
	fprintf(out, "%s\n",
		json_object_to_json_string_ext(o,
			JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE));
	json_object_put(o);
}

static void add_text(struct json_object *o, const char *key, const char *text)
{
	json_object_object_add(o, key, text ? json_object_new_string(text) : NULL);
}

void print_comparison_json(FILE *out, const struct comparison *c)
{
	for (size_t i = 0; i < c->count; i++) {
		const struct difference *d = &c->differences[i];
		struct json_object *o = json_object_new_object();
		json_object_object_add(o, "schema", json_object_new_int(1));
		json_object_object_add(o, "line", json_object_new_int64(d->line));
		add_text(o, "command", d->command);
		add_text(o, c->left_machine, d->left);
		add_text(o, c->right_machine, d->right);
		add_text(o, "differs", d->differs);
		print_json(out, o);
	}
	struct json_object *o = json_object_new_object();
	json_object_object_add(o, "schema", json_object_new_int(1));
	add_text(o, "story", c->story);
	add_text(o, "skipped", c->skipped);
	add_text(o, "stopped", c->stopped);
	json_object_object_add(o, "lines", json_object_new_uint64(c->lines));
	json_object_object_add(o, "differ", json_object_new_uint64(c->count - c->marked));
	json_object_object_add(o, "marked", json_object_new_uint64(c->marked));
	print_json(out, o);
}
