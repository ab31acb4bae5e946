// SPDX-License-Identifier: MIT
// What goes through the seam: results, counters, and what a machine says about itself.
//
// Both machines and the player share these few functions, so that ownership is the same
// everywhere: the machine allocates through them, the player releases. Only memory can fail.

#include "lab/lab_machine.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// ---- Results ------------------------------------------------------------------------------------

void lab_result_fail(struct lab_result *result, int errno_value)
{
	result->ret = -1;
	result->error = errno_value;
}

int lab_result_statuses(struct lab_result *result, size_t count)
{
	int32_t *status = calloc(count + 1, sizeof(*status));
	if (!status)
		return -ENOMEM;
	for (size_t i = 0; i < count; i++)
		status[i] = STATUS_UNWRITTEN;
	free(result->status);
	result->status = status;
	result->status_count = count;
	return 0;
}

int lab_result_text(struct lab_result *result, const char *text)
{
	char *copy = strdup(text);
	if (!copy)
		return -ENOMEM;
	free(result->text);
	result->text = copy;
	return 0;
}

void lab_result_release(struct lab_result *result)
{
	free(result->status);
	free(result->text);
	for (size_t i = 0; i < result->stayed_count; i++)
		free(result->stayed[i].range);
	free(result->stayed);
	*result = (struct lab_result){0};
}

// ---- Counters -----------------------------------------------------------------------------------

int lab_counters_add(struct lab_counters *counters, const char *name, int64_t value)
{
	if (counters->count == counters->capacity) {
		size_t capacity = counters->capacity ? counters->capacity * 2 : 64;
		struct lab_counter *v = reallocarray(counters->v, capacity, sizeof(*v));
		if (!v)
			return -ENOMEM;
		counters->v = v;
		counters->capacity = capacity;
	}
	char *copy = strdup(name);
	if (!copy)
		return -ENOMEM;
	counters->v[counters->count++] = (struct lab_counter){copy, value};
	return 0;
}

bool lab_counters_get(const struct lab_counters *counters, const char *name, int64_t *ret_value)
{
	for (size_t i = 0; i < counters->count; i++)
		if (!strcmp(counters->v[i].name, name)) {
			*ret_value = counters->v[i].value;
			return true;
		}
	return false;
}

void lab_counters_release(struct lab_counters *counters)
{
	for (size_t i = 0; i < counters->count; i++)
		free(counters->v[i].name);
	free(counters->v);
	*counters = (struct lab_counters){0};
}

// ---- What a machine says ------------------------------------------------------------------------

int lab_machine_fail(struct lab_machine *machine, int error, const char *format, ...)
{
	va_list args;
	va_start(args, format);
	vsnprintf(machine->failure, sizeof(machine->failure), format, args);
	va_end(args);
	return error;
}

void lab_machine_warn(struct lab_machine *machine, const char *format, ...)
{
	char text[512];
	if (!machine->warn)
		return;
	va_list args;
	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	machine->warn(machine->warn_arg, text);
}
