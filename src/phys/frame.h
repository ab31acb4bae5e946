// SPDX-License-Identifier: MIT
// struct frame: the 32 bytes the engine keeps for every page of every node (docs/frame.md has the
// bit-budget table). Frames live in one process-wide virtual array, vmemmap, indexed by pfn; it is
// reserved once and never unmapped, so reading a frame through a stale pointer is always safe
// (what is read may be stale, never garbage from elsewhere).
//
// Who may write what:
//   flags      atomic; each flag's owner is named in the table below
//   where      node and zone are fixed while the arena lives; last_cpupid is anyone's (atomic
//              exchange); the high bits of the index belong to who sets the index
//   refcount   anyone, atomically; 0 means free or frozen, and a try-get fails
//   mapcount   the rmap, under the page-table lock of the mapping it adds or removes
//   lru links  who holds the list: LRU lock (LRU flag set), zone lock (BUDDY), pcp lock (PCP),
//              the isolating thread (isolated)
//   mapping    under the folio lock; buddy and pcp: free for their use
//   index      as mapping; free blocks: their order
#ifndef GODWIT_PHYS_FRAME_H
#define GODWIT_PHYS_FRAME_H

#include "base/types.h"
#include <stdatomic.h>

// X(NAME, accessor, who sets it and what it means)
#define FRAME_FLAGS(X)                                                                             \
	X(LOCKED, locked, "the folio lock; folio_lock()")                                          \
	X(WAITERS, waiters, "someone may sleep on LOCKED or WRITEBACK")                            \
	X(LRU, lru, "on a node's LRU list; cleared atomically by who isolates it")                 \
	X(ACTIVE, active, "on (or returning to) the active list")                                  \
	X(UNEVICTABLE, unevictable, "on (or returning to) the unevictable list")                   \
	X(REFERENCED, referenced, "accessed since last looked at")                                 \
	X(DIRTY, dirty, "contents newer than their object's")                                      \
	X(WRITEBACK, writeback, "being written to its object")                                     \
	X(UPTODATE, uptodate, "contents valid")                                                    \
	X(PRIVATE, private, "owner keeps private data and one reference")                          \
	X(SWAPBACKED, swapbacked, "anon or shmem: counts as anon for the LRU")                     \
	X(MLOCKED, mlocked, "in some locked vma")                                                  \
	X(HWPOISON, hwpoison, "per page: bytes damaged, never to be used again")                   \
	X(ISOLATED, isolated, "non-LRU movable page isolated; refcount 0: in quarantine")          \
	X(ANON_EXCLUSIVE, anon_exclusive, "per page: mapped by one space only, may be written")    \
	X(HEAD, head, "first frame of a large folio; flags hold its order")                        \
	X(TAIL, tail, "other frame of a large folio; its head is linked")                          \
	X(BUDDY, buddy, "first frame of a free block in a free area; zone lock")                   \
	X(PCP, pcp, "first frame of a free block on a cpu's list; pcp lock")                       \
	X(HUGETLB, hugetlb, "belongs to a hugetlb pool")                                           \
	X(WORKINGSET, workingset, "was active when it was deactivated")                            \
	X(YOUNG, young, "idle tracking: accessed since marked idle")                               \
	X(IDLE, idle, "idle tracking: marked idle")                                                \
	X(PARTIALLY_MAPPED, partially_mapped, "large folio some of whose pages lost mappings")     \
	X(HUGETLB_MIGRATABLE, hugetlb_migratable, "hugetlb: on the active list, may be isolated")  \
	X(HUGETLB_TEMPORARY, hugetlb_temporary, "hugetlb: free it, not back to the pool")          \
	X(RESERVED, reserved, "not managed by the buddy")

enum frame_flag {
#define X(name, lower, doc) PG_##name,
	FRAME_FLAGS(X)
#undef X
		FRAME_FLAG_COUNT
};

#define FRAME_ORDER_BITS 5
#define FRAME_ORDER_SHIFT (32 - FRAME_ORDER_BITS)
#define FRAME_ORDER_MASK (0x1fu << FRAME_ORDER_SHIFT)
_Static_assert(FRAME_FLAG_COUNT <= FRAME_ORDER_SHIFT, "flags and the order share 32 bits");
_Static_assert(PUD_ORDER < 1 << FRAME_ORDER_BITS, "a PUD folio's order must fit");

// `where`: node, zone, last_cpupid, high bits of index.
#define WHERE_NODE_BITS 6
#define WHERE_ZONE_BITS 2
#define WHERE_CPUPID_BITS 16
#define WHERE_INDEX_BITS 8
#define WHERE_ZONE_SHIFT WHERE_NODE_BITS
#define WHERE_CPUPID_SHIFT (WHERE_ZONE_SHIFT + WHERE_ZONE_BITS)
#define WHERE_INDEX_SHIFT (WHERE_CPUPID_SHIFT + WHERE_CPUPID_BITS)
#define CPUPID_NONE 0xffffu // last_cpupid: nobody yet
#define FRAME_NODES_MAX (1 << WHERE_NODE_BITS)
#define FRAME_INDEX_MAX ((1ull << (32 + WHERE_INDEX_BITS)) - 1)

// The type bits of `mapping`.
enum mapping_type {
	MAPPING_OBJECT = 0,  // handle of a struct object (0 as a whole: no mapping)
	MAPPING_ANON = 1,    // handle of a struct anon_vma
	MAPPING_MOVABLE = 2, // handle of movable operations (0: released by its owner)
	MAPPING_KSM = 3,     // handle of a stable node
};

struct frame {
	_Atomic uint32_t flags; // enum frame_flag bits | order << FRAME_ORDER_SHIFT
	_Atomic uint32_t where;
	_Atomic uint32_t refcount;
	_Atomic int32_t mapcount; // mappings of this page by page-table entries; 0: none
	union {
		struct {
			_Atomic uint32_t next; // pfn numbers; 0 ends a list
			_Atomic uint32_t prev;
		} lru;
		struct {
			_Atomic uint32_t head; // every tail
			union {
				_Atomic int32_t
					entire_mapcount;   // tail 1: mappings of the whole folio
				_Atomic int32_t nr_mapped; // tail 2: see folio_map_pages()
			};
		} tail;
	};
	union {
		_Atomic uint32_t mapping;	// meta handle << 2 | enum mapping_type
		_Atomic int32_t large_mapcount; // tail 1: all mappings, of any page or the whole
		_Atomic uint32_t deferred_next; // tail 2: deferred-split list
	};
	union {
		_Atomic uint32_t index;	  // low bits of the page offset; free block: its order
		_Atomic int32_t pincount; // tail 1
		_Atomic uint32_t deferred_prev; // tail 2; DEFERRED_NONE: not queued
	};
};
_Static_assert(sizeof(struct frame) == 32, "two frames a cache line");

#define DEFERRED_NONE UINT32_MAX
#define VMEMMAP_FRAMES (1ul << 28)
extern struct frame *vmemmap;

// Reserve vmemmap: once a process, before the first frame is touched. 0, -ENOMEM.
int vmemmap_init(void);

// Give frames [first, first + nr) their node and zone; everything else is zero.
void frames_init(struct pfn first, uint64_t nr, unsigned nid, unsigned zone);

// Return the memory of these frames to the system when their arena is gone.
void frames_release(struct pfn first, uint64_t nr);

// Names of the set flags, "locked|lru", for dumps; snprintf's contract.
int frame_flags_text(uint32_t flags, char *buf, size_t size);

// One line about the frame and its folio, for failed assertions and tests; snprintf's contract.
int frame_dump(const struct frame *frame, char *buf, size_t size);

static inline struct frame *pfn_frame(struct pfn pfn)
{
	return vmemmap + pfn.n;
}

static inline struct pfn frame_pfn(const struct frame *frame)
{
	return pfn_of((uint64_t)(frame - vmemmap));
}

static inline uint32_t frame_flags(const struct frame *frame)
{
	return atomic_load_explicit(&frame->flags, memory_order_acquire);
}

static inline bool frame_test(const struct frame *frame, enum frame_flag flag)
{
	return atomic_load_explicit(&frame->flags, memory_order_acquire) >> flag & 1;
}

static inline void frame_set(struct frame *frame, enum frame_flag flag)
{
	atomic_fetch_or_explicit(&frame->flags, 1u << flag, memory_order_acq_rel);
}

static inline void frame_clear(struct frame *frame, enum frame_flag flag)
{
	atomic_fetch_and_explicit(&frame->flags, ~(1u << flag), memory_order_acq_rel);
}

static inline bool frame_test_set(struct frame *frame, enum frame_flag flag)
{
	return atomic_fetch_or_explicit(&frame->flags, 1u << flag, memory_order_acq_rel) >> flag &
	       1;
}

static inline bool frame_test_clear(struct frame *frame, enum frame_flag flag)
{
	return atomic_fetch_and_explicit(&frame->flags, ~(1u << flag), memory_order_acq_rel) >>
		       flag &
	       1;
}

// frame_test_dirty(), frame_set_dirty(), frame_clear_dirty(), frame_test_set_dirty(),
// frame_test_clear_dirty() and so on for every flag.
#define X(name, lower, doc)                                                                        \
	static inline bool frame_test_##lower(const struct frame *frame)                           \
	{                                                                                          \
		return frame_test(frame, PG_##name);                                               \
	}                                                                                          \
	static inline void frame_set_##lower(struct frame *frame)                                  \
	{                                                                                          \
		frame_set(frame, PG_##name);                                                       \
	}                                                                                          \
	static inline void frame_clear_##lower(struct frame *frame)                                \
	{                                                                                          \
		frame_clear(frame, PG_##name);                                                     \
	}                                                                                          \
	static inline bool frame_test_set_##lower(struct frame *frame)                             \
	{                                                                                          \
		return frame_test_set(frame, PG_##name);                                           \
	}                                                                                          \
	static inline bool frame_test_clear_##lower(struct frame *frame)                           \
	{                                                                                          \
		return frame_test_clear(frame, PG_##name);                                         \
	}
FRAME_FLAGS(X)
#undef X

static inline unsigned frame_nid(const struct frame *frame)
{
	return atomic_load_explicit(&frame->where, memory_order_relaxed) & (FRAME_NODES_MAX - 1);
}

static inline unsigned frame_zone_type(const struct frame *frame)
{
	return atomic_load_explicit(&frame->where, memory_order_relaxed) >> WHERE_ZONE_SHIFT &
	       ((1u << WHERE_ZONE_BITS) - 1);
}

// The cpu and task that last touched the page, as NUMA balancing packs them; CPUPID_NONE at first.
static inline unsigned frame_last_cpupid(const struct frame *frame)
{
	uint32_t where = atomic_load_explicit(&frame->where, memory_order_relaxed);

	return where >> WHERE_CPUPID_SHIFT & ((1u << WHERE_CPUPID_BITS) - 1);
}

// Store and return what was there.
unsigned frame_xchg_last_cpupid(struct frame *frame, unsigned cpupid);

#endif
