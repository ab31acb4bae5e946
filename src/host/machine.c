// SPDX-License-Identifier: MIT
// Questions about the machine as a whole, and the small readers that all of them use.
//
// The texts of proc and sysfs come in few shapes: "NAME   number kB" lines, lists such as "0-3,8",
// and choices with the chosen word in brackets. Each has one reader here.

#include "host/host.h"

#include "base/bitmap.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// ---- Texts --------------------------------------------------------------------------------------

bool host_field(const char *text, const char *name, uint64_t *ret_number)
{
	size_t length = strlen(name);

	for (const char *line = text; line; line = strchr(line, '\n')) {
		char *end;

		line += *line == '\n';
		if (strncmp(line, name, length))
			continue;
		line += length;
		if (*line != ':' && *line != ' ' && *line != '\t')
			continue;
		line += *line == ':';
		*ret_number = strtoull(line, &end, 10);
		return end != line;
	}
	return false;
}

void host_chosen(const char *text, char *buf, size_t size)
{
	const char *open = strchr(text, '['), *close = open ? strchr(open, ']') : NULL;

	if (close)
		snprintf(buf, size, "%.*s", (int)(close - open - 1), open + 1);
	else
		snprintf(buf, size, "%s", text);
}

bool host_list_bits(const char *text, unsigned long *map, size_t nbits)
{
	bitmap_zero(map, nbits);
	while (*text && *text != '\n') {
		unsigned long first, last;
		char *end;

		if (!isdigit((unsigned char)*text))
			return false;
		first = last = strtoul(text, &end, 10);
		if (*end == '-')
			last = strtoul(end + 1, &end, 10);
		for (; first <= last && first < nbits; first++)
			bitmap_set(map, first);
		text = *end == ',' ? end + 1 : end;
	}
	return true;
}

// ---- The machine --------------------------------------------------------------------------------

bool host_is_test_guest(struct host *host)
{
	static const char mark[] = "godwit.guest=1";
	bool found = false;
	char *text, *rest;

	if (host_read(host, "proc/cmdline", &text))
		return false;
	rest = text;
	for (char *word; !found && (word = strsep(&rest, " \n"));)
		found = !strcmp(word, mark);
	free(text);
	return found;
}

int host_kernel(struct host *host, unsigned *ret_major, unsigned *ret_minor)
{
	unsigned major, minor;
	char *text;
	int err = host_read(host, "proc/sys/kernel/osrelease", &text);

	if (err)
		return err;
	err = sscanf(text, "%u.%u", &major, &minor) == 2 ? 0 : -EINVAL;
	free(text);
	if (err)
		return err;
	*ret_major = major;
	*ret_minor = minor;
	return 0;
}

bool host_has_swap(struct host *host)
{
	char *text, *line;
	bool has;

	if (host_read(host, "proc/swaps", &text))
		return false;
	line = strchr(text, '\n'); // after the heading, a line each
	has = line && line[1];
	free(text);
	return has;
}
