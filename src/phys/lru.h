// SPDX-License-Identifier: MIT
// The LRU lists of a node: inactive and active, anon and file, and the unevictable one.
//
// There is no per-cpu cache in front of the lists: a folio is on its list when folio_add_lru()
// returns, so isolation never fails because of a cached folio, and nothing needs draining.
//
// Isolation has no flag: LRU clear, one more reference, and on the isolating thread's list.
#ifndef GODWIT_PHYS_LRU_H
#define GODWIT_PHYS_LRU_H

#include "base/lock.h"
#include "phys/folio.h"

enum lru_list {
	LRU_INACTIVE_ANON,
	LRU_ACTIVE_ANON,
	LRU_INACTIVE_FILE,
	LRU_ACTIVE_FILE,
	LRU_UNEVICTABLE,
	NR_LRU_LISTS
};

struct lruvec {
	struct mutex lock;			// rank LRU
	struct frame_list list[NR_LRU_LISTS];	// L; the newest first
	_Atomic unsigned long nr[NR_LRU_LISTS]; // pages; L to write
};

struct phys;
struct node;

// The list a folio belongs on, by its flags.
enum lru_list folio_lru_list(const struct folio *folio);

// Put on its list: a new folio (with a reference, LRU clear). Unevictable by its flag.
void folio_add_lru(struct folio *folio);
// All of the list; it is empty afterwards. One lock for each run of one node.
void folio_add_lru_many(struct folio_list *list);
// The same for new folios that the caller has locked: each gets `flags` (which its list follows
// from; it has none of them yet, and LRU is set in any case) and is unlocked, in one atomic step.
// Zero at first; between the first folio and lru_filing_end() an LRU lock is held.
struct lru_filing {
	struct node *node;
	long nr[NR_LRU_LISTS];
};
void lru_file_and_unlock(struct lru_filing *, struct folio *folio, uint32_t flags);
void lru_filing_end(struct lru_filing *);
// A new folio of a locked vma goes to the unevictable list, MLOCKED; others as folio_add_lru().
void folio_add_lru_mlocked(struct folio *folio);

// Take it off its list; the caller holds a reference. false: it was not on one (isolated by
// another, or not yet added). On success there is one more reference, and the caller owns the lru
// links.
must_check bool folio_isolate_lru(struct folio *folio);
// The same for many, the lock taken once: between folio_isolate_lru_begin(), which decides, and
// folio_isolate_lru_end() for nr folios of one node, the folio is still linked, and its links are
// the list's. end() appends them to `list`, in order, and counts them as isolated.
must_check bool folio_isolate_lru_begin(struct folio *folio);
void folio_isolate_lru_end(struct folio **folios, unsigned nr, struct folio_list *list);
// Up to max folios from the tail of one list of a node, with a reference each, onto `list`; folios
// that are being freed are passed over. `want` (NULL: all) is asked under the LRU lock with no
// reference taken yet. Returns pages.
unsigned long node_isolate_lru(struct node *node, enum lru_list lru, unsigned max,
	bool (*want)(struct folio *folio, void *arg), void *arg, struct folio_list *list);
// Undo: back on its list, and the isolation's reference is put.
void folio_putback_lru(struct folio *folio);

// NR_ISOLATED_ANON or _FILE of the folio's node, by its pages; isolation does not count by itself.
void folio_count_isolated(const struct folio *folio);
void folio_uncount_isolated(const struct folio *folio);
// For a folio known by these only: after a move its source may be gone.
void node_add_isolated(struct phys *phys, unsigned nid, bool file, long pages);

// The kernel's two-touch promotion: inactive unreferenced -> referenced -> active.
void folio_mark_accessed(struct folio *folio);
void folio_activate(struct folio *folio);
void folio_deactivate(struct folio *folio); // to the inactive list's head, WORKINGSET if active
// An anonymous folio whose contents its owner gave up: it loses SWAPBACKED and goes to the inactive
// list of files, where reclaim finds it first.
void folio_mark_lazyfree(struct folio *folio);
void folio_rotate(struct folio *folio);	    // to the tail of its inactive list

// MLOCKED and the unevictable list, and back; NR_MLOCK and the unevictable_pgs_* events. The caller
// holds a reference. Isolated folios get the flag and move when put back.
void folio_mlock(struct folio *folio);
void folio_munlock(struct folio *folio);

// A large folio splits: tails (already dissolved, with the head's flags) join the head's list right
// after it, or `list` when the head is isolated. The tails' references are the caller's.
void folio_add_split_tails(
	struct folio *head, struct folio **tails, unsigned nr, struct folio_list *list);

// By the final put: off its list, LRU/ACTIVE/UNEVICTABLE/MLOCKED cleared.
void folio_release_lru(struct folio *folio);

const char *lru_list_name(enum lru_list lru); // "inactive_anon"

#endif
