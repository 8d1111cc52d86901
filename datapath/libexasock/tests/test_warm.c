// SPDX-License-Identifier: GPL-2.0-only
/* MSG_EXA_WARM: a dummy send says that it was sent, and nothing has been */

#define _GNU_SOURCE
#include <limits.h>
#include <sys/uio.h>

#include "tests/test.h"

/* Every way to send with flags, and with each the flags beside which it may be given */
static void warm(int fd, const struct sockaddr_in *to)
{
	static const int flags[] = {
		MSG_EXA_WARM, MSG_EXA_WARM | MSG_DONTWAIT, MSG_EXA_WARM | MSG_NOSIGNAL,
		MSG_EXA_WARM | MSG_MORE, MSG_EXA_WARM | MSG_OOB,
	};
	struct iovec iov[2] = { { "fake", 4 }, { "-order", 6 } };
	struct msghdr msg = {
		.msg_name = (void *)to, .msg_namelen = to ? sizeof(*to) : 0,
		.msg_iov = iov, .msg_iovlen = 2,
	};
	struct mmsghdr messages[2] = { { .msg_hdr = msg }, { .msg_hdr = msg } };
	size_t i;

	messages[1].msg_hdr.msg_iovlen = 1;
	errno = 4242;
	for (i = 0; i < COUNT(flags); i++) {
		CHECK(send(fd, "fake-order", 10, flags[i]) == 10);
		CHECK(__send(fd, "fake-order", 10, flags[i]) == 10);
		CHECK(sendto(fd, "fake-order", 10, flags[i], (struct sockaddr *)to,
			     to ? sizeof(*to) : 0) == 10);
		CHECK(sendmsg(fd, &msg, flags[i]) == 10);
		messages[0].msg_len = 0;
		messages[1].msg_len = 0;
		CHECK(sendmmsg(fd, messages, 2, flags[i]) == 2);
		CHECK(messages[0].msg_len == 10 && messages[1].msg_len == 4);
		CHECK(send(fd, NULL, 0, flags[i]) == 0);
	}
	CHECK(errno == 4242);
}

static void test_datagrams(void)
{
	struct pair two = pair(false);
	int off = 0;

	warm(two.out, NULL);
	warm(two.out, &two.in_name);
	expect_nothing(two.in);
	CHECK(!setsockopt(two.out, SOL_EXASOCK, SO_EXA_NO_ACCEL, &off, sizeof(off)));
	CHECK(send(two.out, "real", 4, 0) == 4);
	expect(two.in, MSG_DONTWAIT, "real");
	CHECK(fake_attached(two.out) && fake_calls.send == 1);
	warm(two.out, NULL);
	warm(two.out, &two.in_name);
	expect_nothing(two.in);
	CHECK(fake_calls.send == 1);
	CHECK(send(two.out, "real", 4, 0) == 4);
	expect(two.in, MSG_DONTWAIT, "real");
	CHECK(fake_calls.send == 2);
}

/* A number is not looked up: what is not a socket, or nothing, gets the same answer */
static void test_any_descriptor(void)
{
	struct sockaddr_in name;
	int plain = bound(&name), ends[2];
	char byte;

	warm(plain, NULL);
	warm(plain, &name);
	CHECK(recv(plain, &byte, 1, MSG_DONTWAIT) == -1 && errno == EAGAIN);
	CHECK(!socketpair(AF_UNIX, SOCK_STREAM, 0, ends));
	warm(ends[0], NULL);
	CHECK(recv(ends[1], &byte, 1, MSG_DONTWAIT) == -1 && errno == EAGAIN);
	CHECK(!pipe(ends));
	warm(ends[1], NULL);
	warm(-1, NULL);
	warm(INT_MAX, NULL);
}

static void test_connections(void)
{
	struct sockaddr_in name = {
		.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
	};
	socklen_t size = sizeof(name);
	int listener = socket(AF_INET, SOCK_STREAM, 0), client = socket(AF_INET, SOCK_STREAM, 0);
	int server, i;

	CHECK(!bind(listener, (struct sockaddr *)&name, size) && !listen(listener, 1));
	CHECK(!getsockname(listener, (struct sockaddr *)&name, &size));
	warm(client, NULL);
	warm(client, &name);
	CHECK(!connect(client, (struct sockaddr *)&name, size));
	server = accept(listener, NULL, NULL);
	CHECK(server >= 0);
	/* past the calls after which it may be accelerated */
	for (i = 0; i < 40; i++) {
		warm(client, NULL);
		warm(server, NULL);
		CHECK(send(client, "there", 5, 0) == 5);
		expect(server, 0, "there");
		CHECK(send(server, "back", 4, 0) == 4);
		expect(client, 0, "back");
	}
	CHECK(!shutdown(client, SHUT_WR));
	warm(client, NULL);
	expect(server, 0, "");
}

static void test_bad_arguments(void)
{
	struct pair two = pair(false);
	struct iovec iov[2] = { { "a", SSIZE_MAX }, { "b", 1 } };
	struct msghdr msg = { .msg_iov = iov, .msg_iovlen = 2 };
	struct mmsghdr messages[2] = { { .msg_hdr = msg }, { .msg_hdr = msg } };

	/* the message is not touched, nor is where it goes */
	CHECK(send(two.out, (void *)8, 10, MSG_EXA_WARM) == 10);
	CHECK(sendto(two.out, "x", 1, MSG_EXA_WARM, (void *)8, 16) == 1);
	CHECK(send(two.out, "x", 100000, MSG_EXA_WARM) == 100000);
	CHECK(send(two.out, "x", (size_t)-1, MSG_EXA_WARM) == -1 && errno == EINVAL);
	CHECK(sendmsg(two.out, NULL, MSG_EXA_WARM) == -1 && errno == EFAULT);
	CHECK(sendmsg(two.out, &msg, MSG_EXA_WARM) == -1 && errno == EINVAL);
	msg.msg_iovlen = 1025;
	CHECK(sendmsg(two.out, &msg, MSG_EXA_WARM) == -1 && errno == EMSGSIZE);
	msg.msg_iov = NULL;
	msg.msg_iovlen = 1;
	CHECK(sendmsg(two.out, &msg, MSG_EXA_WARM) == -1 && errno == EFAULT);
	CHECK(sendmmsg(two.out, NULL, 1, MSG_EXA_WARM) == -1 && errno == EFAULT);
	CHECK(sendmmsg(two.out, NULL, 0, MSG_EXA_WARM) == 0);
	CHECK(sendmmsg(two.out, messages, 2, MSG_EXA_WARM) == -1 && errno == EINVAL);
	messages[0].msg_hdr.msg_iovlen = 0;
	CHECK(sendmmsg(two.out, messages, 2, MSG_EXA_WARM) == 1 && messages[0].msg_len == 0);
	expect_nothing(two.in);
}

int main(void)
{
	static const struct test tests[] = {
		{ test_datagrams, "a warm datagram is never sent, and its length is returned" },
		{ test_connections, "a warm message is never a part of a connection's bytes" },
		{ test_any_descriptor, "a warm send asks about no descriptor" },
		{ test_bad_arguments, "a warm send tells what is wrong with what it reads" },
	};

	return run_tests(tests, COUNT(tests));
}
