// SPDX-License-Identifier: MIT
// On which nodes the pages of a process lie, by their size: the cheapest source that is exact.
//
// numa_maps counts a mapping's memory by node, smaps how much of it is mapped by huge entries; the
// two say nothing about each other. Of a mapping of hugetlb, one without huge entries, one that is
// huge throughout, and one that lies on a single node, they say all there is: no call more. For
// the others the kernel is asked
//
//   1. from 6.7 on: which ranges are mapped by huge entries (host_ops.scan)
//   2. before, as root: which frames lie at each 2 MiB (pagemap), and whether a page of 2 MiB
//      begins there (kpageflags). A huge page that is mapped by small entries looks the same, so
//      that the answer counts only if there are as many as smaps says
//
// and then for the node of one address of each huge page (move_pages without nodes). What is left
// of numa_maps is small. Transparent pages between the two sizes are told by nothing but the frames
// themselves: root is told them, where the machine has any, for anonymous memory that 1. finds
// mapped by small entries. What is mapped by small entries but part of a page of 2 MiB is small.
//
// smaps of older kernels does not count a huge entry without access, numa_maps does: what only it
// counts is huge there, if it is whole multiples of 2 MiB. With 1. the huge ones are as many as are
// found. Else the process got pages between the two texts, and nobody knows of which size.
//
// Nothing here touches a page of the process. The files are a moment apart: of a process that goes
// on, sums may be off by what changed meanwhile. What can fail: memory; all else leaves has_nodes
// false.

#include "host/page_sizes.h"

#include "host/folio_orders.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BASE 4096ull
#define HUGE (2ull << 20)
#define PMD_ORDER 9u
#define RANGES 256u
#define ASKED_MAX 512u
#define WORDS 8192u // of pagemap, a read

#define THP "sys/kernel/mm/transparent_hugepage"

struct survey {
	struct host *host;
	pid_t pid;
	struct nodemask memory;
	bool has_orders, wants_orders, has_numa_maps;
	struct folio_orders orders;
	struct host_page_sizes told;
	uint64_t words[WORDS];
};

// The mapping that is looked at: transparent pages by order; order 0 are the small ones.
struct look {
	struct survey *survey;
	const struct host_mapping *mapping;
	struct host_page_size size[PMD_ORDER + 1];
	struct host_page_size unknown; // of a size that nobody knows
	uint64_t total[MAX_NODES]; // bytes of all sizes, by node
	bool has_total;
	uint64_t huge; // bytes of all huge entries, as the two texts tell it
	int only_node; // all memory lies there; -1: on several, or nobody knows
	int err;       // why something could not be told
	// Pages whose node is asked for, one address each.
	unsigned nr_asked;
	void *address[ASKED_MAX];
	uint8_t order[ASKED_MAX];
	uint32_t bytes[ASKED_MAX];
};

// ---- Asking for nodes ---------------------------------------------------------------------------

static int ask(struct look *l)
{
	struct host *host = l->survey->host;
	int status[ASKED_MAX];
	long err = 0;

	if (l->nr_asked)
		err = host->ops->move_pages(
			host, l->survey->pid, l->nr_asked, l->address, NULL, status, 0);
	for (unsigned i = 0; !err && i < l->nr_asked; i++)
		if (status[i] >= 0 && status[i] < MAX_NODES)
			l->size[l->order[i]].on_node[status[i]] += l->bytes[i];
	l->nr_asked = 0;
	return (int)err;
}

// A page of that order, of which so many bytes are mapped from the address on.
static int found(struct look *l, uint64_t address, unsigned order, uint64_t bytes)
{
	if (l->only_node >= 0) {
		l->size[order].on_node[l->only_node] += bytes;
		return 0;
	}
	l->address[l->nr_asked] = (void *)(uintptr_t)address;
	l->order[l->nr_asked] = (uint8_t)order;
	l->bytes[l->nr_asked++] = (uint32_t)bytes;
	return l->nr_asked == ASKED_MAX ? ask(l) : 0;
}

// ---- Huge pages ---------------------------------------------------------------------------------

static int scan(struct look *l, enum host_scan what,
	int (*see)(struct look *l, const struct host_range *range))
{
	struct host *host = l->survey->host;
	struct host_range ranges[RANGES];
	uint64_t at = l->mapping->start;

	while (at < l->mapping->end) {
		uint64_t before = at;
		long n = host->ops->scan(
			host, l->survey->pid, what, &at, l->mapping->end, ranges, RANGES);

		if (n < 0)
			return (int)n;
		for (long i = 0; i < n; i++) {
			int err = see(l, &ranges[i]);

			if (err)
				return err;
		}
		if (at <= before) // it must go on
			return -EIO;
	}
	return 0;
}

static int see_huge(struct look *l, const struct host_range *range)
{
	int err = 0;

	for (uint64_t at = range->start; !err && at < range->end; at += HUGE) {
		err = found(l, at, PMD_ORDER, HUGE);
		l->size[PMD_ORDER].resident += HUGE;
	}
	return err;
}

static long read_words(struct survey *s, uint64_t address, uint64_t end)
{
	uint64_t n = min((end - address) / BASE, (uint64_t)WORDS);
	char path[40];
	long got;

	snprintf(path, sizeof path, "proc/%d/pagemap", (int)s->pid);
	got = s->host->ops->read_at(s->host, path, address / BASE * sizeof *s->words, s->words,
		n * sizeof *s->words);
	if (got < 0)
		return got;
	return got < (long)sizeof *s->words ? -EIO : got / (long)sizeof *s->words;
}

// The frame; 0: no page there, or this process may not know.
static uint64_t frame_of(uint64_t word)
{
	return word >> 63 ? word & ((UINT64_C(1) << 55) - 1) : 0;
}

static bool is_huge_at(struct survey *s, const uint64_t *words)
{
	uint64_t first = frame_of(words[0]);

	return first && first % (HUGE / BASE) == 0 && frame_of(words[511]) == first + 511 &&
	       folio_order_of(&s->orders, first) == PMD_ORDER;
}

// Without scan(), by what lies there.
static int guess_huge(struct look *l)
{
	struct survey *s = l->survey;
	const struct host_mapping *m = l->mapping;
	uint64_t at = ALIGN_UP(m->start, HUGE), count = 0;
	int err = s->has_orders ? 0 : -EACCES;

	while (!err && at + HUGE <= m->end && count * HUGE <= l->huge) {
		long n = read_words(s, at, m->end);

		if (n < 0)
			return (int)n;
		for (long i = 0; !err && i + 512 <= n; i += 512) {
			if (!is_huge_at(s, s->words + i))
				continue;
			count++;
			l->size[PMD_ORDER].resident += HUGE;
			err = found(l, at + (uint64_t)i * BASE, PMD_ORDER, HUGE);
		}
		at += max(ALIGN_DOWN((uint64_t)n * BASE, HUGE), HUGE);
	}
	return err || count * HUGE == l->huge ? err : -ENODATA;
}

// False: the two texts do not tell the nodes of the huge pages.
static bool take_nodes_of_texts(struct look *l)
{
	struct host_page_size *huge = &l->size[PMD_ORDER];

	if (l->only_node >= 0)
		huge->on_node[l->only_node] = huge->resident;
	else if (l->has_total && huge->resident == l->mapping->resident)
		memcpy(huge->on_node, l->total, sizeof l->total);
	else
		return false;
	return true;
}

// Their number and nodes, exactly; otherwise what the two texts say stays.
static bool find_each_huge(struct look *l)
{
	struct host_page_size *huge = &l->size[PMD_ORDER];

	huge->resident = 0;
	l->err = scan(l, HOST_SCAN_HUGE_DATA, see_huge);
	if (l->err == -ENOTTY || l->err == -ENOSYS)
		l->err = guess_huge(l);
	if (!l->err)
		l->err = ask(l);
	l->nr_asked = 0;
	if (l->err)
		*huge = (struct host_page_size){.resident = l->huge};
	else
		l->unknown.resident = 0;
	return !l->err;
}

static void find_huge(struct look *l)
{
	struct host_page_size *huge = &l->size[PMD_ORDER];

	huge->resident = l->huge;
	if (!l->huge && !l->unknown.resident)
		return;
	if (l->mapping->uncounted < HUGE && take_nodes_of_texts(l))
		huge->has_nodes = true;
	else
		huge->has_nodes = find_each_huge(l) || take_nodes_of_texts(l);
}

// ---- Pages of 8 KiB to 1 MiB --------------------------------------------------------------------

static int see_small_words(struct look *l, uint64_t address, const uint64_t *words, uint64_t n)
{
	struct survey *s = l->survey;
	uint64_t length;
	int err = 0;

	for (uint64_t i = 0; !err && i < n; i += length) {
		uint64_t frame = frame_of(words[i]), head;
		int order = frame ? folio_order_of(&s->orders, frame) : 0;

		length = 1;
		if (order < 0)
			return order;
		if (words[i] >> 63 && !frame) // frames are hidden from this process
			return -EPERM;
		if (!order || (unsigned)order >= PMD_ORDER)
			continue;
		head = frame >> order;
		while (i + length < n && frame_of(words[i + length]) >> order == head)
			length++;
		l->size[order].resident += length * BASE;
		err = found(l, address + i * BASE, (unsigned)order, length * BASE);
	}
	return err;
}

static int see_small(struct look *l, const struct host_range *range)
{
	int err = 0;

	for (uint64_t at = range->start; !err && at < range->end;) {
		long n = read_words(l->survey, at, range->end);

		if (n < 0)
			return (int)n;
		err = see_small_words(l, at, l->survey->words, (uint64_t)n);
		at += (uint64_t)n * BASE;
	}
	return err;
}

// If it cannot be told, nothing of it is: the small pages keep all.
static void find_multi_size(struct look *l)
{
	struct survey *s = l->survey;
	int err;

	if (!s->wants_orders || l->mapping->anonymous <= l->mapping->huge)
		return;
	err = s->has_orders ? scan(l, HOST_SCAN_SMALL_ANON, see_small) : -EACCES;
	if (!err)
		err = ask(l);
	l->nr_asked = 0;
	for (unsigned order = 1; order < PMD_ORDER; order++) {
		l->size[order].has_nodes = !err;
		if (err)
			l->size[order] = (struct host_page_size){0};
	}
	if (err)
		s->told.multi_size = HOST_MULTI_SIZE_HIDDEN;
	else if (s->told.multi_size == HOST_MULTI_SIZE_NONE)
		s->told.multi_size = HOST_MULTI_SIZE_TOLD;
}

// ---- One mapping --------------------------------------------------------------------------------

static void find_unknown(struct look *l)
{
	struct host_page_size *unknown = &l->unknown;

	if (l->only_node >= 0)
		unknown->on_node[l->only_node] = unknown->resident;
	else if (l->has_total && unknown->resident == l->mapping->resident)
		memcpy(unknown->on_node, l->total, sizeof l->total);
	else
		return;
	unknown->has_nodes = true;
}

static void take_away(struct host_page_size *small, const struct host_page_size *other)
{
	small->resident -= min(small->resident, other->resident);
	small->has_nodes &= other->has_nodes || !other->resident;
	for (unsigned n = 0; n < MAX_NODES; n++)
		small->on_node[n] -= min(small->on_node[n], other->on_node[n]);
}

// Whatever is in no other page.
static void find_small(struct look *l)
{
	const struct host_mapping *m = l->mapping;
	struct host_page_size *small = &l->size[0];

	*small = (struct host_page_size){.resident = m->resident, .has_nodes = l->has_total};
	memcpy(small->on_node, l->total, sizeof l->total);
	for (unsigned order = 1; order <= PMD_ORDER; order++)
		take_away(small, &l->size[order]);
	take_away(small, &l->unknown);
}

static void begin(struct look *l, struct survey *s, const struct host_mapping *m)
{
	const bool one = nodemask_weight(s->memory) == 1;
	unsigned used = 0;

	memset(l, 0, offsetof(struct look, address));
	l->survey = s;
	l->mapping = m;
	l->has_total = m->has_nodes || one;
	l->only_node = -1;
	l->huge = m->huge;
	if (m->uncounted % HUGE == 0)
		l->huge += m->uncounted;
	else if (m->uncounted > HUGE)
		l->unknown.resident = m->uncounted;
	for (unsigned n = 0; n < MAX_NODES; n++) {
		if (m->has_nodes)
			l->total[n] = m->pages[n] * m->page_bytes;
		else if (one && nodemask_test(s->memory, n))
			l->total[n] = m->resident;
		if (l->total[n])
			l->only_node = used++ ? -1 : (int)n;
	}
}

// What could not be told, and why.
static void note(struct look *l, const struct host_page_size *size)
{
	struct survey *s = l->survey;
	bool ended = l->err == -ESRCH || l->err == -ENOENT || l->err == -EIO;

	if (!size->page_bytes)
		s->told.changed = true;
	else if (!size->has_nodes && (ended || (s->has_numa_maps && !l->has_total)))
		s->told.changed = true;
	else if (!size->has_nodes)
		s->told.nodes_hidden = true;
}

static int keep(struct look *l, struct host_mapping *m)
{
	m->sizes = calloc(PMD_ORDER + 2, sizeof *m->sizes);
	if (!m->sizes)
		return -ENOMEM;
	if (l->unknown.resident) {
		note(l, &l->unknown);
		m->sizes[m->nr_sizes++] = l->unknown;
	}
	for (unsigned order = 0; order <= PMD_ORDER; order++) {
		struct host_page_size *size = &l->size[order];

		if (!size->resident)
			continue;
		if (!size->page_bytes)
			size->page_bytes = BASE << order;
		note(l, size);
		m->sizes[m->nr_sizes++] = *size;
	}
	return 0;
}

static int survey_mapping(struct survey *s, struct look *l, struct host_mapping *m)
{
	begin(l, s, m);
	if (m->page_bytes > BASE) {
		l->size[0] = (struct host_page_size){.page_bytes = m->page_bytes,
			.hugetlb = true,
			.has_nodes = l->has_total,
			.resident = m->resident};
		memcpy(l->size[0].on_node, l->total, sizeof l->total);
	} else {
		find_huge(l);
		find_multi_size(l);
		find_unknown(l);
		find_small(l);
		m->huge = l->size[PMD_ORDER].resident;
	}
	return keep(l, m);
}

// ---- All ----------------------------------------------------------------------------------------

// Whether the machine has transparent pages of that size: a kernel that does not count them (before
// 6.12) may. A size without `enabled` is none for anonymous memory.
static void see_size(void *arg, const char *name)
{
	struct survey *s = arg;
	uint64_t count;
	unsigned kb;
	char path[128];

	if (sscanf(name, "hugepages-%ukB", &kb) != 1 || kb == HUGE >> 10)
		return;
	snprintf(path, sizeof path, THP "/%.40s/enabled", name);
	if (!host_has(s->host, path))
		return;
	snprintf(path, sizeof path, THP "/%.40s/stats/nr_anon", name);
	s->wants_orders |= host_read_number(s->host, path, &count) || count;
}

static int survey_all(struct survey *s, struct host_mappings *mappings)
{
	struct look *l = malloc(sizeof *l);
	int err = l ? 0 : -ENOMEM;

	for (size_t i = 0; i < mappings->count; i++)
		s->has_numa_maps |= mappings->v[i].has_nodes;
	for (size_t i = 0; !err && i < mappings->count; i++)
		if (mappings->v[i].resident)
			err = survey_mapping(s, l, &mappings->v[i]);
	free(l);
	return err;
}

int host_page_sizes_read(struct host *host, pid_t pid, struct nodemask memory,
	struct host_mappings *mappings, struct host_page_sizes *ret_sizes)
{
	struct survey *s = calloc(1, sizeof *s);
	int err;

	if (!s)
		return -ENOMEM;
	s->host = host;
	s->pid = pid;
	s->memory = memory;
	if (host_list(host, THP, see_size, s))
		s->wants_orders = false; // no transparent pages at all
	s->has_orders = !folio_orders_init(&s->orders, host);
	err = survey_all(s, mappings);
	if (!err)
		*ret_sizes = s->told;
	folio_orders_release(&s->orders);
	free(s);
	return err;
}
