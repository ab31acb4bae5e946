// SPDX-License-Identifier: MIT
// include/godwit/notifier.h: subscribers to invalidations, and translations for them.
//
// A notifier is a subscriber of virt/notify.c with the user's callbacks behind it, and a reference
// to the space. A translation is a pointer into the frame's own bytes; no reference is kept, the
// subscription is what makes it safe.
// What can fail: see the header.
#include <godwit/notifier.h>

#include "engine/engine.h"
#include "virt/fault.h"
#include "virt/space.h"

#include <errno.h>

struct gw_notifier {
	struct mm_notifier notifier;
	struct gw_notifier_ops ops;
	void *arg;
};

#define SAME(reason)                                                                               \
	build_assert((int)GW_INVALIDATE_##reason == (int)MM_INVALIDATE_##reason, "reasons differ")
SAME(UNMAP);
SAME(COLLAPSE);
SAME(SOFT_DIRTY);

const char *gw_invalidate_reason_text(enum gw_invalidate_reason reason)
{
	static const char *const text[] = {"unmap", "protect", "migrate", "copy on write", "split",
		"collapse", "ksm", "soft dirty"};

	return reason < ARRAY_SIZE(text) ? text[reason] : "unknown";
}

static struct gw_notifier *of(struct mm_notifier *n)
{
	return container_of(n, struct gw_notifier, notifier);
}

static void on_start(struct mm_notifier *n, uint64_t start, uint64_t end,
	enum mm_invalidate_reason reason)
{
	if (of(n)->ops.start)
		of(n)->ops.start(start, end, (enum gw_invalidate_reason)reason, of(n)->arg);
}

static void on_end(struct mm_notifier *n, uint64_t start, uint64_t end,
	enum mm_invalidate_reason reason)
{
	if (of(n)->ops.end)
		of(n)->ops.end(start, end, (enum gw_invalidate_reason)reason, of(n)->arg);
}

int gw_notifier_register(struct gw_task *task, const struct gw_notifier_ops *ops, void *arg,
	struct gw_notifier **ret_notifier)
{
	if (task_refused(task))
		return task_refused(task);
	if (!ops || !ret_notifier)
		return -EINVAL;
	struct space *space = task_space_get(task_of(task));

	if (!space)
		return -ESRCH;
	struct gw_notifier *n = meta_new(struct gw_notifier);
	if (!n) {
		space_put(space);
		return -ENOMEM;
	}
	n->notifier = (struct mm_notifier){.space = space, .start = on_start, .end = on_end};
	n->ops = *ops;
	n->arg = arg;
	mm_notifier_register(space->mm, &n->notifier);
	*ret_notifier = n;
	return 0;
}

void gw_notifier_unregister(struct gw_notifier *n)
{
	if (!n || mm_is_dead(n->notifier.space->mm))
		return;
	struct space *space = n->notifier.space;

	mm_notifier_unregister(space->mm, &n->notifier);
	meta_delete(n);
	space_put(space);
}

int gw_translate(struct gw_task *handle, uint64_t address, int write, void **ret_bytes,
	uint64_t *ret_length)
{
	if (task_refused(handle))
		return task_refused(handle);
	if (!ret_bytes || !ret_length)
		return -EINVAL;
	struct task *task = task_of(handle);
	struct space *space = task_space_get(task);
	uint64_t offset = address & (PAGE_SIZE - 1);
	struct folio *folio;
	unsigned page;

	if (!space)
		return -EFAULT;
	int err = get_user_page(space, task, address, write ? FAULT_WRITE : 0, &folio, &page);
	if (!err) {
		*ret_bytes = (char *)folio_bytes(space->mm, folio, page) + offset;
		folio_put(folio);
	} else if (err == -EFAULT && !write && !handle_fault(space, task, address, FAULT_REMOTE)) {
		*ret_bytes = (char *)folio_bytes(space->mm, space->mm->zero_page, 0) + offset;
		err = 0;
	}
	if (!err)
		*ret_length = PAGE_SIZE - offset;
	space_put(space);
	return err;
}
