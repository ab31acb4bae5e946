// SPDX-License-Identifier: MIT
// Tunables and actions of what this engine has: watermarks, the page cache, fault-around, weights
// of weighted interleave, and its own (under godwit/).
//
// Each file is read and written as in Linux 6.12, errors included. A value takes effect at once;
// what was decided by the old one stays. Locks: none here, but objects_lock to go through the files
// whose clean pages drop_caches drops, one reference at a time.
#include "base/text_buf.h"
#include "phys/alloc.h"
#include "text/files.h"
#include "virt/mempolicy.h"
#include "virt/object.h"

#include <errno.h>
#include <limits.h>

#define KB_MOST ((unsigned long)INT_MAX)

// ---- Watermarks

static int get_min_free(struct gw_machine *machine, const struct tunable *t maybe_unused,
	const unsigned *index maybe_unused, struct text_buf *text)
{
	text_printf(text, "%lu\n", machine->mm.phys->min_free_kbytes);
	return 0;
}

static int set_min_free(struct gw_machine *machine, const struct tunable *t maybe_unused,
	const unsigned *index maybe_unused, const char *value)
{
	unsigned long kbytes;
	int err = tunable_number(value, 0, 0, KB_MOST, &kbytes);

	return err ? err : phys_set_min_free_kbytes(machine->mm.phys, kbytes);
}

static int get_scale_factor(struct gw_machine *machine, const struct tunable *t maybe_unused,
	const unsigned *index maybe_unused, struct text_buf *text)
{
	text_printf(text, "%u\n", machine->mm.phys->watermark_scale_factor);
	return 0;
}

static int set_scale_factor(struct gw_machine *machine, const struct tunable *t maybe_unused,
	const unsigned *index maybe_unused, const char *value)
{
	unsigned long factor;
	int err = tunable_number(value, 0, 1, 3000, &factor);

	return err ? err : phys_set_watermark_scale_factor(machine->mm.phys, (unsigned)factor);
}

static int get_boost_factor(struct gw_machine *machine, const struct tunable *t maybe_unused,
	const unsigned *index maybe_unused, struct text_buf *text)
{
	text_printf(text, "%u\n", machine->mm.phys->watermark_boost_factor);
	return 0;
}

static int set_boost_factor(struct gw_machine *machine, const struct tunable *t maybe_unused,
	const unsigned *index maybe_unused, const char *value)
{
	unsigned long factor;
	int err = tunable_number(value, 0, 0, INT_MAX, &factor);

	if (!err)
		machine->mm.phys->watermark_boost_factor = (unsigned)factor;
	return err;
}

// ---- The page cache

// The object after `prev`, whose reference is given up, with a reference; NULL at the end.
static struct object *next_object(struct mm_core *mm, struct object *prev)
{
	struct object *object = NULL;
	struct list_head *at;

	mutex_lock(&mm->objects_lock);
	for (at = prev ? prev->node.next : mm->objects.next; at != &mm->objects; at = at->next) {
		object = container_of(at, struct object, node);
		if (object_tryget(object))
			break;
		object = NULL;
	}
	mutex_unlock(&mm->objects_lock);
	if (prev)
		object_put(prev);
	return object;
}

// 1: clean pages of files; 2: what the kernel has in slabs, which is nothing here; 4: do not log.
static int drop_caches(struct gw_machine *machine, const struct tunable *t maybe_unused,
	const unsigned *index maybe_unused, const char *value)
{
	struct object *object = NULL;
	unsigned long what;
	int err = tunable_number(value, 0, 1, 4, &what);

	if (err)
		return err;
	if (what & 1) {
		while ((object = next_object(&machine->mm, object)) != NULL)
			(void)object_truncate_unmapped(object, 0, object->size / PAGE_SIZE + 1);
		vm_event(machine->mm.stat, VM_DROP_PAGECACHE);
	}
	if (what & 2)
		vm_event(machine->mm.stat, VM_DROP_SLAB);
	return 0;
}

// ---- Counters need no refreshing here: a reader adds the shards up.

static int refresh_on_read(struct gw_machine *machine maybe_unused,
	const struct tunable *t maybe_unused, const unsigned *index maybe_unused,
	struct text_buf *text maybe_unused)
{
	return 0;
}

static int refresh_on_write(struct gw_machine *machine maybe_unused,
	const struct tunable *t maybe_unused, const unsigned *index maybe_unused,
	const char *value maybe_unused)
{
	return 0;
}

// ---- Faults and policies

static int get_fault_around(struct gw_machine *machine, const struct tunable *t maybe_unused,
	const unsigned *index maybe_unused, struct text_buf *text)
{
	text_printf(text, "%lu\n", machine->mm.tunables.fault_around_bytes);
	return 0;
}

// Rounded down to a power of two of at least a page; at most what one page table maps.
static int set_fault_around(struct gw_machine *machine, const struct tunable *t maybe_unused,
	const unsigned *index maybe_unused, const char *value)
{
	unsigned long bytes;
	int err = tunable_number(value, 0, 0, ~0ul, &bytes);

	if (err)
		return err;
	if (bytes / PAGE_SIZE > PTRS_PER_TABLE)
		return -EINVAL;
	bytes = max(bytes, PAGE_SIZE);
	machine->mm.tunables.fault_around_bytes = 1ul << (63 - __builtin_clzl(bytes));
	return 0;
}

static int get_weight(struct gw_machine *machine, const struct tunable *t maybe_unused,
	const unsigned *index, struct text_buf *text)
{
	if (!index_is_node(machine, index[0]))
		return -ENOENT;
	text_printf(text, "%u\n", mempolicy_weight(&machine->mm, (int)index[0]));
	return 0;
}

// Nothing, or 0: the default again.
static int set_weight(struct gw_machine *machine, const struct tunable *t maybe_unused,
	const unsigned *index, const char *value)
{
	unsigned long weight = 0;

	if (!index_is_node(machine, index[0]))
		return -ENOENT;
	if (*value && tunable_number(value, 0, 0, 255, &weight))
		return -EINVAL;
	return mempolicy_set_weight(&machine->mm, (int)index[0], (unsigned)weight);
}

// ---- Godwit's own

static int get_free_backed(struct gw_machine *machine, const struct tunable *t maybe_unused,
	const unsigned *index maybe_unused, struct text_buf *text)
{
	text_printf(text, "%lu\n", machine->mm.phys->free_backed_max);
	return 0;
}

static int set_free_backed(struct gw_machine *machine, const struct tunable *t maybe_unused,
	const unsigned *index maybe_unused, const char *value)
{
	unsigned long bytes;
	int err = tunable_number(value, 0, 0, ~0ul, &bytes);

	if (!err)
		machine->mm.phys->free_backed_max = bytes;
	return err;
}

static int get_pause_budget(struct gw_machine *machine, const struct tunable *t maybe_unused,
	const unsigned *index maybe_unused, struct text_buf *text)
{
	text_printf(text, "%u\n", machine->mm.tunables.pause_budget_us);
	return 0;
}

static int set_pause_budget(struct gw_machine *machine, const struct tunable *t maybe_unused,
	const unsigned *index maybe_unused, const char *value)
{
	unsigned long us;
	int err = tunable_number(value, 0, 0, UINT_MAX, &us);

	if (!err)
		machine->mm.tunables.pause_budget_us = (unsigned)us;
	return err;
}

static int get_near_limit(struct gw_machine *machine, const struct tunable *t maybe_unused,
	const unsigned *index maybe_unused, struct text_buf *text)
{
	text_printf(text, "%lu\n", (unsigned long)atomic_load(&machine->mm.faults_near_limit));
	return 0;
}

static int get_at_limit(struct gw_machine *machine, const struct tunable *t maybe_unused,
	const unsigned *index maybe_unused, struct text_buf *text)
{
	text_printf(text, "%lu\n", (unsigned long)atomic_load(&machine->mm.faults_at_limit));
	return 0;
}

static const struct tunable rows[] = {
	TUNABLE("proc/sys/vm/min_free_kbytes", get_min_free, set_min_free),
	TUNABLE("proc/sys/vm/watermark_scale_factor", get_scale_factor, set_scale_factor),
	TUNABLE("proc/sys/vm/watermark_boost_factor", get_boost_factor, set_boost_factor),
	TUNABLE("proc/sys/vm/drop_caches", NULL, drop_caches),
	TUNABLE("proc/sys/vm/stat_refresh", refresh_on_read, refresh_on_write),
	TUNABLE("sys/kernel/debug/fault_around_bytes", get_fault_around, set_fault_around),
	TUNABLE("sys/kernel/mm/mempolicy/weighted_interleave/node*", get_weight, set_weight),
	TUNABLE("godwit/free_backed_max", get_free_backed, set_free_backed),
	TUNABLE("godwit/faults_at_limit", get_at_limit, NULL),
	TUNABLE("godwit/faults_near_limit", get_near_limit, NULL),
	TUNABLE("godwit/pause_budget_us", get_pause_budget, set_pause_budget),
};

const struct tunable_table tunables_of_engine = {rows, ARRAY_SIZE(rows)};
