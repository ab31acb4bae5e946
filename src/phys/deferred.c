// SPDX-License-Identifier: MIT
// The deferred-split queue of a node: large folios that are only partly used, waiting for someone
// who needs memory to split them.
//
// Links are head pfns in the third frame of the folio (tail 2), so that a folio can be on an LRU
// list at the same time; folios of order 1 have no such frame and are never queued. A folio that
// is not queued has DEFERRED_NONE as its previous link. The queue holds no reference: a folio that
// is freed takes itself off, and who takes folios from the queue must get a reference, which fails
// for one that is just being freed.
#include "base/assert.h"
#include "phys/zone.h"

static struct frame *tail2(const struct folio *folio)
{
	return (struct frame *)&folio->page + 2;
}

static struct folio *link_folio(uint32_t link)
{
	return (struct folio *)link_frame(link);
}

static void set_next(struct folio *folio, uint32_t link)
{
	atomic_store_explicit(&tail2(folio)->deferred_next, link, memory_order_relaxed);
}

static void set_prev(struct folio *folio, uint32_t link)
{
	atomic_store_explicit(&tail2(folio)->deferred_prev, link, memory_order_relaxed);
}

static void queue_unlink(struct deferred_split *queue, struct folio *folio)
{
	uint32_t next = atomic_load_explicit(&tail2(folio)->deferred_next, memory_order_relaxed);
	uint32_t prev = atomic_load_explicit(&tail2(folio)->deferred_prev, memory_order_relaxed);

	if (prev)
		set_next(link_folio(prev), next);
	else
		queue->first = next;
	if (next)
		set_prev(link_folio(next), prev);
	else
		queue->last = prev;
	set_next(folio, 0);
	set_prev(folio, DEFERRED_NONE);
	atomic_fetch_sub_explicit(&queue->nr, 1, memory_order_relaxed);
}

bool folio_deferred_queued(const struct folio *folio)
{
	return folio_order(folio) > 1 && atomic_load_explicit(&tail2(folio)->deferred_prev,
						 memory_order_relaxed) != DEFERRED_NONE;
}

bool folio_deferred_queue(struct folio *folio)
{
	struct deferred_split *queue = &folio_node(folio)->deferred;
	bool queued = false;

	if (folio_order(folio) <= 1 || folio_test_hugetlb(folio))
		return false;
	mutex_lock(&queue->lock);
	if (!folio_deferred_queued(folio)) {
		uint32_t link = frame_link(&folio->page);

		set_next(folio, 0);
		set_prev(folio, queue->last);
		if (queue->last)
			set_next(link_folio(queue->last), link);
		else
			queue->first = link;
		queue->last = link;
		atomic_fetch_add_explicit(&queue->nr, 1, memory_order_relaxed);
		queued = true;
	}
	mutex_unlock(&queue->lock);
	return queued;
}

bool folio_deferred_unqueue(struct folio *folio)
{
	struct deferred_split *queue;
	bool was;

	if (folio_test_partially_mapped(folio) && folio_test_clear_partially_mapped(folio))
		folio_size_stat(folio, STAT_NR_ANON_PARTIALLY_MAPPED, -1);
	// Unqueued is stable for who owns the folio alone; the lock settles the rest.
	if (!folio_deferred_queued(folio))
		return false;
	queue = &folio_node(folio)->deferred;
	mutex_lock(&queue->lock);
	was = folio_deferred_queued(folio);
	if (was)
		queue_unlink(queue, folio);
	mutex_unlock(&queue->lock);
	return was;
}

bool folio_mark_partially_mapped(struct folio *folio)
{
	if (folio_test_set_partially_mapped(folio))
		return false;
	folio_size_stat(folio, STAT_SPLIT_DEFERRED, 1);
	folio_size_stat(folio, STAT_NR_ANON_PARTIALLY_MAPPED, 1);
	return true;
}

unsigned node_deferred_take(struct node *node, struct folio **ret_folios, unsigned max)
{
	struct deferred_split *queue = &node->deferred;
	unsigned n = 0;

	mutex_lock(&queue->lock);
	for (struct folio *folio = link_folio(queue->first), *next; folio && n < max;
		folio = next) {
		next = link_folio(
			atomic_load_explicit(&tail2(folio)->deferred_next, memory_order_relaxed));
		if (!folio_try_get(folio))
			continue; // on its way out; it takes itself off
		queue_unlink(queue, folio);
		ret_folios[n++] = folio;
	}
	mutex_unlock(&queue->lock);
	return n;
}

unsigned long node_deferred_length(struct node *node)
{
	return atomic_load_explicit(&node->deferred.nr, memory_order_relaxed);
}
