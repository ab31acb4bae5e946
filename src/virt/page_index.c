// SPDX-License-Identifier: MIT
// The page index: a radix tree from page offset to folio, 64 slots a node.
//
//	height 2:   root  [ . . c . . ]          slot i: offsets i*64 .. i*64+63
//	                       |
//	            leaf  [ . F F F F . G ]      slot i: one page; F is a large folio of four
//
// A leaf slot holds the pfn of the folio's head, an inner slot the handle of a child, so a slot is
// 32 bits. Each node keeps a bit a slot for "occupied" and for each tag; the bit of an inner slot
// says that somewhere below it there is one. That is what makes "the next dirty page" cheap.
//
// Interface: page_index.h. Every change is made leaf by leaf: find the path to the leaf, change the
// leaf, settle() the path. settle() is the only function that knows the invariants: no node is
// empty, every summary bit is true, the root has more than slot 0. Inserting makes all leaves it
// needs before it fills the first slot, so that a failure leaves only empty nodes, and settling
// the same paths removes them.
//
// Held: the owner's lock, for everything. Fails: insertion alone (-ENOMEM, -EEXIST, -EINVAL).
#include "virt/page_index.h"

#include "base/assert.h"
#include "base/meta.h"

#include <errno.h>

#define NODE_SHIFT 6
#define NODE_SLOTS (1u << NODE_SHIFT)
#define HEIGHT_MAX 7 // 42 bits, PAGE_INDEX_MAX has 40

struct page_index_node {
	uint32_t slot[NODE_SLOTS];
	uint64_t used;
	uint64_t tag[PAGE_INDEX_TAGS];
};

// The nodes from the root (at height-1) down to the leaf (at 0) of one offset; NULL below the
// deepest that exists.
struct path {
	struct page_index_node *node[HEIGHT_MAX];
	uint64_t pgoff;
};

static unsigned slot_of(uint64_t pgoff, unsigned level)
{
	return pgoff >> (level * NODE_SHIFT) & (NODE_SLOTS - 1);
}

// Whether a tree of this height reaches the offset.
static bool covers(unsigned height, uint64_t pgoff)
{
	return pgoff >> (height * NODE_SHIFT) == 0;
}

// Bits first..last of a word.
static uint64_t slot_mask(unsigned first, unsigned last)
{
	return (~0ull >> (NODE_SLOTS - 1 - last)) & (~0ull << first);
}

static struct page_index_node *child_of(const struct page_index_node *node, unsigned slot)
{
	return meta_pointer(node->slot[slot]);
}

static struct folio *folio_in(const struct page_index_node *leaf, unsigned slot)
{
	return pfn_folio(pfn_of(leaf->slot[slot]));
}

static void fill_slot(struct page_index_node *node, unsigned slot, uint32_t value)
{
	node->slot[slot] = value;
	node->used |= 1ull << slot;
}

static void empty_slot(struct page_index_node *node, unsigned slot)
{
	node->slot[slot] = 0;
	node->used &= ~(1ull << slot);
	for (unsigned t = 0; t < PAGE_INDEX_TAGS; t++)
		node->tag[t] &= ~(1ull << slot);
}

// The leaf of pgoff, or NULL.
static struct page_index_node *path_find(const struct page_index *index, uint64_t pgoff,
	struct path *path)
{
	*path = (struct path){.pgoff = pgoff};
	if (!covers(index->height, pgoff) || !index->root)
		return NULL;
	struct page_index_node *node = index->root;
	for (unsigned level = index->height - 1; node; level--) {
		path->node[level] = node;
		if (!level)
			break;
		node = child_of(node, slot_of(pgoff, level));
	}
	return path->node[0];
}

// One level more: the old root becomes slot 0. An empty root serves at any height.
static int grow(struct page_index *index)
{
	if (!index->root || index->root->used) {
		struct page_index_node *root = meta_new(struct page_index_node);

		if (!root)
			return -ENOMEM;
		if (index->root) {
			fill_slot(root, 0, meta_handle(index->root));
			for (unsigned t = 0; t < PAGE_INDEX_TAGS; t++)
				root->tag[t] = index->root->tag[t] != 0;
		}
		index->root = root;
	}
	index->height++;
	return 0;
}

static int leaf_make(struct page_index *index, uint64_t pgoff)
{
	while (!index->height || !covers(index->height, pgoff))
		if (grow(index))
			return -ENOMEM;
	struct page_index_node *node = index->root;
	for (unsigned level = index->height - 1; level; level--) {
		unsigned slot = slot_of(pgoff, level);
		struct page_index_node *child = child_of(node, slot);

		if (!child) {
			child = meta_new(struct page_index_node);
			if (!child)
				return -ENOMEM;
			fill_slot(node, slot, meta_handle(child));
		}
		node = child;
	}
	return 0;
}

// Drop levels that hold nothing but slot 0, and an empty root.
static void shrink(struct page_index *index)
{
	while (index->height > 1 && index->root->used == 1) {
		struct page_index_node *child = child_of(index->root, 0);

		meta_delete(index->root);
		index->root = child;
		index->height--;
	}
	if (index->height && !index->root->used) {
		meta_delete(index->root);
		index->root = NULL;
		index->height = 0;
	}
}

// The leaf of the path changed: free what is empty, make the summary bits true again.
static void settle(struct page_index *index, struct path *path)
{
	for (unsigned level = 0; level + 1 < index->height; level++) {
		struct page_index_node *node = path->node[level], *parent = path->node[level + 1];
		unsigned slot = slot_of(path->pgoff, level + 1);

		if (!node)
			continue;
		if (!node->used) {
			empty_slot(parent, slot);
			meta_delete(node);
			continue;
		}
		for (unsigned t = 0; t < PAGE_INDEX_TAGS; t++) {
			parent->tag[t] &= ~(1ull << slot);
			parent->tag[t] |= (uint64_t)(node->tag[t] != 0) << slot;
		}
	}
	shrink(index);
}

// A range cut at leaves: the slots [first_slot, last_slot] of the leaf of `at`.
struct chunk {
	uint64_t at, end;
	uint64_t mask;
};

static bool next_chunk(struct chunk *c)
{
	if (c->at >= c->end)
		return false;
	uint64_t stop = min(c->end, (c->at | (NODE_SLOTS - 1)) + 1);
	c->mask = slot_mask(slot_of(c->at, 0), slot_of(stop - 1, 0));
	return true;
}

static void advance_chunk(struct chunk *c)
{
	c->at = (c->at | (NODE_SLOTS - 1)) + 1;
}

#define for_each_chunk(c, pgoff, nr)                                                               \
	for (struct chunk c = {(pgoff), (pgoff) + (nr), 0}; next_chunk(&(c)); advance_chunk(&(c)))
#define for_each_bit(bit, word)                                                                    \
	for (uint64_t left_ = (word), bit; left_ && (bit = (uint64_t)__builtin_ctzll(left_), 1);   \
		left_ &= left_ - 1)

int page_index_insert(struct page_index *index, uint64_t pgoff, uint64_t nr, struct folio *folio)
{
	struct path path;
	int err = 0;

	if (pgoff > PAGE_INDEX_MAX || nr - 1 > PAGE_INDEX_MAX - pgoff)
		return -EINVAL;
	for_each_chunk(c, pgoff, nr) {
		struct page_index_node *leaf = path_find(index, c.at, &path);
		if (leaf && leaf->used & c.mask)
			return -EEXIST;
	}
	// The last leaf first: from then on the tree is high enough, and no leaf is mistaken for an
	// empty root.
	err = leaf_make(index, pgoff + nr - 1);
	for_each_chunk(c, pgoff, nr) {
		if (!err)
			err = leaf_make(index, c.at);
	}
	if (err) {
		page_index_remove(index, pgoff, nr);
		return err;
	}
	for_each_chunk(c, pgoff, nr) {
		struct page_index_node *leaf = path_find(index, c.at, &path);
		for_each_bit(slot, c.mask)
			fill_slot(leaf, (unsigned)slot, (uint32_t)folio_pfn(folio).n);
	}
	return 0;
}

void page_index_remove(struct page_index *index, uint64_t pgoff, uint64_t nr)
{
	struct path path;

	for_each_chunk(c, pgoff, nr) {
		struct page_index_node *leaf = path_find(index, c.at, &path);
		if (leaf)
			for_each_bit(slot, leaf->used & c.mask)
				empty_slot(leaf, (unsigned)slot);
		settle(index, &path);
	}
}

void page_index_replace(struct page_index *index, uint64_t pgoff, uint64_t nr, struct folio *folio)
{
	struct path path;

	for_each_chunk(c, pgoff, nr) {
		struct page_index_node *leaf = path_find(index, c.at, &path);
		must_hold(leaf && (leaf->used & c.mask) == c.mask, "no folio at %llu to replace",
			(unsigned long long)c.at);
		for_each_bit(slot, c.mask)
			leaf->slot[slot] = (uint32_t)folio_pfn(folio).n;
	}
}

struct folio *page_index_find(const struct page_index *index, uint64_t pgoff)
{
	struct path path;
	struct page_index_node *leaf = path_find(index, pgoff, &path);

	if (!leaf || !(leaf->used >> slot_of(pgoff, 0) & 1))
		return NULL;
	return folio_in(leaf, slot_of(pgoff, 0));
}

static uint64_t summary(const struct page_index_node *node, int tag)
{
	return tag < 0 ? node->used : node->tag[tag];
}

// The first slot at or after `first` below this node. The summary bits never lie, so the search
// goes down at most twice a level: into the child that holds `first`, and into the next one.
static bool search(const struct page_index_node *node, unsigned level, uint64_t base, int tag,
	uint64_t first, struct folio **ret_folio, uint64_t *ret_pgoff)
{
	unsigned from = first > base ? slot_of(first, level) : 0;

	for_each_bit(slot, summary(node, tag) & slot_mask(from, NODE_SLOTS - 1)) {
		uint64_t at = base + (slot << (level * NODE_SHIFT));
		if (!level) {
			*ret_folio = folio_in(node, (unsigned)slot);
			*ret_pgoff = at;
			return true;
		}
		if (search(child_of(node, (unsigned)slot), level - 1, at, tag, first, ret_folio,
			    ret_pgoff))
			return true;
	}
	return false;
}

static struct folio *next_by_summary(const struct page_index *index, int tag, uint64_t first,
	uint64_t last, uint64_t *ret_pgoff)
{
	struct folio *folio;
	uint64_t at;

	if (!index->root || !covers(index->height, first))
		return NULL;
	if (!search(index->root, index->height - 1, 0, tag, first, &folio, &at) || at > last)
		return NULL;
	*ret_pgoff = at;
	return folio;
}

struct folio *page_index_next(const struct page_index *index, uint64_t first, uint64_t last,
	uint64_t *ret_pgoff)
{
	return next_by_summary(index, -1, first, last, ret_pgoff);
}

struct folio *page_index_next_tagged(const struct page_index *index, enum page_index_tag tag,
	uint64_t first, uint64_t last, uint64_t *ret_pgoff)
{
	return next_by_summary(index, (int)tag, first, last, ret_pgoff);
}

void page_index_set_tag(struct page_index *index, uint64_t pgoff, uint64_t nr,
	enum page_index_tag tag)
{
	struct path path;

	for_each_chunk(c, pgoff, nr) {
		struct page_index_node *leaf = path_find(index, c.at, &path);
		if (!leaf)
			continue;
		leaf->tag[tag] |= leaf->used & c.mask;
		settle(index, &path);
	}
}

void page_index_clear_tag(struct page_index *index, uint64_t pgoff, uint64_t nr,
	enum page_index_tag tag)
{
	struct path path;

	for_each_chunk(c, pgoff, nr) {
		struct page_index_node *leaf = path_find(index, c.at, &path);
		if (!leaf)
			continue;
		leaf->tag[tag] &= ~c.mask;
		settle(index, &path);
	}
}

bool page_index_test_tag(const struct page_index *index, uint64_t pgoff, enum page_index_tag tag)
{
	struct path path;
	struct page_index_node *leaf = path_find(index, pgoff, &path);

	return leaf && leaf->tag[tag] >> slot_of(pgoff, 0) & 1;
}

static void free_below(struct page_index_node *node, unsigned level)
{
	if (level)
		for_each_bit(slot, node->used)
			free_below(child_of(node, (unsigned)slot), level - 1);
	meta_delete(node);
}

void page_index_release(struct page_index *index)
{
	if (index->root)
		free_below(index->root, index->height - 1);
	*index = (struct page_index){0};
}

static int check_node(const struct page_index_node *node, unsigned level)
{
	if (!node->used)
		return -EINVAL;
	for (unsigned slot = 0; slot < NODE_SLOTS; slot++) {
		bool used = node->used >> slot & 1;
		if (used != (node->slot[slot] != 0))
			return -EINVAL;
		struct page_index_node *child = used && level ? child_of(node, slot) : NULL;
		if (child && check_node(child, level - 1))
			return -EINVAL;
		for (unsigned t = 0; t < PAGE_INDEX_TAGS; t++) {
			bool tagged = node->tag[t] >> slot & 1;
			if ((tagged && !used) || (child && tagged != (child->tag[t] != 0)))
				return -EINVAL;
		}
	}
	return 0;
}

int page_index_check(const struct page_index *index)
{
	if (!index->root)
		return index->height ? -EINVAL : 0;
	if (index->height > 1 && index->root->used == 1)
		return -EINVAL;
	return check_node(index->root, index->height - 1);
}
