// SPDX-License-Identifier: MIT
// Looks after a command that takes long: progress, a limit, and Ctrl-C.
#ifndef GODWIT_LAB_WATCH_H
#define GODWIT_LAB_WATCH_H

#include <stdbool.h>

#include "lab/lab_machine.h"

struct watch;

// SIGINT and SIGTERM must be blocked in all threads (watch_block_signals) for Ctrl-C to work.
// NULL: there is no memory or thread for it; the other functions then do nothing.
struct watch *watch_start(struct lab_machine *machine, unsigned limit_s, bool progress);
void watch_begin(struct watch *watch, const struct command *command);
// Something that is no command and has no limit begins: "setting up the machine".
void watch_phase(struct watch *watch, const char *phase);
// Of either.
void watch_end(struct watch *watch);
// A signal came, or a command was cancelled at its limit; the story should end.
bool watch_interrupted(struct watch *watch);
// A signal came: no other story should be played either.
bool watch_signalled(struct watch *watch);
void watch_stop(struct watch *watch);

void watch_block_signals(void);

#endif
