// SPDX-License-Identifier: MIT
// The files of pools of huge pages: proc/sys/vm/nr_hugepages and its like, a folder for each size
// in sys/kernel/mm/hugepages/, and the same for each node.
//
// Linux has one number under two names that differ a little: the sysctl says how many pages the
// pool shall have (persistent ones), the file in sysfs how many there are, surplus included.
// Writing either resizes the pool, as far as memory allows; a node's file resizes that node's
// part. nr_hugepages_mempolicy spreads pages over the nodes of the writing task's policy.
//
// godwit/hugepages says why a pool is smaller than it was asked to be; godwit/arenas what the host
// has behind the bytes of each node.
// Errors: -EINVAL for what is no number, -ENOENT for a size or node that does not exist.
#include "engine/engine.h"

#include "base/text_buf.h"
#include "machine/arena_hugetlb.h"
#include "phys/zone.h"
#include "virt/mempolicy.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define DIR "sys/kernel/mm/hugepages/hugepages-*kB/"
#define NODE_DIR "sys/devices/system/node/node*/hugepages/hugepages-*kB/"

enum value { NR, FREE, RESERVED, SURPLUS, OVERCOMMIT, MAX };

static struct hugetlb_pool *pool_of(struct gw_machine *m, unsigned kbytes)
{
	if (kbytes == PMD_SIZE >> 10)
		return &m->hugetlb.pool[HUGETLB_2M];
	return kbytes == PUD_SIZE >> 10 ? &m->hugetlb.pool[HUGETLB_1G] : NULL;
}

// ---- Reading: a row's slot is an enum value

static int print(struct text_buf *text, const _Atomic unsigned long *counter)
{
	text_printf(text, "%lu\n", hugetlb_read(counter));
	return 0;
}

static int print_value(const struct hugetlb_pool *pool, unsigned value, struct text_buf *text)
{
	const _Atomic unsigned long *const counter[] = {
		[NR] = &pool->nr,
		[FREE] = &pool->nr_free,
		[RESERVED] = &pool->reserved,
		[SURPLUS] = &pool->surplus,
		[OVERCOMMIT] = &pool->overcommit,
		[MAX] = &pool->max,
	};

	return print(text, counter[value]);
}

static int get_sysctl(struct gw_machine *m, const struct tunable *t,
	const unsigned *index maybe_unused, struct text_buf *text)
{
	return print_value(&m->hugetlb.pool[HUGETLB_2M], t->slot, text);
}

static int get_value(struct gw_machine *m, const struct tunable *t, const unsigned *index,
	struct text_buf *text)
{
	const struct hugetlb_pool *pool = pool_of(m, index[0]);

	return pool ? print_value(pool, t->slot, text) : -ENOENT;
}

static int get_of_node(struct gw_machine *m, const struct tunable *t, const unsigned *index,
	struct text_buf *text)
{
	const struct hugetlb_pool *pool = pool_of(m, index[1]);

	if (!pool || index[0] >= m->phys.nr_nodes)
		return -ENOENT;
	return print(text, t->slot == NR	? &pool->nr_node[index[0]]
			   : t->slot == FREE	? &pool->free_node[index[0]]
						: &pool->surplus_node[index[0]]);
}

// ---- Writing

// The nodes that the writer's policy names; all, if it names none.
static struct nodemask policy_nodes(struct gw_machine *m)
{
	struct task *task = task_current();
	struct mempolicy *policy =
		task && task->mm == &m->mm ? task_policy_get(task) : NULL;
	struct nodemask nodes = policy ? mempolicy_nodes(policy) : NODEMASK_NONE;

	if (policy && policy->mode == POLICY_LOCAL)
		nodes = nodemask_of((unsigned)task_nid(task));
	if (policy && policy->mode == POLICY_PREFERRED)
		nodes = nodemask_of((unsigned)nodemask_first(nodes));
	mempolicy_put(policy);
	nodes = nodemask_and(nodes, m->phys.has_memory);
	return nodemask_empty(nodes) ? m->phys.has_memory : nodes;
}

static int resize(struct gw_machine *m, struct hugetlb_pool *pool, const char *value,
	int base, struct nodemask nodes, bool of_node)
{
	unsigned long n;
	int err = tunable_number(value, base, 0, ~0ul, &n);

	if (!err)
		hugetlb_resize(&m->hugetlb, pool, n, nodes, of_node);
	return err;
}

// A row with `words` obeys the writer's policy.
static struct nodemask row_nodes(struct gw_machine *m, const struct tunable *t)
{
	return t->words ? policy_nodes(m) : m->phys.has_memory;
}

static int set_sysctl(struct gw_machine *m, const struct tunable *t,
	const unsigned *index maybe_unused, const char *value)
{
	return resize(m, &m->hugetlb.pool[HUGETLB_2M], value, 0, row_nodes(m, t), false);
}

static int set_size(struct gw_machine *m, const struct tunable *t, const unsigned *index,
	const char *value)
{
	struct hugetlb_pool *pool = pool_of(m, index[0]);

	return pool ? resize(m, pool, value, 10, row_nodes(m, t), false) : -ENOENT;
}

static int set_of_node(struct gw_machine *m, const struct tunable *t maybe_unused,
	const unsigned *index, const char *value)
{
	struct hugetlb_pool *pool = pool_of(m, index[1]);

	if (!pool || index[0] >= m->phys.nr_nodes)
		return -ENOENT;
	return resize(m, pool, value, 10, nodemask_of(index[0]), true);
}

static int overcommit(struct gw_machine *m, struct hugetlb_pool *pool, const char *value, int base)
{
	unsigned long n;
	int err = tunable_number(value, base, 0, ~0ul, &n);

	if (!err && pool->order > MAX_PAGE_ORDER)
		err = -EINVAL; // nobody makes such pages on demand
	if (!err)
		hugetlb_set_overcommit(&m->hugetlb, pool, n);
	return err;
}

static int set_overcommit_sysctl(struct gw_machine *m, const struct tunable *t maybe_unused,
	const unsigned *index maybe_unused, const char *value)
{
	return overcommit(m, &m->hugetlb.pool[HUGETLB_2M], value, 0);
}

static int set_overcommit(struct gw_machine *m, const struct tunable *t maybe_unused,
	const unsigned *index, const char *value)
{
	struct hugetlb_pool *pool = pool_of(m, index[0]);

	return pool ? overcommit(m, pool, value, 10) : -ENOENT;
}

// ---- Demotion: pages of 1 GiB become pages of 2 MiB; the pool of these has no such files

static int demote(struct gw_machine *m, unsigned kbytes, const char *value, struct nodemask nodes)
{
	struct hugetlb_pool *pool = pool_of(m, kbytes), *to = &m->hugetlb.pool[HUGETLB_2M];
	unsigned long n;

	if (!pool || pool == to)
		return -ENOENT;
	int err = tunable_number(value, 10, 0, ~0ul, &n);
	return err ? err : hugetlb_demote(&m->hugetlb, pool, to, n, nodes);
}

static int set_demote(struct gw_machine *m, const struct tunable *t maybe_unused,
	const unsigned *index, const char *value)
{
	return demote(m, index[0], value, m->phys.has_memory);
}

static int set_demote_of_node(struct gw_machine *m, const struct tunable *t maybe_unused,
	const unsigned *index, const char *value)
{
	if (index[0] >= m->phys.nr_nodes)
		return -ENOENT;
	return demote(m, index[1], value, nodemask_of(index[0]));
}

// A row's slot says which of the path's numbers is the size; before it there is a node.
static bool has_demote_size(struct gw_machine *m, const struct tunable *t, const unsigned *index)
{
	return pool_of(m, index[t->slot]) == &m->hugetlb.pool[HUGETLB_1G] &&
	       (!t->slot || index[0] < m->phys.nr_nodes);
}

static int get_demote_size(struct gw_machine *m, const struct tunable *t, const unsigned *index,
	struct text_buf *text)
{
	if (!has_demote_size(m, t, index))
		return -ENOENT;
	text_printf(text, "%lukB\n", PMD_SIZE >> 10);
	return 0;
}

// There is one size to choose.
static int set_demote_size(struct gw_machine *m, const struct tunable *t, const unsigned *index,
	const char *value)
{
	static const char suffixes[] = "KMGT";
	char *end;

	if (!has_demote_size(m, t, index))
		return -ENOENT;
	unsigned long long bytes = strtoull(value, &end, 0);
	const char *suffix = *end ? strchr(suffixes, toupper((unsigned char)*end)) : NULL;
	if (suffix)
		bytes <<= 10 * (suffix - suffixes + 1);
	return bytes == PMD_SIZE ? 0 : -EINVAL;
}

// ---- Why a pool is small

static void explain_node(const struct hugetlb_shortfall *s, unsigned nid, struct text_buf *text)
{
	const struct compact_verdict *v = &s->compaction[nid];

	text_printf(text, "; node %u had %lu kB free, in pieces of at most %lu kB", nid,
		s->free_pages[nid] << 2, s->largest_free[nid] << 2);
	if (!s->compacted[nid])
		return;
	text_printf(text, " (compaction: %s", compact_result_text(v->result));
	if (v->nr)
		text_printf(text, ", %lu pages %s stayed", v->nr, compact_stay_text(v->why));
	text_putc(text, ')');
}

static void explain(struct gw_machine *m, const struct hugetlb_pool *pool, struct text_buf *text)
{
	const struct hugetlb_shortfall *s = &pool->shortfall;

	text_printf(text, "%lukB: ", PAGE_SIZE << pool->order >> 10);
	if (s->got >= s->wanted) {
		text_printf(text, "%lu pages, as asked for\n", s->wanted);
		return;
	}
	text_printf(text, "%lu of the %lu pages asked for", s->got, s->wanted);
	for (unsigned nid = 0; nid < m->phys.nr_nodes; nid++)
		explain_node(s, nid, text);
	text_putc(text, '\n');
}

static int get_explanation(struct gw_machine *m, const struct tunable *t maybe_unused,
	const unsigned *index maybe_unused, struct text_buf *text)
{
	for (unsigned i = 0; i < HUGETLB_SIZES; i++)
		explain(m, &m->hugetlb.pool[i], text);
	return 0;
}

// ---- What is behind the nodes

static uint64_t pool_bytes(const struct gw_machine *m, unsigned nid)
{
	uint64_t bytes = 0;

	for (unsigned i = 0; i < HUGETLB_SIZES; i++)
		bytes += hugetlb_read(&m->hugetlb.pool[i].nr_node[nid]) *
			 hugetlb_bytes(&m->hugetlb.pool[i]);
	return bytes;
}

static int get_arenas(struct gw_machine *m, const struct tunable *t maybe_unused,
	const unsigned *index maybe_unused, struct text_buf *text)
{
	struct arena_stats stats;

	for (unsigned nid = 0; nid < m->phys.nr_nodes; nid++) {
		if (!m->arena[nid])
			continue;
		arena_stats(m->arena[nid], &stats);
		text_printf(text, "node %u: %llu kB, %llu kB of them backed by ", nid,
			(unsigned long long)stats.bytes >> 10,
			(unsigned long long)(stats.backed_bytes - stats.hugetlb_bytes) >> 10);
		arena_describe_backing(m->arena[nid], text);
		arena_hugetlb_describe(m->arena[nid], pool_bytes(m, nid), text);
		text_putc(text, '\n');
	}
	return 0;
}

// ---- The table

#define READ(name, slot_) {DIR name, get_value, NULL, .slot = slot_},
#define OF_NODE(name, slot_) {NODE_DIR name, get_of_node, NULL, .slot = slot_},

static const struct tunable rows[] = {
	// clang-format off
	{"proc/sys/vm/nr_hugepages", get_sysctl, set_sysctl, .slot = MAX},
	{"proc/sys/vm/nr_hugepages_mempolicy", get_sysctl, set_sysctl, .slot = MAX,
		.words = "policy"},
	{"proc/sys/vm/nr_overcommit_hugepages", get_sysctl, set_overcommit_sysctl,
		.slot = OVERCOMMIT},
	{DIR "nr_hugepages", get_value, set_size, .slot = NR},
	{DIR "nr_hugepages_mempolicy", get_value, set_size, .slot = NR, .words = "policy"},
	{DIR "nr_overcommit_hugepages", get_value, set_overcommit, .slot = OVERCOMMIT},
	READ("free_hugepages", FREE)
	READ("resv_hugepages", RESERVED)
	READ("surplus_hugepages", SURPLUS)
	{NODE_DIR "nr_hugepages", get_of_node, set_of_node, .slot = NR},
	OF_NODE("free_hugepages", FREE)
	OF_NODE("surplus_hugepages", SURPLUS)
	TUNABLE(DIR "demote", NULL, set_demote),
	{DIR "demote_size", get_demote_size, set_demote_size, .slot = 0},
	TUNABLE(NODE_DIR "demote", NULL, set_demote_of_node),
	{NODE_DIR "demote_size", get_demote_size, set_demote_size, .slot = 1},
	TUNABLE("godwit/hugepages", get_explanation, NULL),
	TUNABLE("godwit/arenas", get_arenas, NULL),
	// clang-format on
};

const struct tunable_table tunables_hugetlb = {rows, ARRAY_SIZE(rows)};
