// SPDX-License-Identifier: MIT
// Huge pages of a story on the engine: splitting through debugfs' file, khugepaged by hand,
// and compaction through the files that ask for it.
#include "lab/engine_machine.h"

#include <godwit/huge.h>
#include <godwit/stats.h>

#include <inttypes.h>
#include <stdio.h>

int engine_split(struct lab_machine *machine, const struct command *c, struct lab_result *result)
{
	const struct story_range *r = &c->range.range;
	struct engine_machine *m = engine_of(machine);
	char text[80];

	snprintf(text, sizeof text, "%d,0x%" PRIx64 ",0x%" PRIx64,
		gw_task_pid(engine_task(m, c->task)), r->address, r->address + r->length);
	return engine_result(result,
		gw_tunable_set(m->machine, "sys/kernel/debug/split_huge_pages", text));
}

int engine_khugepaged(struct lab_machine *machine, const struct command *c,
	struct lab_result *result)
{
	(void)result;
	gw_khugepaged_scan(engine_of(machine)->machine, (unsigned)c->world.count);
	return 0;
}

int engine_compact(struct lab_machine *machine, const struct command *c, struct lab_result *result)
{
	struct engine_machine *m = engine_of(machine);
	char path[80] = "proc/sys/vm/compact_memory";

	if (c->world.node >= 0)
		snprintf(path, sizeof path, "sys/devices/system/node/node%d/compact",
			c->world.node);
	return engine_result(result, gw_tunable_set(m->machine, path, "1"));
}
