// SPDX-License-Identifier: MIT
// The facts behind probe_host().
#ifndef GODWIT_MACHINE_PROBE_FACTS_H
#define GODWIT_MACHINE_PROBE_FACTS_H

#include "machine/probe.h"

void probe_facts(struct probe_result *result);
// The word in brackets of a sysfs choice ("always [madvise] never"), or the whole text.
void probe_choice(const char *text, char *ret_word, size_t size);

#endif
