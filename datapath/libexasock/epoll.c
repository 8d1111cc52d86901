// SPDX-License-Identifier: GPL-2.0-only
/* epoll_wait and its kin */

#include <sys/syscall.h>

#include "libexasock.h"

struct epoll_call {
	int epfd;
	struct epoll_event *events;
	int max;
	const sigset_t *mask;
};

static int ask(struct exa_wait *wait)
{
	const struct epoll_call *call = wait->call;

	return real(epoll_pwait)(call->epfd, call->events, call->max, 0, call->mask);
}

static int spin(struct exa_wait *wait, const struct epoll_call *call)
{
	wait->count = 0;
	wait->spent = 0;
	wait->ask = ask;
	wait->call = (void *)call;
	return exa_wait_spin(wait);
}

/* Milliseconds that remain, rounded as a timeout is: never too short */
static int rest_ms(const struct exa_wait *wait)
{
	if (wait->timeout == EXA_FOREVER)
		return -1;
	return (int)((wait->timeout - wait->spent + 999999) / 1000000);
}

EXPORT int epoll_pwait(int epfd, struct epoll_event *events, int max, int timeout,
		       const sigset_t *mask)
{
	struct epoll_call call = { .epfd = epfd, .events = events, .max = max, .mask = mask };
	struct exa_wait wait;
	int ready;

	if (likely(!exa_entries_any()))
		return real(epoll_pwait)(epfd, events, max, timeout, mask);
	wait.timeout = timeout < 0 ? EXA_FOREVER : (u64)timeout * 1000000;
	ready = spin(&wait, &call);
	if (!ready && wait.spent < wait.timeout)
		ready = real(epoll_pwait)(epfd, events, max, rest_ms(&wait), mask);
	exa_trace("(%d, %d events, %d ms) = %d", epfd, max, timeout, ready);
	return ready;
}

EXPORT int epoll_wait(int epfd, struct epoll_event *events, int max, int timeout)
{
	if (likely(!exa_entries_any()))
		return real(epoll_wait)(epfd, events, max, timeout);
	return epoll_pwait(epfd, events, max, timeout, NULL);
}

/* A C library that has no such function may still run on a kernel that has the call */
static int kernel_pwait2(int epfd, struct epoll_event *events, int max,
			 const struct timespec *timeout, const sigset_t *mask)
{
	if (real(epoll_pwait2))
		return real(epoll_pwait2)(epfd, events, max, timeout, mask);
	return (int)syscall(SYS_epoll_pwait2, epfd, events, max, timeout, mask, NSIG / 8);
}

EXPORT int epoll_pwait2(int epfd, struct epoll_event *events, int max,
			const struct timespec *timeout, const sigset_t *mask)
{
	struct epoll_call call = { .epfd = epfd, .events = events, .max = max, .mask = mask };
	struct exa_wait wait;
	struct timespec rest;
	int ready;

	if (likely(!exa_entries_any()))
		return kernel_pwait2(epfd, events, max, timeout, mask);
	wait.timeout = exa_ns_of(timeout);
	if (timeout && wait.timeout == EXA_FOREVER) {
		exa_hand_over_others(NULL);
		return kernel_pwait2(epfd, events, max, timeout, mask);
	}
	ready = spin(&wait, &call);
	if (!ready && wait.spent < wait.timeout) {
		rest = exa_rest_of(&wait);
		ready = kernel_pwait2(epfd, events, max, timeout ? &rest : NULL, mask);
	}
	exa_trace("(%d, %d events) = %d", epfd, max, ready);
	return ready;
}
