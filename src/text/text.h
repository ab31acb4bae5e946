// SPDX-License-Identifier: MIT
// What can be read and written of a machine by path, and what stories ask about parts of a space.
#ifndef GODWIT_TEXT_TEXT_H
#define GODWIT_TEXT_TEXT_H

#include "base/compiler.h"

struct gw_machine;
struct task;

// The file at a path (no leading slash). The text is for free(). -ENOENT: no such file. -EACCES:
// write-only, read-only. -ENOMEM. Others are the file's own.
must_check int text_read(struct gw_machine *machine, const char *path, char **ret_text);
// A newline at the end of the value is not part of it.
must_check int text_write(struct gw_machine *machine, const char *path, const char *value);
// A file that begins with a number. -EINVAL when it does not.
must_check int text_read_number(struct gw_machine *machine, const char *path,
	unsigned long *ret_value);

// ---- Parts of a space. The task may have exited: nothing is mapped then.

enum range_text { RANGE_NUMA_MAPS, RANGE_SMAPS };
// The lines of proc/PID/numa_maps, or the blocks of smaps, of the mappings that begin in
// [addr, addr + length). The text is for free(). -ENOMEM.
must_check int range_text(struct task *task, enum range_text what, uint64_t addr, uint64_t length,
	char **ret_text);
// The node of each page from addr on, as move_pages(2) would answer: -EFAULT where nothing is
// mapped or the zero page is, -ENOENT where there is no page or it is moving. Touches nothing,
// allocates nothing.
void range_nodes(struct task *task, uint64_t addr, uint64_t nr_pages, int32_t *ret_nodes);
// Huge mappings (2 MiB entries of the page table) that begin in [addr, addr + length).
uint64_t range_huge(struct task *task, uint64_t addr, uint64_t length);

#endif
