// SPDX-License-Identifier: MIT
// A machine small enough to know by heart, for tests of the player and the reports.
#ifndef GODWIT_TESTS_LAB_FAKE_H
#define GODWIT_TESTS_LAB_FAKE_H

#include "lab/lab_machine.h"

// What a test may ask for; set before fake_machine_open().
struct fake_plan {
	const char *name;	     // "engine" unless set
	const char *skip;	     // needs: this is missing
	const char *setup_failure;   // setup ends with -EIO and this text
	enum command_kind broken;    // with broken_error: the action returns it
	int broken_error;
	enum command_kind untrue;    // with `truth`: verify differs after this command
	const char *truth;	     // what verify says then; not NULL: it is asked
	bool loses_values;	     // stop reports one
	bool hangs;		     // sleep waits for cancel
	bool keeps_changes;	     // teardown cannot put all back
	int terminal;		     // not 0: setup and teardown wait until it shows
	char said[2][100];	     // a time: this is what it shows
	bool torn_down;		     // set by teardown
	unsigned cancelled;	     // times cancel was called
};

struct lab_machine *fake_machine_open(struct fake_plan *plan);

#endif
