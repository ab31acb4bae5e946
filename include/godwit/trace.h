// SPDX-License-Identifier: MIT
// Events of a machine, with the kernel's names and fields, newest kept.
#ifndef GODWIT_TRACE_H
#define GODWIT_TRACE_H

#include <godwit/machine.h>

#ifdef __cplusplus
extern "C" {
#endif

// Where the trace stands now: events from here on have this sequence number and above.
GW_EXPORT uint64_t gw_trace_mark(struct gw_machine *machine);
// The events from `since` on, one line each ("mm_migrate_pages: nr_succeeded=8 ..."). The ring has
// the last 65536; in place of those it has no more there is a line "[LOST 3 EVENTS]". The text is
// the caller's to free(). -ENOMEM.
GW_EXPORT int gw_trace_text(struct gw_machine *machine, uint64_t since, char **ret_text) GW_CHECK;
// 1: every event is recorded; 0: none. A new machine records all but those of single page-table
// entries (set_migration_pte, remove_migration_pte and the same of pmds), which cost more than what
// they tell of.
GW_EXPORT void gw_trace_enable(struct gw_machine *machine, int enable);

#ifdef __cplusplus
}
#endif
#endif
