// SPDX-License-Identifier: MIT
// The userfaultfd blocker: serving one fault (uffd_serve.c), for the pool's threads.
#ifndef GODWIT_MACHINE_BLOCK_UFFD_H
#define GODWIT_MACHINE_BLOCK_UFFD_H

#include <linux/userfaultfd.h>

struct rewire_call;

// The pages are absent from now on, whatever they were; under the lock.
void uffd_clear_pages(struct rewire_call *call);
void uffd_serve(void *rewire, const struct uffd_msg *msg);

#endif
