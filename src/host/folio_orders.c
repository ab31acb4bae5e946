// SPDX-License-Identifier: MIT
// The orders of folios, a window of 2 MiB of frames at a time.
//
// /proc/kpageflags has a word a frame; the first frame of a larger page is its head, the others are
// tails, so that a head and the tails behind it tell its size. A window is read once, when a frame
// of it is first asked for, and kept as a byte a frame: however scattered the pages of a process
// lie, there is at most one read for each 2 MiB of the machine's memory. The machine goes on
// meanwhile, and what was read may have been freed since: a figure, not a promise. What can fail:
// the file is root's; memory.

#include "host/folio_orders.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define FLAGS "proc/kpageflags"
#define IS_HEAD (UINT64_C(1) << 15)
#define IS_TAIL (UINT64_C(1) << 16)
#define PMD_ORDER 9u

int folio_orders_init(struct folio_orders *orders, struct host *host)
{
	uint64_t word;
	long n = host->ops->read_at(host, FLAGS, 0, &word, sizeof word);

	*orders = (struct folio_orders){.host = host};
	if (n < 0)
		return (int)n;
	return n == sizeof word ? 0 : -ENODATA;
}

static int grow(struct folio_orders *orders, uint64_t at)
{
	size_t count = at + 1 > 2 * orders->count ? at + 1 : 2 * orders->count;
	uint8_t **v = reallocarray(orders->window, count, sizeof *v);

	if (!v)
		return -ENOMEM;
	memset(v + orders->count, 0, (count - orders->count) * sizeof *v);
	orders->window = v;
	orders->count = count;
	return 0;
}

// The length of the page that begins with flags[0], of at most n frames: a power of two.
static unsigned order_at(const uint64_t *flags, unsigned n)
{
	unsigned length = 1, order = 0;

	while (length < n && flags[length] & IS_TAIL)
		length++;
	while (2u << order <= length)
		order++;
	return order;
}

static void fill(uint8_t *window, const uint64_t *flags)
{
	for (unsigned i = 0; i < FRAMES_A_WINDOW;) {
		unsigned length = 1, order = flags[i] & IS_TAIL ? PMD_ORDER : 0; // headless: huge

		if (flags[i] & IS_HEAD) {
			order = order_at(flags + i, FRAMES_A_WINDOW - i);
			length = 1u << order;
		}
		memset(window + i, (int)order, length);
		i += length;
	}
}

static uint8_t *window_of(struct folio_orders *orders, uint64_t pfn)
{
	uint64_t at = pfn / FRAMES_A_WINDOW, flags[FRAMES_A_WINDOW] = {0};
	uint8_t *window;

	if (at >= orders->count && grow(orders, at))
		return NULL;
	if (orders->window[at])
		return orders->window[at];
	window = malloc(FRAMES_A_WINDOW);
	if (!window)
		return NULL;
	if (orders->host->ops->read_at(orders->host, FLAGS, at * sizeof flags, flags,
		    sizeof flags) <= 0) {
		free(window);
		return NULL;
	}
	fill(window, flags);
	orders->window[at] = window;
	return window;
}

int folio_order_of(struct folio_orders *orders, uint64_t pfn)
{
	const uint8_t *window = window_of(orders, pfn);

	return window ? window[pfn % FRAMES_A_WINDOW] : -EIO;
}

void folio_orders_release(struct folio_orders *orders)
{
	for (size_t i = 0; i < orders->count; i++)
		free(orders->window[i]);
	free(orders->window);
	*orders = (struct folio_orders){0};
}
