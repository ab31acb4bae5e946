// SPDX-License-Identifier: MIT
// Who gets transparent huge pages: the settings, and the questions that all others ask them.
//
//	thp_vma_orders()	which orders a vma may have, in this order:
//		1  NOHUGEPAGE, PR_SET_THP_DISABLE: none
//		2  device memory and the like: only first touches and smaps pass
//		3  orders for which no aligned range fits in the vma drop out (first touches look at
//		   their own range themselves)
//		4  shared memory: its own setting decides
//		5  private anonymous memory: enabled, and each size's own file; MADV_COLLAPSE
//		   does not ask them; then an anon_vma must exist, but for first touches and
//		   smaps
//		6  files: none, as in a Linux built without CONFIG_READ_ONLY_THP_FOR_FS; or,
//		   by the setting of that name, such as were opened for reading alone: enabled
//		   decides, but not for MADV_COLLAPSE
//	thp_fault_gfp()		how hard a first touch tries
//
// A size's file says "inherit" when the word of the whole counts. Only the size of a PMD does at
// first; all others begin as "never". The whole begins as "never" too: a machine has huge pages
// when somebody asks for them.
//
// Locks: none; each setting is one word. mmap_lock of the vma is the caller's.
#include "thp/thp.h"

#include "phys/zone.h"
#include "virt/object.h"
#include "virt/vma.h"

static const unsigned long defaults[THP_SETTINGS] = {
	[SET_ENABLED] = THP_NEVER,
	[SET_DEFRAG] = DEFRAG_MADVISE,
	[SET_SHMEM_ENABLED] = SHMEM_NEVER,
	[SET_USE_ZERO_PAGE] = 1,
	[SET_SHRINK_UNDERUSED] = 1,
	[SET_PAGES_TO_SCAN] = 8 * PTRS_PER_TABLE,
	[SET_SCAN_SLEEP] = 10000,
	[SET_ALLOC_SLEEP] = 60000,
	[SET_MAX_PTES_NONE] = PTRS_PER_TABLE - 1,
	[SET_MAX_PTES_SHARED] = PTRS_PER_TABLE / 2,
	[SET_MAX_PTES_SWAP] = PTRS_PER_TABLE / 8,
	[SET_KHUGEPAGED_DEFRAG] = 1,
};

static void register_upcalls(struct mm_upcalls *up)
{
	up->huge_fault = thp_huge_fault;
	up->large_fault = thp_large_fault;
	up->large_object = thp_large_object;
	up->huge_wp_fault = thp_huge_wp_fault;
	up->split_huge_pmd = thp_split_pmd;
	up->split_folio = thp_split_folio;
	up->advise = thp_advise;
	up->thp_eligible = thp_eligible;
	up->space_forked = thp_space_forked;
	up->space_exit = thp_space_exit;
}

void thp_init(struct thp *thp, struct mm_core *mm)
{
	thp->mm = mm;
	for (unsigned i = 0; i < THP_SETTINGS; i++)
		thp->setting[i] = defaults[i];
	for (unsigned order = 0; order <= PMD_ORDER; order++) {
		bool pmd = order == PMD_ORDER;
		thp->size_enabled[order] = pmd ? SIZE_INHERIT : SIZE_NEVER;
		thp->size_shmem[order] = pmd ? SIZE_SHMEM_INHERIT : SIZE_SHMEM_NEVER;
	}
	mutex_init(&thp->khugepaged.daemon_lock, RANK_MACHINE);
	mutex_init(&thp->khugepaged.lock, RANK_MACHINE);
	mutex_init(&thp->khugepaged.slots_lock, RANK_SCAN_SLOTS);
	list_init(&thp->khugepaged.slots);
	mm->thp = thp;
	register_upcalls(&mm->up);
}

// ---- Sizes

static unsigned long size_enabled(const struct thp *thp, unsigned order)
{
	return atomic_load_explicit(&thp->size_enabled[order], memory_order_relaxed);
}

static bool size_allows(const struct thp *thp, unsigned order, bool advised)
{
	unsigned long global = thp_setting(thp, SET_ENABLED);

	switch (size_enabled(thp, order)) {
	case SIZE_ALWAYS:
		return true;
	case SIZE_MADVISE:
		return advised;
	case SIZE_INHERIT:
		return global == THP_ALWAYS || (global == THP_MADVISE && advised);
	default:
		return false;
	}
}

static unsigned orders_enabled(const struct thp *thp, unsigned orders, bool advised)
{
	unsigned left = 0;

	for (unsigned order = THP_LEAST_ORDER; order <= PMD_ORDER; order++)
		if (orders >> order & 1 && size_allows(thp, order, advised))
			left |= 1u << order;
	return left;
}

bool thp_any_enabled(const struct thp *thp)
{
	return orders_enabled(thp, THP_ORDERS_ALL, true);
}

bool thp_vma_has_room(const struct vma *vma, unsigned order)
{
	uint64_t size = PAGE_SIZE << order;

	if (vma->end - vma->start < size)
		return false;
	if (vma->object && ((vma->start >> PAGE_SHIFT) - vma->pgoff) & ((1ul << order) - 1))
		return false; // folios of the object do not lie on the vma's boundaries
	return ALIGN_DOWN(vma->end - size, size) >= vma->start;
}

static unsigned orders_with_room(const struct vma *vma, unsigned orders)
{
	for (unsigned order = THP_LEAST_ORDER; order <= PMD_ORDER; order++)
		if (!thp_vma_has_room(vma, order))
			orders &= ~(1u << order);
	return orders;
}

// ---- Shared memory

static bool within_size(const struct object *object, uint64_t pgoff, unsigned order)
{
	uint64_t end = ALIGN_UP(pgoff + 1, 1ull << order);

	return DIV_ROUND_UP(object->size, PAGE_SIZE) >= end;
}

// What the word of the whole says, which thinks in the size of a PMD.
static bool shmem_global_allows(struct thp *thp, bool advised, const struct object *object,
	uint64_t pgoff)
{
	switch ((enum thp_shmem)thp_setting(thp, SET_SHMEM_ENABLED)) {
	case SHMEM_FORCE:
	case SHMEM_ALWAYS:
		return true;
	case SHMEM_WITHIN_SIZE:
		return within_size(object, pgoff, PMD_ORDER) || advised;
	case SHMEM_ADVISE:
		return advised;
	default:
		return false;
	}
}

bool thp_shmem_allows(struct thp *thp, const struct vma *vma, const struct object *object,
	uint64_t pgoff, unsigned order, enum thp_use use)
{
	unsigned long global = thp_setting(thp, SET_SHMEM_ENABLED);
	unsigned long size = atomic_load(&thp->size_shmem[order]);
	bool advised = vma && vma->flags & VM_HUGEPAGE;

	if (global == SHMEM_DENY || (vma && vma->flags & VM_NOHUGEPAGE))
		return false;
	if (use == THP_COLLAPSE)
		return true;
	if (size == SIZE_SHMEM_INHERIT)
		return shmem_global_allows(thp, advised, object, pgoff);
	if (global == SHMEM_FORCE)
		return false;
	return size == SIZE_SHMEM_ALWAYS || (size == SIZE_SHMEM_ADVISE && advised) ||
	       (size == SIZE_SHMEM_WITHIN_SIZE && within_size(object, pgoff, order));
}

// smaps and khugepaged ask once for a vma, at its beginning, and take a yes of any size for theirs.
static bool shmem_allows_some(struct thp *thp, const struct vma *vma)
{
	for (unsigned order = THP_LEAST_SHMEM_ORDER; order <= PMD_ORDER; order++)
		if (thp_shmem_allows(thp, vma, vma->object, vma->pgoff, order, THP_FAULT))
			return true;
	return false;
}

// ---- Vmas

// Of a size that a file's pages may be collapsed to.
static unsigned file_orders(const struct thp *thp, const struct vma *vma, enum thp_use use)
{
	unsigned long global = thp_setting(thp, SET_ENABLED);
	bool wanted = global == THP_ALWAYS || (global == THP_MADVISE && vma->flags & VM_HUGEPAGE);

	if (use == THP_FAULT || !thp_setting(thp, SET_READ_ONLY_FILES)) // a touch makes none
		return 0;
	if (vma->object->writable_fd || (use != THP_COLLAPSE && !wanted))
		return 0;
	return 1u << PMD_ORDER;
}

static unsigned object_orders(struct thp *thp, const struct vma *vma, enum thp_use use)
{
	bool allowed;

	switch (vma->object->ops->kind) {
	case OBJECT_SHMEM:
		allowed = use == THP_SMAPS || use == THP_KHUGEPAGED
			? shmem_allows_some(thp, vma)
			: thp_shmem_allows(thp, vma, vma->object, vma->pgoff, PMD_ORDER, use);
		return allowed ? 1u << PMD_ORDER : 0;
	case OBJECT_FILE:
		return file_orders(thp, vma, use);
	default:
		return 0;
	}
}


unsigned thp_vma_orders(struct thp *thp, const struct vma *vma, enum thp_use use, unsigned orders)
{
	bool touch = use == THP_FAULT || use == THP_SMAPS;
	unsigned flags = vma->flags;

	if (flags & (VM_NOHUGEPAGE | VM_HUGETLB) || atomic_load(&vma->space->thp_disabled))
		return 0;
	if (!touch && flags & VM_SPECIAL)
		return 0;
	// smaps asks about all orders, of objects from two pages on: room for any is enough for it.
	if (vma->object && use == THP_SMAPS)
		return thp_vma_has_room(vma, 1) ? object_orders(thp, vma, use) : 0;
	if (use != THP_FAULT)
		orders = orders_with_room(vma, orders);
	if (!orders)
		return 0;
	if (vma->object)
		return orders >> PMD_ORDER & 1 ? object_orders(thp, vma, use) : 0;
	if (use != THP_COLLAPSE)
		orders = orders_enabled(thp, orders, flags & VM_HUGEPAGE);
	return touch || vma->anon_vma ? orders : 0;
}

bool thp_eligible(const struct vma *vma)
{
	return thp_vma_orders(vma->space->mm->thp, vma, THP_SMAPS, THP_ORDERS_ALL);
}

// ---- Allocation

gfp_t thp_fault_gfp(const struct thp *thp, const struct vma *vma)
{
	bool advised = vma->flags & VM_HUGEPAGE;

	switch ((enum thp_defrag)thp_setting(thp, SET_DEFRAG)) {
	case DEFRAG_ALWAYS:
		return GFP_TRANSHUGE | (advised ? 0 : GFP_NORETRY);
	case DEFRAG_DEFER:
		return GFP_TRANSHUGE_LIGHT | GFP_KSWAPD_RECLAIM;
	case DEFRAG_DEFER_MADVISE:
		return GFP_TRANSHUGE_LIGHT | (advised ? GFP_DIRECT_RECLAIM : GFP_KSWAPD_RECLAIM);
	case DEFRAG_MADVISE:
		return GFP_TRANSHUGE_LIGHT | (advised ? GFP_DIRECT_RECLAIM : 0);
	case DEFRAG_NEVER:
		break;
	}
	return GFP_TRANSHUGE_LIGHT;
}

gfp_t thp_khugepaged_gfp(const struct thp *thp)
{
	return thp_setting(thp, SET_KHUGEPAGED_DEFRAG) ? GFP_TRANSHUGE : GFP_TRANSHUGE_LIGHT;
}
