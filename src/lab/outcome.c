// SPDX-License-Identifier: MIT
// Results as text, in the words of the language, so that a line of a report can be pasted into a
// story as the expectation that it should have been. Status lists are run-length coded as they
// are written and compared without regard to how the story cut its runs.

#include "lab/outcome.h"

#include <inttypes.h>

// ---- Status lists -------------------------------------------------------------------------------

void print_status(FILE *out, int32_t value)
{
	const char *name = value < 0 && value >= -4095 ? errno_name(-value) : NULL;
	if (value == STATUS_UNWRITTEN)
		fputc('?', out);
	else if (name)
		fprintf(out, "-%s", name);
	else
		fprintf(out, "%" PRId32, value);
}

static void print_run(FILE *out, bool first, int32_t value, uint64_t count)
{
	if (!first)
		fputc(' ', out);
	print_status(out, value);
	if (count > 1)
		fprintf(out, "*%" PRIu64, count);
}

void print_statuses(FILE *out, const int32_t *status, size_t count)
{
	for (size_t i = 0, n; i < count; i += n) {
		for (n = 1; i + n < count && status[i + n] == status[i]; n++)
			;
		print_run(out, i == 0, status[i], n);
	}
}

void print_status_list(FILE *out, const struct status_list *list)
{
	for (size_t i = 0, n; i < list->count; i += n) {
		uint64_t count = list->v[i].count;
		for (n = 1; i + n < list->count && list->v[i + n].value == list->v[i].value; n++)
			count += list->v[i + n].count;
		print_run(out, i == 0, list->v[i].value, count);
	}
}

bool statuses_match(const struct status_list *list, const int32_t *status, size_t count)
{
	size_t at = 0;
	for (size_t i = 0; i < list->count; i++) {
		if (list->v[i].count > count - at)
			return false;
		for (uint64_t n = 0; n < list->v[i].count; n++)
			if (status[at++] != list->v[i].value)
				return false;
	}
	return at == count;
}

// ---- One result ---------------------------------------------------------------------------------

static void print_load(FILE *out, const struct lab_result *r)
{
	fprintf(out, "  accesses %" PRIu64 "  longest stall %.3f ms  lost %" PRIu64, r->accesses,
		(double)r->stall_ns / 1e6, r->lost);
}

void print_result(FILE *out, const struct lab_result *r)
{
	if (r->signal) {
		const char *name = signal_name(r->signal);
		if (name)
			fputs(name, out);
		else
			fprintf(out, "signal %d", r->signal);
		if (r->has_load) {
			fprintf(out, " at 0x%" PRIx64, r->address);
			print_load(out, r);
		}
		return;
	}
	fprintf(out, "return %lld", r->ret);
	if (r->ret == -1) {
		const char *name = errno_name(r->error);
		fprintf(out, " %s", name ? name : "without an errno");
	}
	if (r->status) {
		fputs("  status ", out);
		print_statuses(out, r->status, r->status_count);
	}
	if (r->text)
		fprintf(out, "  %s", r->text);
	if (r->mismatch)
		fprintf(out, "  found 0x%02x at 0x%" PRIx64, r->found, r->address);
	if (r->has_load)
		print_load(out, r);
}
