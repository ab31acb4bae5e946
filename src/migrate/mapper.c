// SPDX-License-Identifier: MIT
// A session of page-table changes over many folios, on top of virt/gather.h.
//
// Unmapping and remapping a folio means a walk of its rmap, and at each place a change under the
// page-table lock, and a host call. The folios of a batch are mostly neighbours: same anon_vma
// family or object, same table, consecutive addresses. So the session keeps the rmap lock and the
// table's lock until a folio needs others, and the gather merges what is queued meanwhile into one
// host call.
//
// Locks: the folios are locked. An rmap lock comes before a table's lock, so a change of the rmap
// lock first issues everything and gives up the table; no wait happens in the wrong order. KSM
// folios are walked under KSM's own locks, hence nothing is kept across their places.
//
// Failures: a host block that fails (no host mapping to be had) is remembered in `error`; the
// caller finishes the session and undoes the slots that took part in it. A host map that fails
// comes past the point of no return: the entry stays in the page table, the host's translation is
// cleared, so that the old frames cannot be seen any more, and who waits is woken; the next access
// faults, and the fault asks the host again.
#include "base/mark.h"
#include "migrate/batch.h"

void mapper_init(struct mapper *m, struct batch *batch)
{
	*m = (struct mapper){.batch = batch};
	gather_init(&m->gather, batch->mc->mm);
}

// The host refused these translations: it must not go on showing what was there.
static void drop_translations(struct mapper *m)
{
	struct mmu *mmu = m->gather.mm->mmu;

	MARK(migrate_map_failed);
	gather_clear(&m->gather, m->map_at, m->map_nr);
	gather_flush(&m->gather);
	mmu->ops->wake(mmu, m->map_at, m->map_nr);
}

static void flush(struct mapper *m)
{
	int err = gather_flush(&m->gather);

	if (m->map_nr && err)
		drop_translations(m);
	else if (err && !m->error)
		m->error = err;
	m->map_nr = 0;
}

void mapper_release_table(struct mapper *m)
{
	flush(m);
	gather_release(&m->gather);
}

static void release_rmap(struct mapper *m)
{
	mapper_release_table(m);
	if (m->rmap)
		read_unlock(m->rmap);
	m->rmap = NULL;
}

int mapper_finish(struct mapper *m)
{
	release_rmap(m);
	(void)gather_finish(&m->gather);
	return m->error;
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
	struct rwlock *lock = folio_rmap_lock(folio);
	if (!lock)
		return;
	if (lock != m->rmap) {
		release_rmap(m);
		read_lock(lock);
		m->rmap = lock;
	}
	rmap_walk_held(folio, one, arg);
}

// A queued map must be issued by flush(), never by the gather on its own.
static void issue_before_change(struct mapper *m, struct space *space, uint64_t base)
{
	struct page_table *held = m->gather.table;

	if (held && (m->gather.space != space || held->base != base))
		flush(m);
}

struct page_table *mapper_table(struct mapper *m, struct space *space, uint64_t addr)
{
	issue_before_change(m, space, addr & PMD_MASK);
	return gather_table(&m->gather, space, vaddr_of(addr));
}

struct page_table *mapper_pmd_table(struct mapper *m, struct space *space, uint64_t addr)
{
	flush(m);
	return gather_pmd_table(&m->gather, space, vaddr_of(addr));
}

static bool extends(const struct mapper *m, uintptr_t at, struct pfn pfn, enum mmu_prot prot)
{
	return m->map_nr && m->map_prot == prot && at == m->map_at + m->map_nr * PAGE_SIZE &&
	       pfn.n == m->map_first.n + m->map_nr;
}

void mapper_map(struct mapper *m, uintptr_t at, struct pfn pfn, unsigned nr, enum mmu_prot prot)
{
	if (!extends(m, at, pfn, prot)) {
		flush(m);
		m->map_at = at;
		m->map_first = pfn;
		m->map_prot = prot;
	}
	m->map_nr += nr;
	gather_map(&m->gather, at, pfn, nr, prot);
}

void mapper_unblock(struct mapper *m, uintptr_t at, struct pfn pfn, unsigned nr,
	enum mmu_prot prot)
{
	if (m->map_nr)
		flush(m);
	gather_unblock(&m->gather, at, pfn, nr, prot);
}
