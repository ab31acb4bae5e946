// SPDX-License-Identifier: MIT
// Pages that are on no LRU list and yet can be moved: those of a driver that gives methods to do it
// (the kernel's movable_operations).
#ifndef GODWIT_MIGRATE_MOVABLE_H
#define GODWIT_MIGRATE_MOVABLE_H

#include "base/trace.h" // enum migrate_mode
#include "phys/folio.h"

// Each is called with the folio locked, and may not sleep for long.
struct movable_ops {
	// The page is to be moved soon; the driver must not free or use it until migrate() or
	// putback(). false: not now.
	bool (*isolate)(struct folio *, enum migrate_mode, void *arg);
	// Contents and the driver's own pointers go to dst (locked too; the driver takes a
	// reference to it), then folio_clear_movable(src). 0; -EAGAIN: try again; else: not at all.
	int (*migrate)(struct folio *dst, struct folio *src, enum migrate_mode, void *arg);
	// It will not be moved: the driver may use it again.
	void (*putback)(struct folio *, void *arg);
};

struct movable_driver {
	struct movable_ops ops;
	void *arg;
};

// -ENOMEM. The driver is freed when none of its pages is movable any more.
must_check int movable_driver_create(const struct movable_ops *, void *arg,
	struct movable_driver **ret_driver);
void movable_driver_free(struct movable_driver *);

// The folio, locked, is movable by this driver from now on; and not any more. A page that was
// cleared keeps its type: who finds it isolated knows that its owner let go of it.
void folio_set_movable(struct folio *, struct movable_driver *);
void folio_clear_movable(struct folio *);
struct movable_driver *folio_movable_driver(const struct folio *); // NULL: cleared, or none

// With a reference of its own. -EBUSY: locked, isolated, refused, or not movable (any more).
must_check int movable_isolate(struct folio *, enum migrate_mode);
// Undo, reference included. The owner may have let go meanwhile.
void movable_putback(struct folio *);
// Both locked. 0 also when the owner let go of src meanwhile.
must_check int movable_migrate(struct folio *dst, struct folio *src, enum migrate_mode);

#endif
