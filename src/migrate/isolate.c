// SPDX-License-Identifier: MIT
// Isolation: taking a folio away from where others would find it, so that it can be moved.
//
//   isolate_for_migration()   one folio
//   isolation_add()           one of many: taken at once, unlinked with others under one LRU lock
//
// An isolated folio is on no LRU list (or marked ISOLATED, or off its pool's active list), has one
// reference more, is counted in its node's NR_ISOLATED_ANON or _FILE (LRU folios only), and is on
// the isolating thread's own list. Only one can isolate a folio: that is what the atomic clearing
// of LRU decides. No lock is needed beyond what keeps the folio alive meanwhile: a reference, or
// the page-table lock of one of its mappings. putback.c undoes it.
#include "migrate/migrate.h"
#include "migrate/movable.h"
#include "phys/lru.h"

#include <errno.h>

static int isolate_lru(struct folio *folio)
{
	if (!folio_isolate_lru(folio))
		return -EBUSY;
	folio_count_isolated(folio);
	return 0;
}

static int isolate_hugetlb(struct mm_core *mm, struct folio *folio)
{
	return mm->up.hugetlb_isolate && mm->up.hugetlb_isolate(folio) ? 0 : -EBUSY;
}

int isolate_for_migration(struct mm_core *mm, struct folio *folio, struct folio_list *list)
{
	int err = folio_test_hugetlb(folio)	  ? isolate_hugetlb(mm, folio)
		  : folio_test_movable_type(folio) ? movable_isolate(folio, MIGRATE_SYNC)
						  : isolate_lru(folio);

	if (!err)
		folio_list_add_tail(list, folio);
	return err;
}

int isolation_add(struct isolation *iso, struct folio *folio)
{
	unsigned nid = folio_nid(folio);

	if (unlikely(folio_test_hugetlb(folio) || folio_test_movable_type(folio))) {
		isolation_end(iso);
		return isolate_for_migration(iso->mm, folio, iso->list);
	}
	if (!folio_isolate_lru_begin(folio))
		return -EBUSY;
	if (iso->nr == ISOLATION_MAX || (iso->nr && iso->nid != nid))
		isolation_end(iso);
	iso->nid = nid;
	iso->folio[iso->nr++] = folio;
	return 0;
}

void isolation_end(struct isolation *iso)
{
	folio_isolate_lru_end(iso->folio, iso->nr, iso->list);
	iso->nr = 0;
}
