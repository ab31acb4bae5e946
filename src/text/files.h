// SPDX-License-Identifier: MIT
// The files of a machine that are read only: one function writes one text. Rows in text.c.
#ifndef GODWIT_TEXT_FILES_H
#define GODWIT_TEXT_FILES_H

#include "engine/engine.h"
#include "engine/tunable.h"

struct mm_core;
struct text_buf;

tunable_get_fn file_vmstat, file_node_vmstat, file_node_numastat;   // vmstat.c
tunable_get_fn file_buddyinfo, file_extfrag_index, file_unusable_index; // buddyinfo.c
tunable_get_fn file_pagetypeinfo;				    // pagetypeinfo.c
tunable_get_fn file_zoneinfo;					    // zoneinfo.c
tunable_get_fn file_meminfo, file_node_meminfo;			    // meminfo.c
tunable_get_fn file_node_distance, file_node_cpulist, file_node_cpumap; // nodes.c
tunable_get_fn file_nodes_possible, file_nodes_has_memory, file_nodes_has_cpu, file_nodes_none;
tunable_get_fn file_numa_maps; // numa_maps.c
tunable_get_fn file_smaps;     // smaps.c

// The rows that can be written too: of this engine (tunables.c), and of what is not in this build
// (tunables_idle.c).
extern const struct tunable_table tunables_of_engine, tunables_idle;

// Pages in pageblocks of contiguous-memory areas. Lines about these are printed only where there
// are any, as by kernels with and without CONFIG_CMA.
unsigned long zone_cma_pages(struct zone *zone);
bool phys_has_cma(struct phys *phys);

// Calls see for each zone with memory, by node and from the lowest zone up.
void each_zone(struct phys *phys, void (*see)(struct zone *zone, void *arg), void *arg);

static inline bool index_is_node(const struct gw_machine *machine, unsigned index)
{
	return index < machine->mm.phys->nr_nodes;
}

#endif
