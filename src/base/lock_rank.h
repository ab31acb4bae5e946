// SPDX-License-Identifier: MIT
// The lock order, in one place and nowhere else: a thread takes locks only in increasing rank.
// Debug builds abort on the first inversion and print both locks. Trylocks may be taken in any
// order (a trylock cannot deadlock), which is what migration does wherever it holds a folio lock.
#ifndef GODWIT_BASE_LOCK_RANK_H
#define GODWIT_BASE_LOCK_RANK_H

// X(rank, may_nest): may_nest allows two locks of the same rank (taken in address order).
#define GODWIT_LOCK_RANKS(X)                                                                       \
	X(MACHINE, 0)	    /* the list of machines, host fork */                                  \
	X(CPUSET, 0)	    /* cpuset masks against running rebinds */                             \
	X(TASKS, 0)	    /* a machine's tasks */                                                \
	X(SUBSYSTEM, 0)	    /* ksm, cma, khugepaged and other scanners' own big lock */            \
	X(MMAP, 1)	    /* struct space: vmas (the kernel's mmap_lock) */                      \
	X(HUGETLB_FAULT, 0) /* hugetlb fault mutexes */                                            \
	X(FOLIO, 1)	    /* the lock bit of a folio */                                          \
	X(I_MMAP, 0)	    /* struct object: who maps it */                                       \
	X(ANON_VMA, 0)	    /* struct anon_vma: who maps its folios */                             \
	X(NOTIFIER, 0)	    /* who is told of translations that go */                              \
	X(PAGE_TABLE, 1)    /* one page table page */                                              \
	X(I_PAGES, 0)	    /* struct object: page index */                                        \
	X(SCAN_SLOTS, 0)    /* which spaces a scanner visits */                                    \
	X(POLICY, 0)	    /* which policy a task has, and its interleave counter */              \
	X(HUGETLB, 0)	    /* hugetlb pools */                                                    \
	X(DEFERRED_SPLIT, 0)                                                                       \
	X(LRU, 0)	 /* a node's LRU lists */                                                  \
	X(PCP, 0)	 /* a cpu's page lists */                                                  \
	X(ZONE, 0)	 /* a zone's free areas */                                                 \
	X(HOST_FORK, 0)	 /* host mappings and descriptors, held still for fork() */                \
	X(ARENA, 0)	 /* backing of a node's bytes */                                           \
	X(MMU, 0)	 /* a backend's page states, and the host calls that change them */        \
	X(WINDOWS, 0)	 /* the table of windows, by address */                                    \
	X(UFFD, 0)	 /* who reads a userfaultfd */                                             \
	X(WAIT_TABLE, 0) /* a bucket of the hashed wait queues */                                  \
	X(META, 0)	 /* allocator of the engine's own data */                                  \
	X(TRACE, 0)	 /* the trace ring */

enum lock_rank {
#define X(name, nest) RANK_##name,
	GODWIT_LOCK_RANKS(X)
#undef X
	RANK_COUNT
};

#endif
