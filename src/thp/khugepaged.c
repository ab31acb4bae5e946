// SPDX-License-Identifier: MIT
// khugepaged: finds ranges whose small pages would do better as one huge page.
//
// Spaces join its list at their first fault or advice that could give a huge page, at a fork of one
// that has joined, and leave it when they end. A step looks at one space, from where the cursor
// stands: mmap_lock is only tried; where it is busy, the cursor goes on to the next space. One vma
// costs 1 of the pages_to_scan of a run, one range 512. A collapse gives up mmap_lock and so ends
// the step. At the end of the list full_scans rises and the cursor begins anew, at most twice a
// run. When a huge page cannot be had, the daemon sleeps alloc_sleep once, and the second time the
// run ends.
//
// The daemon is a thread that exists while some size is enabled; it sleeps by the machine's clock,
// so a manual clock drives it. khugepaged_scan_full() does the same work in the caller's thread.
//
// Locks: `lock` while a run goes on (below mmap_lock); slots_lock, short, for the list and the
// cursor. A space is held by reference while it is looked at; one that is ending is passed over.
// What can fail: a slot's memory; then the space is not looked at.
#include "thp/thp.h"

#include "base/sched.h"
#include "base/wait.h"
#include "machine/clock.h"
#include "phys/alloc.h"
#include "virt/object.h"
#include "virt/vma.h"

#include <errno.h>
#include <signal.h>

struct run {
	struct thp *thp;
	struct khugepaged *kd;
	struct collapse collapse;
	unsigned long pages_left;
	bool alloc_failed; // once already
	bool by_hand;
	bool end;
};

static void run_once(struct run *run);

// ---- The list

void khugepaged_enter(struct thp *thp, struct space *space)
{
	struct khugepaged *kd = &thp->khugepaged;

	if (__atomic_load_n(&space->khugepaged_slot, __ATOMIC_ACQUIRE))
		return;
	struct khugepaged_slot *slot = meta_new(struct khugepaged_slot);
	if (!slot)
		return;
	slot->space = space;
	mutex_lock(&kd->slots_lock);
	bool first = !space->khugepaged_slot;
	if (first) {
		__atomic_store_n(&space->khugepaged_slot, slot, __ATOMIC_RELEASE);
		list_add_tail(&slot->node, &kd->slots);
	}
	mutex_unlock(&kd->slots_lock);
	if (!first)
		meta_delete(slot);
}

static struct khugepaged_slot *slot_after(struct khugepaged *kd, struct list_head *at)
{
	return at->next == &kd->slots ? NULL : list_entry(at->next, struct khugepaged_slot, node);
}

void thp_space_exit(struct space *space)
{
	struct khugepaged *kd = &space->mm->thp->khugepaged;
	struct khugepaged_slot *slot;

	mutex_lock(&kd->slots_lock);
	slot = space->khugepaged_slot;
	if (slot) {
		// The cursor stays before what comes next.
		if (kd->cursor == slot)
			kd->cursor = slot->node.prev == &kd->slots
				? NULL : list_entry(slot->node.prev, struct khugepaged_slot, node);
		list_del(&slot->node);
		space->khugepaged_slot = NULL;
	}
	mutex_unlock(&kd->slots_lock);
	if (slot)
		meta_delete(slot);
}

void thp_space_forked(struct space *child, struct space *parent)
{
	atomic_store(&child->thp_disabled, atomic_load(&parent->thp_disabled));
	if (__atomic_load_n(&parent->khugepaged_slot, __ATOMIC_ACQUIRE))
		khugepaged_enter(child->mm->thp, child);
}

// The space at the cursor with a reference, the first or next one if `advance`; NULL: the end of
// the list, or nobody is on it.
static struct space *cursor_space(struct khugepaged *kd, bool advance)
{
	struct space *space = NULL;

	mutex_lock(&kd->slots_lock);
	if (advance || !kd->cursor) {
		kd->cursor = slot_after(kd, kd->cursor ? &kd->cursor->node : &kd->slots);
		kd->address = 0;
	}
	while (kd->cursor && !space_tryget(kd->cursor->space)) {
		kd->cursor = slot_after(kd, &kd->cursor->node);
		kd->address = 0;
	}
	if (kd->cursor)
		space = kd->cursor->space;
	mutex_unlock(&kd->slots_lock);
	return space;
}

static bool has_spaces(struct khugepaged *kd)
{
	mutex_lock(&kd->slots_lock);
	bool any = !list_empty(&kd->slots);
	mutex_unlock(&kd->slots_lock);
	return any;
}

// ---- A step: one space

static void spend(struct run *run, unsigned long pages)
{
	run->pages_left -= min(run->pages_left, pages);
}

static void note_result(struct run *run, enum scan_result result)
{
	if (result == SCAN_SUCCEED)
		atomic_fetch_add(&run->kd->pages_collapsed, 1);
	if (result != SCAN_ALLOC_HUGE_PAGE_FAIL && result != SCAN_CGROUP_CHARGE_FAIL)
		return;
	run->end |= run->alloc_failed && !run->by_hand;
	run->alloc_failed = true;
}

// Ranges of one vma from the cursor on. false: mmap_lock is gone.
static bool scan_vma(struct run *run, struct vma *vma)
{
	uint64_t start = ALIGN_UP(vma->start, PMD_SIZE), end = ALIGN_DOWN(vma->end, PMD_SIZE);
	struct khugepaged *kd = run->kd;

	if (kd->address < start)
		kd->address = start;
	while (kd->address < end && run->pages_left) {
		uint64_t haddr = kd->address;
		bool locked;
		enum scan_result result = vma->object
			? collapse_scan_object(&run->collapse, vma, haddr, &locked)
			: collapse_scan_pmd(&run->collapse, vma, haddr, &locked);

		kd->address += PMD_SIZE;
		spend(run, PTRS_PER_TABLE);
		note_result(run, result);
		if (!locked)
			return false;
	}
	return true;
}

// true: the space is done with.
NO_THREAD_SAFETY_ANALYSIS static bool scan_space(struct run *run, struct space *space)
{
	struct khugepaged *kd = run->kd;
	struct vma *vma;

	if (!read_trylock(&space->mmap_lock))
		return true;
	for (vma = vma_find(space, kd->address); vma; vma = vma_next(vma)) {
		if (!run->pages_left)
			break;
		spend(run, 1);
		if (!thp_vma_orders(run->thp, vma, THP_KHUGEPAGED, 1u << PMD_ORDER))
			continue;
		if (!scan_vma(run, vma))
			return false;
		if (kd->address < ALIGN_DOWN(vma->end, PMD_SIZE))
			break;
	}
	read_unlock(&space->mmap_lock);
	return !vma;
}

// ---- Runs

static void run_once(struct run *run)
{
	struct khugepaged *kd = run->kd;
	unsigned head_passes = 0;
	bool advance = false;

	run->pages_left = thp_setting(run->thp, SET_PAGES_TO_SCAN);
	while (run->pages_left && !run->end && head_passes < 2) {
		struct space *space = cursor_space(kd, advance);

		if (!space) {
			atomic_fetch_add(&kd->full_scans, 1);
			head_passes++;
			advance = false;
			if (run->by_hand)
				break;
			continue;
		}
		advance = scan_space(run, space);
		space_put(space);
	}
	if (advance) { // the last space was done when the pages were spent
		struct space *space = cursor_space(kd, true);

		if (space)
			space_put(space);
		else
			atomic_fetch_add(&kd->full_scans, 1);
	}
}

static void init_run(struct run *run, struct thp *thp, bool by_hand)
{
	*run = (struct run){.thp = thp, .kd = &thp->khugepaged, .by_hand = by_hand,
		.collapse = {.thp = thp, .khugepaged = true}};
}

void khugepaged_scan_full(struct thp *thp, unsigned nr)
{
	struct khugepaged *kd = &thp->khugepaged;
	struct run run;

	mutex_lock(&kd->lock);
	// A pass that somebody else began does not count as a whole one.
	mutex_lock(&kd->slots_lock);
	kd->cursor = NULL;
	kd->address = 0;
	mutex_unlock(&kd->slots_lock);
	unsigned long goal = atomic_load(&kd->full_scans) + nr;
	while (has_spaces(kd) && atomic_load(&kd->full_scans) < goal) {
		init_run(&run, thp, true);
		run_once(&run);
	}
	mutex_unlock(&kd->lock);
}

// ---- The daemon

static bool slept_enough(struct thp *thp, enum thp_setting length, uint64_t begin)
{
	return atomic_load(&thp->khugepaged.stop) ||
	       clock_now_ns(thp->mm->clock) - begin >= thp_setting(thp, length) * 1000000ull;
}

// As long as the setting says, also when it changes meanwhile. false: it shall end.
static bool sleep_for(struct thp *thp, enum thp_setting length)
{
	struct clock *clock = thp->mm->clock;
	uint64_t begin = clock_now_ns(clock);

	while (!slept_enough(thp, length, begin))
		(void)!wait_until(clock, slept_enough(thp, length, begin), clock->manual
			? WAIT_FOREVER : thp_setting(thp, length) * 1000000ull);
	return !atomic_load(&thp->khugepaged.stop);
}

static void *khugepaged_main(void *arg)
{
	struct thp *thp = arg;
	struct khugepaged *kd = &thp->khugepaged;

	while (sleep_for(thp, SET_SCAN_SLEEP)) {
		struct run run;

		if (!thp_any_enabled(thp) || !has_spaces(kd))
			continue;
		init_run(&run, thp, false);
		mutex_lock(&kd->lock);
		run_once(&run);
		mutex_unlock(&kd->lock);
		if (run.alloc_failed)
			(void)sleep_for(thp, SET_ALLOC_SLEEP);
	}
	return NULL;
}

static int start(struct thp *thp)
{
	struct khugepaged *kd = &thp->khugepaged;
	sigset_t all, old;

	atomic_store(&kd->stop, false);
	sigfillset(&all);
	pthread_sigmask(SIG_BLOCK, &all, &old);
	int err = sched_thread_create(&kd->thread, khugepaged_main, thp);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	kd->running = !err;
	return -err;
}

static void stop(struct thp *thp)
{
	struct khugepaged *kd = &thp->khugepaged;

	atomic_store(&kd->stop, true);
	clock_kick(thp->mm->clock);
	sched_thread_join(kd->thread);
	kd->running = false;
}

int thp_settings_changed(struct thp *thp)
{
	struct khugepaged *kd = &thp->khugepaged;
	bool wanted = thp_any_enabled(thp);
	int err = 0;

	mutex_lock(&kd->daemon_lock);
	if (wanted && !kd->running) {
		err = start(thp);
	} else if (!wanted && kd->running) {
		stop(thp);
	} else if (kd->running) { // how long it sleeps may have changed
		clock_kick(thp->mm->clock);
	}
	mutex_unlock(&kd->daemon_lock);
	return err;
}

void thp_destroy(struct thp *thp)
{
	if (thp->khugepaged.running)
		stop(thp);
	mutex_destroy(&thp->khugepaged.slots_lock);
	mutex_destroy(&thp->khugepaged.lock);
	mutex_destroy(&thp->khugepaged.daemon_lock);
}
