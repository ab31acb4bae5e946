// SPDX-License-Identifier: MIT
// What sys/devices/system/node says of the topology: distances and cpus of a node, and which nodes
// there are. All of it is fixed when the machine is built, so no lock is needed; nothing can fail
// but the index of a node.
#include "base/text_buf.h"
#include "text/files.h"

#include <errno.h>

int file_node_distance(struct gw_machine *machine, const struct tunable *t maybe_unused,
	const unsigned *index, struct text_buf *text)
{
	const struct topology *topology = machine->mm.phys->topology;

	if (!index_is_node(machine, index[0]))
		return -ENOENT;
	for (unsigned nid = 0; nid < topology->nr_nodes; nid++)
		text_printf(text, "%s%u", nid ? " " : "",
			topology_distance(topology, index[0], nid));
	text_putc(text, '\n');
	return 0;
}

static bool has_cpu(const struct topology *topology, unsigned node, unsigned cpu)
{
	return cpu < topology->nr_cpus && topology_cpu_node(topology, cpu) == node;
}

// "0-1,4"
int file_node_cpulist(struct gw_machine *machine, const struct tunable *t maybe_unused,
	const unsigned *index, struct text_buf *text)
{
	const struct topology *topology = machine->mm.phys->topology;
	const char *comma = "";

	if (!index_is_node(machine, index[0]))
		return -ENOENT;
	for (unsigned first = 0; first < topology->nr_cpus; first++) {
		unsigned last = first;

		if (!has_cpu(topology, index[0], first))
			continue;
		while (has_cpu(topology, index[0], last + 1))
			last++;
		text_printf(text, "%s%u", comma, first);
		if (last > first)
			text_printf(text, "-%u", last);
		comma = ",";
		first = last;
	}
	text_putc(text, '\n');
	return 0;
}

// Bits in hexadecimal, the highest first, a comma every 32: "3" or "00ff,00000000".
int file_node_cpumap(struct gw_machine *machine, const struct tunable *t maybe_unused,
	const unsigned *index, struct text_buf *text)
{
	const struct topology *topology = machine->mm.phys->topology;
	const unsigned nr = topology->nr_cpus;

	if (!index_is_node(machine, index[0]))
		return -ENOENT;
	for (unsigned word = (nr - 1) / 32 + 1; word-- > 0;) {
		unsigned width = min(nr - word * 32, 32u);
		uint32_t bits = 0;

		for (unsigned bit = 0; bit < width; bit++)
			bits |= (uint32_t)has_cpu(topology, index[0], word * 32 + bit) << bit;
		text_printf(text, "%0*x%s", (int)DIV_ROUND_UP(width, 4), bits, word ? "," : "\n");
	}
	return 0;
}

static int print_mask(struct text_buf *text, struct nodemask mask)
{
	char buf[NODEMASK_TEXT_MAX];

	nodemask_format(mask, buf, sizeof buf);
	text_printf(text, "%s\n", buf);
	return 0;
}

int file_nodes_possible(struct gw_machine *machine, const struct tunable *t maybe_unused,
	const unsigned *index maybe_unused, struct text_buf *text)
{
	return print_mask(text, nodemask_below(machine->mm.phys->nr_nodes));
}

int file_nodes_has_memory(struct gw_machine *machine, const struct tunable *t maybe_unused,
	const unsigned *index maybe_unused, struct text_buf *text)
{
	return print_mask(text, machine->mm.phys->has_memory);
}

int file_nodes_has_cpu(struct gw_machine *machine, const struct tunable *t maybe_unused,
	const unsigned *index maybe_unused, struct text_buf *text)
{
	return print_mask(text, topology_cpu_nodes(machine->mm.phys->topology));
}

int file_nodes_none(struct gw_machine *machine maybe_unused, const struct tunable *t maybe_unused,
	const unsigned *index maybe_unused, struct text_buf *text)
{
	return print_mask(text, NODEMASK_NONE);
}
