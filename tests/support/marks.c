// SPDX-License-Identifier: MIT
// What a run of a test leaves about the marks (base/mark.h) that it reached.
//
// Linked into every test and into the command that plays the stories. When the process exits and
// GODWIT_MARKS names a file, a line with each name that was reached is appended to it, in one
// write, for tests run side by side; scripts/marks reads the file. A process that is killed, or
// leaves by _exit(), says nothing: what it reached does not count.
#include "base/mark.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct text {
	size_t used;
	char bytes[16384];
};

static void add_name(const struct mark *m, bool hit, void *arg)
{
	struct text *text = arg;
	size_t length = strlen(m->name);
	if (!hit || text->used + length + 1 > sizeof(text->bytes))
		return;
	memcpy(text->bytes + text->used, m->name, length);
	text->used += length;
	text->bytes[text->used++] = '\n';
}

__attribute__((destructor)) static void leave_marks(void)
{
	static struct text text;
	const char *path = getenv("GODWIT_MARKS");
	if (!path)
		return;
	mark_for_each(add_name, &text);
	int fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0666);
	if (fd < 0)
		abort();
	if (write(fd, text.bytes, text.used) != (ssize_t)text.used)
		abort();
	close(fd);
}
