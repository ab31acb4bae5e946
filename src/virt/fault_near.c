// SPDX-License-Identifier: MIT
// First touches when host mappings run short.
//
// A policy that scatters neighbours over nodes costs one host mapping a page; when a process has
// vm.max_map_count of them no page can be mapped any more, and its next touch would be SIGBUS. So
// from 85% of the limit on a frame is chosen by where its neighbours are, not by policy: a stretch
// of 64 pages of addresses gets a run of consecutive frames, kept here until each is touched, and
// the stretch costs one host mapping once it is full. mempolicy is broken then, the cpuset is not;
// how often is counted (godwit/faults_near_limit), and the pages can be moved to where they belong
// when there are mappings again.
//
// States: a space has a few runs, for threads that touch several places; a new one pushes the
// oldest out, whose untouched frames are freed. All go with the space.
// Locks: tables_lock of the space around its runs; frames are allocated and freed without it.
// What can fail: no frame on any node of the cpuset: NULL, and the caller goes by policy. Touches
// in random order, each far from the others, get a mapping each even so.
#include "virt/fault_internal.h"

#include "machine/vma_budget.h"
#include "phys/alloc.h"
#include "virt/task.h"
#include "virt/vma.h"

#define NEAR_SIZE ((uint64_t)NEAR_PAGES << PAGE_SHIFT)

static struct folio *take_reserved(struct space *space, uint64_t addr);
static bool reserve(struct fault *f, struct near_run *ret_run);
static void keep(struct space *space, const struct near_run *run);

bool fault_near_limit(const struct fault *f)
{
	return !(f->mm->mmu->caps & MMU_NO_VMA_COST) && vma_budget_is_short();
}

struct folio *fault_alloc_near(struct fault *f)
{
	struct folio *folio = take_reserved(f->space, f->addr);
	struct near_run run;

	if (!folio && reserve(f, &run)) {
		unsigned i = (unsigned)((f->addr - run.start) >> PAGE_SHIFT);

		folio = pfn_folio(pfn_add(run.first, i));
		run.left &= ~(1ull << i);
		keep(f->space, &run);
	}
	if (folio)
		atomic_fetch_add_explicit(&f->mm->faults_near_limit, 1, memory_order_relaxed);
	return folio;
}

static struct folio *take_reserved(struct space *space, uint64_t addr)
{
	struct folio *folio = NULL;

	mutex_lock(&space->tables_lock);
	for (unsigned i = 0; i < NEAR_RUNS && !folio; i++) {
		struct near_run *run = &space->near_runs[i];
		uint64_t page = (addr - run->start) >> PAGE_SHIFT; // huge when addr is below

		if (page < NEAR_PAGES && run->left & 1ull << page) {
			run->left &= ~(1ull << page);
			folio = pfn_folio(pfn_add(run->first, page));
		}
	}
	mutex_unlock(&space->tables_lock);
	return folio;
}

static void give_back(const struct near_run *run)
{
	for (unsigned i = 0; i < NEAR_PAGES; i++)
		if (run->left & 1ull << i)
			folio_put(pfn_folio(pfn_add(run->first, i)));
}

static void keep(struct space *space, const struct near_run *run)
{
	struct near_run old;

	mutex_lock(&space->tables_lock);
	struct near_run *at = &space->near_runs[space->near_next++ % NEAR_RUNS];
	old = *at;
	*at = *run;
	mutex_unlock(&space->tables_lock);
	give_back(&old);
}

void space_drop_near_runs(struct space *space)
{
	for (unsigned i = 0; i < NEAR_RUNS; i++)
		keep(space, &(struct near_run){0});
}

// ---- A new run

// The node of the page before, else that of the cpu.
static int near_nid(struct fault *f)
{
	int cpu = f->task ? atomic_load_explicit(&f->task->cpu, memory_order_relaxed) : 0;
	int nid = mm_cpu_nid(f->mm, cpu);
	struct page_table *table;
	struct vaddr before = vaddr_of(f->addr - PAGE_SIZE);

	if (f->addr == f->vma->start)
		return nid;
	table = pte_table_lock(f->space, before);
	if (table) {
		struct pte e = table_entry(table, pte_index(before));

		if (pte_present(e) && !pte_zero_page(e))
			nid = (int)folio_nid(pfn_folio(pte_pfn(e)));
		page_table_unlock(table);
	}
	return nid;
}

// That node, else any of the cpuset's.
static unsigned alloc_run(struct fault *f, unsigned nr, struct folio **out)
{
	gfp_t gfp = GFP_HIGHUSER_MOVABLE | GFP_ZERO | GFP_THISNODE | GFP_NOWARN;
	struct nodemask allowed = task_mems_allowed(f->task);
	int cpu = f->task ? atomic_load_explicit(&f->task->cpu, memory_order_relaxed) : 0;
	int first = near_nid(f), nid;
	unsigned got = 0;

	if (first >= 0 && nodemask_test(allowed, (unsigned)first))
		got = folio_alloc_run(f->mm->phys, gfp, first, nr, cpu, out);
	for_each_node_in(nid, allowed) {
		if (got)
			break;
		got = folio_alloc_run(f->mm->phys, gfp, nid, nr, cpu, out);
	}
	return got;
}

// For the stretch of the vma around the address, or, where so many are not to be had, from it on.
static bool reserve(struct fault *f, struct near_run *ret_run)
{
	uint64_t start = max(f->addr & ~(NEAR_SIZE - 1), f->vma->start);
	uint64_t end = min((f->addr & ~(NEAR_SIZE - 1)) + NEAR_SIZE, f->vma->end);
	unsigned wanted = (unsigned)((end - start) >> PAGE_SHIFT);
	struct folio *folio[NEAR_PAGES];
	unsigned got = alloc_run(f, wanted, folio);

	if (!got)
		return false;
	if (got < wanted)
		start = f->addr;
	wanted = min(got, (unsigned)((end - start) >> PAGE_SHIFT));
	while (got > wanted)
		folio_put(folio[--got]);
	*ret_run = (struct near_run){
		.start = start,
		.first = folio_pfn(folio[0]),
		.left = got < 64 ? (1ull << got) - 1 : ~0ull,
	};
	return true;
}
