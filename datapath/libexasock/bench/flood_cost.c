// SPDX-License-Identifier: GPL-2.0-only
/*
 * Looks at a socket without waiting, all the time: what comes in is met by somebody who
 * looks, and what it costs is what the looks become fewer.
 *
 *	flood_cost KIND NETNS ADDRESS PORT MILLISECONDS
 *	KIND	kernel or exasock
 *
 * Prints "looking"; and at the end how many datagrams came, how many looks found none, and
 * how many datagrams were claimed from the ring.
 */

#include "bench.h"

#define LOOKS_PER_CLOCK	64

int main(int argc, char **argv)
{
	unsigned long got = 0, empty = 0;
	struct counters counters;
	bool accelerated;
	char buffer[2048];
	u64 end;
	int fd;

	if (argc != 6)
		errx(1, "usage: KIND NETNS ADDRESS PORT MILLISECONDS");
	accelerated = !strcmp(argv[1], "exasock");
	fd = bound_socket(argv[2], argv[3], argv[4]);
	if (accelerated)
		make_accelerated(fd);
	puts("looking");
	fflush(stdout);
	end = now_ns() + (u64)atol(argv[5]) * 1000000;
	while (now_ns() < end) {
		int i;

		for (i = 0; i < LOOKS_PER_CLOCK; i++) {
			if (take_one(fd, accelerated, buffer, sizeof(buffer)) >= 0)
				got++;
			else
				empty++;
		}
	}
	counters = counters_of_own();
	printf("got %lu %lu %llu\n", got, empty, (unsigned long long)counters.claimed);
	return 0;
}
