// SPDX-License-Identifier: MIT
// Collapse: small anonymous pages of a 2 MiB range become one huge folio, while their task runs.
//
//	collapse_scan_pmd()  mmap_lock for reading: is it worth it, and from which node
//	then, with mmap_lock given up:
//	1  a huge folio from the nodes that have most of the pages
//	2  mmap_lock for reading: is the range still what it was?
//	3  mmap_lock for writing: nobody faults, maps or unmaps; the same question again
//	4  rmap lock for writing: nobody walks to these entries. Subscribers are told; the PMD entry
//    is
//	   emptied and the host loses the whole range in one call: from here on accessors wait
//	5  each page is locked by trylock, its references are recounted, it leaves the LRU. If one
//	   refuses, the PMD entry comes back with all of them
//	6  rmap lock given up; contents are copied, holes are zeros; a poisoned page still turns
//    back
//	7  old pages lose their mappings and references, the leaf is installed, the host gets 512
//    frames
//	   in one call, mmap_lock is given up, and those who waited go on
//
// A store is in the old page before step 4 ended, or waits and goes to the new one: none is lost.
// max_ptes_* and the question whether pages were used bind khugepaged only.
//
// What can fail: every enum scan_result but success, with the range as it was before.
#include "thp/collapse.h"

#include "base/mark.h"
#include "base/vmstat.h"
#include "phys/alloc.h"
#include "phys/lru.h"
#include "virt/fault.h"
#include "virt/gather.h"
#include "virt/rmap.h"
#include "virt/vma.h"

#include <errno.h>
#include <string.h>

static enum scan_result collapse(struct collapse *c, struct space *space, uint64_t haddr);

// *ret_locked says whether mmap_lock is still held: more than the analysis can follow.
NO_THREAD_SAFETY_ANALYSIS enum scan_result collapse_scan_pmd(
	struct collapse *c, struct vma *vma, uint64_t haddr, bool *ret_locked)
{
	struct space *space = vma->space;
	enum scan_result result = collapse_look(c, vma, haddr);

	*ret_locked = true;
	if (result != SCAN_SUCCEED)
		return result;
	*ret_locked = false;
	read_unlock(&space->mmap_lock);
	return collapse(c, space, haddr);
}

// ---- Questions asked again

enum scan_result collapse_revalidate(struct collapse *c, struct space *space, uint64_t haddr,
	struct vma **ret_vma)
{
	struct vma *vma = vma_lookup(space, haddr);

	if (!vma)
		return SCAN_VMA_NULL;
	if (haddr < vma->start || haddr + PMD_SIZE > vma->end)
		return SCAN_ADDRESS_RANGE;
	if (!thp_vma_orders(c->thp, vma, c->khugepaged ? THP_KHUGEPAGED : THP_COLLAPSE,
		    1u << PMD_ORDER))
		return SCAN_VMA_CHECK;
	*ret_vma = vma;
	return SCAN_SUCCEED;
}

static enum scan_result revalidate_anon(struct collapse *c, struct space *space, uint64_t haddr,
	struct vma **ret_vma)
{
	enum scan_result result = collapse_revalidate(c, space, haddr, ret_vma);

	if (result == SCAN_SUCCEED && (!(*ret_vma)->anon_vma || (*ret_vma)->object))
		return SCAN_PAGE_ANON;
	return result == SCAN_SUCCEED ? collapse_pmd_state(space, haddr) : result;
}

enum scan_result collapse_pmd_state(struct space *space, uint64_t haddr)
{
	struct page_table *pmd = pmd_table_lock(space, vaddr_of(haddr));

	if (!pmd)
		return SCAN_PMD_NULL;
	struct pte e = table_entry(pmd, pmd_index(vaddr_of(haddr)));
	page_table_unlock(pmd);
	if (pte_none(e))
		return SCAN_PMD_NONE;
	if (pmd_entry_table(e))
		return SCAN_SUCCEED;
	return pte_present(e) ? SCAN_PMD_MAPPED : SCAN_PMD_NULL;
}

enum scan_result collapse_alloc(struct collapse *c, struct folio **ret_folio)
{
	struct mm_core *mm = c->thp->mm;
	gfp_t gfp = c->khugepaged ? thp_khugepaged_gfp(c->thp) : GFP_TRANSHUGE;
	struct nodemask allowed = NODEMASK_NONE;
	unsigned most = 0;
	int nid = -1;

	for (unsigned i = 0; i < MAX_NODES; i++) {
		if (c->node_load[i] > most) {
			most = c->node_load[i];
			nid = (int)i;
		}
	}
	for (unsigned i = 0; most && i < MAX_NODES; i++)
		if (c->node_load[i] == most)
			nodemask_set(&allowed, i);
	struct folio *folio = folio_alloc(mm->phys, gfp, PMD_ORDER, nid, most ? &allowed : NULL,
		c->cpu);
	vm_event(mm->stat, folio ? VM_THP_COLLAPSE_ALLOC : VM_THP_COLLAPSE_ALLOC_FAILED);
	if (!folio)
		return SCAN_ALLOC_HUGE_PAGE_FAIL;
	*ret_folio = folio;
	return SCAN_SUCCEED;
}

// ---- The range, taken away from everybody

struct range {
	struct collapse *c;
	struct space *space;
	struct vma *vma;
	uint64_t haddr;
	struct page_table *table; // detached
	struct folio *new;
	unsigned isolated; // entries looked at and, if pages, isolated
	unsigned none, referenced;
	bool writable;
};

static uintptr_t host_of(const struct range *r, unsigned i)
{
	return vma_host(r->vma, r->haddr + i * PAGE_SIZE);
}

// Step 4. false: there is no table any more.
static bool detach_table(struct range *r) NO_THREAD_SAFETY_ANALYSIS
{
	unsigned index = pmd_index(vaddr_of(r->haddr));
	struct gather g;
	struct mm_invalidation inv;

	mm_notify_start(&inv, r->space, r->haddr, r->haddr + PMD_SIZE, MM_INVALIDATE_COLLAPSE);
	gather_init(&g, r->space->mm);
	struct page_table *pmd = gather_pmd_table(&g, r->space, vaddr_of(r->haddr));
	r->table = pmd ? pmd_entry_table(table_entry(pmd, index)) : NULL;
	if (r->table) {
		mutex_lock_nested(&r->table->lock);
		pmd_install_table(pmd, index, NULL);
		mutex_unlock(&r->table->lock);
		gather_clear(&g, host_of(r, 0), PTRS_PER_TABLE);
	}
	(void)gather_finish(&g);
	mm_notify_end(&inv);
	return r->table;
}

// Back as it was; the host asks again by faults where it has no room now.
static void reattach_table(struct range *r)
{
	struct gather g;

	gather_init(&g, r->space->mm);
	struct page_table *pmd = gather_pmd_table(&g, r->space, vaddr_of(r->haddr));
	for (unsigned i = 0; i < PTRS_PER_TABLE; i++) {
		struct pte e = table_entry(r->table, i);

		if (pte_present(e))
			gather_map(&g, host_of(r, i), pte_pfn(e), 1, vma_pte_prot(r->vma, e));
	}
	pmd_install_table(pmd, pmd_index(vaddr_of(r->haddr)), r->table);
	(void)gather_finish(&g);
}

// ---- The pages

static enum scan_result isolate_page(struct folio *folio)
{
	if (!folio_trylock(folio))
		return SCAN_PAGE_LOCK;
	if (folio_ref_count(folio) != folio_expected_ref_count(folio)) {
		folio_unlock(folio);
		return SCAN_PAGE_COUNT;
	}
	if (!folio_isolate_lru(folio)) {
		folio_unlock(folio);
		return SCAN_DEL_PAGE_LRU;
	}
	folio_count_isolated(folio);
	return SCAN_SUCCEED;
}

// A large folio with several entries here is isolated with the first.
static bool isolated_before(const struct range *r, unsigned i, const struct folio *folio)
{
	for (unsigned k = 0; folio_large(folio) && k < i; k++) {
		struct pte e = table_entry(r->table, k);

		if (pte_present(e) && !pte_zero_page(e) && pfn_folio(pte_pfn(e)) == folio)
			return true;
	}
	return false;
}

static enum scan_result isolate_entry(struct range *r, unsigned i, struct collapse_limits *limits)
{
	struct pte e = table_entry(r->table, i);
	enum scan_result result = collapse_check_entry(limits, e);

	if (result != SCAN_SUCCEED || pte_none(e) || pte_zero_page(e))
		return result;
	struct folio *folio = pfn_folio(pte_pfn(e));
	return isolated_before(r, i, folio) ? SCAN_SUCCEED : isolate_page(folio);
}

// Take the isolation of the first `nr` entries back: `moved` says that they lost their mappings.
static void release_pages(struct range *r, unsigned nr)
{
	for (unsigned i = nr; i-- > 0;) {
		struct pte e = table_entry(r->table, i);

		if (!pte_present(e) || pte_zero_page(e))
			continue;
		struct folio *folio = pfn_folio(pte_pfn(e));
		if (isolated_before(r, i, folio))
			continue;
		folio_unlock(folio);
		folio_uncount_isolated(folio);
		folio_putback_lru(folio);
	}
}

// Step 5.
static enum scan_result isolate_all(struct range *r)
{
	struct collapse_limits limits = {.c = r->c, .vma = r->vma};
	enum scan_result result = SCAN_SUCCEED;
	unsigned i;

	for (i = 0; i < PTRS_PER_TABLE && result == SCAN_SUCCEED; i++)
		result = isolate_entry(r, i, &limits);
	r->isolated = result == SCAN_SUCCEED ? i : i - 1;
	if (result == SCAN_SUCCEED)
		result = collapse_verdict(&limits);
	trace_event(r->space->mm->trace, mm_collapse_huge_page_isolate,
		.pfn = limits.first_pfn, .none_or_zero = limits.none,
		.referenced = limits.referenced, .writable = limits.writable, .status = result);
	if (result != SCAN_SUCCEED)
		release_pages(r, r->isolated);
	r->none = limits.none;
	return result;
}

// ---- Contents

static enum scan_result copy_all(struct range *r)
{
	struct mm_core *mm = r->space->mm;

	for (unsigned i = 0; i < PTRS_PER_TABLE; i++) {
		struct pte e = table_entry(r->table, i);
		char *to = folio_bytes(mm, r->new, i);

		if (pte_none(e) || pte_zero_page(e)) {
			memset(to, 0, PAGE_SIZE);
			continue;
		}
		if (frame_test_hwpoison(pfn_frame(pte_pfn(e))))
			return SCAN_COPY_MC;
		memcpy(to, mm->mmu->ops->peek(mm->mmu, pte_pfn(e)), PAGE_SIZE);
	}
	return SCAN_SUCCEED;
}

// Step 7, the old pages: from the last to the first, so that a large folio goes with its first
// entry.
static void drop_old(struct range *r)
{
	mutex_lock(&r->table->lock);
	for (unsigned i = PTRS_PER_TABLE; i-- > 0;) {
		struct pte e = table_entry(r->table, i);
		bool page = pte_present(e) && !pte_zero_page(e);
		struct folio *folio = page ? pfn_folio(pte_pfn(e)) : NULL;
		bool last = page && !isolated_before(r, i, folio);

		table_set_entry(r->table, i, (struct pte){0});
		if (!page)
			continue;
		folio_remove_rmap(folio, (unsigned)(pte_pfn(e).n - folio_pfn(folio).n), 1);
		if (last) {
			folio_unlock(folio);
			folio_uncount_isolated(folio);
			folio_putback_lru(folio);
		}
		folio_put(folio);
	}
	mutex_unlock(&r->table->lock);
}

static void install(struct range *r)
{
	struct space *space = r->space;
	unsigned index = pmd_index(vaddr_of(r->haddr));
	uint64_t bits = PTE_PRESENT | PTE_HUGE | PTE_DIRTY | PTE_YOUNG;
	struct gather g;

	if (r->vma->flags & VM_WRITE)
		bits |= PTE_WRITE;
	struct pte entry = pte_make(folio_pfn(r->new), bits);
	gather_init(&g, space->mm);
	struct page_table *pmd = gather_pmd_table(&g, space, vaddr_of(r->haddr));
	folio_add_new_anon_rmap(r->new, r->vma, r->haddr);
	folio_set_uptodate(r->new);
	if (r->vma->flags & VM_LOCKED)
		folio_add_lru_mlocked(r->new);
	else
		folio_add_lru(r->new);
	table_set_entry(pmd, index, entry);
	page_table_deposit(space, r->table);
	atomic_fetch_add(&space->rss_anon, (long)r->none);
	thp_queue_new(r->c->thp, r->new);
	gather_map(&g, host_of(r, 0), folio_pfn(r->new), PTRS_PER_TABLE,
		vma_pte_prot(r->vma, entry));
	(void)gather_finish(&g); // refused: the next access asks again
}

// mmap_lock held for writing; everything checked.
static enum scan_result replace(struct range *r)
{
	struct anon_vma *root = r->vma->anon_vma->root;
	enum scan_result result = SCAN_PMD_NULL;

	write_lock(&root->lock);
	if (detach_table(r)) {
		result = isolate_all(r);
		if (result != SCAN_SUCCEED)
			reattach_table(r);
	}
	write_unlock(&root->lock);
	if (result != SCAN_SUCCEED)
		return result;
	result = copy_all(r);
	if (result != SCAN_SUCCEED) {
		MARK(collapse_poisoned);
		release_pages(r, PTRS_PER_TABLE);
		reattach_table(r);
		return result;
	}
	// No way back from here.
	drop_old(r);
	install(r);
	return SCAN_SUCCEED;
}

static enum scan_result collapse_with(struct collapse *c, struct space *space, uint64_t haddr,
	struct folio *new, bool *ret_used)
{
	struct range r = {.c = c, .space = space, .haddr = haddr, .new = new};
	enum scan_result result;

	read_lock(&space->mmap_lock);
	result = revalidate_anon(c, space, haddr, &r.vma);
	read_unlock(&space->mmap_lock);
	if (result != SCAN_SUCCEED)
		return result;
	write_lock(&space->mmap_lock);
	result = revalidate_anon(c, space, haddr, &r.vma);
	if (result == SCAN_SUCCEED)
		result = replace(&r);
	space_write_unlock(space);
	*ret_used = result == SCAN_SUCCEED;
	return result;
}

static enum scan_result collapse(struct collapse *c, struct space *space, uint64_t haddr)
{
	struct folio *new = NULL;
	bool used = false;
	enum scan_result result = collapse_alloc(c, &new);

	if (result == SCAN_SUCCEED)
		result = collapse_with(c, space, haddr, new, &used);
	if (new && !used)
		folio_put(new);
	trace_event(space->mm->trace, mm_collapse_huge_page, .mm = space->id,
		.isolated = used, .status = result);
	return result;
}
