// SPDX-License-Identifier: MIT
// Non-LRU movable pages.
//
// A driver makes a page movable by folio_set_movable(): the folio's mapping then is the driver,
// with the movable type in its low bits. Life of such a page:
//
//	in use -> isolated (ISOLATED set, one reference) -> migrated: src cleared and freed
//	                                                 -> put back: in use again
//	the owner may free it at any time by folio_clear_movable() and dropping its reference: while
//	isolated, migration finds it cleared and takes that for success
//
// The driver and ISOLATED change under the folio lock only. Isolation takes a reference first and
// the lock by trylock: the page may be freed, or be something else, until both are held. These
// pages are not counted in NR_ISOLATED.
#include "base/assert.h"
#include "base/mark.h"
#include "base/meta.h"
#include "migrate/movable.h"

#include <errno.h>

int movable_driver_create(const struct movable_ops *ops, void *arg,
	struct movable_driver **ret_driver)
{
	struct movable_driver *driver = meta_new(struct movable_driver);

	if (!driver)
		return -ENOMEM;
	driver->ops = *ops;
	driver->arg = arg;
	*ret_driver = driver;
	return 0;
}

void movable_driver_free(struct movable_driver *driver)
{
	meta_delete(driver);
}

void folio_set_movable(struct folio *folio, struct movable_driver *driver)
{
	assert_that(folio_test_locked(folio), "pfn %#lx made movable without its lock",
		(unsigned long)folio_pfn(folio).n);
	folio_set_mapping(folio, driver, MAPPING_MOVABLE);
}

void folio_clear_movable(struct folio *folio)
{
	assert_that(folio_test_locked(folio), "pfn %#lx cleared without its lock",
		(unsigned long)folio_pfn(folio).n);
	folio_set_mapping(folio, NULL, MAPPING_MOVABLE);
}

struct movable_driver *folio_movable_driver(const struct folio *folio)
{
	return folio_test_movable_type(folio) ? folio_mapping_pointer(folio) : NULL;
}

static bool isolate_locked(struct folio *folio, enum migrate_mode mode)
{
	struct movable_driver *driver = folio_movable_driver(folio);

	if (!driver || folio_test_isolated(folio))
		return false;
	if (!driver->ops.isolate(folio, mode, driver->arg)) {
		MARK(movable_isolate_refused);
		return false;
	}
	folio_set_isolated(folio);
	return true;
}

int movable_isolate(struct folio *folio, enum migrate_mode mode)
{
	bool done = false;

	if (!folio_try_get(folio))
		return -EBUSY;
	// A hint before the lock bit of what may be anybody's page is touched.
	if (folio_test_movable_type(folio) && folio_trylock(folio)) {
		done = isolate_locked(folio, mode);
		folio_unlock(folio);
	}
	if (done)
		return 0;
	folio_put(folio);
	return -EBUSY;
}

void movable_putback(struct folio *folio)
{
	struct movable_driver *driver;

	folio_lock(folio);
	driver = folio_movable_driver(folio);
	folio_clear_isolated(folio);
	if (driver)
		driver->ops.putback(folio, driver->arg);
	folio_unlock(folio);
	folio_put(folio);
}

int movable_migrate(struct folio *dst, struct folio *src, enum migrate_mode mode)
{
	struct movable_driver *driver = folio_movable_driver(src);
	int err;

	if (!driver) {
		MARK(movable_released);
		folio_clear_isolated(src);
		return 0;
	}
	err = driver->ops.migrate(dst, src, mode, driver->arg);
	if (err)
		return err;
	assert_that(!folio_movable_driver(src), "pfn %#lx moved, but is still its driver's",
		(unsigned long)folio_pfn(src).n);
	folio_clear_isolated(src);
	return 0;
}
