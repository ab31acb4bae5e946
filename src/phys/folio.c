// SPDX-License-Identifier: MIT
// References, pins, index, and making and dissolving large folios.
//
// The reference count is the only thing that keeps a folio: at zero its frames are free, and a
// count of zero that somebody holds on to is a frozen folio (try-get fails, nobody else can free
// or find it). Each change is one atomic operation; the last put owns the folio alone.
//
// What only large folios have lives in their first tails: tail 1 the mapcount of the whole
// (entire_mapcount), of everything (large_mapcount) and the pin count; tail 2 the number of mapped
// pages and the links of the deferred-split queue. Folios of order 1 have no tail 2: they are never
// queued, and their mapped pages are counted by looking.
#include "phys/folio.h"
#include "base/assert.h"
#include "base/fault_inject.h"
#include "base/sched.h"
#include "phys/alloc.h"

static bool ref_add_unless_zero(struct folio *folio, unsigned n)
{
	uint32_t old = atomic_load_explicit(&folio->page.refcount, memory_order_relaxed);

	do {
		if (!old)
			return false;
	} while (!atomic_compare_exchange_weak_explicit(
		&folio->page.refcount, &old, old + n, memory_order_acq_rel, memory_order_relaxed));
	return true;
}

bool folio_try_get(struct folio *folio)
{
	sched_point();
	return ref_add_unless_zero(folio, 1);
}

struct folio *folio_try_get_frame(struct frame *frame)
{
	struct folio *folio = frame_folio(frame);

	if (frame_test(frame, PG_BUDDY) || !folio_try_get(folio))
		return NULL;
	// It may have been freed and made part of another folio before the reference was got.
	if (frame_folio(frame) != folio || folio_frame_index(folio, frame) >= folio_nr(folio)) {
		folio_put(folio);
		return NULL;
	}
	return folio;
}

// Half of the count is for pins, which cost their holders little; no memory has room for as many
// of the other references as the other half is.
static bool has_room_for(const struct folio *folio, unsigned refs)
{
	return folio_ref_count(folio) <= INT32_MAX - refs;
}

bool folio_try_pin(struct folio *folio, unsigned n)
{
	unsigned refs = folio_large(folio) ? n : n * GUP_PIN_COUNTING_BIAS;

	sched_point();
	if (!has_room_for(folio, refs) || !ref_add_unless_zero(folio, refs))
		return false;
	if (!folio_large(folio))
		return true;
	atomic_fetch_add_explicit(
		&folio_frame(folio, 1)->pincount, (int32_t)n, memory_order_acq_rel);
	return true;
}

void folio_unpin(struct folio *folio, unsigned n)
{
	if (!folio_large(folio)) {
		folio_put_many(folio, n * GUP_PIN_COUNTING_BIAS);
		return;
	}
	int32_t old = atomic_fetch_sub_explicit(
		&folio_frame(folio, 1)->pincount, (int32_t)n, memory_order_acq_rel);
	assert_that(old >= (int32_t)n, "pfn %#lx has %d pins, %u are dropped",
		(unsigned long)folio_pfn(folio).n, old, n);
	(void)old;
	folio_put_many(folio, n);
}

// Frames [1, 2^order) become tails of `head`.
static void make_tails(struct frame *head, unsigned order)
{
	uint32_t keep = 1u << PG_HWPOISON | 1u << PG_ANON_EXCLUSIVE;

	for (unsigned long i = 1; i < 1ul << order; i++) {
		struct frame *tail = head + i;
		uint32_t flags = frame_flags(tail) & keep;

		atomic_store_explicit(&tail->tail.head, frame_link(head), memory_order_relaxed);
		atomic_store_explicit(&tail->tail.entire_mapcount, 0, memory_order_relaxed);
		atomic_store_explicit(&tail->mapping, 0, memory_order_relaxed);
		atomic_store_explicit(&tail->index, 0, memory_order_relaxed);
		atomic_store_explicit(&tail->flags, flags | 1u << PG_TAIL, memory_order_release);
	}
	if (order > 1)
		atomic_store_explicit(&head[2].deferred_prev, DEFERRED_NONE, memory_order_relaxed);
}

static void set_order(struct frame *head, unsigned order)
{
	uint32_t old = frame_flags(head), new;

	do {
		new = old & ~(FRAME_ORDER_MASK | 1u << PG_HEAD);
		if (order)
			new |= 1u << PG_HEAD | order << FRAME_ORDER_SHIFT;
	} while (!atomic_compare_exchange_weak_explicit(
		&head->flags, &old, new, memory_order_acq_rel, memory_order_acquire));
}

void folio_prep_large(struct frame *head, unsigned order)
{
	if (!order)
		return;
	make_tails(head, order);
	set_order(head, order);
}

// The counts of a new large folio follow from its pages'.
static void sum_mapcounts(struct frame *head, unsigned order)
{
	int32_t sum = 0, mapped = 0;

	for (unsigned long i = 0; i < 1ul << order; i++) {
		int32_t n = atomic_load_explicit(&head[i].mapcount, memory_order_relaxed);
		sum += n;
		mapped += n > 0;
	}
	atomic_store_explicit(&head[1].large_mapcount, sum, memory_order_relaxed);
	if (order > 1)
		atomic_store_explicit(&head[2].tail.nr_mapped, mapped, memory_order_relaxed);
}

// A tail becomes a folio of the order. What it is comes first, in the place of what it had as a
// tail; then it is no tail any more, and only then its link to the head goes: frame_folio() relies
// on it. Its own tails follow: until then they are the old head's.
static void become_piece(struct frame *frame, unsigned order, uint32_t flags, uint32_t mapping,
	uint64_t index)
{
	uint32_t keep = 1u << PG_HWPOISON | 1u << PG_ANON_EXCLUSIVE;
	struct folio *piece = (struct folio *)frame;

	folio_set_index(piece, index);
	folio_set_mapping_raw(piece, mapping);
	if (order)
		flags |= 1u << PG_HEAD | order << FRAME_ORDER_SHIFT;
	atomic_store_explicit(
		&frame->flags, (frame_flags(frame) & keep) | flags, memory_order_release);
	atomic_store_explicit(&frame->lru.next, 0, memory_order_release);
	atomic_store_explicit(&frame->lru.prev, 0, memory_order_release);
	if (order) {
		make_tails(frame, order);
		sum_mapcounts(frame, order);
	}
}

void folio_dissolve(struct folio *folio, unsigned new_order, uint32_t flags)
{
	unsigned order = folio_order(folio);
	unsigned long step = 1ul << new_order;
	uint32_t mapping = folio_mapping_raw(folio);
	uint64_t index = folio_index(folio);

	assert_that(new_order < order, "order %u to %u", order, new_order);
	assert_that(!folio_entire_mapcount(folio), "pfn %#lx is mapped as a whole",
		(unsigned long)folio_pfn(folio).n);
	assert_that(!folio_deferred_queued(folio), "pfn %#lx is on the deferred-split queue",
		(unsigned long)folio_pfn(folio).n);
	for (unsigned long i = 1ul << order; (i -= step) > 0;)
		become_piece(folio_frame(folio, i), new_order, flags, mapping, index + i);
	make_tails(&folio->page, new_order);
	set_order(&folio->page, new_order);
	if (new_order)
		sum_mapcounts(&folio->page, new_order);
}
