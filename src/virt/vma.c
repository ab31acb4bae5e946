// SPDX-License-Identifier: MIT
// vmas: made, linked, split and merged.
//
// A vma is in its space's tree by address and, by page offset, in its object's i_mmap and in the
// trees of its anon_vmas. Splitting makes a new vma of the upper part; merging takes one of two
// neighbours away again when nothing tells them apart:
//
//	    start       addr          end
//	      |---------- vma ---------|		vma_split(vma, addr)
//	      |--- vma ---|--- new ----|		vma_merge_around() of either
//
// Only what is new or has changed is merged, with what lies beside it; then its anon_vma counts:
//
//	of the vma	of the neighbour	merged
//	the same, or both none			yes
//	none		one			if a fork has not made it one of several
//	one		none			no: it is the neighbour's turn, if it ever changes
//	one		another			no
//
// Where both neighbours would do, but have two different ones, it is merged with the lower one.
// So what was touched and what was not stay apart more often than they need to; that is how Linux
// does it, and numa_maps and smaps show it. The one that stays is the one that has an anon_vma, so
// that merging allocates nothing.
//
// Locks: mmap_lock for write. What rmap walks look at (start, end, pgoff, host) changes under the
// rmap locks for write too. In between a walk may meet an address in two vmas, never in none.
// What can fail: a split, -ENOMEM (vma, links, or the table a huge entry splits into), -EINVAL
// (inside of a hugetlb page).
#include "virt/vma.h"

#include "base/assert.h"
#include "base/meta.h"
#include "virt/mempolicy.h"
#include "virt/object.h"
#include "virt/rmap.h"

#include <errno.h>

struct vma *vma_create(struct space *space, uint64_t start, uint64_t end, unsigned flags,
	struct region *region, struct object *object, uint64_t pgoff, struct mempolicy *policy)
{
	struct vma *vma = meta_new(struct vma);

	if (!vma)
		return NULL;
	vma->space = space;
	vma->start = start;
	vma->end = end;
	vma->flags = flags;
	vma->region = region;
	vma->host = region_host(region, start);
	vma->object = object;
	vma->pgoff = pgoff;
	vma->policy = policy;
	list_init(&vma->anon_chain);
	region_get(region);
	if (object)
		object_get(object);
	mempolicy_get(policy);
	return vma;
}

void vma_free(struct vma *vma)
{
	assert_that(list_empty(&vma->anon_chain), "vma %#lx is still linked",
		(unsigned long)vma->start);
	region_put(vma->region, vma->space);
	mempolicy_put(vma->policy);
	if (vma->object)
		object_put(vma->object);
	meta_delete(vma);
}

// ---- Trees

static void tree_insert(struct vma *vma)
{
	vma->node.start = vma->start;
	vma->node.last = vma->end - 1;
	interval_tree_insert(&vma->space->vmas, &vma->node);
	vma->space->nr_vmas++;
}

static void tree_remove(struct vma *vma)
{
	interval_tree_remove(&vma->space->vmas, &vma->node);
	vma->space->nr_vmas--;
}

void vma_replace(struct vma *vma)
{
	tree_remove(vma);
	tree_insert(vma);
}

// i_mmap lock held for write.
static void i_mmap_insert(struct vma *vma)
{
	vma->i_mmap.start = vma->pgoff;
	vma->i_mmap.last = vma->pgoff + vma_pages(vma) - 1;
	interval_tree_insert(&vma->object->i_mmap, &vma->i_mmap);
}

void vma_link(struct vma *vma)
{
	tree_insert(vma);
	if (!vma->object)
		return;
	write_lock(&vma->object->i_mmap_lock);
	i_mmap_insert(vma);
	write_unlock(&vma->object->i_mmap_lock);
}

void vma_unlink(struct vma *vma)
{
	if (vma->object) {
		write_lock(&vma->object->i_mmap_lock);
		interval_tree_remove(&vma->object->i_mmap, &vma->i_mmap);
		write_unlock(&vma->object->i_mmap_lock);
	}
	anon_vma_unlink(vma);
	tree_remove(vma);
}

void vma_rmap_lock(struct vma *vma) NO_THREAD_SAFETY_ANALYSIS
{
	if (vma->object)
		write_lock(&vma->object->i_mmap_lock);
	if (vma->anon_vma)
		write_lock(&vma->anon_vma->root->lock);
}

void vma_rmap_unlock(struct vma *vma) NO_THREAD_SAFETY_ANALYSIS
{
	if (vma->anon_vma)
		write_unlock(&vma->anon_vma->root->lock);
	if (vma->object)
		write_unlock(&vma->object->i_mmap_lock);
}

// ---- Split

// The upper part becomes a vma of its own. Cannot fail any more.
static void cut(struct vma *vma, struct vma *upper)
{
	vma_rmap_lock(vma);
	vma_rmap_remove(vma);
	vma->end = upper->start;
	vma_rmap_insert(vma);
	if (upper->object)
		i_mmap_insert(upper);
	vma_rmap_unlock(vma);
	vma_replace(vma);
	tree_insert(upper);
}

int vma_split(struct vma *vma, uint64_t addr)
{
	assert_that(addr > vma->start && addr < vma->end, "split of [%#lx,%#lx) at %#lx",
		(unsigned long)vma->start, (unsigned long)vma->end, (unsigned long)addr);
	int err = vma_split_huge_at(vma, addr);
	if (err)
		return err;
	struct vma *upper = vma_create(vma->space, addr, vma->end, vma->flags, vma->region,
		vma->object, vma_pgoff(vma, addr), vma->policy);
	if (!upper)
		return -ENOMEM;
	err = anon_vma_clone(upper, vma);
	if (err) {
		vma_free(upper);
		return err;
	}
	upper->numa_next_scan_ns = vma->numa_next_scan_ns;
	if (vma->flags & VM_HUGETLB)
		vma->space->mm->up.hugetlb_split(upper, vma);
	cut(vma, upper);
	return 0;
}

// ---- Merge

// But for their anon_vmas.
static bool alike(const struct vma *a, const struct vma *b)
{
	return a->end == b->start && a->flags == b->flags && !(a->flags & VM_HUGETLB) &&
	       a->region == b->region && a->object == b->object &&
	       a->pgoff + vma_pages(a) == b->pgoff && mempolicy_equal(a->policy, b->policy);
}

// What has no anon_vma of its own may join; but not a chain that came of a fork.
static bool takes_in(const struct vma *neighbour, const struct vma *vma)
{
	return neighbour->anon_vma == vma->anon_vma ||
	       (!vma->anon_vma && list_is_singular(&neighbour->anon_chain));
}

static struct vma *merge(struct vma *a, struct vma *b)
{
	struct mm_core *mm = a->space->mm;
	struct vma *keep = !a->anon_vma && b->anon_vma ? b : a, *gone = keep == a ? b : a;

	if (mm->up.vma_gone)
		mm->up.vma_gone(gone);
	tree_remove(gone);
	vma_rmap_lock(keep);
	vma_rmap_remove(keep);
	if (keep == a) {
		a->end = b->end;
	} else {
		b->start = a->start;
		b->pgoff = a->pgoff;
		b->host = a->host;
	}
	vma_rmap_insert(keep);
	if (gone->object)
		interval_tree_remove(&gone->object->i_mmap, &gone->i_mmap);
	vma_rmap_unlock(keep);
	vma_replace(keep);
	anon_vma_unlink(gone);
	vma_free(gone);
	return keep;
}

// `changed` is one of the two; the other takes it in.
static bool may_merge(const struct vma *a, const struct vma *b, const struct vma *changed)
{
	return a && b && !(changed->flags & VM_SPECIAL) && alike(a, b) &&
	       takes_in(changed == a ? b : a, changed);
}

struct vma *vma_merge_next(struct vma *vma)
{
	struct vma *next = vma_next(vma);

	return may_merge(vma, next, vma) ? merge(vma, next) : vma;
}

struct vma *vma_merge_around(struct vma *vma)
{
	struct vma *prev = vma_prev(vma), *next = vma_next(vma);
	bool with_prev = may_merge(prev, vma, vma), with_next = may_merge(vma, next, vma);

	if (with_prev && with_next && prev->anon_vma && next->anon_vma)
		with_next = prev->anon_vma == next->anon_vma;
	if (with_prev)
		vma = merge(prev, vma);
	return with_next ? merge(vma, next) : vma;
}

// ---- Ranges

static bool any_vma(const struct vma *vma, const void *arg)
{
	(void)vma;
	(void)arg;
	return true;
}

int space_split_range(struct space *space, uint64_t start, uint64_t end)
{
	return space_split_changing(space, start, end, any_vma, NULL);
}

int space_split_changing(struct space *space, uint64_t start, uint64_t end,
	bool (*changes)(const struct vma *, const void *arg), const void *arg)
{
	const uint64_t cut_at[] = {start, end};
	int err = 0;

	for (unsigned i = 0; i < ARRAY_SIZE(cut_at) && !err; i++) {
		struct vma *vma = vma_lookup(space, cut_at[i]);

		if (vma && vma->start < cut_at[i] && changes(vma, arg))
			err = vma_split(vma, cut_at[i]);
		if (err && i)
			space_unsplit(space, start);
	}
	return err;
}

void space_unsplit(struct space *space, uint64_t addr)
{
	struct vma *vma = vma_lookup(space, addr), *prev = vma ? vma_prev(vma) : NULL;

	if (prev && alike(prev, vma) && prev->anon_vma == vma->anon_vma)
		merge(prev, vma);
}

bool vma_migratable(const struct vma *vma)
{
	return !(vma->flags & (VM_IO | VM_PFNMAP));
}
