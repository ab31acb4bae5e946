// SPDX-License-Identifier: MIT
// The four-level page table of a space: 512 entries a table, a lock a table.
//
// The upper levels only grow. Tables of the PTE level are type-stable within their space: a freed
// one goes to the space's own list and is used again as such a table, so a walker that read a
// pointer to it may still take its lock, and then must look whether it is still the table it
// wanted. The lock functions below do that.
//
// In Linux a table is a page, allocated on behalf of the task that needs it: its policy says from
// which node, and an interleave goes on by one. The bytes of these tables are the host's, but they
// count as such pages (mempolicy_count_table); hence the task in what may make one (NULL: nobody's,
// the default policy). A table of the levels 2 and 3 that Linux would have freed stays, marked
// `away`, and counts anew when it is needed again.
#ifndef GODWIT_VIRT_PAGE_TABLE_H
#define GODWIT_VIRT_PAGE_TABLE_H

#include "base/assert.h"
#include "base/lock.h"
#include "virt/pte.h"

#include <stdatomic.h>

struct space;
struct task;
struct vma;

struct page_table {
	struct mutex lock;		    // rank PAGE_TABLE (letter P)
	unsigned level;			    // 1: entries are pages; 2: PMD; 3, 4: upper
	unsigned nr_used;		    // entries that are not none                    P
	unsigned nid;			    // counts as a page of that node
	atomic_bool away;		    // no mapping is near: Linux would have freed it
	uint64_t base;			    // first address it covers
	struct page_table *next_free;	    // on the space's free list
	_Atomic uint64_t entry[PTRS_PER_TABLE]; // P to write; any thread may read
};

// The table of the PTE level that covers addr, locked; NULL when there is none (no table, or a PMD
// leaf or PMD migration entry is there: look at it with pmd_table_lock).
struct page_table *pte_table_lock(struct space *, struct vaddr addr);
// The same without waiting: -EAGAIN via *ret_busy when somebody holds it.
struct page_table *pte_table_trylock(struct space *, struct vaddr addr, bool *ret_busy);
// Makes the table if the PMD entry is none. NULL and *ret_err = -ENOMEM, or -EEXIST when a PMD leaf
// is there.
struct page_table *pte_table_alloc_lock(struct space *, struct task *, struct vaddr addr,
	int *ret_err);
// The table of the PMD level that covers addr, locked; NULL when none (alloc: -ENOMEM).
struct page_table *pmd_table_lock(struct space *, struct vaddr addr);
struct page_table *pmd_table_alloc_lock(struct space *, struct task *, struct vaddr addr,
	int *ret_err);
void page_table_unlock(struct page_table *);

// The table, locked, is that of addr: one found empty may have gone before it was locked.
bool page_table_is_at(struct space *, const struct page_table *, struct vaddr addr);

// Index of addr in a table of the level.
static inline unsigned pte_index(struct vaddr v)
{
	return (v.a >> PAGE_SHIFT) & (PTRS_PER_TABLE - 1);
}

static inline unsigned pmd_index(struct vaddr v)
{
	return (v.a >> PMD_SHIFT) & (PTRS_PER_TABLE - 1);
}

// Read without the lock (a hint) or under it (exact); write under it, nr_used kept right.
static inline struct pte table_entry(const struct page_table *table, unsigned index)
{
	return (struct pte){atomic_load_explicit(&table->entry[index], memory_order_acquire)};
}

static inline void table_set_entry(struct page_table *table, unsigned index, struct pte entry)
{
	assert_that(mutex_is_held(&table->lock), "entry %u of an unlocked table", index);
	uint64_t old = atomic_load_explicit(&table->entry[index], memory_order_relaxed);

	atomic_store_explicit(&table->entry[index], entry.v, memory_order_release);
	table->nr_used += !pte_none(entry);
	table->nr_used -= old != 0;
}

// A PMD entry that is neither none nor a leaf nor a PMD migration entry points to a PTE table.
struct page_table *pmd_entry_table(struct pte pmd);

// Put a prepared PTE table under a PMD entry, or take it away again; both tables locked by caller.
// Used when a huge page is split or collapsed.
void pmd_install_table(struct page_table *pmd_table, unsigned index, struct page_table *pte_table);
struct page_table *page_table_alloc(struct space *, struct task *, unsigned level,
	struct vaddr base);
void page_table_free(struct space *, struct page_table *);
// Every huge entry of anonymous memory (not of objects, nor of pools) has a table of the PTE level
// laid by, so that it can be split without asking for memory. Deposit when an empty PMD entry
// becomes huge; withdraw when a huge one becomes empty or a table, and put the table there or free
// it. The PMD table is locked.
void page_table_deposit(struct space *, struct page_table *);
struct page_table *page_table_withdraw(struct space *, struct vaddr base);
bool vma_deposits(const struct vma *);
// Free tables that are wholly inside [start,end) and empty. They stay away if mmap_lock is held
// for write and no vma of the range is reachable by rmap any more; else faults may bring new ones.
void page_tables_free_range(struct space *, struct vaddr start, struct vaddr end);
void page_tables_destroy(struct space *);

#endif
