// SPDX-License-Identifier: MIT
// The random operations: each is done on the machine and on the model, and their answers compared.
//
// An operation is chosen and furnished by the generator alone, from a seed of its own, so that a
// sequence from which some operations are left out still does the rest alike (model_test.c shrinks
// by that).
#include "model.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define RW (GW_PROT_READ | GW_PROT_WRITE)

static int number(const struct task_model *t)
{
	return (int)(t - model.task);
}

static void must_be(const char *what, long got, long expected)
{
	if (got != expected)
		disagree("%s: the machine says %ld, the model %ld", what, got, expected);
}

static struct task_model *some_task(void)
{
	struct task_model *t;

	do
		t = &model.task[below(TASKS)];
	while (!t->gw);
	return t;
}

static void some_range(unsigned *ret_first, unsigned *ret_n)
{
	*ret_n = 1 + below(chance(70) ? 8 : 40);
	*ret_first = below(SLOTS - *ret_n + 1);
}

// ---- Mapping

static bool range_is(struct task_model *t, unsigned first, unsigned n, bool mapped)
{
	for (unsigned i = first; i < first + n; i++)
		if ((t->slot[i].standing != NOT_MAPPED) != mapped)
			return false;
	return true;
}

static void do_map(void)
{
	struct task_model *t = some_task();
	struct object_model *object = chance(50) ? &model.object[below(OBJECTS)] : NULL;
	bool shared = object && chance(60), taken;
	unsigned first, n, pgoff, prot = chance(80) ? RW : chance(50) ? GW_PROT_READ : 0;
	struct gw_mapping mapping = {.size = sizeof mapping, .prot = prot};
	uint64_t at;

	some_range(&first, &n);
	pgoff = below(OBJECT_PAGES);
	if (object && pgoff + n > OBJECT_PAGES)
		n = OBJECT_PAGES - pgoff;
	mapping.address = slot_address(first);
	mapping.length = n * PAGE;
	mapping.object = object ? object->gw : NULL;
	mapping.offset = object ? pgoff * PAGE : 0;
	mapping.flags = shared ? GW_MAP_SHARED : 0;
	say("task %d: map slots %u to %u, object %d from %u%s, prot %u", number(t), first,
		first + n - 1, object ? (int)(object - model.object) : -1, pgoff,
		shared ? ", shared" : "", prot);
	taken = !range_is(t, first, n, false);
	must_be("gw_map", gw_map(t->gw, &mapping, &at), taken ? -EEXIST : 0);
	for (unsigned i = 0; !taken && i < n; i++)
		t->slot[first + i] = (struct slot){.standing = NOTHING, .prot = prot,
			.shared = shared, .object = object, .pgoff = pgoff + i};
}

static void do_unmap(void)
{
	struct task_model *t = some_task();
	unsigned first, n;

	some_range(&first, &n);
	say("task %d: unmap slots %u to %u", number(t), first, first + n - 1);
	must_be("gw_unmap", gw_unmap(t->gw, slot_address(first), n * PAGE), 0);
	for (unsigned i = first; i < first + n; i++)
		drop_slot(&t->slot[i]);
}

static void do_protect(void)
{
	static const unsigned prots[] = {0, GW_PROT_READ, RW, RW};
	struct task_model *t = some_task();
	unsigned first, n, prot = prots[below(4)];
	bool whole;

	some_range(&first, &n);
	say("task %d: protect slots %u to %u: %u", number(t), first, first + n - 1, prot);
	whole = range_is(t, first, n, true);
	must_be("gw_protect", gw_protect(t->gw, slot_address(first), n * PAGE, prot),
		whole ? 0 : -ENOMEM);
	// What lies before a hole is changed, as in Linux. Locked private memory that becomes writable
	// gets pages of its own.
	for (unsigned i = first; i < first + n && t->slot[i].standing != NOT_MAPPED; i++) {
		struct slot *s = &t->slot[i];
		bool fill = s->locked && !s->shared && !(s->prot & GW_PROT_WRITE) && prot == RW;

		s->prot = prot;
		if (fill)
			touch_slot(t, i, true, false);
	}
}

static void move_slot(struct slot *to, struct slot *from)
{
	*to = *from;
	*from = (struct slot){0};
}

// Nothing at the old place is found before the new place overlaps it, and that before the old place
// is not one mapping. Whether it is depends on what was merged: then -EFAULT is always a good answer.
static void do_remap(void)
{
	struct task_model *t = some_task();
	unsigned first, n, to = below(SLOTS), new_n;
	uint64_t at;
	int err;

	some_range(&first, &n);
	new_n = chance(60) ? n : 1 + below(n);
	if (to + new_n > SLOTS)
		to = SLOTS - new_n;
	say("task %d: remap slots %u to %u, %u of them to %u", number(t), first, first + n - 1,
		new_n, to);
	if (to < first + n && first < to + new_n) {
		must_be("gw_remap", gw_remap(t->gw, slot_address(first), n * PAGE, new_n * PAGE,
			slot_address(to), &at), range_is(t, first, 1, true) ? -EINVAL : -EFAULT);
		return;
	}
	err = gw_remap(t->gw, slot_address(first), n * PAGE, new_n * PAGE, slot_address(to), &at);
	if (err == -EFAULT)
		return;
	must_be("gw_remap", err, range_is(t, to, new_n, false) ? 0 : -EEXIST);
	for (unsigned i = 0; !err && i < n; i++)
		if (i < new_n)
			move_slot(&t->slot[to + i], &t->slot[first + i]);
		else
			drop_slot(&t->slot[first + i]);
}

static void do_dontneed(void)
{
	struct task_model *t = some_task();
	unsigned first, n;
	long expected = 0;

	some_range(&first, &n);
	say("task %d: DONTNEED slots %u to %u", number(t), first, first + n - 1);
	for (unsigned i = first; i < first + n; i++) {
		struct slot *s = &t->slot[i];

		if (s->standing == NOT_MAPPED) {
			expected = -ENOMEM;
			continue;
		}
		if (s->locked) {
			expected = -EINVAL;
			break;
		}
		set_slot(s, NOTHING, NULL);
	}
	must_be("gw_advise", gw_advise(t->gw, slot_address(first), n * PAGE, MADV_DONTNEED),
		expected);
}

static void do_lock(void)
{
	struct task_model *t = some_task();
	bool lock = chance(50);
	unsigned first, n;

	some_range(&first, &n);
	for (unsigned i = first; i < first + n; i++)
		if (t->slot[i].standing == NOT_MAPPED || !t->slot[i].prot)
			return;
	say("task %d: %s slots %u to %u", number(t), lock ? "lock" : "unlock", first, first + n - 1);
	must_be("gw_lock", lock ? gw_lock(t->gw, slot_address(first), n * PAGE)
				: gw_unlock(t->gw, slot_address(first), n * PAGE), 0);
	for (unsigned i = first; i < first + n; i++) {
		struct slot *s = &t->slot[i];

		s->locked = lock;
		if (lock)
			touch_slot(t, i, !s->shared && (s->prot & GW_PROT_WRITE), false);
	}
}

// ---- Accesses

static void do_write(void)
{
	struct task_model *t = some_task();
	unsigned first, n;

	some_range(&first, &n);
	say("task %d: write slots %u to %u", number(t), first, first + n - 1);
	for (unsigned i = first; i < first + n; i++) {
		unsigned w = below(WORDS);
		uint64_t value = rnd();
		bool may = touch_slot(t, i, true, false);

		if (machine_store(t, i, w, value) != may)
			disagree("slot %u could %sbe written", i, may ? "not " : "");
		if (may)
			t->slot[i].page->word[w] = value;
	}
}

static void do_read(void)
{
	struct task_model *t = some_task();
	unsigned first, n;

	some_range(&first, &n);
	say("task %d: read slots %u to %u", number(t), first, first + n - 1);
	for (unsigned i = first; i < first + n; i++) {
		unsigned w = below(WORDS);
		uint64_t value = 0;
		bool may = touch_slot(t, i, false, false);

		if (machine_load(t, i, w, &value) != may)
			disagree("slot %u could %sbe read", i, may ? "not " : "");
		if (may && value != slot_word(&t->slot[i], w))
			disagree("slot %u, word %u: the machine has %#lx, the model %#lx", i, w, value,
				slot_word(&t->slot[i], w));
	}
}

static void do_pin(void)
{
	struct task_model *t = some_task();
	struct pin_model *pin = &model.pin[below(PINS)];
	unsigned first = below(SLOTS - 8), n = 1 + below(8);
	long expected = 0;

	if (pin->gw) {
		say("unpin %d", (int)(pin - model.pin));
		gw_unpin(pin->gw);
		drop_pin(pin);
		return;
	}
	say("task %d: pin slots %u to %u", number(t), first, first + n - 1);
	for (unsigned i = first; i < first + n && !expected; i++) {
		struct slot *s = &t->slot[i];

		if (!touch_slot(t, i, s->prot & GW_PROT_WRITE, !s->shared)) {
			expected = -EFAULT;
			break;
		}
		pin->page[pin->nr++] = s->page;
		s->page->pins++;
	}
	must_be("gw_pin", gw_pin(t->gw, slot_address(first), n * PAGE, "a model", &pin->gw),
		expected);
	if (expected)
		drop_pin(pin);
}

static void do_sync(void)
{
	struct task_model *t = some_task();
	unsigned first, n;
	uint64_t value;

	some_range(&first, &n);
	say("task %d: sync slots %u to %u", number(t), first, first + n - 1);
	must_be("gw_sync", gw_sync(t->gw, slot_address(first), n * PAGE), 0);
	for (unsigned i = first; i < first + n; i++) {
		struct slot *s = &t->slot[i];

		if (!s->shared || s->object->fd < 0 || !s->object->page[s->pgoff])
			continue;
		for (unsigned w = 0; w < WORDS; w++) {
			if (pread(s->object->fd, &value, 8,
				    (off_t)(s->pgoff * PAGE + w * (PAGE / WORDS))) != 8)
				disagree("pread");
			if (value != s->object->page[s->pgoff]->word[w])
				disagree("slot %u, word %u: the file has %#lx, the model %#lx", i, w,
					value, s->object->page[s->pgoff]->word[w]);
		}
	}
}

// ---- Tasks

// What a fork copies of memory that can be fetched again is left open.
static void fork_slot(struct slot *to, const struct slot *from)
{
	*to = *from;
	to->page = NULL;
	to->locked = false;
	if (from->standing != ZERO && from->standing != PAGE_THERE)
		return;
	if (from->page && from->page->anon && from->page->pins && from->page->exclusive) {
		struct page *copy = model_page(true);

		memcpy(copy->word, from->page->word, sizeof copy->word);
		set_slot(to, PAGE_THERE, copy);
	} else if (from->page && from->page->anon) {
		from->page->exclusive = false;
		set_slot(to, PAGE_THERE, from->page);
	} else {
		set_slot(to, NOTHING, NULL);
		to->maybe = from->standing;
		to->maybe_page = from->page;
	}
}

static void do_fork(void)
{
	struct task_model *t = some_task(), *child = &model.task[below(TASKS)];

	if (child->gw)
		return;
	say("task %d: fork task %d", number(t), number(child));
	must_be("gw_task_fork", gw_task_fork(t->gw, &child->gw), 0);
	child->policy = t->policy;
	child->mems = t->mems;
	for (unsigned i = 0; i < SLOTS; i++)
		fork_slot(&child->slot[i], &t->slot[i]);
}

static void do_exit(void)
{
	struct task_model *t = &model.task[1 + below(TASKS - 1)];

	if (!t->gw)
		return;
	// A pin keeps the space it was made in: all are dropped first.
	for (unsigned i = 0; i < PINS; i++)
		if (model.pin[i].gw) {
			gw_unpin(model.pin[i].gw);
			drop_pin(&model.pin[i]);
		}
	say("task %d: exit", number(t));
	gw_task_exit(t->gw);
	t->gw = NULL;
	for (unsigned i = 0; i < SLOTS; i++)
		drop_slot(&t->slot[i]);
}

// ---- Moving

struct batch {
	uint64_t address[64];
	int node[64], status[64], expected[64];
	struct page *page[64]; // queued
	unsigned n;
};

// The open batch [start, end) is migrated to its node. Positive: pages that stay.
static long model_flush(struct batch *b, unsigned start, unsigned end, int node)
{
	unsigned stay = 0, queued = 0;

	for (unsigned i = start; i < end; i++) {
		struct page *page = b->page[i];

		if (!page)
			continue;
		queued++;
		page->queued = false;
		if (page->pins)
			stay++;
		else
			page->node = node;
	}
	for (unsigned i = start; queued && !stay && i < end; i++)
		b->expected[i] = node;
	return stay;
}

static int model_status(struct task_model *t, struct batch *b, unsigned i, bool all)
{
	uint64_t slot = (b->address[i] - model.base) / PAGE;
	struct page *page = slot < SLOTS ? t->slot[slot].page : NULL;
	enum standing standing = slot < SLOTS ? t->slot[slot].standing : NOT_MAPPED;

	if (standing == NOT_MAPPED || standing == ZERO)
		return -EFAULT;
	if (standing == NOTHING)
		return -ENOENT;
	if (page->node == b->node[i])
		return page->node;
	if (page->maps > 1 && !all)
		return -EACCES;
	if (page->queued)
		return -EBUSY;
	page->queued = true;
	b->page[i] = page;
	return -12345;
}

// The rules of move_pages(2), one after the other.
static long model_move(struct task_model *t, struct batch *b, bool all)
{
	int node = -1;
	unsigned start = 0;
	long ret = 0;

	for (unsigned i = 0; i < b->n; i++) {
		long err = 0;

		if (b->node[i] < 0 || b->node[i] >= NODES || !(MEMORY & 1ul << b->node[i]))
			err = -ENODEV;
		else if (!(t->mems & 1ul << b->node[i]))
			err = -EACCES;
		if (err) {
			ret = node < 0 ? 0 : model_flush(b, start, i, node);
			return err;
		}
		if (node >= 0 && b->node[i] != node) {
			ret = model_flush(b, start, i, node);
			if (ret)
				return ret + b->n - i;
			node = -1;
		}
		if (node < 0) {
			node = b->node[i];
			start = i;
		}
		int status = model_status(t, b, i, all);
		if (status == -12345)
			continue;
		b->expected[i] = status;
		ret = model_flush(b, start, i, node);
		if (ret)
			return ret + b->n - i - 1;
		node = -1;
	}
	return node < 0 ? 0 : model_flush(b, start, b->n, node);
}

static void do_move(void)
{
	struct task_model *t = some_task();
	struct batch b = {.n = 1 + below(chance(70) ? 16 : 64)};
	unsigned first = below(SLOTS), shape = below(4), one = below(3);
	bool all = chance(50);
	long ret, expected;

	for (unsigned i = 0; i < b.n; i++) {
		unsigned slot = shape == 0 ? below(SLOTS) : shape == 1 ? first + i / 2 : first + i;

		b.address[i] = slot_address(slot % (SLOTS + 4)) + below(PAGE);
		b.node[i] = (int)(shape == 3 && chance(30) ? below(3) : one);
		if (chance(1))
			b.node[i] = chance(50) ? 3 : 9;
		b.status[i] = b.expected[i] = -12345;
	}
	say("task %d: move %u pages from slot %u (shape %u) to %u%s", number(t), b.n, first, shape,
		one, all ? ", all" : "");
	expected = model_move(t, &b, all);
	ret = gw_move_pages(t->gw, 0, b.n, b.address, b.node, b.status,
		all ? GW_MPOL_MF_MOVE_ALL : GW_MPOL_MF_MOVE);
	must_be("gw_move_pages", ret, expected);
	for (unsigned i = 0; i < b.n; i++)
		if (b.status[i] != b.expected[i])
			disagree("status %u (slot %lu to %d): the machine says %d, the model %d", i,
				(b.address[i] - model.base) / PAGE, b.node[i], b.status[i],
				b.expected[i]);
}

static unsigned nth_node(unsigned long mask, unsigned n)
{
	unsigned node = 0;

	for (n %= (unsigned)__builtin_popcountl(mask);; node++)
		if (mask & 1ul << node && !n--)
			return node;
}

// All pages of the task on node `from` go to node `to`. Returns those that stay; a page that is met
// a second time, at another address, cannot be isolated again and counts, too (as in Linux).
static long model_migrate_node(struct task_model *t, unsigned from, unsigned to)
{
	long stay = 0;

	for (unsigned i = 0; i < SLOTS; i++) {
		struct page *page = t->slot[i].page;

		if (!page || page->node != (int)from)
			continue;
		stay += page->queued;
		page->queued = true;
	}
	for (unsigned i = 0; i < SLOTS; i++) {
		struct page *page = t->slot[i].page;

		if (!page || !page->queued)
			continue;
		page->queued = false;
		if (page->pins)
			stay++;
		else
			page->node = (int)to;
	}
	return stay;
}

static long model_migrate(struct task_model *t, unsigned long from, unsigned long to)
{
	bool same_size = __builtin_popcountl(from) == __builtin_popcountl(to);
	unsigned long left = from;
	long stay = 0;

	for (;;) {
		int source = -1;
		unsigned dest = 0;

		for (unsigned node = 0; node < NODES; node++) {
			unsigned rank = (unsigned)__builtin_popcountl(from & ((1ul << node) - 1));
			unsigned d = nth_node(to, rank);

			if (!(left & 1ul << node) || (!same_size && to & 1ul << node) || d == node)
				continue;
			source = (int)node;
			dest = d;
			if (!(left & 1ul << d))
				break;
		}
		if (source < 0)
			return stay;
		left &= ~(1ul << source);
		stay += model_migrate_node(t, (unsigned)source, dest);
	}
}

// For the report: pages that are not where the model has them, and why they do not go there.
static void say_why(struct task_model *t)
{
	for (unsigned i = 0; i < SLOTS; i++) {
		struct gw_explanation why = {0};
		const struct gw_move_options options = {.size = sizeof options, .explain = &why};
		uint64_t address = slot_address(i);
		int status = -1;
		long ret;

		if (!t->slot[i].page || t->slot[i].page->pins ||
			gw_move_pages(t->gw, 0, 1, &address, NULL, &status, 0) ||
			status == t->slot[i].page->node)
			continue;
		ret = gw_move_pages_explained(t->gw, 0, 1, &address, &t->slot[i].page->node,
			&status, GW_MPOL_MF_MOVE_ALL, &options);
		fprintf(stderr, "model: slot %u is on node %d, not %d: %ld, %s %s\n", i, status,
			t->slot[i].page->node, ret, gw_why_text(why.why), why.detail);
	}
}

static void do_migrate(void)
{
	struct task_model *caller = some_task(), *t = some_task();
	unsigned long from = 1 + below(7), to = 1 + below(7);
	long ret, expected = -EINVAL;

	say("task %d: migrate task %d from %#lx to %#lx", number(caller), number(t), from, to);
	ret = gw_migrate_pages(caller->gw, gw_task_pid(t->gw), 5, &from, &to);
	if (to & caller->mems)
		expected = model_migrate(t, from, to & caller->mems);
	if (ret != expected && ret > 0)
		say_why(t);
	must_be("gw_migrate_pages", ret, expected);
}

// ---- Policies

static void forget_node(struct page *page)
{
	if (!page->pins)
		page->node = ANY_NODE;
}

// Which nodes pages go to that do not follow the policy is the policy's business; that those in the
// mask, shared ones and pinned ones stay is checked.
static void do_mbind(void)
{
	static const int modes[] = {GW_MPOL_DEFAULT, GW_MPOL_BIND, GW_MPOL_PREFERRED,
		GW_MPOL_INTERLEAVE, GW_MPOL_LOCAL};
	struct task_model *t = some_task();
	int mode = modes[below(5)];
	unsigned long mask = mode == GW_MPOL_DEFAULT || mode == GW_MPOL_LOCAL ? 0 : 1 + below(7);
	unsigned first, n, flags = below(8);
	bool strict = flags & GW_MPOL_MF_STRICT && mode != GW_MPOL_DEFAULT, stays = false;
	bool moves = flags & (GW_MPOL_MF_MOVE | GW_MPOL_MF_MOVE_ALL);
	bool misplaced = false, hole;
	long expected = 0;

	some_range(&first, &n);
	say("task %d: mbind slots %u to %u, mode %d, nodes %#lx, flags %u", number(t), first,
		first + n - 1, mode, mask, flags);
	hole = !range_is(t, first, n, true);
	for (unsigned i = first; i < first + n; i++) {
		struct page *page = t->slot[i].page;

		if (!page || mask & 1ul << page->node)
			continue;
		misplaced = true;
		if (page->maps == 1 || flags & GW_MPOL_MF_MOVE_ALL) {
			stays |= page->pins || page->queued;
			page->queued = true;
		}
	}
	for (unsigned i = first; i < first + n; i++)
		if (t->slot[i].page)
			t->slot[i].page->queued = false;
	if (mask && !(mask & t->mems))
		expected = -EINVAL;
	else if ((hole && mode != GW_MPOL_DEFAULT) || range_is(t, first, n, false))
		expected = -EFAULT;
	else if (strict && !moves && misplaced)
		expected = -EIO;
	else if (strict && moves && stays)
		expected = -EIO;
	long ret = gw_mbind(t->gw, slot_address(first), n * PAGE, mode, &mask, 5, flags);
	if (expected == -EFAULT && strict && !moves && misplaced && ret == -EIO)
		return; // which of the two is met first
	must_be("gw_mbind", ret, expected);
	if (expected && !(expected == -EIO && moves))
		return;
	for (unsigned i = first; i < first + n; i++) {
		struct page *page = t->slot[i].page;

		t->slot[i].policy = mode == GW_MPOL_BIND ? mask & t->mems : 0;
		if (moves && page && (page->maps == 1 || flags & GW_MPOL_MF_MOVE_ALL) &&
			(page->node == ANY_NODE || !(mask & 1ul << page->node)))
			forget_node(page);
	}
}

static void do_set_mempolicy(void)
{
	static const int modes[] = {GW_MPOL_DEFAULT, GW_MPOL_BIND, GW_MPOL_PREFERRED,
		GW_MPOL_INTERLEAVE, GW_MPOL_LOCAL, GW_MPOL_PREFERRED_MANY};
	struct task_model *t = some_task();
	int mode = modes[below(6)];
	unsigned long mask = mode == GW_MPOL_DEFAULT || mode == GW_MPOL_LOCAL ? 0 : 1 + below(7);

	say("task %d: set_mempolicy mode %d, nodes %#lx", number(t), mode, mask);
	must_be("gw_set_mempolicy", gw_set_mempolicy(t->gw, mode, &mask, 5),
		mask && !(mask & t->mems) ? -EINVAL : 0);
}

static void do_set_mems(void)
{
	struct task_model *t = some_task();
	unsigned long mems = 1 + below(7), old = t->mems;
	bool move = chance(50);

	say("task %d: set_mems %#lx%s", number(t), mems, move ? ", move" : "");
	must_be("gw_set_mems", gw_set_mems(t->gw, mems, move), 0);
	t->mems = mems;
	if (move && old != mems)
		(void)model_migrate(t, old, mems);
}

static void do_cpu(void)
{
	struct task_model *t = some_task();
	unsigned cpu = below(NODES);

	say("task %d: on cpu %u", number(t), cpu);
	must_be("gw_task_set_cpu", gw_task_set_cpu(t->gw, cpu), 0);
}

// ----

static const struct {
	void (*run)(void);
	unsigned weight;
} operations[] = {
	{do_map, 10}, {do_unmap, 5}, {do_protect, 6}, {do_remap, 5}, {do_dontneed, 4}, {do_lock, 3},
	{do_write, 16}, {do_read, 10}, {do_pin, 5}, {do_sync, 3}, {do_fork, 4}, {do_exit, 3},
	{do_move, 16}, {do_migrate, 4}, {do_mbind, 4}, {do_set_mempolicy, 2}, {do_set_mems, 2},
	{do_cpu, 2},
};
#define NR_OPERATIONS (sizeof operations / sizeof *operations)

void one_operation(void)
{
	unsigned sum = 0, chosen;

	for (unsigned i = 0; i < NR_OPERATIONS; i++)
		sum += operations[i].weight;
	chosen = below(sum);
	for (unsigned i = 0; i < NR_OPERATIONS; i++) {
		if (chosen < operations[i].weight) {
			operations[i].run();
			return;
		}
		chosen -= operations[i].weight;
	}
}
