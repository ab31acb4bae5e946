// SPDX-License-Identifier: MIT
// Splitting on request and under pressure.
//
//	thp_shrink_deferred()	memory is wanted: folios of a node's deferred queue. One that lost
//				mappings is split, which frees the pages that nobody maps; one that
//				was queued when it was new is split when it is underused, that is,
//				more of its pages are all zeros than max_ptes_none allows, and left
//				alone otherwise
//	thp_split_range()	sys/kernel/debug/split_huge_pages: what a task has in a range
//	thp_split_all()		the same file: everything
//
// Folios are taken by reference and split under a trylock (shrinking) or the lock (asked for). What
// could not be split goes back to the queue if it is still partially mapped.
// Held: shrinking may run with mmap_lock and folio locks held, never under rmap locks.
// What can fail: nothing; less is split.
#include "thp/thp.h"

#include "base/vmstat.h"
#include "phys/zone.h"
#include "virt/fault.h"
#include "virt/task.h"
#include "virt/vma.h"

#include <errno.h>

#define SHRINK_BATCH 16

// ---- Under pressure

static bool holds_poison(struct folio *folio)
{
	for (unsigned i = 0; i < folio_nr(folio); i++)
		if (frame_test_hwpoison(folio_frame(folio, i)))
			return true;
	return false;
}

// A racing writer makes this a guess, as good as any. It ends as soon as the answer is known.
static bool underused(struct thp *thp, struct folio *folio)
{
	unsigned long limit = thp_setting(thp, SET_MAX_PTES_NONE), zeros = 0, filled = 0;

	if (limit == PTRS_PER_TABLE - 1 || holds_poison(folio))
		return false;
	for (unsigned i = 0; i < folio_nr(folio); i++) {
		if (!folio_page_is_zero(thp->mm, folio, i))
			filled++;
		else if (++zeros > limit)
			return true;
		if (filled >= PTRS_PER_TABLE - limit)
			return false;
	}
	return false;
}

static bool shrink_one(struct thp *thp, struct folio *folio)
{
	bool partial = folio_test_partially_mapped(folio), split = false;

	if (!partial && !underused(thp, folio))
		return false;
	if (folio_trylock(folio)) {
		split = !thp_split_folio(folio, NULL);
		folio_unlock(folio);
	}
	if (split && !partial)
		vm_event(thp->mm->stat, VM_THP_UNDERUSED_SPLIT_PAGE);
	if (!split && folio_test_partially_mapped(folio))
		(void)folio_deferred_queue(folio);
	return split;
}

unsigned thp_shrink_deferred(struct thp *thp, unsigned nid, unsigned max)
{
	struct node *node = phys_node(thp->mm->phys, nid);
	struct folio *folio[SHRINK_BATCH];
	unsigned left = node ? (unsigned)node_deferred_length(node) : 0, split = 0;

	for (unsigned n; left && split < max; left -= n) {
		n = node_deferred_take(node, folio, min(left, (unsigned)SHRINK_BATCH));
		if (!n)
			break;
		for (unsigned i = 0; i < n; i++) {
			split += shrink_one(thp, folio[i]);
			folio_put(folio[i]);
		}
	}
	return split;
}

// ---- On request

// Who else refers to it makes a split impossible: not even tried then, nor counted.
static bool split_one(struct folio *folio, unsigned new_order)
{
	bool split;

	if (folio_ref_count(folio) != folio_expected_ref_count(folio) + 1)
		return false;
	folio_lock(folio);
	split = folio_large(folio) && !thp_split_folio_to(folio, new_order, NULL);
	folio_unlock(folio);
	return split;
}

// The large folio mapped at addr, with a reference; *ret_next: where to look next.
static struct folio *large_folio_at(struct space *space, uint64_t addr, uint64_t *ret_next)
{
	struct folio *folio;
	unsigned page;

	*ret_next = (addr & PAGE_MASK) + PAGE_SIZE;
	if (follow_page(space, addr, &folio, &page))
		return NULL;
	if (!folio_large(folio) || folio_test_hugetlb(folio)) {
		folio_put(folio);
		return NULL;
	}
	*ret_next += (folio_nr(folio) - page - 1) * PAGE_SIZE;
	return folio;
}

// Of [addr, end) up to the first hole, as Linux does; mmap_lock is held for looking only.
static int split_mapped(struct space *space, uint64_t addr, uint64_t end, unsigned new_order)
{
	int split = 0;

	while (addr < end) {
		struct folio *folio = NULL;

		read_lock(&space->mmap_lock);
		struct vma *vma = vma_find(space, addr);
		if (vma && vma->start > addr)
			vma = NULL;
		if (vma) {
			folio = large_folio_at(space, addr, &addr);
			addr = min(addr, vma->end); // a folio may reach over a hole
		}
		read_unlock(&space->mmap_lock);
		if (!vma)
			break;
		if (!folio)
			continue;
		split += split_one(folio, new_order);
		folio_put(folio);
	}
	return split;
}

int thp_split_range(struct thp *thp, int pid, uint64_t start, uint64_t end, unsigned new_order)
{
	struct task *task = task_find(thp->mm, pid);

	if (!task)
		return -ESRCH;
	struct space *space = task_space_get(task);
	task_put(task);
	if (!space)
		return -EINVAL;
	int split = split_mapped(space, start & PAGE_MASK, ALIGN_UP(end, PAGE_SIZE), new_order);
	space_put(space);
	return split;
}

static int split_node(struct node *node)
{
	uint64_t end = node->start_pfn + node->nr_present;
	int split = 0;

	for (uint64_t pfn = node->start_pfn; pfn < end; pfn++) {
		struct folio *folio = folio_try_get_frame(pfn_frame(pfn_of(pfn)));

		if (!folio)
			continue;
		if (folio_large(folio) && !folio_test_hugetlb(folio) && folio_mapped(folio))
			split += split_one(folio, 0);
		folio_put(folio);
	}
	return split;
}

int thp_split_all(struct thp *thp)
{
	int split = 0;

	for (unsigned nid = 0; nid < thp->mm->phys->nr_nodes; nid++)
		if (phys_node(thp->mm->phys, nid))
			split += split_node(phys_node(thp->mm->phys, nid));
	return split;
}
