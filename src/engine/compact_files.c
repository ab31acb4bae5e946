// SPDX-License-Identifier: MIT
// The files of compaction: /proc/sys/vm/compact_memory and node/nodeN/compact, which act; the
// tunables beside them; and godwit/compaction, which says in words what the last run of each zone
// found, and why pages stayed.
//
// Values live in struct compaction. Errors are Linux's: -EINVAL for a number that is not allowed,
// -ENOENT for a node that is not there. No lock is held while a node is compacted.
#include "engine/engine.h"

#include "base/text_buf.h"

#include <errno.h>

enum { PROACTIVENESS, EXTFRAG_THRESHOLD, UNEVICTABLE_ALLOWED };

static _Atomic unsigned long *setting(struct gw_machine *m, unsigned slot)
{
	struct compaction *c = &m->compaction;

	return slot == PROACTIVENESS	     ? &c->proactiveness
	       : slot == EXTFRAG_THRESHOLD ? &c->extfrag_threshold
					     : &c->unevictable_allowed;
}

static int get_number(struct gw_machine *m, const struct tunable *t,
	const unsigned *index maybe_unused, struct text_buf *text)
{
	text_printf(text, "%lu\n", atomic_load(setting(m, t->slot)));
	return 0;
}

static int set_number(struct gw_machine *m, const struct tunable *t,
	const unsigned *index maybe_unused, const char *value)
{
	unsigned long n;
	int err = tunable_number(value, 0, t->least, t->most, &n);

	if (err)
		return err;
	if (t->slot == PROACTIVENESS)
		compaction_set_proactiveness(&m->compaction, n);
	else
		atomic_store(setting(m, t->slot), n);
	return 0;
}

// ---- Actions

static int compact_memory(struct gw_machine *m, const struct tunable *t,
	const unsigned *index maybe_unused, const char *value)
{
	unsigned long one;
	int err = tunable_number(value, 0, t->least, t->most, &one);

	if (!err)
		compact_nodes(&m->compaction, -1);
	return err;
}

static int compact_one_node(struct gw_machine *m, const struct tunable *t maybe_unused,
	const unsigned *index, const char *value maybe_unused)
{
	if (index[0] >= m->phys.nr_nodes)
		return -ENOENT;
	compact_nodes(&m->compaction, (int)index[0]);
	return 0;
}

// ---- Why there is no larger block

static unsigned long read_number(const _Atomic unsigned long *number)
{
	return atomic_load_explicit(number, memory_order_relaxed);
}

static void explain(const struct zone *zone, struct text_buf *text)
{
	const struct zone_compact *c = &zone->compact;

	text_printf(text, "Node %u, zone %8s: ", zone->node->nid,
		zone->type == ZONE_MOVABLE ? "Movable" : "Normal");
	if (!c->runs) {
		text_printf(text, "never compacted\n");
		return;
	}
	text_printf(text, "%u runs; the last: %s, %lu pages scanned, %lu moved", c->runs,
		compact_result_text((enum compact_result)c->result), read_number(&c->nr_scanned),
		read_number(&c->nr_moved));
	for (unsigned i = 0; i < COMPACT_STAY_NR; i++)
		if (read_number(&c->stays[i]))
			text_printf(text, "; %lu stayed, %s", read_number(&c->stays[i]),
				compact_stay_text(i));
	text_putc(text, '\n');
}

static int get_explanation(struct gw_machine *m, const struct tunable *t maybe_unused,
	const unsigned *index maybe_unused, struct text_buf *text)
{
	for (unsigned nid = 0; nid < m->phys.nr_nodes; nid++)
		for (unsigned i = 0; i < ZONES_PER_NODE; i++)
			if (zone_populated(&phys_node(&m->phys, nid)->zone[i]))
				explain(&phys_node(&m->phys, nid)->zone[i], text);
	return 0;
}

// ---- The table

#define NUMBER(path_, which, least_, most_)                                                        \
	{path_, get_number, set_number, .slot = which, .least = least_, .most = most_},

static const struct tunable rows[] = {
	// clang-format off
	NUMBER("proc/sys/vm/compaction_proactiveness", PROACTIVENESS, 0, 100)
	NUMBER("proc/sys/vm/extfrag_threshold", EXTFRAG_THRESHOLD, 0, 1000)
	NUMBER("proc/sys/vm/compact_unevictable_allowed", UNEVICTABLE_ALLOWED, 0, 1)
	{"proc/sys/vm/compact_memory", NULL, compact_memory, .least = 1, .most = 1},
	TUNABLE("sys/devices/system/node/node*/compact", NULL, compact_one_node),
	TUNABLE("godwit/compaction", get_explanation, NULL),
	// clang-format on
};

const struct tunable_table tunables_compact = {rows, ARRAY_SIZE(rows)};
