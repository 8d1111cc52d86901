// SPDX-License-Identifier: GPL-2.0-only
/* select, poll, epoll: ready means the same, and nothing is held for who sleeps */

#define _GNU_SOURCE
#include "tests/test.h"

enum way { POLL, PPOLL, SELECT, PSELECT, EPOLL, EPOLL2, WAYS };

/* Wait for @fd to be readable; 1, 0, or -1 */
static int wait_readable(enum way way, int fd, int ms)
{
	struct timespec timeout = { ms / 1000, ms % 1000 * 1000000L };
	struct timeval coarse = { ms / 1000, ms % 1000 * 1000L };
	struct pollfd one = { .fd = fd, .events = POLLIN };
	struct epoll_event event = { .events = EPOLLIN, .data.fd = fd };
	int result, epfd;
	fd_set set;

	FD_ZERO(&set);
	FD_SET(fd, &set);
	switch (way) {
	case POLL:
		result = poll(&one, 1, ms);
		CHECK(result < 0 || one.revents == (result ? POLLIN : 0));
		return result;
	case PPOLL:
		result = ppoll(&one, 1, ms < 0 ? NULL : &timeout, NULL);
		CHECK(result < 0 || one.revents == (result ? POLLIN : 0));
		return result;
	case SELECT:
		result = select(fd + 1, &set, NULL, NULL, ms < 0 ? NULL : &coarse);
		CHECK(result < 0 || FD_ISSET(fd, &set) == result);
		CHECK(ms <= 0 || result < 0 || coarse.tv_usec < ms * 1000 || !coarse.tv_sec);
		return result;
	case PSELECT:
		result = pselect(fd + 1, &set, NULL, NULL, ms < 0 ? NULL : &timeout, NULL);
		CHECK(result < 0 || FD_ISSET(fd, &set) == result);
		return result;
	default:
		epfd = epoll_create1(0);
		CHECK(epfd >= 0);
		CHECK(!epoll_ctl(epfd, EPOLL_CTL_ADD, fd, &event));
		memset(&event, 0, sizeof(event));
		if (way == EPOLL)
			result = epoll_wait(epfd, &event, 1, ms);
		else
			result = epoll_pwait2(epfd, &event, 1, ms < 0 ? NULL : &timeout, NULL);
		CHECK(result != 1 || (event.events == EPOLLIN && event.data.fd == fd));
		close(epfd);
		return result;
	}
}

static void test_held_is_readable(void)
{
	enum way way;

	for (way = 0; way < WAYS; way++) {
		struct pair two = looked();
		static const int times[] = { 0, 50, -1 };
		size_t i;

		CHECK(wait_readable(way, two.in, 0) == 0);
		for (i = 0; i < COUNT(times); i++) {
			expect_nothing(two.in);
			hold(&two, "x");
			CHECK(wait_readable(way, two.in, times[i]) == 1);
			CHECK(wait_readable(way, two.in, times[i]) == 1);
			expect(two.in, 0, "x");
			CHECK(wait_readable(way, two.in, 0) == 0);
		}
		close(two.in);
		close(two.out);
	}
}

/* What is taken one by one, each when it is told of: never until there is nothing */
static void test_held_is_readable_after_native(void)
{
	enum way way;

	for (way = 0; way < WAYS; way++) {
		struct pair two = looked();
		static const int times[] = { 0, 50, -1 };
		size_t i;

		for (i = 0; i < COUNT(times); i++) {
			queue(&two, "first");
			CHECK(wait_readable(way, two.in, times[i]) == 1);
			expect(two.in, 0, "first");
			hold(&two, "x");
			CHECK(wait_readable(way, two.in, times[i]) == 1);
			CHECK(fake_held(two.in) == 1);
			expect(two.in, 0, "x");
		}
		close(two.in);
		close(two.out);
	}
}

static void test_native_is_readable(void)
{
	enum way way;

	for (way = 0; way < WAYS; way++) {
		struct pair two = looked();

		queue(&two, "x");
		CHECK(wait_readable(way, two.in, 0) == 1);
		CHECK(wait_readable(way, two.in, -1) == 1);
		expect(two.in, 0, "x");
		close(two.in);
		close(two.out);
	}
}

static void test_timeouts(void)
{
	enum way way;

	for (way = 0; way < WAYS; way++) {
		struct pair two = looked();
		double start = seconds(), took;

		CHECK(wait_readable(way, two.in, 40) == 0);
		took = seconds() - start;
		CHECK(took > 0.039 && took < 0.2);
		/* and it slept with nothing held */
		CHECK(!fake_looking(two.in));
		close(two.in);
		close(two.out);
	}
}

/* All of this process's, not only those that are waited for */
static void test_others_are_flushed(void)
{
	struct pair one = looked(), two = looked();
	struct epoll_event event = { .events = EPOLLIN };
	struct pollfd fd = { .events = POLLIN };
	int inner = epoll_create1(0);

	CHECK(!epoll_ctl(inner, EPOLL_CTL_ADD, one.in, &event));
	hold(&two, "two");
	fake_sender(one.out);
	hold(&one, "one");
	fd.fd = inner;
	CHECK(poll(&fd, 1, 1000) == 1 && fd.revents == POLLIN);
	CHECK(!fake_held(one.in));
	expect(one.in, 0, "one");
}

static void test_other_interests(void)
{
	struct pair two = looked();
	struct pollfd fds[3] = {
		{ .fd = two.in, .events = POLLOUT }, { .fd = -1, .events = POLLIN },
		{ .fd = 9999, .events = POLLIN },
	};
	fd_set out, in;

	CHECK(poll(fds, 2, 0) == 1 && fds[0].revents == POLLOUT && !fds[1].revents);
	CHECK(poll(fds, 3, 0) == 2 && fds[2].revents == POLLNVAL);
	hold(&two, "x");
	fds[0].events = POLLIN | POLLOUT;
	CHECK(poll(fds, 1, 0) == 1 && fds[0].revents == (POLLIN | POLLOUT));
	FD_ZERO(&in);
	FD_ZERO(&out);
	FD_SET(two.in, &in);
	FD_SET(two.in, &out);
	CHECK(select(two.in + 1, &in, &out, NULL, NULL) == 2);
	CHECK(FD_ISSET(two.in, &in) && FD_ISSET(two.in, &out));
	expect(two.in, 0, "x");
	/* one that is bad: nothing is changed */
	FD_SET(999, &in);
	CHECK(select(1000, &in, NULL, NULL, NULL) == -1 && errno == EBADF);
	CHECK(FD_ISSET(999, &in) && FD_ISSET(two.in, &in));
	CHECK(ppoll(fds, 1, &(struct timespec){ 0, 1000000000 }, NULL) == -1 && errno == EINVAL);
	CHECK(poll(NULL, 0, 1) == 0);
}

static void test_edge(void)
{
	struct pair two = looked();
	struct epoll_event event = { .events = EPOLLIN | EPOLLET };
	int epfd = epoll_create1(0);

	CHECK(!epoll_ctl(epfd, EPOLL_CTL_ADD, two.in, &event));
	hold(&two, "a");
	CHECK(epoll_wait(epfd, &event, 1, 1000) == 1);
	CHECK(epoll_wait(epfd, &event, 1, 0) == 0);
	expect(two.in, 0, "a");
	expect_nothing(two.in);
	hold(&two, "b");
	CHECK(epoll_wait(epfd, &event, 1, 1000) == 1);
	expect(two.in, 0, "b");
}

static void test_oneshot(void)
{
	struct pair two = looked();
	struct epoll_event event = { .events = EPOLLIN | EPOLLONESHOT };
	int epfd = epoll_create1(0);

	CHECK(!epoll_ctl(epfd, EPOLL_CTL_ADD, two.in, &event));
	hold(&two, "a");
	CHECK(epoll_wait(epfd, &event, 1, 1000) == 1);
	expect(two.in, 0, "a");
	expect_nothing(two.in);
	hold(&two, "b");
	CHECK(epoll_wait(epfd, &event, 1, 20) == 0);
	expect(two.in, 0, "b");
}

/* --- without a flush: what stage two of waiting is about ---------------------------------- */

/* A set that waits for @fd */
static int set_of(int fd, unsigned int events)
{
	struct epoll_event event = { .events = events, .data.u64 = 0x1122334455667788 };
	int epfd = epoll_create1(EPOLL_CLOEXEC);

	CHECK(epfd >= 0 && !epoll_ctl(epfd, EPOLL_CTL_ADD, fd, &event));
	return epfd;
}

static void test_epoll_holds(void)
{
	struct pair two = pair(true);
	int epfd = set_of(two.in, EPOLLIN), copy = dup(epfd), flushes;
	struct epoll_event events[4];

	/* registered before it is attached */
	expect_nothing(two.in);
	flushes = (int)fake_calls.flush;
	hold(&two, "x");
	memset(events, '#', sizeof(events));
	CHECK(epoll_wait(epfd, events, 4, -1) == 1);
	CHECK(events[0].events == EPOLLIN && events[0].data.u64 == 0x1122334455667788);
	CHECK(epoll_wait(copy, events, 4, 0) == 1);
	CHECK(fake_held(two.in) == 1);
	expect(two.in, 0, "x");
	CHECK((int)fake_calls.flush == flushes);
	CHECK(epoll_wait(epfd, events, 4, 0) == 0);
	CHECK(epoll_wait(epfd, events, 0, 0) == -1 && errno == EINVAL);
}

/* Edges past the kernel: one for each arrival, in each set, again after EPOLL_CTL_MOD */
static void test_edge_holds(void)
{
	struct pair two = pair(true);
	int epfd = set_of(two.in, EPOLLIN | EPOLLET), other = set_of(two.in, EPOLLIN | EPOLLET);
	struct epoll_event event = { .events = EPOLLIN | EPOLLET, .data.u32 = 5 }, events[4];
	int flushes;

	/* registered before it is attached */
	expect_nothing(two.in);
	flushes = (int)fake_calls.flush;
	hold(&two, "a");
	CHECK(epoll_wait(epfd, events, 4, -1) == 1);
	CHECK(events[0].events == EPOLLIN && events[0].data.u64 == 0x1122334455667788);
	CHECK(epoll_wait(epfd, events, 4, 0) == 0);
	CHECK(epoll_wait(other, events, 4, -1) == 1);
	CHECK(epoll_wait(other, events, 4, 0) == 0);
	/* not read yet: what comes now is an edge all the same */
	hold(&two, "b");
	CHECK(epoll_wait(epfd, events, 4, -1) == 1);
	CHECK(!epoll_ctl(epfd, EPOLL_CTL_MOD, two.in, &event));
	CHECK(epoll_wait(epfd, events, 4, 0) == 1 && events[0].data.u32 == 5);
	CHECK(epoll_wait(epfd, events, 4, 0) == 0);
	/* read before it was told: as in the kernel there is nothing to tell */
	expect(two.in, 0, "a");
	expect(two.in, 0, "b");
	CHECK(epoll_wait(other, events, 4, 0) == 0);
	CHECK(fake_held(two.in) == 0 && (int)fake_calls.flush == flushes);
	CHECK(!epoll_ctl(epfd, EPOLL_CTL_DEL, two.in, NULL));
	hold(&two, "c");
	CHECK(epoll_wait(epfd, events, 4, 0) == 0);
	expect(two.in, 0, "c");
}

/* What nobody took in time is in the kernel, with an edge of the kernel's */
static void test_edge_then_sleep(void)
{
	struct pair two = looked();
	int epfd = set_of(two.in, EPOLLIN | EPOLLET);
	struct epoll_event event;

	hold(&two, "a");
	CHECK(epoll_wait(epfd, &event, 1, -1) == 1);
	expect(two.in, 0, "a");
	CHECK(epoll_wait(epfd, &event, 1, 20) == 0);
	CHECK(!fake_looking(two.in));
	queue(&two, "b");
	CHECK(epoll_wait(epfd, &event, 1, -1) == 1);
	CHECK(epoll_wait(epfd, &event, 1, 0) == 0);
	expect(two.in, 0, "b");
	expect_nothing(two.in);
	hold(&two, "c");
	CHECK(epoll_wait(epfd, &event, 1, -1) == 1);
	expect(two.in, 0, "c");
}

struct teller {
	int epfd;
	int told;
};

static void *tell(void *given)
{
	struct teller *teller = given;
	struct epoll_event event;
	int i;

	for (i = 0; i < 2000; i++)
		teller->told += epoll_wait(teller->epfd, &event, 1, 0);
	return NULL;
}

/* An edge is one thread's */
static void test_edge_of_one_thread(void)
{
	struct pair two = looked();
	struct teller tellers[3] = { 0 };
	pthread_t threads[3];
	int turn, sum = 0;
	unsigned int i;

	for (turn = 0; turn < 20; turn++) {
		int epfd = set_of(two.in, EPOLLIN | EPOLLET);

		hold(&two, "a");
		for (i = 0; i < COUNT(threads); i++) {
			tellers[i].epfd = epfd;
			CHECK(!pthread_create(&threads[i], NULL, tell, &tellers[i]));
		}
		for (i = 0; i < COUNT(threads); i++)
			CHECK(!pthread_join(threads[i], NULL));
		expect(two.in, 0, "a");
		close(epfd);
	}
	for (i = 0; i < COUNT(threads); i++)
		sum += tellers[i].told;
	CHECK(sum == 20);
}

static void test_epoll_changes(void)
{
	struct pair two = looked();
	int epfd = set_of(two.in, EPOLLIN);
	struct epoll_event event = { .events = EPOLLIN | EPOLLRDNORM, .data.u32 = 5 };

	hold(&two, "x");
	CHECK(!epoll_ctl(epfd, EPOLL_CTL_MOD, two.in, &event));
	CHECK(epoll_wait(epfd, &event, 1, 0) == 1 && event.data.u32 == 5);
	CHECK(event.events == (EPOLLIN | EPOLLRDNORM));
	event.events = EPOLLPRI;
	CHECK(!epoll_ctl(epfd, EPOLL_CTL_MOD, two.in, &event));
	CHECK(epoll_wait(epfd, &event, 1, 5) == 0);
	event.events = EPOLLIN;
	CHECK(!epoll_ctl(epfd, EPOLL_CTL_MOD, two.in, &event));
	CHECK(epoll_wait(epfd, &event, 1, 5) == 1);
	CHECK(!epoll_ctl(epfd, EPOLL_CTL_DEL, two.in, NULL));
	CHECK(epoll_ctl(epfd, EPOLL_CTL_DEL, two.in, NULL) == -1 && errno == ENOENT);
	CHECK(epoll_wait(epfd, &event, 1, 5) == 0);
	expect(two.in, 0, "x");
}

static void test_epoll_other_ready(void)
{
	struct pair two = looked();
	int epfd = set_of(two.in, EPOLLIN), pipes[2], i, found = 0;
	struct epoll_event event = { .events = EPOLLIN, .data.fd = 1 }, events[4];

	CHECK(!pipe(pipes) && write(pipes[1], "x", 1) == 1);
	CHECK(!epoll_ctl(epfd, EPOLL_CTL_ADD, pipes[0], &event));
	hold(&two, "x");
	/* the kernel's and ours, at the latest with the second report */
	for (i = 0; i < 2; i++) {
		int ready = epoll_wait(epfd, events, 4, 1000);

		CHECK(ready > 0);
		while (ready--)
			found |= events[ready].data.u64 == 0x1122334455667788 ? 2 : 1;
	}
	CHECK(found == 3);
	expect(two.in, 0, "x");
}

static void test_epoll_closed(void)
{
	struct pair two = looked();
	int epfd = set_of(two.in, EPOLLIN), in = two.in;
	struct epoll_event event;

	close(two.in);
	close(two.out);
	/* the number's next socket is not in the set */
	two = looked();
	CHECK(two.in == in);
	hold(&two, "x");
	CHECK(epoll_wait(epfd, &event, 1, 10) == 0);
	expect(two.in, 0, "x");
	/* nor are the first set's wishes those of the next one */
	close(epfd);
	CHECK(epoll_create1(0) == epfd);
	hold(&two, "x");
	CHECK(epoll_wait(epfd, &event, 1, 10) == 0);
	expect(two.in, 0, "x");
}

static void test_epoll_shared(void)
{
	struct pair two = looked();
	int epfd = set_of(two.in, EPOLLIN);
	struct epoll_event event;
	int status;
	pid_t child = fork();

	if (!child) {
		CHECK(!epoll_ctl(epfd, EPOLL_CTL_DEL, two.in, NULL));
		_exit(0);
	}
	CHECK(waitpid(child, &status, 0) == child && !status);
	/* the child has changed what we share */
	hold(&two, "x");
	CHECK(epoll_wait(epfd, &event, 1, 10) == 0);
	expect(two.in, 0, "x");
}

static void test_epoll_many(void)
{
	struct pair many[70];
	int epfd = epoll_create1(0), i;
	struct epoll_event event = { .events = EPOLLIN };

	for (i = 0; i < 70; i++) {
		many[i] = looked();
		event.data.fd = many[i].in;
		CHECK(!epoll_ctl(epfd, EPOLL_CTL_ADD, many[i].in, &event));
	}
	for (i = 0; i < 70; i++) {
		expect_nothing(many[i].in);
		fake_sender(many[i].out);
		hold(&many[i], "x");
		CHECK(epoll_wait(epfd, &event, 1, 1000) == 1 && event.data.fd == many[i].in);
		expect(many[i].in, 0, "x");
	}
}

static void test_poll_holds(void)
{
	struct pair two = looked();
	unsigned int flushes = fake_calls.flush;
	struct pollfd fd = { .fd = two.in, .events = POLLIN | POLLRDNORM };

	hold(&two, "x");
	CHECK(poll(&fd, 1, -1) == 1 && fd.revents == (POLLIN | POLLRDNORM));
	CHECK(fake_held(two.in) == 1);
	expect(two.in, 0, "x");
	CHECK(fake_calls.flush == flushes);
}

static struct pair wire;
static struct pair shared;

static void *arrivals(void *unused)
{
	char name[16];
	int i;

	(void)unused;
	for (i = 0; i < 600; i++) {
		snprintf(name, sizeof(name), "%d", i);
		say(&wire, name);
		fake_arrive(wire.in, shared.in);
		pause_us(i % 150);
	}
	return NULL;
}

/* Wait, then read until there is nothing: whatever happens in between, none is missed */
static void test_event_loop(void)
{
	enum way way;

	for (way = 0; way < WAYS; way++) {
		pthread_t thread;
		char name[16], got[16];
		int next = 0;

		wire = pair(false);
		shared = looked();
		CHECK(!pthread_create(&thread, NULL, arrivals, NULL));
		while (next < 600) {
			ssize_t length;

			CHECK(wait_readable(way, shared.in, 5000) == 1);
			for (;;) {
				length = recv(shared.in, got, sizeof(got) - 1, MSG_DONTWAIT);
				if (length < 0)
					break;
				got[length] = 0;
				snprintf(name, sizeof(name), "%d", next++);
				CHECK(!strcmp(got, name));
			}
			CHECK(errno == EAGAIN);
		}
		CHECK(!pthread_join(thread, NULL));
		close(shared.in);
		close(shared.out);
		close(wire.in);
		close(wire.out);
	}
}

static int handled;

/* The compiler does not expect raise() to come back to us */
static int times(void)
{
	return __atomic_load_n(&handled, __ATOMIC_RELAXED);
}

static void count(int number)
{
	(void)number;
	__atomic_add_fetch(&handled, 1, __ATOMIC_RELAXED);
}

static void test_masked_signals(void)
{
	struct pair two = looked();
	struct pollfd fd = { .fd = two.in, .events = POLLIN };
	struct timespec timeout = { 5, 0 };
	sigset_t blocked, none;

	signal(SIGUSR1, count);
	sigemptyset(&none);
	sigemptyset(&blocked);
	sigaddset(&blocked, SIGUSR1);
	CHECK(!sigprocmask(SIG_BLOCK, &blocked, NULL));
	raise(SIGUSR1);
	CHECK(!times());
	CHECK(ppoll(&fd, 1, &timeout, &none) == -1 && errno == EINTR);
	CHECK(times() == 1);
	raise(SIGUSR1);
	CHECK(pselect(0, NULL, NULL, NULL, &timeout, &none) == -1 && errno == EINTR);
	CHECK(times() == 2);
}

/* Two waits one after the other, whose arguments lie in the same place of the stack */
static void test_one_wait_after_another(void)
{
	struct pair two = looked();
	struct epoll_event event = { .events = EPOLLIN };
	struct pollfd first = { .fd = two.in, .events = POLLIN };
	struct pollfd nested = { .fd = epoll_create1(0), .events = POLLIN };

	CHECK(!epoll_ctl(nested.fd, EPOLL_CTL_ADD, two.in, &event));
	CHECK(poll(&first, 1, 0) == 0);
	hold(&two, "x");
	CHECK(poll(&nested, 1, 0) == 1 && nested.revents == POLLIN);
	expect(two.in, MSG_DONTWAIT, "x");
}

static void test_nowhere(void)
{
	void *const places[] = { (void *)8, (void *)-1L, (void *)0x800000000000UL };
	struct pair two = looked();
	int epfd = set_of(two.in, EPOLLIN);
	struct timespec now = {};
	size_t i;

	for (i = 0; i < COUNT(places); i++) {
		void *at = places[i];

		queue(&two, "x");
		CHECK(poll(at, 1, 0) == -1 && errno == EFAULT);
		CHECK(ppoll(at, 1, &now, NULL) == -1 && errno == EFAULT);
		CHECK(select(two.in + 1, at, NULL, NULL, NULL) == -1 && errno == EFAULT);
		CHECK(pselect(two.in + 1, NULL, at, NULL, &now, NULL) == -1 && errno == EFAULT);
		CHECK(epoll_wait(epfd, at, 1, 0) == -1 && errno == EFAULT);
		CHECK(epoll_pwait2(epfd, at, 1, &now, NULL) == -1 && errno == EFAULT);
		expect(two.in, MSG_DONTWAIT, "x");
	}
}

int main(void)
{
	static const struct test tests[] = {
		{ test_held_is_readable, "a held datagram makes its socket readable" },
		{ test_held_is_readable_after_native, "also after one that was the kernel's" },
		{ test_native_is_readable, "so does one in the socket's own queue" },
		{ test_timeouts, "timeouts are kept, asleep, with nothing held" },
		{ test_others_are_flushed, "sockets behind another epoll are readable too" },
		{ test_other_interests, "other interests and errors are the kernel's" },
		{ test_edge, "edge-triggered epoll has an edge for each arrival" },
		{ test_edge_holds, "an edge is told past the kernel, once in each set" },
		{ test_edge_then_sleep, "edges past the kernel and through it follow each other" },
		{ test_edge_of_one_thread, "an edge is told to one of several threads" },
		{ test_oneshot, "one-shot epoll has one" },
		{ test_event_loop, "an event loop misses nothing" },
		{ test_poll_holds, "poll finds what is held without giving it away" },
		{ test_epoll_holds, "so does level-triggered epoll" },
		{ test_epoll_changes, "changes of an epoll set are heard" },
		{ test_epoll_other_ready, "epoll reports the kernel's and ours" },
		{ test_epoll_closed, "a closed socket's wishes are not its number's next owner's" },
		{ test_epoll_shared, "a set that another process has is the kernel's alone" },
		{ test_epoll_many, "a set of very many sockets works" },
		{ test_masked_signals, "signals let in by a wait's mask end it" },
		{ test_one_wait_after_another, "a wait is not taken for the one before it" },
		{ test_nowhere, "arguments where no memory is are EFAULT" },
	};

	return run_tests(tests, COUNT(tests));
}
