// SPDX-License-Identifier: MIT
// Memory failure: frames that must never be used again.
//
// HWPOISON is a flag of one frame. On a frame in use it only marks: when its folio is freed, the
// frame stays out (free.c). A free frame is cut out of its block here. A frame that is withheld has
// HWPOISON, no other flag, and no reference; node->nr_poisoned counts these.
//
// A frame may be on its way between these states: on a per-cpu list, in quarantine, or frozen by
// somebody. The lists are emptied and the frame is looked at again; what is still neither free nor
// to be referenced is frozen, that is in use.
#include "phys/alloc.h"
#include "base/mark.h"
#include "phys/backing.h"
#include "phys/buddy.h"
#include "phys/pcp.h"

#include <errno.h>

#define LOOKS 3

static bool cut_out(struct zone *zone, struct frame *frame)
{
	uint64_t pfn = frame_pfn(frame).n, first, end;
	struct frame *head;
	unsigned order;

	mutex_lock(&zone->lock);
	head = buddy_find(zone, frame, &order);
	if (head) {
		MARK(poison_free_frame);
		first = frame_pfn(head).n;
		end = first + (1ul << order);
		buddy_remove(zone, head, order);
		atomic_store_explicit(&frame->flags, 1u << PG_HWPOISON, memory_order_release);
		atomic_fetch_add_explicit(&zone->node->nr_poisoned, 1, memory_order_relaxed);
		buddy_free_range(zone, first, pfn - first, false);
		buddy_free_range(zone, pfn + 1, end - pfn - 1, false);
	}
	mutex_unlock(&zone->lock);
	return head != NULL;
}

static bool is_withheld(const struct frame *frame)
{
	return frame_flags(frame) == 1u << PG_HWPOISON &&
	       !atomic_load_explicit(&frame->refcount, memory_order_acquire);
}

bool frame_poison(struct phys *phys, struct frame *frame)
{
	struct zone *zone = frame_zone(frame);

	for (unsigned look = 0; look < LOOKS; look++) {
		struct folio *folio;

		if (is_withheld(frame) || cut_out(zone, frame))
			return true;
		folio = folio_try_get_frame(frame);
		if (folio) {
			frame_set_hwpoison(frame);
			folio_put(folio);
			return is_withheld(frame);
		}
		zone_drain_pcp(zone);
		node_quarantine_scan(zone->node);
	}
	(void)phys;
	frame_set_hwpoison(frame);
	return false;
}

int frame_unpoison(struct phys *phys, struct frame *frame)
{
	struct zone *zone = frame_zone(frame);

	(void)phys;
	if (!frame_test_hwpoison(frame))
		return -ENOENT;
	if (!is_withheld(frame))
		return -EBUSY;
	atomic_store_explicit(&frame->flags, 0, memory_order_relaxed);
	atomic_fetch_sub_explicit(&zone->node->nr_poisoned, 1, memory_order_relaxed);
	frames_to_buddy(zone, frame, 0);
	return 0;
}
