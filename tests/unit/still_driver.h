// SPDX-License-Identifier: MIT
// Callbacks of a driver whose pages never move, for tests that need a driver and not its pages.
#ifndef GODWIT_TESTS_STILL_DRIVER_H
#define GODWIT_TESTS_STILL_DRIVER_H

#include <godwit/movable.h>

#include <errno.h>

static bool isolate_page(struct gw_page *page, enum gw_migrate_mode mode, void *owner)
{
	(void)page, (void)mode, (void)owner;
	return false;
}

static int migrate_page(struct gw_page *dst, struct gw_page *src, enum gw_migrate_mode mode,
	void *owner)
{
	(void)dst, (void)src, (void)mode, (void)owner;
	return -EAGAIN;
}

static void putback_page(struct gw_page *page, void *owner)
{
	(void)page, (void)owner;
}

static const struct gw_movable_operations page_ops = {isolate_page, migrate_page, putback_page};

#endif
