// SPDX-License-Identifier: MIT
// Runs: neighbouring small folios that one vma maps, unmapped and remapped together.
//
//   run_unmap()   as slot_unmap(), for the first slots of a row; how many it could take
//   run_remap()   as slot_remap() to the targets, and the targets are given up too
//
// This is how nearly all memory looks, and what a page costs here is what a move costs beside its
// copy: not the instructions, but the atomic ones. So within a run each is left out that the locks
// held make needless; everything else is as in unmap.c and remap.c, which also take whatever is not
// plain here: shared, locked into memory, pinned, damaged, watched by a notifier, KSM.
//
// What is left out, and why that is safe while the folio's lock and the lock of the only table that
// maps it are held:
//  - The mapcount of an anonymous folio that is mapped once goes to 0 by a store. Only fork() could
//    add a mapping, under the same table's lock. The target's goes from 0 to 1 likewise.
//  - The reference of the dropped mapping is kept (slot->kept). It is given up where the count is
//    frozen anyway (move.c), or after an undo.
//  - The exclusive mark stays on a source that is to be freed, and goes over to the target with the
//    other flags. The entry still decides: where fork() made it plain the mark is taken away.
//  - The target's first reference becomes that of its mapping. The table's lock keeps that mapping
//    until the target is unlocked.
//  - An anonymous target gets its flags, joins the LRU and is unlocked in one step, when its entry
//    is in place: nobody can have found it earlier but by its frame, and that looks for LRU first.
//
// Locks: as for slot_unmap(); the mapper holds the rmap lock and the table. Nothing here fails.
#include "base/trace.h"
#include "machine/clock.h"
#include "migrate/batch.h"
#include "phys/lru.h"
#include "phys/zone.h"
#include "virt/object.h"
#include "virt/space.h"

// Pages of one node whose mappings came or went, to be counted together.
struct tally {
	struct folio *of;
	long pages;
};

static void tally_flush(struct tally *t)
{
	if (t->pages)
		rmap_count_mapped(t->of, t->pages);
	t->pages = 0;
}

static void tally_add(struct tally *t, struct folio *folio, long pages)
{
	if (t->pages && folio_nid(t->of) != folio_nid(folio))
		tally_flush(t);
	t->of = folio;
	t->pages += pages;
}

// Slots at s that continue each other's mapping, within one table: at most n.
static unsigned row_length(const struct slot *s, unsigned n, unsigned index, bool targets)
{
	unsigned most = min(n, PTRS_PER_TABLE - index), nr = 1;
	const struct folio *first = targets ? s->dst : s->src;
	uint32_t mapping = folio_mapping_raw(first);
	uint64_t offset = folio_index(first);

	for (; nr < most; nr++) {
		const struct folio *folio = targets ? s[nr].dst : s[nr].src;

		if (folio_mapping_raw(folio) != mapping || folio_index(folio) != offset + nr)
			break;
	}
	return nr;
}

// The address of the folio in the only vma that can map it; NULL when that is not plain.
static struct vma *only_place(struct mapper *m, struct folio *folio, uint64_t *ret_addr)
{
	struct vma *vma = mapper_sole_vma(m, folio);

	if (!vma || vma_address(vma, folio_index(folio), ret_addr))
		return NULL;
	return vma;
}

// ---- Unmapping

bool slot_suits_run(const struct slot *s)
{
	const struct folio *src = s->src;
	const uint32_t odd = 1u << PG_MLOCKED | 1u << PG_HWPOISON | 1u << PG_PRIVATE |
			     1u << PG_HEAD | 1u << PG_HUGETLB;
	struct object *object = folio_object(src);

	return !(frame_flags(&src->page) & odd) && folio_mapcount(src) == 1 &&
	       (folio_test_anon(src) ? !folio_test_ksm(src) : object && object->ops->migrate_plain);
}

static void drop_mapping(struct slot *s, bool dirty)
{
	struct folio *src = s->src;

	if (dirty && !folio_test_dirty(src))
		folio_mark_dirty(src);
	if (folio_test_anon(src))
		atomic_store_explicit(&src->page.mapcount, 0, memory_order_release);
	else
		(void)folio_unmap_pages(src, 0, 1);
	s->kept = true;
	s->was_mapped = true;
	s->tentative = true;
}

static bool is_plain(const struct vma *vma, struct pte e, const struct slot *s)
{
	return pte_present(e) && !pte_zero_page(e) && !pte_huge(e) &&
	       pte_pfn(e).n == folio_pfn(s->src).n && vma_pte_prot(vma, e) != MMU_NONE &&
	       slot_suits_run(s) && !folio_maybe_pinned(s->src);
}

static unsigned unmap_row(struct mapper *m, struct vma *vma, uint64_t addr, struct slot *s,
	unsigned nr)
{
	struct page_table *table = mapper_table(m, vma->space, addr);
	unsigned index = pte_index(vaddr_of(addr)), i = 0;
	struct trace_ring *trace = m->batch->mc->mm->trace;
	struct tally tally = {0};

	for (; table && i < nr; i++, addr += PAGE_SIZE) {
		struct pte old = table_entry(table, index + i), new;

		if (!is_plain(vma, old, &s[i]))
			break;
		new = migration_entry_make(old, frame_test_anon_exclusive(&s[i].src->page));
		table_set_entry(table, index + i, new);
		gather_block(m->now, vma_host(vma, addr), pte_pfn(old), 1, false);
		trace_event(trace, set_migration_pte, .addr = addr, .pte = new.v, .order = 0);
		drop_mapping(&s[i], old.v & PTE_DIRTY);
		tally_add(&tally, s[i].src, -1);
	}
	tally_flush(&tally);
	return i;
}

unsigned run_unmap(struct mapper *m, struct slot *s, unsigned n)
{
	struct batch *b = m->batch;
	struct mm_core *mm = b->mc->mm;
	uint64_t addr, now = b->blocked_at;
	struct vma *vma = only_place(m, s->src, &addr);
	struct mm_invalidation inv;
	unsigned nr = 0;

	if (!vma)
		return 0;
	if (!now)
		now = clock_now_ns(mm->clock);
	n = row_length(s, n, pte_index(vaddr_of(addr)), false);
	if (!mm_notify_begin(&inv, vma->space, addr, addr + n * PAGE_SIZE, MM_INVALIDATE_MIGRATE))
		nr = unmap_row(m, vma, addr, s, n);
	mm_notify_end(&inv); // who was to be told will be, of each page
	b->blocked_pages += nr;
	if (nr)
		b->blocked_at = now;
	return nr;
}

// ---- Remapping

// Without the flags of a target that is filed later: its source still has them.
static struct pte new_entry(const struct vma *vma, const struct slot *s, struct pte old)
{
	const struct folio *flags = s->filing ? s->src : s->dst;
	struct pte new = migration_entry_restore(old, folio_pfn(s->dst), flags);

	return vma->flags & VM_WRITE ? new : pte_clear(new, PTE_WRITE);
}

static void add_mapping(struct slot *s, bool exclusive)
{
	struct frame *frame = &s->dst->page;

	s->placed = true;
	s->exclusive = exclusive;
	if (!folio_test_anon(s->dst)) {
		(void)folio_map_pages(s->dst, 0, 1);
		return;
	}
	if (!s->filing && exclusive != frame_test_anon_exclusive(frame)) {
		if (exclusive)
			frame_set_anon_exclusive(frame);
		else
			frame_clear_anon_exclusive(frame);
	}
	atomic_store_explicit(&frame->mapcount, 1, memory_order_release);
}

static void remap_one(struct mapper *m, struct vma *vma, uint64_t addr, struct page_table *table,
	struct slot *s)
{
	unsigned index = pte_index(vaddr_of(addr));
	struct pte old = table_entry(table, index), new = new_entry(vma, s, old);

	add_mapping(s, migration_entry_exclusive(old));
	table_set_entry(table, index, new);
	mapper_map(m, vma_host(vma, addr), pte_pfn(new), 1, vma_pte_prot(vma, new));
	trace_event(m->batch->mc->mm->trace, remove_migration_pte, .addr = addr, .pte = new.v,
		.order = 0);
}

// Targets with a mapping: it has the reference, and cannot go yet. Those that nothing maps in the
// end keep reference and lock for finish().
static void file_row(struct slot *s, unsigned nr)
{
	const uint32_t exclusive = 1u << PG_ANON_EXCLUSIVE;
	struct lru_filing filing = {0};

	for (struct slot *end = s + nr; s < end; s++) {
		if (!s->placed)
			continue;
		if (s->filing) {
			lru_file_and_unlock(&filing, s->dst,
				(folio_migrated_flags(s->src) & ~exclusive) |
					(s->exclusive ? exclusive : 0));
		} else {
			lru_filing_end(&filing);
			folio_unlock(s->dst);
		}
		s->filing = false;
		s->dst = NULL;
	}
	lru_filing_end(&filing);
}

// false: the vma is being locked, which is seen under the table's lock only.
static bool remap_row(struct mapper *m, struct vma *vma, uint64_t addr, struct slot *s, unsigned nr)
{
	struct page_table *table = mapper_table(m, vma->space, addr);
	unsigned index = pte_index(vaddr_of(addr));
	struct tally tally = {0};

	if (vma->flags & VM_LOCKED)
		return false;
	for (unsigned i = 0; table && i < nr; i++, addr += PAGE_SIZE) {
		struct pte e = table_entry(table, index + i);

		if (!pte_migration(e) || pte_huge(e) || pte_pfn(e).n != folio_pfn(s[i].src).n)
			continue;
		remap_one(m, vma, addr, table, &s[i]);
		tally_add(&tally, s[i].dst, 1);
	}
	tally_flush(&tally);
	file_row(s, nr);
	for (unsigned i = 0; i < nr; i++)
		slot_file(&s[i]);
	return true;
}

unsigned run_remap(struct mapper *m, struct slot *s, unsigned n)
{
	uint64_t addr;
	struct vma *vma = only_place(m, s->dst, &addr);
	unsigned nr;

	if (!vma)
		return 0;
	nr = row_length(s, n, pte_index(vaddr_of(addr)), true);
	return remap_row(m, vma, addr, s, nr) ? nr : 0;
}
