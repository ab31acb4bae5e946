// SPDX-License-Identifier: MIT
// Two reports of the same stories, line against line.
#ifndef GODWIT_LAB_COMPARE_H
#define GODWIT_LAB_COMPARE_H

#include "lab/results.h"
#include "lab/story.h"

struct difference {
	unsigned line;
	const char *command; // belongs to the results
	const char *left, *right; // NULL: that machine did not come to this line
	const char *differs; // the story says why, NULL: it does not
};

// One story on two machines. Strings belong to the results.
struct comparison {
	const char *story;
	const char *left_machine, *right_machine;
	const char *skipped; // why it could not be compared, NULL: it was
	bool missing;	     // because a machine never had it, or gave no result
	const char *stopped; // why a machine did not play it to the end, NULL: both did
	struct difference *differences;
	size_t count, capacity;
	size_t lines;  // compared
	size_t marked; // differences with a reason
};

// Stories are paired in the order played, or by their names: what only one report has is missing
// in the other. 0, or -ENOMEM; an array of *ret_count comparisons.
int compare_results(const struct results *left, const struct results *right, bool by_name,
	struct comparison **ret_comparisons, size_t *ret_count) __attribute__((warn_unused_result));
void comparisons_release(struct comparison *comparisons, size_t count);

// 0: nothing differs but what is marked; 1: something does, or a story has no result, or not to
// its end; 77: nothing could be compared.
int comparisons_exit(const struct comparison *comparisons, size_t count);

// A table of the differing lines and a summary; story (NULL: unknown) gives the lines as written.
void print_comparison(FILE *out, const struct comparison *c, const struct story *story,
	bool colour);
void print_comparison_json(FILE *out, const struct comparison *c);

#endif
