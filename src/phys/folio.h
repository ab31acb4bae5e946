// SPDX-License-Identifier: MIT
// struct folio: one allocation of 2^order frames, seen through its head frame. Everything that is
// true of the allocation as a whole (references, lock, LRU, mapping, index) lives in the head (or,
// for what only large folios have, in the first two tails); what is true of one page (its mapcount,
// exclusive, poison) lives in that page's frame.
//
// References: folio_alloc() gives one; each mapping entry, the object's index (one a page), a pin
// and isolation hold one each. At zero the folio is free. folio_ref_freeze() makes it zero while
// somebody works on it; folio_try_get() fails meanwhile, as it does for a free folio.
//
// The lock is one bit; waiters sleep on a hashed queue and need no reference (the frame array is
// never unmapped), so a fault that waits for a moving page does not disturb its expected count.
#ifndef GODWIT_PHYS_FOLIO_H
#define GODWIT_PHYS_FOLIO_H

#include "base/compiler.h"
#include "base/meta.h"
#include "phys/frame_list.h"
#include "phys/gfp.h"

struct folio {
	struct frame page;
};

struct node;
struct zone;
struct phys;

// folio_test_dirty(), folio_set_dirty(), folio_clear_dirty(), folio_test_set_dirty(),
// folio_test_clear_dirty() and so on for every flag: of the head.
#define X(name, lower, doc)                                                                        \
	static inline bool folio_test_##lower(const struct folio *folio)                           \
	{                                                                                          \
		return frame_test(&folio->page, PG_##name);                                        \
	}                                                                                          \
	static inline void folio_set_##lower(struct folio *folio)                                  \
	{                                                                                          \
		frame_set(&folio->page, PG_##name);                                                \
	}                                                                                          \
	static inline void folio_clear_##lower(struct folio *folio)                                \
	{                                                                                          \
		frame_clear(&folio->page, PG_##name);                                              \
	}                                                                                          \
	static inline bool folio_test_set_##lower(struct folio *folio)                             \
	{                                                                                          \
		return frame_test_set(&folio->page, PG_##name);                                    \
	}                                                                                          \
	static inline bool folio_test_clear_##lower(struct folio *folio)                           \
	{                                                                                          \
		return frame_test_clear(&folio->page, PG_##name);                                  \
	}
FRAME_FLAGS(X)
#undef X

// ---- Which folio, which frames

// The folio a frame belongs to. The caller holds a reference, or a lock that keeps it whole, or
// takes the answer as a hint (folio_try_get_frame()). While a folio is dissolved it is the whole
// or the piece, either with mapping, index and flags: who finds a migration entry may ask.
static inline struct folio *frame_folio(struct frame *frame)
{
	if (unlikely(frame_test(frame, PG_TAIL))) {
		uint32_t head = atomic_load_explicit(&frame->tail.head, memory_order_acquire);

		// Else it is a piece by now, and this was no link to a head.
		if (frame_test(frame, PG_TAIL))
			frame = vmemmap + head;
	}
	return (struct folio *)frame;
}

static inline struct folio *pfn_folio(struct pfn pfn)
{
	return frame_folio(pfn_frame(pfn));
}

static inline bool folio_large(const struct folio *folio)
{
	return frame_test(&folio->page, PG_HEAD);
}

static inline unsigned folio_order(const struct folio *folio)
{
	uint32_t flags = frame_flags(&folio->page);

	return flags >> PG_HEAD & 1 ? flags >> FRAME_ORDER_SHIFT : 0;
}

static inline unsigned long folio_nr(const struct folio *folio) // pages
{
	return 1ul << folio_order(folio);
}

static inline unsigned long folio_size(const struct folio *folio) // bytes
{
	return PAGE_SIZE << folio_order(folio);
}

static inline struct frame *folio_frame(struct folio *folio, unsigned long i)
{
	return &folio->page + i;
}

static inline struct pfn folio_pfn(const struct folio *folio)
{
	return frame_pfn(&folio->page);
}

// Index of a frame in its folio.
static inline unsigned long folio_frame_index(const struct folio *folio, const struct frame *frame)
{
	return (unsigned long)(frame - &folio->page);
}

static inline unsigned folio_nid(const struct folio *folio)
{
	return frame_nid(&folio->page);
}

struct node *folio_node(const struct folio *folio);
struct zone *folio_zone(const struct folio *folio);
struct phys *folio_phys(const struct folio *folio);
struct zone *frame_zone(const struct frame *frame);

// ---- References

static inline unsigned folio_ref_count(const struct folio *folio)
{
	return atomic_load_explicit(&folio->page.refcount, memory_order_acquire);
}

// One more, n more: the caller already has one (asserted).
static inline void folio_get(struct folio *folio);
static inline void folio_ref_add(struct folio *folio, unsigned n);
// One less, n less; at zero the folio is freed (it must be unlocked and unmapped by then).
static inline void folio_put(struct folio *folio);
static inline void folio_put_many(struct folio *folio, unsigned n);
// One less of each of nr folios; one that the caller froze is freed. Small folios with consecutive
// frames are freed as larger blocks: several times cheaper than one by one.
void folios_put(struct folio **folios, unsigned nr);
// One more unless there is none (free or frozen).
must_check bool folio_try_get(struct folio *folio);
// The folio of a frame found by number, with a reference; NULL when it is free or frozen, or
// changed meanwhile.
must_check struct folio *folio_try_get_frame(struct frame *frame);
// expected -> 0, only if it is exactly that (FI_FREEZE may say no). Unfreeze sets the count.
must_check static inline bool folio_ref_freeze(struct folio *folio, unsigned expected);
static inline void folio_ref_unfreeze(struct folio *folio, unsigned count);

// ---- Pins: what somebody uses for I/O. A small folio's pin is 1024 references; a large one's is
// one reference and one in its pin count.
#define GUP_PIN_COUNTING_BIAS 1024

// n pins (at most a million); false when the folio is free or frozen, or would have more than
// INT32_MAX references.
must_check bool folio_try_pin(struct folio *folio, unsigned n);
void folio_unpin(struct folio *folio, unsigned n);
// May be wrong for a small folio with 1024 references; never wrong the other way.
static inline bool folio_maybe_pinned(const struct folio *folio);

// ---- Lock (rank FOLIO; nests in address order)

void folio_lock(struct folio *folio);
must_check static inline bool folio_trylock(struct folio *folio); // FI_TRYLOCK may say no
static inline void folio_unlock(struct folio *folio);
// Wait until the lock bit is clear, without holding a reference or any lock: what it guarded is
// then looked at afresh. The folio may be gone or another one by then.
void folio_wait_locked_noref(struct folio *folio);
// The same with a limit: 0 or -ETIMEDOUT.
must_check int folio_wait_locked_timeout(struct folio *folio, uint64_t timeout_ns);
// For other bits one waits for (WRITEBACK): wait until it is clear; clear it and wake.
void folio_wait_bit_clear(struct folio *folio, enum frame_flag flag);
void folio_clear_bit_wake(struct folio *folio, enum frame_flag flag);

// ---- Mapping and index (write: folio locked, or new)

static inline uint32_t folio_mapping_raw(const struct folio *folio)
{
	return atomic_load_explicit(&folio->page.mapping, memory_order_acquire);
}

static inline enum mapping_type folio_mapping_type(const struct folio *folio)
{
	return (enum mapping_type)(folio_mapping_raw(folio) & 3);
}

static inline uint32_t folio_mapping_handle(const struct folio *folio)
{
	return folio_mapping_raw(folio) >> 2;
}

// What the handle stands for, whatever its type; NULL when there is none.
static inline void *folio_mapping_pointer(const struct folio *folio)
{
	return meta_pointer(folio_mapping_handle(folio));
}

static inline void folio_set_mapping_raw(struct folio *folio, uint32_t raw)
{
	atomic_store_explicit(&folio->page.mapping, raw, memory_order_release);
}

// `owner` was given by meta_alloc(), or is NULL.
static inline void folio_set_mapping(struct folio *folio, const void *owner, enum mapping_type type)
{
	folio_set_mapping_raw(folio, meta_handle(owner) << 2 | type);
}

static inline void folio_clear_mapping(struct folio *folio)
{
	folio_set_mapping_raw(folio, 0);
}

static inline bool folio_test_anon(const struct folio *folio) // also KSM
{
	return folio_mapping_raw(folio) & MAPPING_ANON;
}

static inline bool folio_test_ksm(const struct folio *folio)
{
	return folio_mapping_type(folio) == MAPPING_KSM;
}

// Has the type of a non-LRU movable page; it is movable only while the handle is not 0.
static inline bool folio_test_movable_type(const struct folio *folio)
{
	return folio_mapping_type(folio) == MAPPING_MOVABLE;
}

// Counts as file for the LRU: not anon, not shmem.
static inline bool folio_is_file_lru(const struct folio *folio)
{
	return !folio_test_swapbacked(folio);
}

// Page offset in the object, or of the address in the vma that owns it: 40 bits.
static inline uint64_t folio_index(const struct folio *folio);
static inline void folio_set_index(struct folio *folio, uint64_t index);

// ---- Mapcounts. Write: under the page-table lock of the entry that comes or goes.

// Pages [first, first + nr) get (lose) one page-table mapping each; the whole folio gets (loses)
// one mapping by a huge entry. Returns by how many pages the folio is mapped more (less) for it,
// for the statistics. While others map and unmap the same pages that may be any number, of either
// sign: only the sum of all calls is the number of mapped pages.
int folio_map_pages(struct folio *folio, unsigned long first, unsigned long nr);
int folio_unmap_pages(struct folio *folio, unsigned long first, unsigned long nr);
// *ret_first, *ret_last: whether it was the first (last) such mapping; NULL: nobody asks.
int folio_map_entire(struct folio *folio, bool *ret_first);
int folio_unmap_entire(struct folio *folio, bool *ret_last);

// All mappings of any page, and of the whole.
static inline int folio_mapcount(const struct folio *folio)
{
	if (likely(!folio_large(folio)))
		return atomic_load_explicit(&folio->page.mapcount, memory_order_relaxed);
	return atomic_load_explicit(&(&folio->page + 1)->large_mapcount, memory_order_relaxed);
}

static inline bool folio_mapped(const struct folio *folio)
{
	return folio_mapcount(folio) > 0;
}

// Mappings by huge entries alone.
static inline int folio_entire_mapcount(const struct folio *folio)
{
	if (!folio_large(folio))
		return 0;
	return atomic_load_explicit(
		&(&folio->page + 1)->tail.entire_mapcount, memory_order_relaxed);
}

// Mappings of one page: its own entries and huge ones.
int frame_mapcount(struct frame *frame);
// Pages with any mapping at all.
unsigned folio_nr_pages_mapped(const struct folio *folio);
// Several spaces probably map it: a guess for large folios, exact for small and hugetlb ones.
bool folio_likely_mapped_shared(const struct folio *folio);

// References that mappings, the object's index and private data account for; an isolated folio
// that nobody else uses has one more.
static inline unsigned folio_expected_ref_count(const struct folio *folio);
// The same without those of mappings.
static inline unsigned folio_owner_ref_count(const struct folio *folio);

static inline unsigned folio_last_cpupid(const struct folio *folio)
{
	return frame_last_cpupid(&folio->page);
}

static inline unsigned folio_xchg_last_cpupid(struct folio *folio, unsigned cpupid)
{
	return frame_xchg_last_cpupid(&folio->page, cpupid);
}

// ---- Making and dissolving large folios

// 2^order frames become one folio (order 0: clears nothing). Nobody else may know them.
void folio_prep_large(struct frame *head, unsigned order);
// A frozen (refcount 0) or private large folio becomes 2^(old-new) folios of new_order, each with
// refcount 0, mapping and index of its part, the flags in `flags`, and HWPOISON and ANON_EXCLUSIVE
// of each page; the first keeps the head's flags and count. The caller gives the others their count
// (folio_ref_unfreeze). Per-page mapcounts are kept, those of the whole must be 0.
void folio_dissolve(struct folio *folio, unsigned new_order, uint32_t flags);

// ---- Deferred split queue of a node (rank DEFERRED_SPLIT): large folios (order > 1) that lost
// some mappings and would free memory when split. A freed folio leaves it by itself.
bool folio_deferred_queued(const struct folio *folio);
bool folio_deferred_queue(struct folio *folio);	  // false: it was there, or may not be
// It is going to be free, split, or another folio: off the queue, and partially mapped no more.
// false: it was not there.
bool folio_deferred_unqueue(struct folio *folio);
bool folio_mark_partially_mapped(struct folio *folio); // false: it was; counted by size
// Up to max folios off the queue's head, each with a reference; the rest stays. Returns how many.
unsigned node_deferred_take(struct node *node, struct folio **ret_folios, unsigned max);
unsigned long node_deferred_length(struct node *node);

// ---- Private lists of folios (isolated ones on their way through migration, batches to free)

struct folio_list {
	struct frame_list frames;
};

static inline bool folio_list_empty(const struct folio_list *list)
{
	return frame_list_empty(&list->frames);
}

static inline struct folio *folio_list_first(const struct folio_list *list)
{
	return (struct folio *)frame_list_first(&list->frames);
}

static inline struct folio *folio_list_last(const struct folio_list *list)
{
	return (struct folio *)frame_list_last(&list->frames);
}

static inline struct folio *folio_list_next(const struct folio *folio)
{
	return (struct folio *)frame_list_next(&folio->page);
}

static inline void folio_list_add(struct folio_list *list, struct folio *folio)
{
	frame_list_add(&list->frames, &folio->page);
}

static inline void folio_list_add_tail(struct folio_list *list, struct folio *folio)
{
	frame_list_add_tail(&list->frames, &folio->page);
}

static inline void folio_list_del(struct folio_list *list, struct folio *folio)
{
	frame_list_del(&list->frames, &folio->page);
}

static inline struct folio *folio_list_pop(struct folio_list *list)
{
	return (struct folio *)frame_list_pop(&list->frames);
}

static inline void folio_list_move_tail(
	struct folio_list *to, struct folio_list *from, struct folio *folio)
{
	folio_list_del(from, folio);
	folio_list_add_tail(to, folio);
}

static inline void folio_list_splice_tail(struct folio_list *to, struct folio_list *from)
{
	frame_list_splice_tail(&to->frames, &from->frames);
}

// `next` is read before the body runs, so the body may take `folio` off the list.
#define for_each_folio_safe(folio, next, list)                                                     \
	for ((folio) = folio_list_first(list), (next) = (folio) ? folio_list_next(folio) : NULL;   \
		(folio); (folio) = (next), (next) = (folio) ? folio_list_next(folio) : NULL)

#define for_each_folio(folio, list)                                                                \
	for ((folio) = folio_list_first(list); (folio); (folio) = folio_list_next(folio))

#include "phys/folio_hot.h"

#endif
