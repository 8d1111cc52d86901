// SPDX-License-Identifier: GPL-2.0-only
/*
 * What a send costs: several ways by turns, one batch after the other.
 *
 *	send_cost LENGTH BATCHES BATCH WAY...
 *	WAY	kernel,NETNS,ADDRESS,PORT	a connected socket, raw system calls
 *		exasock,NETNS,ADDRESS,PORT	one that the preload library serves
 *		doorbell,NETNS,PORT,FRAME	the first card's, for a frame of that size
 *
 * Prints a line for each way: ns for each send, of every batch.
 */

#include "bench.h"

#define WAYS_MOST	16

struct way {
	const char *kind;
	int fd;
	struct doorbell doorbell;
	uint64_t *ns;
};

static char payload[65536];

static struct way way_of(char *text, size_t batches)
{
	const char *kind = strtok(text, ","), *where = strtok(NULL, ",");
	const char *to = strtok(NULL, ","), *last = strtok(NULL, ",");
	struct way way = { .kind = kind, .fd = -1, .ns = calloc(batches, sizeof(uint64_t)) };

	if (!last || !way.ns)
		errx(1, "a way has four parts");
	if (!strcmp(kind, "doorbell"))
		way.doorbell = doorbell_of(where, (unsigned int)atoi(to),
					   (unsigned int)atoi(last));
	else
		way.fd = connected_socket(where, to, last);
	if (!strcmp(kind, "exasock"))
		make_accelerated(way.fd);
	return way;
}

static void batch(const struct way *way, size_t length, unsigned int count)
{
	bool accelerated = !strcmp(way->kind, "exasock");

	while (count--) {
		if (way->fd < 0)
			ring(&way->doorbell);
		else
			send_one(way->fd, accelerated, payload, length);
	}
}

/* Nothing is said of sends that were not what they were called */
static void check_fast(const struct way *ways, size_t count, uint64_t sends)
{
	struct counters counters = counters_of_own();
	uint64_t wanted = 0;
	size_t i;

	for (i = 0; i < count; i++)
		if (!strcmp(ways[i].kind, "exasock"))
			wanted += sends;
	if (counters.sent < wanted - wanted / 100)
		errx(1, "%llu of %llu went past the kernel", (unsigned long long)counters.sent,
		     (unsigned long long)wanted);
}

int main(int argc, char **argv)
{
	size_t length, batches, i, j, count = (size_t)argc - 4;
	struct way ways[WAYS_MOST];
	unsigned int each;

	if (argc < 5 || count > WAYS_MOST)
		errx(1, "usage: LENGTH BATCHES BATCH WAY...");
	length = (size_t)atol(argv[1]);
	batches = (size_t)atol(argv[2]);
	each = (unsigned int)atol(argv[3]);
	for (j = 0; j < count; j++) {
		ways[j] = way_of(argv[4 + j], batches);
		batch(&ways[j], length, each);	/* routes, caches, translations */
	}
	for (i = 0; i < batches; i++) {
		for (j = 0; j < count; j++) {
			uint64_t began = now_ns();

			batch(&ways[j], length, each);
			ways[j].ns[i] = (now_ns() - began) / each;
		}
	}
	check_fast(ways, count, (batches + 1) * each);
	for (j = 0; j < count; j++)
		for (i = 0; i < batches; i++)
			printf("%llu%c", (unsigned long long)ways[j].ns[i],
			       i + 1 < batches ? ' ' : '\n');
	return 0;
}
