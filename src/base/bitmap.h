// SPDX-License-Identifier: MIT
// Bitmaps: arrays of unsigned long, bit 0 the lowest of word 0. Nothing here is atomic; the owner's
// lock protects the words. Searches return nbits when there is nothing.
#ifndef GODWIT_BASE_BITMAP_H
#define GODWIT_BASE_BITMAP_H

#include "base/compiler.h"

#include <stdbool.h>
#include <string.h>

#define BITS_PER_LONG (8 * sizeof(long))
#define BITMAP_WORDS(nbits) DIV_ROUND_UP((size_t)(nbits), BITS_PER_LONG)
#define BITMAP_BYTES(nbits) (BITMAP_WORDS(nbits) * sizeof(long))
#define DECLARE_BITMAP(name, nbits) unsigned long name[BITMAP_WORDS(nbits)]

static inline bool bitmap_test(const unsigned long *map, size_t bit)
{
	return map[bit / BITS_PER_LONG] >> (bit % BITS_PER_LONG) & 1;
}

static inline void bitmap_set(unsigned long *map, size_t bit)
{
	map[bit / BITS_PER_LONG] |= 1UL << (bit % BITS_PER_LONG);
}

static inline void bitmap_clear(unsigned long *map, size_t bit)
{
	map[bit / BITS_PER_LONG] &= ~(1UL << (bit % BITS_PER_LONG));
}

// These two return the old value.
static inline bool bitmap_test_and_set(unsigned long *map, size_t bit)
{
	bool old = bitmap_test(map, bit);

	bitmap_set(map, bit);
	return old;
}

static inline bool bitmap_test_and_clear(unsigned long *map, size_t bit)
{
	bool old = bitmap_test(map, bit);

	bitmap_clear(map, bit);
	return old;
}

static inline void bitmap_zero(unsigned long *map, size_t nbits)
{
	memset(map, 0, BITMAP_BYTES(nbits));
}

void bitmap_set_range(unsigned long *map, size_t start, size_t n);
void bitmap_clear_range(unsigned long *map, size_t start, size_t n);
size_t bitmap_weight(const unsigned long *map, size_t nbits);
size_t bitmap_weight_range(const unsigned long *map, size_t start, size_t n);
bool bitmap_empty(const unsigned long *map, size_t nbits);

size_t bitmap_find_next(const unsigned long *map, size_t nbits, size_t from);
size_t bitmap_find_next_zero(const unsigned long *map, size_t nbits, size_t from);

// First bit of the first run of n zero bits at or after from, such that (bit + align_offset) is a
// multiple of align (a power of two).
size_t bitmap_find_zero_area(const unsigned long *map, size_t nbits, size_t from, size_t n,
	size_t align, size_t align_offset);

#define bitmap_for_each(bit, map, nbits)                                                           \
	for (bit = bitmap_find_next(map, nbits, 0); bit < (nbits);                                 \
		bit = bitmap_find_next(map, nbits, bit + 1))

#endif
