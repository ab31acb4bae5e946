// SPDX-License-Identifier: MIT
// Spaces: their life, and finding what lies at an address.
//
// A space is made with an empty page table and no vma; the last space_put() unmaps everything. It
// is on mm->spaces (tasks_lock) as long as it has users; whoever finds it there must try to get it.
// Vmas are in a tree by address, regions in a tree by host address.
//
// Locks: mmap_lock for both trees. Folios, host windows and vmas go before the page tables.
// What can fail: space_create(), -ENOMEM.
#include "virt/space.h"

#include "base/assert.h"
#include "base/meta.h"
#include "base/wait.h"
#include "phys/zone.h"
#include "virt/vma.h"

#include <errno.h>
#include <stdatomic.h>

// Where spaces whose addresses are not host pointers begin to look for room.
#define MMAP_BASE_DEFAULT (1ull << 40)

static void list_space(struct space *space)
{
	struct mm_core *mm = space->mm;

	mutex_lock(&mm->tasks_lock);
	list_add_tail(&space->all, &mm->spaces);
	mutex_unlock(&mm->tasks_lock);
}

int space_create(struct mm_core *mm, struct space **ret_space)
{
	struct space *space = meta_new(struct space);

	if (!space)
		return -ENOMEM;
	space->mm = mm;
	space->id = atomic_fetch_add(&mm->last_space_id, 1) + 1;
	atomic_store(&space->users, 1);
	rwlock_init(&space->mmap_lock, RANK_MMAP);
	mutex_init(&space->tables_lock, RANK_PAGE_TABLE);
	interval_tree_init(&space->vmas);
	interval_tree_init(&space->regions);
	list_init(&space->dead_regions);
	space->mmap_base = MMAP_BASE_DEFAULT;
	space->pgd = page_table_alloc(space, NULL, 4, vaddr_of(0));
	if (!space->pgd) {
		mutex_destroy(&space->tables_lock);
		rwlock_destroy(&space->mmap_lock);
		meta_delete(space);
		return -ENOMEM;
	}
	list_space(space);
	*ret_space = space;
	return 0;
}

void space_get(struct space *space)
{
	int old = atomic_fetch_add_explicit(&space->users, 1, memory_order_relaxed);

	assert_that(old > 0, "space %u had no user", space->id);
	(void)old;
}

bool space_tryget(struct space *space)
{
	int n = atomic_load_explicit(&space->users, memory_order_relaxed);

	while (n > 0)
		if (atomic_compare_exchange_weak_explicit(&space->users, &n, n + 1,
			    memory_order_acq_rel, memory_order_relaxed))
			return true;
	return false;
}

static void space_destroy(struct space *space)
{
	struct mm_core *mm = space->mm;

	if (mm->up.space_exit)
		mm->up.space_exit(space);
	mutex_lock(&mm->tasks_lock);
	list_del(&space->all);
	mutex_unlock(&mm->tasks_lock);
	write_lock(&space->mmap_lock);
	space_remove_range(space, 0, SPACE_END);
	space_write_unlock(space);
	// A thread of the backend may still be on its way out of a fault whose accessor runs
	// already.
	int err = wait_until(&space->host_faults, !atomic_load(&space->host_faults), WAIT_FOREVER);
	assert_that(!err, "waiting for ever ended with %d", err);
	(void)err;
	assert_that(!space->nr_vmas && interval_tree_empty(&space->regions),
		"space %u still has %u vmas", space->id, space->nr_vmas);
	space_drop_near_runs(space);
	page_tables_destroy(space);
	mutex_destroy(&space->tables_lock);
	rwlock_destroy(&space->mmap_lock);
	meta_delete(space);
}

void space_put(struct space *space)
{
	if (atomic_fetch_sub_explicit(&space->users, 1, memory_order_acq_rel) == 1)
		space_destroy(space);
}

// ---- Lookup

static struct vma *vma_of(struct interval_node *node)
{
	return node ? container_of(node, struct vma, node) : NULL;
}

struct vma *vma_find(struct space *space, uint64_t addr)
{
	return vma_of(interval_tree_overlap_first(&space->vmas, addr, UINT64_MAX));
}

struct vma *vma_lookup(struct space *space, uint64_t addr)
{
	return vma_of(interval_tree_overlap_first(&space->vmas, addr, addr));
}

struct vma *vma_next(struct vma *vma)
{
	return vma_of(interval_tree_next(&vma->node));
}

struct vma *vma_prev(struct vma *vma)
{
	return vma_of(interval_tree_prev(&vma->node));
}

void *space_pointer(struct space *space, uint64_t addr)
{
	read_lock(&space->mmap_lock);
	struct vma *vma = vma_lookup(space, addr);
	uintptr_t host = vma ? vma_host(vma, addr) : 0;
	read_unlock(&space->mmap_lock);
	return (void *)host;
}

int space_addr_of_host(struct space *space, uintptr_t host, uint64_t *ret_addr)
{
	struct region *region = region_of_host(space, host);

	if (!region)
		return -EFAULT;
	uint64_t addr = region_addr(region, host);
	struct vma *vma = vma_lookup(space, addr);
	if (!vma || vma->region != region)
		return -EFAULT;
	*ret_addr = addr;
	return 0;
}

// ---- Ranges

int space_range(uint64_t addr, uint64_t len, uint64_t *ret_end)
{
	uint64_t size = ALIGN_UP(len, PAGE_SIZE);

	if (addr & ~PAGE_MASK || size < len || addr > SPACE_END || size > SPACE_END - addr)
		return -EINVAL;
	*ret_end = addr + size;
	return 0;
}

uint64_t space_mapped_until(struct space *space, uint64_t start, uint64_t end)
{
	struct vma *vma = vma_lookup(space, start);

	while (vma && start < end && vma->start <= start) {
		start = vma->end;
		vma = vma_next(vma);
	}
	return start < end ? start : end;
}

bool space_range_mapped(struct space *space, uint64_t start, uint64_t end)
{
	return space_mapped_until(space, start, end) == end;
}

bool space_range_free(struct space *space, uint64_t start, uint64_t end)
{
	return !interval_tree_overlap_first(&space->vmas, start, end - 1);
}

// The first gap from `from` on, or 0.
static uint64_t gap_from(struct space *space, uint64_t from, uint64_t len, uint64_t align)
{
	uint64_t addr = ALIGN_UP(from, align);
	struct vma *vma = vma_find(space, addr);

	for (; vma && addr + len > vma->start; vma = vma_next(vma))
		addr = ALIGN_UP(vma->end, align);
	return addr <= SPACE_END && len <= SPACE_END - addr ? addr : 0;
}

uint64_t space_find_room(struct space *space, uint64_t len, uint64_t align)
{
	uint64_t addr = gap_from(space, space->mmap_base, len, align);

	if (!addr)
		addr = gap_from(space, SPACE_START, len, align);
	if (addr)
		space->mmap_base = addr + len;
	return addr;
}
