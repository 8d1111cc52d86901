// SPDX-License-Identifier: GPL-2.0-only
/*
 * A sleep in the kernel is ended by a signal's handler; spinning has to be, too. So once
 * there is a context, handlers run behind one of ours, which counts for its thread. The
 * kernel keeps all the rest: flags, mask, alternate stack, one-shot. Whether a sleep
 * would be restarted (SA_RESTART) is told by which of the two of ours is installed.
 */

#include "libexasock.h"

__thread struct exa_signals exa_signals;

typedef void (*handler_type)(int number, siginfo_t *info, void *context);

/* What the application installed, where one of ours is */
static handler_type handlers[NSIG];
static bool with_info[NSIG];
static bool watching;

static void run(int number, siginfo_t *info, void *context)
{
	exa_signals.handled++;
	/* one that takes the number alone ignores the others, in this architecture's calls */
	load_acquire(&handlers[number])(number, info, context);
}

static void on_signal(int number, siginfo_t *info, void *context)
{
	exa_signals.interrupting++;
	run(number, info, context);
}

static void on_signal_restart(int number, siginfo_t *info, void *context)
{
	run(number, info, context);
}

static bool is_ours(const struct sigaction *action)
{
	return action->sa_sigaction == on_signal || action->sa_sigaction == on_signal_restart;
}

static bool is_handler(const struct sigaction *action)
{
	return action->sa_handler != SIG_DFL && action->sa_handler != SIG_IGN;
}

/* The application's view of what is installed */
static void unwrap(int number, struct sigaction *action)
{
	if (!is_ours(action))
		return;
	action->sa_sigaction = load(&handlers[number]);
	if (!with_info[number])
		action->sa_flags &= ~SA_SIGINFO;
}

/* What is to be installed for it. Locked. */
static void wrap(int number, struct sigaction *action)
{
	if (!is_handler(action))
		return;
	if (!is_ours(action)) {
		store_release(&handlers[number], action->sa_sigaction);
		with_info[number] = action->sa_flags & SA_SIGINFO;
	}
	action->sa_sigaction = action->sa_flags & SA_RESTART ? on_signal_restart : on_signal;
	action->sa_flags |= SA_SIGINFO;
}

static bool valid(int number)
{
	return number > 0 && number < NSIG;
}

/* Whatever was installed past us, put one of ours before it */
static void rewrap(int number)
{
	struct sigaction action, before;
	int kept = errno;

	if (!real(sigaction)(number, NULL, &action)) {
		before = action;
		wrap(number, &action);
		if (action.sa_sigaction != before.sa_sigaction)
			real(sigaction)(number, &action, NULL);
	}
	errno = kept;
}

/* There is a context: from here on threads may spin. Locked. */
void exa_signals_watch(void)
{
	int number;

	if (watching)
		return;
	store_release(&watching, true);
	for (number = 1; number < NSIG; number++)
		rewrap(number);
}

EXPORT int sigaction(int number, const struct sigaction *action,
		     struct sigaction *old)
{
	struct sigaction before, wrapped;
	handler_type handler;
	struct exa_kept kept;
	bool info;
	int result;

	if (!load_acquire(&watching) || !valid(number))
		return real(sigaction)(number, action, old);
	if (!exa_mine()) {
		/* the handlers are a child's own, but not our memory of them */
		result = real(sigaction)(number, action, old);
		if (!result && old)
			unwrap(number, old);
		return result;
	}
	exa_lock(&kept);
	handler = handlers[number];
	info = with_info[number];
	result = real(sigaction)(number, NULL, &before);
	if (!result)
		unwrap(number, &before);
	if (!result && action) {
		wrapped = *action;
		wrap(number, &wrapped);
		result = real(sigaction)(number, &wrapped, NULL);
		if (result) {
			store_release(&handlers[number], handler);
			with_info[number] = info;
		}
	}
	exa_unlock(&kept);
	if (!result && old)
		*old = before;
	return result;
}

/* The simple functions: theirs, then ours before what they installed */
static sighandler_t simple(int number, sighandler_t handler,
			   sighandler_t (*function)(int number, sighandler_t handler))
{
	struct sigaction before;
	sighandler_t old;
	struct exa_kept kept;

	if (!load_acquire(&watching) || !valid(number))
		return function(number, handler);
	exa_lock(&kept);
	before.sa_sigaction = handlers[number];
	old = function(number, handler);
	if ((void *)old == (void *)on_signal || (void *)old == (void *)on_signal_restart)
		old = before.sa_handler;
	if (exa_mine())
		rewrap(number);
	exa_unlock(&kept);
	return old;
}

EXPORT sighandler_t signal(int number, sighandler_t handler)
{
	return simple(number, handler, real(signal));
}

EXPORT sighandler_t bsd_signal(int number, sighandler_t handler)
{
	return simple(number, handler, real(bsd_signal));
}

EXPORT sighandler_t __sysv_signal(int number, sighandler_t handler)
{
	return simple(number, handler, real(__sysv_signal));
}

EXPORT sighandler_t sigset(int number, sighandler_t handler)
{
	return simple(number, handler, real(sigset));
}

EXPORT int siginterrupt(int number, int on)
{
	struct exa_kept kept;
	int result;

	if (!load_acquire(&watching) || !valid(number) || !exa_mine())
		return real(siginterrupt)(number, on);
	exa_lock(&kept);
	result = real(siginterrupt)(number, on);
	rewrap(number);
	exa_unlock(&kept);
	return result;
}

EXPORT __alias(bsd_signal) sighandler_t ssignal(int number, sighandler_t handler);
EXPORT __alias(sigaction) int __sigaction(int number, const struct sigaction *action,
				 struct sigaction *old);
EXPORT __alias(__sysv_signal) sighandler_t sysv_signal(int number, sighandler_t handler);
