// SPDX-License-Identifier: MIT
// Makes one mapping of each kind that tests/unit/maps_text_test.c makes on the engine, and prints
// what a real kernel says of them: "# NAME", then the lines of numa_maps and smaps.
// tests/data/linux-6.12-maps.txt is its output; to record it anew, from the checkout:
//
//   gcc -static -O1 -o /tmp/record_maps tests/data/record_maps.c
//   scripts/real-kernel --nodes 2 --memory 512M --with /tmp/record_maps -- record_maps
//
// Numbers of nodes, policies and advice are raw, so that nothing but libc is needed.
#define _GNU_SOURCE
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define PAGE 4096ul
#define AT(n) (0x200000000000ul + (n) * (64ul << 30))

static unsigned nth;

static void die(const char *what)
{
	perror(what);
	exit(1);
}

static void tune(const char *path, const char *value)
{
	int fd = open(path, O_WRONLY);

	if (fd < 0 || write(fd, value, strlen(value)) < 0)
		die(path);
	close(fd);
}

static char *map(unsigned long pages, int prot, int flags, int fd)
{
	void *p = mmap((void *)AT(++nth), pages * PAGE, prot, flags | MAP_FIXED_NOREPLACE, fd, 0);

	if (p == MAP_FAILED)
		die("mmap");
	return p;
}

static char *anon(unsigned long pages)
{
	return map(pages, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1);
}

static void put(char *p, unsigned first, unsigned nr)
{
	for (unsigned i = first; i < first + nr; i++)
		((volatile char *)p)[i * PAGE] = 1;
}

static void look(char *p, unsigned first, unsigned nr)
{
	for (unsigned i = first; i < first + nr; i++)
		(void)((volatile char *)p)[i * PAGE];
}

// The lines of a file of /proc/self about mappings that begin in [p, p + size).
static void print_lines(const char *file, char *p, unsigned long size)
{
	FILE *f = fopen(file, "r");
	char line[4096];
	int inside = 0;

	if (!f)
		die(file);
	while (fgets(line, sizeof line, f)) {
		unsigned long at;

		if (line[0] < 'A' && sscanf(line, "%lx", &at) == 1)
			inside = at >= (unsigned long)p && at < (unsigned long)p + size;
		else if (line[0] >= 'a' && line[0] <= 'f' && sscanf(line, "%lx", &at) == 1)
			inside = at >= (unsigned long)p && at < (unsigned long)p + size;
		if (inside)
			fputs(line, stdout);
	}
	fclose(f);
}

static void show(const char *name, char *p, unsigned long pages)
{
	printf("# %s\n", name);
	print_lines("/proc/self/numa_maps", p, pages * PAGE);
	print_lines("/proc/self/smaps", p, pages * PAGE);
}

static void bind(char *p, unsigned long pages, int mode, unsigned long nodes)
{
	if (syscall(SYS_mbind, p, pages * PAGE, mode, mode == 4 ? NULL : &nodes, 64ul, 0))
		die("mbind");
}

static void policy_case(const char *name, int mode, unsigned long nodes)
{
	char *p = anon(8);

	bind(p, 8, mode, nodes);
	put(p, 0, 8);
	show(name, p, 8);
}

static void advice_case(const char *name, int advice)
{
	char *p = anon(1024);

	if (madvise(p, 1024 * PAGE, advice))
		die(name);
	put(p, 1, 1);
	show(name, p, 1024);
}

static void plain_cases(void)
{
	char *p = anon(16);

	show("untouched", p, 16);
	put(p, 0, 4);
	look(p, 8, 4);
	show("anon", p, 16);
	p = anon(8);
	put(p, 0, 2);
	if (mlock(p, 8 * PAGE))
		die("mlock");
	show("locked", p, 8);
	p = anon(8);
	put(p, 0, 8);
	if (mprotect(p, 8 * PAGE, PROT_NONE))
		die("mprotect");
	show("none", p, 8);
	p = map(8, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1);
	look(p, 0, 8);
	show("readonly", p, 8);
	p = anon(8);
	put(p, 0, 8);
	if (mprotect(p + 2 * PAGE, 2 * PAGE, PROT_READ))
		die("mprotect");
	show("split", p, 8);
	p = anon(8);
	put(p, 0, 8);
	if (madvise(p, 4 * PAGE, MADV_FREE))
		die("free");
	put(p, 0, 1);
	show("free", p, 8);
}

static void object_cases(void)
{
	int fd = memfd_create("m", 0);
	char *p;

	if (fd < 0 || ftruncate(fd, 32 * PAGE))
		die("memfd");
	p = map(32, PROT_READ | PROT_WRITE, MAP_SHARED, fd);
	put(p, 0, 3);
	look(p, 20, 1);
	show("shared", p, 32);
	p = map(32, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd);
	look(p, 0, 1);
	put(p, 1, 2);
	put(p, 30, 1);
	show("private", p, 32);
	p = map(32, PROT_READ, MAP_SHARED, fd);
	look(p, 0, 2);
	show("shared readonly", p, 32);
	p = map(32, PROT_READ | PROT_WRITE, MAP_SHARED, fd);
	bind(p, 32, 3, 3);
	put(p, 4, 8);
	show("shared interleave", p, 32);
}

static void file_cases(void)
{
	static char page[PAGE];
	int fd = open("/disk/file", O_RDWR | O_CREAT | O_TRUNC, 0600);
	char *p;

	for (int i = 0; i < 16; i++)
		if (fd < 0 || write(fd, page, PAGE) != (ssize_t)PAGE)
			die("/disk/file");
	if (fsync(fd))
		die("fsync");
	p = map(16, PROT_READ | PROT_WRITE, MAP_SHARED, fd);
	look(p, 0, 16);
	put(p, 0, 2);
	show("file", p, 16);
	if (msync(p, 16 * PAGE, MS_SYNC))
		die("msync");
	show("file synced", p, 16);
	p = map(16, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd);
	put(p, 0, 2);
	look(p, 2, 1);
	show("file private", p, 16);
}

static void fork_case(void)
{
	char *p = anon(8);
	int ready[2];
	char byte;
	pid_t child;

	put(p, 0, 4);
	if (pipe(ready))
		die("pipe");
	fflush(stdout);
	child = fork();
	if (child < 0)
		die("fork");
	if (child == 0) {
		put(p, 0, 1);
		if (write(ready[1], "x", 1) != 1)
			_exit(1);
		for (;;)
			pause();
	}
	if (read(ready[0], &byte, 1) != 1)
		die("read");
	show("forked", p, 8);
	kill(child, SIGKILL);
	waitpid(child, NULL, 0);
}

static void huge_cases(void)
{
	char *p;

	tune("/proc/sys/vm/nr_hugepages", "8");
	p = map(1536, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB, -1);
	put(p, 0, 1);
	put(p, 512, 1);
	show("hugetlb", p, 1536);
	tune("/sys/kernel/mm/transparent_hugepage/enabled", "madvise");
	p = anon(1024);
	if (madvise(p, 1024 * PAGE, MADV_HUGEPAGE))
		die("hugepage");
	put(p, 0, 1);
	show("thp", p, 1024);
}

int main(void)
{
	cpu_set_t cpu;

	CPU_ZERO(&cpu);
	CPU_SET(0, &cpu);
	if (sched_setaffinity(0, sizeof cpu, &cpu))
		die("affinity");
	tune("/sys/kernel/mm/transparent_hugepage/enabled", "never");
	tune("/proc/sys/kernel/numa_balancing", "0");
	tune("/sys/kernel/mm/lru_gen/enabled", "0");
	plain_cases();
	object_cases();
	file_cases();
	policy_case("prefer", 1, 2);
	policy_case("bind", 2, 2);
	policy_case("bind static", 2 | 1 << 15, 2);
	policy_case("interleave", 3, 3);
	policy_case("interleave relative", 3 | 1 << 14, 3);
	policy_case("local", 4, 0);
	policy_case("prefer many", 5, 3);
	policy_case("weighted", 6, 3);
	policy_case("bind balancing", 2 | 1 << 13, 2);
	advice_case("hugepage", MADV_HUGEPAGE);
	advice_case("nohugepage", MADV_NOHUGEPAGE);
	advice_case("mergeable", MADV_MERGEABLE);
	advice_case("dontfork", MADV_DONTFORK);
	fork_case();
	huge_cases();
	return 0;
}
