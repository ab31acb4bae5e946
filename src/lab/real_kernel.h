// SPDX-License-Identifier: MIT
// Plays stories on a real kernel that boots in a virtual machine, when this host does not do.
#ifndef GODWIT_LAB_REAL_KERNEL_H
#define GODWIT_LAB_REAL_KERNEL_H

#include "lab/results.h"
#include "lab/story.h"

// Whether this host has the nodes with memory that the story asks for.
bool host_has_nodes(const struct story *story);

// The machine a story needs, in the words of scripts/real-kernel --topology: two stories with the
// same words can be played in one boot. buf is long enough with 4096 bytes for any story; returns
// buf.
const char *real_kernel_topology(const struct story *story, char *buf, size_t size);

// kernel: a series such as "6.1", NULL: the script's default. topology: see above. limit_s: for
// one command, 0: none; the machine as a whole gets ten minutes, or a minute more than that.
// One boot for all files, through the script real-kernel: the one that GODWIT_REAL_KERNEL names,
// or scripts/real-kernel above the program, or real-kernel in PATH. 0, and the results of the first
// files are added, of fewer than count when the machine ended early; 1 when the script was skipped
// (exit status 77: no emulator, no kernel to be had); -EPROTO when it gave no result; other
// negative errno. But for 0 the reason is in failure.
int play_on_real_kernel(const char *kernel, const char *topology, unsigned limit_s,
	const char *const *files, size_t count, struct results *results, char *failure,
	size_t failure_size)
	__attribute__((warn_unused_result));

#endif
