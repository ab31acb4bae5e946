// SPDX-License-Identifier: MIT
// godwit check: which backend and blocker this host gives the engine, why, what is unsafe with it,
// and how to get better. The findings are the machine layer's (machine/probe.h); here they are put
// on a page for a person, or into JSON.
#include "cli/cli.h"
#include "machine/probe_facts.h"

#include <getopt.h>
#include <json-c/json.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static const struct option options[] = {
	{"json", no_argument, NULL, 'j'},
	{"help", no_argument, NULL, 'h'},
	{NULL, 0, NULL, 0},
};

// Text after a label, folded at 78 columns, continuation lines under the first.
static void print_folded(const char *label, const char *text)
{
	const int indent = 13, width = 78 - 13;
	bool first = true;

	while (*text) {
		size_t n = strlen(text);

		if (n > (size_t)width) {
			n = (size_t)width;
			while (n && text[n] != ' ')
				n--;
			if (!n)
				n = (size_t)width;
		}
		printf("%-*s%.*s\n", indent, first ? label : "", (int)n, text);
		text += n;
		while (*text == ' ')
			text++;
		first = false;
	}
}

static void print_pools(const struct probe_result *p)
{
	char text[120] = "none reserved", *at = text;

	for (int i = 0; i < PROBE_HUGETLB_SIZES; i++)
		if (p->hugetlb[i].total > 0)
			at += snprintf(at, sizeof text - (size_t)(at - text),
				"%s%ld free of %ld of %zu MiB", at == text ? "" : ", ",
				p->hugetlb[i].free, p->hugetlb[i].total,
				p->hugetlb[i].page_size >> 20);
	print_folded("hugetlb", text);
}

static void print_ways(const struct probe_result *p)
{
	for (int way = 0; way < UFFD_WAYS; way++) {
		char text[240];

		if (p->uffd[way].error)
			snprintf(text, sizeof text, "%s: %s", uffd_way_name((enum uffd_way)way),
				strerror(-p->uffd[way].error));
		else
			snprintf(text, sizeof text, "%s: works, features %#llx",
				uffd_way_name((enum uffd_way)way),
				(unsigned long long)p->uffd[way].features);
		print_folded(way ? "" : "userfaultfd", text);
	}
}

// What a machine gets for its nodes.
static const char *arena_pages(const struct probe_result *p)
{
	if (shmem_is_huge_unasked(p->shmem_huge))
		return "2 MiB pages of shared memory (THP)";
	if (!strcmp(p->shmem_huge, "advise"))
		return "2 MiB pages of shared memory (THP) with GW_MACHINE_HUGE, else 4 KiB pages";
	return "4 KiB pages of shared memory";
}

// And for its own hugetlb pools: pages of the host's that somebody reserved are not to be had.
static void pool_pages(const struct probe_result *p, char *ret_text, size_t size)
{
	const long nr_free = p->hugetlb[0].free - p->hugetlb[0].reserved;

	if (nr_free > 0)
		snprintf(ret_text, size, "at most %ld pages of the host's hugetlb pool with "
			"GW_MACHINE_HUGETLB, else what is behind nodes", nr_free);
	else
		snprintf(ret_text, size, "what is behind nodes; with free pages of 2 MiB in the "
			"host's hugetlb pool and GW_MACHINE_HUGETLB those");
}

static void print_text(const struct probe_result *p)
{
	const bool tty = isatty(STDOUT_FILENO);
	char text[240];

	printf("Here the engine runs on %s%s%s with the %s%s%s blocker.\n\n", tty ? "\033[1m" : "",
		p->backend, tty ? "\033[0m" : "", tty ? "\033[1m" : "", p->blocker,
		tty ? "\033[0m" : "");
	print_folded("why", p->why);
	print_folded("unsafe", p->unsafe[0] ? p->unsafe : "nothing");
	print_folded("system calls",
		p->syscall_safe ? "on a page that moves, or was never touched, wait and are "
				  "correct (but for those named as unsafe)"
				: "on a page that moves, or was never touched, fail with EFAULT "
				  "unless it is pinned");
	for (unsigned i = 0; i < p->nr_advice; i++)
		print_folded(i ? "" : "better", p->advice[i]);
	putchar('\n');
	print_folded("kernel", p->kernel);
	snprintf(text, sizeof text, "%u of this host", p->host_nodes);
	print_folded("nodes", text);
	print_ways(p);
	snprintf(text, sizeof text,
		"%zu (vm.max_map_count): about %zu MiB of pages scattered one by one; beyond that "
		"moves are refused, and touches in random order may end in SIGBUS",
		p->max_map_count, p->max_map_count / 256);
	print_folded("mappings", text);
	snprintf(text, sizeof text, "shared memory: %s",
		p->shmem_huge[0] ? p->shmem_huge : "not known to this kernel");
	print_folded("huge pages", text);
	snprintf(text, sizeof text,
		"%s; not pages of a hugetlb pool, which cannot be mapped in pieces of 4 KiB",
		arena_pages(p));
	print_folded("behind nodes", text);
	pool_pages(p, text, sizeof text);
	print_folded("behind pools", text);
	print_pools(p);
}

static struct json_object *ways_json(const struct probe_result *p)
{
	struct json_object *ways = json_object_new_object();

	for (int way = 0; way < UFFD_WAYS; way++) {
		struct json_object *o = json_object_new_object();

		json_object_object_add(o, "error", p->uffd[way].error
			? json_object_new_string(strerror(-p->uffd[way].error)) : NULL);
		json_object_object_add(o, "features",
			json_object_new_int64((int64_t)p->uffd[way].features));
		json_object_object_add(ways, uffd_way_name((enum uffd_way)way), o);
	}
	return ways;
}

static void print_json(const struct probe_result *p)
{
	struct json_object *o = json_object_new_object(), *advice = json_object_new_array();
	char text[240];

	for (unsigned i = 0; i < p->nr_advice; i++)
		json_object_array_add(advice, json_object_new_string(p->advice[i]));
	json_object_object_add(o, "schema", json_object_new_int(1));
	json_object_object_add(o, "backend", json_object_new_string(p->backend));
	json_object_object_add(o, "blocker", json_object_new_string(p->blocker));
	json_object_object_add(o, "syscall_safe", json_object_new_boolean(p->syscall_safe));
	json_object_object_add(o, "why", json_object_new_string(p->why));
	json_object_object_add(
		o, "unsafe", p->unsafe[0] ? json_object_new_string(p->unsafe) : NULL);
	json_object_object_add(o, "advice", advice);
	json_object_object_add(o, "kernel", json_object_new_string(p->kernel));
	json_object_object_add(o, "host_nodes", json_object_new_int((int)p->host_nodes));
	json_object_object_add(o, "userfaultfd", ways_json(p));
	json_object_object_add(
		o, "max_map_count", json_object_new_int64((int64_t)p->max_map_count));
	json_object_object_add(o, "shmem_huge", json_object_new_string(p->shmem_huge));
	json_object_object_add(o, "behind_nodes", json_object_new_string(arena_pages(p)));
	pool_pages(p, text, sizeof text);
	json_object_object_add(o, "behind_pools", json_object_new_string(text));
	puts(json_object_to_json_string_ext(o, JSON_C_TO_STRING_PLAIN));
	json_object_put(o);
}

int cmd_check(int argc, char **argv)
{
	struct probe_result probe;
	bool json = false;
	int c;

	optind = 1;
	opterr = 0;
	while ((c = getopt_long(argc, argv, ":h", options, NULL)) != -1) {
		if (c == 'j') {
			json = true;
		} else if (c == 'h') {
			puts("usage: godwit check [--json]\n\n"
			     "Which backend and blocker this host gives the engine, why, what is\n"
			     "unsafe with it, and how to get better.");
			return CLI_OK;
		} else {
			return cli_bad_option("godwit check", c, argv);
		}
	}
	if (optind < argc)
		return cli_usage_error("godwit check", "unexpected '%s'", argv[optind]);
	probe_host(&probe);
	if (json)
		print_json(&probe);
	else
		print_text(&probe);
	return CLI_OK;
}
