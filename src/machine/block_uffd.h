// SPDX-License-Identifier: MIT
// The userfaultfd blocker: serving one fault (uffd_serve.c), for the pool's threads.
#ifndef GODWIT_MACHINE_BLOCK_UFFD_H
#define GODWIT_MACHINE_BLOCK_UFFD_H

#include <linux/userfaultfd.h>

void uffd_serve(void *rewire, const struct uffd_msg *msg);

#endif
