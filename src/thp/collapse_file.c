// SPDX-License-Identifier: MIT
// Collapse of an object's pages: 512 slots of its index hold one huge folio afterwards.
#include "thp/collapse.h"

enum scan_result collapse_scan_object(struct collapse *c maybe_unused, struct vma *vma maybe_unused,
	uint64_t haddr maybe_unused, bool *ret_locked)
{
	*ret_locked = true;
	return SCAN_FAIL;
}
