// SPDX-License-Identifier: MIT
// What the commands of `godwit lab` share (cmd_lab.c, lab_compare.c).
#ifndef GODWIT_CLI_LAB_H
#define GODWIT_CLI_LAB_H

#include "lab/player.h"

struct stories {
	struct story **v;
	const char **files; // belong to the arguments
	size_t count;
	size_t refused; // files that are no story, or none that can be played: not in v, and told
};

struct run_options {
	const char *machine;
	struct lab_options lab;
	struct play_options play;
	bool seed_given;
	bool json;
	bool results; // compare: the files are reports
	const char *kernel; // compare: auto, here or vm
	bool interrupted;   // by a signal: nothing more is to be played
	const char *input;  // compare: a file with what standard input held, or NULL
};

// Loads what can be loaded; what is wrong with the others has been printed. False: no memory.
bool load_stories(int argc, char **argv, struct stories *ret_stories);
void release_stories(struct stories *stories);

// NULL: it cannot be had, and that has been printed.
struct lab_machine *open_machine(const char *name, const struct lab_options *options);

// Whether this build can play it (a story that the machine skips it can); else it has been printed.
bool is_supported(const struct story *story, const char *file, struct lab_machine *machine);

// Each on a machine of its own. The exit status.
int play_all(const struct stories *stories, const char *machine, struct reporter *reporter,
	struct run_options *options);

// Of two exit statuses the one that counts for both.
int gravest(int before, int now);

// The stories on both machines, or two reports; the exit status.
int compare_files(int argc, char **argv, struct run_options *options);
int compare_reports(int argc, char **argv, bool json);

#endif
