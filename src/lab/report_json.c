// SPDX-License-Identifier: MIT
// The report for programs: one JSON object a line, schema 1.
//
// Every line begins with schema, line, task, command, return, errno; then come the members that
// apply: source and met (machine, only, needs), status, signal, text, stayed and stayed_more (move,
// mbind, migrate), found_byte, address (check, stop), accesses, stall_ns and lost (stop), show,
// values (show vmstat), expect, wanted, found and held (expect), failure, differs.
// The last object of a story has no "line": it has the story, the machine, the result, the totals,
// the seed if there is one and the story failed, and the counters. godwit-lab(1) documents them; a
// member may be added to schema 1, never changed.
//
// json-c keeps members in the order in which they are added. Without memory a line says so instead.

#include "lab/outcome.h"
#include "lab/report.h"

#include <json.h>
#include <stdlib.h>

static void add(struct json_object *o, const char *key, struct json_object *value)
{
	json_object_object_add(o, key, value);
}

static struct json_object *text_or_null(const char *text)
{
	return text ? json_object_new_string(text) : NULL;
}

static void write_line(struct json_report *j, struct json_object *o)
{
	const char *line = json_object_to_json_string_ext(o,
		JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE);
	fprintf(j->out, "%s\n", line ? line : "{\"schema\":1,\"error\":\"no memory\"}");
	fflush(j->out);
	json_object_put(o);
}

// ---- One command --------------------------------------------------------------------------------

static void add_outcome(struct json_object *o, const struct lab_result *r)
{
	bool returned = r && !r->signal;
	add(o, "return", returned ? json_object_new_int64(r->ret) : NULL);
	add(o, "errno", returned && r->ret == -1 ? text_or_null(errno_name(r->error)) : NULL);
}

static void add_status(struct json_object *o, const struct lab_result *r)
{
	char *text = NULL;
	size_t size;
	FILE *out = open_memstream(&text, &size);
	if (!out)
		return;
	print_statuses(out, r->status, r->status_count);
	if (!fclose(out))
		add(o, "status", json_object_new_string(text));
	free(text);
}

static void add_stayed(struct json_object *o, const struct lab_result *r)
{
	struct json_object *list = json_object_new_array();

	for (size_t i = 0; i < r->stayed_count; i++) {
		const struct lab_stayed *s = &r->stayed[i];
		struct json_object *entry = json_object_new_object();

		add(entry, "range", json_object_new_string(s->range));
		add(entry, "pages", json_object_new_uint64(s->pages));
		add(entry, "page_size", json_object_new_uint64(s->page_size));
		add(entry, "node", s->node < 0 ? NULL : json_object_new_int(s->node));
		add(entry, "why", json_object_new_string(s->why));
		add(entry, "text", json_object_new_string(s->text));
		add(entry, "detail", s->detail[0] ? json_object_new_string(s->detail) : NULL);
		json_object_array_add(list, entry);
	}
	add(o, "stayed", list);
	add(o, "stayed_more", json_object_new_uint64(r->stayed_more));
}

static void add_result(struct json_object *o, const struct lab_result *r)
{
	if (r->status)
		add_status(o, r);
	if (r->signal)
		add(o, "signal", text_or_null(signal_name(r->signal)));
	if (r->text)
		add(o, "text", json_object_new_string(r->text));
	if (r->stayed)
		add_stayed(o, r);
	if (r->mismatch)
		add(o, "found_byte", json_object_new_int(r->found));
	if (r->mismatch || (r->has_load && r->signal))
		add(o, "address", json_object_new_uint64(r->address));
	if (r->has_load) {
		add(o, "accesses", json_object_new_uint64(r->accesses));
		add(o, "stall_ns", json_object_new_uint64(r->stall_ns));
		add(o, "lost", json_object_new_uint64(r->lost));
	}
}

static struct json_object *counters_object(const struct lab_counters *counters)
{
	struct json_object *o = json_object_new_object();
	for (size_t i = 0; i < counters->count; i++)
		add(o, counters->v[i].name, json_object_new_int64(counters->v[i].value));
	return o;
}

static void event(struct reporter *r, const struct play_event *e)
{
	const struct command *c = e->command;
	struct json_object *o = json_object_new_object();
	add(o, "schema", json_object_new_int(REPORT_SCHEMA));
	add(o, "line", json_object_new_int64(c->line));
	add(o, "task", c->task ? json_object_new_string(c->task->name) : NULL);
	add(o, "command", json_object_new_string(command_word(c->kind)));
	add_outcome(o, e->result);
	if (e->result)
		add_result(o, e->result);
	if (c->kind == CMD_SHOW)
		add(o, "show", json_object_new_string(show_word(c->show.what)));
	if (e->text)
		add(o, "text", json_object_new_string(e->text));
	if (e->values)
		add(o, "values", counters_object(e->values));
	if (e->wanted) {
		add(o, "expect", json_object_new_string(expect_word(c->expect.what)));
		add(o, "wanted", json_object_new_string(e->wanted));
		add(o, "found", json_object_new_string(e->found));
		add(o, "held", json_object_new_boolean(e->held));
	}
	if (e->failure)
		add(o, "failure", json_object_new_string(e->failure));
	if (c->differs)
		add(o, "differs", json_object_new_string(c->differs));
	write_line((struct json_report *)r, o);
}

// ---- The end ------------------------------------------------------------------------------------

static const char *result_word(enum play_exit exit)
{
	return exit == PLAY_HELD ? "held" : exit == PLAY_SKIPPED ? "skipped" : "failed";
}

static struct json_object *truth_object(const struct lab_truth *truth)
{
	struct json_object *o = json_object_new_object();
	add(o, "looks", json_object_new_uint64(truth->looks));
	add(o, "agreed_pages", json_object_new_uint64(truth->agreed));
	add(o, "unmapped_pages", json_object_new_uint64(truth->unmapped));
	add(o, "zero_pages", json_object_new_uint64(truth->zero));
	add(o, "agreed_lines", json_object_new_uint64(truth->lines));
	return o;
}

static void end(struct reporter *r, const struct story *story, const char *machine,
	const struct play_totals *t)
{
	struct json_object *o = json_object_new_object();
	add(o, "schema", json_object_new_int(REPORT_SCHEMA));
	add(o, "story", json_object_new_string(story->file));
	add(o, "machine", json_object_new_string(machine));
	add(o, "result", json_object_new_string(result_word(t->exit)));
	add(o, "reason", t->reason[0] ? json_object_new_string(t->reason) : NULL);
	add(o, "commands", json_object_new_int64(t->commands));
	add(o, "expectations", json_object_new_int64(t->expectations));
	add(o, "failed", json_object_new_int64(t->failed));
	if (t->seeded && t->exit == PLAY_FAILED)
		add(o, "seed", json_object_new_uint64(t->seed));
	add(o, "counters", counters_object(&t->counters));
	if (t->truth.looks)
		add(o, "truth", truth_object(&t->truth));
	write_line((struct json_report *)r, o);
}

// The lines that say which machine it is.
static void begin(struct reporter *r, const struct story *story, const char *machine, bool skipped)
{
	(void)machine;
	for (size_t i = 0; i < story->machine_line_count; i++) {
		const struct machine_line *l = &story->machine_lines[i];
		struct json_object *o = json_object_new_object();
		add(o, "schema", json_object_new_int(REPORT_SCHEMA));
		add(o, "line", json_object_new_int64(l->line));
		add(o, "task", NULL);
		add(o, "command", json_object_new_string(machine_word(l->word)));
		add_outcome(o, NULL);
		add(o, "source", json_object_new_string(l->source));
		if (l->word != LINE_MACHINE)
			add(o, "met", skipped ? NULL : json_object_new_boolean(true));
		write_line((struct json_report *)r, o);
	}
}

void json_report_init(struct json_report *report, FILE *out)
{
	*report = (struct json_report){.reporter = {begin, event, end, report_warning}, .out = out};
}
