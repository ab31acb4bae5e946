// SPDX-License-Identifier: MIT
// A ring of trace events, one a machine. It overwrites its oldest events and counts what is lost.
//
//   trace_event(ring, mm_migrate_pages_start, .mode = MIGRATE_SYNC, .reason = MR_SYSCALL);
//
// Fields that are not named are 0; a text field is copied. The ring may be NULL (nothing happens).
#ifndef GODWIT_BASE_TRACE_H
#define GODWIT_BASE_TRACE_H

#include "base/lock.h"
#include "base/trace_events.h"

#include <stdatomic.h>

#define TRACE_FIELDS_MAX 10
#define TRACE_TEXT_MAX 32

// enum migrate_mode, migrate_reason, scan_result, compact_result, zone_type...
#define S(value, text) value,
#define Y(TYPE, table, tag) enum tag { table(S) };
GODWIT_TRACE_SYMBOLS(Y)
#undef Y
#undef S

enum trace_event_id {
#define E(name, fields) TRACE_##name,
#define F(type, field)
	GODWIT_TRACE_EVENTS(E, F)
#undef F
#undef E
	TRACE_EVENTS
};

// struct trace_NAME: the fields of an event, a text as a pointer.
#define TRACE_FIELD_S(field) const char *field;
#define TRACE_FIELD_D(field) int64_t field;
#define TRACE_FIELD_U(field) uint64_t field;
#define TRACE_FIELD_H(field) uint64_t field;
#define TRACE_FIELD_P(field) uint64_t field;
#define TRACE_FIELD_MODE(field) int64_t field;
#define TRACE_FIELD_REASON(field) int64_t field;
#define TRACE_FIELD_SCAN(field) int64_t field;
#define TRACE_FIELD_COMPACT(field) int64_t field;
#define TRACE_FIELD_FEEDBACK(field) int64_t field;
#define TRACE_FIELD_PRIORITY(field) int64_t field;
#define TRACE_FIELD_ZONE(field) int64_t field;
#define TRACE_FIELD_SYNC(field) int64_t field;
#define TRACE_FIELD_L(field) uint64_t field;
#define TRACE_FIELD_SKIP(field) int64_t field;
#define F(type, field) TRACE_FIELD_##type(field)
#define E(name, fields)                                                                            \
	struct trace_##name {                                                                      \
		fields                                                                             \
	};
GODWIT_TRACE_EVENTS(E, F)
#undef E
#undef F

struct trace_record {
	uint64_t ns;
	uint64_t sequence; // from 0, of all events ever recorded
	uint32_t task;
	uint16_t event;
	uint16_t cpu;
	uint64_t field[TRACE_FIELDS_MAX]; // that of a text is unused
	char text[TRACE_TEXT_MAX];
};

struct trace_ring {
	atomic_bool on;
	struct mutex lock; // rank TRACE
	struct trace_record *records;
	uint64_t capacity;
	uint64_t written; // ever
	uint64_t read;	  // next to be consumed; what is overwritten before it is dropped
	uint64_t dropped;
	_Atomic uint64_t enabled; // bit an event; asked without the lock
	uint64_t (*clock)(void *arg);
	void *clock_arg;
};

// Off, every event enabled; capacity in events; -ENOMEM. The clock may be NULL: CLOCK_MONOTONIC.
must_check int trace_init(struct trace_ring *ring, uint64_t capacity, uint64_t (*clock)(void *),
	void *clock_arg);
void trace_destroy(struct trace_ring *ring);
void trace_switch(struct trace_ring *ring, bool on);
void trace_enable(struct trace_ring *ring, enum trace_event_id event, bool on);
void trace_clear(struct trace_ring *ring);

// The oldest event not yet read; false when there is none.
must_check bool trace_read(struct trace_ring *ring, struct trace_record *ret_record);
// Without reading it: the oldest event with this sequence number or above that the ring still has;
// false when there is none. And the number that the next event will have.
must_check bool trace_look(struct trace_ring *ring, uint64_t since,
	struct trace_record *ret_record);
uint64_t trace_next(struct trace_ring *ring);
uint64_t trace_dropped(struct trace_ring *ring);

// "mm_migrate_pages_start: mode=MIGRATE_SYNC reason=syscall_or_cpuset", and with a header
// "task-42 [001] 12.000345: " before it. Length as snprintf.
int trace_format_fields(const struct trace_record *r, char *buf, size_t size);
int trace_format(const struct trace_record *r, char *buf, size_t size);
// By the name of a field; -ENOENT. A text field gives -EINVAL.
must_check int trace_field(const struct trace_record *r, const char *name, int64_t *ret_value);

const char *trace_event_name(enum trace_event_id event);
must_check int trace_event_find(const char *name, enum trace_event_id *ret_event);

// The task that this thread acts for; 0: its thread id.
void trace_set_task(uint32_t task, uint16_t cpu);

#define Y(TYPE, table, tag) const char *tag##_name(int value);
// migrate_mode_name(), migrate_reason_name()...: the kernel's text, or "?".
GODWIT_TRACE_SYMBOLS(Y)
#undef Y

void trace_record_event(struct trace_ring *ring, enum trace_event_id event, const void *fields);

static inline bool trace_wants(struct trace_ring *ring, enum trace_event_id event)
{
	return ring && unlikely(atomic_load_explicit(&ring->on, memory_order_relaxed)) &&
	       atomic_load_explicit(&ring->enabled, memory_order_relaxed) >> event & 1;
}

#define trace_event(ring_expr, name, ...)                                                          \
	do {                                                                                       \
		struct trace_ring *trace_ring_here = (ring_expr);                                  \
		if (trace_wants(trace_ring_here, TRACE_##name)) {                                  \
			struct trace_##name trace_fields_here = {__VA_ARGS__};                     \
			trace_record_event(trace_ring_here, TRACE_##name, &trace_fields_here);     \
		}                                                                                  \
	} while (0)

#endif
