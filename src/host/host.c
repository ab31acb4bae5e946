// SPDX-License-Identifier: MIT
// Files of the kernel, below a root folder.
//
// Files of proc and sysfs say nothing about their size, change while they are read, and take one
// write as one command. So a read goes on until nothing more comes, and a write is one write(2)
// whose error is the kernel's answer. Nothing is cached: who asks twice gets two answers.
//
// The same functions serve a recorded machine, a folder with the files that matter; there a system
// call answers -ENOSYS.

#include "host/pagemap.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

int host_init(struct host *host, const char *root)
{
	if (root && strlen(root) >= sizeof host->root)
		return -ENAMETOOLONG;
	host->ops = &running_host_ops;
	snprintf(host->root, sizeof host->root, "%s", root ? root : "");
	return 0;
}

int host_read(struct host *host, const char *path, char **ret_text)
{
	size_t length;
	char *text;
	int err = host->ops->read(host, path, &text, &length);

	if (err)
		return err;
	if (length && text[length - 1] == '\n')
		text[length - 1] = '\0';
	*ret_text = text;
	return 0;
}

int host_readf(struct host *host, char **ret_text, const char *format, ...)
{
	char path[PATH_MAX];
	va_list args;
	int n;

	va_start(args, format);
	n = vsnprintf(path, sizeof path, format, args);
	va_end(args);
	return n < (int)sizeof path ? host_read(host, path, ret_text) : -ENAMETOOLONG;
}

int host_read_number(struct host *host, const char *path, uint64_t *ret_number)
{
	char *text, *end;
	uint64_t number;
	int err = host_read(host, path, &text);

	if (err)
		return err;
	number = strtoull(text, &end, 0);
	err = end == text || *end ? -EINVAL : 0;
	free(text);
	if (!err)
		*ret_number = number;
	return err;
}

int host_write(struct host *host, const char *path, const char *text)
{
	return host->ops->write(host, path, text, strlen(text));
}

bool host_has(struct host *host, const char *path)
{
	char real[PATH_MAX];

	return !host_real_path(host, path, real, sizeof real) && !access(real, F_OK);
}

int host_list(
	struct host *host, const char *path, void (*each)(void *arg, const char *name), void *arg)
{
	return host->ops->list(host, path, each, arg);
}

int host_real_path(const struct host *host, const char *path, char *buf, size_t size)
{
	int n = snprintf(buf, size, "%s/%s", host->root, path);

	return n < 0 || (size_t)n >= size ? -ENAMETOOLONG : 0;
}

// ---- The running machine, or a recorded one -----------------------------------------------------

static int open_below(struct host *host, const char *path, int flags)
{
	char real[PATH_MAX];
	int err = host_real_path(host, path, real, sizeof real);
	int fd = err ? err : open(real, flags | O_CLOEXEC);

	return fd < 0 && !err ? -errno : fd;
}

static int read_all(int fd, char **ret_text, size_t *ret_length)
{
	size_t capacity = 4096, length = 0;
	char *text = malloc(capacity), *grown;
	ssize_t n = text ? 1 : 0;

	while (n > 0) {
		if (length + 1 == capacity) {
			capacity *= 4;
			grown = realloc(text, capacity);
			if (!grown)
				break;
			text = grown;
		}
		n = read(fd, text + length, capacity - 1 - length);
		length += n > 0 ? (size_t)n : 0;
		if (n < 0 && errno == EINTR)
			n = 1;
	}
	if (!text || n) {
		int err = !text || n > 0 ? -ENOMEM : -errno;

		free(text);
		return err;
	}
	text[length] = '\0';
	*ret_text = text;
	*ret_length = length;
	return 0;
}

static int running_read(struct host *host, const char *path, char **ret_text, size_t *ret_length)
{
	int fd = open_below(host, path, O_RDONLY), err;

	if (fd < 0)
		return fd;
	err = read_all(fd, ret_text, ret_length);
	close(fd);
	return err;
}

static long running_read_at(
	struct host *host, const char *path, uint64_t offset, void *buf, size_t size)
{
	int fd = open_below(host, path, O_RDONLY);
	ssize_t n;

	if (fd < 0)
		return fd;
	n = pread(fd, buf, size, (off_t)offset);
	n = n < 0 ? -errno : n;
	close(fd);
	return n;
}

static int running_write(struct host *host, const char *path, const char *text, size_t length)
{
	// As a shell's redirection does it: O_TRUNC empties a trace, and a recorded file.
	int fd = open_below(host, path, O_WRONLY | O_TRUNC);
	int err = 0;
	ssize_t n;

	if (fd < 0)
		return fd;
	n = write(fd, text, length);
	if (n < 0)
		err = -errno;
	else if ((size_t)n != length)
		err = -EIO;
	close(fd);
	return err;
}

static int running_list(
	struct host *host, const char *path, void (*each)(void *arg, const char *name), void *arg)
{
	int fd = open_below(host, path, O_RDONLY | O_DIRECTORY);
	struct dirent *entry;
	DIR *dir;

	if (fd < 0)
		return fd;
	dir = fdopendir(fd);
	if (!dir) {
		close(fd);
		return -ENOMEM;
	}
	while ((entry = readdir(dir)))
		if (strcmp(entry->d_name, ".") && strcmp(entry->d_name, ".."))
			each(arg, entry->d_name);
	closedir(dir);
	return 0;
}

static int running_make_folder(struct host *host, const char *path)
{
	char real[PATH_MAX];
	int err = host_real_path(host, path, real, sizeof real);

	return err ? err : mkdir(real, 0755) ? -errno : 0;
}

static int running_remove_folder(struct host *host, const char *path)
{
	char real[PATH_MAX];
	int err = host_real_path(host, path, real, sizeof real);

	return err ? err : rmdir(real) ? -errno : 0;
}

static long running_move_pages(struct host *host, pid_t pid, size_t count, void *const *pages,
	const int *nodes, int *status, int flags)
{
	long ret;

	if (*host->root)
		return -ENOSYS;
	ret = syscall(SYS_move_pages, pid, count, pages, nodes, status, flags);
	return ret < 0 ? -errno : ret;
}

const struct host_ops running_host_ops = {
	.read = running_read,
	.read_at = running_read_at,
	.write = running_write,
	.list = running_list,
	.make_folder = running_make_folder,
	.remove_folder = running_remove_folder,
	.move_pages = running_move_pages,
	.scan = host_pagemap_scan,
};
