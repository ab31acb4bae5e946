// SPDX-License-Identifier: MIT
// A session of page-table changes over many folios, on top of virt/gather.h.
//
// Unmapping and remapping a folio means a walk of its rmap, and at each place a change under the
// page-table lock, and a host call. The folios of a batch are mostly neighbours: same anon_vma
// family or object, same tables, consecutive addresses. So the session keeps the rmap lock and the
// locks of up to four tables (as many spaces as share the memory) until a folio needs others; a
// gather for each table merges what is queued meanwhile into one host call.
//
// Locks: the folios are locked. Only the first table is waited for; the others are tried, and if
// one is busy all are given up first. An rmap lock comes before a table's lock, so a change of the
// rmap lock gives up the tables, too: no wait happens in the wrong order. KSM folios are walked
// under KSM's own locks, hence nothing is kept across their places.
//
// Failures: a host block that fails (no host mapping to be had) is remembered in `error`; the
// caller finishes the session and undoes the slots that took part in it. A host map that fails
// comes past the point of no return: the entry stays in the page table, the host's translation is
// cleared, so that the old frames cannot be seen any more, and who waits is woken; the next access
// faults, and the fault asks the host again.
#include "base/mark.h"
#include "migrate/batch.h"
#include "virt/object.h"
#include "virt/space.h"

void mapper_init(struct mapper *m, struct batch *batch)
{
	m->batch = batch;
	m->rmap = NULL;
	m->sole_vma = NULL;
	m->keep_nothing = false;
	m->at_once = false;
	m->error = 0;
	m->now = &m->table[0];
	for (unsigned i = 0; i < MAPPER_TABLES; i++)
		gather_init(&m->table[i], batch->mc->mm);
}

// ---- Issuing

// The host refused these translations: it must not go on showing what was there.
static void drop_translations(struct gather *g, uintptr_t at, unsigned nr)
{
	struct mmu *mmu = g->mm->mmu;

	MARK(migrate_map_failed);
	gather_clear(g, at, nr);
	(void)gather_flush(g);
	mmu->ops->wake(mmu, at, nr);
}

void mapper_flush(struct mapper *m, struct gather *g)
{
	bool map = g->op == GATHER_MAP;
	uintptr_t at = g->at;
	unsigned nr = g->nr;
	int err = gather_flush(g);

	if (map && err)
		drop_translations(g, at, nr);
	else if (err && !m->error)
		m->error = err;
}

void mapper_release_tables(struct mapper *m)
{
	for (unsigned i = 0; i < MAPPER_TABLES; i++) {
		mapper_flush(m, &m->table[i]);
		gather_release(&m->table[i]);
	}
}

static void release_rmap(struct mapper *m) NO_THREAD_SAFETY_ANALYSIS
{
	mapper_release_tables(m);
	if (m->rmap)
		read_unlock(m->rmap);
	m->rmap = NULL;
	m->sole_vma = NULL;
}

int mapper_finish(struct mapper *m)
{
	release_rmap(m);
	return m->error;
}

// ---- Holding

// Most memory is mapped by one vma: then there is nothing to search.
static void find_sole_vma(struct mapper *m, struct folio *folio)
{
	struct anon_vma *av = folio_anon_vma(folio);
	struct object *object = av ? NULL : folio_object(folio);
	const struct interval_tree *tree = av ? &av->chains : object ? &object->i_mmap : NULL;
	struct interval_node *node = tree ? interval_tree_first(tree) : NULL;

	m->sole_vma = NULL;
	if (!node || interval_tree_next(node))
		return;
	m->sole_vma = av ? container_of(node, struct anon_vma_chain, rb)->vma
			 : container_of(node, struct vma, i_mmap);
	m->sole_mapping = folio_mapping_raw(folio);
}

// The sole vma may map some of a large folio's pages: that is for the general walk.
static bool visit_sole_vma(struct mapper *m, struct folio *folio, rmap_one_fn *one, void *arg)
{
	struct rmap_range range = {.vma = m->sole_vma, .nr_pages = (unsigned)folio_nr(folio)};
	uint64_t offset = folio_index(folio) - range.vma->pgoff;
	uint64_t pages = (range.vma->end - range.vma->start) >> PAGE_SHIFT;

	if (offset >= pages || pages - offset < range.nr_pages)
		return false;
	range.addr = range.vma->start + (offset << PAGE_SHIFT);
	(void)one(&range, arg);
	return true;
}

static void hold_rmap(struct mapper *m, struct folio *folio) NO_THREAD_SAFETY_ANALYSIS
{
	struct rwlock *lock = folio_rmap_lock(folio);

	if (lock != m->rmap) {
		release_rmap(m);
		if (lock)
			read_lock(lock);
		m->rmap = lock;
	}
	if (lock)
		find_sole_vma(m, folio);
}

void mapper_walk(struct mapper *m, struct folio *folio, rmap_one_fn *one, void *arg)
{
	if (folio_test_ksm(folio)) {
		release_rmap(m);
		m->keep_nothing = true;
		(void)rmap_walk(folio, one, arg, false);
		m->keep_nothing = false;
		return;
	}
	if (!m->sole_vma || m->sole_mapping != folio_mapping_raw(folio))
		hold_rmap(m, folio);
	if (m->rmap && !(m->sole_vma && visit_sole_vma(m, folio, one, arg)))
		rmap_walk_held(folio, one, arg);
}

struct vma *mapper_sole_vma(struct mapper *m, struct folio *folio)
{
	if (folio_test_ksm(folio))
		return NULL;
	if (!m->sole_vma || m->sole_mapping != folio_mapping_raw(folio))
		hold_rmap(m, folio);
	return m->sole_vma;
}

// One more table without waiting; false: it is busy, or there is no room for it.
static bool try_table(struct mapper *m, struct gather *g, struct space *space, uint64_t addr,
	struct page_table **ret_table)
{
	bool busy = false;
	struct page_table *table = pte_table_trylock(space, vaddr_of(addr), &busy);

	if (busy)
		return false;
	if (table) {
		gather_adopt(g, space, table);
		m->now = g;
	}
	*ret_table = table;
	return true;
}

struct page_table *mapper_change_table(struct mapper *m, struct space *space, uint64_t addr)
{
	struct gather *unused = NULL;
	struct page_table *table;
	bool any = false;

	for (unsigned i = 0; i < MAPPER_TABLES; i++) {
		struct gather *g = &m->table[i];

		if (table_is_held(g, space, addr)) {
			m->now = g;
			return g->table;
		}
		if (g->table)
			any = true;
		else
			unused = g;
	}
	if (any && unused && try_table(m, unused, space, addr, &table))
		return table;
	mapper_release_tables(m);
	m->now = &m->table[0];
	return gather_table(m->now, space, vaddr_of(addr));
}

struct page_table *mapper_pmd_table(struct mapper *m, struct space *space, uint64_t addr)
{
	mapper_release_tables(m);
	m->now = &m->table[0];
	return gather_pmd_table(m->now, space, vaddr_of(addr));
}

// ---- Queueing

void mapper_clear(struct mapper *m, uintptr_t at, unsigned nr)
{
	if (m->now->op == GATHER_MAP)
		mapper_flush(m, m->now);
	gather_clear(m->now, at, nr);
}

void mapper_unblock(struct mapper *m, uintptr_t at, struct pfn pfn, unsigned nr,
	enum mmu_prot prot)
{
	if (m->now->op == GATHER_MAP)
		mapper_flush(m, m->now);
	gather_unblock(m->now, at, pfn, nr, prot);
}
