// SPDX-License-Identifier: MIT
// The host's memory calls.
//
// They go to the kernel directly. The wrappers of libc are intercepted by ThreadSanitizer, which
// takes an mmap() over a range for a write to all of it and reports a race with every accessor:
// but a remap under running threads is what this library is for.
//
// Interface: each call returns 0 or a negative errno and leaves errno as it was; those that cannot
// fail in a way that matters return nothing. Each is one FI_SYSCALL injection point, except
// those that callers may not see fail (waking, unmapping, populating).
//
// What can fail: whatever needs a new host mapping (-ENOMEM at vm.max_map_count) or memory.
#include "machine/host_calls.h"

#include "base/fault_inject.h"
#include "base/nodemask.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/mempolicy.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef MAP_FIXED_NOREPLACE
#define MAP_FIXED_NOREPLACE 0x100000
#endif

static long raw(long value)
{
	return value;
}

// One injection point, and errno turned into the result. A macro, so that a call that is to fail
// is not made.
#define HOST_CALL(err, call)                                                                       \
	__extension__({                                                                            \
		int saved_errno = errno;                                                           \
		long host_result = fault_syscall(err, -1L, raw((long)(call)));                     \
		if (host_result == -1)                                                             \
			host_result = -errno;                                                      \
		errno = saved_errno;                                                               \
		host_result;                                                                       \
	})

static int status(long result)
{
	return result < 0 && result > -4096 ? (int)result : 0;
}

int host_map_file(uintptr_t at, size_t size, int prot, int fd, uint64_t offset)
{
	return status(
		HOST_CALL(ENOMEM, syscall(SYS_mmap, at, size, prot,
					  MAP_SHARED | MAP_FIXED | MAP_NORESERVE, fd, offset)));
}

int host_map_void(uintptr_t at, size_t size, int prot)
{
	return status(HOST_CALL(
		ENOMEM, syscall(SYS_mmap, at, size, prot,
				MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE, -1, 0)));
}

static int reserve_at(size_t size, uintptr_t hint)
{
	long got = HOST_CALL(ENOMEM,
		syscall(SYS_mmap, hint, size, PROT_NONE,
			MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE, -1, 0));

	if (status(got))
		return status(got);
	if ((uintptr_t)got != hint) { // a kernel before 4.17 takes the flag for a mere hint
		host_unmap((uintptr_t)got, size);
		return -EEXIST;
	}
	return 0;
}

int host_reserve(size_t size, size_t align, void *hint, uintptr_t *ret_start)
{
	size_t room = size + (align > PAGE_SIZE ? align : 0);
	uintptr_t start;
	long got;

	if (hint) {
		int err = reserve_at(size, (uintptr_t)hint);

		if (!err)
			*ret_start = (uintptr_t)hint;
		return err;
	}
	if (room < size)
		return -ENOMEM;
	got = HOST_CALL(ENOMEM, syscall(SYS_mmap, 0, room, PROT_NONE,
					MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0));
	if (status(got))
		return status(got);
	start = align > PAGE_SIZE ? ALIGN_UP((uintptr_t)got, align) : (uintptr_t)got;
	if (start > (uintptr_t)got)
		host_unmap((uintptr_t)got, start - (uintptr_t)got);
	if (start + size < (uintptr_t)got + room)
		host_unmap(start + size, (uintptr_t)got + room - start - size);
	*ret_start = start;
	return 0;
}

void host_unmap(uintptr_t at, size_t size)
{
	int saved = errno;

	(void)syscall(SYS_munmap, at, size);
	errno = saved;
}

int host_protect(uintptr_t at, size_t size, int prot)
{
	return status(HOST_CALL(ENOMEM, syscall(SYS_mprotect, at, size, prot)));
}

int host_advise(uintptr_t at, size_t size, int advice)
{
	return status(HOST_CALL(ENOMEM, syscall(SYS_madvise, at, size, advice)));
}

int host_move_tables(uintptr_t from, uintptr_t to, size_t size)
{
	return status(
		HOST_CALL(ENOMEM, syscall(SYS_mremap, from, size, size,
					  MREMAP_MAYMOVE | MREMAP_FIXED | MREMAP_DONTUNMAP, to)));
}

int host_move_mapping(uintptr_t from, uintptr_t to, size_t size)
{
	return status(HOST_CALL(ENOMEM, syscall(SYS_mremap, from, size, size,
						MREMAP_MAYMOVE | MREMAP_FIXED, to)));
}

void host_populate(uintptr_t at, size_t size)
{
	int saved = errno;

	(void)syscall(SYS_madvise, at, size, MADV_POPULATE_READ);
	errno = saved;
}

#define FAULT_AROUND (64ul << 10)

void host_populate_around(uintptr_t at, size_t size)
{
	for (uintptr_t end = at + size; at < end; at = ALIGN_DOWN(at, FAULT_AROUND) + FAULT_AROUND)
		host_populate(at, PAGE_SIZE);
}

void host_zap(uintptr_t at, size_t size)
{
	int saved = errno;

	while (syscall(SYS_madvise, at, size, MADV_DONTNEED_LOCKED) && errno == EAGAIN)
		sched_yield();
	errno = saved;
}

bool host_has_hole(uintptr_t at, size_t size)
{
	unsigned char resident[PTRS_PER_TABLE];
	int saved = errno;
	bool hole = false;

	for (size_t done = 0; done < size && !hole; done += PMD_SIZE) {
		size_t part = size - done < PMD_SIZE ? size - done : PMD_SIZE;

		hole = syscall(SYS_mincore, at + done, part, resident) && errno == ENOMEM;
	}
	errno = saved;
	return hole;
}

int host_bind(uintptr_t at, size_t size, int node)
{
	unsigned long mask[MAX_NODES / 64 + 1] = {0};

	if (node < 0 || node >= MAX_NODES)
		return -EINVAL;
	mask[node / 64] = 1ul << (node % 64);
	return status(
		HOST_CALL(EINVAL, syscall(SYS_mbind, at, size, MPOL_BIND, mask, MAX_NODES + 1, 0)));
}

int host_memfd(const char *name, unsigned flags, int *ret_fd)
{
	long fd = HOST_CALL(
		EMFILE, syscall(SYS_memfd_create, name, flags | MFD_CLOEXEC | MFD_NOEXEC_SEAL));

	if (fd == -EINVAL) // a kernel before 6.3
		fd = HOST_CALL(EMFILE, syscall(SYS_memfd_create, name, flags | MFD_CLOEXEC));
	if (fd < 0)
		return (int)fd;
	*ret_fd = (int)fd;
	return 0;
}

static long fallocate_once(int fd, int mode, uint64_t offset, uint64_t size)
{
	return HOST_CALL(ENOSPC, syscall(SYS_fallocate, fd, mode, offset, size));
}

// Any signal ends it, and all it did is undone: a timer that is faster than it would let it go on
// for ever. So the second try is one without signals.
int host_fallocate(int fd, int mode, uint64_t offset, uint64_t size)
{
	long err = fallocate_once(fd, mode, offset, size);
	sigset_t all, old;

	if (likely(err != -EINTR))
		return status(err);
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	do // a debugger may interrupt it still
		err = fallocate_once(fd, mode, offset, size);
	while (err == -EINTR);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	return status(err);
}

int host_userfaultfd(int flags, int *ret_fd)
{
	long fd = HOST_CALL(EPERM, syscall(SYS_userfaultfd, flags));

	if (fd < 0)
		return (int)fd;
	*ret_fd = (int)fd;
	return 0;
}

int host_uffd_api(int fd, uint64_t features, uint64_t *ret_features)
{
	struct uffdio_api api = {.api = UFFD_API, .features = features};
	int err = status(HOST_CALL(EINVAL, ioctl(fd, UFFDIO_API, &api)));

	if (!err)
		*ret_features = api.features;
	return err;
}

int host_uffd_register(int fd, uintptr_t at, size_t size, uint64_t mode)
{
	struct uffdio_register reg = {.range = {at, size}, .mode = mode};

	return status(HOST_CALL(ENOMEM, ioctl(fd, UFFDIO_REGISTER, &reg)));
}

int host_uffd_unregister(int fd, uintptr_t at, size_t size)
{
	struct uffdio_range range = {at, size};

	return status(HOST_CALL(ENOMEM, ioctl(fd, UFFDIO_UNREGISTER, &range)));
}

// -EAGAIN means that some other thread's mremap has not been acknowledged yet: it will be.
int host_uffd_protect(int fd, uintptr_t at, size_t size, bool on)
{
	struct uffdio_writeprotect wp = {
		.range = {at, size},
		.mode = on ? UFFDIO_WRITEPROTECT_MODE_WP : 0,
	};
	int err;

	while ((err = status(HOST_CALL(ENOMEM, ioctl(fd, UFFDIO_WRITEPROTECT, &wp)))) == -EAGAIN)
		sched_yield();
	return err;
}

void host_uffd_wake(int fd, uintptr_t at, size_t size)
{
	struct uffdio_range range = {at, size};
	int saved = errno;

	(void)ioctl(fd, UFFDIO_WAKE, &range);
	errno = saved;
}

pid_t host_tid(void)
{
	return (pid_t)syscall(SYS_gettid);
}

// "running", "-1 STACK PROGRAM" or "NUMBER ARGUMENTS...".
enum host_place host_thread_place(pid_t tid)
{
	char path[64], first = 0;
	int saved = errno, fd;
	ssize_t n = 0;

	(void)snprintf(path, sizeof(path), "/proc/self/task/%d/syscall", tid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd >= 0) {
		n = read(fd, &first, 1);
		close(fd);
	}
	errno = saved;
	if (n == 1 && first == 'r')
		return HOST_RUNNING;
	return n == 1 && first >= '0' && first <= '9' ? HOST_IN_CALL : HOST_IN_FAULT;
}

void host_signal_thread(pid_t tid, int sig, int code, uintptr_t at)
{
	// The kernel lets a thread forge a fault's code only for itself.
	siginfo_t info = {.si_signo = sig, .si_code = tid == host_tid() ? code : SI_QUEUE};
	int saved = errno;

	info.si_addr = (void *)at;
	(void)syscall(SYS_rt_tgsigqueueinfo, getpid(), tid, sig, &info);
	errno = saved;
}
