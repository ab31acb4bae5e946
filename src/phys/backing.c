// SPDX-License-Identifier: MIT
// The bytes behind frames: backed before a frame is handed out, given back to the host when a lot
// is free, and kept back while something outside may still reach them.
//
// Backing. The arena backs chunks of 2 MiB, and asking for a backed chunk is one look at a bitmap.
//
// Quarantine. When frames are freed, upcall `reusable` may say that a wait, a pin of the host or a
// forked child can still reach them. They then wait on the node's quarantine list, neither free
// nor used (flag ISOLATED, refcount 0), and are asked for again when memory is short or on
// phys_quarantine_scan(). So every block in the buddy may be re-used and punched.
//
// Pages of a hugetlb pool may have their bytes on pages of the host's pool. They have left those
// before they are freed, as holes.
//
// Trimming policy. Freed memory stays backed: it will be used again soon, and backing costs more
// than copying. Only when more than phys->free_backed_max bytes of a node are free and backed
// (default: a quarter of the largest node, at least 64 MiB) does a freeing thread punch wholly free
// chunks, a few at a time, largest and coldest blocks first; phys_trim() does it on demand down to
// any amount. A block is out of the buddy while it is punched, so nobody can be handed its bytes in
// between; afterwards it goes to the end of its list, to be used last.
#include "phys/backing.h"
#include "base/assert.h"
#include "base/mark.h"
#include "machine/arena.h"
#include "machine/arena_hugetlb.h"
#include "machine/copier.h"
#include "phys/alloc.h"
#include "phys/buddy.h"
#include "phys/pcp.h"

#include <string.h>

#define LAZY_TRIM_BLOCKS 4

int backing_ensure(struct node *node, struct pfn first, unsigned long nr)
{
	return arena_back(node->arena, first, nr);
}

static void zero(struct phys *phys, void *bytes, unsigned long nr)
{
	if (phys->copier)
		copier_clear(phys->copier, bytes, nr);
	else
		memset(bytes, 0, nr << PAGE_SHIFT);
}

// Chunk by chunk: each has its bytes in one file or the other.
void backing_zero(struct phys *phys, struct pfn first, unsigned order)
{
	const unsigned long nr = 1ul << order, step = min(nr, (unsigned long)ARENA_CHUNK_PAGES);
	const struct arena *arena = arena_of(first);

	for (unsigned long i = 0; i < nr; i += step)
		zero(phys, arena_direct(arena, pfn_add(first, i)), step);
}

void backing_enter_hugetlb(struct pfn first, unsigned order)
{
	arena_hugetlb_enter(arena_of(first), first, 1ul << order);
}

void backing_leave_hugetlb(struct pfn first, unsigned order)
{
	arena_hugetlb_leave(arena_of(first), first, 1ul << order);
}

bool quarantine_take(struct zone *zone, struct frame *head, unsigned order)
{
	struct node *node = zone->node;
	struct phys_upcalls *up = &node->phys->up;

	if (likely(!up->reusable) || up->reusable(up->arg, frame_pfn(head), order))
		return false;
	MARK(quarantine);
	mutex_lock(&node->quarantine_lock);
	atomic_store_explicit(&head->index, order, memory_order_relaxed);
	atomic_store_explicit(&head->flags, 1u << PG_ISOLATED, memory_order_release);
	frame_list_add_tail(&node->quarantine, head);
	atomic_fetch_add_explicit(&node->nr_quarantined, 1ul << order, memory_order_relaxed);
	mutex_unlock(&node->quarantine_lock);
	return true;
}

unsigned long node_quarantine_scan(struct node *node)
{
	unsigned long before = atomic_load(&node->nr_quarantined), after;
	struct frame_list all;
	struct frame *head;

	if (!before)
		return 0;
	mutex_lock(&node->quarantine_lock);
	all = node->quarantine;
	node->quarantine = (struct frame_list){0};
	mutex_unlock(&node->quarantine_lock);
	while ((head = frame_list_pop(&all))) {
		unsigned order = buddy_order(head);
		atomic_store_explicit(&head->flags, 0, memory_order_relaxed);
		atomic_store_explicit(&head->index, 0, memory_order_relaxed);
		atomic_fetch_sub_explicit(
			&node->nr_quarantined, 1ul << order, memory_order_relaxed);
		frames_release_block(frame_zone(head), head, order);
	}
	after = atomic_load(&node->nr_quarantined);
	return before > after ? before - after : 0;
}

unsigned long phys_quarantine_scan(struct phys *phys)
{
	unsigned long freed = 0;

	for (unsigned nid = 0; nid < phys->nr_nodes; nid++)
		freed += node_quarantine_scan(phys->node[nid]);
	return freed;
}

uint64_t node_free_backed_bytes(const struct node *node)
{
	uint64_t used, backed;

	if (!node->arena)
		return 0;
	used = node->nr_present - node_nr_free(node);
	backed = atomic_load_explicit(&node->arena->nr_backed, memory_order_relaxed);
	return backed > used ? (backed - used) << PAGE_SHIFT : 0;
}

static bool any_chunk_backed(struct arena *arena, struct frame *head, unsigned order)
{
	for (unsigned long i = 0; i < 1ul << order; i += ARENA_CHUNK_PAGES)
		if (arena_is_backed(arena, pfn_add(frame_pfn(head), i)))
			return true;
	return false;
}

// A free block of at least a chunk with backed bytes, out of the buddy; NULL when there is none.
static struct frame *take_backed_block(struct zone *zone, unsigned *ret_order)
{
	struct frame *found = NULL;

	mutex_lock(&zone->lock);
	for (unsigned order = MAX_PAGE_ORDER; !found && order >= PAGEBLOCK_ORDER; order--) {
		for (unsigned type = 0; !found && type < MIGRATE_ISOLATE; type++) {
			struct frame *head = frame_list_last(&zone->free_area[order].list[type]);
			while (head && !any_chunk_backed(zone->node->arena, head, order))
				head = frame_list_prev(head);
			found = head;
		}
		if (found) {
			buddy_remove(zone, found, order);
			*ret_order = order;
		}
	}
	mutex_unlock(&zone->lock);
	return found;
}

// At most max_blocks blocks; bytes given back.
static uint64_t trim_node(struct node *node, uint64_t keep_bytes, unsigned long max_blocks)
{
	uint64_t bytes = 0;

	for (unsigned i = 0; i < ZONES_PER_NODE; i++) {
		struct zone *zone = &node->zone[i];
		while (max_blocks && node_free_backed_bytes(node) > keep_bytes) {
			unsigned order;
			struct frame *head = take_backed_block(zone, &order);
			if (!head)
				break;
			size_t gone = arena_release(node->arena, frame_pfn(head), 1ul << order);
			mutex_lock(&zone->lock);
			buddy_free_tail(zone, head, order);
			mutex_unlock(&zone->lock);
			if (!gone)
				break; // the host cannot, or not now
			bytes += gone;
			max_blocks--;
		}
	}
	return bytes;
}

void backing_trim_lazily(struct node *node)
{
	uint64_t keep = atomic_load_explicit(&node->phys->free_backed_max, memory_order_relaxed);

	if (unlikely(node_free_backed_bytes(node) > keep)) {
		MARK(backing_trim);
		trim_node(node, keep, LAZY_TRIM_BLOCKS);
	}
}

uint64_t phys_trim(struct phys *phys, uint64_t keep_bytes)
{
	uint64_t bytes = 0;

	phys_quarantine_scan(phys);
	drain_all_pages(phys);
	for (unsigned nid = 0; nid < phys->nr_nodes; nid++)
		if (phys->node[nid]->arena)
			bytes += trim_node(phys->node[nid], keep_bytes, ~0ul);
	return bytes;
}
