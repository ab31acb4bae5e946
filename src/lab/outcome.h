// SPDX-License-Identifier: MIT
// Results as text, in the words of the language.
#ifndef GODWIT_LAB_OUTCOME_H
#define GODWIT_LAB_OUTCOME_H

#include "lab/lab_machine.h"

// "1*2 -ENOENT ?*3"
void print_statuses(FILE *out, const int32_t *status, size_t count);
void print_status_list(FILE *out, const struct status_list *list);
bool statuses_match(const struct status_list *list, const int32_t *status, size_t count);
// "return 0  status 1*2", "return -1 EBUSY", "SIGBUS"
void print_result(FILE *out, const struct lab_result *result);
// "-ENOENT" or a number
void print_status(FILE *out, int32_t value);

#endif
