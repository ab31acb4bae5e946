// SPDX-License-Identifier: MIT
// madvise, mlock, populate, and who is told of what goes.
#include "huge_pages.h"

#define RW (VM_READ | VM_WRITE)

enum { // Linux's numbers
	NORMAL = 0,
	RANDOM = 1,
	SEQUENTIAL = 2,
	DONTNEED = 4,
	FREE = 8,
	DONTFORK = 10,
	DOFORK = 11,
	MERGEABLE = 12,
	HUGEPAGE = 14,
	NOHUGEPAGE = 15,
	PAGEOUT = 21,
	POPULATE_R = 22,
	POPULATE_W = 23,
	COLLAPSE = 25,
};

static int advise(struct virt_test *t, uint64_t addr, uint64_t pages, int word)
{
	int err = space_advise(t->space, t->task, addr, pages << PAGE_SHIFT, word);

	witness_check(t->w, &t->m.mm);
	return err;
}

static void dontneed_drops_private_pages(void **state)
{
	struct virt_test *t = *state;
	uint64_t a = soft_map(t->task, 8, RW, NULL, 0);

	soft_fill(t->task, a, 8, 3);
	assert_int_equal(advise(t, a + 0x2000, 2, DONTNEED), 0);
	assert_int_equal(t->space->rss_anon, 6);
	assert_int_equal(soft_byte(t->task, a + 0x2000), 0);
	assert_int_equal(soft_byte(t->task, a + 0x4000), 3);
	assert_int_equal(t->space->nr_vmas, 1);
	// A hole: what is mapped is served, and it is told.
	assert_int_equal(space_unmap(t->space, a + 0x6000, 0x1000), 0);
	assert_int_equal(advise(t, a + 0x5000, 3, DONTNEED), -ENOMEM);
	assert_int_equal(soft_byte(t->task, a + 0x5000), 0);
	assert_int_equal(soft_byte(t->task, a + 0x7000), 0);
}

// Words of flags: memory for a split comes again, -ENOMEM is for holes. What failed did nothing.
static void no_memory_for_a_split(void **state)
{
	static const int words[] = {RANDOM, SEQUENTIAL, DONTFORK, HUGEPAGE, MERGEABLE};
	struct virt_test *t = *state;
	uint64_t a = soft_map(t->task, 8, RW, NULL, 0);

	for (unsigned i = 0; i < ARRAY_SIZE(words); i++) {
		fault_arm(FI_META, FI_THREAD, 0, 1);
		int err = advise(t, a + 0x2000, 2, words[i]);
		assert_int_equal(err, fault_disarm(FI_META) ? -EAGAIN : 0);
		assert_int_equal(t->space->nr_vmas, err ? 1 : 3);
		assert_int_equal(advise(t, a, 8, words[i]), 0);
		assert_int_equal(t->space->nr_vmas, 1);
	}
	assert_int_equal(space_unmap(t->space, a + 0x6000, 0x1000), 0);
	assert_int_equal(advise(t, a, 8, NORMAL), -ENOMEM);
	assert_int_equal(vma_lookup(t->space, a)->flags & (VM_SEQ_READ | VM_RAND_READ), 0);
}

// A lock leaves the memory of devices as it is.
static void special_memory_is_not_locked(void **state)
{
	struct virt_test *t = *state;
	uint64_t a = soft_map(t->task, 2, RW, NULL, 0);

	vma_lookup(t->space, a)->flags |= VM_DONTEXPAND;
	assert_int_equal(space_lock(t->space, t->task, a, 2 * PAGE_SIZE), 0);
	assert_int_equal(vma_lookup(t->space, a)->flags & VM_LOCKED, 0);
	assert_int_equal(t->space->locked_vm, 0);
	assert_int_equal(space_unlock(t->space, a, 2 * PAGE_SIZE), 0);
}

static void dontneed_of_part_of_a_huge_page(void **state)
{
	struct virt_test *t = *state;

	t->m.mm.up.split_huge_pmd = huge_split_pmd;
	uint64_t a = soft_map(t->task, 512, RW, NULL, 0);
	assert_int_equal(huge_install(t, a), 0);
	soft_fill(t->task, a, 4, 3);
	fault_arm(FI_META, FI_THREAD, 0, 1);
	int err = space_advise(t->space, t->task, a, 2 * PAGE_SIZE, DONTNEED);
	assert_int_equal(err, fault_disarm(FI_META) ? -ENOMEM : 0);
	if (err)
		assert_int_equal(soft_byte(t->task, a), 3);
	assert_int_equal(advise(t, a, 2, DONTNEED), 0);
	assert_int_equal(soft_byte(t->task, a), 0);
	assert_int_equal(soft_byte(t->task, a + 0x2000), 3);
	assert_int_equal(advise(t, a, 512, DONTNEED), 0);
	assert_int_equal(t->space->rss_anon, 0);
}

static void dontneed_leaves_an_object_its_pages(void **state)
{
	struct virt_test *t = *state;
	struct object *shm;

	assert_int_equal(object_create_shmem(&t->m.mm, "x", 0x4000, &shm), 0);
	uint64_t a = soft_map(t->task, 4, RW | VM_SHARED, shm, 0);
	soft_fill(t->task, a, 4, 3);
	assert_int_equal(advise(t, a, 4, DONTNEED), 0);
	assert_int_equal(t->space->rss_shmem, 0);
	assert_int_equal(soft_byte(t->task, a), 3);
	assert_int_equal(advise(t, a, 4, FREE), -EINVAL);
	assert_int_equal(advise(t, a, 4, PAGEOUT), 0);
	assert_int_equal(soft_byte(t->task, a + 0x1000), 3);
	object_put(shm);
}

static void free_keeps_what_nothing_reclaims(void **state)
{
	struct virt_test *t = *state;
	uint64_t a = soft_map(t->task, 4, RW, NULL, 0);

	soft_fill(t->task, a, 4, 3);
	assert_int_equal(advise(t, a, 4, FREE), 0);
	assert_int_equal(vmstat_read(&t->m.stat, VM_PGLAZYFREE), 4);
	assert_int_equal(soft_byte(t->task, a), 3);
}

static void flags_split_and_merge_vmas(void **state)
{
	struct virt_test *t = *state;
	uint64_t a = soft_map(t->task, 8, RW, NULL, 0);

	assert_int_equal(advise(t, a + 0x2000, 2, DONTFORK), 0);
	assert_int_equal(t->space->nr_vmas, 3);
	assert_int_equal(advise(t, a + 0x2000, 2, DOFORK), 0);
	assert_int_equal(t->space->nr_vmas, 1);
	assert_int_equal(advise(t, a, 8, HUGEPAGE), 0);
	assert_true(vma_lookup(t->space, a)->flags & VM_HUGEPAGE);
	assert_int_equal(advise(t, a, 8, NOHUGEPAGE), 0);
	assert_int_equal(vma_lookup(t->space, a)->flags & (VM_HUGEPAGE | VM_NOHUGEPAGE),
		VM_NOHUGEPAGE);
	assert_int_equal(advise(t, a, 8, MERGEABLE), 0);
	assert_true(vma_lookup(t->space, a)->flags & VM_MERGEABLE);
	assert_int_equal(advise(t, a, 8, 77), -EINVAL);
	assert_int_equal(advise(t, a + 0x800, 1, DONTNEED), -EINVAL);
	assert_int_equal(advise(t, a, 0, DONTNEED), 0);
}

static int heard_word;

static int hear(struct space *space, struct task *task, uint64_t addr, uint64_t len, int advice)
{
	(void)space, (void)task, (void)addr, (void)len;
	heard_word = advice;
	return advice == COLLAPSE ? -EBUSY : -EINVAL;
}

static void other_words_go_up(void **state)
{
	struct virt_test *t = *state;
	uint64_t a = soft_map(t->task, 1, RW, NULL, 0);

	t->m.mm.up.advise = hear;
	assert_int_equal(advise(t, a, 1, COLLAPSE), -EBUSY);
	assert_int_equal(heard_word, COLLAPSE);
	assert_int_equal(advise(t, a, 1, MERGEABLE), 0); // flag set, then told
	assert_int_equal(heard_word, MERGEABLE);
}

static void populate_makes_pages_and_translations(void **state)
{
	struct virt_test *t = *state;
	uint64_t a = soft_map(t->task, 8, RW, NULL, 0);

	assert_int_equal(advise(t, a, 4, POPULATE_R), 0);
	assert_true(pte_zero_page(entry_at(t->space, a)));
	assert_int_equal(advise(t, a, 8, POPULATE_W), 0);
	assert_int_equal(t->space->rss_anon, 8);
	// What the host lost comes back.
	t->w->mmu.ops->clear(&t->w->mmu, (uintptr_t)space_pointer(t->space, a), 8);
	assert_int_equal(advise(t, a, 8, POPULATE_W), 0);
	assert_int_equal(witness_at(t->w, t->space, a + 0x7000)->prot, MMU_WRITE);
	assert_int_equal(space_protect(t->space, a, 0x1000, VM_READ), 0);
	assert_int_equal(advise(t, a, 1, POPULATE_W), -EINVAL);
	assert_int_equal(advise(t, a + 0x7000, 2, POPULATE_R), -ENOMEM);
}

// ---- mlock

static void locked_pages_are_resident_and_unevictable(void **state)
{
	struct virt_test *t = *state;
	uint64_t a = soft_map(t->task, 8, RW, NULL, 0);

	soft_fill(t->task, a, 2, 1);
	assert_int_equal(space_lock(t->space, t->task, a, 6 * PAGE_SIZE), 0);
	assert_int_equal(t->space->locked_vm, 6);
	assert_int_equal(t->space->rss_anon, 6);
	assert_int_equal(vmstat_read(&t->m.stat, VM_NR_MLOCK), 6);
	assert_int_equal(vmstat_read(&t->m.stat, VM_NR_UNEVICTABLE), 6);
	witness_check(t->w, &t->m.mm);
	assert_int_equal(advise(t, a, 1, DONTNEED), -EINVAL);
	assert_int_equal(space_unlock(t->space, a, 2 * PAGE_SIZE), 0);
	assert_int_equal(t->space->locked_vm, 4);
	assert_int_equal(vmstat_read(&t->m.stat, VM_NR_MLOCK), 4);
	assert_int_equal(space_unmap(t->space, a, 8 * PAGE_SIZE), 0);
	assert_int_equal(t->space->locked_vm, 0);
	assert_int_equal(vmstat_read(&t->m.stat, VM_NR_MLOCK), 0);
	assert_int_equal(vmstat_read(&t->m.stat, VM_NR_UNEVICTABLE), 0);
}

static void a_page_locked_twice_is_unlocked_by_the_last(void **state)
{
	struct virt_test *t = *state;
	struct object *shm;

	assert_int_equal(object_create_shmem(&t->m.mm, "x", 0x1000, &shm), 0);
	uint64_t a = soft_map(t->task, 1, RW | VM_SHARED, shm, 0);
	uint64_t b = soft_map(t->task, 1, RW | VM_SHARED, shm, 0);
	assert_int_equal(space_lock(t->space, t->task, a, PAGE_SIZE), 0);
	assert_int_equal(space_lock(t->space, t->task, b, PAGE_SIZE), 0);
	assert_int_equal(vmstat_read(&t->m.stat, VM_NR_MLOCK), 1);
	assert_int_equal(space_unlock(t->space, a, PAGE_SIZE), 0);
	assert_int_equal(vmstat_read(&t->m.stat, VM_NR_MLOCK), 1);
	assert_int_equal(space_unlock(t->space, b, PAGE_SIZE), 0);
	assert_int_equal(vmstat_read(&t->m.stat, VM_NR_MLOCK), 0);
	object_put(shm);
}

static void locks_are_not_inherited(void **state)
{
	struct virt_test *t = *state;
	uint64_t a = soft_map(t->task, 4, RW, NULL, 0);
	struct task *child;

	assert_int_equal(space_lock(t->space, t->task, a, 4 * PAGE_SIZE), 0);
	assert_int_equal(task_fork(t->task, 0, &child), 0);
	assert_int_equal(child->space->locked_vm, 0);
	assert_false(vma_lookup(child->space, a)->flags & VM_LOCKED);
	witness_check(t->w, &t->m.mm);
	task_exit(child);
	assert_int_equal(vmstat_read(&t->m.stat, VM_NR_MLOCK), 4);
}

static void lock_errors(void **state)
{
	struct virt_test *t = *state;
	uint64_t a = soft_map(t->task, 4, RW, NULL, 0);

	// What lies before a hole is locked, as in Linux.
	assert_int_equal(space_lock(t->space, t->task, a, 5 * PAGE_SIZE), -ENOMEM);
	assert_int_equal(t->space->locked_vm, 4);
	assert_int_equal(space_unlock(t->space, a, 4 * PAGE_SIZE), 0);
	assert_int_equal(space_lock(t->space, t->task, a, UINT64_MAX), -EINVAL);
	assert_int_equal(space_lock(t->space, t->task, a + 5, 0x1000), 0); // two pages
	assert_int_equal(t->space->locked_vm, 2);
	assert_int_equal(space_protect(t->space, a + 0x2000, 0x1000, 0), 0);
	assert_int_equal(space_lock(t->space, t->task, a, 4 * PAGE_SIZE), -ENOMEM);
	assert_int_equal(t->space->locked_vm, 4); // locked nevertheless
}

// ---- Notifiers

struct listener {
	struct mm_notifier n;
	unsigned starts, ends;
	uint64_t start, end;
	enum mm_invalidate_reason why;
};

static void on_start(struct mm_notifier *n, uint64_t start, uint64_t end,
	enum mm_invalidate_reason why)
{
	struct listener *l = container_of(n, struct listener, n);

	l->starts++;
	l->start = start;
	l->end = end;
	l->why = why;
}

static void on_end(struct mm_notifier *n, uint64_t start, uint64_t end,
	enum mm_invalidate_reason why)
{
	struct listener *l = container_of(n, struct listener, n);

	assert_true(start == l->start && end == l->end && why == l->why);
	l->ends++;
}

static void subscribers_hear_of_what_goes(void **state)
{
	struct virt_test *t = *state;
	struct listener l = {.n = {.space = t->space, .start = on_start, .end = on_end}};
	uint64_t a = soft_map(t->task, 8, RW, NULL, 0);

	mm_notifier_register(&t->m.mm, &l.n);
	assert_int_equal(space_protect(t->space, a + 0x1000, 0x2000, VM_READ), 0);
	assert_true(l.start == a + 0x1000 && l.end == a + 0x3000);
	assert_int_equal(l.why, MM_INVALIDATE_PROTECT);
	assert_int_equal(space_unmap(t->space, a + 0x6000, 0x2000), 0);
	assert_true(l.start == a + 0x6000 && l.end == a + 0x8000);
	assert_int_equal(l.why, MM_INVALIDATE_UNMAP);
	assert_int_equal(l.starts, l.ends);
	mm_notifier_unregister(&t->m.mm, &l.n);
	unsigned before = l.starts;
	assert_int_equal(space_unmap(t->space, a, 0x1000), 0);
	assert_int_equal(l.starts, before);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		virt_unit_test(dontneed_drops_private_pages),
		virt_unit_test(no_memory_for_a_split),
		virt_unit_test(special_memory_is_not_locked),
		virt_unit_test(dontneed_of_part_of_a_huge_page),
		virt_unit_test(dontneed_leaves_an_object_its_pages),
		virt_unit_test(free_keeps_what_nothing_reclaims),
		virt_unit_test(flags_split_and_merge_vmas),
		virt_unit_test(other_words_go_up),
		virt_unit_test(populate_makes_pages_and_translations),
		virt_unit_test(locked_pages_are_resident_and_unevictable),
		virt_unit_test(a_page_locked_twice_is_unlocked_by_the_last),
		virt_unit_test(locks_are_not_inherited),
		virt_unit_test(lock_errors),
		virt_unit_test(subscribers_hear_of_what_goes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
