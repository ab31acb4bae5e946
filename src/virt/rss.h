// SPDX-License-Identifier: MIT
// Resident pages of a space, by kind of folio, counted where an entry comes or goes. A migration
// entry still counts: migration does not change what is resident.
#ifndef GODWIT_VIRT_RSS_H
#define GODWIT_VIRT_RSS_H

#include "phys/folio.h"
#include "virt/space.h"

static inline void space_rss_add(struct space *space, const struct folio *folio, long pages)
{
	_Atomic long *counter = &space->rss_file;

	if (folio_test_anon(folio))
		counter = &space->rss_anon;
	else if (folio_test_swapbacked(folio))
		counter = &space->rss_shmem;
	atomic_fetch_add_explicit(counter, pages, memory_order_relaxed);
}

#endif
