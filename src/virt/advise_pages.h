// SPDX-License-Identifier: MIT
// madvise's words that change what becomes of pages, for the part of the call that lies in one vma.
// mmap_lock held for reading. -EINVAL: not for this kind of memory.
#ifndef GODWIT_VIRT_ADVISE_PAGES_H
#define GODWIT_VIRT_ADVISE_PAGES_H

#include <stdint.h>

struct task;
struct vma;

typedef int page_advice_fn(struct vma *, struct task *, uint64_t start, uint64_t end);
page_advice_fn advise_free, advise_cold, advise_pageout, advise_willneed;

#endif
