// SPDX-License-Identifier: MIT
// Where are these pages? move_pages(2) without nodes.
//
//   ask_pages()   status[i] = the node of the page at pages[i]; -EFAULT: no mapping, or the zero
//                 page; -ENOENT: nothing touched there yet, or being migrated right now
//
// Sixteen addresses at a time under mmap_lock, as Linux does: a query of a large area must not keep
// others from mapping and unmapping. The caller's arrays, which may be managed memory, are read
// before the lock is taken and written after it. Nothing is allocated or touched by asking.
#include "migrate/lookup.h"
#include "migrate/move_pages.h"

#include <errno.h>
#include <string.h>

#define CHUNK 16

static int where(struct lookup *l, struct move_request *rq, uint64_t i, uint64_t addr)
{
	enum migrate_why why = WHY_ALREADY_THERE;
	struct folio *folio;
	int err = lookup_folio(l, addr, &folio, &why);

	if (rq->why)
		rq->why[i] = why;
	if (err)
		return err;
	if (rq->order)
		rq->order[i] = (uint8_t)folio_order(folio);
	return (int)folio_nid(folio);
}

static void ask_chunk(struct move_request *rq, struct space *space, uint64_t first, uint64_t nr)
{
	uint64_t page[CHUNK];
	int status[CHUNK];
	struct lookup l;

	memcpy(page, rq->pages + first, nr * sizeof *page);
	lookup_begin(&l, space);
	for (uint64_t k = 0; k < nr; k++)
		status[k] = where(&l, rq, first + k, page[k]);
	lookup_end(&l);
	memcpy(rq->status + first, status, nr * sizeof *status);
}

long ask_pages(struct move_request *rq, struct space *space)
{
	if (rq->count && (!user_array(rq->pages) || !user_array(rq->status)))
		return -EFAULT;
	for (uint64_t i = 0; i < rq->count; i += CHUNK)
		ask_chunk(rq, space, i, min((uint64_t)CHUNK, rq->count - i));
	return 0;
}
