// SPDX-License-Identifier: MIT
// Sets of NUMA nodes 0..63, by value. Text is the kernel's list format: "0-3,5".
#ifndef GODWIT_BASE_NODEMASK_H
#define GODWIT_BASE_NODEMASK_H

#include "base/compiler.h"

#include <stdbool.h>

#define MAX_NODES 64
#define NO_NODE (-1)

struct nodemask {
	uint64_t bits;
};

#define NODEMASK_NONE ((struct nodemask){0})
#define NODEMASK_ALL ((struct nodemask){~0ULL})

static inline struct nodemask nodemask_of(unsigned node)
{
	return (struct nodemask){1ULL << node};
}

// The nodes 0..n-1.
static inline struct nodemask nodemask_below(unsigned n)
{
	return (struct nodemask){n >= MAX_NODES ? ~0ULL : (1ULL << n) - 1};
}

static inline bool nodemask_test(struct nodemask m, unsigned node)
{
	return node < MAX_NODES && (m.bits >> node & 1);
}

static inline void nodemask_set(struct nodemask *m, unsigned node)
{
	m->bits |= 1ULL << node;
}

static inline void nodemask_clear(struct nodemask *m, unsigned node)
{
	m->bits &= ~(1ULL << node);
}

static inline struct nodemask nodemask_and(struct nodemask a, struct nodemask b)
{
	return (struct nodemask){a.bits & b.bits};
}

static inline struct nodemask nodemask_or(struct nodemask a, struct nodemask b)
{
	return (struct nodemask){a.bits | b.bits};
}

static inline struct nodemask nodemask_andnot(struct nodemask a, struct nodemask b)
{
	return (struct nodemask){a.bits & ~b.bits};
}

static inline bool nodemask_empty(struct nodemask m)
{
	return m.bits == 0;
}

static inline bool nodemask_equal(struct nodemask a, struct nodemask b)
{
	return a.bits == b.bits;
}

static inline bool nodemask_subset(struct nodemask part, struct nodemask whole)
{
	return (part.bits & ~whole.bits) == 0;
}

static inline bool nodemask_intersects(struct nodemask a, struct nodemask b)
{
	return (a.bits & b.bits) != 0;
}

static inline unsigned nodemask_weight(struct nodemask m)
{
	return (unsigned)__builtin_popcountll(m.bits);
}

// These four return NO_NODE when there is none.
static inline int nodemask_first(struct nodemask m)
{
	return m.bits ? __builtin_ctzll(m.bits) : NO_NODE;
}

static inline int nodemask_last(struct nodemask m)
{
	return m.bits ? 63 - __builtin_clzll(m.bits) : NO_NODE;
}

// The first set node after `node`, which may be NO_NODE.
static inline int nodemask_next(struct nodemask m, int node)
{
	if (node >= MAX_NODES - 1)
		return NO_NODE;
	return nodemask_first((struct nodemask){m.bits & (~0ULL << (node + 1))});
}

// The same, going round to the first.
static inline int nodemask_next_in(struct nodemask m, int node)
{
	int next = nodemask_next(m, node);

	return next == NO_NODE ? nodemask_first(m) : next;
}

// The nth (from 0) set node, or NO_NODE.
int nodemask_nth(struct nodemask m, unsigned nth);

// How many set nodes come before `node`.
static inline unsigned nodemask_rank(struct nodemask m, unsigned node)
{
	return nodemask_weight(nodemask_and(m, nodemask_below(node)));
}

// The kernel's relative remapping: bit n of `relative` becomes the (n mod weight)-th node of
// `onto` (mpol static/relative nodes); empty if `onto` is.
struct nodemask nodemask_onto(struct nodemask relative, struct nodemask onto);
// Node by node, the nth of `from` becomes the nth of `to` (mod weight); nodes outside of `from`
// stay.
struct nodemask nodemask_remap(struct nodemask m, struct nodemask from, struct nodemask to);

// "0-3,5", "" or "all"; -EINVAL for anything else, -ERANGE for a node above 63.
must_check int nodemask_parse(const char *text, struct nodemask *ret_mask);

// Writes at most size bytes, always terminated when size > 0; returns the full length as snprintf.
int nodemask_format(struct nodemask m, char *buf, size_t size);

#define NODEMASK_TEXT_MAX 160

#define for_each_node_in(node, mask)                                                               \
	for (node = nodemask_first(mask); node != NO_NODE; node = nodemask_next(mask, node))

#endif
