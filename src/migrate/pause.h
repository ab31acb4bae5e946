// SPDX-License-Identifier: MIT
// How many pages may be stopped at once, so that a pause stays within its budget.
#ifndef GODWIT_MIGRATE_PAUSE_H
#define GODWIT_MIGRATE_PAUSE_H

#include "virt/mm.h"

// At most `most`, at least 1. Budgets are kept mostly, not always.
unsigned pause_fits(const struct pause_book *, uint64_t budget_us, unsigned most);
// `pages` (not 0) were stopped for ns together.
void pause_learn(struct pause_book *, unsigned pages, uint64_t ns);

#endif
