// SPDX-License-Identifier: MIT
// Real files: reading, dirty tracking, write-back in ranges, the tail, errors, counters.
#include "soft_machine.h"

#include "base/fault_inject.h"
#include "base/sched.h"
#include "virt/reclaim.h"
#include "virt/writeback.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>

#define RW (VM_READ | VM_WRITE)
#define PAGES 40u
#define TAIL 100u // bytes of the last page
#define FILE_BYTES ((PAGES - 1) * PAGE_SIZE + TAIL)

static char page_mark(unsigned page)
{
	return (char)('A' + page % 26);
}

// A file of PAGES pages, the last one partial, each full of its mark.
static int make_file(char *path, int flags)
{
	char buf[PAGE_SIZE];

	strcpy(path, "/tmp/godwit-file-test-XXXXXX");
	int fd = mkstemp(path);
	assert_true(fd >= 0);
	for (unsigned i = 0; i < PAGES; i++) {
		size_t len = i == PAGES - 1 ? TAIL : PAGE_SIZE;
		memset(buf, page_mark(i), len);
		assert_int_equal(write(fd, buf, len), len);
	}
	close(fd);
	fd = open(path, flags);
	assert_true(fd >= 0);
	return fd;
}

struct file_case {
	struct soft_machine *m;
	char path[64];
	int fd; // to look at the file behind the engine's back
	struct object *object;
	struct task *task;
	uint64_t addr; // all of it, mapped shared
};

static void open_case(struct file_case *c, struct soft_machine *m, int flags)
{
	c->m = m;
	c->fd = make_file(c->path, flags);
	assert_int_equal(object_open_file(&m->mm, c->fd, &c->object), 0);
	assert_int_equal(task_create(&m->mm, 0, 0, &c->task), 0);
	c->addr = soft_map(c->task, PAGES,
		(flags == O_RDWR ? RW : VM_READ) | VM_SHARED, c->object, 0);
}

static void close_case(struct file_case *c)
{
	task_exit(c->task);
	object_put(c->object);
	close(c->fd);
	unlink(c->path);
	assert_int_equal(vmstat_read(&c->m->stat, VM_NR_FILE_PAGES), 0);
	assert_int_equal(vmstat_read(&c->m->stat, VM_NR_DIRTY), 0);
	assert_int_equal(vmstat_read(&c->m->stat, VM_NR_WRITEBACK), 0);
	assert_int_equal(vmstat_read(&c->m->stat, VM_NR_ZONE_WRITE_PENDING), 0);
}

static uint64_t page_addr(const struct file_case *c, unsigned page)
{
	return c->addr + page * PAGE_SIZE;
}

static char on_disk(const struct file_case *c, unsigned page)
{
	char byte = 0;

	assert_int_equal(pread(c->fd, &byte, 1, (off_t)(page * PAGE_SIZE)), 1);
	return byte;
}

static void opening(void **state)
{
	struct soft_machine *m = *state;
	struct object *object;
	char path[64];
	int fd = make_file(path, O_WRONLY), fds[2];

	assert_int_equal(object_open_file(&m->mm, fd, &object), -EACCES);
	close(fd);
	assert_int_equal(object_open_file(&m->mm, fd, &object), -EBADF);
	fd = open(path, O_PATH);
	assert_int_equal(object_open_file(&m->mm, fd, &object), -EBADF);
	close(fd);
	assert_int_equal(pipe(fds), 0);
	assert_int_equal(object_open_file(&m->mm, fds[0], &object), -EINVAL);
	close(fds[0]);
	close(fds[1]);
	fd = open(path, O_RDONLY);
	assert_int_equal(object_open_file(&m->mm, fd, &object), 0);
	close(fd); // it has its own
	assert_false(object->writable_fd);
	assert_int_equal(object->size, FILE_BYTES);
	assert_string_equal(object->name, path);
	object_put(object);
	unlink(path);
}

static void reading(void **state)
{
	struct file_case c;
	char tail[PAGE_SIZE];

	open_case(&c, *state, O_RDONLY);
	for (unsigned i = 0; i < PAGES; i++)
		assert_int_equal(soft_byte(c.task, page_addr(&c, i)), page_mark(i));
	assert_int_equal(space_read(c.task->space, c.task, page_addr(&c, PAGES - 1), tail,
				 PAGE_SIZE),
		PAGE_SIZE);
	for (unsigned i = 0; i < PAGE_SIZE; i++)
		assert_int_equal(tail[i], i < TAIL ? page_mark(PAGES - 1) : 0);
	assert_int_equal(vmstat_read(&c.m->stat, VM_NR_FILE_PAGES), PAGES);
	assert_int_equal(vmstat_read(&c.m->stat, VM_NR_SHMEM), 0);
	// Dropped when nobody maps them, read again when wanted.
	assert_int_equal(object_truncate_unmapped(c.object, 0, PAGES), 0);
	assert_int_equal(space_unmap(c.task->space, c.addr, PAGES * PAGE_SIZE), 0);
	assert_int_equal(object_truncate_unmapped(c.object, 0, 10), 10);
	assert_int_equal(object_truncate_unmapped(c.object, 0, PAGES), PAGES - 10);
	assert_int_equal(object_resident(c.object, 0, PAGES, NULL), 0);
	close_case(&c);
}

static void writing(void **state)
{
	struct file_case c;
	uint64_t dirty;
	struct stat st;

	open_case(&c, *state, O_RDWR);
	unsigned long dirtied = vmstat_read(&c.m->stat, VM_NR_DIRTIED);
	unsigned long written = vmstat_read(&c.m->stat, VM_NR_WRITTEN);
	soft_byte(c.task, page_addr(&c, 1)); // read only: not dirty
	soft_fill(c.task, page_addr(&c, 3), 2, 'x');
	soft_fill(c.task, page_addr(&c, 9), 1, 'y');
	soft_fill(c.task, page_addr(&c, PAGES - 1), 1, 'z');
	assert_int_equal(vmstat_read(&c.m->stat, VM_NR_DIRTY), 4);
	assert_int_equal(vmstat_read(&c.m->stat, VM_NR_DIRTIED) - dirtied, 4);
	object_resident(c.object, 0, PAGES, &dirty);
	assert_int_equal(dirty, 4);
	assert_int_equal(on_disk(&c, 3), page_mark(3));

	assert_int_equal(object_sync(c.object, 4, 1), 0);
	assert_int_equal(on_disk(&c, 3), page_mark(3));
	assert_int_equal(on_disk(&c, 4), 'x');
	assert_int_equal(vmstat_read(&c.m->stat, VM_NR_DIRTY), 3);
	assert_int_equal(object_sync(c.object, 0, PAGES), 0);
	assert_int_equal(on_disk(&c, 3), 'x');
	assert_int_equal(on_disk(&c, 9), 'y');
	assert_int_equal(on_disk(&c, PAGES - 1), 'z');
	assert_int_equal(vmstat_read(&c.m->stat, VM_NR_DIRTY), 0);
	assert_int_equal(vmstat_read(&c.m->stat, VM_NR_WRITTEN) - written, 4);
	assert_int_equal(fstat(c.fd, &st), 0);
	assert_int_equal(st.st_size, FILE_BYTES); // the tail was not written

	// The entries lost write permission: a store makes the page dirty again.
	soft_fill(c.task, page_addr(&c, 3), 1, 'X');
	assert_int_equal(vmstat_read(&c.m->stat, VM_NR_DIRTY), 1);
	assert_int_equal(object_sync(c.object, 0, PAGES), 0);
	assert_int_equal(on_disk(&c, 3), 'X');
	close_case(&c);
}

// More dirty pages than one write takes, with gaps; and at the last put what is dirty is written.
static void many_runs(void **state)
{
	struct file_case c;

	open_case(&c, *state, O_RDWR);
	for (unsigned i = 0; i < PAGES; i++)
		if (i % 36 != 35)
			soft_fill(c.task, page_addr(&c, i), 1, 'm');
	assert_int_equal(object_sync(c.object, 0, PAGES), 0);
	for (unsigned i = 0; i < PAGES; i++)
		assert_int_equal(on_disk(&c, i), i % 36 != 35 ? 'm' : page_mark(i));
	soft_fill(c.task, page_addr(&c, 7), 1, 'p');
	object_put(c.object); // the vma has the last reference
	task_exit(c.task);
	assert_int_equal(on_disk(&c, 7), 'p');
	close(c.fd);
	unlink(c.path);
}

static void errors(void **state)
{
	struct file_case c;
	char byte;

	open_case(&c, *state, O_RDWR);
	fault_arm(FI_SYSCALL, FI_THREAD, 0, 1);
	assert_int_equal(space_read(c.task->space, c.task, c.addr, &byte, 1), -EIO);
	assert_true(fault_disarm(FI_SYSCALL));
	assert_int_equal(soft_byte(c.task, c.addr), page_mark(0)); // the next time it works

	soft_fill(c.task, c.addr, 3, 'e');
	fault_arm(FI_SYSCALL, FI_THREAD, 0, 1);
	assert_int_equal(object_sync(c.object, 0, PAGES), -EIO);
	assert_true(fault_disarm(FI_SYSCALL));
	assert_int_equal(on_disk(&c, 0), page_mark(0));
	assert_int_equal(vmstat_read(&c.m->stat, VM_NR_DIRTY), 3); // nothing is lost
	assert_int_equal(vmstat_read(&c.m->stat, VM_NR_WRITEBACK), 0);
	assert_int_equal(object_sync(c.object, 0, PAGES), 0);
	assert_int_equal(on_disk(&c, 0), 'e');
	assert_int_equal(on_disk(&c, 2), 'e');
	close_case(&c);
}

static void read_only(void **state)
{
	struct file_case c;
	struct map_request request = {.addr = 0x100000000000,
		.fixed = true,
		.len = PAGE_SIZE,
		.flags = RW | VM_SHARED};
	uint64_t addr;
	char byte = 1;

	open_case(&c, *state, O_RDONLY);
	request.object = c.object;
	assert_int_equal(space_map(c.task->space, &request, &addr), -EACCES);
	assert_int_equal(space_write(c.task->space, c.task, c.addr, &byte, 1), -EFAULT);
	assert_int_equal(object_resize(c.object, FILE_BYTES + 1), -EACCES);
	close_case(&c);
}

static void growing(void **state)
{
	struct file_case c;
	struct stat st;

	open_case(&c, *state, O_RDWR);
	assert_int_equal(object_resize(c.object, PAGES * PAGE_SIZE), 0);
	assert_int_equal(fstat(c.fd, &st), 0);
	assert_int_equal(st.st_size, PAGES * PAGE_SIZE);
	soft_fill(c.task, page_addr(&c, PAGES - 1), 1, 'g');
	assert_int_equal(object_sync(c.object, 0, PAGES), 0);
	char byte;
	assert_int_equal(pread(c.fd, &byte, 1, PAGES * PAGE_SIZE - 1), 1);
	assert_int_equal(byte, 'g');
	close_case(&c);
}

static void behind_the_end(void **state)
{
	const uint64_t at = FILE_BYTES + 10;
	struct file_case c;
	char byte = 5;

	open_case(&c, *state, O_RDWR);
	assert_int_equal(space_write(c.task->space, c.task, c.addr + at, &byte, 1), 1);
	assert_int_equal(soft_byte(c.task, c.addr + at), 5);
	assert_int_equal(object_sync(c.object, 0, PAGES), 0);
	assert_int_equal(soft_byte(c.task, c.addr + at), 0); // zeroed when written
	assert_int_equal(soft_byte(c.task, page_addr(&c, PAGES - 1)), page_mark(PAGES - 1));
	assert_int_equal(space_write(c.task->space, c.task, c.addr + at, &byte, 1), 1);
	assert_int_equal(object_resize(c.object, FILE_BYTES + 20), 0);
	assert_int_equal(soft_byte(c.task, c.addr + at), 0); // zeroed when it comes in
	assert_int_equal(object_sync(c.object, 0, PAGES), 0);
	assert_int_equal(pread(c.fd, &byte, 1, (off_t)at), 1);
	assert_int_equal(byte, 0);
	byte = 6;
	assert_int_equal(space_write(c.task->space, c.task, c.addr + at, &byte, 1), 1);
	assert_int_equal(object_resize(c.object, FILE_BYTES + 30), 0);
	assert_int_equal(soft_byte(c.task, c.addr + at), 6); // that is the file's
	close_case(&c);
}

// One writes pages, one syncs: what is on disk at the end is what was written last.
struct sync_race {
	struct file_case *c;
	uint64_t last[4];
};

static void write_and_sync(void *arg, unsigned index)
{
	struct sync_race *race = arg;
	struct file_case *c = race->c;

	for (uint64_t i = 1; i <= 6; i++) {
		if (index) {
			if (object_sync(c->object, 0, 4))
				abort();
			continue;
		}
		for (unsigned page = 0; page < 4; page++) {
			race->last[page] = i * 100 + page;
			if (space_write(c->task->space, c->task, page_addr(c, page),
				    &race->last[page], 8) != 8)
				abort();
		}
	}
}

static void sync_races_with_stores(void **state)
{
	uint64_t seed = test_seed();

	for (unsigned i = 0; i < 60; i++) {
		struct file_case c;
		struct sync_race race = {.c = &c};
		uint64_t value;

		open_case(&c, *state, O_RDWR);
		sched_run(seed + i, 3, write_and_sync, &race);
		assert_int_equal(object_sync(c.object, 0, PAGES), 0);
		for (unsigned page = 0; page < 4; page++) {
			assert_int_equal(pread(c.fd, &value, 8, (off_t)(page * PAGE_SIZE)), 8);
			assert_int_equal(value, race.last[page]);
		}
		close_case(&c);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(opening),
		cmocka_unit_test(reading),
		cmocka_unit_test(writing),
		cmocka_unit_test(many_runs),
		cmocka_unit_test(errors),
		cmocka_unit_test(read_only),
		cmocka_unit_test(growing),
		cmocka_unit_test(behind_the_end),
		cmocka_unit_test(sync_races_with_stores),
	};
	return cmocka_run_group_tests(tests, soft_setup, soft_teardown);
}
