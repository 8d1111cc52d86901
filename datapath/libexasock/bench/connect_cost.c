// SPDX-License-Identifier: GPL-2.0-only
/*
 * Connections that come and go: one at a time, both ends in this process. The server waits in
 * an epoll set, for connections and for what they bring.
 *
 *	connect_cost WAY...
 *	WAY	kernel,FROM,TO,ADDRESS,PORT	raw system calls
 *		exasock,FROM,TO,ADDRESS,PORT	the C library's, before which the preload library is
 *
 * A line on standard input is a command, and answered with the ns that it took:
 *	run WAY COUNT REQUESTS	COUNT connections with so many requests of 64 bytes on each, all
 *				answered; the client closes first
 */

#include <errno.h>
#include <sys/epoll.h>

#include "bench.h"

#define WAYS_MOST	8
#define LENGTH		64

struct way {
	bool fast;
	const char *from;
	struct sockaddr_in to;
	int listener;
	int set;
};

static struct way ways[WAYS_MOST];

/* The same call, by the C library's function or past it */
#define CALL(way, function, number, ...) \
	({ \
		long ret = (way)->fast ? (long)function(__VA_ARGS__) : \
			   syscall(number, __VA_ARGS__); \
		\
		if (ret < 0) \
			err(1, #function); \
		ret; \
	})

static struct way way_of(char *text)
{
	const char *kind = strtok(text, ","), *from = strtok(NULL, ",");
	const char *to = strtok(NULL, ","), *address = strtok(NULL, ",");
	const char *port = strtok(NULL, ",");
	struct epoll_event event = { .events = EPOLLIN };
	struct way way = { .fast = !strcmp(kind, "exasock"), .from = from };

	if (!port)
		errx(1, "a way has five parts");
	way.to = address_of(address, port);
	way.listener = listening_socket(to, address, port);
	event.data.fd = way.listener;
	way.set = (int)CALL(&way, epoll_create1, SYS_epoll_create1, 0);
	CALL(&way, epoll_ctl, SYS_epoll_ctl, way.set, EPOLL_CTL_ADD, way.listener, &event);
	return way;
}

static int wait_one(const struct way *way)
{
	struct epoll_event event;

	if (way->fast) {
		if (epoll_wait(way->set, &event, 1, -1) != 1)
			err(1, "epoll_wait");
	} else if (syscall(SYS_epoll_pwait, way->set, &event, 1, -1, NULL, 0) != 1) {
		err(1, "epoll_pwait");
	}
	return event.data.fd;
}

static void message(const struct way *way, int fd)
{
	char data[LENGTH] = {};

	CALL(way, sendto, SYS_sendto, fd, data, (size_t)LENGTH, 0, NULL, 0);
}

static ssize_t answer(const struct way *way, int fd)
{
	char data[LENGTH];
	ssize_t got = CALL(way, read, SYS_read, fd, data, sizeof(data));

	if (got)
		message(way, fd);
	return got;
}

static void one(const struct way *way, unsigned int requests)
{
	int client = (int)CALL(way, socket, SYS_socket, AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct epoll_event event = { .events = EPOLLIN };
	char data[LENGTH];
	int server;

	CALL(way, connect, SYS_connect, client, (struct sockaddr *)&way->to, sizeof(way->to));
	if (wait_one(way) != way->listener)
		errx(1, "something else than a connection came");
	server = (int)CALL(way, accept4, SYS_accept4, way->listener, NULL, NULL, SOCK_CLOEXEC);
	event.data.fd = server;
	CALL(way, epoll_ctl, SYS_epoll_ctl, way->set, EPOLL_CTL_ADD, server, &event);
	while (requests--) {
		message(way, client);
		if (wait_one(way) != server || answer(way, server) != LENGTH)
			errx(1, "another request came");
		if (CALL(way, read, SYS_read, client, data, sizeof(data)) != LENGTH)
			errx(1, "another answer came");
	}
	CALL(way, close, SYS_close, client);
	if (wait_one(way) != server || answer(way, server))
		errx(1, "it does not end");
	CALL(way, close, SYS_close, server);
}

int main(int argc, char **argv)
{
	unsigned int way, count, requests;
	char line[256];
	int i;

	if (argc < 2 || argc - 1 > WAYS_MOST)
		errx(1, "usage: WAY...");
	for (i = 0; i < argc - 1; i++)
		ways[i] = way_of(argv[1 + i]);
	while (fgets(line, sizeof(line), stdin)) {
		u64 began;

		if (sscanf(line, "run %u %u %u", &way, &count, &requests) != 3 ||
		    (int)way >= argc - 1)
			errx(1, "no command: %s", line);
		visit(ways[way].from);
		began = now_ns();
		while (count--)
			one(&ways[way], requests);
		printf("took %llu\n", (unsigned long long)(now_ns() - began));
		fflush(stdout);
		visit("-");
	}
	return 0;
}
