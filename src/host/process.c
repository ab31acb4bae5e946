// SPDX-License-Identifier: MIT
// Reads /proc/PID/{status,smaps,numa_maps} into one list of mappings.
//
// smaps says how long a mapping is and what its pages are; numa_maps says on which nodes they lie
// and by which policy. Both are snapshots of a process that goes on living: a mapping that only one
// of them knows keeps what that one said. A kernel without NUMA has no numa_maps; then has_nodes
// stays false.
//
// On older kernels (6.1, not 6.12) smaps leaves out a huge entry without access, be it by
// mprotect(PROT_NONE) or because automatic balancing waits for the next access; numa_maps counts
// it. What is resident is the larger of the two.
//
// smaps, a mapping:   "START-END perms offset dev inode   NAME", then "Field:   N kB" lines
// numa_maps, a line:  "START policy[:nodes] word..." with words such as N0=12, huge, file=NAME

#include "host/process.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// ---- The process --------------------------------------------------------------------------------

static const char *status_line(const char *text, const char *name)
{
	size_t length = strlen(name);

	for (const char *line = text; line; line = strchr(line, '\n')) {
		line += *line == '\n';
		if (!strncmp(line, name, length) && line[length] == ':')
			return line + length + 1 + strspn(line + length + 1, " \t");
	}
	return "";
}

// In a name the kernel writes a newline as "\n" and a backslash as two, and nothing else so.
static void unescape_status(char *name)
{
	char *from = name;

	while (*from) {
		bool escaped = from[0] == '\\' && (from[1] == 'n' || from[1] == '\\');

		*name++ = !escaped ? *from : from[1] == 'n' ? '\n' : '\\';
		from += escaped ? 2 : 1;
	}
	*name = '\0';
}

int host_process_read(struct host *host, pid_t pid, struct host_process *ret_process)
{
	struct host_process p = {.pid = pid};
	const char *line;
	char *text;
	int err = host_readf(host, &text, "proc/%d/status", (int)pid);

	if (err)
		return err == -ENOENT ? -ESRCH : err;
	line = status_line(text, "Name");
	snprintf(p.name, sizeof p.name, "%.*s", (int)strcspn(line, "\n"), line);
	unescape_status(p.name);
	line = status_line(text, "State");
	p.has_ended = *line == 'Z' || *line == 'X';
	p.has_memory = *status_line(text, "VmSize");
	p.uid = strtol(status_line(text, "Uid"), NULL, 10);
	p.threads = (unsigned)strtoul(status_line(text, "Threads"), NULL, 10);
	line = status_line(text, "Mems_allowed_list");
	if (*line) {
		unsigned long map[1];

		_Static_assert(MAX_NODES == 64 && sizeof map == 8, "one word of nodes");
		if (host_list_bits(line, map, MAX_NODES))
			p.mems_allowed.bits = map[0];
	}
	free(text);
	*ret_process = p;
	return 0;
}

// ---- smaps --------------------------------------------------------------------------------------

static struct host_mapping *add_mapping(struct host_mappings *mappings)
{
	if (mappings->count == mappings->capacity) {
		size_t capacity = mappings->capacity ? mappings->capacity * 2 : 64;
		struct host_mapping *v = reallocarray(mappings->v, capacity, sizeof *v);

		if (!v)
			return NULL;
		mappings->v = v;
		mappings->capacity = capacity;
	}
	mappings->v[mappings->count] = (struct host_mapping){.page_bytes = 4096};
	return &mappings->v[mappings->count++];
}

// "START-END perms offset dev inode NAME"; false: another kind of line.
static bool read_header(
	const char *line, uint64_t *ret_start, uint64_t *ret_end, const char **ret_name)
{
	int at = 0;

	if (sscanf(line, "%" SCNx64 "-%" SCNx64 " %*s %*s %*s %*s %n", ret_start, ret_end, &at) < 2)
		return false;
	*ret_name = at ? line + at : "";
	return true;
}

static void read_field(const char *line, struct host_mapping *m)
{
	const struct {
		const char *name;
		uint64_t *bytes;
	} fields[] = {
		{"Rss:", &m->resident},
		{"Anonymous:", &m->anonymous},
		{"AnonHugePages:", &m->huge},
		{"ShmemPmdMapped:", &m->huge},
		{"FilePmdMapped:", &m->huge},
		{"Shared_Clean:", &m->shared},
		{"Shared_Dirty:", &m->shared},
		{"Locked:", &m->locked},
		{"Swap:", &m->swapped},
		{"KSM:", &m->ksm},
	};
	uint64_t bytes;

	for (size_t i = 0; i < ARRAY_SIZE(fields); i++) {
		size_t length = strlen(fields[i].name);

		if (strncmp(line, fields[i].name, length))
			continue;
		*fields[i].bytes += strtoull(line + length, NULL, 10) << 10;
		m->has_ksm |= fields[i].bytes == &m->ksm;
		return;
	}
	if (sscanf(line, "KernelPageSize: %" SCNu64, &bytes) == 1)
		m->page_bytes = bytes << 10;
	// Pages of hugetlb are in none of the fields above.
	if (sscanf(line, "Shared_Hugetlb: %" SCNu64, &bytes) == 1)
		m->shared += bytes << 10;
	else if (sscanf(line, "Private_Hugetlb: %" SCNu64, &bytes) != 1)
		return;
	m->resident += bytes << 10;
	m->huge += bytes << 10;
}

// The kernel writes a newline as four characters, and nothing else so: not even a backslash.
static void unescape_name(char *name)
{
	char *from = name;

	while (*from) {
		bool newline = !strncmp(from, "\\012", 4);

		*name++ = newline ? '\n' : *from;
		from += newline ? 4 : 1;
	}
	*name = '\0';
}

int host_smaps_parse(char *text, struct host_mappings *mappings)
{
	struct host_mapping *m = NULL;
	char *line;

	while ((line = strsep(&text, "\n"))) {
		uint64_t start, end;
		const char *name;

		if (isxdigit((unsigned char)*line) && read_header(line, &start, &end, &name)) {
			m = add_mapping(mappings);
			if (!m || !(m->name = strdup(name)))
				return -ENOMEM;
			unescape_name(m->name);
			m->start = start;
			m->end = end;
		} else if (m) {
			read_field(line, m);
		}
	}
	return 0;
}

// ---- numa_maps ----------------------------------------------------------------------------------

static struct host_mapping *find_mapping(struct host_mappings *mappings, uint64_t start)
{
	size_t low = 0, high = mappings->count;

	while (low < high) {
		size_t middle = (low + high) / 2;

		if (mappings->v[middle].start < start)
			low = middle + 1;
		else
			high = middle;
	}
	if (low == mappings->count || mappings->v[low].start != start)
		return NULL;
	return &mappings->v[low];
}

// "prefer (many):0-1" is two words.
static char *cut_policy(char **rest)
{
	char *policy = strsep(rest, " "), *end;

	if (!policy || !*rest)
		return policy;
	if (strncmp(*rest, "(many)", 6) && strncmp(*rest, "interleave", 10))
		return policy;
	policy[strlen(policy)] = ' ';
	end = strchr(*rest, ' ');
	*rest = end ? end + 1 : NULL;
	if (end)
		*end = '\0';
	return policy;
}

static void read_words(char *rest, struct host_mapping *m)
{
	char *word;
	unsigned node;
	uint64_t number;

	while ((word = strsep(&rest, " "))) {
		if (sscanf(word, "N%u=%" SCNu64, &node, &number) == 2 && node < MAX_NODES)
			m->pages[node] = number;
		else if (sscanf(word, "kernelpagesize_kB=%" SCNu64, &number) == 1)
			m->page_bytes = number << 10;
	}
}

static void count_uncounted(struct host_mapping *m)
{
	uint64_t total = 0;

	for (unsigned n = 0; n < MAX_NODES; n++)
		total += m->pages[n] * m->page_bytes;
	if (total > m->resident) {
		m->uncounted = total - m->resident;
		m->resident = total;
	}
}

void host_numa_maps_parse(char *text, struct host_mappings *mappings)
{
	char *line;

	while ((line = strsep(&text, "\n"))) {
		uint64_t start = strtoull(line, &line, 16);
		struct host_mapping *m = find_mapping(mappings, start);
		char *policy;

		if (!m || *line != ' ')
			continue;
		line++;
		policy = cut_policy(&line);
		free(m->policy);
		m->policy = policy ? strdup(policy) : NULL;
		m->has_nodes = true;
		read_words(line, m);
		count_uncounted(m);
	}
}

// ---- Both ---------------------------------------------------------------------------------------

int host_mappings_read(struct host *host, pid_t pid, struct host_mappings *ret_mappings)
{
	struct host_mappings mappings = {0};
	char *text;
	int err = host_readf(host, &text, "proc/%d/smaps", (int)pid);

	if (err)
		return err == -ENOENT ? -ESRCH : err;
	err = host_smaps_parse(text, &mappings);
	free(text);
	if (!err && !host_readf(host, &text, "proc/%d/numa_maps", (int)pid)) {
		host_numa_maps_parse(text, &mappings);
		free(text);
	}
	if (err)
		host_mappings_release(&mappings);
	else
		*ret_mappings = mappings;
	return err;
}

void host_mappings_release(struct host_mappings *mappings)
{
	for (size_t i = 0; i < mappings->count; i++) {
		free(mappings->v[i].name);
		free(mappings->v[i].policy);
		free(mappings->v[i].sizes);
	}
	free(mappings->v);
	*mappings = (struct host_mappings){0};
}
