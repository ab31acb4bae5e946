// SPDX-License-Identifier: MIT
// Taking a folio out of all page tables for a moment, for who changes it in place (a split): its
// entries become migration entries, accessors wait, and later the same frames come back, as one
// folio or as several.
//
//	folio_detach()	locked, anonymous, nobody but its mappings and the caller refers to it
//	...		the caller dissolves it
//	folios_attach()	each piece, locked, in frame order; its entries are present again
//	folios_attach_used()	the same, but of pieces of nothing but zeros the entries become
//				those of the zero page
//
// A piece is compared with zeros while its entries are migration entries: no store is in flight at
// any address that maps it, and none can begin. Its last mapping gone, it is free when the caller
// gives it up. No piece is exchanged while the host's mappings run short: one page among others
// costs two.
//
// It is the first and the last step of a migration without a move between them (unmap.c, remap.c).
// Held: the folio lock; the rmap lock and page-table locks are taken inside.
// What can fail: detaching, -EAGAIN, with all entries restored.
#include "migrate/detach.h"

#include "base/mark.h"
#include "machine/vma_budget.h"
#include "migrate/batch.h"
#include "virt/fault.h"

#include <errno.h>

// One slot of a batch, without an allocation.
struct lone_batch {
	_Alignas(struct batch) char bytes[sizeof(struct batch) + sizeof(struct slot)];
	struct migrate_control mc;
};

static struct batch *lone_batch(struct lone_batch *room, struct mm_core *mm, struct folio *folio)
{
	struct batch *b = (struct batch *)room->bytes;

	room->mc = (struct migrate_control){.mm = mm, .mode = MIGRATE_SYNC};
	*b = (struct batch){.mc = &room->mc, .mode = MIGRATE_SYNC, .nr = 1};
	b->slot[0] = (struct slot){.src = folio, .nr_pages = (unsigned)folio_nr(folio)};
	return b;
}

int folio_detach(struct mm_core *mm, struct folio *folio, enum detach how)
{
	struct lone_batch room;
	struct batch *b = lone_batch(&room, mm, folio);
	struct mapper m;
	int err;

	mapper_init(&m, b);
	m.at_once = how == DETACH_AT_ONCE;
	err = slot_unmap(&m, &b->slot[0]);
	if (mapper_finish(&m) && !err)
		err = -EAGAIN;
	if (err)
		folios_attach(mm, folio, folio_order(folio), 1);
	return err;
}

// Of pages that nobody maps nobody cares.
static bool may_be_exchanged(struct mm_core *mm, struct folio *piece)
{
	if (frame_test_hwpoison(&piece->page) || folio_test_mlocked(piece))
		return false;
	if (!(mm->mmu->caps & MMU_NO_VMA_COST) && vma_budget_is_short()) {
		MARK(zero_pieces_kept);
		return false;
	}
	return folio_page_is_zero(mm, piece, 0);
}

static void attach(struct mm_core *mm, struct folio *first, unsigned order, unsigned nr,
	bool only_used)
{
	struct lone_batch room;
	struct batch *b = lone_batch(&room, mm, first);
	struct mapper m;

	mapper_init(&m, b);
	for (unsigned i = 0; i < nr; i++) {
		struct folio *piece = (struct folio *)folio_frame(first, (unsigned long)i << order);

		if (only_used && may_be_exchanged(mm, piece))
			slot_remap_zero(&m, piece);
		else
			slot_remap(&m, piece, piece);
	}
	(void)mapper_finish(&m);
}

void folios_attach(struct mm_core *mm, struct folio *first, unsigned order, unsigned nr)
{
	attach(mm, first, order, nr, false);
}

void folios_attach_used(struct mm_core *mm, struct folio *first, unsigned nr)
{
	attach(mm, first, 0, nr, true);
}
