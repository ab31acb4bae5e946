// SPDX-License-Identifier: MIT
// Memory policies: the rules of set_mempolicy, get_mempolicy and mbind as tables, where pages come
// from under each mode, rebinding, and failures.
#include "soft_machine.h"

#include "base/fault_inject.h"
#include "base/meta.h"
#include "virt/mempolicy.h"
#include "virt/mempolicy_calls.h"

#include <errno.h>

#define STATIC POLICY_F_STATIC_NODES
#define RELATIVE POLICY_F_RELATIVE_NODES
#define BALANCING POLICY_F_NUMA_BALANCING
#define RW (VM_READ | VM_WRITE)

static struct task *new_task(struct soft_machine *m, int cpu)
{
	struct task *task;

	assert_int_equal(task_create(&m->mm, 0, cpu, &task), 0);
	return task;
}

static int set_policy(struct task *task, int mode, unsigned long nodes)
{
	return policy_set_task(task, mode, &nodes, 65);
}

static int bind_range(struct task *task, uint64_t addr, uint64_t pages, int mode,
	unsigned long nodes, unsigned long flags)
{
	struct mbind_request r = {.start = addr,
		.len = pages << PAGE_SHIFT,
		.mode = mode,
		.nmask = &nodes,
		.maxnode = 65,
		.flags = flags};
	int err = mbind_policy(task->space, task, &r);

	mempolicy_put(r.policy);
	return err;
}

// ---- set_mempolicy

static void set_rules(void **state)
{
	struct soft_machine *m = *state;
	struct task *task = new_task(m, 0);
	static const struct {
		int mode;
		unsigned long nodes;
		int err;
		const char *text; // of the policy when there is no error
	} rows[] = {
		{POLICY_DEFAULT, 0, 0, "default"},
		{POLICY_DEFAULT, 1, -EINVAL, NULL},
		{POLICY_DEFAULT | STATIC, 0, 0, "default"},
		{POLICY_LOCAL, 0, 0, "local"},
		{POLICY_LOCAL, 1, -EINVAL, NULL},
		{POLICY_LOCAL | STATIC, 0, -EINVAL, NULL},
		{POLICY_LOCAL | RELATIVE, 0, -EINVAL, NULL},
		{POLICY_PREFERRED, 0, 0, "local"},
		{POLICY_PREFERRED | STATIC, 0, -EINVAL, NULL},
		{POLICY_PREFERRED, 6, 0, "prefer:1"},
		{POLICY_PREFERRED | STATIC, 4, 0, "prefer=static:2"},
		{POLICY_BIND, 0, -EINVAL, NULL},
		{POLICY_BIND, 3, 0, "bind:0-1"},
		{POLICY_BIND, 8, -EINVAL, NULL},      // no memory
		{POLICY_BIND, 0x80, -EINVAL, NULL},   // no such node
		{POLICY_BIND, 0xc, 0, "bind:2"},      // cut to what there is
		{POLICY_BIND | RELATIVE, 0x8, 0, "bind=relative:0"}, // the third of three, from 0
		{POLICY_BIND | BALANCING, 5, 0, "bind=balancing:0,2"},
		{POLICY_BIND | STATIC | BALANCING, 5, 0, "bind=static|balancing:0,2"},
		{POLICY_BIND | STATIC | RELATIVE, 1, -EINVAL, NULL},
		{POLICY_PREFERRED | BALANCING, 1, -EINVAL, NULL},
		{POLICY_INTERLEAVE | BALANCING, 1, -EINVAL, NULL},
		{POLICY_INTERLEAVE, 7, 0, "interleave:0-2"},
		{POLICY_INTERLEAVE, 0, -EINVAL, NULL},
		{POLICY_PREFERRED_MANY, 6, 0, "prefer (many):1-2"},
		{POLICY_PREFERRED_MANY | BALANCING, 6, 0, "prefer (many)=balancing:1-2"},
		{POLICY_WEIGHTED_INTERLEAVE, 3, 0, "weighted interleave:0-1"},
		{7, 1, -EINVAL, NULL},
		{1 << 12, 1, -EINVAL, NULL},
		{-1, 1, -EINVAL, NULL},
	};

	for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
		char text[POLICY_TEXT_MAX];
		int err = set_policy(task, rows[i].mode, rows[i].nodes);

		if (err != rows[i].err)
			fail_msg("row %u: %d, not %d", i, err, rows[i].err);
		mempolicy_format(task->policy, text, sizeof(text));
		if (!err && strcmp(text, rows[i].text))
			fail_msg("row %u: \"%s\", not \"%s\"", i, text, rows[i].text);
	}
	task_exit(task);
}

static void mask_rules(void **state)
{
	struct soft_machine *m = *state;
	struct task *task = new_task(m, 0);
	unsigned long mask[32] = {1};
	unsigned long *huge = calloc(1, PAGE_SIZE + 64);

	huge[0] = 1;
	assert_int_equal(policy_set_task(task, POLICY_BIND, mask, 0), -EINVAL);
	assert_int_equal(policy_set_task(task, POLICY_DEFAULT, NULL, 0), 0);
	assert_int_equal(policy_set_task(task, POLICY_BIND, NULL, 65), -EINVAL);
	assert_int_equal(policy_set_task(task, POLICY_BIND, mask, 1), -EINVAL); // no bits
	assert_int_equal(policy_set_task(task, POLICY_BIND, mask, 2), 0);
	assert_int_equal(policy_set_task(task, POLICY_BIND, mask, 2049), 0);
	assert_int_equal(policy_set_task(task, POLICY_BIND, huge, PAGE_SIZE * 8 + 1), 0);
	assert_int_equal(policy_set_task(task, POLICY_BIND, huge, PAGE_SIZE * 8 + 2), -EINVAL);
	mask[15] = 1ul << 63; // bit 1023: no such node, but a valid number
	assert_int_equal(policy_set_task(task, POLICY_BIND, mask, 2049), 0);
	assert_int_equal(policy_set_task(task, POLICY_DEFAULT, mask + 15, 65), -EINVAL);
	mask[16] = 1; // bit 1024
	assert_int_equal(policy_set_task(task, POLICY_BIND, mask, 2049), -EINVAL);
	assert_int_equal(policy_set_task(task, POLICY_BIND, mask, 1025), 0);
	// Only a node beyond: not empty, so PREFERRED is not local, and nothing is left of it.
	memset(mask, 0, sizeof(mask));
	mask[2] = 1;
	assert_int_equal(policy_set_task(task, POLICY_PREFERRED, mask, 1025), -EINVAL);
	assert_int_equal(policy_set_task(task, POLICY_DEFAULT, mask, 1025), -EINVAL);
	free(huge);
	task_exit(task);
}

// ---- get_mempolicy

static void get_rules(void **state)
{
	struct soft_machine *m = *state;
	struct task *task = new_task(m, 1);
	uint64_t addr = soft_map(task, 4, RW, NULL, 0);
	unsigned long mask[4], set = 6;
	int mode;

	assert_int_equal(policy_get(task, &mode, mask, 65, 0, 0), 0);
	assert_int_equal(mode, POLICY_DEFAULT);
	assert_int_equal(mask[0], 0);
	assert_int_equal(policy_get(task, &mode, mask, SOFT_NODES - 1, 0, 0), -EINVAL);
	assert_int_equal(policy_get(task, NULL, NULL, 0, 0, 0), 0);
	assert_int_equal(policy_get(task, &mode, mask, 65, 0, 8), -EINVAL);
	assert_int_equal(policy_get(task, &mode, mask, 65, addr, 0), -EINVAL);
	assert_int_equal(policy_get(task, &mode, mask, 65, 4096, POLICY_F_ADDR), -EFAULT);
	assert_int_equal(policy_get(task, &mode, mask, 65, 0, POLICY_F_NODE), -EINVAL);

	memset(mask, 0xff, sizeof(mask));
	assert_int_equal(policy_get(task, &mode, mask, 257, 0, POLICY_F_MEMS_ALLOWED), 0);
	assert_int_equal(mode, 0);
	assert_int_equal(mask[0], 7);
	assert_int_equal(mask[1] | mask[2] | mask[3], 0);
	assert_int_equal(policy_get(task, &mode, mask, 65, 0,
				 POLICY_F_MEMS_ALLOWED | POLICY_F_NODE),
		-EINVAL);
	assert_int_equal(policy_get(task, &mode, mask, 65, addr,
				 POLICY_F_MEMS_ALLOWED | POLICY_F_ADDR),
		-EINVAL);

	// The vma's own policy, not the task's.
	assert_int_equal(policy_set_task(task, POLICY_INTERLEAVE, &set, 65), 0);
	assert_int_equal(policy_get(task, &mode, mask, 65, addr, POLICY_F_ADDR), 0);
	assert_int_equal(mode, POLICY_DEFAULT);
	assert_int_equal(bind_range(task, addr, 2, POLICY_BIND | STATIC, 0xc, 0), 0);
	assert_int_equal(policy_get(task, &mode, mask, 65, addr + 5000, POLICY_F_ADDR), 0);
	assert_int_equal(mode, POLICY_BIND | STATIC);
	assert_int_equal(mask[0], 0xc); // as it was said
	// The node of a page, which is faulted in.
	assert_int_equal(soft_node(task, addr), -ENOENT);
	soft_fill(task, addr, 1, 'x');
	assert_int_equal(policy_get(task, &mode, NULL, 0, addr, POLICY_F_ADDR | POLICY_F_NODE), 0);
	assert_int_equal(mode, 2);
	assert_int_equal(
		policy_get(task, &mode, NULL, 0, addr + 4096, POLICY_F_ADDR | POLICY_F_NODE), 0);
	assert_int_equal(mode, (int)folio_nid(m->mm.zero_page));
	// The next node of the task's own interleave (1-2), of which three page tables took a turn.
	assert_int_equal(policy_get(task, &mode, NULL, 0, 0, POLICY_F_NODE), 0);
	assert_int_equal(mode, 2);
	assert_int_equal(policy_set_task(task, POLICY_BIND, &set, 65), 0);
	assert_int_equal(policy_get(task, &mode, NULL, 0, 0, POLICY_F_NODE), -EINVAL);
	task_exit(task);
}

// ---- Where pages come from

static void expect_nodes(struct task *task, uint64_t addr, const char *nodes)
{
	for (unsigned i = 0; nodes[i]; i++)
		if (soft_node(task, addr + ((uint64_t)i << PAGE_SHIFT)) != nodes[i] - '0')
			fail_msg("page %u of %s is on %d", i, nodes,
				soft_node(task, addr + ((uint64_t)i << PAGE_SHIFT)));
}

static void placement(void **state)
{
	struct soft_machine *m = *state;
	static const struct {
		int cpu;
		int mode;
		unsigned long nodes;
		const char *expected; // of pages that are written last page first
	} rows[] = {
		{1, POLICY_DEFAULT, 0, "1111"},
		{3, POLICY_DEFAULT, 0, "0000"}, // no memory there: the nearest
		{2, POLICY_LOCAL, 0, "2222"},
		{0, POLICY_PREFERRED, 4, "2222"},
		{0, POLICY_BIND, 2, "1111"},
		{1, POLICY_BIND, 3, "1111"}, // its own of the mask
		{0, POLICY_BIND, 6, "1111"}, // the nearest of the mask
		{0, POLICY_INTERLEAVE, 7, "012012"},
		{2, POLICY_INTERLEAVE, 5, "0202"},
		{0, POLICY_WEIGHTED_INTERLEAVE, 7, "000112000112"},
		{2, POLICY_PREFERRED_MANY, 3, "0000"},
		{1, POLICY_PREFERRED_MANY, 3, "1111"},
	};

	assert_int_equal(mempolicy_set_weight(&m->mm, 0, 3), 0);
	assert_int_equal(mempolicy_set_weight(&m->mm, 1, 2), 0);
	for (unsigned vma_policy = 0; vma_policy < 2; vma_policy++)
		for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
			struct task *task = new_task(m, rows[i].cpu);
			unsigned pages = (unsigned)strlen(rows[i].expected);
			uint64_t addr = soft_map(task, pages, RW, NULL, 0);

			// Interleave is by address: make the index of the first page 0.
			while (((addr >> PAGE_SHIFT) % 3 || (addr >> PAGE_SHIFT) % 6) && pages)
				addr = soft_map(task, pages, RW, NULL, 0);
			if (vma_policy)
				assert_int_equal(bind_range(task, addr, pages, rows[i].mode,
							 rows[i].nodes, 0),
					0);
			else
				assert_int_equal(set_policy(task, rows[i].mode, rows[i].nodes), 0);
			for (unsigned p = pages; p--;)
				soft_fill(task, addr + ((uint64_t)p << PAGE_SHIFT), 1, 'a');
			expect_nodes(task, addr, rows[i].expected);
			task_exit(task);
		}
	assert_int_equal(mempolicy_set_weight(&m->mm, 0, 256), -EINVAL);
	assert_int_equal(mempolicy_set_weight(&m->mm, -1, 1), -EINVAL);
	assert_int_equal(mempolicy_set_weight(&m->mm, SOFT_NODES, 1), -EINVAL);
	assert_int_equal(mempolicy_set_weight(&m->mm, 0, 0), 0);
	assert_int_equal(mempolicy_weight(&m->mm, 0), 1);
	assert_int_equal(mempolicy_set_weight(&m->mm, 1, 0), 0);
}

// The task's counter, for memory that no vma decides for.
static void interleave_counter(void **state)
{
	struct soft_machine *m = *state;
	struct task *task = new_task(m, 0);
	static const char *const expected[] = {"0120120", "0001120001"};

	assert_int_equal(mempolicy_set_weight(&m->mm, 0, 3), 0);
	assert_int_equal(mempolicy_set_weight(&m->mm, 1, 2), 0);
	for (unsigned weighted = 0; weighted < 2; weighted++) {
		assert_int_equal(set_policy(task,
					 weighted ? POLICY_WEIGHTED_INTERLEAVE : POLICY_INTERLEAVE,
					 7),
			0);
		for (const char *p = expected[weighted]; *p; p++) {
			assert_int_equal(task_interleave_peek(task), *p - '0');
			struct mempolicy *policy = task_policy_get(task);
			struct folio *folio = folio_alloc_policy(&m->mm, GFP_HIGHUSER_MOVABLE, 0,
				policy, NO_INTERLEAVE_INDEX, task);
			mempolicy_put(policy);
			assert_int_equal(folio_nid(folio), *p - '0');
			folio_put(folio);
		}
	}
	assert_int_equal(mempolicy_set_weight(&m->mm, 0, 0), 0);
	assert_int_equal(mempolicy_set_weight(&m->mm, 1, 0), 0);
	task_exit(task);
}

static void counters(void **state)
{
	struct soft_machine *m = *state;
	struct task *task = new_task(m, 0);
	uint64_t addr = soft_map(task, 6, RW, NULL, 0);
	unsigned long before = vmstat_read(&m->stat, VM_NUMA_INTERLEAVE);

	assert_int_equal(set_policy(task, POLICY_INTERLEAVE, 3), 0);
	soft_fill(task, addr, 6, 'i');
	assert_int_equal(vmstat_read(&m->stat, VM_NUMA_INTERLEAVE) - before, 6 + 3);
	task_exit(task);
}

static long tables_of(struct soft_machine *m, unsigned nid)
{
	return (long)vmstat_node(&m->stat, nid, VM_NR_PAGE_TABLE_PAGES);
}

static void map_one(struct task *task, uint64_t addr)
{
	struct map_request request = {.addr = addr, .fixed = true, .len = PAGE_SIZE, .flags = RW};

	assert_int_equal(space_map(task->space, &request, &addr), 0);
}

// Page tables count as pages that the task's policy has placed: a turn of its interleave each.
static void page_tables_take_turns(void **state)
{
	struct soft_machine *m = *state;
	struct task *task = new_task(m, 0), *child;
	uint64_t addr = 1ull << 40, other = addr + (64ull << 30);
	long none[SOFT_NODES] = {tables_of(m, 0), tables_of(m, 1), tables_of(m, 2)};

	map_one(task, addr);
	map_one(task, other);
	assert_int_equal(set_policy(task, POLICY_INTERLEAVE, 7), 0);
	soft_fill(task, addr, 1, 'a'); // levels 3, 2, 1
	assert_int_equal(task_interleave_peek(task), 0);
	for (unsigned nid = 0; nid < 3; nid++)
		assert_int_equal(tables_of(m, nid), none[nid] + 1);
	soft_fill(task, addr, 1, 'b');
	assert_int_equal(task_interleave_peek(task), 0);
	soft_fill(task, other, 1, 'a'); // levels 2, 1
	assert_int_equal(task_interleave_peek(task), 2);
	// What no mapping is near of is given back, and counts anew when it is needed again.
	assert_int_equal(space_unmap(task->space, other, PAGE_SIZE), 0);
	for (unsigned nid = 0; nid < 3; nid++)
		assert_int_equal(tables_of(m, nid), none[nid] + 1);
	map_one(task, other);
	soft_fill(task, other, 1, 'a');
	assert_int_equal(task_interleave_peek(task), 1);
	// The tables of a child are made by its parent, under the policy of the parent.
	assert_int_equal(task_fork(task, 0, &child), 0);
	assert_int_equal(task_interleave_peek(task), 0);
	task_exit(child);
	task_exit(task);
	for (unsigned nid = 0; nid < 3; nid++)
		assert_int_equal(tables_of(m, nid), none[nid]);
}

// A full node: BIND gives up, PREFERRED and PREFERRED_MANY go elsewhere.
static void full_node(void **state)
{
	struct soft_machine *m = *state;
	struct task *hog = new_task(m, 2), *task = new_task(m, 2);
	uint64_t pages = SOFT_NODE_BYTES >> PAGE_SHIFT;
	uint64_t addr = soft_map(hog, pages, RW, NULL, 0), at = addr;
	char byte = 1;

	assert_int_equal(bind_range(hog, addr, pages, POLICY_BIND, 4, 0), 0);
	while (space_write(hog->space, hog, at, &byte, 1) == 1)
		at += PAGE_SIZE;
	assert_int_equal(space_write(hog->space, hog, at, &byte, 1), -ENOMEM);
	addr = soft_map(task, 3, RW, NULL, 0);
	assert_int_equal(bind_range(task, addr, 1, POLICY_PREFERRED, 4, 0), 0);
	assert_int_equal(bind_range(task, addr + PAGE_SIZE, 1, POLICY_PREFERRED_MANY, 4, 0), 0);
	soft_fill(task, addr, 3, 'f');
	for (unsigned i = 0; i < 3; i++)
		assert_int_not_equal(soft_node(task, addr + i * PAGE_SIZE), 2);
	task_exit(hog);
	task_exit(task);
}

// ---- mbind

static void mbind_rules(void **state)
{
	struct soft_machine *m = *state;
	struct task *task = new_task(m, 0), *user;
	uint64_t a = soft_map(task, 8, RW, NULL, 0);

	assert_int_equal(task_create(&m->mm, 1000, 0, &user), 0);
	//	a: 8 pages, of which pages 2 and 3 are a hole
	assert_int_equal(space_unmap(task->space, a + 2 * PAGE_SIZE, 2 * PAGE_SIZE), 0);
	const struct {
		uint64_t at, pages;
		int mode;
		unsigned long nodes, flags;
		int err;
	} rows[] = {
		{a, 2, POLICY_BIND, 2, 0, 0},
		{a, 2, POLICY_BIND, 2, MBIND_STRICT | MBIND_MOVE | MBIND_MOVE_ALL, 0},
		{a, 2, POLICY_BIND, 2, 8, -EINVAL},	// LAZY
		{a, 2, POLICY_BIND, 2, 1 << 4, -EINVAL},
		{a + 1, 1, POLICY_BIND, 2, 0, -EINVAL},
		{a, 0, POLICY_BIND, 2, 0, 0},
		{a, 0, 99, 2, 0, -EINVAL},
		{a, 0, POLICY_BIND, 0, 0, 0}, // nothing to do comes before no nodes
		{a, (uint64_t)-1 >> PAGE_SHIFT, POLICY_BIND, 2, 0, -EINVAL},
		{a, 2, POLICY_BIND, 0, 0, -EINVAL},
		{a, 2, POLICY_DEFAULT, 1, 0, -EINVAL},
		{a, 3, POLICY_BIND, 2, 0, -EFAULT},		     // hole at the end
		{a + 3 * PAGE_SIZE, 2, POLICY_BIND, 2, 0, -EFAULT},  // at the start
		{a, 8, POLICY_BIND, 2, 0, -EFAULT},		     // in the middle
		{a, 8, POLICY_DEFAULT, 0, 0, 0},
		{a - PAGE_SIZE, 20, POLICY_DEFAULT, 0, 0, 0},
		{a + 2 * PAGE_SIZE, 2, POLICY_DEFAULT, 0, 0, -EFAULT}, // nothing at all
	};
	for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
		int err = bind_range(task, rows[i].at, rows[i].pages, rows[i].mode, rows[i].nodes,
			rows[i].flags);
		if (err != rows[i].err)
			fail_msg("row %u: %d, not %d", i, err, rows[i].err);
	}
	a = soft_map(user, 2, RW, NULL, 0);
	assert_int_equal(bind_range(user, a, 1, POLICY_BIND, 2, MBIND_MOVE_ALL), -EPERM);
	assert_int_equal(bind_range(user, a, 1, POLICY_BIND, 2, MBIND_MOVE), 0);
	task_exit(task);
	task_exit(user);
}

static unsigned count_vmas(struct task *task)
{
	unsigned n = 0;

	read_lock(&task->space->mmap_lock);
	for (struct vma *vma = vma_find(task->space, 0); vma; vma = vma_next(vma))
		n++;
	read_unlock(&task->space->mmap_lock);
	return n;
}

static void mbind_splits_and_merges(void **state)
{
	struct soft_machine *m = *state;
	struct task *task = new_task(m, 0);
	uint64_t a = soft_map(task, 16, RW, NULL, 0);

	assert_int_equal(bind_range(task, a + 4 * PAGE_SIZE, 4, POLICY_BIND, 2, 0), 0);
	assert_int_equal(count_vmas(task), 3);
	assert_int_equal(bind_range(task, a + 8 * PAGE_SIZE, 4, POLICY_BIND, 2, 0), 0);
	assert_int_equal(count_vmas(task), 3); // alike: one
	assert_int_equal(bind_range(task, a + 6 * PAGE_SIZE, 1, POLICY_BIND, 4, 0), 0);
	assert_int_equal(count_vmas(task), 5);
	assert_int_equal(bind_range(task, a, 16, POLICY_DEFAULT, 0, 0), 0);
	assert_int_equal(count_vmas(task), 1);
	assert_int_equal(bind_range(task, a + 4 * PAGE_SIZE, 8, POLICY_BIND, 2, 0), 0);
	assert_int_equal(bind_range(task, a + 6 * PAGE_SIZE, 1, POLICY_BIND, 4, 0), 0);
	soft_fill(task, a, 16, 'v');
	expect_nodes(task, a, "0000112111110000");
	task_exit(task);
}

static int refuse(struct space *space, struct mbind_request *r)
{
	(void)space;
	assert_int_equal(r->user.bits, 6);
	assert_non_null(r->policy);
	return -EIO;
}

static void mbind_queue_refuses(void **state)
{
	struct soft_machine *m = *state;
	struct task *task = new_task(m, 0);
	unsigned long nodes = 6;
	uint64_t a = soft_map(task, 4, RW, NULL, 0);
	struct mbind_request r = {.start = a,
		.len = PAGE_SIZE,
		.mode = POLICY_BIND,
		.nmask = &nodes,
		.maxnode = 65,
		.flags = MBIND_STRICT,
		.queue = refuse};

	assert_int_equal(mbind_policy(task->space, task, &r), -EIO);
	mempolicy_put(r.policy);
	assert_int_equal(count_vmas(task), 1);
	soft_fill(task, a, 1, 'q');
	assert_int_equal(soft_node(task, a), 0);
	task_exit(task);
}

// Shared memory: the policy is the object's, whoever maps it.
static void shared_policy(void **state)
{
	struct soft_machine *m = *state;
	struct task *a = new_task(m, 0), *b = new_task(m, 1);
	struct object *shm;
	int mode;

	assert_int_equal(object_create_shmem(&m->mm, "shm", 16 * PAGE_SIZE, &shm), 0);
	uint64_t at = soft_map(a, 16, RW | VM_SHARED, shm, 0);
	uint64_t bt = soft_map(b, 8, RW | VM_SHARED, shm, 4);
	//	offsets   0       4        8       12      16
	//	a sets    [   bind:2               ]
	//	b sets            [ inter: 0-1 ]  (8..11: 4 pages)
	assert_int_equal(bind_range(a, at, 12, POLICY_BIND, 4, 0), 0);
	assert_int_equal(bind_range(b, bt + 4 * PAGE_SIZE, 2, POLICY_INTERLEAVE, 3, 0), 0);
	assert_int_equal(policy_get(b, &mode, NULL, 0, bt, POLICY_F_ADDR), 0);
	assert_int_equal(mode, POLICY_BIND);
	assert_int_equal(policy_get(a, &mode, NULL, 0, at + 9 * PAGE_SIZE, POLICY_F_ADDR), 0);
	assert_int_equal(mode, POLICY_INTERLEAVE);
	soft_fill(b, bt, 8, 's');
	soft_fill(a, at, 16, 's');
	expect_nodes(a, at, "2222222201220000");
	assert_int_equal(bind_range(a, at, 16, POLICY_DEFAULT, 0, 0), 0);
	assert_int_equal(policy_get(b, &mode, NULL, 0, bt, POLICY_F_ADDR), 0);
	assert_int_equal(mode, POLICY_DEFAULT);
	task_exit(a);
	task_exit(b);
	object_put(shm);
}

// Each allocation fails in turn: nothing is changed, nothing is lost.
static void mbind_fails(void **state)
{
	struct soft_machine *m = *state;
	struct task *task = new_task(m, 0);
	struct object *shm;
	bool failed = true;
	int mode;

	assert_int_equal(object_create_shmem(&m->mm, "shm", 16 * PAGE_SIZE, &shm), 0);
	uint64_t a = soft_map(task, 16, RW | VM_SHARED, shm, 0);
	assert_int_equal(bind_range(task, a, 16, POLICY_BIND, 1, 0), 0);
	size_t before = meta_in_use();
	for (uint64_t n = 0; failed; n++) {
		fault_arm(FI_META, FI_THREAD, n, 1);
		int err = bind_range(task, a + 4 * PAGE_SIZE, 4, POLICY_BIND, 2, 0);
		failed = fault_disarm(FI_META);
		assert_int_equal(err, failed ? -ENOMEM : 0);
		if (!failed)
			break;
		assert_int_equal(count_vmas(task), 1);
		assert_int_equal(meta_in_use(), before);
		assert_int_equal(policy_get(task, &mode, NULL, 0, a + 5 * PAGE_SIZE, POLICY_F_ADDR),
			0);
		assert_int_equal(mode, POLICY_BIND);
	}
	assert_int_equal(count_vmas(task), 3);
	task_exit(task);
	object_put(shm);
}

// ---- Rebinding, equality

static void rebinding(void **state)
{
	struct soft_machine *m = *state;
	static const struct {
		int mode;
		unsigned long nodes;
		unsigned long mems[3]; // cpusets one after the other, 0 ends
		unsigned long expected;
	} rows[] = {
		{POLICY_BIND, 3, {6}, 6},	     // 0-1 of 0-2 are the first two of 1-2
		{POLICY_BIND, 1, {6}, 2},
		{POLICY_BIND, 4, {3}, 1},	     // the third of three, mod two
		{POLICY_BIND, 1, {6, 7}, 1},
		{POLICY_BIND | STATIC, 1, {6}, 6},   // nothing left: all
		{POLICY_BIND | STATIC, 1, {6, 7}, 1}, // and back
		{POLICY_BIND | STATIC, 3, {6}, 2},
		{POLICY_BIND | RELATIVE, 3, {6}, 6},
		{POLICY_BIND | RELATIVE, 2, {6}, 4},
		{POLICY_BIND | RELATIVE, 5, {6}, 2}, // 0 and 2 fold onto the first of two
		{POLICY_INTERLEAVE, 7, {2}, 2},
		{POLICY_PREFERRED, 1, {6}, 1},	     // as it was
		{POLICY_PREFERRED_MANY, 1, {6}, 1},
		{POLICY_WEIGHTED_INTERLEAVE, 3, {4, 7}, 1},
	};
	for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
		struct task *task = new_task(m, 0);
		assert_int_equal(set_policy(task, rows[i].mode, rows[i].nodes), 0);
		struct mempolicy *policy = task_policy_get(task);
		for (unsigned k = 0; k < 3 && rows[i].mems[k]; k++)
			mempolicy_rebind(policy, &(struct nodemask){rows[i].mems[k]});
		if (mempolicy_nodes(policy).bits != rows[i].expected)
			fail_msg("row %u: %lx", i, mempolicy_nodes(policy).bits);
		mempolicy_put(policy);
		task_exit(task);
	}
	mempolicy_rebind(NULL, &SOFT_MEMORY);
}

static void equality(void **state)
{
	struct soft_machine *m = *state;
	struct task *task = new_task(m, 0);
	static const struct {
		int mode;
		uint64_t nodes;
	} kinds[] = {{POLICY_BIND, 3}, {POLICY_BIND, 1}, {POLICY_BIND | STATIC, 3},
		{POLICY_BIND | STATIC, 11}, {POLICY_PREFERRED, 1}, {POLICY_LOCAL, 0}};
	struct mempolicy *p[ARRAY_SIZE(kinds)], *copy;

	for (unsigned i = 0; i < ARRAY_SIZE(kinds); i++)
		assert_int_equal(mempolicy_create(task, (unsigned)kinds[i].mode,
					 &(struct nodemask){kinds[i].nodes}, kinds[i].nodes, &p[i]),
			0);
	for (unsigned i = 0; i < ARRAY_SIZE(kinds); i++) {
		for (unsigned k = 0; k < ARRAY_SIZE(kinds); k++)
			assert_int_equal(mempolicy_equal(p[i], p[k]), i == k);
		assert_int_equal(mempolicy_dup(p[i], &copy), 0);
		assert_true(mempolicy_equal(p[i], copy));
		assert_false(mempolicy_equal(p[i], NULL));
		mempolicy_put(copy);
	}
	assert_true(mempolicy_equal(NULL, NULL));
	for (unsigned i = 0; i < ARRAY_SIZE(kinds); i++)
		mempolicy_put(p[i]);
	task_exit(task);
}

static void misplaced(void **state)
{
	struct soft_machine *m = *state;
	static const struct {
		int mode;
		unsigned long nodes;
		int nid, wanted; // the task runs on node 1
	} rows[] = {
		{POLICY_DEFAULT, 0, 0, 1},
		{POLICY_DEFAULT, 0, 1, -1},
		{POLICY_BIND, 3, 0, -1}, // not to be balanced
		{POLICY_BIND | BALANCING, 3, 0, 1},
		{POLICY_BIND | BALANCING, 3, 1, -1},
		{POLICY_BIND | BALANCING, 5, 0, -1}, // the cpu's node is not in the mask
		{POLICY_PREFERRED_MANY | BALANCING, 2, 2, 1},
		{POLICY_INTERLEAVE, 7, 2, -1},
	};

	for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
		struct task *task = new_task(m, 1);
		uint64_t addr = soft_map(task, 1, RW, NULL, 0);

		assert_int_equal(set_policy(task, rows[i].mode, rows[i].nodes), 0);
		read_lock(&task->space->mmap_lock);
		struct vma *vma = vma_lookup(task->space, addr);
		assert_int_equal(mempolicy_misplaced(vma, addr, rows[i].nid, task), rows[i].wanted);
		assert_int_equal(vma_policy_balances(vma, task),
			!rows[i].mode || rows[i].mode & BALANCING);
		read_unlock(&task->space->mmap_lock);
		task_exit(task);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(set_rules),
		cmocka_unit_test(mask_rules),
		cmocka_unit_test(get_rules),
		cmocka_unit_test(placement),
		cmocka_unit_test(interleave_counter),
		cmocka_unit_test(counters),
		cmocka_unit_test(page_tables_take_turns),
		cmocka_unit_test(full_node),
		cmocka_unit_test(mbind_rules),
		cmocka_unit_test(mbind_splits_and_merges),
		cmocka_unit_test(mbind_queue_refuses),
		cmocka_unit_test(shared_policy),
		cmocka_unit_test(mbind_fails),
		cmocka_unit_test(rebinding),
		cmocka_unit_test(equality),
		cmocka_unit_test(misplaced),
	};
	return cmocka_run_group_tests(tests, soft_setup, soft_teardown);
}
