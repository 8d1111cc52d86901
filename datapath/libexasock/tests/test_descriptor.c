// SPDX-License-Identifier: GPL-2.0-only
/* Descriptors come and go, and attachments with them; ours is nowhere to be seen */

#define _GNU_SOURCE
#include <linux/close_range.h>
#include <sys/resource.h>

#include "tests/test.h"

static void test_close(void)
{
	struct pair two = looked();
	int again;

	CHECK(fake_calls.attach == 1 && !fake_calls.detach);
	CHECK(!close(two.in));
	CHECK(fake_calls.detach == 1);
	/* the number's next owner is another socket */
	again = socket(AF_INET, SOCK_DGRAM, 0);
	CHECK(again == two.in && !fake_attached(again));
	expect_nothing(again);
	CHECK(fake_calls.attach == 2);
}

static void test_close_gives_back(void)
{
	struct pair two = looked();
	char byte;
	int copy;

	/* a number that the library does not know keeps the socket alive, as another process's */
	copy = (int)syscall(SYS_dup, two.in);
	hold(&two, "x");
	CHECK(!close(two.in));
	CHECK(syscall(SYS_recvfrom, copy, &byte, 1, MSG_DONTWAIT, NULL, NULL) == 1);
}

static void test_copies(void)
{
	struct pair two = looked();
	int a = dup(two.in), b = fcntl(two.in, F_DUPFD, 40), c = fcntl64(a, F_DUPFD_CLOEXEC, 40);
	int d = dup2(b, 60), e = dup3(d, 61, O_CLOEXEC), f = dup2(e, e);

	CHECK(a >= 0 && b == 40 && c == 41 && d == 60 && e == 61 && f == 61);
	CHECK(fcntl(c, F_GETFD) == FD_CLOEXEC && fcntl(e, F_GETFD) == FD_CLOEXEC);
	hold(&two, "a");
	expect(a, MSG_DONTWAIT, "a");
	hold(&two, "c");
	expect(c, MSG_DONTWAIT, "c");
	hold(&two, "e");
	expect(e, MSG_DONTWAIT, "e");
	CHECK(fake_calls.attach == 1);
	close(two.in);
	close(a);
	close(b);
	close(c);
	close(d);
	CHECK(!fake_calls.detach);
	hold(&(struct pair){ .in = e, .out = two.out }, "last");
	expect(e, MSG_DONTWAIT, "last");
	/* the last one goes because another file takes its place */
	CHECK(dup2(STDERR_FILENO, e) == e);
	CHECK(fake_calls.detach == 1);
}

static void test_copy_made_elsewhere(void)
{
	struct pair two = looked();
	int copy = (int)syscall(SYS_dup, two.in);

	/* as one that came by a message: the kernel says that it is the same socket */
	hold(&two, "x");
	expect(copy, MSG_DONTWAIT, "x");
	CHECK(fake_calls.attach == 2);
	close(two.in);
	CHECK(!fake_calls.detach);
	close(copy);
	CHECK(fake_calls.detach == 1);
}

static void test_ranges(void)
{
	struct pair two = looked();
	int low = dup2(two.in, 100), high = dup2(two.in, 110), context = fake_context();

	CHECK(low == 100 && high == 110);
	CHECK(close_range(90, 105, CLOSE_RANGE_CLOEXEC) == 0);
	CHECK(fcntl(low, F_GETFD) == FD_CLOEXEC);
	CHECK(close_range(90, 105, 0) == 0);
	CHECK(fcntl(low, F_GETFD) == -1 && errno == EBADF);
	CHECK(close_range(5, 4, 0) == -1 && errno == EINVAL);
	CHECK(close_range(5, 6, 0x4000) == -1 && errno == EINVAL);
	hold(&two, "x");
	expect(high, MSG_DONTWAIT, "x");
	close(two.in);
	CHECK(!fake_calls.detach);
	CHECK(close_range(106, ~0U, 0) == 0);
	CHECK(fake_calls.detach == 1);
	CHECK(fcntl(high, F_GETFD) == -1);
	/* ours is still there, and works */
	CHECK(syscall(SYS_fcntl, context, F_GETFD) == FD_CLOEXEC);
	two.in = bound(&two.in_name);
	expect_nothing(two.in);
	CHECK(fake_attached(two.in));
	closefrom(two.in);
	CHECK(fake_calls.detach == 2);
	CHECK(fcntl(two.in, F_GETFD) == -1);
	CHECK(syscall(SYS_fcntl, context, F_GETFD) == FD_CLOEXEC);
}

static void test_context_hidden(void)
{
	struct pair two = looked();
	int context = fake_context(), fd, files[2];

	CHECK(context > 900);
	CHECK(close(context) == -1 && errno == EBADF);
	CHECK(fcntl(context, F_GETFD) == -1 && errno == EBADF);
	CHECK(dup(context) == -1 && errno == EBADF);
	CHECK(dup2(context, 50) == -1 && errno == EBADF);
	CHECK(ioctl(context, FIONREAD, &fd) == -1 && errno == EBADF);
	/* a program that closes everything */
	CHECK(!pipe(files));
	for (fd = 3; fd < 20000; fd++)
		if (fd != two.in && fd != two.out)
			close(fd);
	hold(&two, "x");
	expect(two.in, MSG_DONTWAIT, "x");
	/* and one that wants that very number */
	CHECK(dup2(two.in, context) == context);
	CHECK(fake_context() == context);
	hold(&two, "y");
	expect(context, MSG_DONTWAIT, "y");
	expect_nothing(two.in);
	CHECK(send(two.in, "", 0, 0) == -1);	/* makes it use its own number */
	CHECK(fake_context() != context);
	CHECK(!close(context));
}

/* A program that closes everything, and does not ask the C library to */
static void test_context_lost(void)
{
	struct pair two = looked();
	int i, context = fake_context();

	CHECK(!syscall(SYS_close_range, 3, ~0U, 0));
	CHECK(syscall(SYS_fcntl, context, F_GETFD) == -1);
	two = pair(true);
	for (i = 0; i < 200; i++)
		expect_nothing(two.in);
	CHECK(fake_attached(two.in));
	hold(&two, "x");
	expect(two.in, MSG_DONTWAIT, "x");
}

static void test_numbers(void)
{
	int before = dup(0), after;
	struct pair two;

	close(before);
	two = looked();
	CHECK(two.in == before && two.out == before + 1);
	after = dup(0);
	CHECK(after == before + 2);
}

static void test_small_limit(void)
{
	struct rlimit limit = { 12, 12 };
	struct pair two;
	int i, fd;

	CHECK(!setrlimit(RLIMIT_NOFILE, &limit));
	two = looked();
	hold(&two, "x");
	expect(two.in, 0, "x");
	for (i = 0; i < 20; i++) {
		fd = dup(0);
		if (fd < 0)
			break;
	}
	CHECK(errno == EMFILE);
	hold(&two, "x");
	expect(two.in, 0, "x");
}

static void test_other_files(void)
{
	int pipes[2], v6 = socket(AF_INET6, SOCK_DGRAM, 0), tcp = socket(AF_INET, SOCK_STREAM, 0);
	int local[2];
	char byte;

	CHECK(!pipe(pipes));
	CHECK(write(pipes[1], "x", 1) == 1 && read(pipes[0], &byte, 1) == 1);
	CHECK(!socketpair(AF_UNIX, SOCK_DGRAM, 0, local));
	CHECK(send(local[0], "x", 1, 0) == 1 && recv(local[1], &byte, 1, 0) == 1);
	CHECK(recv(v6, &byte, 1, MSG_DONTWAIT) == -1 && errno == EAGAIN);
	CHECK(recv(tcp, &byte, 1, MSG_DONTWAIT) == -1 && errno == ENOTCONN);
	CHECK(recv(pipes[0], &byte, 1, 0) == -1 && errno == ENOTSOCK);
	CHECK(recv(-1, &byte, 1, 0) == -1 && errno == EBADF);
	CHECK(recv(1 << 30, &byte, 1, 0) == -1 && errno == EBADF);
	CHECK(close(-1) == -1 && errno == EBADF);
	CHECK(!fake_calls.open && !fake_calls.attach);
}

static void test_late_attachment(void)
{
	struct pair two = pair(true);

	/* nothing that only prepares a socket attaches it */
	CHECK(!connect(two.in, (struct sockaddr *)&two.out_name, sizeof(two.out_name)));
	CHECK(!fake_calls.open);
	expect_nothing(two.in);
	CHECK(fake_calls.attach == 1);
}

static void test_refused(void)
{
	struct pair two = pair(true);
	int i, on = 1;

	fake_attach_error = EBUSY;
	for (i = 0; i < 1000; i++)
		expect_nothing(two.in);
	CHECK(fake_calls.attach > 2 && fake_calls.attach < 8);
	/* something changed: asked at once */
	fake_attach_error = 0;
	CHECK(!setsockopt(two.in, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)));
	expect_nothing(two.in);
	CHECK(fake_attached(two.in));
	close(two.in);
	/* refused for good */
	two = pair(true);
	fake_calls.attach = 0;
	fake_attach_error = EOPNOTSUPP;
	for (i = 0; i < 1000; i++)
		expect_nothing(two.in);
	CHECK(fake_calls.attach == 1);
}

static void test_no_device(void)
{
	struct pair two = pair(true);
	int i;

	fake_open_error = ENOENT;
	for (i = 0; i < 10; i++)
		expect_nothing(two.in);
	say(&two, "x");
	expect(two.in, 0, "x");
	CHECK(fake_calls.open == 1);
}

static void test_own_option(void)
{
	struct pair two = looked();
	int value = 7, pipes[2], on = 1, off = 0;
	socklen_t size = sizeof(value);

	CHECK(!getsockopt(two.in, SOL_EXASOCK, SO_EXA_NO_ACCEL, &value, &size) && !value);
	CHECK(!getsockopt(two.out, SOL_EXASOCK, SO_EXA_NO_ACCEL, &value, &size));
	CHECK(value == 1);
	hold(&two, "x");
	CHECK(!setsockopt(two.in, SOL_EXASOCK, SO_EXA_NO_ACCEL, &on, sizeof(on)));
	CHECK(fake_calls.detach == 1);
	expect(two.in, MSG_DONTWAIT, "x");
	CHECK(fake_calls.attach == 1);
	CHECK(!setsockopt(two.in, SOL_EXASOCK, SO_EXA_NO_ACCEL, &off, sizeof(off)));
	expect_nothing(two.in);
	CHECK(fake_calls.attach == 2);
	CHECK(setsockopt(two.in, SOL_EXASOCK, SO_EXA_NO_ACCEL, &off, 3) == -1 && errno == EINVAL);
	CHECK(setsockopt(two.in, SOL_EXASOCK, 9, &off, 4) == -1 && errno == ENOPROTOOPT);
	CHECK(!pipe(pipes));
	CHECK(setsockopt(pipes[0], SOL_EXASOCK, SO_EXA_NO_ACCEL, &off, 4) == -1);
	CHECK(errno == ENOTSOCK);
}

static void test_many_entries(void)
{
	struct pair many[80];
	int round, i;
	char name[16];

	for (round = 0; round < 3; round++) {
		for (i = 0; i < 80; i++)
			many[i] = looked();
		for (i = 0; i < 80; i++) {
			snprintf(name, sizeof(name), "%d", i);
			hold(&many[i], name);
			expect(many[i].in, MSG_DONTWAIT, name);
			expect_nothing(many[i].in);
		}
		for (i = 0; i < 80; i++) {
			close(many[i].in);
			close(many[i].out);
		}
	}
	CHECK(fake_calls.attach == 240 && fake_calls.detach == 240);
}

/* One thread closes what another one is reading */
static int victim;
static bool over;

static void *reads(void *unused)
{
	char byte;

	(void)unused;
	while (!__atomic_load_n(&over, __ATOMIC_RELAXED))
		recv(__atomic_load_n(&victim, __ATOMIC_RELAXED), &byte, 1, MSG_DONTWAIT);
	return NULL;
}

static void test_closed_while_read(void)
{
	pthread_t thread;
	int i;

	/* while our own descriptor is opened, another number may be taken */
	close(looked().in);
	victim = socket(AF_INET, SOCK_DGRAM, 0);
	CHECK(!pthread_create(&thread, NULL, reads, NULL));
	for (i = 0; i < 3000; i++) {
		CHECK(!close(victim));
		CHECK(socket(AF_INET, SOCK_DGRAM, 0) == victim);
	}
	over = true;
	CHECK(!pthread_join(thread, NULL));
}

static void test_fclose_errno(void)
{
	char buffer[16];
	FILE *file = fmemopen(buffer, sizeof(buffer), "w");

	CHECK(file);
	errno = 4242;
	CHECK(!fclose(file) && errno == 4242);
}

int main(void)
{
	static const struct test tests[] = {
		{ test_close, "closing detaches, and the number begins anew" },
		{ test_close_gives_back, "what is held goes to those who share the socket" },
		{ test_copies, "copies of a descriptor share the attachment" },
		{ test_copy_made_elsewhere, "a copy that came some other way is recognised" },
		{ test_ranges, "closing ranges closes all but our own" },
		{ test_context_hidden, "our own descriptor is not there for the application" },
		{ test_context_lost, "closed all the same, it is replaced" },
		{ test_numbers, "the application gets the numbers it would get" },
		{ test_small_limit, "with few descriptors allowed it still works" },
		{ test_other_files, "other files are left alone" },
		{ test_late_attachment, "a socket is attached when data goes through it" },
		{ test_refused, "refused for now is asked again, refused for good is not" },
		{ test_no_device, "without the module everything is native" },
		{ test_own_option, "SO_EXA_NO_ACCEL takes a socket out and in again" },
		{ test_many_entries, "attachments are used again without mixing" },
		{ test_closed_while_read, "closing what another thread reads does no harm" },
		{ test_fclose_errno, "fclose of a stream in memory leaves errno alone" },
	};

	return run_tests(tests, COUNT(tests));
}
