// SPDX-License-Identifier: MIT
// Reverse mapping: who is found for a folio, through forks and splits, and what is counted.
#include "huge_pages.h"

#include "base/mark.h"
#include "base/sched.h"

#define RW (VM_READ | VM_WRITE)

// ---- Walks

struct found {
	unsigned nr;
	struct rmap_range range[8];
	unsigned stop_after;
};

static bool note(const struct rmap_range *range, void *arg)
{
	struct found *found = arg;

	assert_true(found->nr < ARRAY_SIZE(found->range));
	found->range[found->nr++] = *range;
	return found->nr != found->stop_after;
}

static struct folio *folio_at(struct space *space, uint64_t addr)
{
	struct folio *folio = NULL;
	unsigned page;

	assert_int_equal(follow_page(space, addr, &folio, &page), 0);
	return folio;
}

static struct found walk(struct folio *folio)
{
	struct found found = {0};

	assert_int_equal(rmap_walk(folio, note, &found, false), 0);
	return found;
}

static bool found_in(const struct found *found, const struct space *space, uint64_t addr)
{
	for (unsigned i = 0; i < found->nr; i++)
		if (found->range[i].vma->space == space && found->range[i].addr == addr)
			return true;
	return false;
}

static void a_page_is_found_in_its_vma(void **state)
{
	struct virt_test *t = *state;
	uint64_t a = soft_map(t->task, 8, RW, NULL, 0);

	soft_fill(t->task, a + 0x3000, 1, 1);
	struct folio *folio = folio_at(t->space, a + 0x3000);
	struct found found = walk(folio);
	assert_int_equal(found.nr, 1);
	assert_true(found_in(&found, t->space, a + 0x3000));
	assert_int_equal(found.range[0].nr_pages, 1);
	// Also after its vma was split in front of it.
	assert_int_equal(space_protect(t->space, a, 0x2000, VM_READ), 0);
	found = walk(folio);
	assert_int_equal(found.nr, 1);
	assert_int_equal(found.range[0].vma->start, a + 0x2000);
	assert_true(found_in(&found, t->space, a + 0x3000));
	folio_put(folio);
}

//	parent  A: p        p: parent and both children
//	  child1  A, B: c   c: child1 and child2
//	    child2  A, B, C
static void forks_share_what_was_there_before(void **state)
{
	struct virt_test *t = *state;
	uint64_t a = soft_map(t->task, 4, RW, NULL, 0);
	struct task *child1, *child2;

	soft_fill(t->task, a, 1, 1);
	assert_int_equal(task_fork(t->task, 0, &child1), 0);
	soft_fill(child1, a + 0x1000, 1, 2);
	assert_int_equal(task_fork(child1, 0, &child2), 0);
	struct folio *p = folio_at(t->space, a), *c = folio_at(child1->space, a + 0x1000);
	struct found found = walk(p);
	assert_int_equal(found.nr, 3);
	assert_true(found_in(&found, child2->space, a));
	found = walk(c);
	assert_int_equal(found.nr, 2);
	assert_false(found_in(&found, t->space, a + 0x1000));
	witness_check(t->w, &t->m.mm);
	// Copies on write belong to the writer alone.
	soft_fill(child2, a, 1, 3);
	struct folio *copy = folio_at(child2->space, a);
	found = walk(copy);
	assert_int_equal(found.nr, 1);
	assert_int_equal(soft_byte(t->task, a), 1);
	folio_put(p);
	folio_put(c);
	folio_put(copy);
	task_exit(child1);
	witness_check(t->w, &t->m.mm);
	task_exit(child2);
}

// A chain of forks in which each parent ends does not grow for ever.
static void an_orphaned_anon_vma_is_used_again(void **state)
{
	struct virt_test *t = *state;
	uint64_t a = soft_map(t->task, 4, RW, NULL, 0);
	struct task *task = t->task, *child;
	size_t longest = 0;

	soft_fill(task, a, 4, 1);
	for (unsigned i = 0; i < 20; i++) {
		assert_int_equal(task_fork(task, 0, &child), 0);
		soft_fill(child, a + 0x1000, 1, (char)i);
		if (task != t->task)
			task_exit(task);
		task = child;
		longest = max(longest, list_count(&vma_lookup(task->space, a)->anon_chain));
	}
	assert_true(longest <= 4);
#ifdef GODWIT_DEBUG
	assert_true(mark_was_hit("anon_vma_reused_by_fork"));
#endif
	witness_check(t->w, &t->m.mm);
	task_exit(task);
}

static void an_object_is_found_at_each_of_its_mappings(void **state)
{
	struct virt_test *t = *state;
	struct object *shm;
	uint64_t a, b;

	assert_int_equal(object_create_shmem(&t->m.mm, "x", 0x10000, &shm), 0);
	a = soft_map(t->task, 8, RW | VM_SHARED, shm, 0);
	b = soft_map(t->task, 8, RW | VM_SHARED, shm, 4); // pages 4..11
	soft_fill(t->task, a + 0x5000, 1, 5);
	assert_int_equal(soft_byte(t->task, b + 0x1000), 5);
	struct folio *folio = folio_at(t->space, a + 0x5000);
	struct found found = walk(folio);
	assert_int_equal(found.nr, 2);
	assert_true(found_in(&found, t->space, a + 0x5000));
	assert_true(found_in(&found, t->space, b + 0x1000));
	assert_int_equal(folio_mapcount(folio), 2);
	assert_int_equal(vmstat_read(&t->m.stat, VM_NR_MAPPED), 1);
	struct found one = {.stop_after = 1};
	assert_int_equal(rmap_walk(folio, note, &one, false), 0);
	assert_int_equal(one.nr, 1);
	folio_put(folio);
	object_put(shm);
}

static void a_walk_that_may_not_wait(void **state)
{
	struct virt_test *t = *state;
	uint64_t a = soft_map(t->task, 1, RW, NULL, 0);
	struct found found = {0};

	soft_fill(t->task, a, 1, 1);
	struct folio *folio = folio_at(t->space, a);
	assert_ptr_equal(folio_rmap_lock(folio), &folio_anon_vma(folio)->root->lock);
	fault_arm(FI_TRYLOCK, FI_THREAD, 0, 1);
	int err = rmap_walk(folio, note, &found, true);
	assert_int_equal(err, fault_disarm(FI_TRYLOCK) ? -EAGAIN : 0);
	assert_int_equal(rmap_walk(folio, note, &found, true), 0);
	read_lock(folio_rmap_lock(folio));
	rmap_walk_held(folio, note, &found);
	read_unlock(folio_rmap_lock(folio));
	folio_put(folio);
}

static void an_anon_vma_outlives_its_vma_by_reference_only(void **state)
{
	struct virt_test *t = *state;
	uint64_t a = soft_map(t->task, 1, RW, NULL, 0);

	soft_fill(t->task, a, 1, 1);
	struct folio *folio = folio_at(t->space, a);
	struct anon_vma *av = folio_get_anon_vma(folio);
	assert_non_null(av);
	assert_int_equal(space_unmap(t->space, a, PAGE_SIZE), 0);
	assert_null(folio_get_anon_vma(folio));
	struct found found = walk(folio); // nobody there any more
	assert_int_equal(found.nr, 0);
	anon_vma_put(av);
	folio_put(folio);
}

// ---- Mapcounts

static void small_pages_are_counted(void **state)
{
	struct virt_test *t = *state;
	uint64_t a = soft_map(t->task, 4, RW, NULL, 0);
	struct task *child;

	soft_fill(t->task, a, 3, 1);
	assert_int_equal(vmstat_read(&t->m.stat, VM_NR_ANON_PAGES), 3);
	struct folio *folio = folio_at(t->space, a);
	assert_true(folio_test_anon_exclusive(folio));
	assert_int_equal(task_fork(t->task, 0, &child), 0);
	assert_false(folio_test_anon_exclusive(folio));
	assert_int_equal(folio_mapcount(folio), 2);
	assert_int_equal(vmstat_read(&t->m.stat, VM_NR_ANON_PAGES), 3);
	task_exit(child);
	assert_int_equal(folio_mapcount(folio), 1);
	folio_put(folio);
}

// Whole, then by pages, then partly: only the last is a reason to split the folio.
static void a_huge_page_is_counted_and_queued_when_partly_unmapped(void **state)
{
	struct virt_test *t = *state;
	struct vmstat *stat = &t->m.stat;

	t->m.mm.up.split_huge_pmd = huge_split_pmd;
	uint64_t a = soft_map(t->task, 512, RW, NULL, 0);
	assert_int_equal(huge_install(t, a), 0);
	struct folio *folio = folio_at(t->space, a);
	assert_int_equal(folio_mapcount(folio), 1);
	assert_int_equal(vmstat_read(stat, VM_NR_ANON_PAGES), 512);
	assert_int_equal(vmstat_read(stat, VM_NR_ANON_TRANSPARENT_HUGEPAGES), 1);
	assert_int_equal(t->space->rss_anon, 512);
	assert_int_equal(huge_split_pmd(vma_lookup(t->space, a), a), 0);
	assert_int_equal(folio_mapcount(folio), 512);
	assert_int_equal(vmstat_read(stat, VM_NR_ANON_PAGES), 512);
	assert_int_equal(vmstat_read(stat, VM_NR_ANON_TRANSPARENT_HUGEPAGES), 0);
	assert_false(folio_test_partially_mapped(folio));
	witness_check(t->w, &t->m.mm);
	assert_int_equal(space_unmap(t->space, a + 0x1000, 0x2000), 0);
	assert_int_equal(vmstat_read(stat, VM_NR_ANON_PAGES), 510);
	assert_true(folio_test_partially_mapped(folio));
	assert_true(folio_deferred_queued(folio));
	assert_int_equal(vmstat_read(stat, VM_THP_DEFERRED_SPLIT_PAGE), 1);
	witness_check(t->w, &t->m.mm);
	assert_int_equal(space_unmap(t->space, a, PMD_SIZE), 0);
	assert_int_equal(folio_mapcount(folio), 0);
	folio_put(folio);
	assert_int_equal(node_deferred_length(phys_node(&t->m.phys, 0)), 0);
}

static void a_whole_unmap_is_no_partial_one(void **state)
{
	struct virt_test *t = *state;

	t->m.mm.up.split_huge_pmd = huge_split_pmd;
	uint64_t a = soft_map(t->task, 512, RW, NULL, 0);
	assert_int_equal(huge_install(t, a), 0);
	assert_int_equal(huge_split_pmd(vma_lookup(t->space, a), a), 0);
	assert_int_equal(space_unmap(t->space, a, PMD_SIZE), 0);
	assert_int_equal(vmstat_read(&t->m.stat, VM_THP_DEFERRED_SPLIT_PAGE), 0);
}

// Another table loses a page while this one gets it, and is not through yet: the page is counted
// twice for that moment.
static void a_page_counted_twice_is_not_unmapped(void **state)
{
	struct virt_test *t = *state;

	t->m.mm.up.split_huge_pmd = huge_split_pmd;
	uint64_t a = soft_map(t->task, 512, RW, NULL, 0);
	assert_int_equal(huge_install(t, a), 0);
	struct folio *folio = folio_at(t->space, a);
	struct frame *tail2 = folio_frame(folio, 2);

	atomic_fetch_add(&tail2->tail.nr_mapped, 1);
	assert_int_equal(huge_split_pmd(vma_lookup(t->space, a), a), 0);
	atomic_fetch_sub(&tail2->tail.nr_mapped, 1);
	rmap_count_mapped(folio, -1); // as the other reports
	assert_false(folio_test_partially_mapped(folio));
	folio_put(folio);
}

static void a_pinned_page_is_not_shared(void **state)
{
	struct virt_test *t = *state;
	uint64_t a = soft_map(t->task, 1, RW, NULL, 0);

	soft_fill(t->task, a, 1, 1);
	struct folio *folio = folio_at(t->space, a);
	assert_true(folio_try_pin(folio, 1));
	assert_int_equal(folio_try_share_anon(folio, 0), -EBUSY);
	assert_true(folio_test_anon_exclusive(folio));
	folio_unpin(folio, 1);
	set_entry_at(t->space, a, pte_clear(entry_at(t->space, a), PTE_WRITE));
	uintptr_t host = (uintptr_t)space_pointer(t->space, a);
	t->w->mmu.ops->clear(&t->w->mmu, host, 1);
	assert_int_equal(folio_try_share_anon(folio, 0), 0);
	assert_false(folio_test_anon_exclusive(folio));
	assert_int_equal(folio_try_share_anon(folio, 0), 0); // it is
	folio_put(folio);
}

// ---- Running out of memory

static uint64_t sweep_addr;

static int touch(struct virt_test *t)
{
	int64_t n = space_write(t->space, t->task, sweep_addr, "x", 1);

	return n < 0 ? (int)n : 0;
}

static void untouch(struct virt_test *t)
{
	assert_int_equal(space_unmap(t->space, sweep_addr, 0x4000), 0);
	sweep_addr = soft_map(t->task, 4, RW, NULL, 0);
}

static void the_first_touch_fails_anywhere(void **state)
{
	struct virt_test *t = *state;

	sweep_addr = soft_map(t->task, 4, RW, NULL, 0);
	virt_sweep(t, touch, untouch, NULL);
}

static struct task *sweep_child;

static int fork_task(struct virt_test *t)
{
	return task_fork(t->task, 0, &sweep_child);
}

static void end_child(struct virt_test *t)
{
	task_exit(sweep_child);
	witness_check(t->w, &t->m.mm);
}

static void parent_unharmed(struct virt_test *t)
{
	for (unsigned i = 0; i < 4; i++)
		assert_int_equal(soft_byte(t->task, sweep_addr + i * PAGE_SIZE), 7);
}

static void a_fork_fails_anywhere(void **state)
{
	struct virt_test *t = *state;

	sweep_addr = soft_map(t->task, 4, RW, NULL, 0);
	soft_fill(t->task, sweep_addr, 4, 7);
	assert_int_equal(space_protect(t->space, sweep_addr, 0x1000, VM_READ), 0);
	virt_sweep(t, fork_task, end_child, parent_unharmed);
}

// ---- Races, seeded: a walk, against a fork and the end of everything that maps the folio

struct race {
	struct virt_test *t;
	struct folio *folio;
	struct task *child;
	uint64_t addr;
};

static bool look(const struct rmap_range *range, void *arg)
{
	struct folio *folio = arg;
	struct page_table *table = pte_table_lock(range->vma->space, vaddr_of(range->addr));

	if (table) {
		struct pte e = table_entry(table, pte_index(vaddr_of(range->addr)));
		if (pte_present(e))
			assert_int_equal(pte_pfn(e).n, folio_pfn(folio).n);
		page_table_unlock(table);
	}
	return true;
}

static void race(void *arg, unsigned index)
{
	struct race *r = arg;

	if (index == 0) {
		assert_int_equal(space_unmap(r->t->space, r->addr, PAGE_SIZE), 0);
		return;
	}
	if (index == 1) {
		assert_int_equal(space_unmap(r->child->space, r->addr, PAGE_SIZE), 0);
		return;
	}
	for (unsigned i = 0; i < 3; i++) {
		struct anon_vma *av = folio_get_anon_vma(r->folio);
		if (!av)
			continue;
		(void)rmap_walk(r->folio, look, r->folio, false);
		anon_vma_put(av);
	}
}

static void walks_race_with_unmapping(void **state)
{
	struct virt_test *t = *state;
	uint64_t seed = test_seed();

	for (unsigned i = 0; i < 60; i++) {
		struct race r = {.t = t, .addr = soft_map(t->task, 1, RW, NULL, 0)};
		soft_fill(t->task, r.addr, 1, 1);
		r.folio = folio_at(t->space, r.addr);
		assert_int_equal(task_fork(t->task, 0, &r.child), 0);
		sched_run(seed + i, 3, race, &r);
		assert_int_equal(folio_mapcount(r.folio), 0);
		assert_int_equal(folio_ref_count(r.folio), 1);
		folio_put(r.folio);
		task_exit(r.child);
	}
}

static void race_touch(void *arg, unsigned index)
{
	struct race *r = arg;

	assert_int_equal(space_write(r->t->space, r->t->task, r->addr + index * PAGE_SIZE, "y", 1),
		1);
}

static void first_touches_race(void **state)
{
	struct virt_test *t = *state;
	uint64_t seed = test_seed();

	for (unsigned i = 0; i < 60; i++) {
		struct race r = {.t = t, .addr = soft_map(t->task, 4, RW, NULL, 0)};
		// Two neighbours that could share an anon_vma.
		assert_int_equal(space_protect(t->space, r.addr, 0x2000, RW | VM_EXEC), 0);
		sched_run(seed + i, 4, race_touch, &r);
		witness_check(t->w, &t->m.mm);
		assert_int_equal(space_unmap(t->space, r.addr, 0x4000), 0);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		virt_unit_test(a_page_is_found_in_its_vma),
		virt_unit_test(forks_share_what_was_there_before),
		virt_unit_test(an_orphaned_anon_vma_is_used_again),
		virt_unit_test(an_object_is_found_at_each_of_its_mappings),
		virt_unit_test(a_walk_that_may_not_wait),
		virt_unit_test(an_anon_vma_outlives_its_vma_by_reference_only),
		virt_unit_test(small_pages_are_counted),
		virt_unit_test(a_huge_page_is_counted_and_queued_when_partly_unmapped),
		virt_unit_test(a_whole_unmap_is_no_partial_one),
		virt_unit_test(a_page_counted_twice_is_not_unmapped),
		virt_unit_test(a_pinned_page_is_not_shared),
		virt_unit_test(the_first_touch_fails_anywhere),
		virt_unit_test(a_fork_fails_anywhere),
		virt_unit_test(walks_race_with_unmapping),
		virt_unit_test(first_touches_race),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
