// SPDX-License-Identifier: MIT
// A folio out of all page tables for a moment; see detach.c.
#ifndef GODWIT_MIGRATE_DETACH_H
#define GODWIT_MIGRATE_DETACH_H

#include "phys/folio.h"

struct mm_core;

// How mapcounts go: entry by entry, as Linux does where each page has an entry, so that a folio of
// several pages seems to lose some of its mappings meanwhile (and is noted as partially mapped); or
// all that neighbour each other at once.
enum detach { DETACH_ONE_BY_ONE, DETACH_AT_ONCE };

// Every entry that maps the anonymous folio becomes a migration entry, and accessors are stopped.
// Locked; mapped by small entries only; the caller holds a reference to its anon_vma. -EAGAIN: some
// entry could not be replaced (pinned), or the host refused; all are back.
must_check int folio_detach(struct mm_core *, struct folio *, enum detach);
// The entries of nr consecutive folios of the order, all locked, come back.
void folios_attach(struct mm_core *, struct folio *first, unsigned order, unsigned nr);
// The same for nr small ones that were detached as one; what maps one that holds nothing but zeros
// gets the zero page instead (where memory is not locked), and the folio has one mapping less.
void folios_attach_used(struct mm_core *, struct folio *first, unsigned nr);

#endif
