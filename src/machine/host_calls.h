// SPDX-License-Identifier: MIT
// The host's memory calls, raw: 0 (or a value) or a negative errno, one fault injection point each.
#ifndef GODWIT_MACHINE_HOST_CALLS_H
#define GODWIT_MACHINE_HOST_CALLS_H

#include "base/compiler.h"
#include "base/types.h"

#include <linux/userfaultfd.h>
#include <sys/mman.h>
#include <sys/types.h>

// Newer than the headers of Debian 12.
#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ 22
#define MADV_POPULATE_WRITE 23
#endif
#ifndef MADV_DONTNEED_LOCKED
#define MADV_DONTNEED_LOCKED 24
#endif
#ifndef MREMAP_DONTUNMAP
#define MREMAP_DONTUNMAP 4
#endif
#ifndef MFD_HUGE_SHIFT
#define MFD_HUGE_SHIFT 26
#endif
#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 8U
#endif

#define HOST_RW (PROT_READ | PROT_WRITE)

// MAP_FIXED over [at, at + size): a file's bytes, shared.
must_check int host_map_file(uintptr_t at, size_t size, int prot, int fd, uint64_t offset);
// MAP_FIXED: private, anonymous, not reserved.
must_check int host_map_void(uintptr_t at, size_t size, int prot);
// A stretch of address space without access: at `hint` exactly (-EEXIST when taken), or anywhere,
// aligned.
must_check int host_reserve(size_t size, size_t align, void *hint, uintptr_t *ret_start);
void host_unmap(uintptr_t at, size_t size);
must_check int host_protect(uintptr_t at, size_t size, int prot);
must_check int host_advise(uintptr_t at, size_t size, int advice);
// What `from` maps, with its page tables, appears at `to` (replacing what is there); `from` keeps
// its mapping with empty page tables.
must_check int host_move_tables(uintptr_t from, uintptr_t to, size_t size);
// The same, and nothing is left at `from`: what hugetlbfs can do.
must_check int host_move_mapping(uintptr_t from, uintptr_t to, size_t size);
// Installs the host's page tables; failing does no harm, the host does it at the first access.
void host_populate(uintptr_t at, size_t size);
// The same for many pages of 4 KiB that are in the file: one of each 64 KiB is asked for, and the
// host, which maps what lies around a fault, does the rest for half the price. Where it is set to
// map less at a fault (fault_around_bytes), the rest comes at the first access.
void host_populate_around(uintptr_t at, size_t size);
// Drops the host's page tables, of memory that the program has locked too (Linux 5.18: older than
// what userfaultfd needs here); the mapping stays.
void host_zap(uintptr_t at, size_t size);
// Whether part of the range is not mapped at all.
bool host_has_hole(uintptr_t at, size_t size);

// Pages of the file behind the mapping come from this node of the host.
must_check int host_bind(uintptr_t at, size_t size, int node);

must_check int host_memfd(const char *name, unsigned flags, int *ret_fd);
must_check int host_fallocate(int fd, int mode, uint64_t offset, uint64_t size);

// Userfaultfd. register_range adds to the modes that a range has; the others are the ioctls.
must_check int host_userfaultfd(int flags, int *ret_fd);
must_check int host_uffd_api(int fd, uint64_t features, uint64_t *ret_features);
must_check int host_uffd_register(int fd, uintptr_t at, size_t size, uint64_t mode);
must_check int host_uffd_unregister(int fd, uintptr_t at, size_t size);
must_check int host_uffd_protect(int fd, uintptr_t at, size_t size, bool on);
void host_uffd_wake(int fd, uintptr_t at, size_t size);

pid_t host_tid(void);
// Where another thread of the process is at this moment.
enum host_place {
	HOST_RUNNING,  // or about to
	HOST_IN_FAULT, // asleep in an access of its own; or not to be found out
	HOST_IN_CALL,  // asleep in a system call
};
enum host_place host_thread_place(pid_t tid);
// As the kernel would raise it for a fault at the address.
void host_signal_thread(pid_t tid, int sig, int code, uintptr_t at);

#endif
