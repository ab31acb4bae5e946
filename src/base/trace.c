// SPDX-License-Identifier: MIT
// The trace ring.
//
// Events are rows of one table (base/trace_events.h). The table makes the structs that callers fill
// in, whose members are all eight bytes wide in the order of the row, so that recording one is a
// copy; a text member is a pointer, whose text is copied as well, since what it points to may be
// gone when the ring is read.
//
// The ring holds the last `capacity` events. Event number n is in slot n % capacity; `written` and
// `read` only grow; when the writer laps the reader the reader is moved on and the lost events are
// counted, as the kernel's ring does in overwrite mode. One mutex of the last rank protects it: it
// may be taken under any lock, in a signal handler too. While the ring is off an event costs one
// relaxed load. Only trace_init() can fail.
#include "base/trace.h"

#include "base/assert.h"
#include "base/meta.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum field_type {
	TYPE_D,
	TYPE_U,
	TYPE_H,
	TYPE_P,
	TYPE_S,
	TYPE_L,
#define Y(TYPE, table, tag) TYPE_##TYPE,
	GODWIT_TRACE_SYMBOLS(Y)
#undef Y
};

struct field {
	const char *name;
	enum field_type type;
};

#define F(type, field) {#field, TYPE_##type},
#define E(name, fields)                                                                            \
	static const struct field name##_fields[] = {fields};                                      \
	build_assert(ARRAY_SIZE(name##_fields) <= TRACE_FIELDS_MAX, "too many fields");            \
	build_assert(sizeof(struct trace_##name) == 8 * ARRAY_SIZE(name##_fields), "8 bytes each");
GODWIT_TRACE_EVENTS(E, F)
#undef E
#undef F

#define F(type, field)
#define E(name, fields) [TRACE_##name] = {#name, name##_fields, ARRAY_SIZE(name##_fields)},
static const struct {
	const char *name;
	const struct field *fields;
	unsigned nr_fields;
} events[TRACE_EVENTS] = {GODWIT_TRACE_EVENTS(E, F)};
#undef E
#undef F

#define T(name, text) [TRACE_##name] = text,
static const char *const texts[TRACE_EVENTS] = {GODWIT_TRACE_TEXTS(T)}; // NULL: "name=value ..."
#undef T

build_assert(TRACE_EVENTS <= 64, "`enabled` has a bit an event");

#define S(value, text) [value] = text,
#define Y(TYPE, table, tag)                                                                        \
	static const char *const tag##_names[] = {table(S)};                                       \
	const char *tag##_name(int value)                                                          \
	{                                                                                          \
		return value >= 0 && (size_t)value < ARRAY_SIZE(tag##_names) ? tag##_names[value]  \
									     : "?";                \
	}
GODWIT_TRACE_SYMBOLS(Y)
#undef Y
#undef S

static __thread uint32_t current_task __attribute__((tls_model("initial-exec")));
static __thread uint16_t current_cpu __attribute__((tls_model("initial-exec")));

void trace_set_task(uint32_t task, uint16_t cpu)
{
	current_task = task;
	current_cpu = cpu;
}

static uint32_t task_id(void)
{
	static __thread uint32_t tid __attribute__((tls_model("initial-exec")));

	if (current_task)
		return current_task;
	if (!tid)
		tid = (uint32_t)syscall(SYS_gettid);
	return tid;
}

static uint64_t monotonic_ns(void *arg maybe_unused)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000 + (uint64_t)ts.tv_nsec;
}

int trace_init(struct trace_ring *ring, uint64_t capacity, uint64_t (*clock)(void *),
	void *clock_arg)
{
	struct trace_record *records = meta_alloc(capacity * sizeof(*records));

	if (!records)
		return -ENOMEM;
	memset(ring, 0, sizeof(*ring));
	mutex_init(&ring->lock, RANK_TRACE);
	ring->records = records;
	ring->capacity = capacity;
	atomic_store_explicit(&ring->enabled, ~0ULL, memory_order_relaxed);
	ring->clock = clock ? clock : monotonic_ns;
	ring->clock_arg = clock_arg;
	return 0;
}

void trace_destroy(struct trace_ring *ring)
{
	meta_free(ring->records, ring->capacity * sizeof(*ring->records));
	ring->records = NULL;
	mutex_destroy(&ring->lock);
}

void trace_switch(struct trace_ring *ring, bool on)
{
	atomic_store_explicit(&ring->on, on, memory_order_relaxed);
}

void trace_enable(struct trace_ring *ring, enum trace_event_id event, bool on)
{
	if (on)
		atomic_fetch_or_explicit(&ring->enabled, 1ULL << event, memory_order_relaxed);
	else
		atomic_fetch_and_explicit(&ring->enabled, ~(1ULL << event), memory_order_relaxed);
}

void trace_clear(struct trace_ring *ring)
{
	mutex_lock(&ring->lock);
	ring->read = ring->written;
	ring->dropped = 0;
	mutex_unlock(&ring->lock);
}

static void copy_text(char *to, const char *text)
{
	size_t len = strnlen(text, TRACE_TEXT_MAX - 1);

	memcpy(to, text, len);
	to[len] = '\0';
}

static void copy_fields(struct trace_record *r, const void *fields)
{
	r->text[0] = '\0';
	memcpy(r->field, fields, 8 * events[r->event].nr_fields);
	for (unsigned i = 0; i < events[r->event].nr_fields; i++) {
		const char *text = (const char *)(uintptr_t)r->field[i];

		if (events[r->event].fields[i].type != TYPE_S)
			continue;
		if (text)
			copy_text(r->text, text);
		r->field[i] = 0;
	}
}

void trace_record_event(struct trace_ring *ring, enum trace_event_id event, const void *fields)
{
	struct trace_record *r;

	mutex_lock(&ring->lock);
	if (ring->written - ring->read == ring->capacity) {
		ring->read++;
		ring->dropped++;
	}
	r = &ring->records[ring->written % ring->capacity];
	r->sequence = ring->written++;
	r->ns = ring->clock(ring->clock_arg);
	r->task = task_id();
	r->cpu = current_cpu;
	r->event = (uint16_t)event;
	copy_fields(r, fields);
	mutex_unlock(&ring->lock);
}

bool trace_read(struct trace_ring *ring, struct trace_record *ret_record)
{
	bool found;

	mutex_lock(&ring->lock);
	found = ring->read != ring->written;
	if (found)
		*ret_record = ring->records[ring->read++ % ring->capacity];
	mutex_unlock(&ring->lock);
	return found;
}

uint64_t trace_next(struct trace_ring *ring)
{
	uint64_t next;

	mutex_lock(&ring->lock);
	next = ring->written;
	mutex_unlock(&ring->lock);
	return next;
}

bool trace_look(struct trace_ring *ring, uint64_t since, struct trace_record *ret_record)
{
	bool found;

	mutex_lock(&ring->lock);
	if (ring->written > ring->capacity)
		since = max(since, ring->written - ring->capacity);
	found = since < ring->written;
	if (found)
		*ret_record = ring->records[since % ring->capacity];
	mutex_unlock(&ring->lock);
	return found;
}

uint64_t trace_dropped(struct trace_ring *ring)
{
	uint64_t dropped;

	mutex_lock(&ring->lock);
	dropped = ring->dropped;
	mutex_unlock(&ring->lock);
	return dropped;
}

static int format_value(const struct trace_record *r, enum field_type type, uint64_t value,
	char *buf, size_t size)
{
	switch (type) {
	case TYPE_D:
		return snprintf(buf, size, "%ld", (long)value);
	case TYPE_U:
		return snprintf(buf, size, "%lu", value);
	case TYPE_H:
		return snprintf(buf, size, "0x%lx", value);
	case TYPE_P:
		return snprintf(buf, size, "%lx", value);
	case TYPE_S:
		return snprintf(buf, size, "%s", r->text);
	case TYPE_L:
		return snprintf(buf, size, "%lu", 1ul << (value & 63));
#define Y(TYPE, table, tag)                                                                        \
	case TYPE_##TYPE:                                                                          \
		return snprintf(buf, size, "%-*s", TYPE_##TYPE == TYPE_ZONE ? 8 : 0,               \
			tag##_name((int)value));
		GODWIT_TRACE_SYMBOLS(Y)
#undef Y
	}
	return 0;
}

// Both: append at `len`, and return the length of all.
static int append(char *buf, size_t size, int len, const char *text, int length)
{
	size_t at = min((size_t)len, size);

	return len + snprintf(buf + at, size - at, "%.*s", length, text);
}

static int append_field(const struct trace_record *r, char *buf, size_t size, int len,
	const char *name, size_t length)
{
	size_t at = min((size_t)len, size);

	for (unsigned i = 0; i < events[r->event].nr_fields; i++) {
		const struct field *f = &events[r->event].fields[i];

		if (!strncmp(f->name, name, length) && !f->name[length])
			return len + format_value(r, f->type, r->field[i], buf + at, size - at);
	}
	return len;
}

static int append_text(const struct trace_record *r, char *buf, size_t size, int len)
{
	for (const char *t = texts[r->event]; *t;) {
		size_t plain = strcspn(t, "$"), name;

		len = append(buf, size, len, t, (int)plain);
		t += plain;
		if (!*t)
			break;
		name = strspn(t + 1, "abcdefghijklmnopqrstuvwxyz_");
		len = append_field(r, buf, size, len, t + 1, name);
		t += 1 + name;
	}
	return len;
}

int trace_format_fields(const struct trace_record *r, char *buf, size_t size)
{
	int len = snprintf(buf, size, "%s: ", trace_event_name((enum trace_event_id)r->event));

	if (texts[r->event])
		return append_text(r, buf, size, len);
	for (unsigned i = 0; i < events[r->event].nr_fields; i++) {
		const char *name = events[r->event].fields[i].name;

		len = append(buf, size, len, " ", i ? 1 : 0);
		len = append(buf, size, len, name, (int)strlen(name));
		len = append(buf, size, len, "=", 1);
		len = append_field(r, buf, size, len, name, strlen(name));
	}
	return len;
}

int trace_format(const struct trace_record *r, char *buf, size_t size)
{
	int len = snprintf(buf, size, "task-%u [%03u] %lu.%06lu: ", r->task, r->cpu,
		r->ns / 1000000000, r->ns / 1000 % 1000000);
	size_t at = min((size_t)len, size);

	return len + trace_format_fields(r, buf + at, size - at);
}

int trace_field(const struct trace_record *r, const char *name, int64_t *ret_value)
{
	for (unsigned i = 0; i < events[r->event].nr_fields; i++) {
		const struct field *f = &events[r->event].fields[i];

		if (strcmp(f->name, name) != 0)
			continue;
		if (f->type == TYPE_S)
			return -EINVAL;
		*ret_value = (int64_t)r->field[i];
		return 0;
	}
	return -ENOENT;
}

const char *trace_event_name(enum trace_event_id event)
{
	return event < TRACE_EVENTS ? events[event].name : "?";
}

int trace_event_find(const char *name, enum trace_event_id *ret_event)
{
	for (int i = 0; i < TRACE_EVENTS; i++) {
		if (strcmp(events[i].name, name) == 0) {
			*ret_event = (enum trace_event_id)i;
			return 0;
		}
	}
	return -ENOENT;
}
