// SPDX-License-Identifier: GPL-2.0-only
/* Signals: a spinning receive ends where a sleeping one would; the rest is as installed */

#define _GNU_SOURCE
#include <setjmp.h>

#include "tests/test.h"

static int handled;

/* The compiler does not expect raise() to come back to us */
static int times(void)
{
	return __atomic_load_n(&handled, __ATOMIC_RELAXED);
}

static int told_number;
static siginfo_t told;

static void plain(int number)
{
	told_number = number;
	__atomic_add_fetch(&handled, 1, __ATOMIC_RELAXED);
}

static void informed(int number, siginfo_t *info, void *context)
{
	CHECK(context);
	told_number = number;
	told = *info;
	__atomic_add_fetch(&handled, 1, __ATOMIC_RELAXED);
}

static void install(int number, int flags)
{
	struct sigaction action = { .sa_handler = plain, .sa_flags = flags };

	CHECK(!sigaction(number, &action, NULL));
}

static void in_ms(long ms)
{
	struct itimerval timer = { .it_value = { 0, ms * 1000 } };

	CHECK(!setitimer(ITIMER_REAL, &timer, NULL));
}

/* EXASOCK_SPIN is long here: all of these are spinning when the signal comes */
static void test_interrupts(void)
{
	struct pair two = looked();
	char byte;

	install(SIGALRM, 0);
	in_ms(20);
	CHECK(recv(two.in, &byte, 1, 0) == -1 && errno == EINTR);
	CHECK(times() == 1 && told_number == SIGALRM);
	CHECK(fake_looking(two.in));
}

static struct pair shared;

static void *speaks(void *unused)
{
	(void)unused;
	pause_us(60000);
	queue(&shared, "late");
	return NULL;
}

static void test_restarts(void)
{
	pthread_t thread;

	shared = looked();
	install(SIGALRM, SA_RESTART);
	in_ms(20);
	CHECK(!pthread_create(&thread, NULL, speaks, NULL));
	expect(shared.in, 0, "late");
	CHECK(times() == 1);
	CHECK(!pthread_join(thread, NULL));
}

/* With a timeout the kernel never restarts */
static void test_timeout_interrupts(void)
{
	struct timeval timeout = { 5, 0 };
	struct pair two = looked();
	char byte;

	CHECK(!setsockopt(two.in, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof(timeout)));
	install(SIGALRM, SA_RESTART);
	in_ms(20);
	CHECK(recv(two.in, &byte, 1, 0) == -1 && errno == EINTR);
}

static void test_timeout(void)
{
	struct timeval timeout = { 0, 50000 };
	struct pair two = looked();
	double start = seconds();
	char byte;

	CHECK(!setsockopt(two.in, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof(timeout)));
	CHECK(recv(two.in, &byte, 1, 0) == -1 && errno == EAGAIN);
	CHECK(seconds() - start > 0.045 && seconds() - start < 0.2);
}

static void test_poll_interrupts(void)
{
	struct pair two = looked();
	struct pollfd fd = { .fd = two.in, .events = POLLIN };

	install(SIGALRM, SA_RESTART);
	in_ms(20);
	CHECK(poll(&fd, 1, 5000) == -1 && errno == EINTR);
	CHECK(times() == 1);
}

static void test_queries(void)
{
	struct sigaction action = { .sa_sigaction = informed }, old;
	struct pair two;
	int i;

	/* before and after there is a context */
	for (i = 0; i < 2; i++) {
		action.sa_flags = SA_SIGINFO | SA_RESTART | SA_NODEFER;
		action.sa_sigaction = informed;
		sigemptyset(&action.sa_mask);
		sigaddset(&action.sa_mask, SIGUSR2);
		CHECK(!sigaction(SIGUSR1, &action, NULL));
		if (!i) {
			two = looked();
			CHECK(two.in >= 0);
		}
		CHECK(!sigaction(SIGUSR1, NULL, &old));
		CHECK(old.sa_sigaction == informed);
		CHECK((old.sa_flags & ~0x04000000) == (SA_SIGINFO | SA_RESTART | SA_NODEFER));
		CHECK(sigismember(&old.sa_mask, SIGUSR2) && !sigismember(&old.sa_mask, SIGHUP));
		action.sa_handler = plain;
		action.sa_flags = 0;
		CHECK(!sigaction(SIGUSR1, &action, &old));
		CHECK(old.sa_sigaction == informed);
		CHECK(signal(SIGUSR1, SIG_IGN) == plain);
		CHECK(signal(SIGUSR1, plain) == SIG_IGN);
		CHECK(!sigaction(SIGUSR1, NULL, &old));
		CHECK(old.sa_handler == plain && !(old.sa_flags & SA_SIGINFO));
		CHECK(old.sa_flags & SA_RESTART);
		CHECK(signal(SIGUSR1, SIG_DFL) == plain);
		CHECK(!sigaction(SIGUSR1, NULL, &old) && old.sa_handler == SIG_DFL);
	}
	CHECK(sigaction(SIGKILL, &action, NULL) == -1 && errno == EINVAL);
	CHECK(sigaction(0, &action, NULL) == -1 && errno == EINVAL);
	CHECK(sigaction(NSIG + 5, &action, NULL) == -1 && errno == EINVAL);
	CHECK(signal(SIGSTOP, plain) == SIG_ERR && errno == EINVAL);
}

static void test_information(void)
{
	struct sigaction action = { .sa_sigaction = informed, .sa_flags = SA_SIGINFO };
	union sigval value = { .sival_int = 4711 };

	looked();
	CHECK(!sigaction(SIGRTMIN, &action, NULL));
	CHECK(!sigqueue(getpid(), SIGRTMIN, value));
	CHECK(times() == 1 && told_number == SIGRTMIN);
	CHECK(told.si_value.sival_int == 4711 && told.si_pid == getpid());
}

static void test_one_shot(void)
{
	struct sigaction old;

	looked();
	install(SIGUSR1, (int)SA_RESETHAND);
	raise(SIGUSR1);
	CHECK(times() == 1);
	CHECK(!sigaction(SIGUSR1, NULL, &old) && old.sa_handler == SIG_DFL);
	CHECK(sysv_signal(SIGUSR1, plain) == SIG_DFL);
	CHECK(!sigaction(SIGUSR1, NULL, &old) && old.sa_handler == plain);
	raise(SIGUSR1);
	CHECK(times() == 2);
	CHECK(signal(SIGUSR1, SIG_DFL) == SIG_DFL);
}

#pragma GCC diagnostic ignored "-Wdeprecated-declarations"

static void test_siginterrupt(void)
{
	struct pair two = looked();
	char byte;

	CHECK(signal(SIGALRM, plain) == SIG_DFL);
	CHECK(!siginterrupt(SIGALRM, 1));
	in_ms(20);
	CHECK(recv(two.in, &byte, 1, 0) == -1 && errno == EINTR);
	CHECK(signal(SIGALRM, SIG_DFL) == plain);
}

static sigjmp_buf out;

static void jumps(int number)
{
	(void)number;
	siglongjmp(out, 1);
}

static void test_jump(void)
{
	struct sigaction action = { .sa_handler = jumps };
	struct pair two = looked();
	char byte;

	CHECK(!sigaction(SIGALRM, &action, NULL));
	if (!sigsetjmp(out, 1)) {
		in_ms(20);
		recv(two.in, &byte, 1, 0);
		CHECK(false);
	}
	hold(&two, "x");
	expect(two.in, 0, "x");
}

static struct pair in_handler;

static void receives(int number)
{
	(void)number;
	hold(&in_handler, "inner");
	expect(in_handler.in, 0, "inner");
	close(in_handler.in);
	__atomic_add_fetch(&handled, 1, __ATOMIC_RELAXED);
}

/* A handler may use sockets itself, also in the middle of a receive */
static void test_handler_receives(void)
{
	struct sigaction action = { .sa_handler = receives };
	struct pair two = looked();
	char byte;

	in_handler = looked();
	CHECK(!sigaction(SIGALRM, &action, NULL));
	in_ms(20);
	CHECK(recv(two.in, &byte, 1, 0) == -1 && errno == EINTR);
	CHECK(times() == 1);
}

static void *cancelled(void *argument)
{
	char byte;

	recv(*(int *)argument, &byte, 1, 0);
	return NULL;
}

static void test_cancel(void)
{
	struct pair two = looked();
	pthread_t thread;
	void *result;

	CHECK(!pthread_create(&thread, NULL, cancelled, &two.in));
	pause_us(20000);
	CHECK(!pthread_cancel(thread));
	CHECK(!pthread_join(thread, &result));
	CHECK(result == PTHREAD_CANCELED);
	hold(&two, "x");
	expect(two.in, 0, "x");
}

int main(int argc, char **argv)
{
	static const struct test tests[] = {
		{ test_interrupts, "a handler ends a spinning receive with EINTR" },
		{ test_restarts, "one with SA_RESTART does not" },
		{ test_timeout_interrupts, "unless there is a timeout" },
		{ test_timeout, "SO_RCVTIMEO is kept, also when it is shorter than the spinning" },
		{ test_poll_interrupts, "poll is ended by any handler" },
		{ test_queries, "what is installed reads back as installed" },
		{ test_information, "handlers get their siginfo" },
		{ test_one_shot, "one-shot handlers are" },
		{ test_siginterrupt, "siginterrupt is heard" },
		{ test_jump, "a handler may jump out of a spinning receive" },
		{ test_handler_receives, "a handler may receive and close" },
		{ test_cancel, "a spinning receive is a cancellation point" },
	};

	(void)argc;
	if (!getenv("EXASOCK_SPIN")) {
		setenv("EXASOCK_SPIN", "10000000", 1);
		execv("/proc/self/exe", argv);
	}
	return run_tests(tests, COUNT(tests));
}
