// SPDX-License-Identifier: MIT
// Long-term pins: pages handed to a device, to O_DIRECT, io_uring or vmsplice. A pinned page never
// moves; it is faulted in first, writable and exclusive. Each pin has a holder's name, so that a
// refused migration can say who holds the page.
#ifndef GODWIT_VIRT_PIN_H
#define GODWIT_VIRT_PIN_H

#include "virt/space.h"

struct task;
struct pin;
struct folio;
struct mm_core;

// Pin [addr,len): faults pages in, moves them out of where they may not stay. holder is copied.
// -EFAULT, -ENOMEM, -EINVAL; nothing stays pinned on failure.
int pin_pages(struct space *, struct task *, uint64_t addr, uint64_t len, const char *holder,
	struct pin **ret_pin);
void unpin_pages(struct pin *);
// A pin that covers this frame, for explanations: copies its holder's name (of several pins, one
// with a name), -ENOENT when none.
int pin_holder(struct mm_core *, struct folio *, char *buf, size_t size);

#endif
