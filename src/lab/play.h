// SPDX-License-Identifier: MIT
// The inside of the player: what is remembered between commands. player.c has the essay.
#ifndef GODWIT_LAB_PLAY_H
#define GODWIT_LAB_PLAY_H

#include "lab/player.h"

// Where the pages of one `expect moved` were at the mark before it.
struct placement {
	const struct command *expectation;
	int32_t *nodes; // NULL: the mapping or its task did not exist then
	size_t count;
};

struct play {
	const struct story *story;
	struct lab_machine *machine;
	struct watch *watch; // NULL: not yet, or it cannot be had
	struct reporter *reporter;
	const struct play_options *options;
	struct play_totals *totals;

	size_t at;		   // position in story->commands
	struct lab_result last;	   // of the last command that is no mark, show or expect
	int32_t *status;	   // of the last where or move
	size_t status_count;
	struct lab_counters start; // when the story began
	struct lab_counters mark;  // at the last mark, or as start
	char *numastat;		   // at the last mark, or as start; NULL: nothing shows it
	struct placement *placements;
	size_t placement_count;
	bool *alive; // by task
	bool ended;
};

struct verdict {
	bool held;
	char *wanted, *found;
};

// Fills *ret_verdict, whose texts are the caller's to free(). Negative errno: the machine cannot
// go on.
int judge_expectation(struct play *play, const struct command *command,
	struct verdict *ret_verdict) __attribute__((warn_unused_result));

// The nodes of all 4 KiB pages of a range; -ENOENT where none is present.
int query_nodes(struct play *play, const struct story_range *range, int32_t **ret_nodes,
	size_t *ret_count) __attribute__((warn_unused_result));

// Change of one counter since the mark; false: there is no such counter.
bool counter_change(const struct lab_counters *before, const struct lab_counters *now,
	const char *name, int64_t *ret_change);

// Of a story that shows numastat: at its start and at each mark, and then what changed since.
int remember_numastat(struct play *play) __attribute__((warn_unused_result));
int numastat_since_mark(struct play *play, char **ret_text) __attribute__((warn_unused_result));
// The difference of two such texts ("numa_hit 12 0\n..."); the caller's to free(). NULL: no memory.
char *numastat_changes(const char *before, const char *now);

// Sum of KEY=VALUE over all lines of a numa_maps text; words without a value count their lines.
int64_t numa_maps_sum(const char *text, const char *key, size_t key_length);
bool numa_maps_has(const char *text, const char *word);
// Sum of "Field:   N kB" over all mappings; false: no such field.
bool smaps_sum(const char *text, const char *field, int64_t *ret_kb);

#endif
