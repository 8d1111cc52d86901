// SPDX-License-Identifier: GPL-2.0-only
/* One line on standard error in one write, so that lines of threads do not mix */

#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "libexasock.h"

void exa_say(const char *prefix, const char *format, ...)
{
	size_t length = strlen(prefix);
	int kept = errno, cancel, more;
	char line[256];
	va_list list;

	memcpy(line, prefix, length);
	va_start(list, format);
	more = vsnprintf(line + length, sizeof(line) - length - 1, format, list);
	va_end(list);
	if (more > 0)
		length += more;
	if (length > sizeof(line) - 2)
		length = sizeof(line) - 2;
	line[length++] = '\n';
	/* the call that this is about has been made: it cannot be cancelled any more */
	pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancel);
	if (real(write)(STDERR_FILENO, line, length) < 0)
		errno = kept;	/* nobody listens */
	pthread_setcancelstate(cancel, NULL);
	errno = kept;
}
