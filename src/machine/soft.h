// SPDX-License-Identifier: MIT
// The soft backend: no host mapping of frames.
#ifndef GODWIT_MACHINE_SOFT_H
#define GODWIT_MACHINE_SOFT_H

#include "machine/mmu.h"

must_check int soft_open(mmu_fault_fn *fault, struct mmu **ret_mmu);

#endif
