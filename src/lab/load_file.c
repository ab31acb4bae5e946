// SPDX-License-Identifier: MIT
// Reads a story from a file, or from standard input for "-".
//
// A story is small; a file beyond 16 MiB is refused with EFBIG before it fills the memory, since
// it is more likely a mistake in the command line. Errors of reading are returned as negative
// errno and leave nothing behind.

#include "lab/story.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define STORY_BYTES_MAX (16u << 20)

static int read_all(FILE *f, char **ret_text, size_t *ret_length)
{
	size_t length = 0, capacity = 0;
	char *text = NULL;
	while (!feof(f)) {
		if (length == capacity) {
			capacity = capacity ? capacity * 2 : 4096;
			char *grown = capacity <= STORY_BYTES_MAX ? realloc(text, capacity) : NULL;
			if (!grown) {
				free(text);
				return capacity <= STORY_BYTES_MAX ? -ENOMEM : -EFBIG;
			}
			text = grown;
		}
		errno = 0;
		length += fread(text + length, 1, capacity - length, f);
		if (ferror(f)) {
			free(text);
			return errno ? -errno : -EIO;
		}
	}
	*ret_text = text;
	*ret_length = length;
	return 0;
}

int story_load(const char *file, struct story **ret_story, struct story_errors *errors)
{
	bool standard = !strcmp(file, "-");
	char *text = NULL;
	size_t length = 0;
	memset(errors, 0, sizeof(*errors));
	FILE *f = standard ? stdin : fopen(file, "re");
	if (!f)
		return -errno;
	int err = read_all(f, &text, &length);
	if (!standard)
		fclose(f);
	if (!err)
		err = story_parse(file, text, length, ret_story, errors);
	free(text);
	return err;
}

// 0 when all is in the file.
static int copy_to(int fd)
{
	FILE *copy = fdopen(fd, "w");
	char buf[4096];
	size_t n;
	int err = 0;
	if (!copy) {
		close(fd);
		return -ENOMEM;
	}
	while (!err && (n = fread(buf, 1, sizeof(buf), stdin)) > 0)
		err = fwrite(buf, 1, n, copy) < n ? -EIO : 0;
	if (ferror(stdin))
		err = -EIO;
	return fclose(copy) && !err ? -EIO : err;
}

int story_copy_input(char *path, size_t size)
{
	const char *folder = getenv("TMPDIR");
	if (!folder || !*folder)
		folder = "/tmp";
	int n = snprintf(path, size, "%s/godwit-story.XXXXXX", folder);
	int fd = n < (int)size ? mkostemp(path, O_CLOEXEC) : -1;
	int err = fd >= 0 ? copy_to(fd) : n < (int)size ? -errno : -ENAMETOOLONG;
	if (!err && !freopen(path, "r", stdin))
		err = -errno;
	if (err && fd >= 0)
		unlink(path);
	if (err)
		*path = '\0';
	return err;
}
