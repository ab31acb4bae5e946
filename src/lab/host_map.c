// SPDX-License-Identifier: MIT
// Story nodes and cpus, and the real ones they stand for.
//
// Story nodes with memory stand, in order, for the real nodes with memory, and the memoryless ones
// for the real memoryless ones; so the order of nodes, which interleaving and migrate_pages follow,
// stays. The cpus of a story node stand for the cpus of its real node, in order, and over again
// from the first where the story has more; only cpus that this process may use count.
//
// Texts of the kernel are translated word by word; on a machine whose nodes are numbered as the
// story's nothing has to be.

#include "lab/host_machine.h"

#include "host/process.h"

#include <ctype.h>
#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define NODE_FOLDER "sys/devices/system/node/node"

// ---- Making it ----------------------------------------------------------------------------------

static int match_counts(
	struct host_machine *m, const struct story_machine *want, struct nodemask bare)
{
	unsigned with = 0, without = 0, have = nodemask_weight(m->nodes.memory);

	for (unsigned n = 0; n < want->nodes; n++) {
		with += want->memory[n] != 0;
		without += want->memory[n] == 0;
	}
	if (have < with || (have > with && !want->more_nodes))
		return lab_machine_fail(&m->base, LAB_SKIP,
			"machine nodes%s%u: this machine has %u node%s with memory",
			want->more_nodes ? ">=" : "=", with, have, have == 1 ? "" : "s");
	if (nodemask_weight(bare) < without)
		return lab_machine_fail(&m->base, LAB_SKIP,
			"machine: this machine has %u nodes without memory, not %u",
			nodemask_weight(bare), without);
	return 0;
}

static int match_distances(struct host_machine *m, const struct story_machine *want)
{
	const struct host_map *map = &m->map;

	for (unsigned i = 0; want->distance && i < want->nodes * want->nodes; i++) {
		unsigned from = i / want->nodes, to = i % want->nodes;
		unsigned found = m->nodes.node[map->node[from]].distance[map->node[to]];

		if (found != want->distance[i])
			return lab_machine_fail(&m->base, LAB_SKIP,
				"machine distance: from node %u to node %u it is %u here, not %u",
				from, to, found, want->distance[i]);
	}
	return 0;
}

// The nth cpu of a real node that this process may use, counted round; -1: there is none.
static int nth_cpu(struct host_machine *m, unsigned node, unsigned nth, const cpu_set_t *allowed)
{
	const unsigned long *cpus = m->nodes.node[node].cpus;
	unsigned count = 0, seen = 0;
	size_t cpu;

	bitmap_for_each(cpu, cpus, HOST_CPUS_MAX) {
		count += CPU_ISSET(cpu, allowed) != 0;
	}
	bitmap_for_each(cpu, cpus, HOST_CPUS_MAX) {
		if (CPU_ISSET(cpu, allowed) && seen++ == nth % count)
			return (int)cpu;
	}
	return -1;
}

static int match_cpus(struct host_machine *m, const struct story_machine *want)
{
	unsigned nth[STORY_NODES_MAX] = {0};
	cpu_set_t allowed;

	CPU_ZERO(&allowed);
	if (*m->host.root || sched_getaffinity(0, sizeof allowed, &allowed))
		memset(&allowed, 0xff, sizeof allowed);
	for (unsigned i = 0; i < want->cpus; i++) {
		unsigned node = want->cpu_node[i];
		int cpu = nth_cpu(m, m->map.node[node], nth[node]++, &allowed);

		if (cpu < 0)
			return lab_machine_fail(&m->base, LAB_SKIP,
				"machine cpus: node %u (here %u) has no cpu for us", node,
				m->map.node[node]);
		m->map.cpu[i] = (unsigned)cpu;
	}
	return 0;
}

// Nodes that a cpuset keeps from this process are not there for its stories.
static struct nodemask allowed_nodes(struct host_machine *m)
{
	struct host_process self;

	if (*m->host.root || host_process_read(&m->host, getpid(), &self) ||
		nodemask_empty(self.mems_allowed))
		return NODEMASK_ALL;
	return self.mems_allowed;
}

int host_map_make(struct host_machine *m, const struct story_machine *want)
{
	struct host_map *map = &m->map;
	int err = host_nodes_read(&m->host, &m->nodes);
	struct nodemask memory, bare;

	if (err)
		return lab_machine_fail(&m->base, err, "cannot read the nodes: %s", strerror(-err));
	bare = nodemask_andnot(m->nodes.online, m->nodes.memory);
	m->nodes.memory = nodemask_and(m->nodes.memory, allowed_nodes(m));
	memory = m->nodes.memory;
	err = match_counts(m, want, bare);
	if (err)
		return err;
	map->count = want->nodes;
	map->beyond = (unsigned)nodemask_last(m->nodes.online) + 1;
	map->same = true;
	memset(map->story_node, -1, sizeof map->story_node);
	for (unsigned n = 0; n < want->nodes; n++) {
		struct nodemask *from = want->memory[n] ? &memory : &bare;

		map->node[n] = (unsigned)nodemask_first(*from);
		nodemask_clear(from, map->node[n]);
		map->story_node[map->node[n]] = (int)n;
		map->same &= map->node[n] == n;
	}
	map->same &= map->beyond == map->count;
	err = match_distances(m, want);
	return err ? err : match_cpus(m, want);
}

// ---- Numbers ------------------------------------------------------------------------------------

int real_node(const struct host_map *map, int node)
{
	if (node < 0)
		return node;
	if ((unsigned)node < map->count)
		return (int)map->node[node];
	return (int)(map->beyond + ((unsigned)node - map->count));
}

int story_node(const struct host_map *map, int node)
{
	if (node < 0 || node >= MAX_NODES)
		return node;
	if (map->story_node[node] >= 0)
		return map->story_node[node];
	if ((unsigned)node >= map->beyond)
		return (int)(map->count + ((unsigned)node - map->beyond)); // as real_node()
	return (int)map->count + node; // a node outside of the story
}

uint64_t real_nodes(const struct host_map *map, uint64_t nodes)
{
	uint64_t real = 0;

	for (int n = 0; n < 64; n++)
		if (nodes >> n & 1 && real_node(map, n) < 64)
			real |= UINT64_C(1) << real_node(map, n);
	return real;
}

uint64_t story_nodes(const struct host_map *map, uint64_t nodes)
{
	uint64_t story = 0;

	for (int n = 0; n < 64; n++)
		if (nodes >> n & 1 && story_node(map, n) < 64)
			story |= UINT64_C(1) << story_node(map, n);
	return story;
}

// ---- Texts --------------------------------------------------------------------------------------

const char *real_path(const struct host_map *map, const char *path, char *buf, size_t size)
{
	static const char *const folders[] = {
		NODE_FOLDER, "sys/kernel/mm/mempolicy/weighted_interleave/node"};

	for (size_t i = 0; i < ARRAY_SIZE(folders); i++) {
		size_t length = strlen(folders[i]);
		char *rest;
		long node;

		if (strncmp(path, folders[i], length) || !isdigit((unsigned char)path[length]))
			continue;
		node = strtol(path + length, &rest, 10);
		snprintf(buf, size, "%s%d%s", folders[i], real_node(map, (int)node), rest);
		return buf;
	}
	snprintf(buf, size, "%s", path);
	return buf;
}

// "0-1,3": what a policy's nodes look like. The nodes come back in the story's numbers.
static const char *translate_list(const struct host_map *map, const char *list, FILE *out)
{
	char copy[256], text[256];
	size_t length = strspn(list, "0123456789-,");
	struct nodemask nodes;

	snprintf(copy, sizeof copy, "%.*s", (int)length, list);
	if (nodemask_parse(copy, &nodes))
		fputs(copy, out);
	else
		fputs(nodes_text(story_nodes(map, nodes.bits), text, sizeof text), out);
	return list + length;
}

// Within one line: "address policy:list word...", where a word may be N0=12. Names of files are
// the only words that may look alike; they begin with "file=".
static void translate_line(const struct host_map *map, const char *at, FILE *out)
{
	const char *name = strstr(at, " file=");
	const char *name_end = name ? name + 1 + strcspn(name + 1, " ") : NULL;
	unsigned words = 0;

	while (*at) {
		words += *at == ' ';
		if (name && at == name) {
			fprintf(out, "%.*s", (int)(name_end - name), name);
			at = name_end;
		} else if (*at == ':' && words <= 2) {
			fputc(*at, out);
			at = translate_list(map, at + 1, out);
		} else if (!strncmp(at, " N", 2) && isdigit((unsigned char)at[2])) {
			char *end;
			long node = strtol(at + 2, &end, 10);

			fprintf(out, " N%d", story_node(map, (int)node));
			at = end;
			words++;
		} else {
			fputc(*at++, out);
		}
	}
	fputc('\n', out);
}

char *story_numa_maps(const struct host_map *map, char *text)
{
	char *result = NULL, *rest = text, *line;
	size_t size;
	FILE *out;

	if (map->same)
		return text;
	out = open_memstream(&result, &size);
	while (out && (line = strsep(&rest, "\n")))
		if (*line)
			translate_line(map, line, out);
	free(text);
	if (out && fclose(out)) {
		free(result);
		return NULL;
	}
	return out ? result : NULL;
}
