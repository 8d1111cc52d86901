// SPDX-License-Identifier: GPL-2.0-only
/*
 * System calls of messages by turns over an accelerated connection, counted by a parent that
 * sees each of them (ptrace): a send has one, and what is received none.
 *
 *	call_count LENGTH COUNT FROM TO ADDRESS PORT
 *
 * Prints the system calls of a send, and of a receive with the looks before it: the median of
 * COUNT of each, and how many were more.
 */

#include <errno.h>
#include <signal.h>
#include <sys/ptrace.h>
#include <sys/wait.h>

#include "bench.h"

/* Calls that no kernel has: they tell the parent where we are */
#define SENDING		100001L
#define RECEIVING	100002L
#define OTHER		100003L
#define MESSAGES_MOST	65536

static char payload[65536];

struct calls {
	unsigned int of[MESSAGES_MOST];
	unsigned int count;
};

static void message(const struct connection *connection, unsigned int from, size_t length)
{
	ssize_t got;

	syscall(SENDING);
	send_one(connection->end[from], true, payload, length);
	syscall(RECEIVING);
	do
		got = take_one(connection->end[!from], true, payload, length);
	while (got < 0);
	syscall(OTHER);
	if (got != (ssize_t)length)
		errx(1, "%zd of %zu bytes came at once", got, length);
}

static void child(size_t length, unsigned int count, char **argv)
{
	struct connection connection = connection_of(argv[0], argv[1], argv[2], argv[3], true);
	unsigned int i;

	have_taken(&connection);
	if (ptrace(PTRACE_TRACEME, 0, NULL, NULL))
		err(1, "ptrace");
	raise(SIGSTOP);
	have_taken(&connection);	/* again: the stop may have brought it home */
	if (stream_counters_of_own().taken != 2)
		errx(1, "the connection is not taken");
	for (i = 0; i < count; i++)
		message(&connection, i & 1, length);
	exit(0);
}

static void next(pid_t pid, int *status)
{
	if (ptrace(PTRACE_SYSCALL, pid, NULL, NULL) || waitpid(pid, status, 0) != pid)
		err(1, "ptrace");
}

static int compare(const void *one, const void *other)
{
	unsigned int a = *(const unsigned int *)one, b = *(const unsigned int *)other;

	return a < b ? -1 : a > b;
}

static void print(struct calls *calls)
{
	unsigned int more = 0, i, median;

	if (!calls->count)
		errx(1, "nothing was counted");
	qsort(calls->of, calls->count, sizeof(calls->of[0]), compare);
	median = calls->of[calls->count / 2];
	for (i = 0; i < calls->count; i++)
		more += calls->of[i] > median;
	printf("%u %u\n", median, more);
}

int main(int argc, char **argv)
{
	static struct calls sends, receives;
	unsigned int *counted = NULL;
	int status;
	pid_t pid;

	if (argc != 7 || atol(argv[2]) > MESSAGES_MOST)
		errx(1, "usage: LENGTH COUNT FROM TO ADDRESS PORT");
	pid = fork();
	if (!pid)
		child((size_t)atol(argv[1]), (unsigned int)atol(argv[2]), argv + 3);
	if (pid < 0 || waitpid(pid, &status, 0) != pid)
		err(1, "fork");
	if (WIFSTOPPED(status) && ptrace(PTRACE_SETOPTIONS, pid, NULL, PTRACE_O_TRACESYSGOOD))
		err(1, "ptrace");
	while (WIFSTOPPED(status)) {
		struct __ptrace_syscall_info info = {};

		next(pid, &status);
		if (!WIFSTOPPED(status) || WSTOPSIG(status) != (SIGTRAP | 0x80) ||
		    ptrace(PTRACE_GET_SYSCALL_INFO, pid, sizeof(info), &info) <= 0 ||
		    info.op != PTRACE_SYSCALL_INFO_ENTRY)
			continue;
		if (info.entry.nr == SENDING)
			counted = &sends.of[sends.count++];
		else if (info.entry.nr == RECEIVING)
			counted = &receives.of[receives.count++];
		else if (info.entry.nr == OTHER)
			counted = NULL;
		else if (counted)
			++*counted;
	}
	if (!WIFEXITED(status) || WEXITSTATUS(status))
		errx(1, "the traced process ended with %d", status);
	print(&sends);
	print(&receives);
	return 0;
}
