// SPDX-License-Identifier: MIT
// Reports of stories read back (report_json.c writes them), reduced to what can be compared.
#ifndef GODWIT_LAB_RESULTS_H
#define GODWIT_LAB_RESULTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

// One command. `answer` is what it did as one text, without what differs from run to run.
struct answer {
	unsigned line;
	char *command; // "A move", "expect status"
	char *answer;
	char *differs; // the reason that the story gives, or NULL
};

struct story_results {
	char *story, *machine, *result, *reason; // empty where there is none
	bool missing; // it could not be played
	struct answer *answers;
	size_t count, capacity;
};

struct results {
	struct story_results *stories; // in the order played
	size_t count, capacity;
};

// Reads lines until the end; what is no JSON object with a "schema" is passed over, since a
// console may have added to it. 0, -ENOMEM, or -EPROTO when it breaks off within a story or has
// another schema.
int results_read(FILE *in, struct results *ret_results) __attribute__((warn_unused_result));
// The same of a report that may have been cut off anywhere: its whole stories are added to results.
int results_add(FILE *in, struct results *results) __attribute__((warn_unused_result));
// A story that could not be played, and why.
int results_add_missing(struct results *results, const char *story, const char *reason)
	__attribute__((warn_unused_result));
void results_release(struct results *results);

// Takes the noise out of a text: what is "numa_maps", "smaps", "trace" or any other. A new string;
// NULL: no memory.
char *without_noise(const char *what, const char *text);

#endif
