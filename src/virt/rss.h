// SPDX-License-Identifier: MIT
// Resident pages of a space, by kind of folio, counted where an entry comes or goes. A migration
// entry still counts: migration does not change what is resident.
#ifndef GODWIT_VIRT_RSS_H
#define GODWIT_VIRT_RSS_H

#include "phys/folio.h"
#include "virt/space.h"

static inline _Atomic long *space_rss(struct space *space, const struct folio *folio)
{
	if (folio_test_anon(folio))
		return &space->rss_anon;
	return folio_test_swapbacked(folio) ? &space->rss_shmem : &space->rss_file;
}

static inline void space_rss_add(struct space *space, const struct folio *folio, long pages)
{
	atomic_fetch_add_explicit(space_rss(space, folio), pages, memory_order_relaxed);
}

#endif
