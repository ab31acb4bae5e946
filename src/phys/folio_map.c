// SPDX-License-Identifier: MIT
// Mapcounts: how many page-table entries map a page, and a folio.
//
// Each page counts its own entries. A large folio counts in addition its mappings by huge entries
// (entire_mapcount), all mappings of any kind (large_mapcount), and how many of its pages are
// mapped at all (nr_mapped). The last is what statistics need without walking 512 frames: it is the
// number of pages with entries of their own, plus ENTIRELY_MAPPED for each time the whole folio
// went from unmapped to mapped. A page is mapped if it has entries or the whole is. A folio of
// order 1 has no place for that number, and no huge entry: both its frames are looked at.
//
// Each update comes under the page-table lock of the entry it counts, but different tables have
// different locks, so every step is one atomic operation. A page that one table loses while another
// gets it may be in nr_mapped twice for a moment, so that more pages seem mapped than there are:
// what a call reports is the exact change of nr_mapped, read as above. It may be negative then, and
// the sums are exact once all are done.
#include "base/assert.h"
#include "phys/folio.h"

#define ENTIRELY_MAPPED 0x800000
#define MAPPED_PAGES (ENTIRELY_MAPPED - 1)

static int32_t add(_Atomic int32_t *count, int32_t n) // returns the old value
{
	return atomic_fetch_add_explicit(count, n, memory_order_acq_rel);
}

static int32_t load(const _Atomic int32_t *count)
{
	return atomic_load_explicit(count, memory_order_relaxed);
}

int folio_map_pages(struct folio *folio, unsigned long first, unsigned long nr)
{
	struct frame *frame = folio_frame(folio, first);
	int32_t fresh = 0;

	if (!folio_large(folio))
		return add(&frame->mapcount, 1) == 0;
	for (unsigned long i = 0; i < nr; i++)
		fresh += add(&frame[i].mapcount, 1) == 0;
	add(&folio_frame(folio, 1)->large_mapcount, (int32_t)nr);
	if (folio_order(folio) == 1)
		return fresh;
	int32_t old = add(&folio_frame(folio, 2)->tail.nr_mapped, fresh);
	return old >= ENTIRELY_MAPPED ? 0 : fresh;
}

int folio_unmap_pages(struct folio *folio, unsigned long first, unsigned long nr)
{
	struct frame *frame = folio_frame(folio, first);
	int32_t gone = 0;

	for (unsigned long i = 0; i < nr; i++) {
		int32_t old = add(&frame[i].mapcount, -1);
		assert_that(
			old > 0, "pfn %#lx is not mapped", (unsigned long)frame_pfn(frame + i).n);
		gone += old == 1;
	}
	if (!folio_large(folio))
		return gone;
	add(&folio_frame(folio, 1)->large_mapcount, -(int32_t)nr);
	if (folio_order(folio) == 1)
		return gone;
	int32_t old = add(&folio_frame(folio, 2)->tail.nr_mapped, -gone);
	return old >= ENTIRELY_MAPPED ? 0 : gone;
}

int folio_map_entire(struct folio *folio, bool *ret_first)
{
	assert_that(folio_order(folio) > 1, "pfn %#lx of order %u has no huge entry",
		(unsigned long)folio_pfn(folio).n, folio_order(folio));
	bool first = add(&folio_frame(folio, 1)->tail.entire_mapcount, 1) == 0;

	add(&folio_frame(folio, 1)->large_mapcount, 1);
	if (ret_first)
		*ret_first = first;
	if (!first)
		return 0;
	int32_t old = add(&folio_frame(folio, 2)->tail.nr_mapped, ENTIRELY_MAPPED);
	return old >= ENTIRELY_MAPPED ? 0 : (int)folio_nr(folio) - old;
}

int folio_unmap_entire(struct folio *folio, bool *ret_last)
{
	int32_t count = add(&folio_frame(folio, 1)->tail.entire_mapcount, -1);

	assert_that(
		count > 0, "pfn %#lx is not mapped as a whole", (unsigned long)folio_pfn(folio).n);
	add(&folio_frame(folio, 1)->large_mapcount, -1);
	if (ret_last)
		*ret_last = count == 1;
	if (count != 1)
		return 0;
	int32_t left = add(&folio_frame(folio, 2)->tail.nr_mapped, -ENTIRELY_MAPPED);
	left -= ENTIRELY_MAPPED;
	return left >= ENTIRELY_MAPPED ? 0 : (int)folio_nr(folio) - left;
}

int frame_mapcount(struct frame *frame)
{
	return load(&frame->mapcount) + folio_entire_mapcount(frame_folio(frame));
}

unsigned folio_nr_pages_mapped(const struct folio *folio)
{
	if (!folio_large(folio))
		return folio_mapped(folio);
	if (folio_entire_mapcount(folio))
		return (unsigned)folio_nr(folio);
	if (folio_order(folio) == 1)
		return (load(&folio->page.mapcount) > 0) +
		       (load(&(&folio->page)[1].mapcount) > 0);
	return (unsigned)load(&(&folio->page)[2].tail.nr_mapped) & MAPPED_PAGES;
}

bool folio_likely_mapped_shared(const struct folio *folio)
{
	int mapcount = folio_mapcount(folio);

	if (!folio_large(folio) || folio_test_hugetlb(folio))
		return mapcount > 1;
	if (mapcount <= 1)
		return false;
	// A whole mapping and any other, or more mappings than pages: two spaces at least.
	if (folio_entire_mapcount(folio) || mapcount > (int)folio_nr(folio))
		return true;
	return load(&folio->page.mapcount) > 1; // the first page stands for all
}
