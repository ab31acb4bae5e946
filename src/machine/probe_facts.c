// SPDX-License-Identifier: MIT
// Finding out what the host has: features by trying them on a page of their own, settings by
// reading /proc and /sys. Nothing is kept, nothing is changed.
//
// Locks: none. What can fail: nothing; an unknown number is -1, an unknown text empty.
#include "machine/probe_facts.h"

#include "machine/host_calls.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/utsname.h>
#include <unistd.h>

static bool read_text(const char *path, char *ret_text, size_t size)
{
	FILE *f = fopen(path, "re");
	bool ok = f && fgets(ret_text, (int)size, f);

	if (f)
		fclose(f);
	if (ok)
		ret_text[strcspn(ret_text, "\n")] = 0;
	return ok;
}

static long read_number(const char *path)
{
	char text[64];
	long n;

	return read_text(path, text, sizeof(text)) && sscanf(text, "%ld", &n) == 1 ? n : -1;
}

void probe_choice(const char *text, char *ret_word, size_t size)
{
	const char *open = strchr(text, '['), *close = open ? strchr(open, ']') : NULL;

	if (close)
		snprintf(ret_word, size, "%.*s", (int)(close - open - 1), open + 1);
	else
		snprintf(ret_word, size, "%.*s", (int)size - 1, text);
}

#define THP_FOLDER "/sys/kernel/mm/transparent_hugepage/"

const char *probe_shmem_huge(char *ret_word, size_t size)
{
	// Since 6.11 there is one for each size, which may inherit the old one.
	static const char *const path[] = {
		THP_FOLDER "hugepages-2048kB/shmem_enabled", THP_FOLDER "shmem_enabled"};
	char text[128];

	for (unsigned i = 0; i < 2; i++) {
		if (!read_text(path[i], text, sizeof(text)))
			continue;
		probe_choice(text, ret_word, size);
		if (strcmp(ret_word, "inherit"))
			return path[i];
	}
	ret_word[0] = '\0';
	return NULL;
}

bool shmem_is_huge_unasked(const char *setting)
{
	return !strcmp(setting, "always") || !strcmp(setting, "within_size") ||
	       !strcmp(setting, "force");
}

static void probe_hugetlb(struct probe_result *r)
{
	static const size_t sizes[PROBE_HUGETLB_SIZES] = {PMD_SIZE, PUD_SIZE};

	for (int i = 0; i < PROBE_HUGETLB_SIZES; i++) {
		struct probe_pool *pool = &r->hugetlb[i];
		char path[128];

		pool->page_size = sizes[i];
		snprintf(path, sizeof(path),
			"/sys/kernel/mm/hugepages/hugepages-%zukB/nr_hugepages", sizes[i] >> 10);
		pool->total = read_number(path);
		snprintf(path, sizeof(path),
			"/sys/kernel/mm/hugepages/hugepages-%zukB/free_hugepages", sizes[i] >> 10);
		pool->free = read_number(path);
		snprintf(path, sizeof(path),
			"/sys/kernel/mm/hugepages/hugepages-%zukB/resv_hugepages", sizes[i] >> 10);
		pool->reserved = read_number(path);
	}
}

static void probe_uffd(struct probe_result *r)
{
	int fd;

	for (enum uffd_way way = 0; way < UFFD_WAYS; way++) {
		struct probe_uffd *u = &r->uffd[way];

		u->error = uffd_open_way(way, &fd, &u->features);
		if (!u->error)
			close(fd);
	}
	r->unprivileged_userfaultfd = (int)read_number("/proc/sys/vm/unprivileged_userfaultfd");
	r->device_access = access("/dev/userfaultfd", R_OK | W_OK) ? -errno : 0;
}

// Two pages of a memfd, tables moved from one place to another.
static int try_move_tables(int fd)
{
	const size_t size = 2 * PAGE_SIZE;
	uintptr_t at;
	int err = host_reserve(2 * size, PAGE_SIZE, NULL, &at);

	if (err)
		return err;
	err = host_map_file(at, size, HOST_RW, fd, 0);
	if (!err)
		err = host_move_tables(at, at + size, size);
	host_unmap(at, 2 * size);
	return err;
}

static void probe_memory(struct probe_result *r)
{
	int fd;

	r->memfd = host_memfd("godwit-probe", 0, &fd);
	r->move_tables = r->memfd;
	if (r->memfd)
		return;
	if (ftruncate(fd, 2 * PAGE_SIZE))
		r->memfd = -errno;
	else
		r->move_tables = try_move_tables(fd);
	close(fd);
}

static unsigned count_nodes(void)
{
	DIR *dir = opendir("/sys/devices/system/node");
	struct dirent *entry;
	unsigned node, n = 0;

	while (dir && (entry = readdir(dir)))
		n += sscanf(entry->d_name, "node%u", &node) == 1;
	if (dir)
		closedir(dir);
	return n ? n : 1;
}

static uint64_t limit_of(int resource)
{
	struct rlimit limit;

	if (getrlimit((__rlimit_resource_t)resource, &limit) || limit.rlim_cur == RLIM_INFINITY)
		return UINT64_MAX;
	return limit.rlim_cur;
}

static bool has_seccomp(void)
{
	FILE *f = fopen("/proc/self/status", "re");
	char line[256];
	int mode = 0;

	while (f && fgets(line, sizeof(line), f))
		if (sscanf(line, "Seccomp: %d", &mode) == 1)
			break;
	if (f)
		fclose(f);
	return mode != 0;
}

void probe_facts(struct probe_result *r)
{
	struct utsname name;
	int saved = errno;
	long maps = read_number("/proc/sys/vm/max_map_count");

	if (!uname(&name))
		snprintf(r->kernel, sizeof(r->kernel), "%s", name.release);
	r->seccomp = has_seccomp();
	probe_uffd(r);
	probe_memory(r);
	r->shmem_huge_file = probe_shmem_huge(r->shmem_huge, sizeof(r->shmem_huge));
	probe_hugetlb(r);
	r->max_map_count = maps > 0 ? (size_t)maps : 65530;
	r->page_size = (size_t)sysconf(_SC_PAGESIZE);
	r->host_nodes = count_nodes();
	r->rlimit_fsize = limit_of(RLIMIT_FSIZE);
	r->rlimit_as = limit_of(RLIMIT_AS);
	r->rlimit_nofile = limit_of(RLIMIT_NOFILE);
	r->rlimit_memlock = limit_of(RLIMIT_MEMLOCK);
	errno = saved;
}
