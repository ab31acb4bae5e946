// SPDX-License-Identifier: MIT
// The file behind an arena: a memfd, a memfd of the hugetlb pool (2 MiB pages), or a file of the
// user's choice, which may be on a disk or on a DAX device and then outlives the process.
//
// What can fail: -ENOSPC when the hugetlb pool has fewer free pages than the arena (its pages are
// reserved at once, so that a later SIGBUS is impossible); -EFBIG beyond RLIMIT_FSIZE, which would
// otherwise be a SIGXFSZ; for a path, whatever open() says.
#include "machine/arena_files.h"

#include "machine/host_calls.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <linux/memfd.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

static int grow(int fd, size_t bytes)
{
	struct rlimit limit;
	struct stat st;

	if (fstat(fd, &st))
		return -errno;
	if (S_ISCHR(st.st_mode) || (size_t)st.st_size >= bytes)
		return 0;
	if (!getrlimit(RLIMIT_FSIZE, &limit) && limit.rlim_cur < bytes)
		return -EFBIG;
	return ftruncate(fd, (off_t)bytes) ? -errno : 0;
}

static int open_file(const struct arena_config *c, int *ret_fd)
{
	unsigned flags = c->kind == ARENA_HUGETLB ? MFD_HUGETLB | MFD_HUGE_2MB : 0;

	if (c->kind != ARENA_FILE)
		return host_memfd("godwit-node", flags, ret_fd);
	*ret_fd = open(c->path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	return *ret_fd < 0 ? -errno : 0;
}

int arena_file_open(const struct arena_config *c, size_t bytes, int *ret_fd, bool *ret_uffd_able)
{
	int saved = errno;
	struct statfs fs;
	int fd = -1, err = open_file(c, &fd);

	if (!err)
		err = grow(fd, bytes);
	if (!err && fstatfs(fd, &fs))
		err = -errno;
	if (!err && c->kind == ARENA_HUGETLB)
		err = host_fallocate(fd, 0, 0, bytes);
	if (!err) {
		*ret_fd = fd;
		*ret_uffd_able = fs.f_type == TMPFS_MAGIC || fs.f_type == HUGETLBFS_MAGIC;
	} else if (fd >= 0) {
		close(fd);
	}
	errno = saved;
	return err;
}

bool arena_file_is_huge(uintptr_t start)
{
	FILE *f = fopen("/proc/self/smaps", "re");
	char line[256];
	bool here = false;
	unsigned long from, to, kb;

	while (f && fgets(line, sizeof(line), f)) {
		if (sscanf(line, "%lx-%lx ", &from, &to) == 2)
			here = from == start;
		else if (here &&
			 (sscanf(line, "ShmemPmdMapped: %lu", &kb) == 1 ||
				 sscanf(line, "FilePmdMapped: %lu", &kb) == 1) &&
			 kb) {
			fclose(f);
			return true;
		}
	}
	if (f)
		fclose(f);
	return false;
}
