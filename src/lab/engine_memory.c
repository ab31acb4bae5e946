// SPDX-License-Identifier: MIT
// Tasks of a story on the engine, and their mappings: one library call for one system call.
#include "lab/engine_machine.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/statfs.h>
#include <time.h>
#include <unistd.h>

#ifndef TMPFS_MAGIC
#define TMPFS_MAGIC 0x01021994
#endif

static int machine_error(struct lab_machine *machine, const struct command *c, int err)
{
	return lab_machine_fail(machine, err, "%s %s: %s", command_word(c->kind), c->source,
		strerror(-err));
}

// ---- Tasks --------------------------------------------------------------------------------------

int engine_task_new(struct lab_machine *machine, const struct command *c, struct lab_result *result)
{
	struct engine_machine *m = engine_of(machine);
	const struct story_task *task = c->create.task;
	struct gw_task_config config = {
		.size = sizeof config,
		.cpu = task->cpu,
		.uid = task->uid < 0 ? 0 : (uid_t)task->uid,
	};
	int err = gw_task_create(m->machine, &config, &m->tasks[task->index]);

	(void)result;
	return err ? machine_error(machine, c, err) : 0;
}

int engine_fork(struct lab_machine *machine, const struct command *c, struct lab_result *result)
{
	struct engine_machine *m = engine_of(machine);
	const struct story_task *child = c->create.task;
	int err = gw_task_fork(engine_task(m, c->create.parent), &m->tasks[child->index]);

	if (err)
		return engine_result(result, err);
	err = gw_task_set_cpu(m->tasks[child->index], child->cpu);
	return err ? machine_error(machine, c, err) : 0;
}

int engine_exit(struct lab_machine *machine, const struct command *c, struct lab_result *result)
{
	struct engine_machine *m = engine_of(machine);
	const struct story_task *task = c->create.task;
	int err = gw_task_attach(NULL);

	engine_load_end(m, engine_task(m, task), result);
	for (size_t i = 0; i < m->story->mapping_count; i++) {
		if (m->story->mappings[i]->task == task && m->mappings[i].pin) {
			gw_unpin(m->mappings[i].pin);
			m->mappings[i].pin = NULL;
		}
	}
	gw_task_exit(engine_task(m, task));
	m->tasks[task->index] = NULL;
	return err;
}

int engine_cpu(struct lab_machine *machine, const struct command *c, struct lab_result *result)
{
	(void)result;
	return gw_task_set_cpu(engine_task(engine_of(machine), c->task), c->world.cpu);
}

// ---- Objects: shm= and disk= --------------------------------------------------------------------

// Its name is in texts (numa_maps), so it is the same in every run. Each run has it for a moment
// only: who finds it taken tries again, and at last takes another one.
static int create_disk_file(const struct engine_machine *m, char *path, size_t size)
{
	const char *dir = getenv("GODWIT_DISK");
	int fd;

	snprintf(path, size, "%s/godwit-disk-%zu", dir ? dir : "/var/tmp", m->object_count);
	for (unsigned tries = 0; tries < 20; tries++) {
		fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
		if (fd >= 0 || errno != EEXIST)
			return fd;
		nanosleep(&(struct timespec){.tv_nsec = 5000000}, NULL);
	}
	snprintf(path, size, "%s/godwit-disk-XXXXXX", dir ? dir : "/var/tmp");
	return mkostemp(path, O_CLOEXEC);
}

static int open_disk_file(struct engine_machine *m, uint64_t size)
{
	char path[256];
	struct statfs fs;
	int fd = create_disk_file(m, path, sizeof path);

	if (fd < 0)
		return lab_machine_fail(&m->base, -errno, "%s: %s", path, strerror(errno));
	unlink(path);
	if (ftruncate(fd, (off_t)size) || fstatfs(fd, &fs)) {
		close(fd);
		return lab_machine_fail(&m->base, -EIO, "%s: cannot make a file of %llu bytes",
			path, (unsigned long long)size);
	}
	if (fs.f_type == TMPFS_MAGIC)
		lab_machine_warn(
			&m->base, "%s is not on a disk (GODWIT_DISK names a folder)", path);
	return fd;
}

static int get_object(struct engine_machine *m, const struct operand_map *map,
	struct gw_object **ret_object)
{
	struct engine_object *object;
	uint64_t page_size = map->hugetlb ? map->hugetlb : STORY_PAGE_SIZE;
	uint64_t size = story_object_size(m->story, map->object_name, page_size);
	int fd, err;

	for (size_t i = 0; i < m->object_count; i++) {
		if (!strcmp(m->objects[i].name, map->object_name)) {
			*ret_object = m->objects[i].object;
			return 0;
		}
	}
	object = &m->objects[m->object_count];
	if (map->object == OBJECT_DISK) {
		fd = open_disk_file(m, size);
		if (fd < 0)
			return fd;
		err = gw_object_open(m->machine, fd, &object->object);
		close(fd);
	} else if (map->hugetlb) {
		err = gw_object_create_huge(m->machine, map->object_name, size,
			(unsigned)__builtin_ctzll(map->hugetlb), &object->object);
	} else {
		err = gw_object_create(m->machine, map->object_name, size, &object->object);
	}
	if (err)
		return lab_machine_fail(&m->base, err, "object %s: %s", map->object_name,
			strerror(-err));
	object->name = map->object_name;
	m->object_count++;
	*ret_object = object->object;
	return 0;
}

// ---- Mappings -----------------------------------------------------------------------------------

int engine_map(struct lab_machine *machine, const struct command *c, struct lab_result *result)
{
	struct engine_machine *m = engine_of(machine);
	const struct operand_map *map = &c->map;
	struct gw_mapping mapping = {
		.size = sizeof mapping,
		.length = map->map->length,
		.address = map->map->address,
		.align = map->align,
		.prot = GW_PROT_READ | (map->read_only ? 0 : GW_PROT_WRITE),
		.flags = map->private ? 0 : GW_MAP_SHARED,
	};
	uint64_t address;
	int err;

	if (map->hugetlb) {
		mapping.flags |= GW_MAP_HUGETLB;
		mapping.huge_shift = (unsigned)__builtin_ctzll(map->hugetlb);
	}
	if (map->object != OBJECT_ANON) {
		err = get_object(m, map, &mapping.object);
		if (err)
			return err;
	}
	err = gw_map(engine_task(m, c->task), &mapping, &address);
	if (!err)
		m->mappings[map->map->index].mapped = true;
	return engine_result(result, err);
}

int engine_unmap(struct lab_machine *machine, const struct command *c, struct lab_result *result)
{
	const struct story_range *r = &c->range.range;

	return engine_result(result,
		gw_unmap(engine_task(engine_of(machine), c->task), r->address, r->length));
}

int engine_protect(struct lab_machine *machine, const struct command *c, struct lab_result *result)
{
	const struct story_range *r = &c->range.range;
	unsigned prot = c->range.prot == PROT_STORY_NONE   ? GW_PROT_NONE
			: c->range.prot == PROT_STORY_READ ? GW_PROT_READ
							   : GW_PROT_READ | GW_PROT_WRITE;

	return engine_result(result,
		gw_protect(engine_task(engine_of(machine), c->task), r->address, r->length, prot));
}

int engine_remap(struct lab_machine *machine, const struct command *c, struct lab_result *result)
{
	const struct story_range *r = &c->remap.from;
	struct engine_machine *m = engine_of(machine);
	uint64_t address;
	int err = gw_remap(engine_task(m, c->task), r->address, r->length, r->length,
		c->remap.to->address, &address);

	if (!err)
		m->mappings[c->remap.to->index].mapped = true;
	return engine_result(result, err);
}

int engine_advise(struct lab_machine *machine, const struct command *c, struct lab_result *result)
{
	const struct story_range *r = &c->range.range;

	return engine_result(result, gw_advise(engine_task(engine_of(machine), c->task), r->address,
					     r->length, c->range.advice));
}

int engine_lock(struct lab_machine *machine, const struct command *c, struct lab_result *result)
{
	const struct story_range *r = &c->range.range;

	return engine_result(result,
		gw_lock(engine_task(engine_of(machine), c->task), r->address, r->length));
}

int engine_unlock(struct lab_machine *machine, const struct command *c, struct lab_result *result)
{
	const struct story_range *r = &c->range.range;

	return engine_result(result,
		gw_unlock(engine_task(engine_of(machine), c->task), r->address, r->length));
}

// A device writes: what may only be read is refused, where gw_pin() takes it to be read. The
// library tells when it is asked to fault it in for writing.
static bool read_only(struct gw_task *task, const struct story_range *r)
{
	uint64_t start = r->address & ~4095ull, end = (r->address + r->length + 4095) & ~4095ull;

	return gw_advise(task, start, end - start, MADV_POPULATE_WRITE) == -EINVAL;
}

int engine_pin(struct lab_machine *machine, const struct command *c, struct lab_result *result)
{
	const struct story_range *r = &c->range.range;
	struct engine_machine *m = engine_of(machine);
	char holder[48];

	if (m->mappings[r->map->index].pin)
		return engine_result(result, -EBUSY);
	if (r->length && read_only(engine_task(m, c->task), r))
		return engine_result(result, -EFAULT);
	snprintf(holder, sizeof holder, "line %u of the story", c->line);
	return engine_result(result, gw_pin(engine_task(m, c->task), r->address, r->length, holder,
					     &m->mappings[r->map->index].pin));
}

int engine_unpin(struct lab_machine *machine, const struct command *c, struct lab_result *result)
{
	struct engine_machine *m = engine_of(machine);
	struct engine_mapping *mapping = &m->mappings[c->range.range.map->index];

	if (!mapping->pin)
		return engine_result(result, -EINVAL);
	gw_unpin(mapping->pin);
	mapping->pin = NULL;
	return 0;
}
