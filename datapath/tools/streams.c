// SPDX-License-Identifier: GPL-2.0-only
/* exasock-stat: TCP connections, who has them, how often they changed hands, and why */

#include <arpa/inet.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "reasons.h"
#include "stat.h"

static const char *const stream_reasons[EXASOCK_S_REASONS] = {
	[EXASOCK_S_CALL] = "call",
	[EXASOCK_S_ORDER] = "order",
	[EXASOCK_S_FLAGS] = "flags",
	[EXASOCK_S_TCPOPTION] = "tcpoption",
	[EXASOCK_S_PAWS] = "paws",
	[EXASOCK_S_DUPACK] = "dupack",
	[EXASOCK_S_BADACK] = "badack",
	[EXASOCK_S_WINDOW] = "window",
	[EXASOCK_S_LOSS] = "loss",
	[EXASOCK_S_ECN] = "ecn",
	[EXASOCK_S_ROOM] = "room",
	[EXASOCK_S_STATE] = "state",
	[EXASOCK_S_QUEUED] = "queued",
	[EXASOCK_S_CALLERS] = "callers",
	[EXASOCK_S_REST] = "rest",
	[EXASOCK_S_UNSEEN] = "unseen",
	[EXASOCK_S_OVER] = "over",
	[EXASOCK_S_UNUSED] = "unused",
	[EXASOCK_S_FOREIGN] = "foreign",
};

static const char *reason_name(unsigned int reason)
{
	const char *name = NULL;

	if (reason < EXASOCK_R_REASONS)
		name = exasock_reasons[reason];
	else if (reason < EXASOCK_S_REASONS)
		name = stream_reasons[reason];
	return name ? name : "unknown";
}

static void json_reasons(const char *name, const __u64 *counts)
{
	const char *separator = "";
	unsigned int i;

	printf(", \"%s\": {", name);
	for (i = 0; i < EXASOCK_S_REASONS; i++) {
		if (!counts[i])
			continue;
		printf("%s\"%s\": %" PRIu64, separator, reason_name(i), (uint64_t)counts[i]);
		separator = ", ";
	}
	putchar('}');
}

static void show_json(const struct exasock_stream_stat *stat)
{
	char local[INET_ADDRSTRLEN], peer[INET_ADDRSTRLEN];

	inet_ntop(AF_INET, &stat->laddr, local, sizeof(local));
	inet_ntop(AF_INET, &stat->raddr, peer, sizeof(peer));
	printf("{\"protocol\": \"tcp\", \"netns\": %" PRIu64 ", \"pid\": %d, \"program\": ",
	       (uint64_t)stat->netns, stat->pid);
	put_name(stat->comm);
	printf(", \"local\": [\"%s\", %u], \"peer\": [\"%s\", %u]", local, ntohs(stat->lport), peer,
	       ntohs(stat->rport));
	printf(", \"owner\": \"%s\", \"since_us\": %" PRIu64 ", \"takes\": %" PRIu64,
	       stat->taken ? "process" : "kernel", (uint64_t)stat->since_us,
	       (uint64_t)stat->takes);
	printf(", \"rx_segments\": %" PRIu64 ", \"rx_bytes\": %" PRIu64 ", \"rx_home\": %" PRIu64,
	       (uint64_t)stat->rx_segments, (uint64_t)stat->rx_bytes, (uint64_t)stat->rx_home);
	printf(", \"tx_segments\": %" PRIu64 ", \"tx_bytes\": %" PRIu64 ", \"acks\": %" PRIu64,
	       (uint64_t)stat->tx_segments, (uint64_t)stat->tx_bytes, (uint64_t)stat->acks);
	json_reasons("gives", stat->gives);
	json_reasons("refused", stat->refused);
	puts("}");
}

static void show_reasons(const char *what, const __u64 *counts)
{
	unsigned int i;

	for (i = 0; i < EXASOCK_S_REASONS; i++)
		if (counts[i])
			printf("        %s, %s: %" PRIu64 "\n", what, reason_name(i),
			       (uint64_t)counts[i]);
}

/* The story so far, in a line */
static void show_story(const struct exasock_stream_stat *stat)
{
	double since = (double)stat->since_us / 1e6;

	if (stat->taken)
		printf("        taken %.6f s ago\n", since);
	else if (stat->takes)
		printf("        handed back %.6f s ago: %s\n", since, reason_name(stat->last));
	else
		printf("        never taken, attached %.6f s ago\n", since);
}

static void show(const struct exasock_stream_stat *stat, bool reasons)
{
	char local[32], peer[32];

	printf("%7d %-15.16s %8" PRIu64 " %-21s %-21s %-7s %7" PRIu64 " %12" PRIu64 " %12" PRIu64
	       "\n",
	       stat->pid, (const char *)stat->comm, (uint64_t)stat->netns,
	       address(local, sizeof(local), stat->laddr, stat->lport),
	       address(peer, sizeof(peer), stat->raddr, stat->rport),
	       stat->taken ? "process" : "kernel", (uint64_t)stat->takes,
	       (uint64_t)(stat->rx_bytes - stat->rx_home), (uint64_t)stat->tx_bytes);
	if (!reasons)
		return;
	show_story(stat);
	show_reasons("handed back", stat->gives);
	show_reasons("not taken", stat->refused);
}

void show_streams(int fd, const struct options *options)
{
	struct exasock_list asked;
	struct exasock_stream_stat *stats =
		list(fd, EXASOCK_IOC_STREAM_LIST, options->all, sizeof(*stats), &asked);
	unsigned int i;

	if (!options->json && asked.count)
		printf("%7s %-15s %8s %-21s %-21s %-7s %7s %12s %12s\n", "PID", "TCP PROGRAM",
		       "NETNS", "LOCAL", "PEER", "OWNER", "TAKES", "RX FAST B", "TX FAST B");
	for (i = 0; i < asked.count; i++) {
		if (options->json)
			show_json(&stats[i]);
		else
			show(&stats[i], options->reasons);
	}
	if (options->reasons)
		show_refusals(options->json, options->json ? "_tcp" : " (TCP)", asked.refused);
	free(stats);
}
