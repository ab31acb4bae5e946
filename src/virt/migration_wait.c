// SPDX-License-Identifier: MIT
// Waiting for a page that is being moved. The waiter sleeps on the folio's lock bit without taking
// a reference: a reference would change the count that migration expects, and the move would back
// out because of who waits for it. The folio may be freed and used anew meanwhile; the waiter only
// looks at the lock bit, and then at its entry again.
//
// How long accessors waited is kept in mm->migration_waits. A waiter that sleeps in the host
// (userfaultfd) is noted when its access arrives and counted when the page comes back.
#include "virt/fault.h"

#include "base/histogram.h"
#include "machine/clock.h"
#include "virt/mm.h"

static struct folio *migrating_folio(struct space *space, uint64_t addr)
{
	struct vaddr v = vaddr_of(addr);
	struct page_table *table = pte_table_lock(space, v);
	struct folio *folio = NULL;
	struct pte e = {0};

	if (table) {
		e = table_entry(table, pte_index(v));
	} else {
		table = pmd_table_lock(space, v);
		if (table)
			e = table_entry(table, pmd_index(v));
	}
	if (pte_migration(e))
		folio = pfn_folio(pte_pfn(e));
	if (table)
		page_table_unlock(table);
	return folio;
}

void migration_entry_wait(struct space *space, uint64_t addr)
{
	struct mm_core *mm = space->mm;
	struct folio *folio = migrating_folio(space, addr);
	uint64_t since;

	if (!folio)
		return;
	since = clock_now_ns(mm->clock);
	folio_wait_locked_noref(folio);
	histogram_add(&mm->migration_waits, clock_now_ns(mm->clock) - since);
}
