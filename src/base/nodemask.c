// SPDX-License-Identifier: MIT
// Sets of nodes: text, and the two ways in which memory policies move a set.
//
// The text is the kernel's list format: decimal numbers and ranges between commas, as nodemasks are
// printed in /proc and /sys. Parsing accepts what the kernel accepts there of that form (empty
// elements, blanks around an element, a newline at the end, "all"), but not its strides. Formatting
// joins runs of nodes, is always terminated, and returns the full length. Values only: no locks.
#include "base/nodemask.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static const char *skip_separators(const char *p)
{
	while (*p == ',' || *p == ' ' || *p == '\t' || *p == '\n')
		p++;
	return p;
}

// A number below MAX_NODES; *text moves behind it.
static int parse_node(const char **text, unsigned *ret_node)
{
	const char *p = *text;
	unsigned node = 0;

	if (*p < '0' || *p > '9')
		return -EINVAL;
	for (; *p >= '0' && *p <= '9'; p++) {
		node = node * 10 + (unsigned)(*p - '0');
		if (node >= MAX_NODES)
			return -ERANGE;
	}
	*text = p;
	*ret_node = node;
	return 0;
}

static int parse_element(const char **text, struct nodemask *mask)
{
	unsigned first = 0, last = 0;
	int err;

	if (strncmp(*text, "all", 3) == 0) {
		*text += 3;
		*mask = NODEMASK_ALL;
		return 0;
	}
	err = parse_node(text, &first);
	if (err)
		return err;
	last = first;
	if (**text == '-') {
		++*text;
		err = parse_node(text, &last);
		if (err)
			return err;
	}
	if (last < first)
		return -EINVAL;
	for (unsigned node = first; node <= last; node++)
		nodemask_set(mask, node);
	return 0;
}

int nodemask_parse(const char *text, struct nodemask *ret_mask)
{
	struct nodemask mask = NODEMASK_NONE;

	for (text = skip_separators(text); *text; text = skip_separators(text)) {
		int err = parse_element(&text, &mask);

		if (err)
			return err;
		if (*text && skip_separators(text) == text)
			return -EINVAL;
	}
	*ret_mask = mask;
	return 0;
}

int nodemask_format(struct nodemask m, char *buf, size_t size)
{
	size_t len = 0;

	if (size > 0)
		buf[0] = '\0';
	while (!nodemask_empty(m)) {
		int first = nodemask_first(m), last = first;
		const char *comma = len ? "," : "";
		char *at = len < size ? buf + len : NULL;
		size_t room = len < size ? size - len : 0;

		while (nodemask_test(m, (unsigned)last + 1))
			last++;
		if (first == last)
			len += (size_t)snprintf(at, room, "%s%d", comma, first);
		else
			len += (size_t)snprintf(at, room, "%s%d-%d", comma, first, last);
		m = nodemask_andnot(m, nodemask_below((unsigned)last + 1));
	}
	return (int)len;
}

int nodemask_nth(struct nodemask m, unsigned nth)
{
	int node = nodemask_first(m);

	while (nth-- > 0 && node != NO_NODE)
		node = nodemask_next(m, node);
	return node;
}

struct nodemask nodemask_onto(struct nodemask relative, struct nodemask onto)
{
	struct nodemask out = NODEMASK_NONE;
	unsigned weight = nodemask_weight(onto);
	int n;

	if (weight == 0)
		return out;
	for_each_node_in(n, relative)
		nodemask_set(&out, (unsigned)nodemask_nth(onto, (unsigned)n % weight));
	return out;
}

struct nodemask nodemask_remap(struct nodemask m, struct nodemask from, struct nodemask to)
{
	struct nodemask out = NODEMASK_NONE;
	unsigned weight = nodemask_weight(to);
	int n;

	for_each_node_in(n, m) {
		unsigned node = (unsigned)n;

		if (nodemask_test(from, node) && weight > 0)
			node = (unsigned)nodemask_nth(to, nodemask_rank(from, node) % weight);
		nodemask_set(&out, node);
	}
	return out;
}
