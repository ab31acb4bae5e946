// SPDX-License-Identifier: MIT
// Options and answers of moves: what goes into a migrate_control, and what comes out of it.
//
//	move_options_begin()	options to a control, whose explain() takes notes
//	move_options_end()	totals, the first failure and what stayed to the caller
//	move_report_totals()	for gw_move_pages_explained(), which knows more of its pages,
//	stayed_list_begin(), _end()	as does its list
//
// In the report a folio that was never tried because an earlier one ended the call is no reason,
// unless there is no other. No locks; explain() runs in the thread that makes the call, and what is
// the caller's is written when all is over: it may be managed memory.
// What can fail: options that are none.
#include "engine/move_options.h"

#include "engine/engine.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static void note_first(struct gw_move_report *report, enum migrate_why why, const char *detail)
{
	if (report->why != GW_WHY_MOVED && (report->why != GW_WHY_ABORTED || why == WHY_ABORTED))
		return;
	report->why = (enum gw_why)why;
	snprintf(report->detail, sizeof report->detail, "%s", detail ? detail : "");
}

static void note(struct folio *folio, enum migrate_why why, const char *detail, void *arg)
{
	struct move_notes *notes = arg;

	note_first(&notes->report, why, detail);
	if (notes->lists)
		stayed_leave(&notes->stayed, folio, why, detail);
}

bool move_options_good(const struct gw_move_options *options)
{
	const struct gw_stayed_list *stayed;

	if (!options)
		return true;
	if (options->size != sizeof *options)
		return false;
	stayed = options->stayed;
	return !stayed || stayed->v || !stayed->max;
}

int move_options_begin(const struct gw_move_options *options, struct migrate_control *ret_control,
	struct move_notes *notes)
{
	if (!move_options_good(options) || (options && options->explain))
		return -EINVAL;
	*notes = (struct move_notes){.report.why = GW_WHY_MOVED, .options = options};
	*ret_control = (struct migrate_control){0};
	if (!options)
		return 0;
	ret_control->pause_budget_us = options->pause_budget_us;
	ret_control->keep_huge = options->keep_huge;
	if (options->stayed) {
		notes->lists = true;
		stayed_list_begin(options->stayed, &notes->stayed);
		ret_control->stayed = &notes->stayed;
	}
	if (options->report || options->stayed) {
		ret_control->explain = note;
		ret_control->explain_arg = notes;
	}
	return 0;
}

void move_report_totals(struct gw_move_report *report, const struct migrate_control *control)
{
	report->moved = control->nr_succeeded;
	report->failed = control->nr_failed;
	report->huge_moved = control->nr_thp_succeeded;
	report->huge_failed = control->nr_thp_failed;
	report->huge_split = control->nr_thp_split;
}

// Nothing that was taken up stayed: then what was not is the reason, first what failed the call,
// then what was passed over, and how much of it there is.
static void note_untaken(struct gw_move_report *report, const struct migrate_control *control)
{
	const uint64_t shared = control->nr_shared, refused = control->nr_refused;

	if (report->why == GW_WHY_MOVED)
		report->why = (enum gw_why)control->untried;
	if (report->why != GW_WHY_MOVED || !(shared || refused))
		return;
	report->why = shared ? GW_WHY_SHARED : GW_WHY_ISOLATION_REFUSED;
	snprintf(report->detail, sizeof report->detail, "%llu pages passed over",
		(unsigned long long)(shared ? shared : refused));
}

void move_options_end(const struct migrate_control *control, struct move_notes *notes)
{
	const struct gw_move_options *options = notes->options;

	if (options && options->report) {
		*options->report = notes->report;
		move_report_totals(options->report, control);
		note_untaken(options->report, control);
	}
	if (options && options->stayed)
		stayed_list_end(options->stayed, &notes->stayed);
}

// ---- The list of what stayed

void stayed_list_begin(const struct gw_stayed_list *list, struct stayed *ret_stayed)
{
	*ret_stayed = (struct stayed){.max = list->max};
}

static void copy_run(struct gw_stayed *out, const struct stayed_run *run)
{
	*out = (struct gw_stayed){
		.address = run->address,
		.pages = run->nr,
		.page_size = (unsigned)(PAGE_SIZE << run->order),
		.node = run->nid,
		.why = (enum gw_why)run->why,
	};
	memcpy(out->detail, run->detail, sizeof out->detail);
}

void stayed_list_end(struct gw_stayed_list *list, struct stayed *stayed)
{
	stayed_finish(stayed);
	for (size_t i = 0; i < stayed->nr; i++)
		copy_run(&list->v[i], &stayed->run[i]);
	list->count = stayed->nr;
	list->more_pages = stayed->nr_more;
	stayed_release(stayed);
}
