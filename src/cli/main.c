// SPDX-License-Identifier: MIT
// godwit: the command.
//
// One table of commands, one file cmd_NAME.c each; a command may have a table of its own (lab run,
// lab check, lab compare). Exit status everywhere: 0 done or held, 1 not (or its
// output could not be written), 2 bad usage or input,
// 77 skipped. Results go to stdout, everything else to stderr. godwit(1) is the manual.

#include "cli/cli.h"

#include <errno.h>
#include <getopt.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#ifndef GODWIT_VERSION
#define GODWIT_VERSION "unknown"
#endif

static int cmd_help(int argc, char **argv);

static const struct cli_command commands[] = {
	{"lab", "run|check|compare|restore ...",
		"play stories about memory on the engine or the host", cmd_lab},
	{"nodes", "[--json]", "the nodes of this host: memory, cpus, pools, distances", cmd_nodes},
	{"where", "[--json] [--total] PID", "on which nodes a process's memory lies", cmd_where},
	{"check", "[--json]", "what this host gives the engine, what is unsafe, how to get better",
		cmd_check},
	{"bench", "migrate ...", "measure what moving pages costs here", cmd_bench},
	{"help", "", "this text", cmd_help},
};

#define COMMANDS (sizeof(commands) / sizeof(commands[0]))

static int cmd_help(int argc, char **argv)
{
	(void)argc, (void)argv;
	cli_print_commands("godwit", commands, COMMANDS);
	printf("\n'godwit COMMAND --help' says more, the manual is godwit(1).\n");
	return CLI_OK;
}

static int run(int argc, char **argv)
{
	if (argc > 1 && (!strcmp(argv[1], "--version") || !strcmp(argv[1], "-V"))) {
		printf("godwit %s\n", GODWIT_VERSION);
		return CLI_OK;
	}
	if (argc > 1 && (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h")))
		return cmd_help(argc, argv);
	return cli_dispatch("godwit", commands, COMMANDS, argc, argv);
}

// A result that nobody can read is none: a full disk is a failure of every command.
static int end_output(int status)
{
	errno = 0;
	if (!fflush(stdout) && !ferror(stdout))
		return status;
	fprintf(stderr, "godwit: cannot write the output%s%s\n", errno ? ": " : "",
		errno ? strerror(errno) : "");
	return status == CLI_USAGE ? status : CLI_FAILED;
}

int main(int argc, char **argv)
{
	return end_output(run(argc, argv));
}

// ---- Tables of commands -------------------------------------------------------------------------

int cli_dispatch(const char *prefix, const struct cli_command *table, size_t count, int argc,
	char **argv)
{
	if (argc < 2)
		return cli_usage_error(prefix, "no command given");
	if (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h")) {
		cli_print_commands(prefix, table, count);
		return CLI_OK;
	}
	for (size_t i = 0; i < count; i++)
		if (!strcmp(argv[1], table[i].name))
			return table[i].run(argc - 1, argv + 1);
	return cli_usage_error(prefix, "unknown command '%s'", argv[1]);
}

void cli_print_commands(const char *prefix, const struct cli_command *table, size_t count)
{
	printf("usage: %s COMMAND ...\n\n", prefix);
	for (size_t i = 0; i < count; i++)
		printf("  %s%s%s\n        %s\n", table[i].name, *table[i].operands ? " " : "",
			table[i].operands, table[i].summary);
}

int cli_bad_option(const char *prefix, int option, char **argv)
{
	const char *what = option == ':' ? "needs a value" : "is unknown";

	if (optopt > ' ' && optopt < 127 && strncmp(argv[optind - 1], "--", 2))
		return cli_usage_error(prefix, "option -%c %s", optopt, what);
	return cli_usage_error(prefix, "option %s %s", argv[optind - 1], what);
}

int cli_usage_error(const char *prefix, const char *format, ...)
{
	va_list args;
	fprintf(stderr, "%s: ", prefix);
	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	fprintf(stderr, "; see '%s --help'\n", prefix);
	return CLI_USAGE;
}
