// SPDX-License-Identifier: MIT
// Migration entries: what stands in a page table while a page is being moved, and how long
// accessors waited for such entries.
//
// An entry keeps the source's pfn (a fault finds the folio whose lock it waits for), the dirty and
// young bits, and which of three kinds the mapping was: writable, read-only but exclusive to its
// space, or read-only. The kind may be lowered while the entry stands (fork, mprotect), never
// raised; so what comes back is never more than what was there.
//
// No lock is taken here; the page-table lock of the entry is held by the callers.
#include "migrate/batch.h"

struct pte migration_entry_make(struct pte present, bool exclusive)
{
	uint64_t keep = present.v & (PTE_DIRTY | PTE_YOUNG | PTE_HUGE);
	uint64_t kind = pte_writable(present) ? PTE_MIGRATION_WRITE
			: exclusive	      ? PTE_MIGRATION_READ_EXCLUSIVE
					      : PTE_MIGRATION_READ;

	return pte_make(pte_pfn(present), keep | kind);
}

// No backend sees a write through a writable translation, so a writable entry is a dirty one. Where
// that is not so any more (the file page was cleaned meanwhile) the next write shall fault.
struct pte migration_entry_restore(struct pte entry, struct pfn pfn, const struct folio *dst)
{
	uint64_t bits = PTE_PRESENT | (entry.v & (PTE_YOUNG | PTE_HUGE));
	bool dirty = (entry.v & PTE_DIRTY) && folio_test_dirty(dst);
	bool write = pte_kind(entry) == PTE_MIGRATION_WRITE;

	if (write && folio_test_swapbacked(dst))
		dirty = true;
	if (dirty)
		bits |= PTE_DIRTY;
	if (write && dirty)
		bits |= PTE_WRITE;
	return pte_make(pfn, bits);
}

struct histogram *migrate_wait_histogram(struct mm_core *mm)
{
	return &mm->migration_waits;
}

const char *migrate_why_text(enum migrate_why why)
{
	static const char *const text[] = {
#define X(name, words) [WHY_##name] = words,
		MIGRATE_WHYS(X)
#undef X
	};

	return (unsigned)why < WHY_COUNT ? text[why] : "?";
}

const char *migrate_why_name(enum migrate_why why)
{
	static const char *const name[] = {
#define X(word, words) [WHY_##word] = #word,
		MIGRATE_WHYS(X)
#undef X
	};

	return (unsigned)why < WHY_COUNT ? name[why] : "?";
}
