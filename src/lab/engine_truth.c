// SPDX-License-Identifier: MIT
// Physical truth: with --bind-nodes the bytes of the engine's nodes lie on nodes of this host, and
// the running kernel is asked whether every page is where the engine says.
//
//   engine_bind_needs()   the i-th node of the story that has memory stands for the i-th of the
//                         host, if there are as many, with enough free memory
//   engine_verify()       after a command: the engine's page tables against the kernel's
//
// Looking at one page gives two answers, the engine's node and what move_pages(2) says of the
// pointer behind the address:
//
//   engine           kernel            what it means
//   node             its host node     agree
//   node             another           differ
//   node             no page           the host will translate when somebody touches it: counted
//   no page          a node            differ: the host reaches bytes that the task does not have
//   zero page        anything          counted; its bytes are on any node
//   no page          no page           nothing to say
//
// Then each line of the process's numa_maps that belongs to pages looked at must have as many pages
// on each node as move_pages(2) told of (not while a load of the story runs: the two would be
// questions about two moments). A difference is looked at again, as the blocker may still be on its
// way out of a fault; one that stays is the answer.
//
// Locks: a space's mmap_lock for reading while its vmas are listed; none while the kernel is asked.
// What can fail: memory, and the questions themselves.
#include "lab/engine_machine.h"

#include "engine/engine.h"
#include "host/host.h"
#include "host/nodes.h"
#include "text/text.h"
#include "virt/space.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define LOOKS_MAX 20 // at a difference
#define LOOK_AGAIN_NS 2000000

// ---- Nodes --------------------------------------------------------------------------------------

static int bind_node(struct lab_machine *machine, const struct host_nodes *nodes, unsigned node,
	uint64_t bytes, int host_node)
{
	uint64_t free_bytes = nodes->node[host_node].free_bytes;

	if (free_bytes < bytes)
		return lab_machine_fail(machine, LAB_SKIP,
			"--bind-nodes: node %d of this host has %" PRIu64
			" MiB free, the story's node %u has %" PRIu64,
			host_node, free_bytes >> 20, node, bytes >> 20);
	return 0;
}

static int bind_all(struct engine_machine *m, const struct story_machine *want,
	const struct host_nodes *nodes)
{
	int host_node = -1, err = 0;
	unsigned wanted = 0;

	for (unsigned n = 0; n < want->nodes; n++)
		wanted += want->memory[n] != 0;
	if (nodemask_weight(nodes->memory) < wanted)
		return lab_machine_fail(&m->base, LAB_SKIP,
			"--bind-nodes: the story has %u nodes with memory, this host %u", wanted,
			nodemask_weight(nodes->memory));
	for (unsigned n = 0; !err && n < want->nodes; n++) {
		m->host_node[n] = -1;
		if (!want->memory[n])
			continue;
		host_node = host_node < 0 ? nodemask_first(nodes->memory)
					  : nodemask_next(nodes->memory, host_node);
		m->host_node[n] = host_node;
		err = bind_node(&m->base, nodes, n, want->memory[n], host_node);
	}
	return err;
}

int engine_bind_needs(struct engine_machine *m, const struct story_machine *want)
{
	struct host_nodes *nodes = calloc(1, sizeof *nodes);
	struct host host;
	int err = nodes ? host_init(&host, NULL) : -ENOMEM;

	if (!err)
		err = host_nodes_read(&host, nodes);
	if (err)
		err = lab_machine_fail(&m->base, err, "--bind-nodes: cannot read the nodes: %s",
			strerror(-err));
	else
		err = bind_all(m, want, nodes);
	free(nodes);
	return err;
}

// ---- What is looked at --------------------------------------------------------------------------

struct extent { // the pages of one vma
	const struct story_task *task;
	uint64_t address;
	uintptr_t host;
	size_t pages;
	int32_t *engine; // nodes of the engine
	int *kernel;	 // nodes of the host, or -errno
};

struct look {
	struct engine_machine *m;
	struct extent *extent;
	size_t count, capacity;
	struct lab_truth truth;
	bool differs;
};

static int add_extent(struct look *look, const struct extent *extent)
{
	if (look->count == look->capacity) {
		size_t capacity = look->capacity ? look->capacity * 2 : 16;
		struct extent *v = reallocarray(look->extent, capacity, sizeof *v);

		if (!v)
			return -ENOMEM;
		look->extent = v;
		look->capacity = capacity;
	}
	look->extent[look->count++] = *extent;
	return 0;
}

static int list_vmas(struct look *look, struct space *space, const struct story_task *task)
{
	int err = 0;

	read_lock(&space->mmap_lock);
	for (struct vma *vma = vma_find(space, 0); vma && !err; vma = vma_next(vma)) {
		const struct extent extent = {.task = task,
			.address = vma->start,
			.host = vma->host,
			.pages = (vma->end - vma->start) >> PAGE_SHIFT};

		err = add_extent(look, &extent);
	}
	read_unlock(&space->mmap_lock);
	return err;
}

static int by_host(const void *a, const void *b)
{
	const struct extent *x = a, *y = b;

	return (x->host > y->host) - (x->host < y->host);
}

// The kernel's answers about the extent, through the pointers of the task.
static int ask_kernel(struct host *host, struct extent *e)
{
	void **pointers = malloc(e->pages * sizeof *pointers);
	long err;

	e->kernel = malloc(e->pages * sizeof *e->kernel);
	if (!pointers || !e->kernel) {
		free(pointers);
		return -ENOMEM;
	}
	for (size_t i = 0; i < e->pages; i++)
		pointers[i] = (void *)(e->host + i * PAGE_SIZE);
	err = host->ops->move_pages(host, 0, e->pages, pointers, NULL, e->kernel, 0);
	free(pointers);
	return err < 0 ? (int)err : 0;
}

static int ask_engine(struct look *look, struct extent *e)
{
	e->engine = malloc(e->pages * sizeof *e->engine);
	if (!e->engine)
		return -ENOMEM;
	range_nodes(task_of(engine_task(look->m, e->task)), e->address, e->pages, e->engine);
	return 0;
}

static int ask_all(struct look *look, struct host *host)
{
	struct engine_machine *m = look->m;
	int err = 0;

	for (size_t i = 0; !err && i < m->story->task_count; i++) {
		struct space *space = m->tasks[i] ? task_space_get(task_of(m->tasks[i])) : NULL;

		if (!space)
			continue;
		err = list_vmas(look, space, m->story->tasks[i]);
		space_put(space);
	}
	if (look->count)
		qsort(look->extent, look->count, sizeof *look->extent, by_host);
	for (size_t i = 0; !err && i < look->count; i++) {
		err = ask_engine(look, &look->extent[i]);
		if (!err)
			err = ask_kernel(host, &look->extent[i]);
	}
	return err;
}

// ---- Answers against answers --------------------------------------------------------------------

__attribute__((format(printf, 2, 3))) static void differ(struct look *look, const char *format, ...)
{
	va_list args;

	if (look->differs)
		return;
	look->differs = true;
	va_start(args, format);
	vsnprintf(look->m->base.failure, sizeof look->m->base.failure, format, args);
	va_end(args);
}

static void judge_page(struct look *look, const struct extent *e, size_t page)
{
	int engine = e->engine[page], kernel = e->kernel[page];
	int wanted = engine >= 0 ? look->m->host_node[engine] : -1;
	uint64_t address = e->address + page * PAGE_SIZE;

	if (engine >= 0 && kernel == wanted)
		look->truth.agreed++;
	else if (engine >= 0 && kernel < 0)
		look->truth.unmapped++;
	else if (engine >= 0)
		differ(look,
			"%s %#" PRIx64 ": the engine says node %d (host node %d), the kernel %d",
			e->task->name, address, engine, wanted, kernel);
	else if (engine == -EFAULT)
		look->truth.zero += kernel >= 0;
	else if (kernel >= 0)
		differ(look,
			"%s %#" PRIx64 ": the engine has no page there, the kernel one on node %d",
			e->task->name, address, kernel);
}

// ---- numa_maps ----------------------------------------------------------------------------------

struct numa_line {
	uintptr_t start;
	unsigned long wanted[MAX_NODES], found[MAX_NODES];
};

static uintptr_t start_of(const char *line)
{
	return line && *line ? strtoul(line, NULL, 16) : UINTPTR_MAX;
}

static const char *line_after(const char *line)
{
	const char *end = strchr(line, '\n');

	return end ? end + 1 : line + strlen(line);
}

// What the line counts in: pages of hugetlbfs are large ones.
static unsigned long pages_of_unit(const char *line, const char *end)
{
	const char *name = "kernelpagesize_kB=", *at = strstr(line, name);
	unsigned long kb = at && at < end ? strtoul(at + strlen(name), NULL, 10) : 0;

	return kb > PAGE_SIZE >> 10 ? kb / (PAGE_SIZE >> 10) : 1;
}

static void read_counts(const char *line, struct numa_line *l)
{
	const char *end = line_after(line);
	unsigned long unit = pages_of_unit(line, end);

	for (const char *at = line; (at = strstr(at, " N")) && at < end; at += 2) {
		char *rest;
		unsigned long node = strtoul(at + 2, &rest, 10);

		if (rest > at + 2 && *rest == '=' && node < MAX_NODES)
			l->found[node] = unit * strtoul(rest + 1, NULL, 10);
	}
}

static uintptr_t end_of(const struct extent *e)
{
	return e->host + (e->pages << PAGE_SHIFT);
}

// The part of the extent that lies in [from, to).
static void count_pages(const struct extent *e, uintptr_t from, uintptr_t to, struct numa_line *l)
{
	size_t first = from > e->host ? (from - e->host) >> PAGE_SHIFT : 0;
	size_t room = (to - e->host) >> PAGE_SHIFT, end = room < e->pages ? room : e->pages;

	for (size_t i = first; i < end; i++)
		if (e->kernel[i] >= 0 && e->kernel[i] < MAX_NODES)
			l->wanted[e->kernel[i]]++;
}

static void judge_line(struct look *look, const char *line, uintptr_t end, size_t *first)
{
	struct numa_line l = {.start = start_of(line)};
	bool ours = false;

	while (*first < look->count && end_of(&look->extent[*first]) <= l.start)
		++*first;
	for (size_t i = *first; i < look->count && look->extent[i].host < end; i++) {
		ours |= look->extent[i].host <= l.start;
		count_pages(&look->extent[i], l.start, end, &l);
	}
	if (!ours) // begins outside of what was looked at: it may have pages of others
		return;
	read_counts(line, &l);
	look->truth.lines++;
	for (unsigned node = 0; node < MAX_NODES; node++)
		if (l.wanted[node] != l.found[node])
			differ(look,
				"numa_maps %" PRIxPTR ": N%u=%lu, move_pages says %lu pages there",
				l.start, node, l.found[node], l.wanted[node]);
}

static int judge_numa_maps(struct look *look, struct host *host)
{
	size_t first = 0;
	char *text;
	int err = host_read(host, "proc/self/numa_maps", &text);

	if (err == -ENOENT) // a kernel without NUMA
		return 0;
	if (err)
		return err;
	for (const char *line = text, *next; *line; line = next) {
		next = line_after(line);
		judge_line(look, line, start_of(next), &first);
	}
	free(text);
	return 0;
}

// ---- One look -----------------------------------------------------------------------------------

static bool is_loaded(const struct engine_machine *m)
{
	for (size_t i = 0; i < m->story->load_count; i++)
		if (m->loads[i])
			return true;
	return false;
}

static void release_look(struct look *look)
{
	for (size_t i = 0; i < look->count; i++) {
		free(look->extent[i].engine);
		free(look->extent[i].kernel);
	}
	free(look->extent);
}

static int look_once(struct engine_machine *m, struct look *look)
{
	struct host host;
	int err = host_init(&host, NULL);

	*look = (struct look){.m = m, .truth.looks = 1};
	if (!err)
		err = ask_all(look, &host);
	for (size_t i = 0; !err && i < look->count; i++)
		for (size_t page = 0; page < look->extent[i].pages; page++)
			judge_page(look, &look->extent[i], page);
	if (!err && !is_loaded(m))
		err = judge_numa_maps(look, &host);
	release_look(look);
	return err;
}

int engine_verify(struct lab_machine *machine)
{
	struct engine_machine *m = engine_of(machine);
	struct lab_truth *sum = &machine->truth;
	struct look look;

	if (!m->options->bind_nodes)
		return 0;
	for (unsigned n = 0; n < LOOKS_MAX; n++) {
		int err = look_once(m, &look);

		if (err)
			return lab_machine_fail(machine, err, "asking the kernel about pages: %s",
				strerror(-err));
		if (!look.differs)
			break;
		nanosleep(&(struct timespec){.tv_nsec = LOOK_AGAIN_NS}, NULL);
	}
	sum->looks++;
	sum->agreed += look.truth.agreed;
	sum->unmapped += look.truth.unmapped;
	sum->zero += look.truth.zero;
	sum->lines += look.truth.lines;
	if (look.differs)
		return LAB_DIFFERS;
	machine->failure[0] = '\0';
	return 0;
}
