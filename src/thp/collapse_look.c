// SPDX-License-Identifier: MIT
// Is a range worth a collapse? One look at its 512 entries, under their page-table lock:
//
//	for each entry, in this order
//		nothing or the zero page	at most max_ptes_none of them
//		not present			no
//		not an anonymous page		no
//		shared with other spaces	at most max_ptes_shared of them
//		not on the LRU, locked, or with references that mappings do not explain: no
//	then	none writable			no
//		none used lately		no
// The two limits and the last question are khugepaged's; MADV_COLLAPSE has none of them.
// Counted by the way: how many pages each node has. The node with most of them gets the huge page.
// Nothing is changed, and nothing said here is sure once the lock is given up.
#include "thp/collapse.h"

#include "base/vmstat.h"
#include "virt/vma.h"

static unsigned long limit(const struct collapse *c, enum thp_setting which)
{
	return c->khugepaged ? thp_setting(c->thp, which) : PTRS_PER_TABLE;
}

static bool exceeds(struct collapse_limits *l, unsigned count, enum thp_setting which,
	enum vmstat_item item)
{
	if (count <= limit(l->c, which))
		return false;
	vm_event(l->c->thp->mm->stat, item);
	return true;
}

// What MADV_FREE gave up is read-only to make the next store seen, not because it may not be
// written to.
static bool may_write(const struct collapse_limits *l, struct pte e)
{
	return pte_writable(e) ||
	       (l->vma->flags & VM_WRITE && !folio_test_swapbacked(pfn_folio(pte_pfn(e))) &&
		       frame_test_anon_exclusive(pfn_frame(pte_pfn(e))));
}

enum scan_result collapse_check_entry(struct collapse_limits *l, struct pte e)
{
	if (pte_none(e) || (pte_present(e) && pte_zero_page(e)))
		return exceeds(l, ++l->none, SET_MAX_PTES_NONE, VM_THP_SCAN_EXCEED_NONE_PTE)
			       ? SCAN_EXCEED_NONE_PTE : SCAN_SUCCEED;
	if (!pte_present(e))
		return SCAN_PTE_NON_PRESENT;
	struct folio *folio = pfn_folio(pte_pfn(e));
	if (!l->first_pfn)
		l->first_pfn = pte_pfn(e).n;
	l->writable |= may_write(l, e);
	if (!folio_test_anon(folio) || folio_test_ksm(folio))
		return SCAN_PAGE_ANON;
	if (folio_likely_mapped_shared(folio) &&
		exceeds(l, ++l->shared, SET_MAX_PTES_SHARED, VM_THP_SCAN_EXCEED_SHARE_PTE))
		return SCAN_EXCEED_SHARED_PTE;
	if (l->c->khugepaged && (e.v & PTE_YOUNG || folio_test_young(folio) ||
		folio_test_referenced(folio)))
		l->referenced++;
	return SCAN_SUCCEED;
}

enum scan_result collapse_verdict(const struct collapse_limits *l)
{
	if (!l->writable)
		return SCAN_PAGE_RO;
	if (l->c->khugepaged && !l->referenced)
		return SCAN_LACK_REFERENCED_PAGE;
	return SCAN_SUCCEED;
}

static enum scan_result look_at_page(struct collapse *c, struct pte e)
{
	struct folio *folio = pfn_folio(pte_pfn(e));

	c->node_load[folio_nid(folio)]++;
	if (!folio_test_lru(folio))
		return SCAN_PAGE_LRU;
	if (folio_test_locked(folio))
		return SCAN_PAGE_LOCK;
	if (folio_ref_count(folio) != folio_expected_ref_count(folio))
		return SCAN_PAGE_COUNT;
	return SCAN_SUCCEED;
}

static enum scan_result look_at_entries(struct collapse *c, const struct page_table *table,
	struct collapse_limits *l)
{
	for (unsigned i = 0; i < PTRS_PER_TABLE; i++) {
		struct pte e = table_entry(table, i);
		enum scan_result result = collapse_check_entry(l, e);

		if (result == SCAN_SUCCEED && pte_present(e) && !pte_zero_page(e))
			result = look_at_page(c, e);
		if (result != SCAN_SUCCEED)
			return result;
	}
	return collapse_verdict(l);
}

enum scan_result collapse_look(struct collapse *c, struct vma *vma, uint64_t haddr)
{
	struct collapse_limits limits = {.c = c, .vma = vma};
	enum scan_result result = collapse_pmd_state(vma->space, haddr);

	for (unsigned i = 0; i < MAX_NODES; i++)
		c->node_load[i] = 0;
	if (result == SCAN_SUCCEED) {
		struct page_table *table = pte_table_lock(vma->space, vaddr_of(haddr));

		result = table ? look_at_entries(c, table, &limits) : SCAN_PMD_NULL;
		if (table)
			page_table_unlock(table);
	}
	trace_event(vma->space->mm->trace, mm_khugepaged_scan_pmd, .mm = vma->space->id,
		.pfn = limits.first_pfn, .writable = limits.writable,
		.referenced = limits.referenced, .none_or_zero = limits.none, .status = result,
		.unmapped = 0);
	return result;
}
