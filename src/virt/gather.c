// SPDX-License-Identifier: MIT
// A gather: the host calls that one table's changes need, as few as possible.
//
// Interface: virt/gather.h. It remembers one open stretch (operation, host address, frames). A
// change that continues it makes it longer; any other change, a flush or the end of the table
// pushes it out as one call. A stretch ends at every 2 MiB boundary, because another table with
// another lock begins there, and the mmu promises that no two calls meet on one page.
//
// Folios handed to gather_put() wait until the stretches queued before them are issued: a frame
// must not be free, let alone used again, while the host still reaches it at the old address. They
// are put after the table's lock is dropped, or under it when there are more than 64 of them (the
// locks a put may need all rank above a table's).
//
// What can fail: map and block, -ENOMEM. A refused protect becomes a clear, which cannot fail.
#include "virt/gather.h"

#include "base/assert.h"
#include "base/mark.h"
#include "virt/mm.h"
#include "virt/space.h"

void gather_init(struct gather *g, struct mm_core *mm)
{
	g->mm = mm;
	g->space = NULL;
	g->table = NULL;
	g->op = GATHER_NONE;
	g->error = 0;
	g->flush_error = 0;
	g->nr_calls = 0;
	g->nr_put = 0;
}

// ---- The open stretch

static int issue_protect(struct gather *g, struct mmu *mmu)
{
	int err = mmu->ops->protect(mmu, g->at, g->first, g->nr, g->prot);

	if (err) {
		MARK(gather_protect_became_clear);
		mmu->ops->clear(mmu, g->at, g->nr);
		g->nr_calls++;
	}
	return 0;
}

static int issue_op(struct gather *g, struct mmu *mmu)
{
	switch (g->op) {
	case GATHER_NONE:
		break;
	case GATHER_MAP:
		return mmu->ops->map(mmu, g->at, g->first, g->nr, g->prot);
	case GATHER_PROTECT:
		return issue_protect(g, mmu);
	case GATHER_CLEAR:
		mmu->ops->clear(mmu, g->at, g->nr);
		break;
	case GATHER_BLOCK:
		return mmu->ops->block(mmu, g->at, g->first, g->nr, g->readers);
	case GATHER_UNBLOCK:
		mmu->ops->unblock(mmu, g->at, g->first, g->nr, g->prot);
		break;
	}
	return 0;
}

static void issue(struct gather *g)
{
	if (g->op == GATHER_NONE)
		return;
	assert_that(g->table && mutex_is_held(&g->table->lock), "a gather without its table");
	int err = issue_op(g, g->mm->mmu);
	if (!err && g->op != GATHER_BLOCK && g->op != GATHER_PROTECT)
		host_wait_end(g->mm, g->at, g->nr);
	g->op = GATHER_NONE;
	g->nr_calls++;
	if (err && !g->flush_error)
		g->flush_error = err;
	if (err && !g->error)
		g->error = err;
}

void gather_queue(struct gather *g, const struct gather_change *c)
{
	assert_that((c->at & ~PMD_MASK) / PAGE_SIZE + c->nr <= PTRS_PER_TABLE,
		"%u pages at %#lx cross a table", c->nr, (unsigned long)c->at);
	issue(g);
	g->op = c->op;
	g->at = c->at;
	g->first = c->first;
	g->nr = c->nr;
	g->prot = c->prot;
	g->readers = c->readers;
}

void gather_protect(struct gather *g, uintptr_t at, struct pfn pfn, unsigned nr, enum mmu_prot prot)
{
	gather_change(g, (struct gather_change){GATHER_PROTECT, at, pfn, nr, prot, false});
}

void gather_clear(struct gather *g, uintptr_t at, unsigned nr)
{
	gather_change(g, (struct gather_change){GATHER_CLEAR, at, pfn_of(0), nr, MMU_NONE, false});
}

void gather_unblock(struct gather *g, uintptr_t at, struct pfn pfn, unsigned nr, enum mmu_prot prot)
{
	gather_change(g, (struct gather_change){GATHER_UNBLOCK, at, pfn, nr, prot, false});
}

// ---- Folios to put

static void put_all(struct gather *g)
{
	for (unsigned i = 0; i < g->nr_put; i++)
		folio_put(g->put[i]);
	g->nr_put = 0;
}

void gather_put(struct gather *g, struct folio *folio)
{
	if (g->nr_put == ARRAY_SIZE(g->put)) {
		issue(g);
		put_all(g);
	}
	g->put[g->nr_put++] = folio;
}

// ---- Tables and ends

int gather_flush(struct gather *g)
{
	issue(g);
	int err = g->flush_error;
	g->flush_error = 0;
	return err;
}

void gather_release(struct gather *g)
{
	issue(g);
	if (g->table)
		page_table_unlock(g->table);
	g->table = NULL;
	put_all(g);
}

int gather_finish(struct gather *g)
{
	gather_release(g);
	return g->error;
}

void gather_adopt(struct gather *g, struct space *space, struct page_table *locked)
{
	gather_release(g);
	g->space = space;
	g->table = locked;
}

static bool holds(const struct gather *g, const struct space *space, unsigned level,
	struct vaddr addr)
{
	uint64_t size = level == 1 ? PMD_SIZE : PUD_SIZE;

	return g->table && g->space == space && g->table->level == level &&
	       g->table->base == ALIGN_DOWN(addr.a, size);
}

struct page_table *gather_table(struct gather *g, struct space *space, struct vaddr addr)
{
	if (!holds(g, space, 1, addr)) {
		gather_release(g);
		g->space = space;
		g->table = pte_table_lock(space, addr);
	}
	return g->table;
}

struct page_table *gather_pmd_table(struct gather *g, struct space *space, struct vaddr addr)
{
	if (!holds(g, space, 2, addr)) {
		gather_release(g);
		g->space = space;
		g->table = pmd_table_lock(space, addr);
	}
	return g->table;
}
