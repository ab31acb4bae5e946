// SPDX-License-Identifier: MIT
// Compaction: pages in use move to one end of their zone, so that free pages at the other end
// become blocks as large as a huge page.
//
//	compact.c	a run over a zone: the table of contents
//	source.c	which pages move (the migrate scanner, from the low end)
//	target.c	free pages they move to (the free scanner, from the high end)
//	suitable.c	whether a run could help; how fragmented a zone is
//	defer.c		when to leave a zone alone that was tried in vain
//	direct.c	runs for an allocation that waits, and for who wants a whole node compacted
//	kcompactd.c	runs in the background
//
// Locks: a run takes the locks of migration one after the other and may be entered with the
// caller's mmap_lock held for reading, or a hugetlb fault mutex, never with more. The zone lock is
// held only while free blocks are taken, the LRU lock while pages are unlinked; nobody holds
// either while pages move. Runs of the same zone do not exclude each other: they share skip bits
// and cached positions, which are hints, and a page or block can be isolated by one of them only.
#ifndef GODWIT_COMPACT_COMPACT_H
#define GODWIT_COMPACT_COMPACT_H

#include "base/lock.h"
#include "phys/zone.h"
#include "virt/mm.h"

#include <pthread.h>

#define COMPACT_WHOLE_ORDER (-1) // no block of an order is wanted: compact what there is

// Of one node. Fields without letter are atomic.
struct kcompactd {
	struct compaction *compaction; // C
	struct node *node;	       // C
	pthread_t thread;	       // C, if there is one
	bool has_thread;	       // C
	_Atomic unsigned order;	       // wanted; 0: nothing
	_Atomic int highest;	       // enum zone_type that the request could use
	_Atomic bool proactive;	       // its tunable was written: look at once
};

struct compaction {
	struct mm_core *mm;
	// /proc/sys/vm
	_Atomic unsigned long proactiveness, extfrag_threshold, unevictable_allowed;
	_Atomic bool stop; // the daemons shall end
	_Atomic unsigned paused, running; // who wants the daemons to rest; daemons at work
	struct kcompactd kcompactd[MAX_NODES];
};

// Sets mm->compaction and the upcalls of mm->phys, whose arg must be mm. Before the first
// allocation.
void compaction_init(struct compaction *, struct mm_core *);
// A thread for each node with memory; without it who is woken waits for kcompactd_run(). -EAGAIN.
must_check int kcompactd_start(struct compaction *);
// Ends the threads. Nothing else runs.
void compaction_destroy(struct compaction *);

// Everything that can move on the node (nid -1: on all) moves, as /proc/sys/vm/compact_memory asks.
// No lock held.
void compact_nodes(struct compaction *, int nid);

// No daemon works between the two, for who balances the books. Nests.
void kcompactd_pause(struct compaction *);
void kcompactd_resume(struct compaction *);

// What the daemon of a node does when it is woken, in the caller's thread. false: nobody woke it.
bool kcompactd_run(struct compaction *, unsigned nid);
// What it does from time to time: true if it found reason to compact the node; whether that changed
// anything.
bool kcompactd_run_proactive(struct compaction *, unsigned nid, bool *ret_progress);
// The tunable was written.
void compaction_set_proactiveness(struct compaction *, unsigned long percent);

// ---- Numbers

// Why a block of the order could not be had from this zone: towards 0 too little memory is free,
// towards 1000 it is in too small pieces; -1000: it could be had.
int fragmentation_index(struct zone *, unsigned order);
// 0 to 100: how much a node would gain from compaction.
unsigned fragmentation_score_node(const struct node *);

#endif
