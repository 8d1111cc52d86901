// SPDX-License-Identifier: GPL-2.0-only
/*
 * A program that confines itself may be killed for a system call that it never meant to
 * make: ours. Before its filter is there its connections go home, and from then on no
 * descriptor is anything but the kernel's.
 */

#include <stdarg.h>
#include <sys/prctl.h>

#include "libexasock.h"

static bool confined;		/* for good: children inherit the filter */

bool exa_confined(void)
{
	return unlikely(load(&confined));
}

static void confine(void)
{
	int error = errno;

	if (!exchange(&confined, true))
		exa_debug("no socket is accelerated any more: the program confines itself");
	exa_forget_range(0, UINT32_MAX);
	errno = error;
}

EXPORT int prctl(int option, ...)
{
	unsigned long arguments[4];
	va_list list;
	int i;

	va_start(list, option);
	for (i = 0; i < 4; i++)
		arguments[i] = va_arg(list, unsigned long);
	va_end(list);
	if (option == PR_SET_SECCOMP && exa_mine())
		confine();
	return real(prctl)(option, arguments[0], arguments[1], arguments[2], arguments[3]);
}
