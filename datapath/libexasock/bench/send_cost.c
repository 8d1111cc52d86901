// SPDX-License-Identifier: GPL-2.0-only
/*
 * Sends for somebody who measures them: so many of one kind, when he says so.
 *
 *	send_cost LENGTH WAY...
 *	WAY	kernel,NETNS,ADDRESS,PORT	a connected socket, raw system calls
 *		exasock,NETNS,ADDRESS,PORT	one that the preload library serves
 *		doorbell,NETNS,PORT,FRAME	the first card's, for a frame of that size
 *
 * A line on standard input is a command, and answered with the ns that it took:
 *	send WAY COUNT		WAY: by its place above, from 0
 *	hold PREFIX COUNT	have an accelerated socket in each of the namespaces PREFIX1
 *				to PREFIXCOUNT, and in no others
 * At its end it is an error if sends that should have overtaken the kernel did not.
 */

#include <sys/resource.h>

#include "bench.h"

#define WAYS_MOST	16
#define HELD_MOST	1024

struct way {
	const char *kind;
	int fd;
	struct doorbell doorbell;
	u64 sent;
};

static char payload[65536];
static struct way ways[WAYS_MOST];
static unsigned int way_count;
static int held[HELD_MOST];
static unsigned int held_count;

static struct way way_of(char *text)
{
	const char *kind = strtok(text, ","), *netns = strtok(NULL, ",");
	const char *to = strtok(NULL, ","), *last = strtok(NULL, ",");
	struct way way = { .kind = kind, .fd = -1 };

	if (!last)
		errx(1, "a way has four parts");
	if (!strcmp(kind, "doorbell"))
		way.doorbell = doorbell_of(netns, (unsigned int)atoi(to),
					   (unsigned int)atoi(last));
	else
		way.fd = connected_socket(netns, to, last);
	if (!strcmp(kind, "exasock"))
		make_accelerated(way.fd);
	return way;
}

static void send_many(struct way *way, size_t length, unsigned int count)
{
	bool accelerated = !strcmp(way->kind, "exasock");

	way->sent += count;
	while (count--) {
		if (way->fd < 0)
			ring(&way->doorbell);
		else
			send_one(way->fd, accelerated, payload, length);
	}
}

static void hold(const char *prefix, unsigned int count)
{
	char netns[64];

	if (count > HELD_MOST)
		errx(1, "at most %d namespaces", HELD_MOST);
	while (held_count > count)
		close(held[--held_count]);
	while (held_count < count) {
		snprintf(netns, sizeof(netns), "%s%u", prefix, held_count + 1);
		held[held_count] = bound_socket(netns, "0.0.0.0", "7");
		make_accelerated(held[held_count++]);
	}
}

static void obey(const char *line, size_t length)
{
	unsigned int way, count;
	char prefix[32];

	if (sscanf(line, "send %u %u", &way, &count) == 2 && way < way_count)
		send_many(&ways[way], length, count);
	else if (sscanf(line, "hold %31s %u", prefix, &count) == 2)
		hold(prefix, count);
	else
		errx(1, "no command: %s", line);
}

/* Nothing is said of sends that were not what they were called */
static void check_fast(void)
{
	struct counters counters = counters_of_own();
	u64 wanted = 0;
	unsigned int i;

	for (i = 0; i < way_count; i++)
		if (!strcmp(ways[i].kind, "exasock"))
			wanted += ways[i].sent;
	if (counters.sent < wanted - wanted / 100)
		errx(1, "%llu of %llu went past the kernel", (unsigned long long)counters.sent,
		     (unsigned long long)wanted);
}

int main(int argc, char **argv)
{
	struct rlimit files = { 4096, 4096 };
	size_t length;
	char line[256];

	if (argc < 3 || argc - 2 > WAYS_MOST)
		errx(1, "usage: LENGTH WAY...");
	setrlimit(RLIMIT_NOFILE, &files);
	length = (size_t)atol(argv[1]);
	for (; (int)way_count < argc - 2; way_count++)
		ways[way_count] = way_of(argv[2 + way_count]);
	while (fgets(line, sizeof(line), stdin)) {
		u64 began = now_ns();

		obey(line, length);
		printf("took %llu\n", (unsigned long long)(now_ns() - began));
		fflush(stdout);
	}
	check_fast();
	return 0;
}
