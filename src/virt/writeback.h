// SPDX-License-Identifier: MIT
// Between object.c, file.c and writeback.c: the counters of dirty pages, which only files have.
#ifndef GODWIT_VIRT_WRITEBACK_H
#define GODWIT_VIRT_WRITEBACK_H

#include "virt/object.h"

// i_pages held. sign 1: it became dirty, -1: it is not any more.
void folio_count_dirty(struct object *, const struct folio *, int sign);
// What was dirty as src is dirty as dst.
void folio_count_dirty_moved(struct object *, const struct folio *dst, const struct folio *src);

// Write consecutive pages, all locked and cleared for I/O, to the file in one call; they are under
// writeback meanwhile, and unlocked on return. 0, or -EIO: they are dirty again.
#define WRITE_RUN_MAX 32
int file_write_run(struct object *, struct folio **, unsigned nr);

#endif
