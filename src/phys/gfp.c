// SPDX-License-Identifier: MIT
// The names of allocation flags, for traces and dumps.
#include "phys/gfp.h"
#include "base/compiler.h"

#include <stdio.h>

int gfp_text(gfp_t gfp, char *buf, unsigned long size)
{
	static const char *const names[] = {
#define X(name, doc) #name,
		GFP_BITS(X)
#undef X
	};
	int len = 0;

	if (size)
		buf[0] = '\0';
	for (unsigned i = 0; i < GFP_BIT_COUNT; i++) {
		if (!(gfp >> i & 1))
			continue;
		unsigned long at = min((unsigned long)len, size);
		len += snprintf(buf + at, size - at, "%s%s", len ? "|" : "", names[i]);
	}
	return len;
}
