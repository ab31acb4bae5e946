// SPDX-License-Identifier: MIT
#include "machine/mmu.h"
#include "machine/probe.h"
#include "machine/probe_facts.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

static enum mmu_fault_result on_fault(
	void *owner maybe_unused, const struct mmu_fault *fault maybe_unused)
{
	return MMU_FAULT_SEGV;
}

static void show(const struct probe_result *r)
{
	print_message("%s: %s/%s, %ssyscall-safe: %s\n", r->kernel, r->backend, r->blocker,
		r->syscall_safe ? "" : "not ", r->why);
	print_message("  unsafe: %s\n", r->unsafe);
	for (unsigned i = 0; i < r->nr_advice; i++)
		print_message("  advice: %s\n", r->advice[i]);
}

// The probe promises what mmu_open() gives.
static int promise_is_kept(void)
{
	struct mmu_config c = {0};
	struct probe_result r;
	struct mmu *mmu;
	int ok;

	probe_host(&r);
	show(&r);
	if (mmu_open(&c, on_fault, &mmu))
		return 0;
	ok = !strcmp(r.backend, mmu->ops->name) && !strcmp(r.blocker, mmu->ops->blocker) &&
	     r.syscall_safe == !!(mmu->caps & MMU_SYSCALL_SAFE) && r.why[0] &&
	     (r.syscall_safe || r.nr_advice > 0) &&
	     (!strcmp(r.backend, "soft") || strstr(r.unsafe, "stacks of threads that end"));
	mmu->ops->close(mmu);
	return ok;
}

static void here(void **state maybe_unused)
{
	assert_true(promise_is_kept());
}

static int in_child(void (*change)(void))
{
	int status;
	pid_t pid = fork();

	if (pid == 0) {
		change();
		_exit(promise_is_kept() ? 0 : 1);
	}
	if (waitpid(pid, &status, 0) != pid)
		return -1;
	return status;
}

static void drop_privileges(void)
{
	if (geteuid() == 0 && (setgid(65534) || setuid(65534)))
		_exit(0);
}

static void small_files(void)
{
	struct rlimit limit = {1ul << 30, 1ul << 30};

	setrlimit(RLIMIT_FSIZE, &limit);
}

static void as_nobody(void **state maybe_unused)
{
	assert_int_equal(in_child(drop_privileges), 0);
}

static void with_small_files(void **state maybe_unused)
{
	assert_int_equal(in_child(small_files), 0);
}

static void choices(void **state maybe_unused)
{
	char word[16];

	probe_choice("always [madvise] never", word, sizeof(word));
	assert_string_equal(word, "madvise");
	probe_choice("never", word, sizeof(word));
	assert_string_equal(word, "never");
	probe_choice("a [b", word, sizeof(word));
	assert_string_equal(word, "a [b");
	for (enum uffd_way way = 0; way < UFFD_WAYS; way++)
		assert_true(strlen(uffd_way_name(way)) > 5);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(here),
		cmocka_unit_test(as_nobody),
		cmocka_unit_test(with_small_files),
		cmocka_unit_test(choices),
	};

	return cmocka_run_group_tests_name("probe", tests, NULL, NULL);
}
