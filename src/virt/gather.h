// SPDX-License-Identifier: MIT
// What changes in a page table must become true on the host, in as few host calls as possible.
//
// A gather collects the changes made under one page-table lock and issues one host call for each
// stretch of consecutive pages (and, where frames matter, consecutive frames). It is the engine's
// TLB batch. A gather stays open over many folios as long as they lie in the same table, so 512
// contiguous pages cost one block, one copy and one swap, not 512 of each.
//
//	struct gather g;
//	gather_init(&g, mm);
//	table = gather_table(&g, space, addr)   keep the table's lock, or flush and take the new one
//	table_set_entry(...); gather_map(&g, host, pfn, prot) ...
//	gather_finish(&g)                       flush, unlock, then put the folios handed to it
//
// Between gather_table() and gather_finish() the caller holds that page-table lock, and may take
// locks of a lower rank (rmap locks, folio locks) only by trylock; gather_release() gives it up.
//
// A host that refuses GATHER_PROTECT (it may have no mapping to spare) gets a clear instead: the
// permission is never wider than asked, and an access faults and finds its entry in the page table.
// That makes it an operation that cannot fail. So a fault on an entry that already permits the
// access is no error: the handler maps the page again. Only map and block report -ENOMEM.
#ifndef GODWIT_VIRT_GATHER_H
#define GODWIT_VIRT_GATHER_H

#include "machine/mmu.h"
#include "phys/folio.h"
#include "virt/page_table.h"

struct mm_core;

enum gather_op {
	GATHER_NONE,
	GATHER_MAP,
	GATHER_PROTECT,
	GATHER_CLEAR,
	GATHER_BLOCK,
	GATHER_UNBLOCK,
};

struct gather {
	struct mm_core *mm;
	struct space *space;
	struct page_table *table; // held, or NULL
	enum gather_op op;	  // the open stretch
	uintptr_t at;
	struct pfn first;
	unsigned nr;
	enum mmu_prot prot;
	bool readers;	       // GATHER_BLOCK: stop readers too
	int error;	       // first failure since gather_init()
	int flush_error;       // first failure since the last gather_flush()
	unsigned nr_calls;     // host calls issued, for the books
	// Folios whose last use may be a host translation that is still there: put after the flush.
	unsigned nr_put;
	struct folio *put[64];
};

void gather_init(struct gather *, struct mm_core *);
// Hold the PTE-level table of addr; NULL when there is none. Keeps the lock if it is held already.
struct page_table *gather_table(struct gather *, struct space *, struct vaddr addr);
// The same for the PMD level.
struct page_table *gather_pmd_table(struct gather *, struct space *, struct vaddr addr);
// Queue one change of nr pages (a PMD leaf: 512). It is issued at the latest by the next flush.
static inline void gather_map(struct gather *, uintptr_t at, struct pfn, unsigned nr,
	enum mmu_prot);
void gather_protect(struct gather *, uintptr_t at, struct pfn, unsigned nr, enum mmu_prot);
void gather_clear(struct gather *, uintptr_t at, unsigned nr);
static inline void gather_block(struct gather *, uintptr_t at, struct pfn, unsigned nr,
	bool readers);
void gather_unblock(struct gather *, uintptr_t at, struct pfn, unsigned nr, enum mmu_prot);
// Drop a folio reference once the host cannot reach it through what was queued.
void gather_put(struct gather *, struct folio *);
// Issue what is queued, keep the lock. Returns the first error (0, -ENOMEM) of what was issued
// since the last call, also by the way: stretches that do not join what is queued push it out.
int gather_flush(struct gather *);
// Flush, unlock the table, put the folios; the gather may go on with another table.
void gather_release(struct gather *);
// Go on with this table of the space, which the caller has locked already.
void gather_adopt(struct gather *, struct space *, struct page_table *locked);
// Flush, unlock the table, put the folios. Returns the first error since init.
int gather_finish(struct gather *);

// ---- Queueing, where it only makes the open stretch longer

struct gather_change {
	enum gather_op op;
	uintptr_t at;
	struct pfn first;
	unsigned nr;
	enum mmu_prot prot;
	bool readers;
};
void gather_queue(struct gather *, const struct gather_change *);

static inline bool gather_continues(const struct gather *g, const struct gather_change *c)
{
	return g->op == c->op && c->at == g->at + g->nr * PAGE_SIZE && (c->at & ~PMD_MASK) &&
	       (c->op == GATHER_CLEAR || c->first.n == g->first.n + g->nr) && c->prot == g->prot &&
	       c->readers == g->readers;
}

static inline void gather_change(struct gather *g, const struct gather_change c)
{
	if (gather_continues(g, &c))
		g->nr += c.nr;
	else
		gather_queue(g, &c);
}

static inline void gather_map(struct gather *g, uintptr_t at, struct pfn pfn, unsigned nr,
	enum mmu_prot prot)
{
	gather_change(g, (struct gather_change){GATHER_MAP, at, pfn, nr, prot, false});
}

static inline void gather_block(struct gather *g, uintptr_t at, struct pfn pfn, unsigned nr,
	bool readers)
{
	gather_change(g, (struct gather_change){GATHER_BLOCK, at, pfn, nr, MMU_NONE, readers});
}

#endif
