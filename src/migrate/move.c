// SPDX-License-Identifier: MIT
// Moving: contents and identity of unmapped folios go to their targets, and the entries with them.
//
//   batch_move()   all UNMAPPED slots of a batch, by the method of what they belong to
//
// Methods, by the folio's mapping:
//	anonymous, KSM, objects with migrate_plain	plain: whole runs at once, as below
//	a driver (non-LRU)				its migrate callback (movable.c)
//	object with migrate_folio			that callback; it copies and switches itself
//	other objects					clean: plain; dirty: written out first
//
// Plain, in the order that races ask for:
//  1. the reference count must be what mappings, index and isolation explain, or -EAGAIN: who
//     else found the folio by its frame may be about to use it;
//  2. contents are copied (a poisoned source is final). Nobody can store: writers are blocked;
//  3. the count is frozen at that value without mappings (one may be back: virt/cow.c), or
//     -EAGAIN; object: under i_pages, so that a lookup finds the old folio or the new one, never
//     none;
//  4. index and mapping are taken over. This is the point of no return;
//  5. flags follow, the target joins the LRU, entries are replaced, and both are unlocked. (In a
//     run the entries come first: nobody looks at a locked anonymous target's flags, and so they
//     come with the LRU and the unlocking in one step; run.c.)
//
// Both folios of a slot are locked by the batch all the time. Nothing here allocates.
#include "base/mark.h"
#include "base/vmstat.h"
#include "migrate/batch.h"
#include "migrate/movable.h"
#include "phys/lru.h"
#include "phys/zone.h"
#include "virt/object.h"

#include <errno.h>

static void move_plain_run(struct batch *b, unsigned first, unsigned nr);
static int move_by_method(struct batch *b, struct slot *s);
static void land(struct batch *b);

static bool moves_plain(const struct slot *s)
{
	struct object *object = folio_object(s->src);

	return !folio_test_movable_type(s->src) && !folio_test_private(s->src) &&
	       (!object || object->ops->migrate_plain);
}

void batch_move(struct batch *b)
{
	for (unsigned i = 0, nr; i < b->nr; i += nr) {
		struct slot *s = &b->slot[i];

		for (nr = 0; i + nr < b->nr; nr++)
			if (s[nr].state != SLOT_UNMAPPED || !moves_plain(&s[nr]))
				break;
		if (nr) {
			move_plain_run(b, i, nr);
			continue;
		}
		nr = 1;
		if (s->state == SLOT_UNMAPPED)
			s->error = move_by_method(b, s);
	}
	land(b);
}

// ---- Identity

static bool on_lru(const struct folio *folio)
{
	return !folio_test_hugetlb(folio) && !folio_test_movable_type(folio);
}

// After the switch the source is nobody's but ours. Most are only to be freed: these stay frozen.
static void unfreeze_source(struct batch *b, struct slot *s, unsigned refs)
{
	if (s->nr_pages > 1 || !on_lru(s->src) || b->mc->reason == MR_MEMORY_FAILURE)
		folio_ref_unfreeze(s->src, refs);
}

static int switch_anon(struct batch *b, struct slot *s)
{
	struct folio *src = s->src, *dst = s->dst;
	struct mm_core *mm = b->mc->mm;
	unsigned refs = folio_owner_ref_count(src) + 1 + s->kept;

	if (!folio_ref_freeze(src, refs))
		return -EAGAIN;
	if (s->nr_pages > 1)
		(void)folio_deferred_unqueue(src);
	// No way back from here.
	folio_set_index(dst, folio_index(src));
	folio_set_mapping_raw(dst, folio_mapping_raw(src));
	if (s->nr_pages > 1 && !folio_test_hugetlb(dst)) // and the source, until it is free
		folio_size_stat(dst, STAT_NR_ANON, 1);
	if (folio_test_ksm(src) && mm->up.ksm_migrated)
		mm->up.ksm_migrated(dst, src);
	unfreeze_source(b, s, refs - s->kept);
	return 0;
}

static int switch_object(struct batch *b, struct object *object, struct slot *s)
{
	struct folio *src = s->src, *dst = s->dst;
	unsigned refs = folio_owner_ref_count(src) + 1 + s->kept;

	mutex_lock(&object->i_pages_lock);
	if (!folio_ref_freeze(src, refs)) {
		mutex_unlock(&object->i_pages_lock);
		return -EAGAIN;
	}
	(void)folio_deferred_unqueue(src);
	// No way back from here.
	object_replace_folio(object, dst, src);
	folio_clear_mapping(src);
	unfreeze_source(b, s, refs - s->nr_pages - s->kept);
	mutex_unlock(&object->i_pages_lock);
	return 0;
}

uint32_t folio_migrated_flags(const struct folio *src)
{
	const uint32_t copied = 1u << PG_REFERENCED | 1u << PG_UPTODATE | 1u << PG_WORKINGSET |
				1u << PG_DIRTY | 1u << PG_YOUNG | 1u << PG_IDLE | 1u << PG_ACTIVE |
				1u << PG_SWAPBACKED | 1u << PG_ANON_EXCLUSIVE;

	return frame_flags(&src->page) & copied;
}

static void migrate_last_cpupid(struct folio *dst, struct folio *src)
{
	if (folio_last_cpupid(dst) != folio_last_cpupid(src))
		(void)folio_xchg_last_cpupid(dst, folio_last_cpupid(src));
}

void folio_migrate_flags(struct folio *dst, struct folio *src)
{
	uint32_t flags = folio_migrated_flags(src);

	atomic_fetch_or_explicit(&dst->page.flags, flags, memory_order_acq_rel);
	if (flags >> PG_ACTIVE & 1)
		folio_clear_active(src);
	if (folio_test_unevictable(src)) // remapping into a locked vma makes dst so again
		folio_clear_unevictable(src);
	migrate_last_cpupid(dst, src);
}

// Mapped once, and most likely again in a moment: its flags wait for that (run.c).
static bool may_file_later(const struct batch *b, const struct slot *s)
{
	return s->kept && folio_test_anon(s->src) && b->mc->reason != MR_MEMORY_FAILURE;
}

void slot_file(struct slot *s)
{
	if (!s->filing)
		return;
	s->filing = false;
	folio_migrate_flags(s->dst, s->src);
	folio_add_lru(s->dst);
}

static void note_deferred(struct slot *s)
{
	if (s->nr_pages <= 2)
		return;
	s->deferred = folio_deferred_queued(s->src);
	s->partially_mapped = s->deferred && folio_test_partially_mapped(s->src);
}

static void switch_identity(struct batch *b, struct slot *s)
{
	struct object *object = folio_object(s->src);

	note_deferred(s);
	s->error = object ? switch_object(b, object, s) : switch_anon(b, s);
	if (s->error) {
		s->why = folio_maybe_pinned(s->src) ? WHY_PINNED : WHY_EXTRA_REFERENCE;
		return;
	}
	s->filing = may_file_later(b, s);
	s->kept = false;
	if (s->filing)
		migrate_last_cpupid(s->dst, s->src);
	else
		folio_migrate_flags(s->dst, s->src);
	s->state = SLOT_SWITCHED;
}

// ---- Plain

static bool follows(const struct slot *s)
{
	return folio_pfn(s[1].src).n == folio_pfn(s->src).n + s->nr_pages &&
	       folio_pfn(s[1].dst).n == folio_pfn(s->dst).n + s->nr_pages;
}

static int copy_one(struct mm_core *mm, struct slot *s)
{
	s->error = folios_copy(mm, s->dst, s->src, s->nr_pages);
	if (s->error)
		s->why = WHY_POISONED;
	return s->error;
}

// Slots whose frames lie in a row on both sides. Who is poisoned shows only one by one.
static void copy_row(struct mm_core *mm, struct slot *s, unsigned nr)
{
	unsigned pages = 0;

	for (unsigned i = 0; i < nr; i++)
		pages += s[i].nr_pages;
	if (nr > 1 && !folios_copy(mm, s->dst, s->src, pages))
		return;
	for (unsigned i = 0; i < nr; i++)
		(void)copy_one(mm, &s[i]);
}

static void move_plain_run(struct batch *b, unsigned first, unsigned nr)
{
	struct slot *s = &b->slot[first], *end = s + nr;

	for (struct slot *p = s; p < end; p++) {
		p->error = slot_check_references(p);
	}
	for (struct slot *p = s; p < end;) {
		unsigned row = 1;

		if (p->error) {
			p++;
			continue;
		}
		while (p + row < end && !p[row].error && follows(&p[row - 1]))
			row++;
		copy_row(b->mc->mm, p, row);
		p += row;
	}
	for (struct slot *p = s; p < end; p++)
		if (!p->error)
			switch_identity(b, p);
}

// ---- Other methods

static int explained(struct slot *s, enum migrate_why why, int err)
{
	s->why = why;
	return err;
}

static int move_movable(struct batch *b, struct slot *s)
{
	int err = movable_migrate(s->dst, s->src, b->mode);

	if (err)
		return explained(s, WHY_DRIVER_FAILED, err);
	s->state = SLOT_SWITCHED;
	return 0;
}

// Mappings come back first: writing out may take long, and nobody shall wait for it.
static int write_out(struct batch *b, struct slot *s, struct object *object)
{
	struct mapper m;
	int err;

	if (b->mode != MIGRATE_SYNC)
		return explained(s, WHY_DIRTY_NO_METHOD, -EBUSY);
	if (!object->ops->write_folio)
		return explained(s, WHY_DIRTY_NO_METHOD, -EINVAL);
	MARK(migrate_write_out);
	if (s->was_mapped) {
		mapper_init(&m, b);
		slot_restore(&m, s);
		(void)mapper_finish(&m);
	}
	err = object->ops->write_folio(object, s->src);
	return explained(s, WHY_DIRTY_NO_METHOD, err ? -EIO : -EAGAIN);
}

// It was written out, and is mapped again by who waited: the same as in phase one.
static int unmap_again(struct batch *b, struct slot *s)
{
	struct mapper m;
	int err = slot_check_references(s);

	if (err)
		return err;
	mapper_init(&m, b);
	err = slot_unmap(&m, s);
	s->tentative = false;
	if (!mapper_finish(&m))
		return err;
	// Not blocked everywhere: the next pass must not take it for unmapped.
	mapper_init(&m, b);
	slot_restore(&m, s);
	(void)mapper_finish(&m);
	return explained(s, WHY_HOST_MAPPINGS, -EAGAIN);
}

static int move_fallback(struct batch *b, struct slot *s, struct object *object)
{
	int err;

	if (folio_mapped(s->src)) {
		err = unmap_again(b, s);
		if (err)
			return err;
	}
	if (!object->ops->migrate_plain && folio_test_dirty(s->src))
		return write_out(b, s, object);
	if (folio_test_private(s->src) &&
		!(object->ops->release_folio && object->ops->release_folio(object, s->src)))
		return explained(s, WHY_PRIVATE_DATA, b->mode == MIGRATE_SYNC ? -EAGAIN : -EBUSY);
	err = slot_check_references(s);
	if (err || copy_one(b->mc->mm, s))
		return s->error;
	switch_identity(b, s);
	return s->error;
}

static int move_by_callback(struct batch *b, struct slot *s, struct object *object)
{
	int err = slot_check_references(s);

	if (err)
		return err;
	note_deferred(s);
	err = object->ops->migrate_folio(object, s->dst, s->src, b->mode);
	if (err)
		return explained(s, WHY_DRIVER_FAILED, err);
	folio_migrate_flags(s->dst, s->src);
	s->state = SLOT_SWITCHED;
	return 0;
}

static int move_by_method(struct batch *b, struct slot *s)
{
	struct object *object = folio_object(s->src);

	if (folio_test_movable_type(s->src))
		return move_movable(b, s);
	if (!object) // private data of what belongs to nobody
		return explained(s, WHY_PRIVATE_DATA, -EAGAIN);
	if (object->ops->migrate_folio)
		return move_by_callback(b, s, object);
	return move_fallback(b, s, object);
}

// ---- Past the point of no return

static bool counts_isolated(const struct batch *b, const struct folio *src)
{
	return on_lru(src) && b->mc->reason != MR_DEMOTION; // there the caller counts
}

void slot_release_source(struct batch *b, struct folio *src)
{
	if (folio_test_hugetlb(src)) {
		b->mc->mm->up.hugetlb_putback(src);
		return;
	}
	if (folio_test_movable_type(src))
		folio_clear_isolated(src);
	if (counts_isolated(b, src))
		folio_uncount_isolated(src);
	if (b->mc->reason != MR_MEMORY_FAILURE)
		folio_put(src);
}

// The references to sources that moved, and their counts, given up together.
struct release {
	struct folio **folio; // in batch->run
	unsigned nr;
	unsigned nid;
	bool file;
	long isolated; // pages of nid, file
};

static void count_released(struct batch *b, struct release *r)
{
	if (r->isolated)
		node_add_isolated(b->mc->mm->phys, r->nid, r->file, -r->isolated);
	r->isolated = 0;
}

static void release_later(struct batch *b, struct release *r, struct folio *src)
{
	unsigned nid = folio_nid(src);
	bool file = folio_is_file_lru(src);

	if (!on_lru(src) || b->mc->reason == MR_MEMORY_FAILURE) {
		slot_release_source(b, src);
		return;
	}
	if (r->nid != nid || r->file != file) {
		count_released(b, r);
		r->nid = nid;
		r->file = file;
	}
	if (counts_isolated(b, src))
		r->isolated += (long)folio_nr(src);
	r->folio[r->nr++] = src;
}

// It has its mappings' references now, or is for its owner to find.
static void give_target(struct mm_core *mm, struct slot *s)
{
	folio_unlock(s->dst);
	if (folio_test_hugetlb(s->dst))
		mm->up.hugetlb_putback(s->dst);
	else
		folio_put(s->dst);
	s->dst = NULL;
}

static void finish(struct batch *b, struct slot *s, struct release *release)
{
	struct mm_core *mm = b->mc->mm;

	if (s->partially_mapped) // counts again, as in Linux
		folio_note_partially_mapped(s->dst);
	else if (s->deferred)
		(void)folio_deferred_queue(s->dst);
	if (folio_test_hugetlb(s->src) && mm->up.hugetlb_moved)
		mm->up.hugetlb_moved(s->dst, s->src, b->mc->reason);
	if (s->dst)
		give_target(mm, s);
	folio_unlock(s->src);
	release_later(b, release, s->src);
	s->state = SLOT_MOVED;
	s->why = WHY_MOVED;
}

static bool is_small_mapped(const struct slot *s)
{
	return s->state == SLOT_SWITCHED && s->was_mapped && s->nr_pages == 1;
}

static void remap_all(struct mapper *m, struct batch *b)
{
	unsigned end = 0; // slots before it are small ones that were mapped

	for (unsigned i = 0, nr; i < b->nr; i += nr) {
		struct slot *s = &b->slot[i];

		for (end = max(end, i); end < b->nr && is_small_mapped(&b->slot[end]);)
			end++;
		nr = end > i ? run_remap(m, s, end - i) : 0;
		if (nr)
			continue;
		nr = 1;
		slot_file(s);
		if (s->state == SLOT_SWITCHED && s->was_mapped)
			slot_remap(m, s->dst, s->src);
	}
}

static void land(struct batch *b)
{
	struct release release = {.folio = b->run};
	struct folio_list lru = {0};
	struct vmstat_batch counts;
	struct mapper m;

	vmstat_batch_begin(&counts, b->mc->mm->stat);
	for (unsigned i = 0; i < b->nr; i++)
		if (b->slot[i].state == SLOT_SWITCHED && !b->slot[i].filing &&
			on_lru(b->slot[i].src))
			folio_list_add_tail(&lru, b->slot[i].dst);
	folio_add_lru_many(&lru);
	mapper_init(&m, b);
	remap_all(&m, b);
	(void)mapper_finish(&m);
	for (unsigned i = 0; i < b->nr; i++)
		if (b->slot[i].state == SLOT_SWITCHED)
			finish(b, &b->slot[i], &release);
	count_released(b, &release);
	vmstat_batch_end(&counts);
	folios_put(release.folio, release.nr);
}
