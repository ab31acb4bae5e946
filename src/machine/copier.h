// SPDX-License-Identifier: MIT
// Copying and clearing pages: the seam behind which the fastest way of this host is chosen.
#ifndef GODWIT_MACHINE_COPIER_H
#define GODWIT_MACHINE_COPIER_H

#include "base/compiler.h"

#include <stddef.h>

enum copier_kind {
	COPIER_AUTO,	    // the faster of the next two, measured once a process
	COPIER_MEMCPY,	    // libc
	COPIER_NONTEMPORAL, // stores that bypass the caches (x86; else libc)
	COPIER_PARALLEL,    // AUTO, spread over threads
};

struct copier;

// threads counts the caller; only for COPIER_PARALLEL, 0: one a cpu, at most 8. -ENOMEM, -EAGAIN.
must_check int copier_open(enum copier_kind kind, unsigned threads, struct copier **ret_copier);
void copier_close(struct copier *c);
const char *copier_name(const struct copier *c);

// nr whole pages, aligned, not overlapping. One caller at a time uses the workers; others copy
// alone meanwhile.
void copier_copy(struct copier *c, void *dst, const void *src, size_t nr);
void copier_clear(struct copier *c, void *dst, size_t nr);

// Bytes a second of copies of 2 MiB between buffers larger than a cache; 0 without memory.
double copier_measure(struct copier *c);

#endif
