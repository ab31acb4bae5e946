// SPDX-License-Identifier: MIT
// Real files as objects: pages are read into frames with pread and written back with pwrite,
// through the engine's own view of the frames (mmu->peek).
//
// The file has the size it had when it was opened, or was grown to (object_resize()). The last page
// may be partial: what lies behind the end reads as zeros and is not written; what programs store
// there is zeroed again when the page is written and when the file grows, so that it never becomes
// part of the file. A file that shrinks meanwhile reads as zeros too.
//
// A write takes consecutive offsets in one call, whatever frames they lie in. On failure (-EIO for
// any error) the pages are dirty again and the error is remembered for the next object_sync(): data
// is not dropped because a disk was full for a moment. Tests make host calls fail with FI_SYSCALL.
// The calls are raw: stores by programs while their page is written are allowed, and a sanitizer
// that watches the libc wrappers would call them races.
// Held: the folio lock for reading and zeroing; for writing until the pages are under writeback.
// Fails: -EIO, opening as in the header.
#include "base/assert.h"
#include "base/fault_inject.h"
#include "base/meta.h"
#include "base/vmstat.h"
#include "machine/mmu.h"
#include "virt/mm.h"
#include "virt/writeback.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

static void *frame_bytes(struct object *object, const struct folio *folio, unsigned long page)
{
	struct mmu *mmu = object->mm->mmu;

	return mmu->ops->peek(mmu, pfn_add(folio_pfn(folio), page));
}

// Bytes of the file in the page at this offset.
static size_t bytes_in_page(const struct object *object, uint64_t pgoff)
{
	uint64_t start = pgoff << PAGE_SHIFT, size = object->size;

	return start >= size ? 0 : min(size - start, (uint64_t)PAGE_SIZE);
}

// Locked; and who is about to be written can be stored to under the lock alone.
static void zero_behind_end(struct object *object, struct folio *folio)
{
	for (unsigned long i = 0; i < folio_nr(folio); i++) {
		size_t used = bytes_in_page(object, folio_index(folio) + i);
		char *bytes = used < PAGE_SIZE ? frame_bytes(object, folio, i) : NULL;
		if (bytes)
			memset(bytes + used, 0, PAGE_SIZE - used);
	}
}

// ---- Reading

static int read_page(struct object *object, void *bytes, uint64_t pgoff)
{
	size_t want = bytes_in_page(object, pgoff), have = 0;
	const int callers_errno = errno;

	while (have < want) {
		ssize_t n = fault_syscall(EIO, -1, syscall(SYS_pread64, object->fd,
			(char *)bytes + have, want - have, (pgoff << PAGE_SHIFT) + have));
		if (n < 0 && errno == EINTR)
			continue;
		errno = callers_errno;
		if (n < 0)
			return -EIO;
		if (!n)
			break;
		have += (size_t)n;
	}
	memset((char *)bytes + have, 0, PAGE_SIZE - have);
	return 0;
}

static int file_read_folio(struct object *object, struct folio *folio)
{
	for (unsigned long i = 0; i < folio_nr(folio); i++) {
		void *bytes = frame_bytes(object, folio, i);
		int err = bytes ? read_page(object, bytes, folio_index(folio) + i) : -EIO;
		if (err)
			return err;
	}
	vm_events(object->mm->stat, VM_PGPGIN, (long)(folio_size(folio) >> 10));
	return 0;
}

// ---- Writing

// All of it, through partial writes; iov is used up.
static int write_all(int fd, struct iovec *iov, unsigned nr, off_t at)
{
	const int callers_errno = errno;

	while (nr) {
		ssize_t n = fault_syscall(EIO, -1, syscall(SYS_pwritev, fd, iov, nr, at, 0));
		if (n < 0 && errno == EINTR)
			continue;
		errno = callers_errno;
		if (n <= 0)
			return -EIO;
		at += n;
		for (; nr && (size_t)n >= iov->iov_len; iov++, nr--)
			n -= (ssize_t)iov->iov_len;
		if (nr) {
			iov->iov_base = (char *)iov->iov_base + n;
			iov->iov_len -= (size_t)n;
		}
	}
	return 0;
}

// The pages of the folios (small ones) at consecutive offsets, cut at the end of the file.
static int write_pages(struct object *object, struct folio **folio, unsigned nr)
{
	struct iovec iov[WRITE_RUN_MAX];
	unsigned used = 0;

	for (unsigned i = 0; i < nr; i++) {
		size_t len = bytes_in_page(object, folio_index(folio[i]));
		void *bytes = frame_bytes(object, folio[i], 0);
		if (!bytes)
			return -EIO;
		if (len)
			iov[used++] = (struct iovec){bytes, len};
	}
	return write_all(object->fd, iov, used, (off_t)(folio_index(folio[0]) << PAGE_SHIFT));
}

// The write of one folio is over.
static void end_write(struct object *object, struct folio *folio, int err)
{
	if (err) {
		atomic_store_explicit(&object->error, err, memory_order_release);
		folio_mark_dirty(folio);
	} else {
		vm_events(object->mm->stat, VM_PGPGOUT, (long)(folio_size(folio) >> 10));
	}
	folio_end_writeback(folio);
}

int file_write_run(struct object *object, struct folio **folio, unsigned nr)
{
	for (unsigned i = 0; i < nr; i++) {
		zero_behind_end(object, folio[i]);
		folio_start_writeback(folio[i]);
		folio_unlock(folio[i]);
	}
	int err = write_pages(object, folio, nr);
	for (unsigned i = 0; i < nr; i++)
		end_write(object, folio[i], err);
	return err;
}

static int file_write_folio(struct object *object, struct folio *folio)
{
	folio_wait_writeback(folio);
	if (!folio_clear_dirty_for_io(folio))
		return 0;
	zero_behind_end(object, folio);
	folio_start_writeback(folio);
	int err = write_pages(object, &folio, 1);
	end_write(object, folio, err);
	return err;
}

// Others may have made the file longer already; it never gets shorter here.
static int lengthen(struct object *object, uint64_t size)
{
	const int callers_errno = errno;
	struct stat st;

	bool unknown = fstat(object->fd, &st);
	errno = callers_errno;
	if (unknown)
		return -EIO;
	if ((uint64_t)st.st_size >= size)
		return 0;
	if (!object->writable_fd)
		return -EACCES;
	int failed = fault_syscall(EIO, -1, ftruncate(object->fd, (off_t)size));
	errno = callers_errno;
	return failed ? -EIO : 0;
}

static int file_grow(struct object *object, uint64_t size)
{
	struct folio *last = NULL;
	int err = lengthen(object, size);

	if (!err && object->size)
		last = object_find_lock(object, (object->size - 1) >> PAGE_SHIFT);
	if (!last)
		return err;
	if (folio_test_uptodate(last))
		zero_behind_end(object, last);
	folio_unlock(last);
	folio_put(last);
	return err;
}

static void file_release(struct object *object)
{
	close(object->fd);
}

static const struct object_ops file_ops = {
	.kind = OBJECT_FILE,
	.migrate_plain = true,
	.read_folio = file_read_folio,
	.write_folio = file_write_folio,
	.grow = file_grow,
	.release = file_release,
};

// ---- Opening

// 0 and what the file is good for.
static int inspect(int fd, uint64_t *ret_size, bool *ret_writable)
{
	struct stat st;
	int flags = fcntl(fd, F_GETFL);

	if (flags < 0 || fstat(fd, &st))
		return -errno;
	if (flags & O_PATH) // it names the file, and cannot read it
		return -EBADF;
	if (!S_ISREG(st.st_mode))
		return -EINVAL;
	if ((flags & O_ACCMODE) == O_WRONLY)
		return -EACCES;
	*ret_size = (uint64_t)st.st_size;
	*ret_writable = (flags & O_ACCMODE) == O_RDWR;
	return 0;
}

static void file_name(int fd, char *buf, size_t size)
{
	char link[32];

	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	ssize_t n = readlink(link, buf, size - 1);
	buf[max(n, (ssize_t)0)] = 0;
}

static int open_copy(struct mm_core *mm, int fd, struct object **ret)
{
	char name[PATH_MAX];
	uint64_t size = 0;
	bool writable = false;
	int err = inspect(fd, &size, &writable);

	if (err)
		return err;
	int copy = fault_syscall(EMFILE, -1, fcntl(fd, F_DUPFD_CLOEXEC, 0));
	if (copy < 0)
		return -errno;
	file_name(fd, name, sizeof(name));
	err = object_create(mm, &file_ops, name, size, ret);
	if (err) {
		close(copy);
		return err;
	}
	(*ret)->fd = copy;
	(*ret)->writable_fd = writable;
	return 0;
}

int object_open_file(struct mm_core *mm, int fd, struct object **ret)
{
	const int callers_errno = errno;
	int err = open_copy(mm, fd, ret);

	errno = callers_errno;
	return err;
}
