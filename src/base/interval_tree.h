// SPDX-License-Identifier: MIT
// Intervals [start, last] of 64-bit numbers, both ends inside, in a red-black tree that knows the
// largest `last` of each subtree. Nodes are embedded and nothing is allocated; overlaps and equal
// intervals are allowed and come out in order of start, equals in order of insertion.
// It serves vma lookup (start = address) and rmap (start = page index). The owner's lock protects
// it.
#ifndef GODWIT_BASE_INTERVAL_TREE_H
#define GODWIT_BASE_INTERVAL_TREE_H

#include "base/compiler.h"

#include <stdbool.h>

struct interval_node {
	uintptr_t parent_color; // bit 0: black
	struct interval_node *left, *right;
	uint64_t start, last;
	uint64_t subtree_last;
};

struct interval_tree {
	struct interval_node *root;
	size_t count;
};

#define INTERVAL_TREE_INIT {NULL, 0}

static inline void interval_tree_init(struct interval_tree *tree)
{
	tree->root = NULL;
	tree->count = 0;
}

static inline bool interval_tree_empty(const struct interval_tree *tree)
{
	return tree->root == NULL;
}

// The node's start and last are set by the caller, start <= last.
void interval_tree_insert(struct interval_tree *tree, struct interval_node *node);
void interval_tree_remove(struct interval_tree *tree, struct interval_node *node);

// Changes the ends of a node that is in the tree.
void interval_tree_resize(struct interval_tree *tree, struct interval_node *node, uint64_t start,
	uint64_t last);

// All nodes in order; NULL at the end.
struct interval_node *interval_tree_first(const struct interval_tree *tree);
struct interval_node *interval_tree_last(const struct interval_tree *tree);
struct interval_node *interval_tree_next(const struct interval_node *node);
struct interval_node *interval_tree_prev(const struct interval_node *node);

// Those that overlap [start, last], in order of start. The first of [addr, UINT64_MAX] is the one
// that holds addr, or the next above it (the kernel's find_vma).
struct interval_node *interval_tree_overlap_first(const struct interval_tree *tree, uint64_t start,
	uint64_t last);
struct interval_node *interval_tree_overlap_next(const struct interval_node *node, uint64_t start,
	uint64_t last);

// The last node in order whose start is below `point`, or NULL (the kernel's find_vma_prev).
struct interval_node *interval_tree_before(const struct interval_tree *tree, uint64_t point);

// 0, or -EINVAL if order, colours, subtree_last, parents or count are wrong.
must_check int interval_tree_check(const struct interval_tree *tree);

#define interval_tree_for_each(node, tree)                                                         \
	for (node = interval_tree_first(tree); node; node = interval_tree_next(node))

// The node may not be removed inside the loop.
#define interval_tree_for_each_overlap(node, tree, start, last)                                    \
	for (node = interval_tree_overlap_first(tree, start, last); node;                          \
		node = interval_tree_overlap_next(node, start, last))

#endif
