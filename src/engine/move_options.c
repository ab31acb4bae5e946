// SPDX-License-Identifier: MIT
// Options and reports of moves: what goes into a migrate_control, and what comes out of it.
//
//	move_options_begin()	options to a control, whose explain() notes the first failure
//	move_options_end()	totals and that failure to the caller's report
//	move_report_totals()	for gw_move_pages_explained(), which knows more of its pages
//
// A folio that was never tried because an earlier one ended the call is no reason, unless there is
// no other. No locks; explain() runs in the thread that makes the call.
// What can fail: options that are none.
#include "engine/move_options.h"

#include "engine/engine.h"

#include <errno.h>
#include <stdio.h>

static void note_first(struct folio *folio, enum migrate_why why, const char *detail, void *arg)
{
	struct gw_move_report *report = arg;

	(void)folio;
	if (report->why != GW_WHY_MOVED && (report->why != GW_WHY_ABORTED || why == WHY_ABORTED))
		return;
	report->why = (enum gw_why)why;
	snprintf(report->detail, sizeof report->detail, "%s", detail ? detail : "");
}

int move_options_begin(const struct gw_move_options *options, struct migrate_control *ret_control,
	struct gw_move_report *report)
{
	if (options && (options->size != sizeof *options || options->explain))
		return -EINVAL;
	*report = (struct gw_move_report){.why = GW_WHY_MOVED};
	*ret_control = (struct migrate_control){0};
	if (!options)
		return 0;
	ret_control->pause_budget_us = options->pause_budget_us;
	ret_control->keep_huge = options->keep_huge;
	if (options->report) {
		ret_control->explain = note_first;
		ret_control->explain_arg = report;
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

// Nothing that was taken up stayed: then what was not is the reason, and how much of it there is.
static void note_untaken(struct gw_move_report *report, const struct migrate_control *control)
{
	const uint64_t shared = control->nr_shared, refused = control->nr_refused;

	if (report->why != GW_WHY_MOVED || !(shared || refused))
		return;
	report->why = shared ? GW_WHY_SHARED : GW_WHY_ISOLATION_REFUSED;
	snprintf(report->detail, sizeof report->detail, "%llu pages passed over",
		(unsigned long long)(shared ? shared : refused));
}

void move_options_end(const struct gw_move_options *options, const struct migrate_control *control,
	const struct gw_move_report *report)
{
	if (!options || !options->report)
		return;
	*options->report = *report;
	move_report_totals(options->report, control);
	note_untaken(options->report, control);
}
