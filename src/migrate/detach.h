// SPDX-License-Identifier: MIT
// A folio out of all page tables for a moment; see detach.c.
#ifndef GODWIT_MIGRATE_DETACH_H
#define GODWIT_MIGRATE_DETACH_H

#include "phys/folio.h"

struct mm_core;

// Every entry that maps the anonymous folio becomes a migration entry, and accessors are stopped.
// Locked; mapped by small entries only; the caller holds a reference to its anon_vma. -EAGAIN: some
// entry could not be replaced (pinned), or the host refused; all are back.
must_check int folio_detach(struct mm_core *, struct folio *);
// The entries of nr consecutive folios of the order, all locked, come back.
void folios_attach(struct mm_core *, struct folio *first, unsigned order, unsigned nr);

#endif
