// SPDX-License-Identifier: MIT
// What mbind, migrate_pages and move_pages left where it was: each reason that a page can have, at
// its address, in a list that may be too short, from a call that others disturb.
//
// Not here, because these calls wait until it is over: a page that is locked, or being written
// back.
#include "unit.h"

#include <godwit/machine.h>
#include <godwit/migrate.h>
#include <godwit/policy.h>
#include <godwit/space.h>
#include <godwit/stats.h>

#include "base/fault_inject.h"
#include "engine/engine.h"
#include "migrate/detach.h"
#include "migrate/migrate.h"
#include "migrate/stayed.h"
#include "virt/rmap.h"
#include "virt/fault.h"
#include "virt/pin.h"
#include "virt/space.h"

#include <errno.h>
#include <pthread.h>
#include <sys/mman.h>

#define PAGE GW_PAGE_SIZE
#define PAGES 16ul
#define BYTES (PAGES * PAGE)
#define HUGE (2ul << 20)

static struct gw_machine *m;
static struct gw_task *t;
static uint64_t buf; // on node 0
static struct gw_stayed v[32];
static struct gw_stayed_list list;
static struct gw_move_report report;
static const struct gw_move_options options = {
	.size = sizeof options, .stayed = &list, .report = &report};

static int setup(void **state)
{
	const uint64_t bytes[3] = {64 << 20, 64 << 20, 64 << 20};
	const struct gw_machine_config config = {.size = sizeof config,
		.nr_nodes = 3,
		.node_bytes = bytes,
		.backend = GW_BACKEND_SOFT};

	(void)state;
	assert_int_equal(gw_machine_create(&config, &m), 0);
	assert_int_equal(gw_task_create(m, NULL, &t), 0);
	list = (struct gw_stayed_list){.v = v, .max = ARRAY_SIZE(v)};
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	gw_machine_check(m);
	gw_task_exit(t);
	gw_machine_destroy(m);
	return 0;
}

static uint64_t map_of(const struct gw_mapping *wanted)
{
	uint64_t at;

	assert_int_equal(gw_map(t, wanted, &at), 0);
	return at;
}

static uint64_t map(uint64_t bytes)
{
	return map_of(&(struct gw_mapping){.size = sizeof(struct gw_mapping),
		.length = bytes,
		.prot = GW_PROT_READ | GW_PROT_WRITE});
}

static void touch(uint64_t at, uint64_t bytes)
{
	const char byte = 1;

	for (uint64_t i = 0; i < bytes; i += PAGE)
		assert_int_equal(gw_write(t, at + i, &byte, 1), 1);
}

static int open_buf(void **state)
{
	setup(state);
	buf = map(BYTES);
	touch(buf, BYTES);
	return 0;
}

static int mbind_range_of(uint64_t at, uint64_t bytes, unsigned flags)
{
	const unsigned long there = 2;

	return gw_mbind_explained(t, at, bytes, GW_MPOL_BIND, &there, 65, flags, &options);
}

static int bind(unsigned flags)
{
	return mbind_range_of(buf, BYTES, flags);
}

static long migrate(void)
{
	const unsigned long from = 1, to = 2;

	return gw_migrate_pages_explained(t, 0, 65, &from, &to, &options);
}

static long move(uint64_t at, unsigned pages, uint64_t step)
{
	uint64_t page[600];
	int node[600], status[600];

	for (unsigned i = 0; i < pages; i++) {
		page[i] = at + i * step;
		node[i] = 1;
	}
	return gw_move_pages_explained(t, 0, pages, page, node, status, GW_MPOL_MF_MOVE, &options);
}

static void back(void)
{
	const unsigned long from = 2, to = 1;

	assert_true(gw_migrate_pages(t, 0, 65, &from, &to) >= 0);
	assert_int_equal(gw_mbind(t, buf, BYTES, GW_MPOL_DEFAULT, NULL, 0, 0), 0);
}

static struct folio *folio_at(uint64_t at)
{
	struct folio *folio;
	unsigned page;

	assert_int_equal(follow_page(task_of(t)->space, at, &folio, &page), 0);
	return folio;
}

static void expect_nothing(void)
{
	assert_int_equal(list.count, 0);
	assert_int_equal(list.more_pages, 0);
}

// The entry says: so many pages of the buffer from `first`, on node 0 (or none).
static void expect(
	size_t entry, uint64_t first, uint64_t pages, int node, enum gw_why why, const char *detail)
{
	const struct gw_stayed *s = &v[entry];

	assert_in_range(entry, 0, list.count - 1);
	assert_int_equal(s->address, buf + first * PAGE);
	assert_int_equal(s->pages, pages);
	assert_int_equal(s->page_size, PAGE);
	assert_int_equal(s->node, node);
	assert_string_equal(gw_why_name(s->why), gw_why_name(why));
	assert_string_equal(s->detail, detail);
}

static void expect_one(
	uint64_t first, uint64_t pages, int node, enum gw_why why, const char *detail)
{
	assert_int_equal(list.count, 1);
	assert_int_equal(list.more_pages, 0);
	expect(0, first, pages, node, why, detail);
}

// By each of the calls.
static void expect_by_all(uint64_t first, uint64_t pages, enum gw_why why, const char *detail)
{
	assert_int_equal(bind(GW_MPOL_MF_MOVE), 0);
	expect_one(first, pages, 0, why, detail);
	back();
	assert_int_equal(migrate(), pages);
	expect_one(first, pages, 0, why, detail);
	back();
}

static void nothing_stays(void **state)
{
	(void)state;
	assert_int_equal(bind(GW_MPOL_MF_MOVE), 0);
	expect_nothing();
	assert_int_equal(bind(GW_MPOL_MF_MOVE), 0);
	expect_nothing();
	back();
	assert_int_equal(migrate(), 0);
	expect_nothing();
	assert_int_equal(move(buf, PAGES, PAGE), 0);
	expect_nothing();
}

static void shared(void **state)
{
	const char byte = 2;
	struct gw_task *child;

	(void)state;
	assert_int_equal(gw_task_fork(t, &child), 0);
	assert_int_equal(gw_write(t, buf + 5 * PAGE, &byte, 1), 1);
	assert_int_equal(bind(GW_MPOL_MF_MOVE | GW_MPOL_MF_STRICT), 0);
	assert_int_equal(list.count, 2);
	expect(0, 0, 5, 0, GW_WHY_SHARED, "mapped 2 times");
	expect(1, 6, PAGES - 6, 0, GW_WHY_SHARED, "mapped 2 times");
	assert_int_equal(move(buf, PAGES, PAGE), 0);
	assert_int_equal(list.count, 2);
	expect(0, 0, 5, 0, GW_WHY_SHARED, "mapped 2 times");
	assert_int_equal(bind(GW_MPOL_MF_MOVE_ALL), 0);
	expect_nothing();
	gw_task_exit(child);
}

static void pinned(void **state)
{
	struct gw_pin *one, *other;

	(void)state;
	assert_int_equal(gw_pin(t, buf + 3 * PAGE, 2 * PAGE, "a ring", &one), 0);
	expect_by_all(3, 2, GW_WHY_PINNED, "a ring");
	assert_true(move(buf, PAGES, PAGE) > 0);
	expect_one(3, 2, 0, GW_WHY_PINNED, "a ring");
	// Another's neighbours are not the same.
	back();
	assert_int_equal(gw_pin(t, buf + 5 * PAGE, PAGE, "a disk", &other), 0);
	assert_int_equal(bind(GW_MPOL_MF_MOVE | GW_MPOL_MF_STRICT), -EIO);
	assert_int_equal(list.count, 2);
	expect(0, 3, 2, 0, GW_WHY_PINNED, "a ring");
	expect(1, 5, 1, 0, GW_WHY_PINNED, "a disk");
	gw_unpin(one);
	gw_unpin(other);
}

static void locked_memory_moves(void **state)
{
	(void)state;
	assert_int_equal(gw_lock(t, buf, BYTES), 0);
	assert_int_equal(bind(GW_MPOL_MF_MOVE), 0);
	expect_nothing();
}

static void referred_to(void **state)
{
	struct folio *folio = folio_at(buf + 7 * PAGE);

	(void)state;
	expect_by_all(7, 1, GW_WHY_EXTRA_REFERENCE, "");
	folio_put(folio);
}

static void damaged(void **state)
{
	struct folio *folio = folio_at(buf + 6 * PAGE);

	(void)state;
	folio_set_hwpoison(folio);
	folio_put(folio);
	assert_int_equal(bind(GW_MPOL_MF_MOVE), 0); // it is found out, and lost
	expect_nothing();
	assert_int_equal(bind(GW_MPOL_MF_MOVE), 0);
	expect_one(6, 1, -1, GW_WHY_POISONED, "");
}

static void isolated_by_another(void **state)
{
	struct folio *folio = folio_at(buf + 2 * PAGE);
	struct folio_list other = {0};

	(void)state;
	assert_int_equal(isolate_for_migration(&m->mm, folio, &other), 0);
	expect_by_all(2, 1, GW_WHY_NOT_ON_LRU, "");
	assert_int_equal(move(buf, PAGES, PAGE), 0);
	expect_one(2, 1, 0, GW_WHY_NOT_ON_LRU, "");
	putback_movable_pages(&m->mm, &other);
	folio_put(folio);
}

// Another thread has the page in the middle of a move.
struct mover {
	struct folio *folio;
	pthread_barrier_t steps; // it is on its way; it may come back
};

static void *keep_on_its_way(void *arg)
{
	struct mover *mover = arg;
	struct anon_vma *anon_vma;

	folio_lock(mover->folio);
	anon_vma = folio_get_anon_vma(mover->folio);
	int err = folio_detach(&m->mm, mover->folio, DETACH_ONE_BY_ONE);
	pthread_barrier_wait(&mover->steps);
	pthread_barrier_wait(&mover->steps);
	if (!err)
		folios_attach(&m->mm, mover->folio, 0, 1);
	folio_unlock(mover->folio);
	anon_vma_put(anon_vma);
	return NULL;
}

static void on_its_way(void **state)
{
	struct mover mover = {.folio = folio_at(buf + 9 * PAGE)};
	pthread_t thread;

	(void)state;
	pthread_barrier_init(&mover.steps, NULL, 2);
	assert_int_equal(pthread_create(&thread, NULL, keep_on_its_way, &mover), 0);
	pthread_barrier_wait(&mover.steps);
	assert_int_equal(bind(GW_MPOL_MF_MOVE), 0);
	expect_one(9, 1, -1, GW_WHY_MIGRATING, "");
	assert_int_equal(report.why, GW_WHY_MIGRATING);
	back();
	assert_int_equal(move(buf, PAGES, PAGE), 0);
	expect_one(9, 1, -1, GW_WHY_MIGRATING, "");
	pthread_barrier_wait(&mover.steps);
	pthread_join(thread, NULL);
	pthread_barrier_destroy(&mover.steps);
	folio_put(mover.folio);
}

static void zeros(void **state)
{
	char byte;

	(void)state;
	buf = map(BYTES);
	for (uint64_t i = 4; i < 8; i++)
		assert_int_equal(gw_read(t, buf + i * PAGE, &byte, 1), 1);
	assert_int_equal(bind(GW_MPOL_MF_MOVE | GW_MPOL_MF_STRICT), 0);
	expect_one(4, 4, -1, GW_WHY_ZERO_PAGE, "");
	assert_int_equal(migrate(), 0); // they are on no node
	expect_nothing();
	assert_int_equal(move(buf + 4 * PAGE, 4, PAGE), 0);
	expect_one(4, 4, -1, GW_WHY_ZERO_PAGE, "");
}

static void never_migrated(void **state)
{
	struct vma *vma = vma_lookup(task_of(t)->space, buf);

	(void)state;
	vma->flags |= VM_PFNMAP;
	assert_int_equal(bind(GW_MPOL_MF_MOVE), 0);
	expect_one(0, PAGES, 0, GW_WHY_NOT_MIGRATABLE, "");
	assert_int_equal(migrate(), 0);
	expect_one(0, PAGES, 0, GW_WHY_NOT_MIGRATABLE, "");
	assert_int_equal(move(buf, PAGES, PAGE), 0);
	expect_one(0, PAGES, 0, GW_WHY_NOT_MIGRATABLE, "");
	assert_int_equal(bind(GW_MPOL_MF_MOVE | GW_MPOL_MF_STRICT), -EIO);
	expect_one(0, PAGES, 0, GW_WHY_NOT_MIGRATABLE, "");
	assert_int_equal(report.why, GW_WHY_NOT_MIGRATABLE);
	vma->flags &= ~(unsigned)VM_PFNMAP;
}

static void no_room(void **state)
{
	(void)state;
	assert_true(gw_node_fill(m, 1, 0) > 0);
	assert_int_equal(migrate(), -ENOMEM);
	assert_int_equal(list.count, 2);
	assert_int_equal(v[0].why, GW_WHY_NO_TARGET);
	assert_int_equal(v[0].address, buf);
	assert_int_equal(v[0].pages, 1);
	assert_non_null(strstr(v[0].detail, "node 1: "));
	expect(1, 1, PAGES - 1, 0, GW_WHY_ABORTED, "");
	assert_int_equal(bind(GW_MPOL_MF_MOVE), 0);
	assert_int_equal(list.count, 2);
	assert_int_equal(v[0].why, GW_WHY_NO_TARGET);
	expect(1, 1, PAGES - 1, 0, GW_WHY_ABORTED, "");
	assert_true(gw_node_unfill(m, 1) > 0);
}

static void strict_alone_names_the_first(void **state)
{
	(void)state;
	assert_int_equal(
		gw_mbind(t, buf, 4 * PAGE, GW_MPOL_BIND, &(unsigned long){2}, 65, GW_MPOL_MF_MOVE),
		0);
	assert_int_equal(bind(GW_MPOL_MF_STRICT), -EIO);
	expect_one(4, 1, 0, GW_WHY_REFUSED, "");
	assert_int_equal(report.why, GW_WHY_REFUSED);
	assert_int_equal(report.moved + report.failed, 0);
	assert_int_equal(bind(0), 0);
	expect_nothing();
}

static void refused_as_a_whole(void **state)
{
	(void)state;
	assert_int_equal(bind(8), -EINVAL);
	expect_nothing();
	list.count = 7;
	assert_int_equal(gw_migrate_pages_explained(
				 t, 4711, 65, &(unsigned long){1}, &(unsigned long){2}, &options),
		-ESRCH);
	expect_nothing();
	list.count = 7;
	assert_int_equal(
		gw_move_pages_explained(t, 4711, 1, &buf, &(int){1}, &(int){0}, 0, &options),
		-ESRCH);
	expect_nothing();
}

// ---- One page, several addresses

static void mapped_twice(void **state)
{
	struct gw_mapping mapping = {.size = sizeof mapping,
		.length = BYTES,
		.prot = GW_PROT_READ | GW_PROT_WRITE,
		.flags = GW_MAP_SHARED};
	struct gw_object *object;
	struct gw_pin *pin;
	uint64_t other;

	(void)state;
	assert_int_equal(gw_object_create(m, "both", BYTES, &object), 0);
	mapping.object = object;
	buf = map_of(&mapping);
	other = map_of(&mapping);
	touch(buf, BYTES);
	touch(other, BYTES);
	// The second address cannot be isolated, and Linux counts it; but all have moved.
	assert_int_equal(migrate(), PAGES);
	expect_nothing();
	back();
	assert_int_equal(gw_pin(t, buf + PAGE, PAGE, "a ring", &pin), 0);
	assert_int_equal(migrate(), PAGES + 1);
	assert_int_equal(list.count, 2);
	uint64_t low = buf < other ? buf : other;
	assert_int_equal(v[0].address, low + PAGE);
	assert_int_equal(v[1].address, buf + other - low + PAGE);
	for (unsigned i = 0; i < 2; i++) {
		assert_int_equal(v[i].pages, 1);
		assert_int_equal(v[i].why, GW_WHY_PINNED);
		assert_string_equal(v[i].detail, "a ring");
	}
	gw_unpin(pin);
	gw_object_put(object);
}

static void asked_twice(void **state)
{
	uint64_t page[3] = {buf, buf + 1, buf};
	int node[3] = {1, 1, 1}, status[3];

	(void)state;
	assert_int_equal(
		gw_move_pages_explained(t, 0, 3, page, node, status, GW_MPOL_MF_MOVE, &options), 0);
	assert_int_equal(status[1], -EBUSY);
	expect_nothing(); // it moved
}

// Asked about in any order, and more than once: each page is one page, with room and without.
static void asked_at_random(void **state)
{
	const uint64_t page[4] = {
		buf + 8 * PAGE, buf + 2 * PAGE, buf + 8 * PAGE + 1, buf + 8 * PAGE};
	const int node[4] = {1, 1, 1, 1};
	int status[4];
	struct gw_pin *pin;

	(void)state;
	assert_int_equal(gw_pin(t, buf, BYTES, "a ring", &pin), 0);
	for (size_t max = 0; max <= 3; max++) {
		list.max = max;
		assert_true(gw_move_pages_explained(
				    t, 0, 4, page, node, status, GW_MPOL_MF_MOVE, &options) > 0);
		assert_int_equal(list.count, min(max, 2ul));
		assert_int_equal(list.more_pages, 2 - min(max, 2ul));
		if (max > 0)
			expect(0, 2, 1, 0, GW_WHY_PINNED, "a ring");
		if (max > 1)
			expect(1, 8, 1, 0, GW_WHY_PINNED, "a ring");
	}
	gw_unpin(pin);
}

//	pages      0         10        20        30
//	pinned     ####      .         .         .
//	not on LRU   ######  .         .         .
//	aborted       ################ .         .
//	aborted                            ###
//	aborted                               ####
static void each_page_once(void **state)
{
	static const struct {
		uint64_t first, nr;
		enum migrate_why why;
	} runs[] = {{35, 4, WHY_ABORTED}, {3, 17, WHY_ABORTED}, {0, 4, WHY_PINNED},
		{32, 3, WHY_ABORTED}, {2, 6, WHY_NOT_ON_LRU}, {2, 1, WHY_ABORTED}},
	  once[] = {{0, 4, WHY_PINNED}, {4, 4, WHY_NOT_ON_LRU}, {8, 12, WHY_ABORTED},
		  {32, 7, WHY_ABORTED}};
	struct stayed st = {.max = ARRAY_SIZE(runs)};

	(void)state;
	for (unsigned i = 0; i < ARRAY_SIZE(runs); i++)
		stayed_add(&st, &(struct stayed_run){.address = runs[i].first * PAGE,
					.nr = runs[i].nr,
					.why = runs[i].why});
	stayed_finish(&st);
	assert_int_equal(st.nr, ARRAY_SIZE(once));
	for (unsigned i = 0; i < ARRAY_SIZE(once); i++) {
		assert_int_equal(st.run[i].address, once[i].first * PAGE);
		assert_int_equal(st.run[i].nr, once[i].nr);
		assert_int_equal(st.run[i].why, once[i].why);
	}
	stayed_release(&st);
}

// One page that has no room, however often it is asked for; a large one between two questions for
// a small one, or the other way round, hides none of them.
static void each_page_once_without_room(void **state)
{
	const struct stayed_run small = {.address = HUGE + PAGE, .nr = 1, .why = WHY_PINNED};
	const struct stayed_run large = {
		.address = HUGE, .nr = 2, .order = PMD_ORDER, .why = WHY_PINNED};
	const struct stayed_run second = {
		.address = 2 * HUGE, .nr = 1, .order = PMD_ORDER, .why = WHY_PINNED};

	(void)state;
	for (unsigned max = 0; max < 4; max++) {
		struct stayed st = {.max = max};
		unsigned named = 0;

		for (unsigned i = 0; i < 5; i++) {
			stayed_add(&st, &small);
			stayed_add(&st, &large);
			stayed_add(&st, &second);
		}
		stayed_finish(&st);
		assert_int_equal(st.nr, min(max, 2u));
		for (unsigned i = 0; i < st.nr; i++)
			named += st.run[i].nr << st.run[i].order;
		assert_int_equal(st.nr_more + named, 2 * 512 + 1);
		stayed_release(&st);
	}
}

static void addresses_without_a_page(void **state)
{
	const uint64_t page[3] = {buf + BYTES - PAGE, 64 * PAGE, buf + 17};
	const int node[3] = {1, 1, 1};
	int status[3];

	(void)state;
	assert_int_equal(gw_advise(t, buf + BYTES - PAGE, PAGE, MADV_DONTNEED), 0);
	assert_int_equal(
		gw_move_pages_explained(t, 0, 3, page, node, status, GW_MPOL_MF_MOVE, &options), 0);
	assert_int_equal(list.count, 2);
	assert_int_equal(v[0].address, 64 * PAGE);
	assert_int_equal(v[0].why, GW_WHY_NO_VMA);
	expect(1, PAGES - 1, 1, -1, GW_WHY_NOT_PRESENT, "");
}

static void huge(void **state)
{
	const struct gw_mapping mapping = {.size = sizeof mapping,
		.length = 2 * HUGE,
		.align = HUGE,
		.prot = GW_PROT_READ | GW_PROT_WRITE};
	struct gw_pin *pin;

	(void)state;
	assert_int_equal(
		gw_tunable_set(m, "sys/kernel/mm/transparent_hugepage/enabled", "always"), 0);
	buf = map_of(&mapping);
	touch(buf, 2 * HUGE);
	assert_int_equal(gw_pin(t, buf + HUGE + 5 * PAGE, PAGE, "a ring", &pin), 0);
	for (unsigned call = 0; call < 3; call++) {
		if (call == 0)
			assert_true(mbind_range_of(buf, 2 * HUGE, GW_MPOL_MF_MOVE) == 0);
		else if (call == 1)
			assert_true(migrate() > 0);
		else
			assert_true(move(buf + HUGE, 512, PAGE) > 0);
		assert_int_equal(list.count, 1);
		assert_int_equal(v[0].address, buf + HUGE);
		assert_int_equal(v[0].pages, 1);
		assert_int_equal(v[0].page_size, HUGE);
		assert_int_equal(v[0].why, GW_WHY_PINNED);
		assert_string_equal(v[0].detail, "a ring");
	}
	gw_unpin(pin);
	assert_int_equal(move(buf + HUGE, 512, PAGE), 0); // all but the first: -EBUSY, and moved
	expect_nothing();
}

// Every address of what a list has no room for: a page of 2 MiB is 512 of 4 KiB once.
static void every_address_of_huge(void **state)
{
	const struct gw_mapping mapping = {.size = sizeof mapping,
		.length = 2 * HUGE,
		.align = HUGE,
		.prot = GW_PROT_READ | GW_PROT_WRITE};
	struct gw_pin *one, *other;

	(void)state;
	assert_int_equal(
		gw_tunable_set(m, "sys/kernel/mm/transparent_hugepage/enabled", "always"), 0);
	buf = map_of(&mapping);
	touch(buf, 2 * HUGE);
	assert_int_equal(gw_pin(t, buf, PAGE, "a ring", &one), 0);
	assert_int_equal(gw_pin(t, buf + HUGE, PAGE, "a disk", &other), 0);
	list.max = 1;
	assert_true(move(buf + HUGE - 300 * PAGE, 600, PAGE) > 0);
	assert_int_equal(list.count, 1);
	assert_int_equal(v[0].address, buf);
	assert_int_equal(list.more_pages, 512);
	list.max = 0;
	assert_true(move(buf + HUGE - 300 * PAGE, 600, PAGE) > 0);
	assert_int_equal(list.more_pages, 1024);
	gw_unpin(one);
	gw_unpin(other);
}

// Asked for from its middle on, as a part of the next.
static void parts_of_huge(void **state)
{
	const struct gw_mapping mapping = {.size = sizeof mapping,
		.length = 2 * HUGE,
		.align = HUGE,
		.prot = GW_PROT_READ | GW_PROT_WRITE};
	struct gw_task *child;

	(void)state;
	assert_int_equal(
		gw_tunable_set(m, "sys/kernel/mm/transparent_hugepage/enabled", "always"), 0);
	buf = map_of(&mapping);
	touch(buf, 2 * HUGE);
	assert_int_equal(gw_task_fork(t, &child), 0);
	assert_int_equal(mbind_range_of(buf + HUGE / 2, HUGE, GW_MPOL_MF_MOVE), 0);
	assert_int_equal(list.count, 2);
	for (unsigned i = 0; i < 2; i++) {
		assert_int_equal(v[i].address, buf + HUGE / 2 * (i + 1));
		assert_int_equal(v[i].pages, 1);
		assert_int_equal(v[i].page_size, HUGE);
		assert_int_equal(v[i].why, GW_WHY_SHARED);
	}
	gw_task_exit(child);
}

// ---- Lists and memory that end too early

static void a_short_list_counts(void **state)
{
	struct gw_pin *pin[PAGES / 2];

	(void)state;
	for (unsigned i = 0; i < PAGES / 2; i++)
		assert_int_equal(gw_pin(t, buf + 2 * i * PAGE, PAGE, "a ring", &pin[i]), 0);
	list.max = 3;
	assert_int_equal(bind(GW_MPOL_MF_MOVE), 0);
	assert_int_equal(list.count, 3);
	assert_int_equal(list.more_pages, PAGES / 2 - 3);
	for (unsigned i = 0; i < 3; i++)
		expect(i, 2 * i, 1, 0, GW_WHY_PINNED, "a ring");
	list = (struct gw_stayed_list){0};
	assert_int_equal(bind(GW_MPOL_MF_MOVE), 0);
	assert_int_equal(list.more_pages, PAGES / 2);
	for (unsigned i = 0; i < PAGES / 2; i++)
		gw_unpin(pin[i]);
}

// Each allocation of the engine fails once: the call may fail, but no page is lost from the sum.
static void without_memory(void **state)
{
	struct gw_pin *pin;
	bool failed = true;

	(void)state;
	if (!FAULTS_BUILT_IN)
		skip();
	assert_int_equal(gw_pin(t, buf, 2 * PAGE, "a ring", &pin), 0);
	for (uint64_t nth = 0; failed; nth++) {
		assert_in_range(nth, 0, 100);
		fault_arm(FI_META, FI_THREAD, nth, 1);
		long ret = migrate();
		failed = fault_disarm(FI_META);
		if (ret == 2)
			assert_int_equal(list.more_pages + (list.count ? v[0].pages : 0), 2);
		back();
	}
	expect_one(0, 2, 0, GW_WHY_PINNED, "a ring");
	gw_unpin(pin);
}

int main(void)
{
#define CASE(name) cmocka_unit_test_setup_teardown(name, open_buf, teardown)
	const struct CMUnitTest tests[] = {
		CASE(nothing_stays),
		CASE(shared),
		CASE(pinned),
		CASE(locked_memory_moves),
		CASE(referred_to),
		CASE(damaged),
		CASE(isolated_by_another),
		CASE(on_its_way),
		CASE(zeros),
		CASE(never_migrated),
		CASE(no_room),
		CASE(strict_alone_names_the_first),
		CASE(refused_as_a_whole),
		CASE(mapped_twice),
		CASE(asked_twice),
		CASE(asked_at_random),
		CASE(each_page_once),
		CASE(each_page_once_without_room),
		CASE(addresses_without_a_page),
		CASE(huge),
		CASE(every_address_of_huge),
		CASE(parts_of_huge),
		CASE(a_short_list_counts),
		CASE(without_memory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
