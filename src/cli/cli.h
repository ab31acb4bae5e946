// SPDX-License-Identifier: MIT
// The commands of godwit: one file and one row of a table each.
#ifndef GODWIT_CLI_CLI_H
#define GODWIT_CLI_CLI_H

#include <stddef.h>

enum cli_exit { CLI_OK = 0, CLI_FAILED = 1, CLI_USAGE = 2, CLI_SKIPPED = 77 };

struct cli_command {
	const char *name;
	const char *operands; // "[--json] FILE..."
	const char *summary;  // one line
	// argv[0] is the name of the command. The exit status.
	int (*run)(int argc, char **argv);
};

// Finds argv[1] in the table and runs it; prefix ("godwit lab") is for messages.
int cli_dispatch(const char *prefix, const struct cli_command *commands, size_t count, int argc,
	char **argv);
void cli_print_commands(const char *prefix, const struct cli_command *commands, size_t count);
// Says what is wrong on stderr and where help is; returns CLI_USAGE.
int cli_usage_error(const char *prefix, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

// The same of an option that getopt_long() answered with '?' or ':' (its string begins with ':').
int cli_bad_option(const char *prefix, int option, char **argv);

int cmd_lab(int argc, char **argv);
int cmd_nodes(int argc, char **argv);
int cmd_where(int argc, char **argv);
int cmd_check(int argc, char **argv);
int cmd_bench(int argc, char **argv);

#endif
