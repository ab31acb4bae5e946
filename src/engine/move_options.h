// SPDX-License-Identifier: MIT
// struct gw_move_options: what goes into the calls that have no list of pages, and the answers of
// all of them.
#ifndef GODWIT_ENGINE_MOVE_OPTIONS_H
#define GODWIT_ENGINE_MOVE_OPTIONS_H

#include <godwit/migrate.h>

#include "migrate/migrate.h"
#include "migrate/stayed.h"

// What is noted while a call runs.
struct move_notes {
	struct gw_move_report report;
	struct stayed stayed;
	bool lists;			       // stayed is asked for
	const struct gw_move_options *options; // may be NULL
};

// Of the right size, with room in the list where it has any; NULL is.
bool move_options_good(const struct gw_move_options *options);
// Into a control for the call; options may be NULL. The notes must live until the end, which must
// come. -EINVAL: options that are not good, or that ask for what the call cannot say.
int move_options_begin(const struct gw_move_options *options, struct migrate_control *ret_control,
	struct move_notes *notes);
// The caller's report and list are written, where there is one.
void move_options_end(const struct migrate_control *control, struct move_notes *notes);

void move_report_totals(struct gw_move_report *report, const struct migrate_control *control);
// The same for a list by itself: before the call, and after it.
void stayed_list_begin(const struct gw_stayed_list *list, struct stayed *ret_stayed);
void stayed_list_end(struct gw_stayed_list *list, struct stayed *stayed);

#endif
