// SPDX-License-Identifier: MIT
// Mappings of every kind on a small machine, the same as tests/data/record_maps.c makes on a real
// kernel, in the same order; and that kernel's answers, to compare texts with.
#ifndef GODWIT_TESTS_MAPS_CASES_H
#define GODWIT_TESTS_MAPS_CASES_H

#include "unit.h"

#include <godwit/policy.h>
#include <godwit/space.h>
#include <godwit/stats.h>

#include "engine/engine.h"
#include "phys/alloc.h"
#include "text/text.h"
#include "virt/page_table.h"
#include "virt/space.h"

#include <errno.h>
#include <sys/mman.h>

#define CASE_PAGE 4096ul

// What a test does at each point: the mapping at addr is as the recorded block `name` says.
typedef void show_case_fn(const char *name, struct gw_task *task, uint64_t addr,
	unsigned long size);

struct cases {
	struct gw_machine *machine;
	struct gw_task *task;
	show_case_fn *show;
	unsigned nth;
};

static inline struct gw_machine *small_machine(void)
{
	const uint64_t bytes[2] = {64ul << 20, 64ul << 20};
	const struct gw_machine_config config = {
		.size = sizeof config,
		.nr_nodes = 2,
		.node_bytes = bytes,
		.backend = GW_BACKEND_SOFT,
		.flags = GW_MACHINE_MANUAL_CLOCK,
	};
	struct gw_machine *machine;
	int err = gw_machine_create(&config, &machine);

	if (err)
		fail_msg("no machine: %s (%d)", gw_machine_error(), err);
	return machine;
}

// ---- Making mappings

static inline uint64_t case_map(struct cases *c, unsigned long pages, unsigned prot, unsigned flags,
	struct gw_object *object)
{
	struct gw_mapping mapping = {
		.size = sizeof mapping,
		.length = pages * CASE_PAGE,
		.address = 0x200000000000ul + ++c->nth * (64ul << 30),
		.prot = prot,
		.flags = flags,
		.object = object,
	};
	uint64_t addr;

	assert_int_equal(gw_map(c->task, &mapping, &addr), 0);
	return addr;
}

static inline uint64_t case_anon(struct cases *c, unsigned long pages)
{
	return case_map(c, pages, GW_PROT_READ | GW_PROT_WRITE, 0, NULL);
}

static inline void case_put(struct gw_task *task, uint64_t addr, unsigned first, unsigned nr)
{
	for (unsigned i = first; i < first + nr; i++)
		assert_int_equal(gw_write(task, addr + i * CASE_PAGE, "\1", 1), 1);
}

static inline void case_look(struct gw_task *task, uint64_t addr, unsigned first, unsigned nr)
{
	char byte;

	for (unsigned i = first; i < first + nr; i++)
		assert_int_equal(gw_read(task, addr + i * CASE_PAGE, &byte, 1), 1);
}

static inline void case_show(struct cases *c, const char *name, uint64_t addr, unsigned long pages)
{
	c->show(name, c->task, addr, pages * CASE_PAGE);
}

static inline void case_bind(struct cases *c, uint64_t addr, unsigned long pages, int mode,
	unsigned long nodes)
{
	assert_int_equal(gw_mbind(c->task, addr, pages * CASE_PAGE, mode, mode == 4 ? NULL : &nodes,
				 64, 0), 0);
}

static inline void case_policy(struct cases *c, const char *name, int mode, unsigned long nodes)
{
	uint64_t p = case_anon(c, 8);

	case_bind(c, p, 8, mode, nodes);
	case_put(c->task, p, 0, 8);
	case_show(c, name, p, 8);
}

static inline void case_advice(struct cases *c, const char *name, int advice)
{
	uint64_t p = case_anon(c, 1024);
	int err = gw_advise(c->task, p, 1024 * CASE_PAGE, advice);

	if (err == -EOPNOTSUPP) {
		print_message("%s: not in this build\n", name);
		return;
	}
	assert_int_equal(err, 0);
	case_put(c->task, p, 1, 1);
	case_show(c, name, p, 1024);
}

// ---- The cases

static inline void plain_cases(struct cases *c)
{
	uint64_t p = case_anon(c, 16);

	case_show(c, "untouched", p, 16);
	case_put(c->task, p, 0, 4);
	case_look(c->task, p, 8, 4);
	case_show(c, "anon", p, 16);
	p = case_anon(c, 8);
	case_put(c->task, p, 0, 2);
	assert_int_equal(gw_lock(c->task, p, 8 * CASE_PAGE), 0);
	case_show(c, "locked", p, 8);
	p = case_anon(c, 8);
	case_put(c->task, p, 0, 8);
	assert_int_equal(gw_protect(c->task, p, 8 * CASE_PAGE, GW_PROT_NONE), 0);
	case_show(c, "none", p, 8);
	p = case_map(c, 8, GW_PROT_READ, 0, NULL);
	case_look(c->task, p, 0, 8);
	case_show(c, "readonly", p, 8);
	p = case_anon(c, 8);
	case_put(c->task, p, 0, 8);
	assert_int_equal(gw_protect(c->task, p + 2 * CASE_PAGE, 2 * CASE_PAGE, GW_PROT_READ), 0);
	case_show(c, "split", p, 8);
	p = case_anon(c, 8);
	case_put(c->task, p, 0, 8);
	assert_int_equal(gw_advise(c->task, p, 4 * CASE_PAGE, MADV_FREE), 0);
	case_put(c->task, p, 0, 1);
	// The engine keeps the pages as they are, as it has nothing to swap them to: no comparison.
}

static inline void object_cases(struct cases *c)
{
	const unsigned rw = GW_PROT_READ | GW_PROT_WRITE;
	struct gw_object *object;
	uint64_t p;

	assert_int_equal(gw_object_create(c->machine, "m", 32 * CASE_PAGE, &object), 0);
	p = case_map(c, 32, rw, GW_MAP_SHARED, object);
	case_put(c->task, p, 0, 3);
	case_look(c->task, p, 20, 1);
	case_show(c, "shared", p, 32);
	p = case_map(c, 32, rw, 0, object);
	case_look(c->task, p, 0, 1);
	case_put(c->task, p, 1, 2);
	case_put(c->task, p, 30, 1);
	case_show(c, "private", p, 32);
	p = case_map(c, 32, GW_PROT_READ, GW_MAP_SHARED, object);
	case_look(c->task, p, 0, 2);
	case_show(c, "shared readonly", p, 32);
	p = case_map(c, 32, rw, GW_MAP_SHARED, object);
	case_bind(c, p, 32, 3, 3);
	case_put(c->task, p, 4, 8);
	case_show(c, "shared interleave", p, 32);
	gw_object_put(object);
}

static inline void file_cases(struct cases *c)
{
	const unsigned rw = GW_PROT_READ | GW_PROT_WRITE;
	char path[] = "maps_cases_XXXXXX";
	struct gw_object *object;
	int fd = mkstemp(path);
	uint64_t p;

	assert_true(fd >= 0);
	unlink(path);
	assert_int_equal(ftruncate(fd, 16 * CASE_PAGE), 0);
	assert_int_equal(gw_object_open(c->machine, fd, &object), 0);
	close(fd);
	p = case_map(c, 16, rw, GW_MAP_SHARED, object);
	case_look(c->task, p, 0, 16);
	case_put(c->task, p, 0, 2);
	case_show(c, "file", p, 16);
	assert_int_equal(gw_sync(c->task, p, 16 * CASE_PAGE), 0);
	case_show(c, "file synced", p, 16);
	p = case_map(c, 16, rw, 0, object);
	case_put(c->task, p, 0, 2);
	case_look(c->task, p, 2, 1);
	case_show(c, "file private", p, 16);
	gw_object_put(object);
}

static inline void fork_case(struct cases *c)
{
	uint64_t p = case_anon(c, 8);
	struct gw_task *child;

	case_put(c->task, p, 0, 4);
	assert_int_equal(gw_task_fork(c->task, &child), 0);
	case_put(child, p, 0, 1);
	case_show(c, "forked", p, 8);
	gw_task_exit(child);
}

// ---- Entries that a test puts into a page table by hand

static inline struct page_table *case_lock(struct gw_task *task, uint64_t addr)
{
	struct page_table *table = pte_table_lock(task_of(task)->space, vaddr_of(addr));

	assert_non_null(table);
	return table;
}

// The page at addr is on the move (its migration entry stands there), or back.
static inline struct pte case_replace(struct gw_task *task, uint64_t addr, struct pte entry)
{
	struct page_table *table = case_lock(task, addr);
	struct pte old = table_entry(table, pte_index(vaddr_of(addr)));

	table_set_entry(table, pte_index(vaddr_of(addr)), entry);
	page_table_unlock(table);
	return old;
}

static inline struct pte case_to_migration(struct gw_task *task, uint64_t addr)
{
	struct pte old = case_replace(task, addr, (struct pte){0});

	assert_true(pte_present(old));
	case_replace(task, addr, pte_make(pte_pfn(old), PTE_MIGRATION_WRITE | (old.v & PTE_DIRTY)));
	return old;
}

// A huge page of anonymous memory appears at addr, and goes again.
static inline struct folio *case_put_huge(struct gw_task *task, uint64_t addr)
{
	struct space *space = task_of(task)->space;
	struct folio *folio = folio_alloc(space->mm->phys, GFP_HIGHUSER_MOVABLE | GFP_COMP,
		PMD_ORDER, 0, NULL, 0);
	struct page_table *pmd;
	int err;

	assert_non_null(folio);
	folio_set_swapbacked(folio);
	folio_set_mapping_raw(folio, MAPPING_ANON);
	pmd = pmd_table_alloc_lock(space, NULL, vaddr_of(addr), &err);
	assert_non_null(pmd);
	folio_map_entire(folio, NULL);
	table_set_entry(pmd, pmd_index(vaddr_of(addr)), pte_make(folio_pfn(folio),
		PTE_PRESENT | PTE_WRITE | PTE_DIRTY | PTE_YOUNG | PTE_HUGE));
	page_table_unlock(pmd);
	return folio;
}

static inline void case_drop_huge(struct gw_task *task, uint64_t addr, struct folio *folio)
{
	struct page_table *pmd = pmd_table_lock(task_of(task)->space, vaddr_of(addr));

	table_set_entry(pmd, pmd_index(vaddr_of(addr)), (struct pte){0});
	folio_unmap_entire(folio, NULL);
	page_table_unlock(pmd);
	folio_set_mapping_raw(folio, 0);
	folio_put(folio);
}

static inline bool case_thp_eligible(const struct vma *vma)
{
	return vma->flags & VM_HUGEPAGE;
}

// Or makes it what it was. Such memory has an offset of its own, which nothing but its text asks for
// here.
static inline void case_make_hugetlb(struct space *space, uint64_t p, uint64_t pgoff)
{
	struct vma *vma;

	write_lock(&space->mmap_lock);
	vma = vma_lookup(space, p);
	vma->flags ^= VM_HUGETLB | VM_ACCOUNT;
	vma->pgoff = pgoff;
	write_unlock(&space->mmap_lock);
}

// Huge entries are made by hand, as the texts do not ask who makes them.
static inline void huge_cases(struct cases *c)
{
	struct space *space = task_of(c->task)->space;
	struct folio *folio[2];
	uint64_t p;

	c->nth = 26;
	p = case_anon(c, 1536);
	folio[0] = case_put_huge(c->task, p);
	folio[1] = case_put_huge(c->task, p + PMD_SIZE);
	case_make_hugetlb(space, p, 0);
	case_show(c, "hugetlb", p, 1536);
	case_make_hugetlb(space, p, p >> PAGE_SHIFT);
	case_drop_huge(c->task, p, folio[0]);
	case_drop_huge(c->task, p + PMD_SIZE, folio[1]);

	c->machine->mm.up.thp_eligible = case_thp_eligible;
	p = case_anon(c, 1024);
	assert_int_equal(gw_advise(c->task, p, 1024 * CASE_PAGE, MADV_HUGEPAGE), 0);
	folio[0] = case_put_huge(c->task, p);
	assert_int_equal(range_huge(task_of(c->task), p, 1024 * CASE_PAGE), 1);
	assert_int_equal(range_huge(task_of(c->task), p + CASE_PAGE, 1023 * CASE_PAGE), 0);
	case_show(c, "thp", p, 1024);
	case_drop_huge(c->task, p, folio[0]);
}

static inline void all_cases(show_case_fn *show)
{
	struct cases c = {.machine = small_machine(), .show = show};

	assert_int_equal(gw_task_create(c.machine, NULL, &c.task), 0);
	plain_cases(&c);
	object_cases(&c);
	file_cases(&c);
	case_policy(&c, "prefer", 1, 2);
	case_policy(&c, "bind", 2, 2);
	case_policy(&c, "bind static", 2 | 1 << 15, 2);
	case_policy(&c, "interleave", 3, 3);
	case_policy(&c, "interleave relative", 3 | 1 << 14, 3);
	case_policy(&c, "local", 4, 0);
	case_policy(&c, "prefer many", 5, 3);
	case_policy(&c, "weighted", 6, 3);
	case_policy(&c, "bind balancing", 2 | 1 << 13, 2);
	case_advice(&c, "hugepage", MADV_HUGEPAGE);
	case_advice(&c, "nohugepage", MADV_NOHUGEPAGE);
	case_advice(&c, "mergeable", MADV_MERGEABLE);
	case_advice(&c, "dontfork", MADV_DONTFORK);
	fork_case(&c);
	huge_cases(&c);
	gw_task_exit(c.task);
	gw_machine_destroy(c.machine);
}

// ---- What the real kernel said

static inline char *data_file(const char *name)
{
	char path[512];
	char *text = NULL;
	size_t size = 0;
	FILE *f;

	snprintf(path, sizeof path, "%s/%s", TEST_DATA, name);
	f = fopen(path, "r");
	assert_non_null(f);
	assert_true(getdelim(&text, &size, '\0', f) > 0);
	fclose(f);
	return text;
}

// The text between a line that is `mark` alone, and the next line that begins with `next`; for
// free(). NULL when there is none.
static inline char *data_block(const char *text, const char *mark, const char *next)
{
	char line[256];
	const char *begin, *end;

	snprintf(line, sizeof line, "%s\n", mark);
	begin = strncmp(text, line, strlen(line)) ? strstr(text, line) : text;
	if (!begin)
		return NULL;
	begin += strlen(line);
	end = strstr(begin, next);
	return end ? strndup(begin, (size_t)(end - begin)) : strdup(begin);
}

#endif
