// SPDX-License-Identifier: MIT
#include "base/fault_inject.h"
#include "base/meta.h"
#include "machine/arena_files.h"
#include "machine/host_calls.h"
#include "machine/probe_facts.h"

#include <errno.h>
#include <linux/memfd.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#define MIB (1ul << 20)

static struct arena *open_arena(struct arena_config c)
{
	struct arena *a = NULL;

	c.host_node = -1;
	assert_int_equal(arena_open(&c, &a), 0);
	return a;
}

static size_t host_bytes(const struct arena *a)
{
	struct stat st;

	fstat(a->fd, &st);
	return (size_t)st.st_blocks * 512;
}

static void number_space(void **state maybe_unused)
{
	struct arena *a = open_arena((struct arena_config){.bytes = 4 * MIB});
	struct arena *b = open_arena((struct arena_config){.node = 1, .bytes = 1025 * MIB});
	struct arena *c = open_arena((struct arena_config){.node = 2, .bytes = PAGE_SIZE});
	struct pfn freed;

	assert_true(a->first != 0 && a->first % (1ul << ARENA_PFN_ALIGN_SHIFT) == 0);
	assert_ptr_equal(arena_of(pfn_of(a->first)), a);
	assert_ptr_equal(arena_of(pfn_of(b->first + b->nr_pages - 1)), b);
	assert_int_equal(c->first - b->first, 2ul << ARENA_PFN_ALIGN_SHIFT);
	assert_null(arena_of(pfn_of(0)));
	assert_null(arena_of(pfn_of(UINT64_MAX)));
	assert_false(arena_has(a, pfn_of(a->first + a->nr_pages - 1), 2));
	freed = pfn_of(b->first);
	arena_close(b);
	assert_null(arena_of(freed));
	b = open_arena((struct arena_config){.bytes = 2 * MIB}); // its place is taken again
	assert_int_equal(b->first - a->first, 1ul << ARENA_PFN_ALIGN_SHIFT);
	arena_close(a);
	arena_close(b);
	arena_close(c);
}

static void backing(void **state maybe_unused)
{
	struct arena *a = open_arena((struct arena_config){.bytes = 9 * MIB, .keep_tables = true});
	struct pfn first = pfn_of(a->first);
	struct arena_stats stats;

	assert_int_equal(host_bytes(a), 0);
	assert_int_equal(arena_back(a, pfn_add(first, 511), 2), 0);
	assert_int_equal(host_bytes(a), 4 * MIB);
	assert_true(arena_is_backed(a, pfn_add(first, 1023)));
	assert_false(arena_is_backed(a, pfn_add(first, 1024)));
	assert_true(arena_tables_ready(a, first, 1024));
	assert_false(arena_tables_ready(a, pfn_add(first, 1000), 100));
	arena_tables_mark(a, pfn_add(first, 70), 100, false);
	assert_true(arena_tables_ready(a, first, 70));
	assert_false(arena_tables_ready(a, first, 71));
	assert_true(arena_tables_ready(a, pfn_add(first, 170), 800));
	((char *)arena_direct(a, first))[5] = 1;
	assert_int_equal(arena_release(a, first, 1023), 2 * MIB); // the second chunk only in part
	assert_int_equal(host_bytes(a), 2 * MIB);
	assert_int_equal(arena_release(a, first, 512), 0);
	assert_int_equal(arena_back(a, first, 1), 0);
	assert_int_equal(((char *)arena_direct(a, first))[5], 0);
	assert_int_equal(arena_back(a, pfn_add(first, 2048), 256), 0); // the last, half chunk
	arena_stats(a, &stats);
	assert_int_equal(stats.backed_bytes, 5 * MIB);
	assert_int_equal(stats.bytes, 9 * MIB);
	assert_int_equal(stats.backed_bytes, host_bytes(a));
	assert_int_equal(arena_release(a, first, a->nr_pages), 5 * MIB);
	arena_close(a);
}

// ---- A signal comes more often than all of it can be backed

#define SIGNALS_MAX 3000

static volatile sig_atomic_t signals;

static void set_timer(int us)
{
	const struct itimerval timer = {{0, us}, {0, us}};

	setitimer(ITIMER_REAL, &timer, NULL);
}

static void on_alarm(int sig maybe_unused)
{
	if (++signals == SIGNALS_MAX)
		set_timer(0); // or it would go on for ever
}

static void backed_between_signals(void **state maybe_unused)
{
	struct sigaction action = {.sa_handler = on_alarm}, was;
	sigset_t mask;
	int fd, err;

	assert_int_equal(host_memfd("signals", 0, &fd), 0);
	assert_int_equal(ftruncate(fd, 64 * MIB), 0);
	assert_int_equal(sigaction(SIGALRM, &action, &was), 0);
	set_timer(100);
	err = host_fallocate(fd, 0, 0, 64 * MIB);
	set_timer(0);
	assert_int_equal(err, 0);
	assert_true(signals < SIGNALS_MAX);
	assert_int_equal(sigprocmask(SIG_SETMASK, NULL, &mask), 0);
	assert_false(sigismember(&mask, SIGALRM));
	assert_int_equal(sigaction(SIGALRM, &was, NULL), 0);
	close(fd);
}

static void no_memory(void **state maybe_unused)
{
	struct arena *a;

	if (!FAULTS_BUILT_IN)
		skip();
	a = open_arena((struct arena_config){.bytes = 8 * MIB});
	fault_arm(FI_SYSCALL, FI_THREAD, 1, 1);
	assert_int_equal(arena_back(a, pfn_of(a->first), 1536), -ENOMEM);
	assert_true(fault_disarm(FI_SYSCALL));
	assert_true(arena_is_backed(a, pfn_of(a->first))); // what was backed before stays
	assert_false(arena_is_backed(a, pfn_of(a->first + 512)));
	assert_int_equal(arena_back(a, pfn_of(a->first), 1536), 0);
	fault_arm(FI_SYSCALL, FI_THREAD, 0, 1);
	assert_int_equal(arena_release(a, pfn_of(a->first), 512), 0); // stays backed
	fault_disarm(FI_SYSCALL);
	assert_true(arena_is_backed(a, pfn_of(a->first)));
	arena_close(a);
}

static void opening_fails_cleanly(void **state maybe_unused)
{
	struct arena_config c = {.bytes = 4 * MIB, .host_node = -1, .keep_tables = true};
	size_t before = meta_in_use();
	struct arena *a = NULL;
	bool hit = true;
	uint64_t n = 0;

	if (!FAULTS_BUILT_IN)
		skip();
	for (; hit; n++) {
		fault_arm(FI_SYSCALL, FI_THREAD, n, 1);
		int err = arena_open(&c, &a);

		hit = fault_disarm(FI_SYSCALL);
		assert_true(hit || !err);
		if (!err)
			arena_close(a);
		assert_int_equal(meta_in_use(), before);
	}
	assert_in_range(n, 5, 12);
	hit = true;
	for (n = 0; hit; n++) {
		fault_arm(FI_META, FI_THREAD, n, 1);
		int err = arena_open(&c, &a);

		hit = fault_disarm(FI_META);
		if (!err)
			arena_close(a);
		assert_true(hit || !err);
		assert_int_equal(meta_in_use(), before);
	}
	assert_in_range(n, 3, 5);
}

static void invalid(void **state maybe_unused)
{
	struct arena_config c = {.host_node = -1};
	struct arena *a = NULL;

	assert_int_equal(arena_open(&c, &a), -EINVAL);
	c.bytes = SIZE_MAX;
	assert_int_equal(arena_open(&c, &a), -EINVAL);
	c.bytes = MIB;
	c.kind = ARENA_FILE;
	assert_int_equal(arena_open(&c, &a), -EINVAL);
	c.path = "/nonexistent/directory/node";
	assert_int_equal(arena_open(&c, &a), -ENOENT);
	c.kind = ARENA_MEMFD;
	c.host_node = 63;
	assert_true(arena_open(&c, &a) < 0);
	assert_null(a);
}

static void file(void **state maybe_unused)
{
	char path[] = "/tmp/godwit-arena-XXXXXX";
	struct arena *a;
	struct stat st;

	close(mkstemp(path));
	for (int round = 0; round < 2; round++) { // the bytes outlive the arena
		a = open_arena(
			(struct arena_config){.bytes = 2 * MIB, .kind = ARENA_FILE, .path = path});
		assert_int_equal(arena_back(a, pfn_of(a->first), 1), 0);
		assert_int_equal(*(char *)arena_direct(a, pfn_of(a->first)), round ? 'g' : 0);
		*(char *)arena_direct(a, pfn_of(a->first)) = 'g';
		arena_close(a);
	}
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_size, 2 * MIB);
	unlink(path);
}

// Whether it has the pages that it says it has.
static bool page_size_is_true(bool asked, bool may)
{
	struct arena *a = open_arena((struct arena_config){.bytes = 8 * MIB, .huge = asked});
	struct arena_stats stats;

	arena_stats(a, &stats);
	assert_int_equal(stats.backed_bytes, 0);
	if (!may)
		assert_int_equal(stats.host_page_size, PAGE_SIZE);
	assert_int_equal(arena_back(a, pfn_of(a->first), 1024), 0);
	memset(arena_direct(a, pfn_of(a->first)), 1, 4 * MIB);
	assert_int_equal(host_bytes(a), 4 * MIB);
	bool is_huge = arena_file_is_huge((uintptr_t)a->direct);
	print_message("pages of %zu KiB\n", stats.host_page_size >> 10);
	arena_close(a);
	return is_huge == (stats.host_page_size == PMD_SIZE);
}

// What the host gives is reported, not what was asked for. Where its memory is in pieces it may give a
// huge page now, and none a moment later; not each time.
static void huge(void **state maybe_unused)
{
	struct probe_result probe;

	probe_host(&probe);
	for (int asked = 0; asked < 2; asked++) {
		bool may = shmem_is_huge_unasked(probe.shmem_huge) ||
			   (asked && !strcmp(probe.shmem_huge, "advise"));
		unsigned tries = may ? 20 : 1;

		print_message("shmem_enabled %s%s: ", probe.shmem_huge, asked ? ", asked" : "");
		while (!page_size_is_true(asked, may))
			assert_true(--tries > 0);
	}
}

static void backing_is_described(void **state maybe_unused)
{
	static const struct {
		struct arena arena;
		const char *text;
	} row[] = {
		{{.kind = ARENA_FILE, .page_shift = PAGE_SHIFT}, "a file"},
		{{.page_shift = PMD_SHIFT, .huge_asked = true, .shmem_huge = "advise"},
			"2048 kB pages of shared memory (THP: shmem_enabled is advise)"},
		{{.page_shift = PMD_SHIFT, .shmem_huge = "always"},
			"2048 kB pages of shared memory (THP: shmem_enabled is always)"},
		{{.page_shift = PAGE_SHIFT, .shmem_huge = "within_size"},
			"4 kB pages of shared memory (shmem_enabled is within_size, but the host "
			"gave none of 2048 kB)"},
		{{.page_shift = PAGE_SHIFT, .huge_asked = true, .shmem_huge = "advise"},
			"4 kB pages of shared memory (shmem_enabled is advise, but the host gave "
			"none of 2048 kB)"},
		{{.page_shift = PAGE_SHIFT, .shmem_huge = "advise"},
			"4 kB pages of shared memory (shmem_enabled is advise, and "
			"GW_MACHINE_HUGE did not ask)"},
		{{.page_shift = PAGE_SHIFT, .huge_asked = true, .shmem_huge = "never"},
			"4 kB pages of shared memory (shmem_enabled is never; with advise and "
			"GW_MACHINE_HUGE 2048 kB)"},
		{{.page_shift = PAGE_SHIFT, .shmem_huge = ""},
			"4 kB pages of shared memory (this kernel has no larger ones)"},
	};

	for (size_t i = 0; i < ARRAY_SIZE(row); i++) {
		struct text_buf buf = {0};
		char *text;

		arena_describe_backing(&row[i].arena, &buf);
		assert_int_equal(text_take(&buf, &text), 0);
		assert_string_equal(text, row[i].text);
		free(text);
	}
}

// The host maps pages of hugetlbfs whole or not at all; worse, it takes a mapping of the first 4 KiB of
// one for a mapping of all of it. Neither pages nor privileges are needed to be refused.
static void hugetlbfs_is_refused(void **state maybe_unused)
{
	int fd = memfd_create("hugetlb", MFD_HUGETLB | MFD_HUGE_2MB), saved = errno;
	struct arena *a = NULL;
	char path[64];
	struct stat st;

	if (fd < 0) {
		print_message("no hugetlbfs here: %s\n", strerror(saved));
		skip();
	}
	snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
	assert_int_equal(arena_open(&(struct arena_config){.bytes = 4 * MIB, .kind = ARENA_FILE,
				   .path = path, .host_node = -1}, &a),
		-EOPNOTSUPP);
	assert_null(a);
	assert_int_equal(fstat(fd, &st), 0);
	assert_int_equal(st.st_size, 0); // as it was
	close(fd);
}

// The kernel's own answer to where a page is.
static int node_of(void *page)
{
	int node = -ENODEV;

	return syscall(SYS_move_pages, 0, 1ul, &page, NULL, &node, 0) ? -errno : node;
}

static void host_node(void **state maybe_unused)
{
	for (int node = 0; node < 2; node++) {
		struct arena_config c = {.bytes = 4 * MIB, .host_node = node};
		struct arena *a = NULL;
		int err = arena_open(&c, &a);

		if (err) {
			print_message("node %d of the host: %s\n", node, strerror(-err));
			assert_null(a);
			if (!node)
				skip();
			continue;
		}
		assert_int_equal(arena_back(a, pfn_of(a->first), 1024), 0);
		for (unsigned i = 0; i < 1024; i += 100)
			assert_int_equal(node_of(arena_direct(a, pfn_of(a->first + i))), node);
		arena_close(a);
	}
}

// A limit on file sizes is an error, not a SIGXFSZ.
static void file_size_limit(void **state maybe_unused)
{
	int status;
	pid_t pid = fork();

	if (pid == 0) {
		struct rlimit limit = {MIB, MIB};
		struct arena_config c = {.bytes = 2 * MIB, .host_node = -1};
		struct arena *a;

		setrlimit(RLIMIT_FSIZE, &limit);
		_exit(arena_open(&c, &a) == -EFBIG ? 0 : 1);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(number_space),
		cmocka_unit_test(backing),
		cmocka_unit_test(backed_between_signals),
		cmocka_unit_test(no_memory),
		cmocka_unit_test(opening_fails_cleanly),
		cmocka_unit_test(invalid),
		cmocka_unit_test(file),
		cmocka_unit_test(huge),
		cmocka_unit_test(backing_is_described),
		cmocka_unit_test(hugetlbfs_is_refused),
		cmocka_unit_test(host_node),
		cmocka_unit_test(file_size_limit),
	};

	return cmocka_run_group_tests_name("arena", tests, NULL, NULL);
}
