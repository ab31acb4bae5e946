// SPDX-License-Identifier: MIT
// Where are these pages? move_pages(2) without nodes.
//
//   ask_pages()   status[i] = the node of the page at pages[i]; -EFAULT: no mapping, or the zero
//                 page; -ENOENT: nothing touched there yet, or being migrated right now
//
// Sixteen addresses at a time under mmap_lock, as Linux does: a query of a large area must not keep
// others from mapping and unmapping. Nothing is allocated or touched by asking.
#include "migrate/lookup.h"
#include "migrate/move_pages.h"

#include <errno.h>

#define CHUNK 16

static int where(struct lookup *l, struct move_request *rq, uint64_t i, enum migrate_why *why)
{
	struct folio *folio;
	int err = lookup_folio(l, rq->pages[i], &folio, why);

	if (err)
		return err;
	if (rq->order)
		rq->order[i] = (uint8_t)folio_order(folio);
	return (int)folio_nid(folio);
}

static void ask_chunk(struct move_request *rq, struct space *space, uint64_t first, uint64_t nr)
{
	struct lookup l;

	lookup_begin(&l, space);
	for (uint64_t i = first; i < first + nr; i++) {
		enum migrate_why why = WHY_ALREADY_THERE;

		rq->status[i] = where(&l, rq, i, &why);
		if (rq->why)
			rq->why[i] = why;
	}
	lookup_end(&l);
}

long ask_pages(struct move_request *rq, struct space *space)
{
	if (rq->count && (!user_array(rq->pages) || !user_array(rq->status)))
		return -EFAULT;
	for (uint64_t i = 0; i < rq->count; i += CHUNK)
		ask_chunk(rq, space, i, min((uint64_t)CHUNK, rq->count - i));
	return 0;
}
