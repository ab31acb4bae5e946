// SPDX-License-Identifier: MIT
// Mapcounts and walks: what maps a folio, counted and found.
//
// Counting. Each entry that comes or goes is counted in the folio (phys/folio.h) and, when it
// makes a page mapped or unmapped at all, in the statistics: nr_anon_pages for anonymous folios
// (KSM's too), nr_mapped for those of objects; a first mapping by a huge entry counts in
// nr_anon_transparent_hugepages, nr_shmem_pmdmapped or nr_file_pmdmapped (in huge pages, as
// /proc/vmstat prints them). hugetlb folios count in none. An anonymous large folio of which some
// pages are mapped no more while others are becomes PARTIALLY_MAPPED and waits to be split. A page
// that gets its first mapping as a new anonymous one is exclusive: its task may write to it
// without a copy. Whoever makes it shared clears that (folio_try_share_anon()), unless it is
// pinned.
//
// Finding. A walk calls back for every vma that could map some of the folio's pages, by the
// interval tree of page offsets of its anon_vma or object. It may call for places where nothing is
// mapped, never the other way round: an entry moves between vmas only under the rmap lock for
// write.
//
// Locks: counting needs the page-table lock of the entry; a walk takes the rmap lock for read (the
// anon_vma root's, or the object's i_mmap_lock) and no page-table lock.
// What can fail: only the walk's trylock.
#include "virt/rmap.h"

#include "base/assert.h"
#include "base/mark.h"
#include "phys/lru.h"
#include "phys/zone.h"
#include "virt/mm.h"
#include "virt/object.h"
#include "virt/vma.h"

#include <errno.h>

// ---- Counting

static void count(struct folio *folio, enum vmstat_item item, long n)
{
	if (n)
		vmstat_add(folio_phys(folio)->stat, folio_nid(folio), item, n);
}

void rmap_count_mapped(struct folio *folio, long pages)
{
	if (!folio_test_hugetlb(folio))
		count(folio, folio_test_anon(folio) ? VM_NR_ANON_PAGES : VM_NR_MAPPED, pages);
}

static void count_pmd_mapped(struct folio *folio, long folios)
{
	if (folio_test_hugetlb(folio))
		return;
	if (folio_test_anon(folio))
		count(folio, VM_NR_ANON_TRANSPARENT_HUGEPAGES, folios);
	else
		count(folio, folio_test_swapbacked(folio) ? VM_NR_SHMEM_PMDMAPPED
							  : VM_NR_FILE_PMDMAPPED,
			folios);
}

static void map_pages(struct folio *folio, unsigned first, unsigned nr)
{
	rmap_count_mapped(folio, folio_map_pages(folio, first, nr));
}

static void map_entire(struct folio *folio)
{
	bool first;
	int fresh = folio_map_entire(folio, &first);

	if (first)
		count_pmd_mapped(folio, 1);
	rmap_count_mapped(folio, fresh);
}

void folio_add_new_anon_rmap(struct folio *folio, struct vma *vma, uint64_t addr)
{
	unsigned nr = (unsigned)folio_nr(folio);

	assert_that(vma->anon_vma, "vma %#lx has no anon_vma", (unsigned long)vma->start);
	assert_that(addr >= vma->start && addr + folio_size(folio) <= vma->end,
		"folio of %u at %#lx outside of its vma", nr, (unsigned long)addr);
	folio_set_swapbacked(folio);
	folio_set_index(folio, vma_pgoff(vma, addr));
	folio_set_mapping(folio, vma->anon_vma, MAPPING_ANON);
	if (nr > 1)
		folio_size_stat(folio, STAT_NR_ANON, 1);
	if (folio_order(folio) == PMD_ORDER) {
		folio_add_rmap_pmd(folio, true);
		return;
	}
	folio_add_anon_rmap(folio, 0, nr, true);
}

void folio_add_anon_rmap(struct folio *folio, unsigned first, unsigned nr, bool exclusive)
{
	assert_that(folio_test_anon(folio), "pfn %#lx is not anonymous",
		(unsigned long)folio_pfn(folio).n);
	for (unsigned i = first; exclusive && i < first + nr; i++)
		frame_set_anon_exclusive(folio_frame(folio, i));
	map_pages(folio, first, nr);
}

void folio_add_file_rmap(struct folio *folio, unsigned first, unsigned nr)
{
	assert_that(!folio_test_anon(folio), "pfn %#lx is anonymous",
		(unsigned long)folio_pfn(folio).n);
	map_pages(folio, first, nr);
}

void folio_add_rmap_pmd(struct folio *folio, bool exclusive)
{
	if (exclusive && folio_test_anon(folio))
		folio_set_anon_exclusive(folio);
	map_entire(folio);
}

// Some pages of an anonymous folio lost their last mapping, others did not: splitting it would free
// memory.
void folio_note_partially_mapped(struct folio *folio)
{
	if (!folio_test_anon(folio) || folio_test_hugetlb(folio) || folio_order(folio) < 2)
		return;
	if (folio_mark_partially_mapped(folio) && folio_order(folio) == PMD_ORDER)
		vm_event(folio_phys(folio)->stat, VM_THP_DEFERRED_SPLIT_PAGE);
	folio_deferred_queue(folio);
}

static void note_unmapped(struct folio *folio, int gone)
{
	rmap_count_mapped(folio, -gone);
	if (!folio_mapped(folio)) {
		if (folio_test_mlocked(folio))
			folio_munlock(folio);
	} else if (gone > 0) { // not while others have a page counted twice
		folio_note_partially_mapped(folio);
	}
}

void folio_remove_rmap(struct folio *folio, unsigned first, unsigned nr)
{
	note_unmapped(folio, folio_unmap_pages(folio, first, nr));
}

void folio_remove_rmap_pmd(struct folio *folio)
{
	bool last;
	int gone = folio_unmap_entire(folio, &last);

	if (last)
		count_pmd_mapped(folio, -1);
	note_unmapped(folio, gone);
}

int folio_try_share_anon(struct folio *folio, unsigned page)
{
	struct frame *frame = folio_frame(folio, page);

	if (!frame_test_anon_exclusive(frame))
		return 0;
	if (folio_maybe_pinned(folio)) {
		MARK(share_anon_refused_pinned);
		return -EBUSY;
	}
	frame_clear_anon_exclusive(frame);
	return 0;
}

// ---- Keys

void vma_rmap_remove(struct vma *vma)
{
	struct anon_vma_chain *chain;

	if (vma->object)
		interval_tree_remove(&vma->object->i_mmap, &vma->i_mmap);
	list_for_each_entry(chain, &vma->anon_chain, same_vma)
		interval_tree_remove(&chain->anon_vma->chains, &chain->rb);
}

static void key(struct interval_node *node, const struct vma *vma)
{
	node->start = vma->pgoff;
	node->last = vma->pgoff + vma_pages(vma) - 1;
}

void vma_rmap_insert(struct vma *vma)
{
	struct anon_vma_chain *chain;

	if (vma->object) {
		key(&vma->i_mmap, vma);
		interval_tree_insert(&vma->object->i_mmap, &vma->i_mmap);
	}
	list_for_each_entry(chain, &vma->anon_chain, same_vma) {
		key(&chain->rb, vma);
		interval_tree_insert(&chain->anon_vma->chains, &chain->rb);
	}
}

int vma_address(const struct vma *vma, uint64_t pgoff, uint64_t *ret_addr)
{
	if (pgoff < vma->pgoff || pgoff - vma->pgoff >= vma_pages(vma))
		return -EFAULT;
	*ret_addr = vma->start + ((pgoff - vma->pgoff) << PAGE_SHIFT);
	return 0;
}

// ---- Walks

// The part of the folio that lies in the vma; the trees promise that there is some.
static bool visit(struct folio *folio, struct vma *vma, rmap_one_fn *one, void *arg)
{
	uint64_t index = folio_index(folio), first = max(index, vma->pgoff);
	uint64_t end = min(index + folio_nr(folio), vma->pgoff + vma_pages(vma));
	struct rmap_range range = {
		.vma = vma,
		.addr = vma->start + ((first - vma->pgoff) << PAGE_SHIFT),
		.first_page = (unsigned)(first - index),
		.nr_pages = (unsigned)(end - first),
	};

	return one(&range, arg);
}

static void walk_anon(struct folio *folio, struct anon_vma *av, rmap_one_fn *one, void *arg)
{
	uint64_t first = folio_index(folio), last = first + folio_nr(folio) - 1;
	struct interval_node *node;

	interval_tree_for_each_overlap(node, &av->chains, first, last)
		if (!visit(folio, container_of(node, struct anon_vma_chain, rb)->vma, one, arg))
			break;
}

static void walk_object(struct folio *folio, struct object *object, rmap_one_fn *one, void *arg)
{
	uint64_t first = folio_index(folio), last = first + folio_nr(folio) - 1;
	struct interval_node *node;

	interval_tree_for_each_overlap(node, &object->i_mmap, first, last)
		if (!visit(folio, container_of(node, struct vma, i_mmap), one, arg))
			break;
}

struct ksm_visit {
	rmap_one_fn *one;
	void *arg;
};

static bool visit_ksm(struct vma *vma, uint64_t addr, void *arg)
{
	struct ksm_visit *visit = arg;
	struct rmap_range range = {.vma = vma, .addr = addr, .first_page = 0, .nr_pages = 1};

	return visit->one(&range, visit->arg);
}

// The subsystem takes its own locks.
static void walk_ksm(struct folio *folio, rmap_one_fn *one, void *arg)
{
	struct mm_core *mm = folio_phys(folio)->mm;
	struct ksm_visit visit = {one, arg};

	if (mm && mm->up.ksm_rmap)
		mm->up.ksm_rmap(folio, visit_ksm, &visit);
}

static void walk(struct folio *folio, struct anon_vma *av, rmap_one_fn *one, void *arg)
{
	struct object *object = av ? NULL : folio_object(folio);

	if (av)
		walk_anon(folio, av, one, arg);
	else if (object)
		walk_object(folio, object, one, arg);
}

static struct rwlock *walk_lock(struct folio *folio, struct anon_vma *av)
{
	struct object *object = av ? NULL : folio_object(folio);

	if (av)
		return &av->root->lock;
	return object ? &object->i_mmap_lock : NULL;
}

void rmap_walk_held(struct folio *folio, rmap_one_fn *one, void *arg)
{
	walk(folio, folio_anon_vma(folio), one, arg);
}

struct rwlock *folio_rmap_lock(struct folio *folio)
{
	return walk_lock(folio, folio_anon_vma(folio));
}

static bool lock_for_walk(struct rwlock *lock, bool try_lock) NO_THREAD_SAFETY_ANALYSIS
{
	if (try_lock)
		return read_trylock(lock);
	read_lock(lock);
	return true;
}

int rmap_walk(struct folio *folio, rmap_one_fn *one, void *arg, bool try_lock)
	NO_THREAD_SAFETY_ANALYSIS
{
	if (folio_test_ksm(folio)) {
		walk_ksm(folio, one, arg);
		return 0;
	}
	// A mapped folio may lose its last mapping, and its anon_vma, at any time. The anon_vma of
	// one that is not mapped may be gone already, and there is nothing to find.
	struct anon_vma *av = folio_get_anon_vma(folio);
	struct rwlock *lock = av || !folio_test_anon(folio) ? walk_lock(folio, av) : NULL;
	int err = 0;
	if (lock && lock_for_walk(lock, try_lock)) {
		walk(folio, av, one, arg);
		read_unlock(lock);
	} else if (lock) {
		err = -EAGAIN;
	}
	if (av)
		anon_vma_put(av);
	return err;
}
