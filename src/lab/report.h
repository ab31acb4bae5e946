// SPDX-License-Identifier: MIT
// The two reports of a story: for people, and one JSON object a line.
#ifndef GODWIT_LAB_REPORT_H
#define GODWIT_LAB_REPORT_H

#include <stdio.h>

#include "lab/player.h"

#define REPORT_SCHEMA 1

// Aligned lines and a summary; warnings go to stderr.
struct text_report {
	struct reporter reporter;
	FILE *out;
	bool colour;
	int width; // of the column of commands
};

void text_report_init(struct text_report *report, FILE *out, bool colour);

// Schema 1 (godwit-lab(1)); warnings go to stderr.
struct json_report {
	struct reporter reporter;
	FILE *out;
};

void json_report_init(struct json_report *report, FILE *out);

// Whether out is a terminal that wants colours (NO_COLOR, TERM=dumb).
bool wants_colour(FILE *out);

// What both reports do with a warning: stderr.
void report_warning(struct reporter *r, const char *text);

// FILE:LINE:COLUMN: text, each on a line.
void print_errors(FILE *out, const char *file, const struct story_errors *errors);

#endif
