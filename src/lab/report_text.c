// SPDX-License-Identifier: MIT
// The report for people: each command, its result beside it, and one line at the end.
//
//     1  machine nodes=2 memory=256M
//     2  needs hugetlb                met
//     4  A where buf step=2M          return 0  status 0*2
//     5  expect status 0*2            held
//     6  expect vmstat x 3            FAILED: found 2
//   story FILE: 5 commands, 3 expectations, 1 failed
//
// What a move left where it was follows it, a line for neighbours with one reason:
//
//     7  A move buf to=1              return 0  status -EACCES*2 1*62
//           stayed  A.buf[0:8K]  2 pages  node 0  mapped by several spaces ... (mapped 2 times)
//
// Comments of the story stand above the command that they introduce, so that a report can be read
// alone. Texts that were shown follow their command, indented. Colours only say again what the
// words say. Nothing is kept between lines but the width of the first column.

#include "lab/outcome.h"
#include "lab/report.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define WIDTH_MAX 52

static struct text_report *self(struct reporter *r)
{
	return (struct text_report *)r;
}

static const char *paint(const struct text_report *t, const char *code)
{
	return t->colour ? code : "";
}

#define RED   "\033[31m"
#define GREEN "\033[32m"
#define DIM   "\033[2m"
#define PLAIN "\033[0m"

static void print_note(const struct text_report *t, const char *note);

static void make_room(struct text_report *t, const char *source)
{
	int length = (int)strlen(source);
	if (length > t->width && length <= WIDTH_MAX)
		t->width = length;
}

// What the story is played on, and that it may be.
static void print_machine(const struct text_report *t, const struct story *story, bool skipped)
{
	for (size_t i = 0; i < story->machine_line_count; i++) {
		const struct machine_line *l = &story->machine_lines[i];
		bool met = !skipped && l->word != LINE_MACHINE;
		if (l->note)
			print_note(t, l->note);
		fprintf(t->out, "%s%5u%s  %-*s%s\n", paint(t, DIM), l->line, paint(t, PLAIN),
			met ? t->width : 0, l->source, met ? "  met" : "");
	}
}

static void begin(struct reporter *r, const struct story *story, const char *machine, bool skipped)
{
	struct text_report *t = self(r);
	t->width = 0;
	for (size_t i = 0; i < story->machine_line_count; i++)
		if (story->machine_lines[i].word != LINE_MACHINE)
			make_room(t, story->machine_lines[i].source);
	for (size_t i = 0; i < story->command_count; i++)
		make_room(t, story->commands[i]->source);
	fprintf(t->out, "%s%s on %s%s\n", paint(t, DIM), story->file, machine, paint(t, PLAIN));
	print_machine(t, story, skipped);
}

// ---- One command --------------------------------------------------------------------------------

static void print_indented(const struct text_report *t, const char *text)
{
	while (*text) {
		size_t length = strcspn(text, "\n");
		fprintf(t->out, "        %.*s\n", (int)length, text);
		text += length + (text[length] == '\n');
	}
}

static void print_values(const struct text_report *t, const struct lab_counters *values)
{
	for (size_t i = 0; i < values->count; i++)
		fprintf(t->out, "        %s %+" PRId64 "\n", values->v[i].name, values->v[i].value);
}

#define STAYED_LINES 8

static int pages_text(const struct lab_stayed *s, char *buf, size_t size)
{
	const char *plural = s->pages == 1 ? "" : "s";
	char page[BYTES_TEXT_MAX];

	if (s->page_size == STORY_PAGE_SIZE)
		return snprintf(buf, size, "%" PRIu64 " page%s", s->pages, plural);
	return snprintf(buf, size, "%" PRIu64 " page%s of %s", s->pages, plural,
		bytes_text(s->page_size, page));
}

static void print_stayed(const struct text_report *t, const struct lab_stayed *s, int range_width,
	int pages_width)
{
	char pages[48], node[24] = "no node";

	pages_text(s, pages, sizeof pages);
	if (s->node >= 0)
		snprintf(node, sizeof node, "node %d", s->node);
	fprintf(t->out, "          stayed  %-*s  %-*s  %-7s  %s", range_width, s->range,
		pages_width, pages, node, s->text);
	if (s->detail[0])
		fprintf(t->out, " (%s)", s->detail);
	fputc('\n', t->out);
}

static void print_all_stayed(const struct text_report *t, const struct lab_result *r)
{
	size_t lines = r->stayed_count <= STAYED_LINES ? r->stayed_count : STAYED_LINES - 1;
	uint64_t more = r->stayed_more;
	int range_width = 0, pages_width = 0;
	char pages[48];

	for (size_t i = 0; i < lines; i++) {
		int range = (int)strlen(r->stayed[i].range);
		int width = pages_text(&r->stayed[i], pages, sizeof pages);

		range_width = range > range_width ? range : range_width;
		pages_width = width > pages_width ? width : pages_width;
	}
	for (size_t i = 0; i < lines; i++)
		print_stayed(t, &r->stayed[i], range_width, pages_width);
	for (size_t i = lines; i < r->stayed_count; i++)
		more += r->stayed[i].pages * (r->stayed[i].page_size / STORY_PAGE_SIZE);
	if (more)
		fprintf(t->out, "          stayed  %" PRIu64 " pages of 4K more\n", more);
}

static void print_verdict(const struct text_report *t, const struct play_event *e)
{
	if (e->held)
		fprintf(t->out, "%sheld%s\n", paint(t, GREEN), paint(t, PLAIN));
	else
		fprintf(t->out, "%sFAILED: found %s%s\n", paint(t, RED), e->found, paint(t, PLAIN));
}

static bool worth_saying(const struct play_event *e)
{
	const struct lab_result *r = e->result;
	return e->failure || e->command->kind == CMD_MIGRATE || r->ret || r->signal || r->status ||
	       r->text || r->has_load;
}

// What the author says before the command.
static void print_note(const struct text_report *t, const char *note)
{
	size_t end = strlen(note);

	while (end > 1 && note[end - 2] == '\n')
		end--; // no empty line at the end
	fputc('\n', t->out);
	for (const char *at = note; at < note + end; at += strcspn(at, "\n") + 1) {
		int length = (int)strcspn(at, "\n");
		fprintf(t->out, "%s       #%s%.*s%s\n", paint(t, DIM), length ? " " : "", length,
			at, paint(t, PLAIN));
	}
}

static void event(struct reporter *r, const struct play_event *e)
{
	struct text_report *t = self(r);
	if (e->command->note)
		print_note(t, e->command->note);
	fprintf(t->out, "%s%5u%s  ", paint(t, DIM), e->command->line, paint(t, PLAIN));
	if (e->wanted) {
		fprintf(t->out, "%-*s  ", t->width, e->command->source);
		print_verdict(t, e);
	} else if (e->result && worth_saying(e)) {
		fprintf(t->out, "%-*s  ", t->width, e->command->source);
		print_result(t->out, e->result);
		if (e->failure)
			fprintf(t->out, "  %sFAILED: %s%s", paint(t, RED), e->failure,
				paint(t, PLAIN));
		fputc('\n', t->out);
	} else {
		fprintf(t->out, "%s\n", e->command->source);
	}
	if (e->result && !e->wanted)
		print_all_stayed(t, e->result);
	if (e->text)
		print_indented(t, e->text);
	if (e->values)
		print_values(t, e->values);
	fflush(t->out);
}

// ---- The end ------------------------------------------------------------------------------------

static void print_truth(const struct text_report *t, const struct lab_truth *truth)
{
	if (!truth->looks)
		return;
	fprintf(t->out,
		"the kernel, asked %" PRIu64 " times: %" PRIu64 " pages and %" PRIu64
		" lines of numa_maps agree; not mapped yet: %" PRIu64 " pages\n",
		truth->looks, truth->agreed, truth->lines, truth->unmapped);
}

static void end(struct reporter *r, const struct story *story, const char *machine,
	const struct play_totals *totals)
{
	struct text_report *t = self(r);
	(void)machine;
	if (totals->exit == PLAY_SKIPPED) {
		fprintf(t->out, "story %s: skipped: %s\n", story->file, totals->reason);
		fflush(t->out);
		return;
	}
	if (totals->reason[0])
		fprintf(t->out, "%sstopped: %s%s\n", paint(t, RED), totals->reason,
			paint(t, PLAIN));
	print_truth(t, &totals->truth);
	fprintf(t->out, "story %s: %u commands, %u expectations, %s%u failed%s\n", story->file,
		totals->commands, totals->expectations,
		paint(t, totals->exit == PLAY_HELD ? GREEN : RED), totals->failed,
		paint(t, PLAIN));
	fflush(t->out);
}

void report_warning(struct reporter *r, const char *text)
{
	(void)r;
	fprintf(stderr, "godwit: warning: %s\n", text);
}

void text_report_init(struct text_report *report, FILE *out, bool colour)
{
	*report = (struct text_report){
		.reporter = {begin, event, end, report_warning}, .out = out, .colour = colour};
}

bool wants_colour(FILE *out)
{
	const char *no = getenv("NO_COLOR"), *term = getenv("TERM");
	return !(no && *no) && term && strcmp(term, "dumb") && isatty(fileno(out));
}

void print_errors(FILE *out, const char *file, const struct story_errors *errors)
{
	for (size_t i = 0; i < errors->count; i++)
		fprintf(out, "%s:%u:%u: %s\n", file, errors->v[i].line, errors->v[i].column,
			errors->v[i].text);
	if (errors->more)
		fprintf(out, "%s: more bad lines follow\n", file);
}
