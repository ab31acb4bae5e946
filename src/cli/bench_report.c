// SPDX-License-Identifier: MIT
// Printing what `godwit bench` measured.
//
// The table is for people: medians rounded, the spread of the ratio beside it, stalls only where
// there was a writer; rows without figures follow below with their reasons. The JSON has every
// number, in nanoseconds and pages, under "schema": 1; a figure that a row does not have is left
// out, and what a name means once will be meant always.
//
// What can fail: memory.
#include "cli/bench_report.h"

#include <errno.h>
#include <json-c/json.h>
#include <libsmartcols.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#ifndef GODWIT_VERSION
#define GODWIT_VERSION "unknown"
#endif

// ---- Table

enum column {
	COL_CASE,
	COL_BLOCKER,
	COL_ARENA,
	COL_THREADS,
	COL_RATIO,
	COL_SPREAD,
	COL_PAGE,
	COL_MEMCPY,
	COL_PAGES,
	COL_HOST,
	COL_P50,
	COL_P99,
	COL_MAX,
	COL_ACCESSES,
	COL_OVERRUNS,
	COL_KERNEL_P50,
	COL_KERNEL_P99,
	COL_KERNEL_MAX,
	COLUMNS,
};

static const char *const heads[COLUMNS] = {"CASE", "BLOCKER", "ARENA", "COPY", "RATIO", "SPREAD",
	"ns/PAGE", "MEMCPY", "PAGES/s", "HOST", "P50/us", "P99/us", "MAX/us", "ACCESSES/s",
	"OVERRUNS", "KERNEL P50", "P99", "MAX/us"};

__attribute__((format(printf, 3, 4))) static void put(struct libscols_line *line, enum column col,
	const char *format, ...)
{
	char text[64];
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof text, format, args);
	va_end(args);
	(void)scols_line_set_data(line, col, text); // a cell without text says it
}

// 1234567 as "1.23M".
static void put_count(struct libscols_line *line, enum column col, double n)
{
	if (n >= 1e6)
		put(line, col, "%.2fM", n / 1e6);
	else if (n >= 1e4)
		put(line, col, "%.0fk", n / 1e3);
	else
		put(line, col, "%.0f", n);
}

static void put_us(struct libscols_line *line, enum column col, double us)
{
	put(line, col, us < 100 ? "%.1f" : "%.0f", us);
}

static void put_stalls(struct libscols_line *line, const struct bench_row *r)
{
	put_us(line, COL_P50, r->stalls.p50_us);
	put_us(line, COL_P99, r->stalls.p99_us);
	put_us(line, COL_MAX, r->stalls.max_us);
	if (r->stalls.accesses_per_s > 0)
		put_count(line, COL_ACCESSES, r->stalls.accesses_per_s);
	if (r->pause_budget_us)
		put(line, COL_OVERRUNS, "%llu", (unsigned long long)r->overruns);
}

static void put_row(struct libscols_line *line, const struct bench_row *r)
{
	put(line, COL_CASE, "%s", r->what);
	put(line, COL_BLOCKER, "%s", r->blocker);
	put(line, COL_ARENA, "%s", r->arena);
	put(line, COL_THREADS, "%u", r->copy_threads);
	put(line, COL_RATIO, r->ratio.median < 0.1 ? "%.3f" : "%.2f", r->ratio.median);
	put(line, COL_SPREAD, r->ratio.max < 0.1 ? "%.3f-%.3f" : "%.2f-%.2f", r->ratio.min,
		r->ratio.max);
	put(line, COL_PAGE, "%.0f", r->page_ns.median);
	put(line, COL_MEMCPY, "%.0f", r->memcpy_page_ns);
	put_count(line, COL_PAGES, 1e9 / r->page_ns.median);
	if (r->host_page_ns > 0)
		put(line, COL_HOST, "%.0f", r->host_page_ns);
	if (r->under_writer)
		put_stalls(line, r);
	if (r->kernel_stalled) {
		put_us(line, COL_KERNEL_P50, r->kernel_stalls.p50_us);
		put_us(line, COL_KERNEL_P99, r->kernel_stalls.p99_us);
		put_us(line, COL_KERNEL_MAX, r->kernel_stalls.max_us);
	}
}

// Columns that no row of this report has anything for.
static bool hidden(const struct bench_report *report, int column)
{
	if (column >= COL_KERNEL_P50)
		return !report->huge || !report->against_host;
	if (report->huge)
		return column == COL_HOST || column == COL_OVERRUNS;
	return report->against_host && column >= COL_HOST;
}

static const char *head_of(const struct bench_report *report, int column)
{
	return report->against_host && column == COL_MEMCPY ? "KERNEL" : heads[column];
}

static int fill_table(struct libscols_table *table, const struct bench_report *report)
{
	for (int i = 0; i < COLUMNS; i++) {
		int flags = i == COL_CASE || i == COL_BLOCKER ? 0 : SCOLS_FL_RIGHT;

		if (hidden(report, i))
			flags |= SCOLS_FL_HIDDEN;
		if (!scols_table_new_column(table, head_of(report, i), 0, flags))
			return -ENOMEM;
	}
	for (size_t i = 0; i < report->nr; i++) {
		const struct bench_row *r = &report->row[i];
		struct libscols_line *line;

		if (r->skipped[0])
			continue;
		line = scols_table_new_line(table, NULL);
		if (!line)
			return -ENOMEM;
		put_row(line, r);
		if (r->stayed)
			(void)scols_line_set_color(line, "red");
	}
	return 0;
}

static bool may_colour(void)
{
	const char *no = getenv("NO_COLOR");

	return isatty(STDOUT_FILENO) && (!no || !*no);
}

static void print_host(const struct bench_report *report)
{
	const struct bench_host *h = &report->host;

	printf("# Linux %s, %u cpus (%s), %.0f GiB, shmem huge pages: %s\n", h->kernel, h->cpus,
		h->cpu, h->memory_gib, h->shmem_huge);
	if (report->huge)
		printf("# %llu MiB of huge pages; times are medians, RATIO is %s time over ours\n",
			(unsigned long long)report->bytes >> 20,
			report->against_host ? "the kernel's" : "memcpy's");
	else if (report->against_host)
		printf("# %llu MiB moved between nodes %d and %d of this host, by the kernel's "
		       "move_pages(2)\n# and by the engine in turns; times are medians, RATIO is "
		       "the kernel's time over ours\n",
			(unsigned long long)report->bytes >> 20, report->host_node[0],
			report->host_node[1]);
	else
		printf("# %llu MiB moved between two nodes; times are medians, RATIO is memcpy's "
		       "time over ours\n",
			(unsigned long long)report->bytes >> 20);
	if (report->debug_build)
		printf("# this is a debug build: its checks are in the figures\n");
}

static void print_rest(const struct bench_report *report)
{
	for (size_t i = 0; i < report->nr; i++) {
		const struct bench_row *r = &report->row[i];

		if (r->skipped[0])
			printf("# %s: %s\n", r->name, r->skipped);
		else if (r->elsewhere)
			printf("# %s: the kernel finds %llu pages on another node\n", r->name,
				(unsigned long long)r->elsewhere);
		else if (r->refused || r->kernel_refused)
			printf("# %s: refused %llu times, by the kernel %llu times\n", r->name,
				(unsigned long long)r->refused,
				(unsigned long long)r->kernel_refused);
		else if (r->stayed)
			printf("# %s: %llu pages were not moved\n", r->name,
				(unsigned long long)r->stayed);
	}
}

int bench_print_table(const struct bench_report *report)
{
	struct libscols_table *table = scols_new_table();
	int err = table ? fill_table(table, report) : -ENOMEM;

	if (!err) {
		print_host(report);
		scols_table_enable_colors(table, may_colour());
		if (!scols_table_is_empty(table))
			err = scols_print_table(table);
		print_rest(report);
	}
	scols_unref_table(table);
	return err;
}

// ---- JSON

static void add(struct json_object *to, const char *key, struct json_object *value)
{
	json_object_object_add(to, key, value);
}

// Microseconds and ratios need no seventeen digits.
static struct json_object *number(double n)
{
	char text[32];

	snprintf(text, sizeof text, "%.6g", n);
	return json_object_new_double_s(n, text);
}

static struct json_object *count(uint64_t n)
{
	return json_object_new_int64((int64_t)n);
}

static struct json_object *text(const char *s)
{
	return json_object_new_string(s);
}

static struct json_object *spread(const struct bench_spread *s)
{
	struct json_object *o = json_object_new_object();

	add(o, "median", number(s->median));
	add(o, "min", number(s->min));
	add(o, "max", number(s->max));
	return o;
}

static struct json_object *stalls(const struct bench_stalls *s)
{
	struct json_object *o = json_object_new_object();

	add(o, "count", count(s->count));
	add(o, "p50_us", number(s->p50_us));
	add(o, "p99_us", number(s->p99_us));
	add(o, "max_us", number(s->max_us));
	add(o, "waits_p50_us", number(s->waits_p50_us));
	add(o, "waits_p99_us", number(s->waits_p99_us));
	add(o, "waits_max_us", number(s->waits_max_us));
	add(o, "accesses_per_s", number(s->accesses_per_s));
	add(o, "idle_accesses_per_s", number(s->idle_per_s));
	return o;
}

static void add_figures(struct json_object *o, const struct bench_row *r, bool against_host)
{
	add(o, "clock", text(r->cpu_time ? "cpu" : "wall"));
	add(o, "rounds", count(r->rounds));
	add(o, "pages", count(r->pages));
	add(o, "ratio", spread(&r->ratio));
	add(o, "page_ns", spread(&r->page_ns));
	add(o, against_host ? "kernel_page_ns" : "memcpy_page_ns", number(r->memcpy_page_ns));
	if (against_host)
		add(o, "elsewhere", count(r->elsewhere));
	add(o, "pages_per_s", number(1e9 / r->page_ns.median));
	add(o, "not_moved", count(r->stayed));
	if (r->host_page_ns > 0)
		add(o, "host_page_ns", number(r->host_page_ns));
	if (r->pause_budget_us)
		add(o, "overruns", count(r->overruns));
	if (r->under_writer)
		add(o, "stalls", stalls(&r->stalls));
	if (r->refused || r->kernel_refused) {
		add(o, "refused", count(r->refused));
		add(o, "kernel_refused", count(r->kernel_refused));
	}
	if (r->kernel_stalled)
		add(o, "kernel_stalls", stalls(&r->kernel_stalls));
}

static struct json_object *row(const struct bench_row *r, bool against_host)
{
	struct json_object *o = json_object_new_object();

	add(o, "name", text(r->name));
	add(o, "case", text(r->what));
	add(o, "means", text(r->means));
	add(o, "blocker", text(r->blocker));
	add(o, "arena", text(r->arena));
	add(o, "copy_threads", count(r->copy_threads));
	add(o, "writer", json_object_new_boolean(r->under_writer));
	if (r->pause_budget_us)
		add(o, "pause_budget_us", count(r->pause_budget_us));
	if (r->skipped[0])
		add(o, "skipped", text(r->skipped));
	else
		add_figures(o, r, against_host);
	return o;
}

static struct json_object *host(const struct bench_host *h)
{
	struct json_object *o = json_object_new_object();

	add(o, "kernel", text(h->kernel));
	add(o, "cpu", text(h->cpu));
	add(o, "cpus", count(h->cpus));
	add(o, "memory_gib", number(h->memory_gib));
	add(o, "shmem_huge", text(h->shmem_huge));
	return o;
}

int bench_print_json(const struct bench_report *report)
{
	struct json_object *o = json_object_new_object(), *rows = json_object_new_array();
	const char *printed;

	if (!o || !rows) {
		json_object_put(o);
		json_object_put(rows);
		return -ENOMEM;
	}
	add(o, "schema", count(1));
	add(o, "command", text(report->huge ? "bench huge" : "bench migrate"));
	add(o, "version", text(GODWIT_VERSION));
	add(o, "against", text(report->against_host ? "host" : "memcpy"));
	add(o, "debug_build", json_object_new_boolean(report->debug_build));
	add(o, "bytes", count(report->bytes));
	add(o, "host", host(&report->host));
	if (report->against_host) {
		struct json_object *nodes = json_object_new_array();

		for (int i = 0; i < 2; i++)
			json_object_array_add(nodes, count((uint64_t)report->host_node[i]));
		add(o, "host_nodes", nodes);
	}
	for (size_t i = 0; i < report->nr; i++)
		json_object_array_add(rows, row(&report->row[i], report->against_host));
	add(o, "rows", rows);
	printed = json_object_to_json_string_ext(o, JSON_C_TO_STRING_PRETTY);
	if (printed)
		puts(printed);
	json_object_put(o);
	return printed ? 0 : -ENOMEM;
}
