// SPDX-License-Identifier: MIT
// fork of a space: the child gets the parent's numbers at other host pointers, and its pages with
// copy on write.
//
// Entries are copied under both page-table locks, parent's first. What may be fetched again
// (objects' pages in mappings that never had a private page) is not copied. For the rest:
//
//	anonymous, exclusive	no longer exclusive; read-only in both
//	  but maybe pinned	the child gets a copy now: the parent keeps what a device writes to
//	migration entry		copied; a writable or exclusive one becomes readable in both
//	zero page		copied
//	poison			copied
//
// The child's host translations are not made here: its first access to a page asks for it, and a
// child that soon ends costs no host mapping. The parent loses write permission at once; if the
// host refuses that, the pages are unmapped there instead, and the next access translates again.
//
// A child's vma enters the rmap trees right behind its parent's, before its entries are copied: a
// walk that restores migration entries therefore meets parent, then child, and misses neither.
#include "virt/fault.h"

#include "base/assert.h"
#include "base/vmstat.h"
#include "virt/fault_internal.h"
#include "virt/gather.h"
#include "virt/mempolicy.h"
#include "virt/object.h"
#include "virt/rmap.h"
#include "virt/vma.h"

#include <errno.h>

// A window of the parent and the child's of the same size.
struct region_pair {
	struct region_pair *next;
	struct region *parent, *child;
};

struct fork {
	struct mm_core *mm;
	struct region_pair *regions;
	struct task *task;
	struct space *parent, *child;
	struct gather gather;	// of the parent's entries
	struct folio *prealloc; // for a page that must be copied now
};

static int fork_vma(struct fork *k, struct vma *vma);
static void forget_regions(struct fork *k);
static int copy_range(struct fork *k, struct vma *child, struct vma *parent);

int space_fork(struct space *parent, struct task *task, struct space **ret_child)
{
	struct fork k = {.mm = parent->mm, .task = task, .parent = parent};
	struct vma *vma;
	int err = space_create(parent->mm, &k.child);
	struct mm_invalidation inv;

	if (err)
		return err;
	write_lock(&parent->mmap_lock);
	write_lock_nested(&k.child->mmap_lock);
	mm_notify_start(&inv, parent, 0, UINT64_MAX, MM_INVALIDATE_COW);
	k.child->mmap_base = parent->mmap_base;
	for (vma = vma_find(parent, 0); vma && !err; vma = vma_next(vma))
		if (!(vma->flags & VM_DONTFORK))
			err = fork_vma(&k, vma);
	mm_notify_end(&inv);
	forget_regions(&k);
	space_write_unlock(k.child);
	write_unlock(&parent->mmap_lock);
	if (k.prealloc)
		folio_put(k.prealloc);
	if (err) {
		space_put(k.child);
		return err;
	}
	if (parent->mm->up.space_forked)
		parent->mm->up.space_forked(k.child, parent);
	*ret_child = k.child;
	return 0;
}

// The child's window for a window of the parent, opened when its first vma is met.
static int child_region(struct fork *k, struct region *region, struct region **ret_region)
{
	uint64_t base = region->base;
	struct region_pair *pair;
	int err;

	for (pair = k->regions; pair; pair = pair->next) {
		if (pair->parent == region) {
			*ret_region = pair->child;
			return 0;
		}
	}
	pair = meta_new(struct region_pair);
	if (!pair)
		return -ENOMEM;
	err = region_open(k->child, &base, region->window->size, PMD_SIZE, false, &pair->child);
	if (err) {
		meta_delete(pair);
		return err;
	}
	region_get(pair->child); // the pair's, so that a vma that fails does not end it
	pair->parent = region;
	pair->next = k->regions;
	k->regions = pair;
	*ret_region = pair->child;
	return 0;
}

static void forget_regions(struct fork *k)
{
	struct region_pair *pair;

	while ((pair = k->regions)) {
		k->regions = pair->next;
		region_put(pair->child, k->child);
		meta_delete(pair);
	}
}

// A vma of the child with the parent's properties, in the child's tree and in the rmap trees.
static int fork_vma(struct fork *k, struct vma *vma)
{
	struct region *region;
	struct vma *child;
	int err = child_region(k, vma->region, &region);

	if (err)
		return err;
	child = vma_create(k->child, vma->start, vma->end, vma->flags & ~(unsigned)VM_LOCKED,
		region, vma->object, vma->pgoff, vma->policy);
	if (!child)
		return -ENOMEM;
	err = anon_vma_fork(child, vma);
	if (err) {
		vma_free(child);
		return err;
	}
	vma_link(child);
	// Without an anon_vma no page of it is private: all can be fetched again from the object.
	if (!vma->anon_vma)
		return 0;
	return copy_range(k, child, vma);
}

enum copied { COPIED, NEEDS_PAGE };

// A private page the child must have of its own, because the parent's is pinned.
static enum copied copy_now(
	struct fork *k, struct vma *child, uint64_t addr, struct page_table *table, struct pte e)
{
	struct folio *new = k->prealloc;

	if (!new)
		return NEEDS_PAGE;
	k->prealloc = NULL;
	copy_frame(k->mm, folio_pfn(new), pte_pfn(e));
	folio_set_swapbacked(new);
	folio_set_uptodate(new);
	folio_add_new_anon_rmap(new, child, addr);
	table_set_entry(table, pte_index(vaddr_of(addr)),
		pte_make(folio_pfn(new), e.v & (PTE_PRESENT | PTE_DIRTY | PTE_YOUNG | PTE_WRITE)));
	atomic_fetch_add(space_rss(k->child, new), 1);
	folio_add_lru(new);
	return COPIED;
}

static struct pte readable_migration(struct pte e)
{
	return (struct pte){(e.v & ~PTE_KIND_MASK) | PTE_MIGRATION_READ};
}

// Both tables locked. The shared, read-only form of an entry goes to both.
static enum copied copy_entry(struct fork *k, struct vma *child, struct vma *parent, uint64_t addr,
	struct page_table *from, struct page_table *to)
{
	unsigned i = pte_index(vaddr_of(addr));
	struct pte e = table_entry(from, i), shared = e;
	struct folio *folio;
	unsigned page;

	if (pte_none(e) || pte_kind(e) == PTE_DEVICE)
		return COPIED;
	if (pte_migration(e)) {
		shared = readable_migration(e);
		if (shared.v != e.v)
			table_set_entry(from, i, shared);
		table_set_entry(to, i, shared);
		atomic_fetch_add(space_rss(k->child, pfn_folio(pte_pfn(e))), 1);
		return COPIED;
	}
	if (!pte_present(e) || pte_zero_page(e)) {
		table_set_entry(to, i, e);
		return COPIED;
	}
	folio = pfn_folio(pte_pfn(e));
	page = (unsigned)(pte_pfn(e).n - folio_pfn(folio).n);
	if (folio_test_anon(folio) && frame_test(pfn_frame(pte_pfn(e)), PG_ANON_EXCLUSIVE) &&
		folio_try_share_anon(folio, page))
		return copy_now(k, child, addr, to, e);
	if (!(parent->flags & VM_SHARED)) {
		shared = pte_clear(e, PTE_WRITE);
		if (pte_writable(e)) {
			table_set_entry(from, i, shared);
			gather_protect(&k->gather, vma_host(parent, addr), pte_pfn(e), 1, MMU_READ);
		}
	}
	folio_get(folio);
	if (folio_test_anon(folio))
		folio_add_anon_rmap(folio, page, 1, false);
	else
		folio_add_file_rmap(folio, page, 1);
	table_set_entry(to, i, pte_clear(shared, PTE_HINT));
	atomic_fetch_add(space_rss(k->child, folio), 1);
	return COPIED;
}

// The entries of one table; *addr is where it stopped when it needs something, or the table is not
// the child's any more.
static enum copied copy_table(struct fork *k, struct vma *child, struct vma *parent, uint64_t *addr,
	uint64_t end, struct page_table *to)
{
	enum copied state = COPIED;
	struct page_table *from;

	gather_init(&k->gather, k->mm);
	from = gather_table(&k->gather, k->parent, vaddr_of(*addr));
	if (from) {
		mutex_lock_nested(&to->lock);
		// Empty until now, it may be gone: a collapse of the object takes such tables.
		if (!page_table_is_at(k->child, to, vaddr_of(*addr)))
			end = *addr;
		for (; *addr < end; *addr += PAGE_SIZE) {
			state = copy_entry(k, child, parent, *addr, from, to);
			if (state != COPIED)
				break;
		}
		mutex_unlock(&to->lock);
	} else {
		*addr = end;
	}
	(void)gather_finish(&k->gather);
	return state;
}

static void add_huge_rss(struct fork *k, const struct folio *folio)
{
	if (!folio_test_hugetlb(folio))
		atomic_fetch_add(space_rss(k->child, folio), PTRS_PER_TABLE);
}

// A huge entry, both PMD tables locked. false: a pinned page, to be copied as small ones.
static bool copy_huge_entry(struct fork *k, struct vma *parent, uint64_t addr,
	struct page_table *from, struct page_table *to)
{
	unsigned i = pmd_index(vaddr_of(addr));
	struct pte e = table_entry(from, i), shared = e;
	struct folio *folio;

	if (!pte_none(table_entry(to, i)))
		return true; // copied with the first leaf of its page
	if (pte_migration(e)) {
		shared = readable_migration(e);
		if (shared.v != e.v)
			table_set_entry(from, i, shared);
		add_huge_rss(k, pfn_folio(pte_pfn(e)));
	} else if (pte_present(e) && !pte_zero_page(e)) {
		folio = pfn_folio(pte_pfn(e));
		// Beyond 2 MiB the leaf of the first page stands for the folio.
		bool first = pte_pfn(e).n == folio_pfn(folio).n;
		if (first && folio_test_anon(folio) && folio_test_anon_exclusive(folio) &&
			folio_try_share_anon(folio, 0))
			return false;
		if (pte_writable(e) && !(parent->flags & VM_SHARED)) {
			shared = pte_clear(e, PTE_WRITE);
			table_set_entry(from, i, shared);
			gather_protect(&k->gather, vma_host(parent, addr & PMD_MASK), pte_pfn(e),
				PTRS_PER_TABLE, MMU_READ);
		}
		if (first) {
			folio_get(folio);
			folio_add_rmap_pmd(folio, false);
		}
		shared = pte_clear(shared, PTE_HINT);
		add_huge_rss(k, folio);
	}
	table_set_entry(to, i, shared);
	return true;
}

// *ret_huge: the entry was huge and is copied. A pinned one is split first. -EAGAIN: it changed.
static int copy_if_huge(struct fork *k, struct vma *child, struct vma *parent, uint64_t addr,
	bool *ret_huge)
{
	struct page_table *to, *from = pmd_table_lock(k->parent, vaddr_of(addr)), *deposit = NULL;
	bool copied;
	int err;

	*ret_huge = from && pte_huge(table_entry(from, pmd_index(vaddr_of(addr))));
	if (from)
		page_table_unlock(from);
	if (!*ret_huge)
		return 0;
	to = pmd_table_alloc_lock(k->child, k->task, vaddr_of(addr), &err);
	if (!to)
		return err;
	page_table_unlock(to); // it stays: the child's mmap_lock is ours
	if (vma_deposits(child) &&
		!(deposit = page_table_alloc(k->child, k->task, 1, vaddr_of(addr))))
		return -ENOMEM;
	gather_init(&k->gather, k->mm);
	from = gather_pmd_table(&k->gather, k->parent, vaddr_of(addr));
	mutex_lock_nested(&to->lock);
	// Split meanwhile (the parent's huge entries change under its rmap locks too): look again.
	copied = from && pte_huge(table_entry(from, pmd_index(vaddr_of(addr)))) &&
		 copy_huge_entry(k, parent, addr, from, to);
	if (copied && deposit)
		page_table_deposit(k->child, deposit);
	mutex_unlock(&to->lock);
	(void)gather_finish(&k->gather);
	if (copied)
		return 0;
	if (deposit)
		page_table_free(k->child, deposit);
	if (parent->flags & VM_HUGETLB)
		return k->mm->up.hugetlb_fork_copy(child, parent, k->task, addr);
	*ret_huge = false;
	return k->mm->up.split_huge_pmd(parent, addr & PMD_MASK);
}

static int copy_range(struct fork *k, struct vma *child, struct vma *parent)
{
	uint64_t addr = parent->start;

	while (addr < parent->end) {
		uint64_t end = (addr & PMD_MASK) + PMD_SIZE;
		struct page_table *from, *to;
		enum copied state;
		bool huge;
		int err = copy_if_huge(k, child, parent, addr, &huge);

		if (err == -EAGAIN)
			continue;
		if (err)
			return err;
		if (end > parent->end)
			end = parent->end;
		if (huge) {
			addr = end;
			continue;
		}
		from = pte_table_lock(k->parent, vaddr_of(addr));
		if (!from) {
			addr = end;
			continue;
		}
		page_table_unlock(from);
		to = pte_table_alloc_lock(k->child, k->task, vaddr_of(addr), &err);
		if (!to)
			return err;
		page_table_unlock(to);
		state = copy_table(k, child, parent, &addr, end, to);
		if (state == NEEDS_PAGE) {
			k->prealloc =
				folio_alloc_vma(GFP_HIGHUSER_MOVABLE, 0, parent, addr, k->task);
			if (!k->prealloc)
				return -ENOMEM;
		}
	}
	return 0;
}
