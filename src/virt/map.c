// SPDX-License-Identifier: MIT
// Mapping and unmapping: mmap and munmap.
//
// A mapping call makes one region and one vma in it; nothing is resident yet. Unmapping makes the
// ends of the range boundaries of vmas, then takes each vma away in an order that leaves no way to
// a page that is gone:
//
//	1  entries and host translations are cleared, folios put	zap_pages()
//	2  the vma leaves the rmap trees and the space's		vma_unlink()
//	3  page tables that nobody needs any more go			space_free_tables()
//	4  the host window closes, with the region's last vma		space_write_unlock()
//
// Where the place of a mapping is given it must be free (MAP_FIXED_NOREPLACE). In a space whose
// addresses are host pointers that means free on the host too, or a hole that an unmap left in one
// of the space's own windows.
//
// Locks: mmap_lock for write throughout.
// What can fail: -EINVAL (alignment, wrap), -EEXIST, -ENOMEM, -EACCES; with nothing changed.
#include "virt/vma.h"

#include "base/assert.h"
#include "virt/object.h"

#include <errno.h>

// ---- Map

static int check_request(struct map_request *r)
{
	uint64_t end;

	if (!r->len || (r->align & (r->align - 1)))
		return -EINVAL;
	if (r->len > SPACE_END)
		return -ENOMEM;
	r->len = ALIGN_UP(r->len, PAGE_SIZE);
	if (!r->align)
		r->align = r->len >= PMD_SIZE ? PMD_SIZE : PAGE_SIZE;
	r->align = max(r->align, PAGE_SIZE);
	if (r->flags & VM_HUGETLB && (r->align < PMD_SIZE || r->len & (r->align - 1)))
		return -EINVAL;
	if (!r->fixed)
		r->addr = ALIGN_DOWN(r->addr, r->align);
	else if (r->addr < SPACE_START || (r->flags & VM_HUGETLB && r->addr & (r->align - 1)))
		return -EINVAL;
	if (space_range(r->addr, r->len, &end))
		return r->fixed ? -EINVAL : -ENOMEM;
	return 0;
}

// What the mapping may become later decides whether mprotect can make it writable.
static int check_rights(struct map_request *r)
{
	const struct object *object = r->object;

	if (r->flags & VM_SHARED && !object)
		return -EINVAL;
	if (object && r->pgoff + (r->len >> PAGE_SHIFT) < r->pgoff)
		return -EINVAL;
	r->flags |= VM_MAYWRITE;
	if ((r->flags & (VM_WRITE | VM_SHARED | VM_HUGETLB)) == VM_WRITE)
		r->flags |= VM_ACCOUNT;
	if (r->flags & VM_SHARED && object->ops->kind == OBJECT_FILE && !object->writable_fd)
		r->flags &= ~VM_MAYWRITE;
	return r->flags & VM_WRITE && !(r->flags & VM_MAYWRITE) ? -EACCES : 0;
}

// By number: where it was asked for if that is free, else anywhere.
static int place_by_number(struct space *space, struct map_request *r, struct region **ret_region)
{
	bool at_hint = r->addr >= SPACE_START &&
		       space_range_free(space, r->addr, r->addr + r->len);

	if (!at_hint && r->fixed)
		return -EEXIST;
	if (!at_hint)
		r->addr = space_find_room(space, r->len, r->align);
	if (!r->addr)
		return -ENOMEM;
	struct region *hole = region_of_host(space, r->addr);
	if (hole && region_is_own(hole) && region_covers(hole, r->addr, r->len)) {
		*ret_region = hole; // so that the number is the pointer again
		return 0;
	}
	return region_open(space, &r->addr, r->len, r->align, false, ret_region);
}

// By host pointer.
static int place_by_pointer(struct space *space, struct map_request *r, struct region **ret_region)
{
	struct region *hole = r->addr ? region_of_host(space, r->addr) : NULL;

	if (r->addr && space_range_free(space, r->addr, r->addr + r->len)) {
		if (hole && region_is_own(hole) && region_covers(hole, r->addr, r->len)) {
			*ret_region = hole;
			return 0;
		}
		int err = region_open(space, &r->addr, r->len, PAGE_SIZE, true, ret_region);
		if (!err || r->fixed)
			return err;
	} else if (r->fixed) {
		return -EEXIST;
	}
	r->addr = 0;
	return region_open(space, &r->addr, r->len, r->align, true, ret_region);
}

static int map(struct space *space, struct map_request *r)
{
	struct region *region;
	int err = r->own ? place_by_pointer(space, r, &region)
			 : place_by_number(space, r, &region);

	if (err)
		return err;
	struct vma *vma = vma_create(space, r->addr, r->addr + r->len, r->flags, region, r->object,
		r->object || r->flags & VM_HUGETLB ? r->pgoff : r->addr >> PAGE_SHIFT, NULL);
	if (!vma) {
		if (!region->nr_vmas)
			region_discard(region, space);
		return -ENOMEM;
	}
	vma->promise = r->promise;
	vma_link(vma);
	vma_forget_refusals(vma, vma->start, vma->end); // of a hole that is filled
	if (r->flags & VM_LOCKED)
		space->locked_vm += (long)vma_pages(vma);
	vma_merge_around(vma);
	return 0;
}

int space_map(struct space *space, const struct map_request *request, uint64_t *ret_addr)
{
	struct map_request r = *request;
	int err = check_request(&r);

	if (!err)
		err = check_rights(&r);
	if (err)
		return err;
	write_lock(&space->mmap_lock);
	err = map(space, &r);
	space_write_unlock(space);
	if (!err)
		*ret_addr = r.addr;
	return err;
}

// ---- Unmap

static void remove_vma(struct vma *vma)
{
	struct space *space = vma->space;

	if (space->mm->up.vma_gone)
		space->mm->up.vma_gone(vma);
	if (vma->flags & VM_LOCKED) {
		space->locked_vm -= (long)vma_pages(vma);
		vma->flags &= ~(unsigned)VM_LOCKED;
		munlock_vma_pages(vma, vma->start, vma->end);
	}
	int err = zap_pages(vma, vma->start, vma->end);
	assert_that(!err, "a huge entry across the end of its vma [%#lx,%#lx)",
		(unsigned long)vma->start, (unsigned long)vma->end);
	(void)err;
	if (vma->flags & VM_HUGETLB)
		space->mm->up.hugetlb_close(vma);
	vma_unlink(vma);
	vma_free(vma);
}

void space_free_tables(struct space *space, uint64_t start, uint64_t end)
{
	struct interval_node *before = interval_tree_before(&space->vmas, start);
	struct vma *after = vma_find(space, end);

	page_tables_free_range(space, vaddr_of(before ? before->last + 1 : 0),
		vaddr_of(after ? after->start : SPACE_END));
}

void space_remove_range(struct space *space, uint64_t start, uint64_t end)
{
	struct vma *vma = vma_find(space, start), *next;

	for (; vma && vma->start < end; vma = next) {
		next = vma_next(vma);
		remove_vma(vma);
	}
	space_free_tables(space, start, end);
}

int space_unmap(struct space *space, uint64_t addr, uint64_t len)
{
	uint64_t end;
	int err = len ? space_range(addr, len, &end) : -EINVAL;

	if (err)
		return err;
	write_lock(&space->mmap_lock);
	err = space_split_range(space, addr, end);
	if (!err)
		space_remove_range(space, addr, end);
	space_write_unlock(space);
	return err;
}
