// SPDX-License-Identifier: MIT
// For who gives addresses of a task to something with translations of its own: a device, another
// process's page table, an interpreter. It is told before translations go and after (the kernel's
// mmu notifiers), and can ask for new ones.
//
// The protocol that keeps a cache of translations coherent:
//
//	start(range)	under the cache's lock: forget the range, count one more invalidation under
//			way; wait for whoever is using a translation of it
//	end(range)	one less under way, and one more that has happened
//	to fill		n = how many have happened; gw_translate(), without the lock; then under the
//			lock: if one is under way or has happened since, throw the answer away and
//			begin anew; else keep it
//	to use		under the lock (or a reader's share of it), for as long as the bytes are
//			touched
#ifndef GODWIT_NOTIFIER_H
#define GODWIT_NOTIFIER_H

#include <godwit/machine.h>

#ifdef __cplusplus
extern "C" {
#endif

enum gw_invalidate_reason {
	GW_INVALIDATE_UNMAP,
	GW_INVALIDATE_PROTECT,
	GW_INVALIDATE_MIGRATE,
	GW_INVALIDATE_COW,
	GW_INVALIDATE_SPLIT,
	GW_INVALIDATE_COLLAPSE,
	GW_INVALIDATE_KSM,
	GW_INVALIDATE_SOFT_DIRTY,
};

// Both may be NULL and may sleep. They must not touch managed memory nor call the engine: it holds
// locks. They come in pairs, an end with the range and reason of its start; pairs may overlap and
// nest. The range may be larger than what changes, up to all of the space (end UINT64_MAX).
struct gw_notifier_ops {
	void (*start)(uint64_t start, uint64_t end, enum gw_invalidate_reason reason, void *arg);
	void (*end)(uint64_t start, uint64_t end, enum gw_invalidate_reason reason, void *arg);
};

struct gw_notifier;

// For the space the task has now; it may outlive the task. When it returns, no invalidation of the
// space is under way that the subscriber was not told of: it waits for those that had begun.
// Callbacks may come before it returns. No lock held that a callback takes; not from within one.
// -ESRCH: the task is over. -ENOMEM.
GW_EXPORT int gw_notifier_register(struct gw_task *task, const struct gw_notifier_ops *ops,
	void *arg, struct gw_notifier **ret_notifier) GW_CHECK;
// When it returns every start has had its end, no callback runs and none will. It waits for the
// ends that are due: no lock held that a callback takes; not from within one.
GW_EXPORT void gw_notifier_unregister(struct gw_notifier *notifier);

GW_EXPORT const char *gw_invalidate_reason_text(enum gw_invalidate_reason reason);

// The bytes of the page at `address`, faulted in for reading or for writing as the task would: a
// pointer to the frame itself, which stays good until a start() that covers the address returns.
// Who does not subscribe must not use it. *ret_length: how many bytes from there on are good, at
// most to the end of the 4 KiB. -EFAULT, -ENOMEM, -EIO; reading memory that nothing was written to
// gives the zero page.
GW_EXPORT int gw_translate(struct gw_task *task, uint64_t address, int write, void **ret_bytes,
	uint64_t *ret_length) GW_CHECK;

#ifdef __cplusplus
}
#endif
#endif
