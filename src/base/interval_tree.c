// SPDX-License-Identifier: MIT
// The interval tree: a red-black tree ordered by start, each node of which knows the largest `last`
// of its subtree.
//
// Search: a subtree whose subtree_last is below the wanted start holds no overlap. If the left
// subtree reaches the wanted start, the first overlap is there or nowhere: should the node that
// reaches it begin beyond the wanted last, then so does everything to its right. Hence one descent
// finds the first overlap, and the next one is found by going right or up, in O(log n) each.
//
// Balance: the root is black, a red node has no red child, and every way down meets as many black
// nodes. Missing children count as black. Insertion hangs a red node and repairs upwards; removal
// replaces a node with two children by its successor, and when a black node went missing from a
// path, gives that path one back or moves the lack upwards.
//
// Augmentation: subtree_last is recomputed from the changed place up to the root before any
// rotation; a rotation hands the value of the old top to the new one and recomputes the old.
//
// The owner's lock protects it all. Nothing can fail; interval_tree_check() verifies every rule.
#include "base/interval_tree.h"

#include "base/assert.h"

#include <errno.h>

#define BLACK 1UL

static struct interval_node *parent_of(const struct interval_node *n)
{
	return (struct interval_node *)(n->parent_color & ~BLACK);
}

static bool is_black(const struct interval_node *n)
{
	return !n || (n->parent_color & BLACK);
}

static void set_parent(struct interval_node *n, struct interval_node *parent)
{
	n->parent_color = (uintptr_t)parent | (n->parent_color & BLACK);
}

static void set_color(struct interval_node *n, uintptr_t color)
{
	n->parent_color = (n->parent_color & ~BLACK) | color;
}

static uint64_t largest_last(const struct interval_node *n)
{
	uint64_t last = n->last;

	if (n->left && n->left->subtree_last > last)
		last = n->left->subtree_last;
	if (n->right && n->right->subtree_last > last)
		last = n->right->subtree_last;
	return last;
}

static void propagate(struct interval_node *n)
{
	for (; n; n = parent_of(n))
		n->subtree_last = largest_last(n);
}

// Where the tree points to `old` below `parent`, it now points to `n` (which may be NULL).
static void replace_child(struct interval_tree *tree, struct interval_node *parent,
	struct interval_node *old, struct interval_node *n)
{
	if (!parent)
		tree->root = n;
	else if (parent->left == old)
		parent->left = n;
	else
		parent->right = n;
	if (n)
		set_parent(n, parent);
}

// top(a, pivot(b, c)) becomes pivot(top(a, b), c): the order stays, c rises, a sinks.
static void rotate_left(struct interval_tree *tree, struct interval_node *top)
{
	struct interval_node *pivot = top->right;

	top->right = pivot->left;
	if (pivot->left)
		set_parent(pivot->left, top);
	replace_child(tree, parent_of(top), top, pivot);
	pivot->left = top;
	set_parent(top, pivot);
	pivot->subtree_last = top->subtree_last;
	top->subtree_last = largest_last(top);
}

// And back: top(pivot(a, b), c) becomes pivot(a, top(b, c)).
static void rotate_right(struct interval_tree *tree, struct interval_node *top)
{
	struct interval_node *pivot = top->left;

	top->left = pivot->right;
	if (pivot->right)
		set_parent(pivot->right, top);
	replace_child(tree, parent_of(top), top, pivot);
	pivot->right = top;
	set_parent(top, pivot);
	pivot->subtree_last = top->subtree_last;
	top->subtree_last = largest_last(top);
}

static void rotate(struct interval_tree *tree, struct interval_node *top, bool left)
{
	if (left)
		rotate_left(tree, top);
	else
		rotate_right(tree, top);
}

// n is red, and perhaps its parent is too.
static void repair_insert(struct interval_tree *tree, struct interval_node *n)
{
	struct interval_node *parent;

	while ((parent = parent_of(n)) && !is_black(parent)) {
		struct interval_node *grand = parent_of(parent);
		bool on_left = grand->left == parent;
		struct interval_node *uncle = on_left ? grand->right : grand->left;

		if (!is_black(uncle)) {
			set_color(parent, BLACK);
			set_color(uncle, BLACK);
			set_color(grand, 0);
			n = grand;
			continue;
		}
		if (n == (on_left ? parent->right : parent->left)) {
			rotate(tree, parent, on_left);
			parent = n;
		}
		set_color(parent, BLACK);
		set_color(grand, 0);
		rotate(tree, grand, !on_left);
		break;
	}
	set_color(tree->root, BLACK);
}

void interval_tree_insert(struct interval_tree *tree, struct interval_node *node)
{
	struct interval_node *parent = NULL, **link = &tree->root;

	assert_that(node->start <= node->last, "interval [%#lx, %#lx]", node->start, node->last);
	while (*link) {
		parent = *link;
		link = node->start < parent->start ? &parent->left : &parent->right;
	}
	node->parent_color = (uintptr_t)parent;
	node->left = NULL;
	node->right = NULL;
	*link = node;
	tree->count++;
	propagate(node);
	repair_insert(tree, node);
}

// The ways through n (perhaps NULL), a child of parent, lack one black node.
static void repair_remove(struct interval_tree *tree, struct interval_node *n,
	struct interval_node *parent)
{
	while (parent && is_black(n)) {
		bool on_left = parent->left == n;
		struct interval_node *sibling = on_left ? parent->right : parent->left;
		struct interval_node *near, *far;

		if (!is_black(sibling)) {
			set_color(sibling, BLACK);
			set_color(parent, 0);
			rotate(tree, parent, on_left);
			sibling = on_left ? parent->right : parent->left;
		}
		near = on_left ? sibling->left : sibling->right;
		far = on_left ? sibling->right : sibling->left;
		if (is_black(near) && is_black(far)) {
			set_color(sibling, 0);
			n = parent;
			parent = parent_of(n);
			continue;
		}
		if (is_black(far)) {
			set_color(near, BLACK);
			set_color(sibling, 0);
			rotate(tree, sibling, !on_left);
			far = sibling;
			sibling = near;
		}
		set_color(sibling, parent->parent_color & BLACK);
		set_color(parent, BLACK);
		set_color(far, BLACK);
		rotate(tree, parent, on_left);
		return;
	}
	if (n)
		set_color(n, BLACK);
}

static struct interval_node *leftmost(struct interval_node *n)
{
	while (n && n->left)
		n = n->left;
	return n;
}

static struct interval_node *rightmost(struct interval_node *n)
{
	while (n && n->right)
		n = n->right;
	return n;
}

void interval_tree_remove(struct interval_tree *tree, struct interval_node *node)
{
	struct interval_node *child, *parent = parent_of(node);
	bool lost_black;

	assert_that(tree->count > 0, "remove from an empty tree");
	if (!node->left || !node->right) {
		child = node->left ? node->left : node->right;
		lost_black = is_black(node);
		replace_child(tree, parent, node, child);
	} else {
		struct interval_node *heir = leftmost(node->right);

		child = heir->right;
		lost_black = is_black(heir);
		parent = parent_of(heir);
		replace_child(tree, parent, heir, child);
		if (parent == node)
			parent = heir;
		replace_child(tree, parent_of(node), node, heir);
		set_color(heir, node->parent_color & BLACK);
		heir->left = node->left;
		set_parent(heir->left, heir);
		heir->right = node->right;
		if (heir->right)
			set_parent(heir->right, heir);
	}
	tree->count--;
	propagate(parent);
	if (lost_black)
		repair_remove(tree, child, parent);
}

void interval_tree_resize(struct interval_tree *tree, struct interval_node *node, uint64_t start,
	uint64_t last)
{
	assert_that(start <= last, "interval [%#lx, %#lx]", start, last);
	if (start == node->start) {
		node->last = last;
		propagate(node);
		return;
	}
	interval_tree_remove(tree, node);
	node->start = start;
	node->last = last;
	interval_tree_insert(tree, node);
}

struct interval_node *interval_tree_first(const struct interval_tree *tree)
{
	return leftmost(tree->root);
}

struct interval_node *interval_tree_last(const struct interval_tree *tree)
{
	return rightmost(tree->root);
}

struct interval_node *interval_tree_next(const struct interval_node *node)
{
	struct interval_node *parent;

	if (node->right)
		return leftmost(node->right);
	while ((parent = parent_of(node)) && parent->right == node)
		node = parent;
	return parent;
}

struct interval_node *interval_tree_prev(const struct interval_node *node)
{
	struct interval_node *parent;

	if (node->left)
		return rightmost(node->left);
	while ((parent = parent_of(node)) && parent->left == node)
		node = parent;
	return parent;
}

// The first overlap in the subtree of n, which reaches start.
static struct interval_node *first_in(struct interval_node *n, uint64_t start, uint64_t last)
{
	for (;;) {
		if (n->left && n->left->subtree_last >= start) {
			n = n->left;
			continue;
		}
		if (n->start > last)
			return NULL;
		if (n->last >= start)
			return n;
		if (!n->right || n->right->subtree_last < start)
			return NULL;
		n = n->right;
	}
}

struct interval_node *interval_tree_overlap_first(const struct interval_tree *tree, uint64_t start,
	uint64_t last)
{
	if (!tree->root || tree->root->subtree_last < start)
		return NULL;
	return first_in(tree->root, start, last);
}

struct interval_node *interval_tree_overlap_next(const struct interval_node *node, uint64_t start,
	uint64_t last)
{
	for (;;) {
		struct interval_node *parent;

		if (node->right && node->right->subtree_last >= start)
			return first_in(node->right, start, last);
		while ((parent = parent_of(node)) && parent->right == node)
			node = parent;
		if (!parent || parent->start > last)
			return NULL;
		if (parent->last >= start)
			return parent;
		node = parent;
	}
}

struct interval_node *interval_tree_before(const struct interval_tree *tree, uint64_t point)
{
	struct interval_node *best = NULL;

	for (struct interval_node *n = tree->root; n;) {
		if (n->start < point) {
			best = n;
			n = n->right;
		} else {
			n = n->left;
		}
	}
	return best;
}

// Black nodes on every way down, or -1. Deep only as the tree is, which the colours bound.
static int check_subtree(const struct interval_node *n, const struct interval_node *parent,
	unsigned depth, size_t *count)
{
	int left, right;

	if (!n)
		return 0;
	if (depth > 128 || parent_of(n) != parent || n->start > n->last ||
		n->subtree_last != largest_last(n))
		return -1;
	if (!is_black(n) && (!parent || !is_black(parent)))
		return -1;
	++*count;
	left = check_subtree(n->left, n, depth + 1, count);
	right = check_subtree(n->right, n, depth + 1, count);
	if (left < 0 || left != right)
		return -1;
	return left + (is_black(n) ? 1 : 0);
}

int interval_tree_check(const struct interval_tree *tree)
{
	const struct interval_node *prev = NULL, *n;
	size_t count = 0;

	if (check_subtree(tree->root, NULL, 0, &count) < 0 || count != tree->count)
		return -EINVAL;
	interval_tree_for_each(n, tree) {
		if (prev && prev->start > n->start)
			return -EINVAL;
		prev = n;
	}
	return 0;
}
