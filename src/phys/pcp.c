// SPDX-License-Identifier: MIT
// The per-cpu lists in front of a zone's buddy.
//
// States of a block here: head frame with flag PCP, its order in `index`, linked on one of the
// cpu's lists; it counts as neither free (the zone's numbers exclude it) nor allocated. A list that
// runs empty is refilled with a batch under one zone lock; a cpu that holds `high` pages or more
// gives a batch back. The cold end (the tail) goes back first.
//
// A cpu is whatever number the caller names. Two threads that name the same one meet at its lock;
// who does not get it at once uses the buddy directly, so nobody ever waits here, except to drain.
// Blocks of ISOLATE and HIGHATOMIC pageblocks never stay here; CMA blocks pass as MOVABLE, and the
// allocator stays away from these lists when it must not get CMA.
//
// Lock order: PCP, then ZONE.
#include "phys/pcp.h"
#include "base/assert.h"
#include "phys/backing.h"
#include "phys/buddy.h"

static _Thread_local unsigned this_cpu __attribute__((tls_model("initial-exec")));

unsigned phys_this_cpu(void)
{
	return this_cpu;
}

void phys_set_this_cpu(unsigned cpu)
{
	this_cpu = cpu;
}

static unsigned list_index(unsigned order, enum migratetype type)
{
	if (order > PAGE_ALLOC_COSTLY_ORDER)
		return PCP_LISTS - 2 + (type == MIGRATE_MOVABLE);
	return order * MIGRATE_PCPTYPES + type;
}

static struct pcp *zone_pcp(struct zone *zone, unsigned cpu)
{
	return &zone->pcp[cpu % zone_phys(zone)->nr_cpus];
}

// Not while the lists are disabled. Looked at under the lock: who disables them counts first and
// takes each lock then, so that no block comes to a list that was emptied for good.
static bool pcp_trylock(struct zone *zone, struct pcp *pcp) TRY_ACQUIRE(true, pcp->lock);
NO_THREAD_SAFETY_ANALYSIS static bool pcp_trylock(struct zone *zone, struct pcp *pcp)
{
	if (!mutex_trylock(&pcp->lock))
		return false;
	if (likely(!atomic_load_explicit(&zone->pcp_disabled, memory_order_relaxed)))
		return true;
	mutex_unlock(&pcp->lock);
	return false;
}

static void push(
	struct pcp *pcp, struct frame *head, unsigned order, enum migratetype type, bool to_tail)
{
	struct frame_list *list = &pcp->list[list_index(order, type)];

	atomic_store_explicit(&head->index, order, memory_order_relaxed);
	atomic_store_explicit(&head->flags, 1u << PG_PCP, memory_order_release);
	if (to_tail)
		frame_list_add_tail(list, head);
	else
		frame_list_add(list, head);
	pcp->count += 1u << order;
}

static void unlist(struct pcp *pcp, struct frame_list *list, struct frame *head)
{
	frame_list_del(list, head);
	pcp->count -= 1u << buddy_order(head);
	atomic_store_explicit(&head->index, 0, memory_order_relaxed);
	atomic_store_explicit(&head->flags, 0, memory_order_relaxed);
}

static void refill(struct zone *zone, struct pcp *pcp, unsigned order, enum migratetype type,
	unsigned alloc_flags)
{
	unsigned batch = atomic_load_explicit(&zone->pcp_batch, memory_order_relaxed);
	unsigned n = order ? max(batch >> order, 2u) : batch;

	mutex_lock(&zone->lock);
	while (n--) {
		struct frame *head = buddy_alloc(zone, order, type, alloc_flags);
		if (!head)
			break;
		push(pcp, head, order, type, true);
	}
	mutex_unlock(&zone->lock);
}

struct frame *pcp_alloc(struct zone *zone, unsigned cpu, unsigned order, enum migratetype type,
	unsigned alloc_flags)
{
	struct pcp *pcp = zone_pcp(zone, cpu);
	struct frame *head;

	if (!pcp_allowed_order(order) || type >= MIGRATE_PCPTYPES || !pcp_trylock(zone, pcp))
		return NULL;
	struct frame_list *list = &pcp->list[list_index(order, type)];
	if (frame_list_empty(list))
		refill(zone, pcp, order, type, alloc_flags);
	head = frame_list_first(list);
	if (head)
		unlist(pcp, list, head);
	mutex_unlock(&pcp->lock);
	return head;
}

// At least nr pages from the cold ends of all lists, in turn, to the buddy.
static void give_back(struct zone *zone, struct pcp *pcp, unsigned nr)
{
	unsigned keep = pcp->count > nr ? pcp->count - nr : 0;

	mutex_lock(&zone->lock);
	for (unsigned i = 0; pcp->count > keep; i = (i + 1) % PCP_LISTS) {
		struct frame *head = frame_list_last(&pcp->list[i]);
		if (!head)
			continue;
		unsigned order = buddy_order(head);
		unlist(pcp, &pcp->list[i], head);
		buddy_free(zone, head, order);
	}
	mutex_unlock(&zone->lock);
}

bool pcp_free(
	struct zone *zone, unsigned cpu, struct frame *head, unsigned order, enum migratetype type)
{
	struct pcp *pcp = zone_pcp(zone, cpu);

	if (type == MIGRATE_CMA)
		type = MIGRATE_MOVABLE;
	if (!pcp_allowed_order(order) || type >= MIGRATE_PCPTYPES || !pcp_trylock(zone, pcp))
		return false;
	push(pcp, head, order, type, false);
	bool full = pcp->count >= atomic_load_explicit(&zone->pcp_high, memory_order_relaxed);
	if (full)
		give_back(zone, pcp,
			max(atomic_load_explicit(&zone->pcp_batch, memory_order_relaxed),
				1u << order));
	mutex_unlock(&pcp->lock);
	if (full)
		backing_trim_lazily(zone->node);
	return true;
}

void zone_drain_pcp(struct zone *zone)
{
	if (!zone_populated(zone))
		return;
	for (unsigned cpu = 0; cpu < zone_phys(zone)->nr_cpus; cpu++) {
		struct pcp *pcp = &zone->pcp[cpu];
		mutex_lock(&pcp->lock);
		if (pcp->count)
			give_back(zone, pcp, pcp->count);
		mutex_unlock(&pcp->lock);
	}
}

void drain_all_pages(struct phys *phys)
{
	for (unsigned nid = 0; nid < phys->nr_nodes; nid++)
		for (unsigned i = 0; i < ZONES_PER_NODE; i++)
			zone_drain_pcp(&phys->node[nid]->zone[i]);
}

void zone_pcp_disable(struct zone *zone)
{
	atomic_fetch_add(&zone->pcp_disabled, 1);
	zone_drain_pcp(zone);
}

void zone_pcp_enable(struct zone *zone)
{
	unsigned old = atomic_fetch_sub(&zone->pcp_disabled, 1);

	assert_that(old, "per-cpu lists of node %u enabled twice", zone->node->nid);
	(void)old;
}

unsigned long zone_pcp_pages(struct zone *zone)
{
	unsigned long sum = 0;

	if (!zone_populated(zone))
		return 0;
	for (unsigned cpu = 0; cpu < zone_phys(zone)->nr_cpus; cpu++) {
		mutex_lock(&zone->pcp[cpu].lock);
		sum += zone->pcp[cpu].count;
		mutex_unlock(&zone->pcp[cpu].lock);
	}
	return sum;
}
