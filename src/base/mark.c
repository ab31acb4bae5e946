// SPDX-License-Identifier: MIT
// The marks of the program.
//
// Every MARK() is a struct mark in the section godwit_marks; the linker provides its two ends. They
// are weak, for a program (or a build without GODWIT_DEBUG) has perhaps no mark at all. A mark in
// an inline function exists once a translation unit, so a name counts as hit when any mark of that
// name was. Marks are only ever set, with relaxed stores; these functions serve the end of a test.
#include "base/mark.h"

#include <string.h>

extern struct mark __start_godwit_marks[] __attribute__((weak, visibility("hidden")));
extern struct mark __stop_godwit_marks[] __attribute__((weak, visibility("hidden")));

void mark_for_each(void (*fn)(const struct mark *m, bool hit, void *arg), void *arg)
{
	for (struct mark *m = __start_godwit_marks; m < __stop_godwit_marks; m++)
		fn(m, mark_was_hit(m->name), arg);
}

bool mark_was_hit(const char *name)
{
	for (struct mark *m = __start_godwit_marks; m < __stop_godwit_marks; m++)
		if (strcmp(m->name, name) == 0 && __atomic_load_n(&m->hit, __ATOMIC_RELAXED))
			return true;
	return false;
}

void mark_reset_all(void)
{
	for (struct mark *m = __start_godwit_marks; m < __stop_godwit_marks; m++)
		__atomic_store_n(&m->hit, 0, __ATOMIC_RELAXED);
}
