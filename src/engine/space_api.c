// SPDX-License-Identifier: MIT
// include/godwit/space.h: the memory calls of a task. Arguments are translated and checked here;
// the rules are the virt layer's.
#include <godwit/space.h>

#include "base/meta.h"
#include "engine/engine.h"
#include "virt/fault.h"
#include "virt/object.h"
#include "virt/pin.h"
#include "virt/space.h"

#include <errno.h>

static struct object *object_of(struct gw_object *object)
{
	return (struct object *)object;
}

int gw_object_create(struct gw_machine *machine, const char *name, uint64_t bytes,
	struct gw_object **ret_object)
{
	struct object *object;
	int err;

	if (machine_refused(machine))
		return machine_refused(machine);
	if (!ret_object || !bytes)
		return -EINVAL;
	err = object_create_shmem(&machine->mm, name, bytes, &object);
	if (!err)
		*ret_object = (struct gw_object *)object;
	return err;
}

int gw_object_create_huge(struct gw_machine *machine, const char *name, uint64_t bytes,
	unsigned huge_shift, struct gw_object **ret_object)
{
	struct object *object;
	int err;

	if (machine_refused(machine))
		return machine_refused(machine);
	if (!ret_object || !bytes)
		return -EINVAL;
	err = hugetlb_object_create(&machine->hugetlb, name, bytes,
		huge_shift ? huge_shift : PMD_SHIFT, &object);
	if (!err)
		*ret_object = (struct gw_object *)object;
	return err;
}

int gw_object_open(struct gw_machine *machine, int fd, struct gw_object **ret_object)
{
	struct object *object;
	int err;

	if (machine_refused(machine))
		return machine_refused(machine);
	if (!ret_object)
		return -EINVAL;
	err = object_open_file(&machine->mm, fd, &object);
	if (!err)
		*ret_object = (struct gw_object *)object;
	return err;
}

int gw_object_resize(struct gw_object *object, uint64_t bytes)
{
	if (!object)
		return -EINVAL;
	if (mm_is_dead(object_of(object)->mm))
		return -EOWNERDEAD;
	return object_resize(object_of(object), bytes);
}

void gw_object_put(struct gw_object *object)
{
	if (object && !mm_is_dead(object_of(object)->mm))
		object_put(object_of(object));
}

static unsigned vm_prot(unsigned prot)
{
	return (prot & GW_PROT_READ ? VM_READ : 0) | (prot & GW_PROT_WRITE ? VM_WRITE : 0) |
	       (prot & GW_PROT_EXEC ? VM_EXEC : 0);
}

// An object of huge pages needs no flag.
static unsigned huge_shift(const struct gw_mapping *mapping)
{
	unsigned shift = mapping->object ? hugetlb_object_shift(object_of(mapping->object)) : 0;

	if (!(mapping->flags & GW_MAP_HUGETLB))
		return shift;
	if (mapping->huge_shift)
		return mapping->huge_shift;
	return shift ? shift : PMD_SHIFT;
}

int gw_map(struct gw_task *task, const struct gw_mapping *mapping, uint64_t *ret_address)
{
	const unsigned known = GW_MAP_SHARED | GW_MAP_HUGETLB | GW_MAP_STACK | GW_MAP_HEAP;
	struct map_request request = {0};
	unsigned shift;
	uint64_t end;

	if (task_refused(task))
		return task_refused(task);
	if (!mapping || !ret_address || mapping->size != sizeof *mapping)
		return -EINVAL;
	if (!mapping->length || mapping->flags & ~known || mapping->offset & ~PAGE_MASK ||
		mapping->address & ~PAGE_MASK)
		return -EINVAL;
	if (__builtin_add_overflow(mapping->offset, mapping->length, &end) ||
		end > UINT64_MAX - PAGE_SIZE)
		return mapping->object ? -EOVERFLOW : -ENOMEM;
	request.addr = mapping->address;
	request.fixed = mapping->address != 0;
	request.own = mapping->address == 0;
	request.len = mapping->length;
	request.align = mapping->align;
	request.flags = vm_prot(mapping->prot) | VM_MAYWRITE;
	if (mapping->flags & GW_MAP_SHARED)
		request.flags |= VM_SHARED;
	if (mapping->flags & GW_MAP_STACK)
		request.flags |= VM_STACK;
	if (mapping->flags & GW_MAP_HEAP)
		request.flags |= VM_HEAP;
	request.object = mapping->object ? object_of(mapping->object) : NULL;
	request.pgoff = mapping->offset >> PAGE_SHIFT;
	shift = huge_shift(mapping);
	if (shift)
		return hugetlb_map(task_of(task), &request, shift, ret_address);
	return space_map(task_of(task)->space, &request, ret_address);
}

int gw_alloc(struct gw_task *task, uint64_t length, void **ret_pointer)
{
	const struct gw_mapping mapping = {
		.size = sizeof mapping,
		.length = length,
		.prot = GW_PROT_READ | GW_PROT_WRITE,
	};
	uint64_t address;
	int err;

	if (task_refused(task))
		return task_refused(task);
	if (!ret_pointer)
		return -EINVAL;
	if (!(task_of(task)->mm->mmu->caps & MMU_REAL))
		return -EOPNOTSUPP; // there is no pointer to give
	err = gw_map(task, &mapping, &address);
	if (err)
		return err;
	*ret_pointer = gw_pointer(task, address);
	return 0;
}

int gw_unmap(struct gw_task *task, uint64_t address, uint64_t length)
{
	if (task_refused(task))
		return task_refused(task);
	return space_unmap(task_of(task)->space, address, length);
}

int gw_protect(struct gw_task *task, uint64_t address, uint64_t length, unsigned prot)
{
	if (task_refused(task))
		return task_refused(task);
	if (prot & ~(GW_PROT_READ | GW_PROT_WRITE | GW_PROT_EXEC))
		return -EINVAL;
	return space_protect(task_of(task)->space, address, length, vm_prot(prot));
}

int gw_remap(struct gw_task *task, uint64_t address, uint64_t length, uint64_t new_length,
	uint64_t new_address, uint64_t *ret_address)
{
	if (task_refused(task))
		return task_refused(task);
	if (!ret_address)
		return -EINVAL;
	return space_remap(task_of(task)->space, task_of(task), address, length, new_length,
		new_address, new_address != 0, ret_address);
}

int gw_advise(struct gw_task *task, uint64_t address, uint64_t length, int advice)
{
	if (task_refused(task))
		return task_refused(task);
	return space_advise(task_of(task)->space, task_of(task), address, length, advice);
}

int gw_lock(struct gw_task *task, uint64_t address, uint64_t length)
{
	if (task_refused(task))
		return task_refused(task);
	return space_lock(task_of(task)->space, task_of(task), address, length);
}

int gw_unlock(struct gw_task *task, uint64_t address, uint64_t length)
{
	if (task_refused(task))
		return task_refused(task);
	return space_unlock(task_of(task)->space, address, length);
}

// The next object mapping at or after *address, with a reference and its page range; -ENOENT at the
// end of the range.
static int next_object(struct space *space, uint64_t *address, uint64_t end,
	struct object **ret_object, uint64_t *ret_first, uint64_t *ret_nr)
{
	struct vma *vma;
	int err = -ENOENT;

	read_lock(&space->mmap_lock);
	vma = *address < end ? vma_find(space, *address) : NULL;
	for (; vma && vma->start < end; vma = vma_next(vma)) {
		uint64_t from = vma->start > *address ? vma->start : *address;
		uint64_t to = vma->end < end ? vma->end : end;

		if (!vma->object || !(vma->flags & VM_SHARED))
			continue;
		object_get(vma->object);
		*ret_object = vma->object;
		*ret_first = vma_pgoff(vma, from);
		*ret_nr = (to - from + PAGE_SIZE - 1) >> PAGE_SHIFT;
		*address = to;
		err = 0;
		break;
	}
	read_unlock(&space->mmap_lock);
	return err;
}

int gw_sync(struct gw_task *task, uint64_t address, uint64_t length)
{
	uint64_t end = address + length, first, nr;
	struct object *object;
	int err = 0;

	if (task_refused(task))
		return task_refused(task);
	if (address & ~PAGE_MASK || end < address)
		return -EINVAL;
	while (!next_object(task_of(task)->space, &address, end, &object, &first, &nr)) {
		int failed = object_sync(object, first, nr);

		object_put(object);
		if (failed && !err)
			err = failed;
	}
	return err;
}

void *gw_pointer(struct gw_task *task, uint64_t address)
{
	if (task_refused(task))
		return NULL;
	if (!(task_of(task)->mm->mmu->caps & MMU_REAL))
		return NULL;
	return space_pointer(task_of(task)->space, address);
}

int64_t gw_read(struct gw_task *task, uint64_t address, void *buffer, uint64_t length)
{
	if (task_refused(task))
		return task_refused(task);
	if (!buffer && length)
		return -EFAULT;
	return space_read(task_of(task)->space, task_of(task), address, buffer, length);
}

int64_t gw_write(struct gw_task *task, uint64_t address, const void *buffer, uint64_t length)
{
	if (task_refused(task))
		return task_refused(task);
	if (!buffer && length)
		return -EFAULT;
	return space_write(task_of(task)->space, task_of(task), address, buffer, length);
}

// The handle knows the machine: the engine's pin has no door of its own.
struct gw_pin {
	struct mm_core *mm;
	struct pin *pin;
};

int gw_pin(struct gw_task *task, uint64_t address, uint64_t length, const char *holder,
	struct gw_pin **ret_pin)
{
	struct gw_pin *handle;
	int err;

	if (task_refused(task))
		return task_refused(task);
	if (!ret_pin)
		return -EINVAL;
	handle = meta_new(struct gw_pin);
	if (!handle)
		return -ENOMEM;
	handle->mm = task_of(task)->mm;
	err = pin_pages(task_of(task)->space, task_of(task), address, length, holder, &handle->pin);
	if (err)
		meta_delete(handle);
	else
		*ret_pin = handle;
	return err;
}

void gw_unpin(struct gw_pin *handle)
{
	if (!handle || mm_is_dead(handle->mm))
		return;
	unpin_pages(handle->pin);
	meta_delete(handle);
}
