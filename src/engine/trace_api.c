// SPDX-License-Identifier: MIT
// include/godwit/trace.h: the trace of a machine as text.
//
// Nothing is taken out of the ring, so several readers do not disturb each other. Where events were
// overwritten since the mark, or while the text was made, a line says how many, in the words of the
// kernel's trace_pipe. The text ends with the last event there was when it was begun: on a busy
// machine it would not end otherwise.
// Locks: the ring's, for one event at a time. What can fail: memory for the text.
#include <godwit/trace.h>

#include "base/text_buf.h"
#include "engine/engine.h"

#include <errno.h>

#define EVENT_TEXT_MAX 512

uint64_t gw_trace_mark(struct gw_machine *machine)
{
	if (machine_refused(machine))
		return 0;
	return machine->mm.trace ? trace_next(machine->mm.trace) : 0;
}

static void print_lost(struct text_buf *text, uint64_t lost)
{
	if (lost)
		text_printf(text, "[LOST %lu EVENTS]\n", lost);
}

int gw_trace_text(struct gw_machine *machine, uint64_t since, char **ret_text)
{
	struct trace_ring *ring;
	struct text_buf text = {0};
	struct trace_record record;
	char line[EVENT_TEXT_MAX];
	uint64_t end;

	if (machine_refused(machine))
		return machine_refused(machine);
	if (!ret_text)
		return -EINVAL;
	ring = machine->mm.trace;
	if (!ring)
		return text_take(&text, ret_text);
	end = trace_next(ring);
	while (trace_look(ring, since, &record) && record.sequence < end) {
		print_lost(&text, record.sequence - since);
		trace_format_fields(&record, line, sizeof line);
		text_printf(&text, "%s\n", line);
		since = record.sequence + 1;
	}
	if (since < end)
		print_lost(&text, end - since);
	return text_take(&text, ret_text);
}

void trace_of_entries(struct trace_ring *ring, bool on)
{
	static const enum trace_event_id event[] = {TRACE_set_migration_pte,
		TRACE_remove_migration_pte, TRACE_set_migration_pmd, TRACE_remove_migration_pmd};

	for (unsigned i = 0; i < ARRAY_SIZE(event); i++)
		trace_enable(ring, event[i], on);
}

void gw_trace_enable(struct gw_machine *machine, int enable)
{
	if (machine_refused(machine))
		return;
	if (!machine->mm.trace)
		return;
	trace_of_entries(machine->mm.trace, enable != 0);
	trace_switch(machine->mm.trace, enable != 0);
}
