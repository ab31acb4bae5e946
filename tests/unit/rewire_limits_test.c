// SPDX-License-Identifier: MIT
// Both blockers of the rewire backend when something runs out or fails: addresses, host mappings,
// each host call in turn.
#include "mini_run.h"

#include "base/meta.h"
#include "machine/host_calls.h"

#include <fcntl.h>
#include <pthread.h>
#include <sys/mman.h>

static void windows_do_not_nest(void)
{
	const struct mmu_ops *ops = mini.mmu->ops;
	struct mmu_window *w = NULL;
	void *hint = (void *)mini_at(&mini, 16);

	assert_int_equal(ops->window_open(mini.mmu, PMD_SIZE, 0, hint, &mini, &w), -EEXIST);
	hint = (void *)(mini_at(&mini, 0) - PAGE_SIZE);
	assert_int_equal(ops->window_open(mini.mmu, 2 * PAGE_SIZE, 0, hint, &mini, &w), -EEXIST);
	assert_null(w);
	assert_int_equal(ops->window_open(mini.mmu, 0, 0, NULL, &mini, &w), -EINVAL);
	assert_int_equal(ops->window_open(mini.mmu, PMD_SIZE + 1, 0, NULL, &mini, &w), -EINVAL);
	assert_int_equal(
		ops->map(mini.mmu, mini_at(&mini, PAGES), pfn_of(1), 1, MMU_WRITE), -EFAULT);
	assert_int_equal(ops->map(mini.mmu, mini_at(&mini, 0), pfn_of(1), 1, MMU_WRITE), -EINVAL);
	*mini_byte(&mini, 16) = 3;
	assert_int_equal(*mini_byte(&mini, 16), 3);
	for (int round = 0; round < 2; round++) { // at an address that has just been given back
		assert_int_equal(ops->window_open(mini.mmu, PMD_SIZE, PMD_SIZE, round ? hint : NULL,
					 &mini, &w),
			0);
		hint = (void *)w->start;
		assert_int_equal(w->start % PMD_SIZE, 0);
		ops->window_close(mini.mmu, w);
	}
}

static atomic_bool closed_all, lost;

static void *looks_for_the_first(void *arg maybe_unused)
{
	struct window_ref ref;

	while (!closed_all)
		lost |= !window_find(mini_at(&mini, 0), &ref);
	return NULL;
}

// A window that is closed without memory for a smaller table: who looks for another finds it all the
// while, or the program would get its fault.
static void windows_close_without_memory(void)
{
	const struct mmu_ops *ops = mini.mmu->ops;
	pthread_t thread;

	if (!FAULTS_BUILT_IN)
		return;
	closed_all = lost = false;
	assert_int_equal(pthread_create(&thread, NULL, looks_for_the_first, NULL), 0);
	for (unsigned round = 0; round < 2000; round++) {
		struct mmu_window *w;

		assert_int_equal(
			ops->window_open(mini.mmu, PAGE_SIZE, 0, NULL, &mini, &w), 0);
		fault_arm(FI_META, FI_THREAD, 0, 1);
		ops->window_close(mini.mmu, w);
		assert_true(fault_disarm(FI_META));
	}
	closed_all = true;
	pthread_join(thread, NULL);
	assert_false(lost);
	assert_true(mark_was_hit("window_row_emptied"));
}

static size_t host_vmas(void)
{
	FILE *f = fopen("/proc/self/maps", "re");
	uintptr_t start, end;
	char line[512];
	size_t n = 0;

	while (fgets(line, sizeof(line), f))
		if (sscanf(line, "%lx-%lx", &start, &end) == 2)
			n += start < mini_at(&mini, PAGES) && end > mini_at(&mini, 0);
	fclose(f);
	return n;
}

static void mappings_are_counted(void)
{
	uint64_t seed = 88172645463325252ull;

	mini_fill(&mini, 0, 512, 0, MMU_WRITE);
	mini_fill(&mini, 512, 512, 1, MMU_WRITE);
	for (int step = 0; step < 300; step++) {
		size_t page, nr;

		seed ^= seed << 13;
		seed ^= seed >> 7;
		seed ^= seed << 17;
		page = seed % 1024;
		nr = 1 + (seed >> 20) % 4;
		if (page + nr > 1024 || page / 512 != (page + nr - 1) / 512)
			continue;
		switch ((seed >> 40) % 5) {
		case 0:
			mini_fill(&mini, page, (unsigned)nr, seed >> 50 & 1, MMU_WRITE);
			break;
		case 1:
			mini_fill(&mini, page, (unsigned)nr, seed >> 50 & 1, MMU_READ);
			break;
		case 2:
			assert_int_equal(
				mini_move(&mini, page, 1, seed >> 50 & 1, seed >> 51 & 1), 0);
			break;
		case 3:
			assert_int_equal(mini_protect(&mini, page, 1,
						 (enum mmu_prot)((seed >> 50) % 3), false),
				0);
			break;
		default:
			mini_clear(&mini, page, (unsigned)nr);
			mini_fill(&mini, page, (unsigned)nr, 0, MMU_WRITE);
		}
		assert_in_range(vma_budget_used(), host_vmas(), host_vmas() + 1);
	}
	mini_clear(&mini, 0, 512);
	mini_clear(&mini, 512, 512);
	assert_in_range(host_vmas(), 1, 6); // leftovers are put together again
}

static void moves_stop_at_the_budget(void)
{
	struct mmu_stats stats;
	unsigned moved = 0;
	int err = 0;

	mini_fill(&mini, 0, 512, 0, MMU_WRITE);
	vma_budget_set_limit(20);
	for (size_t page = 1; page < 511 && !err; page += 2) {
		err = mini_move(&mini, page, 1, 1, false);
		moved += !err;
	}
	assert_int_equal(err, -ENOMEM);
	assert_in_range(moved, 5, 9);
	assert_true(vma_budget_used() <= 18);
	assert_int_equal(mini_move(&mini, 1, 1, 0, false), 0); // needs no mapping more
	*mini_byte(&mini, 700) = 1;			       // a fault may use the rest
	for (size_t page = 0; page < 512; page++) {
		assert_int_equal(*mini_byte(&mini, page), page & 0xff);
		*mini_byte(&mini, page) = (uint8_t)page;
	}
	mmu_stats(mini.mmu, &stats);
	assert_int_equal(stats.moves_refused, 1);
	assert_int_equal(stats.vma_limit, 20);
}

static void check_pages(size_t first, size_t nr)
{
	for (size_t page = first; page < first + nr; page++) {
		assert_int_equal(mini_byte(&mini, page)[9], page & 0xff);
		mini_byte(&mini, page)[8] = 1;
	}
}

static int inject_move(unsigned nr)
{
	return mini_move(&mini, 512, nr, 1, true);
}

static int inject_protect(unsigned nr)
{
	int err = mini_protect(&mini, 512, nr, MMU_READ, true);

	return err ? err : mini_protect(&mini, 512, nr, MMU_WRITE, false);
}

static int inject_map_read(unsigned nr)
{
	int err;

	mutex_lock(&mini.lock);
	err = mini.mmu->ops->map(mini.mmu, mini_at(&mini, 512), mini.page[512].pfn, nr, MMU_READ);
	mutex_unlock(&mini.lock);
	return err ? err : mini_protect(&mini, 512, nr, MMU_WRITE, false);
}

static int inject_block_unblock(unsigned nr)
{
	int err = mini_block(&mini, 512, nr, false);

	if (err)
		return err;
	mutex_lock(&mini.lock);
	mini.mmu->ops->unblock(mini.mmu, mini_at(&mini, 512), mini.page[512].pfn, nr, MMU_WRITE);
	mini_moved(&mini, 512, nr);
	mutex_unlock(&mini.lock);
	return 0;
}

static int inject_clear(unsigned nr)
{
	struct pfn first = mini_pfn(&mini, 512);
	int err;

	mini_clear(&mini, 512, nr);
	mutex_lock(&mini.lock);
	for (unsigned i = 0; i < nr; i++)
		mini.page[512 + i].pfn = pfn_add(first, i);
	err = mini.mmu->ops->map(mini.mmu, mini_at(&mini, 512), first, nr, MMU_WRITE);
	mutex_unlock(&mini.lock);
	return err;
}

static int inject_window(unsigned nr)
{
	struct mmu_window *w;
	int err = mini.mmu->ops->window_open(mini.mmu, nr * PAGE_SIZE, PMD_SIZE, NULL, &mini, &w);

	if (!err)
		mini.mmu->ops->window_close(mini.mmu, w);
	return err;
}

// Host call 0, 1, 2... of an operation fails; whatever it says, every page is what it was, and
// reachable, after it.
static void failures_leave_everything(void)
{
	static int (*const op[])(unsigned) = {inject_move, inject_protect, inject_map_read,
		inject_block_unblock, inject_clear, inject_window};
	static const unsigned sizes[] = {1, 16, 512};

	if (!FAULTS_BUILT_IN)
		return;
	for (unsigned o = 0; o < ARRAY_SIZE(op); o++)
		for (unsigned s = 0; s < ARRAY_SIZE(sizes); s++) {
			uint64_t n = 0;
			bool hit = true;

			mini_fill(&mini, 512, 512, 0, MMU_WRITE);
			for (; hit; n++) {
				fault_arm(FI_SYSCALL, FI_THREAD, n, 1);
				int err = op[o](sizes[s]);

				hit = fault_disarm(FI_SYSCALL);
				assert_true(!err || hit);
				if (err)
					assert_int_equal(err, -ENOMEM);
				check_pages(512, 512);
			}
			assert_in_range(n, 2, 12);
		}
}

static void failures_of_many(void)
{
	if (!FAULTS_BUILT_IN)
		return;
	mini_fill(&mini, 512, 512, 0, MMU_WRITE);
	for (uint64_t n = 0; n < 8; n++) {
		struct mmu_stats stats;

		fault_arm(FI_SYSCALL, FI_THREAD, n, 3);
		(void)!inject_clear(16);
		(void)!inject_move(16);
		(void)!inject_block_unblock(16);
		fault_disarm(FI_SYSCALL);
		check_pages(512, 512);
		mmu_stats(mini.mmu, &stats);
	}
}

static unsigned open_files(void)
{
	unsigned n = 0;

	for (int fd = 0; fd < 256; fd++)
		n += fcntl(fd, F_GETFD) >= 0;
	return n;
}

static void opening_once(enum fault_kind kind, uint64_t n, bool *ret_hit)
{
	struct mmu *mmu;
	int err;

	fault_arm(kind, FI_THREAD, n, 1);
	err = mmu_open(&config, mini_fault, &mmu);
	*ret_hit = fault_disarm(kind);
	assert_true(!err || *ret_hit);
	if (!err)
		mmu->ops->close(mmu);
}

// Each host call and allocation of mmu_open() fails in turn: nothing stays behind. (It may succeed
// all the same: by another way to a userfaultfd, or without the newest flag.)
static void opening_fails_cleanly(void)
{
	static const enum fault_kind kinds[] = {FI_SYSCALL, FI_META};
	unsigned files = open_files();
	size_t objects = meta_in_use();

	if (!FAULTS_BUILT_IN)
		return;
	for (unsigned k = 0; k < ARRAY_SIZE(kinds); k++) {
		bool hit = true;
		uint64_t n = 0;

		for (; hit; n++) {
			opening_once(kinds[k], n, &hit);
			assert_int_equal(open_files(), files);
			assert_int_equal(meta_in_use(), objects);
		}
		assert_in_range(n, 1, 12);
	}
}

// As many windows of 4 pages, one behind the other.
static void windows_in_a_row(struct mmu_window **ret_windows, unsigned n)
{
	uintptr_t at;

	assert_int_equal(host_reserve(n * 4 * PAGE_SIZE, PAGE_SIZE, NULL, &at), 0);
	host_unmap(at, n * 4 * PAGE_SIZE);
	for (unsigned i = 0; i < n; i++)
		assert_int_equal(mini.mmu->ops->window_open(mini.mmu, 4 * PAGE_SIZE, PAGE_SIZE,
					 (void *)(at + i * 4 * PAGE_SIZE), &mini,
					 &ret_windows[i]),
			0);
}

// The host itself has no mapping left: nothing new can be mapped, but what is cleared is gone, what
// was there is there, and all is well once there are mappings again.
static void host_has_no_mapping_left(void)
{
	const struct mmu_ops *ops = mini.mmu->ops;
	size_t limit = vma_budget_limit(), page = 0;
	struct mmu_window *w, *row[3];
	struct mmu_stats stats;
	int err = 0;

	if (strstr(blocker_name, "nobody"))
		return; // slow, and no different
	if (HAVE_TSAN || HAVE_ASAN) {
		print_message("a sanitizer needs mappings of its own, and dies without\n");
		return;
	}
	if (limit > 100000) {
		print_message("vm.max_map_count is %zu, too many to use up\n", limit);
		return;
	}
	mini_fill(&mini, 0, 512, 0, MMU_WRITE);
	mini_fill(&mini, 512, 512, 0, MMU_WRITE);
	assert_int_equal(ops->window_open(mini.mmu, limit << PAGE_SHIFT, 0, NULL, &mini, &w), 0);
	windows_in_a_row(row, 3);
	for (unsigned i = 0; i < 3; i++) // one host mapping
		assert_int_equal(ops->map(mini.mmu, row[i]->start,
					 pfn_of(mini.arena[1]->first + 4096 + 4 * i), 4, MMU_WRITE),
			0);
	for (; page < limit && !err; page++)
		err = ops->map(mini.mmu, w->start + (page << PAGE_SHIFT),
			pfn_of(mini.arena[1]->first + page * 2 % 512), 1, MMU_WRITE);
	assert_int_equal(err, -ENOMEM);
	assert_true(page > limit - 1000);
	assert_int_equal(mini_move(&mini, 100, 1, 1, false), -ENOMEM);
	assert_int_equal(*mini_byte(&mini, 100), 100);
	mini_clear(&mini, 100, 1);
	mmu_stats(mini.mmu, &stats);
	assert_int_equal(stats.widened, 1);
	assert_int_equal(signal_of(100, false), SIGBUS);
	ops->clear(mini.mmu, row[1]->start + PAGE_SIZE, 2);
	mmu_stats(mini.mmu, &stats);
	assert_int_equal(stats.widened, 2);
	ops->window_close(mini.mmu, w);
	for (unsigned i = 0; i < 3; i++)
		ops->window_close(mini.mmu, row[i]);
	assert_int_equal(*mini_byte(&mini, 100), 0); // a new page
	check_pages(0, 100);
	check_pages(101, 411);
	check_pages(512, 512);
}

// ---- Memory that the program has locked

static bool by_userfaultfd(void)
{
	return config.blocker == MMU_BLOCKER_USERFAULTFD;
}

static bool has_translation(size_t page)
{
	int fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	uint64_t entry = 0;

	if (fd < 0)
		return false; // nobody's since setuid()
	assert_int_equal(pread(fd, &entry, sizeof(entry), (off_t)(mini_at(&mini, page) >> 9)),
		sizeof(entry));
	close(fd);
	return entry >> 63;
}

// The host keeps the translations of locked memory from MADV_DONTNEED: stores to the old frame, or
// to one that was given up, would be lost.
static void locked_memory_is_stopped_too(void)
{
	if (!by_userfaultfd())
		return; // a permission is taken from any memory
	mini_fill(&mini, 512, 512, 0, MMU_WRITE);
	check_pages(512, 512);
	if (mlock((void *)mini_at(&mini, 512), PMD_SIZE)) {
		print_message("mlock: %s\n", strerror(errno));
		return;
	}
	assert_int_equal(mini_block(&mini, 512, 1, false), 0);
	assert_false(has_translation(512));
	assert_int_equal(mini_finish(&mini, 512, 1, mini_pfn(&mini, 512)), 0);
	mini_clear(&mini, 1000, 1);
	assert_false(has_translation(1000));
	assert_int_equal(mini_byte(&mini, 1000)[0], 0);
	assert_int_equal(mini_move(&mini, 512, 400, 1, false), 0);
	check_pages(512, 400);
}

// Or no memory is, where there is a limit that it would meet.
static void lock_all_to_come(void)
{
	uintptr_t at;

	if (mlockall(MCL_FUTURE) || host_reserve(PUD_SIZE, PAGE_SIZE, NULL, &at)) {
		print_message("this much memory may not be locked\n");
		munlockall();
	} else {
		host_unmap(at, PUD_SIZE);
	}
}

// All memory to come is locked: the host fills each mapping when it is made, but for those whose
// accesses are to be seen.
static void all_memory_to_come_is_locked(void)
{
	unsigned long faults;

	mini_close(&mini);
	lock_all_to_come();
	assert_int_equal(mini_open(&mini, &config, PAGES << PAGE_SHIFT), 0);
	faults = mini.faults;
	assert_int_equal(mini_byte(&mini, 3)[1], 0);
	assert_int_equal(mini.faults, faults + 1);
	mini_fill(&mini, 512, 512, 0, MMU_WRITE);
	assert_int_equal(mini_move(&mini, 512, 512, 1, false), 0);
	check_pages(512, 512);
	for (size_t page = 0; page < 16; page++)
		*mini_byte(&mini, 1024 + 31 * page) = 1;
	mini_clear(&mini, 1024, 512); // many mappings become one
	faults = mini.faults;
	for (size_t page = 0; page < 16; page++)
		assert_int_equal(*mini_byte(&mini, 1024 + 31 * page), 0);
	assert_int_equal(mini.faults, faults + 16);
	munlockall();
}

// ---- What a failed call tears down: kernels before 6.12 unmap the destination, and fail then. The
// hole is made by hand.

static int map_into_hole(unsigned nr, uint64_t failing_calls)
{
	int err;

	mutex_lock(&mini.lock);
	host_unmap(mini_at(&mini, 512), nr * PAGE_SIZE);
	fault_arm(FI_SYSCALL, FI_THREAD, 0, failing_calls);
	err = mini.mmu->ops->map(mini.mmu, mini_at(&mini, 512), mini.page[512].pfn, nr, MMU_WRITE);
	assert_int_equal(fault_disarm(FI_SYSCALL), failing_calls > 0);
	mutex_unlock(&mini.lock);
	return err;
}

static void what_was_torn_down_is_mended(void)
{
	struct mmu_stats stats;

	if (!FAULTS_BUILT_IN)
		return;
	mini_fill(&mini, 512, 512, 0, MMU_WRITE);
	assert_int_equal(map_into_hole(16, 1), -ENOMEM);
	assert_false(host_has_hole(mini_at(&mini, 512), PMD_SIZE));
	mmu_stats(mini.mmu, &stats);
	assert_int_equal(stats.mended, 1);
	check_pages(512, 512);
	if (by_userfaultfd())
		assert_true(mark_was_hit("uffd_mended"));
	// Mending fails, too: the next call maps it.
	assert_int_equal(map_into_hole(16, FI_ALWAYS), -ENOMEM);
	assert_true(host_has_hole(mini_at(&mini, 512), PMD_SIZE));
	assert_true(mark_was_hit(by_userfaultfd() ? "uffd_mend_refused" : "signal_mend_refused"));
	assert_int_equal(map_into_hole(16, 0), 0);
	assert_false(host_has_hole(mini_at(&mini, 512), PMD_SIZE));
	check_pages(512, 512);
}

// Tables cannot be parked, and where they should go is a hole now: closed if the host lets us.
static void block_with_a_hole_at_the_parking(uint64_t failing_calls)
{
	struct pfn first = mini_pfn(&mini, 512);
	uintptr_t at = arena_tables_at(arena_of(first), first);
	bool closed = failing_calls == 1;

	host_unmap(at, 16 * PAGE_SIZE);
	fault_arm(FI_SYSCALL, FI_THREAD, 0, failing_calls);
	assert_int_equal(mini_block(&mini, 512, 16, false), 0);
	assert_true(fault_disarm(FI_SYSCALL));
	assert_int_equal(host_has_hole(at, 16 * PAGE_SIZE), !closed);
	assert_int_equal(mini_finish(&mini, 512, 16, first), 0);
	check_pages(512, 512);
}

static void a_hole_at_the_parking_is_closed(void)
{
	if (!FAULTS_BUILT_IN)
		return;
	mini_fill(&mini, 512, 512, 0, MMU_WRITE);
	block_with_a_hole_at_the_parking(2);
	assert_true(mark_was_hit("rewire_parking_lost"));
	block_with_a_hole_at_the_parking(1);
	assert_int_equal(mini_move(&mini, 512, 16, 1, false), 0);
	check_pages(512, 512);
}

// ---- Refusals that userfaultfd makes true

// Clearing what was refused: neither the part nor the window becomes accessible. It is absent for
// the engine all the same, and whatever is mapped there next is reached.
static void a_refusal_that_cannot_be_lifted(void)
{
	struct mmu_stats stats;

	if (!FAULTS_BUILT_IN || !by_userfaultfd())
		return;
	mini_fill(&mini, 512, 512, 0, MMU_WRITE);
	assert_int_equal(mini_protect(&mini, 512, 16, MMU_NONE, false), 0);
	fault_arm(FI_SYSCALL, FI_THREAD, 0, 1);	 // watching the part
	fault_arm(FI_SYSCALL, FI_PROCESS, 2, 1); // after watching the window
	mini_clear(&mini, 512, 16);
	assert_true(fault_disarm(FI_SYSCALL));
	assert_true(mark_was_hit("uffd_clear_refused"));
	mmu_stats(mini.mmu, &stats);
	assert_int_equal(stats.widened, 1);
	check_pages(528, 496);
	mini_fill(&mini, 512, 16, 1, MMU_WRITE);
	check_pages(512, 512);
}

#define ALL_TESTS(X)                                                                               \
	X(locked_memory_is_stopped_too)                                                            \
	X(all_memory_to_come_is_locked)                                                            \
	X(windows_do_not_nest)                                                                     \
	X(windows_close_without_memory)                                                            \
	X(mappings_are_counted)                                                                    \
	X(moves_stop_at_the_budget)                                                                \
	X(failures_leave_everything)                                                               \
	X(failures_of_many)                                                                        \
	X(opening_fails_cleanly)                                                                   \
	X(host_has_no_mapping_left)                                                                \
	X(what_was_torn_down_is_mended)                                                            \
	X(a_hole_at_the_parking_is_closed)                                                         \
	X(a_refusal_that_cannot_be_lifted)

MINI_MAIN(ALL_TESTS)
