// SPDX-License-Identifier: MIT
// The counters of /proc/vmstat of one machine, from one table (base/vmstat_items.h). ZONE, NUMA and
// NODE items have one value a node, SYSTEM and EVENT items one a machine. Updates are relaxed
// additions to one of several shards, so a sum is exact only when nobody counts meanwhile.
#ifndef GODWIT_BASE_VMSTAT_H
#define GODWIT_BASE_VMSTAT_H

#include "base/compiler.h"
#include "base/vmstat_items.h"

#include <stdbool.h>

enum vmstat_item {
#define X(kind, NAME, name) VM_##NAME,
	GODWIT_VMSTAT_ITEMS(X)
#undef X
	VMSTAT_ITEMS
};

enum vmstat_kind { VMSTAT_ZONE, VMSTAT_NUMA, VMSTAT_NODE, VMSTAT_SYSTEM, VMSTAT_EVENT };

// Items of the kinds that have one value a node come first in the table.
#define VMSTAT_NODE_ITEMS ((unsigned)VM_NR_DIRTY_THRESHOLD)
#define VMSTAT_MACHINE_ITEMS (VMSTAT_ITEMS - VMSTAT_NODE_ITEMS)
#define VMSTAT_SHARDS 8

struct vmstat {
	unsigned nr_nodes;
	size_t shard_longs;
	long *shards; // [VMSTAT_SHARDS][shard_longs]
};

// All zero; -ENOMEM.
must_check int vmstat_init(struct vmstat *vs, unsigned nr_nodes);
void vmstat_destroy(struct vmstat *vs);

// ZONE, NUMA and NODE items; not the LRU lines of zones (nr_zone_inactive_anon...), which are read
// from those of nodes.
void vmstat_add(struct vmstat *vs, unsigned node, enum vmstat_item item, long delta);
// EVENT and SYSTEM items.
void vm_events(struct vmstat *vs, enum vmstat_item item, long n);
static inline void vm_event(struct vmstat *vs, enum vmstat_item item)
{
	vm_events(vs, item, 1);
}

// Between begin and end this thread's additions are kept in the batch, and each counter that
// changed is added to once, at the end: for stretches that count the same few things for many
// pages. Short, and nothing in between may depend on these counters. One a thread; a second one
// inside of it does nothing. It lives on the caller's stack.
#define VMSTAT_BATCH_COUNTERS 16

struct vmstat_batch {
	struct vmstat *vs; // NULL: another one is open
	unsigned nr;
	struct {
		size_t slot;
		long delta;
	} counter[VMSTAT_BATCH_COUNTERS];
};
void vmstat_batch_begin(struct vmstat_batch *batch, struct vmstat *vs);
void vmstat_batch_end(struct vmstat_batch *batch);

// A gauge that shards show as negative for a moment reads as 0, as in the kernel.
unsigned long vmstat_node(const struct vmstat *vs, unsigned node, enum vmstat_item item);
unsigned long vmstat_read(const struct vmstat *vs, enum vmstat_item item); // the machine
// For checks of the books: not clamped.
long vmstat_node_signed(const struct vmstat *vs, unsigned node, enum vmstat_item item);

const char *vmstat_name(enum vmstat_item item);
enum vmstat_kind vmstat_kind(enum vmstat_item item);
static inline bool vmstat_is_per_node(enum vmstat_item item)
{
	return item < VMSTAT_NODE_ITEMS;
}
// -ENOENT if there is no such line.
must_check int vmstat_find(const char *name, enum vmstat_item *ret_item);

#endif
