// SPDX-License-Identifier: MIT
// Wait queues, hashed by an address: a folio whose lock bit is taken, a page that is unmapped.
// The key is only a number: no reference to the object is taken, it may be freed meanwhile, and a
// waiter only ever looks at it through its own condition. Usable in a SIGSEGV handler.
//
//   waiter:  wait_until(key, !folio_locked(f), WAIT_FOREVER);
//   waker:   clear the bit; wake_all(key);
//
// or by hand:
//   struct waiter w;
//   wait_prepare(&w, key);           queued: a wake from here on is not lost
//   if (still must wait)             re-check
//           err = wait_sleep(&w, timeout_ns);
//   else
//           wait_cancel(&w);
// The waker changes the condition first; a wake may be spurious, so the condition is re-checked.
#ifndef GODWIT_BASE_WAIT_H
#define GODWIT_BASE_WAIT_H

#include "base/list.h"

#include <stdatomic.h>

#define WAIT_FOREVER UINT64_MAX

struct waiter {
	struct list_head entry;
	const void *key;
	_Atomic uint32_t woken;
};

void wait_prepare(struct waiter *w, const void *key);
// Sleeps until woken; 0, or -ETIMEDOUT. The waiter is no longer queued. Cannot be interrupted.
must_check int wait_sleep(struct waiter *w, uint64_t timeout_ns);
// No longer queued; a wake_one() that had chosen this waiter goes on to the next.
void wait_cancel(struct waiter *w);

void wake_all(const void *key);
void wake_one(const void *key); // the one that has waited longest
// Whether anyone waits for the key at this moment.
bool wait_queue_active(const void *key);
// In the child of a fork(), before anything else: nobody waits.
void wait_fork_child(void);

// CLOCK_MONOTONIC, or the virtual clock of a seeded run; never a managed clock.
uint64_t wait_clock_ns(void);

// done() is called before each sleep, without any lock of base held; 0, or -ETIMEDOUT with done()
// still false.
must_check int wait_for(const void *key, bool (*done)(void *arg), void *arg, uint64_t timeout_ns);

// The same with an expression: 0 or -ETIMEDOUT.
#define wait_until(key_expr, cond, timeout_ns)                                                     \
	__extension__({                                                                            \
		const void *wait_key = (key_expr);                                                 \
		uint64_t wait_limit = wait_deadline(timeout_ns);                                   \
		int wait_err = 0;                                                                  \
		while (!(cond)) {                                                                  \
			struct waiter wait_self;                                                   \
			wait_prepare(&wait_self, wait_key);                                        \
			if (cond) {                                                                \
				wait_cancel(&wait_self);                                           \
				break;                                                             \
			}                                                                          \
			wait_err = wait_sleep(&wait_self, wait_remaining(wait_limit));             \
			if (wait_err) {                                                            \
				if (cond)                                                          \
					wait_err = 0;                                              \
				break;                                                             \
			}                                                                          \
		}                                                                                  \
		wait_err;                                                                          \
	})

uint64_t wait_deadline(uint64_t timeout_ns);
uint64_t wait_remaining(uint64_t deadline_ns);

#endif
