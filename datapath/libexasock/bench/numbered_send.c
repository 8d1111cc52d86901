// SPDX-License-Identifier: GPL-2.0-only
/*
 * Datagrams with continuous numbers, as fast as they go, while something changes under them.
 *
 *	numbered_send KIND NETNS ADDRESS PORT COUNT
 *	KIND	kernel or exasock
 *
 * The number, from 0, is the payload's first four bytes, most significant first. Prints how
 * many went past the stack, and then the clock (CLOCK_MONOTONIC, ns) when each was begun.
 */

#include "bench.h"

#define LENGTH	64

int main(int argc, char **argv)
{
	unsigned char payload[LENGTH] = {};
	struct counters counters;
	u32 number, count;
	bool accelerated;
	u64 *began;
	int fd;

	if (argc != 6)
		errx(1, "usage: KIND NETNS ADDRESS PORT COUNT");
	accelerated = !strcmp(argv[1], "exasock");
	fd = connected_socket(argv[2], argv[3], argv[4]);
	count = (u32)atol(argv[5]);
	began = calloc(count, sizeof(*began));
	if (!began)
		err(1, "memory");
	if (accelerated)
		make_accelerated(fd);
	puts("sending");
	fflush(stdout);
	for (number = 0; number < count; number++) {
		u32 wire = htonl(number);

		memcpy(payload, &wire, sizeof(wire));
		began[number] = now_ns();
		send_one(fd, accelerated, payload, sizeof(payload));
	}
	counters = counters_of_own();
	printf("%llu\n", (unsigned long long)counters.sent);
	for (number = 0; number < count; number++)
		printf("%llu\n", (unsigned long long)began[number]);
	return 0;
}
