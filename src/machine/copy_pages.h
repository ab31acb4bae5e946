// SPDX-License-Identifier: MIT
// The loops under a copier. Sizes are multiples of a page, addresses aligned to one.
#ifndef GODWIT_MACHINE_COPY_PAGES_H
#define GODWIT_MACHINE_COPY_PAGES_H

#include <stdbool.h>
#include <stddef.h>

struct copy_pages {
	const char *name;
	void (*copy)(void *dst, const void *src, size_t bytes);
	void (*clear)(void *dst, size_t bytes);
};

extern const struct copy_pages copy_pages_memcpy;
// The widest that this cpu has, or NULL.
const struct copy_pages *copy_pages_nontemporal(void);

#endif
