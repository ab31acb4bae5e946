// SPDX-License-Identifier: MIT
// The array of all frames, and what can be said about one frame without knowing its zone.
//
// vmemmap covers the whole pfn number space of the process (2^28 frames: 1 TiB of managed memory
// for 8 GiB of address space); only what is touched costs memory, 32 bytes a page. It is never
// unmapped and its entries never change their meaning, so a stale pointer reads something that was
// or is true of that frame. Frames of an arena that is gone read as zero: no reference can be got.
#include "phys/frame.h"
#include "base/assert.h"
#include "base/compiler.h"
#include "machine/fork_guard.h"
#include "phys/folio.h"

#include <errno.h>
#include <stdio.h>
#include <sys/mman.h>

struct frame *vmemmap;

int vmemmap_init(void)
{
	int err = 0;

	write_lock(&host_fork_lock); // the number space
	if (!vmemmap) {
		void *p = mmap(NULL, VMEMMAP_FRAMES * sizeof(struct frame), PROT_READ | PROT_WRITE,
			MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
		if (p == MAP_FAILED) {
			err = -ENOMEM;
		} else {
			// A core dump or a huge page here would cost far more than it gives.
			madvise(p, VMEMMAP_FRAMES * sizeof(struct frame), MADV_DONTDUMP);
			vmemmap = p;
		}
	}
	write_unlock(&host_fork_lock);
	return err;
}

static uint32_t where_make(unsigned nid, unsigned zone)
{
	return nid | zone << WHERE_ZONE_SHIFT | CPUPID_NONE << WHERE_CPUPID_SHIFT;
}

void frames_init(struct pfn first, uint64_t nr, unsigned nid, unsigned zone)
{
	struct frame *frame = pfn_frame(first);

	for (uint64_t i = 0; i < nr; i++, frame++) {
		atomic_store_explicit(&frame->flags, 0, memory_order_relaxed);
		atomic_store_explicit(&frame->where, where_make(nid, zone), memory_order_relaxed);
		atomic_store_explicit(&frame->refcount, 0, memory_order_relaxed);
		atomic_store_explicit(&frame->mapcount, 0, memory_order_relaxed);
		atomic_store_explicit(&frame->lru.next, 0, memory_order_relaxed);
		atomic_store_explicit(&frame->lru.prev, 0, memory_order_relaxed);
		atomic_store_explicit(&frame->mapping, 0, memory_order_relaxed);
		atomic_store_explicit(&frame->index, 0, memory_order_relaxed);
	}
}

void frames_release(struct pfn first, uint64_t nr)
{
	uintptr_t start = ALIGN_UP((uintptr_t)pfn_frame(first), PAGE_SIZE);
	uintptr_t end = ALIGN_DOWN((uintptr_t)pfn_frame(pfn_add(first, nr)), PAGE_SIZE);
	int saved = errno;

	frames_init(first, nr, 0, 0);
	if (end > start)
		madvise((void *)start, end - start, MADV_DONTNEED);
	errno = saved;
}

unsigned frame_xchg_last_cpupid(struct frame *frame, unsigned cpupid)
{
	const uint32_t mask = ((1u << WHERE_CPUPID_BITS) - 1) << WHERE_CPUPID_SHIFT;
	uint32_t old = atomic_load_explicit(&frame->where, memory_order_relaxed);
	uint32_t new;

	do {
		new = (old & ~mask) | (cpupid << WHERE_CPUPID_SHIFT & mask);
	} while (old != new && !atomic_compare_exchange_weak_explicit(&frame->where, &old, new,
				       memory_order_relaxed, memory_order_relaxed));
	return (old & mask) >> WHERE_CPUPID_SHIFT;
}

static const char *const flag_names[] = {
#define X(name, lower, doc) #lower,
	FRAME_FLAGS(X)
#undef X
};

int frame_flags_text(uint32_t flags, char *buf, size_t size)
{
	int len = 0;

	if (size)
		buf[0] = '\0';
	for (unsigned i = 0; i < FRAME_FLAG_COUNT; i++) {
		if (!(flags >> i & 1))
			continue;
		size_t at = min((size_t)len, size);
		len += snprintf(buf + at, size - at, "%s%s", len ? "|" : "", flag_names[i]);
	}
	return len;
}

int frame_dump(const struct frame *frame, char *buf, size_t size)
{
	static const char *const type_names[] = {"object", "anon", "movable", "ksm"};
	uint32_t flags = frame_flags(frame);
	uint32_t mapping = atomic_load_explicit(&frame->mapping, memory_order_relaxed);
	char text[512];

	frame_flags_text(flags, text, sizeof(text));
	if (flags >> PG_TAIL & 1)
		return snprintf(buf, size, "pfn %#lx tail of %#x flags=%s mapcount=%d",
			(unsigned long)frame_pfn(frame).n,
			atomic_load_explicit(&frame->tail.head, memory_order_relaxed), text,
			atomic_load_explicit(&frame->mapcount, memory_order_relaxed));
	return snprintf(buf, size,
		"pfn %#lx node %u zone %u flags=%s order=%u ref=%u mapcount=%d %s mapping=%#x "
		"index=%#x links=%#x,%#x",
		(unsigned long)frame_pfn(frame).n, frame_nid(frame), frame_zone_type(frame), text,
		flags >> FRAME_ORDER_SHIFT,
		atomic_load_explicit(&frame->refcount, memory_order_relaxed),
		atomic_load_explicit(&frame->mapcount, memory_order_relaxed),
		type_names[mapping & 3], mapping >> 2,
		atomic_load_explicit(&frame->index, memory_order_relaxed),
		atomic_load_explicit(&frame->lru.prev, memory_order_relaxed),
		atomic_load_explicit(&frame->lru.next, memory_order_relaxed));
}
