// SPDX-License-Identifier: MIT
// What a story may look at, on the engine. Nothing here changes a counter or a page.
#include "lab/engine_machine.h"

#include <godwit/stats.h>
#include <godwit/trace.h>

#include "engine/engine.h"
#include "text/text.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct task *task_of_range(struct lab_machine *machine, const struct story_range *range)
{
	return task_of(engine_task(engine_of(machine), range->map->task));
}

int engine_nodes(struct lab_machine *machine, const struct story_range *range, int32_t *nodes)
{
	range_nodes(task_of_range(machine, range), range->address,
		(range->length + STORY_PAGE_SIZE - 1) / STORY_PAGE_SIZE, nodes);
	return 0;
}

int engine_vmstat(struct lab_machine *machine, struct lab_counters *counters)
{
	struct engine_machine *m = engine_of(machine);
	const char *name;

	for (unsigned i = 0; (name = gw_vmstat_name(i)); i++) {
		int64_t value;
		int err = gw_vmstat(m->machine, name, &value);

		if (!err)
			err = lab_counters_add(counters, name, value);
		if (err)
			return lab_machine_fail(machine, err, "counter %s", name);
	}
	return 0;
}

static int read_numastat(void *arg, unsigned node, char **ret_text)
{
	struct engine_machine *m = arg;
	char path[64];

	snprintf(path, sizeof path, "sys/devices/system/node/node%u/numastat", node);
	return gw_text(m->machine, path, ret_text);
}

int engine_text(struct lab_machine *machine, enum lab_text what, const struct story_range *range,
	char **ret_text)
{
	struct engine_machine *m = engine_of(machine);
	int err = -ENOENT;

	switch (what) {
	case TEXT_NUMA_MAPS:
		err = range_text(task_of_range(machine, range), RANGE_NUMA_MAPS, range->address,
			range->length, ret_text);
		break;
	case TEXT_SMAPS:
		err = range_text(task_of_range(machine, range), RANGE_SMAPS, range->address,
			range->length, ret_text);
		break;
	case TEXT_BUDDYINFO:
		err = gw_text(m->machine, "proc/buddyinfo", ret_text);
		break;
	case TEXT_NUMASTAT:
		err = lab_numastat_text(
			gw_machine_nodes(m->machine), read_numastat, m, ret_text);
		break;
	case TEXT_TRACE:
		err = gw_trace_text(m->machine, m->trace_mark, ret_text);
		break;
	}
	return err ? lab_machine_fail(machine, err, "cannot read the text: %s", strerror(-err)) : 0;
}

int engine_huge(struct lab_machine *machine, const struct story_range *range, uint64_t *ret_count)
{
	*ret_count = range_huge(task_of_range(machine, range), range->address, range->length);
	return 0;
}

static int pool_number(struct engine_machine *m, unsigned node, uint64_t page_size,
	const char *file, uint64_t *ret_number)
{
	char path[128], *text;
	int err;

	snprintf(path, sizeof path, "sys/devices/system/node/node%u/hugepages/hugepages-%llukB/%s",
		node, (unsigned long long)page_size >> 10, file);
	err = gw_text(m->machine, path, &text);
	if (err)
		return err;
	*ret_number = strtoull(text, NULL, 10);
	free(text);
	return 0;
}

int engine_pool(struct lab_machine *machine, unsigned node, uint64_t page_size,
	struct lab_pool *ret_pool)
{
	struct engine_machine *m = engine_of(machine);
	struct lab_pool pool;
	int err = pool_number(m, node, page_size, "nr_hugepages", &pool.total);

	if (!err)
		err = pool_number(m, node, page_size, "free_hugepages", &pool.free);
	if (!err)
		err = pool_number(m, node, page_size, "surplus_hugepages", &pool.surplus);
	if (!err)
		*ret_pool = pool;
	return err;
}

int engine_tunable(struct lab_machine *machine, const char *path, char **ret_value)
{
	int err = gw_text(engine_of(machine)->machine, path, ret_value);
	size_t n;

	if (err)
		return err;
	n = strlen(*ret_value);
	if (n && (*ret_value)[n - 1] == '\n')
		(*ret_value)[n - 1] = '\0';
	return 0;
}

int engine_mark(struct lab_machine *machine)
{
	struct engine_machine *m = engine_of(machine);

	m->trace_mark = gw_trace_mark(m->machine);
	return 0;
}
