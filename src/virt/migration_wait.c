// SPDX-License-Identifier: MIT
// Waiting for a page that is being moved. The waiter sleeps on the folio's lock bit without taking
// a reference: a reference would change the count that migration expects, and the move would back
// out because of who waits for it. The folio may be freed and used anew meanwhile; the waiter only
// looks at the lock bit, and then at its entry again.
//
// How long accessors waited is kept in mm->migration_waits. A waiter that sleeps in the host
// (userfaultfd) is noted before its entry is looked at, so that a page that comes back at that very
// moment finds the note, and counted when it does; an access that is served at once takes its note
// back. There is room for 64 notes; who finds none goes uncounted.
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

void host_wait_begin(struct mm_core *mm, uintptr_t at)
{
	struct host_waits *w = &mm->host_waits;
	unsigned nr;

	mutex_lock(&w->lock);
	nr = atomic_load(&w->nr);
	if (nr < HOST_WAITS_MAX) {
		w->slot[nr].at = at & PAGE_MASK;
		w->slot[nr].since_ns = clock_now_ns(mm->clock);
		atomic_store(&w->nr, nr + 1);
	}
	mutex_unlock(&w->lock);
}

// Forget the notes of [at, at + nr pages), at most `max` of them; count them as waits or not.
static void forget(struct mm_core *mm, uintptr_t at, unsigned nr, unsigned max, bool count)
{
	struct host_waits *w = &mm->host_waits;
	uint64_t now;

	mutex_lock(&w->lock);
	now = count ? clock_now_ns(mm->clock) : 0; // not before a note that came meanwhile
	for (unsigned i = 0; i < atomic_load(&w->nr) && max;) {
		if (w->slot[i].at - at >= (uintptr_t)nr << PAGE_SHIFT) {
			i++;
			continue;
		}
		if (count)
			histogram_add(&mm->migration_waits, now - w->slot[i].since_ns);
		atomic_fetch_sub(&w->nr, 1);
		w->slot[i] = w->slot[atomic_load(&w->nr)];
		max--;
	}
	mutex_unlock(&w->lock);
}

void host_wait_cancel(struct mm_core *mm, uintptr_t at)
{
	forget(mm, at & PAGE_MASK, 1, 1, false);
}

void host_wait_end(struct mm_core *mm, uintptr_t at, unsigned nr)
{
	if (atomic_load_explicit(&mm->host_waits.nr, memory_order_relaxed))
		forget(mm, at, nr, HOST_WAITS_MAX, true);
}
