// SPDX-License-Identifier: MIT
// Reading Linux's texts about a mapping: numa_maps lines and smaps blocks.
//
// One mapping of a story may be several in the kernel (a policy or a protection splits it), so
// numbers are summed over all lines. Pure functions over text; nothing can fail.

#include "lab/play.h"

#include <stdlib.h>
#include <string.h>

// Calls see for each word between blanks and line ends, until it returns true.
static bool each_word(const char *text, bool (*see)(const char *word, size_t length, void *arg),
	void *arg)
{
	while (*text) {
		text += strspn(text, " \t\n");
		size_t length = strcspn(text, " \t\n");
		if (length && see(text, length, arg))
			return true;
		text += length;
	}
	return false;
}

struct sum {
	const char *key;
	size_t length;
	int64_t total;
};

static bool add_value(const char *word, size_t length, void *arg)
{
	struct sum *sum = arg;
	if (length > sum->length && word[sum->length] == '=' &&
		!memcmp(word, sum->key, sum->length))
		sum->total += strtoll(word + sum->length + 1, NULL, 10);
	return false;
}

int64_t numa_maps_sum(const char *text, const char *key, size_t key_length)
{
	struct sum sum = {key, key_length, 0};
	each_word(text, add_value, &sum);
	return sum.total;
}

static bool same_word(const char *word, size_t length, void *arg)
{
	const char *wanted = arg;
	return strlen(wanted) == length && !memcmp(word, wanted, length);
}

bool numa_maps_has(const char *text, const char *word)
{
	return each_word(text, same_word, (void *)word);
}

bool smaps_sum(const char *text, const char *field, int64_t *ret_kb)
{
	const size_t length = strlen(field);
	int64_t total = 0;
	bool found = false;
	for (const char *line = text; line && *line; line = strchr(line, '\n')) {
		line += *line == '\n';
		if (!strncmp(line, field, length) && line[length] == ':') {
			total += strtoll(line + length + 1, NULL, 10);
			found = true;
		}
	}
	*ret_kb = total;
	return found;
}
