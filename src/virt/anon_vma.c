// SPDX-License-Identifier: MIT
// anon_vmas: which vmas may map an anonymous folio.
//
// A vma gets its anon_vma before its first anonymous page; folios that are new in the vma point to
// it. Fork gives the child's vma links to all anon_vmas of its parent (whose folios it shares) and
// an anon_vma of its own (for the folios it will not share); so a folio's anon_vma knows the vma
// the folio was made in and all that were forked from it since, and no others. Links are keyed by
// page offset, which a vma keeps for life, so moving it (mremap) does not change them.
//
//	parent  vma ---- link ---- A (root)		folio of the parent -> A: parent, child
//	child   vma -+-- link ---- A
//	             +-- link ---- B (parent A)		folio of the child  -> B: child
//
// A chain of forks where each parent ends would make ever longer chains: a child takes over an
// anon_vma that no vma calls its own any more and that has at most one child, instead of a new one
// (num_active_vmas 0, num_children < 2; a root counts itself as a child, so it is never taken).
//
// Locks: the root's rwlock for all anon_vmas of a family, for links, trees and the two counts. The
// chain of a vma belongs to its mmap_lock (write), except that the first anon_vma is published
// under mmap_lock for read and the space's tables_lock. A folio's pointer to its anon_vma is no
// reference; folio_get_anon_vma() makes one safely by excluding the last put with dying_lock.
//
// What can fail: allocations, -ENOMEM; the vma is then as before.
#include "virt/rmap.h"

#include "base/assert.h"
#include "base/mark.h"
#include "virt/mempolicy.h"
#include "virt/vma.h"

#include <errno.h>

// Between "refcount 0" and the release of the memory its holder waits for whoever is just reading
// the refcount through a folio. A leaf.
static struct mutex dying_lock = MUTEX_INIT(META);

void anon_vmas_in_child(void)
{
	mutex_init(&dying_lock, RANK_META);
}

// ---- Life

static struct anon_vma *anon_vma_create(struct anon_vma *parent)
{
	struct anon_vma *av = meta_new(struct anon_vma);

	if (!av)
		return NULL;
	rwlock_init(&av->lock, RANK_ANON_VMA);
	interval_tree_init(&av->chains);
	atomic_store_explicit(&av->refcount, 1, memory_order_relaxed);
	av->parent = parent ? parent : av;
	av->root = parent ? parent->root : av;
	if (parent)
		anon_vma_get(av->root);
	else
		av->num_children = 1; // itself
	return av;
}

static void anon_vma_destroy(struct anon_vma *av)
{
	assert_that(interval_tree_empty(&av->chains), "anon_vma %p still has links", (void *)av);
	mutex_lock(&dying_lock);
	mutex_unlock(&dying_lock);
	rwlock_destroy(&av->lock);
	meta_delete(av);
}

void anon_vma_get(struct anon_vma *av)
{
	int old = atomic_fetch_add_explicit(&av->refcount, 1, memory_order_relaxed);

	assert_that(old > 0, "anon_vma %p had no reference", (void *)av);
	(void)old;
}

void anon_vma_put(struct anon_vma *av)
{
	if (atomic_fetch_sub_explicit(&av->refcount, 1, memory_order_acq_rel) != 1)
		return;
	struct anon_vma *root = av->root;
	anon_vma_destroy(av);
	if (root != av)
		anon_vma_put(root);
}

struct anon_vma *folio_anon_vma(const struct folio *folio)
{
	uint32_t raw = folio_mapping_raw(folio);

	return (raw & 3) == MAPPING_ANON ? meta_pointer(raw >> 2) : NULL;
}

static bool get_unless_dead(struct anon_vma *av)
{
	int n = atomic_load_explicit(&av->refcount, memory_order_relaxed);

	while (n > 0)
		if (atomic_compare_exchange_weak_explicit(&av->refcount, &n, n + 1,
			    memory_order_acq_rel, memory_order_relaxed))
			return true;
	return false;
}

struct anon_vma *folio_get_anon_vma(struct folio *folio)
{
	struct anon_vma *av;

	// What maps the folio holds its anon_vma. If that ends after our look, the memory is still
	// not released before we drop the lock. If it ended before, the folio is not mapped now, or
	// is mapped anew by somebody else, and then the second look shows his anon_vma.
	mutex_lock(&dying_lock);
	av = folio_anon_vma(folio);
	if (av && (!folio_mapped(folio) || folio_anon_vma(folio) != av || !get_unless_dead(av))) {
		MARK(folio_get_anon_vma_lost);
		av = NULL;
	}
	mutex_unlock(&dying_lock);
	return av;
}

// ---- Links

static struct anon_vma_chain *chain_create(void)
{
	return meta_new(struct anon_vma_chain);
}

// Root lock held for write.
static void chain_link(struct vma *vma, struct anon_vma_chain *chain, struct anon_vma *av)
{
	chain->vma = vma;
	chain->anon_vma = av;
	list_add(&chain->same_vma, &vma->anon_chain);
	chain->rb.start = vma->pgoff;
	chain->rb.last = vma->pgoff + vma_pages(vma) - 1;
	interval_tree_insert(&av->chains, &chain->rb);
}

// Allocate as many links as `like` has.
static int chains_create(struct vma *like, struct list_head *ret_chains)
{
	struct anon_vma_chain *chain, *next, *model;

	list_init(ret_chains);
	list_for_each_entry(model, &like->anon_chain, same_vma) {
		chain = chain_create();
		if (!chain)
			goto free;
		list_add(&chain->same_vma, ret_chains);
	}
	return 0;
free:
	list_for_each_entry_safe(chain, next, ret_chains, same_vma)
		meta_delete(chain);
	return -ENOMEM;
}

// May a forked vma make this anon_vma of its ancestors its own?
static bool reusable(const struct anon_vma *av)
{
	return av->num_children < 2 && av->num_active_vmas == 0;
}

int anon_vma_clone(struct vma *dst, struct vma *src)
{
	struct anon_vma_chain *model;
	struct list_head chains;

	if (!src->anon_vma)
		return 0;
	int err = chains_create(src, &chains);
	if (err)
		return err;
	struct rwlock *lock = &src->anon_vma->root->lock;
	bool fork = dst->space != src->space;
	write_lock(lock);
	// From the oldest link on, so that dst's chain comes out in the order of src's.
	list_for_each_entry_reverse(model, &src->anon_chain, same_vma) {
		struct anon_vma_chain *chain =
			list_first_entry(&chains, struct anon_vma_chain, same_vma);
		list_del(&chain->same_vma);
		chain_link(dst, chain, model->anon_vma);
		if (fork && !dst->anon_vma && reusable(model->anon_vma))
			dst->anon_vma = model->anon_vma;
	}
	if (!fork)
		dst->anon_vma = src->anon_vma;
	if (dst->anon_vma)
		dst->anon_vma->num_active_vmas++;
	write_unlock(lock);
	return 0;
}

int anon_vma_fork(struct vma *child, struct vma *parent)
{
	struct anon_vma_chain *chain;

	if (!parent->anon_vma)
		return 0;
	int err = anon_vma_clone(child, parent);
	if (err)
		return err;
	if (child->anon_vma) {
		MARK(anon_vma_reused_by_fork);
		return 0;
	}
	struct anon_vma *av = anon_vma_create(parent->anon_vma);
	if (!av)
		goto unlink;
	chain = chain_create();
	if (!chain)
		goto put;
	write_lock(&av->root->lock);
	chain_link(child, chain, av);
	av->num_active_vmas = 1;
	av->parent->num_children++;
	child->anon_vma = av;
	write_unlock(&av->root->lock);
	return 0;
put:
	anon_vma_put(av);
unlink:
	anon_vma_unlink(child);
	return -ENOMEM;
}

// The anon_vmas that lost their last link are put after the root lock: putting may free the root.
static void drop_links(struct vma *vma, struct list_head *dead)
{
	struct anon_vma_chain *chain, *next;

	list_for_each_entry_safe(chain, next, &vma->anon_chain, same_vma) {
		struct anon_vma *av = chain->anon_vma;

		interval_tree_remove(&av->chains, &chain->rb);
		if (interval_tree_empty(&av->chains)) {
			av->parent->num_children--;
			list_move(&chain->same_vma, dead);
		} else {
			list_del(&chain->same_vma);
			meta_delete(chain);
		}
	}
	if (vma->anon_vma)
		vma->anon_vma->num_active_vmas--;
	vma->anon_vma = NULL;
}

void anon_vma_unlink(struct vma *vma)
{
	struct anon_vma_chain *chain, *next;
	LIST_HEAD(dead);

	if (list_empty(&vma->anon_chain))
		return;
	struct anon_vma *root =
		list_first_entry(&vma->anon_chain, struct anon_vma_chain, same_vma)->anon_vma->root;
	anon_vma_get(root); // for its lock
	write_lock(&root->lock);
	drop_links(vma, &dead);
	write_unlock(&root->lock);
	list_for_each_entry_safe(chain, next, &dead, same_vma) {
		struct anon_vma *av = chain->anon_vma;
		meta_delete(chain);
		anon_vma_put(av);
	}
	anon_vma_put(root);
}

// ---- The first anonymous page

// A neighbour that this vma would merge with, but for their protection: sharing its anon_vma lets
// them merge later. Only one whose pages cannot be shared with a parent.
static struct anon_vma *neighbour_anon_vma(struct vma *a, struct vma *b, struct vma *of)
{
	const unsigned may_differ = VM_READ | VM_WRITE | VM_EXEC;

	if (!a || !b || a->end != b->start || a->region != b->region || a->object != b->object ||
		(a->flags ^ b->flags) & ~may_differ || a->pgoff + vma_pages(a) != b->pgoff ||
		!mempolicy_equal(a->policy, b->policy))
		return NULL;
	return of->anon_vma && list_is_singular(&of->anon_chain) ? of->anon_vma : NULL;
}

// With a reference. mmap_lock keeps the neighbours and their anon_vmas.
static struct anon_vma *mergeable_anon_vma(struct vma *vma)
{
	struct vma *prev = vma_prev(vma), *next = vma_next(vma);
	struct anon_vma *av;

	mutex_lock(&vma->space->tables_lock);
	av = neighbour_anon_vma(vma, next, next);
	if (!av)
		av = neighbour_anon_vma(prev, vma, prev);
	if (av)
		anon_vma_get(av);
	mutex_unlock(&vma->space->tables_lock);
	return av;
}

// Publish, unless another fault was first.
static bool publish(struct vma *vma, struct anon_vma_chain *chain, struct anon_vma *av)
{
	bool first;

	write_lock(&av->root->lock);
	mutex_lock(&vma->space->tables_lock);
	first = !vma->anon_vma;
	if (first) {
		chain_link(vma, chain, av);
		av->num_active_vmas++;
		vma->anon_vma = av;
	}
	mutex_unlock(&vma->space->tables_lock);
	write_unlock(&av->root->lock);
	return first;
}

int anon_vma_prepare(struct vma *vma)
{
	if (vma->anon_vma)
		return 0;
	struct anon_vma_chain *chain = chain_create();
	if (!chain)
		return -ENOMEM;
	struct anon_vma *shared = mergeable_anon_vma(vma);
	struct anon_vma *av = shared ? shared : anon_vma_create(NULL);
	if (!av) {
		meta_delete(chain);
		return -ENOMEM;
	}
	bool first = publish(vma, chain, av);
	if (!first)
		meta_delete(chain);
	if (shared || !first) // the links' own reference came with its creation
		anon_vma_put(av);
	return 0;
}
