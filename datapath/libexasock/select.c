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
	const sigset_t *mask;
};

static void restore(const struct select_call *call)
{
	int i;

	for (i = 0; i < SETS; i++)
		if (call->sets[i])
			memcpy(call->sets[i], &call->asked[i],
			       ((size_t)call->count + NFDBITS - 1) / NFDBITS * sizeof(fd_mask));
}

static int ask(struct exa_wait *wait)
{
	static const struct timespec now;
	const struct select_call *call = wait->call;
	fd_set *in = call->sets[READ];
	unsigned int i;
	int ready;

	restore(call);
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

static int spin(struct exa_wait *wait, struct select_call *call)
{
	size_t size = ((size_t)call->count + NFDBITS - 1) / NFDBITS * sizeof(fd_mask);
	int fd, i;

	for (i = 0; i < SETS; i++)
		if (call->sets[i])
			memcpy(&call->asked[i], call->sets[i], size);
	wait->ask = ask;
	wait->call = call;
	for (fd = 0; call->sets[READ] && fd < call->count; fd++)
		if (FD_ISSET(fd, &call->asked[READ]))
			exa_watch(wait, fd, fd);
	i = exa_wait_spin(wait);
	/* an error leaves the sets alone, and waiting on begins with them */
	if (i < 0 || (!i && wait->spent < wait->timeout))
		restore(call);
	return i;
}

/* Sets of this size only are looked at; larger ones are legal, if the caller made them */
static bool usable(int count)
{
	return count >= 0 && count <= FD_SETSIZE;
}

EXPORT int select(int count, fd_set *in, fd_set *out, fd_set *except,
		  struct timeval *timeout)
{
	struct select_call call = { .count = count, .sets = { in, out, except } };
	struct timespec rest = {};
	struct exa_wait wait;
	int ready;

	if (likely(!exa_entries_any()))
		return real(select)(count, in, out, except, timeout);
	if (timeout) {
		rest.tv_sec = timeout->tv_sec + timeout->tv_usec / 1000000;
		rest.tv_nsec = timeout->tv_usec % 1000000 * 1000;
	}
	exa_wait_begin(&wait, exa_ns_of(timeout ? &rest : NULL));
	if (!usable(count) || (timeout && wait.timeout == EXA_FOREVER)) {
		exa_hand_over_others(NULL);
		return real(select)(count, in, out, except, timeout);
	}
	ready = spin(&wait, &call);
	/* as Linux does it, select() leaves what remained of the timeout */
	if (timeout) {
		rest = exa_rest_of(&wait);
		timeout->tv_sec = rest.tv_sec;
		timeout->tv_usec = rest.tv_nsec / 1000;
	}
	if (!ready && wait.spent < wait.timeout)
		ready = real(select)(count, in, out, except, timeout);
	exa_trace("(%d) = %d", count, ready);
	return ready;
}

EXPORT int pselect(int count, fd_set *in, fd_set *out, fd_set *except,
		   const struct timespec *timeout, const sigset_t *mask)
{
	struct select_call call = { .count = count, .sets = { in, out, except }, .mask = mask };
	struct exa_wait wait;
	struct timespec rest;
	int ready;

	if (likely(!exa_entries_any()))
		return real(pselect)(count, in, out, except, timeout, mask);
	exa_wait_begin(&wait, exa_ns_of(timeout));
	if (!usable(count) || (timeout && wait.timeout == EXA_FOREVER)) {
		exa_hand_over_others(NULL);
		return real(pselect)(count, in, out, except, timeout, mask);
	}
	ready = spin(&wait, &call);
	if (!ready && wait.spent < wait.timeout) {
		rest = exa_rest_of(&wait);
		ready = real(pselect)(count, in, out, except, timeout ? &rest : NULL, mask);
	}
	exa_trace("(%d) = %d", count, ready);
	return ready;
}

EXPORT __alias(select) int __select(int count, fd_set *in, fd_set *out,
			   fd_set *except, struct timeval *timeout);
