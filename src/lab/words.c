// SPDX-License-Identifier: MIT
// Words that the language shares with Linux: errno, signals, policies, node sets, commands.
//
// The parser reads them and the machines and reports write them; both directions are here so that
// what is printed can be pasted into a story. No state, nothing can fail but a small buffer, which
// cuts the text.

#include "lab/words.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define LINUX_ERRNO_MAX	 133
#define LINUX_SIGNAL_MAX 31

struct named_value {
	const char *word;
	int value;
};

const char *command_word(enum command_kind kind)
{
	static const char *const words[] = {
#define X(k, word, who) word,
		STORY_COMMANDS(X)
#undef X
	};
	return words[kind];
}

static int word_value(const struct named_value *table, size_t rows, const char *s, size_t length)
{
	for (size_t i = 0; i < rows; i++)
		if (strlen(table[i].word) == length && !memcmp(table[i].word, s, length))
			return table[i].value;
	return -1;
}

const char *errno_name(int error)
{
	if (error == EOPNOTSUPP)
		return "EOPNOTSUPP"; // the C library may call it ENOTSUP
	return error > 0 ? strerrorname_np(error) : NULL;
}

int errno_by_name(const char *name, size_t length)
{
	static const struct named_value aliases[] = {
		{"ENOTSUP", EOPNOTSUPP},
		{"EWOULDBLOCK", EAGAIN},
		{"EDEADLOCK", EDEADLK},
	};
	for (int e = 1; e <= LINUX_ERRNO_MAX; e++) {
		const char *known = errno_name(e);
		if (known && strlen(known) == length && !memcmp(known, name, length))
			return e;
	}
	int alias = word_value(aliases, sizeof(aliases) / sizeof(aliases[0]), name, length);
	return alias > 0 ? alias : 0;
}

const char *signal_name(int signal)
{
	static const char *const names[LINUX_SIGNAL_MAX + 1] = {
		[4] = "SIGILL",
		[5] = "SIGTRAP",
		[6] = "SIGABRT",
		[7] = "SIGBUS",
		[8] = "SIGFPE",
		[9] = "SIGKILL",
		[11] = "SIGSEGV",
		[15] = "SIGTERM",
		[31] = "SIGSYS",
	};
	return signal > 0 && signal <= LINUX_SIGNAL_MAX ? names[signal] : NULL;
}

int signal_by_name(const char *name, size_t length)
{
	for (int s = 1; s <= LINUX_SIGNAL_MAX; s++) {
		const char *known = signal_name(s);
		if (known && strlen(known) == length && !memcmp(known, name, length))
			return s;
	}
	return 0;
}

const char *nodes_text(uint64_t nodes, char *buf, size_t size)
{
	size_t used = 0;
	if (size)
		buf[0] = '\0';
	for (int first = 0; first < STORY_NODES_MAX; first++) {
		if (!(nodes >> first & 1))
			continue;
		int last = first;
		while (last + 1 < STORY_NODES_MAX && nodes >> (last + 1) & 1)
			last++;
		int n = snprintf(buf + used, size - used, "%s%d", used ? "," : "", first);
		if (last > first && n >= 0 && (size_t)n < size - used)
			n += snprintf(buf + used + n, size - used - (size_t)n, "-%d", last);
		if (n < 0 || (size_t)n >= size - used)
			break;
		used += (size_t)n;
		first = last;
	}
	return buf;
}

static const struct named_value modes[] = {
	{"default", 0},	    {"prefer", 1}, {"bind", 2},	       {"interleave", 3},
	{"local", 4},	    {"prefer-many", 5}, {"weighted", 6},
};

static const struct named_value flags[] = {
	{"static", 1 << 15},
	{"relative", 1 << 14},
	{"balancing", 1 << 13},
};

int policy_mode_by_word(const char *word, size_t length)
{
	return word_value(modes, sizeof(modes) / sizeof(modes[0]), word, length);
}

int policy_flag_by_word(const char *word, size_t length)
{
	return word_value(flags, sizeof(flags) / sizeof(flags[0]), word, length);
}

const char *policy_text(const struct story_policy *policy, char *buf, size_t size)
{
	const size_t known = sizeof(modes) / sizeof(modes[0]);
	int n = policy->mode >= 0 && (size_t)policy->mode < known
		? snprintf(buf, size, "%s", modes[policy->mode].word)
		: snprintf(buf, size, "mode=%d", policy->mode);
	for (size_t i = 0; i < sizeof(flags) / sizeof(flags[0]); i++)
		if (policy->flags & (unsigned)flags[i].value && n >= 0 && (size_t)n < size)
			n += snprintf(buf + n, size - (size_t)n, "=%s", flags[i].word);
	if (policy->nodes && n >= 0 && (size_t)n < size) {
		char nodes[256];
		snprintf(buf + n, size - (size_t)n, ":%s",
			nodes_text(policy->nodes, nodes, sizeof(nodes)));
	}
	return buf;
}

const char *bytes_text(uint64_t bytes, char buf[BYTES_TEXT_MAX])
{
	static const char *const units[] = {"", "K", "M", "G"};
	unsigned unit = 0;

	for (; bytes && bytes % 1024 == 0 && unit < 3; unit++)
		bytes /= 1024;
	snprintf(buf, BYTES_TEXT_MAX, "%" PRIu64 "%s", bytes, units[unit]);
	return buf;
}
