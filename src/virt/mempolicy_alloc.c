// SPDX-License-Identifier: MIT
// Memory policies at work: who decides for an address, which node that means, and the allocation.
//
// Who decides, first match:  the vma's policy (for shared memory: that of the object's range),
//                            the task's policy, the default: the node of the task's cpu.
// What it means:
//
//	mode            preferred node             only these nodes        when they are full
//	default, local  the cpu's                  cpuset                  the next by distance
//	prefer          the first of the mask      cpuset                  the next by distance
//	bind            the cpu's, or nearest      mask within the cpuset  NULL
//	interleave      mask[index mod n]          cpuset                  the next by distance
//	weighted        mask by index and weights  cpuset                  the next by distance
//	prefer (many)   the cpu's, or nearest      mask, not reclaiming    any of the cpuset
//
// The index of interleaving is the page offset in the vma's memory, so that it does not matter in
// which order pages are touched; memory that no vma decides for (the page cache, page tables) takes
// the task's counter (il_prev, il_weight).
//
// Held: vma lookups need mmap_lock; task->policy_lock is taken inside, for a moment. Fails: NULL.
#include "base/assert.h"
#include "base/vmstat.h"
#include "virt/mempolicy.h"
#include "virt/mm.h"
#include "virt/object.h"
#include "virt/space.h"
#include "virt/task.h"

#include <errno.h>

static bool interleaves(const struct mempolicy *policy)
{
	return policy && (policy->mode == POLICY_INTERLEAVE ||
				 policy->mode == POLICY_WEIGHTED_INTERLEAVE);
}

static int local_nid(const struct mm_core *mm, const struct task *task)
{
	return task ? task_nid(task) : mm_cpu_nid(mm, 0);
}

// ---- Who decides

struct mempolicy *task_policy_get(struct task *task)
{
	if (!task)
		return NULL;
	mutex_lock(&task->policy_lock);
	struct mempolicy *policy = task->policy;
	mempolicy_get(policy);
	mutex_unlock(&task->policy_lock);
	return policy;
}

static bool has_shared_policy(const struct vma *vma)
{
	return vma->object && vma->object->ops->kind == OBJECT_SHMEM;
}

struct mempolicy *vma_own_policy_get(struct vma *vma, uint64_t addr)
{
	if (has_shared_policy(vma))
		return object_policy_get(vma->object, vma_pgoff(vma, addr));
	mempolicy_get(vma->policy);
	return vma->policy;
}

struct mempolicy *vma_policy_get(struct vma *vma, uint64_t addr, struct task *task)
{
	struct mempolicy *policy = vma_own_policy_get(vma, addr);

	return policy ? policy : task_policy_get(task);
}

static bool policy_balances(const struct mempolicy *policy)
{
	return !policy || policy->flags & POLICY_F_NUMA_BALANCING;
}

bool vma_policy_balances(struct vma *vma, struct task *task)
{
	bool shared = has_shared_policy(vma);
	struct mempolicy *policy = shared ? vma_own_policy_get(vma, vma->start)
					  : vma_policy_get(vma, vma->start, task);
	bool balances = shared && !policy ? false : policy_balances(policy);

	mempolicy_put(policy);
	return balances;
}

// ---- Weights

unsigned mempolicy_weight(struct mm_core *mm, int nid)
{
	unsigned weight = atomic_load_explicit(&mm->il_weight[nid], memory_order_relaxed);

	return weight ? weight : 1;
}

int mempolicy_set_weight(struct mm_core *mm, int nid, unsigned weight)
{
	if (nid < 0 || nid >= (int)mm->phys->nr_nodes || weight > UINT8_MAX)
		return -EINVAL;
	atomic_store_explicit(&mm->il_weight[nid], (uint8_t)weight, memory_order_relaxed);
	return 0;
}

// ---- Which node

static int weighted_nid(struct mm_core *mm, struct nodemask nodes, uint64_t index)
{
	unsigned weight[MAX_NODES], total = 0;
	int nid;

	for_each_node_in(nid, nodes) {
		weight[nid] = mempolicy_weight(mm, nid);
		total += weight[nid];
	}
	uint64_t target = index % total;
	nid = nodemask_first(nodes);
	while (target >= weight[nid]) {
		target -= weight[nid];
		nid = nodemask_next_in(nodes, nid);
	}
	return nid;
}

int mempolicy_interleave_nid(struct mm_core *mm, const struct mempolicy *policy, uint64_t index)
{
	struct nodemask nodes = mempolicy_nodes(policy);

	if (policy->mode == POLICY_WEIGHTED_INTERLEAVE)
		return weighted_nid(mm, nodes, index);
	return nodemask_nth(nodes, (unsigned)(index % nodemask_weight(nodes)));
}

// The task's counter moves on.
static int interleave_next(struct mm_core *mm, const struct mempolicy *policy, struct task *task)
{
	struct nodemask nodes = mempolicy_nodes(policy);

	mutex_lock(&task->policy_lock);
	int nid = task->il_prev;
	if (policy->mode == POLICY_INTERLEAVE) {
		nid = nodemask_next_in(nodes, nid);
	} else {
		if (!task->il_weight || nid < 0 || !nodemask_test(nodes, (unsigned)nid)) {
			nid = nodemask_next_in(nodes, nid);
			task->il_weight = mempolicy_weight(mm, nid);
		}
		task->il_weight--;
	}
	task->il_prev = nid;
	mutex_unlock(&task->policy_lock);
	return nid;
}

int task_interleave_peek(struct task *task)
{
	int nid = -EINVAL;

	mutex_lock(&task->policy_lock);
	struct mempolicy *policy = task->policy;
	if (interleaves(policy)) {
		nid = task->il_prev;
		if (policy->mode == POLICY_INTERLEAVE || !task->il_weight)
			nid = nodemask_next_in(mempolicy_nodes(policy), nid);
	}
	mutex_unlock(&task->policy_lock);
	return nid;
}

// ---- Allocation

struct policy_placement mempolicy_place(
	struct mm_core *mm, const struct mempolicy *policy, uint64_t index, struct task *task)
{
	struct policy_placement p = {local_nid(mm, task), task_mems_allowed(task), false};

	if (!policy)
		return p;
	struct nodemask nodes = mempolicy_nodes(policy);
	switch (policy->mode) {
	case POLICY_PREFERRED:
		p.nid = nodemask_first(nodes);
		break;
	case POLICY_BIND:
	case POLICY_PREFERRED_MANY:
		// A mask outside of the cpuset (a shared policy of another task) binds nobody.
		if (!nodemask_intersects(nodes, p.allowed))
			break;
		p.allowed = nodemask_and(p.allowed, nodes);
		p.masked = true;
		break;
	case POLICY_INTERLEAVE:
	case POLICY_WEIGHTED_INTERLEAVE:
		p.nid = index == NO_INTERLEAVE_INDEX && task
				? interleave_next(mm, policy, task)
				: mempolicy_interleave_nid(mm, policy, index);
		break;
	}
	return p;
}

// First without reclaim within the mask, then anywhere.
static struct folio *alloc_preferred_many(struct mm_core *mm, gfp_t gfp, unsigned order,
	const struct policy_placement *p, struct nodemask all, int cpu)
{
	gfp_t light = (gfp | GFP_NOWARN) & ~(gfp_t)GFP_DIRECT_RECLAIM;
	struct folio *folio = folio_alloc(mm->phys, light, order, p->nid, &p->allowed, cpu);

	return folio ? folio : folio_alloc(mm->phys, gfp, order, p->nid, &all, cpu);
}

// A huge page is worth more on its own node than elsewhere: true when *ret_folio (maybe NULL) is
// the answer.
static bool alloc_huge_here(struct mm_core *mm, gfp_t gfp, const struct policy_placement *p,
	int cpu, struct folio **ret_folio)
{
	if (!nodemask_test(p->allowed, (unsigned)p->nid))
		return false;
	*ret_folio = folio_alloc(mm->phys, gfp | GFP_THISNODE | GFP_NORETRY, PMD_ORDER, p->nid,
		&p->allowed, cpu);
	return *ret_folio || !(gfp & GFP_DIRECT_RECLAIM);
}

struct folio *folio_alloc_policy(struct mm_core *mm, gfp_t gfp, unsigned order,
	struct mempolicy *policy, uint64_t index, struct task *task)
{
	struct policy_placement p = mempolicy_place(mm, policy, index, task);
	int cpu = task ? atomic_load_explicit(&task->cpu, memory_order_relaxed) : 0;
	struct folio *folio;

	if (p.masked && policy->mode == POLICY_PREFERRED_MANY)
		return alloc_preferred_many(mm, gfp, order, &p, task_mems_allowed(task), cpu);
	if (order == PMD_ORDER && index != NO_INTERLEAVE_INDEX && !interleaves(policy) &&
		alloc_huge_here(mm, gfp, &p, cpu, &folio))
		return folio;
	folio = folio_alloc(mm->phys, gfp, order, p.nid, &p.allowed, cpu);
	if (folio && policy && policy->mode == POLICY_INTERLEAVE && (int)folio_nid(folio) == p.nid)
		vmstat_add(mm->stat, (unsigned)p.nid, VM_NUMA_INTERLEAVE, 1);
	return folio;
}

static uint64_t vma_interleave_index(const struct vma *vma, uint64_t addr, unsigned order)
{
	return (vma->pgoff >> order) + ((addr - vma->start) >> (PAGE_SHIFT + order));
}

struct policy_placement vma_placement(struct vma *vma, uint64_t addr, unsigned order,
	struct task *task, bool *ret_many)
{
	struct mempolicy *policy = vma_policy_get(vma, addr, task);
	struct policy_placement p = mempolicy_place(vma->space->mm, policy,
		vma_interleave_index(vma, addr, order), task);

	*ret_many = p.masked && policy->mode == POLICY_PREFERRED_MANY;
	mempolicy_put(policy);
	return p;
}

struct folio *folio_alloc_vma(gfp_t gfp, unsigned order, struct vma *vma, uint64_t addr,
	struct task *task)
{
	struct mempolicy *policy = vma_policy_get(vma, addr, task);
	struct folio *folio = folio_alloc_policy(vma->space->mm, gfp, order, policy,
		vma_interleave_index(vma, addr, order), task);

	mempolicy_put(policy);
	return folio;
}

struct folio *folio_alloc_object(gfp_t gfp, unsigned order, struct object *object, uint64_t pgoff,
	struct task *task)
{
	bool shared = object->ops->kind == OBJECT_SHMEM;
	struct mempolicy *policy = shared ? object_policy_get(object, pgoff) : NULL;

	if (!policy)
		policy = task_policy_get(task);
	struct folio *folio = folio_alloc_policy(object->mm, gfp, order, policy,
		shared ? pgoff >> order : NO_INTERLEAVE_INDEX, task);
	mempolicy_put(policy);
	return folio;
}

unsigned mempolicy_count_table(struct mm_core *mm, struct task *task)
{
	struct mempolicy *policy = task_policy_get(task);
	struct policy_placement p = mempolicy_place(mm, policy, NO_INTERLEAVE_INDEX, task);
	int cpu = task ? atomic_load_explicit(&task->cpu, memory_order_relaxed) : 0;
	unsigned nid = phys_count_page(mm->phys, p.nid, &p.allowed, cpu);

	if (policy && policy->mode == POLICY_INTERLEAVE && (int)nid == p.nid)
		vmstat_add(mm->stat, nid, VM_NUMA_INTERLEAVE, 1);
	mempolicy_put(policy);
	return nid;
}

// ---- Balancing

int mempolicy_misplaced(struct vma *vma, uint64_t addr, int nid, struct task *task)
{
	struct mm_core *mm = vma->space->mm;
	struct mempolicy *policy = vma_policy_get(vma, addr, task);
	struct nodemask nodes = policy ? mempolicy_nodes(policy) : NODEMASK_NONE;
	int here = local_nid(mm, task), wanted = NO_NODE;

	// The default follows the cpu; BIND and PREFERRED_MANY do inside of their mask.
	if (!policy || (policy_balances(policy) && nodemask_test(nodes, (unsigned)here)))
		wanted = here;
	mempolicy_put(policy);
	return wanted == nid ? NO_NODE : wanted;
}
