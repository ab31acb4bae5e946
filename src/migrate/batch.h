// SPDX-License-Identifier: MIT
// A batch: folios that are moved together, at most 512 pages of them (and the folio that crosses
// that line), each in a slot. Internal to src/migrate/.
//
//	state		src	dst	entries		how it goes on
//	WAITING		-	maybe	present		unmapped in this pass or the next
//	UNMAPPED	locked	locked	migration	moved, or undone
//	SWITCHED	locked	locked	migration	past the point of no return: remapped
//	MOVED		given up  in use  present	done
//	SPLIT		on the split list		done
//	FAILED		-	-	present		not tried again by this batch
#ifndef GODWIT_MIGRATE_BATCH_H
#define GODWIT_MIGRATE_BATCH_H

#include "migrate/migrate.h"

#define MIGRATE_BATCH_PAGES 512u // NR_MAX_BATCHED_MIGRATION

struct anon_vma;

enum slot_state {
	SLOT_WAITING,
	SLOT_UNMAPPED,
	SLOT_SWITCHED,
	SLOT_MOVED,
	SLOT_SPLIT,
	SLOT_FAILED,
};

struct slot {
	struct folio *src, *dst;
	struct anon_vma *anon_vma; // a reference until the batch ends
	unsigned nr_pages;
	uint8_t state; // enum slot_state
	uint8_t why;   // enum migrate_why of the last attempt
	bool thp;      // of PMD order: counted in thp_*
	bool tried;
	bool was_mapped;
	bool ready;	// locked and checked, to be unmapped now
	bool kept;	// the reference of the mapping that was dropped is still held (run.c)
	bool undone;	// still locked, until the session's locks are given up
	bool tentative; // its block may still fail: the session is not flushed yet
	bool deferred, partially_mapped; // src was on the deferred split queue
	bool filing;	// switched; its flags and LRU list are left to run_remap()
	bool placed;	// by run_remap(): dst is mapped,
	bool exclusive; // and to nobody else
	int error;
};

// Numbers of one migrate_pages() call, in pages unless said.
struct migrate_stats {
	unsigned nr_succeeded, nr_failed_pages;
	unsigned nr_thp_succeeded, nr_thp_failed, nr_thp_split; // folios
	unsigned nr_split;					// folios of any large order
};

struct batch {
	struct migrate_control *mc;
	enum migrate_mode mode; // of this run: not always the caller's
	struct folio_list *splits; // where split folios go; NULL: no more splitting
	struct anon_vma *anon_vma; // the last one that a slot holds
	uint64_t blocked_at;	// when the first accessor was blocked, 0: none yet
	unsigned blocked_pages;
	bool one_by_one;   // a host block failed: each slot in a session of its own
	struct folio **run; // [capacity]: targets just found, sources to be put
	unsigned nr, nr_pages, capacity;
	struct slot slot[];
};

// Unmap all, then move all; at most `passes` of each. What stays WAITING or FAILED is the caller's
// again, unlocked. Returns the number of folios that failed (splits included), or -ENOMEM when
// there was no target.
int batch_run(struct batch *, unsigned passes, struct migrate_stats *);

// The pages a batch may have so that it fits the pause budget.
unsigned batch_page_limit(const struct migrate_control *);

// ---- A session of page-table changes over many folios (mapper.c)

#include "virt/gather.h"
#include "virt/rmap.h"

// Keeps the rmap lock and the page-table locks of the last changes as long as the next one needs
// the same, so that a run of neighbours costs one lock and one host call of each kind, for each of
// a few spaces that map it.
#define MAPPER_TABLES 4

struct mapper {
	struct batch *batch;
	struct gather table[MAPPER_TABLES]; // held, with what is queued for them
	struct gather *now; // that of the last mapper_table()
	struct rwlock *rmap;	// held for reading, or NULL
	// Under it: the only vma in the rmap of folios with this mapping, if there is only one.
	struct vma *sole_vma;
	uint32_t sole_mapping;
	bool keep_nothing;	// KSM's locks come and go between places
	bool at_once;		// what was a leaf: mapcounts go together, no event an entry
	int error;		// first failure of a host block
};

void mapper_init(struct mapper *, struct batch *);
// Everything queued is issued, every lock given up. 0 or the first error of a block.
int mapper_finish(struct mapper *);
// Call `one` for every place the folio (locked) is or was mapped.
void mapper_walk(struct mapper *, struct folio *, rmap_one_fn *one, void *arg);
// The only vma that can map the folio, which stays so until another rmap lock is taken; else NULL.
struct vma *mapper_sole_vma(struct mapper *, struct folio *);
// Hold the table of addr; NULL when there is none.
static inline struct page_table *mapper_table(struct mapper *, struct space *, uint64_t addr);
struct page_table *mapper_pmd_table(struct mapper *, struct space *, uint64_t addr);
// Issue what is queued and give up the tables, but keep the rmap lock.
void mapper_release_tables(struct mapper *);
// For the table held now: queue translations to new frames (none for MMU_NONE); to the old frames
// again; none.
static inline void mapper_map(struct mapper *, uintptr_t at, struct pfn, unsigned nr,
	enum mmu_prot);
void mapper_unblock(struct mapper *, uintptr_t at, struct pfn, unsigned nr, enum mmu_prot);
void mapper_clear(struct mapper *, uintptr_t at, unsigned nr);

struct page_table *mapper_change_table(struct mapper *, struct space *, uint64_t addr);

static inline bool table_is_held(const struct gather *g, const struct space *space, uint64_t addr)
{
	const struct page_table *table = g->table;

	return table && g->space == space && table->level == 1 && table->base == (addr & PMD_MASK);
}

static inline struct page_table *mapper_table(struct mapper *m, struct space *space, uint64_t addr)
{
	return table_is_held(m->now, space, addr) ? m->now->table
						  : mapper_change_table(m, space, addr);
}

// What is queued for the table is issued; if it is a map that the host refuses, cleared.
void mapper_flush(struct mapper *, struct gather *);

// Only what belongs to this map is in its call, so that one that fails is known.
static inline void mapper_map(struct mapper *m, uintptr_t at, struct pfn pfn, unsigned nr,
	enum mmu_prot prot)
{
	const struct gather_change c = {GATHER_MAP, at, pfn, nr, prot, false};

	// Cleared when it was unmapped, unless mprotect() has changed the vma since, and is on its
	// way to this table.
	if (unlikely(prot == MMU_NONE)) {
		mapper_clear(m, at, nr);
		return;
	}
	if (!gather_continues(m->now, &c))
		mapper_flush(m, m->now);
	gather_change(m->now, c);
}

// ---- Steps of slots

// Install migration entries (unmap.c). 0: no mapping is left; -EAGAIN with slot->why: some are.
must_check int slot_unmap(struct mapper *, struct slot *);
// The same for a row of slots that begins at s, at most n: how many it took, if any (run.c).
unsigned run_unmap(struct mapper *, struct slot *s, unsigned n);
unsigned run_remap(struct mapper *, struct slot *s, unsigned n);
// Whether it is worth trying: a small folio, mapped once, nothing special about it.
bool slot_suits_run(const struct slot *);
// Back to what it was before it was unmapped.
void slot_restore(struct mapper *, struct slot *);
// Replace migration entries of src by mappings of dst, which may be src (remap.c).
void slot_remap(struct mapper *, struct folio *dst, struct folio *src);
// The same for a small anonymous folio of zeros that has not moved: by mappings of the zero page,
// except where memory is locked.
void slot_remap_zero(struct mapper *, struct folio *);
// 0: nobody but mappings, index and isolation refers to src; -EAGAIN with slot->why.
must_check int slot_check_references(struct slot *);
// Move all UNMAPPED slots (move.c). Those that could not be moved stay so, with error and why.
void batch_move(struct batch *);
// Our reference to a source that moved, or that its owner freed.
void slot_release_source(struct batch *, struct folio *src);
// Contents (copy.c); consecutive frames in one copy. 0, -EHWPOISON.
must_check int folios_copy(struct mm_core *, struct folio *dst, struct folio *src,
	unsigned nr_pages);
// What follows a folio to its new frames besides contents and mapping (move.c).
void folio_migrate_flags(struct folio *dst, struct folio *src);
uint32_t folio_migrated_flags(const struct folio *src);
// For a slot whose filing was left: nothing is left any more.
void slot_file(struct slot *);

// ---- Migration entries (entry.c)

#include "virt/pte.h"

struct pte migration_entry_make(struct pte present, bool exclusive);
// The present entry that a migration entry becomes on the frame `pfn`.
struct pte migration_entry_restore(struct pte entry, struct pfn pfn, const struct folio *dst);

static inline bool migration_entry_exclusive(struct pte e)
{
	return pte_kind(e) != PTE_MIGRATION_READ;
}

#endif
