// SPDX-License-Identifier: MIT
// The first lines of a story: machine, only, needs.
//
// `machine` lines come before every command; the number of nodes comes before everything that
// names a node. Each property may be given once, pools and areas as often as wanted. A story
// without a machine line gets one node. If a machine line is bad, the limits on nodes and cpus
// are lifted for the rest of the file, so that the lines below are not blamed for it.

#include "lab/parser.h"

#include <stdlib.h>
#include <string.h>

#define DEFAULT_MEMORY	(256ull << 20)
#define MACHINE_OPTIONS 7

enum { NODES, NODES_OR_MORE, MEMORY, CPUS, DISTANCE, HUGEPAGES, AREAS };

static void set_nodes(struct story_machine *m, unsigned nodes, bool or_more)
{
	m->nodes = nodes;
	m->more_nodes = or_more;
	m->cpus = nodes;
	for (unsigned n = 0; n < STORY_NODES_MAX; n++)
		m->memory[n] = n < nodes ? DEFAULT_MEMORY : 0;
	for (unsigned c = 0; c < STORY_CPUS_MAX; c++)
		m->cpu_node[c] = (uint8_t)(c % nodes);
}

static bool read_nodes_count(struct parser *p, const struct option_spec *o, bool or_more)
{
	if (!o->number || o->number > STORY_NODES_MAX)
		return bad_word(p, o->value, "1 to 64 nodes");
	set_nodes(&p->story->machine, (unsigned)o->number, or_more);
	return true;
}

static bool read_memory(struct parser *p, struct word list)
{
	struct story_machine *m = &p->story->machine;
	struct word item, all = list;
	unsigned given = 0;
	uint64_t size = 0, total = 0;
	bool more;
	do {
		more = cut_at(list, ',', &item, &list);
		if (given == m->nodes)
			return bad(p, item.column, "more sizes than nodes, expected %u", m->nodes);
		if (!read_size(p, item, &size))
			return false;
		if (size % STORY_PAGE_SIZE)
			return bad_word(p, item, "a multiple of 4K");
		m->memory[given++] = size;
		total += size;
	} while (more);
	if (given > 1 && given < m->nodes)
		return bad(p, all.column, "%u sizes, expected one for each of the %u nodes", given,
			m->nodes);
	if (!total)
		return bad_word(p, all, "memory on some node");
	for (unsigned n = given; n < m->nodes; n++)
		m->memory[n] = size;
	return true;
}

// "0-1" in "0-1@0,2-3@1": the cpus up to the next '@'
static bool mark_cpus(struct parser *p, struct word item, bool *cpus)
{
	uint64_t first, last;
	if (!read_span(p, item, &first, &last))
		return false;
	if (last < first || last >= STORY_CPUS_MAX)
		return bad_word(p, item, "cpus below 256, rising");
	for (uint64_t c = first; c <= last; c++)
		cpus[c] = true;
	return true;
}

static bool read_cpu_list(struct parser *p, struct word list)
{
	struct story_machine *m = &p->story->machine;
	bool placed[STORY_CPUS_MAX] = {0}, waiting[STORY_CPUS_MAX] = {0}, more, has_node;
	struct word item, cpus, node, all = list;
	unsigned n, count = 0;
	do {
		more = cut_at(list, ',', &item, &list);
		has_node = cut_at(item, '@', &cpus, &node);
		if (!mark_cpus(p, cpus, waiting))
			return false;
		if (!has_node)
			continue;
		if (!read_node(p, node, &n))
			return false;
		for (unsigned c = 0; c < STORY_CPUS_MAX; c++)
			if (waiting[c]) {
				waiting[c] = false;
				placed[c] = true;
				m->cpu_node[c] = (uint8_t)n;
				count = c >= count ? c + 1 : count;
			}
	} while (more);
	if (!has_node)
		return bad_word(p, item, "a node at the end, as in 0-1@0,2-3@1");
	for (unsigned c = 0; c < count; c++)
		if (!placed[c])
			return bad(p, all.column, "cpu %u has no node, expected cpus without gaps",
				c);
	m->cpus = count;
	return true;
}

static bool read_cpus(struct parser *p, struct word value)
{
	uint64_t count;
	if (memchr(value.s, '@', value.length))
		return read_cpu_list(p, value);
	if (!read_number(p, value, &count))
		return false;
	if (!count || count > STORY_CPUS_MAX)
		return bad_word(p, value, "1 to 256 cpus, or a list such as 0-1@0,2-3@1");
	p->story->machine.cpus = (unsigned)count;
	return true;
}

static bool read_distances(struct parser *p, struct word list)
{
	struct story_machine *m = &p->story->machine;
	struct word item, all = list;
	unsigned want = m->nodes * m->nodes, given = 0;
	uint8_t *distance = story_arena_alloc(p->arena, want);
	uint64_t n;
	bool more;
	if (!distance)
		return out_of_memory(p);
	do {
		more = cut_at(list, ',', &item, &list);
		if (!read_number(p, item, &n))
			return false;
		if (n < 10 || n > 254)
			return bad_word(p, item, "a distance from 10 to 254");
		if (given < want)
			distance[given] = (uint8_t)n;
		given++;
	} while (more);
	if (given != want)
		return bad(p, all.column, "%u distances, expected %u rows of %u", given, m->nodes,
			m->nodes);
	m->distance = distance;
	return true;
}

// "8@0" or "8x1G@0"
static bool read_pool(struct parser *p, struct word item)
{
	struct word what, node, count, size;
	struct story_pool pool = {.page_size = 2 << 20};
	if (!cut_at(item, '@', &what, &node))
		return bad_word(p, item, "pages and their node, as in 8@0 or 2x1G@1");
	bool has_size = cut_at(what, 'x', &count, &size);
	if (!read_number(p, count, &pool.pages) || !read_node(p, node, &pool.node))
		return false;
	if (has_size && !read_size(p, size, &pool.page_size))
		return false;
	if (pool.page_size != 2 << 20 && pool.page_size != 1 << 30)
		return bad_word(p, size, "pages of 2M or 1G");
	if (pool.pages > 1 << 20)
		return bad_word(p, count, "at most 1048576 pages");
	struct story_pool *kept = pile_push(p, &p->pools, sizeof(*kept));
	if (kept)
		*kept = pool;
	return kept;
}

static bool read_area(struct parser *p, struct word item)
{
	struct word size, node;
	struct story_cma area = {.line = p->line, .column = item.column};
	if (!cut_at(item, '@', &size, &node))
		return bad_word(p, item, "a size and its node, as in 64M@0");
	if (!read_size(p, size, &area.size) || !read_node(p, node, &area.node))
		return false;
	if (!area.size || area.size % STORY_PAGE_SIZE)
		return bad_word(p, size, "a multiple of 4K above 0");
	struct story_cma *kept = pile_push(p, &p->cma, sizeof(*kept));
	if (kept)
		*kept = area;
	p->story->machine.needs |= 1u << NEED_CMA;
	return kept;
}

static bool read_each(struct parser *p, struct word list,
	bool (*read)(struct parser *p, struct word item))
{
	struct word item;
	bool more;
	do {
		more = cut_at(list, ',', &item, &list);
		if (!read(p, item))
			return false;
	} while (more);
	return true;
}

static bool apply_machine(struct parser *p, const struct option_spec *o)
{
	const struct word first = *(struct word *)p->words.v;
	if (o[NODES].seen && !read_nodes_count(p, &o[NODES], false))
		return false;
	if (o[NODES_OR_MORE].seen && !read_nodes_count(p, &o[NODES_OR_MORE], true))
		return false;
	if (!p->story->machine.nodes)
		return bad(p, first.column, "a machine without nodes, expected nodes=N or "
					    "nodes>=N on the first machine line");
	return (!o[MEMORY].seen || read_memory(p, o[MEMORY].value)) &&
		(!o[CPUS].seen || read_cpus(p, o[CPUS].value)) &&
		(!o[DISTANCE].seen || read_distances(p, o[DISTANCE].value)) &&
		(!o[HUGEPAGES].seen || read_each(p, o[HUGEPAGES].value, read_pool)) &&
		(!o[AREAS].seen || read_each(p, o[AREAS].value, read_area));
}

static bool parse_machine_words(struct parser *p)
{
	struct option_spec o[MACHINE_OPTIONS] = {
		[NODES] = {"nodes", OPTION_NUMBER, p->seen[NODES], {0}, 0},
		[NODES_OR_MORE] = {"nodes>", OPTION_NUMBER, p->seen[NODES], {0}, 0},
		[MEMORY] = {"memory", OPTION_TEXT, p->seen[MEMORY], {0}, 0},
		[CPUS] = {"cpus", OPTION_TEXT, p->seen[CPUS], {0}, 0},
		[DISTANCE] = {"distance", OPTION_TEXT, p->seen[DISTANCE], {0}, 0},
		[HUGEPAGES] = {"hugepages", OPTION_TEXT, false, {0}, 0},
		[AREAS] = {"cma", OPTION_TEXT, false, {0}, 0},
	};
	const struct word first = *(struct word *)p->words.v;
	if (p->machine_over)
		return bad(p, first.column,
			"a machine line after a command, expected it among the first lines");
	if (!more_words(p))
		return bad(p, p->end_column, "the line ends here, expected nodes=, memory=, cpus=, "
					     "distance=, hugepages= or cma=");
	if (!read_options(p, o, MACHINE_OPTIONS, NULL))
		return false;
	for (unsigned i = 0; i < MACHINE_OPTIONS; i++) {
		bool before = p->seen[i == NODES_OR_MORE ? NODES : i];
		o[i].seen = o[i].seen && !(i < HUGEPAGES && before);
	}
	bool good = apply_machine(p, o);
	for (unsigned i = 0; i < MACHINE_OPTIONS; i++)
		p->seen[i == NODES_OR_MORE ? NODES : i] |= o[i].seen;
	return good;
}

bool parse_machine(struct parser *p)
{
	struct story_machine *m = &p->story->machine;
	if (parse_machine_words(p))
		return true;
	set_nodes(m, STORY_NODES_MAX, false);
	m->cpus = STORY_CPUS_MAX;
	return false;
}

bool parse_only(struct parser *p)
{
	struct story_machine *m = &p->story->machine;
	struct word w;
	if (!take_word(p, "engine or host", &w))
		return false;
	if (!word_is(w, "engine") && !word_is(w, "host"))
		return bad_word(p, w, "engine or host");
	*(word_is(w, "engine") ? &m->only_engine : &m->only_host) = true;
	if (m->only_engine && m->only_host)
		return bad_word(p, w, "the machine that an earlier line named");
	return true;
}

static bool read_kernel(struct parser *p, struct word version)
{
	struct word major, minor;
	uint64_t a, b;
	if (!cut_at(version, '.', &major, &minor))
		return bad_word(p, version, "a version such as 6.12");
	if (!read_number(p, major, &a) || !read_number(p, minor, &b))
		return false;
	if (a > 999 || b > 999)
		return bad_word(p, version, "a version such as 6.12");
	p->story->machine.kernel_major = (unsigned)a;
	p->story->machine.kernel_minor = (unsigned)b;
	return true;
}

static bool read_need(struct parser *p, struct word w)
{
	static const char *const words[NEED_COUNT] = {
#define X(kind, word) [NEED_##kind] = word,
		STORY_NEEDS(X)
#undef X
	};
	uint64_t nodes;
	for (unsigned i = 0; i < NEED_COUNT; i++)
		if (word_is(w, words[i])) {
			p->story->machine.needs |= 1u << i;
			return true;
		}
	if (word_begins(w, "kernel>="))
		return read_kernel(p, word_from(w, strlen("kernel>=")));
	if (!word_begins(w, "nodes="))
		return bad_word(p, w, "cma, thp, hugetlb, ksm, numa_balancing, soft_offline, root, "
				      "nodes=N or kernel>=N.N");
	if (!read_number(p, word_from(w, strlen("nodes=")), &nodes))
		return false;
	if (!nodes || nodes > STORY_NODES_MAX)
		return bad_word(p, w, "1 to 64 nodes");
	p->story->machine.needs_nodes = (unsigned)nodes;
	return true;
}

bool parse_needs(struct parser *p)
{
	struct word w;
	do {
		if (!take_word(p, "what the story needs", &w) || !read_need(p, w))
			return false;
	} while (more_words(p));
	return true;
}

bool finish_machine(struct parser *p)
{
	struct story_machine *m = &p->story->machine;
	if (!m->nodes)
		set_nodes(m, 1, true);
	m->pools = pile_keep(p, &p->pools, sizeof(struct story_pool));
	m->pool_count = p->pools.count;
	m->cma = pile_keep(p, &p->cma, sizeof(struct story_cma));
	m->cma_count = p->cma.count;
	return m->pools && m->cma;
}
