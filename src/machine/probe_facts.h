// SPDX-License-Identifier: MIT
// The facts behind probe_host().
#ifndef GODWIT_MACHINE_PROBE_FACTS_H
#define GODWIT_MACHINE_PROBE_FACTS_H

#include "machine/probe.h"

void probe_facts(struct probe_result *result);
// The word in brackets of a sysfs choice ("always [madvise] never"), or the whole text.
void probe_choice(const char *text, char *ret_word, size_t size);
// Whether shared memory gets huge pages: the word in force, "" if this kernel knows none, and the
// file that decides, else NULL.
const char *probe_shmem_huge(char *ret_word, size_t size);
// Or only where a mapping asks for them.
bool shmem_is_huge_unasked(const char *setting);

#endif
