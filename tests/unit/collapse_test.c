// SPDX-License-Identifier: MIT
// Collapse: what a scan refuses and why, khugepaged's cursor, MADV_COLLAPSE's errnos, and that a
// collapse that turns back leaves everything as it was.
#include "thp_fixture.h"

#include "base/fault_inject.h"
#include "base/mark.h"
#include "thp/collapse.h"
#include "virt/vma.h"

#include <errno.h>
#include <fcntl.h>

#define COLLAPSE 25

static int setup(void **state)
{
	(void)state;
	thp_open(3);
	return 0;
}

static int advise(uint64_t addr, uint64_t len)
{
	return space_advise(a->space, a, addr, len, COLLAPSE);
}

static void full_scans(unsigned nr)
{
	thp.setting[SET_ENABLED] = THP_ALWAYS;
	khugepaged_enter(&thp, a->space);
	khugepaged_scan_full(&thp, nr);
}

static void sparse_range_is_collapsed_by_advice(void **state)
{
	(void)state;
	fx_fill(&fx, a, buf, 20, 1);
	fx_fill(&fx, a, buf + 300 * PAGE_SIZE, 7, 1);
	assert_int_equal(advise(buf, PMD_SIZE), 0);
	assert_true(is_leaf(a, buf));
	assert_int_equal(a->space->rss_anon, HPAGES);
	assert_int_equal(fx_since(&fx, VM_THP_COLLAPSE_ALLOC), 1);
	fx_verify(&fx, a, buf, 20, 1);
	fx_verify(&fx, a, buf + 300 * PAGE_SIZE, 7, 1);
	assert_int_equal(advise(buf, PMD_SIZE), 0); // huge already
	assert_int_equal(fx_since(&fx, VM_THP_COLLAPSE_ALLOC), 1);
}

static void khugepaged_collapses_what_is_used(void **state)
{
	(void)state;
	fx_fill(&fx, a, buf, 2 * HPAGES, 2);
	full_scans(1);
	assert_true(is_leaf(a, buf) && is_leaf(a, buf + PMD_SIZE));
	assert_int_equal(thp.khugepaged.pages_collapsed, 2);
	assert_int_equal(thp.khugepaged.full_scans, 1);
	fx_verify(&fx, a, buf, 2 * HPAGES, 2);
	khugepaged_scan_full(&thp, 3);
	assert_int_equal(thp.khugepaged.full_scans, 4);
}

static void limits_bind_khugepaged_only(void **state)
{
	(void)state;
	fx_fill(&fx, a, buf, 10, 3);
	thp.setting[SET_MAX_PTES_NONE] = HPAGES - 11;
	full_scans(1);
	assert_false(is_leaf(a, buf));
	assert_int_equal(fx_since(&fx, VM_THP_SCAN_EXCEED_NONE_PTE), 1);
	thp.setting[SET_MAX_PTES_NONE] = HPAGES - 10;
	full_scans(1);
	assert_true(is_leaf(a, buf));
	fx_fill(&fx, a, buf + PMD_SIZE, 1, 3);
	thp.setting[SET_MAX_PTES_NONE] = 0;
	assert_int_equal(advise(buf + PMD_SIZE, PMD_SIZE), 0);
}

static void shared_pages(void **state)
{
	struct task *b;

	(void)state;
	fx_fill(&fx, a, buf, HPAGES, 4);
	fx_ok(task_fork(a, 0, &b));
	full_scans(1); // all are shared, none is writable
	assert_false(is_leaf(a, buf));
	assert_int_equal(fx_since(&fx, VM_THP_SCAN_EXCEED_SHARE_PTE), 1);
	assert_int_equal(advise(buf, PMD_SIZE), -EINVAL); // no writable page
	fx_fill(&fx, a, buf, 1, 4); // one is a's own now
	assert_int_equal(advise(buf, PMD_SIZE), 0);
	assert_true(is_leaf(a, buf));
	fx_check(&fx);
	fx_verify(&fx, a, buf, HPAGES, 4);
	fx_verify(&fx, b, buf, HPAGES, 4);
	task_exit(b);
}

static void the_node_with_most_pages_gets_it(void **state)
{
	(void)state;
	fx_fill(&fx, a, buf, HPAGES, 5);
	assert_int_equal(fx_move(a, buf, 300, 2), 0);
	assert_int_equal(advise(buf, PMD_SIZE), 0);
	assert_int_equal(fx_where(a, buf + 511 * PAGE_SIZE), 2);
	fx_verify(&fx, a, buf, HPAGES, 5);
}

static void errnos_of_advice(void **state)
{
	struct folio *folio;
	unsigned page;

	(void)state;
	assert_int_equal(advise(buf, PMD_SIZE), -EINVAL); // nothing was ever touched
	assert_int_equal(advise(buf + PAGE_SIZE, PAGE_SIZE), -EINVAL); // no whole range
	fx_fill(&fx, a, buf, HPAGES, 6);
	fx_ok(follow_page(a->space, buf, &folio, &page));
	assert_int_equal(advise(buf, PMD_SIZE), -EAGAIN); // somebody holds a page
	folio_set_locked(folio);
	assert_int_equal(advise(buf, PMD_SIZE), -EAGAIN); // and its lock
	folio_clear_locked(folio);
	folio_put(folio);
	fault_arm(FI_ALLOC, FI_THREAD, 0, FI_ALWAYS);
	assert_int_equal(advise(buf, PMD_SIZE), -ENOMEM);
	fault_disarm_all();
	assert_int_equal(fx_since(&fx, VM_THP_COLLAPSE_ALLOC_FAILED), 1);
	fx_ok(space_advise(a->space, a, buf, PMD_SIZE, 15));
	assert_int_equal(advise(buf, PMD_SIZE), -EINVAL); // NOHUGEPAGE
	fx_ok(space_advise(a->space, a, buf, PMD_SIZE, 14));
	assert_int_equal(advise(buf, 2 * PMD_SIZE), -EINVAL); // the second is untouched
	assert_true(is_leaf(a, buf));
	assert_int_equal(advise(buf, 100 * PMD_SIZE), -EINVAL);
	fx_verify(&fx, a, buf, HPAGES, 6);
}

// Every trylock fails once: the range is as before, and the next try succeeds.
static void turning_back_at_every_step(void **state)
{
	uint64_t n;

	(void)state;
	fx_fill(&fx, a, buf, HPAGES, 7);
	for (n = 0; n < 600; n += n < 4 || n > 505 ? 1 : 97) {
		fault_arm(FI_TRYLOCK, FI_THREAD, n, 1);
		int err = advise(buf, PMD_SIZE);
		bool hit = fault_disarm(FI_TRYLOCK);
		fx_check(&fx);
		if (!hit || !err)
			break;
		assert_int_equal(err, -EAGAIN);
		assert_false(is_leaf(a, buf));
		fx_verify(&fx, a, buf, HPAGES, 7);
	}
	assert_true(is_leaf(a, buf));
	fx_verify(&fx, a, buf, HPAGES, 7);
}

static void small_folios_of_a_split_one(void **state)
{
	(void)state;
	thp.setting[SET_ENABLED] = THP_ALWAYS;
	fx_fill(&fx, a, buf, HPAGES, 8);
	assert_true(is_leaf(a, buf));
	assert_int_equal(thp_split_range(&thp, a->pid, buf, buf + PMD_SIZE, 3), 1);
	assert_false(is_leaf(a, buf));
	assert_int_equal(advise(buf, PMD_SIZE), 0); // of order 3
	assert_true(is_leaf(a, buf));
	fx_check(&fx);
	fx_ok(space_protect(a->space, buf, PAGE_SIZE, VM_READ));
	fx_ok(space_protect(a->space, buf, PAGE_SIZE, VM_READ | VM_WRITE));
	assert_false(is_leaf(a, buf)); // the folio is whole, its leaf is not
	assert_int_equal(advise(buf, PMD_SIZE), 0);
	assert_true(is_leaf(a, buf));
	fx_verify(&fx, a, buf, HPAGES, 8);
}

static void locked_memory(void **state)
{
	(void)state;
	fx_ok(space_lock(a->space, a, buf, PMD_SIZE));
	fx_fill(&fx, a, buf, HPAGES, 9);
	assert_int_equal(advise(buf, PMD_SIZE), 0);
	assert_true(is_leaf(a, buf));
	assert_int_equal(fx_since(&fx, VM_NR_MLOCK), HPAGES);
	fx_verify(&fx, a, buf, HPAGES, 9);
}

static void shared_memory_is_collapsed_for_all(void **state)
{
	struct object *object;
	struct folio *folio;
	unsigned page;
	struct task *b = fx_task(&fx, 1);

	(void)state;
	fx_ok(object_create_shmem(&fx.mm, NULL, PMD_SIZE, &object));
	uint64_t at = fx_map_shared(a, HPAGES, object), in_b = fx_map_shared(b, HPAGES, object);
	fx_fill(&fx, a, at, 40, 1);
	fx_fill(&fx, a, at + 200 * PAGE_SIZE, 40, 1);
	uint64_t x;
	fx_ok(fx_access(&fx, b, in_b, &x, 8, false));
	fx_ok(follow_page(a->space, at, &folio, &page));
	assert_int_equal(advise(at, PMD_SIZE), -EAGAIN); // held
	folio_put(folio);
	fx_check(&fx);
	fx_verify(&fx, a, at, 40, 1);
	assert_int_equal(advise(at, PMD_SIZE), 0);
	assert_int_equal(fx_since(&fx, VM_NR_SHMEM_HUGEPAGES), 1);
	fx_check(&fx);
	fx_verify(&fx, a, at, 40, 1);
	fx_verify(&fx, a, at + 200 * PAGE_SIZE, 40, 1);
	fx_ok(fx_access(&fx, b, in_b, &x, 8, false));
	assert_int_equal(x, fx_stamp(1, at));
	for (uint64_t n = 0;; n += 61) { // turning back anywhere
		fx_ok(thp_split_range(&thp, a->pid, at, at + PMD_SIZE, 0) < 0);
		fault_arm(FI_TRYLOCK, FI_THREAD, n, 1);
		int err = advise(at, PMD_SIZE);
		bool hit = fault_disarm(FI_TRYLOCK);
		fx_check(&fx);
		fx_verify(&fx, a, at, 40, 1);
		if (!hit || !err)
			break;
	}
	object_put(object);
	task_exit(b);
}

static void set_size(unsigned order, enum thp_size_shmem word)
{
	atomic_store(&thp.size_shmem[order], word);
}

// Of 64 kB, which b maps in two tables, small ones, and holes.
static void folios_of_other_sizes(void **state)
{
	static const enum fault_kind kinds[] = {FI_TRYLOCK, FI_META, FI_ALLOC};
	struct map_request rq = {
		.len = PMD_SIZE + 8 * PAGE_SIZE,
		.flags = VM_READ | VM_WRITE | VM_MAYWRITE | VM_SHARED,
		.align = PMD_SIZE,
		.pgoff = 8,
		.own = true,
	};
	struct task *b = fx_task(&fx, 1);
	uint64_t in_b, x;

	(void)state;
	fx_ok(object_create_shmem(&fx.mm, NULL, 2 * PMD_SIZE, &rq.object));
	fx_ok(space_map(b->space, &rq, &in_b));
	uint64_t at = fx_map_shared(a, 2 * HPAGES, rq.object) + PMD_SIZE;
	set_size(4, SIZE_SHMEM_ALWAYS);
	fx_fill(&fx, a, at, 40, 1);
	set_size(4, SIZE_SHMEM_NEVER);
	fx_fill(&fx, a, at + 200 * PAGE_SIZE, 40, 1);
	assert_int_equal(fx_since(&fx, VM_NR_SHMEM), 48 + 40);
	fx_ok(fx_access(&fx, b, in_b + 512 * PAGE_SIZE, &x, 8, false)); // of the second table
	fx_ok(fx_access(&fx, b, in_b + 504 * PAGE_SIZE, &x, 8, false));
	assert_int_equal(x, fx_stamp(1, at));
	for (unsigned k = 0; k < ARRAY_SIZE(kinds); k++) {
		for (uint64_t n = 0; n < 200; n += n < 6 ? 1 : 17) {
			fault_arm(kinds[k], FI_THREAD, n, 1);
			int err = advise(at, PMD_SIZE);
			bool hit = fault_disarm(kinds[k]);
			fx_check(&fx);
			fx_verify(&fx, a, at, 40, 1);
			if (!err && !hit)
				break;
		}
	}
	assert_true(is_leaf(a, at));
	assert_int_equal(fx_since(&fx, VM_NR_SHMEM), HPAGES);
	assert_int_equal(fx_since(&fx, VM_NR_SHMEM_HUGEPAGES), 1);
	fx_verify(&fx, a, at, 40, 1);
	fx_verify(&fx, a, at + 200 * PAGE_SIZE, 40, 1);
	fx_ok(fx_access(&fx, b, in_b + 504 * PAGE_SIZE, &x, 8, false));
	assert_int_equal(x, fx_stamp(1, at));
	object_put(rq.object);
	task_exit(b);
}

// MADV_COLLAPSE leaves a leaf, also where small entries of a huge page were.
static void shared_memory_is_mapped_by_a_leaf(void **state)
{
	struct object *object;

	(void)state;
	fx_ok(object_create_shmem(&fx.mm, NULL, PMD_SIZE, &object));
	uint64_t at = fx_map_shared(a, HPAGES, object);
	fx_fill(&fx, a, at, 40, 1);
	assert_int_equal(advise(at, PMD_SIZE), 0);
	assert_int_equal(collapse_pmd_state(a->space, at), SCAN_PMD_MAPPED);
	fx_ok(thp_split_pmd(vma_lookup(a->space, at), at));
	fx_verify(&fx, a, at + 3 * PAGE_SIZE, 4, 1);
	struct folio *folio = object_find(object, 0);
	assert_int_equal(folio_order(folio), PMD_ORDER);
	folio_put(folio);
	assert_int_equal(advise(at, PMD_SIZE), 0);
	assert_int_equal(collapse_pmd_state(a->space, at), SCAN_PMD_MAPPED);
	fx_check(&fx);
	fx_verify(&fx, a, at, 40, 1);
	object_put(object);
}

// Why an object's page is not mapped by a leaf, and that what is mapped stays as it is then.
static void no_room_for_a_leaf(void **state)
{
	struct map_request rq = {.len = PMD_SIZE,
		.flags = VM_READ | VM_WRITE | VM_MAYWRITE,
		.align = PMD_SIZE,
		.own = true};
	uint64_t at, p, x = 9;
	struct vma *vma;

	(void)state;
	fx_ok(object_create_shmem(&fx.mm, NULL, PMD_SIZE, &rq.object));
	at = fx_map_shared(a, HPAGES, rq.object);
	vma = vma_lookup(a->space, at);
	assert_int_equal(collapse_map_object(vma, at), SCAN_PAGE_NULL);
	fx_fill(&fx, a, at, HPAGES, 1);
	assert_int_equal(collapse_map_object(vma, at), SCAN_PAGE_COMPOUND);
	assert_int_equal(advise(at, PMD_SIZE), 0);
	assert_int_equal(collapse_map_object(vma, at), SCAN_PMD_MAPPED);
	// A private copy among the object's pages.
	fx_ok(space_map(a->space, &rq, &p));
	vma = vma_lookup(a->space, p);
	fx_ok(fx_access(&fx, a, p + 7 * PAGE_SIZE, &x, 8, true));
	for (unsigned i = 0; i < HPAGES; i++)
		fx_ok(fx_access(&fx, a, p + i * PAGE_SIZE, &x, 8, false));
	long shmem = a->space->rss_shmem;
	assert_int_equal(collapse_map_object(vma, p), SCAN_FAIL);
	assert_int_equal(a->space->rss_shmem, shmem);
	fx_ok(fx_access(&fx, a, p + 7 * PAGE_SIZE, &x, 8, false));
	assert_int_equal(x, 9);
	fx_verify(&fx, a, at, HPAGES, 1);
	fx_check(&fx);
	object_put(rq.object);
}

// ---- Files

static char path[40];

// 2 MiB and a little more, each page full of its number; opened with `flags`.
static struct object *open_file(int flags, uint64_t pages)
{
	struct object *object;
	uint32_t page[PAGE_SIZE / 4];

	strcpy(path, "/tmp/godwit-collapse-XXXXXX");
	int fd = mkstemp(path);
	assert_true(fd >= 0);
	for (uint32_t i = 0; i < pages; i++) {
		for (unsigned k = 0; k < PAGE_SIZE / 4; k++)
			page[k] = i;
		assert_int_equal(write(fd, page, PAGE_SIZE), PAGE_SIZE);
	}
	close(fd);
	fd = open(path, flags);
	assert_true(fd >= 0);
	fx_ok(object_open_file(&fx.mm, fd, &object));
	close(fd);
	unlink(path);
	return object;
}

static void check_file(struct task *task, uint64_t at, uint32_t pages)
{
	uint32_t x;

	for (uint32_t i = 0; i < pages; i++) {
		fx_ok(fx_access(&fx, task, at + i * PAGE_SIZE + 4 * (i % 1000), &x, 4, false));
		assert_int_equal(x, i);
	}
}

static void a_file_opened_for_reading(void **state)
{
	struct object *object = open_file(O_RDONLY, HPAGES + 3);
	uint64_t at = fx_map_flags(a, (HPAGES + 3) * PAGE_SIZE, VM_READ | VM_SHARED, object);
	struct fx_move mv;
	uint64_t own = fx_map_flags(a, PMD_SIZE, VM_READ | VM_WRITE | VM_MAYWRITE, object);
	uint32_t x;

	(void)state;
	thp.setting[SET_READ_ONLY_FILES] = 1;
	fx_ok(fx_access(&fx, a, at + 5 * PAGE_SIZE, &x, 4, false)); // the rest is read by the call
	x = 77;
	fx_ok(fx_access(&fx, a, own + 9 * PAGE_SIZE, &x, 4, true)); // a copy of one's own
	assert_int_equal(advise(at, PMD_SIZE), 0);
	assert_int_equal(fx_since(&fx, VM_NR_FILE_HUGEPAGES), 1);
	assert_int_equal(fx_since(&fx, VM_NR_SHMEM_HUGEPAGES), 0);
	fx_check(&fx);
	check_file(a, at, HPAGES + 3);
	assert_true(is_leaf(a, at));
	assert_int_equal(fx_since(&fx, VM_THP_FILE_MAPPED), 1);
	fx_ok(fx_access(&fx, a, own + 9 * PAGE_SIZE, &x, 4, false));
	assert_int_equal(x, 77);
	fx_ok(fx_access(&fx, a, own + 10 * PAGE_SIZE, &x, 4, false));
	assert_int_equal(x, 10);
	assert_int_equal(advise(at, PMD_SIZE), 0); // already
	fx_move_alloc(&mv, at, 1, 1);
	fx_move_run(&mv, a, 0, MBIND_MOVE_ALL); // moves as one, under both mappings
	assert_int_equal(mv.status[0], 1);
	fx_move_free(&mv);
	assert_int_equal(fx_since(&fx, VM_THP_MIGRATION_SUCCESS), 1);
	assert_int_equal(fx_since(&fx, VM_NR_FILE_HUGEPAGES), 1);
	check_file(a, at, HPAGES + 3);
	fx_check(&fx);
	assert_int_equal(thp_split_range(&thp, a->pid, at, at + PMD_SIZE, 0), 1);
	assert_int_equal(fx_since(&fx, VM_NR_FILE_HUGEPAGES), 0);
	check_file(a, at, HPAGES + 3);
	object_put(object);
}

// A private mapping of text: leaves for those who read, pages of their own for those who write.
static void a_private_mapping_of_a_file(void **state)
{
	struct object *object = open_file(O_RDONLY, HPAGES);
	uint64_t at = fx_map_flags(a, PMD_SIZE, VM_READ | VM_WRITE | VM_MAYWRITE | VM_EXEC, object);
	struct task *b;
	uint32_t x = 5;

	(void)state;
	thp.setting[SET_READ_ONLY_FILES] = 1;
	check_file(a, at, 40);
	assert_false(is_leaf(a, at));
	full_scans(1); // khugepaged finds it, too
	check_file(a, at, HPAGES);
	assert_true(is_leaf(a, at));
	fx_ok(task_fork(a, 0, &b));
	fx_ok(fx_access(&fx, a, at, &x, 4, true));
	assert_false(is_leaf(a, at));
	fx_check(&fx);
	check_file(b, at, HPAGES);
	fx_ok(fx_access(&fx, a, at, &x, 4, false));
	assert_int_equal(x, 5);
	assert_int_equal(fx_since(&fx, VM_NR_FILE_HUGEPAGES), 1); // the folio is whole
	task_exit(b);
	object_put(object);
}

static void files_that_are_not_collapsed(void **state)
{
	struct object *written = open_file(O_RDWR, HPAGES), *tiny = open_file(O_RDONLY, 100);
	uint64_t at = fx_map_flags(a, PMD_SIZE, VM_READ | VM_SHARED, written);
	uint64_t in_tiny = fx_map_flags(a, PMD_SIZE, VM_READ | VM_SHARED, tiny);
	uint32_t x;

	(void)state;
	fx_ok(fx_access(&fx, a, in_tiny, &x, 4, false));
	thp.setting[SET_READ_ONLY_FILES] = 1;
	assert_int_equal(advise(at, PMD_SIZE), -EINVAL); // open for writing
	assert_int_equal(advise(in_tiny, PMD_SIZE), -EINVAL); // ends too early
	check_file(a, at, HPAGES);
	check_file(a, in_tiny, 100);
	thp.setting[SET_READ_ONLY_FILES] = 0;
	struct object *file = open_file(O_RDONLY, HPAGES);
	at = fx_map_flags(a, PMD_SIZE, VM_READ | VM_SHARED, file);
	assert_int_equal(advise(at, PMD_SIZE), -EINVAL); // not in this Linux
	object_put(file);
	object_put(written);
	object_put(tiny);
}

static void a_file_turns_back_at_every_step(void **state)
{
	static const enum fault_kind kinds[] = {FI_TRYLOCK, FI_META, FI_ALLOC, FI_SYSCALL};
	struct object *object = open_file(O_RDONLY, HPAGES);
	uint64_t at = fx_map_flags(a, PMD_SIZE, VM_READ | VM_SHARED, object);

	(void)state;
	fx_fill(&fx, a, buf, 1, 1); // there is a table of PMD entries
	thp.setting[SET_READ_ONLY_FILES] = 1;
	for (unsigned k = 0; k < ARRAY_SIZE(kinds); k++) {
		for (uint64_t n = 0;; n += n < 6 ? 1 : 83) {
			fault_arm(kinds[k], FI_THREAD, n, 1);
			int err = advise(at, PMD_SIZE);
			bool hit = fault_disarm(kinds[k]);
			fx_check(&fx);
			assert_int_equal(fx_since(&fx, VM_NR_FILE_HUGEPAGES), !err);
			check_file(a, at, HPAGES);
			if (!err)
				(void)thp_split_range(&thp, a->pid, at, at + PMD_SIZE, 0);
			if (!hit)
				break;
		}
		(void)object_truncate_unmapped(object, 0, HPAGES);
	}
	object_put(object);
}

// ---- Results, one by one

// A scan may let go of mmap_lock, and says so.
static enum scan_result scan(bool khugepaged, uint64_t addr) NO_THREAD_SAFETY_ANALYSIS
{
	struct collapse c = {.thp = &thp, .khugepaged = khugepaged};
	struct vma *vma;
	bool locked = true;

	thp.setting[SET_ENABLED] = THP_ALWAYS;
	read_lock(&a->space->mmap_lock);
	enum scan_result result = collapse_revalidate(&c, a->space, addr, &vma);
	if (result == SCAN_SUCCEED)
		result = collapse_scan_pmd(&c, vma, addr, &locked);
	if (locked)
		read_unlock(&a->space->mmap_lock);
	thp.setting[SET_ENABLED] = THP_NEVER;
	return result;
}

static struct folio *page_at(uint64_t addr)
{
	struct folio *folio;
	unsigned page;

	fx_ok(follow_page(a->space, addr, &folio, &page));
	return folio;
}

static void clear_young(uint64_t addr)
{
	struct page_table *table = pte_table_lock(a->space, vaddr_of(addr));

	for (unsigned i = 0; table && i < PTRS_PER_TABLE; i++)
		table_set_entry(table, i, pte_clear(table_entry(table, i), PTE_YOUNG));
	page_table_unlock(table);
}

static void results_of_a_scan(void **state)
{
	struct folio *folio;

	(void)state;
	assert_int_equal(scan(true, 0), SCAN_VMA_NULL);
	assert_int_equal(scan(true, buf), SCAN_VMA_CHECK); // no anon_vma
	fx_fill(&fx, a, buf + PMD_SIZE, 1, 1);
	assert_int_equal(scan(true, buf), SCAN_PMD_NONE);
	fx_fill(&fx, a, buf, HPAGES, 1);
	folio = page_at(buf + 9 * PAGE_SIZE);
	assert_int_equal(scan(true, buf), SCAN_PAGE_COUNT);
	folio_set_locked(folio);
	assert_int_equal(scan(true, buf), SCAN_PAGE_LOCK);
	folio_clear_locked(folio);
	assert_true(folio_isolate_lru(folio));
	assert_int_equal(scan(true, buf), SCAN_PAGE_LRU);
	folio_putback_lru(folio);
	folio_put(folio);
	fx_ok(space_protect(a->space, buf, PMD_SIZE, VM_READ));
	assert_int_equal(scan(true, buf), SCAN_PAGE_RO);
	fx_ok(space_protect(a->space, buf, PMD_SIZE, VM_READ | VM_WRITE));
	fx_fill(&fx, a, buf, HPAGES, 1);
	clear_young(buf);
	assert_int_equal(scan(true, buf), SCAN_LACK_REFERENCED_PAGE);
	fault_arm(FI_ALLOC, FI_THREAD, 0, FI_ALWAYS);
	assert_int_equal(scan(false, buf), SCAN_ALLOC_HUGE_PAGE_FAIL);
	fault_disarm_all();
	assert_int_equal(scan(false, buf), SCAN_SUCCEED); // used or not
	assert_int_equal(scan(false, buf), SCAN_PMD_MAPPED);
	assert_int_equal(scan(true, buf + PMD_SIZE + PAGE_SIZE), SCAN_ADDRESS_RANGE);
	fx_verify(&fx, a, buf, HPAGES, 1);
}

// Damage is seen when the pages are copied, after the table is gone: all comes back.
static void a_damaged_page_turns_back(void **state)
{
	struct folio *folio;

	(void)state;
	fx_fill(&fx, a, buf, HPAGES, 4);
	folio = page_at(buf + 300 * PAGE_SIZE);
	folio_set_hwpoison(folio);
	folio_put(folio);
	assert_int_equal(scan(false, buf), SCAN_COPY_MC);
	assert_false(is_leaf(a, buf));
	if (FAULTS_BUILT_IN)
		assert_true(mark_was_hit("collapse_poisoned"));
	folio_clear_hwpoison(folio);
	fx_check(&fx);
	fx_verify(&fx, a, buf, HPAGES, 4);
	assert_int_equal(scan(false, buf), SCAN_SUCCEED);
	fx_verify(&fx, a, buf, HPAGES, 4);
}

// Two nodes have as many pages: either may give the huge page, the third may not.
static void ties_of_nodes(void **state)
{
	(void)state;
	fx_fill(&fx, a, buf, HPAGES, 5);
	assert_int_equal(fx_move(a, buf, 170, 1), 0);
	assert_int_equal(fx_move(a, buf + 170 * PAGE_SIZE, 171, 2), 0); // 171 each on 0 and 2
	assert_int_equal(advise(buf, PMD_SIZE), 0);
	assert_int_equal(fx_where(a, buf), 0); // the first of the best
	fx_ok(thp_split_range(&thp, a->pid, buf, buf + PMD_SIZE, 0) != 1);
	assert_int_equal(fx_move(a, buf, 171, 1), 0);
	assert_int_equal(fx_move(a, buf + 171 * PAGE_SIZE, 171, 2), 0);
	while (folio_alloc(&fx.phys, GFP_TRANSHUGE_LIGHT | GFP_THISNODE, PMD_ORDER, 1, NULL, 0))
		;
	assert_int_equal(advise(buf, PMD_SIZE), 0); // 170, 171, 171: node 1 is full
	assert_int_equal(fx_where(a, buf), 2);
	fx_verify(&fx, a, buf, HPAGES, 5);
}

int main(void)
{
#define CASE(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		CASE(sparse_range_is_collapsed_by_advice),
		CASE(khugepaged_collapses_what_is_used),
		CASE(limits_bind_khugepaged_only),
		CASE(shared_pages),
		CASE(the_node_with_most_pages_gets_it),
		CASE(errnos_of_advice),
		CASE(turning_back_at_every_step),
		CASE(small_folios_of_a_split_one),
		CASE(locked_memory),
		CASE(shared_memory_is_collapsed_for_all),
		CASE(folios_of_other_sizes),
		CASE(shared_memory_is_mapped_by_a_leaf),
		CASE(no_room_for_a_leaf),
		CASE(a_file_opened_for_reading),
		CASE(a_private_mapping_of_a_file),
		CASE(files_that_are_not_collapsed),
		CASE(a_file_turns_back_at_every_step),
		CASE(results_of_a_scan),
		CASE(a_damaged_page_turns_back),
		CASE(ties_of_nodes),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
