// SPDX-License-Identifier: MIT
// What phys_init() needs of the other files of this folder.
#ifndef GODWIT_PHYS_ZONELIST_H
#define GODWIT_PHYS_ZONELIST_H

#include "phys/zone.h"

// Both zonelists of every node, from the topology and which zones have memory.
void phys_build_zonelists(struct phys *phys);

// All zones' watermarks, reserves and per-cpu list sizes, from the tunables.
void phys_setup_watermarks(struct phys *phys);
unsigned long phys_default_min_free_kbytes(const struct phys *phys);

#endif
