// SPDX-License-Identifier: GPL-2.0-only
/* Sending: what the module refuses is sent by the kernel, and nobody can tell */

#define _GNU_SOURCE
#include <sys/uio.h>

#include "tests/test.h"

/* An accelerated sender, connected to a native receiver */
static struct pair sending(void)
{
	struct pair two = pair(false);
	int off = 0;

	CHECK(!setsockopt(two.out, SOL_EXASOCK, SO_EXA_NO_ACCEL, &off, sizeof(off)));
	return two;
}

static void test_ways(void)
{
	struct pair two = sending();
	struct iovec iov[2] = { { "ab", 2 }, { "cd", 2 } };
	struct msghdr msg = { .msg_iov = iov, .msg_iovlen = 2 };

	CHECK(send(two.out, "send", 4, 0) == 4);
	expect(two.in, MSG_DONTWAIT, "send");
	CHECK(fake_attached(two.out) && fake_calls.send == 1);
	CHECK(sendto(two.out, "sendto", 6, MSG_NOSIGNAL, (struct sockaddr *)&two.in_name,
		     sizeof(two.in_name)) == 6);
	expect(two.in, MSG_DONTWAIT, "sendto");
	CHECK(sendmsg(two.out, &msg, MSG_DONTWAIT) == 4);
	expect(two.in, MSG_DONTWAIT, "abcd");
	CHECK(write(two.out, "write", 5) == 5);
	expect(two.in, MSG_DONTWAIT, "write");
	CHECK(writev(two.out, iov, 2) == 4);
	expect(two.in, MSG_DONTWAIT, "abcd");
	CHECK(send(two.out, NULL, 0, 0) == 0);
	expect(two.in, MSG_DONTWAIT, "");
	CHECK(write(two.out, "", 0) == 0);
	expect(two.in, MSG_DONTWAIT, "");
	CHECK(fake_calls.send == 7);
	/* of nothing, in a vector, nothing is sent */
	CHECK(writev(two.out, iov, 0) == 0);
	expect_nothing(two.in);
	CHECK(fake_calls.send == 7);
}

static void test_kernels_own(void)
{
	struct pair two = sending();
	struct sockaddr_in name = two.in_name;
	char large[65536] = {};
	char space[CMSG_SPACE(sizeof(int))] = {};
	struct iovec iov = { "x", 1 };
	struct msghdr msg = {
		.msg_iov = &iov, .msg_iovlen = 1, .msg_control = space,
		.msg_controllen = sizeof(space),
	};
	struct cmsghdr *cmsg = CMSG_FIRSTHDR(&msg);

	CHECK(send(two.out, "x", 1, MSG_CONFIRM) == 1);
	CHECK(sendto(two.out, "x", 1, 0, (struct sockaddr *)&name, 4) == -1 && errno == EINVAL);
	name.sin_port = 0;
	CHECK(sendto(two.out, "x", 1, 0, (struct sockaddr *)&name, sizeof(name)) == -1 &&
	      errno == EINVAL);
	name.sin_family = AF_INET6;
	CHECK(sendto(two.out, "x", 1, 0, (struct sockaddr *)&name, sizeof(name)) == -1);
	CHECK(errno == EAFNOSUPPORT);
	CHECK(send(two.out, large, sizeof(large), 0) == -1 && errno == EMSGSIZE);
	CHECK(send(two.out, "x", 1, MSG_OOB) == -1 && errno == EOPNOTSUPP);
	cmsg->cmsg_level = SOL_IP;
	cmsg->cmsg_type = IP_TTL;
	cmsg->cmsg_len = CMSG_LEN(sizeof(int));
	*(int *)CMSG_DATA(cmsg) = 9;
	CHECK(sendmsg(two.out, &msg, 0) == 1);
	CHECK(!fake_calls.send);
}

static void test_pktinfo(void)
{
	struct pair two = sending();
	char space[CMSG_SPACE(sizeof(struct in_pktinfo))] = {};
	struct in_pktinfo info = { .ipi_spec_dst.s_addr = htonl(INADDR_LOOPBACK) };
	struct iovec iov = { "x", 1 };
	struct msghdr msg = {
		.msg_iov = &iov, .msg_iovlen = 1, .msg_control = space,
		.msg_controllen = sizeof(space),
	};
	struct cmsghdr *cmsg = CMSG_FIRSTHDR(&msg);

	cmsg->cmsg_level = SOL_IP;
	cmsg->cmsg_type = IP_PKTINFO;
	cmsg->cmsg_len = CMSG_LEN(sizeof(info));
	memcpy(CMSG_DATA(cmsg), &info, sizeof(info));
	CHECK(sendmsg(two.out, &msg, 0) == 1);
	CHECK(fake_calls.send == 1);
	expect(two.in, MSG_DONTWAIT, "x");
	cmsg->cmsg_len--;
	CHECK(sendmsg(two.out, &msg, 0) == -1 && errno == EINVAL);
	CHECK(fake_calls.send == 1);
}

static void test_refused(void)
{
	struct pair two = sending();
	unsigned int i, asked;

	fake_send_error = EOPNOTSUPP;
	errno = 4242;
	for (i = 0; i < 1000; i++) {
		CHECK(send(two.out, "x", 1, 0) == 1);
		expect(two.in, MSG_DONTWAIT, "x");
	}
	CHECK(errno == 4242);
	asked = fake_calls.send;
	CHECK(asked > 10 && asked < 40);
	/* another destination is asked about at once */
	CHECK(sendto(two.out, "y", 1, 0, (struct sockaddr *)&two.in_name,
		     sizeof(two.in_name)) == 1);
	CHECK(fake_calls.send == asked + 1);
	/* and once it works it is used for every datagram */
	fake_send_error = 0;
	for (i = 0; i < 65; i++)
		CHECK(send(two.out, "x", 1, 0) == 1);
	asked = fake_calls.send;
	for (i = 0; i < 10; i++)
		CHECK(send(two.out, "x", 1, 0) == 1);
	CHECK(fake_calls.send == asked + 10);
}

static void test_errors(void)
{
	struct pair two = sending();
	int plain = bound(&two.out_name);

	/* of the kernel, through it */
	CHECK(send(plain, "x", 1, 0) == -1 && errno == EDESTADDRREQ);
	fake_send_error = EFAULT;
	CHECK(send(two.out, "x", 1, 0) == -1 && errno == EFAULT);
	fake_send_error = 0;
	CHECK(!shutdown(two.out, SHUT_WR));
	CHECK(send(two.out, "x", 1, MSG_NOSIGNAL) == -1 && errno == EPIPE);
}

/* Where no memory can be is EFAULT, as natively: nobody reads it before the kernel does */
static void test_nowhere(void)
{
	void *const places[] = { (void *)8, (void *)-1L, (void *)0x800000000000UL };
	struct pair two = sending();
	size_t i;

	CHECK(send(two.out, "x", 1, 0) == 1);
	for (i = 0; i < COUNT(places); i++) {
		struct iovec iov = { "x", 1 };
		struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };
		void *at = places[i];
		socklen_t size = 4;

		CHECK(sendto(two.out, "x", 1, 0, at, 16) == -1 && errno == EFAULT);
		CHECK(sendmsg(two.out, at, 0) == -1 && errno == EFAULT);
		CHECK(sendmmsg(two.out, at, 1, 0) == -1 && errno == EFAULT);
		CHECK(writev(two.out, at, 1) == -1 && errno == EFAULT);
		msg.msg_name = at;
		msg.msg_namelen = 16;
		CHECK(sendmsg(two.out, &msg, 0) == -1 && errno == EFAULT);
		msg.msg_name = NULL;
		msg.msg_control = at;
		msg.msg_controllen = CMSG_SPACE(sizeof(struct in_pktinfo));
		CHECK(sendmsg(two.out, &msg, 0) == -1 && errno == EFAULT);
		msg.msg_controllen = 0;
		msg.msg_iov = at;
		CHECK(sendmsg(two.out, &msg, 0) == -1 && errno == EFAULT);
		CHECK(setsockopt(two.out, SOL_EXASOCK, SO_EXA_NO_ACCEL, at, 4) == -1 &&
		      errno == EFAULT);
		CHECK(getsockopt(two.out, SOL_EXASOCK, SO_EXA_NO_ACCEL, at, &size) == -1 &&
		      errno == EFAULT);
	}
	expect(two.in, MSG_DONTWAIT, "x");
	expect_nothing(two.in);
}

static void test_many(void)
{
	struct pair two = sending();
	struct sockaddr_in bad = two.in_name;
	struct iovec iov[4] = { { "a", 1 }, { "b", 1 }, { "c", 1 }, { "d", 1 } };
	struct mmsghdr messages[4] = {};
	int i;

	for (i = 0; i < 4; i++) {
		messages[i].msg_hdr.msg_iov = &iov[i];
		messages[i].msg_hdr.msg_iovlen = 1;
	}
	CHECK(sendmmsg(two.out, messages, 4, 0) == 4);
	for (i = 0; i < 4; i++) {
		CHECK(messages[i].msg_len == 1);
		expect(two.in, MSG_DONTWAIT, iov[i].iov_base);
	}
	/* the first failure ends it, and is told only when nothing was sent */
	bad.sin_port = 0;
	messages[2].msg_hdr.msg_name = &bad;
	messages[2].msg_hdr.msg_namelen = sizeof(bad);
	errno = 4242;
	CHECK(sendmmsg(two.out, messages, 4, 0) == 2 && errno == 4242);
	CHECK(sendmmsg(two.out, messages + 2, 2, 0) == -1 && errno == EINVAL);
	CHECK(sendmmsg(two.out, messages, 0, 0) == 0);
}

static void test_stale(void)
{
	struct pair two = sending();
	int pipes[2];

	CHECK(send(two.out, "x", 1, 0) == 1);
	/* the number becomes another file without our knowledge */
	CHECK(!pipe(pipes));
	CHECK(syscall(SYS_dup2, pipes[1], two.out) == two.out);
	CHECK(write(two.out, "y", 1) == 1);
	CHECK(!fake_attached(two.out));
	CHECK(write(two.out, "z", 1) == 1);
	expect(two.in, MSG_DONTWAIT, "x");
	expect_nothing(two.in);
}

int main(void)
{
	static const struct test tests[] = {
		{ test_ways, "every send call goes past the stack" },
		{ test_kernels_own, "what the module cannot know is the kernel's" },
		{ test_pktinfo, "one IP_PKTINFO is understood" },
		{ test_refused, "a destination that is refused is asked about ever more rarely" },
		{ test_errors, "errors are the kernel's" },
		{ test_nowhere, "arguments where no memory is are EFAULT" },
		{ test_many, "sendmmsg counts as the kernel does" },
		{ test_stale, "a descriptor that became another file is found out" },
	};

	return run_tests(tests, COUNT(tests));
}
