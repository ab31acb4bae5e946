// SPDX-License-Identifier: MIT
// The four-level page table of a space.
//
// Interface: virt/page_table.h. A walk reads upper entries without any lock: tables of the levels
// 4, 3 and 2 are only ever added while the space lives. A table of level 1 may go away (its range
// was unmapped, or a huge page takes its place), so whoever took its lock looks again whether the
// PMD entry still leads to it; whoever takes it away holds both its lock and that of the PMD
// table. A table that went away is a table of the PTE level of the same space for ever
// (free_tables), so the lock that a late walker takes is always the lock of such a table.
//
// States of a PMD entry: none -> table -> none, none -> leaf -> none, leaf <-> table (split and
// collapse, by pmd_install_table and under the PMD table's lock), leaf <-> PMD migration entry.
//
// Locks: one a table, rank PAGE_TABLE. A table's lock is taken under that of its parent, never the
// other way; two tables of one level in the order of their addresses (of the structs).
//
// What can fail: the allocation of a table, -ENOMEM, with nothing changed but perhaps upper tables.
#include "virt/page_table.h"

#include "base/assert.h"
#include "base/meta.h"
#include "base/vmstat.h"
#include "virt/mempolicy.h"
#include "virt/mm.h"
#include "virt/space.h"

#include <errno.h>
#include <stdatomic.h>

#define TOP_LEVEL 4
#define PTE_TABLE_SHIFT 10 // an aligned pointer's low 6 bits are 0; its rest lies above bit 16

static unsigned level_shift(unsigned level)
{
	return PAGE_SHIFT + 9 * (level - 1);
}

static unsigned level_index(unsigned level, struct vaddr addr)
{
	return addr.a >> level_shift(level) & (PTRS_PER_TABLE - 1);
}

// First address of the table of that level that covers addr.
static struct vaddr level_base(unsigned level, struct vaddr addr)
{
	return vaddr_of(ALIGN_DOWN(addr.a, 1ull << level_shift(level + 1)));
}

struct page_table *pmd_entry_table(struct pte entry)
{
	if (!(entry.v & PTE_TABLE))
		return NULL;
	return (struct page_table *)(uintptr_t)((entry.v & ~(uint64_t)0xffff) >> PTE_TABLE_SHIFT);
}

static struct pte table_pointer(const struct page_table *table)
{
	return (struct pte){(uint64_t)(uintptr_t)table << PTE_TABLE_SHIFT | PTE_TABLE};
}

void pmd_install_table(struct page_table *pmd_table, unsigned index, struct page_table *pte_table)
{
	assert_that(pmd_table->level == 2, "level %u", pmd_table->level);
	table_set_entry(pmd_table, index, pte_table ? table_pointer(pte_table) : (struct pte){0});
}

// ---- Tables

static struct page_table *free_table_take(struct space *space)
{
	mutex_lock_nested(&space->tables_lock);
	struct page_table *table = space->free_tables;
	if (table)
		space->free_tables = table->next_free;
	mutex_unlock(&space->tables_lock);
	return table;
}

// The root of a space counts nowhere, as in Linux.
static void count(struct space *space, struct task *task, struct page_table *table)
{
	if (table->level == TOP_LEVEL)
		return;
	table->nid = mempolicy_count_table(space->mm, task);
	vmstat_add(space->mm->stat, table->nid, VM_NR_PAGE_TABLE_PAGES, 1);
}

static void uncount(struct space *space, const struct page_table *table)
{
	if (table->level < TOP_LEVEL)
		vmstat_add(space->mm->stat, table->nid, VM_NR_PAGE_TABLE_PAGES, -1);
}

struct page_table *page_table_alloc(struct space *space, struct task *task, unsigned level,
	struct vaddr base)
{
	struct page_table *table = level == 1 ? free_table_take(space) : NULL;

	if (!table) {
		table = meta_new(struct page_table);
		if (!table)
			return NULL;
		mutex_init(&table->lock, RANK_PAGE_TABLE);
	}
	table->level = level;
	table->base = level_base(level, base).a;
	table->next_free = NULL;
	count(space, task, table);
	return table;
}

static void release(struct page_table *table)
{
	mutex_destroy(&table->lock);
	meta_delete(table);
}

void page_table_free(struct space *space, struct page_table *table)
{
	assert_that(table->nr_used == 0, "table of %#lx has %u entries",
		(unsigned long)table->base, table->nr_used);
	uncount(space, table);
	if (table->level > 1) { // nobody has ever seen it
		release(table);
		return;
	}
	mutex_lock_nested(&space->tables_lock);
	table->next_free = space->free_tables;
	space->free_tables = table;
	mutex_unlock(&space->tables_lock);
}

// ---- Tables laid by

bool vma_deposits(const struct vma *vma)
{
	return !vma->object && !(vma->flags & VM_HUGETLB);
}

void page_table_deposit(struct space *space, struct page_table *table)
{
	assert_that(table->nr_used == 0 && table->level == 1, "a table in use is laid by");
	mutex_lock_nested(&space->tables_lock);
	table->next_free = space->deposited;
	space->deposited = table;
	space->nr_deposited++;
	mutex_unlock(&space->tables_lock);
}

// Free tables are alike: which one was laid by for whom does not matter.
struct page_table *page_table_withdraw(struct space *space, struct vaddr base)
{
	mutex_lock_nested(&space->tables_lock);
	struct page_table *table = space->deposited;
	assert_that(table, "no table was laid by for %#lx", (unsigned long)base.a);
	space->deposited = table->next_free;
	space->nr_deposited--;
	mutex_unlock(&space->tables_lock);
	table->base = level_base(1, base).a;
	table->next_free = NULL;
	return table;
}

// ---- Walks

// The table of the level that covers addr, or the level (> it) at which the way ends.
static struct page_table *find_table(struct space *space, struct vaddr addr, unsigned level,
	unsigned *ret_end)
{
	struct page_table *table = space->pgd;

	for (unsigned l = TOP_LEVEL; l > level; l--) {
		table = pmd_entry_table(table_entry(table, level_index(l, addr)));
		if (!table) {
			*ret_end = l;
			return NULL;
		}
	}
	return table;
}

static struct page_table *find_pmd_table(struct space *space, struct vaddr addr)
{
	unsigned end;

	return find_table(space, addr, 2, &end);
}

// Fill an empty entry of an upper table (or find that somebody just did).
static struct page_table *add_table(struct space *space, struct task *task,
	struct page_table *upper, struct vaddr addr)
{
	struct page_table *table = page_table_alloc(space, task, upper->level - 1, addr);

	if (!table)
		return NULL;
	mutex_lock_nested(&upper->lock);
	unsigned index = level_index(upper->level, addr);
	struct page_table *there = pmd_entry_table(table_entry(upper, index));
	if (!there)
		table_set_entry(upper, index, table_pointer(table));
	mutex_unlock(&upper->lock);
	if (!there)
		return table;
	page_table_free(space, table);
	return there;
}

// It is wanted again if it was away.
static void come_back(struct space *space, struct task *task, struct page_table *table)
{
	if (atomic_load_explicit(&table->away, memory_order_relaxed) &&
		atomic_exchange(&table->away, false))
		count(space, task, table);
}

static struct page_table *make_pmd_table(struct space *space, struct task *task,
	struct vaddr addr)
{
	struct page_table *table = space->pgd;

	for (unsigned l = TOP_LEVEL; table && l > 2; l--) {
		struct page_table *next = pmd_entry_table(table_entry(table, level_index(l, addr)));
		if (next)
			come_back(space, task, next);
		table = next ? next : add_table(space, task, table, addr);
	}
	return table;
}

// ---- Locked tables

struct page_table *pmd_table_lock(struct space *space, struct vaddr addr)
	NO_THREAD_SAFETY_ANALYSIS
{
	struct page_table *table = find_pmd_table(space, addr);

	if (table)
		mutex_lock(&table->lock);
	return table;
}

struct page_table *pmd_table_alloc_lock(struct space *space, struct task *task,
	struct vaddr addr, int *ret_err) NO_THREAD_SAFETY_ANALYSIS
{
	struct page_table *table = make_pmd_table(space, task, addr);

	if (table)
		mutex_lock(&table->lock);
	else
		*ret_err = -ENOMEM;
	return table;
}

// Take the lock of the table a PMD entry leads to; NULL with *ret_retry false when it leads to
// none, with true when that changed meanwhile.
static struct page_table *lock_if_still_there(struct page_table *pmd_table, unsigned index,
	bool *ret_retry) NO_THREAD_SAFETY_ANALYSIS
{
	struct page_table *table = pmd_entry_table(table_entry(pmd_table, index));

	*ret_retry = false;
	if (!table)
		return NULL;
	mutex_lock(&table->lock);
	if (pmd_entry_table(table_entry(pmd_table, index)) == table)
		return table;
	mutex_unlock(&table->lock);
	*ret_retry = true;
	return NULL;
}

bool page_table_is_at(struct space *space, const struct page_table *table, struct vaddr addr)
{
	const struct page_table *pmd_table = find_pmd_table(space, addr);

	return pmd_table && pmd_entry_table(table_entry(pmd_table, pmd_index(addr))) == table;
}

struct page_table *pte_table_lock(struct space *space, struct vaddr addr)
{
	struct page_table *pmd_table = find_pmd_table(space, addr), *table = NULL;
	bool retry = pmd_table;

	while (!table && retry)
		table = lock_if_still_there(pmd_table, pmd_index(addr), &retry);
	return table;
}

struct page_table *pte_table_trylock(struct space *space, struct vaddr addr, bool *ret_busy)
	NO_THREAD_SAFETY_ANALYSIS
{
	struct page_table *pmd_table = find_pmd_table(space, addr);

	*ret_busy = false;
	if (!pmd_table)
		return NULL;
	struct page_table *table = pmd_entry_table(table_entry(pmd_table, pmd_index(addr)));
	if (!table)
		return NULL;
	if (mutex_trylock(&table->lock)) {
		if (pmd_entry_table(table_entry(pmd_table, pmd_index(addr))) == table)
			return table;
		mutex_unlock(&table->lock);
	}
	*ret_busy = true;
	return NULL;
}

// Put a fresh PTE table under an empty PMD entry. 0 also when the entry is not empty any more.
static int fill_pmd_entry(struct space *space, struct task *task, struct page_table *pmd_table,
	struct vaddr addr)
{
	struct page_table *table = page_table_alloc(space, task, 1, addr);

	if (!table)
		return -ENOMEM;
	mutex_lock(&pmd_table->lock);
	bool empty = pte_none(table_entry(pmd_table, pmd_index(addr)));
	if (empty)
		pmd_install_table(pmd_table, pmd_index(addr), table);
	mutex_unlock(&pmd_table->lock);
	if (!empty)
		page_table_free(space, table);
	return 0;
}

struct page_table *pte_table_alloc_lock(struct space *space, struct task *task,
	struct vaddr addr, int *ret_err)
{
	struct page_table *pmd_table = make_pmd_table(space, task, addr);
	int err = pmd_table ? 0 : -ENOMEM;

	while (!err) {
		bool retry;
		struct page_table *table =
			lock_if_still_there(pmd_table, pmd_index(addr), &retry);
		if (table)
			return table;
		if (retry)
			continue;
		if (pte_huge(table_entry(pmd_table, pmd_index(addr))))
			err = -EEXIST;
		else
			err = fill_pmd_entry(space, task, pmd_table, addr);
	}
	*ret_err = err;
	return NULL;
}

void page_table_unlock(struct page_table *table) NO_THREAD_SAFETY_ANALYSIS
{
	mutex_unlock(&table->lock);
}

// ---- The end of tables

static void free_if_empty(struct space *space, struct page_table *pmd_table, unsigned index)
{
	bool empty = false;

	mutex_lock(&pmd_table->lock);
	struct page_table *table = pmd_entry_table(table_entry(pmd_table, index));
	if (table) {
		mutex_lock_nested(&table->lock);
		empty = table->nr_used == 0;
		if (empty)
			pmd_install_table(pmd_table, index, NULL);
		mutex_unlock(&table->lock);
	}
	mutex_unlock(&pmd_table->lock);
	if (empty)
		page_table_free(space, table);
}

// Nothing is mapped in the range of an upper table, and nothing below it is in use.
static void go_away(struct space *space, struct page_table *table)
{
	if (!atomic_exchange(&table->away, true))
		uncount(space, table);
}

// Below one of the upper levels (4, 3) or of the PMD level.
static void free_below(struct space *space, struct page_table *upper, uint64_t start, uint64_t end)
{
	uint64_t size = 1ull << level_shift(upper->level);
	unsigned i = start > upper->base ? (unsigned)((start - upper->base) / size) : 0;

	for (; i < PTRS_PER_TABLE && upper->base + i * size < end; i++) {
		uint64_t base = upper->base + i * size;
		bool inside = base >= start && base + size <= end;
		struct page_table *below = pmd_entry_table(table_entry(upper, i));

		if (!below || (upper->level > 2 && atomic_load(&below->away)))
			continue;
		if (upper->level == 2 && inside)
			free_if_empty(space, upper, i);
		if (upper->level == 2)
			continue;
		free_below(space, below, start, end);
		if (inside)
			go_away(space, below);
	}
}

void page_tables_free_range(struct space *space, struct vaddr start, struct vaddr end)
{
	free_below(space, space->pgd, start.a, end.a);
}

static void destroy_table(struct space *space, struct page_table *table)
{
	for (unsigned i = 0; table->level > 1 && i < PTRS_PER_TABLE; i++) {
		struct page_table *below = pmd_entry_table(table_entry(table, i));
		if (below)
			destroy_table(space, below);
	}
	if (!atomic_load(&table->away))
		uncount(space, table);
	release(table);
}

void page_tables_destroy(struct space *space)
{
	struct page_table *table;

	if (space->pgd)
		destroy_table(space, space->pgd);
	space->pgd = NULL;
	while ((table = space->free_tables)) {
		space->free_tables = table->next_free;
		release(table);
	}
	while ((table = space->deposited)) { // none, but for huge entries that a test made by hand
		space->deposited = table->next_free;
		uncount(space, table);
		release(table);
	}
}
