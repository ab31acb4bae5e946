// SPDX-License-Identifier: MIT
// What all spaces of a machine share: its lists and locks, and the zero page.
//
// The zero page is what a read of untouched anonymous memory maps. It is one page to the engine
// (one folio, no reference per mapping, no rmap), but where memory allows it is a run of 512 frames
// of zeros, so that a host that maps frames from files can map neighbours in one go. It is taken
// when the machine starts, before anybody can be short of memory, and given back at its end.
//
// Interface: mm.h. Held: nothing; nobody else knows the machine yet, or any more. Fails: -ENOMEM.
#include "virt/mm.h"

#include "base/assert.h"
#include "machine/fork_guard.h"
#include "machine/topology.h"
#include "phys/alloc.h"
#include "virt/rmap.h"
#include "virt/task.h"

#include <errno.h>

static int take_zero_page(struct mm_core *mm)
{
	const gfp_t gfp = GFP_KERNEL | GFP_ZERO | GFP_NOWARN;
	struct folio *folio = folio_alloc(mm->phys, gfp, PMD_ORDER, -1, NULL, 0);

	if (!folio)
		folio = folio_alloc(mm->phys, gfp, 0, -1, NULL, 0);
	if (!folio)
		return -ENOMEM;
	folio_set_uptodate(folio);
	folio_set_reserved(folio);
	mm->zero_page = folio;
	return 0;
}

// The locks that all machines share; those of a machine are as dead in the child as it is itself.
static void mm_in_child(void)
{
	notifiers_in_child();
	anon_vmas_in_child();
	tasks_in_child();
}

static struct fork_hook in_child = {.in_child = mm_in_child};

int mm_core_init(struct mm_core *mm)
{
	fork_guard_hook(&in_child);
	mutex_init(&mm->cpuset_lock, RANK_CPUSET);
	mutex_init(&mm->tasks_lock, RANK_TASKS);
	mutex_init(&mm->objects_lock, RANK_I_PAGES);
	list_init(&mm->tasks);
	list_init(&mm->spaces);
	list_init(&mm->objects);
	list_init(&mm->notifiers);
	list_init(&mm->pins);
	histogram_reset(&mm->migration_waits);
	mutex_init(&mm->host_waits.lock, RANK_WAIT_TABLE);
	mm->nr_notifiers = 0;
	mm->next_pid = 1;
	atomic_store(&mm->last_space_id, 0);
	mm->last_object_id = 0;
	atomic_store(&mm->tunables.fault_around_bytes, 64ul << 10);
	mm->phys->mm = mm;
	return take_zero_page(mm);
}

void mm_core_release(struct mm_core *mm)
{
	must_hold(list_empty(&mm->tasks) && list_empty(&mm->spaces) && list_empty(&mm->objects),
		"the machine still has tasks, spaces or objects");
	if (mm->zero_page) {
		folio_clear_reserved(mm->zero_page);
		folio_put(mm->zero_page);
		mm->zero_page = NULL;
	}
	mutex_destroy(&mm->host_waits.lock);
	mutex_destroy(&mm->objects_lock);
	mutex_destroy(&mm->tasks_lock);
	mutex_destroy(&mm->cpuset_lock);
}

int mm_cpu_nid(const struct mm_core *mm, int cpu)
{
	return (int)topology_cpu_node(mm->phys->topology, (unsigned)cpu);
}
