// SPDX-License-Identifier: MIT
// First touches of huge pages, and accesses the host could not serve.
//
//	nothing there, shared		the object's page, made and filled with zeros if need be;
//					writable at once where the mapping is
//	nothing there, private		the object's page, read-only; without one a page of zeros of
//					its own
//	robbed				the page went to who was promised it (cow.c): SIGBUS
//	being moved			the caller waits
//	there, and permitted		the host forgot: translate again
//	there, read-only		cow.c
//
// A page of 2 MiB is one leaf of the PMD level, a page of 1 GiB the 512 leaves of one table, which
// come and go together; the first one's has the reference and the mapcount.
//
// Two threads that touch the same page at once must not both take one: the second might find none,
// and die of it. Hence the fault lock, one of 64 by object and offset (private memory: by space and
// address).
//
// Locks: mmap_lock for reading, the caller's; fault lock, folio lock, page-table lock, in this
// order. What can fail: -EIO (no page, beyond the object's end, poison), -ENOMEM (tables, host
// mappings).
#include "hugetlb/internal.h"

#include "base/assert.h"
#include "machine/copier.h"
#include "phys/backing.h"
#include "virt/fault_internal.h"
#include "virt/object.h"
#include "virt/rmap.h"
#include "virt/vma.h"

#include <errno.h>

static int serve(struct hugetlb_access *a);
static int first_touch(struct hugetlb_access *a);

static struct mutex *fault_lock(struct hugetlb *h, const struct vma *vma, uint64_t haddr)
{
	uint64_t key = vma->object ? (uintptr_t)vma->object + vma_pgoff(vma, haddr)
				   : (uintptr_t)vma->space + (haddr >> PAGE_SHIFT);

	key = (key ^ key >> 32) * 0x9e3779b97f4a7c15ull;
	return &h->fault_lock[key >> 58];
}
build_assert(HUGETLB_FAULT_LOCKS == 64, "six bits of a hash");

int hugetlb_fault(struct vma *vma, struct task *task, uint64_t addr, unsigned flags)
{
	struct hugetlb *h = vma->space->mm->hugetlb;
	struct hugetlb_access a = {
		.h = h,
		.pool = hugetlb_pool_of_vma(h, vma),
		.vma = vma,
		.task = task,
		.addr = addr,
		.flags = flags,
	};
	int err;

	a.haddr = ALIGN_DOWN(addr, hugetlb_bytes(a.pool));
	a.lock = fault_lock(h, vma, a.haddr);
	mutex_lock(a.lock);
	err = serve(&a);
	mutex_unlock(a.lock);
	return err;
}

// ---- What is there

struct page_table *hugetlb_table_lock(struct vma *vma, uint64_t haddr)
{
	return pmd_table_lock(vma->space, vaddr_of(haddr));
}

// An unshare is content with a page that is the task's own, writable or not.
static bool permits(const struct hugetlb_access *a, struct pte e)
{
	const struct folio *folio = pfn_folio(pte_pfn(e));

	if (!(a->flags & (FAULT_WRITE | FAULT_UNSHARE)) || pte_writable(e))
		return true;
	return !(a->flags & FAULT_WRITE) &&
	       (!folio_test_anon(folio) || folio_test_anon_exclusive(folio));
}

static int translate_leaf(const struct hugetlb_access *a, struct pte e)
{
	struct mmu *mmu = a->h->mm->mmu;

	return mmu->ops->map(mmu, vma_host(a->vma, a->addr & PMD_MASK), pte_pfn(e), PTRS_PER_TABLE,
		vma_pte_prot(a->vma, e));
}

static int serve(struct hugetlb_access *a)
{
	struct page_table *table = hugetlb_table_lock(a->vma, a->haddr);
	struct pte e = {0};

	if (table) {
		e = table_entry(table, pmd_index(vaddr_of(a->addr)));
		if (pte_present(e) && permits(a, e)) {
			int err = translate_leaf(a, e);
			page_table_unlock(table);
			return err;
		}
		page_table_unlock(table);
	}
	if (pte_none(e))
		return atomic_load(&a->vma->hugetlb_robbed) ? -EIO : first_touch(a);
	if (pte_migration(e))
		return FAULT_MIGRATING;
	return pte_present(e) ? hugetlb_write_protected(a) : -EIO;
}

// ---- Leaves

static unsigned nr_leaves(const struct hugetlb_pool *pool)
{
	return 1u << (pool->order - PMD_ORDER);
}

void hugetlb_set_entries(struct page_table *table, uint64_t haddr, const struct hugetlb_pool *pool,
	struct pte first)
{
	unsigned index = pmd_index(vaddr_of(haddr));

	for (unsigned i = 0; i < nr_leaves(pool); i++) {
		struct pte e = pte_make(pfn_add(pte_pfn(first), i * PTRS_PER_TABLE),
			first.v & ((1ull << PTE_PFN_SHIFT) - 1));
		table_set_entry(table, index + i, pte_none(first) ? first : e);
	}
}

int hugetlb_translate(struct vma *vma, const struct hugetlb_pool *pool, uint64_t haddr,
	struct pte first)
{
	struct mmu *mmu = vma->space->mm->mmu;
	int err = 0;

	for (unsigned i = 0; i < nr_leaves(pool) && !err; i++)
		err = mmu->ops->map(mmu, vma_host(vma, haddr + i * PMD_SIZE),
			pfn_add(pte_pfn(first), i * PTRS_PER_TABLE), PTRS_PER_TABLE,
			vma_pte_prot(vma, first));
	for (unsigned i = 0; i < nr_leaves(pool) && err; i++)
		mmu->ops->clear(mmu, vma_host(vma, haddr + i * PMD_SIZE), PTRS_PER_TABLE);
	return err;
}

void hugetlb_add_anon_rmap(struct folio *folio, struct vma *vma, uint64_t haddr)
{
	assert_that(vma->anon_vma, "vma %#lx has no anon_vma", (unsigned long)vma->start);
	folio_set_swapbacked(folio);
	folio_set_index(folio, vma_pgoff(vma, haddr));
	folio_set_mapping(folio, vma->anon_vma, MAPPING_ANON);
	folio_add_rmap_pmd(folio, true);
}

// The caller's reference becomes the mapping's. 0, FAULT_AGAIN (it is not empty any more), -ENOMEM.
static int install(struct hugetlb_access *a, struct folio *folio, uint64_t bits, bool anon)
{
	struct pte e = pte_make(folio_pfn(folio), bits | PTE_PRESENT | PTE_YOUNG | PTE_HUGE);
	int err = 0;
	struct page_table *table =
		pmd_table_alloc_lock(a->vma->space, a->task, vaddr_of(a->haddr), &err);

	if (!table)
		return err;
	if (!pte_none(table_entry(table, pmd_index(vaddr_of(a->haddr))))) {
		page_table_unlock(table);
		return FAULT_AGAIN;
	}
	// Complete before the host's translation lets the accessor run.
	if (anon)
		hugetlb_add_anon_rmap(folio, a->vma, a->haddr);
	else
		folio_add_rmap_pmd(folio, false);
	hugetlb_set_entries(table, a->haddr, a->pool, e);
	err = hugetlb_translate(a->vma, a->pool, a->haddr, e);
	if (err) {
		hugetlb_set_entries(table, a->haddr, a->pool, (struct pte){0});
		folio_remove_rmap_pmd(folio);
	}
	page_table_unlock(table);
	return err;
}

// ---- First touch

// A page of zeros that can be moved as soon as somebody can find it.
static int take_zeroed(struct hugetlb_access *a, struct hugetlb_claim *claim,
	struct folio **ret_folio)
{
	int err = hugetlb_take(claim, a->vma, a->haddr, a->task, false, ret_folio);

	if (err)
		return err;
	backing_zero(a->h->mm->phys, folio_pfn(*ret_folio), a->pool->order);
	folio_set_uptodate(*ret_folio);
	folio_set_hugetlb_migratable(*ret_folio);
	return 0;
}

// The object's page, locked, with a reference, both of which end here.
static int map_cached(struct hugetlb_access *a, struct folio *folio)
{
	const unsigned writable = VM_SHARED | VM_WRITE;
	bool shared = (a->vma->flags & writable) == writable;
	int err = folio_test_hwpoison(folio) ? -EIO
		  : install(a, folio, shared ? PTE_WRITE | PTE_DIRTY : 0, false);

	folio_unlock(folio);
	if (err)
		folio_put(folio);
	else if (!(a->vma->flags & VM_SHARED) && a->flags & (FAULT_WRITE | FAULT_UNSHARE))
		err = FAULT_AGAIN; // a copy of it is wanted
	return err;
}

static int map_new_shared(struct hugetlb_access *a, uint64_t pgoff)
{
	struct hugetlb_claim claim;
	struct folio *folio;
	int err = take_zeroed(a, &claim, &folio);

	if (err)
		return err;
	folio_lock(folio);
	err = object_add_folio(a->vma->object, folio, pgoff);
	if (err) {
		folio_unlock(folio);
		hugetlb_give_back(&claim, folio);
		return err == -EEXIST ? FAULT_AGAIN : err;
	}
	folio_set_dirty(folio); // there is no other copy of it
	return map_cached(a, folio);
}

static int map_new_private(struct hugetlb_access *a)
{
	uint64_t bits = a->flags & FAULT_WRITE ? PTE_WRITE | PTE_DIRTY : 0;
	struct hugetlb_claim claim;
	struct folio *folio;
	int err = anon_vma_prepare(a->vma);

	if (err)
		return err;
	err = take_zeroed(a, &claim, &folio);
	if (err)
		return err;
	err = install(a, folio, bits, true);
	if (err)
		hugetlb_give_back(&claim, folio);
	return err;
}

static int first_touch(struct hugetlb_access *a)
{
	uint64_t pgoff = vma_pgoff(a->vma, a->haddr);
	struct object *object = a->vma->object;
	struct folio *folio;

	if (!object)
		return map_new_private(a);
	if (pgoff >= object->size >> PAGE_SHIFT)
		return -EIO;
	folio = object_find_lock(object, pgoff);
	if (folio)
		return map_cached(a, folio);
	return a->vma->flags & VM_SHARED ? map_new_shared(a, pgoff) : map_new_private(a);
}
