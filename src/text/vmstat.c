// SPDX-License-Identifier: MIT
// The counters: proc/vmstat, and of one node vmstat and numastat.
//
// The lines and their order are the table of base/vmstat_items.h. Lines of contiguous-memory
// areas are printed only on a machine that has one, which is what kernels with and without
// CONFIG_CMA do. The last line, nr_unstable, went out of use in 5.8 and is printed as 0 ever since.
// A machine that runs counts while it is read: a text is not one moment. Locks: none but those of
// phys_has_cma(). Nothing can fail but the index of a node.
#include <godwit/stats.h>

#include "base/text_buf.h"
#include "text/files.h"

#include <errno.h>
#include <string.h>

#define LAST_LINE "nr_unstable"

static bool is_cma(enum vmstat_item item)
{
	return item == VM_CMA_ALLOC_SUCCESS || item == VM_CMA_ALLOC_FAIL;
}

int file_vmstat(struct gw_machine *machine, const struct tunable *t maybe_unused,
	const unsigned *index maybe_unused, struct text_buf *text)
{
	const struct vmstat *stat = machine->mm.stat;
	const bool has_cma = phys_has_cma(machine->mm.phys);

	for (unsigned i = 0; i < VMSTAT_ITEMS; i++) {
		enum vmstat_item item = (enum vmstat_item)i;

		if (has_cma || !is_cma(item))
			text_printf(text, "%s %lu\n", vmstat_name(item), vmstat_read(stat, item));
	}
	text_puts(text, LAST_LINE " 0\n");
	return 0;
}

int file_node_vmstat(struct gw_machine *machine, const struct tunable *t maybe_unused,
	const unsigned *index, struct text_buf *text)
{
	if (!index_is_node(machine, index[0]))
		return -ENOENT;
	for (unsigned i = 0; i < VMSTAT_NODE_ITEMS; i++) {
		enum vmstat_item item = (enum vmstat_item)i;

		text_printf(text, "%s %lu\n", vmstat_name(item),
			vmstat_node(machine->mm.stat, index[0], item));
	}
	return 0;
}

int file_node_numastat(struct gw_machine *machine, const struct tunable *t maybe_unused,
	const unsigned *index, struct text_buf *text)
{
	static const struct {
		const char *name;
		enum vmstat_item item;
	} lines[] = {
		{"numa_hit", VM_NUMA_HIT},
		{"numa_miss", VM_NUMA_MISS},
		{"numa_foreign", VM_NUMA_FOREIGN},
		{"interleave_hit", VM_NUMA_INTERLEAVE},
		{"local_node", VM_NUMA_LOCAL},
		{"other_node", VM_NUMA_OTHER},
	};

	if (!index_is_node(machine, index[0]))
		return -ENOENT;
	for (unsigned i = 0; i < ARRAY_SIZE(lines); i++)
		text_printf(text, "%s %lu\n", lines[i].name,
			vmstat_node(machine->mm.stat, index[0], lines[i].item));
	return 0;
}

// ---- One by one

const char *gw_vmstat_name(unsigned i)
{
	if (i == VMSTAT_ITEMS)
		return LAST_LINE;
	return i < VMSTAT_ITEMS ? vmstat_name((enum vmstat_item)i) : NULL;
}

int gw_vmstat(struct gw_machine *machine, const char *name, int64_t *ret_value)
{
	enum vmstat_item item;

	if (machine_is_dead(machine))
		return -EOWNERDEAD;
	if (!machine || !name || !ret_value)
		return -EINVAL;
	if (!strcmp(name, LAST_LINE)) {
		*ret_value = 0;
		return 0;
	}
	if (vmstat_find(name, &item))
		return -ENOENT;
	*ret_value = (int64_t)vmstat_read(machine->mm.stat, item);
	return 0;
}
