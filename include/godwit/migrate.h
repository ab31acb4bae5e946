// SPDX-License-Identifier: MIT
// Moving pages between nodes: move_pages(2), migrate_pages(2), and what they do not tell.
#ifndef GODWIT_MIGRATE_H
#define GODWIT_MIGRATE_H

#include <godwit/machine.h>

#ifdef __cplusplus
extern "C" {
#endif

#define GW_MPOL_MF_STRICT 1u
#define GW_MPOL_MF_MOVE 2u
#define GW_MPOL_MF_MOVE_ALL 4u // also pages that several tasks map; needs GW_CAP_SYS_NICE

// Why a page moved or did not. gw_why_text() says it in words.
enum gw_why {
	GW_WHY_MOVED,
	GW_WHY_NO_VMA,
	GW_WHY_NOT_MIGRATABLE,
	GW_WHY_NOT_PRESENT,
	GW_WHY_MIGRATING,
	GW_WHY_ZERO_PAGE,
	GW_WHY_DEVICE,
	GW_WHY_ALREADY_THERE,
	GW_WHY_SHARED,
	GW_WHY_NOT_ON_LRU,
	GW_WHY_ISOLATION_REFUSED,
	GW_WHY_NO_TARGET,
	GW_WHY_LOCKED,
	GW_WHY_WRITEBACK,
	GW_WHY_PINNED,
	GW_WHY_EXTRA_REFERENCE,
	GW_WHY_STILL_MAPPED,
	GW_WHY_DIRTY_NO_METHOD,
	GW_WHY_PRIVATE_DATA,
	GW_WHY_DRIVER_FAILED,
	GW_WHY_SPLIT_FAILED,
	GW_WHY_POISONED,
	GW_WHY_HOST_MAPPINGS,
	GW_WHY_ABORTED,
	GW_WHY_NO_PERMISSION,
	GW_WHY_NO_SUCH_NODE,
	GW_WHY_NODE_NOT_ALLOWED,
	GW_WHY_REFUSED,
	GW_WHY_COUNT
};

// What became of the large page that an address was on: any page of more than 4 KiB, moved or not.
enum gw_huge_fate {
	GW_HUGE_FATE_NONE,   // no large page was there, or nobody looked
	GW_HUGE_FATE_STAYED, // as large as before
	GW_HUGE_FATE_SPLIT,  // smaller than before
};

struct gw_explanation {
	enum gw_why why;
	unsigned page_size; // bytes of the page that is there after the call: 2 MiB where a huge
			    // page stayed huge, 4096 where it was split or always small; 0: none
	enum gw_huge_fate huge;
	char detail[60]; // who: "mapped 2 times", "pinned by io_uring ring 3"; how much room:
			 // "node 1: 4096 kB free, at most 8 kB in a row", or, with enough of
			 // it in a row, "3276 kB must stay (watermark)" or "room for it came
			 // too late"; may be empty
};

GW_EXPORT const char *gw_why_text(enum gw_why why);
// The constant's name without GW_WHY_: "SHARED". For programs; "?" if there is no such reason.
GW_EXPORT const char *gw_why_name(enum gw_why why);

// Pages that a call did not move, for one reason: `pages` neighbours of page_size bytes each.
struct gw_stayed {
	uint64_t address; // of the first, in the memory of the task that the call was for
	uint64_t pages;
	unsigned page_size; // 4096, or the size of the huge page that is there after the call
	int node;	    // where they are; -1: on no node, or on their way
	enum gw_why why;
	char detail[60]; // as in struct gw_explanation
};

// Every page that stayed, once and in order of address. v is the caller's; a call writes count
// entries of it, and how much there was no room for. It may be managed memory. No entry:
// GW_WHY_MOVED, GW_WHY_ALREADY_THERE, and pages that are gone when the call returns. A page that
// the task maps twice is there twice.
//
// With too little room the lowest addresses are kept.
//
// gw_mbind_explained() lists the pages of its range that are not where the policy wants them (with
// STRICT alone only the first, GW_WHY_REFUSED); gw_migrate_pages_explained() those on the nodes
// that were to be left; gw_move_pages_explained() those that were asked for, where for an address
// without a page (GW_WHY_NO_VMA, GW_WHY_NOT_PRESENT) page_size is 4096 and node -1.
struct gw_stayed_list {
	struct gw_stayed *v; // [max]; NULL with 0
	size_t max;
	size_t count;	     // written
	uint64_t more_pages; // written: others, in 4 KiB, each once, however often it was asked for
			     // (without memory for that: as often as it was met)
};

// A call as a whole. Pages that were not taken up at all (refused by their status, shared and
// MOVE_ALL not given) are in none of the numbers. When no other page stayed, mbind and
// migrate_pages give them as the reason (GW_WHY_SHARED, GW_WHY_ISOLATION_REFUSED) and their number
// as its detail; before those, what failed the call untried: GW_WHY_NOT_MIGRATABLE,
// GW_WHY_MIGRATING, and with STRICT alone, which takes up none, GW_WHY_REFUSED.
struct gw_move_report {
	uint64_t moved, failed; // in 4 KiB
	// Transparent huge pages of 2 MiB: moved as one; not moved, or only in pieces; split.
	uint64_t huge_moved, huge_failed, huge_split;
	enum gw_why why; // of the first page that was taken up and stayed, or of the
			 // end of the call, or as above; GW_WHY_MOVED: there is none
	char detail[60]; // as in struct gw_explanation
};

// keep_huge: a transparent huge page moves as one or not at all. Its target is looked for harder,
// by compaction where the machine has it; when there is none the call ends with -ENOMEM, what was
// moved until then stays moved, and explain and report say why. Pages of pools are never split,
// with or without it.
struct gw_move_options {
	size_t size;		  // sizeof(struct gw_move_options)
	unsigned pause_budget_us; // bound on the engine's own work while accessors are stopped, per
				  // block; batches adapt to hold it. 0: what the tunable
				  // godwit/pause_budget_us says, at first none
	struct gw_explanation *explain; // gw_move_pages_explained(): one for each page asked for;
					// NULL: none, and for all others
	int keep_huge;			// never split a transparent huge page: -ENOMEM instead
	struct gw_move_report *report;	// written whatever the call returns but -EINVAL for these
					// options and -EOWNERDEAD; or NULL
	struct gw_stayed_list *stayed;	// likewise
};

// move_pages(2) of the task with that pid (0: the caller), by the caller: for each of `count`
// addresses the node it shall move to, and in `status` the node it is on now or a negative errno.
// nodes NULL: only ask. Return value, errors, statuses and what is left unwritten are Linux's: 0,
// or a positive number of pages not moved or not tried, or: -EACCES node outside of the task's
// cpuset; -EFAULT an array is NULL; -EINVAL flags, or the task has no memory any more; -ENODEV no
// such node, or without memory; -ENOMEM no room on the node; -EPERM MOVE_ALL without
// GW_CAP_SYS_NICE, or another user's task; -ESRCH. (Never -E2BIG.) Statuses: a node; -EACCES
// several tasks map the page and MOVE_ALL is not given; -EBUSY somebody else holds it; -EFAULT no
// mapping, or the page of zeros; -ENOENT no page there yet, or on its way at this moment.
GW_EXPORT long gw_move_pages(struct gw_task *caller, int pid, unsigned long count,
	const uint64_t *pages, const int *nodes, int *status, unsigned flags) GW_CHECK;
// The same with options: -EINVAL for another size of the structure, -ENOMEM for the explanations.
// Those are written even when the call fails after its arguments were found good.
GW_EXPORT long gw_move_pages_explained(struct gw_task *caller, int pid, unsigned long count,
	const uint64_t *pages, const int *nodes, int *status, unsigned flags,
	const struct gw_move_options *options) GW_CHECK;

// migrate_pages(2): pages of the task on nodes `from` go to nodes `to`, keeping their relative
// place. Bit masks of nodes (bit i of word i/64); maxnode as the system call takes it: the highest
// bit that counts is maxnode - 2. Returns pages that could not be moved, or -EINVAL masks, or no
// node of `to` is allowed to the caller; -EPERM another user's task, or nodes outside of its cpuset
// without GW_CAP_SYS_NICE; -ESRCH; -ENOMEM.
GW_EXPORT long gw_migrate_pages(struct gw_task *caller, int pid, unsigned long maxnode,
	const unsigned long *from, const unsigned long *to) GW_CHECK;
// Also -ENOMEM by keep_huge; -EINVAL options->explain.
GW_EXPORT long gw_migrate_pages_explained(struct gw_task *caller, int pid, unsigned long maxnode,
	const unsigned long *from, const unsigned long *to,
	const struct gw_move_options *options) GW_CHECK;

// How long accessors waited for pages on the move, since the machine was made.
struct gw_waits {
	uint64_t count;
	uint64_t p50_ns, p99_ns, max_ns; // upper bounds of their power-of-two buckets; max exact
	uint64_t overruns; // blocks that took longer than the pause budget they were given
};
GW_EXPORT void gw_migration_waits(struct gw_machine *machine, struct gw_waits *ret_waits);

#ifdef __cplusplus
}
#endif
#endif
