// SPDX-License-Identifier: GPL-2.0-only
/* poll and ppoll */

#include "libexasock.h"

#define READABLE	(POLLIN | POLLRDNORM)

struct poll_call {
	struct pollfd *fds;
	nfds_t count;
	const sigset_t *mask;
};

static int ask(struct exa_wait *wait)
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

/* The answer, or 0: wait on in the kernel, unless the timeout is over */
static int spin(struct exa_wait *wait, const struct poll_call *call)
{
	nfds_t i;

	wait->ask = ask;
	wait->call = (void *)call;
	for (i = 0; i < call->count && i <= INT32_MAX && wait->count < EXA_WATCHED; i++)
		if (call->fds[i].events & READABLE)
			exa_watch(wait, call->fds[i].fd, (int)i);
	return exa_wait_spin(wait);
}

EXPORT int poll(struct pollfd *fds, nfds_t count, int timeout)
{
	struct poll_call call = { .fds = fds, .count = count };
	struct exa_wait wait;
	struct timespec rest;
	int ready;

	if (likely(!exa_entries_any()))
		return real(poll)(fds, count, timeout);
	exa_wait_begin(&wait, timeout < 0 ? EXA_FOREVER : (u64)timeout * 1000000);
	ready = spin(&wait, &call);
	if (!ready && wait.spent < wait.timeout) {
		rest = exa_rest_of(&wait);
		ready = real(ppoll)(fds, count, timeout < 0 ? NULL : &rest, NULL);
	}
	exa_trace("(%lu descriptors, %d ms) = %d", (unsigned long)count, timeout, ready);
	return ready;
}

EXPORT int ppoll(struct pollfd *fds, nfds_t count, const struct timespec *timeout,
		 const sigset_t *mask)
{
	struct poll_call call = { .fds = fds, .count = count, .mask = mask };
	struct exa_wait wait;
	struct timespec rest;
	int ready;

	if (likely(!exa_entries_any()))
		return real(ppoll)(fds, count, timeout, mask);
	exa_wait_begin(&wait, exa_ns_of(timeout));
	if (timeout && wait.timeout == EXA_FOREVER) {
		exa_hand_over_others(NULL);
		return real(ppoll)(fds, count, timeout, mask);
	}
	ready = spin(&wait, &call);
	if (!ready && wait.spent < wait.timeout) {
		rest = exa_rest_of(&wait);
		ready = real(ppoll)(fds, count, timeout ? &rest : NULL, mask);
	}
	exa_trace("(%lu descriptors) = %d", (unsigned long)count, ready);
	return ready;
}

EXPORT __alias(poll) int __poll(struct pollfd *fds, nfds_t count, int timeout);
