// SPDX-License-Identifier: MIT
// Allocation: the policy above the buddy.
//
// folio_alloc() first walks the zonelist of the preferred node with the low watermark (fast path).
// Only when that fails does the slow path lower the watermark to min, wake the background threads,
// and, if the caller may wait, ask for direct compaction and reclaim, drain the per-cpu lists and
// try again, as often as the request allows. Nobody is killed: a full machine answers NULL.
//
// A block taken from the buddy belongs to the caller alone, but its bytes may not be backed yet:
// that is a system call, made here without any lock. If the host has no memory the block goes back
// and the next zone is tried, so the answer is NULL, never a SIGBUS later.
//
// numa_hit, numa_miss, numa_foreign compare the zone that gave with the first zone that could have;
// numa_local, numa_other compare it with the node of the cpu. They count allocations, not pages.
#include "phys/alloc.h"
#include "base/assert.h"
#include "base/fault_inject.h"
#include "base/mark.h"
#include "base/sched.h"
#include "machine/topology.h"
#include "phys/backing.h"
#include "phys/buddy.h"
#include "phys/pcp.h"
#include "phys/alloc_context.h"

static _Thread_local unsigned memalloc_depth __attribute__((tls_model("initial-exec")));

unsigned memalloc_save(void)
{
	return memalloc_depth++;
}

void memalloc_restore(unsigned old)
{
	memalloc_depth = old;
}

bool memalloc_active(void)
{
	return memalloc_depth != 0;
}

enum migratetype gfp_migratetype(gfp_t gfp)
{
	if (gfp & GFP_MOVABLE)
		return MIGRATE_MOVABLE;
	return gfp & GFP_RECLAIMABLE ? MIGRATE_RECLAIMABLE : MIGRATE_UNMOVABLE;
}

enum zone_type gfp_highest_zone(gfp_t gfp)
{
	bool movable = gfp & GFP_MOVABLE && gfp & GFP_HIGHMEM && !(gfp & GFP_PIN);

	return movable ? ZONE_MOVABLE : ZONE_NORMAL;
}

void count_numa(struct alloc_context *ac, struct zone *zone, unsigned nr)
{
	struct vmstat *stat = ac->phys->stat;
	unsigned nid = zone->node->nid, preferred = ac->preferred->node->nid;

	vmstat_add(stat, nid, nid == preferred ? VM_NUMA_HIT : VM_NUMA_MISS, nr);
	if (nid != preferred)
		vmstat_add(stat, preferred, VM_NUMA_FOREIGN, nr);
	vmstat_add(stat, nid, nid == ac->cpu_node ? VM_NUMA_LOCAL : VM_NUMA_OTHER, nr);
}

// A block from this zone, whatever its watermarks say.
static struct frame *take_block(
	struct alloc_context *ac, struct zone *zone, unsigned order, unsigned alloc_flags)
{
	bool no_cma = ac->type == MIGRATE_MOVABLE && !(alloc_flags & ALLOC_CMA);
	struct frame *head = NULL;

	// A per-cpu list may hold CMA blocks among the movable ones.
	if (!no_cma && !(alloc_flags & ALLOC_HIGHATOMIC))
		head = pcp_alloc(zone, ac->cpu, order, ac->type, alloc_flags);
	if (!head) {
		mutex_lock(&zone->lock);
		head = buddy_alloc(zone, order, ac->type, alloc_flags);
		if (head && alloc_flags & ALLOC_HIGHATOMIC)
			buddy_reserve_highatomic(zone, head);
		mutex_unlock(&zone->lock);
	}
	return head;
}

bool zone_allowed(const struct alloc_context *ac, const struct zone *zone)
{
	return zone->type <= ac->highest &&
	       (!ac->allowed || nodemask_test(*ac->allowed, zone->node->nid));
}

static bool zone_has_room(const struct alloc_context *ac, const struct zone *zone, unsigned order,
	unsigned alloc_flags)
{
	if (alloc_flags & ALLOC_NO_WATERMARKS)
		return true;
	return zone_watermark_ok(zone, order, zone_wmark(zone, alloc_flags & ALLOC_WMARK_MASK),
		ac->highest, alloc_flags);
}

// A backed block of the order from the first zone that has room; the zone in ret_zone.
static struct frame *take_from_zone(
	struct alloc_context *ac, struct zone *zone, unsigned order, unsigned alloc_flags)
{
	struct frame *head;

	if (!zone_has_room(ac, zone, order, alloc_flags))
		return NULL;
	head = take_block(ac, zone, order, alloc_flags);
	if (!head)
		return NULL;
	if (backing_ensure(zone->node, frame_pfn(head), 1ul << order)) {
		MARK(alloc_not_backed);
		frames_to_buddy(zone, head, order);
		return NULL;
	}
	return head;
}

struct frame *alloc_from_zonelist(struct alloc_context *ac, unsigned alloc_flags)
{
	for (unsigned i = 0; i < ac->zonelist->nr; i++) {
		struct zone *zone = ac->zonelist->zone[i];
		if (!zone_allowed(ac, zone))
			continue;
		struct frame *head = take_from_zone(ac, zone, ac->order, alloc_flags);
		if (head) {
			count_numa(ac, zone, 1);
			return head;
		}
	}
	return NULL;
}

// A new folio: refcount 1, everything else as if it had never been used.
struct folio *prep_new_folio(struct frame *head, unsigned order, gfp_t gfp)
{
	struct folio *folio = (struct folio *)head;

	atomic_store_explicit(&head->mapping, 0, memory_order_relaxed);
	atomic_store_explicit(&head->index, 0, memory_order_relaxed);
	atomic_store_explicit(&head->mapcount, 0, memory_order_relaxed);
	frame_set_links(head, 0, 0);
	if (unlikely(frame_last_cpupid(head) != CPUPID_NONE))
		frame_xchg_last_cpupid(head, CPUPID_NONE);
	folio_prep_large(head, order);
	if (gfp & GFP_ZERO)
		backing_zero(folio_phys(folio), frame_pfn(head), order);
	folio_ref_unfreeze(folio, 1);
	return folio;
}

void count_allocated(struct phys *phys, const struct zone *zone, unsigned long nr)
{
	vm_events(phys->stat, zone->type == ZONE_MOVABLE ? VM_PGALLOC_MOVABLE : VM_PGALLOC_NORMAL,
		(long)nr);
}

// false: no zone of the machine may serve this request.
static bool context_init(struct alloc_context *ac, struct phys *phys, gfp_t gfp, unsigned order,
	int preferred_nid, const struct nodemask *allowed, int cpu)
{
	unsigned nr_cpus = phys->nr_cpus;

	ac->phys = phys;
	ac->gfp = gfp;
	ac->order = order;
	ac->cpu = (unsigned)max(cpu, 0) % nr_cpus;
	ac->cpu_node = topology_cpu_node(phys->topology, ac->cpu);
	ac->nid = preferred_nid < 0 ? ac->cpu_node : (unsigned)preferred_nid;
	if (ac->nid >= phys->nr_nodes)
		return false;
	ac->allowed = allowed;
	ac->type = gfp_migratetype(gfp);
	if (atomic_load_explicit(&phys->page_group_by_mobility_disabled, memory_order_relaxed))
		ac->type = MIGRATE_UNMOVABLE;
	ac->highest = gfp_highest_zone(gfp);
	ac->zonelist = gfp & GFP_THISNODE ? &phys->node[ac->nid]->nofallback
					  : &phys->node[ac->nid]->fallback;
	for (unsigned i = 0; i < ac->zonelist->nr; i++) {
		ac->preferred = ac->zonelist->zone[i];
		if (zone_allowed(ac, ac->preferred))
			return true;
	}
	return false;
}

unsigned phys_count_page(struct phys *phys, int preferred_nid, const struct nodemask *allowed,
	int cpu)
{
	struct alloc_context ac;

	if (!context_init(&ac, phys, GFP_KERNEL, 0, preferred_nid, allowed, cpu))
		return preferred_nid < 0 ? 0 : (unsigned)preferred_nid;
	count_numa(&ac, ac.preferred, 1);
	return ac.preferred->node->nid;
}

static unsigned cma_flag(const struct alloc_context *ac)
{
	return ac->gfp & GFP_MOVABLE && !(ac->gfp & GFP_PIN) ? ALLOC_CMA : 0;
}

struct folio *folio_alloc(struct phys *phys, gfp_t gfp, unsigned order, int preferred_nid,
	const struct nodemask *allowed, int cpu)
{
	struct alloc_context ac;
	struct frame *head;

	sched_point();
	if (fault_should_fail(FI_ALLOC))
		return NULL;
	if (!context_init(&ac, phys, gfp, order, preferred_nid, allowed, cpu))
		return NULL;
	if (order > MAX_PAGE_ORDER)
		return folio_alloc_gigantic(&ac);
	head = alloc_from_zonelist(&ac, WMARK_LOW | cma_flag(&ac));
	if (!head)
		head = alloc_slowpath(&ac, cma_flag(&ac));
	if (!head)
		return NULL;
	count_allocated(phys, frame_zone(head), 1ul << order);
	return prep_new_folio(head, order, gfp);
}

static unsigned order_of(unsigned long nr_pages) // rounded up
{
	return nr_pages <= 1 ? 0 : 64 - (unsigned)__builtin_clzl(nr_pages - 1);
}

// The block becomes nr single folios; what is over goes back, as the largest blocks it holds.
static void split_run(struct zone *zone, struct frame *head, unsigned order, unsigned nr, gfp_t gfp,
	struct folio **out)
{
	for (unsigned i = 0; i < nr; i++)
		out[i] = prep_new_folio(head + i, 0, gfp);
	if (nr < 1ul << order) {
		mutex_lock(&zone->lock);
		buddy_free_range(zone, frame_pfn(head).n + nr, (1ul << order) - nr, false);
		mutex_unlock(&zone->lock);
	}
}

unsigned folio_alloc_run(
	struct phys *phys, gfp_t gfp, int nid, unsigned max_pages, int cpu, struct folio **out)
{
	unsigned most = min(order_of(max_pages), (unsigned)MAX_PAGE_ORDER);
	struct alloc_context ac;

	sched_point();
	if (fault_should_fail(FI_ALLOC) || !max_pages ||
		!context_init(&ac, phys, gfp, 0, nid, NULL, cpu))
		return 0;
	for (unsigned i = 0; i < ac.zonelist->nr; i++) {
		struct zone *zone = ac.zonelist->zone[i];
		if (!zone_allowed(&ac, zone))
			continue;
		for (unsigned order = most + 1; order-- > 0;) {
			struct frame *head =
				take_from_zone(&ac, zone, order, WMARK_LOW | cma_flag(&ac));
			if (!head)
				continue;
			unsigned nr = min(1u << order, max_pages);
			split_run(zone, head, order, nr, gfp, out);
			count_numa(&ac, zone, nr);
			count_allocated(phys, zone, nr);
			return nr;
		}
	}
	out[0] = folio_alloc(phys, gfp, 0, nid, NULL, cpu);
	return out[0] != NULL;
}

int folio_prep_isolated(struct frame *head, unsigned order, gfp_t gfp)
{
	struct zone *zone = frame_zone(head);
	int err = backing_ensure(zone->node, frame_pfn(head), 1ul << order);

	if (err)
		return err;
	prep_new_folio(head, order, gfp);
	return 0;
}
