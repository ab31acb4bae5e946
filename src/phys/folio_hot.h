// SPDX-License-Identifier: MIT
// The operations of a folio that are done several times for each page that moves: counts, the lock
// bit, the index. As inline functions they cost a tenth of a move less than as calls. What they
// mean is said in phys/folio.h, the only file that includes this one; how they wait, in
// folio_lock.c.
#ifndef GODWIT_PHYS_FOLIO_HOT_H
#define GODWIT_PHYS_FOLIO_HOT_H

#include "base/assert.h"
#include "base/fault_inject.h"
#include "base/lock.h"
#include "base/sched.h"
#include "base/wait.h"
#include "phys/folio.h"

void folio_free(struct folio *folio); // phys/free.c

static inline void folio_ref_add(struct folio *folio, unsigned n)
{
	uint32_t old = atomic_fetch_add_explicit(&folio->page.refcount, n, memory_order_relaxed);

	assert_that(old != 0, "reference to the free pfn %#lx", (unsigned long)folio_pfn(folio).n);
	(void)old;
}

static inline void folio_get(struct folio *folio)
{
	folio_ref_add(folio, 1);
}

static inline void folio_put_many(struct folio *folio, unsigned n)
{
	uint32_t old = atomic_fetch_sub_explicit(&folio->page.refcount, n, memory_order_acq_rel);

	assert_that(old >= n, "pfn %#lx has %u references, %u are put",
		(unsigned long)folio_pfn(folio).n, old, n);
	if (old == n)
		folio_free(folio);
}

static inline void folio_put(struct folio *folio)
{
	folio_put_many(folio, 1);
}

static inline bool folio_ref_freeze(struct folio *folio, unsigned expected)
{
	uint32_t old = expected;

	sched_point();
	if (fault_should_fail(FI_FREEZE))
		return false;
	return atomic_compare_exchange_strong_explicit(
		&folio->page.refcount, &old, 0, memory_order_acq_rel, memory_order_relaxed);
}

static inline void folio_ref_unfreeze(struct folio *folio, unsigned count)
{
	assert_that(!folio_ref_count(folio), "pfn %#lx is not frozen",
		(unsigned long)folio_pfn(folio).n);
	assert_that(
		count, "pfn %#lx unfrozen without a reference", (unsigned long)folio_pfn(folio).n);
	atomic_store_explicit(&folio->page.refcount, count, memory_order_release);
}

static inline bool folio_maybe_pinned(const struct folio *folio)
{
	if (!folio_large(folio))
		return folio_ref_count(folio) >= GUP_PIN_COUNTING_BIAS;
	return atomic_load_explicit(&(&folio->page + 1)->pincount, memory_order_acquire) > 0;
}

static inline uint64_t folio_index(const struct folio *folio)
{
	uint64_t high =
		atomic_load_explicit(&folio->page.where, memory_order_relaxed) >> WHERE_INDEX_SHIFT;

	return high << 32 | atomic_load_explicit(&folio->page.index, memory_order_relaxed);
}

static inline void folio_set_index(struct folio *folio, uint64_t index)
{
	const uint32_t low_mask = (1u << WHERE_INDEX_SHIFT) - 1;
	uint32_t old = atomic_load_explicit(&folio->page.where, memory_order_relaxed);
	uint32_t high = (uint32_t)(index >> 32) << WHERE_INDEX_SHIFT;

	assert_that(
		index <= FRAME_INDEX_MAX, "page offset %#lx does not fit", (unsigned long)index);
	atomic_store_explicit(&folio->page.index, (uint32_t)index, memory_order_relaxed);
	while ((old & ~low_mask) != high &&
		!atomic_compare_exchange_weak_explicit(&folio->page.where, &old,
			(old & low_mask) | high, memory_order_relaxed, memory_order_relaxed))
		;
}

static inline unsigned folio_owner_ref_count(const struct folio *folio)
{
	unsigned refs = folio_test_private(folio);

	if (folio_test_anon(folio))
		return 0;
	if (folio_mapping_raw(folio))
		refs += (unsigned)folio_nr(folio);
	return refs;
}

static inline unsigned folio_expected_ref_count(const struct folio *folio)
{
	return (unsigned)folio_mapcount(folio) + folio_owner_ref_count(folio);
}

// Both bits go at once; who sleeps is woken only when there is one.
static inline void folio_clear_bit(struct folio *folio, enum frame_flag flag)
{
	uint32_t both = 1u << flag | 1u << PG_WAITERS;
	uint32_t old = atomic_fetch_and_explicit(&folio->page.flags, ~both, memory_order_acq_rel);

	assert_that(old >> flag & 1, "flag %d of pfn %#lx is not set", flag,
		(unsigned long)folio_pfn(folio).n);
	if (unlikely(old >> PG_WAITERS & 1))
		wake_all(&folio->page);
}

static inline bool folio_trylock(struct folio *folio)
{
	sched_point();
	if (fault_should_fail(FI_TRYLOCK) || frame_test_set(&folio->page, PG_LOCKED))
		return false;
	lock_rank_acquired(RANK_FOLIO, folio);
	return true;
}

static inline void folio_unlock(struct folio *folio)
{
	lock_rank_released(RANK_FOLIO, folio);
	folio_clear_bit(folio, PG_LOCKED);
	sched_point();
}

#endif
