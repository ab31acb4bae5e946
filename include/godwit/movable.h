// SPDX-License-Identifier: MIT
// Pages of a driver that can be moved: not on any LRU list, found by nobody but their owner, who
// moves what refers to them. The three callbacks are the kernel's movable_operations.
#ifndef GODWIT_MOVABLE_H
#define GODWIT_MOVABLE_H

#include <godwit/machine.h>
#include <stdbool.h>

#ifdef __cplusplus
extern "C" {
#endif

// A page of a driver; valid until the driver frees it or its migrate callback returns 0 for it.
struct gw_page;

enum gw_migrate_mode { GW_MIGRATE_ASYNC, GW_MIGRATE_SYNC_LIGHT, GW_MIGRATE_SYNC };

// Called by the engine, in the thread that migrates, with the page locked and no other lock of the
// engine held. They may call gw_page_bytes(), gw_page_node(), gw_page_private() and
// gw_page_set_private(), but none of the other doors of this header, and nothing that migrates.
struct gw_movable_operations {
	// May this page be moved now? From true until putback or migrate the owner must not free or
	// hand out what is on it.
	bool (*isolate_page)(struct gw_page *page, enum gw_migrate_mode mode, void *owner);
	// Move the contents and everything that refers to src over to dst, which is locked as well,
	// and has src's word from the start. 0: moved, src is the engine's to free; -EAGAIN: try
	// again; other: give up for now. If it is not 0, dst is not the driver's, and its word is
	// forgotten.
	int (*migrate_page)(struct gw_page *dst, struct gw_page *src, enum gw_migrate_mode mode,
		void *owner);
	// Not moved after all.
	void (*putback_page)(struct gw_page *page, void *owner);
};

struct gw_driver;

// A driver of a machine. ops and owner must live until gw_driver_unregister(), by when all its
// pages are freed. The name is copied. -EINVAL: a callback is missing; -ENOMEM.
GW_EXPORT int gw_driver_register(struct gw_machine *machine, const char *name,
	const struct gw_movable_operations *ops, void *owner,
	struct gw_driver **ret_driver) GW_CHECK;
GW_EXPORT void gw_driver_unregister(struct gw_driver *driver);

// A page of zeros on a node (-1: the first with room), movable from the start; the driver's until
// gw_page_free(). -EINVAL: no such node, nor -1; -ENOMEM.
GW_EXPORT int gw_page_alloc(struct gw_driver *driver, int node, struct gw_page **ret_page) GW_CHECK;
GW_EXPORT void gw_page_free(struct gw_page *page);
GW_EXPORT void *gw_page_bytes(struct gw_page *page); // 4096 of them, until the page moves
GW_EXPORT int gw_page_node(const struct gw_page *page);
// The driver's own word about the page (an index, a pointer), 0 at first. It goes along when the
// page moves, unless migrate_page() gave dst another.
GW_EXPORT void gw_page_set_private(struct gw_page *page, uint64_t word);
GW_EXPORT uint64_t gw_page_private(const struct gw_page *page);
GW_EXPORT void gw_page_lock(struct gw_page *page);
GW_EXPORT void gw_page_unlock(struct gw_page *page);

// Move the driver's pages on node `from` to node `to`. Returns pages that stayed, those that could
// not be isolated among them, or -EINVAL no such node; -ENODEV `to` has no memory; -ENOMEM no room
// there (some may have moved).
GW_EXPORT long gw_driver_migrate(struct gw_driver *driver, unsigned from, unsigned to) GW_CHECK;

#ifdef __cplusplus
}
#endif
#endif
