// SPDX-License-Identifier: MIT
// A thread that writes to random pages while they move. Internal to bench/.
#ifndef GODWIT_BENCH_WRITER_H
#define GODWIT_BENCH_WRITER_H

#include "bench/world.h"

struct writer;

// It begins at once. -ENOMEM, -EAGAIN.
int writer_start(struct world *, struct writer **ret_writer);
// Forget what was seen so far: the time of the next report begins here.
void writer_mark(struct writer *);
// It stands still from this call on, or goes on; no access of its is under way meanwhile.
void writer_pause(struct writer *, bool pause);
// Accesses a second since the mark.
double writer_rate(const struct writer *);
// It ends, and says what it saw since the mark. False: some of its stores were lost.
bool writer_stop(struct writer *, struct bench_stalls *ret_stalls);

#endif
