// SPDX-License-Identifier: MIT
// Regions: the host windows behind a space's addresses.
//
// Each mapping call opens one; the vmas that come of it by splitting stay in it, and the last one
// that goes closes it. Inside of a region address and host pointer run in parallel, which is how an
// access at a host address finds its vma. Both agree in their low 21 bits, so that one table of
// the engine covers one table of the host: where the address is not at a PMD boundary, the window
// of a space that has other pointers than numbers begins at the boundary below.
//
// States: opened (in space->regions, no vma) -> used -> dead (in space->dead_regions) -> closed.
// A window is closed only after mmap_lock is dropped: a backend may wait there for accesses that
// are being served, and those may wait for mmap_lock.
//
// Locks: mmap_lock for write, for the look-up for read.
// What can fail: region_open(): no memory, no host addresses, or the place is taken.
#include "virt/region.h"

#include "base/assert.h"
#include "base/mark.h"
#include "base/meta.h"
#include "virt/mm.h"
#include "virt/vma.h"

#include <errno.h>

#define WINDOW_TRIES 8

// Host addresses where [addr, addr + len) goes; sets the region's window and base.
static int open_window(struct space *space, struct region *region, uint64_t addr, uint64_t len,
	uint64_t align, bool own)
{
	struct mmu *mmu = space->mm->mmu;

	if (own) {
		void *hint = (void *)(uintptr_t)addr;
		int err = mmu->ops->window_open(mmu, len, align, hint, space, &region->window);
		if (!err)
			region->base = region->window->start;
		return err;
	}
	uint64_t before = addr & ~PMD_MASK;
	region->base = addr - before;
	return mmu->ops->window_open(mmu, before + len, max(align, PMD_SIZE), NULL, space,
		&region->window);
}

// The numbers of a window at a pointer of the host's choice may be in use: by a mapping that was
// placed by number. It is kept until another was found, so that that is another.
static int open_own_window(struct space *space, struct region *region, uint64_t len, uint64_t align)
{
	struct mmu *mmu = space->mm->mmu;
	struct mmu_window *bad[WINDOW_TRIES];
	unsigned nr_bad = 0;
	int err;

	for (;;) {
		err = open_window(space, region, 0, len, align, true);
		if (err || space_range_free(space, region->base, region->base + len))
			break;
		MARK(region_numbers_taken);
		bad[nr_bad++] = region->window;
		err = -ENOMEM;
		if (nr_bad == WINDOW_TRIES)
			break;
	}
	while (nr_bad)
		mmu->ops->window_close(mmu, bad[--nr_bad]);
	return err;
}

int region_open(struct space *space, uint64_t *addr, uint64_t len, uint64_t align, bool own,
	struct region **ret_region)
{
	struct region *region = meta_new(struct region);

	if (!region)
		return -ENOMEM;
	int err = own && !*addr ? open_own_window(space, region, len, align)
				: open_window(space, region, *addr, len, align, own);
	if (err) {
		meta_delete(region);
		return err;
	}
	region->by_host.start = region->window->start;
	region->by_host.last = region->window->start + region->window->size - 1;
	interval_tree_insert(&space->regions, &region->by_host);
	if (!*addr)
		*addr = region->base;
	*ret_region = region;
	return 0;
}

void region_discard(struct region *region, struct space *space)
{
	assert_that(!region->nr_vmas, "region of %u vmas", region->nr_vmas);
	interval_tree_remove(&space->regions, &region->by_host);
	list_add_tail(&region->dead, &space->dead_regions);
}

void region_get(struct region *region)
{
	region->nr_vmas++;
}

void region_put(struct region *region, struct space *space)
{
	assert_that(region->nr_vmas, "region %#lx has no vma", (unsigned long)region->base);
	if (--region->nr_vmas == 0)
		region_discard(region, space);
}

void space_write_unlock(struct space *space)
{
	struct mmu *mmu = space->mm->mmu;
	struct region *region, *next;
	LIST_HEAD(dead);

	list_splice_init(&space->dead_regions, &dead);
	write_unlock(&space->mmap_lock);
	list_for_each_entry_safe(region, next, &dead, dead) {
		mmu->ops->window_close(mmu, region->window);
		meta_delete(region);
	}
}

bool region_covers(const struct region *region, uint64_t addr, uint64_t len)
{
	return addr >= region->base && len <= region->window->size &&
	       addr - region->base <= region->window->size - len;
}

uintptr_t region_host(const struct region *region, uint64_t addr)
{
	return region->window->start + (addr - region->base);
}

uint64_t region_addr(const struct region *region, uintptr_t host)
{
	return region->base + (host - region->window->start);
}

bool region_is_own(const struct region *region)
{
	return region->base == region->window->start;
}

struct region *region_of_host(struct space *space, uintptr_t host)
{
	struct interval_node *node = interval_tree_overlap_first(&space->regions, host, host);

	return node ? container_of(node, struct region, by_host) : NULL;
}

// ---- Refusals: what a backend made true for an access that the engine refused stays so, until
// the page is mapped or cleared. Entries that become writable get that when they change; the others
// here: none, those of pages that are just being moved, and those that stay read-only (of a page
// that is shared since a fork) and whose next store the engine would copy.

void space_note_refusal(struct space *space, uintptr_t host)
{
	struct region *region = region_of_host(space, host);

	if (region)
		atomic_store_explicit(&region->refused, true, memory_order_relaxed);
}

// Within one table, or where there is none.
static void clear_empty(struct gather *g, struct vma *vma, uint64_t start, uint64_t end)
{
	struct mmu *mmu = vma->space->mm->mmu;
	struct page_table *table = gather_pmd_table(g, vma->space, vaddr_of(start));
	struct pte pmd = table ? table_entry(table, pmd_index(vaddr_of(start))) : (struct pte){0};

	if (pte_huge(pmd)) {
		if (!pte_writable(pmd))
			gather_clear(
				g, vma_host(vma, start), (unsigned)((end - start) >> PAGE_SHIFT));
		return;
	}
	table = gather_table(g, vma->space, vaddr_of(start));
	if (!table)
		mmu->ops->clear(mmu, vma_host(vma, start), (unsigned)((end - start) >> PAGE_SHIFT));
	for (uint64_t addr = start; table && addr < end; addr += PAGE_SIZE)
		if (!pte_writable(table_entry(table, pte_index(vaddr_of(addr)))))
			gather_clear(g, vma_host(vma, addr), 1);
}

void vma_forget_refusals(struct vma *vma, uint64_t start, uint64_t end)
{
	struct gather g;

	if (!atomic_load_explicit(&vma->region->refused, memory_order_relaxed))
		return;
	gather_init(&g, vma->space->mm);
	for (uint64_t next; start < end; start = next) {
		next = min((start & PMD_MASK) + PMD_SIZE, end);
		clear_empty(&g, vma, start, next);
	}
	(void)gather_finish(&g);
}
