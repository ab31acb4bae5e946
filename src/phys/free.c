// SPDX-License-Identifier: MIT
// Freeing: from the last reference to the buddy.
//
// The thread that put the last reference owns the folio alone: off the LRU and the deferred-split
// queue, its tails become plain frames, its flags go. Frames marked HWPOISON stay out for ever,
// the rest of their folio goes back in the largest blocks that avoid them. A hugetlb folio belongs
// to its pool and is given to that instead. Then quarantine, the per-cpu list of the freeing cpu,
// or the buddy.
#include "base/assert.h"
#include "base/mark.h"
#include "phys/alloc.h"
#include "phys/backing.h"
#include "phys/buddy.h"
#include "phys/pcp.h"

void frames_to_buddy(struct zone *zone, struct frame *head, unsigned order)
{
	mutex_lock(&zone->lock);
	buddy_free(zone, head, order);
	mutex_unlock(&zone->lock);
}

void frames_release_block(struct zone *zone, struct frame *head, unsigned order)
{
	enum migratetype type = pageblock_type(zone, frame_pfn(head).n);

	if (quarantine_take(zone, head, order))
		return;
	if (pcp_free(zone, phys_this_cpu(), head, order, type))
		return;
	frames_to_buddy(zone, head, order);
	backing_trim_lazily(zone->node);
}

void frames_free(struct frame *head, unsigned order)
{
	assert_that(!atomic_load_explicit(&head->refcount, memory_order_relaxed),
		"freed pfn %#lx has references", (unsigned long)frame_pfn(head).n);
	frames_release_block(frame_zone(head), head, order);
}

// Flags of all frames of the block go (poison stays); true if any is poisoned.
static bool wipe_frames(struct frame *head, unsigned long nr)
{
	bool poisoned = false;

	for (unsigned long i = 0; i < nr; i++) {
		struct frame *frame = head + i;
		uint32_t poison = frame_flags(frame) & 1u << PG_HWPOISON;

		assert_that(!atomic_load_explicit(&frame->mapcount, memory_order_relaxed),
			"freed pfn %#lx is mapped", (unsigned long)frame_pfn(frame).n);
		poisoned |= poison != 0;
		atomic_store_explicit(&frame->mapping, 0, memory_order_relaxed);
		atomic_store_explicit(&frame->index, 0, memory_order_relaxed);
		frame_set_links(frame, 0, 0);
		atomic_store_explicit(&frame->flags, poison, memory_order_release);
	}
	return poisoned;
}

// What is not poisoned goes back, halving the block where it is.
static void free_around_poison(struct zone *zone, struct frame *head, unsigned order)
{
	bool poisoned = false;

	for (unsigned long i = 0; i < 1ul << order; i++)
		poisoned |= frame_test_hwpoison(head + i);
	if (!poisoned) {
		frames_release_block(zone, head, order);
	} else if (!order) {
		atomic_fetch_add_explicit(&zone->node->nr_poisoned, 1, memory_order_relaxed);
	} else {
		free_around_poison(zone, head, order - 1);
		free_around_poison(zone, head + (1ul << (order - 1)), order - 1);
	}
}

static void check_free_folio(const struct folio *folio)
{
	assert_that(!folio_test_locked(folio), "pfn %#lx is freed while locked",
		(unsigned long)folio_pfn(folio).n);
	assert_that(!folio_mapped(folio), "pfn %#lx is freed while mapped %d times",
		(unsigned long)folio_pfn(folio).n, folio_mapcount(folio));
	assert_that(!folio_test_writeback(folio), "pfn %#lx is freed under writeback",
		(unsigned long)folio_pfn(folio).n);
	(void)folio;
}

// Gigantic folios go back as blocks the buddy knows.
static void release_all(struct zone *zone, struct frame *head, unsigned order, bool poisoned)
{
	unsigned part = min(order, (unsigned)MAX_PAGE_ORDER);

	for (unsigned long i = 0; i < 1ul << order; i += 1ul << part) {
		if (unlikely(poisoned))
			free_around_poison(zone, head + i, part);
		else
			frames_release_block(zone, head + i, part);
	}
}

void folio_free(struct folio *folio)
{
	struct phys *phys = folio_phys(folio);
	struct zone *zone = folio_zone(folio);
	unsigned order = folio_order(folio);
	bool poisoned;

	check_free_folio(folio);
	if (folio_test_hugetlb(folio) && phys->up.free_hugetlb) {
		phys->up.free_hugetlb(phys->up.arg, folio);
		return;
	}
	folio_release_lru(folio);
	folio_deferred_unqueue(folio);
	if (order && folio_test_anon(folio))
		folio_size_stat(folio, STAT_NR_ANON, -1);
	vm_events(phys->stat, VM_PGFREE, 1l << order);
	poisoned = wipe_frames(&folio->page, 1ul << order);
	release_all(zone, &folio->page, order, poisoned);
}

bool folio_unprep_isolated(struct folio *folio)
{
	unsigned order = folio_order(folio);

	if (!folio_ref_freeze(folio, 1)) {
		folio_put(folio);
		return false;
	}
	check_free_folio(folio);
	if (wipe_frames(&folio->page, 1ul << order)) {
		release_all(folio_zone(folio), &folio->page, order, true);
		return false;
	}
	return true;
}

// Frames released one after the other that lie one behind the other.
struct run {
	struct zone *zone;
	uint64_t pfn, nr;
};

// Someone decides which frames may be used again: asked by blocks.
static void run_release_blocks(struct run *run)
{
	while (run->nr) {
		unsigned order = PAGEBLOCK_ORDER;
		while (!IS_ALIGNED(run->pfn, 1ul << order) || 1ul << order > run->nr)
			order--;
		frames_release_block(run->zone, pfn_frame(pfn_of(run->pfn)), order);
		run->pfn += 1ul << order;
		run->nr -= 1ul << order;
	}
}

static void run_flush(struct run *run)
{
	if (run->nr == 1 || (run->nr && zone_phys(run->zone)->up.reusable)) {
		run_release_blocks(run);
	} else if (run->nr) {
		mutex_lock(&run->zone->lock);
		buddy_free_range(run->zone, run->pfn, run->nr, false);
		mutex_unlock(&run->zone->lock);
		backing_trim_lazily(run->zone->node);
	}
	run->nr = 0;
}

// A small folio whose last reference went joins the run, if it may be freed with others.
static bool run_add(struct run *run, struct folio *folio)
{
	struct zone *zone = folio_zone(folio);
	uint64_t pfn = folio_pfn(folio).n;

	if (folio_test_hugetlb(folio) || folio_test_hwpoison(folio))
		return false;
	if (run->nr && (run->zone != zone || run->pfn + run->nr != pfn))
		run_flush(run);
	check_free_folio(folio);
	folio_release_lru(folio);
	if (wipe_frames(&folio->page, 1)) { // damaged just now
		free_around_poison(zone, &folio->page, 0);
		return true;
	}
	if (!run->nr)
		*run = (struct run){zone, pfn, 0};
	run->nr++;
	return true;
}

void folios_put(struct folio **folios, unsigned nr)
{
	struct run run = {0};
	struct phys *phys = nr ? folio_phys(folios[0]) : NULL;
	long freed = 0;

	for (unsigned i = 0; i < nr; i++) {
		struct folio *folio = folios[i];
		bool frozen = !folio_ref_count(folio);
		if (!frozen && atomic_fetch_sub_explicit(&folio->page.refcount, 1,
				       memory_order_acq_rel) != 1)
			continue;
		if (folio_large(folio) || !run_add(&run, folio))
			folio_free(folio);
		else
			freed++;
	}
	run_flush(&run);
	if (freed)
		vm_events(phys->stat, VM_PGFREE, freed);
}
