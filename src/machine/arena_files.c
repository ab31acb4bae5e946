// SPDX-License-Identifier: MIT
// The file behind an arena: a memfd, or a file of the user's choice, which may be on a disk or on a
// DAX device and then outlives the process.
//
// A file of hugetlbfs is refused before it is grown: the host maps its pages whole or not at all,
// and a mapping of the first 4 KiB of one quietly covers the rest, too (docs/decisions/0007).
//
// Two arenas on one file would hand out the same bytes twice. So each holds flock() on its file: it
// goes by the inode, whatever the name, and holds between arenas and between processes. A child of
// fork() shares it and closes its descriptor (machine/fork_guard.c): closing neither releases what
// the parent holds, nor keeps it after the parent. The end of the process releases it, too.
//
// What can fail: -EOPNOTSUPP on hugetlbfs; -EBUSY for a file that somebody has locked; -EFBIG
// beyond RLIMIT_FSIZE, which would otherwise be a SIGXFSZ; for a path, whatever open() and flock()
// say.
#include "machine/arena_files.h"

#include "machine/host_calls.h"
#include "machine/probe_facts.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
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
	if (c->kind != ARENA_FILE)
		return host_memfd("godwit-node", 0, ret_fd);
	*ret_fd = open(c->path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	return *ret_fd < 0 ? -errno : 0;
}

// Before it is grown: what belongs to another is left as it is.
static int lock_file(const struct arena_config *c, int fd)
{
	if (c->kind != ARENA_FILE || !flock(fd, LOCK_EX | LOCK_NB))
		return 0;
	return errno == EWOULDBLOCK ? -EBUSY : -errno;
}

int arena_file_open(const struct arena_config *c, size_t bytes, int *ret_fd, bool *ret_uffd_able)
{
	int saved = errno;
	struct statfs fs;
	int fd = -1, err = open_file(c, &fd);

	if (!err && fstatfs(fd, &fs))
		err = -errno;
	if (!err && fs.f_type == HUGETLBFS_MAGIC)
		err = -EOPNOTSUPP;
	if (!err)
		err = lock_file(c, fd);
	if (!err)
		err = grow(fd, bytes);
	if (!err) {
		*ret_fd = fd;
		*ret_uffd_able = fs.f_type == TMPFS_MAGIC;
	} else if (fd >= 0) {
		arena_file_close(fd);
	}
	errno = saved;
	return err;
}

int arena_file_open_hugetlb(size_t bytes, int *ret_fd)
{
	int saved = errno, fd;
	int err = host_memfd("godwit-node-hugetlb",
		MFD_HUGETLB | (unsigned)PMD_SHIFT << MFD_HUGE_SHIFT, &fd);

	if (err)
		return err;
	err = grow(fd, ALIGN_UP(bytes, PMD_SIZE));
	if (err)
		close(fd);
	else
		*ret_fd = fd;
	errno = saved;
	return err;
}

// Unlocked first: a child made by raw clone() or vfork() may still have the descriptor.
void arena_file_close(int fd)
{
	int saved = errno;

	(void)flock(fd, LOCK_UN);
	close(fd);
	errno = saved;
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

void arena_describe_backing(const struct arena *a, struct text_buf *text)
{
	const char *setting = a->shmem_huge;

	if (a->kind == ARENA_FILE)
		text_printf(text, "a file");
	else if (a->page_shift == PMD_SHIFT)
		text_printf(text, "2048 kB pages of shared memory (THP: shmem_enabled is %s)",
			setting);
	else if (!setting[0])
		text_printf(text, "4 kB pages of shared memory (this kernel has no larger ones)");
	else if (shmem_is_huge_unasked(setting) || (!strcmp(setting, "advise") && a->huge_asked))
		text_printf(text,
			"4 kB pages of shared memory (shmem_enabled is %s, but the host gave "
			"none of 2048 kB)",
			setting);
	else if (!strcmp(setting, "advise"))
		text_printf(text, "4 kB pages of shared memory (shmem_enabled is advise, and "
				  "GW_MACHINE_HUGE did not ask)");
	else
		text_printf(text,
			"4 kB pages of shared memory (shmem_enabled is %s; with advise and "
			"GW_MACHINE_HUGE 2048 kB)",
			setting);
}
