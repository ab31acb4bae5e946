// SPDX-License-Identifier: MIT
// madvise's words about huge pages.
//
//	HUGEPAGE	the flag is set already; khugepaged is to look at the space
//	COLLAPSE	every aligned 2 MiB of the range is collapsed now, in the caller's thread.
//			Settings do not count, NOHUGEPAGE does. 0 only if every one is huge in the
//			end, else the errno of the last failure: -ENOMEM no huge page to be had;
//			-EBUSY too many holes;
//			-EAGAIN something was in use, locked or being moved; -EINVAL the rest
//
// A range whose failure may pass does not keep the next one from being tried; any other ends the
// call. Held: nothing; mmap_lock is taken inside. Other words: -EINVAL.
#include "thp/thp.h"

#include "virt/object.h"
#include "virt/task.h"
#include "virt/vma.h"

#include <errno.h>

enum { ADVISE_HUGEPAGE = 14, ADVISE_COLLAPSE = 25 };

static int result_errno(enum scan_result result)
{
	switch (result) {
	case SCAN_ALLOC_HUGE_PAGE_FAIL:
		return -ENOMEM;
	case SCAN_CGROUP_CHARGE_FAIL:
	case SCAN_EXCEED_NONE_PTE:
		return -EBUSY;
	case SCAN_PAGE_COUNT:
	case SCAN_PAGE_LOCK:
	case SCAN_PAGE_LRU:
	case SCAN_DEL_PAGE_LRU:
	case SCAN_PAGE_FILLED:
		return -EAGAIN;
	default:
		return -EINVAL;
	}
}

// The next range may do better.
static bool may_go_on(enum scan_result result)
{
	switch (result) {
	case SCAN_PMD_NULL:
	case SCAN_PTE_NON_PRESENT:
	case SCAN_PTE_UFFD_WP:
	case SCAN_PAGE_RO:
	case SCAN_LACK_REFERENCED_PAGE:
	case SCAN_PAGE_NULL:
	case SCAN_PAGE_COUNT:
	case SCAN_PAGE_LOCK:
	case SCAN_PAGE_COMPOUND:
	case SCAN_PAGE_LRU:
	case SCAN_DEL_PAGE_LRU:
		return true;
	default:
		return false;
	}
}

// Memory of an object is huge now: mapped so, too. Anonymous memory is already.
static enum scan_result map_collapsed(struct collapse *c, struct space *space, uint64_t haddr,
	enum scan_result collapsed)
{
	struct vma *vma = NULL;

	read_lock(&space->mmap_lock);
	enum scan_result result = collapse_revalidate(c, space, haddr, &vma);
	if (result == SCAN_SUCCEED)
		result = vma->object ? collapse_map_object(vma, haddr) : collapsed;
	read_unlock(&space->mmap_lock);
	return result;
}

// One range; mmap_lock is taken and given up inside.
NO_THREAD_SAFETY_ANALYSIS static enum scan_result collapse_one(
	struct collapse *c, struct space *space, uint64_t haddr)
{
	struct vma *vma = NULL;
	bool locked = true;

	read_lock(&space->mmap_lock);
	enum scan_result result = collapse_revalidate(c, space, haddr, &vma);
	if (result == SCAN_SUCCEED)
		result = vma->object ? collapse_scan_object(c, vma, haddr, &locked)
				     : collapse_scan_pmd(c, vma, haddr, &locked);
	if (locked)
		read_unlock(&space->mmap_lock);
	if (locked ? result == SCAN_PTE_MAPPED_HUGEPAGE : result == SCAN_SUCCEED)
		result = map_collapsed(c, space, haddr, result);
	return result;
}

// The part of the call that lies in one vma, as it was when the call began.
static int collapse_part(struct collapse *c, struct space *space, uint64_t start, uint64_t end)
{
	uint64_t first = ALIGN_UP(start, PMD_SIZE), last = ALIGN_DOWN(end, PMD_SIZE);
	enum scan_result failure = SCAN_FAIL;
	uint64_t huge = 0;

	for (uint64_t haddr = first; haddr < last; haddr += PMD_SIZE) {
		enum scan_result result = collapse_one(c, space, haddr);

		if (result == SCAN_SUCCEED || result == SCAN_PMD_MAPPED) {
			huge++;
			continue;
		}
		failure = result;
		if (!may_go_on(result))
			break;
	}
	return first <= last && huge == (last - first) / PMD_SIZE ? 0 : result_errno(failure);
}

// The next vma's part of [addr, end): false when there is none.
static bool next_part(struct collapse *c, struct space *space, uint64_t addr, uint64_t end,
	uint64_t *ret_start, uint64_t *ret_end, bool *ret_allowed)
{
	read_lock(&space->mmap_lock);
	struct vma *vma = vma_find(space, addr);
	bool found = vma && vma->start < end;
	if (found) {
		*ret_start = max(vma->start, addr);
		*ret_end = min(vma->end, end);
		*ret_allowed = thp_vma_orders(c->thp, vma, THP_COLLAPSE, 1u << PMD_ORDER);
	}
	read_unlock(&space->mmap_lock);
	return found;
}

static int collapse_range(struct collapse *c, struct space *space, uint64_t addr, uint64_t end)
{
	uint64_t from, to = addr;
	bool hole = false, allowed = false;

	while (to < end && next_part(c, space, to, end, &from, &to, &allowed)) {
		hole |= from > addr;
		addr = to;
		int err = allowed ? collapse_part(c, space, from, to) : -EINVAL;
		if (err)
			return err;
	}
	return hole || addr < end ? -ENOMEM : 0;
}

int thp_advise(struct space *space, struct task *task, uint64_t addr, uint64_t len, int advice)
{
	struct thp *thp = space->mm->thp;
	struct collapse c = {.thp = thp, .cpu = task ? atomic_load(&task->cpu) : 0};

	switch (advice) {
	case ADVISE_HUGEPAGE:
		if (thp_any_enabled(thp))
			khugepaged_enter(thp, space);
		return 0;
	case ADVISE_COLLAPSE:
		return collapse_range(&c, space, addr, ALIGN_UP(addr + len, PAGE_SIZE));
	default:
		return -EINVAL;
	}
}
