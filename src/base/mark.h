// SPDX-License-Identifier: MIT
// Marks on rare branches: MARK(name) remembers that the branch ran, and the tests list the marks
// that none of them hit. Each mark is an object in a linker section. Empty without GODWIT_DEBUG.
#ifndef GODWIT_BASE_MARK_H
#define GODWIT_BASE_MARK_H

#include "base/compiler.h"

#include <stdbool.h>

struct mark {
	const char *name;
	const char *file;
	uint32_t line;
	uint32_t hit; // atomic, relaxed
} __attribute__((aligned(32)));

#ifdef GODWIT_DEBUG
#define MARK(mark_name)                                                                            \
	do {                                                                                       \
		static struct mark mark_here __attribute__((section("godwit_marks"), used)) = {    \
			#mark_name, __FILE__, __LINE__, 0};                                        \
		if (!__atomic_load_n(&mark_here.hit, __ATOMIC_RELAXED))                            \
			__atomic_store_n(&mark_here.hit, 1, __ATOMIC_RELAXED);                     \
	} while (0)
#else
#define MARK(mark_name) ((void)0)
#endif

// Each mark of the program (of the objects linked in), in no order; a name may occur several times
// (inline functions): it is hit if one of them is.
void mark_for_each(void (*fn)(const struct mark *m, bool hit, void *arg), void *arg);
// Whether a mark of that name was hit.
bool mark_was_hit(const char *name);
void mark_reset_all(void);

#endif
