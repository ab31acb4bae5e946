// SPDX-License-Identifier: MIT
// What this host can do, for `godwit check` and for error messages.
//
// Facts first (probe_facts.c): each feature is tried, never concluded from a version, and each
// setting is read where the kernel shows it. Then the conclusions here, in words: what AUTO gives,
// why nothing better, what is unsafe with it, what would help. Every sentence names the setting to
// change.
//
// Locks: none. What can fail: nothing; what cannot be found out says so.
#include "machine/probe.h"

#include "machine/probe_facts.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define RECOMMENDED_MAP_COUNT 1048576ul

printf_format(2, 3) static void advise(struct probe_result *r, const char *fmt, ...)
{
	va_list args;

	if (r->nr_advice == PROBE_ADVICE_MAX)
		return;
	va_start(args, fmt);
	vsnprintf(r->advice[r->nr_advice++], PROBE_TEXT_MAX, fmt, args);
	va_end(args);
}

#define say(text, ...) snprintf(text, PROBE_TEXT_MAX, __VA_ARGS__)

const char *uffd_way_name(enum uffd_way way)
{
	static const char *const names[] = {
		[UFFD_BY_SYSCALL] = "userfaultfd(2)",
		[UFFD_BY_DEVICE] = "/dev/userfaultfd",
		[UFFD_USER_ONLY] = "userfaultfd(2), user mode only",
	};

	return way < UFFD_WAYS ? names[way] : "?";
}

// What stands in the way of a userfaultfd that sees system calls.
static void explain_uffd(struct probe_result *r)
{
	int err = r->uffd[UFFD_BY_SYSCALL].error;

	if (err == -EOPNOTSUPP) {
		say(r->why, "the kernel's userfaultfd lacks write protection of shared memory");
		advise(r, "run Linux 5.19 or later (this is %s) to get userfaultfd blocking",
			r->kernel);
	} else if (err == -ENOSYS && !r->seccomp) {
		say(r->why, "the kernel was built without userfaultfd");
		advise(r, "use a kernel built with CONFIG_USERFAULTFD");
	} else if (r->seccomp && r->uffd[UFFD_USER_ONLY].error) {
		say(r->why, "a seccomp filter refuses userfaultfd (%s)", strerror(-err));
		advise(r, "allow userfaultfd in the container's seccomp profile, or give it "
			  "/dev/userfaultfd");
	} else {
		say(r->why, "a full userfaultfd is refused (%s)", strerror(-err));
		advise(r,
			"sysctl vm.unprivileged_userfaultfd=1, or give this user /dev/userfaultfd "
			"(chmod or setfacl), or CAP_SYS_PTRACE");
	}
}

static bool files_too_small(const struct probe_result *r)
{
	return r->rlimit_fsize < 1ull << 47; // the file of absent pages: machine/block_uffd.c
}

static void conclude_blocker(struct probe_result *r)
{
	for (enum uffd_way way = UFFD_BY_SYSCALL; way <= UFFD_BY_DEVICE; way++)
		if (!r->uffd[way].error && !files_too_small(r)) {
			r->backend = "rewire";
			r->blocker = "userfaultfd";
			r->syscall_safe = true;
			say(r->why, "%s works and has all features", uffd_way_name(way));
			say(r->unsafe,
				"unless it is pinned with the library: memory that the kernel "
				"holds (O_DIRECT, io_uring, vmsplice, process_vm_writev, "
				"RDMA); futexes shared between "
				"processes; what the kernel does not wait for: futexes with "
				"priority inheritance, FUTEX_WAKE_OP, /proc/PID/mem, stacks of "
				"threads that end");
			return;
		}
	if (files_too_small(r))
		say(r->why, "a limit on file sizes (RLIMIT_FSIZE) rules out userfaultfd blocking");
	else
		explain_uffd(r);
	r->backend = r->memfd ? "soft" : "rewire";
	r->blocker = r->memfd ? "none" : "signal";
	say(r->unsafe, "%s",
		r->memfd ? ""
			 : "a system call on an untouched, protected or moving page fails with "
			   "EFAULT "
			   "(touch or pin first); unless it is pinned with the library: "
			   "memory that the kernel holds (O_DIRECT, io_uring, vmsplice, "
			   "process_vm_writev, RDMA); futexes "
			   "shared between processes; stacks of threads that end");
	if (r->memfd)
		say(r->why, "memfd_create is refused (%s)", strerror(-r->memfd));
}

static void advise_speed(struct probe_result *r)
{
	if (r->move_tables)
		advise(r,
			"Linux 5.13 or later moves pages up to twice as fast (%s: no "
			"mremap(MREMAP_DONTUNMAP) of shared memory)",
			r->kernel);
	if (!strcmp(r->shmem_huge, "never") || !strcmp(r->shmem_huge, "deny"))
		advise(r,
			"echo advise > %s lets machines made with GW_MACHINE_HUGE have 2 MiB pages "
			"behind their nodes: huge pages move some 15%% faster",
			r->shmem_huge_file);
	if (r->max_map_count < RECOMMENDED_MAP_COUNT)
		advise(r,
			"sysctl vm.max_map_count=%lu: at %zu, pages that lie scattered over nodes "
			"are limited to about %zu MiB",
			RECOMMENDED_MAP_COUNT, r->max_map_count, r->max_map_count / 256);
}

static void advise_limits(struct probe_result *r)
{
	if (files_too_small(r))
		advise(r,
			"ulimit -f unlimited: nodes are files in memory, and the limit is %llu "
			"bytes",
			(unsigned long long)r->rlimit_fsize);
	if (r->rlimit_as != UINT64_MAX)
		advise(r,
			"ulimit -v unlimited: a node takes up to four times its size in addresses");
	if (r->rlimit_nofile < 256)
		advise(r, "ulimit -n 1024: each node and machine takes some descriptors (now %llu)",
			(unsigned long long)r->rlimit_nofile);
}

void probe_host(struct probe_result *r)
{
	memset(r, 0, sizeof(*r));
	probe_facts(r);
	conclude_blocker(r);
	advise_limits(r);
	advise_speed(r);
}
