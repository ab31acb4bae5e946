// SPDX-License-Identifier: MIT
// The memory of one story.
//
// A story is many small pieces (commands, names, lists) that die together. They are cut from
// blocks; a piece larger than a block gets a block of its own. Nothing is freed alone.
// Only allocation can fail; it returns NULL and leaves the arena as it was.

#include "lab/story_arena.h"

#include <stdalign.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define BLOCK_BYTES 16384

struct block {
	struct block *next;
	alignas(max_align_t) char bytes[];
};

struct story_arena {
	struct block *blocks;
	char *free;
	size_t left;
};

struct story_arena *story_arena_create(void)
{
	return calloc(1, sizeof(struct story_arena));
}

void story_arena_destroy(struct story_arena *arena)
{
	if (!arena)
		return;
	for (struct block *b = arena->blocks, *next; b; b = next) {
		next = b->next;
		free(b);
	}
	free(arena);
}

static struct block *add_block(struct story_arena *arena, size_t bytes)
{
	struct block *b = calloc(1, sizeof(*b) + bytes);
	if (!b)
		return NULL;
	b->next = arena->blocks;
	arena->blocks = b;
	return b;
}

void *story_arena_alloc(struct story_arena *arena, size_t size)
{
	const size_t align = alignof(max_align_t);
	if (size > SIZE_MAX - BLOCK_BYTES)
		return NULL;
	size = (size + align - 1) / align * align;
	if (size > BLOCK_BYTES / 4) {
		struct block *b = add_block(arena, size);
		return b ? b->bytes : NULL;
	}
	if (size > arena->left) {
		struct block *b = add_block(arena, BLOCK_BYTES);
		if (!b)
			return NULL;
		arena->free = b->bytes;
		arena->left = BLOCK_BYTES;
	}
	void *piece = arena->free;
	arena->free += size;
	arena->left -= size;
	return piece;
}

char *story_arena_copy(struct story_arena *arena, const char *text, size_t length)
{
	char *copy = story_arena_alloc(arena, length + 1);
	if (copy)
		memcpy(copy, text, length);
	return copy;
}
