// SPDX-License-Identifier: MIT
// Putting isolated folios back: the opposite of isolate.c, for what was not moved (or was, and came
// back to the list by a split). Each loses the reference and the count of its isolation. A folio
// that its owner freed meanwhile is freed here, by this last reference.
//
//   putback_movable_pages()  takes the folio lock of non-LRU pages; may sleep; cannot fail
#include "migrate/migrate.h"
#include "migrate/movable.h"
#include "phys/lru.h"

static void putback(struct mm_core *mm, struct folio *folio)
{
	if (folio_test_hugetlb(folio)) {
		mm->up.hugetlb_putback(folio);
	} else if (folio_test_movable_type(folio)) {
		movable_putback(folio);
	} else {
		folio_uncount_isolated(folio);
		folio_putback_lru(folio);
	}
}

void putback_movable_pages(struct mm_core *mm, struct folio_list *list)
{
	struct folio *folio;

	while ((folio = folio_list_pop(list)))
		putback(mm, folio);
}
