// SPDX-License-Identifier: MIT
// A circular doubly linked list. The head is a list_head too; an empty list points to itself, and
// so does a removed entry of list_del_init(). list_del() leaves the entry poisoned.
#ifndef GODWIT_BASE_LIST_H
#define GODWIT_BASE_LIST_H

#include "base/assert.h"

#include <stdbool.h>

struct list_head {
	struct list_head *next, *prev;
};

#define LIST_HEAD_INIT(name) {&(name), &(name)}
#define LIST_HEAD(name) struct list_head name = LIST_HEAD_INIT(name)
#define LIST_POISON ((struct list_head *)0x100)

static inline void list_init(struct list_head *head)
{
	head->next = head;
	head->prev = head;
}

static inline bool list_empty(const struct list_head *head)
{
	return head->next == head;
}

static inline bool list_is_singular(const struct list_head *head)
{
	return !list_empty(head) && head->next == head->prev;
}

static inline bool list_is_first(const struct list_head *entry, const struct list_head *head)
{
	return entry->prev == head;
}

static inline bool list_is_last(const struct list_head *entry, const struct list_head *head)
{
	return entry->next == head;
}

static inline void list_link(struct list_head *prev, struct list_head *entry,
	struct list_head *next)
{
	assert_that(prev->next == next && next->prev == prev, "list %p: next %p, its prev %p",
		(void *)prev, (void *)next, (void *)next->prev);
	entry->prev = prev;
	entry->next = next;
	prev->next = entry;
	next->prev = entry;
}

// First of the list: as a stack.
static inline void list_add(struct list_head *entry, struct list_head *head)
{
	list_link(head, entry, head->next);
}

// Last of the list: as a queue.
static inline void list_add_tail(struct list_head *entry, struct list_head *head)
{
	list_link(head->prev, entry, head);
}

static inline void list_unlink(struct list_head *entry)
{
	assert_that(entry->next != LIST_POISON && entry->next->prev == entry &&
			    entry->prev->next == entry,
		"entry %p is not on a list", (void *)entry);
	entry->prev->next = entry->next;
	entry->next->prev = entry->prev;
}

static inline void list_del(struct list_head *entry)
{
	list_unlink(entry);
	entry->next = LIST_POISON;
	entry->prev = LIST_POISON;
}

static inline void list_del_init(struct list_head *entry)
{
	list_unlink(entry);
	list_init(entry);
}

static inline void list_move(struct list_head *entry, struct list_head *head)
{
	list_unlink(entry);
	list_add(entry, head);
}

static inline void list_move_tail(struct list_head *entry, struct list_head *head)
{
	list_unlink(entry);
	list_add_tail(entry, head);
}

// The entry takes the place of old, which is left untouched.
static inline void list_replace(struct list_head *old, struct list_head *entry)
{
	entry->next = old->next;
	entry->prev = old->prev;
	entry->next->prev = entry;
	entry->prev->next = entry;
}

static inline void list_splice_between(struct list_head *list, struct list_head *prev,
	struct list_head *next)
{
	struct list_head *first = list->next, *last = list->prev;

	first->prev = prev;
	prev->next = first;
	last->next = next;
	next->prev = last;
}

// All entries of list go to the front of head; list itself is then invalid until initialised.
static inline void list_splice(struct list_head *list, struct list_head *head)
{
	if (!list_empty(list))
		list_splice_between(list, head, head->next);
}

static inline void list_splice_tail(struct list_head *list, struct list_head *head)
{
	if (!list_empty(list))
		list_splice_between(list, head->prev, head);
}

static inline void list_splice_init(struct list_head *list, struct list_head *head)
{
	list_splice(list, head);
	list_init(list);
}

static inline void list_splice_tail_init(struct list_head *list, struct list_head *head)
{
	list_splice_tail(list, head);
	list_init(list);
}

// The entries of head up to and with last move to the empty list.
static inline void list_cut_position(struct list_head *list, struct list_head *head,
	struct list_head *last)
{
	list_init(list);
	if (list_empty(head) || last == head)
		return;
	list->next = head->next;
	list->prev = last;
	head->next = last->next;
	head->next->prev = head;
	list->next->prev = list;
	last->next = list;
}

static inline size_t list_count(const struct list_head *head)
{
	size_t n = 0;

	for (const struct list_head *p = head->next; p != head; p = p->next)
		n++;
	return n;
}

#define list_entry(ptr, type, member) container_of(ptr, type, member)
#define list_first_entry(head, type, member) list_entry((head)->next, type, member)
#define list_last_entry(head, type, member) list_entry((head)->prev, type, member)
#define list_first_entry_or_null(head, type, member)                                               \
	(list_empty(head) ? NULL : list_first_entry(head, type, member))
#define list_next_entry(pos, member) list_entry((pos)->member.next, __typeof__(*(pos)), member)
#define list_prev_entry(pos, member) list_entry((pos)->member.prev, __typeof__(*(pos)), member)
#define list_entry_is_head(pos, head, member) (&(pos)->member == (head))

#define list_for_each(pos, head) for (pos = (head)->next; pos != (head); pos = pos->next)

#define list_for_each_entry(pos, head, member)                                                     \
	for (pos = list_first_entry(head, __typeof__(*pos), member);                               \
		!list_entry_is_head(pos, head, member); pos = list_next_entry(pos, member))

#define list_for_each_entry_reverse(pos, head, member)                                             \
	for (pos = list_last_entry(head, __typeof__(*pos), member);                                \
		!list_entry_is_head(pos, head, member); pos = list_prev_entry(pos, member))

// pos may be removed; next may not.
#define list_for_each_entry_safe(pos, next, head, member)                                          \
	for (pos = list_first_entry(head, __typeof__(*pos), member),                               \
	    next = list_next_entry(pos, member);                                                   \
		!list_entry_is_head(pos, head, member);                                            \
		pos = next, next = list_next_entry(next, member))

#endif
