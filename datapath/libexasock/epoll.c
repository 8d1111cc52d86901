// SPDX-License-Identifier: GPL-2.0-only
/*
 * epoll. Sets and what they want are noted as they are made; waiting asks the kernel, and
 * looks at the rings of those that are to be read.
 */

#include <sys/syscall.h>

#include "libexasock.h"

struct epoll_call {
	int epfd;
	struct epoll_event *events;
	int max;
	const sigset_t *mask;
	struct exa_set *set;
	u32 version;			/* of it, when the interests were read */
	struct exa_interest interests[EXA_WATCHED];
};

/* The kernel reports nothing: what the rings have, if the set has not changed meanwhile */
static int report(struct exa_wait *wait)
{
	const struct epoll_call *call = wait->call;
	unsigned int i;
	int ready = 0;

	if (!exa_set_is(call->set, call->version))
		return 0;
	for (i = 0; i < wait->count && ready < call->max; i++) {
		struct exa_watched *watched = &wait->watched[i];
		const struct exa_interest *interest = &call->interests[watched->at];
		struct epoll_event event = interest->event;

		if (!exa_watched_readable(watched))
			continue;
		if (watched->edge && !exa_set_tell(call->set, interest, watched->head)) {
			watched->told = watched->head;	/* by another thread */
			continue;
		}
		event.events &= EPOLLIN | EPOLLRDNORM;
		call->events[ready++] = event;
	}
	return ready;
}

/*
 * What the kernel reports cannot be told apart by descriptor, and some of it is reported
 * once only: so it is never merged with ours. What is held then goes to the kernel, and
 * is in the next report.
 */
static int ask(struct exa_wait *wait)
{
	const struct epoll_call *call = wait->call;
	int ready = real(epoll_pwait)(call->epfd, call->events, call->max, 0, call->mask);
	unsigned int i;

	if (!ready)
		return wait->count ? report(wait) : 0;
	for (i = 0; i < wait->count; i++)
		if (exa_watched_readable(&wait->watched[i]))
			exa_hand_over(wait->watched[i].entry);
	return ready;
}

static int spin(struct exa_wait *wait, struct epoll_call *call, u64 timeout)
{
	unsigned int count, i;

	exa_wait_begin(wait, timeout);
	wait->ask = ask;
	wait->call = call;
	call->set = exa_set_of(call->epfd);
	wait->blind = !call->set ||
		      !exa_set_read(call->set, call->interests, &count, &call->version);
	for (i = 0; !wait->blind && i < count; i++) {
		const struct exa_interest *interest = &call->interests[i];
		struct exa_watched *watched = exa_watch_entry(wait, interest->entry,
							      interest->generation, (int)i);

		if (watched && interest->event.events & EPOLLET) {
			watched->edge = true;
			watched->told = (u32)interest->mark;
		}
	}
	return exa_wait_spin(wait);
}

/* Milliseconds that remain, rounded as a timeout is: never too short */
static int rest_ms(const struct exa_wait *wait)
{
	if (wait->timeout == EXA_FOREVER)
		return -1;
	return (int)((wait->timeout - wait->spent + 999999) / 1000000);
}

EXPORT int epoll_create(int size)
{
	int epfd = real(epoll_create)(size);

	if (epfd >= 0)
		exa_set_start(epfd);
	return epfd;
}

EXPORT int epoll_create1(int flags)
{
	int epfd = real(epoll_create1)(flags);

	if (epfd >= 0)
		exa_set_start(epfd);
	return epfd;
}

EXPORT int epoll_ctl(int epfd, int operation, int fd, struct epoll_event *event)
{
	int result = real(epoll_ctl)(epfd, operation, fd, event);

	if (!result)
		exa_set_control(epfd, operation, fd, event);
	return result;
}

EXPORT int epoll_pwait(int epfd, struct epoll_event *events, int max, int timeout,
		       const sigset_t *mask)
{
	struct epoll_call call;
	struct exa_wait wait;
	int ready;

	if (likely(!exa_entries_any()))
		return real(epoll_pwait)(epfd, events, max, timeout, mask);
	call.epfd = epfd;
	call.events = events;
	call.max = max;
	call.mask = mask;
	ready = spin(&wait, &call, timeout < 0 ? EXA_FOREVER : (u64)timeout * 1000000);
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
	struct epoll_call call;
	struct exa_wait wait;
	struct timespec rest;
	u64 limit;
	int ready;

	if (likely(!exa_entries_any()))
		return kernel_pwait2(epfd, events, max, timeout, mask);
	call.epfd = epfd;
	call.events = events;
	call.max = max;
	call.mask = mask;
	limit = exa_ns_of(timeout);
	if (timeout && limit == EXA_FOREVER) {
		exa_hand_over_others(NULL);
		return kernel_pwait2(epfd, events, max, timeout, mask);
	}
	ready = spin(&wait, &call, limit);
	if (!ready && wait.spent < wait.timeout) {
		rest = exa_rest_of(&wait);
		ready = kernel_pwait2(epfd, events, max, timeout ? &rest : NULL, mask);
	}
	exa_trace("(%d, %d events) = %d", epfd, max, ready);
	return ready;
}
