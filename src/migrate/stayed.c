// SPDX-License-Identifier: MIT
// Who asks why pages stayed gets runs of neighbours, each with its reason; who does not, pays
// nothing.
//
//	stayed_add_entry(), stayed_add_folio()	while the range is walked: not taken up
//	stayed_doubt()		isolation was refused
//	stayed_leave()		migrate_pages() gave the folio back, still isolated
//	stayed_begin_walk()	whether there is a reason to walk again
//	stayed_meet()		in that walk: at its addresses
//	stayed_finish()		for the caller
//
// A folio that migrate_pages() leaves has lost its address on the way, and most do not stay: so
// those that do are collected by frame, and the walk that knew their addresses is done again
// before they are given back. They are ours until then: no frame means another page. One that was
// refused may be ours, by another address (then it has our reason or has moved), or somebody
// else's, who has moved it meanwhile: it counts when it is still met at its address. Pages that
// were unmapped meanwhile are no longer anybody's.
//
// All runs are kept until each page is there once; only then those beyond the caller's number are
// counted. What there is no memory for is counted at once, as often as it is met. All memory is the
// engine's: page-table locks are held here, and the caller's list may be managed memory.
// Only sorting may take memory of the process, for itself: no lock is held then.
// Locks: none of its own. One thread, that of the call.
#include "migrate/stayed.h"

#include "base/mark.h"
#include "base/meta.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ANY_ADDRESS UINT64_MAX

struct stayed_folio {
	unsigned long pfn;
	uint64_t address;
	enum migrate_why why;
	char detail[60];
};

void stayed_release(struct stayed *st)
{
	if (st->run)
		meta_free(st->run, st->room * sizeof *st->run);
	if (st->folio)
		meta_free(st->folio, st->folio_room * sizeof *st->folio);
	st->run = NULL;
	st->folio = NULL;
}

// Room for one more of the elements. false: there is none.
static bool grow(void **array, size_t nr, size_t *room, size_t each)
{
	size_t more = *room ? *room * 2 : 16;
	void *moved;

	if (nr < *room)
		return true;
	moved = meta_alloc(more * each);
	if (!moved)
		return false;
	if (*array) {
		memcpy(moved, *array, nr * each);
		meta_free(*array, *room * each);
	}
	*array = moved;
	*room = more;
	return true;
}

// ---- Runs

static uint64_t run_bytes(const struct stayed_run *run)
{
	return run->nr * (PAGE_SIZE << run->order);
}

static bool same_kind(const struct stayed_run *a, const struct stayed_run *b)
{
	return a->order == b->order && a->nid == b->nid && a->why == b->why &&
	       !strcmp(a->detail, b->detail);
}

// Whether b follows a, and a has it now.
static bool join(struct stayed_run *a, const struct stayed_run *b)
{
	if (!same_kind(a, b) || b->address != a->address + run_bytes(a))
		return false;
	a->nr += b->nr;
	return true;
}

void stayed_add(struct stayed *st, const struct stayed_run *run)
{
	struct stayed_run *last = st->nr ? &st->run[st->nr - 1] : NULL;

	if (last && join(last, run))
		return;
	if (grow((void **)&st->run, st->nr, &st->room, sizeof *st->run))
		st->run[st->nr++] = *run;
	else
		st->nr_more += run->nr << run->order;
}

void stayed_add_entry(struct stayed *st, uint64_t address, struct pte e, enum migrate_why why)
{
	const struct stayed_run run = {.address = address,
		.nr = 1,
		.order = pte_huge(e) ? PMD_ORDER : 0,
		.nid = STAYED_NOWHERE,
		.why = why};

	stayed_add(st, &run);
}

void stayed_add_folio(struct stayed *st, uint64_t address, const struct folio *folio,
	enum migrate_why why, const char *detail)
{
	struct stayed_run run = {.address = address,
		.nr = 1,
		.order = folio_order(folio),
		.nid = (int)folio_nid(folio),
		.why = why};

	if (detail)
		snprintf(run.detail, sizeof run.detail, "%s", detail);
	stayed_add(st, &run);
}

// What only says that somebody was there before says less: of one page it is last.
static unsigned rank(enum migrate_why why)
{
	return why == WHY_ABORTED ? 2 : why == WHY_NOT_ON_LRU;
}

static int by_address(const void *a, const void *b)
{
	const struct stayed_run *x = a, *y = b;

	if (x->address != y->address)
		return x->address < y->address ? -1 : 1;
	return (rank(x->why) > rank(y->why)) - (rank(x->why) < rank(y->why));
}

// The run without what the one before, of the same order, has already (NULL: there is none);
// whether anything is left. Large folios that are mapped in part may overlap by their sizes, and
// are not the same.
static bool cut(struct stayed_run *run, const struct stayed_run *before)
{
	const uint64_t size = PAGE_SIZE << run->order;
	const uint64_t end = before ? before->address + run_bytes(before) : 0;

	if (run->address >= end || (end - run->address) % size)
		return true;
	uint64_t pages = min((end - run->address) / size, run->nr);
	run->address += pages * size;
	run->nr -= pages;
	return run->nr;
}

static void sort_runs(struct stayed *st)
{
	if (st->nr)
		qsort(st->run, st->nr, sizeof *st->run, by_address);
}

static void drop_duplicates(struct stayed *st)
{
	const struct stayed_run *last[PUD_ORDER + 1] = {0};
	size_t nr = 0;

	for (size_t i = 0; i < st->nr; i++) {
		struct stayed_run *run = &st->run[i];

		if (!cut(run, last[run->order]))
			continue;
		st->run[nr] = *run;
		last[run->order] = &st->run[nr++];
	}
	st->nr = nr;
}

static void join_neighbours(struct stayed *st)
{
	size_t nr = 0;

	for (size_t i = 0; i < st->nr; i++)
		if (!nr || !join(&st->run[nr - 1], &st->run[i]))
			st->run[nr++] = st->run[i];
	st->nr = nr;
}

void stayed_finish(struct stayed *st)
{
	sort_runs(st);
	drop_duplicates(st);
	sort_runs(st); // who lost the pages it began with begins later
	join_neighbours(st);
	for (; st->nr > st->max; st->nr--) {
		MARK(stayed_no_room);
		st->nr_more += st->run[st->nr - 1].nr << st->run[st->nr - 1].order;
	}
}

// ---- Folios whose addresses are not known, or not for certain

static void collect(struct stayed *st, const struct stayed_folio *folio, unsigned long nr_pages)
{
	if (grow((void **)&st->folio, st->nr_folios, &st->folio_room, sizeof *st->folio))
		st->folio[st->nr_folios++] = *folio;
	else
		st->nr_more += nr_pages;
}

void stayed_doubt(
	struct stayed *st, uint64_t address, const struct folio *folio, enum migrate_why why)
{
	const struct stayed_folio f = {folio_pfn(folio).n, address, why, ""};

	collect(st, &f, folio_nr(folio));
}

void stayed_leave(
	struct stayed *st, const struct folio *folio, enum migrate_why why, const char *detail)
{
	struct stayed_folio f = {folio_pfn(folio).n, ANY_ADDRESS, why, ""};

	if (detail)
		snprintf(f.detail, sizeof f.detail, "%s", detail);
	collect(st, &f, folio_nr(folio));
}

// Of one folio, what we know of it ourselves is last.
static int by_frame(const void *a, const void *b)
{
	const struct stayed_folio *x = a, *y = b;

	if (x->pfn != y->pfn)
		return x->pfn < y->pfn ? -1 : 1;
	return (x->address > y->address) - (x->address < y->address);
}

bool stayed_begin_walk(struct stayed *st)
{
	st->last = NULL;
	if (st->nr_folios)
		qsort(st->folio, st->nr_folios, sizeof *st->folio, by_frame);
	return st->nr_folios;
}

static const struct stayed_folio *find(const struct stayed *st, unsigned long pfn, uint64_t address)
{
	size_t low = 0, high = st->nr_folios; // high: the first beyond those of the frame

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (st->folio[middle].pfn <= pfn)
			low = middle + 1;
		else
			high = middle;
	}
	for (size_t i = high; i-- && st->folio[i].pfn == pfn;)
		if (st->folio[i].address == ANY_ADDRESS || st->folio[i].address == address)
			return &st->folio[i];
	return NULL;
}

void stayed_meet(struct stayed *st, uint64_t address, struct pte e)
{
	const struct stayed_folio *f;
	struct folio *folio;

	if (!(pte_present(e) || pte_kind(e) == PTE_HWPOISON) || pte_zero_page(e))
		return;
	folio = pfn_folio(pte_pfn(e));
	if (folio_large(folio) && folio == st->last)
		return;
	st->last = folio;
	f = find(st, folio_pfn(folio).n, address);
	if (f)
		stayed_add_folio(st, address, folio, f->why, f->detail);
}

void stayed_end_walk(struct stayed *st)
{
	st->nr_folios = 0;
}

void stayed_describe_shared(const struct folio *folio, char *buf, size_t size)
{
	snprintf(buf, size, "mapped %d times", folio_mapcount(folio));
}
