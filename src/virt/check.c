// SPDX-License-Identifier: MIT
// The books of the virt layer: everything that is counted or linked twice must agree.
//
//	space_check()	trees, regions, links of rmap, tables' nr_used, each entry against its
//			vma and folio, rss and locked_vm
//	mm_check()	all spaces, and then each frame: its mapcount is the number of entries
//			that map it, statistics are the sums over folios; phys_check()
//
// For tests and debug commands, when nothing runs: nothing may change meanwhile.
// A difference is a bug: it is printed with the entry, the vma and the frame, and the process
// aborts. The counts of all frames are kept in memory that the host gives only where it is touched;
// when it gives none (no host mapping is left), frames are not compared with entries.
#include "base/assert.h"
#include "phys/buddy.h"
#include "phys/zone.h"
#include "virt/object.h"
#include "virt/rmap.h"
#include "virt/vma.h"

#include <stdio.h>
#include <sys/mman.h>

#define DUMP_MAX 400

// What was found in page tables: by pfn, entries of one page and of a whole folio (at its head).
struct found {
	uint32_t *ptes, *leaves;
};

struct space_sums {
	long anon, file, shmem;
};

struct check {
	struct space *space;
	struct found *found; // NULL: one space alone
	struct space_sums sums;
	unsigned long nr_huge; // entries that need a table laid by
};

static const char *dump(const struct vma *vma, uint64_t addr, struct pte e, char buf[DUMP_MAX])
{
	char frame[200] = "";

	if (pte_pfn(e).n && pte_pfn(e).n < VMEMMAP_FRAMES)
		frame_dump(pfn_frame(pte_pfn(e)), frame, sizeof frame);
	snprintf(buf, DUMP_MAX, "entry %#lx at %#lx of vma [%#lx,%#lx) pgoff %#lx flags %#x: %s",
		(unsigned long)e.v, (unsigned long)addr, vma ? (unsigned long)vma->start : 0,
		vma ? (unsigned long)vma->end : 0, vma ? (unsigned long)vma->pgoff : 0,
		vma ? vma->flags : 0, frame);
	return buf;
}

#define entry_holds(cond, vma, addr, e)                                                            \
	do {                                                                                       \
		char dump_here[DUMP_MAX];                                                          \
		must_hold(cond, "%s", dump(vma, addr, e, dump_here));                              \
	} while (0)

// ---- Entries

static bool chain_has(const struct vma *vma, const struct anon_vma *av)
{
	const struct anon_vma_chain *chain;

	list_for_each_entry(chain, &vma->anon_chain, same_vma)
		if (chain->anon_vma == av)
			return true;
	return false;
}

static void check_folio(const struct vma *vma, uint64_t addr, struct pte e, struct folio *folio)
{
	uint64_t page = pte_pfn(e).n - folio_pfn(folio).n;
	struct frame *frame = pte_huge(e) ? &folio->page : pfn_frame(pte_pfn(e));

	entry_holds(folio_ref_count(folio) && folio_mapped(folio), vma, addr, e);
	if (folio_test_ksm(folio)) {
		entry_holds(!pte_writable(e), vma, addr, e);
		return;
	}
	entry_holds(folio_index(folio) + page == vma_pgoff(vma, addr), vma, addr, e);
	if (!folio_test_anon(folio)) {
		entry_holds(folio_object(folio) == vma->object, vma, addr, e);
		entry_holds(!pte_writable(e) || vma->flags & VM_SHARED, vma, addr, e);
		return;
	}
	entry_holds(chain_has(vma, folio_anon_vma(folio)), vma, addr, e);
	entry_holds(!pte_writable(e) || frame_test_anon_exclusive(frame), vma, addr, e);
	entry_holds(!frame_test_anon_exclusive(frame) || frame_mapcount(frame) == 1, vma, addr, e);
}

static void check_present(struct check *c, const struct vma *vma, uint64_t addr, struct pte e)
{
	struct mm_core *mm = c->space->mm;
	struct folio *folio = pfn_folio(pte_pfn(e));

	entry_holds(!pte_writable(e) || vma->flags & VM_WRITE, vma, addr, e);
	if (pte_zero_page(e)) {
		entry_holds(!pte_writable(e), vma, addr, e);
		entry_holds(pte_huge(e) || folio == mm->zero_page, vma, addr, e);
		return;
	}
	if (folio_test_hugetlb(folio) && folio_pfn(folio).n != pte_pfn(e).n)
		return; // the leaf of the folio's first page stands for it
	check_folio(vma, addr, e, folio);
	if (!c->found)
		return;
	if (pte_huge(e))
		c->found->leaves[folio_pfn(folio).n]++;
	else
		c->found->ptes[pte_pfn(e).n]++;
}

static void check_entry(struct check *c, uint64_t addr, struct pte e)
{
	struct vma *vma = vma_lookup(c->space, addr);
	long nr = pte_huge(e) ? PTRS_PER_TABLE : 1;

	entry_holds(vma && addr + (uint64_t)nr * PAGE_SIZE <= vma->end, vma, addr, e);
	c->nr_huge += pte_huge(e) && vma_deposits(vma);
	if (pte_present(e))
		check_present(c, vma, addr, e);
	else
		entry_holds(pte_kind(e), vma, addr, e);
	// Who waits for it is woken by the unlocking; left behind by a walk, it would lead to
	// whatever the frame is by now.
	if (pte_migration(e))
		entry_holds(folio_test_locked(pfn_folio(pte_pfn(e))), vma, addr, e);
	if ((pte_present(e) && pte_zero_page(e)) || pte_kind(e) == PTE_HWPOISON)
		return;
	if (pte_kind(e) == PTE_DEVICE && c->found)
		c->found->ptes[pte_pfn(e).n]++;
	const struct folio *folio = pfn_folio(pte_pfn(e));
	if (folio_test_hugetlb(folio))
		return;
	entry_holds(!(vma->flags & VM_SHARED) || !folio_test_anon(folio), vma, addr, e);
	if (folio_test_anon(folio))
		c->sums.anon += nr;
	else if (folio_test_swapbacked(folio))
		c->sums.shmem += nr;
	else
		c->sums.file += nr;
}

static void check_table(struct check *c, const struct page_table *table, unsigned level,
	uint64_t base)
{
	unsigned used = 0;

	// Changes made for an access that waited in the host are ordered by this lock alone.
	mutex_lock((struct mutex *)&table->lock);
	mutex_unlock((struct mutex *)&table->lock);
	must_hold(table->level == level && table->base == base,
		"table of level %u at %#lx found as level %u at %#lx", table->level,
		(unsigned long)table->base, level, (unsigned long)base);
	for (unsigned i = 0; i < PTRS_PER_TABLE; i++) {
		struct pte e = table_entry(table, i);
		uint64_t addr = base + ((uint64_t)i << (PAGE_SHIFT + 9 * (level - 1)));
		struct page_table *below = pmd_entry_table(e);

		used += !pte_none(e);
		if (below)
			check_table(c, below, level - 1, addr);
		else if (!pte_none(e))
			check_entry(c, addr, e);
	}
	must_hold(used == table->nr_used, "table of level %u at %#lx: %u entries, counted %u",
		level, (unsigned long)base, used, table->nr_used);
}

// ---- Vmas

static bool tree_has(const struct interval_tree *tree, const struct interval_node *node)
{
	struct interval_node *n;

	interval_tree_for_each_overlap(n, tree, node->start, node->last)
		if (n == node)
			return true;
	return false;
}

static void check_key(const struct vma *vma, const struct interval_tree *tree,
	const struct interval_node *node)
{
	must_hold(node->start == vma->pgoff && node->last == vma->pgoff + vma_pages(vma) - 1,
		"vma %#lx: rmap key [%#lx,%#lx]", (unsigned long)vma->start,
		(unsigned long)node->start, (unsigned long)node->last);
	must_hold(tree_has(tree, node), "vma %#lx is not in its rmap tree",
		(unsigned long)vma->start);
}

static void check_links(const struct vma *vma)
{
	const struct anon_vma_chain *chain;
	const struct anon_vma *av = vma->anon_vma;

	if (vma->object)
		check_key(vma, &vma->object->i_mmap, &vma->i_mmap);
	must_hold(list_empty(&vma->anon_chain) == !av && (!av || chain_has(vma, av)),
		"vma %#lx: anon_vma %p and chain", (unsigned long)vma->start, (const void *)av);
	list_for_each_entry(chain, &vma->anon_chain, same_vma) {
		must_hold(chain->vma == vma && chain->anon_vma->root == av->root,
			"vma %#lx: a link of another family", (unsigned long)vma->start);
		check_key(vma, &chain->anon_vma->chains, &chain->rb);
	}
}

static void check_vma(struct space *space, const struct vma *vma, uint64_t floor)
{
	must_hold(vma->space == space && vma->start >= floor && vma->start < vma->end &&
			  !((vma->start | vma->end) & ~PAGE_MASK),
		"vma [%#lx,%#lx) behind %#lx", (unsigned long)vma->start, (unsigned long)vma->end,
		(unsigned long)floor);
	must_hold(vma->node.start == vma->start && vma->node.last == vma->end - 1,
		"vma %#lx: key [%#lx,%#lx]", (unsigned long)vma->start,
		(unsigned long)vma->node.start, (unsigned long)vma->node.last);
	must_hold(tree_has(&space->regions, &vma->region->by_host) &&
			  region_covers(vma->region, vma->start, vma->end - vma->start) &&
			  vma->host == region_host(vma->region, vma->start) &&
			  !((vma->host ^ vma->start) & ~PMD_MASK),
		"vma %#lx: host %#lx, region base %#lx", (unsigned long)vma->start,
		(unsigned long)vma->host, (unsigned long)vma->region->base);
	check_links(vma);
}

static void check_vmas(struct space *space)
{
	unsigned nr = 0, in_regions = 0;
	struct interval_node *node;
	uint64_t floor = 0;
	long locked = 0;

	must_hold(!interval_tree_check(&space->vmas) && !interval_tree_check(&space->regions),
		"trees of space %u", space->id);
	for (struct vma *vma = vma_find(space, 0); vma; vma = vma_next(vma)) {
		check_vma(space, vma, floor);
		floor = vma->end;
		nr++;
		if (vma->flags & VM_LOCKED)
			locked += (long)vma_pages(vma);
	}
	interval_tree_for_each(node, &space->regions)
		in_regions += container_of(node, struct region, by_host)->nr_vmas;
	must_hold(nr == space->nr_vmas && nr == in_regions, "space %u: %u vmas, counted %u, %u",
		space->id, nr, space->nr_vmas, in_regions);
	must_hold(locked == space->locked_vm, "space %u: %ld pages locked, counted %ld", space->id,
		locked, (long)space->locked_vm);
}

static void check_space(struct space *space, struct found *found)
{
	struct check c = {.space = space, .found = found};

	check_vmas(space);
	check_table(&c, space->pgd, 4, 0);
	must_hold(c.sums.anon == space->rss_anon && c.sums.file == space->rss_file &&
			  c.sums.shmem == space->rss_shmem,
		"space %u: rss anon %ld file %ld shmem %ld, counted %ld %ld %ld", space->id,
		c.sums.anon, c.sums.file, c.sums.shmem, (long)space->rss_anon,
		(long)space->rss_file, (long)space->rss_shmem);
	must_hold(c.nr_huge == space->nr_deposited, "space %u: %lu huge entries, %u tables laid by",
		space->id, c.nr_huge, space->nr_deposited);
}

void space_check(struct space *space)
{
	check_space(space, NULL);
}

// ---- Frames

// NULL: the host has no room for them.
static uint32_t *counts_create(void)
{
	void *p = mmap(NULL, VMEMMAP_FRAMES * sizeof(uint32_t), PROT_READ | PROT_WRITE,
		MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	return p == MAP_FAILED ? NULL : p;
}

static void counts_destroy(uint32_t *counts)
{
	if (counts)
		munmap(counts, VMEMMAP_FRAMES * sizeof(uint32_t));
}

#define folio_holds(cond, folio)                                                                   \
	do {                                                                                       \
		char dump_here[DUMP_MAX] = "";                                                     \
		bool holds_here = (cond);                                                          \
		if (!holds_here)                                                                   \
			frame_dump(&(folio)->page, dump_here, sizeof dump_here);                   \
		must_hold(holds_here, #cond ": %s", dump_here);                                    \
	} while (0)

struct node_sums {
	long anon, mapped, anon_huge;
};

static void check_counts(struct folio *folio, const struct found *found)
{
	uint64_t pfn = folio_pfn(folio).n;
	uint32_t sum = found->leaves[pfn];

	folio_holds(folio_entire_mapcount(folio) == (int)found->leaves[pfn], folio);
	for (unsigned long i = 0; i < folio_nr(folio); i++) {
		folio_holds(folio_frame(folio, i)->mapcount == (int)found->ptes[pfn + i], folio);
		sum += found->ptes[pfn + i];
	}
	folio_holds(folio_mapcount(folio) == (int)sum, folio);
	folio_holds(folio_ref_count(folio) >= sum, folio);
}

static void add_sums(const struct folio *folio, struct node_sums *sums)
{
	if (folio_test_hugetlb(folio))
		return;
	if (!folio_test_anon(folio)) {
		sums->mapped += folio_nr_pages_mapped(folio);
		return;
	}
	sums->anon += folio_nr_pages_mapped(folio);
	sums->anon_huge += folio_entire_mapcount(folio) > 0;
}

// The number of frames from here that are in one free block: nothing may map them. That they are
// blank is phys_check()'s to say. Most of a large machine is free, so this is what takes the time.
static uint64_t check_free(uint64_t pfn, uint64_t end, const struct found *found)
{
	const struct frame *head = pfn_frame(pfn_of(pfn));
	unsigned order = min(buddy_order(head), (unsigned)MAX_PAGE_ORDER);
	uint64_t nr = frame_test_buddy(head) ? min(1ull << order, end - pfn) : 0;
	uint32_t mapped = 0;

	for (uint64_t i = pfn; i < pfn + nr; i++)
		mapped |= found->leaves[i] | found->ptes[i];
	must_hold(!mapped, "free block of %lu at pfn %#lx is mapped", (unsigned long)nr,
		(unsigned long)pfn);
	return nr;
}

static void check_node(struct mm_core *mm, const struct node *node, const struct found *found)
{
	struct node_sums sums = {0};
	uint64_t pfn = node->start_pfn, end = pfn + node->nr_present, nr_free;

	while (pfn < end) {
		nr_free = check_free(pfn, end, found);
		if (nr_free) {
			pfn += nr_free;
			continue;
		}
		struct folio *folio = pfn_folio(pfn_of(pfn));
		bool whole = folio_ref_count(folio) || folio_test_hugetlb(folio);
		uint64_t nr = whole ? folio_nr(folio) : 1;
		check_counts(folio, found);
		if (folio_mapped(folio))
			add_sums(folio, &sums);
		pfn += nr;
	}
	long anon = vmstat_node_signed(mm->stat, node->nid, VM_NR_ANON_PAGES);
	long mapped = vmstat_node_signed(mm->stat, node->nid, VM_NR_MAPPED);
	long huge = vmstat_node_signed(mm->stat, node->nid, VM_NR_ANON_TRANSPARENT_HUGEPAGES);
	must_hold(anon == sums.anon && mapped == sums.mapped && huge == sums.anon_huge,
		"node %u: anon %ld mapped %ld huge %ld, counted %ld %ld %ld", node->nid, sums.anon,
		sums.mapped, sums.anon_huge, anon, mapped, huge);
}

// A fault whose accessor runs already may still be finishing in a thread of the host's, or not even
// have begun there: it waits until the books are closed (mm_host_fault()).
static void hold_host_faults(struct mm_core *mm)
{
	struct space *space;
	int err = 0;

	atomic_store(&mm->checking, true);
	list_for_each_entry(space, &mm->spaces, all)
		err |= wait_until(&space->host_faults, !atomic_load(&space->host_faults),
			WAIT_FOREVER);
	assert_that(!err, "waiting for ever ended with %d", err);
	(void)err;
}

static void let_host_faults_go(struct mm_core *mm)
{
	atomic_store(&mm->checking, false);
	wake_all(&mm->checking);
}

void mm_check(struct mm_core *mm)
{
	struct found found = {counts_create(), counts_create()};
	struct object *object;
	struct space *space;

	bool counted = found.ptes && found.leaves;

	hold_host_faults(mm);
	list_for_each_entry(space, &mm->spaces, all)
		check_space(space, counted ? &found : NULL);
	list_for_each_entry(object, &mm->objects, node)
		must_hold(!interval_tree_check(&object->i_mmap), "i_mmap of an object");
	for (unsigned nid = 0; nid < mm->phys->nr_nodes; nid++)
		if (counted && phys_node(mm->phys, nid))
			check_node(mm, phys_node(mm->phys, nid), &found);
	counts_destroy(found.ptes);
	counts_destroy(found.leaves);
	phys_check(mm->phys);
	let_host_faults_go(mm);
}
