// SPDX-License-Identifier: GPL-2.0-only
/* Threads with sockets of their own leave each other alone, and none sleeps beside what is held */

#define _GNU_SOURCE
#include "tests/test.h"

/* --- sleeping ----------------------------------------------------------------------------- */

enum way { POLL, PPOLL, SELECT, PSELECT, EPOLL, EPOLL2, RECV, ONESHOT, NESTED, WAYS };

struct sleeper {
	enum way way;
	int fd;
	int epfd;
	pid_t tid;
	int result;
};

static void *sleep_there(void *given)
{
	struct sleeper *sleeper = given;
	struct pollfd one = { .fd = sleeper->fd, .events = POLLIN };
	struct pollfd nested = { .fd = sleeper->epfd, .events = POLLIN };
	struct epoll_event event;
	char byte;
	fd_set set;

	FD_ZERO(&set);
	FD_SET(sleeper->fd, &set);
	__atomic_store_n(&sleeper->tid, (pid_t)syscall(SYS_gettid), __ATOMIC_RELEASE);
	switch (sleeper->way) {
	case POLL:
		sleeper->result = poll(&one, 1, -1);
		break;
	case PPOLL:
		sleeper->result = ppoll(&one, 1, NULL, NULL);
		break;
	case SELECT:
		sleeper->result = select(sleeper->fd + 1, &set, NULL, NULL, NULL);
		break;
	case PSELECT:
		sleeper->result = pselect(sleeper->fd + 1, &set, NULL, NULL, NULL, NULL);
		break;
	case EPOLL2:
		sleeper->result = epoll_pwait2(sleeper->epfd, &event, 1, NULL, NULL);
		break;
	case RECV:
		sleeper->result = (int)recv(sleeper->fd, &byte, 1, 0);
		break;
	case NESTED:
		sleeper->result = poll(&nested, 1, -1);
		break;
	default:
		sleeper->result = epoll_wait(sleeper->epfd, &event, 1, -1);
	}
	return NULL;
}

/* In the kernel, for good: asleep, and not between two questions */
static bool asleep(const struct sleeper *sleeper)
{
	pid_t tid = __atomic_load_n(&sleeper->tid, __ATOMIC_ACQUIRE);
	char path[64], line[256] = "";
	int fd, times;

	for (times = 0; tid && times < 3; times++) {
		snprintf(path, sizeof(path), "/proc/self/task/%d/stat", tid);
		fd = (int)syscall(SYS_openat, AT_FDCWD, path, O_RDONLY);
		CHECK(syscall(SYS_read, fd, line, sizeof(line) - 1) > 0);
		syscall(SYS_close, fd);
		if (!strstr(line, ") S "))
			return false;
		pause_us(200);
	}
	return tid;
}

static void test_nothing_is_held_for_sleepers(void)
{
	enum way way;

	for (way = 0; way < WAYS; way++) {
		struct pair two = looked();
		struct epoll_event event = {
			.events = EPOLLIN | (way == ONESHOT ? EPOLLONESHOT : 0),
		};
		struct sleeper sleeper = { .way = way, .fd = two.in, .epfd = epoll_create1(0) };
		struct timespec until;
		pthread_t thread;

		CHECK(!epoll_ctl(sleeper.epfd, EPOLL_CTL_ADD, two.in, &event));
		CHECK(!pthread_create(&thread, NULL, sleep_there, &sleeper));
		while (!asleep(&sleeper))
			pause_us(100);
		/* another thread finds nothing, and goes on to something else */
		expect_nothing(two.in);
		CHECK(!fake_looking(two.in));
		expect_nothing(two.in);
		say(&two, "x");
		fake_arrive(two.in, two.in);
		clock_gettime(CLOCK_REALTIME, &until);
		until.tv_sec += 5;
		CHECK(!pthread_timedjoin_np(thread, NULL, &until));
		CHECK(sleeper.result == 1);
		if (way != RECV)
			expect(two.in, MSG_DONTWAIT, "x");
		/* nobody sleeps any more: the next look is believed */
		expect_nothing(two.in);
		CHECK(fake_looking(two.in));
		close(two.in);
		close(two.out);
		close(sleeper.epfd);
	}
}

/* --- busy threads ------------------------------------------------------------------------- */

static void test_waits_leave_others_alone(void)
{
	struct pair mine = looked(), others = looked();
	struct epoll_event event = { .events = EPOLLIN };
	struct pollfd fds[2] = { { .events = POLLIN }, { .fd = mine.in, .events = POLLIN } };
	int pipes[2], epfd = epoll_create1(0), i;
	struct timespec now = {};
	fd_set set;

	CHECK(!pipe(pipes) && !epoll_ctl(epfd, EPOLL_CTL_ADD, mine.in, &event));
	hold(&others, "x");
	fds[0].fd = pipes[0];
	FD_ZERO(&set);
	for (i = 0; i < 100; i++) {
		CHECK(poll(fds, 2, 0) == 0);
		CHECK(poll(fds, 1, 0) == 0);
		CHECK(epoll_wait(epfd, &event, 1, 0) == 0);
		FD_SET(pipes[0], &set);
		CHECK(pselect(pipes[0] + 1, &set, NULL, NULL, &now, NULL) == 0);
	}
	CHECK(epoll_wait(epfd, &event, 1, 5) == 0);
	CHECK(fake_held(others.in) == 1 && fake_looking(others.in));
	expect(others.in, MSG_DONTWAIT, "x");
}

struct loop {
	struct pair two;
	int epfd;
};

/* Messages to itself, each waited for in a set of its own */
static void *go_round(void *given)
{
	struct loop *loop = given;
	struct epoll_event event;
	int i;

	for (i = 0; i < 500; i++) {
		syscall(SYS_sendto, loop->two.out, "m", 1, 0, NULL, 0);
		fake_arrive(loop->two.in, loop->two.in);
		CHECK(epoll_wait(loop->epfd, &event, 1, -1) == 1);
		expect(loop->two.in, MSG_DONTWAIT, "m");
		CHECK(epoll_wait(loop->epfd, &event, 1, 0) == 0);
	}
	return NULL;
}

static void test_loops_do_not_flush_each_other(void)
{
	struct loop loops[8];
	pthread_t threads[COUNT(loops)];
	struct epoll_event event = { .events = EPOLLIN };
	unsigned int flushes;
	size_t i;

	for (i = 0; i < COUNT(loops); i++) {
		loops[i].two = looked();
		loops[i].epfd = epoll_create1(0);
		CHECK(!epoll_ctl(loops[i].epfd, EPOLL_CTL_ADD, loops[i].two.in, &event));
	}
	flushes = fake_calls.flush;
	for (i = 0; i < COUNT(loops); i++)
		CHECK(!pthread_create(&threads[i], NULL, go_round, &loops[i]));
	for (i = 0; i < COUNT(loops); i++)
		CHECK(!pthread_join(threads[i], NULL));
	CHECK(fake_calls.flush == flushes);
}

/* --- a set that another thread changes ---------------------------------------------------- */

static void changed_while_looking(void)
{
	struct pair first = looked(), second = looked();
	struct epoll_event event = { .events = EPOLLIN };
	struct sleeper sleeper = { .way = EPOLL, .fd = first.in, .epfd = epoll_create1(0) };
	double start;
	pthread_t thread;

	CHECK(!epoll_ctl(sleeper.epfd, EPOLL_CTL_ADD, first.in, &event));
	/* whoever looks now is the thread, for five seconds */
	fake_beat(first.in, 0);
	CHECK(!pthread_create(&thread, NULL, sleep_there, &sleeper));
	while (!fake_looking(first.in))
		;
	/* held before it is in the set: so the kernel's own set never has it to report */
	hold(&second, "x");
	start = seconds();
	CHECK(!epoll_ctl(sleeper.epfd, EPOLL_CTL_ADD, second.in, &event));
	CHECK(!pthread_join(thread, NULL));
	CHECK(sleeper.result == 1 && seconds() - start < 1);
	expect(second.in, MSG_DONTWAIT, "x");
}

static void test_changed_while_looking(void)
{
	setenv("EXASOCK_SPIN", "5000000", 1);
	execl("/proc/self/exe", "test_threads", "changed", NULL);
	CHECK(!"executed");
}

int main(int argc, char **argv)
{
	static const struct test tests[] = {
		{ test_nothing_is_held_for_sleepers, "nothing is held while somebody sleeps" },
		{ test_waits_leave_others_alone, "a wait leaves alone what others look at" },
		{ test_loops_do_not_flush_each_other, "event loops leave each other alone" },
		{ test_changed_while_looking, "a changed set is looked at as it is now" },
	};

	if (argc > 1 && !strcmp(argv[1], "changed")) {
		alarm(20);
		changed_while_looking();
		return 0;
	}
	return run_tests(tests, COUNT(tests));
}
