// SPDX-License-Identifier: MIT
// Mappings of a story's tasks on the host: each line is one system call of the task itself.
//
// Private memory is anonymous. shm= objects are memfds (of huge pages, if the map asks for them),
// disk= objects files without a name on a disk; the player makes either when it is first named, as
// long as the longest map of that name in the story, and sends it along with the call.

#include "lab/host_machine.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef MAP_FIXED_NOREPLACE
#define MAP_FIXED_NOREPLACE 0x100000
#endif

// ---- Objects ------------------------------------------------------------------------------------

static unsigned size_bits(uint64_t page_size)
{
	return (unsigned)__builtin_ctzll(page_size) << 26; // where mmap and memfd_create look
}

static int make_object(struct host_machine *m, const struct operand_map *map)
{
	uint64_t page = map->hugetlb ? map->hugetlb : STORY_PAGE_SIZE;
	unsigned flags = MFD_CLOEXEC | (map->hugetlb ? MFD_HUGETLB | size_bits(map->hugetlb) : 0);
	int file = map->object == OBJECT_DISK ? host_disk_file(m)
					      : memfd_create(map->object_name, flags);

	if (file < 0)
		return map->object == OBJECT_DISK ? file : -errno;
	if (ftruncate(file, (off_t)story_object_size(m->story, map->object_name, page))) {
		int err = -errno;

		close(file);
		return err;
	}
	return file;
}

// The open file, which stays the machine's; or a negative errno.
static int object_file(struct host_machine *m, const struct operand_map *map)
{
	struct host_object *object = &m->objects[m->object_count];
	int file;

	for (size_t i = 0; i < m->object_count; i++)
		if (!strcmp(m->objects[i].name, map->object_name))
			return m->objects[i].file;
	file = make_object(m, map);
	if (file >= 0) {
		*object = (struct host_object){map->object_name, file};
		m->object_count++;
	}
	return file;
}

// ---- Calls --------------------------------------------------------------------------------------

// result->ret is 0 where the call gives an address.
static int address_result(struct lab_result *result, const struct agent_reply *reply)
{
	if (reply->ret == -1)
		lab_result_fail(result, reply->error);
	return 0;
}

int host_act_map(struct lab_machine *machine, const struct command *c, struct lab_result *result)
{
	struct host_machine *m = host_of(machine);
	const struct operand_map *map = &c->map;
	unsigned flags = MAP_FIXED_NOREPLACE | (map->private ? MAP_PRIVATE : MAP_SHARED);
	struct agent_request r = {.op = AGENT_SYSCALL, .call = SYS_mmap, .file_arg = -1};
	struct agent_reply reply;
	int file = -1, err;

	if (map->object == OBJECT_ANON) {
		flags |= MAP_ANONYMOUS;
		if (map->hugetlb)
			flags |= MAP_HUGETLB | size_bits(map->hugetlb);
	} else {
		file = object_file(m, map);
		if (file < 0)
			return result_of_write(result, file);
		r.file_arg = 4;
	}
	memcpy(r.arg,
		(uint64_t[]){map->map->address, map->map->length,
			PROT_READ | (map->read_only ? 0 : PROT_WRITE), flags, (uint64_t)-1, 0},
		sizeof r.arg);
	err = host_ask(m, task_here(m, c->task), &r, NULL, file, &reply, NULL);
	return err ? err : address_result(result, &reply);
}

// A call of the form f(address, length, third).
static int call_on_range(struct lab_machine *machine, const struct command *c, long call,
	uint64_t third, struct lab_result *result)
{
	struct host_machine *m = host_of(machine);
	const struct story_range *range = &c->range.range;
	struct agent_reply reply;
	int err = host_call(m, task_here(m, c->task), call,
		(uint64_t[6]){range->address, range->length, third}, &reply);

	return err ? err : result_of(result, &reply);
}

int host_act_unmap(struct lab_machine *machine, const struct command *c, struct lab_result *result)
{
	return call_on_range(machine, c, SYS_munmap, 0, result);
}

int host_act_protect(
	struct lab_machine *machine, const struct command *c, struct lab_result *result)
{
	static const uint64_t prots[] = {[PROT_STORY_NONE] = PROT_NONE,
		[PROT_STORY_READ] = PROT_READ,
		[PROT_STORY_WRITE] = PROT_READ | PROT_WRITE};

	return call_on_range(machine, c, SYS_mprotect, prots[c->range.prot], result);
}

int host_act_advise(struct lab_machine *machine, const struct command *c, struct lab_result *result)
{
	return call_on_range(machine, c, SYS_madvise, (uint64_t)c->range.advice, result);
}

int host_act_lock(struct lab_machine *machine, const struct command *c, struct lab_result *result)
{
	return call_on_range(machine, c, SYS_mlock, 0, result);
}

int host_act_unlock(struct lab_machine *machine, const struct command *c, struct lab_result *result)
{
	return call_on_range(machine, c, SYS_munlock, 0, result);
}

int host_act_remap(struct lab_machine *machine, const struct command *c, struct lab_result *result)
{
	struct host_machine *m = host_of(machine);
	const struct story_range *from = &c->remap.from;
	struct agent_reply reply;
	int err = host_call(m, task_here(m, c->task), SYS_mremap,
		(uint64_t[6]){from->address, from->length, from->length,
			MREMAP_MAYMOVE | MREMAP_FIXED, c->remap.to->address},
		&reply);

	return err ? err : address_result(result, &reply);
}

// ---- Pins ---------------------------------------------------------------------------------------

// A mapping has at most one pin, whichever of its pages were named.
static int ask_pin(struct lab_machine *machine, const struct command *c, enum agent_op op,
	struct lab_result *result)
{
	struct host_machine *m = host_of(machine);
	const struct story_range *range = &c->range.range;
	struct agent_request r = {
		.op = op, .arg = {range->map->index, range->address, range->length}};
	struct agent_reply reply;
	int err = host_ask(m, task_here(m, c->task), &r, NULL, -1, &reply, NULL);

	return err ? err : result_of(result, &reply);
}

int host_act_pin(struct lab_machine *machine, const struct command *c, struct lab_result *result)
{
	return ask_pin(machine, c, AGENT_PIN, result);
}

int host_act_unpin(struct lab_machine *machine, const struct command *c, struct lab_result *result)
{
	return ask_pin(machine, c, AGENT_UNPIN, result);
}
