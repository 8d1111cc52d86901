// SPDX-License-Identifier: GPL-2.0-only
/*
 * What a program sees of a datagram is the same whether it came through the ring or
 * through the kernel (rule N10): each call is made on a held datagram and on a native
 * one, and everything it returned is compared, byte for byte.
 */

#define _GNU_SOURCE
#include <linux/net_tstamp.h>
#include <sys/uio.h>

#include "tests/test.h"

/* Everything that a call can give back */
struct seen {
	ssize_t result;
	int error;
	char data[64];
	struct sockaddr_in name;
	socklen_t namelen;
	int flags;
	size_t controllen;
	unsigned char control[256];
};

typedef void (*receiver)(int fd, struct seen *seen);

static void options(int fd)
{
	int on = 1, stamps = SOF_TIMESTAMPING_RX_SOFTWARE | SOF_TIMESTAMPING_SOFTWARE;

	CHECK(!setsockopt(fd, SOL_IP, IP_PKTINFO, &on, sizeof(on)));
	CHECK(!setsockopt(fd, SOL_IP, IP_RECVTTL, &on, sizeof(on)));
	CHECK(!setsockopt(fd, SOL_IP, IP_RECVTOS, &on, sizeof(on)));
	CHECK(!setsockopt(fd, SOL_SOCKET, SO_TIMESTAMPNS, &on, sizeof(on)));
	CHECK(!setsockopt(fd, SOL_SOCKET, SO_TIMESTAMPING, &stamps, sizeof(stamps)));
}

/* Times differ, but must be there, and be of now */
static void forget_times(struct seen *seen)
{
	struct msghdr msg = {
		.msg_control = seen->control, .msg_controllen = seen->controllen,
	};
	struct cmsghdr *cmsg;

	for (cmsg = CMSG_FIRSTHDR(&msg); cmsg; cmsg = CMSG_NXTHDR(&msg, cmsg)) {
		long long when = 0;

		if (cmsg->cmsg_level != SOL_SOCKET)
			continue;
		if (cmsg->cmsg_len >= CMSG_LEN(sizeof(when))) {
			memcpy(&when, CMSG_DATA(cmsg), sizeof(when));
			CHECK(llabs(when - (long long)time(NULL)) < 5);
		}
		if (cmsg->cmsg_len >= CMSG_LEN(0))
			memset(CMSG_DATA(cmsg), 0, cmsg->cmsg_len - CMSG_LEN(0) < 16 ?
			       cmsg->cmsg_len - CMSG_LEN(0) : 16);
	}
}

static struct seen through(bool held, bool with_options, const char *payload, receiver receive)
{
	struct pair two = pair(held);
	struct seen seen = { .result = -77 };
	int tos = 0x28, ttl = 33;
	char byte;

	CHECK(!setsockopt(two.out, SOL_IP, IP_TOS, &tos, sizeof(tos)));
	CHECK(!setsockopt(two.out, SOL_IP, IP_TTL, &ttl, sizeof(ttl)));
	if (with_options)
		options(two.in);
	CHECK(recv(two.in, &byte, 1, MSG_DONTWAIT) == -1);
	CHECK(fake_attached(two.in) == held);
	if (payload)
		say(&two, payload);
	if (payload && held)
		CHECK(fake_hold(two.in) == 1);
	memset(seen.data, '#', sizeof(seen.data));
	memset(&seen.name, '#', sizeof(seen.name));
	memset(seen.control, '#', sizeof(seen.control));
	errno = 4242;
	receive(two.in, &seen);
	seen.error = errno;
	if (with_options && seen.controllen)
		forget_times(&seen);
	/* the ports of two pairs differ */
	if (seen.name.sin_port == two.out_name.sin_port)
		seen.name.sin_port = 4711;
	CHECK(!payload || seen.result < 0 || !held || !fake_held(two.in));
	close(two.in);
	close(two.out);
	return seen;
}

static void same(const char *payload, receiver receive, bool with_options)
{
	struct seen native = through(false, with_options, payload, receive);
	struct seen held = through(true, with_options, payload, receive);

	CHECK(native.result != -77);
	CHECK(held.result == native.result);
	CHECK(held.error == native.error);
	CHECK(!memcmp(held.data, native.data, sizeof(held.data)));
	CHECK(held.namelen == native.namelen);
	CHECK(!memcmp(&held.name, &native.name, sizeof(held.name)));
	CHECK(held.flags == native.flags);
	CHECK(held.controllen == native.controllen);
	CHECK(!memcmp(held.control, native.control, sizeof(held.control)));
}

/* --- single calls ------------------------------------------------------------------------- */

static void do_recv(int fd, struct seen *seen)
{
	seen->result = recv(fd, seen->data, sizeof(seen->data), 0);
}

static void do_recv_short(int fd, struct seen *seen)
{
	seen->result = recv(fd, seen->data, 3, 0);
}

static void do_recv_trunc(int fd, struct seen *seen)
{
	seen->result = recv(fd, seen->data, 3, MSG_TRUNC);
}

static void do_recv_none(int fd, struct seen *seen)
{
	seen->result = recv(fd, NULL, 0, MSG_DONTWAIT);
}

static void do_recv_all(int fd, struct seen *seen)
{
	seen->result = recv(fd, seen->data, sizeof(seen->data), MSG_WAITALL);
}

static void do_read(int fd, struct seen *seen)
{
	seen->result = read(fd, seen->data, 7);
}

static void do_readv(int fd, struct seen *seen)
{
	struct iovec iov[3] = {
		{ seen->data, 2 }, { seen->data + 10, 0 }, { seen->data + 20, 4 },
	};

	seen->result = readv(fd, iov, 3);
}

static void do_recvfrom(int fd, struct seen *seen)
{
	seen->namelen = sizeof(seen->name);
	seen->result = recvfrom(fd, seen->data, sizeof(seen->data), 0,
				(struct sockaddr *)&seen->name, &seen->namelen);
}

static void do_recvfrom_short(int fd, struct seen *seen)
{
	seen->namelen = 5;
	seen->result = recvfrom(fd, seen->data, sizeof(seen->data), 0,
				(struct sockaddr *)&seen->name, &seen->namelen);
}

static void do_recvfrom_large(int fd, struct seen *seen)
{
	seen->namelen = 1000;
	seen->result = recvfrom(fd, seen->data, sizeof(seen->data), 0,
				(struct sockaddr *)&seen->name, &seen->namelen);
}

static void do_recvfrom_negative(int fd, struct seen *seen)
{
	seen->namelen = (socklen_t)-1;
	seen->result = recvfrom(fd, seen->data, sizeof(seen->data), MSG_DONTWAIT,
				(struct sockaddr *)&seen->name, &seen->namelen);
}

static void do_recvfrom_nameless(int fd, struct seen *seen)
{
	seen->namelen = 9;
	seen->result = recvfrom(fd, seen->data, sizeof(seen->data), 0, NULL, &seen->namelen);
}

static void do_recvfrom_null_length(int fd, struct seen *seen)
{
	seen->result = recvfrom(fd, seen->data, sizeof(seen->data), MSG_DONTWAIT,
				(struct sockaddr *)&seen->name, NULL);
}

static void recvmsg_with(int fd, struct seen *seen, size_t room, size_t control, int flags)
{
	struct iovec iov[2] = { { seen->data, room / 2 }, { seen->data + 32, room - room / 2 } };
	struct msghdr msg = {
		.msg_name = &seen->name, .msg_namelen = sizeof(seen->name), .msg_iov = iov,
		.msg_iovlen = 2, .msg_control = seen->control, .msg_controllen = control,
		.msg_flags = 0x55,
	};

	seen->result = recvmsg(fd, &msg, flags);
	seen->flags = msg.msg_flags;
	seen->controllen = msg.msg_controllen;
	seen->namelen = msg.msg_namelen;
}

static void do_recvmsg(int fd, struct seen *seen)
{
	recvmsg_with(fd, seen, 40, sizeof(seen->control), 0);
}

static void do_recvmsg_cloexec(int fd, struct seen *seen)
{
	recvmsg_with(fd, seen, 40, sizeof(seen->control), MSG_CMSG_CLOEXEC | MSG_TRUNC);
}

static void do_recvmsg_nosignal(int fd, struct seen *seen)
{
	recvmsg_with(fd, seen, 40, sizeof(seen->control), MSG_NOSIGNAL);
}

static void do_recvmsg_short(int fd, struct seen *seen)
{
	recvmsg_with(fd, seen, 4, sizeof(seen->control), 0);
}

static void do_recvmsg_trunc(int fd, struct seen *seen)
{
	recvmsg_with(fd, seen, 4, sizeof(seen->control), MSG_TRUNC);
}

static void do_recvmsg_bare(int fd, struct seen *seen)
{
	struct iovec iov = { seen->data, sizeof(seen->data) };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1, .msg_namelen = 77 };

	seen->result = recvmsg(fd, &msg, 0);
	seen->flags = msg.msg_flags;
	seen->controllen = msg.msg_controllen;
	seen->namelen = msg.msg_namelen;
}

static void do_recvmsg_null_control(int fd, struct seen *seen)
{
	struct iovec iov = { seen->data, sizeof(seen->data) };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1, .msg_controllen = 100 };

	seen->result = recvmsg(fd, &msg, MSG_DONTWAIT);
	seen->flags = msg.msg_flags;
	seen->namelen = (socklen_t)msg.msg_controllen;
}

static void do_recvmsg_negative(int fd, struct seen *seen)
{
	struct iovec iov = { seen->data, sizeof(seen->data) };
	struct msghdr msg = {
		.msg_iov = &iov, .msg_iovlen = 1, .msg_name = &seen->name,
		.msg_namelen = (socklen_t)-1,
	};

	seen->result = recvmsg(fd, &msg, MSG_DONTWAIT);
}

static void do_peek(int fd, struct seen *seen)
{
	char again[64];

	seen->result = recv(fd, seen->data, sizeof(seen->data), MSG_PEEK | MSG_DONTWAIT);
	CHECK(recv(fd, again, sizeof(again), MSG_DONTWAIT) == seen->result);
	CHECK(!memcmp(again, seen->data, (size_t)seen->result));
}

static void do_errqueue(int fd, struct seen *seen)
{
	seen->result = recv(fd, seen->data, sizeof(seen->data), MSG_ERRQUEUE);
}

static void do_available(int fd, struct seen *seen)
{
	int bytes = -1;

	CHECK(!ioctl(fd, FIONREAD, &bytes));
	seen->result = bytes;
	CHECK(recv(fd, seen->data, sizeof(seen->data), MSG_DONTWAIT) == bytes);
}

static void do_nonblock(int fd, struct seen *seen)
{
	CHECK(!fcntl(fd, F_SETFL, O_NONBLOCK));
	seen->result = recv(fd, seen->data, sizeof(seen->data), 0);
}

static void test_calls(void)
{
	static const receiver all[] = {
		do_recv, do_recv_short, do_recv_trunc, do_recv_none, do_recv_all, do_read,
		do_readv, do_recvfrom, do_recvfrom_short, do_recvfrom_large,
		do_recvfrom_negative, do_recvfrom_nameless, do_recvfrom_null_length, do_recvmsg,
		do_recvmsg_cloexec, do_recvmsg_nosignal, do_recvmsg_short, do_recvmsg_trunc,
		do_recvmsg_bare, do_recvmsg_null_control, do_recvmsg_negative, do_peek, do_errqueue,
		do_available, do_nonblock,
	};
	size_t i;

	for (i = 0; i < COUNT(all); i++) {
		fprintf(stderr, "call %zu\n", i);
		same("hello world", all[i], false);
		same("hello world", all[i], true);
		same("", all[i], false);
	}
}

static void test_nothing_there(void)
{
	static const receiver all[] = { do_recv_none, do_recvfrom_negative, do_nonblock };
	size_t i;

	for (i = 0; i < COUNT(all); i++)
		same(NULL, all[i], false);
}

static size_t control_room;

static void do_recvmsg_room(int fd, struct seen *seen)
{
	recvmsg_with(fd, seen, 40, control_room, 0);
}

static void test_control_room(void)
{
	for (control_room = 0; control_room <= 256; control_room++)
		same("control", do_recvmsg_room, true);
}

/* --- several at once ---------------------------------------------------------------------- */

struct many {
	int result;
	int error;
	unsigned int length[6];
	char data[6][8];
	int flags[6];
	socklen_t namelen[6];
};

static struct many receive_many(bool held, unsigned int sent, unsigned int asked, int flags,
				bool nonblocking)
{
	struct pair two = held ? looked() : pair(false);
	struct many many = {};
	struct iovec iov[6];
	struct mmsghdr messages[6] = {};
	struct sockaddr_in names[6];
	unsigned int i;

	for (i = 0; i < 6; i++) {
		iov[i] = (struct iovec){ many.data[i], 4 };
		messages[i].msg_hdr.msg_iov = &iov[i];
		messages[i].msg_hdr.msg_iovlen = 1;
		messages[i].msg_hdr.msg_name = &names[i];
		messages[i].msg_hdr.msg_namelen = sizeof(names[i]);
	}
	for (i = 0; i < sent; i++) {
		char text[8] = "message";

		text[3 - i % 3] = (char)('0' + i);
		text[3 + i] = 0;
		say(&two, text);
	}
	if (held)
		CHECK(fake_hold(two.in) == (int)sent);
	if (nonblocking)
		CHECK(!fcntl(two.in, F_SETFL, O_NONBLOCK));
	errno = 4242;
	many.result = recvmmsg(two.in, messages, asked, flags, NULL);
	many.error = errno;
	for (i = 0; i < 6; i++) {
		many.length[i] = messages[i].msg_len;
		many.flags[i] = messages[i].msg_hdr.msg_flags;
		many.namelen[i] = messages[i].msg_hdr.msg_namelen;
	}
	close(two.in);
	close(two.out);
	return many;
}

static void test_recvmmsg(void)
{
	unsigned int sent, asked;

	for (sent = 0; sent <= 3; sent++) {
		for (asked = 1; asked <= 6; asked++) {
			int flags = sent ? MSG_WAITFORONE : MSG_DONTWAIT;
			struct many native = receive_many(false, sent, asked, flags, false);
			struct many held = receive_many(true, sent, asked, flags, false);

			CHECK(!memcmp(&native, &held, sizeof(native)));
			native = receive_many(false, sent, asked, 0, true);
			held = receive_many(true, sent, asked, 0, true);
			CHECK(!memcmp(&native, &held, sizeof(native)));
		}
	}
}

static void test_recvmmsg_mixed(void)
{
	struct pair two = looked();
	struct iovec iov[4];
	struct mmsghdr messages[4] = {};
	char data[4][8] = {};
	int i;

	for (i = 0; i < 4; i++) {
		iov[i] = (struct iovec){ data[i], 7 };
		messages[i].msg_hdr.msg_iov = &iov[i];
		messages[i].msg_hdr.msg_iovlen = 1;
	}
	hold(&two, "one");
	hold(&two, "two");
	fake_take(two.in);
	queue(&two, "three");
	CHECK(recvmmsg(two.in, messages, 4, MSG_DONTWAIT, NULL) == 3);
	CHECK(!strcmp(data[0], "one") && !strcmp(data[1], "two") && !strcmp(data[2], "three"));
	/* one in the ring, then one in the kernel */
	hold(&two, "four");
	queue(&two, "five");
	memset(data, 0, sizeof(data));
	CHECK(recvmmsg(two.in, messages, 4, MSG_DONTWAIT, NULL) == 2);
	CHECK(!strcmp(data[0], "four") && !strcmp(data[1], "five"));
	expect_nothing(two.in);
}

static void test_recvmmsg_waits(void)
{
	struct pair two = looked();
	struct timespec timeout = { 5, 0 };
	struct mmsghdr messages[2] = {};
	char data[2][8] = {};
	struct iovec iov[2] = { { data[0], 7 }, { data[1], 7 } };
	int i;

	for (i = 0; i < 2; i++) {
		messages[i].msg_hdr.msg_iov = &iov[i];
		messages[i].msg_hdr.msg_iovlen = 1;
	}
	hold(&two, "one");
	hold(&two, "two");
	CHECK(recvmmsg(two.in, messages, 2, 0, &timeout) == 2);
	CHECK(!strcmp(data[0], "one") && !strcmp(data[1], "two"));
	CHECK(!fake_held(two.in) && !fake_looking(two.in));
}

/* With nothing there: does a receive wait for its timeout? */
static bool blocks(int fd)
{
	double start = seconds();
	char byte;

	CHECK(recv(fd, &byte, 1, 0) == -1 && errno == EAGAIN);
	return seconds() - start > 0.002;
}

/* Whoever changes it, and by whatever descriptor */
static void test_mode(void)
{
	struct timeval timeout = { .tv_usec = 3000 };
	struct pair two = looked();
	int copy = dup(two.in), on = 1, off = 0, round, looks, status;
	pid_t child;

	CHECK(!setsockopt(two.in, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof(timeout)));
	for (round = 0; round < 20; round++) {
		CHECK(!ioctl(round % 2 ? copy : two.in, FIONBIO, &on));
		for (looks = 0; looks < 100; looks++)
			CHECK(!blocks(two.in));
		CHECK(!fcntl(round % 3 ? copy : two.in, F_SETFL, 0));
		CHECK(blocks(two.in));
		CHECK(!fcntl(two.in, F_SETFL, O_NONBLOCK));
		CHECK(!blocks(copy));
		CHECK(!ioctl(copy, FIONBIO, &off));
		CHECK(blocks(copy));
	}
	for (round = 0; round < 20; round++) {
		CHECK(!fcntl(two.in, F_SETFL, O_NONBLOCK));
		CHECK(!blocks(two.in));
		child = fork();
		CHECK(child >= 0);
		if (!child)
			_exit(fcntl(two.in, F_SETFL, 0));
		CHECK(waitpid(child, &status, 0) == child && !status);
		CHECK(blocks(two.in));
	}
}

/* As natively EFAULT, and whatever was there is there still */
static void test_nowhere(void)
{
	void *const places[] = { (void *)8, (void *)-1L, (void *)0x800000000000UL };
	struct pair two = looked();
	char byte;
	size_t i;

	for (i = 0; i < COUNT(places); i++) {
		struct iovec iov = { &byte, 1 };
		struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };
		void *at = places[i];

		queue(&two, "x");
		CHECK(recvmsg(two.in, at, MSG_DONTWAIT) == -1 && errno == EFAULT);
		CHECK(recvmmsg(two.in, at, 1, MSG_DONTWAIT, NULL) == -1 && errno == EFAULT);
		CHECK(readv(two.in, at, 1) == -1 && errno == EFAULT);
		msg.msg_iov = at;
		CHECK(recvmsg(two.in, &msg, MSG_DONTWAIT) == -1 && errno == EFAULT);
		expect(two.in, MSG_DONTWAIT, "x");
	}
}

int main(void)
{
	static const struct test tests[] = {
		{ test_calls, "every receive call gives what the kernel's gives" },
		{ test_nothing_there, "with nothing there they fail as the kernel's do" },
		{ test_control_room, "control messages are cut off where the kernel cuts them" },
		{ test_mode, "O_NONBLOCK counts from when it is set, whoever sets it" },
		{ test_recvmmsg, "recvmmsg fills what the kernel's would" },
		{ test_recvmmsg_mixed, "recvmmsg goes on from the ring to the socket's queue" },
		{ test_recvmmsg_waits, "recvmmsg that waits for all is the kernel's" },
		{ test_nowhere, "arguments where no memory is are EFAULT" },
	};

	return run_tests(tests, COUNT(tests));
}
