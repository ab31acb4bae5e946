// SPDX-License-Identifier: MIT
// Actors of the stress program that change spaces: mapping and unmapping, remapping, protecting,
// forking, advising, syncing, and nodes that fill up.
#include "stress.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

// ---- Memory of one's own, told to the movers while it exists

static void announce(struct actor *actor, unsigned slot, uint64_t address, unsigned pages)
{
	(void)actor;
	atomic_store(&stress.passing_pages[slot], pages);
	atomic_store(&stress.passing[slot], address);
}

// Each page holds `value` + its number; 0: it must hold zeros.
struct own {
	uint64_t address;
	unsigned pages;
	uint64_t value[600];
};

static void own_fill(struct actor *actor, struct own *own, unsigned first, unsigned n)
{
	for (unsigned i = first; i < first + n; i++) {
		own->value[i] = rnd(actor) | 1;
		page_fill(actor, actor->task, own->address + i * PAGE, own->value[i]);
	}
}

static void own_check(struct actor *actor, const struct own *own, unsigned first, unsigned n)
{
	for (unsigned i = first; i < first + n; i++)
		page_check(actor, actor->task, own->address + i * PAGE, own->value[i]);
}

static void pick(struct actor *actor, const struct own *own, unsigned *ret_first, unsigned *ret_n)
{
	*ret_first = below(actor, own->pages);
	*ret_n = 1 + below(actor, own->pages - *ret_first);
}

// A hole in the middle, and new memory in it, at the same pointers.
static void churn_hole(struct actor *actor, struct own *own, bool first_hole)
{
	unsigned first, n;

	pick(actor, own, &first, &n);
	if (n == own->pages)
		return; // somebody else could take the addresses
	actor->doing = "gw_unmap in the middle";
	expect(actor, "gw_unmap", gw_unmap(actor->task, own->address + first * PAGE, n * PAGE), 0);
	own_check(actor, own, first ? first - 1 : first + n, 1);
	if (first_hole && chance(actor, 20))
		expect_refused(actor, own->address + first * PAGE, chance(actor, 50));
	actor->doing = "gw_map in a hole";
	map_pages(actor, actor->task, n, own->address + first * PAGE);
	memset(&own->value[first], 0, n * sizeof own->value[0]);
}

static void churn_move(struct actor *actor, struct own *own)
{
	uint64_t to = 0;
	int err;

	actor->doing = "gw_remap";
	err = gw_remap(actor->task, own->address, own->pages * PAGE, own->pages * PAGE, 0, &to);
	expect(actor, "gw_remap", err, -EFAULT); // an mbind() has made two mappings of it
	if (!err)
		own->address = to;
}

static void churn_zap(struct actor *actor, struct own *own)
{
	unsigned first, n;

	pick(actor, own, &first, &n);
	actor->doing = "MADV_DONTNEED";
	expect(actor, "gw_advise", gw_advise(actor->task, own->address + first * PAGE, n * PAGE,
		MADV_DONTNEED), 0);
	memset(&own->value[first], 0, n * sizeof own->value[0]);
}

void act_churn(struct actor *actor)
{
	struct own own = {.pages = 1 + below(actor, chance(actor, 20) ? 600 : 40)};
	unsigned slot = actor->number, rounds = 1 + below(actor, 8), first, n;
	bool whole = true; // one vma: it can be remapped

	actor->doing = "gw_map";
	own.address = map_pages(actor, actor->task, own.pages, 0);
	announce(actor, slot, own.address, own.pages);
	own_fill(actor, &own, 0, own.pages);
	while (rounds--) {
		unsigned what = below(actor, 4);

		if (what == 0) {
			churn_hole(actor, &own, whole);
			whole = false;
		} else if (what == 1 && whole) {
			churn_move(actor, &own);
			announce(actor, slot, own.address, own.pages);
		} else if (what == 2) {
			churn_zap(actor, &own);
		}
		actor->doing = "check and fill";
		own_check(actor, &own, 0, own.pages);
		pick(actor, &own, &first, &n);
		own_fill(actor, &own, first, n);
	}
	own_check(actor, &own, 0, own.pages);
	actor->doing = "gw_unmap";
	announce(actor, slot, chance(actor, 50) ? own.address : 0, own.pages);
	expect(actor, "gw_unmap", gw_unmap(actor->task, own.address, own.pages * PAGE), 0);
}

// ---- Permissions

// Writers stay out of an area that is not writable; readers go on. Memory of the actor's own is
// also made inaccessible, and must refuse.
static void protect_area(struct actor *actor)
{
	struct area *area = some_area(actor);
	struct view *view = some_view(actor, area);
	unsigned first = below(actor, area->pages), n = 1 + below(actor, area->pages - first);
	uint64_t at = view->address + first * PAGE;

	if (chance(actor, 50)) { // under the eyes of the writers
		actor->doing = "gw_protect RWX";
		expect(actor, "gw_protect", gw_protect(view->task, at, n * PAGE,
			GW_PROT_READ | GW_PROT_WRITE | GW_PROT_EXEC), 0);
		expect(actor, "gw_protect", gw_protect(view->task, at, n * PAGE,
			GW_PROT_READ | GW_PROT_WRITE), 0);
		return;
	}
	actor->doing = "wait for the writers";
	pthread_rwlock_wrlock(&area->writers);
	actor->doing = "gw_protect R";
	expect(actor, "gw_protect", gw_protect(view->task, at, n * PAGE, GW_PROT_READ), 0);
	expect_refused(actor, at, true);
	for (unsigned i = 0; i < 8; i++)
		reader_read(actor, area, first + i % n, below(actor, WRITERS));
	expect(actor, "gw_protect", gw_protect(view->task, at, n * PAGE,
		GW_PROT_READ | GW_PROT_WRITE), 0);
	pthread_rwlock_unlock(&area->writers);
}

static void protect_own(struct actor *actor)
{
	struct own own = {.pages = 24};
	unsigned first, n;

	own.address = map_pages(actor, actor->task, own.pages, 0);
	memset(own.value, 0, sizeof own.value);
	if (chance(actor, 50))
		own_fill(actor, &own, 0, own.pages);
	announce(actor, 2, own.address, own.pages);
	for (unsigned i = 0; i < 6; i++) {
		pick(actor, &own, &first, &n);
		actor->doing = "gw_protect NONE";
		expect(actor, "gw_protect", gw_protect(actor->task, own.address + first * PAGE,
			n * PAGE, GW_PROT_NONE), 0);
		expect_refused(actor, own.address + (first + below(actor, n)) * PAGE,
			chance(actor, 50));
		actor->doing = "gw_protect R, then RW";
		if (chance(actor, 50)) {
			expect(actor, "gw_protect", gw_protect(actor->task,
				own.address + first * PAGE, n * PAGE, GW_PROT_READ), 0);
			own_check(actor, &own, first, n);
		}
		expect(actor, "gw_protect", gw_protect(actor->task, own.address + first * PAGE,
			n * PAGE, GW_PROT_READ | GW_PROT_WRITE), 0);
		own_check(actor, &own, first, n);
		own_fill(actor, &own, first, n);
	}
	announce(actor, 2, 0, 0);
	expect(actor, "gw_unmap", gw_unmap(actor->task, own.address, own.pages * PAGE), 0);
}

void act_protect(struct actor *actor)
{
	if (chance(actor, 50))
		protect_area(actor);
	else
		protect_own(actor);
	actor->doing = "wait";
	usleep(1000);
}

// ---- Forks

struct snapshot {
	unsigned page, lane;
	uint32_t least, most;
};

// What the child sees must have been there at some moment between the call and its return, and stay.
static void check_child(struct actor *actor, struct gw_task *child, struct area *area,
	struct snapshot *s, unsigned n)
{
	uint64_t first[8], again[8];

	// Under ThreadSanitizer the child's memcpy would race with the writer's, as a reader's would.
	if (stress.soft && UNDER_TSAN && area->object)
		return;
	for (unsigned i = 0; i < n; i++) {
		uint64_t at = lane_at(area->view[0].address, s[i].page, s[i].lane);

		lane_check(actor, child, area, area->view[0].address, s[i].page, s[i].lane,
			s[i].least, area->object ? UINT32_MAX : s[i].most);
		if (area->object)
			continue;
		lane_load(actor, child, at, first);
		if (chance(actor, 50)) { // a copy of its own, in a lane that nobody else uses
			uint64_t word[8] = {1, 2, 3, 4, 5, 6, 7, 8};

			lane_store(actor, child, lane_at(area->view[0].address, s[i].page,
				LANE_FORKER), word);
			lane_load(actor, area->view[0].task, lane_at(area->view[0].address,
				s[i].page, LANE_FORKER), again);
			if (again[0])
				fail(actor, "a store of the child is in its parent, page %u of %s",
					s[i].page, area->name);
		}
		lane_load(actor, child, at, again);
		if (memcmp(first, again, sizeof first))
			fail(actor, "the child's copy of page %u of %s changed: %#lx, then %#lx",
				s[i].page, area->name, first[0], again[0]);
	}
}

void act_fork(struct actor *actor)
{
	struct area *area = some_area(actor);
	struct gw_task *parent = area->view[0].task, *child;
	struct snapshot s[24];
	int err;

	for (unsigned i = 0; i < 24; i++) {
		s[i].page = chance(actor, 30) ? below(actor, 8) : below(actor, area->pages);
		s[i].lane = below(actor, WRITERS);
		s[i].least = atomic_load(&area->done[s[i].page * WRITERS + s[i].lane]);
	}
	actor->doing = "gw_task_fork";
	pthread_rwlock_rdlock(&area->writers); // the child shall have a writable area
	err = gw_task_fork(parent, &child);
	pthread_rwlock_unlock(&area->writers);
	if (err)
		return;
	for (unsigned i = 0; i < 24; i++)
		s[i].most = atomic_load(&area->started[s[i].page * WRITERS + s[i].lane]);
	actor->doing = "check the child";
	check_child(actor, child, area, s, 24);
	if (chance(actor, 30)) {
		const unsigned long from = 7, to = 1ul << below(actor, 3);

		actor->doing = "gw_migrate_pages of the child";
		if (gw_migrate_pages(actor->task, gw_task_pid(child), 8, &from, &to) > 0)
			actor->calls++;
		check_child(actor, child, area, s, 24);
	}
	if (chance(actor, 20)) {
		struct gw_task *grandchild;

		actor->doing = "gw_task_fork of the child";
		if (!gw_task_fork(child, &grandchild)) {
			check_child(actor, grandchild, area, s, 24);
			gw_task_exit(grandchild);
		}
	}
	actor->doing = "gw_task_exit";
	gw_task_exit(child);
}

// ---- Nodes that fill up, words of advice, files

void act_fill(struct actor *actor)
{
	actor->doing = "gw_node_fill";
	if (gw_node_fill(stress.machine, 2, below(actor, 3) * 1024 * 1024) < 0)
		fail(actor, "gw_node_fill");
	actor->doing = "wait";
	usleep(20000);
	actor->doing = "gw_node_unfill";
	if (gw_node_unfill(stress.machine, 2) < 0)
		fail(actor, "gw_node_unfill");
	actor->doing = "wait";
	usleep(30000);
}

void act_advise(struct actor *actor)
{
	static const int words[] = {MADV_PAGEOUT, MADV_FREE, MADV_POPULATE_READ,
		MADV_POPULATE_WRITE, MADV_DONTNEED, MADV_MERGEABLE, MADV_NOHUGEPAGE};
	struct area *area = some_area(actor);
	struct view *view = some_view(actor, area);
	unsigned first = below(actor, area->pages), n = 1 + below(actor, area->pages - first);
	int word = words[below(actor, 7)], err;

	if (!area->object && (word == MADV_DONTNEED || word == MADV_FREE))
		return; // would lose what is stamped there
	actor->doing = "gw_advise";
	err = gw_advise(view->task, view->address + first * PAGE, n * PAGE, word);
	if (err && err != -EINVAL && err != -ENOMEM && err != -EOPNOTSUPP && err != -EFAULT)
		fail(actor, "gw_advise(%d): %d", word, err);
	actor->doing = "wait";
	usleep(1000);
}

// What was written before the call is in the file after it.
void act_sync(struct actor *actor)
{
	struct area *area = &stress.area[4];
	struct view *view = some_view(actor, area);
	unsigned first = below(actor, area->pages), n = 1 + below(actor, area->pages - first);
	uint32_t *least = calloc(n * WRITERS, sizeof *least);
	uint64_t word[8];

	for (unsigned i = 0; least && i < n * WRITERS; i++)
		least[i] = atomic_load(&area->done[first * WRITERS + i]);
	actor->doing = "gw_sync";
	expect(actor, "gw_sync", gw_sync(view->task, view->address + first * PAGE, n * PAGE), 0);
	for (unsigned i = 0; least && i < n * WRITERS; i++) {
		unsigned page = first + i / WRITERS, lane = i % WRITERS;
		off_t at = (off_t)lane_at(0, page, lane);

		if (pread(area->fd, word, sizeof word, at) != sizeof word)
			fail(actor, "pread of the file");
		for (unsigned k = 0; k < 8; k++) {
			uint32_t number = stamp_number(actor, lane_key(area, page, lane), k,
				word[k], (uint64_t)at);

			if (number < least[i])
				fail(actor, "page %u, lane %u of the file: number %u after a sync "
					    "of %u",
					page, lane, number, least[i]);
		}
	}
	free(least);
	actor->doing = "wait";
	usleep(2000);
}
