// SPDX-License-Identifier: MIT
// Memory of a task: mapping, protecting, locking and pinning it. The calls are Linux's mmap(2) and
// its family, with their errors. What fails has changed nothing, but for those calls that do the
// part of a range that lies before its first hole and then say -ENOMEM, as Linux does:
// gw_protect(), gw_lock(), gw_unlock(); and gw_advise(), which passes over holes. Lengths are bytes
// and are rounded up to pages; addresses must be multiples of the page size unless said otherwise
// (-EINVAL).
#ifndef GODWIT_SPACE_H
#define GODWIT_SPACE_H

#include <godwit/machine.h>

#ifdef __cplusplus
extern "C" {
#endif

// Shared memory with a name, or a file's pages: what several tasks may map.
struct gw_object;

// An object in memory, `bytes` long (at most 4 PiB), all zeros. The caller owns one reference. The
// name is copied and only shown. -EINVAL: 0 bytes, or too many; -ENOMEM.
GW_EXPORT int gw_object_create(struct gw_machine *machine, const char *name, uint64_t bytes,
	struct gw_object **ret_object) GW_CHECK;
// The same of huge pages, 1 << huge_shift bytes each (21 or 30; 0: 21); the size is rounded up. It
// takes pages of the machine's pools, promised when it is mapped. -EINVAL: no such size of pages; 0
// bytes, or too many; -ENOMEM.
GW_EXPORT int gw_object_create_huge(struct gw_machine *machine, const char *name, uint64_t bytes,
	unsigned huge_shift, struct gw_object **ret_object) GW_CHECK;
// The pages of a regular file (fd is duplicated): read on first touch, written back by gw_sync()
// and when the object goes. -EINVAL: not a regular file; -EACCES: opened for writing only; -EBADF:
// not open, or with O_PATH; -EMFILE; -ENOMEM.
GW_EXPORT int gw_object_open(struct gw_machine *machine, int fd, struct gw_object **ret_object)
	GW_CHECK;
// Grow it. -EINVAL: smaller than it is, or too large; -EACCES: the file is open for reading only;
// -EIO: the file could not be grown.
GW_EXPORT int gw_object_resize(struct gw_object *object, uint64_t bytes) GW_CHECK;
// The caller's reference goes; mappings keep theirs.
GW_EXPORT void gw_object_put(struct gw_object *object);

#define GW_PROT_NONE 0u
#define GW_PROT_READ 1u
#define GW_PROT_WRITE 2u
#define GW_PROT_EXEC 4u

#define GW_MAP_SHARED 1u // with an object: writes are seen by all; else private
// Pages of the machine's pools of huge pages (sys/kernel/mm/hugepages/...): -ENOMEM when they
// cannot promise enough. Shared and without object: one that only this mapping has.
#define GW_MAP_HUGETLB 2u
#define GW_MAP_STACK 4u
#define GW_MAP_HEAP 8u

struct gw_mapping {
	size_t size;	// sizeof(struct gw_mapping)
	uint64_t length; // bytes, rounded up to pages
	uint64_t address; // exactly there (-EEXIST when taken); 0: anywhere, number == pointer
	uint64_t align;	  // power of two; 0: 2 MiB from 2 MiB on
	unsigned prot;	  // GW_PROT_*
	unsigned flags;	  // GW_MAP_*
	struct gw_object *object; // NULL: anonymous memory, zeros
	uint64_t offset;	  // in the object, a multiple of the page size
	unsigned huge_shift;	  // with GW_MAP_HUGETLB: 21 (default) or 30
};

// mmap(2). -EINVAL: a field; -EOVERFLOW: an object's offset and length together are no number;
// -EEXIST; -EACCES: to write a file that is open for reading only; -ENOMEM: no memory, no room, no
// host mapping left, or no huge pages to promise.
GW_EXPORT int gw_map(struct gw_task *task, const struct gw_mapping *mapping, uint64_t *ret_address)
	GW_CHECK;
// The common case: private anonymous memory to read and write; the number is the pointer.
// gw_map()'s errors, and -EOPNOTSUPP: the soft backend has no pointers.
GW_EXPORT int gw_alloc(struct gw_task *task, uint64_t length, void **ret_pointer) GW_CHECK;
// munmap(2): holes are no error. -EINVAL; -ENOMEM: no memory to split a mapping.
GW_EXPORT int gw_unmap(struct gw_task *task, uint64_t address, uint64_t length) GW_CHECK;
// mprotect(2). -EINVAL; -ENOMEM: a hole, or no memory to split; -EACCES: to write a shared file
// that is open for reading only.
GW_EXPORT int gw_protect(struct gw_task *task, uint64_t address, uint64_t length, unsigned prot)
	GW_CHECK;
// mremap(2), which may move: anywhere, or exactly to new_address when that is not 0. A mapping that
// shrinks stays, one that grows does if there is room behind it, and one of unchanged length moves
// (mremap(2) would do nothing then). -EINVAL: a length of 0, overlapping places, part of a huge
// page; -EFAULT: the old range is not in one mapping (one that shrinks where it is need not be);
// -EEXIST: something is at new_address; -ENOMEM.
GW_EXPORT int gw_remap(struct gw_task *task, uint64_t address, uint64_t length, uint64_t new_length,
	uint64_t new_address, uint64_t *ret_address) GW_CHECK;
// madvise(2); advice as in <sys/mman.h>. -EINVAL: an unknown word, one that this build does not
// serve, or not for this memory; -ENOMEM: a hole, or no memory; MADV_POPULATE_*: -EFAULT; and
// MADV_COLLAPSE: -EAGAIN somebody else holds a page, -EBUSY too many pages are not there.
GW_EXPORT int gw_advise(
	struct gw_task *task, uint64_t address, uint64_t length, int advice) GW_CHECK;
// mlock(2): pages are faulted in and stay resident (they still move). The address may lie within a
// page. -EINVAL: wraps; -ENOMEM: a hole, or a page that cannot be had; -EAGAIN: no memory for some.
GW_EXPORT int gw_lock(struct gw_task *task, uint64_t address, uint64_t length) GW_CHECK;
GW_EXPORT int gw_unlock(struct gw_task *task, uint64_t address, uint64_t length) GW_CHECK;
// msync(2): dirty pages of shared file mappings reach the file. -EINVAL; -EIO.
GW_EXPORT int gw_sync(struct gw_task *task, uint64_t address, uint64_t length) GW_CHECK;

// The pointer behind an address of the task; NULL when nothing is mapped there, or when the
// backend has no pointers. It stays good until the mapping goes, whatever moves.
GW_EXPORT void *gw_pointer(struct gw_task *task, uint64_t address);

// Copy from or to a task's memory, as the task itself would access it (faults included), on every
// backend; any address and length. Returns bytes copied up to the first that could not be, or that
// one's error: -EFAULT nothing mapped, or not for this access; -EIO the file, beyond its end, or
// poison; -ENOMEM.
GW_EXPORT int64_t gw_read(struct gw_task *task, uint64_t address, void *buffer, uint64_t length)
	GW_CHECK;
GW_EXPORT int64_t gw_write(struct gw_task *task, uint64_t address, const void *buffer,
	uint64_t length) GW_CHECK;

// A long-term pin: the pages are touched (written, where that is allowed) and do not move until
// gw_unpin(). Memory that the host's kernel itself holds on to while the program runs (O_DIRECT,
// io_uring, vmsplice, RDMA; process_vm_writev() for the length of the call) must be pinned: without
// it a move loses the data silently. `holder` is who explanations name; it is copied. Any address
// and length: whole pages are pinned. The caller owns the pin; the machine keeps the pages even
// when they are unmapped. Nothing stays pinned on failure. -EINVAL: a length of 0; -EFAULT: not
// mapped; -EIO; -ENOMEM: no memory, or a page has two million pins already.
struct gw_pin;
GW_EXPORT int gw_pin(struct gw_task *task, uint64_t address, uint64_t length, const char *holder,
	struct gw_pin **ret_pin) GW_CHECK;
GW_EXPORT void gw_unpin(struct gw_pin *pin);

#ifdef __cplusplus
}
#endif
#endif
