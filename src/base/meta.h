// SPDX-License-Identifier: MIT
// The engine's own data (tables, folios' side data, vmas): one region of the process, so that
// nothing of the engine is ever in managed memory, nothing calls malloc in a SIGSEGV handler, and
// a pointer fits in a 30-bit handle.
//
// The region stays as it is across fork(): the child gets an ordinary copy-on-write copy and may
// read it (that is how it sees what its parent had), but it may not call meta_alloc() unless
// the parent forked between meta_fork_prepare() and meta_fork_parent()/meta_fork_child().
#ifndef GODWIT_BASE_META_H
#define GODWIT_BASE_META_H

#include "base/compiler.h"

#include <stdbool.h>

#define META_GRANULE_SHIFT 6
#define META_GRANULE (1UL << META_GRANULE_SHIFT)
#define META_REGION_SIZE (64ULL << 30)
#define META_HANDLE_BITS 30
#define META_CLASS_MAX (64UL << 10)

// Zeroed and aligned to 64 bytes (to the page from 4 KiB on, if size is a multiple of a page), or
// NULL: no memory, or FI_META said so.
must_check void *meta_alloc(size_t size);
// The size given to meta_alloc(); NULL is allowed.
void meta_free(void *p, size_t size);

// 0 stands for NULL.
must_check uint32_t meta_handle(const void *p);
must_check void *meta_pointer(uint32_t handle);
// Whether p lies inside of the region.
bool meta_contains(const void *p);

size_t meta_in_use(void);       // objects
size_t meta_in_use_bytes(void); // as asked for
size_t meta_resident_bytes(void); // backed chunks that were not given back to the system

// -EINVAL if the books do not balance.
must_check int meta_check(void);

void meta_fork_prepare(void);
void meta_fork_parent(void);
void meta_fork_child(void);

#define meta_new(type) ((type *)meta_alloc(sizeof(type)))
#define meta_delete(p) meta_free((p), sizeof(*(p)))

#endif
