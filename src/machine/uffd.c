// SPDX-License-Identifier: MIT
// Coming by a userfaultfd. What a host offers is found by trying, never by its version: containers
// filter the system call, distributions patch defaults, and features come and go by configuration.
//
// What can fail: everything; the error says which door was closed (machine/probe.c explains it).
#include "machine/uffd.h"

#include "machine/host_calls.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/ioctl.h>
#include <unistd.h>

#ifndef USERFAULTFD_IOC_NEW // 6.1
#define USERFAULTFD_IOC_NEW _IO(0xAA, 0x00)
#endif
#ifndef UFFD_USER_MODE_ONLY
#define UFFD_USER_MODE_ONLY 1
#endif

#define OPEN_FLAGS (O_CLOEXEC | O_NONBLOCK)

static int open_device(int *ret_fd)
{
	int saved = errno;
	int dev = open("/dev/userfaultfd", O_RDWR | O_CLOEXEC);
	int fd = dev < 0 ? -1 : ioctl(dev, USERFAULTFD_IOC_NEW, OPEN_FLAGS);
	int err = fd < 0 ? -errno : 0;

	if (dev >= 0)
		close(dev);
	if (!err)
		*ret_fd = fd;
	errno = saved;
	return err;
}

static int open_descriptor(enum uffd_way way, int *ret_fd)
{
	if (way == UFFD_BY_DEVICE)
		return open_device(ret_fd);
	return host_userfaultfd(
		OPEN_FLAGS | (way == UFFD_USER_ONLY ? UFFD_USER_MODE_ONLY : 0), ret_fd);
}

// The features can be asked for once a descriptor, and asking for an unknown one fails: a first
// descriptor says what there is.
int uffd_open_way(enum uffd_way way, int *ret_fd, uint64_t *ret_features)
{
	uint64_t offered = 0, got = 0;
	int fd, err = open_descriptor(way, &fd);

	if (err)
		return err;
	err = host_uffd_api(fd, 0, &offered);
	close(fd);
	if (err)
		return err;
	if ((offered & UFFD_NEEDED) != UFFD_NEEDED)
		return -EOPNOTSUPP;
	err = open_descriptor(way, &fd);
	if (err)
		return err;
	err = host_uffd_api(fd, offered & (UFFD_NEEDED | UFFD_WELCOME), &got);
	if (err) {
		close(fd);
		return err;
	}
	*ret_fd = fd;
	*ret_features = offered;
	return 0;
}

int uffd_open(bool user_only, enum uffd_way *ret_way, int *ret_fd)
{
	enum uffd_way last = user_only ? UFFD_USER_ONLY : UFFD_BY_DEVICE;
	uint64_t features;
	int first_err = 0;

	for (enum uffd_way way = 0; way <= last; way++) {
		int err = uffd_open_way(way, ret_fd, &features);

		if (!err) {
			*ret_way = way;
			return 0;
		}
		if (!first_err)
			first_err = err;
	}
	return first_err;
}
