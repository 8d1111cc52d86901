// SPDX-License-Identifier: GPL-2.0-only
/* poll and ppoll */

#include "libexasock.h"

#define READABLE	(POLLIN | POLLRDNORM)

struct poll_call {
	struct pollfd *fds;
	nfds_t count;
	const sigset_t *mask;
};

static int poll_ask(struct exa_wait *wait)
{
	static const struct timespec now;
	const struct poll_call *call = wait->call;
	int ready = real(ppoll)(call->fds, call->count, &now, call->mask);
	unsigned int i;

	for (i = 0; i < wait->count && ready >= 0; i++) {
		struct pollfd *fd = &call->fds[wait->watched[i].at];

		if (!exa_watched_readable(&wait->watched[i]))
			continue;
		ready += !fd->revents;
		fd->revents |= (short)(fd->events & READABLE);
	}
	return ready;
}

static int poll_sleep(struct exa_wait *wait)
{
	const struct poll_call *call = wait->call;
	struct timespec rest = exa_rest_of(wait);

	return real(ppoll)(call->fds, call->count, wait->timeout == EXA_FOREVER ? NULL : &rest,
			   call->mask);
}

static int poll_wait(struct poll_call *call, u64 timeout)
{
	struct exa_wait wait;
	nfds_t i;

	exa_wait_begin(&wait, timeout);
	wait.ask = poll_ask;
	wait.sleep = poll_sleep;
	wait.call = call;
	for (i = 0; i < call->count && i <= INT32_MAX; i++)
		if (call->fds[i].events & READABLE)
			exa_watch(&wait, call->fds[i].fd, (int)i);
	return exa_wait_for(&wait);
}

EXPORT int poll(struct pollfd *fds, nfds_t count, int timeout)
{
	struct poll_call call = { .fds = fds, .count = count };
	int ready;

	if (likely(!exa_entries_any()) || (count && exa_nowhere(fds)))
		return real(poll)(fds, count, timeout);
	ready = poll_wait(&call, timeout < 0 ? EXA_FOREVER : (u64)timeout * 1000000);
	exa_trace("(%lu descriptors, %d ms) = %d", (unsigned long)count, timeout, ready);
	return ready;
}

EXPORT int ppoll(struct pollfd *fds, nfds_t count, const struct timespec *timeout,
		 const sigset_t *mask)
{
	struct poll_call call = { .fds = fds, .count = count, .mask = mask };
	int ready;

	if (likely(!exa_entries_any()) || (count && exa_nowhere(fds)) ||
	    !exa_timeout_valid(timeout))
		return real(ppoll)(fds, count, timeout, mask);
	ready = poll_wait(&call, exa_ns_of(timeout));
	exa_trace("(%lu descriptors) = %d", (unsigned long)count, ready);
	return ready;
}

EXPORT __alias(poll) int __poll(struct pollfd *fds, nfds_t count, int timeout);
