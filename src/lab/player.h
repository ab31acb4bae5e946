// SPDX-License-Identifier: MIT
// Plays one story on one machine and tells a reporter what happened.
#ifndef GODWIT_LAB_PLAYER_H
#define GODWIT_LAB_PLAYER_H

#include "lab/lab_machine.h"

// Exit codes of the command, and what play_story returns.
enum play_exit { PLAY_HELD = 0, PLAY_FAILED = 1, PLAY_BAD = 2, PLAY_SKIPPED = 77 };

struct play_options {
	bool keep_going;	// also after an unexpected -1, a signal or a wrong byte
	unsigned limit_s;	// for one command; 0: none
	bool progress;		// on stderr, after a second
};

struct play_totals {
	unsigned commands, expectations, failed;
	enum play_exit exit;
	bool interrupted; // by a signal; play no other story
	char reason[320]; // why it was skipped, or why the machine stopped; may be empty
	struct lab_counters counters; // what changed while the story ran
	struct lab_truth truth;	      // what was found below the machine; see its verify
	bool seeded; // see struct lab_machine
	uint64_t seed;
};

// One command has been played.
struct play_event {
	const struct story *story;
	const struct command *command;
	const struct lab_result *result; // NULL: mark, show, expect
	const char *text;		 // show, but vmstat
	const struct lab_counters *values; // show vmstat
	const char *wanted, *found;	 // expect
	bool held;			 // expect
	const char *failure; // the story fails here: why; NULL: it does not
};

struct reporter {
	// skipped: the story is not for this machine, end() says why.
	void (*begin)(struct reporter *r, const struct story *story, const char *machine,
		bool skipped);
	void (*event)(struct reporter *r, const struct play_event *event);
	void (*end)(struct reporter *r, const struct story *story, const char *machine,
		const struct play_totals *totals);
	void (*warn)(struct reporter *r, const char *text);
};

// Whether the story is not for this machine; reason says why.
bool play_skips(const struct story *story, struct lab_machine *machine, char *reason,
	size_t reason_size);

// What the machine cannot play, as errors of the story; true: it can play all of it.
bool play_supported(const struct story *story, struct lab_machine *machine,
	struct story_errors *errors);

// Sets the machine up, plays, and tears it down; the machine is gone afterwards. The totals are
// the caller's to release with play_totals_release().
enum play_exit play_story(const struct story *story, struct lab_machine *machine,
	struct reporter *reporter, const struct play_options *options,
	struct play_totals *ret_totals);

void play_totals_release(struct play_totals *totals);

#endif
