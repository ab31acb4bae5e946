// SPDX-License-Identifier: MIT
// The model's own rules: what a touch does, what is mapped where, and the comparison with the
// machine. The rules are written down as simply as can be; nothing here is fast.
//
// A touch of anonymous memory gives the zero page (read) or a page of zeros (write). A write to a
// page that others map copies it; to one that nobody else maps (any more) it does not. A shared
// mapping shows the object's page itself. Reading an object may map its cached neighbours, too.
#include "model.h"

#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define AROUND 16u // pages of a fault-around window

struct model model;

void say(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(model.said, sizeof model.said, format, args);
	va_end(args);
	if (model.verbose)
		fprintf(stderr, "%4u %s\n", model.op, model.said);
}

void disagree(const char *format, ...)
{
	va_list args;

	fprintf(stderr, "model: seed %lu, operation %u, %s: ", model.seed, model.op, model.said);
	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	fputc('\n', stderr);
	abort();
}

uint64_t rnd(void)
{
	uint64_t z = model.random += 0x9e3779b97f4a7c15;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
	z = (z ^ z >> 27) * 0x94d049bb133111eb;
	return z ^ z >> 31;
}

unsigned below(unsigned n)
{
	return (unsigned)(rnd() % n);
}

bool chance(unsigned percent)
{
	return below(100) < percent;
}

// ---- Pages and slots

struct page *model_page(bool anon)
{
	struct page *page = calloc(1, sizeof *page);

	page->node = ANY_NODE;
	page->anon = anon;
	page->exclusive = anon;
	return page;
}

static void page_drop(struct page *page)
{
	if (page && !page->maps && !page->pins && !page->object)
		free(page);
}

void set_slot(struct slot *s, enum standing standing, struct page *page)
{
	struct page *old = s->page;

	if (page)
		page->maps++;
	s->standing = standing;
	s->page = page;
	s->maybe = NOT_MAPPED;
	s->maybe_page = NULL;
	if (old) {
		old->maps--;
		page_drop(old);
	}
}

void drop_slot(struct slot *s)
{
	set_slot(s, NOT_MAPPED, NULL);
	*s = (struct slot){0};
}

void drop_pin(struct pin_model *pin)
{
	for (unsigned i = 0; i < pin->nr; i++) {
		pin->page[i]->pins--;
		page_drop(pin->page[i]);
	}
	*pin = (struct pin_model){0};
}

uint64_t slot_word(const struct slot *s, unsigned w)
{
	return s->page ? s->page->word[w] : 0;
}

// ---- A touch

static struct page *cached(struct slot *s)
{
	struct page **place = &s->object->page[s->pgoff];

	if (!*place) {
		*place = model_page(false);
		(*place)->object = s->object;
	}
	return *place;
}

// The window begins at a multiple of its size, or where the mapping does, and is as long as any then:
// where mappings that follow each other are one, and where not, is not in the model.
static void map_around(struct task_model *t, unsigned i)
{
	unsigned first = i / AROUND * AROUND; // model.base is a multiple of 64 KiB

	for (unsigned k = first; k < i + AROUND && k < SLOTS; k++) {
		struct slot *s = &t->slot[k];

		if (s->standing != NOTHING || s->object != t->slot[i].object || k == i ||
			!s->object->page[s->pgoff])
			continue;
		s->maybe = PAGE_THERE;
		s->maybe_page = s->object->page[s->pgoff];
	}
}

static void copy_page(struct slot *s, const struct page *from)
{
	struct page *page = model_page(true);

	if (from)
		memcpy(page->word, from->word, sizeof page->word);
	s->private_pages = true;
	set_slot(s, PAGE_THERE, page);
}

static void touch_to_own(struct slot *s)
{
	struct page *page = s->page;

	if (!page) {
		copy_page(s, s->object ? cached(s) : NULL);
	} else if (!page->anon) {
		copy_page(s, page);
	} else if (!page->exclusive && page->maps > 1) {
		copy_page(s, page);
	} else {
		page->exclusive = true;
	}
}

bool touch_slot(struct task_model *t, unsigned i, bool write, bool own)
{
	struct slot *s = &t->slot[i];

	if (s->standing == NOT_MAPPED || !(s->prot & (write ? GW_PROT_WRITE : GW_PROT_READ | GW_PROT_WRITE)))
		return false;
	if (s->shared) {
		if (s->standing == NOTHING) {
			set_slot(s, PAGE_THERE, cached(s));
			if (!write)
				map_around(t, i);
		}
	} else if (write || own) {
		touch_to_own(s);
	} else if (s->standing == NOTHING && s->object) {
		set_slot(s, PAGE_THERE, cached(s));
		map_around(t, i);
	} else if (s->standing == NOTHING) {
		set_slot(s, ZERO, NULL);
	}
	return true;
}

// ---- Accesses of the machine

static sigjmp_buf escape;
static volatile sig_atomic_t expected;

static void on_signal(int sig)
{
	if (!expected)
		_Exit(128 + sig);
	expected = 0;
	siglongjmp(escape, 1);
}

static volatile uint64_t *word_pointer(struct task_model *t, unsigned i, unsigned w)
{
	static bool installed;
	char *p = gw_pointer(t->gw, slot_address(i));

	if (!installed && p) { // under the engine's handler would be in vain
		installed = true;
		signal(SIGBUS, on_signal);
	}
	return p ? (volatile uint64_t *)(p + w * (PAGE / WORDS)) : NULL;
}

void model_signals(void);
void model_signals(void)
{
	signal(SIGSEGV, on_signal);
}

bool machine_load(struct task_model *t, unsigned i, unsigned w, uint64_t *ret_value)
{
	volatile uint64_t *p = chance(70) ? word_pointer(t, i, w) : NULL;

	if (!p)
		return gw_read(t->gw, slot_address(i) + w * (PAGE / WORDS), ret_value, 8) == 8;
	if (sigsetjmp(escape, 1))
		return false;
	expected = 1;
	*ret_value = *p;
	expected = 0;
	return true;
}

bool machine_store(struct task_model *t, unsigned i, unsigned w, uint64_t value)
{
	volatile uint64_t *p = chance(70) ? word_pointer(t, i, w) : NULL;

	if (!p)
		return gw_write(t->gw, slot_address(i) + w * (PAGE / WORDS), &value, 8) == 8;
	if (sigsetjmp(escape, 1))
		return false;
	expected = 1;
	*p = value;
	expected = 0;
	return true;
}

// ---- The comparison

static const char *standing_text(enum standing standing)
{
	static const char *const text[] = {"not mapped", "nothing", "the zero page", "a page"};

	return text[standing];
}

static bool status_is(enum standing standing, const struct page *page, int status)
{
	switch (standing) {
	case NOT_MAPPED:
	case ZERO:
		return status == -EFAULT;
	case NOTHING:
		return status == -ENOENT;
	case PAGE_THERE:
		return status >= 0 && status < NODES && (MEMORY & 1ul << status) &&
		       (page->node == ANY_NODE || page->node == status);
	}
	return false;
}

static void compare_slot(struct task_model *t, unsigned i, int status)
{
	struct slot *s = &t->slot[i];

	if (s->maybe != NOT_MAPPED && !status_is(s->standing, s->page, status) &&
		status_is(s->maybe, s->maybe_page, status))
		set_slot(s, s->maybe, s->maybe_page);
	s->maybe = NOT_MAPPED;
	s->maybe_page = NULL;
	if (!status_is(s->standing, s->page, status))
		disagree("task %d, slot %u: the machine says %d, the model %s on node %d",
			(int)(t - model.task), i, status, standing_text(s->standing),
			s->page ? s->page->node : ANY_NODE);
	if (s->page)
		s->page->node = status;
}

void compare_places(void)
{
	uint64_t address[SLOTS];
	int status[SLOTS];

	for (unsigned i = 0; i < SLOTS; i++)
		address[i] = slot_address(i) + i * 31;
	for (struct task_model *t = model.task; t < &model.task[TASKS]; t++) {
		if (!t->gw)
			continue;
		long err = gw_move_pages(t->gw, 0, SLOTS, address, NULL, status, 0);
		if (err)
			disagree("asking where pages are: %ld", err);
		for (unsigned i = 0; i < SLOTS; i++)
			compare_slot(t, i, status[i]);
	}
}

void compare_contents(void)
{
	uint64_t value;

	for (struct task_model *t = model.task; t < &model.task[TASKS]; t++)
		for (unsigned i = 0; t->gw && i < SLOTS; i++) {
			struct slot *s = &t->slot[i];
			unsigned w = (i + model.op) % WORDS;

			if (s->standing < ZERO || !(s->prot & (GW_PROT_READ | GW_PROT_WRITE)))
				continue;
			if (!machine_load(t, i, w, &value))
				disagree("task %d, slot %u cannot be read", (int)(t - model.task), i);
			if (value != slot_word(s, w))
				disagree("task %d, slot %u, word %u: the machine has %#lx, the "
					 "model %#lx",
					(int)(t - model.task), i, w, value, slot_word(s, w));
		}
}
