// SPDX-License-Identifier: MIT
// The running kernel, as far as it is files and system calls, behind one seam.
//
// Paths are Linux's without the leading slash ("proc/vmstat"). They are looked up below a root
// folder, which is "" for the running machine; a test gives a folder that holds the recorded files
// of another one. What a process does to itself (mmap, mbind, accesses) is not here: the tasks of
// a story do that on their own, and only with the running kernel.
#ifndef GODWIT_HOST_HOST_H
#define GODWIT_HOST_HOST_H

#include "base/compiler.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct host;

struct host_range {
	uint64_t start, end; // bytes
};

enum host_scan {
	HOST_SCAN_HUGE,	     // mapped by entries of 2 MiB, the huge page of zeros among them
	HOST_SCAN_HUGE_DATA, // the same without it
	HOST_SCAN_SMALL_ANON, // anonymous memory, mapped by small entries, less the page of zeros
};

// Each is called without locks, from any thread; 0 or a negative errno.
struct host_ops {
	// The whole file, and a zero byte; *ret_text is the caller's to free().
	int (*read)(struct host *host, const char *path, char **ret_text, size_t *ret_length);
	// Part of a binary file; returns how many bytes, 0 at its end.
	long (*read_at)(struct host *host, const char *path, uint64_t offset, void *buf,
		size_t size);
	// One write(2) of all bytes to a file that exists.
	int (*write)(struct host *host, const char *path, const char *text, size_t length);
	// Calls each() with the names in a folder, "." and ".." left out, in any order.
	int (*list)(struct host *host, const char *path, void (*each)(void *arg, const char *name),
		void *arg);
	int (*make_folder)(struct host *host, const char *path);
	int (*remove_folder)(struct host *host, const char *path);
	// move_pages(2), as it is.
	long (*move_pages)(struct host *host, pid_t pid, size_t count, void *const *pages,
		const int *nodes, int *status, int flags);
	// PAGEMAP_SCAN, which changes nothing: ranges of a process from *start on, in order, at
	// most n. Returns how many; *start is then where to go on, `end` when that is all.
	// -ENOTTY: a kernel before 6.7. -EACCES: another user's process.
	long (*scan)(struct host *host, pid_t pid, enum host_scan what, uint64_t *start,
		uint64_t end, struct host_range *ret_ranges, size_t n);
};

extern const struct host_ops running_host_ops;

struct host {
	const struct host_ops *ops;
	char root[200]; // "" or a folder without a slash at its end
};

// root: NULL or "" for the running machine. -ENAMETOOLONG.
must_check int host_init(struct host *host, const char *root);

// What reading gives; the last newline is cut off. The caller's to free().
must_check int host_read(struct host *host, const char *path, char **ret_text);
must_check int host_readf(struct host *host, char **ret_text, const char *format, ...)
	printf_format(3, 4);
// A file with one number (decimal, or 0x...). -EINVAL: it holds something else.
must_check int host_read_number(struct host *host, const char *path, uint64_t *ret_number);
must_check int host_write(struct host *host, const char *path, const char *text);
bool host_has(struct host *host, const char *path);
must_check int host_list(
	struct host *host, const char *path, void (*each)(void *arg, const char *name), void *arg);

// The file as a path of this process, for open(2) and the like. -ENAMETOOLONG.
must_check int host_real_path(const struct host *host, const char *path, char *buf, size_t size);

// ---- Questions about the machine as a whole (machine.c) -----------------------------------------

// Booted by scripts/real-kernel: nothing here can be harmed.
bool host_is_test_guest(struct host *host);
// "6.12.117+deb12-amd64" gives 6 and 12.
must_check int host_kernel(struct host *host, unsigned *ret_major, unsigned *ret_minor);
// Some swap device is in use.
bool host_has_swap(struct host *host);

// ---- Small readers of proc texts ----------------------------------------------------------------

// The number after "NAME" and blanks or a colon, at the start of a line: "MemFree:   12 kB".
bool host_field(const char *text, const char *name, uint64_t *ret_number);
// "a [b] c" gives "b"; a text without brackets gives itself. Into buf.
void host_chosen(const char *text, char *buf, size_t size);
// "0-1,4" as bits of a map; numbers beyond nbits are left out. False: not a list.
bool host_list_bits(const char *text, unsigned long *map, size_t nbits);

#endif
