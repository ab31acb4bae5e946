// SPDX-License-Identifier: MIT
// Mapping huge pages, and objects of them.
//
// A mapping is made in two steps: first the pages are promised, then space_map() places it. Private
// memory needs no object; shared memory without a name gets one of its own, as it does from
// mmap(2). Lengths are rounded up to whole pages, and so is an object that a writable mapping
// reaches beyond.
//
// Locks: those of the calls used. What can fail: -ENOMEM (no promise), -EINVAL, and space_map()'s.
#include "hugetlb/internal.h"

#include "base/meta.h"
#include "virt/object.h"
#include "virt/page_index.h"
#include "virt/task.h"

#include <errno.h>

// ---- Objects

static int no_read(struct object *object maybe_unused, struct folio *folio maybe_unused)
{
	return -EIO; // pages are made by hugetlb_fault() alone, filled
}

static const struct object_ops object_ops = {
	.kind = OBJECT_HUGETLB,
	.migrate_plain = true,
	.read_folio = no_read,
	.release = hugetlb_object_unreserve,
};

int hugetlb_object_create(struct hugetlb *h, const char *name, uint64_t size, unsigned shift,
	struct object **ret_object)
{
	struct hugetlb_pool *pool = hugetlb_pool_of_shift(h, shift);
	struct hugetlb_object *own;
	int err;

	if (!pool || size > OBJECT_MAX_SIZE) // before it is rounded up
		return -EINVAL;
	own = meta_new(struct hugetlb_object);
	if (!own)
		return -ENOMEM;
	*own = (struct hugetlb_object){.h = h, .pool = pool};
	err = object_create(h->mm, &object_ops, name, ALIGN_UP(size, hugetlb_bytes(pool)),
		ret_object);
	if (err)
		meta_delete(own);
	else
		(*ret_object)->private = own;
	return err;
}

unsigned hugetlb_object_shift(const struct object *object)
{
	const struct hugetlb_object *own = object->private;

	return object->ops->kind == OBJECT_HUGETLB ? own->pool->order + PAGE_SHIFT : 0;
}

// ---- Mappings

static int check_object(struct map_request *rq, unsigned shift)
{
	if (rq->object && hugetlb_object_shift(rq->object) != shift)
		return -EINVAL;
	return rq->pgoff & ((1ull << (shift - PAGE_SHIFT)) - 1) ? -EINVAL : 0;
}

// Of one mapping alone: nobody else can name it.
static int make_object(struct hugetlb *h, struct map_request *rq, unsigned shift)
{
	if (rq->object || !(rq->flags & VM_SHARED)) {
		if (rq->object)
			object_get(rq->object);
		return 0;
	}
	return hugetlb_object_create(h, NULL, rq->len, shift, &rq->object);
}

static int reach(struct map_request *rq)
{
	uint64_t end = (rq->pgoff << PAGE_SHIFT) + rq->len;

	if (!rq->object || !(rq->flags & VM_WRITE) || end <= rq->object->size)
		return 0;
	return object_resize(rq->object, end);
}

static int map_promised(struct task *task, struct hugetlb *h, struct hugetlb_pool *pool,
	struct map_request *rq, uint64_t *ret_addr)
{
	struct object *shared = rq->flags & VM_SHARED ? rq->object : NULL;
	int err = hugetlb_promise_make(h, pool, task, shared, rq->pgoff >> pool->order,
		rq->len >> (pool->order + PAGE_SHIFT), &rq->promise);

	if (err)
		return err;
	err = reach(rq);
	if (!err)
		err = space_map(task->space, rq, ret_addr);
	if (err)
		hugetlb_promise_cancel(rq->promise);
	return err;
}

int hugetlb_map(struct task *task, struct map_request *request, unsigned shift, uint64_t *ret_addr)
{
	struct hugetlb *h = task->mm->hugetlb;
	struct hugetlb_pool *pool = hugetlb_pool_of_shift(h, shift);
	struct map_request rq = *request;
	int err = pool ? check_object(&rq, shift) : -EINVAL;

	if (err)
		return err;
	if (!rq.len || rq.len > 1ull << 47)
		return rq.len ? -ENOMEM : -EINVAL;
	rq.len = ALIGN_UP(rq.len, hugetlb_bytes(pool));
	rq.align = max(rq.align, hugetlb_bytes(pool));
	rq.flags |= VM_HUGETLB | VM_DONTEXPAND;
	if (pool->order > PMD_ORDER)
		rq.flags |= VM_HUGETLB_1G;
	err = make_object(h, &rq, shift);
	if (err)
		return err;
	err = map_promised(task, h, pool, &rq, ret_addr);
	if (rq.object)
		object_put(rq.object); // the vma has its own reference
	return err;
}
