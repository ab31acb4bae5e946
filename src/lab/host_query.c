// SPDX-License-Identifier: MIT
// What a story may look at, on the host. Reading moves nothing and counts nothing.
//
// Where pages are comes from move_pages without nodes, asked by the player about the task's
// process. Texts are the kernel's, cut to the mappings that the range touches, with the story's
// node numbers. Huge mappings have a file of their own (host_huge.c).

#include "lab/host_machine.h"

#include "host/counters.h"
#include "host/hugepools.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static pid_t pid_of(struct host_machine *m, const struct story_range *range)
{
	return task_here(m, range->map->task)->pid;
}

// ---- Nodes and counters -------------------------------------------------------------------------

int host_query_nodes(struct lab_machine *machine, const struct story_range *range, int32_t *nodes)
{
	struct host_machine *m = host_of(machine);
	size_t count = (range->length + STORY_PAGE_SIZE - 1) / STORY_PAGE_SIZE;
	void **pages = calloc(count + 1, sizeof *pages);
	long ret;

	if (!pages)
		return lab_machine_fail(machine, -ENOMEM, "out of memory");
	for (size_t i = 0; i < count; i++)
		pages[i] = (void *)(uintptr_t)(range->address + i * STORY_PAGE_SIZE);
	ret = m->host.ops->move_pages(&m->host, pid_of(m, range), count, pages, NULL, nodes, 0);
	free(pages);
	if (ret)
		return lab_machine_fail(
			machine, (int)ret, "cannot ask where pages are: %s", strerror((int)-ret));
	for (size_t i = 0; i < count; i++)
		nodes[i] = story_node(&m->map, nodes[i]);
	return 0;
}

static int add_counter(void *arg, const char *name, int64_t value)
{
	return lab_counters_add(arg, name, value);
}

int host_query_vmstat(struct lab_machine *machine, struct lab_counters *counters)
{
	int err = host_vmstat(&host_of(machine)->host, add_counter, counters);

	return err ? lab_machine_fail(machine, err, "cannot read /proc/vmstat") : 0;
}

int host_query_pool(
	struct lab_machine *machine, unsigned node, uint64_t page_size, struct lab_pool *ret_pool)
{
	struct host_machine *m = host_of(machine);
	struct host_pool pool;
	int err =
		host_pool_read(&m->host, (unsigned)real_node(&m->map, (int)node), page_size, &pool);

	if (err == -ENOENT)
		return err;
	if (err)
		return lab_machine_fail(machine, err, "cannot read a pool of node %u", node);
	*ret_pool = (struct lab_pool){pool.total, pool.free, pool.surplus};
	return 0;
}

int host_query_tunable(struct lab_machine *machine, const char *path, char **ret_value)
{
	struct host_machine *m = host_of(machine);
	char real[300];
	int err = host_read(&m->host, real_path(&m->map, path, real, sizeof real), ret_value);

	if (!err || err == -ENOENT)
		return err;
	return lab_machine_fail(machine, err, "cannot read /%s: %s", path, strerror(-err));
}

// ---- Texts of mappings --------------------------------------------------------------------------

static int read_of_task(
	struct host_machine *m, const struct story_range *range, const char *file, char **ret_text)
{
	int err = host_readf(&m->host, ret_text, "proc/%d/%s", (int)pid_of(m, range), file);

	return err ? lab_machine_fail(
			     &m->base, err, "cannot read %s of the task: %s", file, strerror(-err))
		   : 0;
}

// The end of the mapping that starts there, by a text of /proc/PID/maps; 0: there is none.
static uint64_t end_in(const char *maps, uint64_t start)
{
	for (const char *line = maps; line; line = strchr(line, '\n')) {
		uint64_t from, to;

		line += *line == '\n';
		if (sscanf(line, "%" SCNx64 "-%" SCNx64, &from, &to) == 2 && from == start)
			return to;
	}
	return 0;
}

// Lines of numa_maps begin with the start of a mapping, blocks of smaps with "START-END"; false:
// some other line, which belongs to the block before it.
static bool begins_mapping(
	const char *line, const char *maps, uint64_t *ret_start, uint64_t *ret_end)
{
	char *after;

	*ret_start = strtoull(line, &after, 16);
	if (after == line || (*after != '-' && *after != ' '))
		return false;
	*ret_end = *after == '-' ? strtoull(after + 1, NULL, 16) : end_in(maps, *ret_start);
	return true;
}

static int cut_to_range(
	char *text, const char *maps, const struct story_range *range, char **ret_text)
{
	char *result = NULL, *line;
	bool inside = false;
	size_t size;
	FILE *out = open_memstream(&result, &size);

	while (out && (line = strsep(&text, "\n"))) {
		uint64_t start, end;

		if (begins_mapping(line, maps, &start, &end))
			inside = start < range->address + range->length && end > range->address;
		if (inside && *line)
			fprintf(out, "%s\n", line);
	}
	if (!out || fclose(out)) {
		free(result);
		return -ENOMEM;
	}
	*ret_text = result;
	return 0;
}

static int text_of_range(
	struct host_machine *m, const char *file, const struct story_range *range, char **ret_text)
{
	char *text, *maps;
	int err = read_of_task(m, range, file, &text);

	if (err)
		return err;
	err = read_of_task(m, range, "maps", &maps);
	if (!err) {
		err = cut_to_range(text, maps, range, ret_text);
		free(maps);
	}
	free(text);
	return err;
}

// ---- Texts of the machine -----------------------------------------------------------------------

static int buddyinfo(struct host_machine *m, FILE *out)
{
	char *text;
	int err = host_read(&m->host, "proc/buddyinfo", &text);

	for (unsigned n = 0; !err && n < m->map.count; n++) {
		for (const char *line = text; line; line = strchr(line, '\n')) {
			int after = 0;
			unsigned node;

			line += *line == '\n';
			if (sscanf(line, "Node %u%n", &node, &after) == 1 && node == m->map.node[n])
				fprintf(out, "Node %u%.*s\n", n, (int)strcspn(line + after, "\n"),
					line + after);
		}
	}
	if (!err)
		free(text);
	return err;
}

static int read_numastat(void *arg, unsigned node, char **ret_text)
{
	struct host_machine *m = arg;

	return host_readf(&m->host, ret_text, "sys/devices/system/node/node%u/numastat",
		m->map.node[node]);
}

// "  A-228   [000] ...1.   12.839977: set_migration_pte: addr=..." from the event's name on, which
// is what the engine's trace has, too.
static const char *event_of(const char *line)
{
	const char *cpu = strstr(line, " ["), *event = cpu ? strstr(cpu, ": ") : NULL;

	return event ? event + 2 : line;
}

static int trace(struct host_machine *m, FILE *out)
{
	char *text, *rest, *line;
	int err;

	if (!*m->trace) {
		fprintf(out, "no trace: events of this machine cannot be asked for\n");
		return 0;
	}
	err = host_readf(&m->host, &text, "%s/trace", m->trace);
	if (err)
		return err;
	for (rest = text; (line = strsep(&rest, "\n"));)
		if (*line && *line != '#')
			fprintf(out, "%s\n", event_of(line));
	free(text);
	return 0;
}

static int text_of_machine(
	struct host_machine *m, int (*print)(struct host_machine *, FILE *), char **ret_text)
{
	char *text = NULL;
	size_t size;
	FILE *out = open_memstream(&text, &size);
	int err = out ? print(m, out) : -ENOMEM;

	if (out && fclose(out) && !err)
		err = -ENOMEM;
	if (err)
		free(text);
	else
		*ret_text = text;
	return err;
}

int host_query_text(struct lab_machine *machine, enum lab_text what,
	const struct story_range *range, char **ret_text)
{
	struct host_machine *m = host_of(machine);
	int err = -ENOENT;

	switch (what) {
	case TEXT_NUMA_MAPS:
		err = text_of_range(m, "numa_maps", range, ret_text);
		if (!err && !(*ret_text = story_numa_maps(&m->map, *ret_text)))
			err = -ENOMEM;
		break;
	case TEXT_SMAPS:
		err = text_of_range(m, "smaps", range, ret_text);
		break;
	case TEXT_BUDDYINFO:
		err = text_of_machine(m, buddyinfo, ret_text);
		break;
	case TEXT_NUMASTAT:
		err = lab_numastat_text(m->map.count, read_numastat, m, ret_text);
		break;
	case TEXT_TRACE:
		err = text_of_machine(m, trace, ret_text);
		break;
	}
	if (err && !*machine->failure)
		lab_machine_fail(machine, err, "cannot read the text: %s", strerror(-err));
	return err;
}

// ---- Traces -------------------------------------------------------------------------------------

int host_trace_start(struct host_machine *m)
{
	static const char *const of_pmds[] = {"set_migration_pmd", "remove_migration_pmd"};
	char path[200];
	int err;

	if (!m->has_journal || !story_shows(m->story, SHOW_TRACE))
		return 0;
	snprintf(
		m->trace, sizeof m->trace, "sys/kernel/tracing/instances/godwit-%d", (int)getpid());
	err = host_journal_made(&m->journal, m->trace);
	if (!err)
		err = m->host.ops->make_folder(&m->host, m->trace);
	snprintf(path, sizeof path, "%s/events/migrate/enable", m->trace);
	if (err || host_write(&m->host, path, "1"))
		*m->trace = '\0';
	for (size_t i = 0; *m->trace && i < ARRAY_SIZE(of_pmds); i++) {
		snprintf(path, sizeof path, "%s/events/thp/%s/enable", m->trace, of_pmds[i]);
		(void)!host_write(&m->host, path, "1");
	}
	return 0;
}

int host_mark(struct lab_machine *machine)
{
	struct host_machine *m = host_of(machine);
	char path[200];

	snprintf(path, sizeof path, "%s/trace", m->trace);
	if (*m->trace && host_write(&m->host, path, "\n")) // writing anything empties it
		lab_machine_warn(machine, "the trace cannot be emptied");
	return 0;
}
