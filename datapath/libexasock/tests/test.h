/* SPDX-License-Identifier: GPL-2.0-only */
/* What the test programs share: checks that say where and what, and pairs of sockets */
#ifndef TEST_H
#define TEST_H

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "extensions/exasock/socket.h"
#include "tests/fake.h"

#define CHECK(condition) \
	do { \
		if (!(condition)) { \
			fprintf(stderr, "%s:%d: not so: %s (errno %d)\n", __FILE__, __LINE__, \
				#condition, errno); \
			exit(1); \
		} \
	} while (0)

struct test {
	void (*run)(void);
	const char *property;
};

/* The C library exports it, and declares it nowhere */
ssize_t __send(int fd, const void *buffer, size_t length, int flags);

#define COUNT(array)	(sizeof(array) / sizeof((array)[0]))

/* Each test in a process of its own: a crash or a hang is that test's */
static inline int run_tests(const struct test *tests, size_t count)
{
	int failed = 0;
	size_t i;

	for (i = 0; i < count; i++) {
		int status;
		pid_t child;

		fflush(NULL);
		child = fork();
		if (!child) {
			alarm(20);
			tests[i].run();
			_exit(0);
		}
		if (waitpid(child, &status, 0) != child || status) {
			printf("not ok - %s (status %#x)\n", tests[i].property, status);
			failed++;
		} else {
			printf("ok - %s\n", tests[i].property);
		}
	}
	return failed ? 1 : 0;
}

/* Sockets on the loopback device: @in is bound, @out is connected to it */
struct pair {
	int in;
	int out;
	struct sockaddr_in in_name;
	struct sockaddr_in out_name;
};

static inline int bound(struct sockaddr_in *name)
{
	struct sockaddr_in any = {
		.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
	};
	socklen_t size = sizeof(*name);
	int fd = socket(AF_INET, SOCK_DGRAM, 0);

	CHECK(fd >= 0);
	CHECK(!bind(fd, (struct sockaddr *)&any, sizeof(any)));
	CHECK(!getsockname(fd, (struct sockaddr *)name, &size));
	return fd;
}

static inline struct pair pair(bool accelerated)
{
	struct pair pair;
	int on = 1;

	pair.in = bound(&pair.in_name);
	pair.out = bound(&pair.out_name);
	CHECK(!connect(pair.out, (struct sockaddr *)&pair.in_name, sizeof(pair.in_name)));
	CHECK(!setsockopt(pair.out, SOL_EXASOCK, SO_EXA_NO_ACCEL, &on, sizeof(on)));
	if (!accelerated)
		CHECK(!setsockopt(pair.in, SOL_EXASOCK, SO_EXA_NO_ACCEL, &on, sizeof(on)));
	fake_sender(pair.out);
	return pair;
}

/* An accelerated one that has looked once, and found nothing */
static inline struct pair looked(void)
{
	struct pair two = pair(true);
	char byte;

	CHECK(recv(two.in, &byte, 1, MSG_DONTWAIT) == -1 && errno == EAGAIN);
	CHECK(fake_attached(two.in));
	return two;
}

static inline void say(const struct pair *pair, const char *what)
{
	CHECK(send(pair->out, what, strlen(what), 0) == (ssize_t)strlen(what));
}

/* Sent, and held */
static inline void hold(const struct pair *pair, const char *what)
{
	say(pair, what);
	CHECK(fake_hold(pair->in) == 1);
}

/* Sent, and in the socket's own queue, as the kernel tells */
static inline void queue(const struct pair *pair, const char *what)
{
	say(pair, what);
	fake_event(pair->in);
}

static inline void expect(int fd, int flags, const char *what)
{
	char buffer[4096];
	ssize_t got = recv(fd, buffer, sizeof(buffer) - 1, flags);

	if (got >= 0)
		buffer[got] = 0;
	if (got < 0 || strcmp(buffer, what)) {
		fprintf(stderr, "expected \"%s\", got %zd \"%s\" (errno %d)\n", what, got,
			got >= 0 ? buffer : "", errno);
		exit(1);
	}
}

static inline void expect_nothing(int fd)
{
	char byte;

	CHECK(recv(fd, &byte, 1, MSG_DONTWAIT) == -1 && errno == EAGAIN);
}

static inline void pause_us(long us)
{
	struct timespec time = { us / 1000000, us % 1000000 * 1000 };

	nanosleep(&time, NULL);
}

static inline double seconds(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

#endif /* TEST_H */
