// SPDX-License-Identifier: MIT
// Bitmaps: the operations that walk over words.
//
// Each works a word at a time: a range is a partial first word, whole words, and a partial last
// one, all described by a mask. Searches mask away what lies before `from` and may look at bits of
// the last word beyond nbits, which they ignore. The caller's lock protects the words; nothing can
// fail.
#include "base/bitmap.h"

// The bits of word `index` that belong to [start, end).
static unsigned long range_mask(size_t index, size_t start, size_t end)
{
	size_t first = index * BITS_PER_LONG;
	unsigned long mask = ~0UL;

	if (start > first)
		mask &= ~0UL << (start - first);
	if (end < first + BITS_PER_LONG)
		mask &= ~0UL >> (first + BITS_PER_LONG - end);
	return mask;
}

void bitmap_set_range(unsigned long *map, size_t start, size_t n)
{
	if (n == 0)
		return;
	for (size_t i = start / BITS_PER_LONG; i <= (start + n - 1) / BITS_PER_LONG; i++)
		map[i] |= range_mask(i, start, start + n);
}

void bitmap_clear_range(unsigned long *map, size_t start, size_t n)
{
	if (n == 0)
		return;
	for (size_t i = start / BITS_PER_LONG; i <= (start + n - 1) / BITS_PER_LONG; i++)
		map[i] &= ~range_mask(i, start, start + n);
}

size_t bitmap_weight_range(const unsigned long *map, size_t start, size_t n)
{
	size_t weight = 0;

	if (n == 0)
		return 0;
	for (size_t i = start / BITS_PER_LONG; i <= (start + n - 1) / BITS_PER_LONG; i++)
		weight += (size_t)__builtin_popcountl(map[i] & range_mask(i, start, start + n));
	return weight;
}

size_t bitmap_weight(const unsigned long *map, size_t nbits)
{
	return bitmap_weight_range(map, 0, nbits);
}

bool bitmap_empty(const unsigned long *map, size_t nbits)
{
	return bitmap_find_next(map, nbits, 0) == nbits;
}

// First bit at or after from that is set in map ^ flip.
static size_t find_next(const unsigned long *map, size_t nbits, size_t from, unsigned long flip)
{
	unsigned long word;
	size_t i = from / BITS_PER_LONG;

	if (from >= nbits)
		return nbits;
	word = (map[i] ^ flip) & (~0UL << (from % BITS_PER_LONG));
	while (word == 0) {
		if (++i >= BITMAP_WORDS(nbits))
			return nbits;
		word = map[i] ^ flip;
	}
	return min(i * BITS_PER_LONG + (size_t)__builtin_ctzl(word), nbits);
}

size_t bitmap_find_next(const unsigned long *map, size_t nbits, size_t from)
{
	return find_next(map, nbits, from, 0);
}

size_t bitmap_find_next_zero(const unsigned long *map, size_t nbits, size_t from)
{
	return find_next(map, nbits, from, ~0UL);
}

size_t bitmap_find_zero_area(const unsigned long *map, size_t nbits, size_t from, size_t n,
	size_t align, size_t align_offset)
{
	for (;;) {
		size_t start = bitmap_find_next_zero(map, nbits, from);
		size_t used;

		start = ALIGN_UP(start + align_offset, align) - align_offset;
		if (start >= nbits || n > nbits - start)
			return nbits;
		used = bitmap_find_next(map, start + n, start);
		if (used == start + n)
			return start;
		from = used + 1;
	}
}
