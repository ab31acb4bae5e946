// SPDX-License-Identifier: MIT
// From words to numbers; the way back is in story.h, for the machines.
#ifndef GODWIT_LAB_WORDS_H
#define GODWIT_LAB_WORDS_H

#include "lab/story.h"

int errno_by_name(const char *name, size_t length);	 // 0: unknown
int signal_by_name(const char *name, size_t length);	 // 0: unknown
int policy_mode_by_word(const char *word, size_t length); // -1: unknown
int policy_flag_by_word(const char *word, size_t length); // -1: unknown

#endif
