// SPDX-License-Identifier: MIT
// Remapping: every migration entry of src becomes a mapping of dst again. After a move dst is the
// new folio; in a back-out it is src itself.
//
// The walk goes over dst's rmap, which has src's mapping and index by then. Entries are recognised
// by the source's pfn: other entries at these addresses are somebody else's (the page was unmapped,
// or replaced) and stay. A fork meanwhile copied entries to the child; the child's place comes
// after the parent's in the rmap, so none is missed.
//
// After a split a folio of zeros need not come back: its entries become those of the zero page, and
// what counted it as resident is told. It was unmapped, so its counts are right as they are. Where
// memory is locked it comes back, and to all who are walked after that, too.
//
// Under the page-table lock: reference, mapcount, entry, and the host's map is queued (unblock in a
// back-out). It cannot fail as far as callers see; see mapper.c for a host that refuses.
#include "base/trace.h"
#include "migrate/batch.h"
#include "phys/lru.h"
#include "virt/fault.h"
#include "virt/rss.h"
#include "virt/space.h"

struct remap {
	struct mapper *m;
	struct folio *dst, *src;
	bool zero; // nothing but zeros in it
};

static void tell_host(struct remap *w, struct vma *vma, uint64_t addr, struct pte entry)
{
	uintptr_t at = vma_host(vma, addr);
	unsigned nr = pte_huge(entry) ? PTRS_PER_TABLE : 1;
	enum mmu_prot prot = vma_pte_prot(vma, entry);

	if (prot != MMU_NONE && w->dst == w->src && !w->zero)
		mapper_unblock(w->m, at, pte_pfn(entry), nr, prot);
	else
		mapper_map(w->m, at, pte_pfn(entry), nr, prot);
}

static void add_mapping(struct remap *w, unsigned page, struct pte old)
{
	bool exclusive = migration_entry_exclusive(old) && !folio_test_ksm(w->dst);

	if (pte_huge(old) && page)
		return; // the first leaf of a larger page of a pool stands for it
	folio_get(w->dst);
	if (!exclusive && !pte_huge(old) && frame_test_anon_exclusive(folio_frame(w->dst, page)))
		frame_clear_anon_exclusive(folio_frame(w->dst, page)); // left by run.c
	if (pte_huge(old))
		folio_add_rmap_pmd(w->dst, exclusive && folio_test_anon(w->dst));
	else if (folio_test_anon(w->dst))
		folio_add_anon_rmap(w->dst, page, 1, exclusive);
	else
		folio_add_file_rmap(w->dst, page, 1);
}

static bool waits_for(struct pte e, const struct folio *src, unsigned page)
{
	return pte_migration(e) && pte_pfn(e).n == folio_pfn(src).n + page;
}

static void remap_entry(struct remap *w, struct vma *vma, uint64_t addr, struct page_table *table,
	unsigned index, unsigned page)
{
	struct trace_ring *trace = w->m->batch->mc->mm->trace;
	struct pte old = table_entry(table, index);
	struct pte new = migration_entry_restore(old, pfn_add(folio_pfn(w->dst), page), w->dst);

	if (!(vma->flags & VM_WRITE))
		new = pte_clear(new, PTE_WRITE);
	add_mapping(w, page, old);
	if (vma->flags & VM_LOCKED)
		folio_mlock(w->dst);
	table_set_entry(table, index, new);
	tell_host(w, vma, addr, new);
	if (pte_huge(new))
		trace_event(trace, remove_migration_pmd, .addr = addr, .pmd = new.v);
	else
		trace_event(trace, remove_migration_pte, .addr = addr, .pte = new.v,
			.order = folio_order(w->dst));
}

static void remap_zero(struct remap *w, struct vma *vma, uint64_t addr, struct page_table *table,
	unsigned index)
{
	struct mm_core *mm = w->m->batch->mc->mm;
	struct pte new = pte_make(zero_pfn(mm, addr), PTE_PRESENT | PTE_ZERO | PTE_YOUNG);

	table_set_entry(table, index, new);
	space_rss_add(vma->space, w->src, -1);
	tell_host(w, vma, addr, new);
}

static void remap_entries(struct remap *w, struct vma *vma, uint64_t addr, unsigned page,
	unsigned nr)
{
	struct page_table *table = mapper_table(w->m, vma->space, addr);

	for (unsigned i = 0; table && i < nr; i++, addr += PAGE_SIZE) {
		unsigned index = pte_index(vaddr_of(addr));

		if (!waits_for(table_entry(table, index), w->src, page + i))
			continue;
		if (w->zero && !(vma->flags & VM_LOCKED) && !folio_test_mlocked(w->dst))
			remap_zero(w, vma, addr, table, index);
		else
			remap_entry(w, vma, addr, table, index, page + i);
	}
}

static bool remap_leaf(struct remap *w, struct vma *vma, uint64_t addr, unsigned page)
{
	struct page_table *table = mapper_pmd_table(w->m, vma->space, addr);
	unsigned index = pmd_index(vaddr_of(addr));

	if (!table)
		return false;
	struct pte e = table_entry(table, index);
	if (!pte_huge(e) || !waits_for(e, w->src, page))
		return false;
	remap_entry(w, vma, addr, table, index, page);
	return true;
}

static bool remap_one(const struct rmap_range *r, void *arg)
{
	struct remap *w = arg;
	uint64_t addr = r->addr;
	unsigned page = r->first_page, left = r->nr_pages;

	if (left == 1) {
		remap_entries(w, r->vma, addr, page, 1);
		left = 0;
	}
	while (left) {
		unsigned nr = min(left, PTRS_PER_TABLE - pte_index(vaddr_of(addr)));

		if (nr < PTRS_PER_TABLE || !remap_leaf(w, r->vma, addr, page))
			remap_entries(w, r->vma, addr, page, nr);
		addr += nr * PAGE_SIZE;
		page += nr;
		left -= nr;
	}
	if (w->m->keep_nothing)
		mapper_release_tables(w->m);
	return true;
}

void slot_remap(struct mapper *m, struct folio *dst, struct folio *src)
{
	struct remap w = {.m = m, .dst = dst, .src = src};

	mapper_walk(m, dst, remap_one, &w);
}

void slot_remap_zero(struct mapper *m, struct folio *folio)
{
	struct remap w = {.m = m, .dst = folio, .src = folio, .zero = true};

	mapper_walk(m, folio, remap_one, &w);
}

void slot_restore(struct mapper *m, struct slot *s)
{
	slot_remap(m, s->src, s->src);
	if (s->kept)
		folio_put(s->src);
	s->kept = false;
	s->was_mapped = false;
}
