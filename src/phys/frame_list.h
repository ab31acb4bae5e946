// SPDX-License-Identifier: MIT
// A doubly linked list of frames (free blocks, or folios by their head frames), linked by 32-bit
// pfn numbers inside struct frame. An all-zero struct is an empty list. The owner's lock guards
// both the list and the links of the frames on it. This is also the type of the private lists on
// which isolated folios travel through migration.
#ifndef GODWIT_PHYS_FRAME_LIST_H
#define GODWIT_PHYS_FRAME_LIST_H

#include "phys/frame.h"

struct frame_list {
	uint32_t first;
	uint32_t last;
};

static inline struct frame *link_frame(uint32_t link)
{
	return link ? vmemmap + link : NULL;
}

static inline uint32_t frame_link(const struct frame *frame)
{
	return (uint32_t)(frame - vmemmap);
}

static inline uint32_t frame_next_link(const struct frame *frame)
{
	return atomic_load_explicit(&frame->lru.next, memory_order_relaxed);
}

static inline uint32_t frame_prev_link(const struct frame *frame)
{
	return atomic_load_explicit(&frame->lru.prev, memory_order_relaxed);
}

static inline void frame_set_links(struct frame *frame, uint32_t prev, uint32_t next)
{
	atomic_store_explicit(&frame->lru.prev, prev, memory_order_relaxed);
	atomic_store_explicit(&frame->lru.next, next, memory_order_relaxed);
}

static inline bool frame_list_empty(const struct frame_list *list)
{
	return !list->first;
}

static inline struct frame *frame_list_first(const struct frame_list *list)
{
	return link_frame(list->first);
}

static inline struct frame *frame_list_last(const struct frame_list *list)
{
	return link_frame(list->last);
}

static inline struct frame *frame_list_next(const struct frame *frame)
{
	return link_frame(frame_next_link(frame));
}

static inline struct frame *frame_list_prev(const struct frame *frame)
{
	return link_frame(frame_prev_link(frame));
}

static inline void frame_list_add(struct frame_list *list, struct frame *frame)
{
	uint32_t link = frame_link(frame);

	frame_set_links(frame, 0, list->first);
	if (list->first)
		atomic_store_explicit(
			&link_frame(list->first)->lru.prev, link, memory_order_relaxed);
	else
		list->last = link;
	list->first = link;
}

static inline void frame_list_add_tail(struct frame_list *list, struct frame *frame)
{
	uint32_t link = frame_link(frame);

	frame_set_links(frame, list->last, 0);
	if (list->last)
		atomic_store_explicit(
			&link_frame(list->last)->lru.next, link, memory_order_relaxed);
	else
		list->first = link;
	list->last = link;
}

// Right behind `pos`, which is on the list.
static inline void frame_list_insert_after(
	struct frame_list *list, struct frame *pos, struct frame *frame)
{
	uint32_t next = frame_next_link(pos), link = frame_link(frame);

	frame_set_links(frame, frame_link(pos), next);
	atomic_store_explicit(&pos->lru.next, link, memory_order_relaxed);
	if (next)
		atomic_store_explicit(&link_frame(next)->lru.prev, link, memory_order_relaxed);
	else
		list->last = link;
}

static inline void frame_list_del(struct frame_list *list, struct frame *frame)
{
	uint32_t next = frame_next_link(frame), prev = frame_prev_link(frame);

	if (prev)
		atomic_store_explicit(&link_frame(prev)->lru.next, next, memory_order_relaxed);
	else
		list->first = next;
	if (next)
		atomic_store_explicit(&link_frame(next)->lru.prev, prev, memory_order_relaxed);
	else
		list->last = prev;
	frame_set_links(frame, 0, 0);
}

static inline struct frame *frame_list_pop(struct frame_list *list)
{
	struct frame *frame = frame_list_first(list);

	if (frame)
		frame_list_del(list, frame);
	return frame;
}

// Append all of `from` to `list`; `from` is empty afterwards.
static inline void frame_list_splice_tail(struct frame_list *list, struct frame_list *from)
{
	if (!from->first)
		return;
	if (list->last) {
		atomic_store_explicit(
			&link_frame(list->last)->lru.next, from->first, memory_order_relaxed);
		atomic_store_explicit(
			&link_frame(from->first)->lru.prev, list->last, memory_order_relaxed);
	} else {
		list->first = from->first;
	}
	list->last = from->last;
	*from = (struct frame_list){0};
}

// `next` is read before the body runs, so the body may unlink `frame`.
#define for_each_frame_safe(frame, next, list)                                                     \
	for ((frame) = frame_list_first(list), (next) = (frame) ? frame_list_next(frame) : NULL;   \
		(frame); (frame) = (next), (next) = (frame) ? frame_list_next(frame) : NULL)

#endif
