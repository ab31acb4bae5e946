// SPDX-License-Identifier: MIT
// Files by path: gw_text() and gw_tunable_set().
//
// A path is looked for in the tables that subsystems registered, then in those of this folder. A
// row whose path has a '*' answers for every number there; if the number means nothing to it
// (-ENOENT), the search goes on, so that two subsystems can share a pattern.
//
// Errors are the file system's first (-ENOENT; -EACCES for reading what is write-only and writing
// what is read-only, which root meets too), then the file's own. Locks: none here.
#include <godwit/stats.h>

#include "base/text_buf.h"
#include "text/files.h"
#include "text/text.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define VALUE_MAX 256

static const struct tunable files[] = {
	TUNABLE("proc/vmstat", file_vmstat, NULL),
	TUNABLE("proc/buddyinfo", file_buddyinfo, NULL),
	TUNABLE("proc/pagetypeinfo", file_pagetypeinfo, NULL),
	TUNABLE("proc/zoneinfo", file_zoneinfo, NULL),
	TUNABLE("proc/meminfo", file_meminfo, NULL),
	TUNABLE("proc/*/numa_maps", file_numa_maps, NULL),
	TUNABLE("proc/*/smaps", file_smaps, NULL),
	TUNABLE("sys/devices/system/node/node*/numastat", file_node_numastat, NULL),
	TUNABLE("sys/devices/system/node/node*/meminfo", file_node_meminfo, NULL),
	TUNABLE("sys/devices/system/node/node*/vmstat", file_node_vmstat, NULL),
	TUNABLE("sys/devices/system/node/node*/distance", file_node_distance, NULL),
	TUNABLE("sys/devices/system/node/node*/cpulist", file_node_cpulist, NULL),
	TUNABLE("sys/devices/system/node/node*/cpumap", file_node_cpumap, NULL),
	TUNABLE("sys/devices/system/node/possible", file_nodes_possible, NULL),
	TUNABLE("sys/devices/system/node/online", file_nodes_possible, NULL),
	TUNABLE("sys/devices/system/node/has_cpu", file_nodes_has_cpu, NULL),
	TUNABLE("sys/devices/system/node/has_memory", file_nodes_has_memory, NULL),
	TUNABLE("sys/devices/system/node/has_normal_memory", file_nodes_has_memory, NULL),
	TUNABLE("sys/devices/system/node/has_generic_initiator", file_nodes_none, NULL),
	TUNABLE("sys/kernel/debug/extfrag/extfrag_index", file_extfrag_index, NULL),
	TUNABLE("sys/kernel/debug/extfrag/unusable_index", file_unusable_index, NULL),
};

static const struct tunable_table read_only = {files, ARRAY_SIZE(files)};

// ---- Finding

// The digits at *path as a number of at most 9 digits, without leading zeros.
static bool take_number(const char **path, unsigned *ret_number)
{
	const char *p = *path;
	unsigned number = 0;

	if (*p == '0' && p[1] >= '0' && p[1] <= '9')
		return false;
	while (*p >= '0' && *p <= '9' && p - *path < 9)
		number = number * 10 + (unsigned)(*p++ - '0');
	if (p == *path)
		return false;
	*path = p;
	*ret_number = number;
	return true;
}

static bool path_matches(const char *pattern, const char *path, unsigned *index)
{
	unsigned nr = 0;

	for (; *pattern; pattern++) {
		if (*pattern == '*' && nr < TUNABLE_INDEXES) {
			if (!take_number(&path, &index[nr++]))
				return false;
		} else if (*path++ != *pattern) {
			return false;
		}
	}
	return !*path;
}

// What is done with a row that matches; -ENOENT: look further.
typedef int use_row_fn(struct gw_machine *machine, const struct tunable *row, const unsigned *index,
	void *arg);

static int use_table(struct gw_machine *machine, const struct tunable_table *table,
	const char *path, use_row_fn *use, void *arg)
{
	for (unsigned i = 0; i < table->nr; i++) {
		unsigned index[TUNABLE_INDEXES] = {0};
		int ret;

		if (!path_matches(table->tunable[i].path, path, index))
			continue;
		ret = use(machine, &table->tunable[i], index, arg);
		if (ret != -ENOENT)
			return ret;
	}
	return -ENOENT;
}

static int use_path(struct gw_machine *machine, const char *path, use_row_fn *use, void *arg)
{
	const struct tunable_table *const own[] = {&read_only, &tunables_of_engine, &tunables_idle};
	int ret = -ENOENT;

	for (unsigned i = 0; i < TUNABLE_TABLES && ret == -ENOENT; i++) {
		const struct tunable_table *table = machine->tunables.table[i];

		if (!table)
			break;
		ret = use_table(machine, table, path, use, arg);
	}
	for (unsigned i = 0; i < ARRAY_SIZE(own) && ret == -ENOENT; i++)
		ret = use_table(machine, own[i], path, use, arg);
	return ret;
}

// ---- Reading and writing

static int read_row(struct gw_machine *machine, const struct tunable *row, const unsigned *index,
	void *arg)
{
	return row->get ? row->get(machine, row, index, arg) : -EACCES;
}

int text_read(struct gw_machine *machine, const char *path, char **ret_text)
{
	struct text_buf text = {0};
	int err = use_path(machine, path, read_row, &text);

	if (err) {
		text_discard(&text);
		return err;
	}
	return text_take(&text, ret_text);
}

int text_read_number(struct gw_machine *machine, const char *path, unsigned long *ret_value)
{
	char *text;
	int err = text_read(machine, path, &text);

	if (err)
		return err;
	text[strcspn(text, " \t\n")] = '\0';
	err = tunable_number(text, 10, 0, ~0ul, ret_value);
	free(text);
	return err;
}

static int write_row(struct gw_machine *machine, const struct tunable *row, const unsigned *index,
	void *arg)
{
	struct text_buf text = {0};
	int err;

	if (row->set)
		return row->set(machine, row, index, arg);
	// Whether there is such a file comes first.
	err = row->get(machine, row, index, &text);
	text_discard(&text);
	return err == -ENOENT ? err : -EACCES;
}

int text_write(struct gw_machine *machine, const char *path, const char *value)
{
	char line[VALUE_MAX];
	size_t length = strlen(value);

	if (length && value[length - 1] == '\n')
		length--;
	if (length >= sizeof line)
		return -EINVAL;
	memcpy(line, value, length);
	line[length] = '\0';
	return use_path(machine, path, write_row, line);
}

// ---- The public functions

int gw_text(struct gw_machine *machine, const char *path, char **ret_text)
{
	if (machine_is_dead(machine))
		return -EOWNERDEAD;
	if (!machine || !path || !ret_text)
		return -EINVAL;
	return text_read(machine, path, ret_text);
}

int gw_tunable_set(struct gw_machine *machine, const char *path, const char *value)
{
	if (machine_is_dead(machine))
		return -EOWNERDEAD;
	if (!machine || !path || !value)
		return -EINVAL;
	return text_write(machine, path, value);
}
