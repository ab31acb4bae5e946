// SPDX-License-Identifier: MIT
// Spaces and mappings: where they come to lie, what unmapping leaves, errors that change nothing.
#include "witness_mmu.h"

#include "base/mark.h"

#define RW (VM_READ | VM_WRITE)

static int try_map(struct space *space, uint64_t addr, bool fixed, uint64_t len, bool own,
	uint64_t *ret_addr)
{
	const struct map_request r = {
		.addr = addr, .fixed = fixed, .len = len, .flags = RW, .own = own};

	return space_map(space, &r, ret_addr);
}

static uint64_t map_at(struct space *space, uint64_t addr, uint64_t len)
{
	uint64_t got = 0;

	assert_int_equal(try_map(space, addr, addr != 0, len, false, &got), 0);
	return got;
}

static void a_mapping_is_found_by_address_and_by_host(void **state)
{
	struct virt_test *t = *state;
	uint64_t addr = map_at(t->space, 0, 0x5000), back = 0;
	char *host = space_pointer(t->space, addr + 0x1234);

	assert_non_null(host);
	assert_null(space_pointer(t->space, addr - 1));
	assert_null(space_pointer(t->space, addr + 0x5000));
	read_lock(&t->space->mmap_lock);
	assert_int_equal(space_addr_of_host(t->space, (uintptr_t)host, &back), 0);
	assert_int_equal(space_addr_of_host(t->space, (uintptr_t)host + 0x5000, &back), -EFAULT);
	assert_ptr_equal(vma_lookup(t->space, addr + 0x4fff), vma_find(t->space, 0));
	read_unlock(&t->space->mmap_lock);
	assert_int_equal(back, addr + 0x1234);
	// A PMD of one is a PMD of the other.
	assert_int_equal((uintptr_t)host % PMD_SIZE, (addr + 0x1234) % PMD_SIZE);
}

static void large_mappings_are_aligned_for_huge_pages(void **state)
{
	struct virt_test *t = *state;

	map_at(t->space, 0, 0x1000);
	assert_int_equal(map_at(t->space, 0, 2 * PMD_SIZE) % PMD_SIZE, 0);
}

static void in_the_own_space_the_address_is_the_pointer(void **state)
{
	struct virt_test *t = *state;
	uint64_t addr, hole;

	assert_int_equal(try_map(t->space, 0, false, 0x8000, true, &addr), 0);
	assert_ptr_equal(space_pointer(t->space, addr), (void *)(uintptr_t)addr);
	// Taken, by us and on the host.
	assert_int_equal(try_map(t->space, addr, true, 0x1000, true, &hole), -EEXIST);
	// A hole that an unmap left in our window can be filled, and merges back.
	assert_int_equal(space_unmap(t->space, addr + 0x2000, 0x3000), 0);
	assert_int_equal(t->space->nr_vmas, 2);
	assert_int_equal(try_map(t->space, addr + 0x2000, true, 0x3000, true, &hole), 0);
	assert_int_equal(hole, addr + 0x2000);
	assert_int_equal(t->space->nr_vmas, 1);
	assert_int_equal(t->w->nr_close, 0);
	assert_int_equal(space_unmap(t->space, addr, 0x8000), 0);
	assert_int_equal(t->w->nr_close, 1);
	// Now the place is the host's again, and can be had by pointer.
	assert_int_equal(try_map(t->space, addr, true, 0x8000, true, &hole), 0);
	assert_int_equal(hole, addr);
}

static void what_is_taken_is_not_mapped_again(void **state)
{
	struct virt_test *t = *state;
	uint64_t addr = map_at(t->space, 0x300000000000, 0x4000), got = 0;

	assert_int_equal(try_map(t->space, addr + 0x3000, true, 0x4000, false, &got), -EEXIST);
	assert_int_equal(try_map(t->space, addr, true, 0x1000, false, &got), -EEXIST);
	// As a hint it goes elsewhere.
	assert_int_equal(try_map(t->space, addr, false, 0x1000, false, &got), 0);
	assert_int_not_equal(got, addr);
}

// The host places a window where a number is in use: it is not taken, and given back.
static void numbers_of_a_window_are_taken(void **state)
{
	struct virt_test *t = *state;
	uint64_t addr, got = 0;

	if (HAVE_TSAN)
		skip(); // its memory is where this wants a number
	addr = map_at(t->space, 0x300000000000, 0x4000);
	witness_reset(t->w);
	t->w->place = (void *)(uintptr_t)addr;
	assert_int_equal(try_map(t->space, 0, false, 0x4000, true, &got), 0);
	assert_int_not_equal(got, addr);
	assert_ptr_equal(space_pointer(t->space, got), (void *)(uintptr_t)got);
	assert_int_equal(t->w->nr_open, 2);
	assert_int_equal(t->w->nr_close, 1);
	if (FAULTS_BUILT_IN)
		assert_true(mark_was_hit("region_numbers_taken"));
}

static void bad_requests(void **state)
{
	struct virt_test *t = *state;
	uint64_t got = 0;
	const struct {
		struct map_request r;
		int err;
	} rows[] = {
		{{.len = 0, .flags = RW}, -EINVAL},
		{{.len = 0x1000, .addr = 0x10000800, .fixed = true}, -EINVAL},
		{{.len = 0x1000, .addr = 0, .fixed = true}, -EINVAL},
		{{.len = 0x1000, .align = 0x3000}, -EINVAL},
		{{.len = 1ull << 47}, -ENOMEM},
		{{.len = 0x2000, .addr = (1ull << 47) - 0x1000, .fixed = true}, -EINVAL},
		{{.len = UINT64_MAX}, -ENOMEM},
		{{.len = 0x1000, .flags = VM_SHARED}, -EINVAL},
		{{.len = 0x201000, .align = PMD_SIZE, .flags = VM_HUGETLB}, -EINVAL},
	};

	for (unsigned i = 0; i < ARRAY_SIZE(rows); i++)
		assert_int_equal(space_map(t->space, &rows[i].r, &got), rows[i].err);
	assert_int_equal(space_unmap(t->space, 0x1000, 0), -EINVAL);
	assert_int_equal(space_unmap(t->space, 0x1800, 0x1000), -EINVAL);
	assert_int_equal(space_unmap(t->space, 0x1000, UINT64_MAX), -EINVAL);
	assert_int_equal(space_unmap(t->space, 0x7000000, 0x1000), 0); // nothing there
	assert_int_equal(t->space->nr_vmas, 0);
}

//	|aaaaaaaaaa|   unmap the middle:   |aaa|....|aaa|
static void unmapping_the_middle_frees_its_pages_only(void **state)
{
	struct virt_test *t = *state;
	uint64_t addr = map_at(t->space, 0, 0x10000);

	soft_fill(t->task, addr, 16, 7);
	assert_int_equal(t->space->rss_anon, 16);
	witness_reset(t->w);
	assert_int_equal(space_unmap(t->space, addr + 0x4000, 0x8000), 0);
	assert_int_equal(t->w->nr_clear, 1); // eight pages, one call
	assert_int_equal(t->w->nr_close, 0);
	assert_int_equal(t->space->rss_anon, 8);
	assert_int_equal(t->space->nr_vmas, 2);
	assert_int_equal(soft_byte(t->task, addr + 0x3fff), 7);
	assert_int_equal(soft_byte(t->task, addr + 0xc000), 7);
	char c;
	assert_int_equal(space_read(t->space, t->task, addr + 0x4000, &c, 1), -EFAULT);
	witness_check(t->w, &t->m.mm);
	// Over several vmas and holes at once; the window goes with the last.
	assert_int_equal(space_unmap(t->space, addr - 0x1000, 0x20000), 0);
	assert_int_equal(t->space->nr_vmas, 0);
	assert_int_equal(t->w->nr_close, 1);
	assert_int_equal(t->space->rss_anon, 0);
}

static void the_last_put_unmaps_everything(void **state)
{
	struct virt_test *t = *state;
	struct object *shm;
	struct space *space;
	uint64_t addr;

	assert_int_equal(object_create_shmem(&t->m.mm, "x", 0x10000, &shm), 0);
	assert_int_equal(space_create(&t->m.mm, &space), 0);
	addr = map_at(space, 0, 0x40000);
	const struct map_request r = {.len = 0x10000, .flags = RW | VM_SHARED, .object = shm};
	assert_int_equal(space_map(space, &r, &addr), 0);
	assert_int_equal(space_write(space, t->task, addr, "abc", 3), 3);
	assert_true(space_tryget(space));
	space_put(space);
	witness_check(t->w, &t->m.mm);
	space_put(space);
	object_put(shm);
}

static int map_one(struct virt_test *t)
{
	uint64_t addr;

	return try_map(t->space, 0, false, 0x4000, false, &addr);
}

static void unmap_all(struct virt_test *t)
{
	assert_int_equal(space_unmap(t->space, SPACE_START, SPACE_END - SPACE_START), 0);
}

static void nothing_mapped(struct virt_test *t)
{
	assert_int_equal(t->space->nr_vmas, 0);
}

static void a_map_that_fails_leaves_nothing(void **state)
{
	struct virt_test *t = *state;

	virt_sweep(t, map_one, unmap_all, nothing_mapped);
}

static uint64_t sweep_addr;

static int unmap_middle(struct virt_test *t)
{
	return space_unmap(t->space, sweep_addr + 0x2000, 0x1000);
}

static void map_again(struct virt_test *t)
{
	unmap_all(t);
	sweep_addr = map_at(t->space, 0, 0x8000);
	soft_fill(t->task, sweep_addr, 8, 3);
}

static void all_still_there(struct virt_test *t)
{
	assert_int_equal(t->space->nr_vmas, 1);
	for (unsigned i = 0; i < 8; i++)
		assert_int_equal(soft_byte(t->task, sweep_addr + i * PAGE_SIZE), 3);
}

static void an_unmap_that_fails_leaves_everything(void **state)
{
	struct virt_test *t = *state;

	map_again(t);
	virt_sweep(t, unmap_middle, map_again, all_still_there);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		virt_unit_test(a_mapping_is_found_by_address_and_by_host),
		virt_unit_test(large_mappings_are_aligned_for_huge_pages),
		virt_unit_test(in_the_own_space_the_address_is_the_pointer),
		virt_unit_test(what_is_taken_is_not_mapped_again),
		virt_unit_test(numbers_of_a_window_are_taken),
		virt_unit_test(bad_requests),
		virt_unit_test(unmapping_the_middle_frees_its_pages_only),
		virt_unit_test(the_last_put_unmaps_everything),
		virt_unit_test(a_map_that_fails_leaves_nothing),
		virt_unit_test(an_unmap_that_fails_leaves_everything),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
