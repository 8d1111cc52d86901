// SPDX-License-Identifier: GPL-2.0-only
/*
 * What it costs to take a datagram that is already there: held in the ring, or in the
 * kernel's queue. Several sockets by turns, one batch after the other.
 *
 *	receive_cost LENGTH BATCHES BATCH FROM SOCKET...
 *	FROM	namespace of a plain sender
 *	SOCKET	kernel,NETNS,ADDRESS,PORT	raw system calls
 *		exasock,NETNS,ADDRESS,PORT	the preload library's
 *
 * The module must hold datagrams for as long as a batch is on its way (hold_us, fresh_us).
 * Prints a line for each socket: ns for each datagram, of every batch that was there whole.
 */

#include "bench.h"

#define SOCKETS_MOST	16
#define SETTLE_NS	4000000

struct receiver {
	bool accelerated;
	int fd;
	int from;
	u64 *ns;
	size_t batches;
};

static char payload[65536];

static struct receiver receiver_of(char *text, const char *from, size_t batches)
{
	const char *kind = strtok(text, ","), *netns = strtok(NULL, ",");
	const char *address = strtok(NULL, ","), *port = strtok(NULL, ",");
	struct receiver receiver = { .ns = calloc(batches, sizeof(u64)) };

	if (!port || !receiver.ns)
		errx(1, "a socket has four parts");
	receiver.accelerated = !strcmp(kind, "exasock");
	receiver.fd = bound_socket(netns, address, port);
	receiver.from = connected_socket(from, address, port);
	if (receiver.accelerated)
		make_accelerated(receiver.fd);
	return receiver;
}

/* Returns how many were there */
static unsigned int take_all(const struct receiver *receiver, unsigned int most)
{
	unsigned int taken = 0;

	while (taken < most &&
	       take_one(receiver->fd, receiver->accelerated, payload, sizeof(payload)) >= 0)
		taken++;
	return taken;
}

static void batch(struct receiver *receiver, size_t length, unsigned int count)
{
	const struct timespec settle = { .tv_nsec = SETTLE_NS };
	unsigned int i, taken;
	u64 began, took;

	/* late ones of the last batch; and from here on it counts as looking */
	take_all(receiver, UINT32_MAX);
	for (i = 0; i < count; i++)
		send_one(receiver->from, false, payload, length);
	nanosleep(&settle, NULL);
	began = now_ns();
	taken = take_all(receiver, count);
	took = now_ns() - began;
	if (taken == count)
		receiver->ns[receiver->batches++] = took / count;
}

int main(int argc, char **argv)
{
	struct receiver receivers[SOCKETS_MOST];
	size_t length, batches, i, j, count = (size_t)argc - 5;
	struct counters counters;
	unsigned int each;

	if (argc < 6 || count > SOCKETS_MOST)
		errx(1, "usage: LENGTH BATCHES BATCH FROM SOCKET...");
	length = (size_t)atol(argv[1]);
	batches = (size_t)atol(argv[2]);
	each = (unsigned int)atol(argv[3]);
	for (j = 0; j < count; j++) {
		receivers[j] = receiver_of(argv[5 + j], argv[4], batches + 1);
		batch(&receivers[j], length, each);
		receivers[j].batches = 0;
	}
	for (i = 0; i < batches; i++)
		for (j = 0; j < count; j++)
			batch(&receivers[j], length, each);
	counters = counters_of_own();
	fprintf(stderr, "%u sockets claimed %llu\n", counters.sockets,
		(unsigned long long)counters.claimed);
	for (j = 0; j < count; j++) {
		for (i = 0; i < receivers[j].batches; i++)
			printf("%s%llu", i ? " " : "", (unsigned long long)receivers[j].ns[i]);
		putchar('\n');
	}
	return 0;
}
