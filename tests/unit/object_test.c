// SPDX-License-Identifier: MIT
// Objects: finding, making, adding, replacing, dropping; shared memory; races; failures.
#include "soft_machine.h"

#include "base/fault_inject.h"
#include "base/meta.h"
#include "base/sched.h"
#include "phys/lru.h"

#include <errno.h>

#define RW (VM_READ | VM_WRITE)

static struct object *new_shm(struct soft_machine *m, uint64_t pages)
{
	struct object *object;

	assert_int_equal(object_create_shmem(&m->mm, "test", pages << PAGE_SHIFT, &object), 0);
	return object;
}

static void life_of_a_page(void **state)
{
	struct soft_machine *m = *state;
	unsigned long file = vmstat_read(&m->stat, VM_NR_FILE_PAGES);
	unsigned long shmem = vmstat_read(&m->stat, VM_NR_SHMEM);
	struct object *shm = new_shm(m, 8);
	struct folio *folio, *again;

	assert_null(object_find(shm, 3));
	assert_int_equal(object_get_folio(shm, NULL, 8, &folio), -EIO); // beyond the end
	assert_int_equal(object_get_folio(shm, NULL, 3, &folio), 0);
	assert_int_equal(folio_ref_count(folio), 2); // ours, the index's
	assert_ptr_equal(folio_object(folio), shm);
	assert_int_equal(folio_index(folio), 3);
	assert_true(folio_test_uptodate(folio) && folio_test_swapbacked(folio));
	assert_true(folio_test_lru(folio));
	assert_int_equal(*(char *)m->mm.mmu->ops->peek(m->mm.mmu, folio_pfn(folio)), 0);
	assert_int_equal(object_get_folio(shm, NULL, 3, &again), 0);
	assert_ptr_equal(again, folio);
	folio_put(again);
	again = object_find_lock(shm, 3);
	assert_ptr_equal(again, folio);
	folio_unlock(again);
	folio_put(again);
	assert_int_equal(vmstat_read(&m->stat, VM_NR_FILE_PAGES) - file, 1);
	assert_int_equal(vmstat_read(&m->stat, VM_NR_SHMEM) - shmem, 1);
	assert_int_equal(object_resident(shm, 0, 8, NULL), 1);
	assert_int_equal(object_truncate_unmapped(shm, 0, 8), 0); // it has no other copy
	assert_int_equal(object_sync(shm, 0, 8), 0);
	// Shared memory is dirty without being counted as such.
	folio_mark_dirty(folio);
	assert_true(folio_test_dirty(folio));
	assert_int_equal(vmstat_read(&m->stat, VM_NR_DIRTY), 0);
	folio_put(folio);
	object_put(shm);
	assert_int_equal(vmstat_read(&m->stat, VM_NR_FILE_PAGES), file);
	assert_int_equal(vmstat_read(&m->stat, VM_NR_SHMEM), shmem);
}

static void resizing(void **state)
{
	struct soft_machine *m = *state;
	struct object *shm = new_shm(m, 1);
	struct folio *folio;

	assert_int_equal(object_resize(shm, 1), -EINVAL);
	assert_int_equal(object_resize(shm, (PAGE_SIZE << 40) + 1), -EINVAL);
	assert_int_equal(object_get_folio(shm, NULL, 1, &folio), -EIO);
	assert_int_equal(object_resize(shm, PAGE_SIZE + 1), 0);
	assert_int_equal(object_get_folio(shm, NULL, 1, &folio), 0);
	folio_put(folio);
	object_put(shm);
}

// Two spaces see one memory; the pages stay when nobody maps them.
static void sharing(void **state)
{
	struct soft_machine *m = *state;
	struct object *shm = new_shm(m, 4);
	struct task *a, *b;

	assert_int_equal(task_create(&m->mm, 0, 0, &a), 0);
	assert_int_equal(task_create(&m->mm, 0, 1, &b), 0);
	uint64_t at = soft_map(a, 4, RW | VM_SHARED, shm, 0);
	uint64_t bt = soft_map(b, 2, RW | VM_SHARED, shm, 2);
	soft_fill(a, at + 2 * PAGE_SIZE, 1, 'A');
	assert_int_equal(soft_byte(b, bt), 'A');
	soft_fill(b, bt, 1, 'B');
	assert_int_equal(soft_byte(a, at + 2 * PAGE_SIZE), 'B');
	assert_int_equal(soft_node(b, bt), 0);
	// A private mapping sees it until it writes.
	uint64_t pt = soft_map(b, 4, RW, shm, 0);
	assert_int_equal(soft_byte(b, pt + 2 * PAGE_SIZE), 'B');
	soft_fill(b, pt + 2 * PAGE_SIZE, 1, 'P');
	assert_int_equal(soft_byte(a, at + 2 * PAGE_SIZE), 'B');
	task_exit(a);
	task_exit(b);
	struct folio *folio = object_find(shm, 2);
	assert_non_null(folio);
	assert_false(folio_mapped(folio));
	assert_int_equal(folio_ref_count(folio), 2);
	folio_put(folio);
	object_put(shm);
}

// What migration does: another folio takes the slots.
static void replacing(void **state)
{
	struct soft_machine *m = *state;
	struct object *shm = new_shm(m, 4);
	struct folio *src, *dst;

	assert_int_equal(object_get_folio(shm, NULL, 1, &src), 0);
	folio_mark_dirty(src);
	dst = folio_alloc(&m->phys, GFP_HIGHUSER_MOVABLE | GFP_THISNODE, 0, 2, NULL, 0);
	folio_lock(src);
	assert_true(folio_trylock(dst));
	mutex_lock(&shm->i_pages_lock);
	assert_true(folio_ref_freeze(src, 2));
	object_replace_folio(shm, dst, src);
	folio_ref_unfreeze(src, 1);
	mutex_unlock(&shm->i_pages_lock);
	folio_clear_mapping(src);
	folio_set_uptodate(dst);
	folio_unlock(dst);
	folio_unlock(src);
	assert_int_equal(folio_ref_count(dst), 2);
	assert_true(folio_test_dirty(dst) && !folio_test_dirty(src));
	assert_int_equal(vmstat_node(&m->stat, 2, VM_NR_SHMEM), 1);
	assert_int_equal(vmstat_node(&m->stat, 0, VM_NR_SHMEM), 0);
	folio_put(src);
	src = object_find(shm, 1);
	assert_ptr_equal(src, dst);
	folio_put(src);
	folio_put(dst);
	object_put(shm);
}

// Large folios fill one slot a page.
static void large_folios(void **state)
{
	struct soft_machine *m = *state;
	struct object *shm = new_shm(m, 1024);
	struct folio *huge = folio_alloc(&m->phys, GFP_TRANSHUGE, PMD_ORDER, 0, NULL, 0), *found;

	assert_non_null(huge);
	folio_lock(huge);
	assert_int_equal(object_add_folio(shm, huge, 512), 0);
	folio_set_uptodate(huge);
	folio_unlock(huge);
	assert_int_equal(folio_ref_count(huge), 513);
	assert_int_equal(object_get_folio(shm, NULL, 700, &found), 0);
	assert_ptr_equal(found, huge);
	folio_put(found);
	assert_int_equal(object_resident(shm, 0, 1024, NULL), 512);
	assert_int_equal(vmstat_read(&m->stat, VM_NR_SHMEM_HUGEPAGES), 1);
	folio_put(huge);
	object_put(shm);
	assert_int_equal(vmstat_read(&m->stat, VM_NR_SHMEM_HUGEPAGES), 0);
}

// Threads that want the same absent page get the same one.
struct race {
	struct object *shm;
	struct folio *got[3];
};

static void get_page(void *arg, unsigned index)
{
	struct race *race = arg;

	if (object_get_folio(race->shm, NULL, 5, &race->got[index]))
		abort();
	folio_lock(race->got[index]);
	if (folio_object(race->got[index]) != race->shm)
		abort();
	folio_unlock(race->got[index]);
}

static void racing_readers(void **state)
{
	struct soft_machine *m = *state;
	uint64_t seed = test_seed();

	for (unsigned i = 0; i < 200; i++) {
		struct race race = {.shm = new_shm(m, 8)};
		sched_run(seed + i, 3, get_page, &race);
		assert_ptr_equal(race.got[0], race.got[1]);
		assert_ptr_equal(race.got[0], race.got[2]);
		assert_int_equal(folio_ref_count(race.got[0]), 4);
		for (unsigned k = 0; k < 3; k++)
			folio_put(race.got[k]);
		object_put(race.shm);
	}
}

static int refuse_to_read(struct object *object, struct folio *folio)
{
	(void)object;
	(void)folio;
	return -EIO;
}

static void reading_fails(void **state)
{
	static const struct object_ops ops = {.kind = OBJECT_FILE, .read_folio = refuse_to_read};
	struct soft_machine *m = *state;
	struct object *object;
	struct folio *folio;

	assert_int_equal(object_create(&m->mm, &ops, NULL, PAGE_SIZE, &object), 0);
	assert_int_equal(object_get_folio(object, NULL, 0, &folio), -EIO);
	assert_null(object_find(object, 0));
	assert_int_equal(object->nr_pages, 0);
	object_put(object);
}

static void allocations_fail(void **state)
{
	struct soft_machine *m = *state;
	static const enum fault_kind kinds[] = {FI_META, FI_ALLOC};

	for (unsigned k = 0; k < ARRAY_SIZE(kinds); k++) {
		bool failed = true;
		for (uint64_t n = 0; failed; n++) {
			size_t before = meta_in_use();
			struct object *shm;
			struct folio *folio;

			fault_arm(kinds[k], FI_THREAD, n, 1);
			int err = object_create_shmem(&m->mm, "name", PAGE_SIZE, &shm);
			if (!err) {
				err = object_get_folio(shm, NULL, 0, &folio);
				if (!err)
					folio_put(folio);
				object_put(shm);
			}
			failed = fault_disarm(kinds[k]);
			assert_int_equal(err, failed ? -ENOMEM : 0);
			assert_int_equal(meta_in_use(), before);
		}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(life_of_a_page),
		cmocka_unit_test(resizing),
		cmocka_unit_test(sharing),
		cmocka_unit_test(replacing),
		cmocka_unit_test(large_folios),
		cmocka_unit_test(racing_readers),
		cmocka_unit_test(reading_fails),
		cmocka_unit_test(allocations_fail),
	};
	return cmocka_run_group_tests(tests, soft_setup, soft_teardown);
}
