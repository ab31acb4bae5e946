// SPDX-License-Identifier: MIT
// The LRU lists of each node.
//
// States of a folio: on a list (LRU set), isolated (LRU clear, one more reference, on somebody's
// private list), or never added. LRU is cleared by one atomic operation, so exactly one of several
// isolating threads wins; it then takes the LRU lock to unlink. Which list a folio is on follows
// from its flags (ACTIVE, UNEVICTABLE, SWAPBACKED), and these change only under the LRU lock
// while LRU is set, so whoever unlinks it under that lock finds the right list, even if it cleared
// LRU before somebody else moved the folio.
//
// Counters: each list's pages, in the lruvec and in vmstat (nr_inactive_anon..., and the zone's).
#include "phys/lru.h"
#include "base/assert.h"
#include "phys/zone.h"

static void count(struct node *node, enum lru_list lru, long nr)
{
	struct lruvec *lruvec = &node->lru;
	unsigned long old = atomic_load_explicit(&lruvec->nr[lru], memory_order_relaxed);

	atomic_store_explicit(&lruvec->nr[lru], old + (unsigned long)nr, memory_order_relaxed);
	vmstat_add(node->phys->stat, node->nid, VM_NR_INACTIVE_ANON + lru, nr);
}

static enum lru_list list_for(uint32_t flags)
{
	if (flags >> PG_UNEVICTABLE & 1)
		return LRU_UNEVICTABLE;
	return (flags >> PG_SWAPBACKED & 1 ? LRU_INACTIVE_ANON : LRU_INACTIVE_FILE) +
	       (flags >> PG_ACTIVE & 1);
}

enum lru_list folio_lru_list(const struct folio *folio)
{
	return list_for(frame_flags(&folio->page));
}

static void list_folio(struct node *node, struct folio *folio, bool to_tail)
	REQUIRES(&node->lru.lock)
{
	enum lru_list lru = folio_lru_list(folio);

	if (to_tail)
		frame_list_add_tail(&node->lru.list[lru], &folio->page);
	else
		frame_list_add(&node->lru.list[lru], &folio->page);
	count(node, lru, (long)folio_nr(folio));
}

static void unlist_folio(struct node *node, struct folio *folio) REQUIRES(&node->lru.lock)
{
	enum lru_list lru = folio_lru_list(folio);

	frame_list_del(&node->lru.list[lru], &folio->page);
	count(node, lru, -(long)folio_nr(folio));
}

// Locked memory belongs on the unevictable list, and nothing else does.
static void settle_evictable(struct node *node, struct folio *folio)
{
	struct vmstat *stat = node->phys->stat;
	bool was = folio_test_unevictable(folio);

	if (folio_test_mlocked(folio)) {
		folio_clear_active(folio);
		folio_set_unevictable(folio);
		if (!was)
			vm_events(stat, VM_UNEVICTABLE_PGS_CULLED, (long)folio_nr(folio));
	} else if (was) {
		folio_clear_unevictable(folio);
		vm_events(stat, VM_UNEVICTABLE_PGS_RESCUED, (long)folio_nr(folio));
	}
}

static void add_new(struct node *node, struct folio *folio) REQUIRES(&node->lru.lock)
{
	assert_that(!folio_test_lru(folio), "pfn %#lx is on an LRU list already",
		(unsigned long)folio_pfn(folio).n);
	settle_evictable(node, folio);
	list_folio(node, folio, false);
	folio_set_lru(folio);
}

void folio_add_lru(struct folio *folio)
{
	struct node *node = folio_node(folio);

	mutex_lock(&node->lru.lock);
	add_new(node, folio);
	mutex_unlock(&node->lru.lock);
}

// The folios at the head of the list that are of this node; counted once for each LRU list.
static void add_run(struct node *node, struct folio_list *list) REQUIRES(&node->lru.lock)
{
	long nr[NR_LRU_LISTS] = {0};
	struct folio *folio = folio_list_first(list);

	do {
		assert_that(!folio_test_lru(folio), "pfn %#lx is on an LRU list already",
			(unsigned long)folio_pfn(folio).n);
		folio_list_del(list, folio);
		settle_evictable(node, folio);
		enum lru_list lru = folio_lru_list(folio);
		frame_list_add(&node->lru.list[lru], &folio->page);
		nr[lru] += (long)folio_nr(folio);
		folio_set_lru(folio);
		folio = folio_list_first(list);
	} while (folio && folio_node(folio) == node);
	for (unsigned lru = 0; lru < NR_LRU_LISTS; lru++)
		if (nr[lru])
			count(node, lru, nr[lru]);
}

void folio_add_lru_many(struct folio_list *list)
{
	struct folio *folio;

	while ((folio = folio_list_first(list))) {
		struct node *node = folio_node(folio);

		mutex_lock(&node->lru.lock);
		add_run(node, list);
		mutex_unlock(&node->lru.lock);
	}
}

void lru_filing_end(struct lru_filing *f) NO_THREAD_SAFETY_ANALYSIS
{
	if (!f->node)
		return;
	for (unsigned lru = 0; lru < NR_LRU_LISTS; lru++)
		if (f->nr[lru])
			count(f->node, lru, f->nr[lru]);
	mutex_unlock(&f->node->lru.lock);
	*f = (struct lru_filing){0};
	sched_point();
}

// Who sleeps for the lock is woken as by folio_unlock().
static void unlock_with(struct folio *folio, uint32_t flags)
{
	const uint32_t gone = 1u << PG_LOCKED | 1u << PG_WAITERS;
	uint32_t old = frame_flags(&folio->page);

	lock_rank_released(RANK_FOLIO, folio);
	while (!atomic_compare_exchange_weak_explicit(&folio->page.flags, &old,
		(old & ~gone) | flags, memory_order_acq_rel, memory_order_acquire))
		;
	assert_that(old >> PG_LOCKED & 1, "pfn %#lx is not locked",
		(unsigned long)folio_pfn(folio).n);
	assert_that(!(old >> PG_LRU & 1), "pfn %#lx is on an LRU list already",
		(unsigned long)folio_pfn(folio).n);
	if (unlikely(old >> PG_WAITERS & 1))
		wake_all(&folio->page);
}

void lru_file_and_unlock(struct lru_filing *f, struct folio *folio, uint32_t flags)
	NO_THREAD_SAFETY_ANALYSIS
{
	struct node *node = folio_node(folio);
	enum lru_list lru = list_for(flags);

	if (node != f->node) {
		lru_filing_end(f);
		mutex_lock(&node->lru.lock);
		f->node = node;
	}
	frame_list_add(&node->lru.list[lru], &folio->page);
	f->nr[lru] += (long)folio_nr(folio);
	unlock_with(folio, flags | 1u << PG_LRU);
}

static bool set_mlocked(struct folio *folio)
{
	struct vmstat *stat = folio_phys(folio)->stat;
	long nr = (long)folio_nr(folio);

	if (folio_test_set_mlocked(folio))
		return false;
	vmstat_add(stat, folio_nid(folio), VM_NR_MLOCK, nr);
	vm_events(stat, VM_UNEVICTABLE_PGS_MLOCKED, nr);
	return true;
}

void folio_add_lru_mlocked(struct folio *folio)
{
	set_mlocked(folio);
	folio_add_lru(folio);
}

bool folio_isolate_lru(struct folio *folio)
{
	struct node *node = folio_node(folio);

	if (!folio_test_clear_lru(folio))
		return false;
	folio_get(folio);
	mutex_lock(&node->lru.lock);
	unlist_folio(node, folio);
	mutex_unlock(&node->lru.lock);
	return true;
}

bool folio_isolate_lru_begin(struct folio *folio)
{
	if (!folio_test_clear_lru(folio))
		return false;
	folio_get(folio);
	return true;
}

static void unlist_run(struct node *node, struct folio **folios, unsigned nr_folios,
	struct folio_list *to, long isolated[2]) REQUIRES(&node->lru.lock)
{
	long nr[NR_LRU_LISTS] = {0};

	for (unsigned i = 0; i < nr_folios; i++) {
		struct folio *folio = folios[i];
		enum lru_list lru = folio_lru_list(folio);

		frame_list_del(&node->lru.list[lru], &folio->page);
		folio_list_add_tail(to, folio);
		nr[lru] -= (long)folio_nr(folio);
		isolated[folio_is_file_lru(folio)] += (long)folio_nr(folio);
	}
	for (unsigned lru = 0; lru < NR_LRU_LISTS; lru++)
		if (nr[lru])
			count(node, lru, nr[lru]);
}

void folio_isolate_lru_end(struct folio **folios, unsigned nr, struct folio_list *list)
{
	struct node *node = nr ? folio_node(folios[0]) : NULL;
	long isolated[2] = {0};

	if (!nr)
		return;
	mutex_lock(&node->lru.lock);
	unlist_run(node, folios, nr, list, isolated);
	mutex_unlock(&node->lru.lock);
	for (int file = 0; file < 2; file++)
		if (isolated[file])
			node_add_isolated(node->phys, node->nid, file, isolated[file]);
}

unsigned long node_isolate_lru(struct node *node, enum lru_list lru, unsigned max_folios,
	bool (*want)(struct folio *folio, void *arg), void *arg, struct folio_list *list)
{
	unsigned long pages = 0;
	struct frame *prev;

	mutex_lock(&node->lru.lock);
	for (struct frame *at = frame_list_last(&node->lru.list[lru]); at && max_folios;
		at = prev) {
		struct folio *folio = (struct folio *)at;
		prev = frame_list_prev(at);
		if ((want && !want(folio, arg)) || !folio_try_get(folio))
			continue;
		if (!folio_test_clear_lru(folio)) {
			// Who isolates it waits for our lock, with a reference: this is not the
			// last.
			folio_put(folio);
			continue;
		}
		unlist_folio(node, folio);
		folio_list_add_tail(list, folio);
		pages += folio_nr(folio);
		max_folios--;
	}
	mutex_unlock(&node->lru.lock);
	return pages;
}

void folio_putback_lru(struct folio *folio)
{
	folio_add_lru(folio);
	folio_put(folio);
}

void node_add_isolated(struct phys *phys, unsigned nid, bool file, long pages)
{
	vmstat_add(phys->stat, nid, file ? VM_NR_ISOLATED_FILE : VM_NR_ISOLATED_ANON, pages);
}

void folio_count_isolated(const struct folio *folio)
{
	node_add_isolated(folio_phys(folio), folio_nid(folio), folio_is_file_lru(folio),
		(long)folio_nr(folio));
}

void folio_uncount_isolated(const struct folio *folio)
{
	node_add_isolated(folio_phys(folio), folio_nid(folio), folio_is_file_lru(folio),
		-(long)folio_nr(folio));
}

void folio_mark_accessed(struct folio *folio)
{
	if (!folio_test_referenced(folio)) {
		folio_set_referenced(folio);
	} else if (!folio_test_unevictable(folio) && !folio_test_active(folio)) {
		folio_activate(folio);
		folio_clear_referenced(folio);
	}
	if (folio_test_idle(folio))
		folio_clear_idle(folio);
}

void folio_activate(struct folio *folio)
{
	struct node *node = folio_node(folio);

	mutex_lock(&node->lru.lock);
	if (folio_test_lru(folio) && !folio_test_active(folio) && !folio_test_unevictable(folio)) {
		unlist_folio(node, folio);
		folio_set_active(folio);
		list_folio(node, folio, false);
		vm_events(node->phys->stat, VM_PGACTIVATE, (long)folio_nr(folio));
	}
	mutex_unlock(&node->lru.lock);
}

void folio_deactivate(struct folio *folio)
{
	struct node *node = folio_node(folio);

	mutex_lock(&node->lru.lock);
	if (folio_test_lru(folio) && folio_test_active(folio)) {
		unlist_folio(node, folio);
		folio_clear_active(folio);
		folio_clear_referenced(folio);
		folio_set_workingset(folio);
		list_folio(node, folio, false);
		vm_events(node->phys->stat, VM_PGDEACTIVATE, (long)folio_nr(folio));
	}
	mutex_unlock(&node->lru.lock);
}

void folio_mark_lazyfree(struct folio *folio)
{
	struct node *node = folio_node(folio);

	mutex_lock(&node->lru.lock);
	if (folio_test_lru(folio) && folio_test_anon(folio) && folio_test_swapbacked(folio) &&
		!folio_test_unevictable(folio)) {
		unlist_folio(node, folio);
		folio_clear_active(folio);
		folio_clear_referenced(folio);
		folio_clear_swapbacked(folio);
		list_folio(node, folio, false);
		vm_events(node->phys->stat, VM_PGLAZYFREE, (long)folio_nr(folio));
	}
	mutex_unlock(&node->lru.lock);
}

void folio_rotate(struct folio *folio)
{
	struct node *node = folio_node(folio);

	mutex_lock(&node->lru.lock);
	if (folio_test_lru(folio) && !folio_test_unevictable(folio)) {
		unlist_folio(node, folio);
		folio_clear_active(folio);
		list_folio(node, folio, true);
		vm_events(node->phys->stat, VM_PGROTATED, (long)folio_nr(folio));
	}
	mutex_unlock(&node->lru.lock);
}

// A folio on a list whose MLOCKED changed goes where it belongs now.
static void relist(struct folio *folio)
{
	struct node *node = folio_node(folio);

	mutex_lock(&node->lru.lock);
	if (folio_test_lru(folio)) {
		unlist_folio(node, folio);
		settle_evictable(node, folio);
		list_folio(node, folio, false);
	}
	mutex_unlock(&node->lru.lock);
}

void folio_mlock(struct folio *folio)
{
	if (set_mlocked(folio))
		relist(folio);
}

void folio_munlock(struct folio *folio)
{
	struct vmstat *stat = folio_phys(folio)->stat;
	long nr = (long)folio_nr(folio);

	if (!folio_test_clear_mlocked(folio))
		return;
	vmstat_add(stat, folio_nid(folio), VM_NR_MLOCK, -nr);
	vm_events(stat, VM_UNEVICTABLE_PGS_MUNLOCKED, nr);
	relist(folio);
}

void folio_add_split_tails(
	struct folio *head, struct folio **tails, unsigned nr, struct folio_list *list)
{
	struct node *node = folio_node(head);
	struct frame *after = &head->page;

	if (list) {
		for (unsigned i = 0; i < nr; i++)
			folio_list_add_tail(list, tails[i]);
		return;
	}
	mutex_lock(&node->lru.lock);
	for (unsigned i = 0; i < nr; i++) {
		if (!folio_test_lru(head)) {
			add_new(node, tails[i]);
			continue;
		}
		// The list counts these pages already: they were the head's.
		frame_list_insert_after(
			&node->lru.list[folio_lru_list(head)], after, &tails[i]->page);
		after = &tails[i]->page;
		folio_set_lru(tails[i]);
	}
	mutex_unlock(&node->lru.lock);
}

void folio_release_lru(struct folio *folio)
{
	struct node *node = folio_node(folio);
	long nr = (long)folio_nr(folio);

	if (folio_test_lru(folio)) {
		mutex_lock(&node->lru.lock);
		folio_clear_lru(folio);
		unlist_folio(node, folio);
		mutex_unlock(&node->lru.lock);
	}
	if (unlikely(folio_test_mlocked(folio))) {
		vmstat_add(node->phys->stat, node->nid, VM_NR_MLOCK, -nr);
		vm_events(node->phys->stat, VM_UNEVICTABLE_PGS_CLEARED, nr);
	}
}

const char *lru_list_name(enum lru_list lru)
{
	static const char *const names[] = {
		"inactive_anon", "active_anon", "inactive_file", "active_file", "unevictable"};

	return names[lru];
}
