// SPDX-License-Identifier: MIT
// struct gw_move_options of the calls that have no list of pages, and the report of all of them.
#ifndef GODWIT_ENGINE_MOVE_OPTIONS_H
#define GODWIT_ENGINE_MOVE_OPTIONS_H

#include <godwit/migrate.h>

#include "migrate/migrate.h"

// Into a control for the call; options may be NULL. `report` collects while the call runs and must
// live until the end. -EINVAL: options of another size, or that ask for what the call cannot say.
int move_options_begin(const struct gw_move_options *options, struct migrate_control *ret_control,
	struct gw_move_report *report);
// The caller's report is written, if there is one.
void move_options_end(const struct gw_move_options *options, const struct migrate_control *control,
	const struct gw_move_report *report);

void move_report_totals(struct gw_move_report *report, const struct migrate_control *control);

#endif
