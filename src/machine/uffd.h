// SPDX-License-Identifier: MIT
// A userfaultfd as the blocker needs it, and the threads that serve it.
#ifndef GODWIT_MACHINE_UFFD_H
#define GODWIT_MACHINE_UFFD_H

#include "base/compiler.h"

#include <linux/userfaultfd.h>
#include <stdbool.h>

#define UFFD_TRAP                                                                                  \
	(UFFDIO_REGISTER_MODE_MISSING | UFFDIO_REGISTER_MODE_MINOR | UFFDIO_REGISTER_MODE_WP)

// Without these no blocker can be built on it. The newest came with Linux 5.19.
#define UFFD_NEEDED                                                                                \
	(UFFD_FEATURE_PAGEFAULT_FLAG_WP | UFFD_FEATURE_MISSING_SHMEM | UFFD_FEATURE_MINOR_SHMEM |  \
		UFFD_FEATURE_WP_HUGETLBFS_SHMEM | UFFD_FEATURE_EVENT_REMAP)
#define UFFD_WELCOME                                                                               \
	(UFFD_FEATURE_THREAD_ID | UFFD_FEATURE_EXACT_ADDRESS | UFFD_FEATURE_MISSING_HUGETLBFS |    \
		UFFD_FEATURE_MINOR_HUGETLBFS)

// How a userfaultfd was come by, best first.
enum uffd_way {
	UFFD_BY_SYSCALL, // privileged, or vm.unprivileged_userfaultfd=1
	UFFD_BY_DEVICE,	 // /dev/userfaultfd
	UFFD_USER_ONLY,	 // anybody: faults of system calls are not seen (EFAULT)
	UFFD_WAYS
};

// Tries this way only: 0 with a descriptor that has every needed feature, non-blocking; the host's
// error; -EOPNOTSUPP when features are missing.
must_check int uffd_open_way(enum uffd_way way, int *ret_fd, uint64_t *ret_features);
// The first way that works; -EPERM or what the best way said.
must_check int uffd_open(bool user_only, enum uffd_way *ret_way, int *ret_fd);

// Threads that read the descriptor. Each page fault is handed to `fault` in one of them; at least
// one thread always reads, so that `fault` may itself cause events that must be read (mremap of a
// watched range).
struct uffd_pool;
must_check int uffd_pool_start(int fd, unsigned threads,
	void (*fault)(void *arg, const struct uffd_msg *msg), void *arg,
	struct uffd_pool **ret_pool);
// Its place is empty afterwards: for fork() in one step.
void uffd_pool_stop(struct uffd_pool **pool);
// In a child of fork(): the threads do not exist. uffd_pool_stop() follows some time later.
void uffd_pool_forget(struct uffd_pool *pool);

#endif
