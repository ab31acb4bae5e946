// SPDX-License-Identifier: MIT
// Reclaim: which pages of files go when a node is full, and what MADV_PAGEOUT does.
#include "soft_machine.h"

#include "base/fault_inject.h"
#include "base/sched.h"
#include "phys/lru.h"
#include "virt/mempolicy.h"
#include "virt/mempolicy_calls.h"
#include "virt/pin.h"
#include "virt/reclaim.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>

#define RW (VM_READ | VM_WRITE)

// A file of so many pages, each beginning with its number.
static struct object *open_file(struct soft_machine *m, uint64_t pages)
{
	struct object *object;
	int fd = memfd_create("reclaim", MFD_CLOEXEC);

	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, (off_t)(pages << PAGE_SHIFT)), 0);
	for (uint64_t i = 0; i < pages; i++)
		assert_int_equal(pwrite(fd, &i, sizeof(i), (off_t)(i << PAGE_SHIFT)), sizeof(i));
	assert_int_equal(object_open_file(&m->mm, fd, &object), 0);
	close(fd);
	return object;
}

static void touch(struct object *object, struct task *task, uint64_t first, uint64_t nr)
{
	for (uint64_t i = first; i < first + nr; i++) {
		struct folio *folio;
		assert_int_equal(object_get_folio(object, task, i, &folio), 0);
		folio_put(folio);
	}
}

static uint64_t number_at(struct task *task, uint64_t addr)
{
	uint64_t number = ~0ull;

	assert_int_equal(space_read(task->space, task, addr, &number, sizeof(number)), 8);
	return number;
}

static struct task *new_task(struct soft_machine *m, int cpu)
{
	struct task *task;

	assert_int_equal(task_create(&m->mm, 0, cpu, &task), 0);
	return task;
}

static void direct(void **state)
{
	struct soft_machine *m = *state;
	struct object *object = open_file(m, 64);
	struct task *task = new_task(m, 1);
	unsigned long stolen = vmstat_read(&m->stat, VM_PGSTEAL_DIRECT);
	uint64_t addr = soft_map(task, 64, RW | VM_SHARED, object, 0), dirty;

	m->mm.tunables.fault_around_bytes = PAGE_SIZE;
	touch(object, task, 0, 64);
	soft_fill(task, addr, 4, 'd');
	number_at(task, addr + 8 * PAGE_SIZE);
	// Of pages 0-63, 0-3 are mapped and dirty, 8 is mapped.
	assert_int_equal(reclaim_direct(&m->mm, GFP_USER, 0, 0, &(struct nodemask){5}), 0);
	assert_int_equal(object_resident(object, 0, 64, &dirty), 64);
	assert_int_equal(dirty, 4);
	unsigned long freed = reclaim_direct(&m->mm, GFP_USER, 6, 1, NULL);
	assert_int_equal(freed, 59);
	assert_int_equal(vmstat_read(&m->stat, VM_PGSTEAL_DIRECT) - stolen, 59);
	assert_int_equal(object_resident(object, 0, 64, NULL), 5);
	// Dirty and unmapped: written only if the allocation may do that.
	assert_int_equal(space_unmap(task->space, addr, 64 * PAGE_SIZE), 0);
	reclaim_direct(&m->mm, GFP_USER & ~(gfp_t)GFP_FS, 6, 1, NULL);
	assert_int_equal(object_resident(object, 0, 64, &dirty), 4);
	assert_int_equal(dirty, 4);
	fault_arm(FI_SYSCALL, FI_THREAD, 0, FI_ALWAYS); // the disk does not take them
	assert_int_equal(reclaim_direct(&m->mm, GFP_USER, 6, 1, NULL), 0);
	assert_true(fault_disarm(FI_SYSCALL));
	assert_int_equal(object_resident(object, 0, 64, &dirty), 4);
	assert_int_equal(dirty, 4);
	assert_int_equal(reclaim_direct(&m->mm, GFP_USER, 6, 1, NULL), 4);
	assert_int_equal(object_resident(object, 0, 64, NULL), 0);
	addr = soft_map(task, 64, RW | VM_SHARED, object, 0);
	assert_int_equal(soft_byte(task, addr), 'd');
	assert_int_equal(number_at(task, addr + 63 * PAGE_SIZE), 63);
	assert_int_equal(vmstat_read(&m->stat, VM_NR_ISOLATED_FILE), 0);
	mm_check(&m->mm);
	task_exit(task);
	object_put(object);
}

// A page somebody uses, or has locked, stays.
static void busy_pages(void **state)
{
	struct soft_machine *m = *state;
	struct object *object = open_file(m, 4);
	struct folio *used, *locked;

	touch(object, NULL, 0, 4);
	used = object_find(object, 0);
	locked = object_find_lock(object, 1);
	folio_put(locked);
	assert_int_equal(reclaim_direct(&m->mm, GFP_USER, 0, 0, NULL), 2);
	assert_int_equal(object_truncate_unmapped(object, 0, 4), 0);
	folio_unlock(locked);
	folio_put(used);
	assert_int_equal(object_truncate_unmapped(object, 0, 4), 2);
	object_put(object);
}

// Active pages age before they go.
static void active_pages(void **state)
{
	struct soft_machine *m = *state;
	struct object *object = open_file(m, 8);

	touch(object, NULL, 0, 8);
	for (unsigned i = 0; i < 8; i++) {
		struct folio *folio = object_find(object, i);
		folio_activate(folio);
		folio_put(folio);
	}
	assert_int_equal(vmstat_read(&m->stat, VM_NR_ACTIVE_FILE), 8);
	assert_int_equal(reclaim_direct(&m->mm, GFP_USER, 0, 0, NULL), 8);
	object_put(object);
}

static unsigned long reclaim_hook(void *arg, gfp_t gfp, unsigned order, int nid,
	const struct nodemask *allowed)
{
	return reclaim_direct(arg, gfp, order, nid, allowed);
}

// Anonymous memory takes a node from a file that filled it.
static void full_node(void **state)
{
	struct soft_machine *m = *state;
	uint64_t pages = SOFT_NODE_BYTES >> PAGE_SHIFT;
	struct object *object = open_file(m, pages);
	struct task *task = new_task(m, 2);
	unsigned long nodes = 4;

	m->phys.up.arg = &m->mm;
	m->phys.up.reclaim = reclaim_hook;
	assert_int_equal(policy_set_task(task, POLICY_BIND, &nodes, 65), 0);
	uint64_t before = vmstat_read(&m->stat, VM_PGSTEAL_FILE);
	touch(object, task, 0, pages); // reclaims its own oldest pages
	assert_true(vmstat_read(&m->stat, VM_PGSTEAL_FILE) > before);
	uint64_t addr = soft_map(task, pages / 2, RW, NULL, 0);
	soft_fill(task, addr, pages / 2, 'a');
	for (uint64_t i = 0; i < pages / 2; i++)
		assert_int_equal(soft_node(task, addr + i * PAGE_SIZE), 2);
	m->phys.up.reclaim = NULL;
	task_exit(task);
	object_put(object);
}

static void pageout(void **state)
{
	struct soft_machine *m = *state;
	struct object *object = open_file(m, 16), *shm;
	struct task *a = new_task(m, 0), *b = new_task(m, 0);
	uint64_t at = soft_map(a, 16, RW | VM_SHARED, object, 0);
	uint64_t bt = soft_map(b, 16, RW | VM_SHARED, object, 0), dirty;

	m->mm.tunables.fault_around_bytes = PAGE_SIZE;
	for (unsigned i = 0; i < 8; i++)
		number_at(a, at + i * PAGE_SIZE);
	soft_fill(a, at + 2 * PAGE_SIZE, 1, 'd'); // dirty
	number_at(b, bt + 4 * PAGE_SIZE);	  // shared
	assert_int_equal(space_advise(a->space, a, at, 16 * PAGE_SIZE, MADV_PAGEOUT), 0);
	// 0 1 3 5 6 7 are gone; 2 is unmapped and stays; 4 is as it was.
	assert_int_equal(object_resident(object, 0, 16, &dirty), 2);
	assert_int_equal(dirty, 1);
	assert_int_equal(soft_node(a, at), -ENOENT);
	assert_int_equal(soft_node(a, at + 2 * PAGE_SIZE), -ENOENT);
	assert_int_equal(soft_node(a, at + 4 * PAGE_SIZE), 0);
	assert_int_equal(a->space->rss_file, 1);
	mm_check(&m->mm);
	assert_int_equal(soft_byte(a, at + 2 * PAGE_SIZE), 'd');
	assert_int_equal(number_at(a, at + 5 * PAGE_SIZE), 5);

	// Locked memory is left alone, anonymous memory has nowhere to go.
	assert_int_equal(space_lock(a->space, a, at, 16 * PAGE_SIZE), 0);
	assert_int_equal(object_resident(object, 0, 16, NULL), 16);
	space_advise(a->space, a, at, 16 * PAGE_SIZE, MADV_PAGEOUT);
	assert_int_equal(object_resident(object, 0, 16, NULL), 16);
	uint64_t anon = soft_map(a, 2, RW, NULL, 0);
	soft_fill(a, anon, 2, 'n');
	assert_int_equal(space_advise(a->space, a, anon, 2 * PAGE_SIZE, MADV_PAGEOUT), 0);
	assert_int_equal(soft_node(a, anon), 0);

	// Shared memory loses its mappings, not its contents.
	assert_int_equal(object_create_shmem(&m->mm, "s", PAGE_SIZE, &shm), 0);
	uint64_t s = soft_map(a, 1, RW | VM_SHARED, shm, 0);
	soft_fill(a, s, 1, 's');
	assert_int_equal(space_advise(a->space, a, s, PAGE_SIZE, MADV_PAGEOUT), 0);
	assert_int_equal(soft_node(a, s), -ENOENT);
	assert_int_equal(soft_byte(a, s), 's');
	mm_check(&m->mm);
	task_exit(a);
	task_exit(b);
	object_put(object);
	object_put(shm);
}

// What MADV_FREE gave up is dropped when memory is wanted, unless it was written to since.
static void lazy_free(void **state)
{
	struct soft_machine *m = *state;
	struct task *a = new_task(m, 0);
	uint64_t at = soft_map(a, 16, RW, NULL, 0);
	struct folio *used;
	unsigned page;

	soft_fill(a, at, 16, 'a');
	assert_int_equal(space_advise(a->space, a, at, 8 * PAGE_SIZE, MADV_FREE), 0);
	assert_int_equal(vmstat_read(&m->stat, VM_NR_INACTIVE_FILE), 8);
	assert_int_equal(soft_byte(a, at), 'a');
	soft_fill(a, at + 2 * PAGE_SIZE, 1, 'b'); // wanted again
	assert_int_equal(follow_page(a->space, at + 3 * PAGE_SIZE, &used, &page), 0);
	assert_int_equal(reclaim_direct(&m->mm, GFP_USER, 4, 0, NULL), 6);
	folio_put(used);
	assert_int_equal(vmstat_read(&m->stat, VM_PGLAZYFREED), 6);
	assert_int_equal(a->space->rss_anon, 10);
	mm_check(&m->mm);
	for (unsigned i = 0; i < 16; i++)
		assert_int_equal(soft_byte(a, at + i * PAGE_SIZE),
			i == 2 ? 'b' : i == 3 || i >= 8 ? 'a' : 0);
	// They are pages like others now.
	assert_int_equal(reclaim_direct(&m->mm, GFP_USER, 4, 0, NULL), 0);
	assert_int_equal(vmstat_read(&m->stat, VM_NR_ISOLATED_FILE), 0);
	assert_int_equal(vmstat_read(&m->stat, VM_NR_ISOLATED_ANON), 0);

	// A pin may have been written through.
	struct pin *pin;
	assert_int_equal(pin_pages(a->space, a, at + 8 * PAGE_SIZE, PAGE_SIZE, "test", &pin), 0);
	assert_int_equal(space_advise(a->space, a, at + 8 * PAGE_SIZE, PAGE_SIZE, MADV_FREE), 0);
	unpin_pages(pin);
	assert_int_equal(reclaim_direct(&m->mm, GFP_USER, 4, 0, NULL), 0);
	assert_int_equal(soft_byte(a, at + 8 * PAGE_SIZE), 'a');
	// Memory that is locked afterwards stays.
	assert_int_equal(space_advise(a->space, a, at + 9 * PAGE_SIZE, PAGE_SIZE, MADV_FREE), 0);
	assert_int_equal(space_lock(a->space, a, at + 9 * PAGE_SIZE, PAGE_SIZE), 0);
	assert_int_equal(reclaim_direct(&m->mm, GFP_USER, 4, 0, NULL), 0);
	assert_int_equal(soft_byte(a, at + 9 * PAGE_SIZE), 'a');
	mm_check(&m->mm);
	task_exit(a);
}

// Reclaim has it in hand when its last mapping goes, and the anon_vma with that.
static void lazy_free_and_unmapped(void **state)
{
	struct soft_machine *m = *state;
	struct task *a = new_task(m, 0);
	uint64_t at = soft_map(a, 1, RW, NULL, 0);
	struct folio *folio;
	unsigned page;

	soft_fill(a, at, 1, 'a');
	assert_int_equal(space_advise(a->space, a, at, PAGE_SIZE, MADV_FREE), 0);
	assert_int_equal(follow_page(a->space, at, &folio, &page), 0);
	assert_true(folio_isolate_lru(folio));
	folio_put(folio);
	assert_int_equal(space_unmap(a->space, at, PAGE_SIZE), 0);
	folio_lock(folio);
	assert_true(reclaim_lazyfree(folio, false));
	folio_unlock(folio);
	folio_put(folio);
	mm_check(&m->mm);
	task_exit(a);
}

// One stores and reads back, one syncs, one pages out: nothing stored is ever lost.
struct race {
	struct soft_machine *m;
	struct object *object;
	struct task *task;
	uint64_t addr;
};

static void store_sync_pageout(void *arg, unsigned index)
{
	struct race *race = arg;
	struct task *task = race->task;

	for (uint64_t i = 1; i <= 8; i++) {
		uint64_t at = race->addr + (i % 2) * PAGE_SIZE, value = 1000 + i, seen = 0;

		switch (index) {
		case 0:
			if (space_write(task->space, task, at, &value, 8) != 8 ||
				space_read(task->space, task, at, &seen, 8) != 8 || seen != value)
				abort();
			break;
		case 1:
			if (object_sync(race->object, 0, 2))
				abort();
			break;
		default:
			(void)!space_advise(task->space, task, race->addr, 2 * PAGE_SIZE,
				MADV_PAGEOUT);
			reclaim_direct(&race->m->mm, GFP_USER, 0, 0, NULL);
		}
	}
}

static void races(void **state)
{
	struct soft_machine *m = *state;
	uint64_t seed = test_seed();

	for (unsigned i = 0; i < 100; i++) {
		struct race race = {m, open_file(m, 2), new_task(m, 0), 0};

		race.addr = soft_map(race.task, 2, RW | VM_SHARED, race.object, 0);
		sched_run(seed + i, 3, store_sync_pageout, &race);
		assert_int_equal(number_at(race.task, race.addr), 1008);
		assert_int_equal(number_at(race.task, race.addr + PAGE_SIZE), 1007);
		mm_check(&m->mm);
		task_exit(race.task);
		object_put(race.object);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(direct),
		cmocka_unit_test(busy_pages),
		cmocka_unit_test(active_pages),
		cmocka_unit_test(full_node),
		cmocka_unit_test(pageout),
		cmocka_unit_test(lazy_free),
		cmocka_unit_test(lazy_free_and_unmapped),
		cmocka_unit_test(races),
	};
	return cmocka_run_group_tests(tests, soft_setup, soft_teardown);
}
