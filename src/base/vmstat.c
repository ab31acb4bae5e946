// SPDX-License-Identifier: MIT
// The counters of one machine.
//
// The counters are copied once a shard. A thread gets a shard when it first counts, in turn, and
// keeps it, so that threads rarely share a cache line; an update is one relaxed addition. Reading
// adds the shards up, while they may change. A shard may well be negative: a page is counted in by
// one thread and out by another; and for the same reason a sum may be for a moment, which readers
// see as 0.
//
// Moving a page counts a dozen times, of which most undo each other or repeat for its neighbours: a
// batch adds them up in the thread first.
//
// A shard is nr_nodes rows of the per-node items, followed by one row of the others. The space
// comes from meta_alloc(), the only thing that can fail. No locks; signal handlers may count.
#include "base/vmstat.h"

#include "base/assert.h"
#include "base/meta.h"

#include <errno.h>
#include <string.h>

#define X(kind, NAME, name) [VM_##NAME] = {#name, VMSTAT_##kind},
static const struct {
	const char *name;
	enum vmstat_kind kind;
} items[VMSTAT_ITEMS] = {GODWIT_VMSTAT_ITEMS(X)};
#undef X

int vmstat_init(struct vmstat *vs, unsigned nr_nodes)
{
	// Whole cache lines, so that shards do not share one.
	size_t longs = ALIGN_UP(nr_nodes * (size_t)VMSTAT_NODE_ITEMS + VMSTAT_MACHINE_ITEMS, 8);
	long *shards = meta_alloc(VMSTAT_SHARDS * longs * sizeof(long));

	if (!shards)
		return -ENOMEM;
	vs->nr_nodes = nr_nodes;
	vs->shard_longs = longs;
	vs->shards = shards;
	return 0;
}

void vmstat_destroy(struct vmstat *vs)
{
	meta_free(vs->shards, VMSTAT_SHARDS * vs->shard_longs * sizeof(long));
	vs->shards = NULL;
}

static unsigned my_shard(void)
{
	static unsigned next;
	static __thread unsigned mine __attribute__((tls_model("initial-exec")));

	if (unlikely(mine == 0))
		mine = 1 + __atomic_fetch_add(&next, 1, __ATOMIC_RELAXED) % VMSTAT_SHARDS;
	return mine - 1;
}

static size_t node_slot(const struct vmstat *vs, unsigned node, enum vmstat_item item)
{
	assert_that(item < VMSTAT_NODE_ITEMS, "%s has no value a node", vmstat_name(item));
	assert_that(node < vs->nr_nodes, "node %u of %u", node, vs->nr_nodes);
	return node * (size_t)VMSTAT_NODE_ITEMS + item;
}

static size_t machine_slot(const struct vmstat *vs, enum vmstat_item item)
{
	assert_that(item >= VMSTAT_NODE_ITEMS && item < VMSTAT_ITEMS, "%s has a value a node",
		vmstat_name(item));
	return vs->nr_nodes * (size_t)VMSTAT_NODE_ITEMS + (item - VMSTAT_NODE_ITEMS);
}

static __thread struct vmstat_batch *open_batch __attribute__((tls_model("initial-exec")));

static void add_now(struct vmstat *vs, size_t slot, long delta)
{
	__atomic_fetch_add(&vs->shards[my_shard() * vs->shard_longs + slot], delta,
		__ATOMIC_RELAXED);
}

static bool keep(struct vmstat_batch *batch, size_t slot, long delta)
{
	unsigned i = 0;

	while (i < batch->nr && batch->counter[i].slot != slot)
		i++;
	if (i == VMSTAT_BATCH_COUNTERS)
		return false;
	if (i == batch->nr) {
		batch->counter[batch->nr++].slot = slot;
		batch->counter[i].delta = 0;
	}
	batch->counter[i].delta += delta;
	return true;
}

static void add(struct vmstat *vs, size_t slot, long delta)
{
	if (open_batch && open_batch->vs == vs && keep(open_batch, slot, delta))
		return;
	add_now(vs, slot, delta);
}

void vmstat_batch_begin(struct vmstat_batch *batch, struct vmstat *vs)
{
	batch->vs = open_batch ? NULL : vs;
	batch->nr = 0;
	if (batch->vs)
		open_batch = batch;
}

void vmstat_batch_end(struct vmstat_batch *batch)
{
	if (!batch->vs)
		return;
	assert_that(open_batch == batch, "batch %p ends while %p is open", (void *)batch,
		(void *)open_batch);
	open_batch = NULL;
	for (unsigned i = 0; i < batch->nr; i++)
		if (batch->counter[i].delta)
			add_now(batch->vs, batch->counter[i].slot, batch->counter[i].delta);
}

static long sum(const struct vmstat *vs, size_t slot)
{
	long total = 0;

	for (unsigned i = 0; i < VMSTAT_SHARDS; i++)
		total += __atomic_load_n(&vs->shards[i * vs->shard_longs + slot], __ATOMIC_RELAXED);
	return total;
}

void vmstat_add(struct vmstat *vs, unsigned node, enum vmstat_item item, long delta)
{
	add(vs, node_slot(vs, node, item), delta);
}

void vm_events(struct vmstat *vs, enum vmstat_item item, long n)
{
	add(vs, machine_slot(vs, item), n);
}

// Values are one a node, so the zones' LRU lines say what the nodes' do; only these are counted.
static enum vmstat_item counted_as(enum vmstat_item item)
{
	if (item >= VM_NR_ZONE_INACTIVE_ANON && item <= VM_NR_ZONE_UNEVICTABLE)
		return VM_NR_INACTIVE_ANON + (item - VM_NR_ZONE_INACTIVE_ANON);
	return item;
}

long vmstat_node_signed(const struct vmstat *vs, unsigned node, enum vmstat_item item)
{
	item = counted_as(item);
	return sum(vs, node_slot(vs, node, item));
}

unsigned long vmstat_node(const struct vmstat *vs, unsigned node, enum vmstat_item item)
{
	return (unsigned long)max(vmstat_node_signed(vs, node, item), 0L);
}

unsigned long vmstat_read(const struct vmstat *vs, enum vmstat_item item)
{
	long total = 0;

	if (!vmstat_is_per_node(item))
		return (unsigned long)max(sum(vs, machine_slot(vs, item)), 0L);
	for (unsigned node = 0; node < vs->nr_nodes; node++)
		total += vmstat_node_signed(vs, node, item);
	return (unsigned long)max(total, 0L);
}

const char *vmstat_name(enum vmstat_item item)
{
	return item < VMSTAT_ITEMS ? items[item].name : "?";
}

enum vmstat_kind vmstat_kind(enum vmstat_item item)
{
	return items[item].kind;
}

int vmstat_find(const char *name, enum vmstat_item *ret_item)
{
	for (int i = 0; i < VMSTAT_ITEMS; i++) {
		if (strcmp(items[i].name, name) == 0) {
			*ret_item = (enum vmstat_item)i;
			return 0;
		}
	}
	return -ENOENT;
}
