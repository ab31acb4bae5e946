// SPDX-License-Identifier: MIT
// First touches of memory that may have huge pages.
//
//	thp_huge_fault()	nothing is at the PMD entry: one leaf for the whole 2 MiB
//		read, use_zero_page	the huge zero page, which costs nothing
//		else			a zeroed folio by policy; none to be had: counted, small
//					pages
//		shared memory		the object's huge folio, made when the settings allow
//					it; one that is there is mapped whatever they say
//		the same, privately	made as well, but a write copies one small page of it
//		a file			the object's huge folio, if a collapse made one: read-only
//	thp_large_object()	shared memory that is not cached: the largest order below that which
//				its setting allows and that fits
//	thp_large_fault()	a write where small entries stand or must stand: the largest order
//				that is enabled, fits, and whose entries are all empty
//
// The huge zero page is the engine's zero page, which is a run of 512 frames where memory allows; a
// machine without such a run gives real pages instead.
//
// Locks: mmap_lock for reading, by the caller; the page-table lock to install. Everything about a
// page is true before the host's translation lets the accessor run.
// What can fail: nothing but -ENOMEM for an anon_vma; whatever else is missing, small pages do.
#include "thp/thp.h"

#include "base/vmstat.h"
#include "phys/lru.h"
#include "virt/mempolicy.h"
#include "virt/object.h"
#include "virt/rmap.h"
#include "virt/vma.h"

#include <errno.h>

static int map_zero_leaf(struct vma *vma, struct task *task, uint64_t haddr);

// There the small pages' level says SIGBUS. (A leaf that an access before the end has brought
// reaches beyond it all the same, and shows zeros.)
static bool is_beyond_object(const struct vma *vma, uint64_t addr)
{
	return vma->object &&
	       vma_pgoff(vma, addr) >= DIV_ROUND_UP(vma->object->size, PAGE_SIZE);
}

int thp_huge_fault(struct vma *vma, struct task *task, uint64_t addr, bool write)
{
	struct mm_core *mm = vma->space->mm;
	uint64_t haddr = addr & PMD_MASK;

	if (haddr < vma->start || haddr + PMD_SIZE > vma->end || is_beyond_object(vma, addr))
		return 0;
	bool allowed = thp_vma_orders(mm->thp, vma, THP_FAULT, 1u << PMD_ORDER);
	if (vma->object)
		return thp_object_fault(vma, task, haddr, write, allowed);
	if (!allowed)
		return 0;
	int err = anon_vma_prepare(vma);
	if (err)
		return err;
	khugepaged_enter(mm->thp, vma->space);
	if (!write && thp_setting(mm->thp, SET_USE_ZERO_PAGE) &&
		folio_order(mm->zero_page) == PMD_ORDER)
		return map_zero_leaf(vma, task, haddr);
	struct folio *folio = thp_alloc_for_fault(vma, task, haddr);
	if (!folio)
		return 0;
	err = thp_map_anon_leaf(vma, task, haddr, (struct pte){0}, folio);
	if (err) {
		folio_put(folio);
		return 0;
	}
	return 1;
}

struct folio *thp_alloc_for_fault(struct vma *vma, struct task *task, uint64_t haddr)
{
	struct thp *thp = vma->space->mm->thp;
	struct folio *folio = folio_alloc_vma(thp_fault_gfp(thp, vma) | GFP_ZERO, PMD_ORDER, vma,
		haddr, task);

	vm_event(thp->mm->stat, folio ? VM_THP_FAULT_ALLOC : VM_THP_FAULT_FALLBACK);
	size_stat_add(&thp->mm->phys->sizes, PMD_ORDER,
		folio ? STAT_ANON_FAULT_ALLOC : STAT_ANON_FAULT_FALLBACK, 1);
	return folio;
}

// Under the PMD table's lock.
static void add_new_anon(struct vma *vma, uint64_t addr, struct folio *folio)
{
	folio_add_new_anon_rmap(folio, vma, addr);
	folio_set_uptodate(folio);
	if (vma->flags & VM_LOCKED)
		folio_add_lru_mlocked(folio);
	else
		folio_add_lru(folio);
	atomic_fetch_add(&vma->space->rss_anon, (long)folio_nr(folio));
}

static uint64_t leaf_bits(const struct vma *vma)
{
	return PTE_PRESENT | PTE_HUGE | PTE_DIRTY | PTE_YOUNG |
	       (vma->flags & VM_WRITE ? PTE_WRITE : 0);
}

int thp_map_anon_leaf(struct vma *vma, struct task *task, uint64_t haddr, struct pte seen,
	struct folio *folio)
{
	struct space *space = vma->space;
	struct mmu *mmu = space->mm->mmu;
	unsigned index = pmd_index(vaddr_of(haddr));
	struct pte entry = pte_make(folio_pfn(folio), leaf_bits(vma));
	struct page_table *pmd, *deposit = NULL;
	int err = 0;

	if (pte_none(seen) && !(deposit = page_table_alloc(space, task, 1, vaddr_of(haddr))))
		return -ENOMEM;
	pmd = pmd_table_alloc_lock(space, task, vaddr_of(haddr), &err);
	if (pmd && table_entry(pmd, index).v != seen.v) {
		page_table_unlock(pmd);
		err = -EEXIST;
	}
	if (err) {
		if (deposit)
			page_table_free(space, deposit);
		return err;
	}
	add_new_anon(vma, haddr, folio);
	table_set_entry(pmd, index, entry);
	err = mmu->ops->map(mmu, vma_host(vma, haddr), folio_pfn(folio), PTRS_PER_TABLE,
		vma_pte_prot(vma, entry));
	if (err) {
		table_set_entry(pmd, index, seen);
		atomic_fetch_sub(&space->rss_anon, (long)PTRS_PER_TABLE);
		folio_remove_rmap_pmd(folio);
	} else if (deposit) {
		page_table_deposit(space, deposit);
		deposit = NULL;
	}
	if (!err)
		thp_queue_new(space->mm->thp, folio);
	page_table_unlock(pmd);
	if (deposit)
		page_table_free(space, deposit);
	return err;
}

// >0: mapped. A host that refuses leaves it to small pages.
static int map_zero_leaf(struct vma *vma, struct task *task, uint64_t haddr)
{
	struct mm_core *mm = vma->space->mm;
	unsigned index = pmd_index(vaddr_of(haddr));
	struct pfn zero = folio_pfn(mm->zero_page);
	struct page_table *pmd, *deposit;
	int err = 0;

	deposit = page_table_alloc(vma->space, task, 1, vaddr_of(haddr));
	if (!deposit)
		return -ENOMEM;
	pmd = pmd_table_alloc_lock(vma->space, task, vaddr_of(haddr), &err);
	if (!pmd) {
		page_table_free(vma->space, deposit);
		return err;
	}
	if (pte_none(table_entry(pmd, index)) &&
		!mm->mmu->ops->map(mm->mmu, vma_host(vma, haddr), zero, PTRS_PER_TABLE, MMU_READ)) {
		table_set_entry(pmd, index,
			pte_make(zero, PTE_PRESENT | PTE_HUGE | PTE_ZERO | PTE_YOUNG));
		page_table_deposit(vma->space, deposit);
		err = 1;
	}
	page_table_unlock(pmd);
	if (!err)
		page_table_free(vma->space, deposit);
	if (err && !atomic_exchange(&mm->thp->zero_page_counted, true))
		vm_event(mm->stat, VM_THP_ZERO_PAGE_ALLOC);
	return err;
}

// ---- Objects

// A folio of the order for offsets of which none is cached: in the index, with a reference. NULL:
// none to be had, or somebody was faster.
static struct folio *add_new_folio(struct vma *vma, struct task *task, uint64_t pgoff,
	unsigned order)
{
	struct thp *thp = vma->space->mm->thp;
	struct folio *folio = folio_alloc_object(thp_fault_gfp(thp, vma) | GFP_ZERO, order,
		vma->object, pgoff, task);

	size_stat_add(&thp->mm->phys->sizes, order,
		folio ? STAT_SHMEM_ALLOC : STAT_SHMEM_FALLBACK, 1);
	if (order == PMD_ORDER)
		vm_event(thp->mm->stat, folio ? VM_THP_FILE_ALLOC : VM_THP_FILE_FALLBACK);
	if (!folio)
		return NULL;
	folio_lock(folio);
	int err = object_add_folio(vma->object, folio, pgoff);
	if (!err) {
		folio_set_uptodate(folio);
		folio_add_lru(folio);
	}
	folio_unlock(folio);
	if (!err)
		return folio;
	folio_put(folio); // small pages are there already
	return NULL;
}

// The folio that holds these offsets, a huge one made when there is nothing yet. A reference, not
// locked.
static struct folio *object_huge_folio(struct vma *vma, struct task *task, uint64_t pgoff,
	bool make)
{
	struct folio *folio = object_find(vma->object, pgoff);

	if (folio || !make || vma->object->ops->kind == OBJECT_FILE ||
		!thp_shmem_allows(vma->space->mm->thp, vma, vma->object, pgoff, PMD_ORDER,
			THP_FAULT))
		return folio;
	return add_new_folio(vma, task, pgoff, PMD_ORDER);
}

// A folio of the order around addr would lie in the vma, and no page of it is cached.
static bool object_has_room(struct vma *vma, uint64_t addr, unsigned order)
{
	uint64_t nr = 1ul << order, base = ALIGN_DOWN(addr, nr << PAGE_SHIFT);
	uint64_t first = ALIGN_DOWN(vma_pgoff(vma, addr), nr);

	return base >= vma->start && base + (nr << PAGE_SHIFT) <= vma->end &&
	       vma_pgoff(vma, base) == first &&
	       !object_resident(vma->object, first, nr, NULL);
}

void thp_large_object(struct vma *vma, struct task *task, uint64_t addr)
{
	struct thp *thp = vma->space->mm->thp;
	uint64_t pgoff = vma_pgoff(vma, addr);

	if (atomic_load(&vma->space->thp_disabled))
		return;
	for (unsigned order = PMD_ORDER - 1; order >= THP_LEAST_SHMEM_ORDER; order--) {
		struct folio *folio = NULL;

		if (thp_shmem_allows(thp, vma, vma->object, pgoff, order, THP_FAULT) &&
			object_has_room(vma, addr, order))
			folio = add_new_folio(vma, task, ALIGN_DOWN(pgoff, 1ul << order), order);
		if (folio) {
			folio_put(folio);
			return;
		}
	}
}

// Folio locked; its reference becomes the leaf's when >0. Linux has a table of small entries at
// hand by then, and gives it back: a turn of interleave all the same.
static int map_object_leaf(struct vma *vma, struct task *task, uint64_t haddr, struct folio *folio,
	bool write)
{
	struct space *space = vma->space;
	struct mmu *mmu = space->mm->mmu;
	unsigned index = pmd_index(vaddr_of(haddr));
	struct pte entry = pte_make(folio_pfn(folio), PTE_PRESENT | PTE_HUGE | PTE_YOUNG);
	int err = 0;
	struct page_table *pmd = pmd_table_alloc_lock(space, task, vaddr_of(haddr), &err);

	if (!pmd)
		return err;
	if (write)
		entry = pte_set(entry, PTE_WRITE | PTE_DIRTY);
	if (pte_none(table_entry(pmd, index)) &&
		!mmu->ops->map(mmu, vma_host(vma, haddr), folio_pfn(folio), PTRS_PER_TABLE,
			vma_pte_prot(vma, entry))) {
		folio_add_rmap_pmd(folio, false);
		table_set_entry(pmd, index, entry);
		space_rss_add(space, folio, PTRS_PER_TABLE);
		(void)mempolicy_count_table(space->mm, task);
		err = 1;
	}
	page_table_unlock(pmd);
	return err;
}

int thp_object_fault(struct vma *vma, struct task *task, uint64_t haddr, bool write, bool make)
{
	struct thp *thp = vma->space->mm->thp;
	uint64_t pgoff = vma_pgoff(vma, haddr);
	bool mapped = false;

	if (pgoff & (PTRS_PER_TABLE - 1) ||
		pgoff >= DIV_ROUND_UP(vma->object->size, PAGE_SIZE) ||
		vma->flags & VM_NOHUGEPAGE || atomic_load(&vma->space->thp_disabled))
		return 0;
	if (make || thp_vma_orders(thp, vma, THP_KHUGEPAGED, 1u << PMD_ORDER))
		khugepaged_enter(thp, vma->space);
	struct folio *folio = object_huge_folio(vma, task, pgoff, make);
	if (!folio)
		return 0;
	if (write && !(vma->flags & VM_SHARED)) { // gets a copy of one of its pages
		folio_put(folio);
		return 0;
	}
	folio_lock(folio);
	if (folio_object(folio) == vma->object && folio_order(folio) == PMD_ORDER &&
		folio_index(folio) == pgoff && folio_test_uptodate(folio)) {
		if (write)
			folio_mark_dirty(folio);
		mapped = map_object_leaf(vma, task, haddr, folio, write) > 0;
	}
	folio_unlock(folio);
	if (!mapped) {
		folio_put(folio);
		return 0;
	}
	vm_event(vma->space->mm->stat, VM_THP_FILE_MAPPED);
	return 1;
}

// ---- Sizes below a PMD

static bool all_none(const struct page_table *table, uint64_t addr, unsigned nr)
{
	unsigned index = pte_index(vaddr_of(addr));

	for (unsigned i = 0; i < nr; i++)
		if (!pte_none(table_entry(table, index + i)))
			return false;
	return true;
}

// The largest order of `orders` whose range around addr lies in the vma and is empty; 0: none.
static unsigned choose_order(struct vma *vma, uint64_t addr, unsigned orders)
{
	struct page_table *table = pte_table_lock(vma->space, vaddr_of(addr));
	unsigned order = 0;

	while (orders) {
		order = 31 - (unsigned)__builtin_clz(orders);
		uint64_t size = PAGE_SIZE << order, base = ALIGN_DOWN(addr, size);
		if (base >= vma->start && base + size <= vma->end &&
			(!table || all_none(table, base, 1u << order)))
			break;
		orders &= ~(1u << order);
	}
	if (table)
		page_table_unlock(table);
	return orders ? order : 0;
}

static int map_large(struct vma *vma, struct task *task, uint64_t base, struct folio *folio)
{
	struct mmu *mmu = vma->space->mm->mmu;
	unsigned nr = (unsigned)folio_nr(folio), index = pte_index(vaddr_of(base));
	uint64_t bits = leaf_bits(vma) & ~PTE_HUGE;
	int err = 0;
	struct page_table *table = pte_table_alloc_lock(vma->space, task, vaddr_of(base), &err);

	if (!table)
		return err;
	if (!all_none(table, base, nr)) {
		page_table_unlock(table);
		return -EEXIST;
	}
	add_new_anon(vma, base, folio);
	for (unsigned i = 0; i < nr; i++)
		table_set_entry(table, index + i, pte_make(pfn_add(folio_pfn(folio), i), bits));
	err = mmu->ops->map(mmu, vma_host(vma, base), folio_pfn(folio), nr,
		vma->flags & VM_WRITE ? MMU_WRITE : MMU_READ);
	if (err) {
		for (unsigned i = 0; i < nr; i++)
			table_set_entry(table, index + i, (struct pte){0});
		atomic_fetch_sub(&vma->space->rss_anon, (long)nr);
		folio_remove_rmap(folio, 0, nr);
		folio_put_many(folio, nr - 1);
	}
	page_table_unlock(table);
	return err;
}

int thp_large_fault(struct vma *vma, struct task *task, uint64_t addr)
{
	struct thp *thp = vma->space->mm->thp;
	unsigned orders = thp_vma_orders(thp, vma, THP_FAULT,
		THP_ORDERS_ALL & ~(1u << PMD_ORDER));

	for (unsigned order; orders && (order = choose_order(vma, addr, orders));
		orders &= (1u << order) - 1) {
		uint64_t base = ALIGN_DOWN(addr, PAGE_SIZE << order);
		struct folio *folio = folio_alloc_vma(thp_fault_gfp(thp, vma) | GFP_ZERO, order,
			vma, base, task);

		size_stat_add(&thp->mm->phys->sizes, order,
			folio ? STAT_ANON_FAULT_ALLOC : STAT_ANON_FAULT_FALLBACK, 1);
		if (!folio)
			continue;
		folio_ref_add(folio, (1u << order) - 1); // one an entry
		if (!map_large(vma, task, base, folio))
			return 1;
		folio_put(folio);
		return 0; // somebody was faster, or the host has no room
	}
	return 0;
}
