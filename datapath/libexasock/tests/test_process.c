// SPDX-License-Identifier: GPL-2.0-only
/* Children: what they inherit is theirs to use, and their parent's attachments are not */

#define _GNU_SOURCE
#include <sched.h>
#include <linux/seccomp.h>
#include <spawn.h>
#include <sys/prctl.h>

#include "tests/test.h"

static void ended_well(pid_t child)
{
	int status;

	CHECK(waitpid(child, &status, 0) == child);
	CHECK(!status);
}

/*
 * In a child the stand-in's attachments are copies, so there it plays a kernel that has
 * attached nothing yet; the parent's stays as it was.
 */
static void in_child(const struct pair *two)
{
	unsigned int attached = fake_calls.attach, detached = fake_calls.detach;

	/* the inherited descriptor works, natively first */
	CHECK(fake_calls.detach == detached);
	fake_attach_error = EBUSY;
	say(two, "child's");
	expect(two->in, MSG_DONTWAIT, "child's");
	CHECK(fake_calls.attach == attached + 1);
	CHECK(fake_calls.open == 2);
	CHECK(!close(two->in));
	CHECK(fake_calls.detach == detached);
}

static void test_fork(void)
{
	struct pair two = looked();
	int context = fake_context();
	pid_t child = fork();

	if (!child) {
		CHECK(syscall(SYS_fcntl, context, F_GETFD) == -1);
		in_child(&two);
		_exit(0);
	}
	ended_well(child);
	hold(&two, "parent's");
	expect(two.in, MSG_DONTWAIT, "parent's");
	CHECK(fake_calls.attach == 1 && !fake_calls.detach);
}

/* As a program that uses the system call itself */
static void test_raw_fork(void)
{
	struct pair two = looked();
	pid_t child = (pid_t)syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);

	if (!child) {
		in_child(&two);
		_exit(0);
	}
	ended_well(child);
	hold(&two, "parent's");
	expect(two.in, MSG_DONTWAIT, "parent's");
}

/* A datagram that was held when the process forked is the parent's, once */
static void test_fork_with_held(void)
{
	struct pair two = looked();
	pid_t child;

	hold(&two, "x");
	child = fork();
	if (!child) {
		fake_attach_error = EBUSY;
		expect_nothing(two.in);
		_exit(0);
	}
	ended_well(child);
	expect(two.in, MSG_DONTWAIT, "x");
}

static void test_fork_again(void)
{
	struct pair two = looked();
	pid_t child = fork();

	if (!child) {
		struct pair own = looked();
		pid_t grandchild;

		hold(&own, "x");
		expect(own.in, 0, "x");
		grandchild = fork();
		if (!grandchild) {
			own = looked();
			hold(&own, "x");
			expect(own.in, 0, "x");
			_exit(0);
		}
		ended_well(grandchild);
		hold(&own, "x");
		expect(own.in, 0, "x");
		_exit(0);
	}
	ended_well(child);
	close(two.in);
	CHECK(fake_calls.detach == 1);
}

static int forwarded;

static void tidy_up(void)
{
	close(forwarded);
}

/* Another library's fork handlers may close things */
static void test_fork_handlers(void)
{
	struct pair two = looked();
	pid_t child;

	CHECK(!pthread_atfork(tidy_up, NULL, tidy_up));
	forwarded = dup(two.in);
	child = fork();
	if (!child)
		_exit(0);
	ended_well(child);
	hold(&two, "x");
	expect(two.in, 0, "x");
}

/* It runs in our memory, with descriptors of its own */
static void test_vfork(void)
{
	struct pair two = looked();
	int context = fake_context();
	struct sigaction ignore = { .sa_handler = SIG_IGN };
	pid_t child = vfork();

	if (!child) {
		close(two.in);
		dup2(two.out, two.in);
		dup2(two.out, context);
		close_range(3, ~0U, 0);
		closefrom(3);
		sigaction(SIGUSR1, &ignore, NULL);
		_exit(0);
	}
	ended_well(child);
	CHECK(!fake_calls.detach);
	CHECK(fake_context() == context);
	hold(&two, "x");
	expect(two.in, MSG_DONTWAIT, "x");
	CHECK(fake_attached(two.in));
	CHECK(syscall(SYS_fcntl, context, F_GETFD) == FD_CLOEXEC);
}

/* What a program has said of its sockets outlives a child that closes all its numbers */
static void test_vfork_of_words(void)
{
	struct pair off = pair(false), later = pair(true), one = pair(true);
	struct sockaddr_in name;
	int on = 1, undone = 0, value, epfd = epoll_create1(0), flushes;
	struct epoll_event event = { .events = EPOLLIN };
	int waited = one.in, enabled = bound(&name);
	socklen_t size = sizeof(value);
	pid_t child;

	CHECK(!setsockopt(enabled, SOL_EXASOCK, SO_EXA_NO_ACCEL, &on, sizeof(on)));
	CHECK(!setsockopt(enabled, SOL_EXASOCK, SO_EXA_NO_ACCEL, &undone, sizeof(undone)));
	CHECK(!epoll_ctl(epfd, EPOLL_CTL_ADD, waited, &event));
	child = vfork();
	if (!child) {
		close(off.in);
		dup2(off.out, enabled);
		close(waited);
		setsockopt(later.in, SOL_EXASOCK, SO_EXA_NO_ACCEL, &on, sizeof(on));
		_exit(0);
	}
	ended_well(child);
	CHECK(!getsockopt(off.in, SOL_EXASOCK, SO_EXA_NO_ACCEL, &value, &size) && value == 1);
	CHECK(!getsockopt(later.in, SOL_EXASOCK, SO_EXA_NO_ACCEL, &value, &size) && !value);
	expect_nothing(off.in);
	CHECK(!fake_attached(off.in));
	expect_nothing(enabled);
	CHECK(fake_attached(enabled));
	/* the set still waits for it: nothing has to be flushed */
	fake_sender(one.out);
	expect_nothing(waited);
	hold(&one, "x");
	flushes = (int)fake_calls.flush;
	CHECK(epoll_wait(epfd, &event, 1, 0) == 1);
	CHECK((int)fake_calls.flush == flushes);
	expect(waited, MSG_DONTWAIT, "x");
}

/* A child that is the first to do anything with the library does it for nobody */
static void test_vfork_first(void)
{
	struct sockaddr_in name;
	int fd = bound(&name);
	char byte;
	pid_t child = vfork();

	if (!child) {
		recv(fd, &byte, 1, MSG_DONTWAIT);
		close(epoll_create1(0));
		_exit(0);
	}
	ended_well(child);
	CHECK(!fake_calls.attach);
	expect_nothing(fd);
	CHECK(fake_attached(fd));
}

static void test_spawn(void)
{
	struct pair two = looked();
	char *const argv[] = { "true", NULL };
	posix_spawn_file_actions_t actions;
	pid_t child;

	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_addclose(&actions, two.in);
	posix_spawn_file_actions_adddup2(&actions, two.out, 50);
	CHECK(!posix_spawnp(&child, "true", &actions, NULL, argv, environ));
	ended_well(child);
	hold(&two, "x");
	expect(two.in, MSG_DONTWAIT, "x");
}

static void *thread_that_unshares(void *argument)
{
	CHECK(!unshare(CLONE_FILES));
	close(*(int *)argument);
	return NULL;
}

/* Threads with descriptors of their own cannot be told apart: no new attachments */
static void test_unshare(void)
{
	pthread_t thread;
	int pipes[2];

	CHECK(!pipe(pipes));
	CHECK(!pthread_create(&thread, NULL, thread_that_unshares, &pipes[0]));
	CHECK(!pthread_join(thread, NULL));

	struct pair two = pair(true);

	expect_nothing(two.in);
	CHECK(!fake_attached(two.in));
}

/* Forks while other threads are in the middle of attaching and detaching */
static bool over;

static void *busy(void *unused)
{
	(void)unused;
	while (!__atomic_load_n(&over, __ATOMIC_RELAXED)) {
		char byte;
		int fd = socket(AF_INET, SOCK_DGRAM, 0);

		recv(fd, &byte, 1, MSG_DONTWAIT);
		close(fd);
	}
	return NULL;
}

static void test_fork_busy(void)
{
	pthread_t thread;
	int i;

	CHECK(!pthread_create(&thread, NULL, busy, NULL));
	for (i = 0; i < 200; i++) {
		pid_t child = fork();

		if (!child) {
			int fd = socket(AF_INET, SOCK_DGRAM, 0);
			char byte;

			alarm(5);
			fake_open_error = ENOENT;	/* its lock may be another thread's */
			CHECK(recv(fd, &byte, 1, MSG_DONTWAIT) == -1 && errno == EAGAIN);
			CHECK(!close(fd));
			_exit(0);
		}
		ended_well(child);
	}
	over = true;
	CHECK(!pthread_join(thread, NULL));
}

/* Strictly: whoever makes another call than read, write and exit is killed */
static void confined_child(const struct pair *two)
{
	char got[8];

	if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT))
		_exit(1);
	if (write(two->out, "inside", 6) != 6 || read(two->in, got, sizeof(got)) != 6 ||
	    memcmp(got, "inside", 6))
		syscall(SYS_exit, 1);
	syscall(SYS_exit, 0);
}

static void test_confined(void)
{
	struct pair two = looked();
	unsigned int attached = fake_calls.attach;
	pid_t child = fork();

	if (!child)
		confined_child(&two);
	ended_well(child);
	/* one that is refused ends it all the same */
	CHECK(prctl(PR_SET_SECCOMP, 99) == -1 && errno == EINVAL);
	CHECK(fake_calls.detach == 1);
	say(&two, "natively");
	expect(two.in, MSG_DONTWAIT, "natively");
	CHECK(fake_calls.attach == attached);
}

int main(void)
{
	static const struct test tests[] = {
		{ test_fork, "a forked child begins anew; the parent's attachment is untouched" },
		{ test_raw_fork, "so does one made past the C library" },
		{ test_fork_with_held, "what is held at a fork is received once, by the parent" },
		{ test_fork_again, "a child and its child have attachments of their own" },
		{ test_fork_handlers, "other fork handlers may close sockets" },
		{ test_vfork, "a vfork child changes nothing of its parent's" },
		{ test_vfork_of_words, "nor of what was said of sockets that are not attached" },
		{ test_vfork_first, "nor takes it for itself when it comes first" },
		{ test_spawn, "nor does posix_spawn" },
		{ test_unshare, "threads with separate descriptors end acceleration" },
		{ test_confined, "who confines itself makes no calls but its own" },
		{ test_fork_busy, "a fork amid other threads' attaching leaves a usable child" },
	};

	return run_tests(tests, COUNT(tests));
}
