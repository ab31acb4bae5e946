// SPDX-License-Identifier: MIT
// Of what size the page is that a frame belongs to, from /proc/kpageflags.
#ifndef GODWIT_HOST_FOLIO_ORDERS_H
#define GODWIT_HOST_FOLIO_ORDERS_H

#include "host/host.h"

#define FRAMES_A_WINDOW 512u

struct folio_orders {
	struct host *host;
	uint8_t **window; // by pfn / FRAMES_A_WINDOW, read when first asked for; NULL: not yet
	size_t count;
};

// -EACCES, -EPERM: root's.
must_check int folio_orders_init(struct folio_orders *orders, struct host *host);
// The order of the frame's folio, 9 at most. Negative errno: it cannot be told.
must_check int folio_order_of(struct folio_orders *orders, uint64_t pfn);
void folio_orders_release(struct folio_orders *orders);

#endif
