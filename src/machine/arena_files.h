// SPDX-License-Identifier: MIT
// The file behind an arena.
#ifndef GODWIT_MACHINE_ARENA_FILES_H
#define GODWIT_MACHINE_ARENA_FILES_H

#include "machine/arena.h"

// Of `bytes` at least, locked. ret_uffd_able: whether userfaultfd may watch mappings of it. -EBUSY:
// another arena has it.
must_check int arena_file_open(
	const struct arena_config *config, size_t bytes, int *ret_fd, bool *ret_uffd_able);
// Of pages of the host's pool of 2 MiB, as long; none of them is taken. -ENOSYS, -EINVAL: a kernel
// without.
must_check int arena_file_open_hugetlb(size_t bytes, int *ret_fd);
void arena_file_close(int fd);
// Whether the mapping that begins at this address has huge entries.
bool arena_file_is_huge(uintptr_t start);

#endif
