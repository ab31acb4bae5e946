// SPDX-License-Identifier: MIT
// The userfaultfd blocker: serving one fault (uffd_serve.c), for the pool's threads.
#ifndef GODWIT_MACHINE_BLOCK_UFFD_H
#define GODWIT_MACHINE_BLOCK_UFFD_H

#include <linux/userfaultfd.h>
#include <stdint.h>

// The page whose accessor this thread serves, 0: none. map() wakes everybody but those who wait for
// this page: they are woken when the serving is over, so that what an accessor does next (look at
// what it has got, or end) finds nothing half done.
extern _Thread_local uintptr_t uffd_serving;

struct rewire_call;
struct mmu;
struct mmu_fault;

// The pages are absent from now on, whatever they were; under the lock.
void uffd_clear_pages(struct rewire_call *call);
void uffd_refuse(struct mmu *mmu, const struct mmu_fault *fault);
void uffd_serve(void *rewire, const struct uffd_msg *msg);

#endif
