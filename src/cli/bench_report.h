// SPDX-License-Identifier: MIT
// A report of `godwit bench`, as a table or as JSON.
#ifndef GODWIT_CLI_BENCH_REPORT_H
#define GODWIT_CLI_BENCH_REPORT_H

#include "bench/bench.h"

// To stdout. 0 or -ENOMEM.
int bench_print_table(const struct bench_report *);
int bench_print_json(const struct bench_report *);

#endif
