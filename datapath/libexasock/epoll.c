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
	bool fine;			/* epoll_pwait2() */
	struct exa_set *set;
	u32 version;			/* of it, when the interests were read */
	struct exa_interest interests[EXA_WATCHED];
};

/*
 * What the set wants now. While it is not known, it may be about anything: what others look
 * at is handed over before the kernel is asked, and so is what was watched before it changed.
 */
static void epoll_read_set(struct exa_wait *wait, struct epoll_call *call)
{
	unsigned int count, i;

	exa_unwatch_all(wait);
	wait->blind = !call->set ||
		      !exa_set_read(call->set, call->interests, &count, &call->version);
	wait->all = wait->blind || exa_set_holds_set(call->set);
	for (i = 0; !wait->blind && i < count; i++) {
		const struct exa_interest *interest = &call->interests[i];
		struct exa_watched *watched = exa_watch_entry(wait, interest->entry,
							      interest->generation, (int)i);

		if (watched && exa_interest_is_kernels(interest)) {
			watched->kernels = true;
		} else if (watched && interest->event.events & EPOLLET) {
			watched->edge = true;
			watched->told = (u32)interest->mark;
		}
	}
}

/* The kernel reports nothing: what the rings have, if the set has not changed meanwhile */
static int epoll_report(struct exa_wait *wait)
{
	struct epoll_call *call = wait->call;
	unsigned int i;
	int ready = 0;

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

/* By another thread, and it can be read anew */
static bool epoll_set_changed(const struct exa_wait *wait, const struct epoll_call *call)
{
	if (!call->set || (wait->blind && exa_set_is_shared(call->set)))
		return false;
	return !exa_set_is(call->set, call->version);
}

/*
 * What the kernel reports cannot be told apart by descriptor, and some of it is reported
 * once only: so it is never merged with ours. What is held then goes to the kernel, and
 * is in the next report.
 */
static int epoll_ask(struct exa_wait *wait)
{
	struct epoll_call *call = wait->call;
	int ready = real(epoll_pwait)(call->epfd, call->events, call->max, 0, call->mask);
	unsigned int i;

	if (!ready && epoll_set_changed(wait, call)) {
		epoll_read_set(wait, call);
		return 0;	/* the next turn is about what it wants now */
	}
	if (!ready)
		return wait->count ? epoll_report(wait) : 0;
	for (i = 0; i < wait->count; i++)
		if (exa_watched_readable(&wait->watched[i]))
			exa_hand_over(wait->watched[i].entry);
	return ready;
}

/* Milliseconds that remain, rounded as a timeout is: never too short */
static int epoll_rest_ms(const struct exa_wait *wait)
{
	if (wait->timeout == EXA_FOREVER)
		return -1;
	return (int)((wait->timeout - wait->spent + 999999) / 1000000);
}

/* A C library that has no such function may still run on a kernel that has the call */
static int kernel_pwait2(int epfd, struct epoll_event *events, int max,
			 const struct timespec *timeout, const sigset_t *mask)
{
	if (real(epoll_pwait2))
		return real(epoll_pwait2)(epfd, events, max, timeout, mask);
	return (int)syscall(SYS_epoll_pwait2, epfd, events, max, timeout, mask, NSIG / 8);
}

static int epoll_sleep(struct exa_wait *wait)
{
	const struct epoll_call *call = wait->call;
	struct timespec rest = exa_rest_of(wait);

	if (!call->fine)
		return real(epoll_pwait)(call->epfd, call->events, call->max,
					 epoll_rest_ms(wait), call->mask);
	return kernel_pwait2(call->epfd, call->events, call->max,
			     wait->timeout == EXA_FOREVER ? NULL : &rest, call->mask);
}

static int epoll_wait_for(struct epoll_call *call, u64 timeout)
{
	struct exa_wait wait;

	exa_wait_begin(&wait, timeout);
	wait.ask = epoll_ask;
	wait.sleep = epoll_sleep;
	wait.call = call;
	call->set = exa_set_of(call->epfd);
	if (unlikely(!call->set))
		exa_sets_strange();
	epoll_read_set(&wait, call);
	return exa_wait_for(&wait);
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

	if (!result && exa_set_of(epfd))
		exa_set_control(epfd, operation, fd, event);
	else if (!result)
		exa_sets_strange();
	return result;
}

EXPORT int epoll_pwait(int epfd, struct epoll_event *events, int max, int timeout,
		       const sigset_t *mask)
{
	struct epoll_call call;
	int ready;

	if (likely(!exa_entries_any()) || exa_nowhere(events))
		return real(epoll_pwait)(epfd, events, max, timeout, mask);
	call.epfd = epfd;
	call.events = events;
	call.max = max;
	call.mask = mask;
	call.fine = false;
	ready = epoll_wait_for(&call, timeout < 0 ? EXA_FOREVER : (u64)timeout * 1000000);
	exa_trace("(%d, %d events, %d ms) = %d", epfd, max, timeout, ready);
	return ready;
}

EXPORT int epoll_wait(int epfd, struct epoll_event *events, int max, int timeout)
{
	if (likely(!exa_entries_any()))
		return real(epoll_wait)(epfd, events, max, timeout);
	return epoll_pwait(epfd, events, max, timeout, NULL);
}

EXPORT int epoll_pwait2(int epfd, struct epoll_event *events, int max,
			const struct timespec *timeout, const sigset_t *mask)
{
	struct epoll_call call;
	int ready;

	if (likely(!exa_entries_any()) || exa_nowhere(events) || !exa_timeout_valid(timeout))
		return kernel_pwait2(epfd, events, max, timeout, mask);
	call.epfd = epfd;
	call.events = events;
	call.max = max;
	call.mask = mask;
	call.fine = true;
	ready = epoll_wait_for(&call, exa_ns_of(timeout));
	exa_trace("(%d, %d events) = %d", epfd, max, ready);
	return ready;
}
