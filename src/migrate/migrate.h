// SPDX-License-Identifier: MIT
// Migration: moving folios to other frames while their addresses stay.
#ifndef GODWIT_MIGRATE_MIGRATE_H
#define GODWIT_MIGRATE_MIGRATE_H

#include "base/histogram.h"
#include "base/nodemask.h"
#include "base/trace.h" // enum migrate_mode, enum migrate_reason
#include "phys/folio.h"
#include "virt/mm.h"

struct task;
struct space;
struct stayed;

// Why a page did not move: the check that stopped it. Texts and the public enum come from here.
#define MIGRATE_WHYS(X)                                                                            \
	X(MOVED, "moved")                                                                          \
	X(NO_VMA, "no mapping at this address")                                                    \
	X(NOT_MIGRATABLE, "the mapping can never be migrated")                                     \
	X(NOT_PRESENT, "no page has been touched here yet")                                        \
	X(MIGRATING, "another migration of this page is under way")                                \
	X(ZERO_PAGE, "the shared zero page does not move")                                         \
	X(DEVICE, "device-private memory")                                                         \
	X(ALREADY_THERE, "already on the target node")                                             \
	X(SHARED, "mapped by several spaces and MOVE_ALL not given")                               \
	X(NOT_ON_LRU, "not on an LRU list: someone else isolated it, or it is being freed")        \
	X(ISOLATION_REFUSED, "the driver refused to isolate it")                                   \
	X(NO_TARGET, "no free frame on the target node")                                           \
	X(LOCKED, "its folio lock is held")                                                        \
	X(WRITEBACK, "being written back")                                                         \
	X(PINNED, "pinned for long-term use")                                                      \
	X(EXTRA_REFERENCE, "someone holds an extra reference")                                     \
	X(STILL_MAPPED, "could not be unmapped everywhere")                                        \
	X(DIRTY_NO_METHOD, "dirty, and its file cannot migrate dirty pages")                       \
	X(PRIVATE_DATA, "its buffers could not be released")                                       \
	X(DRIVER_FAILED, "the driver's migrate callback failed")                                   \
	X(SPLIT_FAILED, "the huge page could not be split")                                        \
	X(POISONED, "hardware poison")                                                             \
	X(HOST_MAPPINGS, "the host's mapping limit (vm.max_map_count) leaves no room")             \
	X(ABORTED, "not tried: an earlier page ended the call")                                    \
	X(NO_PERMISSION, "the caller may not move this task's pages")                              \
	X(NO_SUCH_NODE, "the target node does not exist or has no memory")                         \
	X(NODE_NOT_ALLOWED, "the target node is not in the task's cpuset")                         \
	X(REFUSED, "not tried: the call was refused as a whole")

enum migrate_why {
#define X(name, text) WHY_##name,
	MIGRATE_WHYS(X)
#undef X
	WHY_COUNT
};

struct migrate_control;

// Frames to move to, each called without any lock held. get: a folio for src with one reference, or
// NULL. put: an unused one back (NULL: folio_put). run: up to max order-0 folios with consecutive
// frames, one reference each, for sources that are order-0 too; how many (NULL: one by one).
// describe: why get() had nothing, for people; snprintf's contract (NULL: nothing to say).
struct migrate_target {
	struct folio *(*get)(struct folio *src, void *arg);
	void (*put)(struct folio *dst, void *arg);
	unsigned (*run)(struct folio *first_src, unsigned max, struct folio **ret_dst, void *arg);
	void (*describe)(const struct folio *src, char *buf, size_t size, void *arg);
	void *arg;
};

struct migrate_control {
	struct mm_core *mm;
	enum migrate_mode mode;
	enum migrate_reason reason;
	struct migrate_target target;
	bool atomic_reclaim;	  // the caller is in direct compaction (PF_MEMALLOC)
	bool keep_huge;		  // never split: -ENOMEM instead
	unsigned pause_budget_us; // bounds the engine's work in one block; 0: the machine's
				  // (mm_tunables), which begins as none
	// Called once for each folio that stays, before it is given back. NULL: nobody asks.
	void (*explain)(struct folio *, enum migrate_why, const char *detail, void *arg);
	void *explain_arg;
	// Of calls for ranges: what stayed, at which addresses. explain() passes on what it is told
	// (stayed_leave()). NULL: nobody asks.
	struct stayed *stayed;
	// Results, in pages of 4 KiB unless said.
	unsigned nr_succeeded;
	unsigned nr_failed;
	unsigned nr_thp_succeeded, nr_thp_failed, nr_thp_split; // folios
	unsigned nr_split; // large folios of any order that were split
	unsigned nr_blocks;    // times accessors were blocked
	unsigned nr_overruns;  // blocks that took longer than the budget
	// Of calls for ranges: pages that were not taken up.
	uint64_t nr_shared;  // several spaces map them, and MOVE_ALL is not given
	uint64_t nr_refused; // could not be isolated
	enum migrate_why untried; // of the first that counts as failed and is in neither number
};

// Move them. Folios that moved leave the list; what stays is still isolated and the caller puts it
// back. 0 when the list is empty in the end, else the number of folios left, or a negative errno
// (-ENOMEM). Takes no lock from its caller; mmap_lock must not be held for write.
int migrate_pages(struct folio_list *, struct migrate_control *);

// Isolation: one reference, LRU clear (or ISOLATED), counted in NR_ISOLATED; appended to the list.
// The caller holds a reference or the page-table lock of a mapping. -EBUSY: somebody else has it,
// or its owner refuses.
must_check int isolate_for_migration(struct mm_core *, struct folio *, struct folio_list *);
// The same for many folios of one caller; the list has them all after isolation_end(), which must
// come before the caller or anybody else looks at it, in their order.
#define ISOLATION_MAX 32

struct isolation {
	struct mm_core *mm;
	struct folio_list *list;
	unsigned nid, nr;
	struct folio *folio[ISOLATION_MAX]; // taken, still linked where they were
};
static inline void isolation_begin(struct isolation *iso, struct mm_core *mm,
	struct folio_list *list)
{
	iso->mm = mm;
	iso->list = list;
	iso->nr = 0;
}
must_check int isolation_add(struct isolation *, struct folio *);
void isolation_end(struct isolation *); // idempotent
// Undo, for all of the list.
void putback_movable_pages(struct mm_core *, struct folio_list *);

// A target on one node (nid -1: the folio's own), as alloc_migration_target.
struct node_target {
	struct mm_core *mm;
	int nid;
	gfp_t gfp;
	struct nodemask allowed; // empty: any
	int cpu;
	enum migrate_reason reason; // hugetlb: where it may fall back to
	bool keep_huge;		    // a large folio is worth more effort: nothing else will do
};
void migrate_target_on_node(struct migrate_target *, struct node_target *);
// Why none of the nodes had a block of the order: "node 1: 4096 kB free, at most 8 kB in a row", of
// all the nodes together; or where one has such a block, "node 1: 4096 kB free, 3276 kB must stay
// (watermark)", of that with most to give.
void migrate_describe_room(const struct phys *, struct nodemask nodes, unsigned order, char *buf,
	size_t size);

const char *migrate_why_text(enum migrate_why);
const char *migrate_why_name(enum migrate_why); // "SHARED"

// How long accessors waited for moving pages, all spaces of this machine.
struct histogram *migrate_wait_histogram(struct mm_core *);

#endif
