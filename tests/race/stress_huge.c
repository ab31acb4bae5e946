// SPDX-License-Identifier: MIT
// Actors of the stress program around huge pages: the stamped areas are collapsed, split, scanned and
// moved while writers, readers, forks, protections and the other movers are at work on them; and
// memory of the actor's own goes through all of it in one thread that knows every word.
#include "stress.h"

#include <godwit/huge.h>
#include <godwit/stats.h>

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25
#endif

#define HUGE_PAGES 512u
#define HUGE (HUGE_PAGES * PAGE)

// What a collapse may answer while others are at work: full nodes, pages that are busy or gone.
static void collapse(struct actor *actor, struct gw_task *task, uint64_t at, uint64_t length)
{
	int err;

	actor->doing = "MADV_COLLAPSE";
	err = gw_advise(task, at, length, MADV_COLLAPSE);
	actor->calls++;
	if (err && err != -ENOMEM && err != -EBUSY && err != -EAGAIN && err != -EINVAL)
		fail(actor, "MADV_COLLAPSE at %#lx: %d", at, err);
}

static void split(struct actor *actor, struct gw_task *task, uint64_t at, uint64_t length)
{
	static const unsigned orders[] = {0, 0, 2, 4, 5, 8};
	char text[96];
	int err;

	snprintf(text, sizeof text, "%d,0x%lx,0x%lx,%u", gw_task_pid(task), at, at + length,
		orders[below(actor, 6)]);
	actor->doing = "split_huge_pages";
	actor->calls++;
	err = gw_tunable_set(stress.machine, "sys/kernel/debug/split_huge_pages", text);
	if (err && err != -EINVAL) // a file cannot be split to every order
		fail(actor, "split_huge_pages %s: %d", text, err);
}

static void move(struct actor *actor, struct gw_task *task, uint64_t at, unsigned pages, bool keep)
{
	static _Thread_local uint64_t page[HUGE_PAGES];
	static _Thread_local int node[HUGE_PAGES], status[HUGE_PAGES];
	const struct gw_move_options options = {.size = sizeof options, .keep_huge = keep};
	int to = (int)below(actor, 3);
	long ret;

	for (unsigned i = 0; i < pages; i++) {
		page[i] = at + i * PAGE;
		node[i] = to;
	}
	actor->doing = "gw_move_pages of a huge page";
	actor->calls++;
	ret = gw_move_pages_explained(task, 0, pages, page, node, status, GW_MPOL_MF_MOVE_ALL,
		&options);
	if (ret < 0 && ret != -ENODEV && ret != -EACCES && ret != -ENOMEM)
		fail(actor, "gw_move_pages of a huge page: %ld", ret);
	for (unsigned i = 0; ret >= 0 && i < pages; i++)
		actor->moved += status[i] == to;
}

static void set(struct actor *actor, const char *path, const char *value)
{
	int err = gw_tunable_set(stress.machine, path, value);

	if (err)
		fail(actor, "%s = %s: %d", path, value, err);
}

// Which sizes a fault takes, and khugepaged with it.
static void change_policy(struct actor *actor)
{
	static const char *const words[] = {"always", "madvise", "never", "always"};
	static const char *const sizes[] = {"64", "256", "1024"};
	char path[96];

	actor->doing = "transparent_hugepage/enabled";
	set(actor, "sys/kernel/mm/transparent_hugepage/enabled", words[below(actor, 4)]);
	snprintf(path, sizeof path, "sys/kernel/mm/transparent_hugepage/hugepages-%skB/enabled",
		sizes[below(actor, 3)]);
	set(actor, path, chance(actor, 50) ? "always" : "never");
}

// ---- The areas of all

static void huge_area(struct actor *actor)
{
	static const unsigned char areas[] = {0, 0, 1, 3};
	struct area *area = &stress.area[areas[below(actor, 4)]];
	struct view *view = some_view(actor, area);
	unsigned nr = area->pages / HUGE_PAGES;
	uint64_t at = view->address + below(actor, nr) * HUGE;

	switch (below(actor, 6)) {
	case 0:
	case 1:
		collapse(actor, view->task, at, HUGE);
		break;
	case 2:
		split(actor, view->task, at, chance(actor, 50) ? HUGE : PAGE);
		break;
	case 3:
		collapse(actor, view->task, at, HUGE);
		move(actor, view->task, at, HUGE_PAGES, true);
		break;
	case 4:
		move(actor, view->task, at, chance(actor, 50) ? HUGE_PAGES : 1, false);
		split(actor, view->task, at, HUGE);
		break;
	default:
		actor->doing = "gw_khugepaged_scan";
		gw_khugepaged_scan(stress.machine, 1);
	}
}

// ---- Memory of one's own: two huge pages, some of whose pages hold a number

#define WORDS 12u

struct own {
	uint64_t at;
	unsigned page[WORDS];
	uint64_t value[WORDS];
};

static void own_write(struct actor *actor, struct own *own)
{
	for (unsigned i = 0; i < WORDS; i++)
		if (chance(actor, 50)) {
			own->value[i] = rnd(actor) | 1;
			page_fill(actor, actor->task, own->at + own->page[i] * PAGE, own->value[i]);
		}
}

static void own_check(struct actor *actor, struct gw_task *task, const struct own *own)
{
	actor->doing = "check huge memory";
	for (unsigned i = 0; i < WORDS; i++)
		page_check(actor, task, own->at + own->page[i] * PAGE, own->value[i]);
}

// The child and its parent write apart; each keeps what it had.
static void own_fork(struct actor *actor, struct own *own)
{
	struct own before = *own;
	struct gw_task *child;

	actor->doing = "gw_task_fork with huge pages";
	if (gw_task_fork(actor->task, &child))
		return;
	own_write(actor, own);
	if (chance(actor, 50))
		collapse(actor, child, own->at, HUGE);
	if (chance(actor, 50))
		page_fill(actor, child, own->at + own->page[0] * PAGE, before.value[0] = 77);
	if (chance(actor, 50))
		move(actor, child, own->at, HUGE_PAGES, true);
	own_check(actor, child, &before);
	own_check(actor, actor->task, own);
	gw_task_exit(child);
}

// Pages in the middle of a huge page go, and come again as zeros.
static void own_hole(struct actor *actor, struct own *own)
{
	unsigned first = 1 + below(actor, HUGE_PAGES), n = 1 + below(actor, HUGE_PAGES - 2);
	uint64_t at = own->at + first * PAGE;

	if (chance(actor, 50)) {
		actor->doing = "MADV_DONTNEED in a huge page";
		expect(actor, "gw_advise", gw_advise(actor->task, at, n * PAGE, MADV_DONTNEED), 0);
	} else {
		actor->doing = "gw_unmap in a huge page";
		expect(actor, "gw_unmap", gw_unmap(actor->task, at, n * PAGE), 0);
		map_pages(actor, actor->task, n, at);
	}
	for (unsigned i = 0; i < WORDS; i++)
		if (own->page[i] >= first && own->page[i] < first + n)
			own->value[i] = 0;
}

static void own_protect(struct actor *actor, struct own *own)
{
	unsigned first = below(actor, 2 * HUGE_PAGES), n = 1 + below(actor, 2 * HUGE_PAGES - first);
	uint64_t at = own->at + first * PAGE;

	actor->doing = "gw_protect in a huge page";
	expect(actor, "gw_protect", gw_protect(actor->task, at, n * PAGE, GW_PROT_READ), 0);
	expect_refused(actor, at, true);
	own_check(actor, actor->task, own);
	expect(actor, "gw_protect",
		gw_protect(actor->task, at, n * PAGE, GW_PROT_READ | GW_PROT_WRITE), 0);
}

static void huge_own(struct actor *actor)
{
	unsigned slot = actor->number ? 5 : 3;
	struct own own = {0};

	actor->doing = "gw_map";
	own.at = map_pages(actor, actor->task, 2 * HUGE_PAGES, 0);
	for (unsigned i = 0; i < WORDS; i++)
		own.page[i] = i * 2 * HUGE_PAGES / WORDS + below(actor, HUGE_PAGES / WORDS);
	if (chance(actor, 70))
		expect(actor, "gw_advise",
			gw_advise(actor->task, own.at, 2 * HUGE, MADV_HUGEPAGE), 0);
	atomic_store(&stress.passing_pages[slot], 2 * HUGE_PAGES);
	atomic_store(&stress.passing[slot], own.at);
	own_write(actor, &own);
	for (unsigned round = 0; round < 8 && !atomic_load(&stress.stop); round++) {
		switch (below(actor, 7)) {
		case 0:
		case 1:
			collapse(actor, actor->task, own.at, 2 * HUGE);
			break;
		case 2:
			split(actor, actor->task, own.at, 2 * HUGE);
			break;
		case 3:
			move(actor, actor->task, own.at + below(actor, 2) * HUGE, HUGE_PAGES,
				chance(actor, 50));
			break;
		case 4:
			own_fork(actor, &own);
			break;
		case 5:
			own_hole(actor, &own);
			break;
		default:
			own_protect(actor, &own);
		}
		own_check(actor, actor->task, &own);
		own_write(actor, &own);
	}
	own_check(actor, actor->task, &own);
	atomic_store(&stress.passing[slot], 0);
	actor->doing = "gw_unmap";
	expect(actor, "gw_unmap", gw_unmap(actor->task, own.at, 2 * HUGE), 0);
}

void act_huge(struct actor *actor)
{
	if (chance(actor, 3))
		change_policy(actor);
	if (chance(actor, 60))
		huge_area(actor);
	else
		huge_own(actor);
	actor->doing = "wait";
	usleep(1000);
}
