// SPDX-License-Identifier: GPL-2.0-only
/* select and pselect */

#include <string.h>
#include <sys/time.h>

#include "libexasock.h"

enum { READ, WRITE, EXCEPT, SETS };

struct select_call {
	int count;
	void *sets[SETS];		/* fd_set */
	fd_set asked[SETS];		/* what the caller wants to know */
	bool copied;			/* there */
	struct timeval *timeval;	/* select()'s, which is left what remains */
	const struct timespec *timespec;
	const sigset_t *mask;
	bool coarse;			/* select() */
};

static size_t select_size(const struct select_call *call)
{
	return ((size_t)call->count + NFDBITS - 1) / NFDBITS * sizeof(fd_mask);
}

static void select_restore(const struct select_call *call)
{
	int i;

	for (i = 0; call->copied && i < SETS; i++)
		if (call->sets[i])
			memcpy(call->sets[i], &call->asked[i], select_size(call));
}

static int select_ask(struct exa_wait *wait)
{
	static const struct timespec now;
	const struct select_call *call = wait->call;
	fd_set *in = call->sets[READ];
	unsigned int i;
	int ready;

	select_restore(call);
	ready = real(pselect)(call->count, call->sets[READ], call->sets[WRITE],
			      call->sets[EXCEPT], &now, call->mask);
	for (i = 0; i < wait->count && ready >= 0; i++) {
		int fd = wait->watched[i].at;

		if (!exa_watched_readable(&wait->watched[i]))
			continue;
		ready += !FD_ISSET(fd, in);
		FD_SET(fd, in);
	}
	return ready;
}

/* As Linux does it, select() leaves what remains of the timeout */
static void select_leave_rest(const struct select_call *call, const struct exa_wait *wait)
{
	struct timespec rest;

	if (!call->timeval || wait->timeout == EXA_FOREVER)
		return;
	rest = exa_rest_of(wait);
	call->timeval->tv_sec = rest.tv_sec;
	call->timeval->tv_usec = rest.tv_nsec / 1000;
}

/* Waiting on begins with the sets as they were given */
static int select_sleep(struct exa_wait *wait)
{
	struct select_call *call = wait->call;
	const struct timespec *timeout = call->timespec;
	struct timespec rest;

	select_restore(call);
	if (call->coarse) {
		select_leave_rest(call, wait);
		return real(select)(call->count, call->sets[READ], call->sets[WRITE],
				    call->sets[EXCEPT], call->timeval);
	}
	if (wait->timeout != EXA_FOREVER) {
		rest = exa_rest_of(wait);
		timeout = &rest;
	}
	return real(pselect)(call->count, call->sets[READ], call->sets[WRITE],
			     call->sets[EXCEPT], timeout, call->mask);
}

/* Sets of this size only are looked at; larger ones are legal, if the caller made them */
static bool select_usable(int count)
{
	return count >= 0 && count <= FD_SETSIZE;
}

static int select_wait(struct select_call *call, u64 timeout)
{
	struct exa_wait wait;
	int fd, i, ready;

	exa_wait_begin(&wait, timeout);
	wait.ask = select_ask;
	wait.sleep = select_sleep;
	wait.call = call;
	if (!select_usable(call->count)) {
		/* the kernel's from the beginning, as it was given */
		wait.timeout = EXA_FOREVER;
		wait.all = true;
		return exa_wait_for(&wait);
	}
	for (i = 0; i < SETS; i++)
		if (call->sets[i])
			memcpy(&call->asked[i], call->sets[i], select_size(call));
	call->copied = true;
	for (fd = 0; call->sets[READ] && fd < call->count; fd++)
		if (FD_ISSET(fd, &call->asked[READ]))
			exa_watch(&wait, fd, fd);
	ready = exa_wait_for(&wait);
	if (!wait.slept)
		select_leave_rest(call, &wait);
	/* an error leaves the sets alone */
	if (ready < 0)
		select_restore(call);
	return ready;
}

/* Is one of the sets where the kernel refuses it? (The C library reads the timeout itself.) */
static bool select_misplaced(const fd_set *in, const fd_set *out, const fd_set *except)
{
	return (in && exa_nowhere(in)) || (out && exa_nowhere(out)) ||
	       (except && exa_nowhere(except));
}

EXPORT int select(int count, fd_set *in, fd_set *out, fd_set *except,
		  struct timeval *timeout)
{
	struct select_call call = {
		.count = count, .sets = { in, out, except }, .timeval = timeout, .coarse = true,
	};
	struct timespec limit = {};
	int ready;

	if (likely(!exa_entries_any()) || select_misplaced(in, out, except))
		return real(select)(count, in, out, except, timeout);
	if (timeout) {
		limit.tv_sec = timeout->tv_sec + timeout->tv_usec / 1000000;
		limit.tv_nsec = timeout->tv_usec % 1000000 * 1000;
	}
	if (!exa_timeout_valid(&limit))
		return real(select)(count, in, out, except, timeout);
	ready = select_wait(&call, exa_ns_of(timeout ? &limit : NULL));
	exa_trace("(%d) = %d", count, ready);
	return ready;
}

EXPORT int pselect(int count, fd_set *in, fd_set *out, fd_set *except,
		   const struct timespec *timeout, const sigset_t *mask)
{
	struct select_call call = {
		.count = count, .sets = { in, out, except }, .timespec = timeout, .mask = mask,
	};
	int ready;

	if (likely(!exa_entries_any()) || select_misplaced(in, out, except) ||
	    !exa_timeout_valid(timeout))
		return real(pselect)(count, in, out, except, timeout, mask);
	ready = select_wait(&call, exa_ns_of(timeout));
	exa_trace("(%d) = %d", count, ready);
	return ready;
}

EXPORT __alias(select) int __select(int count, fd_set *in, fd_set *out,
			   fd_set *except, struct timeval *timeout);
