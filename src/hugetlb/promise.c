// SPDX-License-Identifier: MIT
// Promises (reservations): mmap says no when the pool cannot fill the mapping, so that faults need
// not.
//
//	shared memory	the promise is the object's, page by page, from the first mapping of a page
//			on; what was not touched is given back when the object goes
//	private		the mapping's own (vma->promise), shared by the parts of a split; what was
//			not touched is given back part by part, as they are unmapped. A child's
//			copy of the mapping has none: it lives on what the pool can spare
//
// Whether a page was used is a bit. A private page that is unmapped while its mapping stays
// (madvise) is promised anew, if it goes back to the pool at once and the pool has no surplus
// pages.
//
// Locks: hugetlb->lock. What can fail: -ENOMEM, making.
#include "hugetlb/internal.h"

#include "base/assert.h"
#include "base/bitmap.h"
#include "base/meta.h"
#include "virt/object.h"

#include <errno.h>

struct hugetlb_promise {
	struct hugetlb *h;
	struct hugetlb_pool *pool;
	unsigned refcount;  // vmas                                                     H
	uint64_t first, nr; // pages of the pool, by the offset in the mapping's memory  C
	unsigned long *used; // bitmap                                                   H
};

// ---- What one page is

static uint64_t page_of(const struct hugetlb_claim *claim)
{
	return vma_pgoff(claim->vma, claim->addr) >> claim->pool->order;
}

static struct hugetlb_object *shared_object(const struct vma *vma)
{
	return vma->flags & VM_SHARED ? vma->object->private : NULL;
}

bool hugetlb_is_promised(const struct hugetlb_claim *claim)
{
	struct hugetlb_object *object = shared_object(claim->vma);
	struct hugetlb_promise *promise = claim->vma->promise;
	uint64_t page = page_of(claim);

	if (object)
		return page < object->nr && bitmap_test(object->promised, page);
	return promise && !bitmap_test(promise->used, page - promise->first);
}

void hugetlb_promise_use(struct hugetlb_claim *claim)
{
	struct hugetlb_object *object = shared_object(claim->vma);
	struct hugetlb_promise *promise = claim->vma->promise;

	claim->used = claim->promised;
	if (!claim->used)
		return;
	if (object)
		object->unused--;
	else
		bitmap_set(promise->used, page_of(claim) - promise->first);
}

void hugetlb_promise_unuse(struct hugetlb_claim *claim)
{
	struct hugetlb_object *object = shared_object(claim->vma);
	struct hugetlb_promise *promise = claim->vma->promise;

	if (!claim->used)
		return;
	claim->used = false;
	if (object)
		object->unused++;
	else
		bitmap_clear(promise->used, page_of(claim) - promise->first);
}

// ---- Of objects

// The bitmap reaches to `end`. 0, -ENOMEM.
static int extend(struct hugetlb_object *object, uint64_t end)
{
	struct hugetlb *h = object->h;
	unsigned long *map = NULL, *old = NULL;
	uint64_t old_nr = 0;

	mutex_lock(&h->lock);
	bool enough = end <= object->nr;
	mutex_unlock(&h->lock);
	if (!enough)
		map = meta_alloc(BITMAP_BYTES(end));
	if (!enough && !map)
		return -ENOMEM;
	mutex_lock(&h->lock);
	if (end > object->nr) {
		old = object->promised;
		old_nr = object->nr;
		if (old)
			memcpy(map, old, BITMAP_BYTES(old_nr));
		object->promised = map;
		object->nr = end;
	} else if (map) {
		old = map; // somebody was faster
		old_nr = end;
	}
	mutex_unlock(&h->lock);
	meta_free(old, BITMAP_BYTES(old_nr));
	return 0;
}

// Pages of the range that were never promised; `mark`: they are now. H
static unsigned long count_new(struct hugetlb_object *object, uint64_t first, uint64_t nr,
	bool mark)
{
	unsigned long fresh = nr - bitmap_weight_range(object->promised, first, nr);

	if (mark) {
		bitmap_set_range(object->promised, first, nr);
		object->unused += fresh;
	}
	return fresh;
}

// Two who map the same pages may both find them new: what one reserved in vain is given back.
static int promise_object(struct hugetlb_pool *pool, struct task *task,
	struct hugetlb_object *object, uint64_t first, uint64_t nr)
{
	struct hugetlb *h = object->h;
	int err = extend(object, first + nr);

	if (err)
		return err;
	mutex_lock(&h->lock);
	unsigned long wanted = count_new(object, first, nr, false);
	mutex_unlock(&h->lock);
	err = hugetlb_reserve(h, pool, task, wanted);
	if (err)
		return err;
	mutex_lock(&h->lock);
	unsigned long marked = count_new(object, first, nr, true);
	mutex_unlock(&h->lock);
	hugetlb_unreserve(h, pool, wanted - marked);
	return 0;
}

void hugetlb_object_unreserve(struct object *object)
{
	struct hugetlb_object *own = object->private;

	hugetlb_unreserve(own->h, own->pool, own->unused);
	if (own->promised)
		meta_free(own->promised, BITMAP_BYTES(own->nr));
	meta_delete(own);
	object->private = NULL;
}

// ---- Of mappings

static void free_promise(struct hugetlb_promise *promise)
{
	meta_free(promise->used, BITMAP_BYTES(promise->nr));
	meta_delete(promise);
}

static int promise_mapping(struct hugetlb *h, struct hugetlb_pool *pool, struct task *task,
	uint64_t first, uint64_t nr, struct hugetlb_promise **ret_promise)
{
	struct hugetlb_promise *promise = meta_new(struct hugetlb_promise);

	if (!promise)
		return -ENOMEM;
	*promise = (struct hugetlb_promise){.h = h, .pool = pool, .refcount = 1, .first = first,
		.nr = nr, .used = meta_alloc(BITMAP_BYTES(nr))};
	int err = promise->used ? hugetlb_reserve(h, pool, task, nr) : -ENOMEM;
	if (err) {
		free_promise(promise);
		return err;
	}
	*ret_promise = promise;
	return 0;
}

int hugetlb_promise_make(struct hugetlb *h, struct hugetlb_pool *pool, struct task *task,
	struct object *shared, uint64_t first, uint64_t nr, struct hugetlb_promise **ret_promise)
{
	if (!shared)
		return promise_mapping(h, pool, task, first, nr, ret_promise);
	*ret_promise = NULL;
	return promise_object(pool, task, shared->private, first, nr);
}

void hugetlb_promise_cancel(struct hugetlb_promise *promise)
{
	if (!promise)
		return;
	hugetlb_unreserve(promise->h, promise->pool, promise->nr);
	free_promise(promise);
}

void hugetlb_vma_split(struct vma *upper, struct vma *lower)
{
	struct hugetlb_promise *promise = lower->promise;

	atomic_store(&upper->hugetlb_robbed, atomic_load(&lower->hugetlb_robbed));
	upper->promise = promise;
	if (!promise)
		return;
	mutex_lock(&promise->h->lock);
	promise->refcount++;
	mutex_unlock(&promise->h->lock);
}

void hugetlb_vma_close(struct vma *vma)
{
	struct hugetlb_promise *promise = vma->promise;

	if (!promise)
		return;
	unsigned order = promise->pool->order;
	uint64_t first = (vma->pgoff >> order) - promise->first;
	uint64_t nr = (vma->end - vma->start) >> (order + PAGE_SHIFT);
	mutex_lock(&promise->h->lock);
	unsigned long unused = nr - bitmap_weight_range(promise->used, first, nr);
	bitmap_set_range(promise->used, first, nr);
	bool last = --promise->refcount == 0;
	mutex_unlock(&promise->h->lock);
	hugetlb_unreserve(promise->h, promise->pool, unused);
	if (last)
		free_promise(promise);
	vma->promise = NULL;
}

// A page that stays somewhere (a child maps it, somebody holds it) is no page for a new promise.
void hugetlb_vma_zap(struct vma *vma, uint64_t addr, struct folio *folio)
{
	struct hugetlb_promise *promise = vma->promise;

	if (!promise || !folio_test_anon(folio) || folio_ref_count(folio) != 1)
		return;
	struct hugetlb_claim claim = {promise->h, promise->pool, vma, addr, true, true};
	mutex_lock(&promise->h->lock);
	if (!hugetlb_read(&promise->pool->surplus) && !hugetlb_is_promised(&claim)) {
		hugetlb_promise_unuse(&claim);
		hugetlb_add(&promise->pool->reserved, 1);
	}
	mutex_unlock(&promise->h->lock);
}
