// SPDX-License-Identifier: GPL-2.0-only
/*
 * Messages by turns over TCP connections for somebody who measures them: so many, when he
 * says so. A way has several connections, so that while one message is on the wire there is
 * always another to take: the process never sleeps, and seldom looks in vain.
 *
 *	stream_cost LENGTH CONNECTIONS WAY...
 *	WAY	kernel,FROM,TO,ADDRESS,PORT	raw system calls at both ends
 *		exasock,FROM,TO,ADDRESS,PORT	connections that the preload library serves
 *		hand,FROM,TO,ADDRESS,PORT	whose first ends are to be attached by hand
 *		doorbell,NETNS,PORT,FRAME	the first card's, for a frame of that size
 *
 * A line on standard input is a command, and answered with the ns that it took and two
 * numbers; WAY: by its place above, from 0:
 *	turns WAY COUNT		COUNT messages, each taken and answered; how many looks found
 *				nothing, and 0
 *	calls WAY COUNT		the same; the median ns of a send, and of a receive of what is
 *				there
 *	looks WAY COUNT		looks that find nothing; how many there were, and 0
 *	ring WAY COUNT		the doorbell; the median ns of one, and 0
 *	changes WAY COUNT	take and bring home; the median ns of each
 *	share WAY COUNT		how many of COUNT bytes that messages had were sent past the
 *				kernel, and received so
 *	hold PREFIX PEER COUNT	have an accelerated connection from each of the namespaces
 *				PREFIX1 to PREFIXCOUNT, to PEER1 and so on; all of this
 *				process's have gone home then; 0, and 0
 */

#include <sys/ioctl.h>
#include <sys/resource.h>

#include "../../include/exasock_stream.h"
#include "bench.h"

#define WAYS_MOST	16
#define HELD_MOST	1024
#define TIMES_MOST	65536
#define CONNECTIONS_MOST	64
#define LATE_NS		10000000000ULL

struct way {
	const char *kind;
	struct connection connections[CONNECTIONS_MOST];
	unsigned int turn;	/* whose it is, of these */
	unsigned int end;	/* where the next message is to be taken */
	struct doorbell doorbell;
	u64 messages;
};

struct times {
	u64 ns[TIMES_MOST];
	unsigned int count;
};

static char payload[65536];
static size_t length;
static unsigned int connections;
static struct way ways[WAYS_MOST];
static unsigned int way_count;
static struct connection held[HELD_MOST];
static unsigned int held_count;
static struct times first, second;

static int compare(const void *one, const void *other)
{
	u64 a = *(const u64 *)one, b = *(const u64 *)other;

	return a < b ? -1 : a > b;
}

static u64 median(struct times *times)
{
	if (!times->count)
		return 0;
	qsort(times->ns, times->count, sizeof(u64), compare);
	return times->ns[times->count / 2];
}

static void note(struct times *times, u64 ns)
{
	if (times && times->count < TIMES_MOST)
		times->ns[times->count++] = ns;
}

static void way_of(struct way *way, char *text)
{
	const char *kind = strtok(text, ","), *one = strtok(NULL, ",");
	const char *two = strtok(NULL, ","), *three = strtok(NULL, ",");
	const char *four = strtok(NULL, ",");
	unsigned int before, i;

	way->kind = kind;
	if (!strcmp(kind, "doorbell") && three) {
		way->doorbell = doorbell_of(one, (unsigned int)atoi(two),
					    (unsigned int)atoi(three));
		return;
	}
	if (!four)
		errx(1, "a way has five parts");
	way->end = 1;
	before = stream_counters_of_own().ever;
	for (i = 0; i < connections; i++) {
		way->connections[i] = connection_of(one, two, three, four,
						    !strcmp(kind, "exasock"));
		have_taken(&way->connections[i]);
	}
	if (!strcmp(kind, "exasock"))
		have_ever_taken(way->connections, connections, before);
	for (i = 0; i < connections && strcmp(kind, "hand"); i++)
		send_one(way->connections[i].end[0], way->connections[i].accelerated, payload,
			 length);
}

/* The message that is under way is taken, and answered */
static u64 answer(struct way *way, bool timed)
{
	const struct connection *connection = &way->connections[way->turn];
	u64 began = 0, in_vain = 0, since = 0;
	size_t left = length;

	while (left) {
		ssize_t got;

		if (timed)
			began = now_ns();
		got = take_one(connection->end[way->end], connection->accelerated, payload, left);
		if (got > 0) {
			left -= (size_t)got;
			if (timed && !left)
				note(&second, now_ns() - began);
			continue;
		}
		if (!(in_vain++ & 1023)) {
			since = since ?: now_ns();
			if (!got || now_ns() - since > LATE_NS)
				errx(1, "%zu bytes do not come", left);
		}
	}
	if (timed)
		began = now_ns();
	send_one(connection->end[way->end], connection->accelerated, payload, length);
	if (timed)
		note(&first, now_ns() - began);
	if (++way->turn == connections) {
		way->turn = 0;
		way->end = !way->end;
	}
	return in_vain;
}

static u64 turns(struct way *way, unsigned int count, bool timed)
{
	u64 in_vain = 0;

	way->messages += count;
	while (count--)
		in_vain += answer(way, timed);
	return in_vain;
}

/* At the other end than the message is on its way to */
static void looks(const struct way *way, unsigned int count)
{
	const struct connection *connection = &way->connections[way->turn];

	while (count--)
		if (take_one(connection->end[!way->end], connection->accelerated, payload,
			     length) >= 0)
			errx(1, "something is there");
}

static void rings(const struct way *way, unsigned int count)
{
	while (count--) {
		u64 began = now_ns();

		ring(&way->doorbell);
		note(&first, now_ns() - began);
	}
}

/* Attached here, not by the library: what one change costs, of the kernel module alone */
static void changes(const struct way *way, unsigned int count)
{
	const struct connection *connection = &way->connections[0];
	struct exasock_attach attach = { .fd = connection->end[0] };
	int fd = open(EXASOCK_DEVICE, O_RDWR | O_CLOEXEC);

	if (fd < 0 || ioctl(fd, EXASOCK_IOC_STREAM_ATTACH, &attach))
		err(1, "%s", EXASOCK_DEVICE);
	have_taken(connection);	/* its segments come through the module, and it knows */
	while (count--) {
		u64 began, between, ended;

		began = now_ns();
		if (ioctl(fd, EXASOCK_IOC_STREAM_TAKE, &attach.handle))
			err(1, "it is not taken");
		between = now_ns();
		if (ioctl(fd, EXASOCK_IOC_STREAM_HOME, &attach.handle))
			err(1, "it does not go home");
		ended = now_ns();
		note(&first, between - began);
		note(&second, ended - between);
	}
	close(fd);
}

static void hold(const char *prefix, const char *peer, unsigned int count)
{
	char from[64], to[64];
	unsigned int before, had;

	if (count > HELD_MOST)
		errx(1, "at most %d namespaces", HELD_MOST);
	while (held_count > count)
		close_connection(&held[--held_count]);
	before = stream_counters_of_own().ever;
	had = held_count;
	while (held_count < count) {
		struct connection *connection = &held[held_count++];

		snprintf(from, sizeof(from), "%s%u", prefix, held_count);
		snprintf(to, sizeof(to), "%s%u", peer, held_count);
		*connection = connection_of(from, to, "10.0.0.2", "7", true);
		have_taken(connection);
	}
	have_ever_taken(&held[had], count - had, before);
	all_at_home();	/* what is not used goes home: not while something is measured */
}

/* Of one kind's messages: those of all its ways */
static void share(const char *kind, u64 of, u64 *sent, u64 *received)
{
	struct stream_counters counters = stream_counters_of_own();
	u64 wanted = 0;
	unsigned int i;

	for (i = 0; i < way_count; i++)
		if (!strcmp(ways[i].kind, kind))
			wanted += ways[i].messages * length;
	*sent = wanted ? counters.sent * of / wanted : 0;
	*received = wanted ? counters.received * of / wanted : 0;
}

static void told(u64 took, u64 one, u64 two)
{
	printf("took %llu %llu %llu\n", (unsigned long long)took, (unsigned long long)one,
	       (unsigned long long)two);
	fflush(stdout);
}

/* Medians are found after the command's time: sorting is not its cost */
static void obey(const char *line)
{
	u64 began = now_ns(), took, in_vain = 0;
	unsigned int way = 0, count;
	char word[16], prefix[32], peer[32];

	first.count = 0;
	second.count = 0;
	if (sscanf(line, "hold %31s %31s %u", prefix, peer, &count) == 3) {
		hold(prefix, peer, count);
		return told(now_ns() - began, 0, 0);
	}
	if (sscanf(line, "%15s %u %u", word, &way, &count) != 3 || way >= way_count)
		errx(1, "no command: %s", line);
	if (!strcmp(word, "share")) {
		u64 sent, received;

		share(ways[way].kind, count, &sent, &received);
		return told(0, sent, received);
	}
	if (!strcmp(word, "turns"))
		in_vain = turns(&ways[way], count, false);
	else if (!strcmp(word, "calls"))
		turns(&ways[way], count, true);
	else if (!strcmp(word, "looks"))
		looks(&ways[way], in_vain = count);
	else if (!strcmp(word, "ring"))
		rings(&ways[way], count);
	else if (!strcmp(word, "changes"))
		changes(&ways[way], count);
	else
		errx(1, "no command: %s", line);
	took = now_ns() - began;
	told(took, in_vain ?: median(&first), median(&second));
}

int main(int argc, char **argv)
{
	struct rlimit files = { 8192, 8192 };
	char line[256];

	if (argc < 4 || argc - 3 > WAYS_MOST)
		errx(1, "usage: LENGTH CONNECTIONS WAY...");
	setrlimit(RLIMIT_NOFILE, &files);
	length = (size_t)atol(argv[1]);
	connections = (unsigned int)atol(argv[2]);
	if (!length || length > sizeof(payload) || !connections || connections > CONNECTIONS_MOST)
		errx(1, "%u connections with messages of %zu bytes", connections, length);
	for (; (int)way_count < argc - 3; way_count++)
		way_of(&ways[way_count], argv[3 + way_count]);
	while (fgets(line, sizeof(line), stdin))
		obey(line);
	return 0;
}
