// SPDX-License-Identifier: MIT
// What an allocation does when no zone is above its low watermark.
//
// In this order: wake background reclaim; try with the min watermark (less for GFP_HIGH and
// for requests that cannot wait, none for who frees memory itself); costly or immovable blocks try
// asynchronous compaction before reclaim; then rounds of direct reclaim and direct compaction with
// rising priority, each followed by an attempt with the per-cpu lists and the HIGHATOMIC reserve
// drained. A round that achieved nothing ends it, as does GFP_NORETRY, or a costly order without
// GFP_RETRY_MAYFAIL. Without GFP_DIRECT_RECLAIM nothing but the first attempt happens. When all was
// in vain, background compaction is woken.
//
// Reclaim and compaction are other layers': upcalls, made without any lock. While one runs, this
// thread's own allocations use the reserve and start neither (memalloc_save()).
#include "base/mark.h"
#include "phys/alloc.h"
#include "phys/alloc_context.h"
#include "phys/backing.h"
#include "phys/buddy.h"
#include "phys/pcp.h"

#define MAX_RECLAIM_ROUNDS 16
#define MAX_COMPACT_RETRIES 16

struct effort {
	unsigned rounds;
	unsigned compact_retries;
	enum compact_priority prio;
	enum compact_result compacted;
};

static bool costly(const struct alloc_context *ac)
{
	return ac->order > PAGE_ALLOC_COSTLY_ORDER;
}

static unsigned slow_flags(const struct alloc_context *ac, unsigned alloc_flags)
{
	unsigned flags = WMARK_MIN | alloc_flags;
	gfp_t gfp = ac->gfp;

	if (gfp & GFP_HIGH)
		flags |= ALLOC_MIN_RESERVE;
	if (gfp & GFP_KSWAPD_RECLAIM)
		flags |= ALLOC_KSWAPD;
	if (!(gfp & GFP_DIRECT_RECLAIM) && !(gfp & GFP_NOMEMALLOC)) {
		flags |= ALLOC_NON_BLOCK;
		if (ac->order && gfp & GFP_HIGH)
			flags |= ALLOC_HIGHATOMIC;
	}
	if (!(gfp & GFP_NOMEMALLOC) && (gfp & GFP_MEMALLOC || memalloc_active()))
		flags |= ALLOC_NO_WATERMARKS;
	return flags;
}

typedef void wake_fn(struct alloc_context *ac, struct node *node);

static void wake_reclaim(struct alloc_context *ac, struct node *node)
{
	if (ac->phys->up.wake_kswapd)
		ac->phys->up.wake_kswapd(ac->phys->up.arg, node, ac->order);
}

// Linux comes to it when its background reclaim has nothing more to do.
static void wake_compaction(struct alloc_context *ac, struct node *node)
{
	if (ac->phys->up.wake_kcompactd && ac->order)
		ac->phys->up.wake_kcompactd(ac->phys->up.arg, node, ac->order, ac->highest);
}

static void wake_background(struct alloc_context *ac, wake_fn *wake)
{
	struct node *last = NULL;

	if (!(ac->gfp & GFP_KSWAPD_RECLAIM))
		return;
	for (unsigned i = 0; i < ac->zonelist->nr; i++) {
		struct node *node = ac->zonelist->zone[i]->node;
		if (node == last || (ac->allowed && !nodemask_test(*ac->allowed, node->nid)))
			continue;
		last = node;
		wake(ac, node);
	}
}

// What others hold back: per-cpu lists, quarantine, and (forced: all of) the HIGHATOMIC blocks.
static void drain_reserves(struct alloc_context *ac, bool force)
{
	for (unsigned i = 0; i < ac->zonelist->nr; i++) {
		struct zone *zone = ac->zonelist->zone[i];
		mutex_lock(&zone->lock);
		buddy_unreserve_highatomic(zone, ac->type, force);
		mutex_unlock(&zone->lock);
		node_quarantine_scan(zone->node);
		zone_drain_pcp(zone);
	}
}

static struct frame *try_compaction(struct alloc_context *ac, unsigned flags, struct effort *effort)
{
	struct phys_upcalls *up = &ac->phys->up;
	struct frame *head;
	unsigned saved;

	effort->compacted = COMPACT_SKIPPED;
	if (!ac->order || !up->compact)
		return NULL;
	saved = memalloc_save();
	effort->compacted =
		up->compact(up->arg, ac->gfp, ac->order, (int)ac->nid, ac->allowed, effort->prio);
	memalloc_restore(saved);
	if (effort->compacted <= COMPACT_SKIPPED)
		return NULL;
	vm_event(ac->phys->stat, VM_COMPACT_STALL);
	head = alloc_from_zonelist(ac, flags);
	vm_event(ac->phys->stat, head ? VM_COMPACT_SUCCESS : VM_COMPACT_FAIL);
	if (head && up->compacted)
		up->compacted(up->arg, frame_zone(head), ac->order);
	return head;
}

// ret_progress: pages freed.
static struct frame *try_reclaim(
	struct alloc_context *ac, unsigned flags, unsigned long *ret_progress)
{
	struct phys_upcalls *up = &ac->phys->up;
	struct frame *head = NULL;

	*ret_progress = 0;
	if (up->reclaim) {
		unsigned saved = memalloc_save();
		vm_event(ac->phys->stat,
			ac->highest == ZONE_MOVABLE ? VM_ALLOCSTALL_MOVABLE : VM_ALLOCSTALL_NORMAL);
		*ret_progress = up->reclaim(up->arg, ac->gfp, ac->order, (int)ac->nid, ac->allowed);
		memalloc_restore(saved);
		head = alloc_from_zonelist(ac, flags);
	}
	if (!head) {
		drain_reserves(ac, *ret_progress == 0);
		head = alloc_from_zonelist(ac, flags);
	}
	return head;
}

// After a round of compaction that gave no page: is another one worth it? Raises the priority.
static bool should_retry_compaction(const struct alloc_context *ac, struct effort *effort)
{
	enum compact_priority floor = costly(ac) ? COMPACT_PRIO_SYNC_LIGHT : COMPACT_PRIO_SYNC_FULL;
	unsigned most = costly(ac) ? MAX_COMPACT_RETRIES / 4 : MAX_COMPACT_RETRIES;

	if (!ac->order || !ac->phys->up.compact)
		return false;
	if (effort->compacted == COMPACT_SUCCESS && ++effort->compact_retries <= most)
		return true;
	if (effort->prio <= floor)
		return false;
	effort->prio--;
	effort->compact_retries = 0;
	return true;
}

static bool should_retry(
	const struct alloc_context *ac, struct effort *effort, unsigned long progress)
{
	if (ac->gfp & GFP_NORETRY || (costly(ac) && !(ac->gfp & GFP_RETRY_MAYFAIL)))
		return false;
	if (++effort->rounds > MAX_RECLAIM_ROUNDS * 4)
		return false;
	if (progress && !ac->order)
		return true;
	return should_retry_compaction(ac, effort);
}

static struct frame *try_all(struct alloc_context *ac, unsigned alloc_flags)
{
	struct effort effort = {.prio = COMPACT_PRIO_ASYNC};
	unsigned flags = slow_flags(ac, alloc_flags);
	bool may_wait = ac->gfp & GFP_DIRECT_RECLAIM && !memalloc_active();
	unsigned long progress;
	struct frame *head;

	wake_background(ac, wake_reclaim);
	head = alloc_from_zonelist(ac, flags);
	if (head || !may_wait)
		return head;
	MARK(alloc_slowpath);
	if (costly(ac) || (ac->order && ac->type != MIGRATE_MOVABLE)) {
		head = try_compaction(ac, flags, &effort);
		if (head)
			return head;
		if (costly(ac) && ac->gfp & GFP_NORETRY && ac->phys->up.compact &&
			(effort.compacted <= COMPACT_DEFERRED || ac->gfp & GFP_THISNODE))
			return NULL;
	}
	if (!(costly(ac) && ac->gfp & GFP_NORETRY))
		effort.prio = COMPACT_PRIO_SYNC_LIGHT;
	do {
		wake_background(ac, wake_reclaim);
		head = try_reclaim(ac, flags, &progress);
		if (!head)
			head = try_compaction(ac, flags, &effort);
	} while (!head && should_retry(ac, &effort, progress));
	return head;
}

struct frame *alloc_slowpath(struct alloc_context *ac, unsigned alloc_flags)
{
	struct frame *head = try_all(ac, alloc_flags);

	if (!head)
		wake_background(ac, wake_compaction);
	return head;
}
