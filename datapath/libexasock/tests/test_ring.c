// SPDX-License-Identifier: GPL-2.0-only
/* The rules of the ring: each datagram once, in order, whoever has it */

#define _GNU_SOURCE
#include "tests/test.h"

static void test_no_system_call(void)
{
	struct pair two = looked();
	unsigned int flushes = fake_calls.flush;

	hold(&two, "a");
	hold(&two, "b");
	CHECK(fake_looking(two.in));
	expect(two.in, 0, "a");
	expect(two.in, MSG_DONTWAIT, "b");
	expect_nothing(two.in);
	CHECK(fake_calls.flush == flushes);
}

static void test_queued_first(void)
{
	struct pair two = pair(true);

	/* there before it was attached */
	say(&two, "old");
	expect(two.in, 0, "old");
	CHECK(fake_attached(two.in));
	queue(&two, "queued");
	queue(&two, "queued too");
	expect(two.in, 0, "queued");
	expect(two.in, 0, "queued too");
	expect_nothing(two.in);
	hold(&two, "held");
	expect(two.in, 0, "held");
}

static void test_taken_by_kernel(void)
{
	struct pair two = looked();
	char name[16];
	int i;

	for (i = 0; i < 6; i++) {
		snprintf(name, sizeof(name), "%d", i);
		hold(&two, name);
	}
	expect(two.in, 0, "0");
	expect(two.in, 0, "1");
	fake_take(two.in);
	queue(&two, "6");
	for (i = 2; i < 7; i++) {
		snprintf(name, sizeof(name), "%d", i);
		expect(two.in, MSG_DONTWAIT, name);
	}
	expect_nothing(two.in);
	hold(&two, "7");
	expect(two.in, 0, "7");
}

/* More than a ring's worth went through the kernel while nobody looked here */
static void test_lagging(void)
{
	struct pair two = looked();
	unsigned int i, count;
	char byte;

	for (count = 1; count < fake_slots() * 3; count++) {
		for (i = 0; i < count; i++) {
			hold(&two, "x");
			fake_take(two.in);
			CHECK(syscall(SYS_recvfrom, two.in, &byte, 1, 0, NULL, NULL) == 1);
		}
		hold(&two, "held");
		expect(two.in, MSG_DONTWAIT, "held");
		expect_nothing(two.in);
	}
}

static void test_wraps(void)
{
	struct pair two = looked();
	char name[16];
	int i;

	fake_number(two.in, 0x3ffffff0);
	for (i = 0; i < 64; i++) {
		snprintf(name, sizeof(name), "%d", i);
		hold(&two, name);
		if (i % 5 == 4)
			fake_take(two.in);
		expect(two.in, MSG_DONTWAIT, name);
	}
	expect_nothing(two.in);
}

/* Of every size, so that they begin and end everywhere in the ring */
static void test_sizes(void)
{
	struct pair two = looked();
	static char texts[3][2000];
	unsigned int turn, i;

	fake_number(two.in, 0x3fffff00);
	for (turn = 0; turn < 500; turn++) {
		unsigned int count = turn % 3 + 1;

		for (i = 0; i < count; i++) {
			size_t length = (turn * 977 + i * 1409) % 1500 + 1;

			memset(texts[i], 'a' + (int)(turn % 26), length);
			texts[i][length] = 0;
			hold(&two, texts[i]);
		}
		if (turn % 7 == 3)
			fake_take(two.in);
		for (i = 0; i < count; i++)
			expect(two.in, MSG_DONTWAIT, texts[i]);
		expect_nothing(two.in);
	}
}

/* No room is left for a large one where there is still some for a small one */
static void test_full(void)
{
	struct pair two = looked();
	static char large[1500];
	unsigned int i;

	memset(large, 'x', sizeof(large) - 1);
	for (i = 0; i < fake_slots() - 2; i++)
		hold(&two, "small");
	say(&two, large);
	CHECK(!fake_hold(two.in));
	for (i = 0; i < fake_slots() - 2; i++)
		expect(two.in, MSG_DONTWAIT, "small");
	expect(two.in, MSG_DONTWAIT, large);
	expect_nothing(two.in);
}

/* By another way, after it: the loopback device has no ring */
static void test_held_first(void)
{
	struct pair two = looked();

	hold(&two, "held");
	queue(&two, "queued");
	expect(two.in, 0, "held");
	expect(two.in, 0, "queued");
	expect_nothing(two.in);
}

static void test_dead(void)
{
	struct pair two = looked();

	hold(&two, "one");
	hold(&two, "two");
	fake_dead(two.in);
	expect(two.in, 0, "one");
	expect(two.in, 0, "two");
	/* attached anew */
	expect_nothing(two.in);
	hold(&two, "three");
	expect(two.in, 0, "three");
}

/* A native error comes before what is held, as the socket's own queue would have it */
static void test_error(void)
{
	struct pair two = looked();
	struct sockaddr_in gone;
	int closed = bound(&gone);

	close(closed);
	CHECK(!connect(two.in, (struct sockaddr *)&gone, sizeof(gone)));
	send(two.in, "x", 1, 0);
	pause_us(20000);
	fake_event(two.in);
	CHECK(recv(two.in, &gone, 1, 0) == -1 && errno == ECONNREFUSED);
	expect_nothing(two.in);
}

/* As the kernel has it: an error is told before the data that was there already */
static void test_error_before_held(void)
{
	struct pair two = pair(true);
	struct sockaddr_in gone;
	int closed = bound(&gone), on = 1;
	char byte;

	close(closed);
	CHECK(!setsockopt(two.in, SOL_IP, IP_RECVERR, &on, sizeof(on)));
	expect_nothing(two.in);
	hold(&two, "held");
	CHECK(sendto(two.in, "x", 1, 0, (struct sockaddr *)&gone, sizeof(gone)) == 1);
	pause_us(20000);
	fake_event(two.in);
	CHECK(fake_held(two.in) == 1);
	CHECK(recv(two.in, &byte, 1, 0) == -1 && errno == ECONNREFUSED);
	expect(two.in, 0, "held");
	expect_nothing(two.in);
}

static void test_shut_down(void)
{
	struct pair two = looked();
	char byte;

	CHECK(!connect(two.in, (struct sockaddr *)&two.out_name, sizeof(two.out_name)));
	hold(&two, "before");
	CHECK(!shutdown(two.in, SHUT_RD));
	CHECK(!fake_held(two.in));
	fake_event(two.in);
	expect(two.in, 0, "before");
	CHECK(recv(two.in, &byte, 1, 0) == 0);
}

/* --- threads ------------------------------------------------------------------------------ */

#define MESSAGES	20000
#define READERS		3

static struct pair shared;
static unsigned char times_seen[MESSAGES];
static int received;

static void *reader(void *unused)
{
	unsigned int number, last = 0;
	bool first = true;

	(void)unused;
	while (__atomic_load_n(&received, __ATOMIC_RELAXED) < MESSAGES) {
		if (recv(shared.in, &number, sizeof(number), MSG_DONTWAIT) != sizeof(number)) {
			sched_yield();
			continue;
		}
		CHECK(number < MESSAGES);
		CHECK(first || number > last);
		last = number;
		first = false;
		__atomic_add_fetch(&times_seen[number], 1, __ATOMIC_RELAXED);
		__atomic_add_fetch(&received, 1, __ATOMIC_RELAXED);
	}
	return NULL;
}

static void test_threads(void)
{
	struct pair wire = pair(false);
	pthread_t readers[READERS];
	unsigned int number;
	int i;

	shared = looked();
	for (i = 0; i < READERS; i++)
		CHECK(!pthread_create(&readers[i], NULL, reader, NULL));
	for (number = 0; number < MESSAGES; number++) {
		CHECK(send(wire.out, &number, sizeof(number), 0) == sizeof(number));
		fake_arrive(wire.in, shared.in);
		if (number % 97 == 0)
			fake_take(shared.in);
		/* the socket's buffer must not overflow */
		while (number > 100 + (unsigned int)__atomic_load_n(&received, __ATOMIC_RELAXED))
			sched_yield();
	}
	for (i = 0; i < READERS; i++)
		CHECK(!pthread_join(readers[i], NULL));
	for (number = 0; number < MESSAGES; number++)
		CHECK(times_seen[number] == 1);
}

static void *late(void *argument)
{
	const struct pair *two = argument;

	pause_us(50000);
	queue(two, "late");
	return NULL;
}

static void test_sleeps(void)
{
	struct pair two = looked();
	pthread_t thread;
	double start = seconds();

	CHECK(!pthread_create(&thread, NULL, late, &two));
	expect(two.in, 0, "late");
	CHECK(seconds() - start > 0.04);
	CHECK(!fake_looking(two.in));
	CHECK(!pthread_join(thread, NULL));
}

/* At any moment, and held whenever the reader is not about to sleep */
static struct pair wire;

static void *arrivals(void *argument)
{
	const struct pair *two = argument;
	char name[16];
	int i;

	for (i = 0; i < 1000; i++) {
		snprintf(name, sizeof(name), "%d", i);
		say(&wire, name);
		fake_arrive(wire.in, two->in);
		pause_us(i % 200);
	}
	return NULL;
}

static void test_sleeps_with_held(void)
{
	struct pair two = looked();
	pthread_t thread;
	char name[16];
	int i;

	wire = pair(false);
	fake_sender(two.out);
	CHECK(!pthread_create(&thread, NULL, arrivals, &two));
	for (i = 0; i < 1000; i++) {
		snprintf(name, sizeof(name), "%d", i);
		expect(two.in, 0, name);
	}
	CHECK(!pthread_join(thread, NULL));
	expect_nothing(two.in);
}

int main(void)
{
	static const struct test tests[] = {
		{ test_no_system_call, "what is held is read without a system call" },
		{ test_queued_first, "the socket's own queue is read before what is held" },
		{ test_taken_by_kernel, "what the kernel takes back is read there, in order" },
		{ test_lagging, "a reader that lags by more than the ring finds its place again" },
		{ test_wraps, "numbers wrap at 2^30" },
		{ test_sizes, "datagrams of every size begin and end anywhere in the ring" },
		{ test_full, "what finds no room is read after what is held" },
		{ test_held_first, "what is held is read before what was queued after it" },
		{ test_error_before_held, "a pending error is reported before what is held" },
		{ test_dead, "an attachment that ends loses nothing, and a new one begins" },
		{ test_error, "a pending error is reported once" },
		{ test_shut_down, "what came before a shutdown is read, then the end" },
		{ test_threads, "several threads have each datagram exactly once" },
		{ test_sleeps, "a blocking read sleeps in the kernel, with nothing held" },
		{ test_sleeps_with_held, "nothing is lost between spinning and sleeping" },
	};

	return run_tests(tests, COUNT(tests));
}
