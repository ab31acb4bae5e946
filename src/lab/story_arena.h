// SPDX-License-Identifier: MIT
// The memory of one story: everything is allocated piece by piece and freed at once.
#ifndef GODWIT_LAB_STORY_ARENA_H
#define GODWIT_LAB_STORY_ARENA_H

#include <stddef.h>

struct story_arena;

struct story_arena *story_arena_create(void);
void story_arena_destroy(struct story_arena *arena); // NULL is allowed

// Zeroed and aligned for any type; NULL when there is no memory.
void *story_arena_alloc(struct story_arena *arena, size_t size);
// A copy of length bytes with a NUL after them.
char *story_arena_copy(struct story_arena *arena, const char *text, size_t length);

#endif
