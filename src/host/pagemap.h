// SPDX-License-Identifier: MIT
// The PAGEMAP_SCAN call of kernels from 6.7 on, as the running machine's part of struct host_ops.
#ifndef GODWIT_HOST_PAGEMAP_H
#define GODWIT_HOST_PAGEMAP_H

#include "host/host.h"

// See host_ops.scan.
must_check long host_pagemap_scan(struct host *host, pid_t pid, enum host_scan what,
	uint64_t *start, uint64_t end, struct host_range *ret_ranges, size_t n);

#endif
