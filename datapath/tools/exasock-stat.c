// SPDX-License-Identifier: GPL-2.0-only
/* exasock-stat: accelerated sockets, what they sent and received, and what the kernel had to do. */

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "reasons.h"
#include "stat.h"

static const char usage[] =
	"Usage: exasock-stat [-a] [-j] [-r]\n"
	"       exasock-stat --bypass-filters[=on|off]\n"
	"\n"
	"Show the accelerated sockets of this network namespace.\n"
	"\n"
	"  -a, --all       show all namespaces (needs CAP_NET_ADMIN in the initial one)\n"
	"  -r, --reasons   show why datagrams used the kernel path, with counts, and why\n"
	"                  sockets of this namespace were not accelerated\n"
	"  -j, --json      print one JSON object for each socket\n"
	"      --bypass-filters   show or set whether this namespace's sockets bypass\n"
	"                         netfilter, tc and XDP hooks;\n"
	"                         setting it needs CAP_NET_ADMIN in the namespace\n"
	"  -h, --help      print this help\n";

_Noreturn void fail(const char *format, ...)
{
	va_list arguments;

	fputs("exasock-stat: ", stderr);
	va_start(arguments, format);
	vfprintf(stderr, format, arguments);
	va_end(arguments);
	fputc('\n', stderr);
	exit(1);
}

static int open_device(void)
{
	int fd = open(EXASOCK_DEVICE, O_RDWR | O_CLOEXEC);
	struct exasock_info info;

	if (fd < 0 && errno == ENOENT)
		fail("no %s: load the module (modprobe exasock), or give the container its device",
		     EXASOCK_DEVICE);
	if (fd < 0)
		fail("%s: %s", EXASOCK_DEVICE, strerror(errno));
	if (ioctl(fd, EXASOCK_IOC_INFO, &info))
		fail("%s does not answer as exasock: %s", EXASOCK_DEVICE, strerror(errno));
	if (info.abi != EXASOCK_ABI_VERSION)
		fail("the module has version %u, this program %u: install both from one release",
		     info.abi, EXASOCK_ABI_VERSION);
	return fd;
}

/* Everything that @request, a LIST, gives; each @size bytes */
void *list(int fd, unsigned long request, bool all, size_t size, struct exasock_list *asked)
{
	unsigned int room = 64;
	void *stats = NULL;

	*asked = (struct exasock_list){ .flags = all ? EXASOCK_LIST_ALL : 0 };

	for (;;) {
		stats = realloc(stats, room * size);
		if (!stats)
			fail("no memory for %u sockets", room);
		asked->stats = (uintptr_t)stats;
		asked->room = room;
		if (ioctl(fd, request, asked)) {
			if (errno == EPERM)
				fail("-a needs CAP_NET_ADMIN in the initial namespace");
			fail("listing sockets: %s", strerror(errno));
		}
		if (asked->count <= room)
			return stats;
		room = asked->count + 64;
	}
}

static uint64_t total(const __u64 *counts)
{
	uint64_t sum = 0;
	unsigned int i;

	for (i = 0; i < EXASOCK_R_REASONS; i++)
		sum += counts[i];
	return sum;
}

const char *address(char *to, size_t size, __be32 host, __be16 port)
{
	char name[INET_ADDRSTRLEN];

	inet_ntop(AF_INET, &host, name, sizeof(name));
	snprintf(to, size, "%s:%u", host ? name : "*", ntohs(port));
	return to;
}

/* A program's name as JSON wants it: it may be anything */
void put_name(const __u8 *name)
{
	unsigned int i;

	putchar('"');
	for (i = 0; i < 16 && name[i]; i++) {
		if (name[i] < ' ' || name[i] == '"' || name[i] == '\\' || name[i] > '~')
			printf("\\u%04x", name[i]);
		else
			putchar(name[i]);
	}
	putchar('"');
}

static void json_reasons(const char *name, const __u64 *counts)
{
	const char *separator = "";
	unsigned int i;

	printf(", \"%s\": {", name);
	for (i = 0; i < EXASOCK_R_REASONS; i++) {
		if (!counts[i])
			continue;
		printf("%s\"%s\": %" PRIu64, separator, exasock_reasons[i], (uint64_t)counts[i]);
		separator = ", ";
	}
	putchar('}');
}

static void show_json(const struct exasock_stat *stat)
{
	char local[INET_ADDRSTRLEN], peer[INET_ADDRSTRLEN];

	inet_ntop(AF_INET, &stat->laddr, local, sizeof(local));
	inet_ntop(AF_INET, &stat->raddr, peer, sizeof(peer));
	printf("{\"netns\": %" PRIu64 ", \"pid\": %d, \"program\": ", (uint64_t)stat->netns,
	       stat->pid);
	put_name(stat->comm);
	printf(", \"local\": [\"%s\", %u], \"peer\": [\"%s\", %u]", local, ntohs(stat->lport), peer,
	       ntohs(stat->rport));
	printf(", \"rx_fast\": %" PRIu64 ", \"tx_fast\": %" PRIu64 ", \"tx_fast_bytes\": %" PRIu64,
	       (uint64_t)(stat->rx_held - stat->rx_taken), (uint64_t)stat->tx_fast,
	       (uint64_t)stat->tx_fast_bytes);
	json_reasons("rx_kernel", stat->rx_kernel);
	json_reasons("tx_kernel", stat->tx_kernel);
	puts("}");
}

static void show_reasons(const char *direction, const __u64 *counts)
{
	unsigned int i;

	for (i = 0; i < EXASOCK_R_REASONS; i++)
		if (counts[i])
			printf("        %s through the kernel, %s: %" PRIu64 "\n", direction,
			       exasock_reasons[i], (uint64_t)counts[i]);
}

static void show(const struct exasock_stat *stat, bool reasons)
{
	char local[32], peer[32];

	printf("%7d %-15.16s %8" PRIu64 " %-21s %-21s %10" PRIu64 " %10" PRIu64 " %10" PRIu64
	       " %10" PRIu64 "\n",
	       stat->pid, (const char *)stat->comm, (uint64_t)stat->netns,
	       address(local, sizeof(local), stat->laddr, stat->lport),
	       address(peer, sizeof(peer), stat->raddr, stat->rport),
	       (uint64_t)(stat->rx_held - stat->rx_taken), total(stat->rx_kernel),
	       (uint64_t)stat->tx_fast, total(stat->tx_kernel));
	if (reasons) {
		show_reasons("received", stat->rx_kernel);
		show_reasons("sent", stat->tx_kernel);
	}
}

void show_refusals(bool json, const char *what, const __u64 *counts)
{
	unsigned int i;

	if (json)
		printf("{\"refused%s\": {", what);
	for (i = 0; i < EXASOCK_N_REFUSALS; i++) {
		if (json)
			printf("%s\"%s\": %" PRIu64, i ? ", " : "", exasock_refusals[i],
			       (uint64_t)counts[i]);
		else if (counts[i])
			printf("not accelerated%s, %s: %" PRIu64 "\n", what,
			       exasock_refusal_texts[i], (uint64_t)counts[i]);
	}
	if (json)
		puts("}}");
}

static void show_all(int fd, const struct options *options)
{
	struct exasock_list asked;
	struct exasock_stat *stats =
		list(fd, EXASOCK_IOC_LIST, options->all, sizeof(*stats), &asked);
	unsigned int i;

	if (!options->json)
		printf("%7s %-15s %8s %-21s %-21s %10s %10s %10s %10s\n", "PID", "PROGRAM", "NETNS",
		       "LOCAL", "PEER", "RX FAST", "RX KERNEL", "TX FAST", "TX KERNEL");
	for (i = 0; i < asked.count; i++) {
		if (options->json)
			show_json(&stats[i]);
		else
			show(&stats[i], options->reasons);
	}
	if (options->reasons)
		show_refusals(options->json, "", asked.refused);
	free(stats);
}

static void setting_of_filters(int fd, const char *to)
{
	struct exasock_setting setting = { .name = EXASOCK_SET_BYPASS_FILTERS };

	if (to) {
		setting.write = 1;
		setting.value = !strcmp(to, "on");
		if (!setting.value && strcmp(to, "off"))
			fail("--bypass-filters takes on or off, not '%s'", to);
	}
	if (ioctl(fd, EXASOCK_IOC_SETTING, &setting)) {
		if (errno == EPERM)
			fail("setting it needs CAP_NET_ADMIN in this network namespace");
		fail("%s", strerror(errno));
	}
	puts(setting.value ? "on" : "off");
}

int main(int argc, char **argv)
{
	static const struct option known[] = {
		{ "all", no_argument, NULL, 'a' },
		{ "json", no_argument, NULL, 'j' },
		{ "reasons", no_argument, NULL, 'r' },
		{ "bypass-filters", optional_argument, NULL, 'f' },
		{ "help", no_argument, NULL, 'h' },
		{}
	};
	struct options options = {};
	int fd, found;

	while ((found = getopt_long(argc, argv, "ajrh", known, NULL)) != -1) {
		switch (found) {
		case 'a':
			options.all = true;
			break;
		case 'j':
			options.json = true;
			break;
		case 'r':
			options.reasons = true;
			break;
		case 'f':
			options.filters = true;
			options.filters_to = optarg;
			break;
		case 'h':
			fputs(usage, stdout);
			return 0;
		default:
			fputs(usage, stderr);
			return 2;
		}
	}
	/* --bypass-filters on, as people write it */
	if (options.filters && !options.filters_to && optind < argc)
		options.filters_to = argv[optind++];
	if (optind < argc)
		fail("unknown argument '%s'; exasock-stat --help lists the options", argv[optind]);
	fd = open_device();
	if (options.filters)
		setting_of_filters(fd, options.filters_to);
	else
		show_all(fd, &options);
	if (!options.filters)
		show_streams(fd, &options);
	close(fd);
	return 0;
}
