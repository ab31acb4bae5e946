// SPDX-License-Identifier: MIT
// Shared policy: the memory policy of shared memory belongs to the object, by ranges of page
// offsets, so that all who map it allocate alike.
//
//	before     [ bind:0           ][ interleave:0-1 ]
//	change            [ prefer:1     ]
//	after      [ bind:0 ][ prefer:1  ][ interleave  ]
//
// A change of a range cuts what overlaps it at both ends and takes out what lies inside. That needs
// at most two new ranges: the range itself, and the tail of one that is cut in two; both are
// allocated by object_policy_prepare(), so that object_policy_commit() cannot fail and mbind can
// change many objects or none.
//
// Held: i_pages, inside. Fails: preparing (-ENOMEM).
#include "base/meta.h"
#include "virt/mempolicy.h"
#include "virt/object.h"

#include <errno.h>

struct policy_range {
	struct interval_node node;
	struct mempolicy *policy; // a reference
};

struct object_policy_change {
	struct object *object;
	uint64_t first, last;
	struct policy_range *range; // NULL: the policy goes away
	struct policy_range *tail;  // spare
};

static struct policy_range *range_of(struct interval_node *node)
{
	return container_of(node, struct policy_range, node);
}

int object_policy_prepare(struct object *object, uint64_t first, uint64_t nr,
	struct mempolicy *policy, struct object_policy_change **ret_change)
{
	struct object_policy_change *change = meta_new(struct object_policy_change);

	if (!change)
		return -ENOMEM;
	*change = (struct object_policy_change){object, first, first + nr - 1, NULL, NULL};
	change->tail = meta_new(struct policy_range);
	if (policy)
		change->range = meta_new(struct policy_range);
	if (!change->tail || (policy && !change->range)) {
		meta_delete(change->tail);
		meta_delete(change->range);
		meta_delete(change);
		return -ENOMEM;
	}
	if (policy) {
		mempolicy_get(policy);
		change->range->policy = policy;
		change->range->node.start = change->first;
		change->range->node.last = change->last;
	}
	object_get(object);
	*ret_change = change;
	return 0;
}

static void range_free(struct policy_range *range)
{
	if (range)
		mempolicy_put(range->policy);
	meta_delete(range);
}

void object_policy_cancel(struct object_policy_change *change)
{
	range_free(change->range);
	range_free(change->tail);
	object_put(change->object);
	meta_delete(change);
}

// `old` overlaps the change: what sticks out on either side stays.
static void cut(struct object_policy_change *change, struct policy_range *old)
{
	struct interval_tree *tree = &change->object->policies;
	uint64_t start = old->node.start, last = old->node.last;

	if (start < change->first && last > change->last) {
		struct policy_range *tail = change->tail;
		change->tail = NULL;
		mempolicy_get(old->policy);
		tail->policy = old->policy;
		tail->node.start = change->last + 1;
		tail->node.last = last;
		interval_tree_resize(tree, &old->node, start, change->first - 1);
		interval_tree_insert(tree, &tail->node);
	} else if (start < change->first) {
		interval_tree_resize(tree, &old->node, start, change->first - 1);
	} else if (last > change->last) {
		interval_tree_resize(tree, &old->node, change->last + 1, last);
	} else {
		interval_tree_remove(tree, &old->node);
		range_free(old);
	}
}

void object_policy_commit(struct object_policy_change *change)
{
	struct object *object = change->object;
	struct interval_node *node;

	mutex_lock(&object->i_pages_lock);
	while ((node = interval_tree_overlap_first(&object->policies, change->first, change->last)))
		cut(change, range_of(node));
	if (change->range) {
		interval_tree_insert(&object->policies, &change->range->node);
		change->range = NULL;
	}
	mutex_unlock(&object->i_pages_lock);
	object_policy_cancel(change);
}

struct mempolicy *object_policy_get(struct object *object, uint64_t pgoff)
{
	mutex_lock(&object->i_pages_lock);
	struct interval_node *node = interval_tree_overlap_first(&object->policies, pgoff, pgoff);
	struct mempolicy *policy = node ? range_of(node)->policy : NULL;
	mempolicy_get(policy);
	mutex_unlock(&object->i_pages_lock);
	return policy;
}

void object_policy_release(struct object *object)
{
	struct interval_node *node;

	while ((node = interval_tree_first(&object->policies))) {
		interval_tree_remove(&object->policies, node);
		range_free(range_of(node));
	}
}
