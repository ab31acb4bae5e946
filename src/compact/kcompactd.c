// SPDX-License-Identifier: MIT
// kcompactd: compaction in the background, a daemon for each node.
//
//	asleep -> woken with an order by an allocation that does not wait, if a run could help
//	       -> one run over each zone of the node that is not deferred -> asleep
//	       -> every 500 ms, if proactive: a run while the node's free memory is too fragmented;
//	          when it gained nothing, not again for 32 s
//
// wake_kcompactd() is called by the allocator, also in a fault handler: it stores what is wanted
// and wakes, and allocates nothing. Several wakes before the daemon comes to it are one, of the
// largest order. A thread runs the daemon on machines with real memory, and in seeded runs; without
// one, who drives the machine calls kcompactd_run(). The daemon sleeps by the machine's clock, so
// that a manual clock drives it.
//
// Locks: none of its own; runs of daemons and of allocations may meet in a zone. The threads block
// all signals. What can fail: a thread; then the machine is not built.
#include "base/mark.h"
#include "base/sched.h"
#include "base/wait.h"
#include "compact/internal.h"
#include "machine/clock.h"
#include "phys/alloc.h"

#include <errno.h>
#include <signal.h>
#include <string.h>

#define PROACTIVE_INTERVAL_NS 500000000ull

static struct kcompactd *of_node(struct compaction *c, unsigned nid)
{
	return &c->kcompactd[nid];
}

// ---- Waking

static bool node_suitable(struct compaction *c, struct node *node, unsigned order,
	enum zone_type highest)
{
	for (unsigned i = 0; i < ZONES_PER_NODE; i++) {
		struct zone *zone = &node->zone[i];

		if (zone_populated(zone) && zone->type <= highest &&
			compaction_suit(c, zone, order, highest, WMARK_MIN) == COMPACT_CONTINUE)
			return true;
	}
	return false;
}

void wake_kcompactd(void *arg, struct node *node, unsigned order, enum zone_type highest)
{
	struct mm_core *mm = arg;
	struct compaction *c = mm->compaction;
	struct kcompactd *kd = of_node(c, node->nid);

	if (!order || !node_suitable(c, node, order, highest))
		return;
	unsigned old = atomic_load(&kd->order);
	while (old < order && !atomic_compare_exchange_weak(&kd->order, &old, order))
		;
	if (atomic_load(&kd->highest) < (int)highest)
		atomic_store(&kd->highest, (int)highest);
	trace_event(mm->trace, mm_compaction_wakeup_kcompactd, .nid = node->nid,
		.order = (int)order, .highest_zoneidx = highest);
	if (kd->has_thread)
		clock_kick(mm->clock);
}

void compaction_set_proactiveness(struct compaction *c, unsigned long percent)
{
	int nid;

	atomic_store(&c->proactiveness, percent);
	for_each_node_in(nid, c->mm->phys->has_memory)
		atomic_store(&of_node(c, (unsigned)nid)->proactive, percent != 0);
	clock_kick(c->mm->clock);
}

// ---- Work

// One zone of a woken daemon.
static void run_zone(struct compaction *c, struct zone *zone, unsigned order,
	enum zone_type highest)
{
	struct compact_control cc = {
		.compaction = c,
		.zone = zone,
		.order = (int)order,
		.gfp = GFP_KERNEL,
		.type = gfp_migratetype(GFP_KERNEL),
		.highest = highest,
		.alloc_flags = WMARK_MIN,
		.mode = MIGRATE_SYNC_LIGHT,
	};
	enum compact_result result;

	if (compaction_deferred(zone, order) ||
		compaction_suit(c, zone, order, highest, WMARK_MIN) != COMPACT_CONTINUE)
		return;
	result = compact_zone(&cc);
	if (result == COMPACT_SUCCESS)
		compaction_defer_reset(zone, order, false);
	else if (result == COMPACT_COMPLETE || result == COMPACT_PARTIAL_SKIPPED)
		defer_compaction(zone, order);
	vm_events(c->mm->stat, VM_COMPACT_DAEMON_MIGRATE_SCANNED, (long)cc.nr_migrate_scanned);
	vm_events(c->mm->stat, VM_COMPACT_DAEMON_FREE_SCANNED, (long)cc.nr_free_scanned);
}

bool kcompactd_run(struct compaction *c, unsigned nid)
{
	struct kcompactd *kd = of_node(c, nid);
	unsigned order = atomic_exchange(&kd->order, 0);
	enum zone_type highest = (enum zone_type)atomic_exchange(&kd->highest, 0);
	struct node *node = phys_node(c->mm->phys, nid);

	if (!order)
		return false;
	MARK(kcompactd_run);
	trace_event(c->mm->trace, mm_compaction_kcompactd_wake, .nid = nid, .order = (int)order,
		.highest_zoneidx = highest);
	vm_event(c->mm->stat, VM_COMPACT_DAEMON_WAKE);
	for (unsigned i = 0; i < ZONES_PER_NODE; i++)
		if (zone_populated(&node->zone[i]) && node->zone[i].type <= highest)
			run_zone(c, &node->zone[i], order, highest);
	return true;
}

bool kcompactd_run_proactive(struct compaction *c, unsigned nid, bool *ret_progress)
{
	struct node *node = phys_node(c->mm->phys, nid);
	unsigned before = fragmentation_score_node(node);

	atomic_store(&of_node(c, nid)->proactive, false);
	*ret_progress = true;
	if (!atomic_load(&c->proactiveness) || before <= fragmentation_score_limit(c, false))
		return false;
	MARK(kcompactd_proactive);
	compact_node(c, node, true);
	*ret_progress = fragmentation_score_node(node) < before;
	return true;
}

// ---- The thread

static bool end_work(struct compaction *c)
{
	if (atomic_fetch_sub(&c->running, 1) == 1)
		wake_all(c);
	return false;
}

// false: not now.
static bool begin_work(struct compaction *c)
{
	atomic_fetch_add(&c->running, 1);
	return atomic_load(&c->paused) || atomic_load(&c->stop) ? end_work(c) : true;
}

void kcompactd_pause(struct compaction *c)
{
	atomic_fetch_add(&c->paused, 1);
	(void)!wait_until(c, !atomic_load(&c->running), WAIT_FOREVER);
}

void kcompactd_resume(struct compaction *c)
{
	atomic_fetch_sub(&c->paused, 1);
	clock_kick(c->mm->clock);
}

static bool has_work(struct kcompactd *kd, uint64_t next_ns)
{
	struct compaction *c = kd->compaction;

	if (atomic_load(&c->stop) || atomic_load(&c->paused))
		return atomic_load(&c->stop);
	return atomic_load(&kd->order) || atomic_load(&kd->proactive) ||
	       (atomic_load(&c->proactiveness) && clock_now_ns(c->mm->clock) >= next_ns);
}

static void sleep_until_work(struct kcompactd *kd, uint64_t next_ns)
{
	struct compaction *c = kd->compaction;
	struct clock *clock = c->mm->clock;

	trace_event(c->mm->trace, mm_compaction_kcompactd_sleep, .nid = kd->node->nid);
	while (!has_work(kd, next_ns)) {
		uint64_t now = clock_now_ns(clock), left = next_ns > now ? next_ns - now : 0;
		bool timed = atomic_load(&c->proactiveness) && !clock->manual;

		(void)!wait_until(clock, has_work(kd, next_ns), timed ? left : WAIT_FOREVER);
	}
}

static void *kcompactd_main(void *arg)
{
	struct kcompactd *kd = arg;
	struct compaction *c = kd->compaction;
	uint64_t next_ns = 0;

	while (!atomic_load(&c->stop)) {
		bool progress;

		sleep_until_work(kd, next_ns);
		if (!begin_work(c))
			continue;
		if (!kcompactd_run(c, kd->node->nid)) {
			(void)kcompactd_run_proactive(c, kd->node->nid, &progress);
			next_ns = clock_now_ns(c->mm->clock) +
				  (PROACTIVE_INTERVAL_NS
					  << (progress ? 0 : COMPACT_MAX_DEFER_SHIFT));
		}
		(void)end_work(c);
	}
	return NULL;
}

int kcompactd_start(struct compaction *c)
{
	sigset_t all, old;
	int nid, err = 0;

	sigfillset(&all);
	pthread_sigmask(SIG_BLOCK, &all, &old);
	for_each_node_in(nid, c->mm->phys->has_memory) {
		struct kcompactd *kd = of_node(c, (unsigned)nid);

		err = sched_thread_create(&kd->thread, kcompactd_main, kd);
		if (err)
			break;
		kd->has_thread = true;
	}
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	return -err;
}

// ---- The beginning and the end

void compaction_init(struct compaction *c, struct mm_core *mm)
{
	struct phys_upcalls *up = &mm->phys->up;

	memset(c, 0, sizeof(*c));
	c->mm = mm;
	c->extfrag_threshold = 500;
	c->unevictable_allowed = 1;
	for (unsigned nid = 0; nid < mm->phys->nr_nodes; nid++) {
		c->kcompactd[nid].compaction = c;
		c->kcompactd[nid].node = phys_node(mm->phys, nid);
	}
	mm->compaction = c;
	up->arg = mm;
	up->compact = compaction_direct;
	up->compacted = compaction_helped;
	up->wake_kcompactd = wake_kcompactd;
}

void compaction_destroy(struct compaction *c)
{
	if (!c->mm)
		return;
	atomic_store(&c->stop, true);
	clock_kick(c->mm->clock);
	for (unsigned nid = 0; nid < MAX_NODES; nid++) {
		if (c->kcompactd[nid].has_thread)
			sched_thread_join(c->kcompactd[nid].thread);
		c->kcompactd[nid].has_thread = false;
	}
	c->mm->compaction = NULL;
	c->mm = NULL;
}
