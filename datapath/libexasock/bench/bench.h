/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What the measuring programs share. They run in the lab's guest, behind `exasock`: a
 * socket is accelerated when its calls are those of the C library, and the kernel's own
 * when they are raw system calls, which the preload library does not see. So one process
 * measures both by turns, and whatever disturbs one disturbs the other.
 */
#ifndef BENCH_H
#define BENCH_H

#include <err.h>
#include <fcntl.h>
#include <linux/types.h>
#include <netinet/in.h>
#include <sched.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

typedef __u16 u16;
typedef __u32 u32;
typedef __u64 u64;

static inline u64 now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (u64)now.tv_sec * 1000000000 + (u64)now.tv_nsec;
}

/*
 * sockets.c: sockets of any namespace, UDP if nothing is said; "-" is the initial one. They
 * exit when refused.
 */
void visit(const char *netns);
struct sockaddr_in address_of(const char *address, const char *port);
int socket_of(const char *netns, int type);
int bound_socket(const char *netns, const char *address, const char *port);
int connected_socket(const char *netns, const char *address, const char *port);
void make_accelerated(int fd);
void send_one(int fd, bool accelerated, const void *payload, size_t length);
ssize_t take_one(int fd, bool accelerated, void *buffer, size_t room);

/* counters.c: of this process's accelerated sockets */
struct counters {
	unsigned int sockets;
	u64 sent;		/* past the stack */
	u64 claimed;	/* from the ring */
};

struct counters counters_of_own(void);

/* streams.c: TCP connections between two namespaces, both ends in this process */
struct connection {
	int end[2];
	bool accelerated;
};

struct stream_counters {
	unsigned int attached;
	unsigned int taken;	/* at this moment, */
	unsigned int ever;	/* at least once */
	u64 sent;		/* bytes, past the stack */
	u64 received;
};

int listening_socket(const char *netns, const char *address, const char *port);
struct connection connection_of(const char *from, const char *to, const char *address,
				const char *port, bool accelerated);
void close_connection(struct connection *connection);
void have_taken(const struct connection *connection);
void have_ever_taken(const struct connection *connections, unsigned int count, unsigned int before);
void all_at_home(void);
void pause_us(unsigned int us);
struct stream_counters stream_counters_of_own(void);

/* doorbell.c: the card's own, by the vendor's interface */
struct doorbell {
	u32 *command;
	u32 value;
};

struct doorbell doorbell_of(const char *netns, unsigned int port, unsigned int frame);

static inline void ring(const struct doorbell *doorbell)
{
	__atomic_store_n(doorbell->command, doorbell->value, __ATOMIC_RELAXED);
}

#endif /* BENCH_H */
