// SPDX-License-Identifier: MIT
// Splitting a folio: 2^order frames become folios of a smaller order, while everything that maps
// them goes on.
//
//	1  leaves of the PMD level become tables (pmd.c)
//	2  nobody but mappings, index and the caller may refer to it: else -EAGAIN
//	3  it leaves all page tables: anonymous by migration entries, others plainly
//	4  its count is frozen; failing that, the entries come back, -EAGAIN
//	5  it leaves the deferred queue and is dissolved; pieces have flags, mapping and index
//	   from the first moment, for who finds their entries; they take slots, and a place
//	   behind the head on its LRU list. No way back from here
//	6  pieces get their references, anonymous ones their entries; a small one of nothing but
//	   zeros gets none (where memory is not locked): the zero page takes its place, and it is
//	   free when it is given up
//	7  pieces beyond the end of an object are dropped; the others are unlocked and given
//	   up, or handed to the caller as isolated as the head is
//
// What can fail, and then the folio is as before (but perhaps without its leaves): -EBUSY: the zero
// page, under writeback, of no object any more, mapped by nobody though anonymous (then no anon_vma
// is sure to exist); -EINVAL: a new order that cannot be; -EAGAIN: in use by others, pinned;
// -ENOMEM.
//
// Locks: the folio's by the caller; rmap and page-table locks inside, i_pages for an object, LRU.
#include "thp/thp.h"

#include "base/mark.h"
#include "base/vmstat.h"
#include "migrate/detach.h"
#include "phys/lru.h"
#include "phys/zone.h"
#include "virt/object.h"
#include "virt/rmap.h"
#include "virt/vma.h"

#include <errno.h>

struct split {
	struct mm_core *mm;
	struct folio *folio;
	struct object *object; // NULL: anonymous
	struct folio_list *tails; // where isolated pieces go
	unsigned order, new_order;
	unsigned nr; // pieces
	bool was_mapped, isolated;
};

static int unmap(struct split *s);
static int freeze_and_dissolve(struct split *s);
static void give_up_pieces(struct split *s);

// -EBUSY at once, and not counted as an attempt.
static int refuse(struct split *s)
{
	struct folio *folio = s->folio;

	if (folio == s->mm->zero_page || folio_test_writeback(folio) || folio_test_hugetlb(folio))
		return -EBUSY;
	if (s->new_order >= s->order || s->new_order == 1)
		return -EINVAL;
	return 0;
}

static bool references_explained(const struct folio *folio)
{
	return folio_ref_count(folio) == folio_expected_ref_count(folio) + 1;
}

static void attach_pieces(struct split *s)
{
	if (s->new_order)
		folios_attach(s->mm, s->folio, s->new_order, s->nr);
	else
		folios_attach_used(s->mm, s->folio, s->nr);
}

static int split_held(struct split *s)
{
	int err;

	if (!references_explained(s->folio)) {
		MARK(thp_split_in_use);
		return -EAGAIN;
	}
	err = unmap(s);
	if (err)
		return err;
	err = freeze_and_dissolve(s);
	if (err) {
		MARK(thp_split_freeze_failed);
		if (s->was_mapped && !s->object)
			folios_attach(s->mm, s->folio, s->order, 1);
		return err;
	}
	if (s->was_mapped && !s->object)
		attach_pieces(s);
	give_up_pieces(s);
	return 0;
}

static int split_anon(struct split *s)
{
	struct anon_vma *av = folio_get_anon_vma(s->folio);
	int err;

	if (!av)
		return -EBUSY;
	err = split_held(s);
	anon_vma_put(av);
	return err;
}

static int split_object(struct split *s)
{
	s->object = folio_object(s->folio);
	if (!s->object) // truncated, or never anybody's
		return -EBUSY;
	if (folio_test_private(s->folio) && !(s->object->ops->release_folio &&
		s->object->ops->release_folio(s->object, s->folio)))
		return -EBUSY;
	return split_held(s);
}

int thp_split_folio_to(struct folio *folio, unsigned new_order, struct folio_list *tails)
{
	struct split s = {.mm = folio_phys(folio)->mm, .folio = folio, .tails = tails,
		.order = folio_order(folio), .new_order = new_order};
	int err = refuse(&s);

	if (err)
		return err;
	s.nr = 1u << (s.order - new_order);
	err = folio_test_anon(folio) ? split_anon(&s) : split_object(&s);
	if (s.order == PMD_ORDER)
		vm_event(s.mm->stat, err ? VM_THP_SPLIT_PAGE_FAILED : VM_THP_SPLIT_PAGE);
	size_stat_add(&s.mm->phys->sizes, s.order, err ? STAT_SPLIT_FAILED : STAT_SPLIT, 1);
	return err;
}

int thp_split_folio(struct folio *folio, struct folio_list *tails)
{
	return thp_split_folio_to(folio, 0, tails);
}

// ---- Out of the page tables

struct split_leaves {
	int error;
};

static bool split_leaf_here(const struct rmap_range *range, void *arg)
{
	struct split_leaves *w = arg;
	uint64_t end = range->addr + range->nr_pages * PAGE_SIZE;

	for (uint64_t haddr = ALIGN_UP(range->addr, PMD_SIZE); haddr + PMD_SIZE <= end;
		haddr += PMD_SIZE) {
		struct page_table *pmd = pmd_table_lock(range->vma->space, vaddr_of(haddr));
		bool leaf = pmd && pte_huge(table_entry(pmd, pmd_index(vaddr_of(haddr))));

		if (pmd)
			page_table_unlock(pmd);
		if (leaf && !w->error)
			w->error = thp_split_pmd(range->vma, haddr);
	}
	return !w->error;
}

// Pages of an object are found again by faults.
static bool unmap_here(const struct rmap_range *range, void *folio)
{
	folio_unmap_range(folio, range, MM_INVALIDATE_SPLIT);
	return true;
}

static int unmap(struct split *s)
{
	struct split_leaves leaves = {0};
	// Linux makes migration entries of a leaf at once, of the others one by one.
	enum detach how = folio_entire_mapcount(s->folio) == folio_mapcount(s->folio)
				  ? DETACH_AT_ONCE : DETACH_ONE_BY_ONE;

	s->was_mapped = folio_mapped(s->folio);
	if (!s->was_mapped)
		return 0;
	if (s->order == PMD_ORDER) {
		(void)rmap_walk(s->folio, split_leaf_here, &leaves, false);
		if (leaves.error)
			return leaves.error;
	}
	if (!s->object)
		return folio_detach(s->mm, s->folio, how);
	(void)rmap_walk(s->folio, unmap_here, s->folio, false);
	return folio_mapped(s->folio) ? -EAGAIN : 0;
}

// ---- The split itself

static struct folio *piece(const struct split *s, unsigned i)
{
	return (struct folio *)folio_frame(s->folio, (unsigned long)i << s->new_order);
}

// What is true of the whole is true of each piece. Who waits for the entries of an anonymous one
// waits for its lock: nobody knows it yet, and no order of locks is at stake.
static uint32_t inherited_flags(const struct split *s)
{
	const uint32_t inherited = 1u << PG_REFERENCED | 1u << PG_UPTODATE | 1u << PG_DIRTY |
				   1u << PG_ACTIVE | 1u << PG_UNEVICTABLE | 1u << PG_MLOCKED |
				   1u << PG_SWAPBACKED | 1u << PG_WORKINGSET | 1u << PG_YOUNG |
				   1u << PG_IDLE;

	return (frame_flags(&s->folio->page) & inherited) | (s->object ? 0 : 1u << PG_LOCKED);
}

static void enter_pieces(struct split *s)
{
	if (s->object) {
		object_split_folio(s->object, s->folio, s->order, s->new_order);
		return;
	}
	for (unsigned i = 1; i < s->nr; i++)
		lock_rank_acquired(RANK_FOLIO, piece(s, i));
}

#define LRU_CHUNK 64

// Onto the head's list, or the caller's; from the last to the first, so that they end up in order.
static void list_pieces(struct split *s)
{
	struct folio *chunk[LRU_CHUNK];
	unsigned nr = s->nr - 1;

	s->isolated = s->tails && !folio_test_lru(s->folio);
	if (s->isolated) {
		for (unsigned i = 1; i < s->nr; i++)
			folio_list_add_tail(s->tails, piece(s, i));
		return;
	}
	while (nr) {
		unsigned first = nr > LRU_CHUNK ? nr - LRU_CHUNK : 0;

		for (unsigned i = first; i < nr; i++)
			chunk[i - first] = piece(s, i + 1);
		folio_add_split_tails(s->folio, chunk, nr - first, NULL);
		nr = first;
	}
}

static void count_pieces(const struct split *s)
{
	struct size_stats *sizes = &s->mm->phys->sizes;

	size_stat_add(sizes, s->order, STAT_NR_ANON, -1);
	size_stat_add(sizes, s->new_order, STAT_NR_ANON, (long)s->nr);
}

// The index's lock only where there is an index.
NO_THREAD_SAFETY_ANALYSIS static int freeze_and_dissolve(struct split *s)
{
	unsigned per_piece = 1 + (s->object ? 1u << s->new_order : 0);
	unsigned refs = 1 + (s->object ? 1u << s->order : 0);

	if (s->object)
		mutex_lock(&s->object->i_pages_lock);
	if (!folio_ref_freeze(s->folio, refs)) {
		if (s->object)
			mutex_unlock(&s->object->i_pages_lock);
		return -EAGAIN;
	}
	(void)folio_deferred_unqueue(s->folio);
	// No way back from here.
	if (!s->object)
		count_pieces(s);
	folio_dissolve(s->folio, s->new_order, inherited_flags(s));
	enter_pieces(s);
	list_pieces(s);
	for (unsigned i = 0; i < s->nr; i++)
		folio_ref_unfreeze(piece(s, i), per_piece);
	if (s->object)
		mutex_unlock(&s->object->i_pages_lock);
	return 0;
}

// ---- Afterwards

// Beyond the end of the object: nobody can ask for it any more.
static void drop_beyond_end(struct split *s, struct folio *tail)
{
	if (folio_index(tail) < DIV_ROUND_UP(s->object->size, PAGE_SIZE))
		return;
	folio_lock(tail);
	if (folio_object(tail) == s->object && !folio_mapped(tail))
		object_remove_folio(tail);
	folio_unlock(tail);
}

static void give_up_pieces(struct split *s)
{
	for (unsigned i = 1; i < s->nr; i++) {
		if (s->object)
			drop_beyond_end(s, piece(s, i));
		else
			folio_unlock(piece(s, i));
		if (!s->isolated)
			folio_put(piece(s, i));
	}
}
